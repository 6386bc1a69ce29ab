// Subscription, fail-over, removal: what a framework hears and what is stored first.
#include "driver.hpp"

namespace gantry::master {
namespace {

TEST(Frameworks, NewOneIsStoredBeforeItIsAnswered) {
  Cluster c;
  c.hold_store = true;
  const auto s = c.subscribe(Cluster::info());
  EXPECT_EQ(c.id_of(s), "");
  c.hold_store = false;
  c.pump();
  EXPECT_EQ(c.id_of(s), "run-0000");
  EXPECT_TRUE(c.records.contains("framework/run-0000"));
  EXPECT_EQ(c.id_of(c.subscribe(Cluster::info())), "run-0001");
}

TEST(Frameworks, UnknownIdIsTakenAsReturning) {
  Cluster c;
  EXPECT_EQ(c.id_of(c.subscribe(Cluster::info("mine"))), "mine");
}

TEST(Frameworks, FailedStoreEndsTheStreamAndLeavesNothing) {
  Cluster c;
  c.fail_store = true;
  const auto s = c.subscribe(Cluster::info());
  ASSERT_TRUE(c.ended.contains(s));
  EXPECT_EQ(c.ended.at(s).code, Code::unavailable);
  EXPECT_EQ(c.core->framework_count(), 0u);
}

TEST(Frameworks, HungUpWhileBeingStoredIsNotConnected) {
  Cluster c;
  c.hold_store = true;
  const auto s = c.subscribe(Cluster::info("a", 100));
  c.apply(StreamClosed{s});
  c.hold_store = false;
  c.pump();
  EXPECT_TRUE(c.events[s].empty());
  EXPECT_EQ(c.kill("a", "x").error().code, Code::failed_precondition);
}

TEST(Frameworks, SecondSubscriptionReplacesTheFirst) {
  Cluster c;
  const auto a = c.subscribe(Cluster::info("f", 10));
  c.join(1);
  EXPECT_EQ(c.offers(a).size(), 1u);
  const auto b = c.subscribe(Cluster::info("f", 10));
  EXPECT_EQ(c.error(a), "Framework failed over");
  EXPECT_EQ(c.ended.at(a).code, Code::aborted);
  EXPECT_EQ(c.id_of(b), "f");
  EXPECT_EQ(c.offers(b).size(), 1u);
  c.apply(StreamClosed{a});  // the end of the old stream must not disconnect the new one
  EXPECT_TRUE(c.kill("f", "x"));
}

TEST(Frameworks, RefusesWhatIsNotValid) {
  Cluster c;
  const auto refused = [&](fb::FrameworkInfoT i) {
    const auto s = c.subscribe(std::move(i));
    EXPECT_TRUE(c.ended.contains(s));
    EXPECT_EQ(c.id_of(s), "");
    return c.error(s);
  };
  auto i = Cluster::info();
  i.failover_timeout = 1e300;
  EXPECT_NE(refused(i).find("failover_timeout"), std::string::npos);
  i = Cluster::info();
  i.roles = {"a"};
  EXPECT_NE(refused(i).find("MULTI_ROLE"), std::string::npos);
  i.capabilities = {fb::FrameworkCapability::MULTI_ROLE};
  i.roles = {"a", "a"};
  EXPECT_NE(refused(i).find("duplicate"), std::string::npos);
  i.roles = {"a"};
  i.role = "b";
  EXPECT_EQ(refused(i), "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable");
  i = Cluster::info();
  i.role = "-x";
  EXPECT_NE(refused(i).find("role"), std::string::npos);
}

TEST(Frameworks, DisconnectedForLongerThanItsTimeoutIsRemoved) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 60));
  c.apply(StreamClosed{r.stream});
  EXPECT_EQ(c.kill("f", "t").error().message, "Framework is not subscribed");
  c.advance(59s);
  const auto again = c.subscribe(Cluster::info("f", 60));
  EXPECT_EQ(c.id_of(again), "f");
  EXPECT_EQ(c.core->task_count(), 1u);
  c.apply(StreamClosed{again});
  c.advance(61s);
  EXPECT_EQ(c.core->task_count(), 0u);
  ASSERT_EQ(c.heard<fb::link::RemoveFrameworkT>(1).size(), 1u);
  const auto late = c.subscribe(Cluster::info("f", 60));
  EXPECT_EQ(c.error(late), "Framework has been removed");
}

