#pragma once

#include "schema.hpp"

#include <gantry/result.hpp>

namespace gantry::gateway_mesos::wire {

// See Codec::from_protobuf and Codec::to_protobuf.
[[nodiscard]] Result<Buffer> read_proto(Bytes body, const Message& message, std::string_view short_name);
[[nodiscard]] std::string write_proto(const flatbuffers::Table& table, const Message& message);

}  // namespace gantry::gateway_mesos::wire
