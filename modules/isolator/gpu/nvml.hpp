// NVIDIA's management library, loaded at run time: nothing of NVIDIA's is needed to build, install or start this module.
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace gantry::isolator_gpu {

struct Card {
  std::string uuid;    // "GPU-...": stays the same over reboots
  unsigned index = 0;  // the library's, in order of the bus
  unsigned minor = 0;  // of the node /dev/nvidia<minor>
  std::string name;
  std::string problem;  // why tasks do not get it; empty: it is well
};

struct CardUse {
  double utilization = 0;                           // 0 to 1, over the library's last period
  std::uint64_t memory_used = 0, memory_total = 0;  // bytes
};

// Whether a critical event (Xid) tells of the card and not of the program that ran on it.
[[nodiscard]] bool xid_is_of_the_card(std::uint64_t xid);

// Thread safe; every call may block for a second while the driver wakes a card up.
class Nvml {
 public:
  // NOT_FOUND: there is no such library. UNAVAILABLE: it is there and does not work, for example because the driver is not loaded.
  [[nodiscard]] static Result<std::shared_ptr<Nvml>> load(const std::string& library);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // All cards as they are now. A card that has gone has the problem the library names; one that told of a critical event since
  // load() keeps that problem.
  [[nodiscard]] Result<std::vector<Card>> cards();
  [[nodiscard]] Result<CardUse> use(const std::string& uuid);
  [[nodiscard]] std::string driver_version() const;

 private:
  Nvml();
  struct Functions;
  std::unique_ptr<Functions> functions_;
};

}  // namespace gantry::isolator_gpu
