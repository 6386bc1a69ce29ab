// What a module's process may not do, applied before its library is mapped.
#pragma once

#include "group.hpp"
#include "options.hpp"

#include <gantry/result.hpp>

namespace gantry::modhost {

// In the process that will run the module: control group, devices, limits, user, capabilities, no_new_privs, seccomp, in
// this order. An error is one sentence; then the module must not be mapped.
[[nodiscard]] Status shut_in(const Options& options, const Group& group);

}  // namespace gantry::modhost
