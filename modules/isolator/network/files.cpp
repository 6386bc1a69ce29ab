#include "files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

namespace gantry::isolator_network {
namespace {

Error trouble(const std::string& what, const std::string& path) {
  const int e = errno;
  return fail(e == EACCES || e == EPERM ? Code::permission_denied : Code::unavailable, what + " " + path + ": " + std::strerror(e));
}

Status write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return trouble("write", path);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return ok;
}

Status write_to(const std::string& path, std::string_view text, int flags) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644);
  if (fd < 0) return trouble("open", path);
  Status written = write_all(fd, text, path);
  if ((flags & O_CREAT) && ::fchmod(fd, 0644) != 0 && written) written = trouble("chmod", path);  // whatever the umask
  ::close(fd);
  return written;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& w : words) out += " " + w;
  return out;
}

}  // namespace

Resolver parse_resolv_conf(std::string_view text) {
  Resolver out;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    line.resize(std::min(line.find_first_of("#;"), line.size()));
    std::istringstream words(line);
    std::string key, word;
    words >> key;
    std::vector<std::string> values;
    while (words >> word) values.push_back(word);
    if (key == "nameserver" && !values.empty()) out.nameservers.push_back(values[0]);
    else if (key == "search" || key == "domain") out.search = std::move(values);  // the last one counts
    else if (key == "options") out.options.insert(out.options.end(), values.begin(), values.end());
  }
  return out;
}

std::string print_resolv_conf(const Resolver& r) {
  std::string out;
  for (const auto& n : r.nameservers) out += "nameserver " + n + "\n";
  if (!r.search.empty()) out += "search" + joined(r.search) + "\n";
  if (!r.options.empty()) out += "options" + joined(r.options) + "\n";
  return out;
}

Resolver reachable(Resolver r) {
  std::erase_if(r.nameservers, [](const std::string& s) { return s.rfind("127.", 0) == 0 || s == "::1"; });
  return r;
}

std::string hosts_file(const std::string& hostname, const std::vector<std::string>& addresses, const std::vector<std::string>& extra) {
  std::string out =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n"
      "ff02::1\tip6-allnodes\n"
      "ff02::2\tip6-allrouters\n";
  std::string names = hostname;
  if (const auto dot = hostname.find('.'); dot != hostname.npos) names += " " + hostname.substr(0, dot);
  // A name with no address stays resolvable: programs look themselves up.
  if (addresses.empty() && !hostname.empty()) out += "127.0.1.1\t" + names + "\n";
  for (const auto& a : addresses) out += a.substr(0, a.find('/')) + "\t" + names + "\n";
  for (const auto& line : extra) out += line + "\n";
  return out;
}

std::string hosts_file_of_host(std::string machine, const std::string& hostname, const std::vector<std::string>& extra) {
  if (!machine.empty() && machine.back() != '\n') machine += '\n';
  if (!hostname.empty()) machine += "127.0.1.1\t" + hostname + "\n";
  for (const auto& line : extra) machine += line + "\n";
  return machine;
}

std::optional<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::string out;
  char chunk[8192];
  ssize_t n = 0;
  while ((n = ::read(fd, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR))
    if (n > 0) out.append(chunk, static_cast<std::size_t>(n));
  ::close(fd);
  if (n < 0) return std::nullopt;
  return out;
}

Status replace_file(const std::string& path, std::string_view text) {
  const std::string fresh = path + ".new";
  GANTRY_CHECK(write_to(fresh, text, O_CREAT | O_TRUNC | O_NOFOLLOW));
  if (::rename(fresh.c_str(), path.c_str()) != 0) return trouble("rename to", path);
  return ok;
}

Status overwrite_file(const std::string& path, std::string_view text) { return write_to(path, text, O_CREAT | O_TRUNC | O_NOFOLLOW); }

Status make_dirs(const std::string& path) {
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at);
    const std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) return trouble("make", part);
    if (at != std::string::npos) ++at;
  }
  return ok;
}

Status write_sysctl(const std::string& path, std::string_view value) { return write_to(path, value, 0); }

}  // namespace gantry::isolator_network
