#include "kernel/agent/detect.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

namespace gantry::agent {

Machine look_at_machine(const std::string& work_dir) {
  Machine machine;
  if (const long cores = ::sysconf(_SC_NPROCESSORS_ONLN); cores > 0) machine.cores = static_cast<unsigned>(cores);
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) machine.memory = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page);
  struct statvfs fs {};
  if (::statvfs(work_dir.c_str(), &fs) == 0) machine.disk = std::uint64_t{fs.f_blocks} * fs.f_frsize;
  return machine;
}

Resources detect(const Machine& machine) {
  constexpr std::uint64_t gib = 1ull << 30;
  const auto less = [](std::uint64_t total, std::uint64_t spare) {
    return total < 2 * spare ? total / 2 : total - spare;
  };
  Resources out;
  const auto scalar = [&](const char* name, double value) {
    auto r = std::make_unique<fb::ResourceT>();
    r->name = name;
    r->type = fb::ValueType::SCALAR;
    r->scalar = value;
    out.push_back(std::move(r));
  };
  scalar("cpus", machine.cores);
  scalar("mem", static_cast<double>(less(machine.memory, gib) >> 20));
  scalar("disk", static_cast<double>(less(machine.disk, 5 * gib) >> 20));
  auto ports = std::make_unique<fb::ResourceT>();
  ports->name = "ports";
  ports->type = fb::ValueType::RANGES;
  ports->ranges.emplace_back(31000, 32000);
  out.push_back(std::move(ports));
  return out;
}

Resources complete(Resources given, Resources detected) {
  const std::size_t own = given.size();
  for (auto& r : detected) {
    const bool named = std::any_of(given.begin(), given.begin() + static_cast<std::ptrdiff_t>(own),
                                   [&](const auto& g) { return g->name == r->name; });
    if (!named) given.push_back(std::move(r));
  }
  return given;
}

namespace {

bool is_address_of_a_machine(const std::string& text) {
  unsigned char bytes[sizeof(in6_addr)];
  const bool is = ::inet_pton(AF_INET, text.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, text.c_str(), bytes) == 1;
  return is && text != "0.0.0.0" && text != "::";
}

}  // namespace

std::string machine_ip(const std::string& address, const std::string& hostname) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (is_address_of_a_machine(host)) return host;
  if (is_address_of_a_machine(hostname)) return hostname;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {};
  std::string found;
  for (const ifaddrs* i = all; i && found.empty(); i = i->ifa_next) {
    if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK) || !(i->ifa_flags & IFF_UP)) continue;
    char text[INET_ADDRSTRLEN];
    sockaddr_in in{};
    std::memcpy(&in, i->ifa_addr, sizeof in);
    if (::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text)) found = text;
  }
  ::freeifaddrs(all);
  return found.empty() ? "127.0.0.1" : found;
}

std::string read_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace gantry::agent
