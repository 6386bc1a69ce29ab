// One round: which agents are looked at, who gets what is free on them, when to look again.
#include "engine.hpp"

namespace gantry::allocator_drf {
namespace {

using fb::allocator::FrameworkFlags;
using fb::allocator::QuantityFlags;

// Filters that expire within this time of each other are served by one round.
constexpr std::uint64_t kWakeGapUs = 10'000;

constexpr bool has(std::uint32_t flags, FrameworkFlags f) { return flags & static_cast<std::uint32_t>(f); }
constexpr bool has(std::uint16_t flags, QuantityFlags f) { return flags & static_cast<std::uint16_t>(f); }

}  // namespace

const Engine::Round& Engine::round() {
  out_.grants.clear();
  out_.parts.clear();
  tree_.refresh();
  if (!quotas_.empty()) begin_quota_round();
  const std::uint64_t now_us = now_ns_ / 1000;
  while (!wakes_.empty() && wakes_.top().first <= now_us) {
    const auto [at, id] = wakes_.top();
    wakes_.pop();
    if (id < agents_.size() && agents_[id].known && agents_[id].blocked_until_us <= now_us) mark_dirty(id);
  }
  work_.clear();
  if (all_) {
    // Start elsewhere each time, so that who comes first does not always get the same agents.
    const std::size_t n = with_available_.size();
    work_.reserve(n);
    const std::size_t start = n ? rotation_++ % n : 0;
    work_.insert(work_.end(), with_available_.begin() + static_cast<std::ptrdiff_t>(start), with_available_.end());
    work_.insert(work_.end(), with_available_.begin(), with_available_.begin() + static_cast<std::ptrdiff_t>(start));
    for (const std::uint32_t id : dirty_) agents_[id].dirty = false;
  } else {
    for (const std::uint32_t id : dirty_) {
      agents_[id].dirty = false;
      work_.push_back(id);
    }
  }
  dirty_.clear();
  all_ = false;
  if (!tree_.order(kRoot).empty()) {
    for (std::size_t i = 0; i < work_.size(); ++i) {
      hint_agent(work_, i);
      const std::uint32_t id = work_[i];
      const Agent& a = agents_[id];
      if (a.position == kNone) continue;  // gone, inactive or nothing free
      if (a.blocked_generation == generation_ && a.blocked_until_us > now_us) continue;
      consider(id);
    }
  }
  out_.wake_ns = next_wake();
  return out_;
}

void Engine::consider(std::uint32_t id) {
  Agent& a = agents_[id];
  now_ = {};
  now_.agent = &a;
  // Filters by client, in one pass; dead ones go.
  if (!a.filters.empty()) {
    if (++stamp_value_ == 0) {
      std::fill(stamp_.begin(), stamp_.end(), 0);
      stamp_value_ = 1;
    }
    const std::uint64_t now_us = now_ns_ / 1000;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < a.filters.size(); ++i) {
      const Filter f = a.filters[i];
      if (f.until_us <= now_us || f.epoch != clients_[f.client].epoch) {
        shapes_.release(f.refused);
        continue;
      }
      a.filters[kept] = f;
      if (stamp_[f.client] != stamp_value_) {
        stamp_[f.client] = stamp_value_;
        first_filter_[f.client] = static_cast<std::uint32_t>(kept);
      }
      ++kept;
    }
    a.filters.resize(kept);
    if (kept == 0) a.filters = {};
  }
  while (!a.available.empty()) {
    if (!quotas_.empty()) now_.possible = possible(a);
    const NodeId client = pick(kRoot);
    if (client == kNone) {
      block(id);
      return;
    }
    grant(id, client);
    now_.bundle_made = false;
  }
  set_available(id, false);
}

// The first eligible client in order of shares, role by role.
NodeId Engine::pick(NodeId node) {
  for (const auto& e : tree_.order(node)) {
    if (tree_.kind(e.node) == NodeKind::client) {
      if (eligible(e.node)) return e.node;
      continue;
    }
    // One bundle serves all clients of a role on a plain agent: nothing worth offering there ends it early.
    if (now_.agent->plain && now_.bundle_made && !now_.bundle_own && !now_.bundle_good) return kNone;
    const bool limited = !quotas_.empty() && tree_.kind(e.node) == NodeKind::role && now_.agent->plain;
    const std::uint32_t role = tree_.owner(e.node);
    if (limited && roles_[role].hopeless_round == round_number_ && !(now_.possible & ~roles_[role].hopeless)) continue;
    if (const NodeId found = pick(e.node); found != kNone) return found;
    if (limited) {
      if (const std::uint64_t none = hopeless(role)) {  // it only gets more in a round
        roles_[role].hopeless_round = round_number_;
        roles_[role].hopeless = none;
        bounded_ = true;
      }
    }
  }
  return kNone;
}

bool Engine::eligible(NodeId client) {
  const Client& c = clients_[client];
  if (now_.agent->gpu && !has(c.flags, FrameworkFlags::GPU)) return false;
  make_bundle(c.role, c.flags);
  if (!now_.bundle_good) return false;
  return now_.agent->filters.empty() || stamp_[client] != stamp_value_ || !filtered(client);
}

bool Engine::filtered(NodeId client) {
  const auto& filters = now_.agent->filters;
  for (std::size_t i = first_filter_[client]; i < filters.size(); ++i) {
    const Filter& f = filters[i];
    if (f.client != client) continue;
    if (!now_.compared_valid || now_.compared != f.refused) {
      now_.compared_valid = true;
      now_.compared = f.refused;
      now_.compared_fits =
          fits(now_.agent->plain && !now_.bundle_own ? now_.agent->available : bundle_, shapes_[f.refused]);
    }
    if (now_.compared_fits) {
      now_.next_expiry_us = std::min<std::uint64_t>(now_.next_expiry_us, f.until_us);
      return true;
    }
  }
  return false;
}

