#include "plan.hpp"

#include <algorithm>

namespace gantry::isolator_network {
namespace {

Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

bool printable(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) > ' ' && c != 0x7f; });
}

using Mappings = std::vector<std::unique_ptr<fb::PortMappingT>>;

// Protocols as Marathon writes them, too: "udp,tcp" are two mappings.
Result<std::vector<Mapping>> mappings_of(const Mappings& asked, const PortRanges& given, const std::string& field) {
  std::vector<Mapping> out;
  if (!asked.empty() && given.empty()) return invalid("Port mappings require port resources");
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const fb::PortMappingT& m = *asked[i];
    const std::string where = field + "[" + std::to_string(i) + "]";
    if (m.host_port == 0 || m.host_port > 65535)
      return invalid(where + ".host_port is " + std::to_string(m.host_port) + "; give a port of the offer, 1 to 65535");
    if (m.container_port == 0 || m.container_port > 65535)
      return invalid(where + ".container_port is " + std::to_string(m.container_port) + "; give a port from 1 to 65535");
    if (!contains(given, m.host_port)) return invalid("Port [" + std::to_string(m.host_port) + "] not included in resources");
    std::string_view rest = m.protocol.empty() ? std::string_view("tcp") : std::string_view(m.protocol);
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      const std::string_view protocol = rest.substr(0, comma);
      rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
      if (protocol != "tcp" && protocol != "udp")
        return invalid(where + ".protocol is \"" + m.protocol + "\"; give tcp, udp or both with a comma");
      const Mapping mapping{static_cast<std::uint16_t>(m.host_port), static_cast<std::uint16_t>(m.container_port), protocol == "udp"};
      const bool twice =
          std::any_of(out.begin(), out.end(), [&](const Mapping& o) { return o.host == mapping.host && o.udp == mapping.udp; });
      if (twice) return invalid(where + " maps host port " + std::to_string(m.host_port) + " a second time; map each port once");
      out.push_back(mapping);
    }
  }
  return out;
}

using Labels = std::vector<std::unique_ptr<fb::LabelT>>;

Status lower(std::uint64_t& rate, const Labels& labels, std::string_view key) {
  for (const auto& l : labels) {
    if (l->key != key) continue;
    auto asked = parse_rate(l->value);
    if (!asked) return std::move(asked).error().because("label " + l->key);
    rate = rate ? std::min(rate, *asked) : *asked;
  }
  return ok;
}

Status lower(Rates& rates, const Labels& labels) {
  GANTRY_CHECK(lower(rates.ingress, labels, ingress_label));
  return lower(rates.egress, labels, egress_label);
}

// Parameters of `docker run` that concern what this module makes; the others are not ours.
Status docker_parameters(Plan& plan, const fb::DockerInfoT& docker) {
  for (const auto& p : docker.parameters) {
    const std::string where = "docker.parameters: " + p->key + " \"" + p->value + "\"";
    if (p->key == "hostname") {
      plan.hostname = p->value;
    } else if (p->key == "add-host") {
      const auto colon = p->value.find(':');
      const std::string name = p->value.substr(0, colon);
      if (colon == std::string::npos || !is_hostname(name) || !is_address(p->value.substr(colon + 1)))
        return invalid(where + " is not NAME:ADDRESS");
      plan.extra_hosts.push_back(p->value.substr(colon + 1) + "\t" + name);
    } else if (p->key == "dns") {
      if (!is_address(p->value)) return invalid(where + " is no address");
      plan.nameservers.push_back(p->value);
    } else if (p->key == "dns-search") {
      if (!is_hostname(p->value)) return invalid(where + " is no domain");
      plan.search.push_back(p->value);
    } else if (p->key == "dns-opt" || p->key == "dns-option") {
      if (p->value.empty() || !printable(p->value)) return invalid(where + " is no option of resolv.conf");
      plan.options.push_back(p->value);
    } else {
      continue;
    }
    plan.parameters.push_back(p->key);
  }
  return ok;
}

}  // namespace

