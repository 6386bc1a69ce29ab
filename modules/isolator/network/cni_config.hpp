// CNI documents: network configurations, what a plugin reads, what it answers. Pure; bytes of strangers.
// Source: the CNI specification 0.3.1 to 1.0.0; how Mesos hands its own things to plugins: mesos-kernel.md A8.
#pragma once

#include "files.hpp"
#include "json.hpp"
#include "plan.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_network {

// One configured network: a list of plugins, or a single one taken as a list.
struct CniNetwork {
  std::string name;
  std::string version;          // always one we speak
  std::vector<Object> plugins;  // at least one; each has a "type" that is a plain file name
  [[nodiscard]] bool capable(std::string_view capability) const;  // one of the plugins declares it
};

// A file's text. INVALID_ARGUMENT says which member is wrong. A missing cniVersion is taken as 0.3.1, as files
// written for Mesos mean it, and mesos-cni-port-mapper as the plugin it delegates to.
[[nodiscard]] Result<CniNetwork> parse_network(std::string_view text);

// What a plugin reads on standard input, less the result of the plugin before it: its part of the configuration, the
// container's wishes where it declares the capability (portMappings, bandwidth, ips), and Mesos' NetworkInfo below args.
[[nodiscard]] Object plugin_input(const CniNetwork&, std::size_t plugin, const Wanted&);
// The same as text, with that result; empty: there is none.
[[nodiscard]] std::string input_text(Object input, const Object& previous);

// What ADD answered.
struct CniResult {
  std::vector<std::string> addresses;  // with prefix length: "10.1.0.5/16"
  Resolver dns;
  Object raw;                          // for the next plugin, and for DEL
};
// INVALID_ARGUMENT if it is no result, or has an address or domain that is none.
[[nodiscard]] Result<CniResult> parse_result(std::string_view text);

// What a plugin said when it failed: {"code", "msg", "details"}, or any other text.
[[nodiscard]] std::string plugin_error(std::string_view output, std::string_view errors);

// NetworkInfo in the JSON form of protobuf, as plugins made for Mesos read it.
[[nodiscard]] Object network_info_json(const fb::NetworkInfoT&);

}  // namespace gantry::isolator_network
