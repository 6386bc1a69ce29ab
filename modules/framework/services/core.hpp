// The scheduler: a state machine without clock, thread, disk or network. Each public call is one event or request; what
// it asks of the world is collected and fetched with take(). See README.md for the invariants.
#pragma once
#include "matching.hpp"
#include "rollout.hpp"

namespace gantry::framework_services {

struct Options {
  std::string role = "*";
  LaunchSettings launch;
  Nanos decline_time = seconds(120), revive_interval = seconds(1), reconcile_interval = seconds(600);
  int max_instances_per_offer = 5, launch_tokens = 100, max_deployments = 100, max_apps = 0;
  int port_first = 10000, port_last = 20000;
};

class Core {
 public:
  Core(Options options, Random random)
      : options_(std::move(options)), random_(std::move(random)), tokens_(options_.launch_tokens) {}

  // The time of the events that follow: monotonic, and milliseconds since 1970.
  void at(Nanos now, Millis wall) {
    now_ = now;
    wall_ = wall;
  }
  void options(Options o) { options_ = std::move(o); }
  // What the calls since the last take() ask for.
  Out take();

  // ---- recovery: every stored record once, then recovered().
  Status load(const std::string& key, std::string_view value);
  void recovered();

  // ---- the cluster
  [[nodiscard]] const std::string& framework_id() const { return framework_id_; }
  void forget_framework();  // the master has removed it: its tasks are gone
  [[nodiscard]] bool idle() const { return waiting_.empty(); }
  void subscribed(const std::string& framework_id);
  void disconnected() { connected_ = false; }
  void offers(std::vector<std::unique_ptr<fb::OfferT>> offers);
  void status(const fb::TaskStatusT& status);
  void launch_failed(const std::vector<std::string>& task_ids, const std::string& why);

  // ---- health and readiness, run by the shell for instances named in Out::probe
  void probed(const std::string& instance, int incarnation, std::size_t check, bool passed, const std::string& cause);
  void readiness(const std::string& instance, int incarnation, int status, const std::string& body);

  // ---- time and progress
  [[nodiscard]] bool dirty() const { return !dirty_.empty(); }
  void settle();  // moves deployments and instance counts towards what is wanted
  void tick();    // timers
  [[nodiscard]] Nanos next_wake() const;

  // ---- requests. `raw` is parsed JSON; nothing changes on a refusal.
  Outcome<std::pair<Accepted, AppPtr>> create_app(const Json& raw, bool force);
  Outcome<Accepted> update_apps(const Json& raw, bool force, bool partial, bool must_exist);
  // `created` tells 200 from 201.
  Outcome<Accepted> update_app(const std::string& id, const Json& raw, bool force, bool partial, bool must_exist,
                               bool* created);
  Outcome<Accepted> delete_app(const std::string& id, bool force);
  Outcome<Accepted> restart_app(const std::string& id, bool force);
  Outcome<Accepted> cancel_deployment(const std::string& id, bool force);
  // Kills tasks; with scale the instance counts of their applications shrink (a deployment).
  Outcome<std::optional<Accepted>> kill_tasks(const std::vector<std::string>& instances, bool scale, bool force);
  bool reset_delay(const std::string& id);

  // ---- reads
  [[nodiscard]] const std::map<std::string, Spec>& specs() const { return specs_; }
  [[nodiscard]] const Spec* spec(const std::string& id) const;  // with an application, else null
  [[nodiscard]] const Instance* instance(const std::string& id) const;
  [[nodiscard]] const std::map<std::string, Deployment>& deployments() const { return deployments_; }
  [[nodiscard]] std::vector<std::string> deployments_of(const std::string& app) const;
  [[nodiscard]] Nanos now() const { return now_; }
  [[nodiscard]] Millis wall() const { return wall_; }
  // Queue state of a spec: seconds until the next launch, and whether that is now.
  [[nodiscard]] double delay_left(const Spec& s) const {
    return std::max(0.0, static_cast<double>((s.delayed_until - now_).count()) / 1e9);
  }
  // Tells the event streams.
  void announce(std::string type, Object body);

 private:
  Status load_record(const std::string& key, std::string_view value);
  using Changes = std::map<std::string, AppPtr>;
  Outcome<Accepted> deploy(Changes changes, const std::set<std::string>& restarts, bool force, Millis version);
  Outcome<App> build(Object definition, const App* previous, const std::string& path);
  std::optional<Refusal> conflict(const Changes& changes, bool force);
  void finish_deployment(std::string id, bool success, const std::string& reason);
  void enter_step(Deployment& d);
  void settle_app(const std::string& id);
  void advance(Deployment& d);
  void apply(Spec& s, const std::string& id, const RolloutStep& step, const AppPtr& app);
  Millis next_version();
  ServicePorts service_ports(const std::string& except) const;

  Instance& add_instance(Spec& s, const AppPtr& app);
  void schedule(Spec& s, Instance& i, bool backoff);
  void kill(Spec& s, Instance& i, bool doom);
  void remove(Spec& s, const std::string& instance_id);
  void terminal(Spec& s, Instance& i, const fb::TaskStatusT& status);
  void unreachable(Spec& s, Instance& i, const fb::TaskStatusT& status);
  void add_delay(Spec& s);
  void want_offers() { want_revive_ = true; }
  void arm(Nanos after, const std::string& instance_id) { timers_.emplace(now_ + after, instance_id); }
  void due(const std::string& instance_id);
  void send_kill(const Instance& i);
  void reconcile();
  void health_of(Spec& s, Instance& i, std::size_t check, bool passed, const std::string& cause);
  void update_health(Instance& i, std::optional<bool> before);
  void launch(OfferPool& pool, Spec& s, Instance& i, Match match, fb::LaunchT& launch);
  void reject(Spec& s, const fb::OfferT& offer, Reject why);
  void status_event(const Instance& i, const std::string& task_status, const std::string& message);
  void changed_event(const Instance& i, std::string_view condition);
  fb::CallT call(fb::CallType type) const;
  Spec* spec_of_instance(const std::string& instance_id);
  void save(const Instance& i) { dirty_instances_.insert(i.id); }
  void save_app(const App& app);
  void save_deployment(const Deployment& d);
  void write(std::string key, std::optional<std::string> value) {
    out_.writes.push_back({std::move(key), std::move(value)});
  }

  Options options_;
  Random random_;
  Nanos now_{};
  Millis wall_ = 0, last_version_ = 0;
  std::map<std::string, Spec> specs_;
  std::map<std::string, Deployment> deployments_;
  std::map<std::string, std::string> locks_;  // application -> deployment
  std::set<std::string> waiting_;             // applications with waiting instances
  std::set<std::string> dirty_;               // applications to settle
  std::set<std::string> dirty_instances_;     // records to write
  std::multimap<Nanos, std::string> timers_;  // instances to look at again
  std::vector<std::pair<std::string, Object>> loaded_instances_;
  std::string framework_id_;
  bool connected_ = false, suppressed_ = false, want_revive_ = false;
  Nanos last_revive_{}, next_reconcile_{}, next_refill_{};
  bool ever_revived_ = false;
  int tokens_;
  std::string cursor_;  // the application served last, for fairness between applications
  Out out_;
};

}  // namespace gantry::framework_services
