// A file's bytes by offset. They come from outside: nothing beyond the end is ever read.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace gantry::config {

class ElfImage {
 public:
  explicit ElfImage(std::string_view bytes) : bytes_(bytes) {}
  // Reads a struct at an offset, or nothing.
  template <class T>
  [[nodiscard]] bool read(std::uint64_t at, T& out) const {
    if (at > bytes_.size() || bytes_.size() - at < sizeof(T)) return false;
    std::memcpy(&out, bytes_.data() + at, sizeof(T));
    return true;
  }
  [[nodiscard]] std::optional<std::string_view> part(std::uint64_t at, std::uint64_t size) const {
    if (at > bytes_.size() || bytes_.size() - at < size) return std::nullopt;
    return bytes_.substr(at, size);
  }

 protected:
  std::string_view bytes_;
};

}  // namespace gantry::config
