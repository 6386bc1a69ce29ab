// The composition root: the one place that knows all parts. Start order is written in Kernel::start, stop is its reverse.
#pragma once

#include "kernel/agent/agent.hpp"
#include "kernel/agent/container_launcher.hpp"
#include "kernel/agent/executor_service.hpp"
#include "kernel/base/fd.hpp"
#include "kernel/base/heap.hpp"
#include "kernel/base/metric.hpp"
#include "kernel/config/config.hpp"
#include "kernel/control.hpp"
#include "kernel/daemon_calls.hpp"
#include "kernel/master/master.hpp"
#include "kernel/module/auth_service.hpp"
#include "kernel/module/authorize_service.hpp"
#include "kernel/module/host.hpp"
#include "kernel/module/http_service.hpp"
#include "kernel/net/net.hpp"
#include "kernel/store/store_service.hpp"

#include <gantry/authenticator_generated.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace gantry::kernel {

// Runs a daemon until a signal or a fatal error ends it. Returns the process's exit status (see gantryd --help).
int run(config::Options options, config::ConfigPtr config, std::string version);

// A service whose provider comes to be after the modules that may ask for it. Until then, and after, UNAVAILABLE.
class LateService final : public module::Service {
 public:
  void provide(module::Service* service) { service_ = service; }
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;
  void cancelled(std::uint64_t id) override;

 private:
  module::Service* service_ = nullptr;
};

// The service OPERATE of a daemon: what is said to itself, what to its agent, and what to its master.
class OperateDoor final : public module::Service {
 public:
  OperateDoor(DaemonCalls& own, module::Service& agent, module::Service& master) : own_(own), agent_(agent), master_(master) {}
  void roles(bool agent, bool master) { has_agent_ = agent, has_master_ = master; }
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;
  void cancelled(std::uint64_t id) override { master_.cancelled(id); }

 private:
  DaemonCalls& own_;
  module::Service &agent_, &master_;
  bool has_agent_ = false, has_master_ = false;
};

// Everything on the loop's thread.
class Kernel final : public master::LinkServer {
 public:
  Kernel(net::RealLoop& loop, config::Options options, config::ConfigPtr config, std::string version);
  ~Kernel() override;

  // An error has been reported as one sentence; the caller then calls stop().
  Task<Status> start();
  Task<void> stop();
  // Runs when the daemon's work is over by itself; `failed` makes the exit status 1.
  void on_finished(std::function<void(bool failed)> fn) { on_finished_ = std::move(fn); }

  // SIGHUP and Reload: what changed, what needs a restart, or every mistake; never half-applied.
  void reload(std::function<void(fb::control::DoneT)> done);
  // SIGUSR1: end all tasks of this agent, sign off, finish.
  void shut_down_agent();

  // master::LinkServer
  void send(master::LinkId link, const Buffer& frame) override;
  void drop(master::LinkId link, std::string_view why) override;

 private:
  Status prepare_work_dir();
  Status listen(const std::string& address, std::string name, Function<void(net::LinkPtr)> on_link, std::string& bound);
  Task<Status> start_modules();
  Task<Status> module_recovers(module::Instance& instance);
  void module_returned(module::Instance& instance);
  Status start_listeners();
  Status start_agent();
  void contend();
  void follow();
  void elected();
  void deposed(const std::string& why);
  void accept(net::LinkPtr link);
  [[nodiscard]] std::vector<module::Instance*> all(std::string_view kind) const;
  // Asks the authenticator modules in turn.
  void authenticate(fb::authenticator::CredentialsT credentials, std::function<void(Result<std::string>)> done, std::size_t from = 0);

  // questions.cpp
  void answer(const fb::control::QuestionT& question, Control::Reply reply);
  bool answer_about_module(const fb::control::QuestionT& question, const Control::Reply& reply);
  bool answer_about_images(const fb::control::QuestionT& question, const Control::Reply& reply);
  [[nodiscard]] fb::control::StatusT status() const;
  [[nodiscard]] fb::control::MetricsT metrics() const;

  net::RealLoop& loop_;
  config::Options options_;
  config::ConfigPtr config_;
  const std::string version_;
  const base::Instant started_at_;
  std::string work_dir_;
  base::Fd lock_;
  base::Metrics metrics_;
  std::unique_ptr<module::Strands> strands_;
  Control control_;
  module::HttpService http_;
  module::AuthService auth_;
  module::AuthorizeService authorize_;
  LateService store_late_, cluster_late_, state_late_, operate_late_;
  agent::ExecutorService executor_service_;
  agent::OperateAgent operate_agent_;
  DaemonCalls daemon_calls_{loop_};
  OperateDoor operate_{daemon_calls_, operate_agent_, operate_late_};
  std::unique_ptr<module::ModuleHost> modules_;
  std::unique_ptr<module::Traces> traces_;  // of modules_, so it goes before them
  std::unique_ptr<store::ModuleStore> store_;
  std::unique_ptr<store::StoreService> store_service_;
  std::unique_ptr<master::Master> master_;
  std::unique_ptr<agent::MasterLink> master_link_;
  std::unique_ptr<agent::Disk> disk_;
  std::unique_ptr<agent::ContainerLauncher> launcher_;
  std::unique_ptr<agent::Agent> agent_;
  std::vector<std::unique_ptr<net::Listener>> listeners_;
  std::vector<std::pair<std::string, std::string>> addresses_;  // name, where it listens
  std::string master_address_, agent_address_;
  std::uint64_t contend_call_ = 0, watch_call_ = 0;
  bool leading_ = false;
  std::string leader_, leader_hostname_;
  bool stopping_ = false;
  std::uint64_t pulls_ = 0;  // for operators
  base::HeapKeeper heap_{loop_};

  struct Connection {
    net::LinkPtr link;
    enum class Speaks { unknown, link, control } speaks = Speaks::unknown;
  };
  std::unordered_map<master::LinkId, Connection> connections_;
  master::LinkId next_link_ = 0;
  std::function<void(bool)> on_finished_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::kernel
