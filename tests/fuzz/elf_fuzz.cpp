// Any bytes as a module's file for gantry-module inspect.
// Its source: the rest of the tool is not built for fuzzers.
#include "tools/gantry-module/elf.cpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry::kit;
  if (const auto elf = read_elf({reinterpret_cast<const char*>(data), size})) (void)elf->floor("GLIBC_");
  return 0;
}
