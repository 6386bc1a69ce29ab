#include "transfer.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace gantry::image_oci {

Result<std::shared_ptr<Transfer>> Transfer::to_file(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat st {};
  if (!file || ::fstat(file.get(), &st) != 0) return os_error("open " + path, errno);
  if (::lseek(file.get(), 0, SEEK_END) < 0) return os_error("open " + path, errno);
  auto t = std::make_shared<Transfer>();
  t->file_ = std::make_shared<const Fd>(std::move(file));
  t->had_ = static_cast<std::uint64_t>(st.st_size);
  t->available_ = t->had_;
  return t;
}

std::shared_ptr<Transfer> Transfer::of_region(std::shared_ptr<const Fd> file, std::uint64_t offset, std::uint64_t size) {
  auto t = std::make_shared<Transfer>();
  t->file_ = std::move(file);
  t->offset_ = offset;
  t->had_ = size;
  t->available_ = size;
  t->ended_ = Status(ok);
  return t;
}

Status Transfer::append(const char* data, std::size_t size) {
  GANTRY_CHECK(write_all(file_->get(), data, size));
  {
    const std::lock_guard lock(mutex_);
    available_ += size;
  }
  changed_.notify_all();
  return ok;
}

void Transfer::end(Status status) {
  {
    const std::lock_guard lock(mutex_);
    if (!ended_) ended_ = std::move(status);
  }
  changed_.notify_all();
}

Result<std::size_t> Transfer::read(void* data, std::size_t size, const Cancelled& cancelled) {
  std::uint64_t at = 0, room = 0;
  {
    std::unique_lock lock(mutex_);
    while (available_ <= read_ && !ended_) {
      changed_.wait_for(lock, std::chrono::milliseconds(100));
      if (cancelled()) return cancelled_error();
    }
    if (available_ <= read_) {
      if (!*ended_) return ended_->error();
      return std::size_t{0};
    }
    at = read_;
    room = available_ - read_;
    read_ += std::min<std::uint64_t>(size, room);
  }
  return peek(at, data, static_cast<std::size_t>(std::min<std::uint64_t>(size, room)));
}

Status Transfer::finish(const Cancelled& cancelled) {
  std::unique_lock lock(mutex_);
  while (!ended_) {
    changed_.wait_for(lock, std::chrono::milliseconds(100));
    if (cancelled()) return cancelled_error();
  }
  return *ended_;
}

Result<std::size_t> Transfer::peek(std::uint64_t at, void* data, std::size_t size) const {
  auto* p = static_cast<char*>(data);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = ::pread(file_->get(), p + done, size - done, static_cast<off_t>(offset_ + at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error("read what has been received", errno);
    if (n == 0) return fail(Code::data_loss, "the file being read has become shorter");
    done += static_cast<std::size_t>(n);
  }
  return done;
}

}  // namespace gantry::image_oci
