// What a framework's call asks permission for, and what is left of a call when some of it is refused. Pure.
// Contract: sdk/docs/authorizer.md; reference mesos-kernel.md A3 (TASK_UNAUTHORIZED), A11.
#pragma once

#include "access.hpp"

#include <gantry/framework_generated.h>

#include <string>
#include <vector>

namespace gantry::gateway_mesos {

// Of whoever subscribes or changes: one for each role.
[[nodiscard]] std::vector<Ask> asks_of(const fb::FrameworkInfo& info);
// Of an ACCEPT: users of tasks, roles and principals of resources. `user` is the framework's.
[[nodiscard]] std::vector<Ask> asks_of(const fb::Accept& accept, std::string_view user);

// "Not authorized to register framework F with roles { a, b }"
[[nodiscard]] std::string not_registered(const fb::FrameworkInfo& info);

// As whom a task runs.
[[nodiscard]] std::string_view user_of(const fb::TaskInfo& task, std::string_view framework_user);
[[nodiscard]] std::string_view user_of(const fb::ExecutorInfo& executor, std::string_view framework_user);

struct Whose {
  std::string principal, user, framework_id;
  std::uint64_t wall_ns = 0;
};
// Takes out what is not allowed and returns what the framework is told of it: TASK_ERROR, and the failure of operations with an id.
[[nodiscard]] std::vector<fb::EventT> prune(fb::AcceptT& accept, const Verdicts& verdicts, const Whose& whose);

}  // namespace gantry::gateway_mesos
