// Recordings of `gantry module record`: whatever the bytes, an answer and no crash; what is read can be written again.
#include "kernel/module/trace_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry;
  auto recording = module::parse_recording({data, size});
  if (!recording) return 0;
  for (const auto& e : recording->entries) (void)pack(e);
  return 0;
}
