#include "sandbox.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace @NAME_ID@ {

using namespace gantry;

namespace {

Error failure(const std::string& what, int error) {
  const Code code = error == ENOENT ? Code::not_found : error == EACCES || error == EPERM ? Code::permission_denied
                    : error == ENOSPC || error == EDQUOT ? Code::resource_exhausted : Code::unavailable;
  return fail(code, what + ": " + std::strerror(error));
}

// Takes the rights of an account for opening files, for this thread alone; glibc's own calls would change all threads.
class Rights {
 public:
  explicit Rights(const Owner& o) {
    if (::geteuid() != 0 || o.uid == 0) return;
    int n = ::getgroups(0, nullptr);
    before_.resize(static_cast<std::size_t>(n > 0 ? n : 0));
    n = ::getgroups(n, before_.data());
    std::vector<gid_t> groups(64);
    int count = static_cast<int>(groups.size());
    if (::getgrouplist(o.name.c_str(), o.gid, groups.data(), &count) < 0) {
      groups.resize(static_cast<std::size_t>(count));
      ::getgrouplist(o.name.c_str(), o.gid, groups.data(), &count);
    }
    taken_ = true;
    (void)::syscall(SYS_setgroups, count, groups.data());
    ::setfsgid(o.gid);
    ::setfsuid(o.uid);
  }
  ~Rights() {
    if (!taken_) return;
    ::setfsuid(0);
    ::setfsgid(::getegid());
    (void)::syscall(SYS_setgroups, before_.size(), before_.data());
  }
  Rights(const Rights&) = delete;
  Rights& operator=(const Rights&) = delete;

 private:
  std::vector<gid_t> before_;
  bool taken_ = false;
};

}  // namespace

Result<std::optional<Owner>> find_owner(const std::string& user) {
  if (user.empty()) return std::optional<Owner>();
  passwd entry{}, *found = nullptr;
  std::vector<char> room(16384);
  if (::getpwnam_r(user.c_str(), &entry, room.data(), room.size(), &found) != 0 || !found)
    return fail(Code::invalid_argument, "there is no account \"" + user.substr(0, 64) + "\" on this agent");
  return std::optional<Owner>(Owner{entry.pw_uid, entry.pw_gid, user});
}

Result<int> open_as(const std::string& path, const std::optional<Owner>& owner) {
  std::optional<Rights> rights;
  if (owner) rights.emplace(*owner);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return failure(path, errno);
  struct stat st {};
  if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) return fd;
  ::close(fd);
  return fail(Code::invalid_argument, path + " is no regular file");
}

Sandbox::~Sandbox() {
  if (dir_ >= 0) ::close(dir_);
}

Status Sandbox::open(const std::string& directory, std::optional<Owner> owner) {
  owner_ = std::move(owner);
  dir_ = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir_ < 0) return failure("sandbox " + directory, errno);
  return ok;
}

void Sandbox::give(int dir, const char* name) const {
  // Without the right to give files away they stay ours, as for an agent run by an ordinary user.
  if (owner_ && ::fchownat(dir, name, owner_->uid, owner_->gid, AT_SYMLINK_NOFOLLOW) != 0) errno = 0;
}

Result<std::pair<int, std::string>> Sandbox::parent(const std::string& path) const {
  if (path.empty() || path.front() == '/') return fail(Code::invalid_argument, "\"" + path.substr(0, 80) + "\" is no name below the sandbox");
  int at = ::dup(dir_);
  std::size_t begin = 0;
  for (;;) {
    std::size_t end = path.find('/', begin);
    const std::string part = path.substr(begin, end == std::string::npos ? end : end - begin);
    const bool last = end == std::string::npos || path.find_first_not_of('/', end) == std::string::npos;
    if (part == ".." || (last && (part.empty() || part == ".")) || part.find('\0') != std::string::npos) {
      ::close(at);
      return fail(Code::invalid_argument, "\"" + path.substr(0, 80) + "\" is no name below the sandbox");
    }
    if (last) return std::pair{at, part};
    begin = end + 1;
    if (part.empty() || part == ".") continue;
    if (::mkdirat(at, part.c_str(), 0755) == 0) give(at, part.c_str());
    const int next = ::openat(at, part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const int error = errno;
    ::close(at);
    if (next < 0) return failure("directory " + part + " of the sandbox", error);
    at = next;
  }
}

Result<Sandbox::File> Sandbox::create(const std::string& path) const {
  GANTRY_TRY(auto place, parent(path));
  File f;
  f.dir_ = place.first;
  f.name_ = place.second;
  const std::string part = "." + f.name_.substr(0, 200) + ".part";
  ::unlinkat(f.dir_, part.c_str(), 0);
  f.fd_ = ::openat(f.dir_, part.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (f.fd_ < 0) return failure("write " + path, errno);
  give(f.dir_, part.c_str());
  return f;
}

Status Sandbox::make_directories(const std::string& path) const {
  GANTRY_TRY(auto place, parent(path + "/x"));
  ::close(place.first);
  return ok;
}

Status Sandbox::link(const std::string& path, const std::string& target) const {
  GANTRY_TRY(auto place, parent(path));
  ::unlinkat(place.first, place.second.c_str(), 0);
  const int error = ::symlinkat(target.c_str(), place.first, place.second.c_str()) == 0 ? 0 : errno;
  if (!error) give(place.first, place.second.c_str());
  ::close(place.first);
  if (error) return failure("link " + path, error);
  return ok;
}

Sandbox::File::~File() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlinkat(dir_, ("." + name_.substr(0, 200) + ".part").c_str(), 0);
  }
  if (dir_ >= 0) ::close(dir_);
}

Status Sandbox::File::write(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno != EINTR) return failure("write " + name_, errno);
    if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return ok;
}

// A file appears under its name when it is whole; a link of that name is replaced, not followed.
Status Sandbox::File::keep(mode_t mode) {
  if (::fchmod(fd_, mode) != 0 || ::renameat(dir_, ("." + name_.substr(0, 200) + ".part").c_str(), dir_, name_.c_str()) != 0)
    return failure("write " + name_, errno);
  ::close(std::exchange(fd_, -1));
  return ok;
}

}  // namespace @NAME_ID@
