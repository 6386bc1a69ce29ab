// Taking the resources of one task out of an offer, and describing that task.
#pragma once
#include "constraints.hpp"

namespace gantry::framework_services {

// What is left of an offer while tasks are carved out of it.
struct OfferPool {
  fb::OfferT offer;
};

struct Match {
  std::vector<std::unique_ptr<fb::ResourceT>> resources;
  std::vector<int> ports;  // host port per PortSpec, 0 where none is wanted
};

// Takes cpus, mem, disk, gpus and ports for one instance. On success they are gone from the pool; a failure leaves it
// as it was and names the first reason. `seed` spreads the choice of free host ports.
std::variant<Match, Reject> carve(OfferPool& pool, const App& app, const std::vector<const Instance*>& placed,
                                  std::uint64_t seed);

// The port a check goes to: a fixed one, or that of the port definition `index`; 0 if there is none.
int check_port(const Instance& in, const std::optional<int>& port, int index);

struct LaunchSettings {
  std::string user, prefix;
};
// The TaskInfo of an instance that has been matched: command, environment, ports, checks, discovery (marathon.md A4).
std::unique_ptr<fb::TaskInfoT> task_info(const Instance& instance, Match match, const LaunchSettings& settings,
                                         std::uint64_t seed);

}  // namespace gantry::framework_services
