// What the v1 operator API says of rows of a View (sdk/schema/operator.fbs; reference mesos-kernel.md B5). Pure; any thread.
#pragma once

#include "legacy.hpp"

#include <gantry/operator_generated.h>

#include <string>

namespace gantry::gateway_mesos::ops {

[[nodiscard]] fb::ops::TaskT task(const TaskRow& t, const AgentRow* agent);
// Statuses as they are told: without data, with the addresses of the agent where the task has none of its own.
[[nodiscard]] std::unique_ptr<fb::TaskStatusT> status(const fb::TaskStatus& s, const AgentRow* agent);

// A response as its JSON or protobuf form. JSON is written row by row, so that a large cluster needs no second copy of
// itself; lists are there even when they are empty, as Mesos writes them.
class Writer {
 public:
  Writer(const View& v, const legacy::About& about, bool protobuf) : view_(v), about_(about), protobuf_(protobuf) {}
  // GET_STATE, GET_TASKS, GET_AGENTS, GET_FRAMEWORKS, GET_EXECUTORS, GET_ROLES, GET_WEIGHTS, GET_QUOTA, GET_OPERATIONS, GET_MASTER.
  [[nodiscard]] std::string response(fb::master::CallType type) const;
  // The event SUBSCRIBED with everything in it.
  [[nodiscard]] std::string subscribed(double heartbeat_seconds) const;

 private:
  const View& view_;
  const legacy::About& about_;
  bool protobuf_;
};

// Events and plain responses; either form.
[[nodiscard]] std::string encode(const fb::master::EventT& event, bool protobuf);
[[nodiscard]] std::string encode(const fb::master::ResponseT& response, bool protobuf);

// Of an event: the row alone, without what it holds. An agent without what is reserved for roles that are refused.
[[nodiscard]] std::unique_ptr<fb::master::FrameworkT> framework(const FrameworkRow& f);
[[nodiscard]] std::unique_ptr<fb::master::AgentT> agent(const AgentRow& a, const Verdicts& verdicts = {});

}  // namespace gantry::gateway_mesos::ops
