// The real Launcher: supervised processes, isolator modules, sandboxes on disk.
//
//   launch.cpp    the launch flow and its undo list        container.cpp  kill, limitation, exit
//   describe.*    what is executed, with what              beside.cpp     run_in, usage, sandbox collection, stop
//   reattach.cpp  recovery after a restart                 prepared.*     what isolators asked for
//   pull.cpp      the image and the account in it          image.*        what an image means
//   exec.cpp      commands beside containers, with streams
//   nested.cpp    containers in containers
#pragma once

#include "kernel/agent/describe.hpp"
#include "kernel/agent/image.hpp"
#include "kernel/agent/launcher.hpp"
#include "kernel/agent/prepared.hpp"
#include "kernel/agent/sandbox.hpp"
#include "kernel/agent/spawn.hpp"
#include "kernel/module/module.hpp"

#include <deque>
#include <map>
#include <set>
#include <unordered_map>

namespace gantry::agent {

struct LauncherOptions {
  std::string work_dir;                        // absolute
  std::string supervisor;                      // path of gantry-supervisor
  bool switch_user = true;                     // false: every task runs as the agent's own account
  std::size_t parallel = 16;                   // launches under way at once; the others wait in order
  GcRules gc;
  base::Nanos gc_interval = std::chrono::minutes(1);
  std::vector<module::Instance*> isolators;    // in the order of configuration; outlive the launcher
  module::Instance* fetcher = nullptr;         // absent: tasks with URIs fail
  module::Instance* image = nullptr;           // absent: tasks with an image fail
  // RealLoop::watch_readable and unwatch (net.hpp).
  std::function<std::uint64_t(int fd, Function<void()>)> watch_readable;
  std::function<void(std::uint64_t)> unwatch;
};

class ContainerLauncher final : public Launcher {
 public:
  ContainerLauncher(base::Loop& loop, LauncherOptions options);
  ~ContainerLauncher() override;  // after stop(); asserts that nothing is in flight

  void on_exit(std::function<void(const std::string&, ExitInfo)> fn) override { on_exit_ = std::move(fn); }
  void recover(std::vector<KnownContainer> known, Function<void(Result<std::vector<RecoveredContainer>>)> done) override;
  void launch(LaunchSpec spec, Function<void(Started)> started) override;
  void kill(const std::string& container_id, base::Nanos grace) override;
  void update(const std::string& container_id, std::vector<std::unique_ptr<fb::ResourceT>> resources, Function<void(Status)> done) override;
  void run_in(const std::string& container_id, const fb::CommandInfoT& command, base::Nanos timeout, Function<void(Result<int>)> done) override;
  std::shared_ptr<Beside> exec(const std::string& container_id, ExecOptions options, Function<void(bool, Bytes)> output, Function<void(Result<int>)> ended) override;
  void usage(std::vector<std::string> container_ids, Function<void(Result<std::vector<fb::isolator::UsageT>>)> done) override;
  void release_sandbox(const std::string& sandbox) override;
  void stop(Function<void()> done) override;

  // An isolator that was restarted: before it is open again it learns what lives (calls with from_host), then what it
  // knows beyond that is cleaned up, and the limits it watched are watched again.
  gantry::Task<Status> recover_isolator(module::Instance& isolator);
  gantry::Task<Status> recover_image(module::Instance& images);  // the same for the module of images
  void isolator_returned(module::Instance& isolator);

 private:
  struct Container {
    LaunchSpec spec;
    enum class Phase { launching, running, ending } phase = Phase::launching;
    Identity identity;
    Spawned spawned;
    Spawn how;                                   // cut down to its namespaces once it runs
    Preparations prepared;
    // What has to be taken back, in order of success; unwound from the end by failure, kill and ordinary exit alike.
    std::vector<Function<gantry::Task<void>()>> undo;
    std::vector<std::pair<module::Instance*, std::uint64_t>> watches;  // open WATCH calls
    std::uint64_t exit_watch = 0;
    std::uint32_t attach_mask = 0;               // isolators that want ATTACH, by their place
    bool kill_wanted = false;                    // while launching
    Function<void()> interrupt_fetch, interrupt_pull;  // cut what is under way short
    void interrupt() {
      if (interrupt_fetch) interrupt_fetch();
      if (interrupt_pull) interrupt_pull();
    }
    std::optional<fb::image::ImageT> image;
    DockerWishes docker;
    bool user_in_image = false;                  // the machine has no such account
    base::Instant kill_at{0};
    base::TimerId kill_timer = 0;
    bool termed = false;
    std::optional<fb::isolator::LimitedT> limited;
    bool with_parent = false;                    // ends because the one it is nested in does
    std::vector<Promise<bool>> gone;             // who waits for its end
    std::vector<std::pair<std::string, ExitInfo>> ended_inside;  // nested ones that ended with it, told before it is
  };
  using ContainerPtr = std::shared_ptr<Container>;

