// What the operator does with single agents (mesos-kernel.md A12): deactivate, drain, reactivate, mark as gone.
//
// What is decided holds at once, so that nothing that happens meanwhile contradicts it; it is answered, and agents are told,
// once it is stored. What could not be stored is taken back.
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"

#include <limits>

namespace gantry::master {

using base::Level;
using S = fb::TaskState;
using Drain = Upkeep::Drain;

namespace {

std::int64_t nanoseconds(const fb::master::Duration& d) {
  constexpr std::int64_t kMaxSeconds = std::numeric_limits<std::int64_t>::max() / 2'000'000'000;
  const std::int64_t seconds = std::min(d.seconds().value_or(0), kMaxSeconds);
  return seconds * 1'000'000'000 + d.nanos().value_or(0);
}

Upkeep upkeep_of(const Agent& a) { return a.upkeep ? *a.upkeep : Upkeep(); }

}  // namespace

bool Core::offerable(const Agent& a) const {
  return a.state == AgentState::registered && a.link != 0 && !a.going && !a.deactivated();
}

void Core::on_deactivate(std::string_view id, RequestId request) {
  const Handle h = find_agent(id);
  if (!h || agents_[h].state == AgentState::gone || agents_[h].state == AgentState::departed)
    return answer(request, fail(Code::invalid_argument, "Unknown agent"));
  if (agents_[h].deactivated()) return answer(request, ok);
  Upkeep next = upkeep_of(agents_[h]);
  next.deactivated = true;
  change_upkeep(h, next, request);
}

void Core::on_reactivate(std::string_view id, RequestId request) {
  const Handle h = find_agent(id);
  if (!h || agents_[h].state == AgentState::gone || agents_[h].state == AgentState::departed)
    return answer(request, fail(Code::invalid_argument, "Unknown agent"));
  if (!agents_[h].upkeep) return answer(request, ok);
  Upkeep next = *agents_[h].upkeep;
  if (next.drain == Drain::draining || agents_[h].going)
    return answer(request, fail(Code::invalid_argument, "Agent is still in the DRAINING state"));
  if (!next.deactivated && next.drain == Drain::none) return answer(request, ok);
  next.deactivated = false;
  next.drain = Drain::none;
  next.mark_gone = false;
  next.grace_ns = -1;
  next.drain_since = 0;
  change_upkeep(h, next, request);
}

void Core::on_drain(const fb::master::DrainAgent& d, RequestId request) {
  const Handle h = find_agent(text(d.agent_id()));
  if (!h || agents_[h].state == AgentState::gone || agents_[h].state == AgentState::departed)
    return answer(request, fail(Code::invalid_argument, "Unknown agent"));
  if (agents_[h].going) return answer(request, fail(Code::failed_precondition, "Agent is currently being marked gone"));
  Upkeep next = upkeep_of(agents_[h]);
  next.grace_ns = d.max_grace_period() ? nanoseconds(*d.max_grace_period()) : -1;
  if (d.max_grace_period() && next.grace_ns < 0)
    return answer(request, fail(Code::invalid_argument, "Drain config max_grace_period must be non-negative"));
  next.mark_gone = d.mark_gone().value_or(false);
  next.deactivated = true;
  next.drain = Drain::draining;
  next.drain_since = wall_;
  change_upkeep(h, next, request);
}

void Core::change_upkeep(Handle h, Upkeep next, RequestId request) {
  Agent& a = agents_[h];
  Pending p;
  p.kind = Pending::Kind::upkeep;
  p.id = a.id();
  p.handle = h;
  p.request = request;
  if (a.upkeep) p.upkeep_was = std::make_shared<const Upkeep>(*a.upkeep);
  p.change = next.change = ++next_change_;
  a.upkeep = std::make_unique<Upkeep>(std::move(next));
  if (a.active && !offerable(a)) {
    a.active = false;
    touch_agent(h);
    withdraw_all_of_agent(h, true);
  }
  // Whether it is away is not changed by this, so its record says what it said.
  const bool away = a.state == AgentState::unreachable;
  std::vector<store::Op> ops;
  ops.push_back(agent_record(a.id(), a.info, away ? fb::record::AgentFate::UNREACHABLE : fb::record::AgentFate::KNOWN,
                             away ? a.since_wall : wall_));
  if (a.state == AgentState::marking) {
    // Its record is being rewritten as that of an unreachable agent, or removed; what comes last would win wrongly.
    ops.back() = agent_record(a.id(), a.info, fb::record::AgentFate::UNREACHABLE, a.since_wall);
  }
  persist(std::move(ops), std::move(p));
}

void Core::upkeep_stored(Pending& p, const Error* error) {
  const bool there = agents_.contains(p.handle) && agents_[p.handle].id() == p.id &&
                     agents_[p.handle].state != AgentState::departed;
  if (!there)
    return answer(p.request, error ? Status(Error(*error).because("the agent's record could not be stored")) : Status(ok));
  Agent& a = agents_[p.handle];
  const bool ours = a.upkeep && a.upkeep->change == p.change;
  if (error) {
    if (ours) {
      Upkeep before = p.upkeep_was ? *p.upkeep_was : Upkeep();
      before.planned = a.upkeep->planned;
      before.start_ns = a.upkeep->start_ns;
      before.duration_ns = a.upkeep->duration_ns;
      const bool retry = a.upkeep->drain == Drain::drained;
      a.upkeep = before.idle() ? nullptr : std::make_unique<Upkeep>(before);
      a.active = offerable(a);
      touch_agent(p.handle);
      note_agent(p.handle);
      ask_back(p.handle);
      if (retry) retries_.push_back({now_ + options_.retry, p.handle});
    }
    // A drain that could not be noted as over is still one that was asked for and stored.
    if (p.upkeep_was && p.upkeep_was->drain == Drain::draining) return answer(p.request, ok);
    return answer(p.request, Error(*error).because("the agent's record could not be stored"));
  }
  if (!ours) return answer(p.request, ok);
  note_agent(p.handle);
  const Drain before = p.upkeep_was ? p.upkeep_was->drain : Drain::none;
  const Upkeep u = *a.upkeep;
  const bool reachable = a.link && a.state == AgentState::registered && !a.returning;
  if (u.drain == Drain::draining) {
    log(Level::info, "draining an agent", {{"agent", p.id}, {"tasks", std::to_string(a.tasks)}});
    if (reachable) to_agent(a.link, drain(u.grace_ns, u.mark_gone));
    // One on which nothing runs is drained before this is answered.
    if (drained(p.handle)) {
      Upkeep next = u;
      next.drain = Drain::drained;
      return change_upkeep(p.handle, next, p.request);
    }
  } else if (u.drain == Drain::drained && before == Drain::draining) {
    log(Level::info, "agent is drained", {{"agent", p.id}});
    if (u.mark_gone) return mark_gone(p.handle, p.request);
  } else if (!u.deactivated) {
    if (reachable && before != Drain::none) to_agent(a.link, end_drain());
    a.active = offerable(a);
    touch_agent(p.handle);
    if (u.idle()) a.upkeep.reset();
  }
  ask_back(p.handle);
  answer(p.request, ok);
}

void Core::look_after(Handle h) {
  if (agents_[h].upkeep && agents_[h].upkeep->drain != Drain::none) to_look_after_.push_back(h);
}

bool Core::drained(Handle h) const {
  const Agent& a = agents_[h];
  if (a.state != AgentState::registered || a.returning || a.tasks) return false;
  for (const auto& [cookie, p] : pending_)
    if (p.kind == Pending::Kind::accept && p.agent == h && p.epoch == a.epoch) return false;
  return true;
}

void Core::settle_upkeep() {
  if (to_look_after_.empty()) return;
  for (const Handle h : std::exchange(to_look_after_, {})) {
    if (!agents_.contains(h) || !agents_[h].upkeep || !drained(h)) continue;
    const Upkeep& u = *agents_[h].upkeep;
    if (u.drain == Drain::draining) {
      bool storing = false;  // that it is being drained has yet to be stored
      for (const auto& [cookie, p] : pending_) storing |= p.kind == Pending::Kind::upkeep && p.handle == h;
      if (storing) continue;
      Upkeep next = u;
      next.drain = Drain::drained;
      change_upkeep(h, next, 0);
    } else if (u.drain == Drain::drained && u.mark_gone && !agents_[h].going) {
      mark_gone(h, 0);
    }
  }
}

// ---- gone

void Core::on_mark_gone(std::string_view id, RequestId request) {
  const Handle h = find_agent(id);
  if (!h || agents_[h].state == AgentState::departed)
    return answer(request, fail(Code::not_found, "Agent '" + std::string(id) + "' not found"));
  if (agents_[h].state == AgentState::gone) return answer(request, ok);
  const AgentState state = agents_[h].state;
  if (agents_[h].going || agents_[h].returning || state == AgentState::registering || state == AgentState::marking)
    return answer(request, fail(Code::failed_precondition, "Agent is currently changing its state; try again"));
  mark_gone(h, request);
}

void Core::mark_gone(Handle h, RequestId request) {
  Agent& a = agents_[h];
  if (a.going || a.returning || a.state == AgentState::gone || a.state == AgentState::marking) return answer(request, ok);
  a.going = true;
  if (a.active) {
    a.active = false;
    touch_agent(h);
  }
  withdraw_all_of_agent(h, true);
  Pending p;
  p.kind = Pending::Kind::gone;
  p.id = a.id();
  p.handle = h;
  p.request = request;
  std::vector<store::Op> ops;
  ops.push_back(agent_record(a.id(), a.info, fb::record::AgentFate::GONE, wall_));
  persist(std::move(ops), std::move(p));
}

void Core::not_gone(Handle h) {
  Agent& a = agents_[h];
  a.going = false;
  a.active = offerable(a);
  touch_agent(h);
  note_agent(h);
  if (a.state == AgentState::registered) start_pinging(h);
  if (a.upkeep && a.upkeep->drain == Drain::drained) retries_.push_back({now_ + options_.retry, h});
}

// Stored: it never comes back, and neither do its tasks.
void Core::became_gone(Handle h) {
  ++counters_.agents_gone;
  agents_[h].going = false;
  const std::string agent_id(agents_[h].id());
  log(Level::warning, "agent was marked gone", {{"agent", agent_id}, {"tasks", std::to_string(agents_[h].tasks)}});
  const auto end = [&](Handle th) {
    Task& t = tasks_[th];
    if (!terminal(t.state) || t.absent) {
      const Framework& f = frameworks_[t.framework];
      auto s = f.partition_aware
                   ? status_of(t.id(), agent_id, S::TASK_GONE_BY_OPERATOR, fb::Reason::REASON_AGENT_REMOVED_BY_OPERATOR,
                               "Agent has been marked gone")
                   : status_of(t.id(), agent_id, S::TASK_LOST, fb::Reason::REASON_AGENT_REMOVED, "Agent has been marked gone");
      if (!t.released) release(th);
      // One that was called lost with an unreachable agent has been told of.
      const bool news = t.state != s.state;
      set_task_state(t, s.state);
      t.status = Blob(pack(s));
      if (news) send_update(f, s);
    }
    finish_task(th);
  };
  while (const Handle th = agents_[h].first_task) end(th);
  if (const auto it = absent_of_.find(agent_id); it != absent_of_.end()) {
    const std::vector<Handle> away = std::move(it->second);
    absent_of_.erase(it);
    for (const Handle th : away)
      if (tasks_.contains(th) && tasks_[th].absent && text(tasks_[th].about().agent_id()) == agent_id) end(th);
  }
  broadcast_failure(agent_id);
  forget_inverse(h, 0);
  Agent& a = agents_[h];
  if (a.link) {
    to_agent(a.link, shutdown("Agent has been marked gone"));
    out_->emplace_back(DropLink{a.link, "the agent was marked gone"});
  }
  unbind_link(h);
  const bool was_known = a.told;
  set_state(a, AgentState::gone);
  a.since_wall = wall_;
  a.active = false;
  a.upkeep.reset();
  a.total.clear();
  note_away(h);
  if (was_known) agent_gone(h);
}

}  // namespace gantry::master
