#pragma once

#include "schema.hpp"

namespace gantry::gateway_mesos::wire {

// See Codec::append_json.
void write_json(std::string& out, const flatbuffers::Table& table, const Message& message);

}  // namespace gantry::gateway_mesos::wire
