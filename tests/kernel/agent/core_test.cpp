// Scenarios of the agent's core: registration, tasks, kills, updates.
#include "tests/kernel/agent/rig.hpp"

#include <gmock/gmock.h>

#include <csignal>
#include <limits>

namespace gantry::agent {
namespace {

using fb::Reason;
using fb::TaskState;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

TEST(Registration, GreetsRegistersAndRecordsItsIdentityBeforeAnythingElse) {
  Rig rig;
  rig.step(event::Start{});
  EXPECT_THAT(rig.steps(), ElementsAre("recover"));
  rig.step(event::Leader{"m:1"});
  EXPECT_THAT(rig.steps(), ElementsAre());  // not before recovery is over
  rig.step(event::Recovered{});
  EXPECT_THAT(rig.steps(), ElementsAre("connect"));
  rig.step(event::LinkUp{});
  EXPECT_THAT(rig.steps(), ElementsAre("send Hello"));
  rig.frame(fb::link::WelcomeT{});
  EXPECT_THAT(rig.steps(), ElementsAre("send Register"));
  fb::link::RegisteredT registered;
  registered.agent_id = "A";
  rig.frame(registered);
  EXPECT_THAT(rig.steps(), ElementsAre("append IDENTITY"));
  EXPECT_TRUE(rig.core->registered());
  EXPECT_EQ(rig.core->agent_id(), "A");
}

TEST(Registration, BacksOffExponentiallyWithJitterAndStartsAgainAfterSuccess) {
  Rig rig;
  rig.step(event::Start{});
  rig.step(event::Recovered{});
  rig.step(event::Leader{"m:1"});
  Nanos expected = 1s;
  for (int i = 0; i < 8; ++i) {
    rig.step(event::LinkDown{"refused"});
    const Nanos wait = rig.core->next_due() - rig.now;
    EXPECT_GE(wait, expected / 2);
    EXPECT_LE(wait, expected);
    rig.advance(wait);
    EXPECT_EQ(rig.count<effect::Connect>(), 1u);
    expected = std::min<Nanos>(expected * 2, 10s);
  }
  rig.link_up();
  rig.step(event::LinkDown{"gone"});
  EXPECT_LE(rig.core->next_due() - rig.now, Nanos(1s));
}

TEST(Registration, RepeatsRegisterUntilAnswered) {
  Rig rig;
  rig.step(event::Start{});
  rig.step(event::Recovered{});
  rig.step(event::Leader{"m:1"});
  rig.step(event::LinkUp{});
  rig.frame(fb::link::WelcomeT{});
  rig.advance(30s);
  EXPECT_GE(rig.count<effect::Send>(), 2u);
}

TEST(Registration, ANewLeaderIsDialledAtOnceAndTheOldLinkGivenUp) {
  Rig rig;
  rig.join();
  rig.step(event::Leader{"other:1"});
  EXPECT_THAT(rig.steps(), ElementsAre("disconnect", "connect"));
  rig.step(event::Leader{"other:1"});
  EXPECT_THAT(rig.steps(), ElementsAre());
}

TEST(Registration, ASilentMasterIsGivenUp) {
  Rig rig;
  rig.join();
  rig.advance(70s);
  EXPECT_TRUE(rig.core->registered());
  rig.frame(fb::link::PingT{});
  EXPECT_THAT(rig.steps(), ElementsAre("send Pong"));
  rig.advance(74s);
  EXPECT_TRUE(rig.core->registered());
  rig.advance(2s);
  EXPECT_THAT(rig.steps(), ElementsAre("disconnect", "connect"));
}

TEST(Registration, WrongCredentialsKillNothing) {
  Rig rig;
  rig.join();
  rig.running(make_task("t"));
  rig.step(event::LinkDown{"x"});
  rig.advance(1s);
  rig.step(event::LinkUp{});
  fb::link::RefusedT refused;
  refused.fatal = true;
  refused.message = "wrong secret";
  rig.frame(refused);
  EXPECT_THAT(rig.steps(), ElementsAre("disconnect"));
  EXPECT_EQ(rig.core->tasks().size(), 1u);
  EXPECT_LT(rig.core->next_due(), Instant::max());
}

TEST(Registration, ARefusedIdentityEndsItsTasksAndThenTheAgent) {
  Rig rig;
  rig.join();
  const auto container = rig.running(make_task("t"));
  fb::link::RefusedT refused;
  refused.fatal = true;
  refused.message = "agent A is gone";
  rig.frame(refused);
  EXPECT_EQ(rig.count<effect::Kill>(), 1u);
  EXPECT_EQ(rig.find<effect::Stop>(), nullptr);
  rig.step(event::Exited{container, Rig::signalled(SIGTERM)});
  ASSERT_NE(rig.find<effect::Stop>(), nullptr);
  EXPECT_TRUE(rig.find<effect::Stop>()->failed);
  EXPECT_THAT(rig.find<effect::Stop>()->message, HasSubstr("agent A is gone"));
}

TEST(Registration, TellsKnownTasksFrameworksAndUnacknowledgedStates) {
  Rig rig;
  rig.join();
  rig.running(make_task("a"));
  rig.run(make_task("b"));  // STARTING not acknowledged
  rig.step(event::LinkDown{"x"});
  rig.advance(1s);
  rig.step(event::LinkUp{});
  rig.frame(fb::link::WelcomeT{});
  const auto* frame = view<fb::link::ToMaster>(rig.find<effect::Send>()->frame);
  fb::link::RegisterT reg;
  frame->body_as_Register()->UnPackTo(&reg);
  EXPECT_EQ(reg.info->id, "A");
  ASSERT_EQ(reg.tasks.size(), 2u);
  EXPECT_EQ(reg.tasks[0]->state, TaskState::TASK_RUNNING);
  EXPECT_TRUE(reg.tasks[0]->status_uuid.empty());
  EXPECT_EQ(reg.tasks[1]->status_state, TaskState::TASK_STARTING);
  EXPECT_EQ(reg.tasks[1]->status_uuid.size(), 16u);
  ASSERT_EQ(reg.frameworks.size(), 1u);
  EXPECT_EQ(reg.frameworks[0]->info->name, "test");
  // And the pending update is sent again at once.
  fb::link::RegisteredT registered;
  registered.agent_id = "A";
  rig.frame(registered);
  EXPECT_EQ(rig.status().state, TaskState::TASK_STARTING);
}

TEST(Registration, AMalformedFrameClosesTheLink) {
  Rig rig;
  rig.join();
  const std::vector<std::uint8_t> junk(40, 0xFF);
  rig.step(event::Frame{junk});
  EXPECT_EQ(rig.count<effect::Disconnect>(), 1u);
  EXPECT_FALSE(rig.core->registered());
}

TEST(Tasks, EverythingIsRecordedBeforeItIsToldOrDone) {
  Rig rig;
  rig.join();
  rig.run(make_task("t"));
  EXPECT_THAT(rig.steps(),
              ElementsAre("append FRAMEWORK", "append INTENT", "append UPDATE", "send StatusUpdate", "launch"));
  const auto spec = rig.find<effect::Launch>()->spec;
  EXPECT_EQ(spec.user, "nobody");
  EXPECT_EQ(spec.sandbox, "/w/slaves/A/frameworks/F/executors/t/runs/" + spec.container_id);
  rig.step(event::Launched{spec.container_id, Identity{42, 41, 1}});
  EXPECT_THAT(rig.steps(), ElementsAre("append STARTED", "append UPDATE"));  // RUNNING waits behind STARTING
  rig.ack("t");
  EXPECT_THAT(rig.steps(), ElementsAre("append ACKED", "send StatusUpdate"));
  const auto running = rig.status();
  EXPECT_EQ(running.state, TaskState::TASK_RUNNING);
  EXPECT_EQ(running.container_status->container_id, spec.container_id);
  EXPECT_EQ(*running.container_status->executor_pid, 42u);
  rig.ack("t");
  rig.step(event::Exited{spec.container_id, Rig::exit_code(0)});
  EXPECT_THAT(rig.steps(), ElementsAre("append UPDATE", "send StatusUpdate"));
  EXPECT_EQ(rig.status().state, TaskState::TASK_FINISHED);
  rig.ack("t");
  EXPECT_THAT(rig.steps(), ElementsAre("append FORGOTTEN", "release"));
  EXPECT_TRUE(rig.core->tasks().empty());
  EXPECT_EQ(rig.core->completed().size(), 1u);
}

struct EndCase {
  ExitInfo exit;
  TaskState state;
  std::string message;
};

TEST(Tasks, TheEndOfTheCommandDecidesTheState) {
  for (const auto& [exit, state, message] :
       {EndCase{Rig::exit_code(0), TaskState::TASK_FINISHED, "Command exited with status 0"},
        EndCase{Rig::exit_code(3), TaskState::TASK_FAILED, "Command exited with status 3"},
        EndCase{Rig::signalled(SIGSEGV), TaskState::TASK_FAILED, "Command terminated with signal Segmentation fault"},
        EndCase{ExitInfo{}, TaskState::TASK_FAILED, "The exit status of the command is not known"}}) {
    Rig rig;
    rig.join();
    const auto container = rig.running(make_task("t"));
    rig.step(event::Exited{container, exit});
    EXPECT_EQ(rig.status().state, state);
    EXPECT_EQ(rig.status().message, message);
  }
}

TEST(Tasks, ALimitationIsTheReason) {
  Rig rig;
  rig.join();
  const auto container = rig.running(make_task("t"));
  ExitInfo exit = Rig::signalled(SIGKILL);
  exit.reason = Reason::REASON_CONTAINER_LIMITATION_MEMORY;
  exit.message = "Memory limit exceeded";
  exit.limitation.emplace_back();
  exit.limitation.back().name = "mem";
  rig.step(event::Exited{container, exit});
  const auto status = rig.status();
  EXPECT_EQ(status.state, TaskState::TASK_FAILED);
  EXPECT_EQ(*status.reason, Reason::REASON_CONTAINER_LIMITATION_MEMORY);
  EXPECT_EQ(status.message, "Memory limit exceeded");
  ASSERT_EQ(status.limitation->resources.size(), 1u);
}

TEST(Tasks, AFailedLaunchIsFailedWithItsReason) {
  Rig rig;
  rig.join();
  rig.run(make_task("t"));
  const auto container = rig.find<effect::Launch>()->spec.container_id;
  rig.step(event::LaunchFailed{container, Reason::REASON_CONTAINER_LAUNCH_FAILED, "no such user"});
  rig.ack("t");  // STARTING
  EXPECT_EQ(rig.status().state, TaskState::TASK_FAILED);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_CONTAINER_LAUNCH_FAILED);
  EXPECT_EQ(rig.status().message, "Failed to launch container: no such user");
}

TEST(Tasks, OnTheMachinesNetworkTheirAddressIsTheMachines) {
  for (const auto& [ip, protocol] : {std::pair{"10.1.2.3", fb::NetworkProtocol::IPv4}, {"fd00::1", fb::NetworkProtocol::IPv6}}) {
    Rig rig([ip = ip](CoreOptions& o) { o.ip = ip; });
    rig.join();
    rig.run(make_task("t"));
    const auto status = rig.status();
    ASSERT_TRUE(status.container_status);
    EXPECT_FALSE(status.container_status->container_id.empty());
    ASSERT_EQ(status.container_status->network_infos.size(), 1u);
    ASSERT_EQ(status.container_status->network_infos[0]->ip_addresses.size(), 1u);
    EXPECT_EQ(status.container_status->network_infos[0]->ip_addresses[0]->ip_address, ip);
    EXPECT_EQ(status.container_status->network_infos[0]->ip_addresses[0]->protocol, protocol);
    auto other = make_task("u");
    other.container = std::make_unique<fb::ContainerInfoT>();
    other.container->network_infos.push_back(std::make_unique<fb::NetworkInfoT>());
    other.container->network_infos[0]->name = "overlay";
    rig.run(other);
    EXPECT_TRUE(rig.status().container_status->network_infos.empty()) << "it is not known here";
  }
}

TEST(Tasks, ASecondLaunchOfTheSameTaskDoesNotEndTheFirst) {
  Rig rig;
  rig.join();
  rig.running(make_task("t"));
  rig.run(make_task("t"));
  EXPECT_EQ(rig.count<effect::Launch>(), 0u);
  EXPECT_EQ(rig.status().state, TaskState::TASK_RUNNING);
  EXPECT_TRUE(rig.status().uuid.empty());
}

TEST(Tasks, InvalidOnesAreRefusedAndLeaveNothingOnDisk) {
  fb::TaskInfoT custom = make_task("custom");
  custom.executor = std::make_unique<fb::ExecutorInfoT>();
  fb::TaskInfoT empty = make_task("empty");
  empty.command->value.clear();
  fb::TaskInfoT escape = make_task("../x");
  for (const auto& task : {custom, empty, escape}) {
    Rig rig;
    rig.join();
    const auto before = rig.journal.size();
    rig.run(task);
    EXPECT_EQ(rig.status().state, TaskState::TASK_ERROR);
    EXPECT_EQ(*rig.status().reason, Reason::REASON_TASK_INVALID);
    EXPECT_THAT(rig.status().message, HasSubstr(task.task_id));
    EXPECT_EQ(rig.status().uuid.size(), 16u);
    EXPECT_EQ(rig.journal.size(), before);
    rig.ack(task.task_id);
    EXPECT_TRUE(rig.core->tasks().empty());
  }
}

TEST(Tasks, ExtremeTimesAreHarmless) {
  for (const std::int64_t ns : {INT64_MIN, std::int64_t{-1}, std::int64_t{0}, INT64_MAX}) {
    Rig rig;
    rig.join();
    auto task = make_task("t");
    task.max_completion_time_ns = ns;
    task.kill_policy = std::make_unique<fb::KillPolicyT>();
    task.kill_policy->grace_period_ns = ns;
    task.health_check = std::make_unique<fb::HealthCheckT>();
    task.health_check->type = fb::CheckType::TCP;
    task.health_check->tcp = std::make_unique<fb::TcpCheckT>();
    for (auto* seconds : {&task.health_check->delay_seconds, &task.health_check->interval_seconds,
                          &task.health_check->timeout_seconds, &task.health_check->grace_period_seconds}) {
      *seconds = ns == 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(ns) * 1e9;
    }
    rig.running(task);
    rig.advance(1s);
    rig.kill("t");
    EXPECT_EQ(rig.core->find("F", "t")->cause != Task::Cause::none, true);
  }
}

// Whatever bytes come over the link, the core answers or ignores them.
TEST(Tasks, DamagedFramesAreHarmless) {
  auto task = make_task("t");
  task.health_check = std::make_unique<fb::HealthCheckT>();
  task.health_check->type = fb::CheckType::HTTP;
  task.health_check->http = std::make_unique<fb::HttpCheckT>();
  const Buffer whole = to_agent(run_task(task, make_framework("F", {fb::FrameworkCapability::PARTITION_AWARE})));
  Rig rig;
  rig.join();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const std::uint8_t flip : {0x01, 0x80, 0xFF}) {
      std::vector<std::uint8_t> bytes(whole.data(), whole.data() + whole.size());
      bytes[at] ^= flip;
      if (!rig.core->registered()) {
        rig.advance(10s);
        rig.link_up();
      }
      rig.step(event::Frame{bytes});
    }
  }
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::uint8_t> bytes(whole.data(), whole.data() + size);
    rig.step(event::Frame{bytes});
  }
  EXPECT_FALSE(rig.core->agent_id().empty());
}

