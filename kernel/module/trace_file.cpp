#include "kernel/module/trace_file.hpp"

#include "kernel/base/file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace gantry::module {
namespace {

constexpr std::size_t write_at = 64 << 10;
constexpr std::size_t max_frame = std::size_t{64} << 20;

}  // namespace

Result<RecordingWriter> RecordingWriter::create(const std::string& path, const fb::trace::HeaderT& header) {
  base::Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600));
  if (!fd) return fail(Code::failed_precondition, "cannot write " + path + ": " + std::strerror(errno));
  RecordingWriter w(std::move(fd), path);
  w.waiting_ = recording_magic;
  w.size_ = w.waiting_.size();
  fb::trace::HeaderT h = header;
  h.version = recording_version;
  GANTRY_CHECK(w.frame(pack(h)));
  GANTRY_CHECK(w.flush());
  return w;
}

Status RecordingWriter::frame(Bytes payload) {
  for (unsigned i = 0; i < 4; ++i) waiting_ += static_cast<char>(payload.size() >> (8 * i) & 0xff);
  waiting_.append(reinterpret_cast<const char*>(payload.data()), payload.size());
  size_ += 4 + payload.size();
  return waiting_.size() >= write_at ? flush() : Status();
}

Status RecordingWriter::add(const fb::trace::EntryT& entry) { return frame(pack(entry)); }

Status RecordingWriter::flush() {
  std::size_t done = 0;
  while (done < waiting_.size()) {
    const ssize_t n = ::write(fd_.get(), waiting_.data() + done, waiting_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      waiting_.erase(0, done);
      return fail(Code::resource_exhausted, "cannot write " + path_ + ": " + std::strerror(errno));
    }
    done += static_cast<std::size_t>(n);
  }
  waiting_.clear();
  return ok;
}

Result<Recording> parse_recording(Bytes file) {
  if (file.size() < recording_magic.size() ||
      std::memcmp(file.data(), recording_magic.data(), recording_magic.size()) != 0)
    return fail(Code::invalid_argument, "this is no recording of `gantry module record`: it does not start with " +
                                            std::string(recording_magic));
  Recording out;
  bool first = true;
  std::size_t at = recording_magic.size();
  std::vector<std::uint8_t> frame;
  while (at < file.size()) {
    if (file.size() - at < 4) {
      out.cut = true;
      break;
    }
    std::uint32_t size = 0;
    for (unsigned i = 0; i < 4; ++i) size |= std::uint32_t{file[at + i]} << (8 * i);
    if (size > max_frame)
      return fail(Code::invalid_argument, "the recording is damaged at byte " + std::to_string(at) + ": a frame of " +
                                              std::to_string(size) + " bytes");
    if (file.size() - at - 4 < size) {
      out.cut = true;
      break;
    }
    // Copied, to be aligned.
    frame.assign(file.begin() + static_cast<std::ptrdiff_t>(at) + 4,
                 file.begin() + static_cast<std::ptrdiff_t>(at) + 4 + size);
    const auto damaged = [&](std::string_view what) {
      return fail(Code::invalid_argument,
                  "the recording is damaged at byte " + std::to_string(at) + ": that is no " + std::string(what));
    };
    if (first) {
      const auto* h = view<fb::trace::Header>(frame);
      if (!h) return damaged("header");
      if (h->version() > recording_version)
        return fail(Code::invalid_argument, "the recording has format " + std::to_string(h->version()) +
                                                ", this program reads up to " + std::to_string(recording_version) +
                                                "; use the gantry-module of the release that wrote it");
      h->UnPackTo(&out.header);
      first = false;
    } else {
      const auto* e = view<fb::trace::Entry>(frame);
      if (!e) return damaged("entry");
      e->UnPackTo(&out.entries.emplace_back());
    }
    at += 4 + std::size_t{size};
  }
  if (first) return fail(Code::invalid_argument, "the recording ends before its header; nothing was recorded");
  return out;
}

Result<Recording> read_recording(const std::string& path) {
  const auto all = base::read_file(path, std::size_t{1} << 30);
  if (!all) return all.error().because("cannot read " + path);
  auto r = parse_recording({reinterpret_cast<const std::uint8_t*>(all->data()), all->size()});
  if (!r) return std::move(r).error().because(path);
  return r;
}

}  // namespace gantry::module
