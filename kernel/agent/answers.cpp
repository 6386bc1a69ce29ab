// What the agent tells those who ask: its tasks, its sandboxes, its condition.
#include "kernel/agent/agent.hpp"

#include <utility>

namespace gantry::agent {

namespace control = fb::control;

namespace {

control::AnswerT problem(std::uint64_t id, const Error& e) {
  control::ProblemT p;
  p.code = static_cast<int>(e.code);
  p.message = e.message;
  control::AnswerT answer;
  answer.id = id;
  answer.say.Set(std::move(p));
  return answer;
}

std::unique_ptr<control::TaskT> describe_task(const Core& core, const std::string& framework_id,
                                              const fb::TaskInfoT& info, const fb::TaskStatusT& status) {
  auto t = std::make_unique<control::TaskT>();
  t->framework_id = framework_id;
  if (const auto* framework = core.framework(framework_id)) t->framework_name = framework->name;
  t->info = std::make_unique<fb::TaskInfoT>(info);
  t->state = status.state;
  t->status = std::make_unique<fb::TaskStatusT>(status);
  t->agent_id = core.agent_id();
  t->hostname = core.info().hostname;
  return t;
}

bool is_plain(const std::string& id) {
  return !id.empty() && id != "." && id != ".." && id.find('/') == std::string::npos;
}

// Where a task's files are: known to the core, or, from before a restart, still on disk.
std::string sandbox_of(const Core& core, const std::string& work_dir, const std::string& framework_id,
                       const std::string& task_id) {
  for (const auto& [key, task] : core.tasks()) {
    if (task->info->task_id == task_id && (framework_id.empty() || task->framework_id == framework_id) &&
        !task->sandbox.empty()) {
      return task->sandbox;
    }
  }
  for (auto it = core.completed().rbegin(); it != core.completed().rend(); ++it) {
    if (it->info->task_id == task_id && (framework_id.empty() || it->framework_id == framework_id) &&
        !it->sandbox.empty()) {
      return it->sandbox;
    }
  }
  if (!is_plain(framework_id) || !is_plain(task_id)) return {};
  return work_dir + "/slaves/" + core.agent_id() + "/frameworks/" + framework_id + "/executors/" + task_id +
         "/runs/latest";
}

}  // namespace

bool Agent::answer(const control::Question& question, Function<void(control::AnswerT)> reply) {
  const std::uint64_t id = question.id();
  if (!core_ || !question.ask()) return false;  // the verifier accepts a type without a body
  if (answer_about_containers(question, reply)) return true;
  switch (question.ask_type()) {
    case control::Ask::AskTasks: {
      const auto& ask = *question.ask_as_AskTasks();
      const auto framework_id = text(ask.framework_id()), task_id = text(ask.task_id()),
                 agent_id = text(ask.agent_id());
      const auto wanted = [&](const std::string& framework, const fb::TaskInfoT& info) {
        return (framework_id.empty() || framework == framework_id) && (task_id.empty() || info.task_id == task_id) &&
               (agent_id.empty() || core_->agent_id() == agent_id);
      };
      control::TasksT tasks;
      for (const auto& [key, task] : core_->tasks()) {
        if (task->unknown || !wanted(task->framework_id, *task->info)) continue;
        auto t = describe_task(*core_, task->framework_id, *task->info, task->status);
        t->container_id = task->container_id;
        t->sandbox = task->sandbox;
        t->launched_wall_ns = static_cast<std::uint64_t>(task->launched_wall);
        tasks.tasks.push_back(std::move(t));
      }
      if (ask.completed()) {
        for (const auto& done : core_->completed()) {
          if (!wanted(done.framework_id, *done.info)) continue;
          auto t = describe_task(*core_, done.framework_id, *done.info, done.status);
          t->container_id = done.container_id;
          t->sandbox = done.sandbox;
          t->launched_wall_ns = static_cast<std::uint64_t>(done.launched_wall);
          t->completed = true;
          tasks.tasks.push_back(std::move(t));
        }
      }
      control::AnswerT answer;
      answer.id = id;
      answer.say.Set(std::move(tasks));
      reply(std::move(answer));
      return true;
    }
    case control::Ask::ReadFile: {
      const auto& ask = *question.ask_as_ReadFile();
      const std::string task_id(text(ask.task_id())), path(ask.path() ? text(ask.path()) : "stdout");
      const std::string sandbox = sandbox_of(*core_, options_.work_dir, std::string(text(ask.framework_id())), task_id);
      if (sandbox.empty()) {
        reply(
            problem(id, fail(Code::not_found, "task '" + task_id +
                                                  "' is not known to this agent; give its framework id too if it ended "
                                                  "before the agent was restarted")));
        return true;
      }
      // Off the loop: a slow disk must not hold up scheduling.
      struct Work {
        Result<control::FileDataT> result = control::FileDataT{};
        Function<void(control::AnswerT)> reply;
      };
      auto work = std::make_shared<Work>();
      work->reply = std::move(reply);
      loop_.offload([work, sandbox, path, offset = ask.offset(),
                     length = ask.length()] { work->result = read_sandbox_file(sandbox, path, offset, length); },
                    [work, id] {
                      if (!work->result) return work->reply(problem(id, work->result.error()));
                      control::AnswerT answer;
                      answer.id = id;
                      answer.say.Set(std::move(*work->result));
                      work->reply(std::move(answer));
                    });
      return true;
    }
    case control::Ask::KillTask: {
      const auto& ask = *question.ask_as_KillTask();
      const std::string framework_id(text(ask.framework_id())), task_id(text(ask.task_id()));
      const Task* found = nullptr;
      for (const auto& [key, task] : core_->tasks()) {
        const bool match =
            task->info->task_id == task_id && (framework_id.empty() || task->framework_id == framework_id);
        if (match && task->phase != Task::Phase::ended) found = task.get();
      }
      if (!found) {
        reply(problem(id, fail(Code::not_found, "task '" + task_id + "' does not run on this agent")));
        return true;
      }
      control::DoneT done;
      done.message = "killing task " + task_id;
      feed(event::Kill{found->framework_id, task_id});
      control::AnswerT answer;
      answer.id = id;
      answer.say.Set(std::move(done));
      reply(std::move(answer));
      return true;
    }
    default: return false;
  }
}

void Agent::describe(control::StatusT& status) const {
  if (!core_) return;
  status.agent_id = core_->agent_id();
  if (status.master_id.empty()) status.master_id = core_->master_id();
  if (status.leader.empty()) status.leader = core_->leader();
  status.registered = core_->registered();
  if (!core_->journal_problem().empty()) {
    status.warnings.push_back("the agent takes no new tasks: " + core_->journal_problem());
  }
  if (!status.leading && core_->leader().empty()) status.warnings.push_back("no master leads");
}

void Agent::metrics(control::MetricsT& metrics) const {
  if (!core_) return;
  const auto add = [&](const char* name, double value, const char* unit, const char* help) {
    auto m = std::make_unique<control::MetricT>();
    m->name = name;
    m->value = value;
    m->unit = unit;
    m->help = help;
    metrics.metrics.push_back(std::move(m));
  };
  std::size_t running = 0, launching = 0, updates = 0;
  for (const auto& [key, task] : core_->tasks()) {
    running += task->phase == Task::Phase::running;
    launching += task->phase == Task::Phase::launching;
    updates += task->outbox.size();
  }
  add("agent/registered", core_->registered() ? 1 : 0, "", "1 when the master knows this agent");
  add("agent/tasks_running", static_cast<double>(running), "tasks", "Tasks whose container runs");
  add("agent/tasks_launching", static_cast<double>(launching), "tasks", "Tasks being launched");
  const auto& counters = core_->counters();
  const auto ended = [&](std::initializer_list<fb::TaskState> states) {
    std::uint64_t n = 0;
    for (const auto s : states)
      if (const auto it = counters.ended.find(s); it != counters.ended.end()) n += it->second;
    return static_cast<double>(n);
  };
  add("agent/tasks_finished", ended({fb::TaskState::TASK_FINISHED}), "tasks", "Tasks that ended by themselves, well");
  add("agent/tasks_failed", ended({fb::TaskState::TASK_FAILED, fb::TaskState::TASK_ERROR}), "tasks", "Tasks that failed");
  add("agent/tasks_killed", ended({fb::TaskState::TASK_KILLED}), "tasks", "Tasks that were killed");
  add("agent/tasks_lost", ended({fb::TaskState::TASK_LOST, fb::TaskState::TASK_DROPPED}), "tasks", "Tasks that never ran or were lost");
  add("agent/tasks_gone", ended({fb::TaskState::TASK_GONE, fb::TaskState::TASK_GONE_BY_OPERATOR}), "tasks", "Tasks that went with their executor or agent");
  add("agent/executors_terminated", static_cast<double>(counters.executors_ended), "executors", "Custom executors that have ended");
  add("agent/container_launch_errors", static_cast<double>(counters.launches_failed), "launches", "Containers that could not be started");
  add("agent/valid_status_updates", static_cast<double>(counters.updates), "updates", "Status updates of this agent's tasks");
  add("agent/valid_framework_messages", static_cast<double>(counters.messages), "messages", "Messages of frameworks handed to executors");
  add("agent/updates_unacknowledged", static_cast<double>(updates), "updates",
      "Status updates kept until they are acknowledged");
  add("agent/journal_bytes", static_cast<double>(journal_->size()), "bytes", "Size of the agent's journal");
}

}  // namespace gantry::agent
