// Isolator `security`: what a task may do to the machine it runs on. See README.md.
#pragma once

#include "seccomp.hpp"
#include "wishes.hpp"

#include <gantry/isolator.hpp>

#include <map>
#include <memory>

namespace gantry::isolator_security {

class Security final : public Isolator {
 public:
  Task<Status> configure(Settings) override;
  Task<Status> start() override;
  Task<Result<fb::HealthT>> health() override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override { co_return ok; }

  bool (*allowed)() = nullptr;  // tests: instead of asking the system for our rights

 private:
  Task<Result<std::shared_ptr<const Filter>>> filter(std::string profile, CapabilitySet bounding);

  Defaults defaults_;
  std::string directory_;
  bool may_ = true;
  // Compiling takes milliseconds; the same is asked again and again. The time stamp of the file is part of the key.
  std::map<std::string, std::shared_ptr<const Filter>> filters_;
};

}  // namespace gantry::isolator_security