  // launch.cpp
  gantry::Task<void> launch_flow(ContainerPtr, Function<void(Started)> started);
  gantry::Task<Status> launch_steps(ContainerPtr);
  gantry::Task<Status> fetch(ContainerPtr);
  gantry::Task<Status> pull(ContainerPtr);
  gantry::Task<Status> pull_and_prepare(ContainerPtr);
  gantry::Task<Status> prepare(ContainerPtr);
  gantry::Task<void> release_image(std::string container_id);
  gantry::Task<Status> attach(ContainerPtr);
  gantry::Task<void> unwind(ContainerPtr);
  Status describe(Container&) const;
  static Status heed_docker(const Container&);
  static void keep_little(Container&);
  void forget_files(const std::string& container_id) const;
  // container.cpp
  void watch_exit(ContainerPtr);
  void watch_limits(ContainerPtr);
  void watch_limits(ContainerPtr, module::Instance*);
  gantry::Task<void> finish(ContainerPtr);
  void kill_all(const ContainerPtr&);
  gantry::Task<void> cleanup(module::Instance*, std::string container_id);
  // exec.cpp
  class Session;
  void end_sessions();
  // nested.cpp
  Status join_parent(Container&) const;
  [[nodiscard]] bool has_nested(const Container&) const;
  gantry::Task<void> end_nested(ContainerPtr);
  static void put_limit(ExitInfo&, const fb::isolator::LimitedT&);
  void tell_exit(const ContainerPtr&, ExitInfo);
  void erase(const ContainerPtr&);
  gantry::Task<void> end_forsaken(std::vector<RecoveredContainer>& out, std::vector<ContainerPtr>& running, std::vector<std::string>& ended);
  static void explain_forsaken(std::vector<RecoveredContainer>& out, const std::map<std::string, std::string>& parents);
  // reattach.cpp
  gantry::Task<Result<std::vector<RecoveredContainer>>> recover_flow(std::vector<KnownContainer>);
  gantry::Task<void> recover_images(std::vector<std::string> live);
  void describe_inside(Container&);
  gantry::Task<void> end_leftover(std::string record_path);
  std::uint64_t watch_limit(module::Instance*, const std::string& id, std::shared_ptr<std::optional<fb::isolator::LimitedT>> into);
  // beside.cpp
  gantry::Task<Status> update_isolators(ContainerPtr, Buffer body);
  gantry::Task<Result<int>> run_beside(ContainerPtr, fb::CommandInfoT, base::Nanos timeout);
  gantry::Task<Result<std::vector<fb::isolator::UsageT>>> ask_usage(std::vector<std::string>);
  void collect_later();

  // ---- small tools
  // One call that answers once, with a deadline. One whose process is being restarted is waited for, a while; the methods of isolators may be repeated.
  gantry::Task<Result<Buffer>> ask(module::Instance*, std::uint32_t method, Buffer body);
  // Waits, a while, for an instance whose process is being restarted.
  gantry::Task<void> until_back(module::Instance*);
  template <class F>
  auto off(F work) -> gantry::Task<std::invoke_result_t<F>> {
    using R = std::invoke_result_t<F>;
    auto result = std::make_shared<std::optional<R>>();
    Promise<bool> done;
    loop_.offload([result, work = std::move(work)]() mutable { result->emplace(work()); }, [done] { done.set(true); });
    co_await done.get();
    co_return std::move(**result);
  }
  gantry::Task<void> readable(int fd);
  [[nodiscard]] std::string record_path(const std::string& container_id) const { return options_.work_dir + "/meta/containers/" + container_id; }
  [[nodiscard]] std::string inside_path(const std::string& container_id) const { return options_.work_dir + "/meta/inside/" + container_id; }
  ContainerPtr find(const std::string& id) const;
  void begin() { ++in_flight_; }
  void end();

  base::Loop& loop_;
  LauncherOptions options_;
  std::function<void(const std::string&, ExitInfo)> on_exit_;
  std::unordered_map<std::string, ContainerPtr> containers_;
  std::vector<std::pair<module::Instance*, std::string>> orphans_;  // told by an isolator that is not open yet
  std::map<std::string, std::string> pinned_;  // sandboxes not released yet -> whose they are
  std::vector<std::shared_ptr<Session>> sessions_;
  std::size_t launching_ = 0;
  std::deque<Promise<bool>> waiting_;          // launches beyond options_.parallel
  std::size_t in_flight_ = 0;                  // coroutines that will come back to us
  bool stopping_ = false;
  Function<void()> stopped_;
  base::TimerId gc_timer_ = 0;
};

}  // namespace gantry::agent
