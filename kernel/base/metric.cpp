#include "kernel/base/metric.hpp"

#include <cmath>

namespace gantry::base {

Metrics::~Metrics() {
  for (auto& c : chunks_) delete c.load();
}

Metrics::Id Metrics::id(std::string_view name, MetricKind kind, std::string_view unit, std::string_view help) {
  const std::lock_guard lock(mutex_);
  if (const auto it = ids_.find(std::string(name)); it != ids_.end()) return it->second;
  const std::uint32_t n = size_.load(std::memory_order_relaxed);
  if (n == chunk_size * chunk_count) return 0;
  auto& chunk = chunks_[n / chunk_size];
  if (!chunk.load(std::memory_order_relaxed)) chunk.store(new Chunk, std::memory_order_release);
  Slot& s = (*chunk.load(std::memory_order_relaxed))[n % chunk_size];
  s.name = name;
  s.kind = kind;
  s.unit = unit;
  s.help = help;
  size_.store(n + 1, std::memory_order_release);
  ids_.emplace(s.name, n + 1);
  return n + 1;
}

Metrics::Slot* Metrics::slot(Id id) const {
  if (id == 0 || id > size_.load(std::memory_order_acquire)) return nullptr;
  return &(*chunks_[(id - 1) / chunk_size].load(std::memory_order_acquire))[(id - 1) % chunk_size];
}

void Metrics::add(Id id, double v) {
  Slot* s = slot(id);
  if (!s || !std::isfinite(v) || (s->kind == MetricKind::counter && v < 0)) return;
  s->value.fetch_add(v, std::memory_order_relaxed);
  if (s->kind != MetricKind::histogram) return;
  s->count.fetch_add(1, std::memory_order_relaxed);
  double seen = s->max.load(std::memory_order_relaxed);
  while (v > seen && !s->max.compare_exchange_weak(seen, v, std::memory_order_relaxed)) {
  }
}

std::vector<Metrics::Sample> Metrics::snapshot() const {
  std::vector<Sample> out;
  const std::uint32_t n = size_.load(std::memory_order_acquire);
  out.reserve(n);
  for (std::uint32_t i = 1; i <= n; ++i) {
    const Slot& s = *slot(i);
    out.push_back({s.name, s.unit, s.help, s.kind, s.value.load(std::memory_order_relaxed),
                   s.count.load(std::memory_order_relaxed), s.max.load(std::memory_order_relaxed)});
  }
  return out;
}

}  // namespace gantry::base
