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

// Calls fn(list, action, word of a row, user of the framework that a row belongs to) for each list of an answer.
template <class F>
void each(op::ResponseT& r, const Users& users, F fn) {
  const auto framework = [](const op::FrameworkT& f) { return f.framework_info ? f.framework_info->user : std::string(); };
  const auto executor = [&](const op::ExecutorT& x) {
    if (!x.executor_info) return std::string();
    if (x.executor_info->command && !x.executor_info->command->user.empty()) return x.executor_info->command->user;
    return users.of(x.executor_info->framework_id, x.executor_info->executor_id);
  };
  const auto task = [&](const fb::ops::TaskT& t) { return user_of(t, users); };
  const auto owner_of_executor = [&](const op::ExecutorT& x) { return x.executor_info ? users.of(x.executor_info->framework_id) : std::string(); };
  const auto owner = [&](const auto& row) { return users.of(row.framework_id); };  // of a task, or a container
  const auto frameworks = [&](op::GetFrameworksT* g) {
    if (!g) return;
    for (auto* list : {&g->frameworks, &g->completed_frameworks}) fn(*list, "view_framework", framework, framework);
  };
  const auto executors = [&](op::GetExecutorsT* g) {
    if (!g) return;
    for (auto* list : {&g->executors, &g->completed_executors}) fn(*list, "view_executor", executor, owner_of_executor);
  };
  const auto tasks = [&](op::GetTasksT* g) {
    if (!g) return;
    for (auto* list : {&g->pending_tasks, &g->queued_tasks, &g->launched_tasks, &g->terminated_tasks, &g->completed_tasks}) fn(*list, "view_task", task, owner);
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
    fn(r.get_containers->containers, "view_container", [&](const op::ContainerT& c) { return users.of(c.framework_id, c.executor_id); }, owner);
}

// The names in a path, as whoever opens it reads them.
std::vector<std::string> names_of(std::string_view path) {
  std::vector<std::string> out;
  while (!path.empty()) {
    const auto end = std::min(path.find('/'), path.size());
    if (const auto name = path.substr(0, end); !name.empty() && name != ".") out.emplace_back(name);
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return out;
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
  each(const_cast<op::ResponseT&>(r), users, [&](const auto& list, const char* action, const auto& word, const auto& owner) {
    for (const auto& row : list)
      if (row) asked.emplace(action, word(*row)), asked.emplace("view_framework", owner(*row));
  });
  std::vector<Ask> out;
  for (const auto& [action, word] : asked) out.push_back({action, word});
  return out;
}

void filter(op::ResponseT& r, const Verdicts& verdicts, const Users& users) {
  each(r, users, [&](auto& list, const char* action, const auto& word, const auto& owner) {
    std::erase_if(list, [&](const auto& row) { return !row || !verdicts.allows(action, word(*row)) || !verdicts.allows("view_framework", owner(*row)); });
  });
}

Ask ask_for(std::string_view path, const Users& users) {
  if (path == "/slave/log" || path == "/agent/log") return {"access_mesos_log", {}};
  // [<work_dir>/slaves/<agent>]/frameworks/<framework>/executors/<executor>
  const auto names = names_of(path);
  std::string framework, executor;
  if (std::find(names.begin(), names.end(), "..") == names.end()) {
    std::size_t at = 0;
    if (!names.empty() && names[0] != "frameworks")
      while (at < names.size() && (names[at] != "frameworks" || at < 2 || names[at - 2] != "slaves")) ++at;
    if (at + 1 < names.size()) framework = names[at + 1];
    if (at + 3 < names.size() && names[at + 2] == "executors") executor = names[at + 3];
  }
  return {"access_sandbox", users.of(framework, executor)};  // nobody's: only for those who may read everything
}

}  // namespace gantry::gateway_mesos::agent_permits