TEST(Kill, AsksTheLauncherAndEndsKilledWhateverTheExitStatus) {
  Rig rig;
  rig.join();
  const auto container = rig.running(make_task("t"));
  rig.kill("t");
  EXPECT_THAT(rig.steps(), ElementsAre("append KILLING", "kill"));
  EXPECT_EQ(rig.find<effect::Kill>()->grace, Nanos(3s));
  rig.step(event::Exited{container, Rig::exit_code(0)});
  EXPECT_EQ(rig.status().state, TaskState::TASK_KILLED);
}

TEST(Kill, GraceComesFromTheCallThenTheTaskThenTheDefaultAndCanOnlyShorten) {
  Rig rig;
  rig.join();
  auto task = make_task("t");
  task.kill_policy = std::make_unique<fb::KillPolicyT>();
  task.kill_policy->grace_period_ns = Nanos(20s).count();
  rig.running(task);
  rig.kill("t");
  EXPECT_EQ(rig.find<effect::Kill>()->grace, Nanos(20s));
  rig.advance(1s);
  rig.kill("t", 30s);
  EXPECT_EQ(rig.find<effect::Kill>(), nullptr);
  rig.kill("t", 5s);
  EXPECT_EQ(rig.find<effect::Kill>()->grace, Nanos(5s));
  rig.kill("t", 0s);
  EXPECT_EQ(rig.find<effect::Kill>()->grace, Nanos(0s));
}

