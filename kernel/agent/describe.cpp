#include "kernel/agent/describe.hpp"

namespace gantry::agent {
namespace {

bool holds_zero(const std::string& s) { return s.find('\0') != std::string::npos; }

void append(std::vector<std::string>& to, const std::vector<std::string>& from) { to.insert(to.end(), from.begin(), from.end()); }

}  // namespace

Status put_command(Spawn& to, const fb::CommandInfoT& command, const ImageConfig* image, bool docker) {
  to.executable.clear();
  to.arguments.clear();
  const std::string& value = command.value;
  if (command.shell.value_or(true)) {
    // A Docker task without a command runs what its image says, whatever `shell` is.
    if (value.empty() && !(docker && image)) return fail(Code::invalid_argument, "command.value is empty; a shell command needs a command line");
    if (!value.empty()) to.arguments = {"/bin/sh", "-c", value};
  }
  if (to.arguments.empty() && image && (value.empty() || docker)) {
    to.arguments = image->entrypoint;
    std::vector<std::string> rest;
    if (!value.empty()) rest.push_back(value);
    append(rest, command.arguments);
    if (!rest.empty() && image->entrypoint.empty() && !docker && !image->command.empty()) to.arguments.push_back(image->command[0]);
    append(to.arguments, rest.empty() ? image->command : rest);
    if (to.arguments.empty()) return fail(Code::invalid_argument, "nothing to execute: command.value is empty, and the image has neither an entrypoint nor a command");
  } else if (to.arguments.empty()) {
    to.executable = value.empty() && !command.arguments.empty() ? command.arguments[0] : value;
    if (to.executable.empty()) return fail(Code::invalid_argument, "command.value is empty; with shell = false it names the program");
    to.arguments = command.arguments.empty() ? std::vector<std::string>{value} : command.arguments;
  }
  for (const auto& a : to.arguments)
    if (holds_zero(a)) return fail(Code::invalid_argument, "the command has a zero byte");
  return ok;
}

Status put_variables(Environment& to, const fb::CommandInfoT& command) {
  for (const auto& v : command.environment) {
    if (v->type == fb::VariableType::SECRET)
      return fail(Code::failed_precondition, "environment variable " + v->name + " is a secret; secrets need a secret module, which this release does not have");
    if (v->name.empty() || v->name.find('=') != std::string::npos || holds_zero(v->name) || holds_zero(v->value))
      return fail(Code::invalid_argument, "environment variable \"" + v->name + "\" is not valid: names are not empty and have no '=', nothing has a zero byte");
    to.set(v->name, v->value);
  }
  return ok;
}

Environment basic_environment(const LaunchSpec& spec, const Account& account, const ImageConfig* image, const std::string& sandbox) {
  Environment e;
  e.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  e.set("HOME", account.home.empty() ? "/" : account.home);
  if (!account.name.empty()) e.set("USER", account.name);
  if (image)
    for (const auto& line : image->environment)
      if (!line.empty() && line[0] != '=' && !holds_zero(line)) e.add(line);
  if (spec.executor) {
    for (const auto& [name, value] : spec.environment) e.set(name, value);
    if (sandbox != spec.sandbox)
      for (const char* name : {"MESOS_SANDBOX", "MESOS_DIRECTORY"})
        if (e.has(name)) e.set(name, sandbox);
    return e;
  }
  e.set("MESOS_SANDBOX", sandbox);
  e.set("MESOS_DIRECTORY", spec.sandbox);
  e.set("MESOS_TASK_ID", spec.task->task_id);
  e.set("MESOS_EXECUTOR_ID", spec.task->task_id);
  e.set("MESOS_FRAMEWORK_ID", spec.framework_id);
  e.set("MESOS_AGENT_ID", spec.agent_id);
  e.set("MESOS_SLAVE_ID", spec.agent_id);
  e.set("MESOS_CONTAINER_ID", spec.container_id);
  for (const auto& [name, value] : spec.environment) e.set(name, value);
  return e;
}

}  // namespace gantry::agent
