#include "group.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

namespace gantry::modhost {
namespace {

constexpr const char* parent = "/gantry-modules";

bool write(const std::string& file, const std::string& text) {
  std::FILE* f = std::fopen(file.c_str(), "we");
  if (!f) return false;
  const bool written = std::fwrite(text.data(), 1, text.size(), f) == text.size();
  return (std::fclose(f) == 0) && written;  // the kernel's refusal may come with the flush
}

bool folder(const std::string& path) { return ::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST; }

void pause_a_little() {
  const timespec t{0, 2'000'000};
  ::nanosleep(&t, nullptr);
}

// Where the hierarchies are: a v1 controller's own mount, or the unified one.
struct Mounts {
  std::string memory, cpu, pids, unified;
};
Mounts mounts() {
  Mounts m;
  std::ifstream in("/proc/self/mounts");
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string device, where, type, options;
    words >> device >> where >> type >> options;
    if (type == "cgroup2") m.unified = where;
    if (type != "cgroup") continue;
    std::istringstream list(options);
    for (std::string o; std::getline(list, o, ',');) {
      if (o == "memory") m.memory = where;
      if (o == "cpu") m.cpu = where;
      if (o == "pids") m.pids = where;
    }
  }
  return m;
}

std::string quota(double cpu) { return std::to_string(static_cast<long long>(cpu * 100000)); }

}  // namespace

Group::Group(const Options& o) {
  if (o.group.empty()) return;
  const Mounts m = mounts();
  const auto make = [&](const std::string& mount) -> std::string {
    if (mount.empty() || !folder(mount + parent)) return {};
    const std::string path = mount + parent + "/" + o.group;
    if (!folder(path)) return {};
    if (folders_.empty() || folders_.back() != path) folders_.push_back(path);
    return path;
  };
  // v1, each controller on its own.
  if (const std::string g = make(m.memory); !g.empty() && o.memory) {
    memory_ = write(g + "/memory.limit_in_bytes", std::to_string(o.memory));
    write(g + "/memory.memsw.limit_in_bytes", std::to_string(o.memory));  // where swap is accounted
    memory_events_ = g + "/memory.oom_control";
  }
  if (const std::string g = o.cpu > 0 ? make(m.cpu) : std::string(); !g.empty())
    cpu_ = write(g + "/cpu.cfs_period_us", "100000") && write(g + "/cpu.cfs_quota_us", quota(o.cpu));
  if (const std::string g = make(m.pids); !g.empty() && o.processes)
    pids_ = write(g + "/pids.max", std::to_string(o.processes));
  // v2, for what v1 does not have.
  if (!m.unified.empty() && ((o.memory && !memory_) || (o.cpu > 0 && !cpu_) || (o.processes && !pids_) || folders_.empty())) {
    for (const char* c : {"+memory", "+cpu", "+pids"}) write(m.unified + "/cgroup.subtree_control", c);
    if (folder(m.unified + parent))
      for (const char* c : {"+memory", "+cpu", "+pids"}) write(m.unified + parent + "/cgroup.subtree_control", c);
    if (const std::string g = make(m.unified); !g.empty()) {
      if (o.memory && !memory_) {
        memory_ = write(g + "/memory.max", std::to_string(o.memory));
        write(g + "/memory.swap.max", "0");
        if (memory_) memory_events_ = g + "/memory.events";
      }
      if (o.cpu > 0 && !cpu_) cpu_ = write(g + "/cpu.max", quota(o.cpu) + " 100000");
      if (o.processes && !pids_) pids_ = write(g + "/pids.max", std::to_string(o.processes));
    }
  }
  const auto miss = [&](bool wanted, bool have, const char* what) {
    if (wanted && !have) missing_ += std::string(missing_.empty() ? "" : ", ") + what;
  };
  miss(o.memory != 0, memory_, "memory");
  miss(o.cpu > 0, cpu_, "cpu");
  miss(o.processes != 0, pids_, "number of processes");
  kill();
}

bool Group::enter() const {
  bool all = true;
  for (const auto& f : folders_) all = write(f + "/cgroup.procs", "0") && all;
  return all;
}

void Group::kill() const {
  for (int round = 0; round < 500; ++round) {
    bool anyone = false;
    for (const auto& f : folders_) {
      write(f + "/cgroup.kill", "1");
      std::ifstream in(f + "/cgroup.procs");
      for (long pid = 0; in >> pid;) {
        if (pid <= 1 || pid == ::getpid()) continue;
        anyone = true;
        ::kill(static_cast<pid_t>(pid), SIGKILL);
      }
    }
    if (!anyone) return;
    pause_a_little();
  }
}

bool Group::out_of_memory() const {
  std::ifstream in(memory_events_);
  std::string key;
  for (long long value = 0; in >> key >> value;)
    if (key == "oom_kill" && value > 0) return true;
  return false;
}

void Group::remove() const {
  for (const auto& f : folders_)
    for (int round = 0; round < 100 && ::rmdir(f.c_str()) != 0 && errno == EBUSY; ++round) pause_a_little();
}

}  // namespace gantry::modhost