TEST(Kill, TaskKillingOnlyForFrameworksThatKnowIt) {
  Rig rig;
  rig.join();
  rig.running(make_task("t"), {fb::FrameworkCapability::TASK_KILLING_STATE});
  rig.kill("t");
  EXPECT_EQ(rig.status().state, TaskState::TASK_KILLING);
  rig.kill("t", 0s);
  EXPECT_TRUE(rig.updates().empty());
}

TEST(Kill, DuringTheLaunch) {
  Rig rig;
  rig.join();
  rig.run(make_task("t"));
  const auto container = rig.find<effect::Launch>()->spec.container_id;
  rig.kill("t");
  EXPECT_EQ(rig.count<effect::Kill>(), 1u);
  rig.step(event::LaunchFailed{container, Reason::REASON_CONTAINER_LAUNCH_FAILED, "cancelled"});
  rig.ack("t");
  EXPECT_EQ(rig.status().state, TaskState::TASK_KILLED);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_TASK_KILLED_DURING_LAUNCH);
}

TEST(Kill, CrossingTheEndOfTheLaunchNeverShowsRunning) {
  Rig rig;
  rig.join();
  rig.run(make_task("t"));
  const auto container = rig.find<effect::Launch>()->spec.container_id;
  rig.ack("t");
  rig.kill("t");
  rig.step(event::Launched{container, Identity{42, 41, 1}});
  EXPECT_THAT(rig.steps(), ElementsAre("append STARTED", "kill"));
  rig.step(event::Exited{container, Rig::signalled(SIGTERM)});
  EXPECT_EQ(rig.status().state, TaskState::TASK_KILLED);
}

