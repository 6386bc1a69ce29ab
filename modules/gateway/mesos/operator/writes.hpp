// What operators change: the writing calls of the v1 operator API and the older endpoints for the same things
// (reference mesos-kernel.md B5, B7; transcripts/operator-writes.json).
//
// Everything becomes one master.Call, goes through the host service OPERATE and is answered when the master has stored it. What the
// answer is (200 or 202, 400, 404 or 409) depends on the call alone.
#pragma once

#include "../access.hpp"
#include "../logging.hpp"
#include "../masters.hpp"
#include "../router.hpp"

#include <gantry/host.hpp>
#include <gantry/operator_generated.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace gantry::gateway_mesos {

class Writes {
 public:
  // `principal_of`: of a framework by its id, empty where it has none.
  Writes(Host& host, Masters& masters, Access& access, std::function<std::string(const std::string&)> principal_of,
         Function<void(const ExchangePtr&)> redirect);
  ~Writes() { *alive_ = false; }
  // POST /reserve, /unreserve, /create-volumes, /destroy-volumes, /teardown, /quota, /logging/toggle; PUT /weights;
  // DELETE /quota/<role>. `read_quota` and `read_weights` answer the GETs of those two.
  void routes(Router& router, Handler read_quota, Handler read_weights);
  // POST /maintenance/schedule, /machine/down, /machine/up. `read_schedule` answers the GET of the first.
  void maintenance_routes(Router& router, Handler read_schedule);
  // A call of the v1 API that is not for reading; always answers.
  void call(const ExchangePtr& exchange, const fb::master::Call& call);

  [[nodiscard]] std::uint32_t logging_level() const { return logging_.level(); }

 private:
  using CallT = fb::master::CallT;
  void operate(const ExchangePtr& exchange, CallT call);  // if the client may
  void pass(const ExchangePtr& exchange, const CallT& call);
  void answer_error(const ExchangePtr& exchange, fb::master::CallType type, const Error& error);
  void resources_form(const ExchangePtr& exchange, fb::master::CallType type);
  void teardown_form(const ExchangePtr& exchange);
  void quota(const ExchangePtr& exchange);
  void weights(const ExchangePtr& exchange);
  void schedule(const ExchangePtr& exchange);
  void machines(const ExchangePtr& exchange, bool down);

  Host& host_;
  Masters& masters_;
  Access& access_;
  std::function<std::string(const std::string&)> principal_of_;
  Function<void(const ExchangePtr&)> redirect_;
  Handler read_quota_, read_weights_;
  Logging logging_;
  Metric calls_metric_, refused_metric_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::gateway_mesos
