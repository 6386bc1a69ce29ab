#include "kernel/base/file.hpp"

#include "kernel/base/fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace gantry::base {
namespace {

Error why(int error) {
  const Code code = error == ENOENT || error == ENOTDIR ? Code::not_found
                    : error == EACCES || error == EPERM ? Code::permission_denied
                                                        : Code::unavailable;  // too many files, a broken disk
  return fail(code, std::strerror(error));
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t most) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return why(errno);
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return fail(Code::invalid_argument, "it is not a regular file");
  if (static_cast<std::uint64_t>(st.st_size) > most)
    return fail(Code::invalid_argument, "it is larger than " + std::to_string(most >> 20) + " MiB");
  std::string bytes(static_cast<std::size_t>(st.st_size), '\0');
  std::size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t n = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return why(errno);
    if (n == 0) break;  // it has become shorter
    have += static_cast<std::size_t>(n);
  }
  bytes.resize(have);
  return bytes;
}

Status write_whole(const std::string& path, std::string_view bytes, bool sync) {
  const std::string fresh = path + ".new";
  const Fd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  bool good = static_cast<bool>(fd);
  while (good && !bytes.empty()) {
    const ssize_t n = ::write(fd.get(), bytes.data(), bytes.size());
    good = n >= 0 || errno == EINTR;
    if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  if (good && (!sync || ::fdatasync(fd.get()) == 0) && ::rename(fresh.c_str(), path.c_str()) == 0) return ok;
  const int error = errno;
  if (fd) ::unlink(fresh.c_str());
  return fail(error == ENOSPC || error == EDQUOT ? Code::resource_exhausted : Code::internal, "cannot write " + path + ": " + std::strerror(error));
}

}  // namespace gantry::base