TEST(Kill, OfAnUnknownTaskTellsTheMasterUntilItHears) {
  Rig rig;
  rig.join();
  rig.kill("nobody");
  EXPECT_EQ(rig.status().state, TaskState::TASK_LOST);
  EXPECT_EQ(rig.core->find("F", "nobody"), nullptr);
  const auto uuid = rig.status().uuid;
  rig.advance(11s);
  EXPECT_EQ(rig.status().uuid, uuid);
  rig.ack("nobody", uuid);
  rig.advance(1h);
  EXPECT_TRUE(rig.updates().empty());
}

TEST(Kill, MaxCompletionTimeKillsWithoutGrace) {
  Rig rig;
  rig.join();
  auto task = make_task("t");
  task.max_completion_time_ns = Nanos(60s).count();
  const auto container = rig.running(task);
  rig.frame(fb::link::PingT{});
  rig.advance(59s);
  EXPECT_EQ(rig.count<effect::Kill>(), 0u);
  rig.advance(2s);
  ASSERT_EQ(rig.count<effect::Kill>(), 1u);
  EXPECT_EQ(rig.find<effect::Kill>()->grace, Nanos(0));
  rig.step(event::Exited{container, Rig::signalled(SIGKILL)});
  EXPECT_EQ(rig.status().state, TaskState::TASK_FAILED);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_MAX_COMPLETION_TIME_REACHED);
}

