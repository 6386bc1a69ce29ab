// The agent's journal: <work_dir>/agent/journal, an append-only file of fb::record::Entry frames.
//
// File: 8 bytes of magic, then frames of u32 little-endian length, u32 CRC-32 of the payload, payload. append() returns
// when write(2) has: that survives kill -9 of the agent. sync() makes it survive a power cut and may run elsewhere.
// A torn or corrupt end is cut off and reported, its bytes kept aside in journal.cut.
#pragma once

#include <gantry/message.hpp>
#include <gantry/record_generated.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace gantry::agent {

// The seam to the disk. Errors name the path and what the system said.
class AppendFile {
 public:
  virtual ~AppendFile() = default;
  virtual Status write(Bytes) = 0;                   // all of it, or an error after any part of it
  virtual Status truncate(std::uint64_t size) = 0;
  virtual Status sync() = 0;                         // [any]
};
class Disk {
 public:
  virtual ~Disk() = default;
  virtual Status make_directory(const std::string& path) = 0;                              // and its parents
  virtual Result<std::vector<std::uint8_t>> read(const std::string& path) = 0;             // NOT_FOUND if absent
  virtual Result<std::shared_ptr<AppendFile>> open(const std::string& path, bool fresh) = 0;  // fresh: empty it
  virtual Status rename(const std::string& from, const std::string& to) = 0;               // durable once it returns
  virtual Status remove(const std::string& path) = 0;                                      // OK if absent
  // Held until this object ends; FAILED_PRECONDITION if another process holds it.
  virtual Status lock(const std::string& path) = 0;
};
[[nodiscard]] std::unique_ptr<Disk> make_real_disk();

class Journal {
 public:
  struct Opened {
    std::size_t entries = 0;
    std::string warning;         // what was cut off, for a person; empty if nothing
  };

  // Opens or makes the journal of `directory`, calling on_entry for each entry in order (valid during the call).
  // Errors say what the operator should do.
  [[nodiscard]] static Result<std::unique_ptr<Journal>> open(
      Disk& disk, const std::string& directory, const std::function<void(const fb::record::Entry&)>& on_entry,
      Opened* opened = nullptr);

  // After an error nothing of the entry is in the file, or will be cut off by the next append or open.
  Status append(const fb::record::EntryT& entry);
  // Makes everything appended so far durable. [any], but not after the journal has gone.
  [[nodiscard]] std::shared_ptr<AppendFile> file() const { return file_; }

  // True when most of a large file may be dead: the caller should compact.
  [[nodiscard]] bool wants_compaction() const { return size_ > compact_at_; }
  // Replaces the file by these entries, atomically. After an error the old file stands.
  Status compact(const std::vector<fb::record::EntryT>& entries);

  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Journal(Disk& disk, std::string path) : disk_(disk), path_(std::move(path)) {}

  Disk& disk_;
  std::string path_;
  std::shared_ptr<AppendFile> file_;
  std::uint64_t size_ = 0;        // of what is good
  std::uint64_t compact_at_ = 0;
  bool torn_ = false;             // bytes beyond size_ must be cut off first
};

// Of IEEE 802.3, as zlib's.
[[nodiscard]] std::uint32_t crc32(Bytes);

}  // namespace gantry::agent
