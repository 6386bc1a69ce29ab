#include "hierarchy.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstring>

namespace gantry::isolator_cgroups {
namespace {

Error path_error(std::string_view doing, const std::string& path, int e) {
  const Code code = e == EACCES || e == EPERM || e == EROFS ? Code::permission_denied : e == ENOENT ? Code::not_found : Code::internal;
  return fail(code, std::string(doing) + " " + path + ": " + std::strerror(e));
}

// mountinfo writes blanks and the like as \040.
std::string unescape(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\\' && i + 3 < s.size()) {
      out.push_back(static_cast<char>((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + (s[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(s[i]);
    }
  }
  return out;
}

std::vector<std::string_view> split(std::string_view s, char by) {
  std::vector<std::string_view> out;
  while (!s.empty()) {
    const auto end = s.find(by);
    if (end != 0) out.push_back(s.substr(0, end));
    if (end == s.npos) break;
    s.remove_prefix(end + 1);
  }
  return out;
}

std::uint64_t megabytes(double mb) { return static_cast<std::uint64_t>(std::llround(mb * 1048576.0)); }

}  // namespace

Limits limits_of(const std::vector<std::unique_ptr<fb::ResourceT>>& resources, const std::vector<std::unique_ptr<fb::ScalarEntryT>>& limits, bool quota) {
  double cpus = 0, mem = 0;
  for (const auto& r : resources) {
    if (r->name == "cpus") cpus += r->scalar.value_or(0);
    if (r->name == "mem") mem += r->scalar.value_or(0);
  }
  std::optional<double> cpu_limit, mem_limit;
  for (const auto& l : limits) {
    if (l->key == "cpus") cpu_limit = l->value;
    if (l->key == "mem") mem_limit = l->value;
  }
  Limits out;
  if (cpus > 0) out.cpu_shares = std::max<std::uint64_t>(2, static_cast<std::uint64_t>(std::llround(cpus * 1024)));
  if (!cpu_limit && quota && cpus > 0) cpu_limit = cpus;
  if (cpu_limit && std::isfinite(*cpu_limit) && *cpu_limit > 0)
    out.cpu_quota_us = std::max<std::int64_t>(1000, std::llround(*cpu_limit * static_cast<double>(cpu_period_us)));  // the kernel's least is 1 ms
  if (mem > 0) out.memory_soft = std::max(memory_floor, megabytes(mem));
  const double hard = mem_limit.value_or(mem);
  if (std::isfinite(hard) && hard > 0) out.memory_hard = std::max(memory_floor, megabytes(hard));
  return out;
}

Mounts parse_mounts(std::string_view mountinfo) {
  Mounts m;
  for (const auto line : split(mountinfo, '\n')) {
    // "31 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct": fields before and after a lone "-".
    const auto dash = line.find(" - ");
    if (dash == line.npos) continue;
    const auto left = split(line.substr(0, dash), ' '), right = split(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (right[0] == "cgroup2") {
      if (m.v2.empty()) m.v2 = unescape(left[4]);
    } else if (right[0] == "cgroup") {
      for (const auto option : split(right[2], ','))
        if (option == "cpu" || option == "cpuacct" || option == "memory") m.v1.try_emplace(std::string(option), unescape(left[4]));
    }
  }
  m.version = m.v1.count("cpu") && m.v1.count("memory") ? 1 : !m.v2.empty() ? 2 : 0;
  return m;
}

Result<std::unique_ptr<Hierarchy>> discover(const std::string& prefix, const std::string& root) {
  const auto info = read_file(prefix + "/proc/self/mountinfo");
  if (!info) return fail(Code::unavailable, "cannot read " + prefix + "/proc/self/mountinfo");
  Mounts m = parse_mounts(*info);
  if (m.version == 1) {
    for (auto& [controller, path] : m.v1) path.insert(0, prefix);
    return make_v1(std::move(m.v1), root);
  }
  if (m.version == 2) return make_v2(prefix + m.v2, root);
  return fail(Code::unavailable, "no cgroup hierarchy with cpu and memory is mounted");
}

std::optional<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::string out;
  char part[4096];
  ssize_t n;
  while ((n = ::read(fd, part, sizeof part)) > 0) out.append(part, static_cast<std::size_t>(n));
  ::close(fd);
  if (n < 0) return std::nullopt;
  return out;
}

Status write_file(const std::string& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return path_error("cannot open", path, errno);
  const ssize_t n = ::write(fd, text.data(), text.size());
  const int e = errno;
  ::close(fd);
  if (n < 0) return path_error("cannot write \"" + std::string(text) + "\" to", path, e);
  return ok;
}

Status make_dirs(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return ok;
  if (errno != ENOENT || path.find('/', 1) == path.npos) return path_error("cannot create", path, errno);
  GANTRY_CHECK(make_dirs(path.substr(0, path.rfind('/'))));
  if (::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return ok;
  return path_error("cannot create", path, errno);
}

std::vector<std::string> subdirectories(const std::string& path) {
  std::vector<std::string> out;
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return out;
  while (const dirent* e = ::readdir(dir))
    if (e->d_type == DT_DIR && e->d_name[0] != '.') out.emplace_back(e->d_name);
  ::closedir(dir);
  return out;
}

std::uint64_t read_number(const std::string& path) {
  const auto text = read_file(path);
  std::uint64_t n = 0;
  if (text) std::from_chars(text->data(), text->data() + text->size(), n);
  return n;
}

std::uint64_t keyed_number(std::string_view text, std::string_view key) {
  for (const auto line : split(text, '\n')) {
    if (line.size() <= key.size() || line.substr(0, key.size()) != key || line[key.size()] != ' ') continue;
    std::uint64_t n = 0;
    std::from_chars(line.data() + key.size() + 1, line.data() + line.size(), n);
    return n;
  }
  return 0;
}

std::size_t kill_procs(const std::string& procs_file) {
  const auto text = read_file(procs_file);
  std::size_t count = 0;
  if (!text) return 0;
  for (const auto line : split(*text, '\n')) {
    int pid = 0;
    std::from_chars(line.data(), line.data() + line.size(), pid);
    if (pid <= 1) continue;  // 0: in another pid namespace, out of our reach
    ++count;
    ::kill(pid, SIGKILL);
  }
  return count;
}

Result<bool> remove_dir(const std::string& path) {
  if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return true;
  if (errno == EBUSY || errno == ENOTEMPTY) {
    // A task may have made cgroups of its own inside.
    for (const auto& below : subdirectories(path)) {
      kill_procs(path + "/" + below + "/cgroup.procs");
      (void)remove_dir(path + "/" + below);
    }
    if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return true;
    if (errno == EBUSY || errno == ENOTEMPTY) return false;
  }
  return path_error("cannot remove", path, errno);
}

}  // namespace gantry::isolator_cgroups
