#include "cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

namespace gantry::fetcher_curl {

Status Cache::open(const std::string& directory) {
  const std::lock_guard lock(mutex_);
  std::error_code e;
  std::filesystem::remove_all(directory, e);
  std::filesystem::create_directories(directory, e);
  if (e) return fail(Code::failed_precondition, "the cache " + directory + " cannot be made: " + e.message());
  // Files of one user must not be readable to another.
  ::chmod(directory.c_str(), 0700);
  directory_ = directory;
  entries_.clear();
  ages_.clear();
  used_ = 0;
  return ok;
}

void Cache::set_capacity(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  capacity_ = bytes;
  (void)make_room(0);
}

// Files that are being read stay readable after their name is gone, so nothing needs pinning.
void Cache::drop(std::map<std::string, Entry>::iterator it) {
  ::unlink(it->second.path.c_str());
  used_ -= it->second.size;
  ages_.erase(it->second.age);
  entries_.erase(it);
}

bool Cache::make_room(std::uint64_t bytes) {
  if (bytes > capacity_) return false;
  while (used_ > capacity_ - bytes && !ages_.empty()) drop(entries_.find(ages_.front()));
  return used_ <= capacity_ - bytes;
}

Result<std::optional<Fd>> Cache::get(const std::string& user, const std::string& uri, const std::function<Status(int)>& fill,
                                     const Cancelled& cancelled) {
  const std::string key = user + '\n' + uri;
  std::unique_lock lock(mutex_);
  if (directory_.empty() || capacity_ == 0) return std::optional<Fd>();
  for (auto it = entries_.find(key); it != entries_.end(); it = entries_.find(key)) {
    if (it->second.ready) {
      Fd file(::open(it->second.path.c_str(), O_RDONLY | O_CLOEXEC));
      if (file.get() < 0) {
        drop(it);  // somebody cleaned up below us
        break;
      }
      ages_.splice(ages_.end(), ages_, it->second.age);
      ++hits_;
      return std::optional<Fd>(std::move(file));
    }
    changed_.wait_for(lock, std::chrono::milliseconds(50));
    if (cancelled()) return cancelled_error();
  }
  const std::string path = directory_ + "/" + std::to_string(++number_);
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.get() < 0) return std::optional<Fd>();
  entries_[key].path = path;
  lock.unlock();
  Status filled = fill(file.get());
  struct stat st {};
  if (filled && ::fstat(file.get(), &st) != 0) filled = os_error("look at the cached file", errno);
  lock.lock();
  changed_.notify_all();
  const auto it = entries_.find(key);
  const auto size = static_cast<std::uint64_t>(st.st_size);
  if (!filled || !make_room(size)) {
    ::unlink(path.c_str());
    entries_.erase(it);
    if (filled) return std::optional<Fd>(std::move(file));  // too large to keep, but fetched
    // No room on the disk of the cache says nothing about the sandbox.
    if (filled.error().code == Code::resource_exhausted) return std::optional<Fd>();
    return std::move(filled).error();
  }
  used_ += size;
  it->second.size = size;
  it->second.ready = true;
  it->second.age = ages_.insert(ages_.end(), key);
  return std::optional<Fd>(std::move(file));
}

std::uint64_t Cache::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}
std::uint64_t Cache::hits() const {
  const std::lock_guard lock(mutex_);
  return hits_;
}

}  // namespace gantry::fetcher_curl
