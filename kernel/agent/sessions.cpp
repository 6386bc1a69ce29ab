// What operators ask of running tasks: their usage, and commands beside them.
#include "kernel/agent/agent.hpp"
#include "kernel/base/log.hpp"

namespace gantry::agent {

namespace control = fb::control;

namespace {

template <class Say>
control::AnswerT say(std::uint64_t id, Say what, bool more = false) {
  control::AnswerT a;
  a.id = id;
  a.more = more;
  a.say.Set(std::move(what));
  return a;
}

control::AnswerT problem(std::uint64_t id, const Error& e) {
  control::ProblemT p;
  p.code = static_cast<int>(e.code);
  p.message = e.message;
  return say(id, std::move(p));
}

}  // namespace

const Task* Agent::running_task(const std::string& framework_id, const std::string& task_id) const {
  for (const auto& [key, task] : core_->tasks())
    if (task->info->task_id == task_id && (framework_id.empty() || task->framework_id == framework_id) && task->phase == Task::Phase::running) return task.get();
  return nullptr;
}

bool Agent::answer_about_containers(const control::Question& question, Function<void(control::AnswerT)>& reply) {
  switch (question.ask_type()) {
    case control::Ask::AskUsage: return usage(question.id(), *question.ask_as_AskUsage(), std::move(reply)), true;
    case control::Ask::Exec: return exec(question, std::move(reply)), true;
    case control::Ask::SessionInput: return session_input(question.id(), *question.ask_as_SessionInput(), std::move(reply)), true;
    default: return false;
  }
}

void Agent::usage(std::uint64_t id, const control::AskUsage& ask, Function<void(control::AnswerT)> reply) {
  auto all = std::make_shared<control::UsagesT>();
  auto index = std::make_shared<std::unordered_map<std::string, std::size_t>>();
  std::vector<std::string> ids;
  for (const auto& [key, task] : core_->tasks()) {
    if (task->phase != Task::Phase::running || task->container_id.empty()) continue;
    if ((!text(ask.framework_id()).empty() && task->framework_id != text(ask.framework_id())) || (!text(ask.task_id()).empty() && task->info->task_id != text(ask.task_id()))) continue;
    auto u = std::make_unique<control::TaskUsageT>();
    u->framework_id = task->framework_id;
    u->task_id = task->info->task_id;
    for (const auto& r : task->info->resources) u->limits.push_back(std::make_unique<fb::ResourceT>(*r));
    // Tasks of one executor share its container: each is told with the figures of the whole.
    if (index->try_emplace(task->container_id, all->usages.size()).second) ids.push_back(task->container_id);
    all->usages.push_back(std::move(u));
  }
  if (ids.empty()) return reply(say(id, std::move(*all)));
  launcher_.usage(std::move(ids), guarded([this, all, index, id, reply = std::move(reply)](Result<std::vector<fb::isolator::UsageT>> r) mutable {
                    if (!r) return reply(problem(id, r.error()));
                    for (auto& one : *r)
                      if (const auto it = index->find(one.container_id); it != index->end()) {
                        auto& to = *all->usages[it->second];
                        to.wall_ns = static_cast<std::uint64_t>(loop_.wall());
                        to.usage = std::make_unique<fb::isolator::UsageT>(std::move(one));
                      }
                    reply(say(id, std::move(*all)));
                  }));
}

void Agent::exec(const control::Question& question, Function<void(control::AnswerT)> reply) {
  const auto& ask = *question.ask_as_Exec();
  const std::uint64_t id = question.id();
  const std::string framework_id(text(ask.framework_id())), task_id(text(ask.task_id()));
  const Task* task = running_task(framework_id, task_id);
  if (!task) return reply(problem(id, fail(Code::not_found, "task '" + task_id + "' does not run on this agent")));
  if (!ask.command()) return reply(problem(id, fail(Code::invalid_argument, "there is no command to execute")));
  ExecOptions options;
  ask.command()->UnPackTo(&options.command);
  options.terminal = ask.terminal();
  options.input = ask.input();
  options.rows = ask.rows();
  options.columns = ask.columns();
  // Whoever is let into a container leaves a trace.
  base::log_info("agent", "a command beside a task", {{"task", task_id}, {"command", options.command.value}, {"principal", text(question.principal()).empty() ? std::string("-") : std::string(text(question.principal()))}});
  const std::uint64_t number = ++last_session_;
  auto told = std::make_shared<Function<void(control::AnswerT)>>(std::move(reply));
  control::SessionT session;
  session.session = number;
  (*told)(say(id, session, true));
  sessions_[number] = launcher_.exec(
      task->container_id, std::move(options),
      [told, id](bool errors, Bytes bytes) {
        control::OutputT o;
        o.errors = errors;
        o.data.assign(bytes.begin(), bytes.end());
        (*told)(say(id, std::move(o), true));
      },
      guarded([this, told, id, number](Result<int> r) {
        sessions_.erase(number);
        if (!r) return (*told)(problem(id, r.error()));
        control::EndedT e;
        e.wait_status = *r;
        (*told)(say(id, e));
      }));
}

void Agent::session_input(std::uint64_t id, const control::SessionInput& in, Function<void(control::AnswerT)> reply) {
  const auto it = sessions_.find(in.session());
  if (it != sessions_.end() && it->second) {
    const auto session = it->second;
    session->taken(in.taken());
    if (in.rows() && in.columns()) session->resize(in.rows(), in.columns());
    if (in.signal()) session->signal(in.signal());
    if (in.data() && in.data()->size()) {
      auto told = std::make_shared<Function<void(control::AnswerT)>>(std::move(reply));
      session->write(Bytes(in.data()->data(), in.data()->size()), [told, id] { (*told)(say(id, control::DoneT())); });
      if (in.end()) session->end_input();
      return;
    }
    if (in.end()) session->end_input();
  }
  reply(say(id, control::DoneT()));
}

}  // namespace gantry::agent
