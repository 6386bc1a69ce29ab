// The kinds this kernel serves. A kind's contract is sdk/schema/<kind>.fbs; its revision changes only when that breaks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gantry::module {

struct Kind {
  std::string_view name;
  std::uint16_t current;
  std::uint16_t previous;  // the older revision that is still served; equal to current if there is none
};

inline constexpr Kind kinds[] = {
    {"allocator", 1, 1}, {"authenticator", 1, 1}, {"authorizer", 1, 1}, {"election", 1, 1}, {"fetcher", 1, 1},
    {"framework", 1, 1}, {"gateway", 1, 1},       {"image", 1, 1},      {"isolator", 1, 1}, {"store", 1, 1},
};

[[nodiscard]] inline const Kind* find_kind(std::string_view name, std::span<const Kind> served = kinds) {
  for (const Kind& k : served)
    if (k.name == name) return &k;
  return nullptr;
}

}  // namespace gantry::module
