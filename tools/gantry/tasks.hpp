// Finding tasks and the agents they run on.
#pragma once

#include "tools/gantry/control.hpp"

#include <string>
#include <vector>

namespace gantry::cli {

[[nodiscard]] bool terminal_state(fb::TaskState s);
[[nodiscard]] const std::string& id_of(const fb::control::TaskT& t);
Result<std::vector<fb::control::TaskT>> ask_tasks(Daemon& d, bool completed, const std::string& task_id);
// The task a person means: its id, or the start of it where only one begins so. Running ones are preferred.
Result<fb::control::TaskT> find_task(Daemon& d, const std::string& wanted, bool completed_too);

struct AgentAddress {
  std::string id, hostname, address;
};
Result<std::vector<AgentAddress>> agents_of(Daemon& master);
// A conversation with the agent. With `own_socket` and an agent of this machine: over its own socket, if we may, because commands in
// containers are taken from there without credentials.
Result<Daemon> connect_to(const Context& c, const AgentAddress& agent, bool own_socket);
Result<Daemon> agent_of(const Context& c, Daemon& master, const fb::control::TaskT& task, bool own_socket = false);

}  // namespace gantry::cli
