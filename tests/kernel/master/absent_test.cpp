// Tasks given up with an unreachable agent that the agent does not bring back. Found by gantry-sim --seed 77.
#include "driver.hpp"

namespace gantry::master {
namespace {

TEST(AbsentTasks, ThatTheReturningAgentDoesNotKnowAreGone) {
  for (const bool aware : {false, true}) {
    Cluster c;
    const auto r = c.run_one(Cluster::info("f", 0, aware));
    c.alive.clear();
    c.advance(91s);
    ASSERT_EQ(c.updates(r.stream).size(), 1u);
    ASSERT_EQ(c.core->task_count(), 1u);

    c.alive.insert(3);
    c.join(3, c.with_tasks(r.agent, {}));
    EXPECT_EQ(c.registered_as(3), r.agent);
    EXPECT_EQ(c.core->task_count(), 0u) << "or it would be UNREACHABLE for ever";
    const auto u = c.updates(r.stream);
    if (aware) {
      ASSERT_EQ(u.size(), 1u);
      EXPECT_EQ(u[0].state, S::TASK_GONE);
      EXPECT_TRUE(u[0].uuid.empty());
    } else {
      EXPECT_TRUE(u.empty()) << "LOST has been said";
    }
    static_cast<void>(c.reconcile("f", {{"t", r.agent}}));
    ASSERT_EQ(c.updates(r.stream).at(0).state, aware ? S::TASK_GONE : S::TASK_LOST);
  }
}

TEST(AbsentTasks, OfAnAgentThatBringsThemBackGoOn) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 0, true));
  c.alive.clear();
  c.advance(91s);
  c.alive.insert(3);
  c.join(3, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(c.core->task_count(), 1u);
  EXPECT_EQ(c.core->task_states()[static_cast<std::size_t>(S::TASK_RUNNING)], 1u);
}

}  // namespace
}  // namespace gantry::master
