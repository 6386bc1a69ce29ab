// gantry task stats: what running tasks use, live.
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/gantry/resources.hpp"
#include "tools/gantry/tasks.hpp"

#include <chrono>
#include <iostream>
#include <map>
#include <thread>

namespace gantry::cli {

namespace control = fb::control;

namespace {

constexpr auto interval = std::chrono::seconds(1);

struct Sample {
  control::TaskUsageT usage;
  std::string hostname;
};
using Samples = std::map<std::string, Sample>;  // by framework and task

Result<Samples> look(Context& c, Daemon& master, const std::string& task) {
  Samples out;
  GANTRY_TRY(const auto agents, agents_of(master));
  for (const auto& a : agents) {
    auto agent = connect_to(c, a, false);
    if (!agent) {
      *c.err << "gantry: " << printable(a.hostname) << ": " << printable(agent.error().message) << "\n";
      continue;
    }
    control::AskUsageT ask;
    ask.task_id = task;
    GANTRY_CHECK(agent->ask_for<control::UsagesT>(std::move(ask), [&](const control::UsagesT& u) {
      for (const auto& one : u.usages)
        if (one->usage) out[one->framework_id + '\0' + one->task_id] = {*one, a.hostname};
    }));
  }
  return out;
}

std::string bytes(std::uint64_t n) { return mebibytes(static_cast<double>(n) / 1048576.0); }

// Cores in use between two looks; negative: not known yet.
double cores(const Samples& before, const std::string& key, const control::TaskUsageT& now) {
  const auto it = before.find(key);
  if (it == before.end() || now.wall_ns <= it->second.usage.wall_ns) return -1;
  const auto& then = *it->second.usage.usage;
  const double spent = static_cast<double>(now.usage->cpu_user_ns + now.usage->cpu_system_ns) - static_cast<double>(then.cpu_user_ns + then.cpu_system_ns);
  return std::max(0.0, spent / static_cast<double>(now.wall_ns - it->second.usage.wall_ns));
}

void show(Context& c, const Samples& before, const Samples& now, bool clear) {
  Table t({"TASK", "HOST", "CPU", "OF", "MEM", "LIMIT", "PROCS", "READ", "WRITTEN", "RECEIVED", "SENT", "DISK", "GPU"});
  for (const auto& [key, s] : now) {
    const auto& u = *s.usage.usage;
    const double used = cores(before, key, s.usage);
    double gpu = 0;
    for (const auto& g : u.gpus) gpu += g->utilization;
    t.add({s.usage.task_id, s.hostname, used < 0 ? "" : amount(used), amount(scalar(s.usage.limits, "cpus")), bytes(u.memory_total ? u.memory_total : u.memory_rss),
           u.memory_limit ? bytes(u.memory_limit) : "", u.processes ? std::to_string(u.processes) : "", u.io_read_bytes ? bytes(u.io_read_bytes) : "",
           u.io_write_bytes ? bytes(u.io_write_bytes) : "", u.network_rx_bytes ? bytes(u.network_rx_bytes) : "", u.network_tx_bytes ? bytes(u.network_tx_bytes) : "",
           u.disk_used ? bytes(u.disk_used) : "", u.gpus.empty() ? "" : amount(gpu)});
  }
  if (clear) *c.out << "\033[H\033[2J";
  if (t.empty()) *c.out << "No task is running.\n";
  else *c.out << t.text(c.terminal);
  c.out->flush();
}

void show_json(Context& c, const Samples& before, const Samples& now) {
  JsonWriter w;
  w.open('{').key("tasks").open('[');
  for (const auto& [key, s] : now) {
    const auto& u = *s.usage.usage;
    w.open('{').field("id", s.usage.task_id).field("framework_id", s.usage.framework_id).field("hostname", s.hostname);
    if (const double used = cores(before, key, s.usage); used >= 0) w.field("cpus", used);
    w.field("cpu_user_ns", u.cpu_user_ns).field("cpu_system_ns", u.cpu_system_ns).field("cpu_throttled_ns", u.cpu_throttled_ns);
    w.field("memory", u.memory_total).field("memory_rss", u.memory_rss).field("memory_limit", u.memory_limit).field("processes", static_cast<std::uint64_t>(u.processes));
    w.field("io_read_bytes", u.io_read_bytes).field("io_write_bytes", u.io_write_bytes);
    w.field("network_rx_bytes", u.network_rx_bytes).field("network_tx_bytes", u.network_tx_bytes).field("disk_used", u.disk_used).field("disk_limit", u.disk_limit);
    write_resources(w, "resources", s.usage.limits);
    w.close();
  }
  w.close().close();
  *c.out << w.text();
}

}  // namespace

int task_stats(Context& c, const std::string& wanted, bool once) {
  auto master = Daemon::find(c);
  if (!master) return report(c, master.error());
  std::string id;
  if (!wanted.empty()) {
    auto task = find_task(*master, wanted, false);
    if (!task) return report(c, task.error());
    id = id_of(*task);
  }
  auto before = look(c, *master, id);
  if (!before) return report(c, before.error());
  for (;;) {
    std::this_thread::sleep_for(interval);
    if (c.interrupted && c.interrupted->load()) return exit_ok;
    auto now = look(c, *master, id);
    if (!now) return report(c, now.error());
    if (c.json) show_json(c, *before, *now);
    else show(c, *before, *now, c.terminal && !once);
    if (once || c.json || !c.terminal) return exit_ok;
    before = std::move(now);
  }
}

}  // namespace gantry::cli
