#include "tree.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cerrno>

namespace gantry::image_oci {
namespace {

int open_in(int root, const char* path, std::uint64_t flags, std::uint64_t resolve) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = resolve | RESOLVE_NO_MAGICLINKS;
  for (;;) {
    const long fd = ::syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd >= 0 || (errno != EINTR && errno != EAGAIN)) return static_cast<int>(fd);
  }
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

// As a file system resolves it whose root is the layer: ".." of the root is the root.
std::string within_root(const std::string& path) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part != "..")
      parts.push_back(std::move(part));
    else if (!parts.empty())
      parts.pop_back();
  }
  std::string out;
  for (const std::string& part : parts) (out += out.empty() ? "" : "/") += part;
  return out;
}

}  // namespace

Result<Fd> open_below(int root, const std::string& path) {
  Fd fd(open_in(root, path.c_str(), O_RDONLY | O_NONBLOCK, RESOLVE_BENEATH));
  if (!fd) return os_error("open " + path, errno);
  return fd;
}

Result<std::string> clean_path(std::string_view path) {
  const auto bad = [&](const char* why) {
    std::string shown(path.substr(0, 200));
    for (char& c : shown)
      if (static_cast<unsigned char>(c) < 0x20) c = '?';
    return fail(Code::invalid_argument, "path \"" + shown + "\" " + why);
  };
  if (path.find('\0') != std::string_view::npos) return bad("has a zero byte");
  if (path.size() > 4095) return bad("is longer than 4095 bytes");
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (parts.empty()) return bad("leads out of the layer");
      parts.pop_back();
      continue;
    }
    if (part.size() > 255) return bad("has a component longer than 255 bytes");
    parts.push_back(part);
  }
  std::string out;
  for (const auto part : parts) (out += out.empty() ? "" : "/") += part;
  return out;
}

