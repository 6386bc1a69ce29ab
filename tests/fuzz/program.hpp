// Fuzz input as a program: each byte decides something. Valid messages are built from it and then damaged by it, which goes
// deeper than bytes that have to become a message by chance.
#pragma once

#include <gantry/message.hpp>

#include <cstdlib>
#include <string>
#include <vector>

namespace gantry::fuzz {

class Program {
 public:
  Program(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}
  [[nodiscard]] bool done() const { return at_ == end_; }
  std::uint8_t byte() { return done() ? 0 : *at_++; }
  std::uint8_t below(std::uint8_t n) { return static_cast<std::uint8_t>(byte() % n); }
  // One of few names, so that messages meet; now and then one that is none.
  std::string name(const char* prefix) {
    const std::uint8_t b = byte();
    if (b == 255) return {};
    if (b == 254) return std::string(300, '/') + "..";
    return prefix + std::to_string(b % 4);
  }
  std::vector<std::uint8_t> bytes(std::size_t most) {
    std::vector<std::uint8_t> out;
    for (std::size_t n = below(static_cast<std::uint8_t>(most)); n > 0 && !done(); --n) out.push_back(byte());
    return out;
  }
  // The message, with up to 7 of its bytes overwritten.
  std::vector<std::uint8_t> damage(const Buffer& b) {
    std::vector<std::uint8_t> out(b.data(), b.data() + b.size());
    for (int n = below(8); n > 0 && !out.empty(); --n) {
      const std::size_t at = (static_cast<std::size_t>(byte()) << 8 | byte()) % out.size();
      out[at] = byte();
    }
    return out;
  }

 private:
  const std::uint8_t *at_, *end_;
};

// What the code under test sends has to be what it says.
template <class T>
void must_verify(Bytes b) {
  if (!view<T>(b)) std::abort();
}

}  // namespace gantry::fuzz
