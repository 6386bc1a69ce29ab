// Custom executors: programs of a framework's own that run its tasks (reference mesos-kernel.md A3, B4).
//
//   RunTask -> the executor's INTENT, the task's INTENT, Launch -> Launched -> it subscribes -> the container grows to hold the
//   tasks -> LAUNCH events -> its updates -> ... -> Exited -> terminal updates of what it left, ExecutorExited.
//
// One executor of a (framework, id) lives at a time and is shared by the tasks that name it. Tasks wait here until it has
// subscribed. What it says is recorded before it is acknowledged (ACKNOWLEDGED), so an executor need keep nothing that was.
#include "kernel/agent/core.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace gantry::agent {

using fb::Reason;
using fb::TaskState;
using fb::record::EntryType;
namespace ex = fb::executor;

namespace {

std::string key(std::string_view framework_id, std::string_view executor_id) {
  std::string k(framework_id);
  k += '\0';
  k += executor_id;
  return k;
}

// As the field writes durations: "15mins", "2secs", "500ms".
std::string duration_text(Nanos d) {
  struct Unit {
    std::int64_t ns;
    const char* name;
  };
  static constexpr Unit units[] = {{604'800'000'000'000, "weeks"}, {86'400'000'000'000, "days"}, {3'600'000'000'000, "hrs"},
                                   {60'000'000'000, "mins"},       {1'000'000'000, "secs"},      {1'000'000, "ms"},
                                   {1'000, "us"}};
  for (const auto& u : units)
    if (d.count() != 0 && d.count() % u.ns == 0) return std::to_string(d.count() / u.ns) + u.name;
  return std::to_string(d.count()) + "ns";
}

std::string exit_message(int wait_status) {
  if (WIFSIGNALED(wait_status)) return std::string("Executor terminated with signal ") + ::strsignal(WTERMSIG(wait_status));
  return "Executor exited with status " + std::to_string(WEXITSTATUS(wait_status));
}

std::string replaced(std::string text, const event::Variables& by, bool* used_restart = nullptr) {
  for (const auto& [name, value] : by) {
    const std::string mark = "${" + name + "}";
    for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + value.size())) {
      text.replace(at, mark.size(), value);
      if (used_restart && (name == "recovery_timeout" || name == "backoff")) *used_restart = true;
    }
  }
  return text;
}

constexpr std::size_t completed_executors_kept = 500;

}  // namespace

// ---- small tools

std::shared_ptr<Executor> Core::find_executor(const std::string& framework_id, const std::string& executor_id) const {
  const auto it = executors_.find(key(framework_id, executor_id));
  return it == executors_.end() ? nullptr : it->second;
}

Executor* Core::executor_by_container(const std::string& container_id) const {
  const auto it = executor_containers_.find(container_id);
  return it == executor_containers_.end() ? nullptr : it->second;
}

void Core::set_executor_due(Executor& e, Instant at) {
  if (e.due.count() != 0) executor_timers_.erase({e.due, e.serial, &e});
  e.due = at;
  if (at.count() != 0) executor_timers_.insert({at, e.serial, &e});
}

bool Core::protected_from_restarts(const std::string& framework_id) const {
  const auto* info = framework(framework_id);
  return info && info->checkpoint.value_or(false);
}

Nanos Core::grace_of(const Executor& e) const {
  const auto& own = e.info->shutdown_grace_period_ns;
  constexpr Nanos longest = std::chrono::hours(24 * 365);
  return own ? std::clamp(Nanos(*own), Nanos{0}, longest) : options_.executor_grace;
}

fb::record::EntryT Core::entry(EntryType type, const Executor& e, base::Wall wall) const {
  fb::record::EntryT out;
  out.type = type;
  out.framework_id = e.framework_id;
  out.container_id = e.container_id;  // and no task id: that is how entries of executors are told
  out.wall_ns = static_cast<std::uint64_t>(wall);
  return out;
}

void Core::say(Step& step, const Executor& e, const ex::EventT& event) const {
  if (e.stream) step.effects.emplace_back(effect::ToExecutor{e.stream, pack(event)});
}

