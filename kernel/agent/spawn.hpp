// Starting one supervised process: the description, the clone, the report. No loop, no modules: system calls only.
#pragma once

#include "kernel/agent/launcher.hpp"
#include "kernel/base/fd.hpp"

#include <gantry/isolator_generated.h>
#include <gantry/result.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gantry::agent {

// The account a task runs as.
struct Account {
  bool change = false;  // false: the agent's own, nothing else is set
  std::uint32_t uid = 0, gid = 0;
  std::vector<std::uint32_t> groups;
  std::string home, name;
};
// Empty name, or `change` impossible because the agent is an ordinary user asking for itself: the agent's own account.
// Reads the user database, so it may block. NOT_FOUND names the account.
[[nodiscard]] Result<Account> find_account(const std::string& name);

struct SpawnMount {
  std::string source, target, type, data, base;
  std::uint64_t flags = 0;
  std::uint32_t options = 0;  // bits of fb::isolator::MountOption
};

struct SpawnLimit {
  std::uint32_t resource = 0;  // RLIMIT_*
  std::uint64_t soft = 0, hard = 0;
};

// 1 << CAP_*. What the task can ever get, and what it has.
struct SpawnCapabilities {
  std::uint64_t bounding = 0, effective = 0;
};

// Everything about a container's first process.
struct Spawn {
  std::string supervisor;   // path of gantry-supervisor
  std::string container_id; // shown by ps
  std::string executable;   // looked up in the PATH of `environment`; empty: arguments[0]
  std::vector<std::string> arguments, environment;
  // As the task sees them: where `out` and `err` are (empty: /dev/null), and its working directory (empty: the sandbox).
  std::string sandbox, out, err, directory;
  std::vector<std::string> enter_files;
  std::vector<SpawnMount> mounts;
  std::string root;      // becomes "/"; empty: the machine's
  bool read_only_root = false;
  std::string hostname;  // empty: not changed
  std::vector<SpawnLimit> limits;
  std::optional<SpawnCapabilities> capabilities;  // absent: not changed
  bool no_new_privileges = false;
  std::vector<std::uint8_t> seccomp;  // sock_filter[]; empty: none
  Account account;
  std::uint32_t namespaces = 0;  // to make: bits of fb::isolator::Namespace
  bool held = false;             // wait for release()
  std::string record;            // file the exit is appended to; empty: none
  int in_fd = -1, out_fd = -1, err_fd = -1;  // its standard streams; -1: files as above, or /dev/null
  bool terminal = false;         // in_fd is a terminal, and becomes its controlling one
  bool hold = false;             // executes nothing, see GANTRY_SUP_HOLD
  // Namespaces to enter: those of `join` that the process of `join_pidfd` has. That is a parent's supervisor, or, with `beside`,
  // the one of the container this runs beside, for as long as the command takes.
  std::uint32_t join = 0;
  int join_pidfd = -1;
  bool beside = false;
};

struct Spawned {
  int supervisor_pid = 0;
  base::Fd pidfd;    // of the supervisor
  base::Fd control;  // readable once the report is there
};

// [any, blocks for about a millisecond] Clones the supervisor and executes it; the task follows at once, or after release().
[[nodiscard]] Result<Spawned> spawn_supervised(const Spawn&);
[[nodiscard]] Status release(const Spawned&);

// The report on `control`: the task's pid in our pid namespace, or why it did not start. Call when control is readable.
[[nodiscard]] Result<int> read_report(int control, const Spawn&);

// /proc/<pid>/stat field 22, 0 if there is no such process.
[[nodiscard]] std::uint64_t start_time(int pid);
[[nodiscard]] std::string boot_id();
// Which of PID, MOUNT, NETWORK, IPC and UTS the process has of its own, compared with us; 0 also if it is gone.
[[nodiscard]] std::uint32_t namespaces_of(int pid);
// Sends a signal through a pidfd; false if the process is gone.
bool signal_pidfd(int pidfd, int signal);
// Collects a child that has ended; its wait status, or nothing if it was not our child or lives on.
[[nodiscard]] std::optional<int> reap(int pidfd);

// What a container left in its record file (work_dir/meta/containers/<id>): a line "supervisor pid start boot" by us,
// then "exit status wall" by the supervisor. Unreadable lines are skipped.
struct Record {
  int supervisor_pid = 0;
  std::uint64_t supervisor_start = 0;
  std::string boot;
  std::optional<int> wait_status;
};
[[nodiscard]] std::optional<Record> read_record(const std::string& path);
[[nodiscard]] Record parse_record(std::string_view text);

}  // namespace gantry::agent
