// Seconds as checks give them, as a duration.
#pragma once

#include "kernel/base/loop.hpp"

#include <flatbuffers/flatbuffers.h>

#include <algorithm>
#include <cstdint>

namespace gantry::agent {

// Never negative, and never so long that it could not be added to a clock.
[[nodiscard]] inline base::Nanos seconds_or(const flatbuffers::Optional<double>& value, double otherwise) {
  const double s = value ? *value : otherwise;
  if (!(s > 0)) return base::Nanos{0};  // NaN too
  return base::Nanos(static_cast<std::int64_t>(std::min(s, 1e9) * 1e9));
}

}  // namespace gantry::agent