void Core::tell_exited(Step& step, const std::string& framework_id, const std::string& executor_id, int status) {
  if (link_ == LinkState::registering) exited_.emplace_back(framework_id, executor_id, status);
  if (!registered()) return;
  fb::link::ExecutorExitedT exited;
  exited.framework_id = framework_id;
  exited.executor_id = executor_id;
  exited.status = status;
  fb::link::FromAgentUnion body;
  body.Set(std::move(exited));
  send(step, std::move(body));
}

void Core::add_to(Task& task, const std::shared_ptr<Executor>& e) {
  task.executor = e;
  task.container_id = e->container_id;
  task.sandbox = e->sandbox;
  e->tasks.push_back(&task);
  ++e->size;
}

void Core::remove_from(Step& step, Task& task) {
  Executor& e = *task.executor;
  if (std::erase(e.tasks, &task) == 0) return;
  ++e.size;
  resize(step, e);
}

std::vector<std::unique_ptr<fb::ResourceT>> Core::resources_of(const Executor& e) const {
  std::vector<std::unique_ptr<fb::ResourceT>> all;
  const auto add = [&](const std::vector<std::unique_ptr<fb::ResourceT>>& more, bool nested) {
    for (const auto& r : more) {
      // A nested task's devices, ports and volumes are its own; what it shares with the others is the room it has.
      if (nested && ((r->name != "cpus" && r->name != "mem" && r->name != "disk") || (r->disk && r->disk->volume))) continue;
      const auto same = std::find_if(all.begin(), all.end(), [&](const auto& x) {
        return r->scalar && x->scalar && x->name == r->name && !x->disk && !r->disk && x->revocable == r->revocable;
      });
      if (same == all.end()) all.push_back(std::make_unique<fb::ResourceT>(*r));
      else (*same)->scalar = *(*same)->scalar + *r->scalar;
    }
  };
  add(e.info->resources, false);
  for (const Task* task : e.tasks)
    if (const bool nested = is_nested(*task->info); !nested || shares_cgroups(*task->info)) add(task->info->resources, nested);
  return all;
}

event::Variables Core::environment_of(const Executor& e) const {
  const bool checkpoint = protected_from_restarts(e.framework_id);
  const event::Variables by = {{"framework_id", e.framework_id},
                               {"executor_id", e.id()},
                               {"agent_id", agent_id_},
                               {"sandbox", e.sandbox},
                               {"container_id", e.container_id},
                               {"checkpoint", checkpoint ? "1" : "0"},
                               {"grace", duration_text(grace_of(e))},
                               {"recovery_timeout", duration_text(options_.executor_recovery)},
                               {"backoff", duration_text(options_.executor_backoff)},
                               {"token", e.token}};
  event::Variables out;
  for (const auto& [name, value] : variables_) {
    bool of_restarts = false;
    std::string text = replaced(value, by, &of_restarts);
    if (of_restarts && !checkpoint) continue;  // it will not see one
    out.emplace_back(name, std::move(text));
  }
  return out;
}

LaunchSpec Core::spec_of(const Executor& e) const {
  LaunchSpec spec;
  spec.container_id = e.container_id;
  spec.agent_id = agent_id_;
  spec.framework_id = e.framework_id;
  const auto* info = framework(e.framework_id);
  const std::string own_user = e.info->command ? e.info->command->user : std::string();
  if (options_.switch_user) spec.user = own_user.empty() && info ? info->user : own_user;
  spec.hold = is_default(*e.info);
  spec.sandbox = e.sandbox;
  spec.executor = true;
  spec.environment = environment_of(e);
  auto task = std::make_shared<fb::TaskInfoT>();
  task->name = e.info->name.empty() ? e.id() : e.info->name;
  task->task_id = e.id();
  task->agent_id = agent_id_;
  task->command = e.info->command ? std::make_unique<fb::CommandInfoT>(*e.info->command) : std::make_unique<fb::CommandInfoT>();
  if (e.info->container) task->container = std::make_unique<fb::ContainerInfoT>(*e.info->container);
  task->resources = resources_of(e);
  spec.task = std::move(task);
  return spec;
}

// ---- from RunTask to the executor

void Core::on(Step&, const event::Serve& e) {
  serving_ = e.on;
  variables_ = e.variables;
}

