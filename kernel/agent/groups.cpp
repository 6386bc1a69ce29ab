// Task groups on the agent (mesos-kernel.md A4).
//
//   RunGroup -> the executor's INTENT, each task's INTENT, Launch of the executor -> ...
//   CUSTOM    ... it subscribes -> one LAUNCH_GROUP event (executors.cpp). What becomes of a group is then its affair.
//   DEFAULT   the agent is the executor: a container that only holds what its tasks share. It runs, it is given the tasks' resources ->
//             TASK_STARTING of all, Launch of all, each nested in it. From there on each goes the way of a command (tasks.cpp).
//
// A group ends together: when one of its tasks fails or is killed, the others are killed, each with its own grace. Tasks that finish
// just leave, and other groups of the executor go on. When the last task has left, the executor's container ends, too.
#include "kernel/agent/core.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace gantry::agent {

using fb::Reason;
using fb::TaskState;
using fb::record::EntryType;

namespace {

// Is there something to execute?
bool has_command(const fb::TaskInfoT& t) {
  if (!t.command) return false;
  const bool image = t.container && t.container->mesos && t.container->mesos->image;
  return image || !t.command->value.empty() || !t.command->arguments.empty();
}

}  // namespace

bool is_folder_name(std::string_view id) {
  return !id.empty() && id.size() <= 255 && id != "." && id != ".." &&
         std::none_of(id.begin(), id.end(), [](unsigned char c) { return c == '/' || c == '\\' || c < 0x20 || c == 0x7F; });
}

bool is_default(const fb::ExecutorInfoT& info) { return info.type == fb::ExecutorType::DEFAULT; }

bool is_nested(const fb::TaskInfoT& info) { return info.executor && is_default(*info.executor); }

bool shares_cgroups(const fb::TaskInfoT& info) {
  return !info.container || !info.container->linux_info || info.container->linux_info->share_cgroups.value_or(true);
}

// Its executor has not been given it yet.
bool Core::waits(const Task& task) {
  const bool at_hand = task.phase == Task::Phase::launching || task.phase == Task::Phase::recovering;
  return is_nested(*task.info) && at_hand && task.status.state == TaskState::TASK_STAGING;
}

// ---- from RunGroup to the executor

void Core::on_run_group(Step& step, const fb::link::RunGroup& run) {
  if (!run.framework() || !run.tasks() || run.tasks()->size() == 0 || !registered())
    return log(step, base::Level::warning, "ignored a task group that came without its framework or before this agent was registered");
  fb::FrameworkInfoT framework;
  run.framework()->UnPackTo(&framework);
  std::vector<std::shared_ptr<const fb::TaskInfoT>> infos;
  bool again = false;
  for (const auto* t : *run.tasks()) {
    auto info = std::make_shared<fb::TaskInfoT>();
    t->UnPackTo(info.get());
    // As with single tasks: most likely the same message twice.
    if (Task* known = get(framework.id, info->task_id); known && !known->unknown) {
      again = true;
      known->outbox.empty() ? send_latest(step, *known) : send_status(step, *known, known->outbox.front());
    }
    infos.push_back(std::move(info));
  }
  if (again) return log(step, base::Level::warning, "ignored a second launch of a task group", infos.front()->task_id);

  const bool aware = std::find(framework.capabilities.begin(), framework.capabilities.end(), fb::FrameworkCapability::PARTITION_AWARE) !=
                     framework.capabilities.end();
  const std::optional<bool> launch_executor = run.launch_executor();
  std::shared_ptr<Executor> e;
  if (auto refusal = refusal_of(framework.id, infos, aware ? TaskState::TASK_DROPPED : TaskState::TASK_LOST, launch_executor, e)) {
    // The executor is told of once, whoever is refused first.
    for (const auto& info : infos) {
      if (info == infos.front()) refuse_run(step, framework.id, info, launch_executor, refusal->state, refusal->reason, refusal->message);
      else refuse(step, framework.id, info, refusal->state, refusal->reason, refusal->message);
    }
    return;
  }

  note_framework(step, framework);
  const bool fresh = !e;
  if (fresh) e = start_executor(step, framework, *infos.front());
  const std::string group = new_container_id();
  for (const auto& info : infos) {
    Task& task = add(framework.id, info);
    task.launched_wall = step.time.wall;
    task.group = group;
    task.group_size = static_cast<std::uint32_t>(infos.size());
    add_to(task, e);
    if (is_nested(*info)) nest(task, new_container_id());
    auto intent = entry(EntryType::INTENT, task, step.time.wall);
    intent.task = std::make_unique<fb::TaskInfoT>(*info);
    intent.container_id = task.container_id;
    intent.sandbox = task.sandbox;
    intent.group = group;
    intent.exit_status = static_cast<int>(task.group_size);
    append(step, std::move(intent));
    task.status = make_status(step, task, TaskState::TASK_STAGING);
  }
  if (fresh) {
    e->sized = e->size;
    step.effects.emplace_back(effect::Launch{spec_of(*e)});
  } else {
    deliver(step, *e);
  }
}

