// Private to this folder: what text.cpp and wire.cpp demand of resources from outside.
#pragma once

#include "kernel/resource/resources.hpp"

namespace gantry::resource {

// The largest scalar accepted, in natural units: sums over a million agents stay exact.
inline constexpr double kMaxScalar = 1e12;

[[nodiscard]] Status check_name(std::string_view name);
[[nodiscard]] Result<Value> check_scalar(std::string_view name, double natural);
// Adds it; what one name comes to is bounded as one value is.
[[nodiscard]] Status add_within_bounds(Resources& sum, const Resource& r);
// Well-known names have one type.
[[nodiscard]] Status check_type(const Resource& resource);
// Reservations, disk, flags.
[[nodiscard]] Status check_traits(const Resource& resource);

}  // namespace gantry::resource
