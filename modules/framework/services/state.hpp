// What the scheduler knows: applications, their instances, deployments; and what a step of it asks the world to do.
#pragma once
#include <gantry/framework_generated.h>
#include <chrono>
#include <cstdint>
#include <deque>
#include <set>
#include <variant>

#include "app.hpp"

namespace gantry::framework_services {

using Nanos = std::chrono::nanoseconds;
[[nodiscard]] inline Nanos seconds(double s) { return Nanos(static_cast<std::int64_t>(s * 1e9)); }

enum class Condition { scheduled, provisioned, staging, starting, running, killing, unreachable, inactive };
std::string_view to_string(Condition c);  // Marathon's word, e.g. "Running"

// Of one health check of one task.
struct HealthState {
  std::optional<bool> alive;
  int failures = 0;  // in a row
  Millis first_success = 0, last_success = 0, last_failure = 0;
  std::string cause;
};

struct Instance {
  std::string id;  // "g_a.instance-<uuid>"
  AppPtr app;      // the definition it runs, or is to run
  int incarnation = 1;
  bool doomed = false;  // goal Decommissioned: not started again
  Condition condition = Condition::scheduled;
  std::string agent_id, host;
  std::vector<int> ports;                         // host port per PortSpec; 0 where there is none
  std::map<std::string, std::string> attributes;  // of its agent, by constraint field
  std::string state = "TASK_STAGING";
  Millis staged_at = 0, started_at = 0, unreachable_at = 0;
  std::vector<HealthState> health;  // by app->health
  bool ready = false;
  std::optional<int> ready_status;
  std::string ready_body;

  [[nodiscard]] std::string task_id() const { return framework_services::task_id(id, incarnation); }
  [[nodiscard]] bool has_task() const { return condition != Condition::scheduled; }
  [[nodiscard]] bool running() const { return condition == Condition::running; }
  // All checks pass: true; one fails: false; unknown, or without checks: absent.
  [[nodiscard]] std::optional<bool> healthy() const;
  // Counts towards capacity: running, ready, and healthy where there are checks.
  [[nodiscard]] bool good() const {
    return running() && (app->readiness.empty() || ready) && (app->health.empty() || healthy() == true);
  }
};

// Why a launch attempt on an offer failed, in the order Marathon names them (marathon.md A7).
enum class Reject { role, constraint, reservation, maintenance, cpus, memory, disk, gpus, ports, scarce };
inline constexpr std::array<std::string_view, 10> kRejectNames = {
    "UnfulfilledRole",        "UnfulfilledConstraint", "NoCorrespondingReservationFound",
    "AgentMaintenance",       "InsufficientCpus",      "InsufficientMemory",
    "InsufficientDisk",       "InsufficientGpus",      "InsufficientPorts",
    "DeclinedScarceResources"};

struct QueueStats {
  Millis since = 0;
  int processed = 0, unused = 0;
  Millis last_unused = 0, last_used = 0;
  std::array<int, 10> declined{}, tried{};        // of the whole attempt, by reason reached
  std::map<std::string, Reject> last_by_agent;    // latest verdict of each agent
  std::map<std::string, Object> unused_by_agent;  // latest unused offer of each agent, bounded
};

struct TaskFailure {
  std::string host, message, state, task_id, agent_id;
  Millis timestamp = 0, version = 0;
};

// Everything under one application path.
struct Spec {
  AppPtr app;  // null: deleted, its instances are still going away
  std::map<Millis, AppPtr> versions;
  std::map<std::string, Instance> instances;
  std::set<std::string> waiting;  // those in Condition::scheduled
  double delay = 0;               // current back-off, seconds
  Nanos delayed_until{}, last_failure_at{};
  bool delay_pending = false;
  std::optional<TaskFailure> failure;
  QueueStats queue;
};

struct Action {
  enum class Kind { start, stop, scale, restart } kind;
  std::string app;
};
std::string_view to_string(Action::Kind kind);

struct Deployment {
  std::string id;
  Millis version = 0;
  std::map<std::string, AppPtr> original, target;  // of the affected applications; null: does not exist
  std::vector<std::vector<Action>> steps;
  std::size_t current = 0;
  std::set<std::string> done;  // applications of the current step that have arrived
};

// One durable change; `value` absent: delete.
struct Write {
  std::string key;
  std::optional<std::string> value;
};
struct Announcement {
  std::string type;
  Object body;
};
// What a step asks for. The shell makes `writes` durable first; only then may the rest leave (nothing is acknowledged,
// launched or told before it is stored).
struct Out {
  std::vector<Write> writes;
  std::vector<fb::CallT> calls;
  std::vector<Announcement> events;
  std::set<std::string> probe;  // instances whose health checks started or stopped

  [[nodiscard]] bool empty() const { return writes.empty() && calls.empty() && events.empty() && probe.empty(); }
};

// A refused request, as the API answers it.
struct Refusal {
  int status = 422;
  std::string message;
  Details details;
  std::vector<std::string> deployments;  // for 409: those that hold the lock
  Object extra;
};
struct Accepted {
  Millis version = 0;
  std::string deployment;
};
template <class T>
using Outcome = std::variant<T, Refusal>;

}  // namespace gantry::framework_services
