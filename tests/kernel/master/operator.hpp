// Operators' calls to the cluster of driver.hpp, and what followers see of it.
#pragma once

#include "driver.hpp"

#include <gantry/operator_generated.h>
#include <gantry/state_generated.h>

namespace gantry::master {

inline RequestId ask(Cluster& c, const fb::master::CallT& call) {
  const Buffer b = pack(call);
  const RequestId r = ++c.last_request;
  c.apply(OperatorCall{r, "", b});
  return r;
}
inline Status operate(Cluster& c, const fb::master::CallT& call) {
  const RequestId r = ask(c, call);
  if (!c.answers.contains(r)) return fail(Code::unknown, "no answer yet");
  return c.answers.at(r);
}

inline fb::master::CallT one_agent(fb::master::CallType type, const std::string& agent) {
  fb::master::CallT call;
  call.type = type;
  auto body = std::make_unique<fb::master::OneAgentT>();
  body->agent_id = agent;
  using C = fb::master::CallType;
  (type == C::DEACTIVATE_AGENT ? call.deactivate_agent : type == C::REACTIVATE_AGENT ? call.reactivate_agent : call.mark_agent_gone) =
      std::move(body);
  return call;
}
inline fb::master::CallT drain_call(const std::string& agent, std::optional<std::int64_t> seconds = {}, bool gone = false) {
  fb::master::CallT call;
  call.type = fb::master::CallType::DRAIN_AGENT;
  call.drain_agent = std::make_unique<fb::master::DrainAgentT>();
  call.drain_agent->agent_id = agent;
  call.drain_agent->mark_gone = gone;
  if (seconds) {
    call.drain_agent->max_grace_period = std::make_unique<fb::master::DurationT>();
    call.drain_agent->max_grace_period->seconds = *seconds;
  }
  return call;
}

struct Window {
  std::vector<std::pair<std::string, std::string>> machines;  // hostname, ip
  std::int64_t start = 0;
  std::optional<std::int64_t> duration{};
};
inline fb::master::CallT schedule_call(const std::vector<Window>& windows) {
  fb::master::CallT call;
  call.type = fb::master::CallType::UPDATE_MAINTENANCE_SCHEDULE;
  call.update_maintenance_schedule = std::make_unique<fb::master::UpdateMaintenanceScheduleT>();
  auto& schedule = *(call.update_maintenance_schedule->schedule = std::make_unique<fb::master::MaintenanceScheduleT>());
  for (const auto& w : windows) {
    auto out = std::make_unique<fb::master::MaintenanceWindowT>();
    for (const auto& [hostname, ip] : w.machines) {
      auto id = std::make_unique<fb::master::MachineIdT>();
      id->hostname = hostname;
      id->ip = ip;
      out->machine_ids.push_back(std::move(id));
    }
    out->unavailability = std::make_unique<fb::UnavailabilityT>();
    out->unavailability->start_ns = w.start;
    if (w.duration) out->unavailability->duration_ns = *w.duration;
    schedule.windows.push_back(std::move(out));
  }
  return call;
}
inline fb::master::CallT machines_call(bool down, const std::vector<std::pair<std::string, std::string>>& machines) {
  fb::master::CallT call;
  call.type = down ? fb::master::CallType::START_MAINTENANCE : fb::master::CallType::STOP_MAINTENANCE;
  auto body = std::make_unique<fb::master::MachinesT>();
  for (const auto& [hostname, ip] : machines) {
    auto id = std::make_unique<fb::master::MachineIdT>();
    id->hostname = hostname;
    id->ip = ip;
    body->machines.push_back(std::move(id));
  }
  (down ? call.start_maintenance : call.stop_maintenance) = std::move(body);
  return call;
}

// A whole snapshot, as a follower would get it now.
inline std::vector<fb::state::ChangeT> rows(Cluster& c) {
  std::vector<fb::state::ChangeT> out;
  Core::SnapshotCursor cursor;
  fb::state::BeginT begin;
  bool first = true;
  while (cursor.stage < Core::kSnapshotStages) {
    const Buffer piece = c.core->snapshot(cursor, 64 * 1024, std::exchange(first, false) ? &begin : nullptr);
    auto chunk = unpack<fb::state::Chunk>(piece);
    EXPECT_TRUE(chunk);
    for (auto& x : chunk->changes) out.push_back(std::move(*x));
  }
  return out;
}

}  // namespace gantry::master
