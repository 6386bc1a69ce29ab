#include "cni_config.hpp"

#include <algorithm>
#include <array>

namespace gantry::isolator_network {
namespace {

constexpr std::array<std::string_view, 4> versions = {"0.3.0", "0.3.1", "0.4.0", "1.0.0"};
constexpr std::size_t most_plugins = 32;

Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

std::string shown(const std::string& s) { return "\"" + s.substr(0, 100) + "\""; }

// A name that may stand in a path: plugins are looked for in the operator's folders and nowhere else.
bool is_file_name(const std::string& s) {
  return !s.empty() && s.size() <= 100 && s[0] != '.' && std::all_of(s.begin(), s.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

// Burst of a token bucket: a tenth of a second, and no less than a few large packets.
std::uint64_t burst_of(std::uint64_t bytes_a_second) { return std::max<std::uint64_t>(bytes_a_second / 10, 65536); }

Object runtime_config(const Object& plugin, const Wanted& wanted) {
  Object out;
  const Object* capabilities = find_object(plugin, "capabilities");
  if (!capabilities) return out;
  if (flag_of(*capabilities, "portMappings") && !wanted.ports.empty()) {
    Array all;
    for (const Mapping& m : wanted.ports)
      all.push_back(Object{{"hostPort", m.host}, {"containerPort", m.container}, {"protocol", m.udp ? "udp" : "tcp"}});
    out["portMappings"] = std::move(all);
  }
  if (flag_of(*capabilities, "bandwidth") && !(wanted.rates == Rates())) {
    Object limits;
    const auto add = [&](const char* rate, const char* burst, std::uint64_t bytes) {
      if (!bytes) return;
      limits[rate] = bytes * 8;
      limits[burst] = burst_of(bytes) * 8;
    };
    add("ingressRate", "ingressBurst", wanted.rates.ingress);
    add("egressRate", "egressBurst", wanted.rates.egress);
    out["bandwidth"] = std::move(limits);
  }
  if (flag_of(*capabilities, "ips") && !wanted.addresses.empty()) out["ips"] = array_of(wanted.addresses);
  return out;
}

}  // namespace

bool CniNetwork::capable(std::string_view capability) const {
  return std::any_of(plugins.begin(), plugins.end(), [&](const Object& p) {
    const Object* all = find_object(p, "capabilities");
    return all && flag_of(*all, capability);
  });
}

Result<CniNetwork> parse_network(std::string_view text) {
  GANTRY_TRY(Object root, parse_object(text));
  CniNetwork out;
  out.name = text_of(root, "name");
  if (out.name.empty()) return invalid("name is missing; a network needs one");
  if (out.name.size() > 200 || out.name.find_first_of(" /\n\t") != out.name.npos)
    return invalid("name " + shown(out.name) + " has a blank or slash, or is too long");
  const Json* version = find(root, "cniVersion");
  if (version && !version->is_string()) return invalid("cniVersion is no text; write it as \"1.0.0\"");
  out.version = version ? text_of(root, "cniVersion") : std::string("0.3.1");
  if (std::find(versions.begin(), versions.end(), out.version) == versions.end())
    return invalid("cniVersion " + shown(out.version) + " is not supported; write 0.3.0, 0.3.1, 0.4.0 or 1.0.0");
  if (const Json* list = find(root, "plugins")) {
    const Array* all = list->if_array();
    if (!all || all->empty() || all->size() > most_plugins)
      return invalid("plugins must be a list of 1 to " + std::to_string(most_plugins) + " plugins");
    for (const Json& p : *all) {
      if (!p.is_object()) return invalid("plugins[" + std::to_string(out.plugins.size()) + "] is no object");
      out.plugins.push_back(p.get_object());
    }
  } else {
    out.plugins.push_back(std::move(root));
  }
  // What Mesos' own plugin does is done here (see CniEnd::ports); what it leaves to another plugin remains.
  for (Object& p : out.plugins)
    if (const Object* delegate = find_object(p, "delegate"); delegate && text_of(p, "type") == "mesos-cni-port-mapper")
      p = Object(*delegate);
  for (std::size_t i = 0; i < out.plugins.size(); ++i) {
    const std::string type = text_of(out.plugins[i], "type");
    if (!is_file_name(type))
      return invalid("type of plugins[" + std::to_string(i) + "] is " + shown(type) + "; give the name of a plugin, such as \"bridge\"");
    if (const Object* ipam = find_object(out.plugins[i], "ipam"); ipam && find(*ipam, "type") && !is_file_name(text_of(*ipam, "type")))
      return invalid("ipam.type of plugins[" + std::to_string(i) + "] is " + shown(text_of(*ipam, "type")) +
                     "; give the name of a plugin, such as \"host-local\"");
    out.plugins[i].erase("name");
    out.plugins[i].erase("cniVersion");
  }
  return out;
}

Object plugin_input(const CniNetwork& network, std::size_t plugin, const Wanted& wanted) {
  Object input = network.plugins[plugin];
  Object runtime = runtime_config(input, wanted);
  input["cniVersion"] = network.version;
  input["name"] = network.name;
  if (!runtime.empty()) input["runtimeConfig"] = std::move(runtime);
  Object args = find_object(input, "args") ? *find_object(input, "args") : Object();
  args["org.apache.mesos"] = Object{{"network_info", network_info_json(wanted.info)}};
  input["args"] = std::move(args);
  return input;
}

std::string input_text(Object input, const Object& previous) {
  if (previous.empty()) input.erase("prevResult");
  else input["prevResult"] = previous;
  return print_json(input);
}

Result<CniResult> parse_result(std::string_view text) {
  GANTRY_TRY(Object root, parse_object(text));
  CniResult out;
  if (const Json* ips = find(root, "ips")) {
    if (!ips->is_array()) return invalid("ips is no list");
    for (const Json& ip : ips->get_array()) {
      if (!ip.is_object()) return invalid("ips has what is no object");
      const std::string address = text_of(ip.get_object(), "address");
      if (!is_address(address.substr(0, address.find('/')))) return invalid("ips has the address " + shown(address));
      out.addresses.push_back(address);
    }
  }
  if (const Object* dns = find_object(root, "dns")) {
    for (const auto& s : texts_of(*dns, "nameservers")) {
      if (!is_address(s)) return invalid("dns.nameservers has " + shown(s));
      out.dns.nameservers.push_back(s);
    }
    out.dns.search = texts_of(*dns, "search");
    if (const std::string domain = text_of(*dns, "domain"); out.dns.search.empty() && !domain.empty()) out.dns.search.push_back(domain);
    out.dns.options = texts_of(*dns, "options");
    for (const auto* words : {&out.dns.search, &out.dns.options})
      for (const auto& w : *words)
        if (w.empty() || std::any_of(w.begin(), w.end(), [](char c) { return static_cast<unsigned char>(c) <= ' '; }))
          return invalid("dns has " + shown(w) + ", which is no word");
  }
  out.raw = std::move(root);
  return out;
}

std::string plugin_error(std::string_view output, std::string_view errors) {
  const auto clipped = [](std::string s) {
    while (!s.empty() && s.back() == '\n') s.pop_back();
    if (s.size() > 500) s = s.substr(0, 500) + "...";
    return s;
  };
  if (auto root = parse_object(output); root && (find(*root, "msg") || find(*root, "code"))) {
    std::string out = clipped(text_of(*root, "msg"));
    if (const std::string details = text_of(*root, "details"); !details.empty()) out += "; " + clipped(details);
    return out + " (code " + std::to_string(integer_of(*root, "code")) + ")";
  }
  const std::string said = clipped(std::string(errors.empty() ? output : errors));
  return said.empty() ? std::string("it said nothing") : said;
}

Object network_info_json(const fb::NetworkInfoT& info) {
  Object out;
  if (!info.name.empty()) out["name"] = info.name;
  if (!info.groups.empty()) out["groups"] = array_of(info.groups);
  if (!info.labels.empty()) {
    Array labels;
    for (const auto& l : info.labels) labels.push_back(Object{{"key", l->key}, {"value", l->value}});
    out["labels"] = Object{{"labels", std::move(labels)}};
  }
  if (!info.ip_addresses.empty()) {
    Array all;
    for (const auto& a : info.ip_addresses) all.push_back(Object{{"ip_address", a->ip_address}});
    out["ip_addresses"] = std::move(all);
  }
  if (!info.port_mappings.empty()) {
    Array all;
    for (const auto& m : info.port_mappings) {
      Object o{{"host_port", m->host_port}, {"container_port", m->container_port}};
      if (!m->protocol.empty()) o["protocol"] = m->protocol;
      all.push_back(std::move(o));
    }
    out["port_mappings"] = std::move(all);
  }
  return out;
}

}  // namespace gantry::isolator_network
