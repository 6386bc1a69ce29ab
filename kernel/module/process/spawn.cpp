#include "kernel/module/process/spawn.hpp"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

extern char** environ;

namespace gantry::module::process {
namespace {

// Above the numbers the child wants, so that none is overwritten before it is copied.
base::Fd high(int fd) { return base::Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 16)); }

}  // namespace

std::vector<std::string> HostCommand::arguments() const {
  std::vector<std::string> a{program, "--module", path, "--id", kind + "." + name};
  const auto add = [&](const char* flag, std::string value) {
    a.emplace_back(flag);
    a.push_back(std::move(value));
  };
  if (unstable) a.emplace_back("--unstable");
  if (quiet) a.emplace_back("--quiet");
  if (!sandbox.user.empty()) add("--user", sandbox.user);
  if (!sandbox.group.empty()) add("--group", sandbox.group);
  if (sandbox.memory) add("--memory", std::to_string(sandbox.memory));
  if (sandbox.cpu > 0) {
    char cpu[32];
    std::snprintf(cpu, sizeof cpu, "%.3f", sandbox.cpu);
    add("--cpu", cpu);
  }
  if (sandbox.files) add("--files", std::to_string(sandbox.files));
  if (sandbox.processes) add("--processes", std::to_string(sandbox.processes));
  for (const auto& d : sandbox.devices) add("--device", d);
  for (const auto& c : sandbox.capabilities) add("--capability", c);
  if (!sandbox.seccomp) add("--seccomp", "off");
  return a;
}

Result<Spawned> spawn_host(const HostCommand& command) {
  const auto failed = [&](const char* what, int error) {
    return fail(Code::unavailable, "cannot start " + command.program + " for " + command.kind + "." + command.name +
                                       ": " + what + ": " + std::strerror(error));
  };
  int pair[2], output[2], status[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return failed("socketpair", errno);
  Spawned s;
  s.socket = base::Fd(pair[0]);
  base::Fd theirs(pair[1]);
  if (::pipe2(output, O_CLOEXEC) != 0) return failed("pipe", errno);
  s.output = base::Fd(output[0]);
  base::Fd their_output(output[1]);
  if (::pipe2(status, O_CLOEXEC) != 0) return failed("pipe", errno);
  s.status = base::Fd(status[0]);
  base::Fd their_status(status[1]);
  for (const int fd : {pair[0], output[0], status[0]}) ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  theirs = high(theirs.get());
  their_output = high(their_output.get());
  their_status = high(their_status.get());
  if (!theirs || !their_output || !their_status) return failed("dup", errno);

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, their_output.get(), 1);
  ::posix_spawn_file_actions_adddup2(&actions, their_output.get(), 2);
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), 3);
  ::posix_spawn_file_actions_adddup2(&actions, their_status.get(), 4);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  // A group of its own: the terminal's interrupt is for the daemon, which stops its modules in order.
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  const std::vector<std::string> arguments = command.arguments();
  std::vector<char*> argv;
  for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, command.program.c_str(), &actions, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error) return failed("exec", error);
  s.pid = pid;
  // Nobody else waits for our children, so the number is still this one's.
  s.pidfd = base::Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!s.pidfd) {
    const int why = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return failed("pidfd_open", why);
  }
  return s;
}

std::string describe_end(int code, int status) {
  if (code == CLD_EXITED) return "exited with status " + std::to_string(status);
  const char* name = ::strsignal(status);
  return "killed by signal " + std::to_string(status) + (name ? " (" + std::string(name) + ")" : std::string());
}

}  // namespace gantry::module::process
