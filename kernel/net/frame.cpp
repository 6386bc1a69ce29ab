#include "kernel/net/net.hpp"

#include <algorithm>

namespace gantry::net {
namespace {

std::size_t length_of(const std::uint8_t* p) {
  return static_cast<std::size_t>(p[0]) | static_cast<std::size_t>(p[1]) << 8 | static_cast<std::size_t>(p[2]) << 16 |
         static_cast<std::size_t>(p[3]) << 24;
}

}  // namespace

Status FrameParser::feed(Bytes bytes, const std::function<void(Bytes)>& on_frame) {
  const auto too_long = [this](std::size_t n) {
    failed_ = true;
    partial_ = {};
    return fail(Code::out_of_range, "frame of " + std::to_string(n) + " bytes exceeds the limit of " + std::to_string(limit_) +
                                        "; the peer does not speak this protocol");
  };
  if (failed_) return fail(Code::out_of_range, "the stream failed before; its connection must be closed");

  // The rest of a frame that began in an earlier call; only then are bytes copied.
  while (!partial_.empty() && !bytes.empty()) {
    const std::size_t want = partial_.size() < 4 ? 4 : 4 + length_of(partial_.data());
    const std::size_t n = std::min(want - partial_.size(), bytes.size());
    partial_.insert(partial_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    bytes = bytes.subspan(n);
    if (partial_.size() < 4) return {};
    const std::size_t length = length_of(partial_.data());
    if (length > limit_) return too_long(length);
    if (partial_.size() < 4 + length) continue;
    on_frame(Bytes(partial_).subspan(4));
    partial_.clear();
    if (partial_.capacity() > (1u << 20)) partial_ = {};  // a rare giant shall not keep its memory
  }
  while (bytes.size() >= 4) {
    const std::size_t length = length_of(bytes.data());
    if (length > limit_) return too_long(length);
    if (bytes.size() - 4 < length) break;
    on_frame(bytes.subspan(4, length));
    bytes = bytes.subspan(4 + length);
  }
  partial_.insert(partial_.end(), bytes.begin(), bytes.end());
  return {};
}

}  // namespace gantry::net
