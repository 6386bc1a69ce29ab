// RecordIO: however a stream is cut, the same records or the same refusal come out; and what was read is written as it
// was.
#include "modules/gateway/mesos/wire/recordio.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry;
  using namespace gantry::gateway_mesos::wire;
  if (size == 0) return 0;
  const std::size_t step = data[0] % 7 + 1;
  const Bytes stream(data + 1, size - 1);
  const auto read = [&](std::size_t piece, std::vector<std::string>& out, bool& complete) {
    RecordReader reader(1024);
    Status status = ok;
    for (std::size_t at = 0; status && at < stream.size(); at += piece)
      status = reader.feed(stream.subspan(at, std::min(piece, stream.size() - at)),
                           [&](Bytes b) { out.emplace_back(b.begin(), b.end()); });
    complete = reader.complete();
    return status.has_value();
  };
  std::vector<std::string> whole, cut;
  bool whole_complete = false, cut_complete = false;
  const bool whole_ok = read(std::max<std::size_t>(stream.size(), 1), whole, whole_complete);
  if (read(step, cut, cut_complete) != whole_ok || whole != cut || whole_complete != cut_complete) std::abort();
  std::vector<std::string> back;
  RecordReader reader(1024);
  for (const std::string& one : whole)
    if (!reader.feed(as_bytes(record(one)), [&](Bytes b) { back.emplace_back(b.begin(), b.end()); })) std::abort();
  if (back != whole || !reader.complete()) std::abort();
  return 0;
}
