#include "kernel/agent/sandbox.hpp"

#include "kernel/base/fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace gantry::agent {
namespace fs = std::filesystem;
namespace {

Error path_error(std::string_view doing, const std::string& path, int error) {
  const Code code = error == ENOSPC || error == EDQUOT ? Code::resource_exhausted : error == EROFS || error == EACCES ? Code::permission_denied : Code::internal;
  return fail(code, std::string(doing) + " " + path + ": " + std::strerror(error));
}

// Most parents exist already, so it is tried from the end.
int make_directories(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) return 0;
  if (errno == EEXIST) {
    struct stat st{};
    return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
  }
  if (errno != ENOENT) return errno;
  const auto slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return ENOENT;
  if (const int e = make_directories(path.substr(0, slash), 0755)) return e;
  return ::mkdir(path.c_str(), mode) == 0 || errno == EEXIST ? 0 : errno;
}

struct Old {
  base::Wall changed;
  fs::path path;
};

// Every <agent>/frameworks/<framework>/executors/<executor>/runs/<container>.
std::vector<Old> find_sandboxes(const fs::path& slaves, const std::set<std::string>& keep) {
  std::vector<Old> out;
  const auto each = [](const fs::path& dir, const auto& fn) {
    std::error_code e;
    for (fs::directory_iterator it(dir, e), end; !e && it != end; it.increment(e)) {
      std::error_code kind;
      if (it->symlink_status(kind).type() == fs::file_type::directory) fn(it->path());
    }
  };
  each(slaves, [&](const fs::path& agent) {
    each(agent / "frameworks", [&](const fs::path& framework) {
      each(framework / "executors", [&](const fs::path& executor) {
        each(executor / "runs", [&](const fs::path& run) {
          struct stat st{};
          if (keep.count(run.string()) || ::lstat(run.c_str(), &st) != 0) return;
          out.push_back({std::int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec, run});
        });
      });
    });
  });
  std::sort(out.begin(), out.end(), [](const Old& a, const Old& b) { return a.changed < b.changed; });
  return out;
}

double disk_used(const std::string& path) {
  struct statvfs v{};
  if (::statvfs(path.c_str(), &v) != 0 || v.f_blocks == 0) return 0;
  return 1.0 - static_cast<double>(v.f_bavail) / static_cast<double>(v.f_blocks);
}

}  // namespace

Status make_sandbox(const std::string& sandbox, const Account& account) {
  if (sandbox.empty() || sandbox[0] != '/') return fail(Code::invalid_argument, "the sandbox \"" + sandbox + "\" is not an absolute path");
  if (const int e = make_directories(sandbox, 0755)) return path_error("cannot create the sandbox", sandbox, e);
  if (account.change && ::chown(sandbox.c_str(), account.uid, account.gid) != 0)
    return path_error("cannot give to user \"" + account.name + "\" the sandbox", sandbox, errno);
  const auto slash = sandbox.rfind('/');
  const std::string link = sandbox.substr(0, slash) + "/latest", target = sandbox.substr(slash + 1);
  if (::symlink(target.c_str(), link.c_str()) != 0) {
    // Replaced by rename, so that a reader always finds one.
    const std::string fresh = link + "." + target;
    if (errno != EEXIST || ::symlink(target.c_str(), fresh.c_str()) != 0 || ::rename(fresh.c_str(), link.c_str()) != 0)
      return path_error("cannot make the link", link, errno);
  }
  return ok;
}

Status make_shared_sandbox(const std::string& sandbox, const Account& account) {
  GANTRY_CHECK(make_sandbox(sandbox, Account{}));
  if (account.change && (::chown(sandbox.c_str(), static_cast<uid_t>(-1), account.gid) != 0 || ::chmod(sandbox.c_str(), 01775) != 0))
    return path_error("cannot share with user \"" + account.name + "\" the sandbox", sandbox, errno);
  return ok;
}

Status make_nested_sandbox(const std::string& sandbox, const Account& account) {
  const fs::path path(sandbox), tasks = path.parent_path();
  const auto open = [](int at, const std::string& name) { return base::Fd(::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)); };
  const auto made = [&](const base::Fd& in, const fs::path& what) {
    const std::string name = what.filename().string();
    return in && (::mkdirat(in.get(), name.c_str(), 0755) == 0 || errno == EEXIST) ? open(in.get(), name) : base::Fd();
  };
  const base::Fd parent = open(AT_FDCWD, tasks.parent_path().string()), between = made(parent, tasks), last = made(between, path);
  if (!last) return path_error("cannot create the sandbox", sandbox, errno);
  if (account.change && ::fchown(last.get(), account.uid, account.gid) != 0)
    return path_error("cannot give to user \"" + account.name + "\" the sandbox", sandbox, errno);
  return ok;
}

Status give_sandbox(const std::string& sandbox, const Account& account) {
  const auto give = [&](const std::string& path) { return ::lchown(path.c_str(), account.uid, account.gid) == 0 || errno == ENOENT; };
  std::error_code e;
  bool given = give(sandbox);
  std::filesystem::recursive_directory_iterator it(sandbox, e);
  for (const std::filesystem::recursive_directory_iterator end; given && !e && it != end; it.increment(e)) given = give(it->path().string());
  if (given && !e) return ok;
  return fail(Code::permission_denied, "cannot give the sandbox " + sandbox + " to user \"" + account.name + "\": " + (e ? e.message() : std::strerror(errno)));
}

base::Nanos allowed_age(const GcRules& rules, double used) {
  const double part = std::clamp(1.0 - rules.headroom - used, 0.0, 1.0);
  return base::Nanos(static_cast<std::int64_t>(static_cast<double>(rules.delay.count()) * part));
}

GcResult collect_sandboxes(const std::string& work_dir, const GcRules& rules, const std::set<std::string>& keep, base::Wall now) {
  GcResult result;
  const fs::path slaves = fs::path(work_dir) / "slaves";
  for (const Old& old : find_sandboxes(slaves, keep)) {
    // Asked again each time: what was deleted may have made enough room.
    if (now - old.changed < allowed_age(rules, disk_used(work_dir)).count()) break;
    std::error_code e;
    fs::remove_all(old.path, e);
    if (e) {
      result.problems.push_back("cannot remove the sandbox " + old.path.string() + ": " + e.message());
      continue;
    }
    ++result.removed;
    const fs::path runs = old.path.parent_path(), link = runs / "latest";
    const auto target = fs::read_symlink(link, e);
    if (!e && target == old.path.filename()) fs::remove(link, e);
    // Empty parents go too: runs, <executor>, executors, <framework>, frameworks, <agent>.
    fs::path up = runs;
    for (int i = 0; i < 6 && ::rmdir(up.c_str()) == 0; ++i) up = up.parent_path();
  }
  return result;
}

}  // namespace gantry::agent
