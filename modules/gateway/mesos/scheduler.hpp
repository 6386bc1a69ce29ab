// The scheduler API, POST /api/v1/scheduler: frameworks subscribe to a stream of events and send calls beside it.
#pragma once

#include "masters.hpp"
#include "router.hpp"

#include <chrono>

namespace gantry::gateway_mesos {

struct SchedulerOptions {
  std::chrono::nanoseconds heartbeat_interval = std::chrono::seconds(15);
  std::size_t max_frameworks = 4000;
};

class SchedulerApi {
 public:
  SchedulerApi(Host& host, Masters& masters, SchedulerOptions options)
      : host_(host), masters_(masters), options_(options) {}
  void routes(Router& router);
  // This master leads no longer: every stream ends.
  void not_leading();
  void stop();

 private:
  void arrived(const ExchangePtr& exchange);

  Host& host_;
  Masters& masters_;
  SchedulerOptions options_;
};

}  // namespace gantry::gateway_mesos
