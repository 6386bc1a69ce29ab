#include "tools/gantry/tasks.hpp"

#include "tools/gantry/format.hpp"

#include <unistd.h>

#include <algorithm>
#include <optional>

namespace gantry::cli {

namespace control = fb::control;

bool terminal_state(fb::TaskState s) {
  switch (s) {
    case fb::TaskState::TASK_FINISHED:
    case fb::TaskState::TASK_FAILED:
    case fb::TaskState::TASK_KILLED:
    case fb::TaskState::TASK_LOST:
    case fb::TaskState::TASK_ERROR:
    case fb::TaskState::TASK_DROPPED:
    case fb::TaskState::TASK_GONE:
    case fb::TaskState::TASK_GONE_BY_OPERATOR:
      return true;
    default:
      return false;
  }
}

const std::string& id_of(const control::TaskT& t) {
  static const std::string none;
  return t.info ? t.info->task_id : none;
}

Result<std::vector<control::TaskT>> ask_tasks(Daemon& d, bool completed, const std::string& task_id) {
  control::AskTasksT ask;
  ask.completed = completed;
  ask.task_id = task_id;
  std::vector<control::TaskT> out;
  GANTRY_CHECK(d.ask_for<control::TasksT>(std::move(ask), [&](const control::TasksT& found) {
    for (const auto& t : found.tasks) out.push_back(*t);
  }));
  return out;
}

// The task a person means: its id, or the start of it where only one begins so. Running ones are preferred.
Result<control::TaskT> find_task(Daemon& d, const std::string& wanted, bool completed_too) {
  std::vector<control::TaskT> near;
  for (const bool completed : {false, true}) {
    if (completed && !completed_too) break;
    GANTRY_TRY(auto exact, ask_tasks(d, completed, wanted));
    for (auto& t : exact) {
      if (id_of(t) == wanted) return std::move(t);
    }
    GANTRY_TRY(auto all, ask_tasks(d, completed, ""));
    for (auto& t : all) {
      if (id_of(t) == wanted) return std::move(t);
      if (!wanted.empty() && id_of(t).starts_with(wanted)) near.push_back(std::move(t));
    }
    if (!near.empty()) break;
  }
  if (near.size() == 1) return std::move(near[0]);
  if (near.empty())
    return fail(Code::not_found,
                "there is no task \"" + wanted + "\"; `gantry task list --all` shows those that are known");
  std::string ids;
  for (std::size_t i = 0; i < std::min<std::size_t>(near.size(), 5); ++i) ids += (i ? ", " : "") + id_of(near[i]);
  return fail(Code::invalid_argument, plural(near.size(), "task") + " begin with \"" + wanted + "\": " + ids +
                                          (near.size() > 5 ? ", ..." : "") + "; name one of them");
}

Result<std::vector<AgentAddress>> agents_of(Daemon& master) {
  std::vector<AgentAddress> out;
  GANTRY_CHECK(master.ask_for<control::AgentsT>(control::AskAgentsT{}, [&](const control::AgentsT& found) {
    for (const auto& a : found.agents)
      if (a->info) out.push_back({a->info->id, a->info->hostname, a->info->address});
  }));
  return out;
}

Result<Daemon> connect_to(const Context& c, const AgentAddress& agent, bool own_socket) {
  if (agent.address.empty())
    return fail(Code::unavailable, "the agent on " + agent.hostname + " has no listener; set kernel.agent_listen in its configuration");
  GANTRY_TRY(auto d, Daemon::connect(agent.address));
  d.credentials(c.principal, c.secret);
  if (!own_socket || !agent.address.starts_with("127.")) return d;
  std::string socket;
  GANTRY_CHECK(d.ask_for<control::StatusT>(control::AskStatusT{}, [&](const control::StatusT& s) { socket = s.work_dir + "/gantry.sock"; }));
  if (::access(socket.c_str(), R_OK | W_OK) != 0) return d;
  auto own = Daemon::connect(socket);
  return own ? std::move(own) : Result<Daemon>(std::move(d));
}

Result<Daemon> agent_of(const Context& c, Daemon& master, const control::TaskT& task, bool own_socket) {
  GANTRY_TRY(const auto agents, agents_of(master));
  const auto it = std::find_if(agents.begin(), agents.end(), [&](const AgentAddress& a) { return a.id == task.agent_id; });
  if (it == agents.end())
    return fail(Code::not_found, "the agent of this task (" + task.agent_id + " on " + task.hostname + ") is no longer known; its sandbox cannot be read");
  auto agent = connect_to(c, *it, own_socket);
  if (!agent) return std::move(agent).error().because("the task is on " + task.hostname);
  return agent;
}

}  // namespace gantry::cli
