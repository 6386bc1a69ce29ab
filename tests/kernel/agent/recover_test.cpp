// kill -9 of the agent at every point: what the next life does with the journal.
#include "tests/kernel/agent/rig.hpp"

#include <gmock/gmock.h>

#include <csignal>

namespace gantry::agent {
namespace {

using fb::Reason;
using fb::TaskState;
using ::testing::HasSubstr;
using namespace std::chrono_literals;
using Fate = RecoveredContainer::Fate;

RecoveredContainer fate(const std::string& container, Fate f, ExitInfo exit = {}) {
  RecoveredContainer r;
  r.container_id = container;
  r.fate = f;
  r.exit = std::move(exit);
  return r;
}

TEST(Recovery, ARunningTaskIsKeptAndNothingTerminalIsSent) {
  Rig rig;
  rig.join();
  const auto container = rig.running(make_task("t"));
  rig.restart();
  rig.step(event::Start{});
  const auto* recover = rig.find<effect::Recover>();
  ASSERT_TRUE(recover);
  ASSERT_EQ(recover->known.size(), 1u);
  EXPECT_EQ(recover->known[0].spec.container_id, container);
  EXPECT_EQ(recover->known[0].identity->pid, 42);
  EXPECT_EQ(recover->known[0].identity->supervisor_start, 1234u);
  EXPECT_EQ(recover->known[0].spec.user, "nobody");
  rig.step(event::Recovered{{fate(container, Fate::running)}});
  rig.step(event::Leader{"m:1"});
  rig.link_up();
  EXPECT_TRUE(rig.updates().empty());
  EXPECT_EQ(rig.core->agent_id(), "A");
  EXPECT_EQ(rig.core->find("F", "t")->status.state, TaskState::TASK_RUNNING);
  // And it can be ended as before.
  rig.step(event::Exited{container, Rig::exit_code(1)});
  EXPECT_EQ(rig.status().message, "Command exited with status 1");
}

TEST(Recovery, NothingIsSentToTheMasterBeforeItIsOver) {
  Rig rig;
  rig.join();
  rig.running(make_task("t"));
  rig.restart();
  rig.step(event::Start{});
  rig.step(event::Leader{"m:1"});
  EXPECT_EQ(rig.count<effect::Connect>(), 0u);
  rig.advance(1min);
  EXPECT_EQ(rig.count<effect::Connect>(), 0u);
}

TEST(Recovery, AnExitWhileAwayIsToldAsItWas) {
  Rig rig;
  rig.join();
  const auto container = rig.running(make_task("t"));
  rig.restart();
  rig.join({fate(container, Fate::exited, Rig::exit_code(0))});
  EXPECT_EQ(rig.status().state, TaskState::TASK_FINISHED);
}

TEST(Recovery, AKillUnderWayGoesOnAndEndsKilled) {
  Rig rig;
  rig.join();
  const auto container = rig.running(make_task("t"));
  rig.kill("t");
  rig.restart();
  rig.step(event::Start{});
  rig.step(event::Recovered{{fate(container, Fate::running)}});
  EXPECT_EQ(rig.count<effect::Kill>(), 1u);
  rig.step(event::Leader{"m:1"});
  rig.link_up();
  rig.step(event::Exited{container, Rig::signalled(SIGTERM)});
  EXPECT_EQ(rig.status().state, TaskState::TASK_KILLED);
}

TEST(Recovery, AnInterruptedLaunchFailsBecauseOfTheRestart) {
  Rig rig;
  rig.join();
  rig.run(make_task("t"));
  const auto container = rig.find<effect::Launch>()->spec.container_id;
  rig.restart();
  rig.step(event::Start{});
  EXPECT_FALSE(rig.find<effect::Recover>()->known.at(0).identity);
  rig.step(event::Recovered{{fate(container, Fate::gone)}});
  rig.step(event::Leader{"m:1"});
  rig.link_up();
  rig.ack("t");  // STARTING, sent again
  EXPECT_EQ(rig.status().state, TaskState::TASK_FAILED);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_AGENT_RESTARTED);
}

TEST(Recovery, AContainerTheLauncherDoesNotMentionIsGone) {
  Rig rig;
  rig.join();
  rig.running(make_task("t"));
  rig.restart();
  rig.join();
  EXPECT_EQ(rig.status().state, TaskState::TASK_FAILED);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_AGENT_RESTARTED);
}

TEST(Recovery, AfterARebootEveryTaskFailedAndTheAgentKeepsItsIdentity) {
  Rig rig;
  rig.join();
  rig.running(make_task("t"));
  rig.restart("boot-2");
  rig.step(event::Start{});
  EXPECT_TRUE(rig.find<effect::Recover>()->known.empty());
  rig.step(event::Recovered{});
  rig.step(event::Leader{"m:1"});
  rig.link_up();
  EXPECT_EQ(rig.core->agent_id(), "A");
  EXPECT_EQ(rig.status().state, TaskState::TASK_FAILED);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_AGENT_RESTARTED);
  // Once: another start in the same boot finds it settled.
  rig.restart("boot-2");
  rig.join();
  EXPECT_EQ(rig.status().message, "The machine was restarted");
  rig.ack("t");
  EXPECT_TRUE(rig.core->tasks().empty());
}

