// Reconciliation: what the master knows of a task, said again (the table of mesos-kernel.md A5).
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"

namespace gantry::master {

using S = fb::TaskState;

void Core::on_reconcile(Handle fh, const fb::Reconcile* r) {
  if (!r || !r->tasks() || r->tasks()->size() == 0) {  // implicit: every live task
    const Framework& f = frameworks_[fh];
    for (Handle h = f.first_task; h; h = tasks_[h].of_framework.next)
      if (!tasks_[h].absent) tell_state(f, tasks_[h]);
    return;
  }
  for (const auto* t : *r->tasks()) reconcile_one(fh, text(t->task_id()), text(t->agent_id()));
}

// Operations are done or refused at once, and forgotten when that is acknowledged; of others can be said only where they
// would be.
void Core::on_reconcile_operations(Handle fh, const fb::ReconcileOperations& r) {
  using O = fb::OperationState;
  if (!r.operations() || r.operations()->size() == 0) {  // all that are known
    if (const auto own = operations_of_.find(frameworks_[fh].id); own != operations_of_.end())
      for (const auto& [id, uuid] : own->second) tell_tracked(uuid, operations_.at(uuid));
    return;
  }
  for (const auto* o : *r.operations()) {
    if (reconcile_tracked(frameworks_[fh], text(o->operation_id()))) continue;
    O state = O::OPERATION_UNKNOWN;
    std::string_view why = "Reconciliation: Operation is unknown";
    const Handle ah = find_agent(text(o->agent_id()));
    if (ah && agents_[ah].state == AgentState::registered) {
      state = O::OPERATION_DROPPED;
      why = "Reconciliation: Operation is unknown to the agent";
    } else if (ah && agents_[ah].state == AgentState::unreachable) {
      state = O::OPERATION_UNREACHABLE;
      why = "Reconciliation: Agent is unreachable";
    } else if (ah && agents_[ah].state == AgentState::gone) {
      state = O::OPERATION_GONE_BY_OPERATOR;
      why = "Reconciliation: Agent has been marked gone";
    } else if (ah) {
      state = O::OPERATION_RECOVERING;
      why = "Reconciliation: Agent is recovered but has not re-registered";
    }
    tell_operation(frameworks_[fh], text(o->operation_id()), ah, state, why);
  }
}

void Core::tell_state(const Framework& f, const Task& t) {
  const std::string_view agent_id = t.agent ? agents_[t.agent].id() : text(t.about().agent_id());
  auto s = status_of(t.id(), agent_id, t.absent ? t.state : t.status_state, fb::Reason::REASON_RECONCILIATION,
                     "Reconciliation: Latest task state");
  if (!t.status.empty()) {
    const auto& latest = *t.status.as<fb::TaskStatus>();
    keep_health(latest, s);
  }
  send_update(f, s);
}

// A task whose accept waits for a reservation to be stored is not booked yet, but it will run: never call it unknown.
bool Core::waits_to_launch(Handle fh, std::string_view task_id) const {
  for (const auto& [cookie, p] : pending_) {
    if (p.kind != Pending::Kind::accept || p.handle != fh) continue;
    const auto& operations = *flatbuffers::GetRoot<fb::Call>(p.bytes.data())->accept()->operations();
    for (std::size_t i = p.next_operation; i < operations.size(); ++i) {
      const auto* launch = operations[static_cast<flatbuffers::uoffset_t>(i)]->launch();
      if (!launch || !launch->task_infos()) continue;
      for (const auto* t : *launch->task_infos())
        if (text(t->task_id()) == task_id) return true;
    }
  }
  return false;
}

void Core::reconcile_one(Handle fh, std::string_view task_id, std::string_view agent_id) {
  const Framework& f = frameworks_[fh];
  const auto say = [&](S aware, std::string message, std::optional<std::int64_t> since = {}) {
    auto s = status_of(task_id, agent_id, f.partition_aware ? aware : S::TASK_LOST, fb::Reason::REASON_RECONCILIATION,
                       "Reconciliation: " + message);
    if (f.partition_aware && since) s.unreachable_time_ns = *since;
    send_update(f, s);
  };
  const Handle th = find_task(fh, task_id);
  if (th && !tasks_[th].absent) return tell_state(f, tasks_[th]);
  if (!th && waits_to_launch(fh, task_id)) {
    return send_update(f, status_of(task_id, agent_id, S::TASK_STAGING, fb::Reason::REASON_RECONCILIATION,
                                    "Reconciliation: Latest task state"));
  }
  if (th && agent_id.empty()) agent_id = text(tasks_[th].about().agent_id());

  const Handle ah = agent_id.empty() ? 0 : find_agent(agent_id);
  const AgentState state = ah ? agents_[ah].state : AgentState::departed;
  // An agent that is known but not yet back may run it: silence until that is decided.
  if (ah ? state == AgentState::recovered || state == AgentState::registering : agent_id.empty() && recovering_ > 0)
    return;
  if (ah && state == AgentState::marking && !th) return;
  switch (state) {
    case AgentState::unreachable:
      return say(S::TASK_UNREACHABLE, "Task is unreachable", agents_[ah].since_wall);
    case AgentState::gone:
      return say(S::TASK_GONE_BY_OPERATOR, "Task is gone: its agent was removed by the operator");
    case AgentState::registered:
      if (th) return say(tasks_[th].state, "Task is lost with its agent's connection");
      return say(S::TASK_GONE, "Task is unknown to the agent");
    default:
      return say(S::TASK_UNKNOWN, "Task is unknown");
  }
}

}  // namespace gantry::master
