// What an agent tells of itself in the old form (reference mesos-kernel.md B7, transcripts agent-legacy-reads.json), written from
// answers of its operator API. Pure; any thread.
#pragma once

#include <gantry/operator_agent_generated.h>

#include <string>
#include <utility>
#include <vector>

namespace gantry::gateway_mesos::agent_views {

struct About {
  std::string ip, hostname, master_hostname;
  std::uint16_t port = 0;
  std::uint64_t start_ns = 0;                              // wall clock
  std::string work_dir;
  std::vector<std::pair<std::string, std::string>> flags;  // in order of names
  [[nodiscard]] std::string pid() const { return "slave(1)@" + ip + ":" + std::to_string(port); }
};

// A picture of the agent: answers GET_STATE, GET_AGENT and GET_CONTAINERS; each may be null where it is not needed.
struct Picture {
  const fb::agent::GetState* state = nullptr;
  const fb::AgentInfo* info = nullptr;
  const fb::agent::GetContainers* containers = nullptr;
};

[[nodiscard]] std::string state(const Picture& p, const About& about);
[[nodiscard]] std::string containers(const Picture& p);
[[nodiscard]] std::string statistics(const Picture& p);  // /monitor/statistics
[[nodiscard]] std::string flags(const About& about);
// slave/...: totals and use of resources, counts of tasks and executors.
[[nodiscard]] std::vector<std::pair<std::string, double>> gauges(const Picture& p);
// What a container's addresses are where nothing else is said: its agent's.
void fill_addresses(fb::agent::ResponseT& response, const std::string& ip);

}  // namespace gantry::gateway_mesos::agent_views
