// Allocator `@NAME@`: the policy; what is known of the cluster is in cluster.hpp. The contract: docs/allocator.md of the SDK.
#pragma once

#include "cluster.hpp"

#include <gantry/allocator.hpp>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Allocator {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Result<gantry::Buffer>> allocate(gantry::Request<gantry::fb::allocator::Deltas> deltas) override;

 private:
  [[nodiscard]] bool worth_offering(const Amounts& bundle) const;

  Cluster cluster_;
  std::int64_t min_cpus_ = 0, min_mem_ = 0;  // thousandths of a cpu and of a MiB
};

}  // namespace @NAME_ID@
