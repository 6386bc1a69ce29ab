// Module allocator/drf: the Engine behind the SDK's allocator kind.
#pragma once

#include "engine.hpp"

#include <gantry/allocator.hpp>

namespace gantry::allocator_drf {

class Drf final : public Allocator {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Result<Buffer>> allocate(Request<fb::allocator::Deltas> deltas) override;

 private:
  Engine engine_;
  Metric rounds_, grants_;
};

}  // namespace gantry::allocator_drf
