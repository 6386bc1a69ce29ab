// A scenario as read from its file: a cluster, and steps that do something or expect something. The format is in README.md.
#pragma once

#include "kernel/config/tree.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::scenario {

using Nanos = std::chrono::nanoseconds;

// One table of the file with checked keys. Every question about a key notes problems with their place.
class Reader {
 public:
  // `known`: the keys that may stand in the table.
  Reader(const config::Node& node, std::vector<std::string_view> known, std::vector<config::Problem>& problems);
  [[nodiscard]] bool has(std::string_view key) const { return node_.find(key) != nullptr; }
  [[nodiscard]] std::string text(std::string_view key, std::string fallback = {});
  [[nodiscard]] Nanos duration(std::string_view key, Nanos fallback);
  [[nodiscard]] std::optional<Nanos> duration(std::string_view key);
  [[nodiscard]] bool flag(std::string_view key, bool fallback);
  [[nodiscard]] std::int64_t number(std::string_view key, std::int64_t fallback);
  [[nodiscard]] std::vector<std::string> list(std::string_view key);
  void require(std::string_view key);
  void problem(const config::Where& where, std::string message);

 private:
  const config::Node& node_;
  std::vector<config::Problem>& problems_;
};

struct AgentSpec {
  std::string name, resources;
};

struct FrameworkSpec {
  std::string name;
  std::vector<std::string> roles;
  bool partition_aware = true, killing_state = false, checkpoint = true;
  Nanos failover_timeout{0};
  bool acknowledge = true;
  bool subscribe = true;               // at the start
  std::vector<std::string> suppressed;
};

struct TaskSpec {
  std::string id, resources, reserved, agent;
  Nanos starts_after{0};
  std::optional<Nanos> runs;           // nothing: until it is killed
  int exit_code = 0;
  bool fails = false, ignores_term = false, command = true, executor = false, unhealthy = false;
  std::optional<Nanos> kill_grace, max_completion_time;
  std::optional<Nanos> executor_runs;  // nothing: until it is shut down
};

// One step; the verb says which of the rest has a meaning.
struct Step {
  config::Where where;
  std::string verb, what;              // verb = what; what: a framework, an agent, a task or an event
  std::string framework, agent, task, state, reason, source, role, resources, message, as;
  std::optional<bool> uuid;
  std::vector<std::string> offers, roles;
  std::vector<TaskSpec> tasks;
  std::string reserve, unreserve, group;
  std::optional<Nanos> refuse, grace, length;
  Nanos within{0};
  bool value = true;
};

struct Scenario {
  std::string file, about;
  Nanos ping_interval{std::chrono::seconds(15)}, offer_timeout{0}, agent_reregister_timeout{std::chrono::minutes(10)};
  std::vector<AgentSpec> agents;
  std::vector<FrameworkSpec> frameworks;
  std::vector<Step> steps;
};

// Reads a scenario; all mistakes are in `problems`, each with file, line and column. Useful only if there are none.
[[nodiscard]] Scenario read(std::string_view text, const std::string& file, std::vector<config::Problem>& problems);

}  // namespace gantry::scenario
