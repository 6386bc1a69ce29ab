// A task from RunTask to the end of its container.
//
//   RunTask -> INTENT, TASK_STARTING, Launch -> Launched -> STARTED, TASK_RUNNING -> Exited -> a terminal update -> its
//   acknowledgement -> FORGOTTEN.   A kill, from wherever it comes, only notes its cause and asks the launcher; the
//   terminal state is decided in one place, ended().
#include "kernel/agent/core.hpp"
#include "kernel/agent/image.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <cstring>

namespace gantry::agent {

using fb::Reason;
using fb::TaskState;

namespace {

std::string exit_message(int wait_status) {
  if (WIFSIGNALED(wait_status))
    return std::string("Command terminated with signal ") + ::strsignal(WTERMSIG(wait_status));
  return "Command exited with status " + std::to_string(WEXITSTATUS(wait_status));
}

}  // namespace

void Core::on_run(Step& step, const fb::link::RunTask& run) {
  if (!run.framework() || !run.task() || !registered()) {
    return log(step, base::Level::warning,
               "ignored a task that came without its framework or before this agent was registered");
  }
  fb::FrameworkInfoT framework;
  run.framework()->UnPackTo(&framework);
  auto info = std::make_shared<fb::TaskInfoT>();
  run.task()->UnPackTo(info.get());
  const std::string framework_id = framework.id;

  if (Task* known = get(framework_id, info->task_id); known && !known->unknown) {
    // Most likely the same message twice. A terminal answer would end the task that lives, so tell how that one is.
    log(step, base::Level::warning, "ignored a second launch of a task that this agent knows", info->task_id);
    return known->outbox.empty() ? send_latest(step, *known) : send_status(step, *known, known->outbox.front());
  }
  const bool drop_state = has_capability(framework_id, fb::FrameworkCapability::PARTITION_AWARE) ||
                          std::find(framework.capabilities.begin(), framework.capabilities.end(),
                                    fb::FrameworkCapability::PARTITION_AWARE) != framework.capabilities.end();
  const TaskState dropped = drop_state ? TaskState::TASK_DROPPED : TaskState::TASK_LOST;
  const std::optional<bool> launch_executor = run.launch_executor();
  const auto refused = [&](TaskState state, Reason reason, std::string message) {
    refuse_run(step, framework_id, info, launch_executor, state, reason, std::move(message));
  };
  if (stopping_) return refused(dropped, Reason::REASON_AGENT_DRAINING, "The agent is shutting down");
  if (draining_) return refused(dropped, Reason::REASON_AGENT_DRAINING, "The agent is draining");
  if (!is_folder_name(framework_id) || !is_folder_name(info->task_id)) {
    return refused(TaskState::TASK_ERROR, Reason::REASON_TASK_INVALID,
                   "Task id '" + info->task_id + "' of framework '" + framework_id +
                       "' cannot be used as a folder name: remove slashes "
                       "and control characters");
  }
  if (info->executor) return run_with_executor(step, framework, std::move(info), dropped, launch_executor);
  // An image may say itself what runs.
  if (!info->command || (info->command->value.empty() && info->command->arguments.empty() && !wanted_image(*info))) {
    return refuse(step, framework_id, info, TaskState::TASK_ERROR, Reason::REASON_TASK_INVALID,
                  "Task '" + info->task_id + "' has no command: set command.value");
  }
  if (!journal_problem_.empty()) {
    return refuse(step, framework_id, info, dropped, Reason::REASON_CONTAINER_LAUNCH_FAILED,
                  "The agent cannot record new tasks: " + journal_problem_);
  }

  note_framework(step, framework);
  Task& task = add(framework_id, info);
  task.container_id = new_container_id();
  task.sandbox = options_.work_dir + "/slaves/" + agent_id_ + "/frameworks/" + framework_id + "/executors/" +
                 info->task_id + "/runs/" + task.container_id;
  task.launched_wall = step.time.wall;
  containers_[task.container_id] = &task;

  auto intent = entry(fb::record::EntryType::INTENT, task, step.time.wall);
  intent.task = std::make_unique<fb::TaskInfoT>(*info);
  intent.container_id = task.container_id;
  intent.sandbox = task.sandbox;
  append(step, std::move(intent));

  auto status = make_status(step, task, TaskState::TASK_STARTING);
  status.source = fb::Source::SOURCE_EXECUTOR;
  update(step, task, std::move(status));
  step.effects.emplace_back(effect::Launch{spec_of_command(task)});
}

LaunchSpec Core::spec_of_command(const Task& task) const {
  LaunchSpec spec;
  spec.container_id = task.container_id;
  spec.agent_id = agent_id_;
  spec.framework_id = task.framework_id;
  const auto* info = framework(task.framework_id);
  if (options_.switch_user && task.info->command) spec.user = task.info->command->user.empty() && info ? info->user : task.info->command->user;
  spec.sandbox = task.sandbox;
  spec.task = task.info;
  return spec;
}

// A task that never got a container. Nothing of it is on disk: if the agent dies, the master finds it missing.
void Core::refuse(Step& step, const std::string& framework_id, std::shared_ptr<const fb::TaskInfoT> info,
                  TaskState state, Reason reason, std::string message) {
  log(step, base::Level::warning, message, info->task_id);
  Task& task = add(framework_id, std::move(info));
  task.recorded = false;
  task.phase = Task::Phase::ended;
  auto status = make_status(step, task, state);
  status.reason = reason;
  status.message = std::move(message);
  update(step, task, std::move(status));
}

void Core::tell_unknown(Step& step, const std::string& framework_id, const std::string& task_id) {
  auto info = std::make_shared<fb::TaskInfoT>();
  info->task_id = task_id;
  Task& task = add(framework_id, std::move(info));
  task.recorded = false;
  task.unknown = true;
  task.phase = Task::Phase::ended;
  auto status =
      make_status(step, task,
                  has_capability(framework_id, fb::FrameworkCapability::PARTITION_AWARE) ? TaskState::TASK_DROPPED
                                                                                         : TaskState::TASK_LOST);
  status.reason = Reason::REASON_RECONCILIATION;
  status.message = "Reconciliation: task unknown to the agent";
  update(step, task, std::move(status));
}

void Core::on(Step& step, const event::Launched& e) {
  if (Executor* executor = executor_by_container(e.container_id)) return executor_launched(step, *executor, e.identity);
  Task* task = by_container(e.container_id);
  if (!task || task->phase != Task::Phase::launching) return;
  task->phase = Task::Phase::running;
  task->identity = e.identity;
  task->launched_wall = step.time.wall;
  if (task->recorded) {
    auto started = entry(fb::record::EntryType::STARTED, *task, step.time.wall);
    started.container_id = task->container_id;
    started.sandbox = task->sandbox;
    started.pid = e.identity.pid;
    started.supervisor_pid = e.identity.supervisor_pid;
    started.supervisor_start = e.identity.supervisor_start;
    append(step, std::move(started));
  }
  if (task->cause != Task::Cause::none) {
    // The kill crossed the end of the launch.
    const Nanos left = std::max(Nanos{0}, task->kill_due - step.time.now);
    step.effects.emplace_back(effect::Kill{task->container_id, left});
    return;
  }
  running(step, *task, false);
}

void Core::running(Step& step, Task& task, bool resumed) {
  if (task.status.state == TaskState::TASK_STARTING) {
    auto status = make_status(step, task, TaskState::TASK_RUNNING);
    status.source = fb::Source::SOURCE_EXECUTOR;
    update(step, task, std::move(status));
  }
  start_health(step, task, resumed);
  start_check(step, task, resumed);
  if (const auto& limit = task.info->max_completion_time_ns) {
    // By the wall clock, so that a restart of the agent does not prolong it; a clock that jumped back must not either.
    const Nanos ran(std::max<base::Wall>(0, step.time.wall - task.launched_wall));
    constexpr Nanos longest = std::chrono::hours(24 * 365 * 50);  // can still be added to a clock
    const Nanos left = std::min(Nanos(*limit), longest) - ran;
    set_due(&task, Due::completion, step.time.now + std::max(Nanos{1}, left));
  }
}

void Core::on(Step& step, const event::LaunchFailed& e) {
  if (Executor* executor = executor_by_container(e.container_id)) {
    if (e.unrecorded) {
      executor->recorded = false;
      for (Task* task : executor->tasks) task->recorded = false;
    }
    return executor_ended(step, *executor, {}, std::pair(e.reason, "Failed to launch container: " + e.message));
  }
  Task* task = by_container(e.container_id);
  if (!task || task->phase != Task::Phase::launching) return;
  if (e.unrecorded) task->recorded = false;
  const bool killed = task->cause != Task::Cause::none;
  auto status = make_status(step, *task, killed ? TaskState::TASK_KILLED : TaskState::TASK_FAILED);
  status.reason = killed ? Reason::REASON_TASK_KILLED_DURING_LAUNCH : e.reason;
  status.message = killed ? "Killed while it was being launched" : "Failed to launch container: " + e.message;
  if (!killed) ++counters_.launches_failed;
  if (!killed) log(step, base::Level::warning, "launch failed: " + e.message, task->info->task_id);
  finish(step, *task, std::move(status));
}

void Core::on(Step& step, const event::Exited& e) {
  if (Executor* executor = executor_by_container(e.container_id)) return executor_ended(step, *executor, e.exit, {});
  Task* task = by_container(e.container_id);
  if (!task || task->phase == Task::Phase::ended) return;
  ended(step, *task, e.exit);
}

// Decides the terminal state of a task whose container is gone.
void Core::ended(Step& step, Task& task, const ExitInfo& exit) {
  TaskState state = TaskState::TASK_FAILED;
  std::optional<Reason> reason;
  std::string message =
      exit.wait_status ? exit_message(*exit.wait_status) : "The exit status of the command is not known";
  std::optional<bool> healthy;
  // That others of its group fell first, when all fell with their executor, is no reason.
  const Task::Cause cause = exit.with_parent && task.cause == Task::Cause::group ? Task::Cause::none : task.cause;
  switch (cause) {
    case Task::Cause::too_long:
      reason = Reason::REASON_MAX_COMPLETION_TIME_REACHED;
      message = "The task ran longer than its max_completion_time";
      break;
    case Task::Cause::unhealthy:
      state = TaskState::TASK_KILLED;
      healthy = false;
      break;
    case Task::Cause::asked:
    case Task::Cause::drained:
    case Task::Cause::drained_gone:
    case Task::Cause::framework_removed:
    case Task::Cause::shutdown:
    case Task::Cause::group:
      state = TaskState::TASK_KILLED;
      break;
    case Task::Cause::none:
      if (exit.reason) {
        reason = exit.reason;
        message = exit.message;
      } else if (!exit.wait_status) {
        reason = Reason::REASON_EXECUTOR_TERMINATED;
      } else if (WIFEXITED(*exit.wait_status) && WEXITSTATUS(*exit.wait_status) == 0) {
        state = TaskState::TASK_FINISHED;
      }  // else failed; the message says how, and there is no reason beside it (transcripts/scheduler-stream-plain.json)
      break;
  }
  auto status = make_status(step, task, state);
  if (exit.wait_status && !exit.reason) status.source = fb::Source::SOURCE_EXECUTOR;
  if (reason) status.reason = *reason;
  if (healthy) status.healthy = *healthy;
  status.message = std::move(message);
  if (cause == Task::Cause::none && !exit.limitation.empty()) {
    status.limitation = std::make_unique<fb::LimitationT>();
    for (const auto& r : exit.limitation) status.limitation->resources.push_back(std::make_unique<fb::ResourceT>(r));
  }
  finish(step, task, std::move(status), exit.with_parent);
}

void Core::finish(Step& step, Task& task, fb::TaskStatusT status, bool with_parent) {
  task.phase = Task::Phase::ended;
  stop_checks(task);
  set_due(&task, Due::completion, Instant{0});
  const auto holder = is_nested(*task.info) ? task.executor : nullptr;
  const std::string group = task.group;
  const bool silent = task.cause == Task::Cause::framework_removed || task.cause == Task::Cause::shutdown;
  const bool well = silent || with_parent || status.state == TaskState::TASK_FINISHED;
  if (holder) {
    std::erase(holder->tasks, &task);
    ++holder->size;
  } else if (task.executor) {
    remove_from(step, task);
  }
  if (silent) {
    // Nobody is left to acknowledge it: told once, then forgotten.
    if (task.cause == Task::Cause::framework_removed) status.reason = Reason::REASON_FRAMEWORK_REMOVED;
    task.status = status;
    if (registered()) send_status(step, task, std::move(status));
    forget(step, task);
    if (holder) left_group(step, holder, group, well);
    return finish_shutdown(step);
  }
  update(step, task, std::move(status));
  if (holder) left_group(step, holder, group, well);
}

Nanos Core::grace_of(const Task& task) const {
  const auto& policy = task.info->kill_policy;
  return policy && policy->grace_period_ns ? std::max(Nanos{0}, Nanos(*policy->grace_period_ns))
                                           : options_.default_grace;
}

void Core::kill(Step& step, Task& task, Task::Cause cause, Nanos grace) {
  if (task.phase == Task::Phase::ended) return;
  if (task.executor && !is_nested(*task.info)) return kill_at_executor(step, task, cause, grace);
  // Far beyond any sensible grace, near enough to add to a clock.
  const Instant due = step.time.now + std::min<Nanos>(grace, std::chrono::hours(24 * 365));
  const bool first = task.cause == Task::Cause::none;
  const bool silent = cause == Task::Cause::framework_removed || cause == Task::Cause::shutdown;
  if (waits(task)) {
    if (first || silent) task.cause = cause;
    return kill_waiting(step, task);
  }
  if (!first && due >= task.kill_due && !silent) return;  // a repeated kill can only shorten
  task.kill_due = first ? due : std::min(due, task.kill_due);
  if (first || silent) {
    task.cause = cause;
    if (task.recorded) {
      auto e = entry(fb::record::EntryType::KILLING, task, step.time.wall);
      e.exit_status = static_cast<int>(cause);
      append(step, std::move(e));
    }
  }
  stop_checks(task);
  set_due(&task, Due::completion, Instant{0});
  if (task.phase != Task::Phase::recovering) {
    step.effects.emplace_back(effect::Kill{task.container_id, task.kill_due - step.time.now});
  }
  if (first && !silent && task.phase == Task::Phase::running &&
      has_capability(task.framework_id, fb::FrameworkCapability::TASK_KILLING_STATE)) {
    auto status = make_status(step, task, TaskState::TASK_KILLING);
    status.source = fb::Source::SOURCE_EXECUTOR;
    update(step, task, std::move(status));
  }
}

void Core::on_kill(Step& step, const fb::link::KillTask& e) {
  const std::string framework_id(text(e.framework_id())), task_id(text(e.task_id()));
  Task* task = get(framework_id, task_id);
  if (!task) return tell_unknown(step, framework_id, task_id);
  if (task->phase == Task::Phase::ended) {
    if (!task->outbox.empty() && registered()) send_status(step, *task, task->outbox.front());
    return;
  }
  const auto grace = e.grace_ns();
  if (task->executor && !is_nested(*task->info)) {
    // Without a word of the framework the executor's own is asked for.
    return kill_at_executor(step, *task, Task::Cause::asked, grace ? std::optional(Nanos(*grace)) : std::nullopt);
  }
  kill(step, *task, Task::Cause::asked, grace ? std::max(Nanos{0}, Nanos(*grace)) : grace_of(*task));
}

void Core::on(Step& step, const event::Kill& e) {
  if (Task* task = get(e.framework_id, e.task_id)) kill(step, *task, Task::Cause::asked, grace_of(*task));
}

void Core::on_remove_framework(Step& step, const fb::link::RemoveFramework& e) {
  const std::string id(text(e.framework_id()));
  for (Task* task : in_order()) {
    if (task->framework_id != id) continue;
    if (task->phase == Task::Phase::ended) {
      forget(step, *task);
    } else {
      kill(step, *task, Task::Cause::framework_removed, grace_of(*task));
    }
  }
  std::vector<std::shared_ptr<Executor>> executors;
  for (const auto& [k, executor] : executors_)
    if (executor->framework_id == id) executors.push_back(executor);
  for (const auto& executor : executors) shut_down_executor(step, *executor, Executor::Cause::framework_removed);
}

void Core::on_reconcile(Step& step, const fb::link::ReconcileAgentTasks& e) {
  if (!e.task_ids()) return;
  const std::string framework_id(text(e.framework_id()));
  for (const auto* id : *e.task_ids()) {
    const std::string task_id(text(id));
    Task* task = get(framework_id, task_id);
    if (!task) {
      tell_unknown(step, framework_id, task_id);
    } else if (task->outbox.empty()) {
      send_latest(step, *task);
    } else if (registered()) {
      send_status(step, *task, task->outbox.front());
    }
  }
}

}  // namespace gantry::agent
