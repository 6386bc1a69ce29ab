// What --isolation, --containerizers, --image_providers and the flags around them become: isolators and images.
#pragma once

#include "flags.hpp"

#include <gantry/result.hpp>

#include <string>
#include <vector>

namespace gantry::compat {

struct Containers {
  std::string toml;                  // tables of isolators
  std::string image;                 // [image.oci], or empty
  std::string docker_config;         // accounts of registries, to be kept in a file
  std::vector<std::string> nothing;  // flags and values without an effect here
};
[[nodiscard]] Result<Containers> containers_of(const Given& given);

}  // namespace gantry::compat
