// The launcher with real processes, a real loop and isolators whose behaviour each test chooses.
#pragma once

#include "tests/sanitizers.hpp"

#include "kernel/agent/container_launcher.hpp"
#include "kernel/net/net.hpp"

#include <gantry/fetcher_generated.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

namespace gantry::agent::launching {

using namespace std::chrono_literals;
using fb::isolator::Namespace;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

inline constexpr auto patience = 20s;

inline std::string slurp(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Answers as told, on the loop, and remembers what it was asked.
class FakeIsolator final : public module::Instance {
 public:
  FakeIsolator(base::Loop& loop, std::string name) : loop_(loop), name_(std::move(name)) {}
  [[nodiscard]] const std::string& kind() const override { return kind_; }
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] module::State state() const override { return module::State::running; }
  [[nodiscard]] module::Counters counters() const override { return {}; }

  std::uint64_t call(std::uint32_t method, Buffer body, module::OnReply on_reply, module::CallOptions) override {
    using M = fb::isolator::Method;
    const std::uint64_t id = ++last_;
    auto reply = std::make_shared<module::OnReply>(std::move(on_reply));
    const auto answer = [this, reply](gantry_code code, Buffer b) {
      loop_.post([reply, code, b = std::make_shared<Buffer>(std::move(b))] { (*reply)(code, Bytes(*b)); });
    };
    switch (static_cast<M>(method)) {
      case M::PREPARE:
        note("prepare");
        if (stall_prepare) stalled = [answer, this] { answer(GANTRY_OK, pack(prepared())); };
        else if (!fail_prepare.empty()) answer(GANTRY_INTERNAL, pack_error(fail(Code::internal, fail_prepare)));
        else answer(GANTRY_OK, pack(prepared()));
        break;
      case M::ATTACH:
        note("attach");
        view<fb::isolator::Attach>(Bytes(body))->UnPackTo(&attach);
        if (on_attach) on_attach(attach.pid);
        answer(GANTRY_OK, networks.networks.empty() ? Buffer() : pack(networks));
        break;
      case M::WATCH: {
        const std::string container(text(view<fb::isolator::Watch>(Bytes(body))->container_id()));
        watchers[container] = answer;
        if (limit_at_once) limit(container);
        break;
      }
      case M::CLEANUP: {
        note("cleanup");
        const std::string container(text(view<fb::isolator::Cleanup>(Bytes(body))->container_id()));
        cleaned.push_back(container);
        if (const auto w = watchers.find(container); w != watchers.end()) {
          if (limit_at_cleanup) limit(container);
          w->second(GANTRY_OK, {});
          watchers.erase(container);
        }
        answer(GANTRY_OK, {});
        break;
      }
      default:
        if (method == GANTRY_METHOD_RECOVER) {
          fb::isolator::RecoveredT r;
          r.orphans = orphans;
          answer(GANTRY_OK, pack(r));
        } else if (static_cast<M>(method) == M::USAGE) {
          fb::isolator::UsagesT u;
          for (const auto* c : *view<fb::isolator::UsageRequest>(Bytes(body))->container_ids()) {
            auto one = std::make_unique<fb::isolator::UsageT>();
            one->container_id = text(c);
            one->memory_rss = 4096;
            u.usages.push_back(std::move(one));
          }
          answer(GANTRY_OK, pack(u));
        } else {
          answer(GANTRY_UNIMPLEMENTED, {});
        }
    }
    return id;
  }
  void cancel(std::uint64_t) override {}

  void limit(const std::string& container) {
    fb::isolator::LimitedT l;
    l.reason = fb::Reason::REASON_CONTAINER_LIMITATION_MEMORY;
    l.message = "Memory limit exceeded";
    watchers.at(container)(GANTRY_MORE, pack(l));
  }
  fb::isolator::PreparedT prepared() const {
    fb::isolator::PreparedT p;
    p.namespaces = namespaces;
    p.no_attach = !on_attach;
    if (namespaces & static_cast<std::uint32_t>(Namespace::MOUNT)) {
      auto proc = std::make_unique<fb::isolator::MountT>();
      proc->source = "proc";
      proc->target = "/proc";
      proc->type = "proc";
      p.mounts.push_back(std::move(proc));
    }
    if (!missing.empty()) {
      auto m = std::make_unique<fb::isolator::MountT>();
      m->source = missing;
      m->target = "/proc";
      m->type = "no-such-type";
      p.mounts.push_back(std::move(m));
    }
    for (const auto& [k, v] : environment) {
      auto var = std::make_unique<fb::VariableT>();
      var->name = k;
      var->value = v;
      p.environment.push_back(std::move(var));
    }
    if (shape) shape(p);
    return p;
  }

  std::uint32_t namespaces = 0;
  std::vector<std::pair<std::string, std::string>> environment;
  std::string fail_prepare, missing;
  std::function<void(fb::isolator::PreparedT&)> shape;  // the last word on what PREPARE answers
  fb::isolator::AttachT attach;                         // what came last
  fb::isolator::AttachedT networks;
  bool stall_prepare = false, limit_at_once = false, limit_at_cleanup = false;
  std::function<void(int)> on_attach;
  std::function<void()> stalled;
  std::vector<std::string> orphans, cleaned;
  std::map<std::string, std::function<void(gantry_code, Buffer)>> watchers;
  std::vector<std::string>* journal = nullptr;

 private:
  void note(const char* what) {
    if (journal) journal->push_back(name_ + " " + what);
  }
  base::Loop& loop_;
  std::string kind_ = "isolator", name_;
  std::uint64_t last_ = 0;
};

class LaunchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (gantry::testing::kThreadSanitizer)
      GTEST_SKIP() << "ThreadSanitizer does not know a child that borrows our memory until it executes (CLONE_VM)";
    char dir[] = "/tmp/gantry-launch-XXXXXX";
    work_dir_ = ::mkdtemp(dir);
    supervisor_ = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "gantry-supervisor";
    ASSERT_TRUE(std::filesystem::exists(supervisor_)) << "build the target gantry-supervisor";
    loop_ = net::make_real_loop();
    thread_ = std::thread([this] { loop_->run(); });
    first_ = std::make_unique<FakeIsolator>(*loop_, "first");
    second_ = std::make_unique<FakeIsolator>(*loop_, "second");
    first_->journal = second_->journal = &journal_;
    make();
  }
  void TearDown() override {
    if (!loop_) return;
    if (launcher_) {
      on_loop([&] {
        for (const auto& id : ids_) launcher_->kill(id, 0ns);
      });
      for (const auto& id : ids_)
        if (started_.count(id) && !exit_of(id)) ADD_FAILURE() << id << " does not end";
      unmake();
    }
    loop_->stop();
    thread_.join();
    // Nothing of ours is left: no child, running or zombie.
    for (int i = 0; i < 100 && ::waitpid(-1, nullptr, WNOHANG | __WALL) == 0; ++i) ::usleep(1000);
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
    std::filesystem::remove_all(work_dir_);
  }

  template <class F>
  auto on_loop(F f) -> std::invoke_result_t<F> {
    std::promise<std::invoke_result_t<F>> p;
    loop_->post([&] {
      if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
        f();
        p.set_value();
      } else {
        p.set_value(f());
      }
    });
    return p.get_future().get();
  }
  void make() {
    on_loop([&] {
      LauncherOptions o;
      o.work_dir = work_dir_;
      o.supervisor = supervisor_;
      o.isolators = {first_.get(), second_.get()};
      o.watch_readable = [this](int fd, Function<void()> fn) { return loop_->watch_readable(fd, std::move(fn)); };
      o.unwatch = [this](std::uint64_t id) { loop_->unwatch(id); };
      launcher_ = std::make_unique<ContainerLauncher>(*loop_, std::move(o));
      launcher_->on_exit([this](const std::string& id, ExitInfo e) {
        const std::lock_guard lock(mutex_);
        exits_.emplace(id, std::move(e));
        changed_.notify_all();
      });
    });
  }
  void unmake() {
    std::promise<void> done;
    on_loop([&] { launcher_->stop([&] { done.set_value(); }); });
    ASSERT_EQ(done.get_future().wait_for(patience), std::future_status::ready) << "stop() does not come to an end";
    on_loop([&] { launcher_.reset(); });
  }

  LaunchSpec spec(const std::string& id, const std::string& command) {
    auto task = std::make_shared<fb::TaskInfoT>();
    task->task_id = "task-" + id;
    task->command = std::make_unique<fb::CommandInfoT>();
    task->command->value = command;
    LaunchSpec s;
    s.container_id = id;
    s.agent_id = "a1";
    s.framework_id = "f1";
    s.sandbox = work_dir_ + "/slaves/a1/frameworks/f1/executors/task-" + id + "/runs/" + id;
    s.task = task;
    return s;
  }
  std::string sandbox(const std::string& id) { return spec(id, "").sandbox; }
  std::future<Launcher::Started> begin(LaunchSpec s) {
    ids_.push_back(s.container_id);
    auto p = std::make_shared<std::promise<Launcher::Started>>();
    on_loop([&] { launcher_->launch(std::move(s), [this, p, id = ids_.back()](Launcher::Started r) {
      if (std::holds_alternative<Identity>(r)) started_.insert(id);
      p->set_value(std::move(r));
    }); });
    return p->get_future();
  }
  Launcher::Started launch(LaunchSpec s) {
    auto f = begin(std::move(s));
    if (f.wait_for(patience) != std::future_status::ready) return Launcher::LaunchError{fail(Code::unknown, "no answer")};
    return f.get();
  }
  Identity start(const std::string& id, const std::string& command) {
    const auto s = launch(spec(id, command));
    if (const auto* e = std::get_if<Launcher::LaunchError>(&s)) {
      ADD_FAILURE() << e->error.message;
      return {};
    }
    return std::get<Identity>(s);
  }
  std::optional<ExitInfo> exit_of(const std::string& id, std::chrono::seconds limit = patience) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, limit, [&] { return exits_.count(id) > 0; })) return std::nullopt;
    return exits_.at(id);
  }
  void kill(const std::string& id, base::Nanos grace) {
    on_loop([&] { launcher_->kill(id, grace); });
  }
  // Until the task has written this to its stdout.
  bool prints(const std::string& id, const std::string& what) {
    for (int i = 0; i < 5000; ++i) {
      if (slurp(sandbox(id) + "/stdout").find(what) != std::string::npos) return true;
      ::usleep(1000);
    }
    return false;
  }
  void need_root() {
    if (::geteuid() != 0) GTEST_SKIP() << "namespaces need root";
  }
  void isolate() {
    if (IsSkipped()) return;
    first_->namespaces = static_cast<std::uint32_t>(Namespace::PID) | static_cast<std::uint32_t>(Namespace::MOUNT);
  }
  static std::string environment_of(int pid) { return slurp("/proc/" + std::to_string(pid) + "/environ"); }
  // How many processes carry this word in their environment.
  static int carrying(const std::string& word) {
    int n = 0;
    for (const auto& e : std::filesystem::directory_iterator("/proc")) {
      const auto name = e.path().filename().string();
      if (name[0] >= '0' && name[0] <= '9' && environment_of(std::stoi(name)).find(word) != std::string::npos) ++n;
    }
    return n;
  }

  std::string work_dir_, supervisor_;
  std::unique_ptr<net::RealLoop> loop_;
  std::thread thread_;
  std::unique_ptr<FakeIsolator> first_, second_;
  std::vector<std::string> journal_;
  std::unique_ptr<ContainerLauncher> launcher_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, ExitInfo> exits_;
  std::vector<std::string> ids_;
  std::set<std::string> started_;
};

}  // namespace gantry::agent::launching
