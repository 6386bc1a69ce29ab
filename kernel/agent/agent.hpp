// The agent: the shell that gives the core time, a disk, a link to the master and a launcher.
//
// Stopping it leaves the tasks running; they are taken back by the next start in the same work_dir.
#pragma once

#include "kernel/agent/checkpoint.hpp"
#include "kernel/agent/checks.hpp"
#include "kernel/agent/core.hpp"
#include "kernel/agent/detect.hpp"
#include "kernel/agent/launcher.hpp"
#include "kernel/agent/master_link.hpp"
#include "kernel/base/loop.hpp"
#include "kernel/resource/fault_domain.hpp"

#include <gantry/control_generated.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>

namespace gantry::agent {

struct AgentOptions {
  std::string work_dir;  // absolute; the journal goes to <work_dir>/agent, sandboxes to <work_dir>/slaves
  std::string hostname;                    // empty: the machine's
  int port = 5051;                         // as told to frameworks
  std::string address;                     // host:port where sandboxes of this agent can be read
  std::string version;
  std::string principal, secret;
  Resources resources;                     // by name over what is detected
  std::vector<std::unique_ptr<fb::AttributeT>> attributes;
  std::optional<resource::FaultDomain> domain;
  bool switch_user = true;
  std::string boot_id;                     // empty: the machine's
  std::uint64_t seed = 0;                  // 0: random
  base::Nanos sync_interval = std::chrono::seconds(1);  // of the journal, against power cuts; 0 = never
  base::Nanos backoff_first = std::chrono::seconds(1), backoff_max = std::chrono::seconds(60);
  base::Nanos default_grace = std::chrono::seconds(3);
  base::Nanos executor_registration = std::chrono::minutes(1), executor_reregistration = std::chrono::seconds(15);
  base::Nanos executor_grace = std::chrono::seconds(5);
};

// Where what executors hear goes out (executor_service.hpp). Not called from inside what it calls.
class ExecutorDoor {
 public:
  virtual ~ExecutorDoor() = default;
  virtual void send(std::uint64_t stream, Bytes event) = 0;
  virtual void end(std::uint64_t stream, const Status& why) = 0;
  virtual void answer(std::uint64_t request, const Status& status) = 0;
};

// Everything on the loop's thread. The parts outlive the agent.
class Agent {
 public:
  Agent(base::Loop& loop, AgentOptions options, Disk& disk, Launcher& launcher, MasterLink& link, Probes probes);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Opens the journal and begins recovery; connects when that is over and a leader is known. An error is one sentence
  // for the operator, and nothing has been started.
  Status start();
  // Stops without ending tasks: what is on disk is complete at any time.
  void stop();

  // Who leads, from the election; empty: nobody.
  void leader(const std::string& address);
  // Ends all tasks, tells the master, then on_stopped runs.
  void shut_down(const std::string& message);
  // Runs once when the agent's work is over: told to shut down, or refused for good (failed).
  void on_stopped(std::function<void(const std::string& message, bool failed)> fn) { on_stopped_ = std::move(fn); }

  // ---- custom executors: events of the core that are about them; the door outlives the agent. Before start(), or never.
  void door(ExecutorDoor* door) { door_ = door; }
  void of_executors(Event event);
  // An operator's call (operator_agent.fbs) and its Response; empty where there is nothing to tell. operate.cpp
  void operate(const std::string& principal, Bytes call, Function<void(Result<Buffer>)> reply);

  // ---- questions (control.fbs)
  // Answers AskTasks, ReadFile, KillTask, AskUsage, Exec and SessionInput; false for the others, then reply is not called.
  bool answer(const fb::control::Question& question, Function<void(fb::control::AnswerT)> reply);
  // Fills what an agent knows: agent_id, master_id, leader, registered, tasks, warnings.
  void describe(fb::control::StatusT& status) const;
  void metrics(fb::control::MetricsT& metrics) const;

  [[nodiscard]] const Core& core() const { return *core_; }

 private:
  void feed(Event event);
  void execute(Effects effects);
  void change_volumes(const effect::Volumes& e);
  void retry_journal();
  void sync_later();
  void compact_if_wanted();
  void rearm();
  void launch(LaunchSpec spec);
  void run_check(effect::RunCheck check);
  void resize(effect::Resize r);
  // sessions.cpp
  [[nodiscard]] const Task* running_task(const std::string& framework_id, const std::string& task_id) const;
  bool answer_about_containers(const fb::control::Question& question, Function<void(fb::control::AnswerT)>& reply);
  void usage(std::uint64_t id, const fb::control::AskUsage& ask, Function<void(fb::control::AnswerT)> reply);
  void exec(const fb::control::Question& question, Function<void(fb::control::AnswerT)> reply);
  void session_input(std::uint64_t id, const fb::control::SessionInput& in, Function<void(fb::control::AnswerT)> reply);
  void recover(std::vector<KnownContainer> known);
  // Wraps a callback so that it does nothing once this agent has stopped.
  template <class F>
  auto guarded(F fn) {
    return [alive = alive_, fn = std::move(fn)](auto&&... args) mutable {
      if (*alive) fn(std::forward<decltype(args)>(args)...);
    };
  }

  base::Loop& loop_;
  AgentOptions options_;
  Disk& disk_;
  Launcher& launcher_;
  MasterLink& link_;
  Probes probes_;
  ExecutorDoor* door_ = nullptr;
  base::Wall started_wall_ = 0;
  std::unique_ptr<Core> core_;
  std::unique_ptr<Journal> journal_;
  std::shared_ptr<bool> alive_;

  std::deque<Event> events_;
  bool feeding_ = false;
  base::TimerId timer_ = 0;
  base::Instant timer_due_ = base::Instant::max();

  // The journal in trouble: entries that wait to be written, in order;
  std::deque<fb::record::EntryT> waiting_;
  std::deque<effect::ToExecutor> withheld_;  // what executors may hear only then, in order
  bool journal_failed_ = false;
  base::TimerId retry_timer_ = 0;
  base::TimerId sync_timer_ = 0;
  bool syncing_ = false, dirty_ = false;

  std::map<std::uint64_t, std::shared_ptr<Beside>> sessions_;  // commands beside tasks, for operators
  std::uint64_t last_session_ = 0;

  std::function<void(const std::string&, bool)> on_stopped_;
};

// Reads a file below `root` (files.cpp). Never leaves it, whatever links the path holds. length is capped at 1 MiB.
[[nodiscard]] Result<fb::control::FileDataT> read_sandbox_file(const std::string& root, const std::string& path,
                                                               std::int64_t offset, std::uint32_t length);

}  // namespace gantry::agent
