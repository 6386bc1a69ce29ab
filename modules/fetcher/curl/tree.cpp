#include "tree.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

namespace gantry::fetcher_curl {
namespace {

// Takes the file system identity of the owner on this thread only; gives it back when it goes.
class Identity {
 public:
  explicit Identity(const Owner& owner) : active_(owner.change) {
    if (!active_) return;
    const int n = static_cast<int>(::syscall(SYS_getgroups, 0, nullptr));
    groups_.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    if (n > 0) ::syscall(SYS_getgroups, n, groups_.data());
    // The raw call changes this thread alone; the C library's would change the whole process.
    ::syscall(SYS_setgroups, owner.groups.size(), owner.groups.data());
    gid_ = static_cast<gid_t>(::setfsgid(owner.gid));
    uid_ = static_cast<uid_t>(::setfsuid(owner.uid));
  }
  ~Identity() {
    if (!active_) return;
    ::setfsuid(uid_);
    ::setfsgid(gid_);
    ::syscall(SYS_setgroups, groups_.size(), groups_.data());
  }
  Identity(const Identity&) = delete;
  Identity& operator=(const Identity&) = delete;

 private:
  bool active_;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
  std::vector<gid_t> groups_;
};

}  // namespace

Error os_error(std::string what, int number) {
  Code code = Code::internal;
  switch (number) {
    case ENOENT: code = Code::not_found; break;
    case EACCES:
    case EPERM: code = Code::permission_denied; break;
    case ENOSPC:
    case EDQUOT: code = Code::resource_exhausted; break;
    case ELOOP:
    case ENOTDIR: code = Code::failed_precondition; break;
    default: break;
  }
  return fail(code, std::move(what) + ": " + std::strerror(number));
}

Error cancelled_error() { return fail(Code::cancelled, "the fetch was cancelled"); }

Result<Owner> find_owner(const std::string& user) {
  Owner owner;
  if (user.empty()) return owner;
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  if (const int e = ::getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found)) return os_error("look up user '" + user + "'", e);
  if (!found) return fail(Code::not_found, "user '" + user + "' does not exist on this agent");
  owner.uid = found->pw_uid;
  owner.gid = found->pw_gid;
  if (::geteuid() != 0) {
    if (found->pw_uid != ::geteuid()) return fail(Code::permission_denied, "files for user '" + user + "' need an agent that runs as root");
    return owner;
  }
  owner.change = true;
  int n = 64;
  owner.groups.resize(64);
  if (::getgrouplist(user.c_str(), owner.gid, owner.groups.data(), &n) < 0) {
    owner.groups.resize(static_cast<std::size_t>(n));
    ::getgrouplist(user.c_str(), owner.gid, owner.groups.data(), &n);
  }
  owner.groups.resize(static_cast<std::size_t>(n));
  return owner;
}

Result<Fd> open_as(const Owner& owner, const std::string& path) {
  int fd = -1;
  int e = 0;
  {
    const Identity identity(owner);
    // Opening a fifo must not wait for a writer.
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    e = errno;
  }
  if (fd < 0) return os_error("open " + path, e);
  Fd file(fd);
  struct stat st {};
  if (::fstat(fd, &st) != 0) return os_error("look at " + path, errno);
  if (!S_ISREG(st.st_mode)) return fail(Code::invalid_argument, path + " is not a regular file");
  return file;
}

Result<std::vector<std::string>> split_relative(std::string_view path) {
  const auto bad = [path](const char* why) { return fail(Code::invalid_argument, "path '" + std::string(path) + "' " + why); };
  if (path.empty()) return fail(Code::invalid_argument, "a path is empty");
  if (path.front() == '/') return bad("is absolute; only paths below the sandbox are allowed");
  std::vector<std::string> parts;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") return fail(Code::invalid_argument, "a path has a part '..'; only paths below the sandbox are allowed");
    if (part.size() > 255) return fail(Code::invalid_argument, "a path has a part longer than 255 bytes");
    if (part.find('\0') != std::string_view::npos) return fail(Code::invalid_argument, "a path has a zero byte");
    parts.emplace_back(part);
  }
  return parts;
}

Result<Tree> Tree::open(const std::string& directory, Owner owner) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return os_error("open the sandbox " + directory, errno);
  return Tree(Fd(fd), std::move(owner));
}

Status Tree::give(int dir, const std::string& leaf) const {
  if (!owner_.change) return ok;
  if (::fchownat(dir, leaf.c_str(), owner_.uid, owner_.gid, AT_SYMLINK_NOFOLLOW) != 0) return os_error("give '" + leaf + "' to its user", errno);
  return ok;
}

