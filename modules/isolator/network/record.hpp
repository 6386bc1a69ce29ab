// What is written down of a container, before anything is done for it, so that it can be undone after a crash.
// One folder a container, <work dir>/containers/<id>/: record.json, attached, hosts, hostname, resolv.conf, netns.
#pragma once

#include "cni_config.hpp"
#include "portmap.hpp"

#include <optional>
#include <string>
#include <vector>

namespace gantry::isolator_network {

// The container's end of the built-in bridge.
struct BridgeEnd {
  std::string interface;       // in the container
  std::string veth;            // on the machine
  std::string ifb;             // on the machine; empty: sending is not limited
  Ipv4 address = 0;
  std::vector<Mapping> ports;
  Rates rates;
  friend bool operator==(const BridgeEnd&, const BridgeEnd&) = default;
};

// One CNI network of it, with everything DEL needs, as it was when the container was prepared.
struct CniEnd {
  std::string interface;
  std::string network;
  std::string version;
  std::vector<Object> inputs;  // of each plugin
  Object result;               // the last plugin's answer; empty: ADD did not end
  Rates rates;                 // limits that no plugin keeps, so we do
  std::string ifb;             // for that, on the machine; empty: sending is not limited
  std::vector<Mapping> ports;  // mappings that no plugin makes, so we do
  std::string address;         // they lead here: "10.1.0.5/16"; empty: ADD did not end
  // What is mapped, or about to be.
  [[nodiscard]] std::optional<Target> target() const;
};

struct Record {
  std::string hostname;
  bool own_namespace = false;  // it has a network of its own
  std::optional<BridgeEnd> bridge;
  std::vector<CniEnd> cni;
};

[[nodiscard]] std::string print_record(const Record&);
// DATA_LOSS says what is wrong.
[[nodiscard]] Result<Record> parse_record(std::string_view text);

}  // namespace gantry::isolator_network
