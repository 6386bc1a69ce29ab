// The master as a function: (state, event) -> (state, effects). No thread, clock, disk, socket or random source in
// here, so the daemon, the tests and the simulator run the very same thing.
//
// Not thread safe; apply() never calls out. Each flow is one file: agents.cpp, frameworks.cpp, offers.cpp, launch.cpp,
// updates.cpp, reconcile.cpp, allocation.cpp, upkeep.cpp, maintenance.cpp, records.cpp; inspect.cpp has the read views, follow.cpp what followers hear. Semantics:
// reference mesos-kernel.md A1, A3, A5, A10; differences are listed in README.md.
#pragma once

#include "kernel/master/events.hpp"
#include "kernel/master/state.hpp"
#include "kernel/resource/volumes.hpp"

#include <gantry/allocator_generated.h>
#include <gantry/cluster_generated.h>
#include <gantry/record_generated.h>

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

// Messages that are only passed on in here; their headers are large.
namespace gantry::fb::control {
struct AgentsT;
struct AskTasksT;
struct FrameworksT;
struct StatusT;
struct TasksT;
struct WhyT;
}
namespace gantry::fb::master {
struct Call;
struct CreateVolumes;
struct DestroyVolumes;
struct DrainAgent;
struct GrowVolume;
struct ReserveResources;
struct ShrinkVolume;
struct Teardown;
struct UnreserveResources;
struct UpdateQuota;
struct UpdateWeights;
}
namespace gantry::fb::state {
struct BeginT;
struct Chunk;
struct MaintenanceT;
struct Role;
struct RoleT;
}

namespace gantry::master {

// Events since construction; the shell publishes them as metrics.
struct CoreCounters {
  std::uint64_t agents_registered = 0, agents_reregistered = 0, agents_unreachable = 0;
  std::uint64_t frameworks_subscribed = 0, frameworks_failed_over = 0, frameworks_removed = 0;
  std::uint64_t offers_made = 0, offers_accepted = 0, offers_declined = 0, offers_rescinded = 0, offers_expired = 0;
  std::uint64_t tasks_launched = 0, tasks_finished = 0, tasks_failed = 0, tasks_killed = 0, tasks_lost = 0,
                tasks_error = 0;
  std::uint64_t updates_received = 0, updates_forwarded = 0, acknowledgements = 0;
  std::uint64_t invalid_messages = 0, refused_operations = 0;
  std::uint64_t rounds = 0, grants = 0, bad_grants = 0, stale_grants = 0, trimmed_grants = 0, unwanted_grants = 0;
  std::uint64_t agents_gone = 0, inverse_offers_made = 0;
  std::uint64_t store_failures = 0;
  std::uint64_t events = 0;  // calls of apply()
};

class Core {
 public:
  explicit Core(CoreOptions options);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // ---- recovery, before the first apply(): every record of the store, then recovered()
  // An error names the record; the caller decides whether to go on without it.
  Status recover(std::string_view key, Bytes value);
  void recovered(Instant now, Wall wall, Effects& out);

  // One step. Effects are appended to `out`.
  void apply(Instant now, Wall wall, const Event& event, Effects& out);

  // ---- views (inspect.cpp); cheap unless they say otherwise
  [[nodiscard]] std::size_t agent_count() const { return registered_; }       // registered now
  [[nodiscard]] std::size_t recovering_count() const { return recovering_; }  // known, not yet back
  [[nodiscard]] std::size_t framework_count() const { return framework_by_id_.size(); }
  [[nodiscard]] std::size_t task_count() const { return tasks_.size(); }  // live or not yet acknowledged
  [[nodiscard]] std::size_t offer_count() const { return offers_.size(); }
  [[nodiscard]] std::array<std::size_t, 14> task_states() const { return by_state_; }  // by fb::TaskState
  [[nodiscard]] const CoreCounters& counters() const { return counters_; }
  [[nodiscard]] const CoreOptions& options() const { return options_; }
  // Resources of all registered agents: total and in use or on offer.
  void sums(Resources& total, Resources& used, Resources& offered) const;  // walks everything
  void fill(fb::control::StatusT& status) const;

