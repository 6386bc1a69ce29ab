// What the operator does with single agents (mesos-kernel.md A12): deactivate, drain, reactivate, mark as gone.
//
// What is decided holds at once, so that nothing that happens meanwhile contradicts it; it is answered, and agents are told,
// once it is stored. What could not be stored is taken back.
#include "kernel/master/core.hpp"

#include <gantry/operator_generated.h>
#include "kernel/master/messages.hpp"

#include <limits>

namespace gantry::master {

using base::Level;
using S = fb::TaskState;
using Drain = Upkeep::Drain;

namespace {

std::int64_t nanoseconds(const fb::master::Duration& d) {
  constexpr std::int64_t kMaxSeconds = std::numeric_limits<std::int64_t>::max() / 2'000'000'000;
  const std::int64_t seconds = std::clamp<std::int64_t>(d.seconds().value_or(0), -kMaxSeconds, kMaxSeconds);
  return seconds * 1'000'000'000 + d.nanos().value_or(0);
}

Upkeep upkeep_of(const Agent& a) { return a.upkeep ? *a.upkeep : Upkeep(); }

}  // namespace

bool Core::offerable(const Agent& a) const {
  return a.state == AgentState::registered && a.link != 0 && !a.going && !a.deactivated();
}

// Its record is not being written by somebody else, who would not know of this.
Status Core::changeable(Handle h) const {
  if (!h || agents_[h].state == AgentState::gone || agents_[h].state == AgentState::departed)
    return fail(Code::invalid_argument, "Unknown agent");
  const Agent& a = agents_[h];
  if (a.going) return fail(Code::failed_precondition, "Agent is currently being marked gone");
  if (a.returning || a.state == AgentState::registering || a.state == AgentState::marking)
    return fail(Code::failed_precondition, "Agent is currently changing its state; try again");
  return ok;
}

void Core::on_deactivate(std::string_view id, RequestId request) {
  const Handle h = find_agent(id);
  if (auto s = changeable(h); !s) return answer(request, std::move(s));
  if (agents_[h].deactivated() && !agents_[h].upkeep->storing) return answer(request, ok);
  Upkeep next = upkeep_of(agents_[h]);
  next.deactivated = true;
  change_upkeep(h, next, request);
}

void Core::on_reactivate(std::string_view id, RequestId request) {
  const Handle h = find_agent(id);
  if (auto s = changeable(h); !s) return answer(request, std::move(s));
  Upkeep next = upkeep_of(agents_[h]);
  if (next.drain == Drain::draining) return answer(request, fail(Code::invalid_argument, "Agent is still in the DRAINING state"));
  if (!next.deactivated && !next.storing) return answer(request, ok);
  next.deactivated = false;
  next.drain = Drain::none;
  next.mark_gone = false;
  next.grace_ns = -1;
  next.drain_since = 0;
  change_upkeep(h, next, request);
}

void Core::on_drain(const fb::master::DrainAgent& d, RequestId request) {
  const Handle h = find_agent(text(d.agent_id()));
  if (auto s = changeable(h); !s) return answer(request, std::move(s));
  Upkeep next = upkeep_of(agents_[h]);
  next.grace_ns = d.max_grace_period() ? nanoseconds(*d.max_grace_period()) : -1;
  if (d.max_grace_period() && next.grace_ns < 0)
    return answer(request, fail(Code::invalid_argument, "'max_grace_period' must be non-negative"));
  next.mark_gone = d.mark_gone().value_or(false);
  next.deactivated = true;
  next.drain = Drain::draining;
  next.drain_since = wall_;
  change_upkeep(h, next, request);
}

void Core::change_upkeep(Handle h, Upkeep next, RequestId request) {
  Agent& a = agents_[h];
  next.stored.reset();
  if (a.upkeep && a.upkeep->storing) {
    next.stored = a.upkeep->stored;
  } else if (a.upkeep) {
    next.stored = std::make_shared<const Upkeep>(*a.upkeep);
  }
  next.change = ++next_change_;
  next.storing = true;
  a.upkeep = std::make_unique<Upkeep>(next);
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
  persist(std::move(ops), [this, id = std::string(a.id()), next = std::move(next), request](const Status& stored) {
    upkeep_stored(id, next, request, stored);
  });
}

void Core::upkeep_stored(const std::string& id, const Upkeep& decided, RequestId request, const Status& stored) {
  const auto failed = [&] { return Status(Error(stored.error()).because("the agent's record could not be stored")); };
  const Handle h = find_agent(id);
  // A later change has taken this one's place, or the agent has gone.
  if (!h || !agents_[h].upkeep || agents_[h].upkeep->change != decided.change) {
    if (stored && h && agents_[h].upkeep && agents_[h].upkeep->storing) {
      auto now = std::make_shared<Upkeep>(decided);
      now->stored.reset();
      agents_[h].upkeep->stored = std::move(now);
    }
    return answer(request, stored ? Status(ok) : failed());
  }
  Agent& a = agents_[h];
  const std::shared_ptr<const Upkeep> before = std::move(a.upkeep->stored);
  a.upkeep->storing = false;
  note_agent(h);
  const Drain was = before ? before->drain : Drain::none;
  const bool reachable = a.link && a.state == AgentState::registered && !a.returning;
  if (!stored) {
    Upkeep back = before ? *before : Upkeep();
    back.storing = false;
    back.planned = a.upkeep->planned;
    back.start_ns = a.upkeep->start_ns;
    back.duration_ns = a.upkeep->duration_ns;
    a.upkeep = back.idle() ? nullptr : std::make_unique<Upkeep>(back);
    a.active = offerable(a);
    touch_agent(h);
    ask_back(h);
    // Its agent may not have heard of it, if what failed was decided before it was stored.
    if (back.drain == Drain::draining && reachable) to_agent(a.link, drain(back.grace_ns, back.mark_gone));
    // That it is drained is found again; that it is being drained has been stored, and so may be answered.
    if (back.drain != Drain::none) retries_.push_back({now_ + options_.retry, h});
    return answer(request, decided.drain == Drain::drained && was == Drain::draining ? Status(ok) : failed());
  }
  const Upkeep u = *a.upkeep;
  if (u.drain == Drain::draining) {
    log(Level::info, "draining an agent", {{"agent", id}, {"tasks", std::to_string(a.tasks)}});
    if (reachable) to_agent(a.link, drain(u.grace_ns, u.mark_gone));
    if (drained(h)) {  // one on which nothing runs is drained before this is answered
      Upkeep next = u;
      next.drain = Drain::drained;
      return change_upkeep(h, next, request);
    }
  } else if (u.drain == Drain::drained && was == Drain::draining) {
    log(Level::info, "agent is drained", {{"agent", id}});
    if (u.mark_gone) return mark_gone(h, request);
  } else if (!u.deactivated) {
    if (reachable && was != Drain::none) to_agent(a.link, end_drain());
    a.active = offerable(a);
    touch_agent(h);
    if (u.idle()) a.upkeep.reset();
  }
  ask_back(h);
  answer(request, ok);
}

void Core::look_after(Handle h) {
  if (agents_[h].upkeep && agents_[h].upkeep->drain != Drain::none) to_look_after_.push_back(h);
}

bool Core::drained(Handle h) const {
  const Agent& a = agents_[h];
  if (a.state != AgentState::registered || a.returning || a.tasks) return false;
  for (const auto& [cookie, p] : pending_)
    if (p.limbo() && p.agent == h && p.epoch == a.epoch) return false;
  return true;
}

void Core::settle_upkeep() {
  if (to_look_after_.empty()) return;
  for (const Handle h : std::exchange(to_look_after_, {})) {
    if (!agents_.contains(h) || !agents_[h].upkeep || agents_[h].upkeep->storing || agents_[h].going || !drained(h)) continue;
    const Upkeep& u = *agents_[h].upkeep;
    if (u.drain == Drain::draining) {
      Upkeep next = u;
      next.drain = Drain::drained;
      change_upkeep(h, next, 0);
    } else if (u.drain == Drain::drained && u.mark_gone) {
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
  if (auto s = changeable(h); !s) return answer(request, std::move(s));
  mark_gone(h, request);
}

void Core::mark_gone(Handle h, RequestId request) {
  Agent& a = agents_[h];
  if (!changeable(h)) {  // it is leaving in another way; should it come back, it is looked after again
    return answer(request, ok);
  }
  a.going = true;
  if (a.active) {
    a.active = false;
    touch_agent(h);
  }
  withdraw_all_of_agent(h, true);
  std::vector<store::Op> ops;
  ops.push_back(agent_record(a.id(), a.info, fb::record::AgentFate::GONE, wall_));
  persist(std::move(ops), [this, id = std::string(a.id()), request](const Status& stored) {
    const Handle at = find_agent(id);
    if (!stored) {
      if (at && agents_[at].going) not_gone(at);
      return answer(request, Error(stored.error()).because("that the agent is gone could not be stored"));
    }
    if (at && agents_[at].going) became_gone(at);
    answer(request, ok);
  });
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
  end_executors(h, true, {});
  broadcast_failure(agent_id);
  forget_inverse(h, 0);
  Agent& a = agents_[h];
  if (a.link) {
    to_agent(a.link, shutdown("Agent has been marked gone"));
    out_->emplace_back(DropLink{a.link, "the agent was marked gone"});
  }
  unbind_link(h);
  const bool had_books = a.state == AgentState::registered;
  set_state(a, AgentState::gone);
  a.since_wall = wall_;
  a.active = false;
  a.upkeep.reset();
  note_away(h);
  if (had_books) agent_gone(h);
}

}  // namespace gantry::master
