// The leading master: carries out what the core decides, on the kernel's loop.
//
// Owns the Core while it leads. Sockets, threads and files are behind seams (LinkServer, module::Instance,
// store::Store), so simulations run whole masters on a ManualLoop. Everything here runs on the loop.
#pragma once

#include "kernel/base/loop.hpp"
#include "kernel/master/core.hpp"
#include "kernel/module/module.hpp"
#include "kernel/store/store.hpp"
#include "kernel/resource/fault_domain.hpp"

#include <gantry/control_generated.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace gantry::master {

// The connections of agents, implemented by the composition root over kernel/net, by tests in memory. The implementer
// tells Master::on_agent_frame / on_agent_closed what comes in, never from inside send or drop.
class LinkServer {
 public:
  virtual ~LinkServer() = default;
  // Queues one frame (fb::link::ToAgent). Unknown links are ignored.
  virtual void send(LinkId link, const Buffer& frame) = 0;
  // Closes it once what was sent has left; on_agent_closed need not be called any more.
  virtual void drop(LinkId link, std::string_view why) = 0;
};

struct MasterOptions {
  std::string cluster = "gantry";  // recorded in the store; a store of another cluster is refused
  std::string id_seed;             // makes the ids of a new store unique, e.g. eight random hex digits
  std::string hostname;
  std::optional<resource::FaultDomain> domain;  // where it stands; agents of other regions are far
  Nanos ping_interval = std::chrono::seconds(15);
  unsigned ping_misses = 5;
  Nanos agent_reregister_timeout = std::chrono::minutes(10);
  Nanos offer_timeout{0};
  std::size_t completed_frameworks = 50;
  std::size_t completed_tasks = 1000;
  Nanos forget_agents_after = std::chrono::hours(24 * 14);
  std::size_t page = 500;  // rows of a listing built in one turn of the loop
  // [loop] Says whether an agent's Hello may come in; absent: all may. Answers later or at once.
  std::function<void(const fb::link::HelloT&, std::function<void(Status)>)> authenticate;
};

struct MetricValue {
  std::string name;
  double value;
  std::string unit;
  std::string help;
};

class ClusterService;
class StateService;
class OperateService;

class Master {
 public:
  Master(base::Loop& loop, MasterOptions options, module::Instance& allocator, store::Store& store, LinkServer& links);
  ~Master();
  Master(const Master&) = delete;
  Master& operator=(const Master&) = delete;

  // Recovers from the store and starts to serve. done runs once; an error leaves it not leading.
  void lead(Function<void(Status)> done);
  // Ends all streams with UNAVAILABLE, drops all links and forgets everything that is not in the store.
  void step_down();
  // The allocator has been restarted and knows nothing: it is told everything again.
  void allocator_returned();
  [[nodiscard]] bool leading() const { return core_ != nullptr; }
  // "<cluster id>-<run>"; empty when not leading.
  [[nodiscard]] const std::string& id() const { return run_id_; }

  // ---- agents. The first frame of a link must be Hello.
  void on_agent_frame(LinkId link, Bytes frame);
  void on_agent_closed(LinkId link);

  // ---- frameworks. The host service CLUSTER of modules; others may subscribe directly.
  [[nodiscard]] module::Service& cluster_service();
  // Called with each fb::Event, then once with the end.
  struct Subscriber {
    std::function<void(const Buffer& event)> on_event;
    std::function<void(const Error&)> on_end;
    std::function<std::size_t()> unread = {};  // bytes it has not come to yet; followers are waited for by it
  };
  // Returns the stream's id, 0 (and on_end has run) if it cannot be opened. `call` is an fb::Call of type SUBSCRIBE.
  StreamId subscribe(Bytes call, Subscriber subscriber);
  void unsubscribe(StreamId stream);  // the framework hung up; on_end does not run
  // done may be empty; runs at once or, where something must be stored first, later.
  void call(Bytes call, std::function<void(Status)> done);

  // ---- followers (followers.cpp): the host service STATE. Chunks are fb::state::Chunk, see state.fbs.
  [[nodiscard]] module::Service& state_service();
  using FollowerId = std::uint64_t;  // never 0, never reused
  // Returns the follower's id, 0 (and on_end has run) when not leading. The first piece comes at once, what changes once a turn
  // of the loop.
  FollowerId follow(Subscriber follower);
  void unfollow(FollowerId id);            // on_end does not run
  bool continue_snapshot(FollowerId id);   // one more piece; false: no such follower