  // Pages of a listing: appends up to `limit` rows from `cursor` on and moves it; false when nothing is left. The state
  // may change between pages; rows that live throughout are seen exactly once.
  struct Cursor {
    int stage = 0;
    Handle at = 1;
    std::size_t inner = 0;
  };
  bool list_agents(Cursor& cursor, std::size_t limit, fb::control::AgentsT& out) const;
  bool list_frameworks(Cursor& cursor, std::size_t limit, fb::control::FrameworksT& out) const;
  bool list_tasks(const fb::control::AskTasksT& ask, Cursor& cursor, std::size_t limit, fb::control::TasksT& out) const;

  // Why a framework is offered what it is, or nothing (why.cpp); walks all agents. NOT_FOUND: no such framework.
  [[nodiscard]] Result<fb::control::WhyT> why(std::string_view framework_id, Instant now) const;

  // ---- followers (follow.cpp): fb::state::Chunk. Nothing is noted, and nothing spent, while nobody follows.
  void follow(bool on);
  [[nodiscard]] bool followed() const { return log_ != nullptr; }
  // What has changed since the last call, in order, in pieces of about 256 KiB; empty if nothing has.
  [[nodiscard]] std::vector<Buffer> take_changes();
  [[nodiscard]] bool changes_waiting() const;
  // One piece of a snapshot, of about `bytes`, from `cursor` on, which it moves; take_changes() must have been emptied. The
  // state may change between pieces: whoever applies the changes too, in order of what came first, has the whole at the end.
  struct SnapshotCursor {
    int stage = 0;  // past the last one: over
    Handle at = 1;
    std::uint64_t order = 0;
  };
  static constexpr int kSnapshotStages = 10;
  [[nodiscard]] Buffer snapshot(SnapshotCursor& cursor, std::size_t bytes, const fb::state::BeginT* begin) const;

  // The laws of the books: free + offered + used = total on every agent, lists and counts agree. Walks everything.
  [[nodiscard]] Status check() const;

 private:
  friend struct CoreTest;
  // What to do once a record is stored.
  struct Pending {
    enum class Kind : std::uint8_t {
      nothing,
      admit,
      reregister,
      unreachable,
      depart,
      subscribe,
      remove_framework,
      accept,
      forget,
      update_framework,
      book,
      then
    };
    Kind kind = Kind::nothing;
    std::string id;  // of the agent or framework: handles may be reused meanwhile
    Handle handle = 0, agent = 0;
    LinkId link = 0;
    StreamId stream = 0;
    RequestId request = 0;
    Buffer bytes;  // the message that caused it
    Blob info;
    std::vector<RoleId> suppressed;
    RoleId role{};
    Resources before, after;  // accept, book: what is taken out of the books until it is stored, and what it becomes
    std::string booked;       // the agent's id
    std::string uuid;         // of an operation whose outcome is to be told
    Buffer operation;         // its record
    std::size_t next_operation = 0;
    std::uint32_t epoch = 0;
    AgentState was = AgentState::recovered;
    std::shared_ptr<const Constraints> wishes;
    // Kind `then`: what follows, and whether it is stored. It names things by their ids: handles may be reused meanwhile.
    std::function<void(Status)> then;
    [[nodiscard]] bool limbo() const { return kind == Kind::accept || kind == Kind::book; }
  };

  // agents.cpp
  void on_frame(const AgentFrame& e);
  void on_register(LinkId link, Bytes frame, const fb::link::Register& reg);
  void admit_new(LinkId link, Bytes frame, const fb::link::Register& reg);
  void complete_registration(Handle agent, Bytes frame, const fb::link::Register& reg);
  void adopt_tasks(Handle agent, Bytes frame, const fb::link::Register& reg, bool was_away, Resources& used);
  void settle_absent(Handle agent);
  void on_link_closed(LinkId link);
  void disconnect_agent(Handle agent);
  void lose_unprotected_tasks(Handle agent);
  void on_unregister(Handle agent);
  void mark_unreachable(Handle agent);
  void became_unreachable(Handle agent);
  void forget_agent(Handle agent);
  void ping_due();
  void start_pinging(Handle agent);
  void refuse_link(LinkId link, std::string message, bool fatal);
  [[nodiscard]] Handle agent_of_link(LinkId link) const;
  [[nodiscard]] Handle find_agent(std::string_view id) const;
  Handle add_agent(Blob info, AgentState state);
  void bind_link(Handle agent, LinkId link);
  void unbind_link(Handle agent);
  void set_state(Agent& agent, AgentState state);

