// Containers in containers, with real processes: what they share, and that they end together and in order.
#include "launch_rig.hpp"

namespace gantry::agent::launching {
namespace {

constexpr auto bits(std::initializer_list<Namespace> all) {
  std::uint32_t out = 0;
  for (const auto n : all) out |= static_cast<std::uint32_t>(n);
  return out;
}

class NestedTest : public LaunchTest {
 protected:
  LaunchSpec holder_spec() {
    LaunchSpec s = spec("holder", "");
    s.hold = s.executor = true;
    return s;
  }
  LaunchSpec nested_spec(const std::string& id, const std::string& command) {
    LaunchSpec s = spec(id, command);
    s.parent = "holder";
    s.share_cgroups = true;
    s.sandbox = sandbox("holder") + "/tasks/task-" + id;
    s.environment = {{"MESOS_EXECUTOR_ID", "e"}};
    return s;
  }
  Identity must(LaunchSpec s) {
    const auto started = launch(std::move(s));
    if (const auto* e = std::get_if<Launcher::LaunchError>(&started)) {
      ADD_FAILURE() << e->error.message;
      return {};
    }
    return std::get<Identity>(started);
  }
  Identity hold() { return must(holder_spec()); }
  Identity nest(const std::string& id, const std::string& command) { return must(nested_spec(id, command)); }
  std::string out(const std::string& id) { return slurp(nested_spec(id, "").sandbox + "/stdout"); }
  bool says(const std::string& id, const std::string& what) {
    for (int i = 0; i < 5000; ++i, ::usleep(1000))
      if (out(id).find(what) != std::string::npos) return true;
    return false;
  }
  static std::string ns(int pid, const char* name) {
    std::error_code e;
    return std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/ns/" + name, e).string();
  }
  static bool alive(int pid) { return ::kill(pid, 0) == 0; }
  // A launcher that starts on what the last one left.
  std::vector<RecoveredContainer> again(std::vector<KnownContainer> known) {
    unmake();
    make();
    return recover(std::move(known));
  }
  std::vector<RecoveredContainer> recover(std::vector<KnownContainer> known) {
    std::promise<Result<std::vector<RecoveredContainer>>> done;
    on_loop([&] { launcher_->recover(std::move(known), [&](auto r) { done.set_value(std::move(r)); }); });
    auto r = done.get_future().get();
    EXPECT_TRUE(r);
    return r ? std::move(*r) : std::vector<RecoveredContainer>{};
  }
  static KnownContainer known(LaunchSpec s, const Identity& identity) {
    KnownContainer k;
    k.spec = std::move(s);
    k.identity = identity;
    return k;
  }
  const RecoveredContainer& fate_of(const std::vector<RecoveredContainer>& all, const std::string& id) {
    for (const auto& r : all)
      if (r.container_id == id) return r;
    ADD_FAILURE() << "nothing is told of " << id;
    return all.front();
  }
};

TEST_F(NestedTest, AHolderRunsNothingAndEndsWell) {
  const Identity holder = hold();
  EXPECT_TRUE(alive(holder.pid));
  EXPECT_EQ(holder.pid, holder.supervisor_pid) << "it is all there is";
  EXPECT_FALSE(exit_of("holder", 0s));
  kill("holder", 10s);
  const auto exit = exit_of("holder");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->wait_status, 0);
  EXPECT_FALSE(exit->reason);
}

TEST_F(NestedTest, ANestedOneHasItsOwnSandboxInItsParents) {
  hold();
  nest("n", "echo in $PWD as $MESOS_EXECUTOR_ID; echo x > file");
  EXPECT_TRUE(says("n", "in " + sandbox("holder") + "/tasks/task-n as e\n"));
  const auto exit = exit_of("n");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->wait_status, 0);
  EXPECT_FALSE(exit->with_parent);
  EXPECT_FALSE(exit_of("holder", 0s));
  EXPECT_FALSE(std::filesystem::exists(sandbox("holder") + "/tasks/latest"));
  // The same task again finds what is there.
  auto s = nested_spec("n", "cat file");
  s.container_id = "n2";
  must(s);
  ASSERT_TRUE(exit_of("n2"));
  EXPECT_NE(out("n").find("x\n"), std::string::npos);
}

