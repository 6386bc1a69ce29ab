// Writing below one directory without ever leaving it: every path is walked component by component with openat and
// O_NOFOLLOW, so neither "..", absolute paths nor links already there lead outside. What is made belongs to the owner.
#pragma once

#include <gantry/result.hpp>

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::fetcher_curl {

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

 private:
  int fd_ = -1;
};

// Whose files the results are. `change` is false when there is no user, or no right to give files away.
struct Owner {
  bool change = false;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};
// NOT_FOUND if there is no such user. Empty user: nothing changes.
[[nodiscard]] Result<Owner> find_owner(const std::string& user);

// Opens a file for reading with the owner's rights, not the daemon's: a task must not fetch what its user cannot read.
[[nodiscard]] Result<Fd> open_as(const Owner& owner, const std::string& path);

[[nodiscard]] Error os_error(std::string what, int number);

// Splits a relative path; INVALID_ARGUMENT for absolute ones, "..", control characters and nothing at all.
[[nodiscard]] Result<std::vector<std::string>> split_relative(std::string_view path);

// Polled by everything that takes long; true = give up with CANCELLED.
using Cancelled = std::function<bool()>;
[[nodiscard]] Error cancelled_error();

class Tree {
 public:
  [[nodiscard]] static Result<Tree> open(const std::string& directory, Owner owner);

  // A new empty file in place of whatever non-directory was there; missing directories are made.
  [[nodiscard]] Result<Fd> create(std::string_view path, mode_t mode) const;
  [[nodiscard]] Status directory(std::string_view path, mode_t mode) const;
  [[nodiscard]] Status symlink(std::string_view path, const std::string& target) const;
  [[nodiscard]] Status hardlink(std::string_view path, std::string_view existing) const;
  [[nodiscard]] Status rename(std::string_view from, std::string_view to) const;
  void remove(std::string_view path) const;
  [[nodiscard]] Status set_mode(int fd, mode_t mode) const;

 private:
  Tree(Fd root, Owner owner) : root_(std::move(root)), owner_(std::move(owner)) {}
  // The directory that holds the last component, which goes to `leaf`.
  [[nodiscard]] Result<Fd> parent(std::string_view path, std::string& leaf, bool make) const;
  [[nodiscard]] Status give(int dir, const std::string& leaf) const;
  Fd root_;
  Owner owner_;
};

// Copies all of `from` to `to`; RESOURCE_EXHAUSTED over `limit` bytes.
[[nodiscard]] Status copy(int from, int to, std::uint64_t limit, const Cancelled& cancelled);
[[nodiscard]] Status write_all(int fd, const void* data, std::size_t size);

}  // namespace gantry::fetcher_curl
