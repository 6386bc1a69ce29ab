// The life of an agent as the master sees it: it registers, is pinged, returns, becomes unreachable, leaves.
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"
#include "kernel/resource/wire.hpp"

namespace gantry::master {

using base::Level;
namespace link = fb::link;

Handle Core::agent_of_link(LinkId id) const {
  return agent_by_link_.find(mix(id), [&](Handle h) { return agents_[h].link == id; });
}
Handle Core::find_agent(std::string_view id) const {
  return agent_by_id_.find(hash_text(id), [&](Handle h) { return agents_[h].id() == id; });
}

Handle Core::add_agent(Blob info, AgentState state) {
  const Handle h = agents_.emplace();
  Agent& a = agents_[h];
  a.info = std::move(info);
  a.state = state;
  if (state == AgentState::recovered) ++recovering_;
  agent_by_id_.insert(hash_text(a.id()), h);
  return h;
}

void Core::set_state(Agent& a, AgentState state) {
  const auto counted = [](AgentState s) { return s == AgentState::registered || s == AgentState::marking; };
  if (a.state == AgentState::recovered) --recovering_;
  if (state == AgentState::recovered) ++recovering_;
  registered_ += static_cast<std::size_t>(counted(state));
  registered_ -= static_cast<std::size_t>(counted(a.state));
  a.state = state;
  if (log_) note_agent(find_agent(a.id()));
}

void Core::bind_link(Handle h, LinkId id) {
  Agent& a = agents_[h];
  if (a.link == id) return;
  if (a.link) {
    out_->emplace_back(DropLink{a.link, "the agent has connected anew"});
    unbind_link(h);
  }
  a.link = id;
  note_agent(h);
  agent_by_link_.insert(mix(id), h);
}
void Core::unbind_link(Handle h) {
  Agent& a = agents_[h];
  if (!a.link) return;
  agent_by_link_.erase(mix(a.link), h);
  a.link = 0;
  note_agent(h);
}

void Core::refuse_link(LinkId id, std::string message, bool fatal) {
  log(Level::warning, "refused an agent", {{"reason", message}});
  to_agent(id, refused(message, fatal));
  out_->emplace_back(DropLink{id, std::move(message)});
}

void Core::on_frame(const AgentFrame& e) {
  const auto* m = view<link::ToMaster>(e.frame);
  if (!m || !m->body()) {
    ++counters_.invalid_messages;
    out_->emplace_back(DropLink{e.link, "malformed frame"});
    return;
  }
  if (m->body_type() == link::FromAgent::Hello) {
    const auto timeout = options_.ping_interval * static_cast<int>(options_.ping_misses);
    to_agent(e.link, welcome(options_.run_id, timeout, options_.ping_interval));
    return;
  }
  if (m->body_type() == link::FromAgent::Register) return on_register(e.link, e.frame, *m->body_as_Register());

  const Handle h = agent_of_link(e.link);
  if (!h) {
    ++counters_.invalid_messages;
    out_->emplace_back(DropLink{e.link, "the agent is not registered"});
    return;
  }
  Agent& a = agents_[h];
  a.heard = true;
  a.missed = 0;
  if (a.state != AgentState::registered || a.returning) return;  // what it says comes again once it has registered
  switch (m->body_type()) {
    case link::FromAgent::StatusUpdate:
      return on_update(h, e.frame, *m->body_as_StatusUpdate());
    case link::FromAgent::AgentMessage:
      return on_agent_message(h, *m->body_as_AgentMessage());
    case link::FromAgent::ExecutorExited:
      return on_executor_exited(h, *m->body_as_ExecutorExited());
    case link::FromAgent::Unregister:
      return on_unregister(h);
    case link::FromAgent::Pong:
      if (!a.active && offerable(a)) {  // its removal failed to be stored, and now it answers
        a.active = true;
        note_agent(h);
        touch_agent(h);
      }
      return;
    default:
      ++counters_.invalid_messages;
      return;
  }
}

void Core::on_register(LinkId id, Bytes frame, const link::Register& reg) {
  if (!reg.info()) return refuse_link(id, "the registration carries no agent info", false);
  if (const auto r = resource::from_wire(reg.info()->resources()); !r) {
    return refuse_link(id, "the agent's resources are not valid: " + r.error().message, false);
  }
  if (const auto* d = reg.info()->domain(); d && d->fault_domain() && options_.region.empty())
    return refuse_link(id, "the agent has the fault domain " + std::string(text(d->fault_domain()->region())) + "/" + std::string(text(d->fault_domain()->zone())) +
                               ", this master has none; write `domain` into its [kernel] table, or leave it out on the agent", false);
  const std::string_view name = text(reg.info()->id());
  if (name.size() > 255) return refuse_link(id, "the agent's id is longer than 255 bytes", false);
  if (const Handle bound = agent_of_link(id)) {
    if (agents_[bound].state == AgentState::registering || agents_[bound].state == AgentState::marking)
      return;  // being stored
    if (agents_[bound].id() != name && !name.empty())
      return refuse_link(id, "the link already belongs to agent " + std::string(agents_[bound].id()), false);
    if (name.empty()) {  // our answer crossed its repetition
      to_agent(id, fb_registered(agents_[bound].id(), options_.run_id));
      return;
    }
  }
  const Handle h = name.empty() ? 0 : find_agent(name);
  if (machine_down(*reg.info()) && !(h && agents_[h].state == AgentState::gone)) {
    // With nothing running it may wait until the machine is up again; what runs must end.
    if (reg.tasks() && reg.tasks()->size() > 0) {
      to_agent(id, shutdown("Machine is `DOWN`"));
      out_->emplace_back(DropLink{id, "the agent's machine is down for maintenance"});
      return;
    }
    return refuse_link(id, "Machine is `DOWN`", false);
  }
  if (!h) return admit_new(id, frame, reg);

  Agent& a = agents_[h];
  switch (a.state) {
    case AgentState::gone:
      return refuse_link(id, "agent " + std::string(name) + " was removed by the operator and may not return", true);
    case AgentState::registering:
    case AgentState::marking:
    case AgentState::departed:
      out_->emplace_back(DropLink{id, "the agent's record is being stored; come again"});
      return;
    case AgentState::recovered:
    case AgentState::registered:
    case AgentState::unreachable:
      break;
  }
  if (a.going) {
    out_->emplace_back(DropLink{id, "the agent's record is being stored; come again"});
    return;
  }
  if (a.state == AgentState::registered) disconnect_agent(h);
  bind_link(h, id);
  Blob info = packed_info(*reg.info(), name);
  const bool store = a.state == AgentState::unreachable || !same_bytes(info, a.info);
  if (!store) return complete_registration(h, frame, reg);
  a.returning = true;
  Pending p;
  p.kind = Pending::Kind::reregister;
  p.id = name;
  p.handle = h;
  p.link = id;
  p.bytes = Buffer(frame);
  std::vector<store::Op> ops;
  ops.push_back(agent_record(name, info, fb::record::AgentFate::KNOWN, wall_));
  p.info = std::move(info);
  persist(std::move(ops), std::move(p));
}

void Core::admit_new(LinkId id, Bytes frame, const link::Register& reg) {
  std::string name(text(reg.info()->id()));
  if (name.empty()) name = options_.run_id + "-S" + std::to_string(next_agent_++);
  const Handle h = add_agent(packed_info(*reg.info(), name), AgentState::registering);
  bind_link(h, id);
  std::vector<store::Op> ops;
  ops.push_back(agent_record(name, agents_[h].info, fb::record::AgentFate::KNOWN, wall_));
  Pending p;
  p.kind = Pending::Kind::admit;
  p.id = std::move(name);
  p.handle = h;
  p.link = id;
  p.bytes = Buffer(frame);
  persist(std::move(ops), std::move(p));
}

// The record is stored: open the agent's books and answer it.
void Core::complete_registration(Handle h, Bytes frame, const link::Register& reg) {
  Agent& a = agents_[h];
  const bool was_away = a.state != AgentState::registered;
  const bool is_new = a.state == AgentState::registering;
  set_state(a, AgentState::registered);
  withdraw_all_of_agent(h, true);
  a.epoch = ++next_key_;
  a.since_wall = wall_;
  a.heard = true;
  a.missed = 0;
  a.tell_gone = false;
  a.returning = false;
  a.knows_groups = reg.groups();
  Resources total = with_reservations(a.id(), *resource::from_wire(reg.info()->resources()));

  set_total(h, std::move(total));
  if (a.link) to_agent(a.link, fb_registered(a.id(), options_.run_id));
  tell_reservations(h);
  if (a.link && a.upkeep && a.upkeep->drain != Upkeep::Drain::none)
    to_agent(a.link, drain(a.upkeep->grace_ns, a.upkeep->mark_gone));
  plan_agent(h);
  Resources used;
  adopt_tasks(h, frame, reg, was_away && !is_new, used);
  a.overdrawn = !a.total.contains(used);
  if (a.overdrawn) {
    log(Level::warning, "agent has less than its tasks use; what is missing is not offered until they end",
        {{"agent", std::string(a.id())}, {"total", a.total.text()}, {"used", used.text()}});
  }
  replace_available(h, a.total.without(used));
  a.active = offerable(a);
  touch_total(h);
  start_pinging(h);
  look_after(h);
  ask_back(h);
  ++(is_new ? counters_.agents_registered : counters_.agents_reregistered);
  if (machine_down(a.about())) take_down(h);  // it went down while this was stored
}

// The agent's word on what runs there is final; the master only knows what should not.
void Core::adopt_tasks(Handle h, Bytes frame, const link::Register& reg, bool was_away, Resources& used) {
  Agent& a = agents_[h];
  const std::string agent_id(a.id());
  std::unordered_set<Handle> seen;
  std::unordered_set<std::string> unwanted;
  if (reg.frameworks()) {
    for (const auto* k : *reg.frameworks())
      if (k->info() && removed_ids_.contains(std::string(text(k->info()->id()))))
        unwanted.emplace(text(k->info()->id()));
  }
  // 0: it was removed, and what is left of it must go.
  const auto framework_of = [&](const std::string& framework_id) -> Handle {
    if (const Handle known = find_framework(framework_id)) return known;
    if (removed_ids_.contains(framework_id)) {
      unwanted.insert(framework_id);
      return 0;
    }
    fb::FrameworkInfoT info;
    if (reg.frameworks()) {
      for (const auto* known : *reg.frameworks())
        if (known->info() && text(known->info()->id()) == framework_id) known->info()->UnPackTo(&info);
    }
    info.id = framework_id;
    const Handle fh = add_framework(framework_id, Blob(Bytes(pack(info))));
    Framework& f = frameworks_[fh];
    f.recovered = true;
    f.failover_at = now_ + std::max(f.failover_timeout, options_.agent_reregister_timeout);
    failovers_.insert({f.failover_at, fh});
    std::vector<store::Op> ops;
    ops.push_back(framework_record(framework_id, f.info, false));
    persist(std::move(ops), Pending{});
    return fh;
  };
  adopt_executors(h, reg, framework_of, used);
  const std::size_t n = reg.tasks() ? reg.tasks()->size() : 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto* k = reg.tasks()->Get(static_cast<flatbuffers::uoffset_t>(i));
    if (!k->info() || text(k->info()->task_id()).empty() || text(k->framework_id()).empty() || !is_state(k->state()) ||
        !is_state(k->status_state())) {
      ++counters_.invalid_messages;
      continue;
    }
    const std::string framework_id(text(k->framework_id()));
    const Handle fh = framework_of(framework_id);
    if (!fh) continue;
    Framework& f = frameworks_[fh];
    const std::string_view task_id = text(k->info()->task_id());
    Handle th = find_task(fh, task_id);
    if (th && tasks_[th].agent && tasks_[th].agent != h) {
      log(Level::error, "two agents run a task of one id; the returning one kills its own",
          {{"task", std::string(task_id)}, {"framework", framework_id}, {"agent", agent_id}});
      if (a.link) to_agent(a.link, kill_task(framework_id, task_id, {}));
      continue;
    }
    if (th && seen.contains(th)) {  // named twice: its amount would be counted twice
      ++counters_.invalid_messages;
      continue;
    }
    auto charge = resource::from_wire(k->info()->resources());
    RoleId role = f.roles.empty() ? RoleId::star : f.roles.front();
    if (charge) {
      for (const auto& r : *charge)
        if (r.allocation_role() != RoleId::none) role = r.allocation_role();
    }
    Resources needs = charge ? charge->unallocated() : Resources();
    needs = charge_of(a.total, needs);
    const bool ended = terminal(k->state());
    bool tell = false;
    if (!th) {
      fb::TaskInfoT t;
      k->info()->UnPackTo(&t);
      th = add_task(fh, h, role, Blob(pack(t)), std::move(needs));
      tasks_[th].launched_wall = k->launched_wall_ns() ? static_cast<std::int64_t>(k->launched_wall_ns()) : wall_;
      if (ended) {
        tasks_[th].released = true;
        tasks_[th].resources.clear();
      } else {
        note_held(fh, role, tasks_[th].resources, +1);
      }
      tell = was_away && !ended;
    } else if (tasks_[th].absent) {
      Task& t = tasks_[th];
      t.absent = false;
      --f.absent;
      t.agent = h;
      chain_push(tasks_, &Task::of_agent, a.first_task, th);
      ++a.tasks;
      if (!ended) {
        t.released = false;
        t.role = role;
        t.resources = std::move(needs);
        note_held(fh, role, t.resources, +1);
      }
      if (t.kill_on_return) t.kill = true;
      tell = !ended && !t.kill_on_return;
    } else if (ended && !tasks_[th].released) {
      Task& t = tasks_[th];
      note_held(fh, t.role, t.resources, -1);  // its amount is not handed back: the books are opened anew
      t.released = true;
      t.resources.clear();
    }
    seen.insert(th);
    Task& t = tasks_[th];
    set_task_state(t, k->state());
    t.status_state = k->status_state();
    t.pending_ack = k->status_uuid() && k->status_uuid()->size() == kUuid;
    if (t.pending_ack) std::copy(k->status_uuid()->begin(), k->status_uuid()->end(), t.uuid.begin());
    if (k->status()) t.status = small_status(frame, k->status());
    note_task(th);
    if (!t.released) used += t.resources;
    if (tell) {
      auto s = status_of(task_id, agent_id, k->state(), fb::Reason::REASON_AGENT_REREGISTERED,
                         "the agent has registered again; the task was running all the time");
      if (k->status()) keep_health(*k->status(), s);
      send_update(f, s);
    }
    if (t.kill && !ended) send_kill(t, {});
  }

