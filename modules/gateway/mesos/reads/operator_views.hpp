// What the v1 operator API says of rows of a View (sdk/schema/operator.fbs; reference mesos-kernel.md B5). Pure; any thread.
#pragma once

#include "legacy.hpp"

#include <gantry/operator_generated.h>

#include <string>

namespace gantry::gateway_mesos::ops {

// A response as its JSON or protobuf form, written row by row, so that a large cluster needs no second copy of itself. Lists
// are there even when they are empty, as Mesos writes them.
class Writer {
 public:
  Writer(const View& v, const legacy::About& about, bool protobuf) : view_(v), about_(about), protobuf_(protobuf) {}
  // GET_STATE, GET_TASKS, GET_AGENTS, GET_FRAMEWORKS, GET_EXECUTORS, GET_ROLES, GET_WEIGHTS, GET_QUOTA, GET_OPERATIONS, GET_MASTER.
  [[nodiscard]] std::string response(fb::master::CallType type) const;
  // The event SUBSCRIBED with everything in it.
  [[nodiscard]] std::string subscribed(double heartbeat_seconds) const;

 private:
  [[nodiscard]] std::string room() const;  // empty, but with room for all that is told of tasks
  const View& view_;
  const legacy::About& about_;
  bool protobuf_;
};

// Events and plain responses; either form.
[[nodiscard]] std::string encode(const fb::master::EventT& event, bool protobuf);
[[nodiscard]] std::string encode(const fb::master::ResponseT& response, bool protobuf);

[[nodiscard]] std::string task_added(const TaskRow& t, const AgentRow* agent, bool protobuf);
[[nodiscard]] std::string task_updated(const TaskRow& t, const fb::TaskStatus& status, const AgentRow* agent, bool protobuf);

// Of an event: the row alone, without what it holds. An agent without what is reserved for roles that are refused.
[[nodiscard]] std::unique_ptr<fb::master::FrameworkT> framework(const FrameworkRow& f);
[[nodiscard]] std::unique_ptr<fb::master::AgentT> agent(const AgentRow& a, const Verdicts& verdicts = {});

}  // namespace gantry::gateway_mesos::ops
