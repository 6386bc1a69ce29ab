// What of a container's space is measured against what: pure.
#pragma once

#include <gantry/isolator_generated.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace gantry::isolator_disk {

// A directory and the disk resources that pay for it.
struct Share {
  std::string path;         // below the sandbox: "" is the sandbox itself, else a volume's container_path
  std::uint64_t quota = 0;  // bytes; 0: none
  bool enforced = true;     // false for a disk that is one volume as a whole: its end is the limit
  std::string volume_id;    // of the persistent volume
  std::vector<std::unique_ptr<fb::ResourceT>> resources;
};

// The sandbox first, then each volume. Volumes whose container_path is not below the sandbox are left out.
// Source: Mesos's isolators disk/du and disk/xfs (mesos-kernel.md A6, "disk").
[[nodiscard]] std::vector<Share> shares_of(const std::vector<std::unique_ptr<fb::ResourceT>>& resources);

// "10MB", "24KB", "5B": the largest unit that divides it, as Mesos writes it.
[[nodiscard]] std::string show_bytes(std::uint64_t bytes);

}  // namespace gantry::isolator_disk
