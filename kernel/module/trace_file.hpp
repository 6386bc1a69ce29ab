// Recordings on disk: the file of sdk/schema/trace.fbs, appended to and read. Outside bytes: fuzzed.
#pragma once

#include "kernel/base/fd.hpp"

#include <gantry/trace_generated.h>
#include <gantry/message.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::module {

inline constexpr std::string_view recording_magic = "GANTRYTR";
inline constexpr std::uint16_t recording_version = 1;  // the highest this reads, the one it writes

// Appends whole frames. What is not flushed when the process dies is lost; what is cut is left out by readers.
class RecordingWriter {
 public:
  // Makes the file, readable by its owner only, or empties an existing one, and writes the header.
  static Result<RecordingWriter> create(const std::string& path, const fb::trace::HeaderT& header);
  Status add(const fb::trace::EntryT& entry);
  // Everything added is in the file; not necessarily on the disk.
  Status flush();
  // Bytes of the file, unflushed ones included.
  [[nodiscard]] std::uint64_t size() const { return size_; }

 private:
  RecordingWriter(base::Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Status frame(Bytes payload);
  base::Fd fd_;
  std::string path_;
  std::string waiting_;
  std::uint64_t size_ = 0;
};

struct Recording {
  fb::trace::HeaderT header;
  std::vector<fb::trace::EntryT> entries;
  bool cut = false;  // the last frame was not whole
};

// Reads a recording. INVALID_ARGUMENT if it is none, is damaged before its end, or is of a later format.
[[nodiscard]] Result<Recording> parse_recording(Bytes file);
[[nodiscard]] Result<Recording> read_recording(const std::string& path);

}  // namespace gantry::module