  // upkeep.cpp: what the operator does with single agents; each answers once it is stored
  void on_deactivate(std::string_view agent_id, RequestId request);
  void on_reactivate(std::string_view agent_id, RequestId request);
  void on_drain(const fb::master::DrainAgent& d, RequestId request);
  void on_mark_gone(std::string_view agent_id, RequestId request);
  [[nodiscard]] Status changeable(Handle agent) const;
  void change_upkeep(Handle agent, Upkeep next, RequestId request);
  void upkeep_stored(const std::string& id, const Upkeep& decided, RequestId request,
                     const Status& stored);
  void look_after(Handle agent);  // at the end of the step: is it drained?
  void settle_upkeep();
  [[nodiscard]] bool drained(Handle agent) const;
  void mark_gone(Handle agent, RequestId request);
  void became_gone(Handle agent);
  void not_gone(Handle agent);
  [[nodiscard]] bool offerable(const Agent& a) const;

  // maintenance.cpp: machines that go away for a while, and asking frameworks to leave them
  struct Plan;
  void on_maintenance(const fb::master::Call& call, Bytes bytes, RequestId request);
  void maintenance_stored(const Buffer& record, RequestId request, const Status& stored);
  Status load_plan(Bytes record);
  void apply_plan();
  bool plan_agent(Handle agent);  // looks its machine up; true: what is planned for it has changed
  [[nodiscard]] bool machine_down(const fb::AgentInfo& info) const;
  void take_down(Handle agent);
  void ask_back(Handle agent);  // at the end of the step: who is to be asked to leave it?
  void send_inverse_offers();
  void inverse_due();
  void drop_inverse(Handle agent, Handle framework, bool rescind);  // 0: of any
  void forget_inverse(Handle agent, Handle framework);              // and what was answered; 0: of any
  void on_answer_inverse(Handle framework, const fb::AnswerInverseOffers& a, bool accept);
  void revive_inverse(Handle framework);
  [[nodiscard]] fb::InverseOfferT inverse_offer(std::uint64_t number, Handle agent, Handle framework) const;
  void write_plan(fb::state::MaintenanceT& out) const;

  // collect.cpp
  struct Away {
    std::int64_t since;  // wall clock, ns
    Handle agent;
  };
  void note_away(Handle agent);
  [[nodiscard]] bool still_away(const Away& a) const;
  void collect_away();
  void forgotten(Handle agent);
  void not_forgotten(Handle agent, AgentState was);

  // frameworks.cpp
  void on_subscribe(const Subscribe& e);
  void subscribed(Handle framework, StreamId stream, Blob info, std::vector<RoleId> suppressed,
                  std::shared_ptr<const Constraints> wishes);
  void apply_info(Framework& f, Blob info);
  void on_stream_closed(StreamId stream);
  void disconnect_framework(Handle framework);
  void on_call(const FrameworkCall& e);
  void on_update_framework(Handle framework, const fb::UpdateFramework& u, RequestId request);
  void framework_updated(Handle framework, Blob info, std::vector<RoleId> suppressed,
                         std::shared_ptr<const Constraints> wishes);
  void teardown(Handle framework, RequestId request);
  void framework_removed(Handle framework);
  void remember_removed(std::string id);
  void failover_due();
  void forward_message(Framework& f, const fb::SendMessage& m);
  void refuse_stream(StreamId stream, std::string message);
  [[nodiscard]] Handle find_framework(std::string_view id) const;
  Handle add_framework(std::string id, Blob info);
  void send_update(const Framework& f, const fb::TaskStatusT& status);

  // operate.cpp: what operators change
  void on_operate(const OperatorCall& e);
  void operator_teardown(const fb::master::Teardown& t, RequestId request);

