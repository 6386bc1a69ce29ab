#include "files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

namespace gantry::isolator_cgroups {
namespace {

Error path_error(std::string_view doing, const std::string& path, int e) {
  const Code code = e == EACCES || e == EPERM || e == EROFS ? Code::permission_denied : e == ENOENT ? Code::not_found : Code::internal;
  return fail(code, std::string(doing) + " " + path + ": " + std::strerror(e));
}

}  // namespace

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

bool file_exists(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0;
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

std::uint32_t count_lines(const std::string& path) {
  const auto text = read_file(path);
  return text ? static_cast<std::uint32_t>(std::count(text->begin(), text->end(), '\n')) : 0;
}

std::uint64_t pressure_us(const std::string& path) {
  const std::string text = read_file(path).value_or("");
  const std::string_view some(text.data(), text.substr(0, 5) == "some " ? std::min(text.find('\n'), text.size()) : 0);
  const auto at = some.find("total=");
  std::uint64_t n = 0;
  if (at != some.npos) std::from_chars(some.data() + at + 6, some.data() + some.size(), n);
  return n;
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

void kill_tree(const std::string& dir) {
  for (const auto& below : subdirectories(dir)) kill_tree(dir + "/" + below);
  kill_procs(dir + "/cgroup.procs");
}

Result<bool> remove_dir(const std::string& path) {
  if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return true;
  if (errno == EBUSY || errno == ENOTEMPTY) {
    // A task may have made cgroups of its own inside.
    for (const auto& below : subdirectories(path)) {
      kill_tree(path + "/" + below);
      (void)remove_dir(path + "/" + below);
    }
    if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return true;
    if (errno == EBUSY || errno == ENOTEMPTY) return false;
  }
  return path_error("cannot remove", path, errno);
}

}  // namespace gantry::isolator_cgroups
