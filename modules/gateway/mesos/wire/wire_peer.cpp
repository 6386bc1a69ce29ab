// The codec as a process, for tests in other languages. A line in: TABLE j|p BASE64; a line out: "ok BASE64 BASE64"
// (the message as JSON and as protobuf) or "no SENTENCE".
#include "wire/codec.hpp"

#include <iostream>

int main() {
  using namespace gantry;
  using namespace gantry::gateway_mesos::wire;
  std::string table, form, data;
  std::ios::sync_with_stdio(false);
  const auto decode = [](const std::string& s) {
    std::string out;
    unsigned bits = 0, have = 0;
    for (const char c : s) {
      const char* const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
      const char* const at = std::char_traits<char>::find(digits, 64, c);
      if (!at) continue;
      bits = (bits << 6 | static_cast<unsigned>(at - digits)) & 0xFFFFFF;
      if ((have += 6) >= 8) out += static_cast<char>(bits >> (have -= 8) & 0xFF);
    }
    return out;
  };
  while (std::cin >> table >> form) {
    std::getline(std::cin, data);
    const std::string body = decode(data);
    const auto read =
        form == "j" ? Codec::get().from_json(body, table) : Codec::get().from_protobuf(as_bytes(body), table);
    if (!read) {
      std::cout << "no " << read.error().message << std::endl;
      continue;
    }
    std::string json, proto;
    append_base64(json, as_bytes(Codec::get().to_json(*read, table)));
    append_base64(proto, as_bytes(Codec::get().to_protobuf(*read, table)));
    std::cout << "ok " << json << ' ' << (proto.empty() ? "=" : proto) << std::endl;
  }
}
