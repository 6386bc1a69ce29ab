// What of an agent's answers a client may see, and whose sandbox a path lies in. Pure (sdk/docs/authorizer.md).
#pragma once

#include "../access.hpp"

#include <gantry/operator_agent_generated.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::gateway_mesos::agent_permits {

// As whom frameworks and executors of this agent run, from its GET_STATE.
struct Users {
  std::map<std::string, std::string, std::less<>> frameworks;                              // by id
  std::map<std::pair<std::string, std::string>, std::string, std::less<>> executors;  // by ids of framework and executor
  // Of an executor; its framework's where it names none or is not known.
  [[nodiscard]] std::string of(const std::string& framework, const std::string& executor = {}) const;
};
[[nodiscard]] Users users_of(const fb::agent::Response& state);

[[nodiscard]] std::vector<Ask> asks_of(const fb::agent::ResponseT& r, const Users& users);
// Takes out what is not allowed.
void filter(fb::agent::ResponseT& r, const Verdicts& verdicts, const Users& users);

// What reading a file asks for.
[[nodiscard]] Ask ask_for(std::string_view path, const Users& users);

}  // namespace gantry::gateway_mesos::agent_permits
