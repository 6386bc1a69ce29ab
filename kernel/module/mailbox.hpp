// A queue from many threads to one reader that is emptied in bursts: records side by side, their bytes in one arena, so
// that a message costs no allocation of its own and a burst one wake.
#pragma once

#include <gantry/message.hpp>

#include <cstdint>
#include <mutex>
#include <vector>

namespace gantry::module {

// Record needs members `std::size_t offset, length`, which the mailbox sets.
template <class Record>
class Mailbox {
 public:
  struct Batch {
    std::vector<Record> records;
    std::vector<std::uint8_t> arena;
    [[nodiscard]] Bytes bytes(const Record& r) const { return {arena.data() + r.offset, r.length}; }
  };

  // [any] Appends; the bytes are copied. True if the reader has to be woken.
  bool push(Record record, Bytes bytes = {}) {
    const std::lock_guard lock(mutex_);
    // Flatbuffers are read in place, so each starts on a 16-byte boundary.
    batch_.arena.resize((batch_.arena.size() + 15) & ~std::size_t{15});
    record.offset = batch_.arena.size();
    record.length = bytes.size();
    batch_.arena.insert(batch_.arena.end(), bytes.begin(), bytes.end());
    batch_.records.push_back(std::move(record));
    return !std::exchange(woken_, true);
  }
  // [reader] Takes all there is into `out`, whose memory is used again for the next records. False: there was nothing,
  // and the next push asks for a wake.
  bool take(Batch& out) {
    out.records.clear();
    out.arena.clear();
    // A burst must not hold its memory for good.
    if (out.arena.capacity() > keep) std::vector<std::uint8_t>().swap(out.arena);
    if (out.records.capacity() > keep / sizeof(Record)) std::vector<Record>().swap(out.records);
    const std::lock_guard lock(mutex_);
    if (batch_.records.empty()) {
      woken_ = false;
      return false;
    }
    std::swap(batch_, out);
    return true;
  }
  // [any] Bytes and records waiting.
  [[nodiscard]] std::size_t bytes() const {
    const std::lock_guard lock(mutex_);
    return batch_.arena.size() + batch_.records.size() * sizeof(Record);
  }

 private:
  static constexpr std::size_t keep = 256 << 10;
  mutable std::mutex mutex_;
  Batch batch_;
  bool woken_ = false;  // a wake is under way that has not found the box empty yet
};

}  // namespace gantry::module