  for (Handle th = a.first_task; th;) {
    const Handle next = tasks_[th].of_agent.next;
    Task& t = tasks_[th];
    if (!seen.contains(th)) {
      if (!t.released) {  // its launch was lost on the broken link: it never ran
        const Framework& f = frameworks_[t.framework];
        const auto state = f.partition_aware ? fb::TaskState::TASK_DROPPED : fb::TaskState::TASK_LOST;
        auto s =
            status_of(t.id(), agent_id, state, fb::Reason::REASON_RECONCILIATION, "the agent does not know the task");
        note_held(t.framework, t.role, t.resources, -1);
        t.released = true;
        t.resources.clear();
        set_task_state(t, state);
        t.status = Blob(pack(s));
        send_update(f, s);
      }
      finish_task(th);
    }
    th = next;
  }
  settle_absent(h);
  if (a.link) {
    for (const auto& id : unwanted) to_agent(a.link, remove_framework(id));
  }
}

// Tasks that were given up with the agent and that it does not bring back: their launch was lost, or its disk. Nobody
// will ever hear of them again, so their story ends here.
void Core::settle_absent(Handle h) {
  const auto it = absent_of_.find(std::string(agents_[h].id()));
  if (it == absent_of_.end()) return;
  const std::vector<Handle> tasks = std::move(it->second);
  absent_of_.erase(it);
  for (const Handle th : tasks) {
    if (!tasks_.contains(th) || !tasks_[th].absent || text(tasks_[th].about().agent_id()) != agents_[h].id()) continue;
    Task& t = tasks_[th];
    if (!terminal(t.state)) {
      const Framework& f = frameworks_[t.framework];
      const auto state = f.partition_aware ? fb::TaskState::TASK_GONE : fb::TaskState::TASK_LOST;
      auto s = status_of(t.id(), agents_[h].id(), state, fb::Reason::REASON_RECONCILIATION,
                         "the agent has returned and does not know the task");
      set_task_state(t, state);
      t.status = Blob(pack(s));
      send_update(f, s);
    }
    finish_task(th);
  }
}

