// The launcher with real processes, a real loop and isolators whose behaviour each test chooses.
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

namespace gantry::agent {
namespace {

using namespace std::chrono_literals;
using fb::isolator::Namespace;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto patience = 20s;

std::string slurp(const std::string& path) {
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
        if (on_attach) on_attach(view<fb::isolator::Attach>(Bytes(body))->pid());
        answer(GANTRY_OK, {});
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
    return p;
  }

  std::uint32_t namespaces = 0;
  std::vector<std::pair<std::string, std::string>> environment;
  std::string fail_prepare, missing;
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

// Both ways a container may run: in namespaces, and without any right.
class BothWays : public LaunchTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    LaunchTest::SetUp();
    if (!GetParam()) return;
    if (::geteuid() != 0) GTEST_SKIP() << "namespaces need root";
    isolate();
  }
};
INSTANTIATE_TEST_SUITE_P(Namespaces, BothWays, ::testing::Bool(), [](const auto& p) { return p.param ? "With" : "Without"; });

TEST_P(BothWays, ExitStatusIsReported) {
  const Identity i = start("zero", "exit 0");
  EXPECT_GT(i.pid, 1);
  EXPECT_NE(i.pid, i.supervisor_pid);
  EXPECT_GT(i.supervisor_start, 0u);
  start("seven", "exit 7");
  start("signal", "kill -SEGV $$");
  EXPECT_EQ(exit_of("zero")->wait_status, 0);
  EXPECT_EQ(WEXITSTATUS(exit_of("seven")->wait_status.value_or(0)), 7);
  const int s = exit_of("signal")->wait_status.value_or(0);
  EXPECT_TRUE(WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV) << s;
  EXPECT_FALSE(exit_of("signal")->reason);
}

TEST_P(BothWays, SandboxIsWorkingDirectoryWithOutput) {
  first_->environment = {{"FROM_ISOLATOR", "iso"}, {"BOTH", "iso"}};
  auto s = spec("box", "pwd; echo to-err >&2; echo $MESOS_SANDBOX $MESOS_TASK_ID $MINE $FROM_ISOLATOR $BOTH");
  auto task = std::make_shared<fb::TaskInfoT>(*s.task);
  for (const auto& [k, v] : {std::pair{"MINE", "own"}, {"BOTH", "own"}}) {
    auto var = std::make_unique<fb::VariableT>();
    var->name = k;
    var->value = v;
    task->command->environment.push_back(std::move(var));
  }
  s.task = task;
  ASSERT_TRUE(std::holds_alternative<Identity>(launch(s)));
  ASSERT_EQ(exit_of("box")->wait_status, 0);
  EXPECT_EQ(slurp(sandbox("box") + "/stdout"), sandbox("box") + "\n" + sandbox("box") + " task-box own iso own\n");
  EXPECT_EQ(slurp(sandbox("box") + "/stderr"), "to-err\n");
  EXPECT_EQ(std::filesystem::read_symlink(sandbox("box") + "/../latest"), "box");
}

TEST_P(BothWays, WhatCannotBeExecutedSaysSo) {
  auto s = spec("none", "/no/such/program");
  auto task = std::make_shared<fb::TaskInfoT>(*s.task);
  task->command->shell = false;
  s.task = task;
  const auto r = launch(s);
  const auto* e = std::get_if<Launcher::LaunchError>(&r);
  ASSERT_TRUE(e);
  EXPECT_THAT(e->error.message, HasSubstr("cannot execute \"/no/such/program\": No such file or directory"));
  EXPECT_THAT(journal_, ElementsAre("first prepare", "second prepare", "second cleanup", "first cleanup"));
  EXPECT_FALSE(exit_of("none", 0s)) << "a failed launch has no exit";
  EXPECT_FALSE(std::filesystem::exists(work_dir_ + "/meta/containers/none"));
}

TEST_P(BothWays, ArgumentsWithoutAShell) {
  auto s = spec("argv", "sh");
  auto task = std::make_shared<fb::TaskInfoT>(*s.task);
  task->command->shell = false;
  task->command->arguments = {"my-name", "-c", "echo $0 \"$1\"", "zero", "a  b"};
  s.task = task;
  ASSERT_TRUE(std::holds_alternative<Identity>(launch(s)));
  ASSERT_EQ(exit_of("argv")->wait_status, 0);
  EXPECT_EQ(slurp(sandbox("argv") + "/stdout"), "zero a  b\n");
}

