// The flags of the commands with the old names. --help, the manual pages' lists and bash completion come from these tables.
#pragma once

#include "flags.hpp"

namespace gantry::compat {

[[nodiscard]] std::span<const Flag> master_flags();
[[nodiscard]] std::span<const Flag> agent_flags();
[[nodiscard]] std::span<const Flag> execute_flags();

// What --version says, and what a master tells its clients.
inline constexpr std::string_view kMesosVersion = "1.11.0";
// Where agents reach a master whose API is at a port: Mesos has one port for both.
inline constexpr int kLinkOffset = 10;

}  // namespace gantry::compat
