// The system's list of libraries, as isolator/gpu reads it: no crash, and every library has a name and an absolute path.
#include "modules/isolator/gpu/driver_files.hpp"

#include <cstdlib>
#include <string_view>

using namespace gantry::isolator_gpu;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto all = parse_library_cache(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!all) {
    if (all.error().message.empty()) std::abort();
    return 0;
  }
  for (const auto& library : *all)
    if (library.name.empty() || library.path.empty() || library.path[0] != '/') std::abort();
  return 0;
}
