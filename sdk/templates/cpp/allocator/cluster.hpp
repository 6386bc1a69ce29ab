// What the allocator knows of the cluster: a mirror, fed by the kernel's deltas. No clock, no thread, no I/O, so that it
// is tested as a plain object. Names of agents and frameworks never come here, only the kernel's small handles.
#pragma once

#include <gantry/allocator_generated.h>

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace @NAME_ID@ {

// One sort of resource: what it is, for whom it is reserved (0 = nobody), and its flags. Different sorts never add up.
struct Sort {
  std::uint32_t name = 0, role = 0, flags = 0;
  auto operator<=>(const Sort&) const = default;
};
using Amounts = std::map<Sort, std::int64_t>;  // thousandths; only amounts above zero

struct Client {  // a framework in one of its roles
  std::uint32_t framework = 0, role = 0;
  auto operator<=>(const Client&) const = default;
};


struct Agent {
  Amounts total, available;
  std::map<Client, std::multimap<std::uint64_t, Amounts>> filters;  // by expiry
  bool active = true;
};

struct Framework {
  std::set<std::uint32_t> roles, suppressed;
  std::uint32_t flags = 0;
  bool active = false;
};

struct Role {
  std::uint32_t parent = 0;
  double weight = 1;
};

class Cluster {
 public:
  void apply(const gantry::fb::allocator::Deltas& deltas);

  // What of the agent the client could be given: unreserved, or reserved for its role or a role above it, and of a kind
  // that the framework can handle.
  [[nodiscard]] Amounts bundle(const Agent& agent, Client client) const;
  // A decline stands in the way of this bundle; `until_ns` is lowered to when that ends.
  [[nodiscard]] bool refused(const Agent& agent, Client client, const Amounts& bundle, std::uint64_t& until_ns) const;
  // The largest part of any one resource of the cluster that the client holds, divided by its role's weight.
  [[nodiscard]] double share(Client client) const;
  // Frameworks that want offers now, once for each of their roles.
  [[nodiscard]] std::set<Client> clients() const;
  // Sum over all sorts of a resource, e.g. "cpus"; thousandths.
  [[nodiscard]] std::int64_t sum(const Amounts& amounts, const std::string& name) const;
  // Books a grant: out of the agent at once, counted for the client until the kernel reports it with the next deltas.
  void take(std::uint32_t agent, Client client, const Amounts& bundle);

  [[nodiscard]] const std::map<std::uint32_t, Agent>& agents() const { return agents_; }
  [[nodiscard]] std::uint64_t now_ns() const { return now_ns_; }

 private:
  [[nodiscard]] bool within(std::uint32_t role, std::uint32_t ancestor) const;
  void count(const Amounts& total, int sign);
  void forget_filters(std::uint32_t framework, std::uint32_t role);

  std::uint64_t now_ns_ = 0;
  std::map<std::uint32_t, std::string> names_;
  std::map<std::uint32_t, Role> roles_;
  std::map<std::uint32_t, Framework> frameworks_;
  std::map<std::uint32_t, Agent> agents_;
  std::map<std::uint32_t, std::int64_t> whole_;  // all agents together, by resource name
  std::map<Client, std::map<std::uint32_t, std::int64_t>> held_, tentative_;  // by resource name
};

}  // namespace @NAME_ID@
