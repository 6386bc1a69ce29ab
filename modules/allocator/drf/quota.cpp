// Quota: a role with limits gets no more than they leave, and what is guaranteed to others stays free (mesos-kernel.md A2).
//
// What a role has is what it and the roles below hold, which the share tree counts, and what is reserved for them and free.
// Both change with each grant, so within a round limits are exact. The kernel checks them all the same.
#include "engine.hpp"

namespace gantry::allocator_drf {
namespace {

using fb::allocator::QuantityFlags;

constexpr std::int64_t kNoBound = INT64_MAX;

std::int64_t at(const std::vector<std::int64_t>& v, std::uint16_t name) { return name < v.size() ? v[name] : 0; }
std::int64_t& at(std::vector<std::int64_t>& v, std::uint16_t name) {
  if (v.size() <= name) v.resize(name + 1u);
  return v[name];
}
// Sums of what the kernel would never send may overflow; what comes out of that matters as little.
std::int64_t plus(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

}  // namespace

void Engine::learn_quota(const fb::allocator::Role& r) {
  const auto read = [](const flatbuffers::Vector<const fb::allocator::Amount*>* in) {
    std::vector<Cap> out;
    if (!in) return out;
    for (const auto* a : *in)
      if (a->name() <= UINT16_MAX && a->amount() >= 0) out.push_back({static_cast<std::uint16_t>(a->name()), a->amount()});
    return out;
  };
  std::uint32_t& place = roles_[r.id()].quota;
  if (!r.limited() && place == kNone) return;
  ++generation_;
  all_ = true;
  if (!r.limited()) {
    const std::uint32_t last = static_cast<std::uint32_t>(quotas_.size() - 1);
    if (place != last) {
      quotas_[place] = std::move(quotas_[last]);
      roles_[quotas_[place].role].quota = place;
    }
    quotas_.pop_back();
    place = kNone;
  } else {
    if (place == kNone) {
      place = static_cast<std::uint32_t>(quotas_.size());
      quotas_.emplace_back().role = r.id();
    }
    quotas_[place].limits = read(r.limits());
    quotas_[place].guarantees = read(r.guarantees());
  }
  recount_quota_ = true;
}

// From the beginning; roles have come to have quota, or none any more.
void Engine::recount_quota() {
  recount_quota_ = false;
  free_.clear();
  for (auto& q : quotas_) q.reserved.clear();
  if (quotas_.empty()) return;
  for (const auto& a : agents_) count_free(a, +1);
}

void Engine::count_free(const Agent& a, int sign) {
  if (!a.known || recount_quota_) return;
  for (const auto& x : a.available) {
    if (x.role == 0) {
      if (a.active && !(x.flags & static_cast<std::uint16_t>(QuantityFlags::REVOCABLE)))
        at(free_, x.name) = plus(at(free_, x.name), sign * x.milli);
      continue;
    }
    for (std::uint32_t role = x.role; role != 0 && role < roles_.size(); role = roles_[role].parent) {
      if (roles_[role].quota == kNone) continue;
      auto& reserved = at(quotas_[roles_[role].quota].reserved, x.name);
      reserved = plus(reserved, sign * x.milli);
    }
  }
}

std::int64_t Engine::consumed(const Quota& q, std::uint16_t name) const {
  return plus(tree_.held(roles_[q.role].node, name), at(q.reserved, name));
}

// The outermost role of the path that has a guarantee: what is guaranteed below it is part of that.
Engine::Quota* Engine::guaranteed(std::uint32_t role) {
  Quota* found = nullptr;
  for (; role != 0 && role < roles_.size(); role = roles_[role].parent)
    if (roles_[role].quota != kNone && !quotas_[roles_[role].quota].guarantees.empty()) found = &quotas_[roles_[role].quota];
  return found;
}

void Engine::update_missing(Quota& q) {
  for (const auto& g : q.guarantees) {
    const std::int64_t now = std::max<std::int64_t>(0, g.milli - consumed(q, g.name));
    auto& before = at(q.missing, g.name);
    at(required_, g.name) += now - before;
    before = now;
  }
}

void Engine::begin_quota_round() {
  ++round_number_;
  if (recount_quota_) recount_quota();
  required_.clear();
  for (auto& q : quotas_) {
    q.missing.clear();
    if (!q.guarantees.empty() && guaranteed(q.role) == &q) update_missing(q);
  }
}

void Engine::quota_granted(std::uint32_t role) {
  if (Quota* q = guaranteed(role)) update_missing(*q);
}

// Whether anything of what the role is given must be judged by amount.
bool Engine::bounded(std::uint32_t role) const {
  if (quotas_.empty()) return false;
  for (const auto required : required_)
    if (required > 0) return true;
  for (; role != 0 && role < roles_.size(); role = roles_[role].parent)
    if (roles_[role].quota != kNone && !quotas_[roles_[role].quota].limits.empty()) return true;
  return false;
}

// What the limits of the role and those above it leave of what is reserved for `reserved_for` (0: for nobody).
std::int64_t Engine::room(std::uint32_t role, std::uint16_t name, std::uint32_t reserved_for) const {
  std::int64_t left = kNoBound;
  for (; role != 0 && role < roles_.size() && role != reserved_for; role = roles_[role].parent) {
    if (roles_[role].quota == kNone) continue;
    const Quota& q = quotas_[roles_[role].quota];
    for (const auto& limit : q.limits)
      if (limit.name == name) left = std::min(left, std::max<std::int64_t>(0, limit.milli - consumed(q, name)));
  }
  return left;
}

// What guarantees of others leave of what nobody has reserved: its own missing part, and what is free beyond all of them.
std::int64_t Engine::headroom(std::uint32_t role, std::uint16_t name) const {
  const std::int64_t required = at(required_, name);
  if (required == 0) return kNoBound;
  const Quota* own = guaranteed(role);
  return plus(own ? at(own->missing, name) : 0, std::max<std::int64_t>(0, at(free_, name) - required));
}

void Engine::bound_bundle(std::uint32_t role) {
  // Several entries may be of one name: each takes its part of the room.
  std::vector<Cap> taken, free_taken;
  const auto used = [](std::vector<Cap>& list, std::uint16_t name) -> std::int64_t& {
    for (auto& c : list)
      if (c.name == name) return c.milli;
    return list.emplace_back(Cap{name, 0}).milli;
  };
  for (auto& x : bundle_) {
    const std::int64_t limit = room(role, x.name, x.role);
    std::int64_t may = x.milli;
    if (limit != kNoBound) may = std::clamp<std::int64_t>(limit - used(taken, x.name), 0, may);
    const bool headed = x.role == 0 && !(x.flags & static_cast<std::uint16_t>(QuantityFlags::REVOCABLE));
    if (headed) {
      if (const std::int64_t head = headroom(role, x.name); head != kNoBound)
        may = std::clamp<std::int64_t>(head - used(free_taken, x.name), 0, may);
    }
    if (may < x.milli && x.role != 0) may = 0;  // reservations may be indivisible: all of it or nothing
    if (limit != kNoBound) used(taken, x.name) += may;
    if (headed) used(free_taken, x.name) += may;
    if (may == x.milli) continue;
    x.milli = may;
    now_.bundle_whole = false;
    bounded_ = true;
  }
  std::erase_if(bundle_, [](const Amount& x) { return x.milli <= 0; });
}

// Which alternatives of what is worth an offer the role can meet on no agent without reservations, whatever that has. So a
// role that has used up its cpus is passed over where there is nothing but cpus.
std::uint64_t Engine::hopeless(std::uint32_t role) const {
  if (min_any_ || min_ids_.size() > 64 || !bounded(role)) return 0;
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < min_ids_.size(); ++i)
    for (const auto& need : min_ids_[i])
      if (std::min(room(role, need.first, 0), headroom(role, need.first)) < need.second) out |= std::uint64_t{1} << i;
  return out;
}

std::uint64_t Engine::possible(const Agent& a) const {
  if (min_any_ || min_ids_.size() > 64) return ~std::uint64_t{0};
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < min_ids_.size(); ++i) {
    const bool enough = std::all_of(min_ids_[i].begin(), min_ids_[i].end(), [&](const auto& need) {
      std::int64_t sum = 0;
      for (const auto& x : a.available)
        if (x.name == need.first) sum = plus(sum, x.milli);
      return sum >= need.second;
    });
    if (enough) out |= std::uint64_t{1} << i;
  }
  return out;
}

}  // namespace gantry::allocator_drf
