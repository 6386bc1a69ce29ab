#include "permits.hpp"

#include <algorithm>
#include <set>

namespace gantry::gateway_mesos::agent_permits {
namespace {

namespace op = fb::agent;

std::string user_of(const fb::ops::TaskT& t, const Users& users) {
  if (!t.user.empty()) return t.user;
  return users.of(t.framework_id, t.executor_id);
}

// Calls fn(list, action, word of a row) for each list of an answer.
template <class F>
void each(op::ResponseT& r, const Users& users, F fn) {
  const auto framework = [](const op::FrameworkT& f) { return f.framework_info ? f.framework_info->user : std::string(); };
  const auto executor = [&](const op::ExecutorT& x) {
    if (!x.executor_info) return std::string();
    if (x.executor_info->command && !x.executor_info->command->user.empty()) return x.executor_info->command->user;
    return users.of(x.executor_info->framework_id, x.executor_info->executor_id);
  };
  const auto task = [&](const fb::ops::TaskT& t) { return user_of(t, users); };
  const auto frameworks = [&](op::GetFrameworksT* g) {
    if (g) fn(g->frameworks, "view_framework", framework), fn(g->completed_frameworks, "view_framework", framework);
  };
  const auto executors = [&](op::GetExecutorsT* g) {
    if (g) fn(g->executors, "view_executor", executor), fn(g->completed_executors, "view_executor", executor);
  };
  const auto tasks = [&](op::GetTasksT* g) {
    if (!g) return;
    for (auto* list : {&g->pending_tasks, &g->queued_tasks, &g->launched_tasks, &g->terminated_tasks, &g->completed_tasks}) fn(*list, "view_task", task);
  };
  frameworks(r.get_frameworks.get());
  executors(r.get_executors.get());
  tasks(r.get_tasks.get());
  if (r.get_state) {
    frameworks(r.get_state->get_frameworks.get());
    executors(r.get_state->get_executors.get());
    tasks(r.get_state->get_tasks.get());
  }
  if (r.get_containers)
    fn(r.get_containers->containers, "view_container", [&](const op::ContainerT& c) { return users.of(c.framework_id, c.executor_id); });
}

// The part of a path behind "/name/", up to the next slash.
std::string_view part(std::string_view path, std::string_view name) {
  const auto at = path.find(name);
  if (at == std::string_view::npos) return {};
  path.remove_prefix(at + name.size());
  return path.substr(0, path.find('/'));
}

}  // namespace

std::string Users::of(const std::string& framework, const std::string& executor) const {
  if (const auto x = executors.find(std::pair(framework, executor)); x != executors.end() && !x->second.empty()) return x->second;
  const auto f = frameworks.find(framework);
  return f == frameworks.end() ? std::string() : f->second;
}

Users users_of(const op::Response& r) {
  Users out;
  const auto* s = r.get_state();
  if (!s) return out;
  if (const auto* g = s->get_frameworks())
    for (const auto* list : {g->frameworks(), g->completed_frameworks()})
      if (list)
        for (const auto* f : *list)
          if (const auto* info = f->framework_info()) out.frameworks[std::string(text(info->id()))] = text(info->user());
  if (const auto* g = s->get_executors())
    for (const auto* list : {g->executors(), g->completed_executors()})
      if (list)
        for (const auto* x : *list)
          if (const auto* info = x->executor_info(); info && info->command())
            out.executors[{std::string(text(info->framework_id())), std::string(text(info->executor_id()))}] = text(info->command()->user());
  // A command task runs in an executor of its own name, as the task's user.
  if (const auto* g = s->get_tasks())
    for (const auto* list : {g->pending_tasks(), g->queued_tasks(), g->launched_tasks(), g->terminated_tasks(), g->completed_tasks()})
      if (list)
        for (const auto* t : *list)
          if (text(t->executor_id()).empty() && !text(t->user()).empty())
            out.executors[{std::string(text(t->framework_id())), std::string(text(t->task_id()))}] = text(t->user());
  return out;
}

std::vector<Ask> asks_of(const op::ResponseT& r, const Users& users) {
  std::set<std::pair<std::string, std::string>> asked;
  each(const_cast<op::ResponseT&>(r), users, [&](const auto& list, const char* action, const auto& word) {
    for (const auto& row : list)
      if (row) asked.emplace(action, word(*row));
  });
  std::vector<Ask> out;
  for (const auto& [action, word] : asked) out.push_back({action, word});
  return out;
}

void filter(op::ResponseT& r, const Verdicts& verdicts, const Users& users) {
  each(r, users, [&](auto& list, const char* action, const auto& word) {
    std::erase_if(list, [&](const auto& row) { return !row || !verdicts.allows(action, word(*row)); });
  });
}

Ask ask_for(std::string_view path, const Users& users) {
  if (path == "/slave/log" || path == "/agent/log") return {"access_mesos_log", {}};
  const std::string framework(part(path, "/frameworks/")), executor(part(path, "/executors/"));
  return {"access_sandbox", users.of(framework, executor)};  // nobody's: only for those who may read everything
}

}  // namespace gantry::gateway_mesos::agent_permits
