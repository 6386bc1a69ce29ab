// Dense storage for a million of a kind: objects in chunks that never move, named by small handles; and an index from
// a key kept inside the object to its handle that costs about twenty bytes an entry.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::master {

// Position of an object in its slab; 0 = none. Reused after erase.
using Handle = std::uint32_t;

template <class T>
class Slab {
 public:
  Handle emplace() {
    Handle h;
    if (!free_.empty()) {
      h = free_.back();
      free_.pop_back();
      cell(h).value = T{};
    } else {
      h = next_++;
      if (h / kChunk >= chunks_.size()) chunks_.push_back(std::make_unique<Cell[]>(kChunk));
    }
    cell(h).live = true;
    ++size_;
    return h;
  }
  void erase(Handle h) {
    assert(contains(h));
    cell(h).value = T{};
    cell(h).live = false;
    free_.push_back(h);
    --size_;
  }
  [[nodiscard]] bool contains(Handle h) const { return h != 0 && h < next_ && chunks_[h / kChunk][h % kChunk].live; }
  T& operator[](Handle h) {
    assert(contains(h));
    return cell(h).value;
  }
  const T& operator[](Handle h) const {
    assert(contains(h));
    return chunks_[h / kChunk][h % kChunk].value;
  }
  // Tells the processor that h is wanted soon: walks over many thousands of objects wait for memory otherwise. Inlined
  // by force, for gcc takes a function that only prefetches for one without effect and drops the call.
  [[gnu::always_inline]] void prefetch(Handle h) const {
    if (h == 0 || h >= next_) return;
    const char* p = reinterpret_cast<const char*>(&chunks_[h / kChunk][h % kChunk]);
    for (std::size_t i = 0; i < sizeof(Cell); i += 64) __builtin_prefetch(p + i);
  }
  [[nodiscard]] std::size_t size() const { return size_; }
  // One past the largest handle ever used: for (Handle h = 1; h < end(); ++h) if (contains(h)) ...
  [[nodiscard]] Handle end() const { return next_; }

 private:
  struct Cell {
    T value;
    bool live = false;
  };
  static constexpr std::size_t kChunk = 256;
  Cell& cell(Handle h) { return chunks_[h / kChunk][h % kChunk]; }
  std::vector<std::unique_ptr<Cell[]>> chunks_;
  std::vector<Handle> free_;
  Handle next_ = 1;
  std::size_t size_ = 0;
};

[[nodiscard]] inline std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}
[[nodiscard]] inline std::uint64_t hash_text(std::string_view s, std::uint64_t seed = 0) {
  std::uint64_t h = 0xcbf29ce484222325ULL ^ seed;
  for (const char c : s) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mix(h);
}

// Open addressing with linear probing; the caller compares keys and gives their hashes.
class Index {
 public:
  // The handle h with equal(h), or 0.
  template <class Equal>
  [[nodiscard]] Handle find(std::uint64_t hash, Equal equal) const {
    if (cells_.empty()) return 0;
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    for (std::size_t i = hash & mask(); cells_[i].handle; i = (i + 1) & mask())
      if (cells_[i].tag == tag && cells_[i].handle != kDead && equal(cells_[i].handle)) return cells_[i].handle;
    return 0;
  }
  void insert(std::uint64_t hash, Handle handle) {
    if ((used_ + 1) * 10 >= cells_.size() * 7) grow();
    place(hash, handle);
    ++used_;
    ++size_;
  }
  void erase(std::uint64_t hash, Handle handle) {
    if (cells_.empty()) return;
    for (std::size_t i = hash & mask(); cells_[i].handle; i = (i + 1) & mask()) {
      if (cells_[i].handle != handle) continue;
      cells_[i].handle = kDead;
      --size_;
      return;
    }
  }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  static constexpr Handle kDead = ~Handle{0};
  // The low bits choose the cell and must survive growth, so the whole low half is kept beside the tag.
  struct Cell {
    std::uint32_t tag = 0;
    std::uint32_t low = 0;
    Handle handle = 0;
  };
  [[nodiscard]] std::size_t mask() const { return cells_.size() - 1; }
  void place(std::uint64_t hash, Handle handle) {
    std::size_t i = hash & mask();
    while (cells_[i].handle) i = (i + 1) & mask();
    cells_[i] = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::uint32_t>(hash), handle};
  }
  void grow() {
    std::vector<Cell> old(std::exchange(cells_, {}));
    std::size_t n = 16;
    while (n * 7 < (size_ + 1) * 20) n *= 2;
    cells_.resize(n);
    for (const Cell& c : old)
      if (c.handle && c.handle != kDead) place((std::uint64_t{c.tag} << 32) | c.low, c.handle);
    used_ = size_;
  }
  std::vector<Cell> cells_;
  std::size_t used_ = 0;  // live and dead
  std::size_t size_ = 0;
};

}  // namespace gantry::master
