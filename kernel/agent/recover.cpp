// Coming back: replay the journal, take back what still runs, tell the end of what does not.
#include "kernel/agent/core.hpp"

#include <algorithm>

namespace gantry::agent {

using fb::record::EntryType;

void Core::replay(const fb::record::Entry& e) {
  const std::string framework_id(text(e.framework_id())), task_id(text(e.task_id()));
  if (task_id.empty() && !text(e.container_id()).empty()) return replay_executor(e);
  switch (e.type()) {
    case EntryType::IDENTITY:
      agent_id_ = text(e.agent_id());
      master_id_ = text(e.master_id());
      recorded_boot_ = text(e.boot_id());
      return;
    case EntryType::FRAMEWORK:
      if (e.framework()) e.framework()->UnPackTo(&frameworks_[framework_id]);
      return;
    case EntryType::INTENT: {
      if (!e.task()) return;
      auto info = std::make_shared<fb::TaskInfoT>();
      e.task()->UnPackTo(info.get());
      Task& task = add(framework_id, std::move(info));
      task.phase = Task::Phase::recovering;
      task.container_id = text(e.container_id());
      task.sandbox = text(e.sandbox());
      task.launched_wall = static_cast<base::Wall>(e.wall_ns());
      task.status.task_id = task.info->task_id;
      task.group = text(e.group());
      if (!task.group.empty()) task.group_size = static_cast<std::uint32_t>(e.exit_status());
      if (task.info->executor) {
        task.status.state = fb::TaskState::TASK_STAGING;
        if (const auto executor = find_executor(framework_id, task.info->executor->executor_id)) add_to(task, executor);
        if (is_nested(*task.info)) nest(task, std::string(text(e.container_id())));
        return;
      }
      task.status.state = fb::TaskState::TASK_STARTING;
      containers_[task.container_id] = &task;
      return;
    }
    default: break;
  }
  Task* task = get(framework_id, task_id);
  if (!task) return;
  switch (e.type()) {
    case EntryType::STARTED:
      task->identity = Identity{e.pid(), e.supervisor_pid(), e.supervisor_start()};
      task->launched_wall = static_cast<base::Wall>(e.wall_ns());
      break;
    case EntryType::KILLING:
      if (e.exit_status() > 0 && e.exit_status() <= static_cast<int>(Task::kLastCause)) {
        task->cause = static_cast<Task::Cause>(e.exit_status());
      }
      break;
    case EntryType::UPDATE:
      if (!e.status()) break;
      e.status()->UnPackTo(&task->status);
      task->outbox.push_back(task->status);
      if (is_terminal(task->status.state)) {
        task->phase = Task::Phase::ended;
        if (task->executor) std::erase(task->executor->tasks, task);
      }
      break;
    case EntryType::ACKED:
      if (e.uuid() && !task->outbox.empty() &&
          std::equal(e.uuid()->begin(), e.uuid()->end(), task->outbox.front().uuid.begin(),
                     task->outbox.front().uuid.end())) {
        task->outbox.pop_front();
      }
      break;
    case EntryType::FORGOTTEN: drop(*task); break;
    default: break;
  }
}

void Core::on(Step& step, const event::Start&) {
  options_.info.id = agent_id_;
  const bool rebooted = !agent_id_.empty() && recorded_boot_ != options_.boot_id;
  if (rebooted) {
    fb::record::EntryT e;
    e.type = EntryType::IDENTITY;
    e.agent_id = agent_id_;
    e.master_id = master_id_;
    e.boot_id = options_.boot_id;
    e.wall_ns = static_cast<std::uint64_t>(step.time.wall);
    append(step, std::move(e));
    recorded_boot_ = options_.boot_id;
  }
  std::vector<KnownContainer> known;
  if (rebooted) {
    std::vector<std::shared_ptr<Executor>> executors;
    for (const auto& [k, executor] : executors_) executors.push_back(executor);
    for (const auto& executor : executors) executor_ended(step, *executor, {}, std::pair(fb::Reason::REASON_AGENT_RESTARTED, "The machine was restarted"));
  }
  for (Task* task : in_order()) {
    if (task->phase != Task::Phase::recovering) continue;
    if (rebooted) {
      auto status = make_status(step, *task, fb::TaskState::TASK_FAILED);
      status.reason = fb::Reason::REASON_AGENT_RESTARTED;
      status.message = "The machine was restarted";
      finish(step, *task, std::move(status));
      continue;
    }
    const bool nested = is_nested(*task->info);
    if (task->info->executor && !nested) continue;           // its container is the executor's
    if (nested && (!task->executor || waits(*task))) continue;  // it never had one
    KnownContainer k;
    k.spec = nested ? spec_of_nested(*task) : spec_of_command(*task);
    k.identity = task->identity;
    known.push_back(std::move(k));
  }
  executors_started(known);
  // Also with nothing known: the launcher removes what an earlier life left behind.
  step.effects.emplace_back(effect::Recover{std::move(known)});
}

void Core::on(Step& step, const event::Recovered& e) {
  if (started_) return;
  for (const RecoveredContainer& r : e.containers) {
    Task* task = by_container(r.container_id);
    if (!task || task->phase != Task::Phase::recovering) continue;
    if (r.fate == RecoveredContainer::Fate::running) {
      task->phase = Task::Phase::running;
      if (task->identity) task->identity->networks = r.networks;
      if (task->cause != Task::Cause::none) {
        // The kill was under way; how much of its grace had passed is not known, so it gets all of it again.
        task->kill_due = step.time.now + grace_of(*task);
        step.effects.emplace_back(effect::Kill{task->container_id, grace_of(*task)});
      } else {
        running(step, *task, true);
      }
    } else if (r.fate == RecoveredContainer::Fate::exited) {
      ended(step, *task, r.exit);
    }
  }
  executors_recovered(step, e.containers);
  std::size_t kept = 0;
  for (Task* task : in_order()) {
    if (task->phase == Task::Phase::running) ++kept;
    if (task->phase != Task::Phase::recovering) continue;
    const bool killed = task->cause != Task::Cause::none;
    auto status = make_status(step, *task, killed ? fb::TaskState::TASK_KILLED : fb::TaskState::TASK_FAILED);
    status.reason = fb::Reason::REASON_AGENT_RESTARTED;
    status.message = task->identity ? "The container was gone when the agent returned"
                                    : "The agent was restarted while it launched the task";
    finish(step, *task, std::move(status));
  }
  started_ = true;
  if (!agent_id_.empty()) {
    log(step, base::Level::info,
        "recovered as agent " + agent_id_ + " with " + std::to_string(kept) + " running tasks");
  }
  if (!leader_.empty()) dial(step);
}

std::vector<fb::record::EntryT> Core::snapshot() const {
  std::vector<fb::record::EntryT> out;
  if (!agent_id_.empty()) {
    fb::record::EntryT e;
    e.type = EntryType::IDENTITY;
    e.agent_id = agent_id_;
    e.master_id = master_id_;
    e.boot_id = options_.boot_id;
    out.push_back(std::move(e));
  }
  const auto tasks = in_order();
  std::set<std::string> frameworks;
  for (const Task* task : tasks) {
    if (task->recorded) frameworks.insert(task->framework_id);
  }
  for (const auto& [k, executor] : executors_)
    if (executor->recorded) frameworks.insert(executor->framework_id);
  for (const auto& id : frameworks) {
    const auto* info = framework(id);
    if (!info) continue;
    fb::record::EntryT e;
    e.type = EntryType::FRAMEWORK;
    e.framework_id = id;
    e.framework = std::make_unique<fb::FrameworkInfoT>(*info);
    out.push_back(std::move(e));
  }
  append_executors(out);
  for (const Task* task : tasks) {
    if (!task->recorded) continue;
    auto intent = entry(EntryType::INTENT, *task, task->launched_wall);
    intent.task = std::make_unique<fb::TaskInfoT>(*task->info);
    intent.container_id = task->container_id;
    intent.sandbox = task->sandbox;
    intent.group = task->group;
    intent.exit_status = static_cast<int>(task->group_size);
    out.push_back(std::move(intent));
    if (task->identity) {
      auto started = entry(EntryType::STARTED, *task, task->launched_wall);
      started.container_id = task->container_id;
      started.sandbox = task->sandbox;
      started.pid = task->identity->pid;
      started.supervisor_pid = task->identity->supervisor_pid;
      started.supervisor_start = task->identity->supervisor_start;
      out.push_back(std::move(started));
    }
    if (task->cause != Task::Cause::none) {
      auto killing = entry(EntryType::KILLING, *task, task->launched_wall);
      killing.exit_status = static_cast<int>(task->cause);
      out.push_back(std::move(killing));
    }
    const auto add_update = [&](const fb::TaskStatusT& status) {
      auto update = entry(EntryType::UPDATE, *task, task->launched_wall);
      update.status = std::make_unique<fb::TaskStatusT>(status);
      out.push_back(std::move(update));
    };
    for (const auto& status : task->outbox) add_update(status);
    if (task->outbox.empty() && !task->status.uuid.empty()) {
      // Acknowledged already, but still what the task last said.
      add_update(task->status);
      auto acked = entry(EntryType::ACKED, *task, task->launched_wall);
      acked.uuid = task->status.uuid;
      out.push_back(std::move(acked));
    }
  }
  return out;
}

}  // namespace gantry::agent
