// How large answers leave room for the cluster's main job. Pure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace gantry::gateway_mesos {

// What one large answer took, and what went on meanwhile.
struct Written {
  std::chrono::nanoseconds took{};  // to write it
  std::size_t bytes = 0;            // that are sent, to all who asked
  std::uint64_t changes = 0;        // of the cluster while it was written
};

// How long to wait before the next large answer is begun. In a quiet cluster hardly at all; where a thousand things change a second
// as long as the last one cost, and at ten thousand nine times that, so that whoever asks for everything again and again
// gets a tenth of one core's time, however many they are: who waits meanwhile shares one answer.
[[nodiscard]] inline std::chrono::nanoseconds rest_after(const Written& w) {
  using namespace std::chrono_literals;
  constexpr double kSend = 1.0;  // nanoseconds a byte, for us and the system
  const double took = std::max(1.0, static_cast<double>(w.took.count()));
  const double cost = took + kSend * static_cast<double>(w.bytes);
  if (cost < 20e6) return 0ns;  // small ones are nobody's trouble
  const double a_second = static_cast<double>(w.changes) / (took / 1e9);
  return std::chrono::nanoseconds(static_cast<std::int64_t>(cost * std::min(9.0, a_second / 1000)));
}

}  // namespace gantry::gateway_mesos
