// cpu, cpuacct and cpuset: a share of all CPUs, a ceiling on their time, and which of them.
#include "controller.hpp"

#include <algorithm>

namespace gantry::isolator_cgroups {
namespace {

// cpu.shares 2..262144 on cpu.weight 1..10000, as the kernel and systemd do.
std::uint64_t weight_of(std::uint64_t shares) {
  return std::clamp<std::uint64_t>(1 + ((std::max<std::uint64_t>(shares, 2) - 2) * 9999) / 262142, 1, 10000);
}

class Cpu final : public Controller {
 public:
  using Controller::Controller;

  Status apply(const std::string& id, const Limits& l) override {
    if (l.cpu_shares) {
      GANTRY_CHECK(v2() ? write_file(file(id, "cpu.weight"), std::to_string(weight_of(l.cpu_shares)))
                        : write_file(file(id, "cpu.shares"), std::to_string(l.cpu_shares)));
    }
    if (v2())
      return write_file(file(id, "cpu.max"),
                        (l.cpu_quota_us ? std::to_string(*l.cpu_quota_us) : "max") + " " + std::to_string(cpu_period_us));
    // The period's default is our 100 ms; writing it only costs.
    if (l.cpu_quota_us) return write_file(file(id, "cpu.cfs_quota_us"), std::to_string(*l.cpu_quota_us));
    if (read_number(file(id, "cpu.cfs_quota_us")) > 0) return write_file(file(id, "cpu.cfs_quota_us"), "-1");
    return ok;
  }

  void measure(const std::string& id, fb::isolator::UsageT& u) const override {
    const std::string stat = read_file(file(id, "cpu.stat")).value_or("");
    u.cpu_periods = keyed_number(stat, "nr_periods");
    u.cpu_throttled = keyed_number(stat, "nr_throttled");
    if (v2()) {
      u.cpu_user_ns = keyed_number(stat, "user_usec") * 1000;
      u.cpu_system_ns = keyed_number(stat, "system_usec") * 1000;
      u.cpu_throttled_ns = keyed_number(stat, "throttled_usec") * 1000;
    } else {
      u.cpu_throttled_ns = keyed_number(stat, "throttled_time");
    }
    u.cpu_limit = static_cast<double>(read_number(file(id, v2() ? "cpu.max" : "cpu.cfs_quota_us"))) / static_cast<double>(cpu_period_us);
  }
};

class CpuAcct final : public Controller {
 public:
  using Controller::Controller;
  void measure(const std::string& id, fb::isolator::UsageT& u) const override {
    u.cpu_user_ns = read_number(file(id, "cpuacct.usage_user"));
    u.cpu_system_ns = read_number(file(id, "cpuacct.usage_sys"));
  }
};

// The set is that of the agent's own cgroup. Version 2 hands it down by itself, version 1 wants it said at every level.
class Cpuset final : public Controller {
 public:
  using Controller::Controller;

  Status open() override {
    if (!v2()) {
      const auto& top = place().top;
      for (auto at = place().dir.find('/', top.size() + 1);; at = place().dir.find('/', at + 1)) {
        GANTRY_CHECK(inherit(place().dir.substr(0, at)));
        if (at == std::string::npos) break;
      }
    }
    if (!policy().cpus.empty()) GANTRY_CHECK(set(place().dir + "/cpuset.cpus", policy().cpus, "cpuset"));
    if (!policy().mems.empty()) GANTRY_CHECK(set(place().dir + "/cpuset.mems", policy().mems, "cpuset_mems"));
    return ok;
  }
  Status apply(const std::string& id, const Limits&) override {
    if (v2()) return ok;
    return inherit(place().dir + "/" + id);
  }

 private:
  static Status set(const std::string& path, const std::string& value, const char* setting) {
    auto written = write_file(path, value);
    if (!written) return std::move(written).error().because(std::string(setting) + " = \"" + value + "\" does not fit this machine");
    return ok;
  }
  static Status inherit(const std::string& dir) {
    for (const char* name : {"/cpuset.cpus", "/cpuset.mems"}) {
      const std::string above = read_file(dir.substr(0, dir.rfind('/')) + name).value_or("");
      if (read_file(dir + name).value_or("").find_first_not_of('\n') == std::string::npos) GANTRY_CHECK(write_file(dir + name, above));
    }
    return ok;
  }
};

}  // namespace

std::unique_ptr<Controller> make_cpu(Place place, const Policy& policy) { return std::make_unique<Cpu>(std::move(place), policy); }
std::unique_ptr<Controller> make_cpuacct(Place place, const Policy& policy) { return std::make_unique<CpuAcct>(std::move(place), policy); }
std::unique_ptr<Controller> make_cpuset(Place place, const Policy& policy) { return std::make_unique<Cpuset>(std::move(place), policy); }

}  // namespace gantry::isolator_cgroups
