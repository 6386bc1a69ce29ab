#include "log_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace @NAME_ID@ {

using namespace gantry;

namespace {

constexpr std::size_t kHeader = 8;

std::uint32_t crc32(std::string_view bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int k = 0; k < 8; ++k) t[i] = t[i] & 1 ? 0xedb88320u ^ (t[i] >> 1) : t[i] >> 1;
    }
    return t;
  }();
  std::uint32_t crc = ~0u;
  for (const char c : bytes) crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

Error failure(const std::string& path, const char* what, int error) {
  return fail(error == ENOSPC || error == EDQUOT ? Code::resource_exhausted : error == EROFS ? Code::failed_precondition : Code::unavailable,
              std::string(what) + " " + path + ": " + std::strerror(error));
}

}  // namespace

LogFile::~LogFile() {
  if (fd_ >= 0) ::close(fd_);
}

std::string LogFile::framed(std::string_view bytes) {
  const std::uint32_t header[2] = {static_cast<std::uint32_t>(bytes.size()), crc32(bytes)};
  std::string out(reinterpret_cast<const char*>(header), kHeader);
  return out.append(bytes);
}

Status LogFile::open(const std::string& path, const std::function<bool(std::string_view)>& frame) {
  path_ = path;
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd_ < 0) return failure(path, "open", errno);
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) return fail(Code::failed_precondition, path + " is in use by another daemon; give each its own work_dir");
  // A file is only there after a crash if its directory says so.
  const int dir = ::open(std::filesystem::path(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir >= 0) ::fsync(dir), ::close(dir);
  std::string all;
  char block[65536];
  ssize_t n = 0;
  while ((n = ::read(fd_, block, sizeof block)) > 0) all.append(block, static_cast<std::size_t>(n));
  if (n < 0) return failure(path, "read", errno);
  std::size_t at = 0;
  while (all.size() - at >= kHeader) {
    std::uint32_t header[2];
    std::memcpy(header, all.data() + at, kHeader);
    if (header[0] > all.size() - at - kHeader) break;  // half a frame
    const std::string_view bytes(all.data() + at + kHeader, header[0]);
    const bool last = at + kHeader + header[0] == all.size();
    if (crc32(bytes) != header[1] || !frame(bytes)) {
      if (last) break;
      return fail(Code::data_loss, path + " is damaged at byte " + std::to_string(at) + "; restore it from a backup, or move it away to begin empty");
    }
    at += kHeader + header[0];
  }
  if (::ftruncate(fd_, static_cast<off_t>(at)) != 0 || ::lseek(fd_, static_cast<off_t>(at), SEEK_SET) < 0) return failure(path, "truncate", errno);
  size_ = at;
  return ok;
}

Status LogFile::append(std::string_view frames, bool sync) {
  if (broken_) return fail(Code::unavailable, path_ + " accepts nothing more after an error of the disk; restart the daemon");
  int error = 0;
  for (std::size_t at = 0; at < frames.size() && error == 0;) {
    const ssize_t n = ::write(fd_, frames.data() + at, frames.size() - at);
    if (n < 0 && errno != EINTR) error = errno;
    else if (n > 0) at += static_cast<std::size_t>(n);
  }
  if (error != 0) {
    // Nothing was promised yet: back to where we were, and go on when there is room.
    if (::ftruncate(fd_, static_cast<off_t>(size_)) != 0 || ::lseek(fd_, static_cast<off_t>(size_), SEEK_SET) < 0) broken_ = true;
    return failure(path_, "write", error);
  }
  // A failed fsync may have thrown the pages away; trying again would answer OK for what is lost.
  if (sync && ::fdatasync(fd_) != 0) {
    broken_ = true;
    return failure(path_, "sync", errno);
  }
  size_ += frames.size();
  return ok;
}

}  // namespace @NAME_ID@
