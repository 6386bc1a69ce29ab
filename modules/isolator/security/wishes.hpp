// What a task asks for, from its ContainerInfo: pure.
#pragma once

#include "capabilities.hpp"

#include <gantry/isolator_generated.h>
#include <gantry/result.hpp>

#include <optional>
#include <string>
#include <vector>

namespace gantry::isolator_security {

struct Defaults {
  CapabilitySet bounding = all_capabilities, effective = all_capabilities, image = 0;
  std::string profile, image_profile = "builtin";
  bool allow_unconfined = true, no_new_privileges = false;
};

struct Wishes {
  std::optional<fb::isolator::CapabilitiesT> capabilities;  // absent: as they are
  std::string profile;                                      // "builtin", a file's name, or empty: no filter
  bool no_new_privileges = false;
  std::vector<fb::isolator::ResourceLimitT> limits;
  std::vector<std::string> parameters;                      // keys of docker.parameters that were heeded
};

// `user`: the account the task runs as ("" or "root": root). `image`: the container has one. INVALID_ARGUMENT and
// PERMISSION_DENIED name the field and the value. Source: mesos-kernel.md A6 security; docker run for ContainerInfo DOCKER.
[[nodiscard]] Result<Wishes> wishes_of(const fb::TaskInfoT& task, const Defaults& defaults, bool image, bool root);

}  // namespace gantry::isolator_security
