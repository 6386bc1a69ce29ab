// Descriptors, files read and written whole, errors of the system.
#pragma once

#include <gantry/result.hpp>

#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace gantry::image_oci {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Polled by everything that takes long, from any thread; true: give up with CANCELLED.
using Cancelled = std::function<bool()>;
[[nodiscard]] Error cancelled_error();

// "what: Permission denied". ENOSPC and EDQUOT are RESOURCE_EXHAUSTED, ENOENT is NOT_FOUND, EACCES and EPERM
// are PERMISSION_DENIED, what comes of a wrong path INVALID_ARGUMENT, the rest INTERNAL.
[[nodiscard]] Error os_error(std::string what, int number);

[[nodiscard]] Status write_all(int fd, const void* data, std::size_t size);
// A file that must not be larger than `limit`; RESOURCE_EXHAUSTED if it is.
[[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t limit);
// Under another name until it is whole and on the disk: after a crash there is the old content or the new one.
[[nodiscard]] Status write_file(const std::string& path, std::string_view data);
[[nodiscard]] Status make_directory(const std::string& path, unsigned mode);
[[nodiscard]] Status sync_directory(const std::string& path);
// Whatever is there, whatever its modes; what is gone already is no error.
[[nodiscard]] Status remove_tree(int directory, const std::string& name);

}  // namespace gantry::image_oci
