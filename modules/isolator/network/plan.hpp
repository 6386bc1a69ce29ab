// What a task asks for, as a plan: which networks, ports, names and rates. Pure.
// Sources: mesos-kernel.md A8, marathon.md A4; how DOCKER containers name their network: DockerInfo.network.
#pragma once

#include "address.hpp"

#include <gantry/isolator_generated.h>

#include <string>
#include <vector>

namespace gantry::isolator_network {

struct Mapping {
  std::uint16_t host = 0, container = 0;
  bool udp = false;
  friend auto operator<=>(const Mapping&, const Mapping&) = default;
};

struct Rates {
  std::uint64_t ingress = 0, egress = 0;  // bytes a second, as the container sees them; 0: no limit
  friend bool operator==(const Rates&, const Rates&) = default;
};

// One network of a container. Its device in the container is eth<place in the list>.
struct Wanted {
  std::string name;
  std::vector<Mapping> ports;
  std::vector<std::string> addresses;  // asked for; the network may have an opinion of its own
  Rates rates;
  fb::NetworkInfoT info;               // as the framework gave it
};

enum class Mode { host, none, networks };

struct Plan {
  Mode mode = Mode::host;
  std::vector<Wanted> networks;
  std::string hostname;                      // empty: the machine's, on the host's network
  std::vector<std::string> extra_hosts;      // lines for the hosts file, "address name", from Docker's parameters
  std::vector<std::string> nameservers, search, options;  // for resolv.conf, from Docker's parameters
  std::vector<std::string> parameters;       // keys of Docker's that were heeded
  bool image = false;                        // the container has a root of its own
};

// What the module's settings say about it.
struct Policy {
  std::vector<std::string> bridge_names;
  Rates rates;                               // of every container; a label can lower them
};

inline constexpr char ingress_label[] = "network.ingress_rate";
inline constexpr char egress_label[] = "network.egress_rate";

// INVALID_ARGUMENT names the field, the value and what it should be. `layers`: the container has an image's layers.
[[nodiscard]] Result<Plan> plan_of(const fb::TaskInfoT& task, const std::string& container_id, bool layers, const Policy& policy);

// The ports a task was given.
[[nodiscard]] PortRanges ports_of(const std::vector<std::unique_ptr<fb::ResourceT>>& resources);

// At most 64 letters, digits, '-', '.', '_': it goes into files and to the kernel.
[[nodiscard]] bool is_hostname(std::string_view);

// The copy that frameworks get: name, labels and mappings as asked for, addresses as given.
[[nodiscard]] fb::NetworkInfoT answer(const Wanted&, const std::vector<std::string>& addresses);

}  // namespace gantry::isolator_network
