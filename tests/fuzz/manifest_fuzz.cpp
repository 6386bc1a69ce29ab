// Any bytes as a module's file, and any text as its manifest.
#include "kernel/config/manifest.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry::config;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto info = inspect_library(bytes)) (void)parse_manifest(info->manifest, "fuzz.so");
  if (const auto m = parse_manifest(bytes, "module.toml")) (void)describe(*m);
  return 0;
}