TEST_F(NestedTest, SharesTheNamespacesItDoesNotAskFor) {
  need_root();
  if (IsSkipped()) return;
  first_->namespaces = bits({Namespace::PID, Namespace::MOUNT, Namespace::NETWORK, Namespace::UTS, Namespace::IPC});
  const Identity holder = hold();
  EXPECT_NE(ns(holder.pid, "net"), ns(::getpid(), "net"));
  first_->namespaces = bits({Namespace::PID, Namespace::MOUNT, Namespace::UTS});
  const Identity a = nest("a", "sleep 100"), b = nest("b", "ls /proc | grep -c '^[0-9]'; sleep 100");
  for (const auto& one : {a, b}) {
    EXPECT_EQ(ns(one.pid, "net"), ns(holder.pid, "net"));
    EXPECT_EQ(ns(one.pid, "ipc"), ns(holder.pid, "ipc"));
    EXPECT_NE(ns(one.pid, "uts"), ns(holder.pid, "uts")) << "asked for its own";
    EXPECT_NE(ns(one.pid, "pid"), ns(holder.pid, "pid"));
    EXPECT_NE(ns(one.pid, "mnt"), ns(holder.pid, "mnt"));
  }
  EXPECT_NE(ns(a.pid, "pid"), ns(b.pid, "pid"));

  // A command beside it is in the very same ones, also after a restart of the agent.
  const auto beside = [&] {
    std::promise<Result<int>> done;
    fb::CommandInfoT look;
    look.value = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done > seen; test $(readlink /proc/self/ns/net) = '" + ns(b.pid, "net") + "'";
    on_loop([&] { launcher_->run_in("b", look, patience, [&](Result<int> r) { done.set_value(std::move(r)); }); });
    const auto r = done.get_future().get();
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ(*r, 0);
    std::string wanted;
    for (const char* n : {"net", "ipc", "uts", "pid", "mnt"}) wanted += ns(b.pid, n) + "\n";
    EXPECT_EQ(slurp(nested_spec("b", "").sandbox + "/seen"), wanted);
  };
  beside();
  const auto fates = again({known(nested_spec("b", "sleep"), b), known(holder_spec(), holder), known(nested_spec("a", "sleep"), a)});
  for (const auto& f : fates) EXPECT_EQ(f.fate, RecoveredContainer::Fate::running) << f.container_id;
  beside();
  // And new ones find their place.
  const Identity c = nest("c", "sleep 100");
  EXPECT_EQ(ns(c.pid, "net"), ns(holder.pid, "net"));
}

TEST_F(NestedTest, TheParentTakesThemAlongAndWaits) {
  isolate();
  hold();
  const Identity a = nest("a", "trap '' TERM; echo up; while true; do sleep 1; done");
  nest("b", "sleep 100");
  ASSERT_TRUE(says("a", "up"));
  journal_.clear();
  first_->cleaned.clear();
  kill("holder", 0ns);
  for (const char* id : {"a", "b"}) {
    const auto exit = exit_of(id);
    ASSERT_TRUE(exit);
    EXPECT_TRUE(exit->with_parent);
    EXPECT_EQ(exit->reason, fb::Reason::REASON_EXECUTOR_TERMINATED);
  }
  ASSERT_TRUE(exit_of("holder"));
  EXPECT_FALSE(alive(a.pid));
  const auto cleaned = on_loop([&] { return first_->cleaned; });
  ASSERT_EQ(cleaned.size(), 3u);
  EXPECT_EQ(cleaned.back(), "holder") << "not before those in it have been";
}