void Core::on_link_closed(LinkId id) {
  const Handle h = agent_of_link(id);
  if (!h) return;
  unbind_link(h);
  if (agents_[h].state == AgentState::registered) disconnect_agent(h);
}

// No connection: nothing is offered of it, and its tasks get until the ping timeout.
void Core::disconnect_agent(Handle h) {
  agents_[h].active = false;
  note_agent(h);
  touch_agent(h);
  withdraw_all_of_agent(h, true);
  if (!agents_[h].link) lose_unprotected_tasks(h);
}

// Tasks of frameworks that do not want checkpointing are lost with the connection (mesos-kernel.md A5).
void Core::lose_unprotected_tasks(Handle h) {
  const std::string agent_id(agents_[h].id());
  for (Handle th = agents_[h].first_task; th;) {
    const Handle next = tasks_[th].of_agent.next;
    Task& t = tasks_[th];
    Framework& f = frameworks_[t.framework];
    if (!f.checkpoint && !t.released) {
      const auto s = status_of(t.id(), agent_id, fb::TaskState::TASK_LOST, fb::Reason::REASON_AGENT_DISCONNECTED,
                               "the agent disconnected and the framework does not checkpoint");
      release(th);
      t.kill_on_return = true;
      make_absent(th, fb::TaskState::TASK_LOST);
      send_update(f, s);
    }
    th = next;
  }
}