// Why the group cannot be taken; if it can, `e` is its executor, should that live.
std::optional<Core::Refusal> Core::refusal_of(const std::string& framework_id, const std::vector<std::shared_ptr<const fb::TaskInfoT>>& infos,
                                              TaskState dropped, std::optional<bool> launch_executor, std::shared_ptr<Executor>& e) const {
  const auto invalid = [](std::string message) { return Refusal{TaskState::TASK_ERROR, Reason::REASON_TASK_GROUP_INVALID, std::move(message)}; };
  if (stopping_ || draining_)
    return Refusal{dropped, Reason::REASON_AGENT_DRAINING, stopping_ ? "The agent is shutting down" : "The agent is draining"};
  const auto& executor = infos.front()->executor;
  std::set<std::string_view> ids;
  for (const auto& info : infos) {
    const auto culprit = [&](const std::string& what) { return invalid("Task '" + info->task_id + "' of the group " + what); };
    if (!info->executor || !executor || info->executor->executor_id != executor->executor_id) return culprit("has not the executor of the others");
    if (!is_folder_name(framework_id) || !is_folder_name(info->task_id) || !is_folder_name(executor->executor_id))
      return culprit("or its executor has an id that cannot be used as a folder name: remove slashes and control characters");
    if (!ids.insert(info->task_id).second) return culprit("has the id of another of them");
    if (is_nested(*info) && !has_command(*info)) return culprit("has no command: set command.value");
  }
  if (!is_default(*executor)) {
    if (!executor->command || (executor->command->value.empty() && executor->command->arguments.empty()))
      return invalid("Executor '" + executor->executor_id + "' has no command: set command.value");
    if (!serving_)
      return Refusal{TaskState::TASK_FAILED, Reason::REASON_CONTAINER_LAUNCH_FAILED,
                     "This agent has no gateway that executors could speak to; configure one, e.g. [gateway.mesos]"};
  }
  if (!journal_problem_.empty())
    return Refusal{dropped, Reason::REASON_CONTAINER_LAUNCH_FAILED, "The agent cannot record new tasks: " + journal_problem_};
  e = find_executor(framework_id, executor->executor_id);
  if (e && is_default(*e->info) != is_default(*executor))
    return invalid("Executor '" + executor->executor_id + "' runs here and is of another type");
  if (e && e->cause != Executor::Cause::none)
    return Refusal{dropped, Reason::REASON_EXECUTOR_TERMINATED, "Executor '" + executor->executor_id + "' is terminating"};
  if (!e && launch_executor && !*launch_executor)
    return Refusal{dropped, Reason::REASON_EXECUTOR_TERMINATED,
                   "Executor '" + executor->executor_id + "' has ended, and the master did not ask for a new one"};
  return std::nullopt;
}

// A task with a container of its own, inside its executor's.
void Core::nest(Task& task, std::string container_id) {
  task.container_id = std::move(container_id);
  if (task.executor) task.sandbox = task.executor->sandbox + "/tasks/" + task.info->task_id;
  containers_[task.container_id] = &task;
}

LaunchSpec Core::spec_of_nested(const Task& task) const {
  LaunchSpec spec = spec_of_command(task);
  const Executor& e = *task.executor;
  spec.parent = e.container_id;
  spec.share_cgroups = shares_cgroups(*task.info);
  spec.environment.emplace_back("MESOS_EXECUTOR_ID", e.id());
  std::string address = options_.ip;
  if (e.identity)
    for (const auto& n : e.identity->networks)
      if (!n.ip_addresses.empty()) {
        address = n.ip_addresses.front()->ip_address;
        break;
      }
  if (!address.empty()) spec.environment.emplace_back("MESOS_CONTAINER_IP", std::move(address));
  const auto role = std::find_if(task.info->resources.begin(), task.info->resources.end(), [](const auto& r) { return !r->allocation_role.empty(); });
  if (role != task.info->resources.end()) spec.environment.emplace_back("MESOS_ALLOCATION_ROLE", (*role)->allocation_role);
  return spec;
}

// All that wait, once the container that holds them can take them. Said of all before the first is launched: should the agent die
// in between, it knows which groups it had begun with.
void Core::launch_nested(Step& step, Executor& e) {
  std::vector<Task*> waiting;
  for (Task* task : e.tasks)
    if (waits(*task)) waiting.push_back(task);
  for (Task* task : waiting) {
    auto status = make_status(step, *task, TaskState::TASK_STARTING);
    status.source = fb::Source::SOURCE_EXECUTOR;
    update(step, *task, std::move(status));
  }
  for (Task* task : waiting) step.effects.emplace_back(effect::Launch{spec_of_nested(*task)});
}

