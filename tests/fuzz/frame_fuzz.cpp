// FrameParser: however the stream is cut, the same frames or the same refusal come out.
#include "kernel/net/net.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry;
  if (size == 0) return 0;
  const std::size_t step = data[0] % 7 + 1;
  const Bytes stream(data + 1, size - 1);
  const auto take_into = [](std::vector<std::uint8_t>& out) {
    return [&out](Bytes b) {
      out.push_back(static_cast<std::uint8_t>(b.size()));
      out.insert(out.end(), b.begin(), b.end());
    };
  };
  net::FrameParser whole(1024), cut(1024);
  std::vector<std::uint8_t> a, b;
  const bool whole_ok = whole.feed(stream, take_into(a)).has_value();
  bool cut_ok = true;
  for (std::size_t at = 0; cut_ok && at < stream.size(); at += step)
    cut_ok = cut.feed(stream.subspan(at, std::min(step, stream.size() - at)), take_into(b)).has_value();
  if (whole_ok != cut_ok || a != b) std::abort();
  return 0;
}
