#include "scheduler.hpp"

namespace gantry::gateway_mesos {

void SchedulerApi::routes(Router& router) {
  router.add({"/api/v1/scheduler", {"POST"}, true, [this](const ExchangePtr& e) { arrived(e); }});
}

void SchedulerApi::not_leading() {}
void SchedulerApi::stop() {}

void SchedulerApi::arrived(const ExchangePtr& exchange) {
  if (!exchange->header("content-type")) return exchange->text(400, "Expecting 'Content-Type' to be present");
  exchange->text(501, "");
}

}  // namespace gantry::gateway_mesos
