// Real tasks on a real agent: pid and mount namespaces, cpu and memory cgroups, sandbox and checkpoint, launched by a
// framework through a real master. Beside it the floor: a C loop that makes the same system calls.
#include "kernel/agent/agent.hpp"
#include "kernel/agent/container_launcher.hpp"
#include "tests/bench/cluster.hpp"
#include "tests/bench/report.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace gantry::bench {

namespace {

namespace fs = std::filesystem;

// Where the cgroup hierarchies of this machine are; empty paths: not usable.
struct Hierarchies {
  std::string cpu, memory, cpuacct;
  bool v2 = false;
};
Hierarchies find_hierarchies() {
  Hierarchies h;
  std::ifstream mounts("/proc/self/mounts");
  std::string device, path, type, options, rest;
  while (mounts >> device >> path >> type >> options && std::getline(mounts, rest)) {
    const auto has = [&](const char* what) { return ("," + options + ",").find("," + std::string(what) + ",") != std::string::npos; };
    if (type == "cgroup" && has("cpu")) h.cpu = path;
    if (type == "cgroup" && has("memory")) h.memory = path;
    if (type == "cgroup" && has("cpuacct")) h.cpuacct = path;
    if (type == "cgroup2" && h.cpu.empty() && fs::exists(path + "/cpu.max")) h.cpu = h.memory = path, h.v2 = true;
  }
  return h;
}

// CPU time of this process and all it starts, however deep: through a cpu accounting cgroup of its own, or where there is
// none, of the whole machine.
class CpuMeter {
 public:
  explicit CpuMeter(const Hierarchies& h) {
    if (h.cpuacct.empty()) return;
    path_ = h.cpuacct + "/gantry-bench-" + std::to_string(::getpid());
    if (::mkdir(path_.c_str(), 0755) != 0) path_.clear();
    if (!path_.empty()) std::ofstream(path_ + "/cgroup.procs") << ::getpid();
  }
  ~CpuMeter() {
    if (path_.empty()) return;
    const auto parent = fs::path(path_).parent_path().string();
    std::ofstream(parent + "/cgroup.procs") << ::getpid();
    ::rmdir(path_.c_str());
  }
  [[nodiscard]] double seconds() const {
    if (!path_.empty()) {
      double ns = 0;
      std::ifstream(path_ + "/cpuacct.usage") >> ns;
      return ns / 1e9;
    }
    std::ifstream in("/proc/stat");
    std::string cpu;
    double user = 0, nice = 0, system = 0;
    in >> cpu >> user >> nice >> system;
    return (user + nice + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }

 private:
  std::string path_;
};

std::string agent_toml(const std::string& work_dir, const std::string& cgroup) {
  return "[kernel]\nrole = [\"master\", \"agent\"]\nwork_dir = \"" + work_dir +
         "\"\nlisten = \"127.0.0.1:0\"\n[election.standalone]\n[store.lmdb]\n[allocator.drf]\n[isolator.cgroups]\nroot = \"" + cgroup +
         "\"\n[isolator.namespaces]\n";
}

// A master, an agent with its launcher and a framework on one loop, as a standalone daemon has them; agent and master talk
// over a real link.
class Machine {
 public:
  Machine(net::RealLoop& loop, const Settings& settings, const std::string& work_dir, const std::string& cgroup)
      : modules(loop, agent_toml(work_dir, cgroup), {"allocator", "isolator"}), loop_(loop), store_(loop), links_(loop),
        master(loop, master_options(), modules.find("allocator"), store_, links_), disk_(agent::make_real_disk()),
        link_(agent::make_net_master_link(loop)), framework(master, "bench") {
    links_.serve(master);
    lead(loop, master);
    agent::LauncherOptions lo;
    lo.work_dir = work_dir;
    lo.supervisor = settings.bin_dir + "/gantry-supervisor";
    lo.isolators = modules.all("isolator");
    lo.watch_readable = [&loop](int fd, Function<void()> fn) { return loop.watch_readable(fd, std::move(fn)); };
    lo.unwatch = [&loop](std::uint64_t id) { loop.unwatch(id); };
    launcher_ = std::make_unique<agent::ContainerLauncher>(loop, std::move(lo));
    agent::AgentOptions o;
    o.work_dir = work_dir;
    o.hostname = "bench";
    o.version = "bench";
    o.resources = wire("cpus:1000;mem:1000000;disk:100000;ports:[31000-32000]");
    agent_ = std::make_unique<agent::Agent>(loop, std::move(o), *disk_, *launcher_, *link_, agent::make_net_probes(loop));
    run_loop(loop, [&](std::function<void()> finish) {
      if (auto s = agent_->start(); !s) throw std::runtime_error(s.error().message);
      agent_->leader(links_.address().text());
      framework.on_offers = finish;
      framework.subscribe();
    });
    framework.on_offers = {};
  }
  ~Machine() {
    run_loop(loop_, [&](std::function<void()> finish) {
      agent_->stop();
      launcher_->stop(finish);
    });
    agent_.reset();
    launcher_.reset();
  }

