// The outbox: status updates in order per task, each kept until the framework has acknowledged it.
//
// One update per task is in flight; it is sent again after 10 s, doubling to 10 min (reference mesos-kernel.md A5). An
// update is in the journal before it is sent. The master learns of a terminal state at once, through latest_state of
// the update in flight, because resources return on it and not on its acknowledgement.
#include "kernel/agent/core.hpp"

#include <algorithm>

namespace gantry::agent {

fb::TaskStatusT Core::make_status(const Step& step, const Task& task, fb::TaskState state) {
  fb::TaskStatusT s;
  s.task_id = task.info->task_id;
  s.state = state;
  s.agent_id = agent_id_;
  s.timestamp = static_cast<double>(step.time.wall) / 1e9;
  s.source = fb::Source::SOURCE_AGENT;
  if (!task.container_id.empty()) {
    if (!task.executor) s.executor_id = task.info->task_id;  // as a command task always had
    if (is_nested(*task.info)) s.executor_id = task.info->executor->executor_id;
    s.container_status = std::make_unique<fb::ContainerStatusT>();
    describe_container(task, *s.container_status);
  }
  // Updates of one kind must not erase what another kind has told.
  if (!is_terminal(state) && state != fb::TaskState::TASK_KILLING) s.healthy = task.status.healthy;
  if (task.info->check && (!task.executor || is_nested(*task.info))) {
    s.check_status = task.status.check_status ? std::make_unique<fb::CheckStatusInfoT>(*task.status.check_status)
                                              : std::make_unique<fb::CheckStatusInfoT>(no_result(task.info->check->type));
  }
  return s;
}

// Where the task is. On the machine's own network its address is the machine's.
void Core::describe_container(const Task& task, fb::ContainerStatusT& c) const {
  c.container_id = task.container_id;
  c.container_parent.reset();
  const auto& identity = task.executor ? task.executor->identity : task.identity;
  const auto& process = is_nested(*task.info) ? task.identity : identity;
  if (process) c.executor_pid = static_cast<std::uint32_t>(process->pid);
  if (is_nested(*task.info) && task.executor) {
    c.container_parent = std::make_unique<fb::ContainerIdT>();
    c.container_parent->value = task.executor->container_id;
  }
  const auto& container = task.executor ? task.executor->info->container : task.info->container;
  const bool other_network = container && std::any_of(container->network_infos.begin(), container->network_infos.end(),
                                                      [](const auto& n) { return !n->name.empty(); });
  if (identity && !identity->networks.empty()) {
    c.network_infos.clear();
    for (const auto& n : identity->networks) c.network_infos.push_back(std::make_unique<fb::NetworkInfoT>(n));
    return;
  }
  const bool docker_network = container && container->docker && container->docker->network.value_or(fb::DockerNetwork::HOST) != fb::DockerNetwork::HOST;
  if (docker_network || options_.ip.empty() || other_network || !c.network_infos.empty()) return;
  auto address = std::make_unique<fb::IpAddressT>();
  address->protocol = options_.ip.find(':') == std::string::npos ? fb::NetworkProtocol::IPv4 : fb::NetworkProtocol::IPv6;
  address->ip_address = options_.ip;
  c.network_infos.push_back(std::make_unique<fb::NetworkInfoT>());
  c.network_infos.back()->ip_addresses.push_back(std::move(address));
}

void Core::update(Step& step, Task& task, fb::TaskStatusT status) {
  // Whatever kills it: on an agent that is being drained, that is why.
  const bool gone = (draining_ && draining_->mark_gone) || task.cause == Task::Cause::drained_gone;
  const bool killed = status.state == fb::TaskState::TASK_KILLED;
  if ((killed || status.state == fb::TaskState::TASK_KILLING) && (draining_ || gone || task.cause == Task::Cause::drained)) {
    status.reason = fb::Reason::REASON_AGENT_DRAINING;
    if (killed && gone && has_capability(task.framework_id, fb::FrameworkCapability::PARTITION_AWARE))
      status.state = fb::TaskState::TASK_GONE_BY_OPERATOR;
  }
  if (status.uuid.empty()) status.uuid = new_uuid();  // executors bring their own
  task.status = status;
  ++counters_.updates;
  if (is_terminal(status.state) && !task.unknown) ++counters_.ended[status.state];
  if (task.recorded) {
    auto e = entry(fb::record::EntryType::UPDATE, task, step.time.wall);
    e.status = std::make_unique<fb::TaskStatusT>(status);
    append(step, std::move(e));
  }
  task.outbox.push_back(std::move(status));
  if (task.outbox.size() == 1) {
    task.retry = Nanos{0};
    send_head(step, task);
  } else if (is_terminal(task.status.state) && registered() && (journal_problem_.empty() || !task.recorded)) {
    send_status(step, task, task.outbox.front());  // carries the latest state; the timer of the head goes on
  }
}

void Core::send_status(Step& step, const Task& task, fb::TaskStatusT status) {
  fb::link::StatusUpdateT u;
  u.framework_id = task.framework_id;
  u.status = std::make_unique<fb::TaskStatusT>(std::move(status));
  u.latest_state = task.status.state;
  u.terminal = is_terminal(task.status.state);
  fb::link::FromAgentUnion body;
  body.Set(std::move(u));
  send(step, std::move(body));
}

void Core::send_head(Step& step, Task& task) {
  // What the journal does not hold yet must not be seen: Journal{ok} sends it later.
  if (task.outbox.empty() || !registered() || (task.recorded && !journal_problem_.empty())) return;
  task.retry = task.retry.count() == 0 ? options_.retry_first : std::min(task.retry * 2, options_.retry_max);
  set_due(&task, Due::update, step.time.now + task.retry);
  send_status(step, task, task.outbox.front());
}

// The state as an answer to a question: without uuid, so nobody acknowledges it.
void Core::send_latest(Step& step, Task& task) {
  if (!registered()) return;
  fb::TaskStatusT status = task.status;
  status.uuid.clear();
  status.reason = fb::Reason::REASON_RECONCILIATION;
  status.timestamp = static_cast<double>(step.time.wall) / 1e9;
  send_status(step, task, std::move(status));
}

void Core::send_all(Step& step) {
  for (Task* task : in_order()) {
    if (task->outbox.empty()) continue;
    task->retry = Nanos{0};
    send_head(step, *task);
  }
}

void Core::on_update_due(Step& step, Task& task) { send_head(step, task); }

void Core::on_ack(Step& step, const fb::link::AckUpdate& ack) {
  Task* task = get(std::string(text(ack.framework_id())), std::string(text(ack.task_id())));
  if (!task || task->outbox.empty() || !ack.uuid() ||
      !std::equal(ack.uuid()->begin(), ack.uuid()->end(), task->outbox.front().uuid.begin(),
                  task->outbox.front().uuid.end())) {
    return log(step, base::Level::debug, "ignored an acknowledgement that nobody waits for",
               std::string(text(ack.task_id())));
  }
  if (is_terminal(task->outbox.front().state)) return forget(step, *task);
  if (task->recorded) {
    auto e = entry(fb::record::EntryType::ACKED, *task, step.time.wall);
    e.uuid = task->outbox.front().uuid;
    append(step, std::move(e));
  }
  task->outbox.pop_front();
  task->retry = Nanos{0};
  set_due(task, Due::update, Instant{0});
  send_head(step, *task);
}

// Nobody will ask for it any more: the end of every task.
void Core::forget(Step& step, Task& task) {
  if (task.recorded) append(step, entry(fb::record::EntryType::FORGOTTEN, task, step.time.wall));
  if (!task.sandbox.empty() && (!task.info->executor || is_nested(*task.info))) step.effects.emplace_back(effect::Release{task.sandbox});
  if (!task.unknown) {
    completed_.push_back(
        Completed{task.framework_id, task.info, task.status, task.container_id, task.sandbox, task.launched_wall});
    while (completed_.size() > options_.completed_kept) completed_.pop_front();
  }
  drop(task);
}

}  // namespace gantry::agent