  // roles.cpp: weights and quota
  struct RoleQuota {
    RoleId role{};
    RoleAmounts guarantees, limits;  // both empty: none
  };
  void update_weights(const fb::master::UpdateWeights& u, RequestId request);
  void update_quota(const fb::master::UpdateQuota& u, RequestId request);
  void set_old_quota(const fb::master::QuotaRequest& q, RequestId request);
  void remove_quota(std::string_view role, RequestId request);
  void set_quota(std::vector<RoleQuota> changes, bool force, RequestId request);
  void apply_quota(const RoleQuota& q);
  [[nodiscard]] Result<RoleQuota> read_quota(const fb::master::QuotaConfig& q) const;
  [[nodiscard]] Status check_hierarchy(const std::vector<RoleQuota>& changes) const;
  [[nodiscard]] Status check_capacity(const std::vector<RoleQuota>& changes) const;
  [[nodiscard]] fb::state::RoleT role_row(RoleId role) const;
  [[nodiscard]] Status recover_role(const fb::state::Role& r, bool quota);
  void touch_role(RoleId role);
  void count_allocated(RoleId role, const Resources& r, int sign);
  void count_reserved(const Resources& total, int sign);
  void count_roles();
  [[nodiscard]] RoleAmounts sum_of_role(RoleId role, bool offered) const;
  [[nodiscard]] Status check_roles() const;
  template <class F>
  void each_allocation(F fn) const;
  [[nodiscard]] Resources within_limits(RoleId role, const Resources& bundle) const;
  void rescind_beyond_limits(RoleId role);
  void rescind_for_guarantees();
  [[nodiscard]] bool awaits_agents();
  void set_total(Handle agent, Resources total);

  // bookings.cpp: reservations and volumes
  [[nodiscard]] static bool books(fb::OperationType type);
  [[nodiscard]] std::string agent_words(const Agent& a) const;
  [[nodiscard]] bool in_use(Handle agent, const Resources& volumes) const;
  [[nodiscard]] Status check_new_volumes(Handle agent, const Resources& volumes) const;
  [[nodiscard]] Result<resource::Conversion> conversion_of(const Framework& f, Handle agent, RoleId role, const Resources& pool,
                                                           const fb::Operation& op) const;
  void operator_reserve(const fb::master::ReserveResources& r, std::string_view principal, RequestId request);
  void operator_unreserve(const fb::master::UnreserveResources& r, std::string_view principal, RequestId request);
  void operator_create(const fb::master::CreateVolumes& v, std::string_view principal, RequestId request);
  void operator_destroy(const fb::master::DestroyVolumes& v, std::string_view principal, RequestId request);
  void operator_grow(const fb::master::GrowVolume& g, std::string_view principal, RequestId request);
  void operator_shrink(const fb::master::ShrinkVolume& s, std::string_view principal, RequestId request);
  void operate_books(std::string_view agent_id, fb::OperationType type, const char* name, std::string_view principal,
                     RequestId request, const std::function<Result<resource::Conversion>(Handle)>& make);
  void operator_booked(Pending& p, bool stored);
  [[nodiscard]] Resources free_of(Handle agent) const;
  [[nodiscard]] Status make_room(Handle agent, const Resources& needed);
  void persist_booking(Handle agent, Resources before, Resources after, Pending p, std::vector<store::Op> ops);
  bool settle_booking(Pending& p, bool stored);
  void persist_reservations(const std::string& agent_id);
  void write_reservations_due();
  void tell_reservations(Handle agent);

  // operations.cpp: feedback
  [[nodiscard]] std::string new_uuid();
  [[nodiscard]] bool may_track(const Framework& f) const;
  [[nodiscard]] store::Op operation_record(const std::string& uuid, const Framework& f, const Agent& agent,
                                           const fb::Operation& op) const;
  [[nodiscard]] static store::Op operation_gone(const std::string& uuid);
  void track_operation(const std::string& uuid, Bytes record);
  void tell_tracked(const std::string& uuid, TrackedOperation& o);
  void retell_operations(const std::string& framework_id);
  void operations_due();
  void forget_operation(const std::string& uuid);
  void forget_operations_of(const std::string& framework_id);
  void forget_orphaned_operations();
  void on_acknowledge_operation(Handle framework, const fb::AcknowledgeOperationStatus& a);
  bool reconcile_tracked(const Framework& f, std::string_view id);
  [[nodiscard]] Status recover_operation(Bytes value);