  // ---- operators who change something: the host service OPERATE. `call` is an fb::master::Call; done runs at once or, where
  // something must be stored first, later. UNIMPLEMENTED: the call changes nothing, or is not known.
  [[nodiscard]] module::Service& operate_service();
  void operate(Bytes call, std::string_view principal, std::function<void(Status)> done);

  // ---- operators: AskAgents, AskFrameworks, AskTasks, KillTask. Listings are built a page a turn of the loop, so that
  // they never hold up scheduling; reply runs once or more (Answer.more). False: not a question for the master, reply
  // was not touched (a status is composed by the kernel, with fill() and metrics()).
  bool ask(const fb::control::QuestionT& question, std::function<void(fb::control::AnswerT)> reply);
  void fill(fb::control::StatusT& status) const;
  [[nodiscard]] std::vector<MetricValue> metrics() const;

  // nullptr when not leading. For tests, simulations and benches.
  [[nodiscard]] const Core* core() const { return core_.get(); }

 private:
  friend class ClusterService;
  friend class StateService;
  struct Recovery;
  struct Listing;
  void open_term(std::shared_ptr<Recovery> r, fb::record::MetaRecordT meta);
  void read_records(std::shared_ptr<Recovery> r, std::size_t kind);
  void end_recovery(std::shared_ptr<Recovery> r, Status status);
  void step(const Event& event);  // not while stepping_
  void deliver(const Event& event) { step(event), drain(); }
  void drain();
  // Runs fn now, or after what is being carried out; false: the term ended, fn is dropped.
  void enter(Function<void()> fn);
  void deliver_frame(LinkId link, Bytes frame);
  void greet(LinkId link, Bytes frame);
  void execute(Effect& effect);
  void allocate(Buffer deltas);
  void arm(Instant at);
  void continue_listing(std::shared_ptr<Listing> listing);
  void publish_later(base::Nanos after = {});
  void publish();
  void tell_followers(const Buffer& chunk);
  [[nodiscard]] bool followers_lag();
  void send_pieces(FollowerId id);

  base::Loop& loop_;
  MasterOptions options_;
  module::Instance& allocator_;
  store::Store& store_;
  LinkServer& links_;
  std::unique_ptr<ClusterService> service_;
  std::unique_ptr<StateService> state_service_;
  std::unique_ptr<OperateService> operate_service_;
  std::unique_ptr<Core> core_;
  std::string run_id_;
  std::shared_ptr<std::uint64_t> term_;  // replaced when the term ends: late callbacks hold the old one, expired
  std::shared_ptr<Recovery> recovery_;
  base::TimerId timer_ = 0;
  bool stepping_ = false;
  Effects effects_;
  std::deque<Function<void()>> later_;  // events that came while one was being carried out
  struct LinkState {
    bool greeted = false;
    bool asking = false;
    std::vector<Buffer> held;  // frames that came while the Hello was being checked
  };
  std::unordered_map<LinkId, LinkState> link_states_;
  std::unordered_map<StreamId, Subscriber> subscribers_;
  std::unordered_map<RequestId, std::function<void(Status)>> answers_;
  struct Follower {
    Subscriber to;
    Core::SnapshotCursor cursor;
    unsigned pieces = 4;  // that may be sent without being asked for
    bool begun = false, whole = false, posted = false;
  };
  std::unordered_map<FollowerId, Follower> followers_;
  FollowerId next_follower_ = 0;
  bool publish_posted_ = false;
  std::deque<Buffer> outgoing_;              // changes that followers have not been told yet, in order
  struct Lag {
    base::Instant since{0}, progress{0};     // when they began to wait for a slow one, and when it last read; 0: they do not
    std::size_t unread = 0;
  } lag_;
  std::vector<FollowerId> held_pieces_;      // whose snapshot goes on after them
  std::uint64_t next_stream_ = 0, next_request_ = 0;
  std::uint64_t allocator_failures_ = 0;
  base::Instant led_since_{0};
  base::Wall elected_wall_ = 0;
};

}  // namespace gantry::master
