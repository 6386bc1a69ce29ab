// Isolator `namespaces`: tells the launcher which namespaces a container gets. See README.md.
#pragma once

#include <gantry/isolator.hpp>

#include <functional>

namespace gantry::isolator_namespaces {

class Namespaces final : public Isolator {
 public:
  Task<Status> configure(Settings) override;
  Task<Status> start() override;
  Task<Result<fb::HealthT>> health() override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override { co_return ok; }

  // Replaced by tests: whether this process may make namespaces.
  std::function<bool()> allowed;

 private:
  std::uint32_t wanted_ = 0;
  bool may_ = true;
};

}  // namespace gantry::isolator_namespaces
