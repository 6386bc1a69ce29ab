#include "base.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

namespace gantry::image_oci {
namespace {

// A tree may be as deep as a stranger's archive made it: what is deeper than `kDeep` is moved up to the top and emptied in its turn.
struct Removing {
  static constexpr int kDeep = 64;
  int directory;
  const std::string& name;
  std::vector<std::string> left;  // directories of `directory`
  std::uint64_t moved;

  Status one(int parent, const char* own, int depth) {
    if (::unlinkat(parent, own, AT_REMOVEDIR) == 0 || errno == ENOENT) return ok;
    (void)::fchmodat(parent, own, 0700, 0);
    const int fd = ::openat(parent, own, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return os_error(std::string("remove ") + own, errno);
    const std::unique_ptr<DIR, int (*)(DIR*)> open(::fdopendir(fd), &::closedir);
    if (!open) {
      ::close(fd);
      return os_error(std::string("remove ") + own, errno);
    }
    while (const dirent* e = ::readdir(open.get())) {
      if (std::strcmp(e->d_name, ".") == 0 || std::strcmp(e->d_name, "..") == 0) continue;
      if (e->d_type != DT_DIR && (::unlinkat(fd, e->d_name, 0) == 0 || errno == ENOENT)) continue;
      if (e->d_type != DT_DIR && errno != EISDIR && errno != EPERM) return os_error(std::string("remove ") + e->d_name, errno);
      GANTRY_CHECK(depth < kDeep ? one(fd, e->d_name, depth + 1) : move_up(fd, e->d_name));
    }
    if (::unlinkat(parent, own, AT_REMOVEDIR) != 0 && errno != ENOENT) return os_error(std::string("remove ") + own, errno);
    return ok;
  }

  Status move_up(int parent, const char* own) {
    if (::unlinkat(parent, own, AT_REMOVEDIR) == 0) return ok;
    (void)::fchmodat(parent, own, 0700, 0);  // a directory that cannot be written cannot be moved either
    for (;;) {
      std::string up = name + ".gone" + std::to_string(moved++);
      if (::renameat(parent, own, directory, up.c_str()) == 0) {
        left.push_back(std::move(up));
        return ok;
      }
      if (errno != ENOTEMPTY && errno != EEXIST) return os_error(std::string("remove ") + own, errno);  // else: from before a crash
    }
  }
};

}  // namespace

Error cancelled_error() { return fail(Code::cancelled, "cancelled"); }

Error os_error(std::string what, int number) {
  Code code = Code::internal;
  if (number == ENOSPC || number == EDQUOT || number == EMFILE || number == ENFILE || number == ENOMEM) code = Code::resource_exhausted;
  if (number == ENOTDIR || number == ELOOP || number == ENAMETOOLONG || number == EXDEV || number == EISDIR || number == EINVAL)
    code = Code::invalid_argument;
  if (number == ENOENT) code = Code::not_found;
  if (number == EACCES || number == EPERM || number == EROFS) code = Code::permission_denied;
  return fail(code, std::move(what) + ": " + std::strerror(number));
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

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return os_error("read " + path, errno);
  std::string out;
  char block[16384];
  for (;;) {
    const ssize_t n = ::read(file.get(), block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error("read " + path, errno);
    if (n == 0) return out;
    out.append(block, static_cast<std::size_t>(n));
    if (out.size() > limit) return fail(Code::resource_exhausted, path + " is larger than " + std::to_string(limit) + " bytes");
  }
}

Status write_file(const std::string& path, std::string_view data) {
  const std::string aside = path + ".new";
  const Fd file(::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return os_error("create " + aside, errno);
  if (Status s = write_all(file.get(), data.data(), data.size()); !s) return std::move(s).error().because(aside);
  if (::fsync(file.get()) != 0) return os_error("sync " + aside, errno);
  if (::rename(aside.c_str(), path.c_str()) != 0) return os_error("rename to " + path, errno);
  return sync_directory(path.substr(0, path.rfind('/')));
}

Status make_directory(const std::string& path, unsigned mode) {
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return os_error("create directory " + path, errno);
  return ok;
}

Status sync_directory(const std::string& path) {
  const Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return os_error("sync " + path, errno);
  return ok;
}

Status remove_tree(int directory, const std::string& name) {
  if (::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return ok;
  if (errno != EISDIR && errno != EPERM) return os_error("remove " + name, errno);
  Removing removing{directory, name, {name}, 0};
  while (!removing.left.empty()) {
    const std::string top = std::move(removing.left.back());
    removing.left.pop_back();
    GANTRY_CHECK(removing.one(directory, top.c_str(), 0));
  }
  return ok;
}

}  // namespace gantry::image_oci