// The task is not taken. If the master has booked an executor with it, that one will not be: it is told to have ended. If it counts
// on one that lives or lived, its end is told in its own time, and once; a second word would end the books of whoever comes next.
void Core::refuse_run(Step& step, const std::string& framework_id, std::shared_ptr<const fb::TaskInfoT> info, std::optional<bool> launch_executor,
                      TaskState state, Reason reason, std::string message) {
  if (info->executor && launch_executor.value_or(true) && !find_executor(framework_id, info->executor->executor_id))
    tell_exited(step, framework_id, info->executor->executor_id, -1);
  refuse(step, framework_id, std::move(info), state, reason, std::move(message));
}

void Core::run_with_executor(Step& step, const fb::FrameworkInfoT& framework, std::shared_ptr<const fb::TaskInfoT> info, TaskState dropped,
                             std::optional<bool> launch_executor) {
  const std::string id = info->executor->executor_id;
  auto e = find_executor(framework.id, id);
  const auto refused = [&](TaskState state, Reason reason, std::string message) {
    refuse_run(step, framework.id, info, launch_executor, state, reason, std::move(message));
  };
  const auto invalid = [&](std::string message) { refused(TaskState::TASK_ERROR, Reason::REASON_TASK_INVALID, std::move(message)); };
  if (info->executor->type == fb::ExecutorType::DEFAULT)
    return invalid("Task '" + info->task_id + "' wants the default executor, which is for task groups");
  if (!is_folder_name(id))
    return invalid("Executor id '" + id + "' of task '" + info->task_id +
                   "' cannot be used as a folder name: remove slashes and control characters");
  const auto& command = info->executor->command;
  if (!command || (command->value.empty() && command->arguments.empty()))
    return invalid("Executor '" + id + "' has no command: set command.value");
  if (!serving_)
    return refused(TaskState::TASK_FAILED, Reason::REASON_CONTAINER_LAUNCH_FAILED,
                   "This agent has no gateway that executors could speak to; configure one, e.g. [gateway.mesos]");
  if (!journal_problem_.empty())
    return refused(dropped, Reason::REASON_CONTAINER_LAUNCH_FAILED, "The agent cannot record new tasks: " + journal_problem_);
  if (e && e->cause != Executor::Cause::none)
    return refused(dropped, Reason::REASON_EXECUTOR_TERMINATED, "Executor '" + id + "' is terminating");
  // It ended while this task was on its way: the master has heard of it by now, and nobody would be charged for another.
  if (!e && launch_executor && !*launch_executor)
    return refused(dropped, Reason::REASON_EXECUTOR_TERMINATED, "Executor '" + id + "' has ended, and the master did not ask for a new one");

  note_framework(step, framework);
  const bool fresh = !e;
  if (fresh) e = start_executor(step, framework, *info);
  Task& task = add(framework.id, info);
  task.launched_wall = step.time.wall;
  add_to(task, e);
  auto intent = entry(EntryType::INTENT, task, step.time.wall);
  intent.task = std::make_unique<fb::TaskInfoT>(*info);
  intent.container_id = task.container_id;
  intent.sandbox = task.sandbox;
  append(step, std::move(intent));
  task.status = make_status(step, task, TaskState::TASK_STAGING);
  if (fresh) {
    e->sized = e->size;
    step.effects.emplace_back(effect::Launch{spec_of(*e)});
  } else {
    deliver(step, *e);
  }
}

std::shared_ptr<Executor> Core::start_executor(Step& step, const fb::FrameworkInfoT& framework, const fb::TaskInfoT& first) {
  auto e = std::make_shared<Executor>();
  auto info = std::make_shared<fb::ExecutorInfoT>(*first.executor);
  info->framework_id = framework.id;
  e->framework_id = framework.id;
  e->info = info;
  e->container_id = new_container_id();
  e->sandbox = options_.work_dir + "/slaves/" + agent_id_ + "/frameworks/" + framework.id + "/executors/" + e->id() + "/runs/" + e->container_id;
  e->launched_wall = step.time.wall;
  e->serial = ++serials_;
  for (const auto& [name, value] : variables_) {
    if (value.find("${token}") == std::string::npos) continue;
    std::string token;
    while (token.size() < 64) {
      char digits[17];
      std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(secret()));
      token += digits;
    }
    e->token = token;
    break;
  }
  executors_[key(framework.id, e->id())] = e;
  executor_containers_[e->container_id] = e.get();
  auto intent = entry(EntryType::INTENT, *e, step.time.wall);
  intent.sandbox = e->sandbox;
  intent.task = std::make_unique<fb::TaskInfoT>();
  intent.task->executor = std::make_unique<fb::ExecutorInfoT>(*e->info);
  intent.uuid.assign(e->token.begin(), e->token.end());
  append(step, std::move(intent));
  return e;
}

