// The agent's nftables table: mapped ports, masquerading, and what keeps containers from the machine's loopback.
// Rules are in one place and never change; what changes is the elements of two maps.
#pragma once

#include "address.hpp"
#include "plan.hpp"

#include <gantry/result.hpp>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

struct nft_ctx;

namespace gantry::isolator_network {

// One container's mappings.
struct Target {
  Ipv4 address = 0;
  std::vector<Mapping> ports;
  std::optional<Subnet> behind;  // it is not on our bridge, but among these neighbours
};

class PortMap {
 public:
  // `table` is the agent's own. Nothing is done yet.
  PortMap(std::string table, std::string bridge, Subnet subnet);
  ~PortMap();
  PortMap(const PortMap&) = delete;
  PortMap& operator=(const PortMap&) = delete;

  // All of these [any thread, blocks for about a millisecond] are one transaction: done or not.

  // Makes the table, or makes it anew, with exactly these mappings.
  Status install(const std::vector<Target>& all);
  // ALREADY_EXISTS if a port is mapped to somebody else.
  Status add(const Target&);
  // OK if they are not there, or the table is not.
  Status remove(const Target&);
  Status drop();
  [[nodiscard]] bool installed() const;
  // What the kernel has: (mapping, address), of both maps.
  [[nodiscard]] Result<std::set<std::pair<Mapping, Ipv4>>> list() const;

  // Connection tracking forgets the flows to this container, and flows to its UDP ports from before they were mapped: an old flow
  // would go where it always went. Best effort; a kernel before 5.8 cannot.
  static void forget_flows(const Target&);

  // The commands as text, as `nft -f` takes them. Pure.
  [[nodiscard]] std::string table_text(const std::vector<Target>& all) const;
  [[nodiscard]] std::string elements_text(const char* verb, const Target&, bool with_data) const;

 private:
  struct Answer;
  [[nodiscard]] Answer run(const std::string& commands, bool json = false) const;
  std::string table_, bridge_;
  Subnet subnet_;
  mutable nft_ctx* context_ = nullptr;  // made with the first command
};

// What `list` in JSON says; pure, for PortMap::list.
[[nodiscard]] Result<std::set<std::pair<Mapping, Ipv4>>> parse_maps(std::string_view json);

}  // namespace gantry::isolator_network
