// Names and sets of capabilities.
#pragma once

#include <gantry/result.hpp>
#include <gantry/types_generated.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_security {

using CapabilitySet = std::uint64_t;  // 1 << CAP_*

inline constexpr CapabilitySet all_capabilities = ~CapabilitySet{0};
[[nodiscard]] constexpr CapabilitySet only(int cap) { return CapabilitySet{1} << cap; }

// "NET_RAW", "CAP_NET_RAW", any case. -1: no such capability.
[[nodiscard]] int capability_number(std::string_view name);
[[nodiscard]] std::string capability_name(int number);  // "NET_RAW"
// Names, or "ALL". INVALID_ARGUMENT names the word and, as its field, `field`.
[[nodiscard]] Result<CapabilitySet> parse_capabilities(const std::vector<std::string>& names, const std::string& field);
[[nodiscard]] Result<CapabilitySet> to_set(const std::vector<fb::LinuxCapability>& list);
[[nodiscard]] std::string names_of(CapabilitySet);  // "CHOWN, KILL"

}  // namespace gantry::isolator_security
