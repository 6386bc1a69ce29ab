// mesos-execute: reads the command line; the work is in execute.cpp.
#include "execute.hpp"
#include "tables.hpp"

#include <pwd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

using namespace gantry::compat;

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  const auto mistaken = [](const std::string& message) {
    std::fputs((usage("mesos-execute", execute_flags(), message)).c_str(), stderr);
    return 1;
  };
  // From the command line alone, as the ancestor does.
  const auto given = read_flags(execute_flags(), words, {});
  if (!given) return mistaken(given.error().message);
  if (given->flag("help")) {
    std::fputs(usage("mesos-execute", execute_flags()).c_str(), stdout);
    return 0;
  }
  const passwd* who = ::getpwuid(::geteuid());
  if (!who) {
    std::fprintf(stderr, "No username for uid %u\n", static_cast<unsigned>(::geteuid()));
    return 1;
  }
  Mistake mistake;
  auto job = job_of(*given, who->pw_name, mistake);
  if (!job) {
    if (mistake.usage) return mistaken(mistake.message);
    std::fprintf(stderr, "%s\n", mistake.message.c_str());
    return 1;
  }
  std::string master = given->text("master");
  if (master.starts_with("zk://")) {
    std::fputs("Could not parse --master: it is host:port\n", stderr);
    return 1;
  }
  if (master.find(':') == std::string::npos) master += ":5050";
  return run_execute(master, std::move(*job));
}
