// What is wrong with a call before any state is looked at; the words are part of the contract
// (transcripts/errors.json).
#pragma once

#include <gantry/framework_generated.h>

#include <optional>
#include <string>
#include <string_view>

namespace gantry::gateway_mesos {

// The sentence behind "Failed to validate scheduler::Call: ". `principal` is the authenticated one, empty if there is
// none.
[[nodiscard]] std::optional<std::string> invalid(const fb::Call& call, std::string_view principal);

}  // namespace gantry::gateway_mesos
