// How much a daemon logs: SET_LOGGING_LEVEL and GET_LOGGING_LEVEL of the v1 API, and /logging/toggle.
//
// A level above 0 makes the daemon log everything for as long as the client says. It is the daemon's own matter, no cluster's: a
// master need not lead.
#pragma once

#include "access.hpp"
#include "router.hpp"

#include <gantry/operator_generated.h>

#include <cstdint>
#include <functional>

namespace gantry::gateway_mesos {

class Logging {
 public:
  // Says it to the daemon and answers the client.
  using Say = std::function<void(const ExchangePtr&, const fb::ops::LoggingChangeT&)>;
  Logging(Host& host, Access& access, Say say) : host_(host), access_(access), say_(std::move(say)) {}

  // /logging/toggle
  void routes(Router& router, const char* realm);
  // SET_LOGGING_LEVEL; always answers.
  void set(const ExchangePtr& exchange, const fb::ops::LoggingChangeT& change);
  // As last set here; 0 when that is over.
  [[nodiscard]] std::uint32_t level() const { return host_.wall_ns() < until_ns_ ? level_ : 0; }

 private:
  void toggle(const ExchangePtr& exchange);
  void change(const ExchangePtr& exchange, const fb::ops::LoggingChangeT& change);

  Host& host_;
  Access& access_;
  Say say_;
  std::uint32_t level_ = 0;
  std::uint64_t until_ns_ = 0;
};

}  // namespace gantry::gateway_mesos
