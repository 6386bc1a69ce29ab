// The conversation with the allocator: deltas out, rounds in, every grant checked against the books.
//
// Both sides keep the same `available` of each agent (allocator.fbs, "who counts what"). So while a round is under way
// nothing is added to it: what comes back waits in returns_. If the books of an agent must change otherwise (it
// returned, left, a grant of it was dropped), it is stale: further grants of it in this round are dropped, then it is
// sent in full.
#include "kernel/master/core.hpp"

#include <algorithm>

namespace gantry::master {

using base::Level;
namespace al = fb::allocator;

void Core::note_name(resource::NameId name) {
  const auto i = static_cast<std::size_t>(name);
  if (known_names_.size() <= i) known_names_.resize(i + 16);
  if (known_names_[i]) return;
  known_names_[i] = true;
  new_names_.push_back(name);
}
void Core::note_role(RoleId role) {
  if (role == RoleId::none) return;
  const auto i = static_cast<std::size_t>(role);
  if (known_roles_.size() <= i) known_roles_.resize(i + 16);
  if (known_roles_[i]) return;
  note_role(resource::parent_of(role));  // parents first
  known_roles_[i] = true;
  new_roles_.push_back(role);
}

void Core::note_held(Handle framework, RoleId role, const Resources& r, int sign) {
  count_allocated(role, r, sign);
  if (reset_ || !framework) return;  // reset: the whole state is about to be told
  note_role(role);
  for (const auto& q : r) {
    note_name(q.name());
    const auto role_id = static_cast<std::uint32_t>(role), name = static_cast<std::uint32_t>(q.name());
    const std::int64_t amount = sign * q.value().amount();
    const std::uint64_t hash = mix((std::uint64_t{framework} << 32 | role_id) ^ (std::uint64_t{name} << 48));
    const Handle at = held_index_.find(hash, [&](Handle h) {
      const auto& x = held_[h - 1];
      return x.framework() == framework && x.role() == role_id && x.name() == name;
    });
    if (at) {
      held_[at - 1] = fb::allocator::Held(framework, role_id, name, 0, held_[at - 1].amount() + amount);
    } else {
      held_.emplace_back(framework, role_id, name, 0, amount);
      held_index_.insert(hash, static_cast<Handle>(held_.size()));
    }
  }
}

void Core::give_back(Handle agent, Handle framework, RoleId role, const Resources& r) {
  if (r.empty()) return;
  note_held(framework, role, r, -1);
  Agent& a = agents_[agent];
  if (a.state != AgentState::registered && a.state != AgentState::marking) return;
  if (a.overdrawn) return recount(agent);
  if (in_flight_) {
    returns_[agent] += r;
  } else {
    a.available += r;
    touch_agent(agent);
  }
}

void Core::replace_available(Handle h, Resources now_available) {
  Agent& a = agents_[h];
  if (in_flight_ && a.told) stale_.insert(h);
  returns_.erase(h);
  a.available = std::move(now_available);
}

// What comes back first pays for what the agent no longer has.
void Core::recount(Handle h) {
  Agent& a = agents_[h];
  Resources taken;
  for (Handle t = a.first_task; t; t = tasks_[t].of_agent.next)
    if (!tasks_[t].released) taken += tasks_[t].resources;
  taken += executor_resources(h);
  for (Handle o = a.first_offer; o; o = offers_[o].of_agent.next) taken += offers_[o].resources;
  for (const auto& [cookie, p] : pending_)
    if (p.limbo() && p.agent == h && p.epoch == a.epoch) taken += p.before;
  a.overdrawn = !a.total.contains(taken);
  replace_available(h, a.total.without(taken));
  touch_agent(h);
}

void Core::touch_agent(Handle h) {
  Agent& a = agents_[h];
  if (a.dirty) return;
  a.dirty = true;
  dirty_agents_.push_back(h);
}
void Core::touch_total(Handle h) {
  agents_[h].send_total = true;
  note_agent(h);
  touch_agent(h);
}
void Core::touch_framework(Handle h) {
  note_framework(h);
  Framework& f = frameworks_[h];
  if (f.dirty) return;
  f.dirty = true;
  dirty_frameworks_.push_back(h);
}
void Core::agent_gone(Handle h) {
  replace_available(h, {});
  set_total(h, {});
  agents_[h].tell_gone = true;
  touch_agent(h);
}
void Core::framework_gone(Handle h) {
  frameworks_[h].tell_gone = true;
  touch_framework(h);
}

void Core::flush_allocator() {
  if (in_flight_ || now_ < allocator_retry_ || now_ < lull_ || awaits_agents()) return;
  if (!reset_ && !poke_ && dirty_agents_.empty() && dirty_frameworks_.empty() && filters_.empty() && unfilters_.empty())
    return;
  out_->emplace_back(Allocate{build_deltas()});
  in_flight_ = true;
  poke_ = false;
  wake_ = Instant::max();
  ++counters_.rounds;
}

Buffer Core::build_deltas() {
  if (reset_) {
    held_.clear();
    held_index_ = Index();
    filters_.clear();
    unfilters_.clear();
    new_names_.clear();
    new_roles_.clear();
    known_names_.clear();
    known_roles_.clear();
    reset_ = false;
    for (Handle h = 1; h < frameworks_.end(); ++h)
      if (frameworks_.contains(h)) touch_framework(h);
    for (Handle h = 1; h < agents_.end(); ++h) {
      if (!agents_.contains(h)) continue;
      if (agents_[h].state == AgentState::registered || agents_[h].tell_gone) touch_total(h);
    }
    for (Handle h = 1; h < tasks_.end(); ++h)
      if (tasks_.contains(h) && !tasks_[h].released)
        note_held(tasks_[h].framework, tasks_[h].role, tasks_[h].resources, +1);
    for (const auto& [agent, list] : executors_)
      for (const auto& e : list) note_held(e.framework, e.role, e.resources, +1);
    for (Handle h = 1; h < offers_.end(); ++h)
      if (offers_.contains(h)) note_held(offers_[h].framework, offers_[h].role, offers_[h].resources, +1);
    for (const auto& [cookie, p] : pending_)
      if (p.kind == Pending::Kind::accept) note_held(p.handle, p.role, p.before, +1);
    for (const auto& [role, s] : role_settings_) note_role(role);
    count_roles();  // note_held has just counted everything a second time
    reset_ = true;
  }
  flatbuffers::FlatBufferBuilder b(1024 + 160 * dirty_agents_.size() + 24 * held_.size());
  std::vector<flatbuffers::Offset<al::AgentDelta>> agents;
  agents.reserve(dirty_agents_.size());
  std::vector<al::Quantity> row;
  std::vector<resource::Quantity> counted;
  const auto quantities = [&](const Resources& r) {
    row.clear();
    r.quantities(counted);
    for (const auto& q : counted) {
      note_name(q.name);
      note_role(q.role);
      row.emplace_back(static_cast<std::uint32_t>(q.name), static_cast<std::uint32_t>(q.role), q.flags, 0, q.milli);
    }
    return b.CreateVectorOfStructs(row);
  };
  for (std::size_t i = 0; i < dirty_agents_.size(); ++i) {
    if (i + 12 < dirty_agents_.size()) agents_.prefetch(dirty_agents_[i + 12]);
    if (i + 8 < dirty_agents_.size()) agents_[dirty_agents_[i + 8]].available.prefetch_entries();
    if (i + 4 < dirty_agents_.size()) agents_[dirty_agents_[i + 4]].available.prefetch_values();
    const Handle h = dirty_agents_[i];
    Agent& a = agents_[h];
    a.dirty = false;
    if (a.tell_gone) {
      if (a.told && !reset_) {
        al::AgentDeltaBuilder d(b);
        d.add_id(h);
        d.add_gone(true);
        agents.push_back(d.Finish());
      }
      a.told = a.tell_gone = a.send_total = false;
      if (a.state == AgentState::departed) agents_.erase(h);
      continue;
    }
    if (a.state != AgentState::registered && !a.told) continue;
    if (a.renew && a.told && !reset_) {  // as if another had come in its place: what was refused of it counts no more
      al::AgentDeltaBuilder d(b);
      d.add_id(h);
      d.add_gone(true);
      agents.push_back(d.Finish());
    }
    const bool whole = a.send_total || a.renew || !a.told || reset_;
    a.renew = false;
    const auto total = whole ? quantities(a.total) : 0;
    const auto available = quantities(a.available);
    al::AgentDeltaBuilder d(b);
    d.add_id(h);
    if (whole) d.add_total(total);
    d.add_available(available);
    d.add_active(a.active);
    agents.push_back(d.Finish());
    a.told = true;
    a.send_total = false;
  }
  dirty_agents_.clear();

  std::vector<flatbuffers::Offset<al::FrameworkDelta>> frameworks;
  for (const Handle h : dirty_frameworks_) {
    Framework& f = frameworks_[h];
    f.dirty = false;
    if (f.tell_gone) {
      if (f.told && !reset_) {
        al::FrameworkDeltaBuilder d(b);
        d.add_id(h);
        d.add_gone(true);
        frameworks.push_back(d.Finish());
      }
      frameworks_.erase(h);
      continue;
    }
    const auto ids = [&](const std::vector<RoleId>& roles) {
      std::vector<std::uint32_t> out;
      for (const RoleId r : roles) {
        note_role(r);
        out.push_back(static_cast<std::uint32_t>(r));
      }
      return b.CreateVector(out);
    };
    const auto roles = ids(f.roles), suppressed = ids(f.suppressed);
    al::FrameworkDeltaBuilder d(b);
    d.add_id(h);
    d.add_roles(roles);
    d.add_suppressed(suppressed);
    d.add_flags(f.allocator_flags);
    d.add_active(f.connected() && !f.removing);
    frameworks.push_back(d.Finish());
    f.told = true;
  }
  dirty_frameworks_.clear();

  std::vector<flatbuffers::Offset<al::Filter>> filters;
  for (const auto& f : filters_) {
    row.clear();
    for (const auto& q : f.refused)
      row.emplace_back(static_cast<std::uint32_t>(q.name), static_cast<std::uint32_t>(q.role), q.flags, 0, q.milli);
    const auto refused = b.CreateVectorOfStructs(row);
    filters.push_back(al::CreateFilter(b, f.framework, static_cast<std::uint32_t>(f.role), f.agent,
                                       static_cast<std::uint64_t>(f.until.count()), refused));
  }
  filters_.clear();

  std::vector<flatbuffers::Offset<al::Name>> names;
  for (const auto n : new_names_) {
    const auto s = resource::text_of(n);
    const auto name = b.CreateString(s.data(), s.size());
    names.push_back(al::CreateName(b, static_cast<std::uint32_t>(n), name));
  }
  new_names_.clear();
  std::vector<flatbuffers::Offset<al::Role>> roles;
  for (const auto r : new_roles_) {
    const auto s = resource::text_of(r);
    const auto name = b.CreateString(s.data(), s.size());
    const auto settings = role_settings_.find(r);
    const bool limited = settings != role_settings_.end() && settings->second.limited;
    flatbuffers::Offset<flatbuffers::Vector<const al::Amount*>> limits, guarantees;
    if (limited) {
      const auto amounts = [&](const RoleAmounts& from) {
        std::vector<al::Amount> list;
        for (const auto& [n, milli] : from) list.emplace_back(static_cast<std::uint32_t>(n), 0, milli);
        return b.CreateVectorOfStructs(list);
      };
      limits = amounts(settings->second.limits);
      guarantees = amounts(settings->second.guarantees);
    }
    roles.push_back(al::CreateRole(b, static_cast<std::uint32_t>(r), name, static_cast<std::uint32_t>(resource::parent_of(r)),
                                   settings == role_settings_.end() ? 1 : settings->second.weight, limited, limits, guarantees));
  }
  new_roles_.clear();

  const auto names_at = b.CreateVector(names);
  const auto roles_at = b.CreateVector(roles);
  const auto frameworks_at = b.CreateVector(frameworks);
  const auto agents_at = b.CreateVector(agents);
  const auto held_at = b.CreateVectorOfStructs(held_);
  const auto filters_at = b.CreateVector(filters);
  const auto unfilters_at = b.CreateVectorOfStructs(unfilters_);
  al::DeltasBuilder d(b);
  d.add_now_ns(static_cast<std::uint64_t>(now_.count()));
  d.add_reset(reset_);
  if (!names.empty()) d.add_names(names_at);
  if (!roles.empty()) d.add_roles(roles_at);
  if (!frameworks.empty()) d.add_frameworks(frameworks_at);
  if (!agents.empty()) d.add_agents(agents_at);
  if (!held_.empty()) d.add_held(held_at);
  if (!filters.empty()) d.add_filters(filters_at);
  if (!unfilters_.empty()) d.add_unfilters(unfilters_at);
  b.Finish(d.Finish());
  held_.clear();
  held_index_ = Index();
  unfilters_.clear();
  reset_ = false;
  return Buffer(b.Release());
}

void Core::on_round(const RoundDone& e) {
  if (!in_flight_) return;
  const auto* round = view<al::Round>(e.round);
  if (!round) {
    ++counters_.bad_grants;
    log(Level::error, "the allocator answered with a malformed round; it is told everything again");
    end_round();
    reset_ = true;
    allocator_retry_ = now_ + options_.retry;
    return;
  }
  std::vector<std::pair<Handle, Handle>> made;
  std::vector<resource::Quantity> wanted;
  const std::uint32_t parts = round->parts() ? round->parts()->size() : 0;
  const std::uint32_t count = round->grants() ? round->grants()->size() : 0;
  made.reserve(count);
  std::uint64_t bad = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const al::Grant& g = *round->grants()->Get(i);
    if (i + 12 < count) agents_.prefetch(round->grants()->Get(i + 12)->agent());
    if (i + 8 < count)
      if (const Handle next = round->grants()->Get(i + 8)->agent(); agents_.contains(next))
        agents_[next].available.prefetch_entries();
    if (i + 4 < count)
      if (const Handle next = round->grants()->Get(i + 4)->agent(); agents_.contains(next))
        agents_[next].available.prefetch_values();
    const Handle h = g.agent(), fh = g.framework();
    const RoleId role{g.role()};
    if (!agents_.contains(h) || g.part_begin() > parts || g.part_count() > parts - g.part_begin()) {
      ++bad;
      continue;
    }
    Agent& a = agents_[h];
    // Mostly everything is for everybody; then it moves instead of being copied and subtracted.
    bool whole = !g.part_count() && std::all_of(a.available.begin(), a.available.end(),
                                                      [&](const auto& r) { return r.allocatable_to(role); });
    Resources bundle = whole ? std::move(a.available) : a.available.allocatable_to(role);
    if (whole) a.available = Resources();
    bool exceeds = false;
    if (g.part_count()) {
      wanted.clear();
      for (std::uint32_t p = 0; p < g.part_count(); ++p) {
        const al::Quantity& q = *round->parts()->Get(g.part_begin() + p);
        wanted.push_back({resource::NameId{q.name()}, RoleId{q.role()}, q.flags(), q.amount()});
      }
      auto taken = bundle.take(wanted);
      exceeds = !taken;
      bundle = taken ? std::move(*taken) : Resources();
    }
    const bool sound =
        !exceeds && !bundle.empty() && frameworks_.contains(fh) && !frameworks_[fh].tell_gone &&
        std::find(frameworks_[fh].roles.begin(), frameworks_[fh].roles.end(), role) != frameworks_[fh].roles.end();
    const bool fresh = !stale_.contains(h);
    // An allocator that ignores quota must not break it: what is beyond stays with the agent.
    if (sound && fresh && quotas_) {
      Resources allowed = within_limits(role, bundle);
      if (!(allowed == bundle)) {
        ++counters_.trimmed_grants;
        stale_.insert(h);
        allocator_retry_ = now_ + options_.retry;  // it may do so again: it must not spin
        if (whole) a.available = std::move(bundle);
        whole = false;
        bundle = std::move(allowed);
        if (bundle.empty()) continue;
      }
    }
    const bool current = sound && fresh && a.state == AgentState::registered && a.active &&
                         frameworks_[fh].connected() && !frameworks_[fh].removing;
    if (current && !worth_offering(fh, role, h, bundle)) {
      if (whole) a.available = std::move(bundle);
      stale_.insert(h);
      ++counters_.unwanted_grants;
      continue;
    }
    if (current) {
      if (!whole) a.available -= bundle;
      note_held(fh, role, bundle, +1);
      made.emplace_back(fh, add_offer(h, fh, role, std::move(bundle)));
      ++counters_.grants;
      continue;
    }
    if (whole) a.available = std::move(bundle);
    stale_.insert(h);
    const bool excused = !fresh || (frameworks_.contains(fh) && (frameworks_[fh].dirty || frameworks_[fh].tell_gone)) ||
                         a.tell_gone || a.dirty;
    if (sound || excused)
      ++counters_.stale_grants;
    else
      ++bad;
  }
  if (bad) {
    counters_.bad_grants += bad;
    log(Level::warning, "the allocator granted what is not there; dropped", {{"grants", std::to_string(bad)}});
    allocator_retry_ = now_ + options_.retry;  // it will be told again, but must not spin
  }
  if (round->wake_ns())
    wake_ = Instant(static_cast<std::int64_t>(std::min<std::uint64_t>(round->wake_ns(), INT64_MAX)));
  end_round();
  if (!made.empty()) send_offers(made);
}

