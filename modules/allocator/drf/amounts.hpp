// What agents have, as the allocator keeps it: small sorted lists, and one copy of each distinct list where many repeat.
#pragma once

#include <gantry/allocator_generated.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::allocator_drf {

// 16 bytes for the 24 of fb::allocator::Quantity: a master may know a million agents.
struct Amount {
  std::int64_t milli;
  std::uint32_t role;   // reserved to; 0 = unreserved
  std::uint16_t name;
  std::uint16_t flags;  // fb::allocator::QuantityFlags
  friend bool operator==(const Amount&, const Amount&) = default;
};
using Amounts = std::vector<Amount>;

inline bool same_kind(const Amount& a, const Amount& b) { return a.name == b.name && a.role == b.role && a.flags == b.flags; }
inline bool kind_before(const Amount& a, const Amount& b) {
  if (a.name != b.name) return a.name < b.name;
  if (a.role != b.role) return a.role < b.role;
  return a.flags < b.flags;
}

// No agent has more of anything than this, so that what a million of them have is still counted in 64 bits.
inline constexpr std::int64_t kMost = INT64_MAX >> 20;

// Sorts into `out`, adds up equal kinds, drops what is empty or does not fit 16 bits.
inline void read(const flatbuffers::Vector<const fb::allocator::Quantity*>* in, Amounts& out) {
  out.clear();
  if (!in) return;
  bool sorted = true;
  for (const auto* q : *in) {
    if (q->amount() <= 0 || q->name() > UINT16_MAX) continue;
    const Amount a{std::min(q->amount(), kMost), q->role(), static_cast<std::uint16_t>(q->name()), static_cast<std::uint16_t>(q->flags())};
    sorted = sorted && (out.empty() || kind_before(out.back(), a));
    out.push_back(a);
  }
  if (sorted) return;
  std::sort(out.begin(), out.end(), kind_before);
  std::size_t last = 0;
  for (std::size_t i = 1; i < out.size(); ++i) {
    if (same_kind(out[last], out[i])) out[last].milli = std::min(kMost, out[last].milli + out[i].milli);
    else out[++last] = out[i];
  }
  out.resize(last + 1);
}

// Each amount of `part` is there, at least as large, in `whole`.
inline bool fits(const Amounts& part, const Amounts& whole) {
  auto w = whole.begin();
  for (const auto& p : part) {
    while (w != whole.end() && kind_before(*w, p)) ++w;
    if (w == whole.end() || !same_kind(*w, p) || w->milli < p.milli) return false;
  }
  return true;
}

using ShapeId = std::uint32_t;  // 0 = the empty list

// One counted copy of each distinct list. Clusters have few kinds of machines, and thousands of declines refuse the same.
class Shapes {
 public:
  Shapes() { clear(); }
  void clear() {
    shapes_.assign(1, Shape{});
    free_.clear();
    by_hash_.clear();
  }
  [[nodiscard]] const Amounts& operator[](ShapeId id) const { return shapes_[id].amounts; }
  // Counted: pair each with release().
  ShapeId intern(const Amounts& a) {
    if (a.empty()) return 0;
    const std::size_t h = std::hash<std::string_view>{}({reinterpret_cast<const char*>(a.data()), a.size() * sizeof(Amount)});
    const auto [first, last] = by_hash_.equal_range(h);
    for (auto it = first; it != last; ++it) {
      if (shapes_[it->second].amounts == a) {
        ++shapes_[it->second].refs;
        return it->second;
      }
    }
    ShapeId id;
    if (!free_.empty()) {
      id = free_.back();
      free_.pop_back();
    } else {
      id = static_cast<ShapeId>(shapes_.size());
      shapes_.emplace_back();
    }
    shapes_[id] = {a, h, 1};
    by_hash_.emplace(h, id);
    return id;
  }
  void release(ShapeId id) {
    if (id == 0 || --shapes_[id].refs > 0) return;
    const auto [first, last] = by_hash_.equal_range(shapes_[id].hash);
    for (auto it = first; it != last; ++it) {
      if (it->second == id) {
        by_hash_.erase(it);
        break;
      }
    }
    shapes_[id] = {};
    free_.push_back(id);
  }

 private:
  struct Shape {
    Amounts amounts;
    std::size_t hash = 0;
    std::uint32_t refs = 0;
  };
  std::vector<Shape> shapes_;
  std::vector<ShapeId> free_;
  std::unordered_multimap<std::size_t, ShapeId> by_hash_;
};

}  // namespace gantry::allocator_drf
