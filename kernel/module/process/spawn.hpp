// Starting gantry-modhost: what it inherits, and how its end is known.
#pragma once

#include "kernel/base/fd.hpp"

#include <gantry/result.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace gantry::module::process {

// What gantry-modhost shuts its module into. Sizes in bytes, 0 = no limit.
struct Sandbox {
  std::string user;                   // empty: the daemon's own choice (host.cpp)
  std::uint64_t memory = 0;
  double cpu = 0;                     // cores, 0 = no limit
  std::uint64_t files = 1024;         // descriptors
  std::uint64_t processes = 512;      // threads count
  std::vector<std::string> devices;   // paths, with * and ?; empty: the daemon's own /dev
  bool seccomp = true;
  bool restart = true;                // "on-failure"; false: "never"
  std::vector<std::string> capabilities;  // those it keeps: "CAP_SYS_ADMIN"
  std::string group;                  // names the control group; unique on this machine
};

struct HostCommand {
  std::string program;  // gantry-modhost
  std::string kind, name, path;
  bool unstable = false;
  bool quiet = false;   // what cannot be had was said before
  Sandbox sandbox;
  [[nodiscard]] std::vector<std::string> arguments() const;
};

// In the new process: 0 /dev/null, 1 and 2 `output`, 3 `socket`, 4 `status`.
struct Spawned {
  base::Fd pidfd;   // identity: a number may be given to another process, this cannot
  int pid = 0;      // for people
  base::Fd socket;  // non-blocking
  base::Fd output;  // lines it writes, non-blocking
  base::Fd status;  // one line about its end
};
[[nodiscard]] Result<Spawned> spawn_host(const HostCommand& command);

// "killed by signal 11 (Segmentation fault)", "exited with status 0".
[[nodiscard]] std::string describe_end(int code, int status);  // si_code and si_status of waitid

}  // namespace gantry::module::process
