// Task groups in the agent's core: the default executor's container and its tasks, groups that end together, restarts.
#include "rig.hpp"

#include <gantry/executor_generated.h>

namespace gantry::agent {
namespace {

using namespace std::chrono_literals;
using fb::Reason;
using fb::TaskState;
namespace ex = fb::executor;
using Words = std::vector<std::string>;

std::unique_ptr<fb::ResourceT> cpus(double n) {
  auto r = std::make_unique<fb::ResourceT>();
  r->name = "cpus";
  r->scalar = n;
  r->allocation_role = "eng";
  return r;
}

fb::TaskInfoT member(const std::string& id, bool nested = true) {
  fb::TaskInfoT t = make_task(id);
  t.resources.push_back(cpus(1));
  t.executor = std::make_unique<fb::ExecutorInfoT>();
  t.executor->executor_id = "e";
  t.executor->type = nested ? fb::ExecutorType::DEFAULT : fb::ExecutorType::CUSTOM;
  if (!nested) {
    t.executor->command = std::make_unique<fb::CommandInfoT>();
    t.executor->command->value = "run";
  }
  t.executor->resources.push_back(cpus(0.5));
  return t;
}

class GroupsTest : public ::testing::Test {
 protected:
  GroupsTest() { rig.join(); }

  void run(std::vector<fb::TaskInfoT> tasks, flatbuffers::Optional<bool> launch_executor = {}) {
    fb::link::RunGroupT group;
    group.framework = std::make_unique<fb::FrameworkInfoT>(
        make_framework("F", {fb::FrameworkCapability::PARTITION_AWARE, fb::FrameworkCapability::TASK_KILLING_STATE}));
    group.framework->checkpoint = true;
    for (auto& t : tasks) group.tasks.push_back(std::make_unique<fb::TaskInfoT>(std::move(t)));
    group.launch_executor = launch_executor;
    rig.frame(std::move(group));
    if (const auto* launch = rig.find<effect::Launch>(); launch && launch->spec.hold) holder = launch->spec.container_id;
  }
  std::vector<LaunchSpec> launches() const {
    std::vector<LaunchSpec> out;
    for (const Effect& e : rig.effects)
      if (const auto* launch = std::get_if<effect::Launch>(&e)) out.push_back(launch->spec);
    return out;
  }
  Words kills() const {  // containers
    Words out;
    for (const Effect& e : rig.effects)
      if (const auto* kill = std::get_if<effect::Kill>(&e)) out.push_back(kill->container_id);
    return out;
  }
  // "task STATE" of the updates sent in the last step.
  Words told() const {
    Words out;
    for (const auto& u : rig.updates()) out.push_back(u.status->task_id + " " + fb::EnumNameTaskState(u.latest_state));
    return out;
  }
  std::optional<int> executor_exited() const {
    for (const Effect& e : rig.effects) {
      const auto* send = std::get_if<effect::Send>(&e);
      const auto* frame = send ? view<fb::link::ToMaster>(send->frame) : nullptr;
      if (frame && frame->body_as_ExecutorExited()) return frame->body_as_ExecutorExited()->status();
    }
    return std::nullopt;
  }
  const Task& task(const std::string& id) const {
    const Task* t = rig.core->find("F", id);
    EXPECT_NE(t, nullptr) << id;
    return *t;
  }
  std::string container(const std::string& id) const { return task(id).container_id; }
  void launched(const std::string& id, int pid = 50) { rig.step(event::Launched{id, Identity{pid, pid - 1, 7}}); }
  void exited(const std::string& id, ExitInfo e) { rig.step(event::Exited{id, std::move(e)}); }
  void ack_all(const std::string& id) {
    while (!task(id).outbox.empty() && !is_terminal(task(id).outbox.front().state)) rig.ack(id);
  }
  // Of one group, all RUNNING and acknowledged, in a container that runs.
  void running(const Words& ids) {
    const bool fresh = rig.core->executors().empty();
    std::vector<fb::TaskInfoT> tasks;
    for (const auto& id : ids) tasks.push_back(member(id));
    run(std::move(tasks));
    if (fresh) launched(holder, 42);
    else resized();
    for (const auto& id : ids) launched(container(id));
    for (const auto& id : ids) ack_all(id);
    for (const auto& id : ids) ASSERT_EQ(task(id).status.state, TaskState::TASK_RUNNING);
  }
  void resized(bool ok = true) { rig.step(event::Resized{holder, ok, ok ? "" : "no room"}); }
  // A new agent on the same disk; these containers run, the others are gone.
  void restart(const Words& alive, std::vector<RecoveredContainer> others = {}) {
    rig.restart();
    rig.step(event::Start{});
    known = rig.find<effect::Recover>()->known;
    for (const auto& id : alive) others.push_back({id, RecoveredContainer::Fate::running, {}, {}});
    rig.step(event::Recovered{std::move(others)});
    recovered = std::move(rig.effects);
    rig.step(event::Leader{"master:5050"});
    rig.link_up();
  }

