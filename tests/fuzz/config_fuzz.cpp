// Any text as configuration file: problems at most, never a crash; and what is accepted prints as a file again.
#include "kernel/config/config.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry::config;
  Options o;
  o.file = "fuzz.toml";
  o.module_dirs = {"/nonexistent"};
  o.check_files = false;
  o.text = std::string(reinterpret_cast<const char*>(data), size);
  const Loaded l = load(o);
  for (const Problem& p : l.problems) (void)p.text();
  if (l.config) {
    Options again = o;
    again.text = l.config->effective();
    if (!load(again).config) std::abort();
  }
  const std::string_view text = *o.text;
  (void)parse_duration(text);
  (void)parse_size(text);
  return 0;
}
