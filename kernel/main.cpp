// gantryd: flags -> configuration -> Kernel -> run.
#include "kernel/base/log.hpp"
#include "kernel/config/config.hpp"
#include "kernel/kernel.hpp"

#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr const char* usage =
    "usage: gantryd --config FILE [--set KEY=VALUE]... [--check]\n"
    "\n"
    "  --config FILE      the main configuration file; conf.d/*.toml beside it is read too\n"
    "  --set KEY=VALUE    override one setting, e.g. --set kernel.log_level=debug\n"
    "  --check            read and check the configuration, run nothing, exit 0 if it is good\n"
    "  --version          print the version\n"
    "  --help             this text\n"
    "\n"
    "Signals: HUP reload the configuration; TERM, INT stop (tasks of an agent go on and are taken back by the next\n"
    "start); USR1 end all tasks of this agent, sign off and stop.\n"
    "\n"
    "Exit status: 0 stopped as asked; 1 failed while running; 2 wrong usage or configuration; 3 could not start.\n";

}  // namespace

int main(int argc, char** argv) {
  gantry::config::Options options;
  bool check = false;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&](const char* flag) -> const char* {
      const std::size_t n = std::strlen(flag);
      if (arg.compare(0, n, flag) == 0 && arg.size() > n && arg[n] == '=') return argv[i] + n + 1;
      if (arg == flag && i + 1 < argc) return argv[++i];
      return nullptr;
    };
    if (arg == "--help" || arg == "-h") {
      std::fputs(usage, stdout);
      return 0;
    }
    if (arg == "--version") {
      std::printf("gantryd %s\n", GANTRY_VERSION);
      return 0;
    }
    if (arg == "--check") check = true;
    else if (const char* file = value("--config")) options.file = file;
    else if (const char* set = value("--set")) options.set.emplace_back(set);
    else {
      std::fprintf(stderr, "gantryd: unknown or incomplete argument \"%s\"\n%s", arg.c_str(), usage);
      return 2;
    }
  }
  if (options.file.empty()) {
    std::fprintf(stderr, "gantryd: --config FILE is missing\n%s", usage);
    return 2;
  }

  options.module_dirs = gantry::config::default_module_dirs();
  gantry::config::Loaded loaded = gantry::config::load(options);
  for (const auto& problem : loaded.problems) std::fprintf(stderr, "%s\n", problem.text().c_str());
  if (!loaded.config) {
    std::fprintf(stderr, "gantryd: %zu error%s in the configuration; nothing was started\n", loaded.errors(), loaded.errors() == 1 ? "" : "s");
    return 2;
  }
  if (check) {
    std::printf("the configuration is good (%zu file%s, %zu modules)\n", loaded.config->files().size(),
                loaded.config->files().size() == 1 ? "" : "s", loaded.config->modules().size());
    return 0;
  }

  std::signal(SIGPIPE, SIG_IGN);
  // A master holds a descriptor per agent and client.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  return gantry::kernel::run(std::move(options), loaded.config, GANTRY_VERSION);
}
