#pragma once

#include "schema.hpp"

#include <gantry/result.hpp>

namespace gantry::gateway_mesos::wire {

// See Codec::from_protobuf and Codec::to_protobuf.
[[nodiscard]] Result<Buffer> read_proto(Bytes body, const Message& message, std::string_view short_name);
[[nodiscard]] std::string write_proto(const flatbuffers::Table& table, const Message& message);
// A table as the value of `field`, with its tag and length.
void append_proto(std::string& out, const Field& field, const flatbuffers::Table& table);
// The fields of `message` alone, which lie in a table of `home`.
void append_proto_fields(std::string& out, const flatbuffers::Table& table, const Message& message, const Message& home);

}  // namespace gantry::gateway_mesos::wire