TEST(Frameworks, RemovalKillsAllOfItAndForgetsWithoutAcknowledgement) {
  Rig rig;
  rig.join();
  const auto a = rig.running(make_task("a"));
  const auto b = rig.running(make_task("b"));
  rig.step(event::Exited{b, Rig::exit_code(0)});
  fb::link::RemoveFrameworkT remove;
  remove.framework_id = "F";
  rig.frame(remove);
  EXPECT_EQ(rig.count<effect::Kill>(), 1u);
  EXPECT_EQ(rig.core->tasks().size(), 1u);
  rig.step(event::Exited{a, Rig::signalled(SIGTERM)});
  EXPECT_EQ(*rig.status().reason, Reason::REASON_FRAMEWORK_REMOVED);
  EXPECT_TRUE(rig.status().uuid.empty());
  EXPECT_TRUE(rig.core->tasks().empty());
  // Not as the operator's shutdown: the agent goes on.
  EXPECT_TRUE(rig.core->registered());
  EXPECT_EQ(rig.find<effect::Stop>(), nullptr);
}

TEST(Frameworks, ReconciliationTellsTheLatestOrThatItIsUnknown) {
  Rig rig;
  rig.join();
  rig.running(make_task("a"), {fb::FrameworkCapability::PARTITION_AWARE});
  fb::link::ReconcileAgentTasksT ask;
  ask.framework_id = "F";
  ask.task_ids = {"a", "zzz"};
  rig.frame(ask);
  const auto updates = rig.updates();
  ASSERT_EQ(updates.size(), 2u);
  EXPECT_EQ(updates[0].status->state, TaskState::TASK_RUNNING);
  EXPECT_TRUE(updates[0].status->uuid.empty());
  EXPECT_EQ(updates[1].status->state, TaskState::TASK_DROPPED);
}

