#include "keeper.hpp"

#include "group.hpp"
#include "guest.hpp"
#include "sandbox.hpp"

#include "kernel/module/process/spawn.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <string>

namespace gantry::modhost {
namespace {

// Processes the module has left behind have become our children.
void kill_orphans() {
  const std::string children = "/proc/self/task/" + std::to_string(::getpid()) + "/children";
  for (int round = 0; round < 500; ++round) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    bool anyone = false;
    std::ifstream in(children);
    for (long pid = 0; in >> pid;) {
      anyone = true;
      ::kill(static_cast<pid_t>(pid), SIGKILL);
    }
    if (!anyone) return;
    const timespec t{0, 1'000'000};
    ::nanosleep(&t, nullptr);
  }
}

std::string mib(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

int keep(const Options& o) {
  // When gantryd dies, this ends; and with this, the module.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t watched, before;
  ::sigemptyset(&watched);
  for (const int s : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&watched, s);
  ::sigprocmask(SIG_BLOCK, &watched, &before);
  // The user the module runs as may not be able to reach it later.
  const int file = ::open(o.module.c_str(), O_RDONLY | O_CLOEXEC);
  const Group group(o);

  const pid_t pid = ::fork();
  if (pid < 0) {
    std::perror("fork");
    return 1;
  }
  if (pid == 0) {
    ::close(status_fd);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Status shut = shut_in(o, group);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    return run_guest(o, file, shut);
  }
  ::close(socket_fd);  // so that its end shows at once
  if (file >= 0) ::close(file);

  int status = 0;
  for (bool running = true; running;) {
    const int signal = ::sigwaitinfo(&watched, nullptr);
    if (signal < 0 && errno == EINTR) continue;
    for (pid_t ended = 0; running && (ended = ::waitpid(-1, &status, WNOHANG)) > 0;) running = ended != pid;
    if (running && signal != SIGCHLD) {
      ::kill(pid, SIGKILL);
      while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
      }
      running = false;
    }
  }
  std::string why = WIFSIGNALED(status) ? module::process::describe_end(CLD_KILLED, WTERMSIG(status))
                                        : module::process::describe_end(CLD_EXITED, WEXITSTATUS(status));
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && group.out_of_memory())
    why = "killed because it reached its memory limit of " + mib(o.memory);
  group.kill();
  kill_orphans();
  group.remove();
  why += '\n';
  (void)!::write(status_fd, why.data(), why.size());
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace gantry::modhost
