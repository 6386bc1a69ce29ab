// The operator drains the agent: every task ends, none is taken.
#include "rig.hpp"

namespace gantry::agent {
namespace {

using namespace std::chrono_literals;
using fb::Reason;
using fb::TaskState;
using Capability = fb::FrameworkCapability;

fb::link::DrainT drain(std::optional<Nanos> grace = {}, bool gone = false) {
  fb::link::DrainT d;
  if (grace) d.max_grace_ns = grace->count();
  d.mark_gone = gone;
  return d;
}
fb::TaskInfoT patient(const std::string& id, Nanos grace) {
  auto t = make_task(id);
  t.kill_policy = std::make_unique<fb::KillPolicyT>();
  t.kill_policy->grace_period_ns = grace.count();
  return t;
}

TEST(Drain, KillsWithNoMoreGraceThanAllowed) {
  Rig rig;
  rig.join();
  rig.running(patient("long", 60s));
  rig.running(patient("short", 1s));
  rig.frame(drain(5s));
  std::vector<Nanos> graces;
  for (const auto& e : rig.effects)
    if (const auto* k = std::get_if<effect::Kill>(&e)) graces.push_back(k->grace);
  EXPECT_EQ(graces, (std::vector<Nanos>{5s, 1s}));

  Rig own;
  own.join();
  own.running(patient("long", 60s));
  own.frame(drain());
  EXPECT_EQ(own.find<effect::Kill>()->grace, 60s);
}

TEST(Drain, UpdatesSayWhy) {
  for (const bool aware : {false, true}) {
    for (const bool gone : {false, true}) {
      Rig rig;
      rig.join();
      std::vector<Capability> can = {Capability::TASK_KILLING_STATE};
      if (aware) can.push_back(Capability::PARTITION_AWARE);
      const auto container = rig.running(make_task("t"), can);
      rig.frame(drain({}, gone));
      auto s = rig.status();
      EXPECT_EQ(s.state, TaskState::TASK_KILLING);
      EXPECT_EQ(s.reason, Reason::REASON_AGENT_DRAINING);
      rig.ack("t");
      rig.step(event::Exited{container, Rig::signalled(15)});
      s = rig.status();
      EXPECT_EQ(s.state, gone && aware ? TaskState::TASK_GONE_BY_OPERATOR : TaskState::TASK_KILLED);
      EXPECT_EQ(s.reason, Reason::REASON_AGENT_DRAINING);
    }
  }
}

TEST(Drain, TakesNoTasksUntilItIsOver) {
  Rig rig;
  rig.join();
  rig.frame(drain());
  rig.run(make_task("late"), {Capability::PARTITION_AWARE});
  auto s = rig.status();
  EXPECT_EQ(s.state, TaskState::TASK_DROPPED);
  EXPECT_EQ(s.reason, Reason::REASON_AGENT_DRAINING);
  EXPECT_FALSE(s.uuid.empty());
  rig.frame(fb::link::EndDrainT{});
  rig.run(make_task("fine"));
  EXPECT_TRUE(rig.find<effect::Launch>());
}

TEST(Drain, LastsAsLongAsTheMasterSays) {
  Rig rig;
  rig.join();
  rig.frame(drain());
  rig.step(event::LinkDown{"gone"});
  rig.advance(10s);
  rig.link_up();  // registered, and the master says nothing of draining
  rig.run(make_task("fine"));
  EXPECT_TRUE(rig.find<effect::Launch>());
}

TEST(Drain, ItsKillsOutliveTheAgent) {
  Rig rig;
  rig.join();
  const auto container = rig.running(patient("t", 60s), {Capability::PARTITION_AWARE});
  rig.frame(drain(1s, true));
  rig.restart();
  RecoveredContainer r;
  r.container_id = container;
  r.fate = RecoveredContainer::Fate::running;
  rig.join({r});
  rig.frame(drain(1s, true));
  EXPECT_EQ(rig.find<effect::Kill>()->grace, 1s) << "told again, it shortens what is left";
  rig.step(event::Exited{container, Rig::signalled(9)});
  const auto s = rig.status();
  EXPECT_EQ(s.state, TaskState::TASK_GONE_BY_OPERATOR);
  EXPECT_EQ(s.reason, Reason::REASON_AGENT_DRAINING);
}

TEST(Drain, AKillOfTheFrameworkIsShortenedToo) {
  Rig rig;
  rig.join();
  rig.running(patient("t", 60s));
  rig.kill("t");
  EXPECT_EQ(rig.find<effect::Kill>()->grace, 60s);
  rig.frame(drain(2s));
  EXPECT_EQ(rig.find<effect::Kill>()->grace, 2s);
}

}  // namespace
}  // namespace gantry::agent
