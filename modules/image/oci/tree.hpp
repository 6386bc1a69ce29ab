// Writing below one directory without ever leaving it, whatever names and links a stranger's archive has. A path is followed as
// in a root of its own (openat2, RESOLVE_IN_ROOT): links in it are obeyed, but lead nowhere else. The last component is never
// followed.
#pragma once

#include "base.hpp"

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::image_oci {

// A file for reading below `root`; nothing outside, and no file that is waited for (fifo).
[[nodiscard]] Result<Fd> open_below(int root, const std::string& path);

// The path without "", "." and with ".." taken back: "./a//b/../c" -> "a/c". Empty: the root itself. INVALID_ARGUMENT if it leads
// out, has a zero byte, or is too long.
[[nodiscard]] Result<std::string> clean_path(std::string_view path);

// What a file is beside its content.
struct Attributes {
  mode_t mode = 0644;  // 07777
  uid_t uid = 0;
  gid_t gid = 0;
  timespec mtime{};
  std::vector<std::pair<std::string, std::string>> xattrs;
};

class Tree {
 public:
  // `root` is a directory's descriptor; `privileged`: owners, devices and trusted attributes can be given.
  Tree(Fd root, bool privileged) : root_(std::move(root)), privileged_(privileged) {}

  // Where an entry goes: its directory, and its name in there. Directories that are missing are made, and noted in `implied`.
  struct Place {
    int directory = -1;  // of the tree; valid until the next call
    std::string name;
  };
  [[nodiscard]] Result<Place> place(const std::string& path);
  // The same without making anything; NOT_FOUND.
  [[nodiscard]] Result<Place> find(const std::string& path);

  // Whatever is at the place goes. Whether it was a whiteout.
  [[nodiscard]] Result<bool> clear(const Place& at);
  [[nodiscard]] bool is_directory(const Place& at) const;
  [[nodiscard]] Status set(int fd, const Attributes& a) const;
  [[nodiscard]] Status set_link(const Place& at, const Attributes& a) const;
  // Of a directory, after everything in it is made.
  [[nodiscard]] Status set_directory(const std::string& path, const Attributes& a);
  [[nodiscard]] Status hide_below(const std::string& directory);  // opaque
  [[nodiscard]] Status whiteout(const Place& at) const;

  [[nodiscard]] bool privileged() const { return privileged_; }
  [[nodiscard]] int root() const { return root_.get(); }
  std::vector<std::string> implied;  // directories made because something was put into them
  std::uint64_t left_out = 0;        // attributes that could not be set for lack of rights

 private:
  [[nodiscard]] Result<Fd> directory(const std::string& path, bool make, int links = 0);
  Fd root_;
  bool privileged_;
  Fd last_;  // entries come directory by directory
  std::string last_path_;
  bool has_last_ = false;
};

}  // namespace gantry::image_oci
