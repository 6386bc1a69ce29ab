#include "share_tree.hpp"

#include <algorithm>

namespace gantry::allocator_drf {

void ShareTree::clear() {
  nodes_.assign(1, Node{});
  nodes_[kRoot].live = true;
  free_.clear();
  stale_.clear();
  totals_.clear();
  scale_.clear();
  all_stale_ = false;
}

NodeId ShareTree::add(NodeId parent, NodeKind kind, std::uint32_t owner, double weight) {
  NodeId id;
  if (!free_.empty()) {
    id = free_.back();
    free_.pop_back();
    nodes_[id] = Node{};
  } else {
    id = static_cast<NodeId>(nodes_.size());
    nodes_.emplace_back();
  }
  Node& n = nodes_[id];
  n.parent = parent;
  n.kind = kind;
  n.owner = owner;
  n.weight = weight > 0 ? weight : 1;
  n.live = true;
  return id;
}

void ShareTree::remove(NodeId id) {
  if (nodes_[id].listed) list(id, false);
  for (std::uint16_t name = 0; name < nodes_[id].held.size(); ++name) {
    if (const auto amount = nodes_[id].held[name]) hold(id, name, -amount);
  }
  // It may still be in stale_: refresh() skips what is not live.
  nodes_[id].live = false;
  nodes_[id].order = {};
  nodes_[id].held = {};
  free_.push_back(id);
}

void ShareTree::move(NodeId id, NodeId parent) {
  if (nodes_[id].parent == parent) return;
  const bool was_listed = nodes_[id].listed;
  if (was_listed) list(id, false);
  for (const int sign : {-1, 1}) {
    for (NodeId up = nodes_[id].parent; up != kNone; up = nodes_[up].parent) {
      auto& held = nodes_[up].held;
      if (held.size() < nodes_[id].held.size()) held.resize(nodes_[id].held.size());
      for (std::size_t name = 0; name < nodes_[id].held.size(); ++name) held[name] += sign * nodes_[id].held[name];
    }
    nodes_[id].parent = parent;
  }
  if (was_listed) list(id, true);
  all_stale_ = true;
}

void ShareTree::set_weight(NodeId id, double weight) {
  const double w = weight > 0 ? weight : 1;
  if (nodes_[id].weight == w) return;
  nodes_[id].weight = w;
  all_stale_ = true;
}

void ShareTree::enter(NodeId id) {
  auto& order = nodes_[nodes_[id].parent].order;
  const Entry e = entry(id);
  order.insert(std::upper_bound(order.begin(), order.end(), e), e);
  nodes_[id].listed = true;
}

void ShareTree::leave(NodeId id) {
  auto& order = nodes_[nodes_[id].parent].order;
  const auto it = std::find_if(order.begin(), order.end(), [id](const Entry& e) { return e.node == id; });
  if (it != order.end()) order.erase(it);
  nodes_[id].listed = false;
}

void ShareTree::list(NodeId leaf, bool listed) {
  if (nodes_[leaf].listed == listed) return;
  if (listed) {
    for (NodeId id = leaf; id != kRoot && !nodes_[id].listed; id = nodes_[id].parent) {
      nodes_[id].share = dominant(nodes_[id]);
      enter(id);
    }
  } else {
    for (NodeId id = leaf; id != kRoot; id = nodes_[id].parent) {
      leave(id);
      if (!nodes_[nodes_[id].parent].order.empty()) break;
    }
  }
}

// Amounts the kernel would never send (fuzzed ones) may overflow; what comes out then matters as little as what went in.
static std::int64_t sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

void ShareTree::add_total(std::uint16_t name, std::int64_t amount) {
  if (totals_.size() <= name) {
    totals_.resize(name + 1u);
    scale_.resize(name + 1u);
  }
  totals_[name] = sum(totals_[name], amount);
  const bool out = name < excluded_.size() && excluded_[name];
  scale_[name] = out || totals_[name] <= 0 ? 0 : 1.0 / static_cast<double>(totals_[name]);
  all_stale_ = true;
}

void ShareTree::exclude(std::uint16_t name, bool excluded) {
  if (excluded_.size() <= name) excluded_.resize(name + 1u);
  excluded_[name] = excluded;
  add_total(name, 0);
}

void ShareTree::hold(NodeId client, std::uint16_t name, std::int64_t amount) {
  for (NodeId id = client; id != kNone; id = nodes_[id].parent) {
    Node& n = nodes_[id];
    if (n.held.size() <= name) n.held.resize(name + 1u);
    n.held[name] = sum(n.held[name], amount);
    if (!n.stale) {
      n.stale = true;
      stale_.push_back(id);
    }
  }
}

double ShareTree::dominant(const Node& n) const {
  double share = 0;
  const std::size_t names = std::min(n.held.size(), scale_.size());
  for (std::size_t i = 0; i < names; ++i) share = std::max(share, static_cast<double>(n.held[i]) * scale_[i]);
  return share / n.weight;
}

void ShareTree::reposition(NodeId id, bool count_grant) {
  Node& n = nodes_[id];
  n.stale = false;
  const Entry before = entry(id);
  n.share = dominant(n);
  if (count_grant) ++n.grants;
  if (!n.listed) return;
  const Entry after = entry(id);
  auto& order = nodes_[n.parent].order;
  auto it = std::lower_bound(order.begin(), order.end(), before);
  if (it == order.end() || it->node != id) {
    // Its stale key was not where it stood: only possible when totals changed in between.
    it = std::find_if(order.begin(), order.end(), [id](const Entry& e) { return e.node == id; });
  }
  if (before < after) {
    const auto end = std::lower_bound(it + 1, order.end(), after);
    std::move(it + 1, end, it);
    *(end - 1) = after;
  } else {
    const auto begin = std::lower_bound(order.begin(), it, after);
    std::move_backward(begin, it, it + 1);
    *begin = after;
  }
}

void ShareTree::refresh_all() {
  for (auto& n : nodes_) {
    n.stale = false;
    if (n.live) n.share = dominant(n);
  }
  for (auto& n : nodes_) {
    if (n.order.empty()) continue;
    for (auto& e : n.order) e = entry(e.node);
    if (!std::is_sorted(n.order.begin(), n.order.end())) std::sort(n.order.begin(), n.order.end());
  }
  stale_.clear();
  all_stale_ = false;
}

void ShareTree::refresh() {
  // Past some number of movers one sort is cheaper than many moves.
  if (all_stale_ || stale_.size() > 64) return refresh_all();
  for (const NodeId id : stale_) {
    if (nodes_[id].live && nodes_[id].stale && id != kRoot) reposition(id, false);
    nodes_[id].stale = false;
  }
  stale_.clear();
}

void ShareTree::granted(NodeId client) {
  for (NodeId id = client; id != kRoot; id = nodes_[id].parent) reposition(id, true);
  nodes_[kRoot].stale = false;
  stale_.clear();  // between refresh() and here only this path went stale
}

}  // namespace gantry::allocator_drf