  // offers.cpp
  Handle add_offer(Handle agent, Handle framework, RoleId role, Resources resources);
  void send_offers(std::vector<std::pair<Handle, Handle>>& made);  // (framework, offer)
  void remove_offer(Handle offer, bool rescind);                   // keeps the resources: the caller gives them on
  void withdraw(Handle offer, bool rescind);                       // and gives the resources back
  void withdraw_all_of_agent(Handle agent, bool rescind);
  void withdraw_all_of_framework(Handle framework, bool rescind);
  [[nodiscard]] Handle find_offer(std::string_view id) const;
  [[nodiscard]] Handle offer_numbered(std::uint64_t number) const;  // 0: it has gone
  void expire_later(std::uint64_t number);
  [[nodiscard]] std::string offer_id(std::uint64_t number) const;
  void on_decline(Handle framework, const fb::Decline& d);
  void on_revive(Handle framework, const fb::Revive* r);
  void on_suppress(Handle framework, const fb::Suppress* s);
  void offers_due();
  [[nodiscard]] Nanos refusal(const fb::Filters* filters) const;
  void add_filter(Handle framework, RoleId role, Handle agent, const Resources& refused, Nanos d);
  void forget_declined(Framework& f, RoleId role);  // none: of all roles

  // launch.cpp
  void on_accept(Handle framework, Bytes bytes, const fb::Accept& a, RequestId request);
  void reject_operations(const Framework& f, const fb::Accept& a, Handle agent, std::string_view why, std::size_t from = 0);
  // Tells the framework what became of an operation, if it gave it an id.
  void tell_operation(const Framework& f, std::string_view id, Handle agent, fb::OperationState state, std::string_view why);
  void run_operations(Handle framework, Handle agent, RoleId role, Resources pool, Bytes bytes, const fb::Accept& a,
                      std::size_t from);
  void continue_accept(Pending& p, bool stored);
  void launch(Handle framework, Handle agent, RoleId role, Resources& pool, const fb::TaskInfo& info);
  [[nodiscard]] static std::optional<std::string> bad_id(std::string_view id);  // what is wrong with it
  [[nodiscard]] Status validate_own(const Framework& f, const Agent& agent, const fb::TaskInfo& t, Resources& own) const;
  [[nodiscard]] Status validate_task(const Framework& f, const Agent& agent, const fb::TaskInfo& t, RoleId role,
                                     const Resources& pool, Resources& needs, Resources& of_executor) const;
  // What a task is charged of an agent's resources: its volumes as the agent has them, and nothing that is shared.
  [[nodiscard]] static Resources charge_of(const Resources& there, const Resources& needs);
  Handle add_task(Handle framework, Handle agent, RoleId role, Blob info, Resources resources);
  [[nodiscard]] Handle find_task(Handle framework, std::string_view id) const;
  void send_run_task(const Agent& agent, const Framework& f, const Task& t, std::optional<bool> launch_executor);

  // groups.cpp
  void reject_group(const Framework& f, const fb::LaunchGroup& group, std::string_view why);
  [[nodiscard]] Status validate_group(const Framework& f, const Agent& agent, const fb::LaunchGroup& group, RoleId role,
                                      const Resources& pool, std::vector<Resources>& needs, Resources& of_executor) const;
  void launch_group(Handle framework, Handle agent, RoleId role, Resources& pool, const fb::LaunchGroup& group, bool has_id);

  // updates.cpp
  void on_update(Handle agent, Bytes frame, const fb::link::StatusUpdate& u);
  void on_acknowledge(Handle framework, const fb::Acknowledge& a);
  void on_kill(Handle framework, const fb::Kill& k);
  void on_operator_kill(const OperatorKill& e);
  void send_kill(const Task& t, std::optional<std::int64_t> grace_ns);
  void on_agent_message(Handle agent, const fb::link::AgentMessage& m);
  void release(Handle task);  // its resources
  void set_task_state(Task& t, fb::TaskState latest);
  void finish_task(Handle task);  // to the history
  void erase_task(Handle task);
  void make_absent(Handle task, fb::TaskState state);
  void trim_absent(Framework& f);
  // A status of the master's own: no uuid.
  [[nodiscard]] fb::TaskStatusT status_of(std::string_view task_id, std::string_view agent_id, fb::TaskState state,
                                          std::optional<fb::Reason> reason, std::string message) const;
  void broadcast_failure(std::string_view agent_id);

  // reconcile.cpp
  void on_reconcile(Handle framework, const fb::Reconcile* r);
  void on_reconcile_operations(Handle framework, const fb::ReconcileOperations& r);
  void reconcile_one(Handle framework, std::string_view task_id, std::string_view agent_id);
  [[nodiscard]] bool waits_to_launch(Handle framework, std::string_view task_id) const;
  void tell_state(const Framework& f, const Task& t);

