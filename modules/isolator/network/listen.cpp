#include "listen.hpp"
#include "files.hpp"

#include <dirent.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace gantry::isolator_network {
namespace {

constexpr std::uint32_t tcp_listen = 10;  // TCP_LISTEN in the kernel's net/tcp_states.h

// Names in a folder that are numbers.
std::vector<int> numbers_in(const std::string& folder) {
  std::vector<int> out;
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) return out;
  while (const dirent* e = ::readdir(dir))
    if (e->d_name[0] >= '0' && e->d_name[0] <= '9') out.push_back(std::atoi(e->d_name));
  ::closedir(dir);
  return out;
}

// Field 4 of /proc/<pid>/stat. The name in field 2 may hold anything, also ") 1 ".
int parent_of(int pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const auto end = stat ? stat->rfind(')') : std::string::npos;
  if (end == std::string::npos || end + 4 >= stat->size()) return 0;
  return std::atoi(stat->c_str() + end + 4);
}

Status dump(int fd, std::uint8_t family, std::map<std::uint64_t, std::uint32_t>& into) {
  struct {
    nlmsghdr head;
    inet_diag_req_v2 body;
  } request{};
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = 1u << tcp_listen;
  const auto trouble = [](int e) {
    return fail(Code::unavailable, std::string("ask the kernel for listening sockets: ") + std::strerror(e));
  };
  if (::send(fd, &request, sizeof request, 0) < 0) return trouble(errno);
  alignas(nlmsghdr) char buffer[32768];
  for (;;) {
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return trouble(n < 0 ? errno : EIO);
    auto left = static_cast<unsigned>(n);
    for (auto* h = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
      if (h->nlmsg_type == NLMSG_DONE) return ok;
      if (h->nlmsg_type == NLMSG_ERROR) return trouble(-static_cast<nlmsgerr*>(NLMSG_DATA(h))->error);
      const auto* socket = static_cast<const inet_diag_msg*>(NLMSG_DATA(h));
      into[socket->idiag_inode] = ntohs(socket->id.idiag_sport);
    }
  }
}

}  // namespace

Result<std::map<std::uint64_t, std::uint32_t>> listening_sockets() {
  const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return fail(Code::unavailable, std::string("open a sock_diag socket: ") + std::strerror(errno));
  std::map<std::uint64_t, std::uint32_t> out;
  Status read = dump(fd, AF_INET, out);
  if (read) read = dump(fd, AF_INET6, out);
  ::close(fd);
  if (!read) return read.error();
  return out;
}

Result<std::map<std::string, std::set<std::uint32_t>>> listening_ports(const std::vector<Root>& roots, const PortRanges& watched) {
  std::map<std::string, std::set<std::uint32_t>> out;
  GANTRY_TRY(auto sockets, listening_sockets());
  std::erase_if(sockets, [&](const auto& s) { return !contains(watched, s.second); });
  if (sockets.empty() || roots.empty()) return out;

  std::map<int, std::vector<int>> children;
  for (const int pid : numbers_in("/proc")) children[parent_of(pid)].push_back(pid);
  for (const Root& root : roots) {
    std::vector<int> todo = {root.pid};
    std::set<int> seen;
    while (!todo.empty()) {
      const int pid = todo.back();
      todo.pop_back();
      if (!seen.insert(pid).second) continue;  // processes come and go while we read
      const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
      for (const int fd : numbers_in(folder)) {
        char target[64];
        const ssize_t n = ::readlink((folder + "/" + std::to_string(fd)).c_str(), target, sizeof target - 1);
        if (n <= 8 || std::memcmp(target, "socket:[", 8) != 0) continue;
        target[n] = 0;
        const auto socket = sockets.find(std::strtoull(target + 8, nullptr, 10));
        if (socket != sockets.end()) out[root.container_id].insert(socket->second);
      }
      if (const auto c = children.find(pid); c != children.end()) todo.insert(todo.end(), c->second.begin(), c->second.end());
    }
  }
  return out;
}

}  // namespace gantry::isolator_network
