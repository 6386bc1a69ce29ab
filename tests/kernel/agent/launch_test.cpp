// Launch, kill, exit, recovery.
#include "tests/kernel/agent/launch_rig.hpp"

namespace gantry::agent::launching {
namespace {

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
}  // namespace gantry::agent::launching
