// Gateway `@NAME@`: serves a protocol of the outside world. The contract: docs/gateway.md of the SDK.
#pragma once

#include <gantry/gateway.hpp>

#include <string>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Gateway {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Status> start() override;
  gantry::Task<gantry::Status> stop() override;
  gantry::Task<gantry::Result<gantry::fb::HealthT>> health() override;

 private:
  void on_request(const gantry::fb::host::Request& request);
  void respond(std::uint64_t request, std::uint16_t status, const std::string& body);

  std::string address_, realm_;
  bool insecure_ = false, stopping_ = false;
  std::uint64_t listener_ = 0;  // token of the LISTEN, 0 = none
  std::string trouble_;         // for HEALTH
};

}  // namespace @NAME_ID@
