// The endpoints older tools read, written straight from a View: /state and its kin (reference mesos-kernel.md B7,
// transcripts master-legacy-reads.json, clients.md section 0 rules 12, 16, 17).
//
// Pure functions of their arguments; they run on any thread.
#pragma once

#include "cluster.hpp"

#include <gantry/operator_generated.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace gantry::gateway_mesos {

// When the API we serve was last changed; the same in every build.
inline constexpr const char* kBuildDate = "2026-11-22";
inline constexpr double kBuildTime = 1795305600;

}  // namespace gantry::gateway_mesos

namespace gantry::gateway_mesos::legacy {

// What a master says of itself.
struct About {
  std::string ip, hostname, cluster;
  std::vector<std::uint8_t> domain;  // fb::DomainInfo; empty: not said
  std::uint16_t port = 0;
  std::uint64_t start_ns = 0, elected_ns = 0;  // wall clock
  std::vector<std::pair<std::string, std::string>> flags;  // in order of names
  [[nodiscard]] std::string pid() const { return "master@" + ip + ":" + std::to_string(port); }
};

struct TaskQuery {
  long limit = 100;  // negative: all
  long offset = 0;
  bool ascending = false;
  std::optional<std::string> framework_id, task_id;
};

[[nodiscard]] std::string state(const View& v, const About& about);
[[nodiscard]] std::string state_summary(const View& v, const About& about);
[[nodiscard]] std::string slaves(const View& v, const std::optional<std::string>& slave_id);
[[nodiscard]] std::string frameworks(const View& v, const std::optional<std::string>& framework_id);
[[nodiscard]] std::string tasks(const View& v, const TaskQuery& query);
[[nodiscard]] std::string roles(const View& v);
[[nodiscard]] std::string weights(const View& v);
[[nodiscard]] std::string schedule(const View& v);
[[nodiscard]] std::string maintenance_status(const View& v);
[[nodiscard]] std::string quota(const View& v);
[[nodiscard]] std::string flags(const About& about);
[[nodiscard]] std::string version();

// Numbers computed from the view, under their Mesos names: sums of resources, counts of agents, frameworks and tasks.
[[nodiscard]] std::vector<std::pair<std::string, double>> gauges(const View& v);

}  // namespace gantry::gateway_mesos::legacy

namespace gantry::gateway_mesos {

// What follows from a view and is told in many places.

// "slave(1)@ip:port"
[[nodiscard]] std::string agent_pid(const AgentRow& a);
[[nodiscard]] std::string agent_ip(const AgentRow& a);
[[nodiscard]] int agent_port(const AgentRow& a);
[[nodiscard]] fb::master::QuotaStatusT quota_status(const View& v);
// The roles a framework has: `roles`, else `role`, else "*".
[[nodiscard]] std::vector<std::string_view> roles_of(const fb::FrameworkInfo& info);
[[nodiscard]] bool multi_role(const fb::FrameworkInfo& info);
// "eng/web" is within "eng" and "eng/web".
[[nodiscard]] bool within(std::string_view role, std::string_view ancestor);
// Of a command task: empty.
[[nodiscard]] std::string_view executor_of(const fb::TaskInfo& info);

}  // namespace gantry::gateway_mesos
