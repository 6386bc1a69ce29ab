// Allocator `binpack`: the policy. See README.md; the books are in cluster.hpp.
#pragma once

#include "cluster.hpp"

#include <gantry/allocator.hpp>

namespace gantry::allocator_binpack {

class Binpack final : public Allocator {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Result<Buffer>> allocate(Request<fb::allocator::Deltas> deltas) override;

 private:
  [[nodiscard]] bool worth_offering(const Amounts& bundle) const;
  // May the client be offered an empty agent, or does it still think about others? Then `wake_ns` is lowered to when it may.
  [[nodiscard]] bool may_open(Client client, std::uint64_t& wake_ns) const;

  Cluster cluster_;
  // Agents on offer and since when, on the host's clock; an agent that is sent again has been answered for.
  std::map<Client, std::map<std::uint32_t, std::uint64_t>> offered_;
  std::int64_t open_ = 1, min_cpus_ = 0, min_mem_ = 0;  // the minima in thousandths of a cpu and of a MiB
  std::uint64_t patience_ns_ = 0;
  Metric rounds_, grants_;
};

}  // namespace gantry::allocator_binpack
