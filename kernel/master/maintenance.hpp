// The operator's plan of maintenance, as the core keeps it. Private to kernel/master.
#pragma once

#include "kernel/master/core.hpp"

#include <deque>
#include <map>
#include <set>

namespace gantry::master {

struct Core::Plan {
  struct Machine {
    std::string hostname, ip;  // as given; either may be empty
    bool down = false;
    std::int64_t start_ns = 0;
    std::optional<std::int64_t> duration_ns;
  };
  fb::master::MaintenanceScheduleT schedule;
  std::map<std::string, Machine> machines;  // by key()

  bool storing = false;  // a change; further ones wait, for each is judged by what the one before has made
  std::deque<std::pair<RequestId, Buffer>> waiting;

  // Inverse offers, by agent and framework.
  std::map<std::pair<Handle, Handle>, Inverse> asked;
  std::unordered_map<std::uint64_t, std::pair<Handle, Handle>> by_number;
  std::set<Handle> asking;                    // agents to be looked at, at the end of the step
  std::set<std::pair<Instant, Handle>> due;   // agents to be looked at again

  // Hostnames are the same in capitals.
  [[nodiscard]] static std::string key(std::string_view hostname, std::string_view ip);
  // The machine of an agent: by hostname and ip, or by the one that was given.
  [[nodiscard]] const Machine* of(const fb::AgentInfo& agent) const;
};

}  // namespace gantry::master