TEST_P(BothWays, TermReachesEveryProcessOfTheContainer) {
  start("tree", "trap 'wait; echo parent; exit 3' TERM; (trap 'echo child; exit 0' TERM; echo up; while :; do sleep 0.01; done) & while :; do sleep 0.01; done");
  ASSERT_TRUE(prints("tree", "up"));
  kill("tree", 10s);
  EXPECT_EQ(WEXITSTATUS(exit_of("tree")->wait_status.value_or(0)), 3);
  EXPECT_EQ(slurp(sandbox("tree") + "/stdout"), "up\nchild\nparent\n");
}

TEST_P(BothWays, WhoIgnoresTermIsKilledAfterTheGrace) {
  start("deaf", "trap '' TERM; echo up; while :; do sleep 0.01; done");
  ASSERT_TRUE(prints("deaf", "up"));
  const auto before = std::chrono::steady_clock::now();
  kill("deaf", 3600s);
  kill("deaf", 100ms);   // a repeated kill shortens
  kill("deaf", 3600s);   // and never lengthens
  const auto e = exit_of("deaf");
  ASSERT_TRUE(e);
  EXPECT_EQ(WTERMSIG(e->wait_status.value_or(0)), SIGKILL);
  EXPECT_GE(std::chrono::steady_clock::now() - before, 100ms);
}

TEST_P(BothWays, NothingOutlivesTheTask) {
  const std::string mark = "GANTRY_TEST_MARK_" + std::to_string(::getpid());
  start("daemon", "export " + mark + "=1; setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 & wait' & sleep 0.05; echo up; exit 0");
  EXPECT_EQ(exit_of("daemon")->wait_status, 0);
  EXPECT_EQ(carrying(mark), 0) << "by the time of the report everything is gone";
}

TEST_P(BothWays, ManyAtOnceLeaveNothing) {
  const std::string mounts = slurp("/proc/self/mountinfo");
  std::vector<std::future<Launcher::Started>> all;
  for (int i = 0; i < 100; ++i) all.push_back(begin(spec("m" + std::to_string(i), "exit " + std::to_string(i % 3))));
  for (auto& f : all) {
    ASSERT_EQ(f.wait_for(60s), std::future_status::ready);
    EXPECT_TRUE(std::holds_alternative<Identity>(f.get()));
  }
  for (int i = 0; i < 100; ++i) {
    const auto e = exit_of("m" + std::to_string(i));
    ASSERT_TRUE(e);
    EXPECT_EQ(WEXITSTATUS(e->wait_status.value_or(99 << 8)), i % 3);
  }
  EXPECT_EQ(slurp("/proc/self/mountinfo"), mounts);
  EXPECT_EQ(first_->cleaned.size(), 100u);
  // The records go with the sandboxes.
  on_loop([&] {
    for (int i = 0; i < 100; ++i) launcher_->release_sandbox(sandbox("m" + std::to_string(i)));
  });
  EXPECT_TRUE(std::filesystem::is_empty(work_dir_ + "/meta/containers"));
}