Result<Fd> Tree::directory(const std::string& path, bool make, int links) {
  const std::string at = path.empty() ? "." : path;
  Fd fd(open_in(root_.get(), at.c_str(), O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT));
  if (fd) return fd;
  if (links > 40) return os_error("directory " + path, ELOOP);
  if (errno != ENOENT || !make) return os_error("directory " + path, errno);
  // Upwards to what is there, then down again.
  std::vector<std::string> missing;
  std::string up = path;
  Fd above;
  do {
    missing.push_back(up.substr(up.rfind('/') + 1));
    up = parent_of(up);
    above = Fd(open_in(root_.get(), up.empty() ? "." : up.c_str(), O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT));
  } while (!above && errno == ENOENT && !up.empty());
  if (!above) return os_error("directory " + up, errno);
  for (; !missing.empty(); missing.pop_back()) {
    const std::string& name = missing.back();
    up += (up.empty() ? "" : "/") + name;
    if (::mkdirat(above.get(), name.c_str(), 0755) != 0) {
      if (errno != EEXIST) return os_error("create directory " + up, errno);
      // A link to what is not in this layer: as in the whole image, what comes below it goes to where it points.
      char to[4096];
      const ssize_t n = ::readlinkat(above.get(), name.c_str(), to, sizeof to);
      if (n <= 0) return os_error("directory " + up, ENOTDIR);
      std::string aim =
          to[0] == '/' ? std::string(to, static_cast<std::size_t>(n)) : parent_of(up) + "/" + std::string(to, static_cast<std::size_t>(n));
      for (missing.pop_back(); !missing.empty(); missing.pop_back()) aim += "/" + missing.back();
      if (aim.size() > 8192) return os_error("directory " + path, ENAMETOOLONG);
      return directory(within_root(aim), make, links + 1);
    }
    (void)::fchmodat(above.get(), name.c_str(), 0755, 0);  // whatever the umask says
    implied.push_back(up);
    Fd next(::openat(above.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next) return os_error("directory " + up, errno);
    above = std::move(next);
  }
  return above;
}

Result<Tree::Place> Tree::place(const std::string& path) {
  const std::string above = parent_of(path);
  if (!has_last_ || above != last_path_) {
    has_last_ = false;
    // A whiteout on the way: what it hides is replaced by a new directory.
    auto fd = directory(above, true);
    if (!fd && (fd.error().code != Code::invalid_argument || above.empty())) return std::move(fd).error();
    if (!fd) {
      GANTRY_TRY(const Place up, place(above));  // those further up
      struct stat st {};
      const bool hidden = ::fstatat(up.directory, up.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
      if (hidden) {
        GANTRY_TRY([[maybe_unused]] const bool was, clear(up));
      }
      fd = directory(above, true);
      if (!fd) return std::move(fd).error();
      if (hidden) GANTRY_CHECK(hide_below(above));
    }
    last_ = std::move(*fd);
    last_path_ = above;
    has_last_ = true;
  }
  return Place{last_.get(), above.empty() ? path : path.substr(above.size() + 1)};
}

Result<Tree::Place> Tree::find(const std::string& path) {
  const std::string above = parent_of(path);
  GANTRY_TRY(last_, directory(above, false));
  last_path_ = above;
  has_last_ = true;
  return Place{last_.get(), above.empty() ? path : path.substr(above.size() + 1)};
}

Result<bool> Tree::clear(const Place& at) {
  struct stat st {};
  if (::fstatat(at.directory, at.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return os_error("look at " + at.name, errno);
  }
  if (Status s = remove_tree(at.directory, at.name); !s) return std::move(s).error();
  if (!S_ISREG(st.st_mode)) has_last_ = false;  // it may have been the way to the directory of the entry before
  return S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

bool Tree::is_directory(const Place& at) const {
  struct stat st {};
  return ::fstatat(at.directory, at.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

Status Tree::set(int fd, const Attributes& a) const {
  if (privileged_ && ::fchown(fd, a.uid, a.gid) != 0)
    return os_error("set the owner to " + std::to_string(a.uid) + ":" + std::to_string(a.gid), errno);
  // After the owner, whose change drops set-user-id bits and capabilities.
  if (::fchmod(fd, a.mode & 07777) != 0) return os_error("set the mode", errno);
  for (const auto& [name, value] : a.xattrs) {
    if (::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) == 0) continue;
    if (errno == ENOTSUP || (errno == EPERM && !privileged_)) continue;  // a file system without them, or no right to
    if (errno == EPERM && name.starts_with("user.")) continue;           // not on this type of file
    return os_error("set the attribute " + name, errno);
  }
  const timespec times[2] = {a.mtime, a.mtime};
  if (::futimens(fd, times) != 0) return os_error("set the time", errno);
  return ok;
}

Status Tree::set_link(const Place& at, const Attributes& a) const {
  if (privileged_ && ::fchownat(at.directory, at.name.c_str(), a.uid, a.gid, AT_SYMLINK_NOFOLLOW) != 0)
    return os_error("set the owner", errno);
  struct stat st {};
  const bool link = ::fstatat(at.directory, at.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
  if (!link && ::fchmodat(at.directory, at.name.c_str(), a.mode & 07777, 0) != 0) return os_error("set the mode", errno);
  const timespec times[2] = {a.mtime, a.mtime};
  if (::utimensat(at.directory, at.name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) return os_error("set the time", errno);
  return ok;
}

Status Tree::set_directory(const std::string& path, const Attributes& a) {
  // In case a link has taken its place since: it is not followed.
  GANTRY_TRY(const Fd fd, [&]() -> Result<Fd> {
    Fd d(open_in(root_.get(), path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, RESOLVE_IN_ROOT));
    if (!d) return os_error("directory " + path, errno);
    return d;
  }());
  return set(fd.get(), a);
}

Status Tree::hide_below(const std::string& path) {
  GANTRY_TRY(const Fd fd, directory(path, true));
  if (::fsetxattr(fd.get(), "trusted.overlay.opaque", "y", 1, 0) == 0) return ok;
  if (errno == EPERM || errno == ENOTSUP) {
    ++left_out;
    if (!privileged_) return ok;
  }
  return os_error("make " + path + " opaque", errno);
}

Status Tree::whiteout(const Place& at) const {
  if (::mknodat(at.directory, at.name.c_str(), S_IFCHR, makedev(0, 0)) != 0) return os_error("make a whiteout of " + at.name, errno);
  return ok;
}

}  // namespace gantry::image_oci
