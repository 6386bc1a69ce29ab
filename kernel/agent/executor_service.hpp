// The host service EXECUTORS: gateways carry what executors say to this agent, and back (sdk/schema/host.fbs).
//
// It lives before the agent does and longer, so that a gateway that starts first is known when the agent begins.
#pragma once

#include "kernel/agent/agent.hpp"
#include "kernel/module/module.hpp"

#include <map>

namespace gantry::agent {

class ExecutorService final : public module::Service, public ExecutorDoor {
 public:
  // The agent that answers; null: none (any more). Tells it of gateways that serve already.
  void attach(Agent* agent);

  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;
  void cancelled(std::uint64_t id) override;

  // ExecutorDoor
  void send(std::uint64_t stream, Bytes event) override;
  void end(std::uint64_t stream, const Status& why) override;
  void answer(std::uint64_t request, const Status& status) override;

 private:
  void tell_serving();

  Agent* agent_ = nullptr;
  // By request id, which is also the number of the stream or call in the core.
  std::map<std::uint64_t, module::ServiceReply> streams_, calls_;
  struct Server {
    module::ServiceReply reply;
    event::Variables variables;
  };
  std::map<std::uint64_t, Server> servers_;  // the last one counts
};

// The host service OPERATE for what is said to this agent: the body holds an agent.Call.
class OperateAgent final : public module::Service {
 public:
  void attach(Agent* agent) { agent_ = agent; }
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;

 private:
  Agent* agent_ = nullptr;
};

}  // namespace gantry::agent