TEST(Frameworks, NoTimeoutMeansRemovedAtOnce) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.apply(StreamClosed{r.stream});
  EXPECT_EQ(c.core->framework_count(), 0u);
  EXPECT_EQ(c.heard<fb::link::RemoveFrameworkT>(1).size(), 1u);
}

TEST(Frameworks, TeardownIsStoredThenKillsTasksAndCannotBeUndone) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 60));
  c.hold_store = true;
  EXPECT_EQ(c.call(Cluster::make_call("f", fb::CallType::TEARDOWN)).error().message, "no answer yet");
  EXPECT_EQ(c.heard<fb::link::RemoveFrameworkT>(1).size(), 0u);
  EXPECT_EQ(c.kill("f", "t").error().message, "Framework cannot be found");
  c.hold_store = false;
  c.pump();
  EXPECT_TRUE(c.ended.contains(r.stream));
  EXPECT_EQ(c.heard<fb::link::RemoveFrameworkT>(1).size(), 1u);
  fb::control::AskTasksT ask;
  ask.completed = true;
  fb::control::TasksT rows;
  Core::Cursor cursor;
  EXPECT_FALSE(c.core->list_tasks(ask, cursor, 100, rows));
  ASSERT_EQ(rows.tasks.size(), 1u);
  EXPECT_EQ(rows.tasks[0]->state, S::TASK_KILLED);
  EXPECT_EQ(rows.tasks[0]->status->reason, R::REASON_FRAMEWORK_REMOVED);
  EXPECT_TRUE(rows.tasks[0]->completed);
  c.restart();
  EXPECT_EQ(c.error(c.subscribe(Cluster::info("f"))), "Framework has been removed");
  // Its task is still there on the agent that comes back: it must go.
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(c.heard<fb::link::RemoveFrameworkT>(2).size(), 1u);
  EXPECT_EQ(c.core->task_count(), 0u);
}

TEST(Frameworks, FailedTeardownSaysSoAndChangesNothing) {
  Cluster c;
  c.run_one(Cluster::info("f", 60));
  c.fail_store = true;
  EXPECT_EQ(c.call(Cluster::make_call("f", fb::CallType::TEARDOWN)).error().code, Code::resource_exhausted);
  EXPECT_EQ(c.core->task_count(), 1u);
  c.fail_store = false;
  EXPECT_TRUE(c.kill("f", "t"));
}

TEST(Frameworks, UnknownIdsAreTold) {
  Cluster c;
  EXPECT_EQ(c.kill("nobody", "t").error().message, "Framework cannot be found");
  const std::vector<std::uint8_t> junk(40, 0xff);
  c.apply(FrameworkCall{7, junk});
  EXPECT_EQ(c.answers.at(7).error().code, Code::invalid_argument);
  c.apply(Subscribe{99, junk});
  EXPECT_TRUE(c.ended.contains(99));
}

TEST(Frameworks, RecordsSurviveTheMaster) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 3600));
  c.restart();
  EXPECT_EQ(c.core->framework_count(), 1u);
  EXPECT_EQ(c.core->recovering_count(), 1u);
  EXPECT_EQ(c.kill("f", "t").error().message, "Framework is not subscribed");
  const auto writes = c.records.size();
  const auto s = c.subscribe(Cluster::info("f", 3600));
  EXPECT_EQ(c.id_of(s), "f");
  EXPECT_EQ(c.records.size(), writes);
  c.join(5, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(c.registered_as(5), r.agent);
  const auto u = c.updates(s);
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].reason, R::REASON_AGENT_REREGISTERED);
  EXPECT_EQ(u[0].state, S::TASK_RUNNING);
  ASSERT_EQ(c.offers(s).size(), 1u);
}

TEST(Frameworks, ThatDoNotReturnAfterTheMasterGetItsPatienceThenGo) {
  Cluster c;
  c.run_one(Cluster::info("f"));  // no failover_timeout
  c.restart();
  c.advance(599s);
  EXPECT_EQ(c.core->framework_count(), 1u);
  c.advance(2s);
  EXPECT_EQ(c.core->framework_count(), 0u);
}

}  // namespace
}  // namespace gantry::master
