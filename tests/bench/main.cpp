// gantry-bench [--list] [--smoke] [--runs N] [NAME...]
#include "tests/bench/report.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>

namespace gantry::bench {
namespace {

const std::vector<Group> groups = {
    {{"allocate_10k_agents_200_frameworks", "allocate_idle_10k_agents", "agent_arrives_to_offer", "freed_to_offer"}, run_allocate},
    {{"allocate_filtered_10k_agents_50_frameworks"}, run_allocate_filtered},
    {{"allocate_3k_agents_3k_roles_with_quota"}, run_allocate_quota},
    {{"control_plane_10k", "control_plane_10k_master_cpu"}, run_control_plane},
    {{"accept_to_running"}, run_accept_to_running},
    {{"place_100k_tasks_10k_agents"}, run_place_100k},
    {{"place_1m_tasks", "place_1m_tasks_rss", "master_bytes_per_agent", "master_bytes_per_task"}, run_place_1m},
    {{"launch_floor", "launch_real_one", "launch_real_one_to_floor", "launch_real_200", "launch_cpu_per_task", "launch_own_processes",
      "launch_own_memory"},
     run_launch},
    {{"call_in_process", "call_process_one", "call_process_64"}, run_module_call},
    {{"offer_delay_bad_module", "offer_delay_no_bad_module"}, run_bad_neighbour},
    {{"idle_rss_mb_master", "cold_start_ms_master", "idle_rss_mb_agent", "cold_start_ms_agent"}, run_daemons},
#ifdef GANTRY_BENCH_MESOS
    {{"mesos_life_cycles_protobuf", "mesos_life_cycle_cpu_protobuf"}, run_mesos_life_cycles_protobuf},
    {{"mesos_life_cycles_json", "mesos_life_cycle_cpu_json"}, run_mesos_life_cycles_json},
    {{"mesos_accept_to_running_protobuf", "mesos_declined_to_offered_protobuf"}, run_mesos_latency_protobuf},
    {{"mesos_accept_to_running_json", "mesos_declined_to_offered_json"}, run_mesos_latency_json},
    {{"mesos_memory_200k_tasks", "mesos_state_200k_tasks", "mesos_get_state_json_200k_tasks", "mesos_get_state_protobuf_200k_tasks",
      "mesos_state_summary_10k_agents", "mesos_health_5_state_readers", "mesos_launches_no_readers", "mesos_launches_5_state_readers",
      "mesos_launches_50_state_pollers"},
     run_mesos_reads},
#endif
};

int usage(int status) {
  std::fputs(
      "usage: gantry-bench [--list] [--smoke] [--runs N] [NAME...]\n"
      "\n"
      "Prints a line a figure: name value unit p50 p99 runs. Without names: all of them.\n"
      "  --list    the names\n"
      "  --smoke   tiny sizes, one run: only that everything works\n"
      "  --runs N  repetitions, instead of each figure's own number\n",
      status ? stderr : stdout);
  return status;
}

int run_child(const Group& group, const Settings& settings, const Report& report) {
  try {
    group.run(settings, report);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", group.names.front().c_str(), e.what());
    return 1;
  }
}

int run(int argc, char** argv) {
  Settings settings;
  std::set<std::string, std::less<>> wanted;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--help") return usage(0);
    if (arg == "--list") {
      for (const auto& g : groups)
        for (const auto& n : g.names) std::puts(n.c_str());
      return 0;
    }
    if (arg == "--smoke") settings.smoke = true;
    else if (arg == "--runs" && i + 1 < argc) settings.runs = static_cast<unsigned>(std::max(1, std::atoi(argv[++i])));
    else if (arg.starts_with("-")) return usage(2);
    else wanted.insert(arg);
  }
  std::set<std::string, std::less<>> known;
  for (const auto& g : groups) known.insert(g.names.begin(), g.names.end());
  for (const auto& n : wanted) {
    if (known.contains(n)) continue;
    std::fprintf(stderr, "gantry-bench: there is no figure \"%s\"; --list names them\n", n.c_str());
    return 2;
  }
  if (wanted.empty()) wanted = known;
  settings.bin_dir = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const Report report(wanted);
  int failed = 0;
  for (const auto& g : groups) {
    if (std::none_of(g.names.begin(), g.names.end(), [&](const auto& n) { return wanted.contains(n); })) continue;
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      const int status = run_child(g, settings, report);
      std::fflush(nullptr);
      ::_exit(status);
    }
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      std::fprintf(stderr, "gantry-bench: %s failed (status %d)\n", g.names.front().c_str(), status);
      failed = 1;
    }
  }
  return failed;
}

}  // namespace
}  // namespace gantry::bench

int main(int argc, char** argv) { return gantry::bench::run(argc, argv); }
