// Any text as JSON of a Mesos v1 message: refused or a valid flatbuffer, which comes out as JSON and as protobuf that
// read back as the same.
#include "tests/fuzz/wire_tables.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry;
  if (size == 0) return 0;
  const auto& codec = gateway_mesos::wire::Codec::get();
  const auto& table = fuzz::table_of(data[0]);
  const auto read = codec.from_json({reinterpret_cast<const char*>(data) + 1, size - 1}, table.name);
  if (!read) {
    fuzz::must(!read.error().message.empty());
    return 0;
  }
  fuzz::must(table.valid(*read));
  const std::string json = codec.to_json(*read, table.name);
  fuzz::must(json.find_first_of("\r\n") == std::string::npos);
  const auto again = codec.from_json(json, table.name);
  fuzz::must(again.has_value() && codec.to_json(*again, table.name) == json);
  const std::string proto = codec.to_protobuf(*read, table.name);
  const auto binary = codec.from_protobuf(as_bytes(proto), table.name);
  fuzz::must(binary.has_value() && table.valid(*binary) && codec.to_json(*binary, table.name) == json);
  return 0;
}
