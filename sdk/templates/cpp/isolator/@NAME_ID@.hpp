// Isolator `@NAME@`. The contract: docs/isolator.md and schema/isolator.fbs of the SDK.
#pragma once

#include <gantry/isolator.hpp>

#include <set>
#include <string>

namespace @NAME_ID@ {

// Calls come one at a time (one strand), so nothing here is locked.
class @CLASS@ final : public gantry::Isolator {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Result<gantry::fb::isolator::RecoveredT>> recover(gantry::Request<gantry::fb::isolator::Recover>) override;
  gantry::Task<gantry::Result<gantry::fb::isolator::PreparedT>> prepare(gantry::Request<gantry::fb::isolator::Prepare>) override;
  gantry::Task<gantry::Status> attach(gantry::Request<gantry::fb::isolator::Attach>) override;
  gantry::Task<gantry::Status> cleanup(gantry::Request<gantry::fb::isolator::Cleanup>) override;

 private:
  std::string variable_;
  std::set<std::string, std::less<>> containers_;
};

}  // namespace @NAME_ID@
