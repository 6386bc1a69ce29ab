#include "kernel/agent/detect.hpp"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
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

std::string read_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace gantry::agent
