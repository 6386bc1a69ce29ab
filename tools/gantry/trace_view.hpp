// Entries of a trace as people and programs read them: rows, JSON lines, a summary per method. Pure.
#pragma once

#include <gantry/trace_generated.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace gantry::cli {

// "850ns", "12.3us", "4.1ms", "2.5s"
[[nodiscard]] std::string latency_text(std::uint64_t ns);
// "240", "1.3k", "12M"
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);

struct TraceFilter {
  std::vector<std::string> methods;  // names as method_names.hpp gives them; empty: all
  bool errors = false;               // only what went wrong
  std::optional<std::uint64_t> slower_ns;
  bool all = false;  // the beginnings and cancels too, not only answers
  [[nodiscard]] bool shows(const fb::trace::EntryT& entry, std::string_view name) const;
};

class TraceView {
 public:
  // Needs kind and started_wall_ns.
  explicit TraceView(const fb::trace::HeaderT& header) : kind_(header.kind), started_wall_ns_(header.started_wall_ns) {}

  [[nodiscard]] static std::string heading();
  // One line, without its end.
  [[nodiscard]] std::string row(const fb::trace::EntryT& entry) const;
  [[nodiscard]] std::string json(const fb::trace::EntryT& entry) const;
  // Name, and what went wrong as a sentence.
  [[nodiscard]] std::string name(const fb::trace::EntryT& entry) const;
  [[nodiscard]] static std::string message(const fb::trace::EntryT& entry);

 private:
  std::string kind_;
  std::uint64_t started_wall_ns_;
};

// Latencies in buckets 3 % wide: any number of them in 16 KiB.
class Latencies {
 public:
  void add(std::uint64_t ns);
  [[nodiscard]] std::uint64_t quantile(double q) const;  // 0 when there are none
  [[nodiscard]] std::uint64_t max() const { return max_; }

 private:
  static constexpr unsigned per_octave = 32;
  std::vector<std::uint64_t> buckets_;
  std::uint64_t count_ = 0, max_ = 0;
};

class TraceSummary {
 public:
  explicit TraceSummary(std::string kind) : kind_(std::move(kind)) {}
  void add(const fb::trace::EntryT& entry);
  void add_lost(std::uint64_t lost) { lost_ += lost; }
  // A table, then one line of totals; what was begun and has no answer yet is named. `now_ns`: on the clock of at_ns.
  [[nodiscard]] std::string text(std::uint64_t now_ns, bool bold) const;
  [[nodiscard]] std::string json(std::uint64_t now_ns) const;
  [[nodiscard]] std::uint64_t calls() const { return calls_; }
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

 private:
  struct Method {
    std::uint64_t count = 0, errors = 0, chunks = 0, asked = 0, answered = 0;
    Latencies latencies;
  };
  struct Begun {
    std::string name;
    std::uint64_t at_ns;
  };
  [[nodiscard]] std::vector<Begun> open() const;  // oldest first
  std::string kind_;
  std::map<std::string, Method> methods_;
  std::unordered_map<std::uint64_t, Begun> begun_;
  std::unordered_set<std::uint64_t> given_up_;
  std::uint64_t calls_ = 0, errors_ = 0, faults_ = 0, lost_ = 0;
};

}  // namespace gantry::cli
