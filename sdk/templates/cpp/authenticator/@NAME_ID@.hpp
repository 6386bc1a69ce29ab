// Authenticator `@NAME@`. The contract: docs/authenticator.md and schema/authenticator.fbs of the SDK.
#pragma once

#include <gantry/authenticator.hpp>

#include <string>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Authenticator {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Result<gantry::fb::authenticator::IdentityT>> authenticate(gantry::Request<gantry::fb::authenticator::Credentials>) override;
  gantry::Task<gantry::Result<gantry::fb::authenticator::ChallengeT>> challenge(gantry::Request<gantry::fb::authenticator::Challenge>) override;

 private:
  std::string principal_, secret_;
};

// "user:secret" out of the parameters of an HTTP Basic header; empty if they are no base64.
[[nodiscard]] std::string decode_base64(std::string_view text);

}  // namespace @NAME_ID@