void Core::executor_launched(Step& step, Executor& e, const Identity& identity) {
  if (e.phase != Executor::Phase::launching) return;
  e.phase = Executor::Phase::running;
  e.identity = identity;
  e.launched_wall = step.time.wall;
  if (e.recorded) {
    auto started = entry(EntryType::STARTED, e, step.time.wall);
    started.sandbox = e.sandbox;
    started.pid = identity.pid;
    started.supervisor_pid = identity.supervisor_pid;
    started.supervisor_start = identity.supervisor_start;
    append(step, std::move(started));
  }
  if (e.cause != Executor::Cause::none) {  // the kill crossed the end of the launch
    step.effects.emplace_back(effect::Kill{e.container_id, Nanos{0}});
    return;
  }
  if (is_default(*e.info)) return deliver(step, e);
  if (!e.subscribed) set_executor_due(e, step.time.now + options_.executor_registration);
  else deliver(step, e);
}

void Core::resize(Step& step, Executor& e) {
  if (e.resizing || e.size == e.sized || e.phase != Executor::Phase::running || e.cause != Executor::Cause::none) return;
  e.resizing = true;
  e.sized = e.size;
  step.effects.emplace_back(effect::Resize{e.container_id, resources_of(e)});
}

void Core::on(Step& step, const event::Resized& r) {
  Executor* e = executor_by_container(r.container_id);
  if (!e || !e->resizing) return;
  e->resizing = false;
  if (!r.ok) {
    e->problem = r.message;
    log(step, base::Level::warning, "the container of executor " + e->id() + " could not be given its resources: " + r.message);
    // It only shrinks: what it uses may not be taken away yet, and nobody waits for more.
    if (is_default(*e->info) && std::none_of(e->tasks.begin(), e->tasks.end(), [](const Task* t) { return waits(*t); })) return resize(step, *e);
    return shut_down_executor(step, *e, Executor::Cause::resize);
  }
  resize(step, *e);
  deliver(step, *e);
}

// Everything that waits goes out in order, once the container can hold it.
void Core::deliver(Step& step, Executor& e) {
  if (!journal_problem_.empty()) return;  // that a task is meant to run may not be written yet; Journal{ok} comes back
  const bool nested = is_default(*e.info);
  if ((!e.stream && !nested) || e.phase != Executor::Phase::running || e.cause != Executor::Cause::none) return;
  const bool waiting = std::any_of(e.tasks.begin(), e.tasks.end(), [](const Task* t) { return t->phase == Task::Phase::launching; });
  if (!waiting) return;
  resize(step, e);
  if (e.resizing) return;
  if (nested) return launch_nested(step, e);
  const auto hand_over = [&](Task& task) {
    task.phase = Task::Phase::running;
    e.delivered = true;
    auto info = std::make_unique<fb::TaskInfoT>(*task.info);
    if (info->executor) info->executor->framework_id = e.framework_id;
    return info;
  };
  for (Task* task : e.tasks) {
    if (task->phase != Task::Phase::launching) continue;
    ex::EventT event;
    if (task->group.empty()) {
      event.type = ex::EventType::LAUNCH;
      event.launch = std::make_unique<ex::LaunchT>();
      event.launch->task = hand_over(*task);
    } else {
      event.type = ex::EventType::LAUNCH_GROUP;
      event.launch_group = std::make_unique<ex::LaunchGroupT>();
      for (Task* member : group_of(e, task->group)) event.launch_group->task_infos.push_back(hand_over(*member));
    }
    say(step, e, event);
  }
}