TEST_P(BothWays, ReattachKeepsWhatRuns) {
  const Identity i = start("kept", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done");
  ASSERT_TRUE(prints("kept", "up"));
  const Identity brief = start("brief", "while [ ! -e go ]; do sleep 0.01; done; exit 4");
  const Identity murdered = start("murdered", "sleep 1000");
  const Identity orphan = start("orphan", "sleep 1000");
  unmake();
  for (const char* id : {"brief", "murdered", "orphan"}) started_.erase(id);
  std::ofstream(sandbox("brief") + "/go") << 1;
  while (!read_record(work_dir_ + "/meta/containers/brief")->wait_status) ::usleep(1000);
  ::kill(murdered.supervisor_pid, SIGKILL);
  while (::waitpid(murdered.supervisor_pid, nullptr, 0) < 0 && errno == EINTR) {}
  while (::waitpid(brief.supervisor_pid, nullptr, 0) < 0 && errno == EINTR) {}
  first_->orphans = {"stranger", "brief"};
  second_->limit_at_cleanup = true;
  first_->cleaned.clear();
  make();

  std::vector<KnownContainer> known = {{spec("kept", "x"), i}, {spec("brief", "x"), brief}, {spec("murdered", "x"), murdered}, {spec("never", "x"), {}}};
  std::promise<Result<std::vector<RecoveredContainer>>> p;
  on_loop([&] { launcher_->recover(std::move(known), [&](auto r) { p.set_value(std::move(r)); }); });
  const auto r = p.get_future().get();
  ASSERT_TRUE(r);
  ASSERT_EQ(r->size(), 4u);
  using Fate = RecoveredContainer::Fate;
  EXPECT_EQ((*r)[0].fate, Fate::running);
  EXPECT_EQ((*r)[1].fate, Fate::exited);
  EXPECT_EQ(WEXITSTATUS((*r)[1].exit.wait_status.value_or(0)), 4);
  EXPECT_EQ((*r)[1].exit.reason, fb::Reason::REASON_CONTAINER_LIMITATION_MEMORY) << "an isolator knew better";
  EXPECT_EQ((*r)[2].fate, Fate::exited);
  EXPECT_FALSE((*r)[2].exit.wait_status);
  EXPECT_EQ((*r)[3].fate, Fate::gone);
  EXPECT_EQ(::kill(orphan.pid, 0), -1) << "nobody asked for it";
  EXPECT_THAT(first_->cleaned, ::testing::UnorderedElementsAre("stranger", "brief", "murdered", "never", "orphan"));
  EXPECT_EQ(::kill(i.pid, 0), 0);
  kill("kept", 10s);
  EXPECT_EQ(WEXITSTATUS(exit_of("kept")->wait_status.value_or(0)), 5);
  if (!GetParam()) ::kill(-murdered.pid, SIGKILL);  // without a pid namespace it outlived its witness
}

TEST_P(BothWays, RunInRunsBesideTheTask) {
  start("host", "echo hello > file; echo up; sleep 1000");
  ASSERT_TRUE(prints("host", "up"));
  const auto run = [&](const std::string& command, base::Nanos timeout) {
    fb::CommandInfoT c;
    c.value = command;
    std::promise<Result<int>> p;
    on_loop([&] { launcher_->run_in("host", c, timeout, [&](Result<int> r) { p.set_value(std::move(r)); }); });
    return p.get_future().get();
  };
  EXPECT_EQ(*run("grep -q hello file", 10s), 0);
  EXPECT_EQ(WEXITSTATUS(*run("exit 9", 10s)), 9);
  if (GetParam()) {
    EXPECT_EQ(*run("test $(ls -d /proc/[0-9]* | wc -l) -lt 10", 10s), 0) << "it sees the container's processes only";
  }
  const auto late = run("sleep 1000", 50ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Code::deadline_exceeded);
  const auto nobody = [&] {
    std::promise<Result<int>> p;
    on_loop([&] { launcher_->run_in("stranger", fb::CommandInfoT{}, 1s, [&](Result<int> r) { p.set_value(std::move(r)); }); });
    return p.get_future().get();
  }();
  EXPECT_EQ(nobody.error().code, Code::not_found);
}

TEST_F(LaunchTest, AFailedIsolatorUndoesTheOthers) {
  second_->fail_prepare = "no luck";
  const auto r = launch(spec("c", "true"));
  const auto* e = std::get_if<Launcher::LaunchError>(&r);
  ASSERT_TRUE(e);
  EXPECT_EQ(e->error.message, "isolator.second could not prepare the container: no luck");
  EXPECT_THAT(journal_, ElementsAre("first prepare", "second prepare", "second cleanup", "first cleanup"));
}

TEST_F(LaunchTest, AKillDuringTheLaunchTakesItBack) {
  second_->stall_prepare = true;
  auto f = begin(spec("c", "echo ran"));
  while (!on_loop([&] { return bool(second_->stalled); })) ::usleep(1000);
  kill("c", 0ns);
  on_loop([&] { second_->stalled(); });
  const auto r = f.get();
  const auto* e = std::get_if<Launcher::LaunchError>(&r);
  ASSERT_TRUE(e);
  EXPECT_EQ(e->error.code, Code::cancelled);
  EXPECT_THAT(journal_, ElementsAre("first prepare", "second prepare", "second cleanup", "first cleanup"));
  EXPECT_FALSE(std::filesystem::exists(sandbox("c") + "/stdout"));
}

TEST_F(LaunchTest, TheTaskIsHeldUntilAllHaveAttached) {
  second_->on_attach = [&](int pid) {
    EXPECT_EQ(::kill(pid, 0), 0);
    ::usleep(30'000);
    EXPECT_FALSE(std::filesystem::exists(sandbox("c") + "/stdout"));
  };
  start("c", "exit 0");
  EXPECT_EQ(exit_of("c")->wait_status, 0);
  EXPECT_THAT(journal_, ElementsAre("first prepare", "second prepare", "second attach", "second cleanup", "first cleanup"));
}

TEST_F(LaunchTest, ALimitationKillsAndIsTheReason) {
  first_->limit_at_once = true;
  start("c", "sleep 1000");
  const auto e = exit_of("c");
  ASSERT_TRUE(e);
  EXPECT_EQ(e->reason, fb::Reason::REASON_CONTAINER_LIMITATION_MEMORY);
  EXPECT_EQ(e->message, "Memory limit exceeded");
  EXPECT_EQ(WTERMSIG(e->wait_status.value_or(0)), SIGKILL);
}

TEST_F(LaunchTest, ALimitationSeenOnlyAtCleanupIsTheReasonToo) {
  first_->limit_at_cleanup = true;
  start("c", "kill -KILL $$");
  EXPECT_EQ(exit_of("c")->reason, fb::Reason::REASON_CONTAINER_LIMITATION_MEMORY);
}

TEST_F(LaunchTest, UsersAreSwitchedAndUnknownOnesRefused) {
  auto s = spec("ghost", "true");
  s.user = "no-such-user-here";
  auto r = launch(s);
  ASSERT_TRUE(std::holds_alternative<Launcher::LaunchError>(r));
  EXPECT_THAT(std::get<Launcher::LaunchError>(r).error.message, HasSubstr("user \"no-such-user-here\" does not exist"));
  if (::geteuid() != 0) GTEST_SKIP() << "switching the user needs root";
  ::chmod(work_dir_.c_str(), 0755);
  s = spec("nobody", "id -un; id -G; touch mine");
  s.user = "nobody";
  r = launch(s);
  ASSERT_TRUE(std::holds_alternative<Identity>(r)) << std::get<Launcher::LaunchError>(r).error.message;
  EXPECT_EQ(exit_of("nobody")->wait_status, 0) << slurp(sandbox("nobody") + "/stderr");
  EXPECT_EQ(slurp(sandbox("nobody") + "/stdout").find("nobody\n65534\n"), 0u) << slurp(sandbox("nobody") + "/stdout");
}

TEST_F(LaunchTest, UrisNeedAFetcher) {
  auto s = spec("c", "true");
  auto task = std::make_shared<fb::TaskInfoT>(*s.task);
  task->command->uris.push_back(std::make_unique<fb::UriT>());
  s.task = task;
  const auto r = launch(s);
  ASSERT_TRUE(std::holds_alternative<Launcher::LaunchError>(r));
  EXPECT_THAT(std::get<Launcher::LaunchError>(r).error.message, HasSubstr("no fetcher"));
}

TEST_F(LaunchTest, AMissingSupervisorIsNamed) {
  unmake();
  supervisor_ = "/no/such/supervisor";
  make();
  const auto r = launch(spec("c", "true"));
  ASSERT_TRUE(std::holds_alternative<Launcher::LaunchError>(r));
  EXPECT_THAT(std::get<Launcher::LaunchError>(r).error.message, HasSubstr("/no/such/supervisor"));
}

// Also when it ends before, or just as, it is told to go on.
TEST_F(LaunchTest, AMountThatFailsIsNamed) {
  if (::geteuid() != 0) GTEST_SKIP() << "mount namespaces need root";
  first_->namespaces = static_cast<std::uint32_t>(Namespace::MOUNT);
  first_->missing = "/no/such/disk";
  first_->on_attach = [](int) {};
  for (int i = 0; i < 20; ++i) {
    if (i % 2) first_->on_attach = [](int) { std::this_thread::sleep_for(5ms); };
    const auto r = launch(spec("c" + std::to_string(i), "true"));
    ASSERT_TRUE(std::holds_alternative<Launcher::LaunchError>(r));
    EXPECT_THAT(std::get<Launcher::LaunchError>(r).error.message, HasSubstr("/no/such/disk on /proc"));
  }
}

TEST_F(LaunchTest, UsageOfRunningContainers) {
  start("c", "sleep 1000");
  std::promise<Result<std::vector<fb::isolator::UsageT>>> p;
  on_loop([&] { launcher_->usage({}, [&](auto r) { p.set_value(std::move(r)); }); });
  const auto r = p.get_future().get();
  ASSERT_TRUE(r);
  ASSERT_EQ(r->size(), 1u);
  EXPECT_EQ((*r)[0].memory_rss, 4096u);
}

TEST_F(LaunchTest, TheSupervisorIsSmall) {
  const Identity i = start("c", "sleep 1000");
  std::istringstream smaps(slurp("/proc/" + std::to_string(i.supervisor_pid) + "/smaps_rollup"));
  long kib = 0;
  for (std::string word, line; std::getline(smaps, line);)
    if (line.rfind("Private_", 0) == 0) kib += std::stol(line.substr(line.find(':') + 1));
  EXPECT_GT(kib, 0);
  EXPECT_LT(kib, 100) << "of its own memory, in KiB";
  RecordProperty("private_kib", static_cast<int>(kib));
  EXPECT_EQ(slurp("/proc/" + std::to_string(i.supervisor_pid) + "/cmdline").find(std::string("gantry-supervisor\0c\0", 20)), 0u);
}

// ---- pure parts

TEST(Record, LinesInAnyOrderAndTorn) {
  const auto r = parse_record("exit 256 17\nsupervisor 12 34 boot\n");
  EXPECT_EQ(r.supervisor_pid, 12);
  EXPECT_EQ(r.supervisor_start, 34u);
  EXPECT_EQ(r.boot, "boot");
  EXPECT_EQ(r.wait_status, 256);
  EXPECT_FALSE(parse_record("supervisor 12 34 boot\nexit 25").wait_status) << "a line without its end is no line";
  EXPECT_EQ(parse_record("\n\nexit\nexit x y\nsupervisor\n").supervisor_pid, 0);
}

TEST(SandboxGc, AgeShrinksAsTheDiskFills) {
  const GcRules rules{100h, 0.1};
  EXPECT_EQ(allowed_age(rules, 0.0), 90h);
  EXPECT_EQ(allowed_age(rules, 0.4), 50h);
  EXPECT_EQ(allowed_age(rules, 0.95), 0h);
}

TEST(SandboxGc, RemovesTheOldAndKeepsWhatIsUsed) {
  char dir[] = "/tmp/gantry-gc-XXXXXX";
  const std::string top = ::mkdtemp(dir), runs = top + "/slaves/a/frameworks/f/executors/e/runs";
  for (const char* c : {"old", "used"}) std::filesystem::create_directories(runs + "/" + c + "/sub");
  std::filesystem::create_symlink("old", runs + "/latest");
  const base::Wall now = std::chrono::duration_cast<base::Nanos>(std::chrono::system_clock::now().time_since_epoch()).count();
  const GcRules rules{1h, 0.0};
  EXPECT_EQ(collect_sandboxes(top, rules, {runs + "/used"}, now).removed, 0u) << "too young";
  EXPECT_EQ(collect_sandboxes(top, rules, {runs + "/used"}, now + base::Nanos(2h).count()).removed, 1u);
  EXPECT_FALSE(std::filesystem::exists(runs + "/old"));
  EXPECT_FALSE(std::filesystem::is_symlink(runs + "/latest"));
  EXPECT_TRUE(std::filesystem::exists(runs + "/used"));
  EXPECT_EQ(collect_sandboxes(top, rules, {}, now + base::Nanos(2h).count()).removed, 1u);
  EXPECT_FALSE(std::filesystem::exists(top + "/slaves/a")) << "empty parents go too";
  std::filesystem::remove_all(top);
}

}  // namespace
}  // namespace gantry::agent
