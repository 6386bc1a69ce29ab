// The arithmetic of starting, scaling and upgrading one application: a pure function from what runs to what to do next.
// It is evaluated again after every change, so it holds no memory of its own and survives restarts. marathon.md A7.
#pragma once
#include <functional>

#include "state.hpp"

namespace gantry::framework_services {

struct RolloutView {
  const Instance* instance;
  bool current;  // of the wanted configuration
};
struct RolloutStep {
  std::vector<std::string> kill;
  int start = 0;
  bool done = false;
};

// n: wanted instances. Never fewer than ceil(n * min_health) good ones by our doing, never more than
// floor(n * (1 + max_over)) in all (one more where both are equal, or nothing could ever move).
RolloutStep rollout(int n, double min_health, double max_over, bool oldest_first, std::vector<RolloutView> instances);

// Order in which surplus instances go: first those that have no task or are unreachable, then the ones that unbalance
// GROUP_BY constraints, then unhealthy ones, then by kill selection.
std::vector<const Instance*> kill_order(std::vector<const Instance*> all, bool oldest_first, std::size_t count);

}  // namespace gantry::framework_services
