// The files a container finds in /etc, and the few file operations of this module.
#pragma once

#include "plan.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_network {

// ---- pure

// What resolv.conf says. Also the "dns" of a CNI result.
struct Resolver {
  std::vector<std::string> nameservers, search, options;
  [[nodiscard]] bool empty() const { return nameservers.empty() && search.empty() && options.empty(); }
};
[[nodiscard]] Resolver parse_resolv_conf(std::string_view text);
[[nodiscard]] std::string print_resolv_conf(const Resolver&);
// Without the servers on loopback: in a network of its own a container is alone there.
[[nodiscard]] Resolver reachable(Resolver);

// "127.0.0.1 localhost", the container's addresses with its name, further lines.
[[nodiscard]] std::string hosts_file(const std::string& hostname, const std::vector<std::string>& addresses,
                                     const std::vector<std::string>& extra);
// The machine's file, for a container on its network, with a name of its own if it has one.
[[nodiscard]] std::string hosts_file_of_host(std::string machine, const std::string& hostname, const std::vector<std::string>& extra);

// ---- files

[[nodiscard]] std::optional<std::string> read_file(const std::string& path);
// 0644. Replaces the file in one step: after a crash there is the old one or the new one.
[[nodiscard]] Status replace_file(const std::string& path, std::string_view text);
// 0644. In place: who has bind-mounted the file sees the change.
[[nodiscard]] Status overwrite_file(const std::string& path, std::string_view text);
[[nodiscard]] Status make_dirs(const std::string& path);
// Writes a number or word into a file of /proc/sys.
[[nodiscard]] Status write_sysctl(const std::string& path, std::string_view value);

}  // namespace gantry::isolator_network