void Core::on_unregister(Handle h) {
  Agent& a = agents_[h];
  if (a.going) return;
  withdraw_all_of_agent(h, true);
  a.active = false;
  touch_agent(h);
  Pending p;
  p.kind = Pending::Kind::depart;
  p.id = a.id();
  p.handle = h;
  p.was = a.state;
  set_state(a, AgentState::marking);
  std::vector<store::Op> ops;
  ops.push_back({"agent/" + store::key_segment(a.id()), std::nullopt});
  persist(std::move(ops), std::move(p));
}

// It said goodbye and the record is gone: its tasks are, too.
void Core::forget_agent(Handle h) {
  const std::string agent_id(agents_[h].id());
  for (Handle th = agents_[h].first_task; th;) {
    const Handle next = tasks_[th].of_agent.next;
    Task& t = tasks_[th];
    if (!t.released) {
      const Framework& f = frameworks_[t.framework];
      const auto state = f.partition_aware ? fb::TaskState::TASK_GONE : fb::TaskState::TASK_LOST;
      const auto s =
          status_of(t.id(), agent_id, state, fb::Reason::REASON_AGENT_REMOVED, "the agent has left the cluster");
      release(th);
      set_task_state(t, state);
      t.status = Blob(pack(s));
      send_update(f, s);
    }
    finish_task(th);
    th = next;
  }
  end_executors(h, true, {});
  broadcast_failure(agent_id);
  forget_inverse(h, 0);
  Agent& a = agents_[h];
  if (a.link) out_->emplace_back(DropLink{a.link, "the agent has left"});
  unbind_link(h);
  note_agent(h);
  agent_by_id_.erase(hash_text(a.id()), h);
  set_state(a, AgentState::departed);
  agent_gone(h);
}