TEST_F(NestedTest, TheParentsLimitIsTheirs) {
  hold();
  nest("a", "sleep 100");
  on_loop([&] { first_->limit("holder"); });
  const auto exit = exit_of("a");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->reason, fb::Reason::REASON_CONTAINER_LIMITATION_MEMORY);
  EXPECT_EQ(exit->message, "Memory limit exceeded");
  const auto of_holder = exit_of("holder");
  ASSERT_TRUE(of_holder);
  EXPECT_EQ(of_holder->reason, fb::Reason::REASON_CONTAINER_LIMITATION_MEMORY);
}

TEST_F(NestedTest, OneThatEndsByItselfMeanwhileKeepsItsOwnEnd) {
  hold();
  nest("a", "exit 3");
  const auto exit = exit_of("a");
  ASSERT_TRUE(exit);
  kill("holder", 0ns);
  EXPECT_EQ(WEXITSTATUS(*exit->wait_status), 3);
  EXPECT_FALSE(exit->with_parent);
}

TEST_F(NestedTest, ALaunchInAnEndingParentIsTakenBack) {
  hold();
  first_->stall_prepare = true;
  auto started = begin(nested_spec("a", "sleep 100"));
  for (int i = 0; i < 1000 && !on_loop([&] { return first_->stalled != nullptr; }); ++i) ::usleep(1000);
  kill("holder", 0ns);
  ::usleep(50'000);
  EXPECT_FALSE(exit_of("holder", 0s)) << "somebody is coming to live in it";
  on_loop([&] { first_->stalled(); });
  const auto end = started.get();
  const auto* error = std::get_if<Launcher::LaunchError>(&end);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->reason, fb::Reason::REASON_EXECUTOR_TERMINATED);
  EXPECT_TRUE(exit_of("holder"));
  // And then there is no such parent.
  first_->stall_prepare = false;
  const auto late = launch(nested_spec("b", "true"));
  ASSERT_TRUE(std::get_if<Launcher::LaunchError>(&late));
  EXPECT_THAT(std::get<Launcher::LaunchError>(late).error.message, HasSubstr("holder it belongs to is not running"));
}

TEST_F(NestedTest, AfterARestartTheForsakenAreEnded) {
  isolate();
  const Identity holder = hold(), a = nest("a", "sleep 100");
  unmake();
  ::kill(holder.supervisor_pid, SIGKILL);
  ASSERT_EQ(::waitpid(holder.supervisor_pid, nullptr, __WALL), holder.supervisor_pid);
  EXPECT_TRUE(alive(a.pid));
  make();
  const auto fates = recover({known(nested_spec("a", "sleep"), a), known(holder_spec(), holder)});
  const auto& of_a = fate_of(fates, "a");
  EXPECT_EQ(of_a.fate, RecoveredContainer::Fate::exited);
  EXPECT_TRUE(of_a.exit.with_parent);
  EXPECT_EQ(of_a.exit.reason, fb::Reason::REASON_EXECUTOR_TERMINATED);
  EXPECT_EQ(fate_of(fates, "holder").fate, RecoveredContainer::Fate::exited);
  EXPECT_FALSE(alive(a.pid));
  started_.clear();  // nothing is left to end
}

TEST_F(NestedTest, TheAccountMayShareTheParentsSandboxButNotMoveOurs) {
  need_root();
  if (IsSkipped()) return;
  ::chmod(work_dir_.c_str(), 0755);
  auto h = holder_spec();
  h.user = "nobody";
  must(h);
  auto s = nested_spec("a", "echo hi > ../../shared; mv ../../tasks ../../other || echo kept; touch ../x || echo closed; id -un");
  s.user = "nobody";
  must(s);
  const auto exit = exit_of("a");
  ASSERT_TRUE(exit);
  EXPECT_EQ(out("a"), "kept\nclosed\nnobody\n");
  EXPECT_EQ(slurp(sandbox("holder") + "/shared"), "hi\n");
}

}  // namespace
}  // namespace gantry::agent::launching
