// Authorizer `@NAME@`. The contract: docs/authorizer.md and schema/authorizer.fbs of the SDK.
#pragma once

#include <gantry/authorizer.hpp>

#include <map>
#include <set>
#include <string>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Authorizer {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Status> stop() override;
  gantry::Task<gantry::Result<gantry::fb::authorizer::VerdictsT>> authorize(gantry::Request<gantry::fb::authorizer::Questions>) override;
  void changed(gantry::Responder responder) override;
  void cancelled(std::uint64_t token) override;

 private:
  [[nodiscard]] bool allowed(std::string_view principal, std::string_view action, std::string_view object) const;

  std::string admin_;
  std::set<std::string, std::less<>> users_;
  std::map<std::uint64_t, gantry::Responder> followers_;
};

}  // namespace @NAME_ID@
