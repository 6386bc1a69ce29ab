// What executors say: who may speak, SUBSCRIBE, UPDATE, MESSAGE; and what is said to them in return (executors.cpp has their lives).
#include "kernel/agent/core.hpp"

#include <algorithm>
#include <set>

namespace gantry::agent {

using fb::Reason;
using fb::TaskState;
using fb::record::EntryType;
namespace ex = fb::executor;

namespace {

// The time it takes tells nothing of where they differ.
bool same_secret(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace

// Who speaks, or why not; the words are those of the field (mesos-kernel.md B4).
Result<Executor*> Core::admit(std::string_view framework_id, std::string_view executor_id, std::string_view token) {
  if (!started_) return fail(Code::unavailable, "Agent has not finished recovery");
  const auto e = find_executor(std::string(framework_id), std::string(executor_id));
  if (!e || is_default(*e->info)) {  // nobody speaks for the default one
    const bool known = std::any_of(executors_.begin(), executors_.end(), [&](const auto& x) { return x.second->framework_id == framework_id; }) ||
                       std::any_of(tasks_.begin(), tasks_.end(), [&](const auto& x) { return x.second->framework_id == framework_id && !x.second->unknown; });
    return fail(Code::invalid_argument, known ? "Executor cannot be found" : "Framework cannot be found");
  }
  if (!e->token.empty() && !same_secret(e->token, token)) {
    for (const auto& [k, other] : executors_)
      if (!other->token.empty() && same_secret(other->token, token))
        return fail(Code::permission_denied, "The token is that of another executor");
    return fail(Code::unauthenticated, "The token is not this executor's");
  }
  return e.get();
}

void Core::on(Step& step, const event::ExecutorSubscribe& s) {
  const auto end = [&](Error why) { step.effects.emplace_back(effect::EndExecutor{s.stream, Status(std::move(why))}); };
  const auto* call = view<ex::Call>(s.call);
  if (!call || !call->subscribe()) return end(fail(Code::invalid_argument, "the body is no SUBSCRIBE of an executor"));
  const auto who = admit(text(call->framework_id()), text(call->executor_id()), s.token);
  if (!who) return end(who.error());
  Executor& e = **who;
  if (e.phase != Executor::Phase::running && e.phase != Executor::Phase::launching)
    return end(fail(Code::unavailable, "Agent has not finished recovery"));
  if (e.stream) {
    step.effects.emplace_back(effect::EndExecutor{e.stream, Status(fail(Code::aborted, "the executor subscribed again"))});
    streams_.erase(e.stream);
  }
  const bool first = !e.known;
  e.stream = s.stream;
  streams_[s.stream] = &e;
  e.subscribed = e.known = true;
  if (first && e.recorded) append(step, entry(EntryType::ACKED, e, step.time.wall));

  ex::EventT event;
  event.type = ex::EventType::SUBSCRIBED;
  event.subscribed = std::make_unique<ex::SubscribedT>();
  event.subscribed->executor_info = std::make_unique<fb::ExecutorInfoT>(*e.info);
  const auto* info = framework(e.framework_id);
  event.subscribed->framework_info = info ? std::make_unique<fb::FrameworkInfoT>(*info) : std::make_unique<fb::FrameworkInfoT>();
  event.subscribed->framework_info->id = e.framework_id;
  event.subscribed->agent_info = std::make_unique<fb::AgentInfoT>(options_.info);
  event.subscribed->agent_info->id = agent_id_;
  event.subscribed->container_id = std::make_unique<fb::ContainerIdT>();
  event.subscribed->container_id->value = e.container_id;
  say(step, e, event);

  if (e.cause != Executor::Cause::none) {
    event = {};
    event.type = ex::EventType::SHUTDOWN;
    return say(step, e, event);
  }
  set_executor_due(e, Instant{0});
  // What it still holds of earlier conversations. Its tasks that have not said anything and that it does not name never reached it.
  if (const auto* updates = call->subscribe()->unacknowledged_updates())
    for (const auto* u : *updates)
      if (u->status()) (void)executor_update(step, e, *u->status());  // what is not acknowledged it tells again
  std::set<std::string_view> has;
  if (const auto* tasks = call->subscribe()->unacknowledged_tasks())
    for (const auto* t : *tasks) has.insert(text(t->task_id()));
  const bool aware = has_capability(e.framework_id, fb::FrameworkCapability::PARTITION_AWARE);
  for (Task* task : std::vector<Task*>(e.tasks)) {
    if (task->phase != Task::Phase::running) continue;
    if (task->status.state == TaskState::TASK_STAGING && !has.contains(task->info->task_id)) {
      auto status = make_status(step, *task, aware ? TaskState::TASK_DROPPED : TaskState::TASK_LOST);
      status.reason = Reason::REASON_AGENT_RESTARTED;
      status.message = "Task launched during agent restart";
      finish(step, *task, std::move(status));
    } else if (task->cause != Task::Cause::none) {
      kill_at_executor(step, *task, task->cause, {});
    }
  }
  if (first && e.tasks.empty()) return shut_down_executor(step, e, Executor::Cause::idle);
  deliver(step, e);
}

void Core::on(Step&, const event::ExecutorGone& g) {
  const auto it = streams_.find(g.stream);
  if (it == streams_.end()) return;
  it->second->stream = 0;
  streams_.erase(it);
}

void Core::on(Step& step, const event::ExecutorCall& c) {
  const auto answer = [&](Status status) { step.effects.emplace_back(effect::AnswerExecutor{c.request, std::move(status)}); };
  const auto* call = view<ex::Call>(c.call);
  if (!call) return answer(fail(Code::invalid_argument, "the body is no call of an executor"));
  if (call->type() == ex::CallType::HEARTBEAT) return answer(ok);
  const auto who = admit(text(call->framework_id()), text(call->executor_id()), c.token);
  if (!who) return answer(who.error());
  Executor& e = **who;
  if (!e.subscribed) return answer(fail(Code::failed_precondition, "Executor is not subscribed"));
  switch (call->type()) {
    case ex::CallType::UPDATE: {
      if (!call->update() || !call->update()->status()) return answer(fail(Code::invalid_argument, "Expecting 'update' to be present"));
      return answer(executor_update(step, e, *call->update()->status()));
    }
    case ex::CallType::MESSAGE: {
      if (!call->message()) return answer(fail(Code::invalid_argument, "Expecting 'message' to be present"));
      if (registered()) {
        fb::link::AgentMessageT message;
        message.framework_id = e.framework_id;
        message.executor_id = e.id();
        if (const auto* data = call->message()->data()) message.data.assign(data->begin(), data->end());
        fb::link::FromAgentUnion body;
        body.Set(std::move(message));
        send(step, std::move(body));
      }
      return answer(ok);
    }
    default: return answer(fail(Code::unimplemented, "the call is not known"));
  }
}

Status Core::executor_update(Step& step, Executor& e, const fb::TaskStatus& given) {
  if (!given.uuid() || given.uuid()->size() != 16) return fail(Code::invalid_argument, "Not a valid UUID");
  if (given.state() < TaskState::MIN || given.state() > TaskState::MAX || given.state() == TaskState::TASK_STAGING)
    return fail(Code::invalid_argument, "the state of the update is not one that executors tell");
  ex::EventT acknowledged;
  acknowledged.type = ex::EventType::ACKNOWLEDGED;
  acknowledged.acknowledged = std::make_unique<ex::AcknowledgedT>();
  acknowledged.acknowledged->task_id = text(given.task_id());
  acknowledged.acknowledged->uuid.assign(given.uuid()->begin(), given.uuid()->end());
  const auto& uuid = acknowledged.acknowledged->uuid;

  Task* task = get(e.framework_id, std::string(text(given.task_id())));
  const bool over = !task || task->executor.get() != &e || task->phase == Task::Phase::ended;
  const bool again = !over && (task->status.uuid == uuid || std::any_of(task->outbox.begin(), task->outbox.end(),
                                                                        [&](const auto& s) { return s.uuid == uuid; }));
  if (over || again) {
    // It was heard before. While the journal fails that may not be written yet: who hears no acknowledgement tells it again.
    if (task && task->recorded && !journal_problem_.empty())
      return fail(Code::unavailable, "The agent cannot record this: " + journal_problem_);
    if (over) log(step, base::Level::debug, "an executor told of a task that is no longer its", std::string(text(given.task_id())));
    say(step, e, acknowledged);
    return ok;
  }

  fb::TaskStatusT status;
  given.UnPackTo(&status);
  status.agent_id = agent_id_;
  status.source = fb::Source::SOURCE_EXECUTOR;
  if (!status.timestamp) status.timestamp = static_cast<double>(step.time.wall) / 1e9;
  if (!status.container_status) status.container_status = std::make_unique<fb::ContainerStatusT>();
  describe_container(*task, *status.container_status);
  if (task->phase == Task::Phase::launching) task->phase = Task::Phase::running;
  e.delivered = true;
  if (is_terminal(status.state)) finish(step, *task, std::move(status));
  else update(step, *task, std::move(status));
  say(step, e, acknowledged);
  return ok;
}

void Core::on_message(Step& step, const fb::link::MasterMessage& m) {
  const auto e = find_executor(std::string(text(m.framework_id())), std::string(text(m.executor_id())));
  if (!e || !e->stream) return log(step, base::Level::debug, "dropped a message to an executor that is not here");
  ++counters_.messages;
  ex::EventT event;
  event.type = ex::EventType::MESSAGE;
  event.message = std::make_unique<ex::MessageT>();
  if (m.data()) event.message->data.assign(m.data()->begin(), m.data()->end());
  say(step, *e, event);
}

void Core::on_update_framework(Step& step, const fb::link::UpdateFramework& u) {
  if (!u.framework()) return;
  fb::FrameworkInfoT info;
  u.framework()->UnPackTo(&info);
  if (frameworks_.contains(info.id)) note_framework(step, info);
}

}  // namespace gantry::agent
