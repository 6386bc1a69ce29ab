// What a container gets, and what the operator has decided for all of them: plain values, no files.
#pragma once

#include "devices.hpp"

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

// What one container gets, in the kernel's units.
struct Limits {
  std::uint64_t cpu_shares = 0;              // 1024 a cpu, 10 a revocable one, at least 2; 0: the task has no cpus
  std::optional<std::int64_t> cpu_quota_us;  // per 100 ms; absent: none
  std::uint64_t memory_soft = 0;             // bytes; 0: none
  std::uint64_t memory_hard = 0;             // bytes, at least 32 MiB; 0: none
  std::optional<std::uint64_t> pids;         // most processes and threads, 0 for no limit; absent: as the policy says
  bool all_devices = false;                  // a privileged container; of meaning at its creation only
  friend bool operator==(const Limits&, const Limits&) = default;
};
inline constexpr std::int64_t cpu_period_us = 100'000;
inline constexpr std::uint64_t memory_floor = 32ull << 20;

// From the resources and limits of a task. Source: mesos-kernel.md A6. A limit stands above the request; an infinite
// one means none. `quota`: the request is a quota too.
[[nodiscard]] Limits limits_of(const std::vector<std::unique_ptr<fb::ResourceT>>& resources,
                               const std::vector<std::unique_ptr<fb::ScalarEntryT>>& limits, bool quota);

// What parameters of `docker run` change about them: cpus, cpu-shares, cpu-quota, cpu-period, memory, memory-reservation, pids-limit.
// Returns the keys that were heeded; INVALID_ARGUMENT names the parameter.
[[nodiscard]] Result<std::vector<std::string>> docker_limits(const fb::TaskInfoT& task, Limits& limits);

// How fast a container may use one block device; absent: as fast as it goes.
struct IoMax {
  int major = 0, minor = 0;
  std::optional<std::uint64_t> read_bytes, write_bytes, reads, writes;  // per second
};

// The same for every container of this agent, from the settings.
struct Policy {
  std::uint64_t pids = 0;       // most processes and threads; 0: no limit
  bool swap_limit = true;       // memory in swap counts against `swap`
  std::uint64_t swap = 0;       // bytes a container may have in swap beside its memory limit
  std::string cpus, mems;       // "0-3,8": the only CPUs and memory nodes; empty: all
  std::uint32_t io_weight = 0;  // 1 to 10000, 100 is usual; 0: left alone
  std::vector<IoMax> io_max;
  std::map<std::string, std::uint64_t> hugetlb;  // "2MB" -> bytes
  bool devices = true;                           // only the devices of `allowed`
  std::vector<DeviceRule> allowed;
};

// "64MiB", "1048576"; INVALID_ARGUMENT names the text. Units: B, KiB, MiB, GiB, TiB.
[[nodiscard]] Result<std::uint64_t> parse_bytes(std::string_view text);
// "8:0 rbps=1MiB wbps=max riops=100 wiops=100", or with the path of a block device in front.
[[nodiscard]] Result<IoMax> parse_io_max(std::string_view text);
// "2MB=64MiB"
[[nodiscard]] Result<std::pair<std::string, std::uint64_t>> parse_hugetlb(std::string_view text);
// "", or numbers and ranges by commas as in "0-3,8".
[[nodiscard]] Status check_cpu_list(std::string_view text);

}  // namespace gantry::isolator_cgroups
