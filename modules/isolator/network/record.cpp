#include "record.hpp"

namespace gantry::isolator_network {
namespace {

Error damaged(const char* what) { return fail(Code::data_loss, std::string("the record is damaged: ") + what); }

// Names of devices go to the kernel as they are.
bool is_device(const std::string& s) {
  return !s.empty() && s.size() <= 15 && s.find_first_of("/ \n\t") == s.npos && s != "." && s != "..";
}

Rates rates_of(const Object& o) {
  return {static_cast<std::uint64_t>(integer_of(o, "ingress")), static_cast<std::uint64_t>(integer_of(o, "egress"))};
}

Array json_of(const std::vector<Mapping>& ports) {
  Array out;
  for (const Mapping& m : ports) out.push_back(Object{{"host", m.host}, {"container", m.container}, {"udp", m.udp}});
  return out;
}

Result<std::vector<Mapping>> ports_of(const Object& o) {
  std::vector<Mapping> out;
  const Array* ports = find_array(o, "ports");
  for (std::size_t i = 0; ports && i < ports->size(); ++i) {
    const Object* p = (*ports)[i].if_object();
    const auto host = p ? integer_of(*p, "host") : 0, container = p ? integer_of(*p, "container") : 0;
    if (host < 1 || host > 65535 || container < 1 || container > 65535) return damaged("ports has a port that is none");
    out.push_back({static_cast<std::uint16_t>(host), static_cast<std::uint16_t>(container), flag_of(*p, "udp")});
  }
  return out;
}

Object json_of(const BridgeEnd& b) {
  return Object{{"interface", b.interface}, {"veth", b.veth}, {"ifb", b.ifb}, {"address", to_text(b.address)}, {"ports", json_of(b.ports)},
                {"ingress", b.rates.ingress}, {"egress", b.rates.egress}};
}

Result<BridgeEnd> bridge_of(const Object& o) {
  BridgeEnd b;
  b.interface = text_of(o, "interface");
  b.veth = text_of(o, "veth");
  b.ifb = text_of(o, "ifb");
  if (!is_device(b.interface) || !is_device(b.veth) || (!b.ifb.empty() && !is_device(b.ifb)))
    return damaged("a device of the bridge has no name");
  const auto address = parse_ipv4(text_of(o, "address"));
  if (!address) return damaged("bridge.address is no address");
  b.address = *address;
  b.rates = rates_of(o);
  GANTRY_TRY(b.ports, ports_of(o));
  return b;
}

}  // namespace

std::optional<Target> CniEnd::target() const {
  const auto at = parse_interface(address);
  if (ports.empty() || !at) return std::nullopt;
  return Target{at->first, ports, at->second};
}

std::string print_record(const Record& r) {
  Object out{{"version", 1}, {"hostname", r.hostname}, {"own_namespace", r.own_namespace}};
  if (r.bridge) out["bridge"] = json_of(*r.bridge);
  Array cni;
  for (const CniEnd& c : r.cni) {
    Array inputs;
    for (const Object& i : c.inputs) inputs.push_back(i);
    cni.push_back(Object{{"interface", c.interface},
                         {"network", c.network},
                         {"cniVersion", c.version},
                         {"inputs", std::move(inputs)},
                         {"result", c.result},
                         {"ingress", c.rates.ingress},
                         {"egress", c.rates.egress},
                         {"ifb", c.ifb},
                         {"ports", json_of(c.ports)},
                         {"address", c.address}});
  }
  out["cni"] = std::move(cni);
  return print_json(out) + "\n";
}

Result<Record> parse_record(std::string_view text) {
  auto root = parse_object(text);
  if (!root) return damaged(root.error().message.c_str());
  if (integer_of(*root, "version") != 1)
    return fail(Code::data_loss, "the record has version " + std::to_string(integer_of(*root, "version")) +
                                     ", this release reads 1; end the container with the release that started it");
  Record r;
  r.hostname = text_of(*root, "hostname");
  r.own_namespace = flag_of(*root, "own_namespace");
  if (const Object* b = find_object(*root, "bridge")) {
    GANTRY_TRY(r.bridge, bridge_of(*b));
  }
  if (const Array* all = find_array(*root, "cni"))
    for (const Json& v : *all) {
      if (!v.is_object()) return damaged("cni");
      const Object& o = v.get_object();
      CniEnd c;
      c.interface = text_of(o, "interface");
      c.network = text_of(o, "network");
      c.version = text_of(o, "cniVersion");
      c.rates = rates_of(o);
      c.ifb = text_of(o, "ifb");
      if (!is_device(c.interface) || (!c.ifb.empty() && !is_device(c.ifb))) return damaged("a device of a CNI network has no name");
      if (const Object* result = find_object(o, "result")) c.result = *result;
      c.address = text_of(o, "address");
      GANTRY_TRY(c.ports, ports_of(o));
      const Array* inputs = find_array(o, "inputs");
      if (!inputs) return damaged("cni.inputs");
      for (const Json& i : *inputs) {
        if (!i.is_object()) return damaged("cni.inputs");
        c.inputs.push_back(i.get_object());
      }
      r.cni.push_back(std::move(c));
    }
  return r;
}

}  // namespace gantry::isolator_network