  Rig rig;
  std::string holder;
  std::vector<KnownContainer> known;
  Effects recovered;
};

TEST_F(GroupsTest, TheHolderComesFirstAndTheTasksInIt) {
  auto shared = member("a"), own = member("b");
  run({shared, own}, true);
  auto specs = launches();
  ASSERT_EQ(specs.size(), 1u);
  EXPECT_TRUE(specs[0].hold);
  EXPECT_EQ(specs[0].user, "nobody");
  EXPECT_DOUBLE_EQ(*specs[0].task->resources.at(0)->scalar, 2.5) << "it is as large as what it holds";
  EXPECT_EQ(specs[0].sandbox, "/w/slaves/A/frameworks/F/executors/e/runs/" + holder);
  EXPECT_EQ(rig.steps(), (Words{"append FRAMEWORK", "append INTENT", "append INTENT", "append INTENT", "launch"}));

  launched(holder, 42);
  EXPECT_EQ(told(), (Words{"a TASK_STARTING", "b TASK_STARTING"}));
  specs = launches();
  ASSERT_EQ(specs.size(), 2u);
  for (const auto& s : specs) {
    EXPECT_EQ(s.parent, holder);
    EXPECT_TRUE(s.share_cgroups);
    EXPECT_FALSE(s.hold);
    EXPECT_EQ(s.sandbox, "/w/slaves/A/frameworks/F/executors/e/runs/" + holder + "/tasks/" + s.task->task_id);
  }
  const std::vector<std::pair<std::string, std::string>> wanted = {{"MESOS_EXECUTOR_ID", "e"}, {"MESOS_ALLOCATION_ROLE", "eng"}};
  EXPECT_EQ(specs[0].environment, wanted);
  EXPECT_NE(specs[0].container_id, specs[1].container_id);

  launched(specs[0].container_id, 50);
  ack_all("a");
  const auto& status = task("a").status;
  EXPECT_EQ(status.state, TaskState::TASK_RUNNING);
  EXPECT_EQ(status.executor_id, "e");
  EXPECT_EQ(status.source, fb::Source::SOURCE_EXECUTOR);
  EXPECT_EQ(status.container_status->container_id, specs[0].container_id);
  EXPECT_EQ(status.container_status->container_parent->value, holder);
  EXPECT_EQ(status.container_status->executor_pid, 50u);
}

TEST_F(GroupsTest, OwnCgroupsDoNotCountForTheHolder) {
  auto own = member("a");
  own.container = std::make_unique<fb::ContainerInfoT>();
  own.container->linux_info = std::make_unique<fb::LinuxInfoT>();
  own.container->linux_info->share_cgroups = false;
  run({own});
  EXPECT_DOUBLE_EQ(*launches().at(0).task->resources.at(0)->scalar, 0.5);
  launched(holder);
  EXPECT_FALSE(launches().at(0).share_cgroups);
}

TEST_F(GroupsTest, OneFailsAndItsGroupIsKilledButNoOther) {
  running({"a", "b"});
  running({"c"});
  exited(container("a"), Rig::exit_code(2));
  EXPECT_EQ(told(), (Words{"a TASK_FAILED", "b TASK_KILLING"}));
  EXPECT_EQ(task("a").status.message, "Command exited with status 2");
  EXPECT_EQ(kills(), Words{container("b")});
  EXPECT_EQ(rig.find<effect::Kill>()->grace, 3s) << "its own grace";
  rig.ack("b");
  exited(container("b"), Rig::signalled(15));
  EXPECT_EQ(told(), Words{"b TASK_KILLED"});
  EXPECT_TRUE(kills().empty());
  EXPECT_EQ(task("c").status.state, TaskState::TASK_RUNNING);

  // The last one leaves, and the container with it.
  exited(container("c"), Rig::exit_code(0));
  EXPECT_EQ(told(), Words{"c TASK_FINISHED"});
  EXPECT_EQ(kills(), Words{holder});
  EXPECT_FALSE(executor_exited());
  exited(holder, Rig::exit_code(0));
  EXPECT_EQ(executor_exited(), 0);
  EXPECT_TRUE(rig.core->executors().empty());
  for (const char* id : {"a", "b", "c"}) rig.ack(id);
  EXPECT_TRUE(rig.core->tasks().empty());
}

TEST_F(GroupsTest, OneFinishesAndTheOthersGoOn) {
  running({"a", "b"});
  exited(container("a"), Rig::exit_code(0));
  EXPECT_EQ(told(), Words{"a TASK_FINISHED"});
  EXPECT_TRUE(kills().empty());
  ASSERT_EQ(rig.count<effect::Resize>(), 1u) << "the container gives back what it needed for it";
  EXPECT_DOUBLE_EQ(*rig.find<effect::Resize>()->resources.at(0)->scalar, 1.5);
}

TEST_F(GroupsTest, OneIsKilledAndTheOthersFollow) {
  running({"a", "b", "c"});
  rig.kill("b", 7s);
  EXPECT_EQ(kills(), Words{container("b")});
  rig.ack("b");
  exited(container("b"), Rig::signalled(15));
  EXPECT_EQ(told(), (Words{"b TASK_KILLED", "a TASK_KILLING", "c TASK_KILLING"}));
  EXPECT_EQ(kills(), (Words{container("a"), container("c")}));
  // One of them, being killed, ends with an exit code: it is killed all the same.
  rig.ack("a");
  exited(container("a"), Rig::exit_code(1));
  EXPECT_EQ(told(), Words{"a TASK_KILLED"});
  EXPECT_TRUE(kills().empty()) << "the other is asked already";
}

TEST_F(GroupsTest, ALaunchThatFailsTakesTheGroupAlong) {
  run({member("a"), member("b")});
  launched(holder);
  launched(container("a"));
  ack_all("a");
  ack_all("b");
  rig.step(event::LaunchFailed{container("b"), Reason::REASON_CONTAINER_LAUNCH_FAILED, "no such image"});
  EXPECT_EQ(told(), (Words{"b TASK_FAILED", "a TASK_KILLING"}));
  EXPECT_EQ(kills(), Words{container("a")});
}

TEST_F(GroupsTest, KilledBeforeItWasDelivered) {
  run({member("a"), member("b")});
  rig.kill("b");
  EXPECT_EQ(told(), (Words{"b TASK_KILLED", "a TASK_KILLED"}));
  for (const char* id : {"a", "b"}) EXPECT_EQ(task(id).status.reason, Reason::REASON_TASK_KILLED_DURING_LAUNCH);
  EXPECT_EQ(kills(), Words{holder}) << "and nobody is left to hold";
  rig.step(event::LaunchFailed{holder, Reason::REASON_CONTAINER_LAUNCH_FAILED, "killed"});
  EXPECT_TRUE(executor_exited());
  EXPECT_TRUE(told().empty());
}

TEST_F(GroupsTest, ASecondGroupWaitsForRoom) {
  running({"a"});
  run({member("b")}, false);
  EXPECT_TRUE(launches().empty());
  ASSERT_EQ(rig.count<effect::Resize>(), 1u);
  EXPECT_DOUBLE_EQ(*rig.find<effect::Resize>()->resources.at(0)->scalar, 2.5);
  resized();
  EXPECT_EQ(launches().size(), 1u);
  EXPECT_EQ(launches()[0].task->task_id, "b");

  launched(container("b"));
  for (int i = 0; i < 2; ++i) rig.ack("b");
  exited(container("b"), Rig::exit_code(0));
  resized(false);
  EXPECT_TRUE(kills().empty()) << "what cannot be taken away from it hurts nobody";

  run({member("c")}, false);
  resized(false);
  EXPECT_EQ(kills(), Words{holder});
  ExitInfo with_it = Rig::signalled(9);
  with_it.with_parent = true;
  with_it.reason = Reason::REASON_EXECUTOR_TERMINATED;
  with_it.message = "gone with it";
  exited(container("a"), with_it);
  EXPECT_EQ(task("a").status.state, TaskState::TASK_FAILED);
  exited(holder, Rig::exit_code(0));
  EXPECT_EQ(task("c").status.state, TaskState::TASK_GONE);
  EXPECT_EQ(task("c").status.reason, Reason::REASON_CONTAINER_UPDATE_FAILED);
}

TEST_F(GroupsTest, TheHolderEndsAndAllOfItFails) {
  running({"a", "b"});
  ExitInfo with_it = Rig::signalled(9);
  with_it.with_parent = true;
  with_it.reason = Reason::REASON_CONTAINER_LIMITATION_MEMORY;
  with_it.message = "Memory limit exceeded";
  with_it.limitation.push_back(*cpus(1));
  exited(container("a"), with_it);
  EXPECT_EQ(told(), Words{"a TASK_FAILED"}) << "the others are not killed for its sake: they end for the same reason";
  exited(container("b"), with_it);
  for (const char* id : {"a", "b"}) {
    EXPECT_EQ(task(id).status.state, TaskState::TASK_FAILED);
    EXPECT_EQ(task(id).status.reason, Reason::REASON_CONTAINER_LIMITATION_MEMORY);
    EXPECT_TRUE(task(id).status.limitation);
  }
  exited(holder, Rig::exit_code(0));
  EXPECT_EQ(executor_exited(), 0);
}

TEST_F(GroupsTest, ALaunchThatDiedWithTheHolderDoesNotTurnTheOthersIntoKilled) {
  running({"a"});
  run({member("b"), member("c")});
  resized();
  launched(container("b"));
  rig.step(event::LaunchFailed{container("c"), Reason::REASON_EXECUTOR_TERMINATED, "the container it belongs to has ended"});
  ExitInfo with_it = Rig::signalled(9);
  with_it.with_parent = true;
  with_it.reason = Reason::REASON_EXECUTOR_TERMINATED;
  exited(container("b"), with_it);
  EXPECT_EQ(task("b").status.state, TaskState::TASK_FAILED);
  EXPECT_EQ(task("c").status.reason, Reason::REASON_EXECUTOR_TERMINATED);
}

TEST_F(GroupsTest, RemovedWithItsFrameworkWithGrace) {
  auto slow = member("a");
  slow.kill_policy = std::make_unique<fb::KillPolicyT>();
  slow.kill_policy->grace_period_ns = 30'000'000'000;
  run({slow, member("b")});
  launched(holder);
  for (const char* id : {"a", "b"}) launched(container(id));
  run({member("waiting")}, false);
  fb::link::RemoveFrameworkT gone;
  gone.framework_id = "F";
  const auto a = container("a"), b = container("b");
  rig.frame(gone);
  EXPECT_EQ(kills(), (Words{a, b})) << "their container stays as long as they do";
  EXPECT_EQ(rig.find<effect::Kill>()->grace, 30s);
  EXPECT_EQ(rig.core->find("F", "waiting"), nullptr);
  exited(b, Rig::signalled(15));
  EXPECT_TRUE(kills().empty());
  exited(a, Rig::signalled(15));
  EXPECT_EQ(kills(), Words{holder});
  exited(holder, Rig::exit_code(0));
  EXPECT_TRUE(rig.core->tasks().empty());
  EXPECT_TRUE(rig.core->executors().empty());
}

TEST_F(GroupsTest, ShutDownWithItsAgent) {
  running({"a", "b"});
  const auto a = container("a"), b = container("b");
  rig.step(event::ShutDown{"over"});
  EXPECT_EQ(kills(), (Words{a, b}));
  exited(a, Rig::signalled(15));
  exited(b, Rig::signalled(15));
  EXPECT_EQ(kills(), Words{holder});
  EXPECT_EQ(rig.count<effect::Stop>(), 0u);
  exited(holder, Rig::exit_code(0));
  EXPECT_EQ(rig.count<effect::Stop>(), 1u);
}

TEST_F(GroupsTest, DrainedAndShutDownByItsFramework) {
  running({"a", "b"});
  rig.frame(fb::link::DrainT{});
  EXPECT_EQ(kills(), (Words{container("a"), container("b")}));
  for (const char* id : {"a", "b"}) rig.ack(id);
  exited(container("a"), Rig::signalled(15));
  EXPECT_EQ(task("a").status.reason, Reason::REASON_AGENT_DRAINING);
  exited(container("b"), Rig::signalled(15));
  EXPECT_EQ(kills(), Words{holder});
  exited(holder, Rig::exit_code(0));
  rig.frame(fb::link::EndDrainT{});

  run({member("c"), member("d")});
  launched(holder);
  for (const char* id : {"c", "d"}) launched(container(id));
  fb::link::ShutdownExecutorT s;
  s.framework_id = "F";
  s.executor_id = "e";
  rig.frame(s);
  EXPECT_EQ(kills(), (Words{container("c"), container("d")}));
  // What comes now comes too late, and is told so at once.
  run({member("x"), member("y")}, false);
  EXPECT_EQ(told(), (Words{"x TASK_DROPPED", "y TASK_DROPPED"}));
  EXPECT_EQ(task("x").status.reason, Reason::REASON_EXECUTOR_TERMINATED);
}

TEST_F(GroupsTest, RefusedTogetherAndTheExecutorTold) {
  auto bad = member("b");
  bad.command->value.clear();
  run({member("a"), bad}, true);
  EXPECT_EQ(told(), (Words{"a TASK_ERROR", "b TASK_ERROR"}));
  EXPECT_NE(task("a").status.message.find("Task 'b' of the group has no command"), std::string::npos) << task("a").status.message;
  EXPECT_EQ(task("a").status.reason, Reason::REASON_TASK_GROUP_INVALID);
  EXPECT_TRUE(executor_exited()) << "the master has booked one";
  EXPECT_EQ(rig.count<effect::Launch>(), 0u);

  run({member("c")}, false);
  EXPECT_EQ(task("c").status.reason, Reason::REASON_EXECUTOR_TERMINATED) << "it counts on one that has ended";
  EXPECT_FALSE(executor_exited());
}

TEST_F(GroupsTest, TheSameMessageTwice) {
  running({"a", "b"});
  run({member("a"), member("b")});
  EXPECT_EQ(told(), (Words{"a TASK_RUNNING", "b TASK_RUNNING"}));
  EXPECT_EQ(rig.count<effect::Launch>() + rig.count<effect::Append>(), 0u);
}

TEST_F(GroupsTest, NobodySpeaksForTheDefaultExecutor) {
  running({"a"});
  ex::CallT call;
  call.framework_id = "F";
  call.executor_id = "e";
  call.type = ex::CallType::SUBSCRIBE;
  call.subscribe = std::make_unique<ex::SubscribeT>();
  rig.step(event::ExecutorSubscribe{5, "", pack(call)});
  ASSERT_EQ(rig.count<effect::EndExecutor>(), 1u);
  EXPECT_EQ(rig.find<effect::EndExecutor>()->why.error().message, "Executor cannot be found");
}

TEST_F(GroupsTest, AllIsTakenBackAfterARestart) {
  running({"a", "b"});
  const auto a = container("a"), b = container("b");
  restart({a, b, holder});
  ASSERT_EQ(known.size(), 3u);
  for (const auto& k : known) EXPECT_EQ(k.spec.parent, k.spec.container_id == holder ? "" : holder);
  EXPECT_EQ(rig.core->executors().size(), 1u);
  EXPECT_TRUE(told().empty());
  // And from a compacted journal.
  rig.journal.clear();
  for (const auto& e : rig.core->snapshot()) rig.journal.push_back(pack(e));
  restart({a, b, holder});
  exited(a, Rig::exit_code(1));
  EXPECT_EQ(kills(), Words{b}) << "they are a group still";
  ack_all("b");
  exited(b, Rig::signalled(15));
  EXPECT_EQ(kills(), Words{holder});
}

TEST_F(GroupsTest, TheAgentDiedBeforeTheTasksWereGivenToTheHolder) {
  run({member("a"), member("b")});
  rig.step(event::Launched{holder, Identity{42, 41, 7}});
  // Nothing of that step but the holder's own STARTED has reached the disk.
  while (view<fb::record::Entry>(rig.journal.back())->type() != fb::record::EntryType::STARTED) rig.journal.pop_back();
  restart({holder});
  EXPECT_EQ(known.size(), 1u);
  resized();
  EXPECT_EQ(launches().size(), 2u) << "as if nothing had been";
}

TEST_F(GroupsTest, TheAgentDiedWhileItWroteAGroupDown) {
  running({"a"});
  run({member("b"), member("c")}, false);
  rig.journal.pop_back();  // c's INTENT
  const auto a = container("a");
  restart({a, holder});
  EXPECT_EQ(task("b").status.state, TaskState::TASK_FAILED) << "never without c";
  EXPECT_EQ(task("b").status.reason, Reason::REASON_AGENT_RESTARTED);
  EXPECT_EQ(rig.core->find("F", "c"), nullptr);
  resized();
  EXPECT_TRUE(launches().empty());
  EXPECT_EQ(task("a").status.state, TaskState::TASK_RUNNING);
}

TEST_F(GroupsTest, TheAgentDiedHalfWayThroughAGroup) {
  run({member("a"), member("b"), member("c")});
  launched(holder, 42);
  launched(container("a"));
  const auto a = container("a");
  restart({a, holder});
  // b and c were being launched: they fail, and a goes with them.
  EXPECT_EQ(task("b").status.state, TaskState::TASK_FAILED);
  EXPECT_EQ(task("b").status.reason, Reason::REASON_AGENT_RESTARTED);
  EXPECT_TRUE(is_terminal(task("c").status.state));
  bool killed = false;
  for (const Effect& e : recovered)
    if (const auto* kill = std::get_if<effect::Kill>(&e)) killed = killed || kill->container_id == a;
  EXPECT_TRUE(killed);
  exited(a, Rig::signalled(15));
  EXPECT_EQ(task("a").status.state, TaskState::TASK_KILLED);
  EXPECT_EQ(kills(), Words{holder});
}

TEST_F(GroupsTest, OnlySomeOfItWasSaidToStart) {
  run({member("a"), member("b")});
  launched(holder, 42);
  rig.journal.pop_back();  // b's TASK_STARTING: the agent died in between
  restart({holder});
  EXPECT_EQ(task("a").status.state, TaskState::TASK_FAILED);
  EXPECT_EQ(task("b").status.state, TaskState::TASK_KILLED);
  resized();
  EXPECT_TRUE(launches().empty());
  EXPECT_FALSE(rig.core->executors().begin()->second->cause == Executor::Cause::none) << "it is empty and has to go";
}

TEST_F(GroupsTest, TheHolderEndedWhileTheAgentWasAway) {
  running({"a"});
  const auto a = container("a");
  ExitInfo with_it = Rig::signalled(9);
  with_it.with_parent = true;
  with_it.reason = Reason::REASON_EXECUTOR_TERMINATED;
  restart({}, {{a, RecoveredContainer::Fate::exited, with_it, {}}, {holder, RecoveredContainer::Fate::exited, Rig::exit_code(0), {}}});
  EXPECT_EQ(task("a").status.state, TaskState::TASK_FAILED);
  EXPECT_EQ(task("a").status.reason, Reason::REASON_EXECUTOR_TERMINATED);
  EXPECT_TRUE(rig.core->executors().empty());
}

TEST_F(GroupsTest, TheMachineWasRestarted) {
  running({"a", "b"});
  rig.restart("boot-2");
  rig.join();
  for (const char* id : {"a", "b"}) {
    EXPECT_EQ(task(id).status.state, TaskState::TASK_FAILED);
    EXPECT_EQ(task(id).status.reason, Reason::REASON_AGENT_RESTARTED);
  }
  EXPECT_TRUE(rig.core->executors().empty());
}

TEST_F(GroupsTest, TheHolderCannotBeLaunched) {
  run({member("a"), member("b")});
  rig.step(event::LaunchFailed{holder, Reason::REASON_CONTAINER_LAUNCH_FAILED, "no network"});
  EXPECT_EQ(told(), (Words{"a TASK_FAILED", "b TASK_FAILED"}));
  EXPECT_EQ(task("b").status.reason, Reason::REASON_CONTAINER_LAUNCH_FAILED);
  EXPECT_TRUE(executor_exited());
}

// ---- custom executors

TEST_F(GroupsTest, ACustomExecutorHearsOfAllAtOnceAndInOrder) {
  rig.step(event::Serve{true, {}});
  fb::TaskInfoT single = member("first", false);
  rig.run(single, {fb::FrameworkCapability::PARTITION_AWARE});
  const auto container = rig.find<effect::Launch>()->spec.container_id;
  run({member("a", false), member("b", false)});
  run({member("c", false), member("d", false)});
  rig.kill("d");
  EXPECT_EQ(told(), (Words{"d TASK_KILLED", "c TASK_KILLED"})) << "not delivered yet: all of it or nothing";
  rig.step(event::Launched{container, Identity{42, 41, 7}});
  ex::CallT call;
  call.framework_id = "F";
  call.executor_id = "e";
  call.type = ex::CallType::SUBSCRIBE;
  call.subscribe = std::make_unique<ex::SubscribeT>();
  rig.step(event::ExecutorSubscribe{5, "", pack(call)});
  rig.step(event::Resized{container, true, ""});
  Words heard;
  for (const Effect& e : rig.effects) {
    const auto* to = std::get_if<effect::ToExecutor>(&e);
    if (!to) continue;
    const auto* event = view<ex::Event>(to->event);
    std::string word = ex::EnumNameEventType(event->type());
    if (event->launch()) word += " " + std::string(text(event->launch()->task()->task_id()));
    if (event->launch_group())
      for (const auto* t : *event->launch_group()->task_infos()) word += " " + std::string(text(t->task_id()));
    heard.push_back(std::move(word));
  }
  EXPECT_EQ(heard, (Words{"LAUNCH first", "LAUNCH_GROUP a b"}));
}

}  // namespace
}  // namespace gantry::agent
