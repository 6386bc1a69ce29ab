// Carrying out one check or health check; when to do so and what follows is decided in health.cpp and check.cpp.
#pragma once

#include "kernel/agent/launcher.hpp"

#include <gantry/function.hpp>

#include <functional>
#include <memory>
#include <string>

namespace gantry::net {
class RealLoop;
}

namespace gantry::agent {

// How to reach a port of this machine. done runs once, never from inside the call.
struct Probes {
  std::function<void(std::uint16_t port, base::Nanos timeout, Function<void(Status)> done)> tcp;
  // The status code of GET url; redirects are not followed, certificates not verified.
  std::function<void(const std::string& url, base::Nanos timeout, Function<void(Result<unsigned>)> done)> http;
};
// The real ones; `loop` must outlive them.
[[nodiscard]] Probes make_net_probes(net::RealLoop& loop);

// Runs the health check of `task` once. done gets whether it is healthy and a sentence that says why not. HTTP statuses
// 200 to 399 are healthy (reference mesos-kernel.md A9).
void run_health_check(Launcher& launcher, const Probes& probes, const std::string& container_id,
                      const std::shared_ptr<const fb::TaskInfoT>& task, base::Nanos timeout,
                      Function<void(bool healthy, std::string message)> done);

// Runs the check of `task` once (TaskInfo.check). done gets what it showed; an empty status of its kind if it showed nothing in time.
void run_check(Launcher& launcher, const Probes& probes, const std::string& container_id, const std::shared_ptr<const fb::TaskInfoT>& task,
               base::Nanos timeout, Function<void(fb::CheckStatusInfoT)> done);

}  // namespace gantry::agent
