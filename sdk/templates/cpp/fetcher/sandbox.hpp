// Writing below one directory, whatever lies in it. The task owns what is there: no link is followed, no name leads out.
#pragma once

#include <gantry/result.hpp>

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace @NAME_ID@ {

struct Owner {
  uid_t uid;
  gid_t gid;
  std::string name;
};
// Nothing for the empty user: results stay as they are made. An account that does not exist is an error.
[[nodiscard]] gantry::Result<std::optional<Owner>> find_owner(const std::string& user);

// A file of the user's own choice, read with the user's rights and not with ours. Blocking; on any thread.
[[nodiscard]] gantry::Result<int> open_as(const std::string& path, const std::optional<Owner>& owner);

class Sandbox {
 public:
  Sandbox() = default;
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;
  ~Sandbox();

  [[nodiscard]] gantry::Status open(const std::string& directory, std::optional<Owner> owner);
  // A file under a name of its own, renamed to `path` by keep(); gone if it is not kept. `path` is relative, without "..".
  class File {
   public:
    File() = default;
    File(File&& o) noexcept { *this = std::move(o); }
    File& operator=(File&& o) noexcept {
      std::swap(dir_, o.dir_), std::swap(fd_, o.fd_), std::swap(name_, o.name_);
      return *this;
    }
    ~File();
    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] gantry::Status write(std::string_view bytes) const;
    [[nodiscard]] gantry::Status keep(mode_t mode);

   private:
    friend class Sandbox;
    int dir_ = -1, fd_ = -1;
    std::string name_;
  };
  [[nodiscard]] gantry::Result<File> create(const std::string& path) const;
  [[nodiscard]] gantry::Status make_directories(const std::string& path) const;
  [[nodiscard]] gantry::Status link(const std::string& path, const std::string& target) const;

 private:
  // Descriptor of the directory that holds `path`, made where missing, and the last name.
  [[nodiscard]] gantry::Result<std::pair<int, std::string>> parent(const std::string& path) const;
  void give(int dir, const char* name) const;
  int dir_ = -1;
  std::optional<Owner> owner_;
};

}  // namespace @NAME_ID@