// An agent without a domain stands where the master does (mesos-kernel.md, fault domains).
bool Core::remote(const Agent& a) const {
  if (options_.region.empty()) return false;
  const auto* domain = a.about().domain();
  const auto* fault = domain ? domain->fault_domain() : nullptr;
  return fault && text(fault->region()) != options_.region;
}

// Its agent is sent again in full, as after any grant that was not booked, together with a filter.
bool Core::worth_offering(Handle fh, RoleId role, Handle ah, const Resources& bundle) {
  const Framework& f = frameworks_[fh];
  const Constraints* wishes = f.wishes.get();
  const Agent& a = agents_[ah];
  const bool far = !f.region_aware && remote(a);
  if (!wishes && !far) return true;
  constexpr auto kLong = std::chrono::hours(24 * 365);
  if (far || !wishes->admits(role, a.about())) {
    auto everything = a.total.quantities();
    for (auto& q : everything) q.milli = INT64_MAX / 4;
    filters_.push_back({fh, ah, role, now_ + kLong, std::move(everything)});
    return false;
  }
  if (wishes->worth(role, bundle)) return true;
  filters_.push_back({fh, ah, role, now_ + kLong, bundle.quantities()});  // of anything larger it is asked again
  return false;
}

void Core::end_round() {
  in_flight_ = false;
  for (auto& [h, r] : returns_) {
    if (!agents_.contains(h)) continue;
    agents_[h].available += std::move(r);
    touch_agent(h);
  }
  returns_.clear();
  for (const Handle h : stale_)
    if (agents_.contains(h)) touch_total(h);
  stale_.clear();
}

}  // namespace gantry::master
