// What is decided before a module's process is started: its program, its user, its files.
#pragma once

#include "kernel/config/config.hpp"

#include <string>
#include <vector>

namespace gantry::module::process {

// gantry-modhost beside the running program, or in `libexec`. Empty: in neither.
[[nodiscard]] std::string find_program(const std::string& libexec);

// What the control groups of a daemon's modules begin with: not the same for two daemons of one machine.
[[nodiscard]] std::string group_name(const std::string& work_dir);

// Whom the module runs as: what its table says; root for one whose manifest lists capabilities (it keeps exactly those);
// else gantry-module, or nobody where there is no such user. Empty: as the daemon, which is not root itself.
[[nodiscard]] Result<std::string> choose_user(const config::ModuleConfig& module);

// Makes `directory` and what is in it the user's, unless it is already. The error names the folder above that the user
// cannot enter.
[[nodiscard]] Status hand_over(const std::string& directory, const std::string& user);

}  // namespace gantry::module::process
