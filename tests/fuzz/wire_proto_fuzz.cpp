// Any bytes as protobuf of a Mesos v1 message: refused or a valid flatbuffer, whose canonical bytes and JSON read back
// as the same.
#include "tests/fuzz/wire_tables.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry;
  if (size == 0) return 0;
  const auto& codec = gateway_mesos::wire::Codec::get();
  const auto& table = fuzz::table_of(data[0]);
  const auto read = codec.from_protobuf({data + 1, size - 1}, table.name);
  if (!read) return 0;
  fuzz::must(table.valid(*read));
  const std::string proto = codec.to_protobuf(*read, table.name);
  const auto again = codec.from_protobuf(as_bytes(proto), table.name);
  fuzz::must(again.has_value() && table.valid(*again) && codec.to_protobuf(*again, table.name) == proto);
  const std::string json = codec.to_json(*read, table.name);
  const auto text = codec.from_json(json, table.name);
  if (text) {
    fuzz::must(table.valid(*text) && codec.to_json(*text, table.name) == json);
  } else {
    // JSON has more brackets than protobuf has messages, and numbers that are none have no JSON form.
    fuzz::must(json.find("\"NaN\"") != std::string::npos ||
               text.error().message.find("nested deeper") != std::string::npos);
  }
  return 0;
}
