// The table `sandbox` of a module: declared like a module's settings, so that checks, defaults and messages follow.
#include "kernel/config/builder.hpp"

#include <cassert>

namespace gantry::config {
namespace {

constexpr std::string_view sandbox_toml = R"(
kind = "kernel"
name = "sandbox"
version = "0.1.0"
license = "Apache-2.0"
summary = "the process of a module with host = \"process\""
roles = ["master", "agent"]

[config.user]
type = "string"
default = ""
doc = "User the module runs as. Empty: root with the capabilities its manifest lists, if it lists any; else gantry-module, or nobody. A daemon that is not root runs it as itself."

[config.memory]
type = "size"
default = "1GiB"
min = 0
doc = "Memory of the process and what it starts; reaching it ends them. 0: no limit."

[config.cpu]
type = "float"
default = 0.0
min = 0
max = 4096
doc = "CPU time it may use, in cores. 0: no limit."

[config.processes]
type = "int"
default = 512
min = 0
doc = "Processes and threads it may have. 0: no limit."

[config.files]
type = "int"
default = 1024
min = 32
doc = "File descriptors it may have open."

[config.devices]
type = "list"
default = []
doc = "Devices it may see, as paths or patterns such as /dev/nvidia*. Empty: /dev is the machine's; given, it holds these and null, zero, full, random and urandom. Needs root, and mounts made by the module stay its own."

[config.restart]
type = "string"
default = "on-failure"
choices = ["on-failure", "never"]
doc = "What follows when the process ends unasked: another try, after 100 ms at first and 30 s at most, or none."

[config.seccomp]
type = "string"
default = "default"
choices = ["default", "off"]
doc = "Filter of system calls: what no module needs, and what only the capabilities in its manifest would allow."
)";

}  // namespace

const Manifest& sandbox_manifest() {
  static const Manifest manifest = [] {
    auto m = parse_manifest(sandbox_toml, "sandbox.toml");
    assert(m.has_value() && "the text above is tested");
    return m ? std::move(*m) : Manifest{};
  }();
  return manifest;
}

void Builder::sandbox(const std::string& title, const Node& table, ModuleConfig& m) {
  const Node* node = table.find("sandbox");
  std::vector<const Node*> tables;
  if (node && !node->table())
    return error(node->where, title + ".sandbox: expected a table such as { memory = \"256MiB\" }, got " + node->describe());
  if (node) tables.push_back(node);
  if (node && m.host == "kernel")
    error(node->key_where, title + ".sandbox: is for host = \"process\", and " +
                               (table.find("host") ? "host is \"kernel\" here" : "this module runs in the kernel's process") +
                               "; write host = \"process\" or leave it out");
  std::map<std::string, Where> where_of;
  const Values v = settings(sandbox_manifest(), tables, title + ".sandbox", table.key_where, where_of);
  m.sandbox.user = v.text("user");
  m.sandbox.memory = static_cast<std::uint64_t>(v.number("memory"));
  m.sandbox.cpu = v.real("cpu");
  m.sandbox.processes = static_cast<std::uint64_t>(v.number("processes"));
  m.sandbox.files = static_cast<std::uint64_t>(v.number("files"));
  m.sandbox.devices = v.list("devices");
  m.sandbox.restart = v.text("restart") != "never";
  m.sandbox.seccomp = v.text("seccomp") != "off";
  for (const std::string& d : m.sandbox.devices)
    if (!d.starts_with("/dev/") || d.find("..") != std::string::npos)
      error(where_of["devices"], title + ".sandbox.devices: expected paths below /dev, got \"" + d + "\"");
  // With less there is no room for the C++ runtime, and the module would be restarted for ever.
  if (m.sandbox.memory && m.sandbox.memory < (std::uint64_t{16} << 20))
    error(where_of["memory"], title + ".sandbox.memory: expected at least 16MiB, or 0 for no limit, got " +
                                  format_size(static_cast<std::int64_t>(m.sandbox.memory)));
}

}  // namespace gantry::config
