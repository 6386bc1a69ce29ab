// One controller of the kernel, in whichever version it is mounted: what it sets for a container and what it has counted.
#pragma once

#include "files.hpp"
#include "limits.hpp"
#include "mounts.hpp"

#include <gantry/isolator_generated.h>

#include <memory>

namespace gantry::isolator_cgroups {

class Controller {
 public:
  Controller(Place place, const Policy& policy) : place_(std::move(place)), policy_(policy) {}
  virtual ~Controller() = default;
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  [[nodiscard]] const Place& place() const { return place_; }
  // Once, when the agent's own cgroup is there. An error: this machine cannot do what the settings ask.
  virtual Status open() { return ok; }
  // A container's cgroup has been made, perhaps long ago.
  virtual Status create(const std::string& id, const Limits& limits) { return apply(id, limits); }
  virtual Status apply(const std::string& /*id*/, const Limits&) { return ok; }
  virtual void measure(const std::string& /*id*/, fb::isolator::UsageT&) const {}

 protected:
  [[nodiscard]] bool v2() const { return place_.version == 2; }
  [[nodiscard]] std::string file(const std::string& id, std::string_view name) const { return (place_.dir + "/" + id + "/").append(name); }
  [[nodiscard]] const Policy& policy() const { return policy_; }

 private:
  Place place_;
  const Policy& policy_;  // the hierarchy's; may change between calls
};

struct MemoryFigures {
  std::uint64_t limit = 0, peak = 0;  // bytes; limit 0: none
};
// A descriptor that tells of the container running out of memory: wait for `events` (epoll).
struct OomSource {
  int fd = -1;
  std::uint32_t events = 0;
};

class MemoryController : public Controller {
 public:
  using Controller::Controller;
  [[nodiscard]] virtual Result<OomSource> oom_source(const std::string& id) const = 0;  // the caller closes it
  [[nodiscard]] virtual std::uint64_t oom_kills(const std::string& id) const = 0;
  [[nodiscard]] virtual MemoryFigures figures(const std::string& id) const = 0;
};

class DeviceController : public Controller {
 public:
  using Controller::Controller;
  // What this container may use beyond what every container may. INVALID_ARGUMENT for an access that is none.
  virtual Status allow(const std::string& id, const std::vector<DeviceRule>& more) = 0;
};

[[nodiscard]] std::unique_ptr<Controller> make_cpu(Place, const Policy&);
[[nodiscard]] std::unique_ptr<Controller> make_cpuacct(Place, const Policy&);  // version 1 only
[[nodiscard]] std::unique_ptr<MemoryController> make_memory(Place, const Policy&);
[[nodiscard]] std::unique_ptr<Controller> make_pids(Place, const Policy&);
[[nodiscard]] std::unique_ptr<Controller> make_cpuset(Place, const Policy&);
[[nodiscard]] std::unique_ptr<Controller> make_io(Place, const Policy&);
[[nodiscard]] std::unique_ptr<Controller> make_hugetlb(Place, const Policy&);
[[nodiscard]] std::unique_ptr<DeviceController> make_devices(Place, const Policy&);

}  // namespace gantry::isolator_cgroups
