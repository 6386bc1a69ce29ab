// Bytes of a layer on their way: one thread appends, another reads behind it. They pass through a file, so that memory does not
// grow when the reader is slower, and a later attempt can go on where this one broke off.
#pragma once

#include "base.hpp"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

namespace gantry::image_oci {

class Transfer {
 public:
  // The file is made if it is not there; what it holds counts as received.
  [[nodiscard]] static Result<std::shared_ptr<Transfer>> to_file(const std::string& path);
  // Everything is there: bytes `offset` to `offset + size` of an open file, which stays its owner's.
  [[nodiscard]] static std::shared_ptr<Transfer> of_region(std::shared_ptr<const Fd> file, std::uint64_t offset, std::uint64_t size);

  // ---- the writer
  [[nodiscard]] Status append(const char* data, std::size_t size);
  void end(Status status);

  // ---- the reader. Blocks until there are bytes; 0: all were read and the transfer ended well. Its error, else.
  [[nodiscard]] Result<std::size_t> read(void* data, std::size_t size, const Cancelled& cancelled);
  // After read() has returned 0, or to wait for the end without reading on.
  [[nodiscard]] Status finish(const Cancelled& cancelled);

  // ---- both
  [[nodiscard]] std::uint64_t received() const { return available_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t had() const { return had_; }  // when it was opened
  // Bytes that are there, from the beginning, without moving the reader.
  [[nodiscard]] Result<std::size_t> peek(std::uint64_t at, void* data, std::size_t size) const;

 private:
  std::shared_ptr<const Fd> file_;
  std::uint64_t offset_ = 0;
  std::uint64_t had_ = 0;
  std::atomic<std::uint64_t> available_{0};
  std::uint64_t read_ = 0;  // the reader's, under the mutex
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Status> ended_;
};

}  // namespace gantry::image_oci
