#include "codec.hpp"

#include "json_in.hpp"
#include "json_out.hpp"
#include "proto.hpp"
#include "schema.hpp"

namespace gantry::gateway_mesos::wire {

// Made by CMakeLists.txt: wire.fbs, compiled by flatc.
extern const std::uint8_t compiled_schema[];
extern const std::size_t compiled_schema_size;

namespace {

std::string_view short_name(std::string_view table) { return table.substr(table.rfind('.') + 1); }

const flatbuffers::Table& root(Bytes message) { return *flatbuffers::GetRoot<flatbuffers::Table>(message.data()); }

}  // namespace

const Codec& Codec::get() {
  static const Codec* const codec = new Codec({compiled_schema, compiled_schema_size});
  return *codec;
}

Codec::Codec(Bytes compiled) : schema_(std::make_unique<const Schema>(compiled)) {}
Codec::~Codec() = default;

Result<Buffer> Codec::from_json(std::string_view json, std::string_view table) const {
  return read_json(json, schema_->root(table), short_name(table));
}

Result<Buffer> Codec::from_protobuf(Bytes body, std::string_view table) const {
  return read_proto(body, schema_->root(table), short_name(table));
}

std::string Codec::to_json(Bytes message, std::string_view table) const {
  std::string out;
  out.reserve(message.size() * 2);
  write_json(out, root(message), schema_->root(table));
  return out;
}

std::string Codec::to_protobuf(Bytes message, std::string_view table) const {
  return write_proto(root(message), schema_->root(table));
}

void Codec::append_json(std::string& out, const flatbuffers::Table* message, std::string_view table) const {
  write_json(out, *message, schema_->root(table));
}

}  // namespace gantry::gateway_mesos::wire