  // `count` tasks in one accept of everything there is. `each` hears when a task runs (seconds after the accept); returns
  // when all of them have reached `until`.
  void launch(std::size_t count, std::vector<std::string> arguments, fb::TaskState until, const std::function<void(double)>& each) {
    LaunchCall l = framework.launch_on_next_offer();
    for (const auto& o : framework.offers) l.offers.push_back(o.id);
    framework.offers.clear();
    l.prefix = "task-";
    l.first = launched_;
    l.count = count;
    launched_ += count;
    l.resources = "cpus:0.1;mem:32";
    l.refuse_seconds = 0;
    l.arguments = std::move(arguments);
    const Buffer accept = accept_call(l);
    std::size_t reached = 0;
    run_loop(loop_, [&](std::function<void()> finish) {
      const auto start = Clock::now();
      framework.on_state = [&, start, finish](std::string_view task, fb::TaskState state) {
        if (state == fb::TaskState::TASK_RUNNING) each(seconds(Clock::now() - start));
        else if (state != fb::TaskState::TASK_FINISHED && state != fb::TaskState::TASK_STARTING && state != fb::TaskState::TASK_KILLED)
          throw std::runtime_error("task " + std::string(task) + " ended as " + fb::EnumNameTaskState(state));
        if (state == until && ++reached == count) finish();
      };
      master.call(accept, {});
    });
    framework.on_state = {};
    if (framework.offers.empty()) {
      run_loop(loop_, [&](std::function<void()> finish) { framework.on_offers = finish; });
      framework.on_offers = {};
    }
  }
  void kill_all(std::size_t count) {
    std::size_t ended = 0;
    run_loop(loop_, [&](std::function<void()> finish) {
      framework.on_state = [&, finish](std::string_view, fb::TaskState state) {
        if (state == fb::TaskState::TASK_KILLED && ++ended == count) finish();
      };
      for (std::size_t i = launched_ - count; i < launched_; ++i) {
        fb::CallT c;
        c.type = fb::CallType::KILL;
        c.framework_id = framework.id;
        c.kill = std::make_unique<fb::KillT>();
        c.kill->task_id = "task-" + std::to_string(i);
        c.kill->kill_policy = std::make_unique<fb::KillPolicyT>();
        c.kill->kill_policy->grace_period_ns = 0;
        master.call(pack(c), {});
      }
    });
    framework.on_state = {};
  }

  Modules modules;

 private:
  net::RealLoop& loop_;
  NoStore store_;
  TcpLinks links_;

 public:
  master::Master master;

 private:
  std::unique_ptr<agent::Disk> disk_;
  std::unique_ptr<agent::MasterLink> link_;
  std::unique_ptr<agent::Launcher> launcher_;
  std::unique_ptr<agent::Agent> agent_;
  std::size_t launched_ = 0;

