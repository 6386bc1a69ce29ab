#pragma once

#include "schema.hpp"

namespace gantry::gateway_mesos::wire {

// See Codec::append_json.
void write_json(std::string& out, const flatbuffers::Table& table, const Message& message);
// The fields of `message` alone, which lie in a table of `home`; `first`: nothing stands before them in their object.
void write_json_fields(std::string& out, const flatbuffers::Table& table, const Message& message, const Message& home, bool& first);

}  // namespace gantry::gateway_mesos::wire
