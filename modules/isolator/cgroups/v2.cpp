// Version 2: one hierarchy for all controllers.
#include "hierarchy.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gantry::isolator_cgroups {
namespace {

// cpu.shares 2..262144 on cpu.weight 1..10000, as the kernel and systemd do.
std::uint64_t weight_of(std::uint64_t shares) { return std::clamp<std::uint64_t>(1 + ((std::max<std::uint64_t>(shares, 2) - 2) * 9999) / 262142, 1, 10000); }

class V2 final : public Hierarchy {
 public:
  V2(std::string mount, const std::string& root) : mount_(std::move(mount)), dir_(mount_ + "/" + root) {}
  [[nodiscard]] int version() const override { return 2; }

  Status open() override {
    std::string offered = " " + read_file(mount_ + "/cgroup.controllers").value_or("") + " ";
    std::replace(offered.begin(), offered.end(), '\n', ' ');
    for (const char* wanted : {"cpu", "memory"})
      if (offered.find(std::string(" ") + wanted + " ") == offered.npos)
        return fail(Code::unavailable, std::string("the cgroup hierarchy at ") + mount_ + " does not have the controller " + wanted);
    GANTRY_CHECK(make_dirs(dir_));
    // From the top to our own: each level hands the controllers down.
    for (auto at = mount_.size(); at != std::string::npos; at = at < dir_.size() ? std::min(dir_.find('/', at + 1), dir_.size()) : std::string::npos) {
      GANTRY_CHECK(write_file(dir_.substr(0, at) + "/cgroup.subtree_control", "+cpu +memory"));
    }
    return ok;
  }
  void close() override {
    if (::rmdir(dir_.c_str()) == 0) ::rmdir(dir_.substr(0, dir_.rfind('/')).c_str());
  }

  Status create(const std::string& id, const Limits& limits) override {
    if (::mkdir((dir_ + "/" + id).c_str(), 0755) != 0 && errno != EEXIST)
      return fail(errno == EACCES || errno == EPERM ? Code::permission_denied : Code::internal, "cannot create the cgroup " + dir_ + "/" + id + ": " + std::strerror(errno));
    return apply(id, limits);
  }

  Status apply(const std::string& id, const Limits& l) override {
    const std::string dir = dir_ + "/" + id + "/";
    if (l.cpu_shares) {
      GANTRY_CHECK(write_file(dir + "cpu.weight", std::to_string(weight_of(l.cpu_shares))));
    }
    GANTRY_CHECK(write_file(dir + "cpu.max", (l.cpu_quota_us ? std::to_string(*l.cpu_quota_us) : std::string("max")) + " " + std::to_string(cpu_period_us)));
    if (l.memory_soft && l.memory_soft != l.memory_hard) {
      GANTRY_CHECK(write_file(dir + "memory.low", std::to_string(l.memory_soft)));
    }
    GANTRY_CHECK(write_file(dir + "memory.max", l.memory_hard ? std::to_string(l.memory_hard) : std::string("max")));
    // A limit that swap can dodge is none. Absent where there is no swap accounting.
    if (l.memory_hard) (void)write_file(dir + "memory.swap.max", "0");
    return ok;
  }

  [[nodiscard]] std::vector<std::string> enter_files(const std::string& id) const override { return {dir_ + "/" + id + "/cgroup.procs"}; }
  [[nodiscard]] std::string kill_path(const std::string& id) const override { return dir_ + "/" + id + "/cgroup.kill"; }
  [[nodiscard]] bool exists(const std::string& id) const override {
    struct stat st {};
    return ::stat((dir_ + "/" + id).c_str(), &st) == 0;
  }
  [[nodiscard]] std::vector<std::string> list() const override { return subdirectories(dir_); }

  [[nodiscard]] Result<OomSource> oom_source(const std::string& id) const override {
    const std::string path = dir_ + "/" + id + "/memory.events";
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(Code::internal, "cannot open " + path + ": " + std::strerror(errno));
    char text[512];
    (void)!::read(fd, text, sizeof text);  // changes are told from what was read last
    return OomSource{fd, EPOLLPRI};
  }
  [[nodiscard]] std::uint64_t oom_kills(const std::string& id) const override {
    return keyed_number(read_file(dir_ + "/" + id + "/memory.events").value_or(""), "oom_kill");
  }
  [[nodiscard]] MemoryFigures memory(const std::string& id) const override {
    const std::string dir = dir_ + "/" + id + "/";
    // memory.peak came with Linux 5.19.
    return {read_number(dir + "memory.max"), std::max(read_number(dir + "memory.peak"), read_number(dir + "memory.current"))};
  }

  [[nodiscard]] fb::isolator::UsageT usage(const std::string& id) const override {
    fb::isolator::UsageT u;
    u.container_id = id;
    const std::string dir = dir_ + "/" + id + "/";
    const std::string stat = read_file(dir + "cpu.stat").value_or("");
    u.cpu_user_ns = keyed_number(stat, "user_usec") * 1000;
    u.cpu_system_ns = keyed_number(stat, "system_usec") * 1000;
    u.cpu_periods = keyed_number(stat, "nr_periods");
    u.cpu_throttled = keyed_number(stat, "nr_throttled");
    u.cpu_throttled_ns = keyed_number(stat, "throttled_usec") * 1000;
    u.cpu_limit = static_cast<double>(read_number(dir + "cpu.max")) / static_cast<double>(cpu_period_us);
    const std::string mem = read_file(dir + "memory.stat").value_or("");
    u.memory_rss = keyed_number(mem, "anon");
    u.memory_cache = keyed_number(mem, "file");
    u.memory_total = read_number(dir + "memory.current");
    u.memory_limit = read_number(dir + "memory.max");
    const std::string procs = read_file(dir + "cgroup.procs").value_or("");
    for (const char c : procs) u.processes += c == '\n';
    return u;
  }

  Result<bool> remove(const std::string& id) override {
    const std::string dir = dir_ + "/" + id;
    GANTRY_TRY(const bool gone, remove_dir(dir));
    if (!gone && !write_file(dir + "/cgroup.kill", "1")) kill_procs(dir + "/cgroup.procs");  // before Linux 5.14
    return gone;
  }

 private:
  std::string mount_, dir_;
};

}  // namespace

std::unique_ptr<Hierarchy> make_v2(const std::string& mount, const std::string& root) { return std::make_unique<V2>(mount, root); }

}  // namespace gantry::isolator_cgroups
