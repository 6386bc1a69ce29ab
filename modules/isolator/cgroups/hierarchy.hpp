// The kernel's cgroup files behind one interface: version 1 and version 2.
#pragma once

#include <gantry/isolator_generated.h>
#include <gantry/result.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_cgroups {

// What a container gets, in the kernel's units.
struct Limits {
  std::uint64_t cpu_shares = 0;                // 1024 a cpu, at least 2; 0: the task has no cpus
  std::optional<std::int64_t> cpu_quota_us;    // per 100 ms; absent: none
  std::uint64_t memory_soft = 0;               // bytes; 0: none
  std::uint64_t memory_hard = 0;               // bytes, at least 32 MiB; 0: none
  friend bool operator==(const Limits&, const Limits&) = default;
};
inline constexpr std::int64_t cpu_period_us = 100'000;
inline constexpr std::uint64_t memory_floor = 32ull << 20;

// From the resources and limits of a task. Source: mesos-kernel.md A6. A limit stands above the request; an infinite
// one means none. `quota`: the request is a quota too.
[[nodiscard]] Limits limits_of(const std::vector<std::unique_ptr<fb::ResourceT>>& resources, const std::vector<std::unique_ptr<fb::ScalarEntryT>>& limits,
                               bool quota);

// Where the hierarchies are mounted, from /proc/self/mountinfo.
struct Mounts {
  int version = 0;                             // 0: none usable
  std::map<std::string, std::string> v1;       // controller -> mount point
  std::string v2;                              // mount point
};
// v1 if its cpu and memory controllers are mounted (also on hybrid machines, where v2 has none), else v2.
[[nodiscard]] Mounts parse_mounts(std::string_view mountinfo);

struct MemoryFigures {
  std::uint64_t limit = 0, peak = 0;           // bytes
};
// A descriptor that tells of the container running out of memory: wait for `events` (epoll).
struct OomSource {
  int fd = -1;
  std::uint32_t events = 0;
};

// The cgroups of one agent. `id` is a container's; methods block only as long as the kernel does.
class Hierarchy {
 public:
  virtual ~Hierarchy() = default;
  [[nodiscard]] virtual int version() const = 0;
  // Makes the agent's own cgroup. PERMISSION_DENIED without the right.
  virtual Status open() = 0;
  virtual void close() = 0;                    // removes it if it is empty
  virtual Status create(const std::string& id, const Limits&) = 0;
  virtual Status apply(const std::string& id, const Limits&) = 0;
  [[nodiscard]] virtual std::vector<std::string> enter_files(const std::string& id) const = 0;
  [[nodiscard]] virtual std::string kill_path(const std::string& id) const = 0;
  [[nodiscard]] virtual bool exists(const std::string& id) const = 0;
  [[nodiscard]] virtual std::vector<std::string> list() const = 0;
  [[nodiscard]] virtual Result<OomSource> oom_source(const std::string& id) const = 0;  // the caller closes it
  [[nodiscard]] virtual std::uint64_t oom_kills(const std::string& id) const = 0;
  [[nodiscard]] virtual MemoryFigures memory(const std::string& id) const = 0;
  [[nodiscard]] virtual fb::isolator::UsageT usage(const std::string& id) const = 0;
  // Kills what is left in it and removes it. False: not empty yet, try again soon.
  virtual Result<bool> remove(const std::string& id) = 0;
};

// `prefix` is put in front of every path ("" in production). UNAVAILABLE if no hierarchy is usable.
[[nodiscard]] Result<std::unique_ptr<Hierarchy>> discover(const std::string& prefix, const std::string& root);
[[nodiscard]] std::unique_ptr<Hierarchy> make_v1(std::map<std::string, std::string> mounts, const std::string& root);
[[nodiscard]] std::unique_ptr<Hierarchy> make_v2(const std::string& mount, const std::string& root);

// ---- files

[[nodiscard]] std::optional<std::string> read_file(const std::string& path);
[[nodiscard]] Status write_file(const std::string& path, std::string_view text);
[[nodiscard]] Status make_dirs(const std::string& path);
[[nodiscard]] std::vector<std::string> subdirectories(const std::string& path);
[[nodiscard]] std::uint64_t read_number(const std::string& path);  // 0 if absent or not a number
// The number behind a word at the start of a line ("oom_kill 3"); 0 if there is none.
[[nodiscard]] std::uint64_t keyed_number(std::string_view text, std::string_view key);
// SIGKILL to everything in a cgroup.procs file; how many there were.
std::size_t kill_procs(const std::string& procs_file);
// rmdir with what cgroups below it; false: busy.
[[nodiscard]] Result<bool> remove_dir(const std::string& path);

}  // namespace gantry::isolator_cgroups