TEST(Recovery, UnacknowledgedUpdatesComeAgainInOrderWithTheirUuids) {
  Rig rig;
  rig.join();
  rig.run(make_task("t"));
  const auto starting = rig.status().uuid;
  const auto container = rig.find<effect::Launch>()->spec.container_id;
  rig.step(event::Launched{container, Identity{42, 41, 1234}});
  rig.step(event::Exited{container, Rig::exit_code(0)});
  rig.restart();
  rig.join();
  EXPECT_EQ(rig.status().uuid, starting);
  EXPECT_EQ(rig.updates()[0].latest_state, TaskState::TASK_FINISHED);
  rig.ack("t");
  EXPECT_EQ(rig.status().state, TaskState::TASK_RUNNING);
  rig.ack("t");
  EXPECT_EQ(rig.status().state, TaskState::TASK_FINISHED);
  rig.ack("t");
  rig.restart();
  rig.join();
  EXPECT_TRUE(rig.core->tasks().empty());
  EXPECT_TRUE(rig.updates().empty());
}

TEST(Recovery, AStartedTaskWhoseRunningWasNotRecordedSaysItNow) {
  Rig rig;
  rig.join();
  rig.run(make_task("t"));
  const auto container = rig.find<effect::Launch>()->spec.container_id;
  rig.ack("t");
  rig.step(event::Launched{container, Identity{42, 41, 1234}});
  rig.journal.pop_back();  // the crash fell between STARTED and the UPDATE
  rig.restart();
  rig.join({fate(container, Fate::running)});
  EXPECT_EQ(rig.status().state, TaskState::TASK_RUNNING);
}

TEST(Recovery, CompletionTimeAndHealthGoOn) {
  Rig rig;
  rig.join();
  auto task = make_task("t");
  task.max_completion_time_ns = Nanos(60s).count();
  task.health_check = std::make_unique<fb::HealthCheckT>();
  task.health_check->type = fb::CheckType::TCP;
  task.health_check->tcp = std::make_unique<fb::TcpCheckT>();
  const auto container = rig.running(task);
  rig.advance(50s);
  rig.restart();
  rig.join({fate(container, Fate::running)});
  rig.advance(9s);
  EXPECT_GE(rig.count<effect::RunCheck>(), 1u);
  EXPECT_EQ(rig.count<effect::Kill>(), 0u);
  rig.advance(2s);
  EXPECT_EQ(rig.count<effect::Kill>(), 1u);
}

// A busy life, cut after every single journal entry: the next life must be consistent, and compaction must change
// nothing.
TEST(Recovery, EveryPrefixOfTheJournalIsAGoodPast) {
  Rig rig;
  rig.join();
  const auto a = rig.running(make_task("a"));
  rig.run(make_task("b"), {fb::FrameworkCapability::TASK_KILLING_STATE});
  const auto b = rig.find<effect::Launch>()->spec.container_id;
  rig.step(event::Launched{b, Identity{50, 49, 5}});
  rig.kill("b");
  rig.run(make_task("c"));
  rig.step(event::Exited{b, Rig::signalled(SIGTERM)});
  rig.step(event::Exited{a, Rig::exit_code(0)});
  rig.ack("a");

  const auto summary = [](const Core& core) {
    std::map<std::string, std::string> out;
    for (const auto& [key, task] : core.tasks()) {
      std::string s = std::string(EnumNameTaskState(task->status.state)) + " phase " +
                      std::to_string(static_cast<int>(task->phase)) + " cause " +
                      std::to_string(static_cast<int>(task->cause)) + " container " + task->container_id + " outbox";
      for (const auto& u : task->outbox) s += std::string(" ") + EnumNameTaskState(u.state) + std::to_string(u.uuid[0]);
      if (task->identity) s += " pid " + std::to_string(task->identity->pid);
      out[key] = s + " at " + std::to_string(task->launched_wall);
    }
    return out;
  };
  const std::vector<Buffer> whole = std::move(rig.journal);
  ASSERT_GT(whole.size(), 15u);
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    std::vector<Buffer> past;
    for (std::size_t i = 0; i < cut; ++i) past.emplace_back(Bytes(whole[i]));
    const auto core = rig.rebuild(past);
    std::vector<Buffer> compacted;
    for (const auto& e : core->snapshot()) compacted.push_back(pack(e));
    EXPECT_LE(compacted.size(), past.size() + 2);
    const auto again = rig.rebuild(compacted);
    EXPECT_EQ(summary(*core), summary(*again)) << "after " << cut << " entries";
    EXPECT_EQ(core->agent_id(), again->agent_id());

    // All that ran is gone: every task must reach a terminal state, once, and be acknowledged away.
    rig.journal = std::move(past);
    rig.restart();
    rig.join();
    for (int round = 0; round < 20 && !rig.core->tasks().empty(); ++round) {
      std::vector<std::pair<std::string, std::vector<std::uint8_t>>> heads;
      for (const auto& [key, task] : rig.core->tasks()) {
        ASSERT_FALSE(task->outbox.empty());
        heads.emplace_back(task->info->task_id, task->outbox.front().uuid);
      }
      for (const auto& [id, uuid] : heads) rig.ack(id, uuid);
    }
    EXPECT_TRUE(rig.core->tasks().empty()) << "after " << cut << " entries";
  }
}

TEST(Recovery, EntriesThatMakeNoSenseAreHarmless) {
  Rig rig;
  for (int type = 0; type <= 8; ++type) {
    fb::record::EntryT e;
    e.type = static_cast<fb::record::EntryType>(type);
    rig.journal.push_back(pack(e));
    e.task_id = "x";
    e.framework_id = "F";
    e.exit_status = 99;
    rig.journal.push_back(pack(e));
  }
  rig.restart();
  rig.join();
  EXPECT_TRUE(rig.core->tasks().empty());
}

}  // namespace
}  // namespace gantry::agent
