// What gantry-modhost is told on its command line by gantryd (kernel/module/process/spawn.cpp writes it).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gantry::modhost {

inline constexpr int socket_fd = 3, status_fd = 4;

struct Options {
  std::string module, kind, name;
  bool unstable = false, quiet = false, seccomp = true;
  std::string user, group;
  std::uint64_t memory = 0, files = 0, processes = 0;
  double cpu = 0;
  std::vector<std::string> devices, capabilities;
  [[nodiscard]] std::string id() const { return kind + "." + name; }
  [[nodiscard]] bool keeps(const std::string& capability) const {
    for (const auto& c : capabilities)
      if (c == capability) return true;
    return false;
  }
};

// A line for the log of gantryd, which reads our stderr.
void warn(const Options& options, const std::string& line);

}  // namespace gantry::modhost
