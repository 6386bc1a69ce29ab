// Version 1: a hierarchy for each controller. cpu and cpuacct may share one mount.
#include "hierarchy.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

namespace gantry::isolator_cgroups {
namespace {

class V1 final : public Hierarchy {
 public:
  V1(std::map<std::string, std::string> mounts, const std::string& root) {
    for (const auto& [controller, mount] : mounts) {
      const std::string dir = mount + "/" + root;
      dirs_.insert(dir);
      if (controller == "cpu") cpu_ = dir;
      if (controller == "cpuacct") acct_ = dir;
      if (controller == "memory") memory_ = dir;
    }
  }
  [[nodiscard]] int version() const override { return 1; }

  Status open() override {
    for (const auto& dir : dirs_) {
      GANTRY_CHECK(make_dirs(dir));
      if (::access((dir + "/cgroup.procs").c_str(), W_OK) != 0) return fail(Code::permission_denied, "cannot write to " + dir + "/cgroup.procs: " + std::strerror(errno));
    }
    return ok;
  }
  void close() override {
    for (const auto& dir : dirs_)
      if (::rmdir(dir.c_str()) == 0) ::rmdir(dir.substr(0, dir.rfind('/')).c_str());
  }

  Status create(const std::string& id, const Limits& limits) override {
    for (const auto& dir : dirs_)
      if (::mkdir((dir + "/" + id).c_str(), 0755) != 0 && errno != EEXIST)
        return fail(errno == EACCES || errno == EPERM ? Code::permission_denied : Code::internal, "cannot create the cgroup " + dir + "/" + id + ": " + std::strerror(errno));
    return apply(id, limits);
  }

  Status apply(const std::string& id, const Limits& l) override {
    const std::string cpu = cpu_ + "/" + id + "/", memory = memory_ + "/" + id + "/";
    if (l.cpu_shares) {
      GANTRY_CHECK(write_file(cpu + "cpu.shares", std::to_string(l.cpu_shares)));
    }
    // The period's default is our 100 ms; writing it only costs.
    const std::string quota = l.cpu_quota_us ? std::to_string(*l.cpu_quota_us) : "-1";
    if (l.cpu_quota_us || read_number(cpu + "cpu.cfs_quota_us") > 0) {
      GANTRY_CHECK(write_file(cpu + "cpu.cfs_quota_us", quota));
    }
    if (l.memory_soft && l.memory_soft != l.memory_hard) {
      GANTRY_CHECK(write_file(memory + "memory.soft_limit_in_bytes", std::to_string(l.memory_soft)));
    }
    if (l.memory_hard) {
      GANTRY_CHECK(write_file(memory + "memory.limit_in_bytes", std::to_string(l.memory_hard)));
    }
    return ok;
  }

  [[nodiscard]] std::vector<std::string> enter_files(const std::string& id) const override {
    std::vector<std::string> out;
    for (const auto& dir : dirs_) out.push_back(dir + "/" + id + "/cgroup.procs");
    return out;
  }
  [[nodiscard]] std::string kill_path(const std::string& id) const override { return memory_ + "/" + id + "/cgroup.procs"; }
  [[nodiscard]] bool exists(const std::string& id) const override {
    struct stat st {};
    return ::stat((memory_ + "/" + id).c_str(), &st) == 0;
  }
  [[nodiscard]] std::vector<std::string> list() const override {
    std::set<std::string> all;
    for (const auto& dir : dirs_)
      for (auto& name : subdirectories(dir)) all.insert(std::move(name));
    return {all.begin(), all.end()};
  }

  [[nodiscard]] Result<OomSource> oom_source(const std::string& id) const override {
    const std::string dir = memory_ + "/" + id + "/";
    const int control = ::open((dir + "memory.oom_control").c_str(), O_RDONLY | O_CLOEXEC);
    if (control < 0) return fail(Code::internal, "cannot open " + dir + "memory.oom_control: " + std::strerror(errno));
    const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    Status registered = event < 0 ? Status(fail(Code::resource_exhausted, std::string("cannot make an eventfd: ") + std::strerror(errno)))
                                  : write_file(dir + "cgroup.event_control", std::to_string(event) + " " + std::to_string(control));
    ::close(control);
    if (!registered) {
      if (event >= 0) ::close(event);
      return registered.error();
    }
    return OomSource{event, EPOLLIN};
  }
  [[nodiscard]] std::uint64_t oom_kills(const std::string& id) const override {
    return keyed_number(read_file(memory_ + "/" + id + "/memory.oom_control").value_or(""), "oom_kill");
  }
  [[nodiscard]] MemoryFigures memory(const std::string& id) const override {
    const std::string dir = memory_ + "/" + id + "/";
    return {read_number(dir + "memory.limit_in_bytes"), read_number(dir + "memory.max_usage_in_bytes")};
  }

  [[nodiscard]] fb::isolator::UsageT usage(const std::string& id) const override {
    fb::isolator::UsageT u;
    u.container_id = id;
    const std::string cpu = cpu_ + "/" + id + "/", memory = memory_ + "/" + id + "/";
    if (!acct_.empty()) {
      u.cpu_user_ns = read_number(acct_ + "/" + id + "/cpuacct.usage_user");
      u.cpu_system_ns = read_number(acct_ + "/" + id + "/cpuacct.usage_sys");
    }
    const std::string stat = read_file(cpu + "cpu.stat").value_or("");
    u.cpu_periods = keyed_number(stat, "nr_periods");
    u.cpu_throttled = keyed_number(stat, "nr_throttled");
    u.cpu_throttled_ns = keyed_number(stat, "throttled_time");
    u.cpu_limit = static_cast<double>(read_number(cpu + "cpu.cfs_quota_us")) / static_cast<double>(cpu_period_us);
    const std::string mem = read_file(memory + "memory.stat").value_or("");
    u.memory_rss = keyed_number(mem, "total_rss");
    u.memory_cache = keyed_number(mem, "total_cache");
    u.memory_total = read_number(memory + "memory.usage_in_bytes");
    u.memory_limit = read_number(memory + "memory.limit_in_bytes");
    const std::string procs = read_file(memory + "cgroup.procs").value_or("");
    for (const char c : procs) u.processes += c == '\n';
    return u;
  }

  Result<bool> remove(const std::string& id) override {
    bool all = true;
    for (const auto& dir : dirs_) {
      GANTRY_TRY(const bool gone, remove_dir(dir + "/" + id));
      if (!gone) {
        kill_procs(dir + "/" + id + "/cgroup.procs");
        all = false;
      }
    }
    return all;
  }

 private:
  std::set<std::string> dirs_;  // distinct directories: co-mounted controllers share one
  std::string cpu_, acct_, memory_;
};

}  // namespace

std::unique_ptr<Hierarchy> make_v1(std::map<std::string, std::string> mounts, const std::string& root) { return std::make_unique<V1>(std::move(mounts), root); }

}  // namespace gantry::isolator_cgroups
