// What a machine has to offer when the operator does not say.
#pragma once

#include <gantry/types_generated.h>

#include <memory>
#include <string>
#include <vector>

namespace gantry::agent {

using Resources = std::vector<std::unique_ptr<fb::ResourceT>>;

struct Machine {
  unsigned cores = 1;
  std::uint64_t memory = 0;  // bytes
  std::uint64_t disk = 0;    // bytes, of the file system of work_dir
};

// Of this machine; what cannot be found out is 0 (cores: 1).
[[nodiscard]] Machine look_at_machine(const std::string& work_dir);

// cpus = cores; mem = total - 1 GiB (half below 2 GiB); disk = total - 5 GiB (half below 10 GiB); ports 31000-32000.
// mem and disk in MiB.
[[nodiscard]] Resources detect(const Machine& machine);

// `given` as it is, and of `detected` those whose name it does not mention.
[[nodiscard]] Resources complete(Resources given, Resources detected);

// The address under which this machine's own network reaches tasks: that of the agent's listener (host:port), unless it listens on
// all; else the hostname if it is one; else that of the first interface that is up. 127.0.0.1 if there is none.
[[nodiscard]] std::string machine_ip(const std::string& address, const std::string& hostname);

// Of this boot of the machine; empty if the system does not say.
[[nodiscard]] std::string read_boot_id();

}  // namespace gantry::agent
