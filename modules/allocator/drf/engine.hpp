// The allocator proper: a mirror of the cluster fed by Deltas, and rounds that hand out what is free. No clock, no thread.
//
// What keeps a round cheap: only agents that changed are looked at; an agent nobody may have now is remembered as blocked
// until its next filter expires or the set of candidates grows; everything is addressed by the kernel's dense handles.
#pragma once

#include "amounts.hpp"
#include "share_tree.hpp"

#include <gantry/allocator_generated.h>
#include <gantry/result.hpp>

#include <cstdint>
#include <queue>
#include <string>
#include <vector>

namespace gantry::allocator_drf {

// "cpus:0.01|mem:32": alternatives of lists of (name, thousandths).
using MinAllocatable = std::vector<std::vector<std::pair<std::string, std::int64_t>>>;
[[nodiscard]] Result<MinAllocatable> parse_min_allocatable(std::string_view text);

class Engine {
 public:
  // Apply from the next round on.
  void set_min_allocatable(MinAllocatable m);
  void set_fairness_exclude(std::vector<std::string> names);

  // Brings the mirror up to date. Handles beyond any sensible size are INVALID_ARGUMENT; nothing is applied then.
  [[nodiscard]] Status apply(const fb::allocator::Deltas& deltas);

  struct Round {
    std::vector<fb::allocator::Grant> grants;
    std::vector<fb::allocator::Quantity> parts;
    std::uint64_t wake_ns = 0;
  };
  // Hands out what the last apply() made possible. The result is valid until the next call.
  const Round& round();

  // Dominant share of a framework in a role, or of a whole role (framework 0); for tests and inspection.
  [[nodiscard]] double share(std::uint32_t role, std::uint32_t framework = 0);
  [[nodiscard]] std::size_t memory_bytes() const;

 private:
  // "Do not offer to this client until then what fits into the shape."
  struct Filter {
    NodeId client;
    ShapeId refused;
    std::uint64_t until_us : 48;  // host clock, rounded up
    std::uint64_t epoch : 16;     // of the client; older ones were cleared by REVIVE
  };
  static_assert(sizeof(Filter) == 16);

  struct Agent {
    Amounts available;
    std::vector<Filter> filters;
    std::uint64_t blocked_until_us = 0;
    std::uint32_t blocked_generation = 0;  // 0 = not blocked
    ShapeId total = 0;
    std::uint32_t position = kNone;        // in with_available_
    bool known = false;
    bool active = false;
    bool dirty = false;
    bool gpu = false;
    bool plain = true;                     // nothing reserved, revocable, shared: one bundle for all
  };
  struct Client {
    std::uint32_t framework = 0;
    std::uint32_t role = 0;
    std::uint32_t flags = 0;
    std::uint16_t epoch = 0;               // outlives the client, so that a reused node sees no old filters
    std::vector<std::int64_t> tentative;   // granted in the last round, by name; the kernel's Held replaces it
  };
  struct Framework {
    bool known = false;
    bool active = false;
    std::uint32_t flags = 0;
    std::vector<NodeId> clients;           // one for each role it is or was subscribed in
    std::vector<std::uint32_t> roles, suppressed;
  };
  struct Role {
    NodeId node = kNone;
    NodeId self = kNone;
    std::uint32_t parent = 0;
    std::uint32_t quota = kNone;           // in quotas_
    std::uint64_t hopeless_round = 0;      // in which `hopeless` was found
    std::uint64_t hopeless = 0;            // alternatives of the least worth an offer that its limits no longer allow
  };
  struct Cap {
    std::uint16_t name;
    std::int64_t milli;
  };
  struct Quota {
    std::uint32_t role = 0;
    std::vector<Cap> limits, guarantees;
    std::vector<std::int64_t> reserved;    // for it and the roles below, and free; by name
    std::vector<std::int64_t> missing;     // of its guarantees; only of roles without a guaranteed one above
  };

  // quota.cpp: limits and guarantees
  void learn_quota(const fb::allocator::Role& r);
  void recount_quota();
  void count_free(const Agent& a, int sign);
  void begin_quota_round();
  void update_missing(Quota& q);
  [[nodiscard]] bool bounded(std::uint32_t role) const;
  [[nodiscard]] std::int64_t consumed(const Quota& q, std::uint16_t name) const;
  [[nodiscard]] std::int64_t room(std::uint32_t role, std::uint16_t name, std::uint32_t reserved_for) const;
  [[nodiscard]] std::int64_t headroom(std::uint32_t role, std::uint16_t name) const;
  [[nodiscard]] Quota* guaranteed(std::uint32_t role);
  [[nodiscard]] const Quota* guaranteed(std::uint32_t role) const { return const_cast<Engine*>(this)->guaranteed(role); }
  void bound_bundle(std::uint32_t role);
  [[nodiscard]] std::uint64_t hopeless(std::uint32_t role) const;
  [[nodiscard]] std::uint64_t possible(const Agent& a) const;
  void quota_granted(std::uint32_t role);