void Engine::make_bundle(std::uint32_t role, std::uint32_t flags) {
  const Agent& a = *now_.agent;
  const bool own = bounded(role);
  if (now_.bundle_made && now_.bundle_own == own &&
      ((a.plain && !own) || (now_.bundle_role == role && now_.bundle_flags == flags)))
    return;
  now_.bundle_made = true;
  now_.bundle_own = own;
  now_.bundle_role = role;
  now_.bundle_flags = flags;
  now_.bundle_whole = true;
  now_.compared_valid = false;
  if (a.plain && !own) {
    now_.bundle_good = allocatable(a.available);
    return;
  }
  bundle_.clear();
  for (const auto& x : a.available) {
    if (x.role != 0 && !within(role, x.role)) continue;
    if (usable(x, role, flags)) bundle_.push_back(x);
    else now_.bundle_whole = false;
  }
  if (own) bound_bundle(role);
  now_.bundle_good = !bundle_.empty() && allocatable(bundle_);
}

bool Engine::usable(const Amount& a, std::uint32_t role, std::uint32_t flags) const {
  if (a.role != 0 && !within(role, a.role)) return false;
  if (has(a.flags, QuantityFlags::REVOCABLE) && !has(flags, FrameworkFlags::REVOCABLE)) return false;
  if (has(a.flags, QuantityFlags::SHARED) && !has(flags, FrameworkFlags::SHARED)) return false;
  return !has(a.flags, QuantityFlags::REFINED) || has(flags, FrameworkFlags::REFINEMENT);
}

bool Engine::allocatable(const Amounts& bundle) const {
  if (min_any_) return !bundle.empty();
  for (const auto& alternative : min_ids_) {
    const bool enough = std::all_of(alternative.begin(), alternative.end(), [&](const auto& need) {
      std::int64_t sum = 0;
      for (const auto& x : bundle)
        if (x.name == need.first) sum += x.milli;
      return sum >= need.second;
    });
    if (enough) return true;
  }
  return false;
}

bool Engine::within(std::uint32_t role, std::uint32_t ancestor) const {
  while (role != 0) {
    if (role == ancestor) return true;
    role = role < roles_.size() ? roles_[role].parent : 0;
  }
  return false;
}

void Engine::grant(std::uint32_t id, NodeId client) {
  Agent& a = *now_.agent;
  Client& c = clients_[client];
  const Amounts& bundle = a.plain && !now_.bundle_own ? a.available : bundle_;
  if (!quotas_.empty()) count_free(a, -1);
  const auto first_part = static_cast<std::uint32_t>(out_.parts.size());
  if (!now_.bundle_whole) {
    for (const auto& x : bundle) out_.parts.emplace_back(x.name, x.role, x.flags, 0u, x.milli);
  }
  out_.grants.emplace_back(id, c.framework, c.role, first_part, static_cast<std::uint32_t>(out_.parts.size()) - first_part, 0u);
  if (c.tentative.empty()) tentative_.push_back(client);
  for (const auto& x : bundle) {
    if (c.tentative.size() <= x.name) c.tentative.resize(x.name + 1u);
    c.tentative[x.name] += x.milli;
    tree_.hold(client, x.name, x.milli);
  }
  tree_.granted(client);
  if (now_.bundle_own) {
    for (auto& x : a.available)
      for (const auto& taken : bundle_)
        if (same_kind(x, taken)) x.milli -= taken.milli;
    std::erase_if(a.available, [](const Amount& x) { return x.milli <= 0; });
  } else if (a.plain) {
    a.available.clear();
  } else {
    std::erase_if(a.available, [&](const Amount& x) { return usable(x, c.role, c.flags); });
  }
  if (!quotas_.empty()) {
    count_free(a, +1);
    quota_granted(c.role);
  }
}

// Nobody may have the rest now: not looked at again before the first filter that stood in the way expires, or a new
// candidate appears (generation_), or the agent itself changes.
void Engine::block(std::uint32_t id) {
  Agent& a = agents_[id];
  a.blocked_generation = generation_;
  const std::uint64_t until = now_.next_expiry_us;
  if (until != UINT64_MAX && a.blocked_until_us != until) wakes_.emplace(until, id);
  a.blocked_until_us = until;
}

std::uint64_t Engine::next_wake() {
  if (wakes_.size() > 1000 + 4 * agents_.size()) {
    std::vector<Wake> live;
    for (std::uint32_t id = 0; id < agents_.size(); ++id) {
      const Agent& a = agents_[id];
      if (a.position != kNone && a.blocked_generation != 0 && a.blocked_until_us != UINT64_MAX && a.blocked_until_us != 0) {
        live.emplace_back(a.blocked_until_us, id);
      }
    }
    wakes_ = decltype(wakes_)(std::greater<>(), std::move(live));
  }
  while (!wakes_.empty()) {
    const auto [at, id] = wakes_.top();
    const bool live = id < agents_.size() && agents_[id].position != kNone && agents_[id].blocked_generation != 0 && agents_[id].blocked_until_us == at;
    if (live) return std::max(at, now_ns_ / 1000 + kWakeGapUs) * 1000;
    wakes_.pop();
  }
  return 0;
}

}  // namespace gantry::allocator_drf