bool is_hostname(std::string_view s) {
  return !s.empty() && s.size() <= 64 && s.front() != '-' && s.front() != '.' && std::all_of(s.begin(), s.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

PortRanges ports_of(const std::vector<std::unique_ptr<fb::ResourceT>>& resources) {
  PortRanges out;
  for (const auto& r : resources)
    if (r->name == "ports")
      for (const auto& range : r->ranges)
        out.push_back({static_cast<std::uint32_t>(std::min<std::uint64_t>(range.begin(), 65536)),
                       static_cast<std::uint32_t>(std::min<std::uint64_t>(range.end(), 65536))});
  return out;
}

Result<Plan> plan_of(const fb::TaskInfoT& task, const std::string& container_id, bool layers, const Policy& policy) {
  Plan plan;
  plan.image = layers;
  const fb::ContainerInfoT* container = task.container.get();
  const auto* resources = &task.resources;
  if (!container && task.executor) container = task.executor->container.get();
  if (!container) return plan;
  if ((container->mesos && container->mesos->image) || (container->docker && !container->docker->image.empty())) plan.image = true;

  PortRanges given = ports_of(*resources);
  if (task.executor)
    for (const PortRange& r : ports_of(task.executor->resources)) given.push_back(r);

  const auto want = [&](std::string name, const fb::NetworkInfoT* info, const Mappings& ports, const std::string& field) -> Status {
    for (const auto& w : plan.networks)
      if (w.name == name) return invalid("Attempted to join CNI network '" + name + "' multiple times");
    if (name.size() > 200 || !printable(name)) return invalid("network name \"" + name.substr(0, 200) + "\" has a blank or is too long");
    Wanted w;
    w.name = std::move(name);
    w.rates = policy.rates;
    GANTRY_CHECK(lower(w.rates, task.labels));
    if (info) {
      w.info = *info;
      GANTRY_CHECK(lower(w.rates, info->labels));
      for (std::size_t i = 0; i < info->ip_addresses.size(); ++i) {
        const std::string& address = info->ip_addresses[i]->ip_address;
        if (address.empty()) continue;
        if (!is_address(address))
          return invalid("network_infos: ip_addresses[" + std::to_string(i) + "] is \"" + address.substr(0, 100) +
                         "\"; give an IPv4 or IPv6 address");
        w.addresses.push_back(address);
      }
    }
    w.info.name = w.name;
    w.info.ip_addresses.clear();
    GANTRY_TRY(w.ports, mappings_of(ports, given, field));
    if (w.info.port_mappings.empty())
      for (const auto& m : ports) w.info.port_mappings.push_back(std::make_unique<fb::PortMappingT>(*m));
    plan.networks.push_back(std::move(w));
    return ok;
  };

  if (container->type == fb::ContainerType::DOCKER && container->docker) {
    const fb::DockerInfoT& docker = *container->docker;
    const fb::NetworkInfoT* first = container->network_infos.empty() ? nullptr : container->network_infos[0].get();
    switch (docker.network.value_or(fb::DockerNetwork::HOST)) {
      case fb::DockerNetwork::HOST:
        break;
      case fb::DockerNetwork::NONE:
        plan.mode = Mode::none;
        break;
      case fb::DockerNetwork::BRIDGE:
        if (policy.bridge_names.empty())
          return fail(Code::failed_precondition,
                      "docker.network is BRIDGE, and this agent's built-in bridge is turned off; set bridge_names of isolator.network");
        plan.mode = Mode::networks;
        GANTRY_CHECK(want(policy.bridge_names[0], first, docker.port_mappings, "docker.port_mappings"));
        break;
      case fb::DockerNetwork::USER:
        if (!first || first->name.empty()) return invalid("docker.network is USER, but network_infos[0].name is missing; name a network");
        plan.mode = Mode::networks;
        GANTRY_CHECK(
            want(first->name, first, docker.port_mappings.empty() ? first->port_mappings : docker.port_mappings, "docker.port_mappings"));
        break;
    }
    GANTRY_CHECK(docker_parameters(plan, docker));
  } else {
    // Infos without a name mean the host's network, as no info at all does.
    for (std::size_t i = 0; i < container->network_infos.size(); ++i) {
      const fb::NetworkInfoT& info = *container->network_infos[i];
      if (info.name.empty()) continue;
      plan.mode = Mode::networks;
      GANTRY_CHECK(want(info.name, &info, info.port_mappings, "network_infos[" + std::to_string(i) + "].port_mappings"));
    }
  }
  // Over all networks: the host has each port once.
  std::vector<Mapping> all;
  for (const auto& w : plan.networks)
    for (const auto& m : w.ports) {
      if (std::any_of(all.begin(), all.end(), [&](const Mapping& o) { return o.host == m.host && o.udp == m.udp; }))
        return invalid("host port " + std::to_string(m.host) + " is mapped on two networks; map each port once");
      all.push_back(m);
    }

  if (!container->hostname.empty()) plan.hostname = container->hostname;
  if (!plan.hostname.empty() && !is_hostname(plan.hostname))
    return invalid("container.hostname is \"" + plan.hostname.substr(0, 100) + "\"; give at most 64 letters, digits, '-', '.' and '_'");
  // As Docker shortens its ids.
  if (plan.hostname.empty() && plan.mode != Mode::host) {
    plan.hostname = container_id.substr(0, 12);
    if (!is_hostname(plan.hostname)) plan.hostname = "container";
  }
  return plan;
}

fb::NetworkInfoT answer(const Wanted& wanted, const std::vector<std::string>& addresses) {
  fb::NetworkInfoT out = wanted.info;
  for (const auto& a : addresses) {
    auto address = std::make_unique<fb::IpAddressT>();
    address->protocol = a.find(':') == std::string::npos ? fb::NetworkProtocol::IPv4 : fb::NetworkProtocol::IPv6;
    address->ip_address = a.substr(0, a.find('/'));
    out.ip_addresses.push_back(std::move(address));
  }
  return out;
}

}  // namespace gantry::isolator_network
