// System call filters: Docker's JSON profiles and a built-in one, compiled for the kernel by libseccomp.
#pragma once

#include "capabilities.hpp"

#include <gantry/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_security {

using Filter = std::vector<std::uint8_t>;  // sock_filter[]

// A profile in Docker's format (defaultAction, defaultErrnoRet, archMap or architectures, syscalls with names, action, errnoRet,
// args, includes and excludes of capabilities, architectures and minKernel). What is conditional is decided for a container with
// `bounding` capabilities on this machine. Calls this machine's libseccomp does not know are left out, as Docker does.
// INVALID_ARGUMENT says where in the profile. Takes milliseconds.
[[nodiscard]] Result<Filter> compile_profile(std::string_view json, CapabilitySet bounding);

// Refuses, with EPERM, what reaches through a container to the machine: loading code into the kernel, its clocks, its
// mounts, other namespaces, tracing facilities, keys. What a capability in `bounding` is there for stays allowed.
[[nodiscard]] Result<Filter> compile_builtin(CapabilitySet bounding);

}  // namespace gantry::isolator_security
