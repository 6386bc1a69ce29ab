// gantry-scenario: plays text cases on the simulated cluster.
#include "kernel/base/log.hpp"
#include "tests/scenario/player.hpp"

#include <cstdio>
#include <cstring>

namespace {

constexpr const char* usage =
    "usage: gantry-scenario [--trace] FILE...\n"
    "\n"
    "Plays each file (the format is in tests/scenario/README.md) on a simulated cluster: the real master, agent and\n"
    "allocator on a clock that takes no time.\n"
    "\n"
    "  --trace   print each step, what the daemons log and when they start and stop\n"
    "\n"
    "Prints a line a file; for one that failed, its place, what was expected and what was heard instead.\n"
    "Exit status 0: all as expected; 1: one was not; 2: wrong arguments.\n";

}  // namespace

int main(int argc, char** argv) {
  bool trace = false, failed = false;
  int files = 0;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--help") || !std::strcmp(argv[i], "-h")) {
      std::fputs(usage, stdout);
      return 0;
    }
    if (!std::strcmp(argv[i], "--trace")) {
      trace = true;
    } else if (argv[i][0] == '-') {
      std::fprintf(stderr, "gantry-scenario: unknown argument \"%s\"\n%s", argv[i], usage);
      return 2;
    } else {
      ++files;
    }
  }
  if (!files) {
    std::fputs(usage, stderr);
    return 2;
  }
  if (!trace) gantry::base::log_threshold() = 100;
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] == '-') continue;
    const std::string wrong = gantry::scenario::play_file(argv[i], trace);
    if (wrong.empty()) std::printf("ok      %s\n", argv[i]);
    else std::printf("FAILED  %s\n%s\n", argv[i], wrong.c_str());
    failed |= !wrong.empty();
  }
  return failed ? 1 : 0;
}
