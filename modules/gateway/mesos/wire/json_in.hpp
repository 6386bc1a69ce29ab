#pragma once

#include "schema.hpp"

#include <gantry/result.hpp>

namespace gantry::gateway_mesos::wire {

// See Codec::from_json. `short_name`: the table without its namespace, for the sentence of an error.
[[nodiscard]] Result<Buffer> read_json(std::string_view text, const Message& message, std::string_view short_name);

}  // namespace gantry::gateway_mesos::wire
