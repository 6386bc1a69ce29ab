// Roles as operators shape them: weights, and quota (mesos-kernel.md A2, A5).
//
// A role with quota may never have more than its limits: what is allocated to it and the roles below it, on offer or in use,
// and what is reserved for them, in use or not. So that a grant can be judged at once this is counted as it changes, but
// only while there is quota at all, and only for roles that have one. What is reserved for a role is counted where it is
// reserved, so an allocation of it counts only for roles below that one.
#include "kernel/master/core.hpp"
#include "kernel/resource/volumes.hpp"

#include <gantry/state_generated.h>

#include <gantry/operator_generated.h>

#include <algorithm>
#include <cmath>

namespace gantry::master {

namespace om = fb::master;
namespace st = fb::state;

namespace {

constexpr double kMostAmount = 1e12;

Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

std::string number(double d) {
  char text[64];
  std::snprintf(text, sizeof text, "%.10g", d);
  return text;
}
std::string text_of_amounts(const RoleAmounts& amounts) {
  std::string out = "{";
  for (const auto& [name, milli] : amounts)
    out += (out.size() > 1 ? ", '" : "'") + std::string(resource::text_of(name)) + "': " + resource::Scalar::milli(milli).text();
  return out + "}";
}

using Entries = flatbuffers::Vector<flatbuffers::Offset<fb::ScalarEntry>>;

Result<RoleAmounts> read_amounts(const Entries* entries, const char* what) {
  RoleAmounts out;
  if (!entries) return out;
  std::string shown = "{";
  for (const auto* e : *entries)
    shown += (shown.size() > 1 ? ", '" : "'") + std::string(text(e->key())) + "': " + number(e->value());
  shown += "}";
  const auto refuse = [&](const char* why) {
    return invalid("Invalid QuotaConfig: Invalid " + std::string(what) + " configuration " + shown + ": " + why);
  };
  for (const auto* e : *entries) {
    if (text(e->key()).empty()) return refuse("a resource has no name");
    if (!std::isfinite(e->value())) return refuse("Infinite values not supported");
    if (e->value() < 0) return refuse("Negative values not supported");
    if (e->value() > kMostAmount) return refuse("Values over 1e12 not supported");
    const auto name = resource::intern_name(text(e->key()));
    if (name == resource::NameId::ports) return refuse("Only scalar resources supported");
    out[name] = resource::Scalar::of(e->value()).milli();
  }
  return out;
}

std::vector<std::unique_ptr<fb::ScalarEntryT>> entries(const RoleAmounts& amounts) {
  std::vector<std::unique_ptr<fb::ScalarEntryT>> out;
  for (const auto& [name, milli] : amounts) {
    auto e = std::make_unique<fb::ScalarEntryT>();
    e->key = resource::text_of(name);
    e->value = resource::Scalar::milli(milli).value();
    out.push_back(std::move(e));
  }
  return out;
}

std::string bad_role(std::string_view role) {
  if (auto s = resource::validate_role(role); !s) return s.error().message;
  return {};
}

store::Op weight_record(RoleId role, double weight) {
  st::RoleT row;
  row.name = resource::text_of(role);
  row.weight = weight;
  return {"weight/" + store::key_segment(row.name), pack(row)};
}

}  // namespace

st::RoleT Core::role_row(RoleId role) const {
  st::RoleT row;
  row.name = resource::text_of(role);
  const auto it = role_settings_.find(role);
  if (it == role_settings_.end()) return row;
  row.weight = it->second.weight;
  if (it->second.limited) {
    row.quota = std::make_unique<om::QuotaConfigT>();
    row.quota->role = row.name;
    row.quota->guarantees = entries(it->second.guarantees);
    row.quota->limits = entries(it->second.limits);
  }
  return row;
}

// ---- weights

void Core::update_weights(const om::UpdateWeights& u, RequestId request) {
  struct Change {
    RoleId role;
    double weight;
  };
  std::vector<Change> changes;
  std::vector<store::Op> ops;
  if (u.weight_infos()) {
    for (const auto* w : *u.weight_infos()) {
      const std::string role(text(w->role()));
      const auto refuse = [&](const std::string& why) {
        answer(request, invalid("Failed to validate update weights request JSON for role '" + role + "': " + why));
      };
      if (const auto why = bad_role(role); !why.empty()) return refuse("Invalid role '" + role + "': " + why);
      if (!(w->weight() > 0) || !std::isfinite(w->weight()))
        return refuse("Invalid weight '" + number(w->weight()) + "': Weights must be positive");
      changes.push_back({resource::intern_role(role), w->weight()});
      ops.push_back(weight_record(changes.back().role, w->weight()));
    }
  }
  if (changes.empty()) return answer(request, ok);
  persist(std::move(ops), [this, changes = std::move(changes), request](Status stored) {
    if (!stored) return answer(request, std::move(stored).error().because("the weights could not be stored"));
    bool used = false;
    for (const auto& c : changes) {
      role_settings_[c.role].weight = c.weight;
      role_settings_[c.role].weighted = true;
      touch_role(c.role);
      used = used || std::any_of(framework_by_id_.begin(), framework_by_id_.end(), [&](const auto& f) {
        const auto& roles = frameworks_[f.second].roles;
        return std::any_of(roles.begin(), roles.end(), [&](RoleId r) { return resource::is_within(r, c.role); });
      });
    }
    // What is on offer was shared out by the old weights.
    if (used)
      for (Handle h = 1; h < agents_.end(); ++h)
        if (agents_.contains(h) && agents_[h].first_offer) withdraw_all_of_agent(h, true);
    answer(request, ok);
  });
}

// ---- quota

Result<Core::RoleQuota> Core::read_quota(const om::QuotaConfig& q) const {
  const std::string role(text(q.role()));
  if (const auto why = bad_role(role); !why.empty()) return invalid("Invalid QuotaConfig: Invalid 'QuotaConfig.role': " + why);
  if (role == "*")
    return invalid("Invalid QuotaConfig: Invalid 'QuotaConfig.role': setting quota on the default role '*' is not supported");
  RoleQuota out;
  out.role = resource::intern_role(role);
  GANTRY_TRY(out.guarantees, read_amounts(q.guarantees(), "guarantee"));
  GANTRY_TRY(out.limits, read_amounts(q.limits(), "limit"));
  for (const auto& [name, milli] : out.guarantees) {
    const auto limit = out.limits.find(name);
    if (limit != out.limits.end() && milli > limit->second)
      return invalid("Invalid QuotaConfig: 'QuotaConfig.guarantees' " + text_of_amounts(out.guarantees) +
                     " is not contained within the 'QuotaConfig.limits' " + text_of_amounts(out.limits));
  }
  return out;
}

// With the changes made: guarantees of children within those of their parent, in the limits of every role above.
Status Core::check_hierarchy(const std::vector<RoleQuota>& changes) const {
  std::map<RoleId, RoleQuota> all;
  for (const auto& [role, s] : role_settings_)
    if (s.limited) all[role] = {role, s.guarantees, s.limits};
  for (const auto& c : changes) all[c.role] = c;
  std::map<RoleId, RoleAmounts> children;  // sums of guarantees
  for (const auto& [role, q] : all) {
    RoleId up = resource::parent_of(role);
    while (up != RoleId::none && !all.contains(up)) up = resource::parent_of(up);
    if (up == RoleId::none) continue;
    for (const auto& [name, milli] : q.guarantees) children[up][name] += milli;
  }
  for (const auto& [role, sums] : children) {
    const auto& q = all.at(role);
    for (const auto& [name, milli] : sums) {
      const auto g = q.guarantees.find(name), l = q.limits.find(name);
      const std::string who = "the roles below '" + std::string(resource::text_of(role)) + "' " + text_of_amounts(sums);
      if (g != q.guarantees.end() && milli > g->second)
        return invalid("Invalid QuotaConfig: the guarantees of " + who + " are more than its own " + text_of_amounts(q.guarantees));
      if (l != q.limits.end() && milli > l->second)
        return invalid("Invalid QuotaConfig: the guarantees of " + who + " are more than its limits " + text_of_amounts(q.limits));
    }
  }
  return ok;
}

// What the operator may not mean: less than is in use, more than there is.
Status Core::check_capacity(const std::vector<RoleQuota>& changes) const {
  for (const auto& c : changes) {
    RoleAmounts used = sum_of_role(c.role, false);
    for (const auto& [name, limit] : c.limits) {
      if (used[name] <= limit) continue;
      return invalid("Invalid QuotaConfig: Role '" + std::string(resource::text_of(c.role)) + "' is already consuming " +
                     text_of_amounts(used) + "; this is more than the requested limits " + text_of_amounts(c.limits) +
                     " (use 'force' flag to bypass this check)");
    }
  }
  RoleAmounts guaranteed, capacity;
  std::map<RoleId, const RoleAmounts*> all;
  for (const auto& [role, s] : role_settings_) all[role] = &s.guarantees;
  for (const auto& c : changes) all[c.role] = &c.guarantees;
  for (const auto& [role, amounts] : all) {
    RoleId up = resource::parent_of(role);
    while (up != RoleId::none && !(all.contains(up) && !all.at(up)->empty())) up = resource::parent_of(up);
    if (up != RoleId::none) continue;  // within its parent's
    for (const auto& [name, milli] : *amounts) guaranteed[name] += milli;
  }
  if (guaranteed.empty()) return ok;
  for (Handle h = 1; h < agents_.end(); ++h) {
    if (!agents_.contains(h) || agents_[h].state != AgentState::registered) continue;
    for (const auto& r : agents_[h].total)
      if (!r.revocable() && r.type() == resource::Type::scalar) capacity[r.name()] += r.value().scalar().milli();
  }
  for (const auto& [name, milli] : guaranteed) {
    const auto it = capacity.find(name);
    if (milli <= (it == capacity.end() ? 0 : it->second)) continue;
    return invalid("Invalid QuotaConfig: the total guarantees " + text_of_amounts(guaranteed) + " are more than the cluster has, " +
                   text_of_amounts(capacity) + " (use 'force' flag to bypass this check)");
  }
  return ok;
}

void Core::update_quota(const om::UpdateQuota& u, RequestId request) {
  std::vector<RoleQuota> changes;
  if (u.quota_configs()) {
    for (const auto* q : *u.quota_configs()) {
      auto one = read_quota(*q);
      if (!one) return answer(request, one.error());
      if (std::any_of(changes.begin(), changes.end(), [&](const auto& c) { return c.role == one->role; }))
        return answer(request, invalid("Invalid QuotaConfig: Role '" + std::string(text(q->role())) + "' is given twice"));
      changes.push_back(std::move(*one));
    }
  }
  set_quota(std::move(changes), u.force().value_or(false), request);
}

// The older form: what is guaranteed is the limit, too.
void Core::set_old_quota(const om::QuotaRequest& q, RequestId request) {
  const std::string role(text(q.role()));
  const auto refuse = [&](std::string why) { answer(request, invalid("Failed to validate set quota request: " + why)); };
  if (const auto why = bad_role(role); !why.empty()) return refuse("QuotaInfo with invalid role: " + why);
  if (role == "*") return refuse("setting quota on the default role '*' is not supported");
  RoleQuota change;
  change.role = resource::intern_role(role);
  if (const auto it = role_settings_.find(change.role); it != role_settings_.end() && it->second.limited)
    return answer(request, invalid("Failed to validate set quota request: Cannot set quota for role '" + role +
                                   "' which already has quota"));
  if (!q.guarantee() || q.guarantee()->size() == 0) return refuse("QuotaInfo with empty 'guarantee'");
  for (const auto* r : *q.guarantee()) {
    const auto name = text(r->name());
    if (r->type() != fb::ValueType::SCALAR || !r->scalar()) return refuse("QuotaInfo must not include non-scalar resources");
    if ((r->reservations() && r->reservations()->size()) || r->revocable() || r->disk() || r->shared())
      return refuse("QuotaInfo must not contain reserved, revocable, shared or disk resources");
    if (!std::isfinite(*r->scalar()) || *r->scalar() < 0 || *r->scalar() > kMostAmount)
      return refuse("QuotaInfo with an invalid amount of '" + std::string(name) + "'");
    const auto id = resource::intern_name(name);
    if (change.guarantees.contains(id)) return refuse("QuotaInfo contains duplicate resource name '" + std::string(name) + "'");
    change.guarantees[id] = resource::Scalar::of(*r->scalar()).milli();
  }
  change.limits = change.guarantees;
  std::vector<RoleQuota> changes;
  changes.push_back(std::move(change));
  set_quota(std::move(changes), q.force().value_or(false), request);
}

void Core::remove_quota(std::string_view role, RequestId request) {
  if (const auto why = bad_role(role); !why.empty())
    return answer(request, invalid("Failed to remove quota for role '" + std::string(role) + "': " + why));
  const auto it = role_settings_.find(resource::intern_role(role));
  if (it == role_settings_.end() || !it->second.limited)
    return answer(request, invalid("Failed to remove quota for role '" + std::string(role) + "': Role '" + std::string(role) +
                                   "' has no quota set"));
  RoleQuota none;
  none.role = it->first;
  std::vector<RoleQuota> changes;
  changes.push_back(std::move(none));
  set_quota(std::move(changes), true, request);
}

// All of them or none.
void Core::set_quota(std::vector<RoleQuota> changes, bool force, RequestId request) {
  if (auto s = check_hierarchy(changes); !s) return answer(request, std::move(s));
  if (!force)
    if (auto s = check_capacity(changes); !s) return answer(request, std::move(s));
  if (changes.empty()) return answer(request, ok);
  std::vector<store::Op> ops;
  for (const auto& c : changes) {
    const std::string key = "quota/" + store::key_segment(resource::text_of(c.role));
    if (c.guarantees.empty() && c.limits.empty()) {
      ops.push_back({key, std::nullopt});
      continue;
    }
    st::RoleT row;
    row.name = resource::text_of(c.role);
    row.quota = std::make_unique<om::QuotaConfigT>();
    row.quota->role = row.name;
    row.quota->guarantees = entries(c.guarantees);
    row.quota->limits = entries(c.limits);
    ops.push_back({key, pack(row)});
  }
  persist(std::move(ops), [this, changes = std::move(changes), request](Status stored) {
    if (!stored) return answer(request, std::move(stored).error().because("the quota could not be stored"));
    for (const auto& c : changes) apply_quota(c);
    count_roles();
    for (const auto& c : changes) rescind_beyond_limits(c.role);
    rescind_for_guarantees();
    answer(request, ok);
  });
}

void Core::apply_quota(const RoleQuota& q) {
  RoleSettings& s = role_settings_[q.role];
  const bool limited = !(q.guarantees.empty() && q.limits.empty());
  quotas_ += static_cast<std::size_t>(limited);
  quotas_ -= static_cast<std::size_t>(s.limited);
  s.limited = limited;
  s.guarantees = q.guarantees;
  s.limits = q.limits;
  touch_role(q.role);
}

// Tells the allocator and followers.
void Core::touch_role(RoleId role) {
  note_role_row(role);
  const auto i = static_cast<std::size_t>(role);
  if (i < known_roles_.size() && known_roles_[i]) {
    if (std::find(new_roles_.begin(), new_roles_.end(), role) == new_roles_.end()) new_roles_.push_back(role);
  } else {
    note_role(role);
  }
  poke_ = true;
}

// ---- counting

namespace {
void add_amount(RoleAmounts& to, const resource::Resource& r, int sign) {
  const std::int64_t milli = sign * r.value().scalar().milli();
  auto [it, fresh] = to.try_emplace(r.name(), milli);
  if (!fresh && (it->second += milli) == 0) to.erase(it);
}
}  // namespace

// `r` is allocated to the role now, or no longer.
void Core::count_allocated(RoleId role, const Resources& resources, int sign) {
  if (quotas_ == 0) return;
  for (RoleId up = role; up != RoleId::none; up = resource::parent_of(up)) {
    const auto it = role_settings_.find(up);
    if (it == role_settings_.end() || !it->second.limited) continue;
    for (const auto& r : resources)
      if (r.type() == resource::Type::scalar && !(r.reserved() && resource::is_within(r.reservation_role(), up)))
        add_amount(it->second.allocated, r, sign);
  }
}
// An agent with these resources has come, or gone.
void Core::count_reserved(const Resources& total, int sign) {
  if (quotas_ == 0) return;
  for (const auto& r : total) {
    if (!r.reserved() || r.type() != resource::Type::scalar) continue;
    for (RoleId up = r.reservation_role(); up != RoleId::none; up = resource::parent_of(up))
      if (const auto it = role_settings_.find(up); it != role_settings_.end() && it->second.limited)
        add_amount(it->second.reserved, r, sign);
  }
}

void Core::set_total(Handle h, Resources total) {
  Agent& a = agents_[h];
  count_reserved(a.total, -1);
  a.total = std::move(total);
  count_reserved(a.total, +1);
}

// Everything that is allocated now, on offer, in use or on its way.
template <class F>
void Core::each_allocation(F fn) const {
  for (Handle h = 1; h < tasks_.end(); ++h)
    if (tasks_.contains(h) && !tasks_[h].released) fn(tasks_[h].role, tasks_[h].resources);
  for (const auto& [agent, list] : executors_)
    for (const auto& e : list) fn(e.role, e.resources);
  for (Handle h = 1; h < offers_.end(); ++h)
    if (offers_.contains(h)) fn(offers_[h].role, offers_[h].resources);
  for (const auto& [cookie, p] : pending_)
    if (p.kind == Pending::Kind::accept) fn(p.role, p.before);
}

// From the beginning: quota has changed.
void Core::count_roles() {
  for (auto& [role, s] : role_settings_) s.allocated.clear(), s.reserved.clear();
  if (quotas_ == 0) return;
  each_allocation([this](RoleId role, const Resources& r) { count_allocated(role, r, +1); });
  for (Handle h = 1; h < agents_.end(); ++h)
    if (agents_.contains(h)) count_reserved(agents_[h].total, +1);
}

// The same for one role, without counters; `offered`: with what is only on offer. Walks everything.
RoleAmounts Core::sum_of_role(RoleId role, bool offered) const {
  RoleAmounts out;
  const auto add = [&](RoleId to, const Resources& resources) {
    if (!resource::is_within(to, role)) return;
    for (const auto& r : resources)
      if (r.type() == resource::Type::scalar && !(r.reserved() && resource::is_within(r.reservation_role(), role)))
        add_amount(out, r, +1);
  };
  for (Handle h = 1; h < tasks_.end(); ++h)
    if (tasks_.contains(h) && !tasks_[h].released) add(tasks_[h].role, tasks_[h].resources);
  for (const auto& [agent, list] : executors_)
    for (const auto& e : list) add(e.role, e.resources);
  for (const auto& [cookie, p] : pending_)
    if (p.kind == Pending::Kind::accept) add(p.role, p.before);
  for (Handle h = 1; offered && h < offers_.end(); ++h)
    if (offers_.contains(h)) add(offers_[h].role, offers_[h].resources);
  for (Handle h = 1; h < agents_.end(); ++h) {
    if (!agents_.contains(h)) continue;
    for (const auto& r : agents_[h].total)
      if (r.reserved() && r.type() == resource::Type::scalar && resource::is_within(r.reservation_role(), role))
        add_amount(out, r, +1);
  }
  return out;
}

Status Core::check_roles() const {
  for (const auto& [role, s] : role_settings_) {
    RoleAmounts counted;
    for (const auto* part : {&s.allocated, &s.reserved})
      for (const auto& [name, milli] : *part)
        if ((counted[name] += milli) == 0) counted.erase(name);
    if (!s.limited || quotas_ == 0) counted.clear();
    const RoleAmounts real = s.limited ? sum_of_role(role, true) : RoleAmounts();
    if (counted != real)
      return fail(Code::internal, "the master's books are wrong: role " + std::string(resource::text_of(role)) + " has " +
                                      text_of_amounts(real) + ", and " + text_of_amounts(counted) + " is counted");
  }
  return ok;
}

// ---- enforcing

// The part of what would be granted that the limits of the role and those above it leave; what is reserved for a role was
// counted when it was reserved.
Resources Core::within_limits(RoleId role, const Resources& bundle) const {
  if (quotas_ == 0) return bundle;
  Resources out = bundle;
  for (RoleId up = role; up != RoleId::none; up = resource::parent_of(up)) {
    const auto it = role_settings_.find(up);
    if (it == role_settings_.end() || it->second.limits.empty()) continue;
    const RoleSettings& s = it->second;
    for (const auto& [name, limit] : s.limits) {
      std::int64_t room = limit;
      for (const auto* part : {&s.allocated, &s.reserved})
        if (const auto has = part->find(name); has != part->end()) room -= has->second;
      Resources rest;
      for (const auto& r : out) {
        if (r.name() != name || r.type() != resource::Type::scalar ||
            (r.reserved() && resource::is_within(r.reservation_role(), up))) {
          rest += r;
          continue;
        }
        const std::int64_t has = r.value().scalar().milli();
        const std::int64_t part = std::clamp<std::int64_t>(room, 0, has);
        room -= part;
        if (part < has && !r.divisible()) {
          room += part;
          continue;
        }
        resource::Resource piece = r;
        piece.set_value(resource::Scalar::milli(part));
        rest += piece;
      }
      out = std::move(rest);
    }
  }
  return out;
}

// Offers that take a role beyond its limits are taken back; what is in use stays.
void Core::rescind_beyond_limits(RoleId role) {
  const auto it = role_settings_.find(role);
  if (it == role_settings_.end()) return;
  const auto beyond = [&](resource::NameId name, std::int64_t limit) {
    std::int64_t has = 0;
    for (const auto* part : {&it->second.allocated, &it->second.reserved})
      if (const auto at = part->find(name); at != part->end()) has += at->second;
    return has > limit;
  };
  for (Handle h = 1; h < offers_.end(); ++h) {
    if (!offers_.contains(h) || !resource::is_within(offers_[h].role, role)) continue;
    for (const auto& [name, limit] : it->second.limits) {
      const auto n = name;
      const bool helps = std::any_of(offers_[h].resources.begin(), offers_[h].resources.end(), [&](const auto& r) {
        return r.name() == n && !(r.reserved() && resource::is_within(r.reservation_role(), role));
      });
      if (helps && beyond(name, limit)) {
        withdraw(h, true);
        break;
      }
    }
  }
}

// What others are offered must not be what is guaranteed: taken back until enough is free.
void Core::rescind_for_guarantees() {
  RoleAmounts missing;
  for (const auto& [role, s] : role_settings_) {
    RoleId up = resource::parent_of(role);
    while (up != RoleId::none && !(role_settings_.contains(up) && !role_settings_.at(up).guarantees.empty()))
      up = resource::parent_of(up);
    if (up != RoleId::none) continue;
    for (const auto& [name, milli] : s.guarantees) {
      std::int64_t has = 0;
      for (const auto* part : {&s.allocated, &s.reserved})
        if (const auto at = part->find(name); at != part->end()) has += at->second;
      if (milli > has) missing[name] += milli - has;
    }
  }
  if (missing.empty()) return;
  for (Handle h = 1; h < agents_.end(); ++h) {
    if (!agents_.contains(h) || !agents_[h].active) continue;
    for (const auto& r : agents_[h].available)
      if (const auto it = missing.find(r.name()); it != missing.end() && !r.reserved() && !r.revocable())
        if ((it->second -= r.value().scalar().milli()) <= 0) missing.erase(it);
  }
  for (Handle h = 1; h < offers_.end() && !missing.empty(); ++h) {
    if (!offers_.contains(h)) continue;
    bool guaranteed = false;
    for (RoleId up = offers_[h].role; up != RoleId::none; up = resource::parent_of(up))
      if (const auto it = role_settings_.find(up); it != role_settings_.end() && !it->second.guarantees.empty()) guaranteed = true;
    if (guaranteed) continue;
    bool helps = false;
    for (const auto& r : offers_[h].resources) {
      const auto it = missing.find(r.name());
      if (it == missing.end() || r.reserved() || r.revocable()) continue;
      helps = true;
      if ((it->second -= r.value().scalar().milli()) <= 0) missing.erase(it);
    }
    if (helps) withdraw(h, true);
  }
}

bool Core::awaits_agents() {
  if (awaited_ && (registered_ >= awaited_ || now_ >= awaited_until_ || quotas_ == 0)) awaited_ = 0;
  return awaited_ != 0;
}

// ---- recovery

Status Core::recover_role(const st::Role& r, bool quota) {
  const RoleId role = resource::intern_role(text(r.name()));
  if (!quota) {
    role_settings_[role].weight = r.weight() > 0 ? r.weight() : 1;
    role_settings_[role].weighted = true;
    return ok;
  }
  if (!r.quota()) return fail(Code::data_loss, "a record of quota without quota");
  GANTRY_TRY(const RoleQuota q, read_quota(*r.quota()));
  apply_quota(q);
  return ok;
}

}  // namespace gantry::master