// ---- the end

// Killed before it was given to its executor: then nothing of its group is.
void Core::kill_waiting(Step& step, Task& task) {
  auto status = make_status(step, task, TaskState::TASK_KILLED);
  status.reason = Reason::REASON_TASK_KILLED_DURING_LAUNCH;
  status.message = "Killed before delivery to the executor";
  finish(step, task, std::move(status));
}

std::vector<Task*> Core::group_of(const Executor& e, const std::string& group) const {
  std::vector<Task*> out;
  for (Task* task : e.tasks)
    if (!group.empty() && task->group == group && task->phase != Task::Phase::ended) out.push_back(task);
  return out;
}

// A nested task has left. Not before its own end is told: whoever reads the updates sees the cause first.
void Core::left_group(Step& step, const std::shared_ptr<Executor>& e, const std::string& group, bool well) {
  if (e->phase == Executor::Phase::ended) return;
  if (!well) {
    std::vector<std::string> ids;  // one end may lead to the next
    for (const Task* task : group_of(*e, group)) ids.push_back(task->info->task_id);
    for (const auto& id : ids) {
      Task* task = get(e->framework_id, id);
      if (task && task->group == group && task->executor == e) kill(step, *task, Task::Cause::group, grace_of(*task));
    }
  }
  if (!e->tasks.empty()) return resize(step, *e);
  if (e->cause == Executor::Cause::none) return shut_down_executor(step, *e, Executor::Cause::idle);
  if (e->cause != Executor::Cause::idle) end_holder(step, *e);  // else the others have seen to it
}

// It is to end: at once if nobody is in it any more, else with the last who leaves.
void Core::end_holder(Step& step, Executor& e) {
  if (!e.tasks.empty() || e.phase == Executor::Phase::recovering || e.phase == Executor::Phase::ended) return;
  step.effects.emplace_back(effect::Kill{e.container_id, Nanos{0}});
}

// Somebody wants it to end. Its tasks get the grace they ask for, and no more than their executor is allowed.
void Core::shut_down_holder(Step& step, Executor& e) {
  using Cause = Executor::Cause;
  if (e.cause == Cause::resize) return step.effects.emplace_back(effect::Kill{e.container_id, Nanos{0}}), void();
  const auto cause = e.cause == Cause::framework_removed ? Task::Cause::framework_removed
                     : e.cause == Cause::shutdown        ? Task::Cause::shutdown
                                                         : Task::Cause::asked;
  std::vector<std::string> ids;  // the end of one may be that of others
  for (const Task* task : e.tasks)
    if (task->cause == Task::Cause::none || cause == Task::Cause::asked) ids.push_back(task->info->task_id);
  for (const auto& id : ids) {
    Task* task = get(e.framework_id, id);
    if (!task || task->executor.get() != &e) continue;
    kill(step, *task, cause, cause == Task::Cause::asked ? std::min(grace_of(*task), grace_of(e)) : grace_of(*task));
  }
  end_holder(step, e);
}

// The agent died while it wrote a group down: nobody knows of the others, and they are launched together or not at all.
void Core::end_torn_groups(Step& step, Executor& e) {
  std::map<std::string, std::vector<std::string>> waiting;
  std::set<std::string> whole;
  for (const Task* task : e.tasks) {
    if (task->group.empty()) continue;
    if (task->status.state != TaskState::TASK_STAGING) whole.insert(task->group);  // it had gone on from there
    auto& ids = waiting[task->group];
    ids.push_back(task->info->task_id);
    if (ids.size() == task->group_size) whole.insert(task->group);
  }
  for (const auto& [group, ids] : waiting) {
    if (whole.contains(group)) continue;
    for (const auto& id : ids) {
      Task* task = get(e.framework_id, id);
      if (!task || task->phase == Task::Phase::ended) continue;
      auto status = make_status(step, *task, TaskState::TASK_FAILED);
      status.reason = Reason::REASON_AGENT_RESTARTED;
      status.message = "The agent was restarted while it took the task group";
      finish(step, *task, std::move(status));
    }
  }
}

// The agent is back and the container still there. Tasks that it was never given are given to it as if nothing had been; those it was
// being given when the agent died fail soon (recover.cpp), and take their groups along before the container has grown.
void Core::holder_recovered(Step& step, Executor& e) {
  for (Task* task : e.tasks)
    if (waits(*task)) task->phase = Task::Phase::launching;
  if (e.cause != Executor::Cause::none) return shut_down_holder(step, e);
  if (e.tasks.empty()) return shut_down_executor(step, e, Executor::Cause::idle);
  deliver(step, e);
}

}  // namespace gantry::agent