  // engine.cpp: the mirror
  void clear();
  void learn_name(std::uint32_t id, std::string_view text);
  void learn_role(std::uint32_t id, std::uint32_t parent, double weight);
  NodeId role_self(std::uint32_t role);
  void apply_framework(const fb::allocator::FrameworkDelta& d);
  void apply_agent(const fb::allocator::AgentDelta& d);
  void apply_filter(const fb::allocator::Filter& d);
  void apply_unfilter(std::uint32_t framework, std::uint32_t role);
  void forget_tentative();
  [[nodiscard]] NodeId find_client(std::uint32_t framework, std::uint32_t role) const;
  NodeId client_of(std::uint32_t framework, std::uint32_t role);
  void raise_epoch(NodeId client);
  void set_available(std::uint32_t id, bool present);
  void mark_dirty(std::uint32_t id);
  void resolve_names();

  // rounds.cpp: handing out
  void consider(std::uint32_t id);
  [[nodiscard]] NodeId pick(NodeId node);
  [[nodiscard]] bool eligible(NodeId client);
  [[nodiscard]] bool filtered(NodeId client);
  void make_bundle(std::uint32_t role, std::uint32_t flags);
  [[nodiscard]] bool usable(const Amount& a, std::uint32_t role, std::uint32_t flags) const;
  [[nodiscard]] bool allocatable(const Amounts& bundle) const;
  [[nodiscard]] bool within(std::uint32_t role, std::uint32_t ancestor) const;
  void grant(std::uint32_t id, NodeId client);
  void block(std::uint32_t id);
  [[nodiscard]] std::uint64_t next_wake();
  // Before step `i` of a walk over agents: tells the processor what the next steps read, for which they would wait.
  // Inlined by force, for gcc drops calls of functions that only prefetch.
  [[gnu::always_inline]] void hint_agent(const std::vector<std::uint32_t>& walk, std::size_t i) const {
    if (i + 12 < walk.size() && walk[i + 12] < agents_.size()) {
      const char* p = reinterpret_cast<const char*>(&agents_[walk[i + 12]]);
      for (std::size_t at = 0; at < sizeof(Agent); at += 64) __builtin_prefetch(p + at);
    }
    if (i + 6 < walk.size() && walk[i + 6] < agents_.size()) {
      const Agent& a = agents_[walk[i + 6]];
      __builtin_prefetch(a.available.data());
      const char* p = reinterpret_cast<const char*>(a.filters.data());
      for (std::size_t at = 0; at < a.filters.size() * sizeof(Filter) && at < 1024; at += 64) __builtin_prefetch(p + at);
    }
  }

  MinAllocatable min_allocatable_;
  std::vector<std::vector<std::pair<std::uint16_t, std::int64_t>>> min_ids_;  // resolved; impossible alternatives left out
  bool min_any_ = true;                                                       // no minimum
  std::vector<std::string> exclude_;
  std::vector<std::string> names_;

  ShareTree tree_;
  Shapes shapes_;
  std::vector<Role> roles_;
  std::vector<Framework> frameworks_;
  std::vector<Client> clients_;  // by node
  std::vector<NodeId> tentative_;
  std::vector<Agent> agents_;
  std::vector<std::uint32_t> with_available_;  // active agents with something free
  std::vector<std::uint32_t> dirty_;
  std::vector<std::uint32_t> work_;            // agents of the walk under way
  std::uint32_t rotation_ = 0;
  std::uint32_t generation_ = 1;  // grows whenever a blocked agent might find a taker
  bool all_ = false;
  std::vector<Quota> quotas_;                  // none: nothing of quota.cpp is spent
  std::vector<std::int64_t> free_, required_;  // by name: unreserved and free; to be kept so for guarantees
  std::uint64_t round_number_ = 0;
  bool recount_quota_ = false;                 // at the next round; nothing is counted until then
  bool bounded_ = false;                       // somebody got less than there was because of quota
  std::uint64_t now_ns_ = 0;

  using Wake = std::pair<std::uint64_t, std::uint32_t>;  // time in us, agent
  std::priority_queue<Wake, std::vector<Wake>, std::greater<>> wakes_;

  // The agent under consideration.
  struct Current {
    Agent* agent = nullptr;
    std::uint32_t bundle_role = 0, bundle_flags = 0;
    bool bundle_made = false;
    bool bundle_good = false;         // worth an offer
    std::uint64_t possible = 0;       // alternatives that what the agent has would meet
    bool bundle_own = false;          // bundle_ holds it, whatever the agent has
    bool bundle_whole = true;         // all of what the role may have: no parts needed
    ShapeId compared = 0;             // last shape compared with this bundle, and the outcome
    bool compared_valid = false, compared_fits = false;
    std::uint64_t next_expiry_us = UINT64_MAX;
  } now_;
  Amounts bundle_;
  std::vector<std::uint32_t> stamp_, first_filter_;  // by node
  std::uint32_t stamp_value_ = 0;
  Amounts scratch_;
  Round out_;
};

}  // namespace gantry::allocator_drf
