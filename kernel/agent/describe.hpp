// What a container executes, as whom and with which environment: pure, from the task, its account and its image.
#pragma once

#include "kernel/agent/environment.hpp"
#include "kernel/agent/launcher.hpp"
#include "kernel/agent/spawn.hpp"

#include <gantry/result.hpp>

#include <string>
#include <vector>

namespace gantry::agent {

// What an image says of its containers, as its config has it.
struct ImageConfig {
  std::vector<std::string> entrypoint, command, environment;  // environment: "NAME=value"
  std::string working_directory, user;
};

// The program and its arguments. Without an image, as CommandInfo says. With one, by the override tables of the ancestor
// (mesos-kernel.md A6 docker/runtime): a shell needs a value; a value replaces entrypoint and command; arguments replace
// the command. `docker`: as `docker run IMAGE value arguments` would, where a value stands for the command only.
Status put_command(Spawn& to, const fb::CommandInfoT& command, const ImageConfig* image, bool docker);

// Adds the variables of a command. Refuses what cannot be a variable, and secrets.
Status put_variables(Environment& to, const fb::CommandInfoT& command);

// The environment of a task's first process before isolators have their word: the system's, the image's, then what tasks and
// executors are told. `sandbox` as the task sees it.
[[nodiscard]] Environment basic_environment(const LaunchSpec& spec, const Account& account, const ImageConfig* image, const std::string& sandbox);

}  // namespace gantry::agent
