// Agents that never come back are forgotten after two weeks, or when there are too many of them.
#include "driver.hpp"

namespace gantry::master {
namespace {

TEST(ForgottenAgents, AfterTwoWeeksTheRecordIsGoneAndItsTasksAreUnknown) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 0, true));
  const std::string record = "agent/" + store::key_segment(r.agent);
  c.alive.clear();
  c.advance(91s);
  static_cast<void>(c.updates(r.stream));
  c.advance(24h * 13);
  ASSERT_TRUE(c.records.contains(record));
  static_cast<void>(c.reconcile("f", {{"t", r.agent}}));
  ASSERT_EQ(c.updates(r.stream).at(0).state, S::TASK_UNREACHABLE);

  c.advance(24h + 16min);
  EXPECT_FALSE(c.records.contains(record));
  static_cast<void>(c.reconcile("f", {{"t", r.agent}}));
  EXPECT_EQ(c.updates(r.stream).at(0).state, S::TASK_UNKNOWN);
}

TEST(ForgottenAgents, AreCountedFromTheStoredTimeAfterARestartOfTheMaster) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 0, true));
  c.alive.clear();
  c.advance(24h * 13);
  c.restart();
  c.advance(24h + 16min);
  EXPECT_FALSE(c.records.contains("agent/" + store::key_segment(r.agent)));
}

TEST(ForgottenAgents, ThatReturnAfterAllAreNewAndKeepTheirTasks) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 0, true));
  c.alive.clear();
  c.advance(24h * 15);
  static_cast<void>(c.updates(r.stream));
  c.alive.insert(3);
  c.join(3, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(c.registered_as(3), r.agent);
  EXPECT_TRUE(c.records.contains("agent/" + store::key_segment(r.agent)));
  EXPECT_EQ(c.core->task_states()[static_cast<std::size_t>(S::TASK_RUNNING)], 1u);
}

TEST(ForgottenAgents, WhoseForgettingCannotBeStoredAreTriedAgain) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 0, true));
  const std::string record = "agent/" + store::key_segment(r.agent);
  c.alive.clear();
  c.advance(91s);
  c.fail_store = true;
  c.advance(24h * 15);
  static_cast<void>(c.updates(r.stream));
  static_cast<void>(c.reconcile("f", {{"t", r.agent}}));
  ASSERT_EQ(c.updates(r.stream).at(0).state, S::TASK_UNREACHABLE) << "still known";
  c.fail_store = false;
  c.advance(16min);
  EXPECT_FALSE(c.records.contains(record));
}

TEST(ForgottenAgents, TheLongestAwayGoFirstWhenThereAreTooMany) {
  CoreOptions o;
  o.away_agents = 2;
  Cluster c(o);
  for (LinkId l = 1; l <= 5; ++l) {
    c.join(l, Cluster::registration("cpus:1;mem:64"));
    c.apply(LinkClosed{l});
    c.advance(5s);
  }
  c.advance(91s + 15min);
  std::size_t agents = 0;
  for (const auto& [key, value] : c.records) agents += key.starts_with("agent/");
  EXPECT_EQ(agents, 2u);
  EXPECT_TRUE(c.records.contains("agent/" + store::key_segment("run-S4")));
}

}  // namespace
}  // namespace gantry::master
