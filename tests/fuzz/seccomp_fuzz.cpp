// Seccomp profiles: whatever the text, a filter of whole instructions or an error that says where.
#include "modules/isolator/security/seccomp.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry::isolator_security;
  if (size > 8192) return 0;
  const auto filter = compile_profile(std::string_view(reinterpret_cast<const char*>(data), size), 0xa80425fb);
  if (filter ? filter->empty() || filter->size() % 8 != 0 : filter.error().message.empty()) std::abort();
  return 0;
}