void Core::kill_at_executor(Step& step, Task& task, Task::Cause cause, std::optional<Nanos> grace) {
  const auto e = task.executor;
  const bool silent = cause == Task::Cause::framework_removed || cause == Task::Cause::shutdown;
  if (silent || task.cause == Task::Cause::none) {
    task.cause = cause;
    if (task.recorded) {
      auto killing = entry(EntryType::KILLING, task, step.time.wall);
      killing.exit_status = static_cast<int>(cause);
      append(step, std::move(killing));
    }
  }
  if (silent) return;  // the executor as a whole is shut down
  if (task.phase == Task::Phase::launching) {
    const std::string group = task.group;
    kill_waiting(step, task);
    for (Task* member : group_of(*e, group)) kill_waiting(step, *member);  // together or not at all
    if (e->tasks.empty() && !e->delivered) shut_down_executor(step, *e, Executor::Cause::idle);
    return;
  }
  if (!e->stream) return;  // told when it is back
  ex::EventT event;
  event.type = ex::EventType::KILL;
  event.kill = std::make_unique<ex::KillT>();
  event.kill->task_id = task.info->task_id;
  if (grace) {
    event.kill->kill_policy = std::make_unique<fb::KillPolicyT>();
    event.kill->kill_policy->grace_period_ns = std::max<std::int64_t>(0, grace->count());
  }
  say(step, *e, event);
}

// ---- the end

void Core::shut_down_executor(Step& step, Executor& e, Executor::Cause cause) {
  using Cause = Executor::Cause;
  const bool silent = cause == Cause::framework_removed || cause == Cause::shutdown;
  if (e.phase == Executor::Phase::ended || (e.cause != Cause::none && !silent)) return;
  const bool first = e.cause == Cause::none;
  e.cause = cause;
  if (silent)
    for (Task* task : e.tasks) task->cause = cause == Cause::shutdown ? Task::Cause::shutdown : Task::Cause::framework_removed;
  if (e.recorded) {
    auto killing = entry(EntryType::KILLING, e, step.time.wall);
    killing.exit_status = static_cast<int>(cause);
    append(step, std::move(killing));
  }
  if (e.phase == Executor::Phase::recovering) return;
  if (is_default(*e.info)) return shut_down_holder(step, e);
  if (!first) return;
  const bool polite = e.stream && e.phase == Executor::Phase::running && cause != Cause::resize;
  if (!polite) {
    set_executor_due(e, Instant{0});
    step.effects.emplace_back(effect::Kill{e.container_id, Nanos{0}});
    return;
  }
  ex::EventT event;
  event.type = ex::EventType::SHUTDOWN;
  say(step, e, event);
  set_executor_due(e, step.time.now + std::max(Nanos{1}, grace_of(e)));
}

void Core::on_shutdown_executor(Step& step, const fb::link::ShutdownExecutor& s) {
  const auto e = find_executor(std::string(text(s.framework_id())), std::string(text(s.executor_id())));
  if (!e) return log(step, base::Level::debug, "ignored the shutdown of an executor that does not run here");
  shut_down_executor(step, *e, Executor::Cause::asked);
}

void Core::executors_due(Step& step) {
  while (!executor_timers_.empty() && std::get<0>(*executor_timers_.begin()) <= step.time.now && !stopped_) {
    Executor& e = *std::get<2>(*executor_timers_.begin());
    set_executor_due(e, Instant{0});
    executor_due(step, e);
  }
}

void Core::executor_due(Step& step, Executor& e) {
  if (e.cause == Executor::Cause::none) {
    const bool returning = e.known;
    log(step, base::Level::warning, "executor " + e.id() + (returning ? " did not come back" : " did not subscribe") + " in time; killing it");
    return shut_down_executor(step, e, returning ? Executor::Cause::reregistration : Executor::Cause::registration);
  }
  step.effects.emplace_back(effect::Kill{e.container_id, Nanos{0}});  // its grace is over
}

