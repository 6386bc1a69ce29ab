// Status updates on their way up, acknowledgements and kills on their way down.
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"

namespace gantry::master {

using base::Level;
using S = fb::TaskState;

fb::TaskStatusT Core::status_of(std::string_view task_id, std::string_view agent_id, fb::TaskState state,
                                std::optional<fb::Reason> reason, std::string message) const {
  fb::TaskStatusT s;
  s.task_id = task_id;
  s.agent_id = agent_id;
  s.state = state;
  s.source = fb::Source::SOURCE_MASTER;
  if (reason) s.reason = *reason;
  s.message = std::move(message);
  s.timestamp = timestamp();
  return s;
}

void Core::set_task_state(Task& t, fb::TaskState latest) {
  if (t.state == latest) return;
  --by_state_[static_cast<std::size_t>(t.state)];
  ++by_state_[static_cast<std::size_t>(latest)];
  t.state = latest;
  switch (latest) {
    case S::TASK_FINISHED:
      ++counters_.tasks_finished;
      break;
    case S::TASK_FAILED:
      ++counters_.tasks_failed;
      break;
    case S::TASK_KILLED:
      ++counters_.tasks_killed;
      break;
    case S::TASK_ERROR:
      ++counters_.tasks_error;
      break;
    case S::TASK_LOST:
    case S::TASK_DROPPED:
    case S::TASK_GONE:
      ++counters_.tasks_lost;
      break;
    default:
      break;
  }
}

void Core::release(Handle h) {
  Task& t = tasks_[h];
  if (t.released) return;
  t.released = true;
  give_back(t.agent, t.framework, t.role, t.resources);
  t.resources = Resources();
}

void Core::finish_task(Handle h) {
  Task& t = tasks_[h];
  auto& history = frameworks_[t.framework].completed;
  if (options_.completed_tasks) {
    history.push_back({std::move(t.info), std::move(t.status), t.state, t.launched_wall, ++completions_});
    note_completed(frameworks_[t.framework].id, history.back());
    if (history.size() > options_.completed_tasks) history.pop_front();
    t.info = Blob();
    // The id is needed to leave the index.
    task_by_id_.erase(hash_text(text(history.back().info.as<fb::TaskInfo>()->task_id()), t.framework), h);
  } else {
    note_gone(frameworks_[t.framework].id, t.id());
    task_by_id_.erase(hash_text(t.id(), t.framework), h);
  }
  erase_task(h);
}

// Takes it out of all lists; the index entry has gone already.
void Core::erase_task(Handle h) {
  Task& t = tasks_[h];
  Framework& f = frameworks_[t.framework];
  chain_remove(tasks_, &Task::of_framework, f.first_task, h);
  --f.tasks;
  if (t.absent) {
    --f.absent;
  } else {
    Agent& a = agents_[t.agent];
    chain_remove(tasks_, &Task::of_agent, a.first_task, h);
    --a.tasks;
    look_after(t.agent);
  }
  --by_state_[static_cast<std::size_t>(t.state)];
  tasks_.erase(h);
}

// Its agent is away; it may come back. Its resources must have been released.
void Core::make_absent(Handle h, fb::TaskState state) {
  Task& t = tasks_[h];
  Agent& a = agents_[t.agent];
  chain_remove(tasks_, &Task::of_agent, a.first_task, h);
  --a.tasks;
  look_after(t.agent);
  absent_of_[std::string(a.id())].push_back(h);
  t.agent = 0;
  t.absent = true;
  set_task_state(t, state);
  t.status_state = state;
  t.pending_ack = false;
  note_task(h);
  Framework& f = frameworks_[t.framework];
  ++f.absent;
  f.absent_order.push_back(h);
  trim_absent(f);
}

void Core::trim_absent(Framework& f) {
  while (f.absent > options_.unreachable_tasks && !f.absent_order.empty()) {
    const Handle h = f.absent_order.front();
    f.absent_order.pop_front();
    if (tasks_.contains(h) && tasks_[h].absent && &frameworks_[tasks_[h].framework] == &f) finish_task(h);
  }
  if (f.absent == 0) f.absent_order.clear();
}

void Core::on_update(Handle ah, Bytes frame, const fb::link::StatusUpdate& u) {
  ++counters_.updates_received;
  const auto* status = u.status();
  const std::string_view framework_id = text(u.framework_id());
  if (!status || text(status->task_id()).empty() || !is_state(status->state()) || !is_state(u.latest_state())) {
    ++counters_.invalid_messages;
    return;
  }
  const Agent& a = agents_[ah];
  const Handle fh = find_framework(framework_id);
  if (!fh) {
    // Nobody will ever acknowledge it; and whatever still runs of that framework must not.
    if (removed_ids_.contains(std::string(framework_id)) && a.link) {
      if (status->uuid())
        to_agent(a.link,
                 ack_update(framework_id, text(status->task_id()), {status->uuid()->data(), status->uuid()->size()}));
      if (!u.terminal()) to_agent(a.link, remove_framework(framework_id));
    }
    return;
  }
  const Framework& f = frameworks_[fh];
  const Handle th = find_task(fh, text(status->task_id()));
  bool finished = false, for_us = false;
  if (th && tasks_[th].agent == ah) {
    Task& t = tasks_[th];
    const bool ended = u.terminal() || terminal(u.latest_state());
    // The agent repeats an update at once to say that the task has ended meanwhile. The framework has it already; if it
    // was lost on the way there, the agent's ordinary repetition brings it.
    const bool same = status->uuid() && status->uuid()->size() == kUuid &&
                      std::equal(t.uuid.begin(), t.uuid.end(), status->uuid()->begin());
    const bool acknowledged = same && !t.pending_ack && t.status_state == status->state();  // its repetition crossed the acknowledgement
    for_us = acknowledged || (same && ended && !terminal(status->state()) && !terminal(t.state));
    if (!terminal(t.state) || ended) set_task_state(t, u.latest_state());
    t.status_state = status->state();
    t.pending_ack = !acknowledged && status->uuid() && status->uuid()->size() == kUuid;
    if (acknowledged && a.link) to_agent(a.link, ack_update(f.id, t.id(), {t.uuid.data(), t.uuid.size()}));
    if (t.pending_ack) std::copy(status->uuid()->begin(), status->uuid()->end(), t.uuid.begin());
    t.status = small_status(frame, status);
    note_update(t);
    if (ended) release(th);  // on the terminal update, not on its acknowledgement
    finished = ended && !t.pending_ack && terminal(status->state());
  }
  if (f.stream && !for_us) {
    ++counters_.updates_forwarded;
    if (text(status->agent_id()).empty()) {
      fb::TaskStatusT s;
      status->UnPackTo(&s);
      s.agent_id = a.id();
      out_->emplace_back(SendFramework{f.stream, update_event(s)});
    } else {
      out_->emplace_back(SendFramework{f.stream, update_event(frame, status)});
    }
  }
  if (finished) finish_task(th);
}

void Core::on_acknowledge(Handle fh, const fb::Acknowledge& k) {
  const Handle ah = find_agent(text(k.agent_id()));
  if (!ah || agents_[ah].state != AgentState::registered || !agents_[ah].link || agents_[ah].returning)
    return;  // the agent repeats the update
  ++counters_.acknowledgements;
  const Bytes uuid(k.uuid()->data(), k.uuid()->size());
  to_agent(agents_[ah].link, ack_update(frameworks_[fh].id, text(k.task_id()), uuid));
  const Handle th = find_task(fh, text(k.task_id()));
  if (!th || tasks_[th].agent != ah) return;
  Task& t = tasks_[th];
  if (!t.pending_ack || std::memcmp(t.uuid.data(), uuid.data(), kUuid) != 0) return;
  t.pending_ack = false;
  if (terminal(t.status_state) && t.released) finish_task(th);
}

void Core::send_kill(const Task& t, std::optional<std::int64_t> grace_ns) {
  const Agent& a = agents_[t.agent];
  if (a.link && a.state == AgentState::registered)
    to_agent(a.link, kill_task(frameworks_[t.framework].id, t.id(), grace_ns));
}

void Core::on_kill(Handle fh, const fb::Kill& k) {
  const Handle th = find_task(fh, text(k.task_id()));
  if (!th || tasks_[th].absent) return reconcile_one(fh, text(k.task_id()), text(k.agent_id()));
  Task& t = tasks_[th];
  if (k.agent_id() && text(k.agent_id()) != agents_[t.agent].id()) {
    log(Level::warning, "dropped a kill that names another agent than the task's", {{"task", std::string(t.id())}});
    return;
  }
  if (t.released) return;  // it has ended
  t.kill = true;           // repeated if the agent is away now
  std::optional<std::int64_t> grace;
  if (k.kill_policy() && k.kill_policy()->grace_period_ns()) grace = *k.kill_policy()->grace_period_ns();
  send_kill(t, grace);
}

void Core::on_operator_kill(const OperatorKill& e) {
  Handle th = 0;
  if (e.framework_id.empty()) {
    for (const auto& [id, fh] : framework_by_id_)
      if (const Handle found = find_task(fh, e.task_id)) th = found;
  } else if (const Handle fh = find_framework(e.framework_id)) {
    th = find_task(fh, e.task_id);
  }
  if (!th)
    return answer(e.request, fail(Code::not_found, "task " + std::string(e.task_id) +
                                                       " is not known; `gantry task list` shows those that are"));
  Task& t = tasks_[th];
  if (t.absent)
    return answer(e.request,
                  fail(Code::unavailable, "the agent of task " + std::string(e.task_id) + " is unreachable"));
  if (t.released)
    return answer(e.request, fail(Code::failed_precondition, "task " + std::string(e.task_id) + " has already ended"));
  t.kill = true;
  send_kill(t, {});
  answer(e.request, ok);
}

void Core::on_agent_message(Handle ah, const fb::link::AgentMessage& m) {
  const Handle fh = find_framework(text(m.framework_id()));
  if (fh && frameworks_[fh].stream)
    out_->emplace_back(SendFramework{frameworks_[fh].stream, message_event(agents_[ah].id(), m)});
}

void Core::broadcast_failure(std::string_view agent_id) {
  for (const auto& [stream, h] : framework_by_stream_)
    out_->emplace_back(SendFramework{stream, failure_event(agent_id, {}, {})});
}

}  // namespace gantry::master
