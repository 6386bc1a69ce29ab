// Resource and attribute text of operators: whatever parses must print to text that parses to the same.
#include "kernel/resource/resources.hpp"

#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry::resource;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto r = Resources::parse(text)) {
    const auto again = Resources::parse(r->text());
    if (!again || *again != *r) std::abort();
    if (*r + *r - *r != *r && r->filter([](const Resource& x) { return x.type() != Type::scalar; }).empty()) std::abort();
    const auto all = r->take(r->quantities());
    if (!all || *all != *r) std::abort();
  }
  if (const auto a = parse_attributes(text)) {
    const auto again = parse_attributes(to_text(*a));
    if (!again || to_text(*again) != to_text(*a)) std::abort();
  }
  return 0;
}
