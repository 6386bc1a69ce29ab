#include "disk.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace gantry::isolator_filesystem {
namespace {

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

Error cannot(const std::string& what) {
  const int e = errno;
  const Code code = e == ENOSPC || e == EDQUOT ? Code::resource_exhausted : e == EPERM || e == EACCES ? Code::permission_denied : Code::internal;
  return fail(code, "cannot " + what + ": " + std::strerror(e));
}

constexpr long tmpfs_magic = 0x01021994;

struct Node {
  const char* name;
  unsigned major, minor;
};
constexpr Node nodes[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
constexpr std::pair<const char*, const char*> links[] = {{"ptmx", "pts/ptmx"},      {"fd", "/proc/self/fd"},     {"stdin", "/proc/self/fd/0"},
                                                         {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"}};

Status make_dev(const std::string& dev, const std::vector<DeviceNode>& devices) {
  if (::mkdir(dev.c_str(), 0755) != 0) return cannot("make " + dev);
  // The image's own /dev is not to be seen through it.
  if (::setxattr(dev.c_str(), "trusted.overlay.opaque", "y", 1, 0) != 0) return cannot("mark " + dev + " as opaque");
  for (const char* d : {"pts", "shm", "mqueue"})
    if (::mkdir((dev + "/" + d).c_str(), 0755) != 0) return cannot("make " + dev + "/" + d);
  for (const auto& n : nodes) {
    const std::string path = dev + "/" + n.name;
    if (::mknod(path.c_str(), S_IFCHR | 0666, makedev(n.major, n.minor)) != 0) return cannot("make the device " + path);
    ::chmod(path.c_str(), 0666);  // whatever our umask
  }
  for (const auto& [name, target] : links)
    if (::symlink(target, (dev + "/" + name).c_str()) != 0) return cannot("link " + dev + "/" + name);
  for (const auto& d : devices) {
    struct stat s {};
    if (::stat(d.source.c_str(), &s) != 0) return fail(Code::not_found, "docker parameter device: " + d.source + ": " + std::strerror(errno));
    if (!d.target.starts_with("/dev/")) continue;  // bound by the plan
    const std::string path = dev + d.target.substr(4);
    std::error_code e;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), e);
    if (::mknod(path.c_str(), s.st_mode, s.st_rdev) != 0) return cannot("make the device " + path);
    ::chmod(path.c_str(), s.st_mode & 07777);
    (void)!::chown(path.c_str(), s.st_uid, s.st_gid);
  }
  return ok;
}

}  // namespace

Status make_dirs(const ContainerDirs& dirs, const std::string& like, const std::vector<DeviceNode>& devices) {
  std::error_code e;
  std::filesystem::create_directories(std::filesystem::path(dirs.top).parent_path(), e);
  if (::mkdir(dirs.top.c_str(), 0711) != 0) return cannot("make " + dirs.top);
  for (const auto& d : {dirs.root(), dirs.upper(), dirs.work()})
    if (::mkdir(d.c_str(), 0755) != 0) return cannot("make " + d);
  struct stat s {};
  if (::stat(like.c_str(), &s) != 0) return fail(Code::not_found, "the layer " + like + " of the image is gone: " + std::strerror(errno));
  if (::chown(dirs.upper().c_str(), s.st_uid, s.st_gid) != 0 || ::chmod(dirs.upper().c_str(), s.st_mode & 07777) != 0) return cannot("give its mode to " + dirs.upper());
  return make_dev(dirs.upper() + "/dev", devices);
}

Status remove_tree(const std::string& path) {
  std::error_code e;
  std::filesystem::remove_all(path, e);
  if (e) return fail(Code::internal, "cannot remove " + path + ": " + e.message());
  return ok;
}

Status make_below(const std::string& top, const std::string& relative, std::uint32_t uid, std::uint32_t gid) {
  File at(::open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!at) return cannot("open " + top);
  for (std::size_t from = 0; from < relative.size();) {
    const auto slash = std::min(relative.find('/', from), relative.size());
    const std::string part = relative.substr(from, slash - from);
    from = slash + 1;
    if (::mkdirat(at.get(), part.c_str(), 0755) == 0) {
      if (uid != 0 && ::fchownat(at.get(), part.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0) return cannot("give " + top + "/" + relative + " to the task's user");
    } else if (errno != EEXIST) {
      return cannot("make " + top + "/" + relative);
    }
    open_how how{};
    how.flags = O_PATH | O_CLOEXEC | (slash < relative.size() ? O_DIRECTORY : 0);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    at = File(static_cast<int>(::syscall(SYS_openat2, at.get(), part.c_str(), &how, sizeof how)));
    if (!at && errno == ELOOP) return fail(Code::failed_precondition, top + "/" + relative + " is, or goes through, a symbolic link; volumes do not follow links of a sandbox");
    if (!at) return cannot("open " + top + "/" + relative);
  }
  return ok;
}

Status make_directories(const std::string& path) {
  std::error_code e;
  std::filesystem::create_directories(path, e);
  // A file, or whatever else is there already, can be a volume as well.
  if (e && !std::filesystem::exists(path)) return fail(Code::internal, "cannot make " + path + ": " + e.message());
  return ok;
}

Status write_secret(const std::string& directory, const std::string& name, const std::string& bytes, std::uint32_t uid, std::uint32_t gid) {
  std::error_code e;
  std::filesystem::create_directories(directory, e);
  ::chmod(directory.c_str(), 0711);
  const std::string path = directory + "/" + name;
  const File f(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400));
  if (!f) return cannot("create " + path);
  if (::write(f.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return cannot("write " + path);
  if (uid != 0 && ::fchown(f.get(), uid, gid) != 0) return cannot("give " + path + " to the task's user");
  return ok;
}

std::string memory_directory() {
  for (const char* d : {"/run", "/dev/shm"}) {
    struct statfs s {};
    if (::statfs(d, &s) == 0 && s.f_type == tmpfs_magic) return d;
  }
  return {};
}

}  // namespace gantry::isolator_filesystem
