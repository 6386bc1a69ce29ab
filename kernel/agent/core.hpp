// The agent's mind: a pure state machine without thread, clock, disk, socket or random source.
//
// step(event, time, effects) changes the state and appends what shall be done, in order. The order carries the promise:
// an Append stands before every effect that makes its content visible to others. next_due() says when a Tick is wanted.
#pragma once

#include "kernel/agent/launcher.hpp"
#include "kernel/base/log.hpp"

#include <gantry/executor_generated.h>
#include <gantry/link_generated.h>
#include <gantry/message.hpp>
#include <gantry/record_generated.h>

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <tuple>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace gantry::agent {

using base::Instant;
using base::Nanos;

struct CoreOptions {
  fb::AgentInfoT info;                 // hostname, resources, attributes, address; id empty
  std::string ip;                      // of tasks on the machine's own network; empty: not known
  std::string principal, secret;       // for Hello
  std::string version;
  std::string boot_id;                 // of this boot of the machine
  std::string work_dir;                // absolute
  bool switch_user = true;             // false: everything runs as the agent's own account
  std::uint64_t seed = 1;              // of uuids and jitter; random at every start of a real agent
  Nanos backoff_first = std::chrono::seconds(1), backoff_max = std::chrono::seconds(60);     // connecting, registering
  Nanos retry_first = std::chrono::seconds(10), retry_max = std::chrono::minutes(10);        // status updates
  Nanos default_grace = std::chrono::seconds(3);
  // Where tokens come from; absent: from the seed (tests).
  std::function<std::uint64_t()> secrets;
  std::size_t completed_kept = 500;    // finished tasks kept in memory for questions
  // Custom executors: how long one may take to subscribe after its start, to come back after a restart of the agent, and to end
  // itself when asked to; and what it is told of restarts.
  Nanos executor_registration = std::chrono::minutes(1), executor_reregistration = std::chrono::seconds(15);
  Nanos executor_grace = std::chrono::seconds(5);
  Nanos executor_recovery = std::chrono::minutes(15), executor_backoff = std::chrono::seconds(2);
};

// What time it is, for one step.
struct Time {
  Instant now;
  base::Wall wall = 0;
};

// ---- events
namespace event {
struct Start {};                                        // after the journal has been replayed
struct Recovered { std::vector<RecoveredContainer> containers; };
struct Leader { std::string address; };                 // empty: nobody leads
struct LinkUp {};
struct LinkDown { std::string message; };               // also a failed connection attempt
struct Frame { Bytes bytes; };                          // of the master; verified here
struct Launched { std::string container_id; Identity identity; };
struct LaunchFailed {
  std::string container_id;
  fb::Reason reason;
  std::string message;
  bool unrecorded = false;                              // because its INTENT could not be appended: nothing is on disk
};
struct Exited { std::string container_id; ExitInfo exit; };
struct CheckDone { std::string container_id; std::uint64_t run = 0; bool healthy = false; std::string message; };
struct Checked { std::string container_id; std::uint64_t run = 0; fb::CheckStatusInfoT status; };
struct Tick {};
struct Journal { bool ok = true; std::string message; };  // not ok: it cannot be written at present
struct Kill { std::string framework_id, task_id; };       // by the operator
struct ShutDown { std::string message; };               // by the operator: end all tasks, sign off, stop
// ---- of custom executors (executor_service.hpp); token is what the executor showed
using Variables = std::vector<std::pair<std::string, std::string>>;
struct Serve { bool on = false; Variables variables; };   // whether executors can speak to us, and what they find in their environment
struct ExecutorSubscribe { std::uint64_t stream = 0; std::string token; Buffer call; };
struct ExecutorCall { std::uint64_t request = 0; std::string token; Buffer call; };  // ends in AnswerExecutor
struct ExecutorGone { std::uint64_t stream = 0; };
struct Resized { std::string container_id; bool ok = true; std::string message; };
}  // namespace event
using Event = std::variant<event::Start, event::Recovered, event::Leader, event::LinkUp, event::LinkDown, event::Frame,
                           event::Launched, event::LaunchFailed, event::Exited, event::CheckDone, event::Checked, event::Tick,
                           event::Journal, event::Kill, event::ShutDown, event::Serve, event::ExecutorSubscribe,
                           event::ExecutorCall, event::ExecutorGone, event::Resized>;

// ---- effects, to be executed in order
namespace effect {
struct Append { fb::record::EntryT entry; };            // later effects of the step wait until it is written
struct Send { Buffer frame; };                          // dropped silently if the link is down
struct Connect { std::string address; };                // ends in LinkUp or LinkDown
struct Disconnect {};                                   // nothing more is heard of that link
struct Recover { std::vector<KnownContainer> known; };  // ends in Recovered
struct Launch { LaunchSpec spec; };                     // ends in Launched or LaunchFailed
struct Kill { std::string container_id; Nanos grace; };
struct RunCheck {                                       // ends in CheckDone or Checked with the same run
  std::string container_id;
  std::uint64_t run = 0;
  std::shared_ptr<const fb::TaskInfoT> task;
  Nanos timeout;
  enum class What { health, check } what = What::health;  // task->health_check, task->check
};
struct Release { std::string sandbox; };
struct Volumes { Buffer frame; std::string registry; };  // fb::link::ToAgent with SetResources: make and remove volumes
struct Log { base::Level level; std::string message; std::string task_id; };
struct Stop { std::string message; bool failed = false; };            // the agent's work is over
struct ToExecutor { std::uint64_t stream = 0; Buffer event; };
struct EndExecutor { std::uint64_t stream = 0; Status why = gantry::ok; };  // nothing more is said on it
struct AnswerExecutor { std::uint64_t request = 0; Status status = gantry::ok; };
struct Resize { std::string container_id; std::vector<std::unique_ptr<fb::ResourceT>> resources; };  // ends in Resized
}  // namespace effect
using Effect = std::variant<effect::Append, effect::Send, effect::Connect, effect::Disconnect, effect::Recover,
                            effect::Launch, effect::Kill, effect::RunCheck, effect::Release, effect::Log, effect::Stop,
                            effect::ToExecutor, effect::EndExecutor, effect::AnswerExecutor, effect::Resize,
                            effect::Volumes>;
using Effects = std::vector<Effect>;

// ---- state that questions look at

[[nodiscard]] bool is_terminal(fb::TaskState);
// Of a check that has not run, or gave no answer in time.
[[nodiscard]] fb::CheckStatusInfoT no_result(fb::CheckType);

// Ids become folders of the sandbox tree.
[[nodiscard]] bool is_folder_name(std::string_view id);
// Of the default executor there is only a container, which holds what its tasks share; those are nested in it (groups.cpp).
[[nodiscard]] bool is_default(const fb::ExecutorInfoT&);
[[nodiscard]] bool is_nested(const fb::TaskInfoT&);
[[nodiscard]] bool shares_cgroups(const fb::TaskInfoT&);  // of a nested one: with the executor's container

struct Task;

// An executor: one container that several tasks share.
struct Executor {
  std::string framework_id;
  std::shared_ptr<const fb::ExecutorInfoT> info;  // framework_id set
  std::string container_id, sandbox;
  std::string token;                     // empty: it was not told one, and needs none
  enum class Phase { recovering, launching, running, ended } phase = Phase::launching;
  std::optional<Identity> identity;
  base::Wall launched_wall = 0;
  bool recorded = true;
  bool known = false;                    // has subscribed, ever
  bool subscribed = false;               // in this life of the agent
  std::uint64_t stream = 0;              // 0: not connected
  // Why it is being ended. The values are part of the journal.
  enum class Cause { none, asked, framework_removed, shutdown, registration, reregistration, resize, idle, unprotected } cause = Cause::none;
  std::vector<Task*> tasks;              // not ended, in order of arrival
  bool delivered = false;                // some task has reached it
  std::uint32_t size = 0, sized = 0;     // changes of its tasks, and what of them the container knows
  bool resizing = false;
  std::string problem;                   // of Cause::resize
  std::uint64_t serial = 0;
  Instant due{0};                        // to subscribe, or to have ended; 0 = none

  [[nodiscard]] const std::string& id() const { return info->executor_id; }
};

struct CompletedExecutor {
  std::string framework_id;
  std::shared_ptr<const fb::ExecutorInfoT> info;
  std::string container_id, sandbox;
};

struct Task {
  std::string framework_id;
  std::shared_ptr<const fb::TaskInfoT> info;
  std::string container_id, sandbox;     // empty: never got that far
  enum class Phase { recovering, launching, running, ended } phase = Phase::launching;
  fb::TaskStatusT status;                // latest
  std::optional<Identity> identity;
  base::Wall launched_wall = 0;
  bool unknown = false;                  // made only to tell the master that we do not know the task
  bool recorded = true;                  // false: nothing about it is in the journal, nor will be
  // Absent: it is a command with a container of its own. A custom one: the container is the executor's, and phase is `launching`
  // until the task was delivered. The default one: a container of its own inside the executor's.
  std::shared_ptr<Executor> executor;
  std::string group;                     // those of one executor with the same one end together; empty: alone
  std::uint32_t group_size = 0;          // of all that were launched with it, itself among them

  // Being killed, and why.
  enum class Cause { none, asked, unhealthy, too_long, framework_removed, shutdown, drained, drained_gone, group } cause = Cause::none;
  static constexpr Cause kLastCause = Cause::group;  // of the journal's
  Instant kill_due{0};

  // Status updates not acknowledged, oldest first; the first one may be in flight.
  std::deque<fb::TaskStatusT> outbox;
  Nanos retry{0};                        // 0: the first one has not been sent on this registration
  Instant retry_due{0};

  Instant completion_due{0};             // of max_completion_time; 0 = none

  struct Health {
    bool running = false;                // a check is under way
    std::uint64_t run = 0;
    bool initializing = true;            // no success yet
    Instant grace_end{0};
    std::uint32_t failures = 0;          // in a row
  } health;
  struct Check {
    bool running = false;
    std::uint64_t run = 0;
  } check;

  std::uint64_t serial = 0;              // in order of appearance
  Instant timer_due[5] = {};             // the core's: what of this task stands in its queue of timers

};

struct Completed {
  std::string framework_id;
  std::shared_ptr<const fb::TaskInfoT> info;
  fb::TaskStatusT status;
  std::string container_id, sandbox;
  base::Wall launched_wall = 0;
};

class Core {
 public:
  explicit Core(CoreOptions options);
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // Before Start: one entry of the journal, in order. Entries that contradict the others are ignored.
  void replay(const fb::record::Entry& entry);

  void step(const Event& event, Time time, Effects& effects);
  // When a Tick is wanted; Instant::max() if never.
  [[nodiscard]] Instant next_due() const;

  // Entries that would rebuild the present state: what compaction writes.
  [[nodiscard]] std::vector<fb::record::EntryT> snapshot() const;

  [[nodiscard]] const std::string& agent_id() const { return agent_id_; }
  [[nodiscard]] const std::string& master_id() const { return master_id_; }
  [[nodiscard]] const std::string& boot_id() const { return options_.boot_id; }
  [[nodiscard]] const std::string& leader() const { return leader_; }
  [[nodiscard]] bool registered() const { return link_ == LinkState::registered; }
  [[nodiscard]] const fb::AgentInfoT& info() const { return options_.info; }
  [[nodiscard]] const std::unordered_map<std::string, std::unique_ptr<Task>>& tasks() const { return tasks_; }
  [[nodiscard]] const Task* find(const std::string& framework_id, const std::string& task_id) const;
  [[nodiscard]] const std::deque<Completed>& completed() const { return completed_; }
  [[nodiscard]] const fb::FrameworkInfoT* framework(const std::string& id) const;
  [[nodiscard]] const std::string& journal_problem() const { return journal_problem_; }
  [[nodiscard]] const std::map<std::string, std::shared_ptr<Executor>>& executors() const { return executors_; }
  [[nodiscard]] const std::deque<CompletedExecutor>& completed_executors() const { return completed_executors_; }
  [[nodiscard]] const std::map<std::string, fb::FrameworkInfoT>& frameworks() const { return frameworks_; }
  struct Counters {
    std::map<fb::TaskState, std::uint64_t> ended;  // tasks, by how
    std::uint64_t updates = 0, messages = 0, executors_ended = 0, launches_failed = 0;
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  enum class LinkState { waiting, connecting, greeting, registering, registered };
  enum class Due : int { link, update, health, completion, check };
  static constexpr int kDues = 5;
  struct Step {
    Time time;
    Effects& effects;
  };

  // registration.cpp: the link
  void on(Step&, const event::Leader&);
  void on(Step&, const event::LinkUp&);
  void on(Step&, const event::LinkDown&);
  void on(Step&, const event::Frame&);
  void on_welcome(Step&, const fb::link::Welcome&);
  void on_registered(Step&, const fb::link::Registered&);
  void on_refused(Step&, const fb::link::Refused&);
  void on_ping(Step&, const fb::link::Ping&);
  void on_shutdown(Step&, const fb::link::Shutdown&);
  void on_drain(Step&, const fb::link::Drain&);
  void on_end_drain(Step&);
  void on_link_due(Step&);
  void dial(Step&);
  void dial_later(Step&);
  void send_register(Step&);
  void shut_down(Step&, std::string message, bool failed);
  void finish_shutdown(Step&);
  Nanos next_backoff(Nanos max);

  // tasks.cpp: from RunTask to the end of the container
  void on_run(Step&, const fb::link::RunTask&);
  void on_kill(Step&, const fb::link::KillTask&);
  void on_remove_framework(Step&, const fb::link::RemoveFramework&);
  void on_reconcile(Step&, const fb::link::ReconcileAgentTasks&);
  void on(Step&, const event::Launched&);
  void on(Step&, const event::LaunchFailed&);
  void on(Step&, const event::Exited&);
  void on(Step&, const event::Kill&);
  void on(Step&, const event::ShutDown&);
  void running(Step&, Task&, bool resumed);
  void ended(Step&, Task&, const ExitInfo&);
  void finish(Step&, Task&, fb::TaskStatusT, bool with_parent = false);
  void kill(Step&, Task&, Task::Cause, Nanos grace);
  void refuse(Step&, const std::string& framework_id, std::shared_ptr<const fb::TaskInfoT>, fb::TaskState, fb::Reason,
              std::string message);
  void refuse_run(Step&, const std::string& framework_id, std::shared_ptr<const fb::TaskInfoT>, std::optional<bool> launch_executor,
                  fb::TaskState, fb::Reason, std::string message);
  void tell_unknown(Step&, const std::string& framework_id, const std::string& task_id);
  Nanos grace_of(const Task&) const;
  [[nodiscard]] LaunchSpec spec_of_command(const Task&) const;

  // health.cpp: health checks and the completion time
  void on(Step&, const event::CheckDone&);
  void start_health(Step&, Task&, bool resumed);
  void on_health_due(Step&, Task&);

  // check.cpp: checks that mean nothing to us
  void on(Step&, const event::Checked&);
  void start_check(Step&, Task&, bool resumed);
  void on_check_due(Step&, Task&);
  void stop_checks(Task&);                 // and health checks

  // groups.cpp: task groups, and the default executor
  struct Refusal {
    fb::TaskState state;
    fb::Reason reason;
    std::string message;
  };
  void on_run_group(Step&, const fb::link::RunGroup&);
  [[nodiscard]] std::optional<Refusal> refusal_of(const std::string& framework_id, const std::vector<std::shared_ptr<const fb::TaskInfoT>>&,
                                                  fb::TaskState dropped, std::optional<bool> launch_executor, std::shared_ptr<Executor>&) const;
  void nest(Task&, std::string container_id);
  [[nodiscard]] static bool waits(const Task&);
  [[nodiscard]] LaunchSpec spec_of_nested(const Task&) const;
  void launch_nested(Step&, Executor&);
  void kill_waiting(Step&, Task&);
  [[nodiscard]] std::vector<Task*> group_of(const Executor&, const std::string& group) const;
  void left_group(Step&, const std::shared_ptr<Executor>&, const std::string& group, bool well);
  void end_holder(Step&, Executor&);
  void shut_down_holder(Step&, Executor&);
  void holder_recovered(Step&, Executor&);
  void end_torn_groups(Step&, Executor&);

  // executors.cpp: custom executors
  void on(Step&, const event::Serve&);
  void on(Step&, const event::ExecutorSubscribe&);
  void on(Step&, const event::ExecutorCall&);
  void on(Step&, const event::ExecutorGone&);
  void on(Step&, const event::Resized&);
  void on_shutdown_executor(Step&, const fb::link::ShutdownExecutor&);
  void on_message(Step&, const fb::link::MasterMessage&);
  void on_update_framework(Step&, const fb::link::UpdateFramework&);
  void run_with_executor(Step&, const fb::FrameworkInfoT&, std::shared_ptr<const fb::TaskInfoT>, fb::TaskState dropped,
                         std::optional<bool> launch_executor);
  std::shared_ptr<Executor> start_executor(Step&, const fb::FrameworkInfoT&, const fb::TaskInfoT&);
  void launch_executor(Step&, Executor&, const fb::FrameworkInfoT&);
  void add_to(Task&, const std::shared_ptr<Executor>&);
  void remove_from(Step&, Task&);
  void resize(Step&, Executor&);
  void deliver(Step&, Executor&);
  void kill_at_executor(Step&, Task&, Task::Cause, std::optional<Nanos> grace);
  Status executor_update(Step&, Executor&, const fb::TaskStatus&);
  void shut_down_executor(Step&, Executor&, Executor::Cause);
  void executor_launched(Step&, Executor&, const Identity&);
  void executor_ended(Step&, Executor&, const ExitInfo&, std::optional<std::pair<fb::Reason, std::string>> failed);
  void executor_due(Step&, Executor&);
  void executors_due(Step&);
  void executors_started(std::vector<KnownContainer>&);
  void executors_recovered(Step&, const std::vector<RecoveredContainer>&);
  void replay_executor(const fb::record::Entry&);
  void tell_exited(Step&, const std::string& framework_id, const std::string& executor_id, int status);
  [[nodiscard]] Result<Executor*> admit(std::string_view framework_id, std::string_view executor_id, std::string_view token);
  void set_executor_due(Executor&, Instant);
  [[nodiscard]] std::shared_ptr<Executor> find_executor(const std::string& framework_id, const std::string& executor_id) const;
  [[nodiscard]] Executor* executor_by_container(const std::string& container_id) const;
  [[nodiscard]] bool protected_from_restarts(const std::string& framework_id) const;
  [[nodiscard]] Nanos grace_of(const Executor&) const;
  [[nodiscard]] LaunchSpec spec_of(const Executor&) const;
  [[nodiscard]] std::vector<std::unique_ptr<fb::ResourceT>> resources_of(const Executor&) const;
  [[nodiscard]] event::Variables environment_of(const Executor&) const;
  void say(Step&, const Executor&, const fb::executor::EventT&) const;
  [[nodiscard]] fb::record::EntryT entry(fb::record::EntryType, const Executor&, base::Wall) const;
  void append_executors(std::vector<fb::record::EntryT>&) const;

  // updates.cpp: the outbox
  fb::TaskStatusT make_status(const Step&, const Task&, fb::TaskState);
  void describe_container(const Task&, fb::ContainerStatusT&) const;
  void update(Step&, Task&, fb::TaskStatusT);
  void send_head(Step&, Task&);
  void send_status(Step&, const Task&, fb::TaskStatusT);
  void send_latest(Step&, Task&);
  void send_all(Step&);
  void on_update_due(Step&, Task&);
  void on_ack(Step&, const fb::link::AckUpdate&);
  void forget(Step&, Task&);

  // recover.cpp
  void on(Step&, const event::Start&);
  void on(Step&, const event::Recovered&);

  void on(Step&, const event::Tick&);
  void on(Step&, const event::Journal&);

  // ---- small tools
  void append(Step&, fb::record::EntryT) const;
  void send(Step&, fb::link::FromAgentUnion) const;
  void log(Step&, base::Level level, std::string message, std::string task_id = {}) const;
  void set_due(Task*, Due, Instant at);    // 0 = off; no task: the link's
  [[nodiscard]] Task* get(const std::string& framework_id, const std::string& task_id);
  [[nodiscard]] Task* by_container(const std::string& container_id);
  [[nodiscard]] bool has_capability(const std::string& framework_id, fb::FrameworkCapability) const;
  Task& add(const std::string& framework_id, std::shared_ptr<const fb::TaskInfoT>);
  void drop(Task&);                        // destroys it
  [[nodiscard]] std::vector<Task*> in_order() const;
  [[nodiscard]] fb::record::EntryT entry(fb::record::EntryType, const Task&, base::Wall) const;
  void note_framework(Step&, const fb::FrameworkInfoT&);
  std::vector<std::uint8_t> new_uuid();
  std::string new_container_id();
  std::uint64_t random();
  std::uint64_t secret();                  // from the options: what nobody can guess

  CoreOptions options_;
  std::uint64_t random_;
  std::string agent_id_, master_id_, recorded_boot_;
  std::string leader_;
  LinkState link_ = LinkState::waiting;
  bool started_ = false;                   // recovery is over
  bool stopping_ = false;                  // a Shutdown came
  // By the operator's wish, known to the master, which says so again at each registration.
  struct Draining { std::optional<Nanos> max_grace; bool mark_gone = false; };
  std::optional<Draining> draining_;
  bool stopped_ = false;
  std::string stop_message_;
  bool stop_failed_ = false;
  Nanos backoff_{0};
  Nanos agent_timeout_{0};                 // silence of the master after which the link is given up; 0 = none
  std::string journal_problem_;
  std::uint64_t runs_ = 0;                 // of checks

  std::unordered_map<std::string, std::unique_ptr<Task>> tasks_;  // key(framework, task)
  std::unordered_map<std::string, Task*> containers_;
  std::map<std::string, fb::FrameworkInfoT> frameworks_;
  std::deque<Completed> completed_;
  std::map<std::string, std::shared_ptr<Executor>> executors_;  // key(framework, executor); those that live
  std::map<std::string, Executor*> executor_containers_;
  std::map<std::uint64_t, Executor*> streams_;
  std::set<std::tuple<Instant, std::uint64_t, Executor*>> executor_timers_;
  std::deque<CompletedExecutor> completed_executors_;
  std::vector<std::tuple<std::string, std::string, int>> exited_;  // while registering, when the master has our word that they live
  Counters counters_;
  bool serving_ = false;
  event::Variables variables_;

  struct Timer {
    Instant at;
    Due due;
    std::uint64_t serial;                  // of the task: the order must not depend on addresses
    Task* task;                            // null for the link
    bool operator<(const Timer& o) const { return std::tie(at, due, serial) < std::tie(o.at, o.due, o.serial); }
  };
  std::set<Timer> timers_;
  Instant link_due_{0};
  std::uint64_t serials_ = 0;
};

}  // namespace gantry::agent
