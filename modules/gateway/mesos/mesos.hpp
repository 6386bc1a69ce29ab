// The HTTP API of Apache Mesos masters as a module: one listener, a router, and the parts that answer. See README.md.
#pragma once

#include "access.hpp"
#include "masters.hpp"
#include "operator/master_files.hpp"
#include "operator/writes.hpp"
#include "agent/agent_api.hpp"
#include "reads/reads.hpp"
#include "router.hpp"
#include "scheduler.hpp"

#include <gantry/gateway.hpp>

#include <memory>

namespace gantry::gateway_mesos {

class Mesos final : public Gateway {
 public:
  Mesos();
  ~Mesos() override;

  Task<Status> configure(Settings settings) override;
  Task<Status> start() override;
  Task<Status> stop() override;
  Task<Result<fb::HealthT>> health() override;

 private:
  Task<Status> start_master();
  Task<Status> listen();
  void bound(std::string_view address);
  void arrived(Bytes request);
  void admitted(const ExchangePtr& exchange, Route& route);
  void gate(const ExchangePtr& exchange, Route& route);
  void redirect(const ExchangePtr& exchange);
  void serve(const ExchangePtr& exchange, Route& route);

  std::string address_, advertise_, trouble_;
  bool insecure_ = false, stopping_ = false;
  bool of_master_ = true, of_agent_ = false;  // what this daemon is
  std::uint64_t max_body_ = 0, listener_ = 0;
  SchedulerOptions scheduler_options_;
  std::unique_ptr<Doors> doors_;
  std::unique_ptr<Access> access_;
  std::unique_ptr<Masters> masters_;
  Router router_;
  std::unique_ptr<SchedulerApi> scheduler_;
  std::unique_ptr<Reads> reads_;
  std::unique_ptr<Writes> writes_;
  std::unique_ptr<MasterFiles> files_;
  AgentApiOptions agent_options_;
  std::unique_ptr<AgentApi> agent_;  // where the daemon is an agent
};

}  // namespace gantry::gateway_mesos
