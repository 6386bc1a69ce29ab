// Numbers about the daemon, by name: registered once, added to from any thread, read as a snapshot.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::base {

enum class MetricKind : std::uint8_t { counter, gauge, histogram };

// A registry of at most 16,384 metrics; further ones get id 0, which add() ignores. All members are [any].
class Metrics {
 public:
  using Id = std::uint32_t;  // 0 = none
  struct Sample {
    std::string name, unit, help;
    MetricKind kind = MetricKind::counter;
    double value = 0;         // counter, gauge: the sum of what was added; histogram: the sum of the observations
    std::uint64_t count = 0;  // histogram: number of observations
    double max = 0;           // histogram: the largest observation
  };

  Metrics() = default;
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;
  ~Metrics();

  // The id of `name`; the first registration fixes kind, unit and help.
  Id id(std::string_view name, MetricKind kind, std::string_view unit = {}, std::string_view help = {});
  // Counter: adds v (negative and non-finite values are ignored). Gauge: adds v. Histogram: observes v.
  void add(Id id, double v = 1);
  // All metrics in order of registration.
  [[nodiscard]] std::vector<Sample> snapshot() const;

 private:
  struct Slot {
    std::string name, unit, help;
    MetricKind kind = MetricKind::counter;
    std::atomic<double> value{0};
    std::atomic<double> max{0};
    std::atomic<std::uint64_t> count{0};
  };
  static constexpr std::size_t chunk_size = 64, chunk_count = 256;
  using Chunk = std::array<Slot, chunk_size>;
  [[nodiscard]] Slot* slot(Id id) const;

  mutable std::mutex mutex_;  // guards ids_, size_ and growth; slots in use are reached without it
  std::unordered_map<std::string, Id> ids_;
  std::atomic<std::uint32_t> size_{0};
  std::array<std::atomic<Chunk*>, chunk_count> chunks_{};  // chunks never move, so add() needs no lock
};

}  // namespace gantry::base
