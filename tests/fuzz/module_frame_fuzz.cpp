// Frames between the kernel and gantry-modhost: however the stream is cut, the same frames or the same refusal come out,
// and no body reaches beyond what arrived.
#include "kernel/module/process/frame.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace {

using namespace gantry;
using namespace gantry::module::process;

// What came out, as bytes. False: refused.
bool read(FrameReader::From from, Bytes stream, std::size_t step, std::vector<std::uint8_t>& out) {
  FrameReader reader(from);
  for (std::size_t at = 0; at < stream.size(); at += step) {
    const Bytes part = stream.subspan(at, std::min(step, stream.size() - at));
    std::memcpy(reader.room(part.size()), part.data(), part.size());
    reader.arrived(part.size());
    for (;;) {
      Header h;
      Bytes body;
      const auto got = reader.next(h, body);
      if (!got) return false;
      if (!*got) break;
      if (reinterpret_cast<std::uintptr_t>(body.data()) % 8 != 0) std::abort();
      const auto* p = reinterpret_cast<const std::uint8_t*>(&h);
      out.insert(out.end(), p, p + sizeof h);
      out.insert(out.end(), body.begin(), body.end());
    }
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto from = data[0] & 1 ? FrameReader::From::host : FrameReader::From::kernel;
  const Bytes stream(data + 1, size - 1);
  std::vector<std::uint8_t> whole, cut;
  const bool a = read(from, stream, std::max<std::size_t>(stream.size(), 1), whole);
  const bool b = read(from, stream, data[0] / 2 % 61 + 1, cut);
  if (a != b || whole != cut) std::abort();
  return 0;
}