  // executors.cpp
  [[nodiscard]] const Executor* find_executor(Handle agent, Handle framework, std::string_view id) const;
  [[nodiscard]] Resources executor_resources(Handle agent) const;
  [[nodiscard]] Status validate_executor(const Framework& f, const Agent& agent, const fb::ExecutorInfo& x, RoleId role, bool may_be_default,
                                         Resources& needs) const;
  bool use_executor(Handle agent, Handle framework, RoleId role, const fb::ExecutorInfo& info, Resources resources);
  void end_executors(Handle agent, bool give, const std::function<bool(const Executor&)>& which);
  void end_executors_of(Handle framework, std::set<LinkId>& links);
  void adopt_executors(Handle agent, const fb::link::Register& reg, const std::function<Handle(const std::string&)>& framework_of,
                       Resources& used);
  void on_executor_exited(Handle agent, const fb::link::ExecutorExited& x);
  void on_shutdown_executor(Handle framework, const fb::ShutdownExecutor& s);
  void tell_agents_of(Handle framework);

  // allocation.cpp
  void give_back(Handle agent, Handle framework, RoleId role, const Resources& r);  // from an offer or a task
  void note_held(Handle framework, RoleId role, const Resources& r, int sign);
  void replace_available(Handle agent, Resources now_available);
  void recount(Handle agent);  // of an overdrawn agent
  void note_name(resource::NameId name);
  void note_role(RoleId role);
  void touch_agent(Handle agent);
  void touch_total(Handle agent);
  void touch_framework(Handle framework);
  void agent_gone(Handle agent);  // tells the allocator; then the handle is free
  void framework_gone(Handle framework);
  void flush_allocator();
  [[nodiscard]] Buffer build_deltas();
  void on_round(const RoundDone& e);
  void end_round();
  // Whether the framework wants this bundle at all; if not, the allocator is told, so that it is not granted again.
  [[nodiscard]] bool remote(const Agent& a) const;  // of another region than this master
  [[nodiscard]] bool worth_offering(Handle framework, RoleId role, Handle agent, const Resources& bundle);

  // records.cpp
  void persist(std::vector<store::Op> ops, Pending pending);
  void persist(std::vector<store::Op> ops, std::function<void(Status)> then);
  void on_stored(Cookie cookie);
  void on_store_failed(const StoreFailed& e);
  [[nodiscard]] store::Op agent_record(std::string_view id, Bytes info, fb::record::AgentFate fate,
                                       std::int64_t since) const;
  [[nodiscard]] store::Op framework_record(std::string_view id, Bytes info, bool removed) const;
  [[nodiscard]] store::Op reservation_record(std::string_view agent_id, const Resources& reserved) const;
  [[nodiscard]] Resources with_reservations(std::string_view agent_id, Resources total);

  // follow.cpp
  struct ChangeLog;
  struct Rows;
  void note_agent(Handle agent);
  void note_framework(Handle framework);
  void note_task(Handle task);
  void note_offer(Handle offer);
  void note_update(const Task& task);  // its status has come
  void note_completed(const std::string& framework_id, const CompletedTask& task);
  void note_completed(const CompletedFramework& framework);
  void note_gone(std::string_view framework_id, std::string_view task_id);
  void note_offer_gone(std::uint64_t number);
  void note_executor(Handle agent, const Executor& e);
  void note_executor_gone(Handle agent, const Executor& e);
  void note_plan();
  void note_inverse(std::uint64_t number, Handle agent, Handle framework);
  void note_inverse_gone(std::uint64_t number);
  void note_role_row(RoleId role);
  void note_operation(const TrackedOperation& o);
  void note_operation_gone(std::string_view uuid);
  void settle_notes();
  void noted();
  void cut_chunk();

  // shared
  void tick();
  void schedule();
  void to_agent(LinkId link, Buffer frame) { out_->emplace_back(SendAgent{link, std::move(frame)}); }
  void answer(RequestId request, Status status) {
    if (request) out_->emplace_back(Answer{request, std::move(status)});
  }
  void log(base::Level level, std::string message, std::vector<std::pair<std::string, std::string>> fields = {}) {
    out_->emplace_back(Log{level, std::move(message), std::move(fields)});
  }
  [[nodiscard]] double timestamp() const { return static_cast<double>(wall_) / 1e9; }

