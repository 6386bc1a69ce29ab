// The JSON of the services API (marathon.md B), as far as people are shown it. Boost.JSON stays in app_json.cpp.
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::cli {

struct AppTask {
  std::string id, host, state;
  std::vector<std::uint32_t> ports;
  int healthy = -1;  // -1: not checked
};
struct App {
  std::string id, cmd, version;
  double cpus = 0, mem = 0;
  unsigned instances = 0, staged = 0, running = 0, healthy = 0, unhealthy = 0;
  bool checked = false;  // it has health checks
  std::vector<std::string> deployments;
  std::vector<AppTask> tasks;
  std::string last_failure;  // message of lastTaskFailure, with its state
  std::string last_failure_task;
  // How many instances are as they should be.
  [[nodiscard]] unsigned good() const { return checked ? healthy : running; }
};

// {"app": {...}}
[[nodiscard]] Result<App> parse_app(std::string_view json);
// {"apps": [...]}
[[nodiscard]] Result<std::vector<App>> parse_apps(std::string_view json);
// Whether deployment `id` is in the array of GET /v2/deployments; its step as text when it is.
struct DeploymentState {
  bool running = false;
  std::string step;  // "step 1 of 2"
};
[[nodiscard]] Result<DeploymentState> parse_deployment(std::string_view json, std::string_view id);
// deploymentId (or id of the first) of a write's answer; "" when there is none.
[[nodiscard]] std::string deployment_id(std::string_view json);
// message and details of an error answer, in one line; "" when it has none.
[[nodiscard]] std::string error_message(std::string_view json);
// What a file to deploy holds: the ids of its apps. One app, or a list of them.
struct AppFile {
  std::vector<std::string> ids;
  bool list = false;
};
[[nodiscard]] Result<AppFile> parse_app_file(std::string_view json);

}  // namespace gantry::cli
