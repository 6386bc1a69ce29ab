#include "capabilities.hpp"

#include <linux/capability.h>

#include <algorithm>
#include <cctype>
#include <iterator>

namespace gantry::isolator_security {
namespace {
// In the order of the kernel's numbers.
constexpr const char* names[] = {"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
                                 "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
                                 "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
                                 "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
                                 "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"};
static_assert(std::size(names) == CAP_CHECKPOINT_RESTORE + 1);
// LinuxCapability of types.fbs counts from here.
constexpr int first_of_wire = 1000;
}  // namespace

int capability_number(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  if (upper.starts_with("CAP_")) upper.erase(0, 4);
  const auto* const it = std::find(std::begin(names), std::end(names), upper);
  return it == std::end(names) ? -1 : static_cast<int>(it - std::begin(names));
}

std::string capability_name(int number) {
  return number >= 0 && number < static_cast<int>(std::size(names)) ? names[number] : std::to_string(number);
}

Result<CapabilitySet> parse_capabilities(const std::vector<std::string>& list, const std::string& field) {
  CapabilitySet set = 0;
  for (const auto& name : list) {
    if (name == "ALL" || name == "all") {
      set = all_capabilities;
      continue;
    }
    const int n = capability_number(name);
    if (n < 0) return fail(Code::invalid_argument, field + ": \"" + name + "\" is no capability; write names such as \"NET_RAW\", or \"ALL\"", field);
    set |= only(n);
  }
  return set;
}

Result<CapabilitySet> to_set(const std::vector<fb::LinuxCapability>& list) {
  CapabilitySet set = 0;
  for (const auto c : list) {
    const int n = static_cast<int>(c) - first_of_wire;
    if (n < 0 || n >= static_cast<int>(std::size(names))) return fail(Code::invalid_argument, "capability " + std::to_string(static_cast<int>(c)) + " is unknown to this release");
    set |= only(n);
  }
  return set;
}

std::string names_of(CapabilitySet set) {
  std::string out;
  for (int n = 0; n < static_cast<int>(std::size(names)); ++n)
    if (set & only(n)) out += (out.empty() ? "" : ", ") + std::string(names[n]);
  return out.empty() ? "none" : out;
}

}  // namespace gantry::isolator_security
