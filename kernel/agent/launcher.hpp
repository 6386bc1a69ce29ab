// The seam between the agent, which decides and remembers, and whatever runs containers.
//
// ContainerLauncher (container_launcher.hpp) is the real one; tests use tests/kernel/agent/fake_launcher.hpp.
#pragma once

#include "kernel/base/loop.hpp"

#include <gantry/isolator_generated.h>
#include <gantry/message.hpp>
#include <gantry/result.hpp>
#include <gantry/types_generated.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace gantry::agent {

// What makes a container recognizable after the agent restarted. A pid alone is not: it may have been reused.
struct Identity {
  int pid = 0;                         // first process of the container, in the agent's pid namespace
  int supervisor_pid = 0;
  std::uint64_t supervisor_start = 0;  // clock ticks since boot, /proc/<pid>/stat field 22
  // Its addresses, if it has a network of its own. Not in the journal: recovery tells them again.
  std::vector<fb::NetworkInfoT> networks = {};
};

struct LaunchSpec {
  std::string container_id;  // unique for ever
  std::string agent_id;
  std::string framework_id;
  std::string user;                          // account of the task; empty = the agent's own
  // Absolute: <work_dir>/slaves/<agent>/frameworks/<framework>/executors/<task>/runs/<container>
  std::string sandbox;
  std::shared_ptr<const fb::TaskInfoT> task;  // has a command
  // Of a custom executor's container: what it finds in its environment, below what its command says. `task` is then made
  // up: id and command of the executor, resources of it and its tasks.
  bool executor = false;
  // Of any other: what is added to its environment, below what its command says.
  std::vector<std::pair<std::string, std::string>> environment;
  // It only holds namespaces, cgroups and a sandbox for containers nested in it; nothing is executed, it ends when it is killed.
  bool hold = false;
  // The container it is nested in, which runs: it uses that one's network, ipc and uts namespaces unless it wants its own, and ends
  // before that one does. Its sandbox lies in that one's. Empty: not nested.
  std::string parent;
  bool share_cgroups = false;                // with its parent
};

// Why and how a container ended.
struct ExitInfo {
  std::optional<int> wait_status;            // as from waitpid(2); absent if nobody saw it
  std::optional<fb::Reason> reason;          // set when it was ended from outside: a limitation, a failed isolator
  std::string message;                       // goes with reason
  std::vector<fb::ResourceT> limitation;     // resources of a limitation
  bool with_parent = false;                  // because the container ended that it was nested in
};

// A container the agent believes alive, for recovery.
struct KnownContainer {
  LaunchSpec spec;
  std::optional<Identity> identity;  // absent: the agent died while launching it
};

struct RecoveredContainer {
  enum class Fate {
    running,  // re-attached: on_exit will report its end
    exited,   // ended while the agent was away; `exit` is what its supervisor recorded. Already cleaned up.
    gone,     // no trace of it, or never completely launched. Whatever was left has been destroyed.
  };
  std::string container_id;
  Fate fate = Fate::gone;
  ExitInfo exit;
  std::vector<fb::NetworkInfoT> networks;  // of a running one
};

// A command that runs beside a container, with its streams in the hands of whoever asked for it. Words to one that has ended are
// ignored. One of whom nothing is heard for 20 s is killed: whoever asked is taken for gone.
struct ExecOptions {
  fb::CommandInfoT command;
  bool terminal = false, input = false;
  unsigned rows = 0, columns = 0;  // of the terminal; 0: the system's default
};
class Beside {
 public:
  virtual ~Beside() = default;
  // `read` runs when most of it has been read, or will never be: whoever waits for that sends no faster than the command reads.
  virtual void write(Bytes bytes, Function<void()> read) = 0;
  virtual void end_input() = 0;
  virtual void resize(unsigned rows, unsigned columns) = 0;
  virtual void signal(int number) = 0;            // SIGKILL reaches all of it, others its first process
  virtual void taken(std::uint64_t bytes) = 0;    // of the output; at most 1 MiB is on its way
};

// Everything runs on the loop's thread; callbacks never run from inside the call that takes them.
class Launcher {
 public:
  virtual ~Launcher() = default;

  // Reports the end of a container that had started, exactly once, after all its processes are gone and its isolators
  // have cleaned up. Set before anything else. Never called for a container whose launch failed.
  virtual void on_exit(std::function<void(const std::string& container_id, ExitInfo)> fn) = 0;

  // Comes once, before the first launch. Re-attaches, and destroys what is not listed (orphans).
  virtual void recover(std::vector<KnownContainer> known,
                       Function<void(Result<std::vector<RecoveredContainer>>)> done) = 0;

  // Runs the whole launch flow. `started` runs exactly once: with the identity when the first process runs, or with the
  // error after everything has been undone. A kill during the launch makes it end with CANCELLED (unless it is too
  // late). The error's message is shown to the user, so it says what failed with which value.
  struct LaunchError {
    Error error;
    fb::Reason reason = fb::Reason::REASON_CONTAINER_LAUNCH_FAILED;
  };
  using Started = std::variant<Identity, LaunchError>;
  virtual void launch(LaunchSpec spec, Function<void(Started)> started) = 0;

  // SIGTERM to every process of the container now, SIGKILL after `grace`. Repeated: the earlier SIGKILL counts. Grace
  // 0: SIGKILL at once. Unknown or ended containers: nothing happens.
  virtual void kill(const std::string& container_id, base::Nanos grace) = 0;

  // A running container's resources have become these. Unknown containers: OK.
  virtual void update(const std::string& /*container_id*/, std::vector<std::unique_ptr<fb::ResourceT>> /*resources*/,
                      Function<void(Status)> done) {
    done(ok);
  }

  // Runs a command beside the task, in its namespaces and sandbox, with its environment and user. done gets the wait
  // status, or an error (DEADLINE_EXCEEDED after `timeout`, when it has been killed; NOT_FOUND for unknown containers).
  virtual void run_in(const std::string& container_id, const fb::CommandInfoT& command, base::Nanos timeout,
                      Function<void(Result<int>)> done) = 0;

  // As run_in, without a time limit and with streams. `output` runs for each piece (true: of standard error), `ended` once, last, with
  // the wait status or why it did not run.
  virtual std::shared_ptr<Beside> exec(const std::string& container_id, ExecOptions options, Function<void(bool errors, Bytes)> output,
                                       Function<void(Result<int>)> ended) {
    (void)options, (void)output;
    ended(fail(Code::unimplemented, "commands cannot be run beside container " + container_id));
    return nullptr;
  }

  // Resource usage of running containers (all if empty); unknown ones are left out.
  virtual void usage(std::vector<std::string> container_ids,
                     Function<void(Result<std::vector<fb::isolator::UsageT>>)> done) = 0;

  // The sandbox is no longer needed by the agent; it may be collected by the launcher's own rules. Sandboxes from
  // before a restart are found by looking at the disk.
  virtual void release_sandbox(const std::string& sandbox) = 0;

  // Detaches from everything without killing anything; `done` runs when no callback will follow.
  virtual void stop(Function<void()> done) = 0;
};

}  // namespace gantry::agent