TEST(Shutdown, KillsEverythingThenUnregisters) {
  Rig rig;
  rig.join();
  const auto container = rig.running(make_task("t"));
  rig.frame(fb::link::ShutdownT{});
  EXPECT_EQ(rig.count<effect::Kill>(), 1u);
  rig.run(make_task("late"));
  EXPECT_EQ(*rig.status().reason, Reason::REASON_AGENT_DRAINING);
  rig.step(event::Exited{container, Rig::signalled(SIGTERM)});
  const auto steps = rig.steps();
  ASSERT_GE(steps.size(), 2u);
  EXPECT_EQ(steps[steps.size() - 2], "send Unregister");
  EXPECT_EQ(steps.back(), "stop");
  EXPECT_FALSE(rig.find<effect::Stop>()->failed);
}

TEST(Updates, AreSentAgainAfterTenSecondsDoublingToTenMinutes) {
  Rig rig([](CoreOptions& o) { o.backoff_max = 60s; });
  rig.join();
  rig.run(make_task("t"));
  const auto uuid = rig.status().uuid;
  std::vector<long> gaps;
  Instant last = rig.now;
  while (gaps.size() < 9) {
    rig.frame(fb::link::PingT{});
    rig.advance(1s);
    if (rig.updates().empty()) continue;
    EXPECT_EQ(rig.status().uuid, uuid);
    gaps.push_back(std::chrono::duration_cast<std::chrono::seconds>(rig.now - last).count());
    last = rig.now;
  }
  EXPECT_THAT(gaps, ElementsAre(10, 20, 40, 80, 160, 320, 600, 600, 600));
}

TEST(Updates, OneInFlightInOrderAndTheTerminalStateTravelsAtOnce) {
  Rig rig;
  rig.join();
  rig.run(make_task("t"));
  const auto container = rig.find<effect::Launch>()->spec.container_id;
  const auto first = rig.status().uuid;
  rig.step(event::Launched{container, Identity{42, 41, 1}});
  EXPECT_TRUE(rig.updates().empty());
  rig.step(event::Exited{container, Rig::exit_code(0)});
  const auto updates = rig.updates();
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].status->uuid, first);
  EXPECT_EQ(updates[0].latest_state, TaskState::TASK_FINISHED);
  EXPECT_TRUE(updates[0].terminal);
  rig.ack("t");
  EXPECT_EQ(rig.status().state, TaskState::TASK_RUNNING);
  const auto second = rig.status().uuid;
  rig.ack("t", first);  // late duplicate of the acknowledgement
  EXPECT_TRUE(rig.updates().empty());
  rig.ack("t", second);
  EXPECT_EQ(rig.status().state, TaskState::TASK_FINISHED);
}

TEST(Journal, WhileItFailsTasksAreRefusedAndNothingUnwrittenIsSeen) {
  Rig rig;
  rig.join();
  const auto container = rig.running(make_task("t"));
  rig.step(event::Journal{false, "cannot write /w/agent/journal: No space left on device"});
  rig.run(make_task("new"));
  EXPECT_EQ(rig.count<effect::Append>(), 0u);
  EXPECT_EQ(rig.count<effect::Launch>(), 0u);
  EXPECT_EQ(rig.status().state, TaskState::TASK_LOST);
  EXPECT_THAT(rig.status().message, HasSubstr("No space left on device"));
  rig.step(event::Exited{container, Rig::exit_code(0)});
  EXPECT_EQ(rig.count<effect::Append>(), 1u);
  EXPECT_TRUE(rig.updates().empty());
  rig.advance(1min);
  for (const auto& u : rig.updates()) EXPECT_EQ(u.status->task_id, "new");
  rig.step(event::Journal{true, {}});
  bool told = false;
  for (const auto& u : rig.updates()) told |= u.status->task_id == "t" && u.status->state == TaskState::TASK_FINISHED;
  EXPECT_TRUE(told);
}

}  // namespace
}  // namespace gantry::agent
