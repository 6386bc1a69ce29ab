// What an operator's call asks permission for (sdk/docs/authorizer.md). Pure.
#pragma once

#include "../access.hpp"

#include <gantry/operator_generated.h>

#include <functional>
#include <string>
#include <vector>

namespace gantry::gateway_mesos {

// `principal_of`: of a framework by its id; empty where it has none or is not known.
[[nodiscard]] std::vector<Ask> asks_of(const fb::master::CallT& call, const std::function<std::string(const std::string&)>& principal_of);

}  // namespace gantry::gateway_mesos
