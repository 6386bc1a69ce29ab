// An application definition: its canonical JSON, as Marathon prints it, and the decoded view the scheduler uses.
//
// The way in: parse_json -> shape() (types, unknown keys dropped) -> modernise() (legacy fields rewritten)
//             -> [merge over the stored one] -> complete() (defaults) -> validate() -> decode().
// Source of the contract: marathon.md A1, A4, A6, B.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "ids.hpp"
#include "json.hpp"

namespace gantry::framework_services {

// One entry of an error's `details`.
struct Detail {
  std::string path;  // "/healthChecks(0)/port"
  std::string error;
};
using Details = std::vector<Detail>;

struct PortSpec {
  int container_port = 0;
  std::optional<int> host_port;  // absent: none is wanted; 0: any
  int service_port = 0;
  std::string name, protocol;
  std::vector<std::pair<std::string, std::string>> labels;
};

struct HealthCheckSpec {
  enum class Kind { http, tcp, command } kind = Kind::http;
  bool by_agent = false;  // MESOS_* and COMMAND
  bool https = false, ignore_1xx = false;
  std::string path, command;
  std::optional<int> port;
  int port_index = 0, max_failures = 3;
  double grace = 300, interval = 60, timeout = 20, delay = 15;  // seconds
};

struct ReadinessSpec {
  std::string name, path, port_name;
  bool https = false, preserve_last_response = false;
  double interval = 30, timeout = 10;
  std::vector<int> ready_codes;
};

struct Constraint {
  std::string field, op, value;
};

struct FetchSpec {
  std::string uri, dest;
  bool extract = true, executable = false, cache = false;
};

struct App {
  Object json;  // canonical: defaults filled in, no version or versionInfo

  std::string id, cmd, user, executor, role;
  std::vector<std::string> args, accepted_roles, dependencies;
  std::vector<std::pair<std::string, std::string>> env, labels;
  int instances = 1;
  double cpus = 1, mem = 128, disk = 0, gpus = 0;
  std::optional<double> limit_cpus, limit_mem;  // infinity: "unlimited"
  std::vector<Constraint> constraints;
  std::vector<PortSpec> ports;
  bool host_network = true, require_ports = false;
  std::vector<FetchSpec> fetch;
  std::vector<HealthCheckSpec> health;
  std::vector<ReadinessSpec> readiness;
  double backoff = 1, backoff_factor = 1.15, max_delay = 300;
  std::optional<double> kill_grace;
  double min_health = 1, max_over = 1;
  std::optional<double> inactive_after = 0, expunge_after = 0;  // absent: "disabled"
  bool oldest_first = false;

  Millis version = 0, last_scaling = 0, last_config = 0;

  // The canonical object with version and versionInfo, as the API prints it and the store keeps it.
  [[nodiscard]] Object print(bool version_info = true) const;
};
using AppPtr = std::shared_ptr<const App>;

// Service ports in use, and where to look for free ones.
struct ServicePorts {
  int first = 10000, last = 20000;
  std::function<bool(int)> used;
};

// Checks JSON types against the shape of an application, drops unknown keys and nulls. Errors are play-json's words.
Object shape_app(const Json& raw, const std::string& path, Details& errors);
// Rewrites legacy fields to modern ones; reports mixtures of both.
void modernise(Object& app, const std::string& path, Details& errors);
// Fields of `update` (shaped, modern) over those of `base` (canonical).
Object merge_app(const Object& base, Object update);
// Fills in defaults. `base_group`: where a relative id and relative dependencies start.
void complete(Object& app, const std::string& base_group);
// Gives service ports to definitions that ask for 0; numbers of `previous` are kept by position.
Status assign_service_ports(Object& app, const Object* previous, const ServicePorts& ports);
// The rules of A1..A6. `role`: the role of this framework.
void validate_app(const Object& app, const std::string& path, const std::string& role, Details& errors);
// What this release cannot run yet (images, volumes, container networks, ...): clear refusals, apart from validity.
void check_features(const Object& app, const std::string& path, Details& errors);
// Decodes a canonical, valid object.
App decode_app(Object canonical);
// True if nothing but `instances` differs.
bool same_config(const Object& a, const Object& b);

}  // namespace gantry::framework_services
