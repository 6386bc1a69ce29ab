// Reading sandboxes. What is in them was written by tasks: links may point anywhere, files may be pipes.
#include "kernel/agent/files.hpp"

#include "kernel/agent/agent.hpp"
#include "kernel/base/fd.hpp"

#include <dirent.h>
#include <grp.h>
#include <pwd.h>

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

// `links`: they are followed as long as they stay below `root`; otherwise there must be none.
int open_beneath(int root, const std::string& path, bool links = true) {
  open_how how{};
  // NONBLOCK: a pipe must not hold us up.
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (links ? 0 : RESOLVE_NO_SYMLINKS);
  const long fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how);
  if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return static_cast<int>(fd);
  // An old kernel, or a seccomp filter that does not know the call: resolve first, and compare.
  char real_root[PATH_MAX], real_path[PATH_MAX];
  const std::string root_path = "/proc/self/fd/" + std::to_string(root);
  if (!::realpath(root_path.c_str(), real_root) || !::realpath((root_path + "/" + path).c_str(), real_path)) return -1;
  const std::string_view real(real_path), top(real_root);
  const bool inside = real == top || (real.starts_with(top) && real[top.size()] == '/');
  if (!inside || (!links && path != "." && real != std::string(top) + "/" + path)) {
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
  const base::Fd fd(open_beneath(dir.get(), path));
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

namespace {

std::string user_name(uid_t id) {
  char space[4096];
  passwd entry{}, *found = nullptr;
  return ::getpwuid_r(id, &entry, space, sizeof space, &found) == 0 && found ? entry.pw_name : std::to_string(id);
}
std::string group_name(gid_t id) {
  char space[4096];
  group entry{}, *found = nullptr;
  return ::getgrgid_r(id, &entry, space, sizeof space, &found) == 0 && found ? entry.gr_name : std::to_string(id);
}

Error why_not(const std::string& path, int error) {
  if (error == EXDEV || error == ELOOP) return fail(Code::permission_denied, "path '" + path + "' leaves the sandboxes");
  return fail(error == ENOENT || error == ENOTDIR ? Code::not_found : Code::permission_denied,
              "cannot open '" + path + "': " + std::strerror(error));
}

// Opens what below() gave. What a task wrote lies below <agent>/frameworks/F/executors/E/runs/R, and a link there must not lead
// out of that run: the run is opened first, and the rest below it. Above it the only links are those in `runs` (`latest`).
int open_sandbox(int slaves, const std::string& relative) {
  constexpr int runs_at = 5;  // which part is `runs`
  std::size_t at = 0;
  for (int part = 0; part < runs_at && at != std::string::npos; ++part) at = relative.find('/', at + (part > 0));
  const bool in_runs = at != std::string::npos && relative.compare(at, 6, "/runs/") == 0;
  if (!in_runs) return open_beneath(slaves, relative, false);
  const base::Fd runs(open_beneath(slaves, relative.substr(0, at + 5), false));
  if (!runs) return -1;
  const std::string run = relative.substr(at + 6);
  const auto end = run.find('/');
  base::Fd box(open_beneath(runs.get(), run.substr(0, end)));
  if (!box || end == std::string::npos) return box.release();
  return open_beneath(box.get(), run.substr(end + 1));
}

}  // namespace

Result<std::string> SandboxFiles::below(const std::string& path) const {
  if (path.empty() || path[0] != '/' || path.find('\0') != std::string::npos)
    return fail(Code::not_found, "path '" + path + "' is not known; it is absolute");
  // Whoever judged the path read its names as they stand: none of them may be undone by a later one.
  if ((path + '/').find("/../") != std::string::npos) return fail(Code::not_found, "path '" + path + "' is not known");
  const auto inside = [&](const std::string& root) -> std::optional<std::string> {
    if (!path.starts_with(root) || (path.size() > root.size() && path[root.size()] != '/')) return std::nullopt;
    std::string rest;
    for (std::size_t at = root.size(), end; at < path.size(); at = end + 1) {
      end = std::min(path.find('/', at), path.size());
      if (end == at || path.compare(at, end - at, ".") == 0) continue;
      if (!rest.empty()) rest += '/';
      rest.append(path, at, end - at);
    }
    return rest;
  };
  if (const auto rest = inside("/frameworks")) return agent_id + "/frameworks" + (rest->empty() ? "" : "/" + *rest);
  if (const auto rest = inside(work_dir + "/slaves")) return rest->empty() ? std::string(".") : *rest;
  return fail(Code::not_found, "path '" + path + "' is not known");
}

Result<std::vector<std::unique_ptr<fb::ops::FileInfoT>>> SandboxFiles::list(const std::string& path) const {
  GANTRY_TRY(const std::string relative, below(path));
  const std::string root = work_dir + "/slaves";
  const base::Fd top(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!top) return fail(Code::not_found, "there are no sandboxes");
  base::Fd fd(open_sandbox(top.get(), relative));
  if (!fd) return why_not(path, errno);
  std::vector<std::unique_ptr<fb::ops::FileInfoT>> out;
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return why_not(path, errno);
  if (!S_ISDIR(st.st_mode)) return out;
  DIR* dir = ::fdopendir(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!dir) return why_not(path, errno);
  std::string prefix = path;
  while (prefix.size() > 1 && prefix.back() == '/') prefix.pop_back();
  while (const dirent* e = ::readdir(dir)) {
    const std::string name = e->d_name;
    if (name == "." || name == ".." || ::fstatat(fd.get(), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    auto f = std::make_unique<fb::ops::FileInfoT>();
    f->path = prefix + "/" + name;
    f->nlink = static_cast<int>(st.st_nlink);
    f->size = static_cast<std::uint64_t>(st.st_size);
    f->mtime_ns = static_cast<std::int64_t>(st.st_mtim.tv_sec) * 1'000'000'000;
    f->mode = st.st_mode;
    f->uid = user_name(st.st_uid);
    f->gid = group_name(st.st_gid);
    out.push_back(std::move(f));
  }
  ::closedir(dir);
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a->path < b->path; });
  return out;
}

Result<fb::ops::ReadFileT> SandboxFiles::read(const std::string& path, std::uint64_t offset, std::optional<std::uint64_t> length) const {
  GANTRY_TRY(const std::string relative, below(path));
  const std::string root = work_dir + "/slaves";
  const base::Fd top(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!top) return fail(Code::not_found, "there are no sandboxes");
  const base::Fd fd(open_sandbox(top.get(), relative));
  if (!fd) return why_not(path, errno);
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0 || S_ISDIR(st.st_mode)) return fail(Code::failed_precondition, "Cannot read a directory");
  if (!S_ISREG(st.st_mode)) return fail(Code::failed_precondition, "'" + path + "' is not a regular file");
  fb::ops::ReadFileT out;
  out.size = static_cast<std::uint64_t>(st.st_size);
  if (offset >= out.size) return out;
  const std::uint64_t wanted = std::min<std::uint64_t>({length.value_or(max_read), max_read, out.size - offset});
  out.data.resize(wanted);
  const ssize_t n = ::pread(fd.get(), out.data.data(), out.data.size(), static_cast<off_t>(offset));
  if (n < 0) return fail(Code::internal, "cannot read '" + path + "': " + std::strerror(errno));
  out.data.resize(static_cast<std::size_t>(n));
  return out;
}

}  // namespace gantry::agent
