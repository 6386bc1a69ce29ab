// Reading sandboxes. What is in them was written by tasks: links may point anywhere, files may be pipes.
#include "kernel/agent/agent.hpp"
#include "kernel/base/fd.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace gantry::agent {

namespace {

constexpr std::uint32_t max_read = 1u << 20;

int open_beneath(int root, const std::string& root_path, const std::string& path) {
  open_how how{};
  // NONBLOCK: a pipe must not hold us up.
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how);
  if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return static_cast<int>(fd);
  // An old kernel, or a seccomp filter that does not know the call: resolve first, and compare.
  char real_root[PATH_MAX], real_path[PATH_MAX];
  if (!::realpath(root_path.c_str(), real_root) || !::realpath((root_path + "/" + path).c_str(), real_path)) return -1;
  if (!std::string_view(real_path).starts_with(std::string(real_root) + "/")) {
    errno = EXDEV;
    return -1;
  }
  return ::open(real_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
}

}  // namespace

Result<fb::control::FileDataT> read_sandbox_file(const std::string& root, const std::string& path, std::int64_t offset,
                                                 std::uint32_t length) {
  if (path.empty() || path[0] == '/' || path.find('\0') != std::string::npos) {
    return fail(Code::invalid_argument, "path '" + path + "' must be relative to the sandbox, such as stdout");
  }
  const base::Fd dir(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return fail(Code::not_found, "the sandbox " + root + " does not exist any more: " + std::strerror(errno));
  const base::Fd fd(open_beneath(dir.get(), root, path));
  if (!fd) {
    if (errno == EXDEV || errno == ELOOP)
      return fail(Code::permission_denied, "path '" + path + "' leaves the sandbox");
    return fail(errno == ENOENT || errno == ENOTDIR ? Code::not_found : Code::permission_denied,
                "cannot read '" + path + "' of the sandbox: " + std::strerror(errno));
  }
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) {
    return fail(Code::failed_precondition, "'" + path + "' of the sandbox is not a regular file");
  }
  fb::control::FileDataT out;
  out.size = st.st_size;
  out.offset = offset < 0 ? st.st_size : offset;
  if (offset < 0) return out;
  out.data.resize(std::min(length, max_read));
  const ssize_t n = ::pread(fd.get(), out.data.data(), out.data.size(), offset);
  if (n < 0) return fail(Code::internal, "cannot read '" + path + "' of the sandbox: " + std::strerror(errno));
  out.data.resize(static_cast<std::size_t>(n));
  return out;
}

}  // namespace gantry::agent
