// Private to this folder: the text that makes two entries the same kind of thing.
#pragma once

#include "kernel/resource/resources.hpp"

namespace gantry::resource {
[[nodiscard]] std::string traits_key(const Traits& traits);
}  // namespace gantry::resource