void Core::executor_ended(Step& step, Executor& executor, const ExitInfo& exit, std::optional<std::pair<Reason, std::string>> failed) {
  using Cause = Executor::Cause;
  const auto e = find_executor(executor.framework_id, executor.id());  // keeps it alive
  if (!e || e.get() != &executor) return;
  set_executor_due(*e, Instant{0});
  e->phase = Executor::Phase::ended;
  TaskState state = TaskState::TASK_FAILED;
  Reason reason = Reason::REASON_EXECUTOR_TERMINATED;
  std::string message = exit.wait_status ? exit_message(*exit.wait_status) : "The exit status of the executor is not known";
  bool limited = false;
  switch (e->cause) {
    case Cause::none:
    case Cause::idle:
    case Cause::asked:
    case Cause::unprotected:
      if (failed) {
        reason = failed->first;
        message = failed->second;
      } else if (exit.reason && e->cause == Cause::none) {
        reason = *exit.reason;
        message = exit.message;
        limited = true;
      }
      break;
    case Cause::registration:
      reason = Reason::REASON_EXECUTOR_REGISTRATION_TIMEOUT;
      message = "Executor did not register within " + duration_text(options_.executor_registration);
      break;
    case Cause::reregistration:
      reason = Reason::REASON_EXECUTOR_REREGISTRATION_TIMEOUT;
      message = "Executor did not reregister within " + duration_text(options_.executor_reregistration);
      break;
    case Cause::resize:
      state = has_capability(e->framework_id, fb::FrameworkCapability::PARTITION_AWARE) ? TaskState::TASK_GONE : TaskState::TASK_LOST;
      reason = Reason::REASON_CONTAINER_UPDATE_FAILED;
      message = "Failed to update resources for container: " + e->problem;
      break;
    case Cause::framework_removed:
    case Cause::shutdown:
      state = TaskState::TASK_KILLED;
      break;
  }
  // Before anything is recorded: if the journal cannot be written, what follows is held back, and this would be lost.
  tell_exited(step, e->framework_id, e->id(), exit.wait_status.value_or(failed ? 256 : -1));
  const auto tasks = e->tasks;
  for (Task* task : tasks) {
    auto status = make_status(step, *task, state);
    status.reason = reason;
    status.message = message;
    if (limited && !exit.limitation.empty()) {
      status.limitation = std::make_unique<fb::LimitationT>();
      for (const auto& r : exit.limitation) status.limitation->resources.push_back(std::make_unique<fb::ResourceT>(r));
    }
    finish(step, *task, std::move(status));
    if (stopped_) return;
  }
  if (e->stream) {
    step.effects.emplace_back(effect::EndExecutor{e->stream, ok});
    streams_.erase(e->stream);
    e->stream = 0;
  }
  log(step, base::Level::info, "executor " + e->id() + " of framework " + e->framework_id + " has ended: " + message);
  if (e->recorded) append(step, entry(EntryType::FORGOTTEN, *e, step.time.wall));
  step.effects.emplace_back(effect::Release{e->sandbox});
  executor_containers_.erase(e->container_id);
  executors_.erase(key(e->framework_id, e->id()));
  ++counters_.executors_ended;
  if (failed && e->cause == Cause::none) ++counters_.launches_failed;
  completed_executors_.push_back({e->framework_id, e->info, e->container_id, e->sandbox});
  while (completed_executors_.size() > completed_executors_kept) completed_executors_.pop_front();
  finish_shutdown(step);
}

// ---- the journal, and coming back

void Core::append_executors(std::vector<fb::record::EntryT>& out) const {
  std::vector<const Executor*> all;
  for (const auto& [k, e] : executors_) all.push_back(e.get());
  std::sort(all.begin(), all.end(), [](const Executor* a, const Executor* b) { return a->serial < b->serial; });
  for (const Executor* e : all) {
    if (!e->recorded) continue;
    auto intent = entry(EntryType::INTENT, *e, e->launched_wall);
    intent.sandbox = e->sandbox;
    intent.task = std::make_unique<fb::TaskInfoT>();
    intent.task->executor = std::make_unique<fb::ExecutorInfoT>(*e->info);
    intent.uuid.assign(e->token.begin(), e->token.end());
    out.push_back(std::move(intent));
    if (e->identity) {
      auto started = entry(EntryType::STARTED, *e, e->launched_wall);
      started.sandbox = e->sandbox;
      started.pid = e->identity->pid;
      started.supervisor_pid = e->identity->supervisor_pid;
      started.supervisor_start = e->identity->supervisor_start;
      out.push_back(std::move(started));
    }
    if (e->known) out.push_back(entry(EntryType::ACKED, *e, e->launched_wall));
    if (e->cause != Executor::Cause::none) {
      auto killing = entry(EntryType::KILLING, *e, e->launched_wall);
      killing.exit_status = static_cast<int>(e->cause);
      out.push_back(std::move(killing));
    }
  }
}

