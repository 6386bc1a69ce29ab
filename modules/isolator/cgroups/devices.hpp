// Which device nodes a container may use: rules, and the eBPF program that enforces them on cgroup version 2.
#pragma once

#include <gantry/isolator_generated.h>
#include <gantry/result.hpp>

#include <linux/bpf.h>

#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_cgroups {

struct DeviceRule {
  char kind = 'c';                         // 'c'haracter or 'b'lock
  int major = -1, minor = -1;              // -1: all
  std::string access;                      // of "rwm": read, write, mknod
  [[nodiscard]] std::string text() const;  // "c 1:3 rwm", as version 1 takes it
  friend bool operator==(const DeviceRule&, const DeviceRule&) = default;
};

// What every container may use. Source: the list of Mesos's cgroups/devices (mesos-kernel.md A6, "14 default nodes"):
// making nodes; console, tty0, tty1, tty, ptmx, pts/*; net/tun; null, zero, full, random, urandom.
[[nodiscard]] const std::vector<DeviceRule>& default_devices();

// "c 10:229 rwm", "b *:* m", or "/dev/fuse rw", which is looked up now.
[[nodiscard]] Result<DeviceRule> parse_device(std::string_view text);
[[nodiscard]] Result<DeviceRule> device_of(const fb::isolator::DeviceT&);

// Returns 1 for an access that a rule grants in full, else 0.
[[nodiscard]] std::vector<bpf_insn> device_program(const std::vector<DeviceRule>&);

// Tries whether this process may load such programs.
[[nodiscard]] Status can_load_device_programs();
// Lets the cgroup at this path (version 2) use what the rules say and nothing else. Takes the place of a program of ours that is
// there already, at one stroke; programs of others stay and must agree.
Status enforce_devices(const std::string& cgroup, const std::vector<DeviceRule>&);
// Whether a program of ours is there: one outlives the daemon, as long as its cgroup does.
[[nodiscard]] Result<bool> devices_enforced(const std::string& cgroup);

}  // namespace gantry::isolator_cgroups