  CoreOptions options_;
  Instant now_{0};
  Wall wall_ = 0;
  Effects* out_ = nullptr;  // of the apply() under way

  Slab<Agent> agents_;
  Slab<Framework> frameworks_;
  Slab<Offer> offers_;
  Slab<Task> tasks_;
  Index agent_by_id_, agent_by_link_, offer_by_number_, task_by_id_;
  std::unordered_map<std::string, Handle> framework_by_id_;
  std::unordered_map<StreamId, Handle> framework_by_stream_;
  std::unordered_set<StreamId> opening_;  // streams whose framework is being stored
  std::deque<CompletedFramework> completed_;
  std::unordered_map<Handle, std::vector<Executor>> executors_;  // by agent; few of them have any
  // Tasks given up with an agent, by its id, until it returns; may name tasks that were forgotten meanwhile.
  std::unordered_map<std::string, std::vector<Handle>> absent_of_;
  std::unordered_set<std::string> removed_ids_;
  std::deque<std::string> removed_order_;
  std::size_t registered_ = 0, recovering_ = 0;
  std::array<std::size_t, 14> by_state_{};

  std::uint64_t next_agent_ = 0, next_framework_ = 0, next_offer_ = 0, next_cookie_ = 0, next_ping_ = 0;
  std::uint64_t next_uuid_ = 0;
  std::uint32_t next_key_ = 0;

  std::map<RoleId, RoleSettings> role_settings_;
  std::size_t quotas_ = 0;  // roles with quota
  std::size_t awaited_ = 0;  // nothing is allocated before so many agents are back, or it is late: quota needs to know what is in use
  Instant awaited_until_ = Instant::max();
  std::map<std::string, TrackedOperation> operations_;  // by uuid
  std::unordered_map<std::string, std::multimap<std::string, std::string>> operations_of_;  // framework: id of the operation to uuid
  std::set<std::pair<Instant, std::string>> operations_due_;
  std::deque<std::pair<Instant, std::string>> unwritten_;  // agents whose reservations are not what the store says

  // time
  struct Due {
    Instant at;
    std::uint64_t what;  // offer number; or agent handle and key
  };
  std::deque<Due> pings_;         // constant period: a queue is a sorted list
  std::deque<Due> offer_expiry_;  // by offer number; may name some that have gone
  std::size_t expiry_bound_ = 1024;  // at which those are thrown out
  std::set<std::pair<Instant, Handle>> failovers_;
  std::deque<Due> retries_;  // agents whose marking as unreachable could not be stored
  std::deque<Away> away_;  // unreachable and gone agents, longest away first; may name some that have returned
  Instant collect_at_ = Instant::max();
  Instant reregister_deadline_ = Instant::max();
  Instant wake_ = Instant::max();
  Instant timer_ = Instant::max();  // last asked for

  // records under way
  std::unordered_map<Cookie, Pending> pending_;
  std::unordered_map<std::string, Resources> reserved_;  // agent id -> reservations and volumes decided on

  // allocator
  bool in_flight_ = false;
  bool reset_ = true;
  Instant allocator_retry_{0};
  Instant lull_{0};                        // tasks were launched a moment ago: no round before this
  std::vector<Handle> dirty_agents_, dirty_frameworks_;
  std::vector<fb::allocator::Held> held_;  // one entry per framework, role and name
  Index held_index_;                       // position in held_, plus one
  struct RefusedBundle {
    Handle framework, agent;
    RoleId role;
    Instant until;
    std::vector<resource::Quantity> refused;
  };
  std::vector<RefusedBundle> filters_;
  std::vector<fb::allocator::Unfilter> unfilters_;
  std::vector<RoleId> new_roles_;
  std::vector<resource::NameId> new_names_;
  std::vector<bool> known_names_, known_roles_;
  bool poke_ = false;                              // time has passed that the allocator waited for
  std::unordered_map<Handle, Resources> returns_;  // came back while a round was under way
  std::unordered_set<Handle> stale_;               // agents the allocator sees otherwise than the books do

  std::unique_ptr<Plan> plan_;  // never null
  std::vector<Handle> to_look_after_;
  std::uint64_t next_change_ = 0;

  CoreCounters counters_;
  std::unique_ptr<ChangeLog> log_;  // null: nobody follows
  std::uint64_t version_ = 0, completions_ = 0;
};

}  // namespace gantry::master
