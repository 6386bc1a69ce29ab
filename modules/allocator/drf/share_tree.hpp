// The tree of roles and, below each role, of the frameworks subscribed in it, with children in order of their shares.
//
//   root -> role nodes -> (a "self" node for the role's own frameworks, child role nodes) -> framework nodes
//
// A node's share is its dominant one: the largest, over resource names, of held / total of the cluster, divided by the
// node's weight. What a node holds is counted in all nodes above it. Only listed leaves (who want offers), and nodes
// with a listed leaf below, stand in their parent's order. Handles are dense; nothing here hashes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gantry::allocator_drf {

using NodeId = std::uint32_t;
inline constexpr NodeId kRoot = 0;
inline constexpr NodeId kNone = UINT32_MAX;

enum class NodeKind : std::uint8_t { root, role, self, client };

class ShareTree {
 public:
  // A child as it stands in its parent's order: lowest share first, then who got fewest grants, then the older node.
  struct Entry {
    double share;
    std::uint32_t grants;
    NodeId node;
    friend bool operator<(const Entry& a, const Entry& b) {
      if (a.share != b.share) return a.share < b.share;
      if (a.grants != b.grants) return a.grants < b.grants;
      return a.node < b.node;
    }
  };

  ShareTree() { clear(); }
  void clear();

  // `owner` is the caller's: a role id for role and self nodes, a framework id for clients.
  NodeId add(NodeId parent, NodeKind kind, std::uint32_t owner, double weight = 1);
  // Takes what it holds out of the nodes above. It must have no children left.
  void remove(NodeId id);
  // Hangs a role node below another parent (a role became known after its child).
  void move(NodeId id, NodeId parent);
  void set_weight(NodeId id, double weight);
  void list(NodeId leaf, bool listed);
  [[nodiscard]] bool listed(NodeId id) const { return nodes_[id].listed; }

  [[nodiscard]] NodeKind kind(NodeId id) const { return nodes_[id].kind; }
  [[nodiscard]] std::uint32_t owner(NodeId id) const { return nodes_[id].owner; }
  [[nodiscard]] NodeId parent(NodeId id) const { return nodes_[id].parent; }
  [[nodiscard]] double share(NodeId id) const { return nodes_[id].share; }
  // With what all nodes below it hold.
  [[nodiscard]] std::int64_t held(NodeId id, std::uint16_t name) const {
    const auto& held = nodes_[id].held;
    return name < held.size() ? held[name] : 0;
  }
  [[nodiscard]] std::span<const Entry> order(NodeId id) const { return nodes_[id].order; }
  [[nodiscard]] std::size_t capacity() const { return nodes_.size(); }

  // The cluster has `amount` of `name` more (or less). Amounts are thousandths.
  void add_total(std::uint16_t name, std::int64_t amount);
  // Excluded names never dominate.
  void exclude(std::uint16_t name, bool excluded);
  // A client holds more (or less). Orders follow at the next refresh(), because many changes come at once.
  void hold(NodeId client, std::uint16_t name, std::int64_t amount);
  // Brings all orders up to date.
  void refresh();
  // After hold() of a single grant: puts the client and the nodes above it in place at once and counts the grant.
  void granted(NodeId client);

 private:
  struct Node {
    NodeId parent = kNone;
    std::uint32_t owner = 0;
    double weight = 1;
    double share = 0;
    std::uint32_t grants = 0;
    NodeKind kind = NodeKind::root;
    bool live = false;
    bool listed = false;
    bool stale = false;
    std::vector<std::int64_t> held;  // by name
    std::vector<Entry> order;
  };
  [[nodiscard]] double dominant(const Node& n) const;
  [[nodiscard]] Entry entry(NodeId id) const { return {nodes_[id].share, nodes_[id].grants, id}; }
  void enter(NodeId id);
  void leave(NodeId id);
  void reposition(NodeId id, bool count_grant);
  void refresh_all();

  std::vector<Node> nodes_;
  std::vector<NodeId> free_;
  std::vector<NodeId> stale_;
  std::vector<std::int64_t> totals_;
  std::vector<double> scale_;  // 1 / total, 0 for excluded and absent names
  std::vector<std::uint8_t> excluded_;
  bool all_stale_ = false;
};

}  // namespace gantry::allocator_drf