 public:
  Framework framework;
};

std::vector<double> floor_ms(const Settings& settings, const Hierarchies& h, std::size_t count) {
  const std::string command = settings.bin_dir + "/gantry-bench-floor " + std::to_string(count) + " " + h.cpu + " " + h.memory;
  std::FILE* pipe = ::popen(command.c_str(), "r");
  std::vector<double> out;
  double ns = 0;
  while (pipe && std::fscanf(pipe, "%lf", &ns) == 1) out.push_back(ns / 1e6);
  if (!pipe || ::pclose(pipe) != 0 || out.size() != count) throw std::runtime_error("the launch floor could not be measured");
  return out;
}

struct Ours {
  std::size_t processes = 0;
  double private_kib = 0;
};
// Supervisors of running tasks and what memory is theirs alone.
Ours our_processes() {
  Ours ours;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code gone;
    const auto exe = fs::read_symlink(entry.path() / "exe", gone);
    if (gone || exe.filename() != "gantry-supervisor") continue;
    // Only ours: other agents may run on this machine. A supervisor's parent is us or, detached, init.
    ++ours.processes;
    std::ifstream in(entry.path() / "smaps_rollup");
    std::string word;
    double kib = 0;
    while (in >> word)
      if (word.starts_with("Private_") && in >> kib) ours.private_kib += kib;
  }
  return ours;
}

}  // namespace

void run_launch(const Settings& settings, const Report& report) {
  static const char* const names[] = {"launch_floor",        "launch_real_one",      "launch_real_one_to_floor", "launch_real_200",
                                      "launch_cpu_per_task", "launch_own_processes", "launch_own_memory"};
  const Hierarchies h = find_hierarchies();
  const std::string why = ::geteuid() != 0                                                                          ? "needs root"
                          : h.cpu.empty() || h.memory.empty() || ::access((h.cpu + "/cgroup.procs").c_str(), W_OK) != 0 ? "no usable cpu and memory cgroups"
                                                                                                                    : "";
  if (!why.empty()) {
    for (const char* n : names) report.skipped(n, why);
    return;
  }
  const std::size_t ones = settings.size(50, 2), batch = settings.size(200, 5), sleepers = settings.size(100, 5);
  const CpuMeter meter(h);
  const std::string cgroup = "gantry-bench-" + std::to_string(::getpid());
  TemporaryDirectory dir;
  const auto loop = net::make_real_loop();
  {
    Machine machine(*loop, settings, dir.path(), cgroup);
    const unsigned runs = settings.repeat(5);
    std::vector<std::vector<double>> floor(runs), one(runs);
    std::vector<double> ratios, rates, cpus;
    for (unsigned run = 0; run < runs; ++run) {
      floor[run] = floor_ms(settings, h, ones);
      for (std::size_t i = 0; i < ones; ++i)
        machine.launch(1, {}, fb::TaskState::TASK_FINISHED, [&](double s) { one[run].push_back(s * 1000); });
      ratios.push_back(Report::median_of(one[run]) / Report::median_of(floor[run]));
      double last = 0;
      const double cpu = meter.seconds();
      machine.launch(batch, {}, fb::TaskState::TASK_FINISHED, [&](double s) { last = s; });
      cpus.push_back((meter.seconds() - cpu) / static_cast<double>(batch) * 1000);
      rates.push_back(static_cast<double>(batch) / last);
    }
    report.latencies("launch_floor", "ms", floor);
    report.latencies("launch_real_one", "ms", one);
    report.value("launch_real_one_to_floor", "ratio", ratios);
    report.value("launch_real_200", "tasks/s", rates);
    report.value("launch_cpu_per_task", "ms", cpus);

    const double before = resident_bytes();
    const Ours others = our_processes();
    machine.launch(sleepers, {"/bin/sleep", "1000"}, fb::TaskState::TASK_RUNNING, [](double) {});
    const double grown = std::max(0.0, resident_bytes() - before) / 1024;
    Ours ours = our_processes();
    ours.processes -= others.processes;
    ours.private_kib -= others.private_kib;
    const auto n = static_cast<double>(sleepers);
    report.value("launch_own_processes", "count", {static_cast<double>(ours.processes) / n});
    // What the daemon itself needs more for a running task counts too.
    report.value("launch_own_memory", "KiB", {(ours.private_kib + grown) / n});
    machine.kill_all(sleepers);
  }
  for (const auto& top : {h.cpu, h.memory}) ::rmdir((top + "/" + cgroup).c_str());
}

}  // namespace gantry::bench
