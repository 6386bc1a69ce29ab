// mesos-master and mesos-agent: flags -> configuration -> gantryd, in the same process.
#pragma once

#include "translate.hpp"

namespace gantry::compat {

// Does not return when the daemon runs. Returns the exit status otherwise: 0 for --help and --version, 1 for mistakes.
int run_daemon(Role role, std::span<const std::string> words, std::string_view program);

// `gantry config from-mesos`: the configuration, or what is wrong, and what an operator should know, as comments.
[[nodiscard]] Result<std::string> configuration(Role role, std::span<const std::string> words);

}  // namespace gantry::compat
