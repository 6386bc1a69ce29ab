// The only source of chance in a simulation: a seed gives the same run on every machine.
#pragma once

#include "kernel/base/loop.hpp"

#include <cstdint>

namespace gantry::sim {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 0x1234567) {}
  std::uint64_t next() {  // splitmix64
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  // 0 .. n-1
  std::uint64_t below(std::uint64_t n) { return n ? next() % n : 0; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  // True `percent` times in a hundred.
  bool chance(unsigned percent) { return below(100) < percent; }
  base::Nanos between(base::Nanos low, base::Nanos high) {
    return base::Nanos(static_cast<std::int64_t>(between(static_cast<std::uint64_t>(low.count()), static_cast<std::uint64_t>(high.count()))));
  }

 private:
  std::uint64_t state_;
};

}  // namespace gantry::sim
