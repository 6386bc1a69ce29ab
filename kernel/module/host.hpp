// All configured modules: loaded together or not at all, started in order of need, stopped in reverse.
#pragma once

#include "kernel/base/metric.hpp"
#include "kernel/config/config.hpp"
#include "kernel/module/instance.hpp"
#include "kernel/module/kinds.hpp"
#include "kernel/module/strand.hpp"
#include "kernel/module/trace.hpp"

#include <gantry/control_generated.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::net {
class RealLoop;
}

namespace gantry::module {

// Modules in processes of their own, and what becomes of them when these end.
struct ProcessHosting {
  net::RealLoop* loop = nullptr;   // the kernel's; null: host = "process" is refused
  std::string program;             // gantry-modhost; empty: it was not found, the error says where it was sought
  std::string group;               // begins the names of their control groups; the daemon's own on this machine
  base::Nanos first_retry = std::chrono::milliseconds(100);  // doubled with each end in a row
  base::Nanos max_retry = std::chrono::seconds(30);
  base::Nanos stable_after = std::chrono::seconds(60);  // a life this long makes the next end the first again
  unsigned crash_loop = 5;                              // so many in a row, and it is called one
  // Runs between CONFIGURE and START of an instance that comes back, with CallOptions::from_host in its calls: for
  // users who have to tell it what it knew.
  std::function<Task<Status>(Instance&)> recover;
  // Runs once it is running again, for users who have to begin again what ended with it.
  std::function<void(Instance&)> back;
};

struct HostSetup {
  base::Loop& loop;
  Strands& strands;
  base::Metrics& metrics;
  std::vector<std::string> roles;                        // of this kernel
  Services services;                                     // what modules may ask; the manifest decides which module may
  base::Nanos start_timeout = std::chrono::seconds(30);  // of each CONFIGURE and START
  base::Nanos stop_timeout = std::chrono::seconds(10);   // of each STOP
  base::Nanos stop_grace = std::chrono::seconds(2);      // after the cancels, before an instance is left behind
  base::Nanos health_interval = std::chrono::seconds(10);  // 0: health is never asked
  std::size_t queue_bytes = std::size_t{64} << 20;         // of each instance, each way
  std::span<const Kind> kinds = module::kinds;
  ProcessHosting processes = {};
};

// Lives on the loop. Everything it hands out is valid until it is destroyed.
class ModuleHost {
 public:
  explicit ModuleHost(HostSetup setup);
  // stop() must have finished, or nothing been started.
  ~ModuleHost();
  ModuleHost(const ModuleHost&) = delete;
  ModuleHost& operator=(const ModuleHost&) = delete;

  // A module linked into this program instead of a file, for tests and simulations: load() takes it for the module
  // `id` ("allocator.drf") whatever path the configuration names. Its manifest comes from the ModuleConfig.
  void provide(const std::string& id, const gantry_module* descriptor);

  // Services that come to be after the modules are loaded (the master's, the agent's); before start().
  void offer(fb::host::Service service, Service* provider);

  // Loads and checks all, in this order of configuration. On any problem nothing is kept: the daemon must not start
  // half-way. Enters no module code but the libraries' static initialisers. Once.
  [[nodiscard]] std::vector<config::Problem> load(const std::vector<config::ModuleConfig>& modules);

  // Runs between CONFIGURE and START of each instance; the agent sends RECOVER here.
  using BeforeStart = std::function<Task<Status>(Instance&)>;
  // Which instances to start; what they need is started with them. Empty: all.
  using Which = std::function<bool(const Instance&)>;
  // Creates, configures and starts in order of need those that are not running yet. Stops at the first failure, which
  // names module, step and reason; the caller then calls stop(). May be called again for further instances. A module
  // whose process ends meanwhile is no failure: it is restarted like any that ends later.
  Task<Status> start(Which which = {}, BeforeStart before = {});

  // Stops all in reverse order of start. What did not stop cleanly is logged and left behind.
  Task<void> stop();

  // Sends CONFIGURE{reload} to `ids` with their new settings. Warnings for those that refuse; they keep the old ones.
  Task<std::vector<config::Problem>> reload(const std::vector<config::ModuleConfig>& modules,
                                            std::vector<std::string> ids);

  // Null if there is none for this role. An empty name finds the first of the kind.
  [[nodiscard]] Instance* find(std::string_view kind, std::string_view name = {}) const;
  // In order of configuration.
  [[nodiscard]] std::vector<Instance*> all(std::string_view kind) const;
  // For the operator, in order of configuration; includes those that are not for this kernel's roles.
  [[nodiscard]] std::vector<fb::control::ModuleT> list() const;
  // One of them with its manifest, settings (secrets left out) and last log lines; no metrics. NOT_FOUND names the nearest.
  [[nodiscard]] Result<fb::control::ModuleDetailT> detail(std::string_view id, std::size_t log_lines) const;
  // What Traces::start needs of one; FAILED_PRECONDITION if it is not for this kernel's roles.
  [[nodiscard]] Result<Traces::Subject> subject(std::string_view id) const;

 private:
  struct Item {
    config::ModuleConfig config;
    std::unique_ptr<HostedInstance> instance;  // null: not for this role
    bool configured = false;
    bool started = false;
    bool asking = false;  // a HEALTH is under way
    // Of a module in a process of its own (restart.cpp).
    std::string user;             // it runs as; empty: as the daemon
    bool starting = false;        // a start is under way, and notices the end of the process by itself
    bool restarting = false;      // that start is a restart
    bool listed = false;          // in started_
    unsigned crashes = 0;         // in a row
    unsigned misses = 0;          // HEALTH, in a row
    base::Instant running_since{0}, next_try{0};
    base::TimerId retry = 0;
    std::string last_end;
    std::vector<Promise<bool>> restarted;  // who waits for the restart under way
  };
  [[nodiscard]] fb::control::ModuleT describe(const Item& item) const;  // host_view.cpp, as are list, detail, subject
  [[nodiscard]] Result<const Item*> look(std::string_view id) const;
  Task<Status> start_one(Item& item, const BeforeStart& before);
  Task<Status> step(Item& item, std::uint32_t method, Buffer body, std::string_view what);
  void ask_health();
  // restart.cpp
  [[nodiscard]] Result<std::unique_ptr<HostedInstance>> make_process(Item& item);
  void on_ended(Item& item, const Error& why);
  void restart_later(Item& item, std::string why);
  Task<void> restart(Item& item);
  Task<void> end_restarts();
  void missed_health(Item& item);
  [[nodiscard]] std::string crash_text(const Item& item) const;
  [[nodiscard]] Result<std::unique_ptr<HostedInstance>> make_instance(Item& item);

  HostSetup setup_;
  std::map<std::string, const gantry_module*> provided_;
  std::vector<std::unique_ptr<Item>> items_;  // order of configuration
  std::vector<Item*> order_;                  // order of need
  std::vector<Item*> started_;                // order of start
  base::TimerId health_timer_ = 0;
  bool stopping_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::module