Result<Fd> Tree::parent(std::string_view path, std::string& leaf, bool make) const {
  GANTRY_TRY(auto parts, split_relative(path));
  if (parts.empty()) return fail(Code::invalid_argument, "path '" + std::string(path) + "' names the sandbox itself");
  leaf = std::move(parts.back());
  parts.pop_back();
  Fd dir(::fcntl(root_.get(), F_DUPFD_CLOEXEC, 0));
  if (dir.get() < 0) return os_error("duplicate a descriptor", errno);
  for (const auto& part : parts) {
    bool made = false;
    if (make && ::mkdirat(dir.get(), part.c_str(), 0755) == 0) made = true;
    else if (make && errno != EEXIST) return os_error("make directory '" + part + "'", errno);
    if (made) {
      GANTRY_CHECK(give(dir.get(), part));
    }
    const int next = ::openat(dir.get(), part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0) return os_error("'" + part + "' in '" + std::string(path) + "' is no plain directory", errno);
    dir = Fd(next);
  }
  return dir;
}

Result<Fd> Tree::create(std::string_view path, mode_t mode) const {
  std::string leaf;
  GANTRY_TRY(Fd dir, parent(path, leaf, true));
  // Writing into what is there would follow links and change hard-linked files.
  if (::unlinkat(dir.get(), leaf.c_str(), 0) != 0 && errno != ENOENT) return os_error("replace '" + std::string(path) + "'", errno);
  const int fd = ::openat(dir.get(), leaf.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return os_error("create '" + std::string(path) + "'", errno);
  Fd file(fd);
  GANTRY_CHECK(give(dir.get(), leaf));
  GANTRY_CHECK(set_mode(fd, mode));
  return file;
}

Status Tree::set_mode(int fd, mode_t mode) const {
  // Set-user-id and friends of an outsider's archive are not for us to grant.
  if (::fchmod(fd, mode & 0777) != 0) return os_error("set the mode of a file", errno);
  return ok;
}

Status Tree::directory(std::string_view path, mode_t mode) const {
  GANTRY_TRY(auto parts, split_relative(path));
  if (parts.empty()) return ok;  // "./" of many archives
  std::string leaf;
  GANTRY_TRY(Fd dir, parent(path, leaf, true));
  if (::mkdirat(dir.get(), leaf.c_str(), 0755) == 0) {
    GANTRY_CHECK(give(dir.get(), leaf));
  } else if (errno != EEXIST) {
    return os_error("make directory '" + std::string(path) + "'", errno);
  }
  Fd made(::openat(dir.get(), leaf.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (made.get() < 0) return os_error("'" + std::string(path) + "' is no plain directory", errno);
  return set_mode(made.get(), (mode & 0777) | 0700);
}

Status Tree::symlink(std::string_view path, const std::string& target) const {
  std::string leaf;
  GANTRY_TRY(Fd dir, parent(path, leaf, true));
  if (::unlinkat(dir.get(), leaf.c_str(), 0) != 0 && errno != ENOENT) return os_error("replace '" + std::string(path) + "'", errno);
  if (::symlinkat(target.c_str(), dir.get(), leaf.c_str()) != 0) return os_error("link '" + std::string(path) + "'", errno);
  return give(dir.get(), leaf);
}

Status Tree::hardlink(std::string_view path, std::string_view existing) const {
  std::string leaf, source;
  GANTRY_TRY(Fd from, parent(existing, source, false));
  GANTRY_TRY(Fd dir, parent(path, leaf, true));
  struct stat st {};
  if (::fstatat(from.get(), source.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return os_error("link to '" + std::string(existing) + "'", errno);
  if (!S_ISREG(st.st_mode)) return fail(Code::failed_precondition, "link to '" + std::string(existing) + "', which is no regular file");
  if (::unlinkat(dir.get(), leaf.c_str(), 0) != 0 && errno != ENOENT) return os_error("replace '" + std::string(path) + "'", errno);
  if (::linkat(from.get(), source.c_str(), dir.get(), leaf.c_str(), 0) != 0) return os_error("link '" + std::string(path) + "'", errno);
  return ok;
}

Status Tree::rename(std::string_view from, std::string_view to) const {
  std::string source, leaf;
  GANTRY_TRY(Fd a, parent(from, source, false));
  GANTRY_TRY(Fd b, parent(to, leaf, true));
  if (::renameat(a.get(), source.c_str(), b.get(), leaf.c_str()) != 0) return os_error("put '" + std::string(to) + "' in place", errno);
  return ok;
}

void Tree::remove(std::string_view path) const {
  std::string leaf;
  if (auto dir = parent(path, leaf, false)) ::unlinkat(dir->get(), leaf.c_str(), 0);
}

Status write_all(int fd, const void* data, std::size_t size) {
  const auto* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error("write", errno);
    p += n;
    size -= static_cast<std::size_t>(n);
  }
  return ok;
}

Status copy(int from, int to, std::uint64_t limit, const Cancelled& cancelled) {
  std::vector<char> buffer(256 * 1024);
  std::uint64_t total = 0;
  for (off_t at = 0;;) {
    if (cancelled()) return cancelled_error();
    const ssize_t n = ::pread(from, buffer.data(), buffer.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error("read", errno);
    if (n == 0) return ok;
    at += n;
    total += static_cast<std::uint64_t>(n);
    if (total > limit) return fail(Code::resource_exhausted, "larger than max_size (" + std::to_string(limit) + " bytes)");
    GANTRY_CHECK(write_all(to, buffer.data(), static_cast<std::size_t>(n)));
  }
}

}  // namespace gantry::fetcher_curl
