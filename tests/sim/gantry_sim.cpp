// gantry-sim: plays simulated clusters, many seeds or one.
#include "tests/sim/world.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernel/base/log.hpp"

namespace {

constexpr const char* usage =
    "usage: gantry-sim [--seed N] [--seeds N] [--minutes N] [--agents N] [--frameworks N] [--break GUARD] [--trace]\n"
    "\n"
    "  --seed N        first seed (1); alone, or with --seeds 1, replays one run\n"
    "  --seeds N       how many seeds to play (1)\n"
    "  --minutes N     simulated minutes with faults (60), then 30 quiet ones\n"
    "  --agents N      (4)\n"
    "  --frameworks N  (3)\n"
    "  --break GUARD   take a guard away, to see the simulator notice: store-before-acknowledge, append-before-send\n"
    "  --trace         print what happens\n"
    "\n"
    "Prints a line for each broken seed with the command that replays it. Exit status 0: all laws held.\n";

}  // namespace

int main(int argc, char** argv) {
  gantry::sim::WorldOptions options;
  std::uint64_t first = 1, count = 1;
  std::string replay;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto number = [&]() -> std::uint64_t {
      if (i + 1 >= argc) {
        std::fprintf(stderr, "gantry-sim: %s needs a number\n%s", arg.c_str(), usage);
        std::exit(2);
      }
      char* end = nullptr;
      const std::uint64_t v = std::strtoull(argv[++i], &end, 10);
      if (*end || !*argv[i]) {
        std::fprintf(stderr, "gantry-sim: \"%s\" is no number\n", argv[i]);
        std::exit(2);
      }
      return v;
    };
    if (arg == "--help" || arg == "-h") {
      std::fputs(usage, stdout);
      return 0;
    }
    if (arg == "--seed") first = number();
    else if (arg == "--seeds") count = number();
    else if (arg == "--minutes") { const auto n = number(); options.length = std::chrono::minutes(n); replay += " --minutes " + std::to_string(n); }
    else if (arg == "--agents") { options.agents = static_cast<unsigned>(number()); replay += " --agents " + std::to_string(options.agents); }
    else if (arg == "--frameworks") { options.frameworks = static_cast<unsigned>(number()); replay += " --frameworks " + std::to_string(options.frameworks); }
    else if (arg == "--trace") options.trace = true;
    else if (arg == "--break" && i + 1 < argc) {
      const std::string guard = argv[++i];
      if (guard == "store-before-acknowledge") options.acknowledge_before_store = true;
      else if (guard == "append-before-send") options.send_before_append = true;
      else {
        std::fprintf(stderr, "gantry-sim: no guard \"%s\"\n%s", guard.c_str(), usage);
        return 2;
      }
      replay += " --break " + guard;
    } else {
      std::fprintf(stderr, "gantry-sim: unknown argument \"%s\"\n%s", arg.c_str(), usage);
      return 2;
    }
  }
  if (!options.trace) gantry::base::log_threshold() = 100;  // the cores' own logs are of no interest here
  gantry::sim::World::Statistics total;
  std::uint64_t broken = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    options.seed = seed;
    gantry::sim::World world(options);
    if (!world.run()) {
      ++broken;
      std::printf("seed %llu broke a law: %s\n  replay: gantry-sim --seed %llu%s --trace\n", static_cast<unsigned long long>(seed),
                  world.broken().c_str(), static_cast<unsigned long long>(seed), replay.c_str());
      std::fflush(stdout);
    }
    total.steps += world.statistics.steps;
    total.faults += world.statistics.faults;
    total.launched += world.statistics.launched;
    total.terminal += world.statistics.terminal;
    total.master_starts += world.statistics.master_starts;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%llu seeds, %llu broken; %llu steps, %llu faults, %llu master starts, %llu tasks launched, %llu ended; %.1f s\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(broken), static_cast<unsigned long long>(total.steps),
              static_cast<unsigned long long>(total.faults), static_cast<unsigned long long>(total.master_starts),
              static_cast<unsigned long long>(total.launched), static_cast<unsigned long long>(total.terminal), seconds);
  return broken == 0 ? 0 : 1;
}