void Core::mark_unreachable(Handle h) {
  Agent& a = agents_[h];
  if (a.going) return;
  Pending p;
  p.kind = Pending::Kind::unreachable;
  p.id = a.id();
  p.handle = h;
  p.was = a.state;
  if (a.state == AgentState::registered) {
    a.active = false;
    touch_agent(h);
    withdraw_all_of_agent(h, true);
  }
  set_state(a, AgentState::marking);
  a.since_wall = wall_;
  std::vector<store::Op> ops;
  ops.push_back(agent_record(a.id(), a.info, fb::record::AgentFate::UNREACHABLE, wall_));
  persist(std::move(ops), std::move(p));
}

// Stored; now the frameworks may know.
void Core::became_unreachable(Handle h) {
  ++counters_.agents_unreachable;
  const std::string agent_id(agents_[h].id());
  log(Level::warning, "agent is unreachable", {{"agent", agent_id}, {"tasks", std::to_string(agents_[h].tasks)}});
  for (Handle th = agents_[h].first_task; th;) {
    const Handle next = tasks_[th].of_agent.next;
    Task& t = tasks_[th];
    Framework& f = frameworks_[t.framework];
    if (t.released) {
      finish_task(th);  // only its acknowledgement is missing; the agent repeats the update when it returns
    } else {
      const auto state = f.partition_aware ? fb::TaskState::TASK_UNREACHABLE : fb::TaskState::TASK_LOST;
      auto s = status_of(t.id(), agent_id, state, fb::Reason::REASON_AGENT_REMOVED, "the agent does not answer");
      if (f.partition_aware) s.unreachable_time_ns = agents_[h].since_wall;
      release(th);
      make_absent(th, state);
      send_update(f, s);
    }
    th = next;
  }
  end_executors(h, true, {});
  broadcast_failure(agent_id);
  forget_inverse(h, 0);
  Agent& a = agents_[h];
  if (a.link) out_->emplace_back(DropLink{a.link, "the agent did not answer pings"});
  unbind_link(h);
  set_state(a, AgentState::unreachable);
  note_away(h);
  agent_gone(h);
}

void Core::start_pinging(Handle h) {
  Agent& a = agents_[h];
  if (a.ping_key) return;
  a.ping_key = ++next_key_ ? next_key_ : ++next_key_;
  pings_.push_back({now_ + options_.ping_interval, (std::uint64_t{a.ping_key} << 32) | h});
}

void Core::ping_due() {
  while (!pings_.empty() && pings_.front().at <= now_) {
    const Due due = pings_.front();
    pings_.pop_front();
    const auto h = static_cast<Handle>(due.what);
    if (!agents_.contains(h) || agents_[h].ping_key != due.what >> 32) continue;
    Agent& a = agents_[h];
    if (a.state != AgentState::registered) {
      a.ping_key = 0;
      continue;
    }
    if (a.heard)
      a.missed = 0;
    else if (a.missed < 255)
      ++a.missed;
    a.heard = false;
    if (a.missed >= options_.ping_misses) {
      a.ping_key = 0;
      mark_unreachable(h);
      continue;
    }
    if (a.link) to_agent(a.link, ping(++next_ping_));
    pings_.push_back({now_ + options_.ping_interval, due.what});
  }
}

}  // namespace gantry::master
