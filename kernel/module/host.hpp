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

namespace gantry::module {

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
  // names module, step and reason; the caller then calls stop(). May be called again for further instances.
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
  };
  [[nodiscard]] static fb::control::ModuleT describe(const Item& item);  // host_view.cpp, as are list, detail, subject
  [[nodiscard]] Result<const Item*> look(std::string_view id) const;
  Task<Status> start_one(Item& item, const BeforeStart& before);
  Task<Status> step(Item& item, std::uint32_t method, Buffer body, std::string_view what);
  void ask_health();
  [[nodiscard]] Result<std::unique_ptr<HostedInstance>> make_instance(Item& item);

  HostSetup setup_;
  std::map<std::string, const gantry_module*> provided_;
  std::vector<std::unique_ptr<Item>> items_;  // order of configuration
  std::vector<Item*> order_;                  // order of need
  std::vector<Item*> started_;                // order of start
  base::TimerId health_timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::module