// Entries of executors have no task id: INTENT (its information in task.executor, the token in uuid), STARTED, ACKED (it has
// subscribed), KILLING, FORGOTTEN.
void Core::replay_executor(const fb::record::Entry& r) {
  const std::string container_id(text(r.container_id()));
  if (r.type() == EntryType::INTENT) {
    if (!r.task() || !r.task()->executor() || executor_containers_.contains(container_id)) return;
    auto e = std::make_shared<Executor>();
    auto info = std::make_shared<fb::ExecutorInfoT>();
    r.task()->executor()->UnPackTo(info.get());
    if (!info->command && !is_default(*info)) return;
    e->framework_id = text(r.framework_id());
    e->info = std::move(info);
    e->container_id = container_id;
    e->sandbox = text(r.sandbox());
    if (r.uuid()) e->token.assign(r.uuid()->begin(), r.uuid()->end());
    e->phase = Executor::Phase::recovering;
    e->launched_wall = static_cast<base::Wall>(r.wall_ns());
    e->serial = ++serials_;
    auto& slot = executors_[key(e->framework_id, e->id())];
    if (slot) executor_containers_.erase(slot->container_id);
    slot = e;
    executor_containers_[container_id] = e.get();
    return;
  }
  Executor* e = executor_by_container(container_id);
  if (!e) return;
  switch (r.type()) {
    case EntryType::STARTED:
      e->identity = Identity{r.pid(), r.supervisor_pid(), r.supervisor_start()};
      e->launched_wall = static_cast<base::Wall>(r.wall_ns());
      break;
    case EntryType::ACKED: e->known = true; break;
    case EntryType::KILLING:
      if (r.exit_status() > 0 && r.exit_status() <= static_cast<int>(Executor::Cause::unprotected))
        e->cause = static_cast<Executor::Cause>(r.exit_status());
      break;
    case EntryType::FORGOTTEN:
      executor_containers_.erase(container_id);
      executors_.erase(key(e->framework_id, e->id()));
      break;
    default: break;
  }
}

void Core::executors_started(std::vector<KnownContainer>& known) {
  for (const auto& [k, e] : executors_) {
    KnownContainer c;
    c.spec = spec_of(*e);
    c.identity = e->identity;
    known.push_back(std::move(c));
  }
}

void Core::executors_recovered(Step& step, const std::vector<RecoveredContainer>& containers) {
  for (const RecoveredContainer& r : containers) {
    Executor* e = executor_by_container(r.container_id);
    if (!e || e->phase != Executor::Phase::recovering) continue;
    if (r.fate == RecoveredContainer::Fate::exited) {
      executor_ended(step, *e, r.exit, {});
    } else if (r.fate == RecoveredContainer::Fate::running) {
      e->phase = Executor::Phase::running;
      if (e->identity) e->identity->networks = r.networks;
      e->delivered = e->known;
      end_torn_groups(step, *e);
      e->sized = e->size - 1;  // not known how much the container was given
      if (is_default(*e->info)) {
        holder_recovered(step, *e);
        continue;
      }
      for (Task* task : e->tasks)
        if (task->phase == Task::Phase::recovering) task->phase = e->known ? Task::Phase::running : Task::Phase::launching;
      if (e->cause != Executor::Cause::none) {
        step.effects.emplace_back(effect::Kill{e->container_id, Nanos{0}});
      } else if (!protected_from_restarts(e->framework_id)) {
        // It was told that it would not survive a restart of its agent.
        shut_down_executor(step, *e, Executor::Cause::unprotected);
      } else {
        set_executor_due(*e, step.time.now + (e->known ? options_.executor_reregistration : options_.executor_registration));
      }
    }
  }
  std::vector<std::shared_ptr<Executor>> lost;
  for (const auto& [k, e] : executors_)
    if (e->phase == Executor::Phase::recovering) lost.push_back(e);
  for (const auto& e : lost) {
    executor_ended(step, *e, {},
                   std::pair(Reason::REASON_AGENT_RESTARTED,
                             std::string(e->identity ? "The executor was gone when the agent returned" : "The agent was restarted while it launched the executor")));
  }
}

}  // namespace gantry::agent
