// Framework `@NAME@`: a scheduler inside the master. The contract: docs/framework.md and schema/framework.fbs of the SDK.
#pragma once

#include <gantry/framework.hpp>
#include <gantry/store_generated.h>

#include <string>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Framework {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Status> start() override;
  gantry::Task<gantry::Status> stop() override;
  gantry::Task<gantry::Result<gantry::fb::HealthT>> health() override;

 private:
  void subscribe_now();
  void on_event(const gantry::fb::Event& event);
  void on_offer(const gantry::fb::Offer& offer);
  void on_end(gantry::Error why);
  void remember(const std::string& id);  // empty: forget
  void send(gantry::fb::CallT call, const char* what);

  std::string role_, user_;
  double failover_seconds_ = 0;
  std::string id_;               // of this framework; given by the master, stored
  std::uint64_t stream_ = 0;     // token of the subscription, 0 = none
  std::uint64_t retry_ = 0;      // timer
  std::chrono::nanoseconds pause_{};
  std::string trouble_;          // for HEALTH
  bool subscribed_ = false, stopping_ = false;
};

}  // namespace @NAME_ID@
