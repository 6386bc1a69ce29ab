// What the operator does with single agents: drain, deactivate, reactivate, gone.
#include "operator.hpp"

#include <gantry/state_generated.h>

#include <gantry/operator_generated.h>

#include <limits>

namespace gantry::master {
namespace {

using C = fb::master::CallType;
using Drain = fb::link::DrainT;

fb::state::AgentT agent_row(Cluster& c, const std::string& id) {
  fb::state::AgentT out;
  for (auto& row : rows(c))
    if (row.agent && unpack<fb::AgentInfo>(row.agent->info)->id == id) out = std::move(*row.agent);
  return out;
}

TEST(Upkeep, ADeactivatedAgentIsNotOfferedAndKeepsItsTasks) {
  Cluster c;
  const auto r = c.run_one();
  ASSERT_TRUE(c.call(Cluster::make_call(r.framework, fb::CallType::REVIVE)));
  ASSERT_EQ(c.offers(r.stream).size(), 1u);
  ASSERT_TRUE(operate(c, one_agent(C::DEACTIVATE_AGENT, r.agent)));
  EXPECT_EQ(c.take(r.stream, fb::EventType::RESCIND).size(), 1u);
  EXPECT_TRUE(c.offers(r.stream).empty());
  EXPECT_TRUE(c.heard<fb::link::KillTaskT>(1).empty());
  const auto row = agent_row(c, r.agent);
  EXPECT_TRUE(row.deactivated);
  EXPECT_FALSE(row.active);
  EXPECT_TRUE(operate(c, one_agent(C::DEACTIVATE_AGENT, r.agent))) << "twice is once";

  // It stays so when the agent returns and when the master is replaced.
  c.join(2, c.with_tasks(r.agent, {Cluster::known(r.framework, "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_TRUE(c.offers(r.stream).empty());
  c.restart();
  const auto s = c.subscribe(Cluster::info(r.framework));
  c.join(3, c.with_tasks(r.agent, {Cluster::known(r.framework, "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_TRUE(c.offers(s).empty());

  ASSERT_TRUE(operate(c, one_agent(C::REACTIVATE_AGENT, r.agent)));
  EXPECT_EQ(c.offers(s).size(), 1u);
  EXPECT_FALSE(agent_row(c, r.agent).deactivated);
  c.restart();
  const auto again = c.subscribe(Cluster::info(r.framework));
  c.join(4, c.with_tasks(r.agent, {}));
  EXPECT_EQ(c.offers(again).size(), 1u);
}

TEST(Upkeep, NothingIsAnsweredBeforeItIsStored) {
  for (const auto type : {C::DEACTIVATE_AGENT, C::DRAIN_AGENT, C::MARK_AGENT_GONE}) {
    Cluster c;
    const auto r = c.run_one();
    c.hold_store = true;
    const RequestId q = ask(c, type == C::DRAIN_AGENT ? drain_call(r.agent) : one_agent(type, r.agent));
    EXPECT_FALSE(c.answers.contains(q));
    EXPECT_TRUE(c.heard<Drain>(1).empty());
    EXPECT_TRUE(c.updates(r.stream).empty());
    c.hold_store = false;
    c.pump();
    ASSERT_TRUE(c.answers.contains(q));
    EXPECT_TRUE(c.answers.at(q));
  }
}

TEST(Upkeep, WhatCannotBeStoredIsTakenBack) {
  for (const auto type : {C::DEACTIVATE_AGENT, C::DRAIN_AGENT, C::MARK_AGENT_GONE}) {
    Cluster c;
    const auto r = c.run_one();
    c.fail_store = true;
    EXPECT_FALSE(operate(c, type == C::DRAIN_AGENT ? drain_call(r.agent) : one_agent(type, r.agent)));
    c.fail_store = false;
    EXPECT_TRUE(c.heard<Drain>(1).empty());
    EXPECT_TRUE(c.heard<fb::link::ShutdownT>(1).empty());
    EXPECT_FALSE(agent_row(c, r.agent).deactivated);
    ASSERT_TRUE(c.call(Cluster::make_call(r.framework, fb::CallType::REVIVE)));
    EXPECT_EQ(c.offers(r.stream).size(), 1u) << fb::master::EnumNameCallType(type);
    EXPECT_EQ(c.core->agent_count(), 1u);
  }
}

// A change that overtakes another before that is stored: what fails leaves what the record says, not what was hoped for.
TEST(Upkeep, AFailedChangeFallsBackToWhatIsStored) {
  for (const bool first_stored : {true, false}) {
    SCOPED_TRACE(first_stored);
    Cluster c;
    const auto r = c.run_one();
    c.hold_store = true;
    const RequestId drain = ask(c, drain_call(r.agent, 7));
    const RequestId again = ask(c, drain_call(r.agent, 9));
    c.fail_store = !first_stored;
    c.store_one();
    c.fail_store = true;
    c.hold_store = false;
    c.pump();
    c.fail_store = false;
    ASSERT_TRUE(c.answers.contains(drain) && c.answers.contains(again));
    EXPECT_EQ(c.answers.at(drain).has_value(), first_stored);
    EXPECT_FALSE(c.answers.at(again));
    EXPECT_EQ(agent_row(c, r.agent).deactivated, first_stored);
    const auto heard = c.heard<Drain>(1);
    ASSERT_EQ(heard.size(), first_stored ? 1u : 0u);
    if (first_stored) {
      EXPECT_EQ(heard[0].max_grace_ns, 7'000'000'000);
    }
    EXPECT_TRUE(operate(c, one_agent(C::DEACTIVATE_AGENT, r.agent))) << "it is not stuck in being stored";
  }
}

TEST(Upkeep, DrainingEndsWithTheLastAcknowledgement) {
  Cluster c;
  const auto r = c.run_one();
  ASSERT_TRUE(operate(c, drain_call(r.agent, 7)));
  const auto told = c.heard<Drain>(1);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].max_grace_ns, 7'000'000'000);
  EXPECT_FALSE(told[0].mark_gone);
  auto row = agent_row(c, r.agent);
  ASSERT_TRUE(row.drain);
  EXPECT_EQ(row.drain->state, fb::ops::DrainState::DRAINING);
  EXPECT_EQ(*row.drain->config->max_grace_period_ns, 7'000'000'000);
  EXPECT_TRUE(row.deactivated);
  const Status early = operate(c, one_agent(C::REACTIVATE_AGENT, r.agent));
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, Code::invalid_argument);

  c.update(1, r.framework, "t", S::TASK_KILLED, 2);
  EXPECT_EQ(agent_row(c, r.agent).drain->state, fb::ops::DrainState::DRAINING) << "its end is not acknowledged yet";
  EXPECT_TRUE(c.acknowledge(r.framework, r.agent, "t", 2));
  EXPECT_EQ(agent_row(c, r.agent).drain->state, fb::ops::DrainState::DRAINED);
  ASSERT_TRUE(c.call(Cluster::make_call(r.framework, fb::CallType::REVIVE)));
  EXPECT_TRUE(c.offers(r.stream).empty());
  ASSERT_TRUE(operate(c, one_agent(C::REACTIVATE_AGENT, r.agent)));
  EXPECT_EQ(c.heard<fb::link::EndDrainT>(1).size(), 1u);
  EXPECT_EQ(c.offers(r.stream).size(), 1u);
  EXPECT_FALSE(agent_row(c, r.agent).drain);
}

TEST(Upkeep, OneOnWhichNothingRunsIsDrainedAtOnce) {
  Cluster c;
  const auto agent = c.join(1);
  ASSERT_TRUE(operate(c, drain_call(agent)));
  const auto row = agent_row(c, agent);
  ASSERT_TRUE(row.drain);
  EXPECT_EQ(row.drain->state, fb::ops::DrainState::DRAINED);
  EXPECT_FALSE(row.drain->config->max_grace_period_ns);
  EXPECT_EQ(c.heard<Drain>(1).at(0).max_grace_ns, -1);
}

TEST(Upkeep, DrainingSurvivesTheMaster) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  ASSERT_TRUE(operate(c, drain_call(r.agent, 3)));
  c.restart();
  const auto s = c.subscribe(Cluster::info("f"));
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_TRUE(c.offers(s).empty());
  ASSERT_EQ(c.heard<Drain>(2).size(), 1u);
  EXPECT_EQ(agent_row(c, r.agent).drain->state, fb::ops::DrainState::DRAINING);
  c.update(2, "f", "t", S::TASK_KILLED, 2);
  EXPECT_TRUE(c.acknowledge("f", r.agent, "t", 2));
  EXPECT_EQ(agent_row(c, r.agent).drain->state, fb::ops::DrainState::DRAINED);
}

TEST(Upkeep, AnUnreachableAgentIsDrainedWhenItReturns) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.alive.clear();
  c.advance(100s);
  ASSERT_EQ(c.core->agent_count(), 0u);
  ASSERT_TRUE(operate(c, drain_call(r.agent)));
  c.offers(r.stream);
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(c.heard<Drain>(2).size(), 1u);
  EXPECT_TRUE(c.offers(r.stream).empty());
  c.alive.insert(2);
  c.update(2, "f", "t", S::TASK_KILLED, 2);
  EXPECT_TRUE(c.acknowledge("f", r.agent, "t", 2));
  EXPECT_EQ(agent_row(c, r.agent).drain->state, fb::ops::DrainState::DRAINED);
}

TEST(Upkeep, ADrainedAgentMayBeMarkedGoneByItself) {
  Cluster c;
  const auto r = c.run_one();
  ASSERT_TRUE(operate(c, drain_call(r.agent, {}, true)));
  EXPECT_TRUE(c.heard<Drain>(1).at(0).mark_gone);
  c.update(1, r.framework, "t", S::TASK_GONE_BY_OPERATOR, 2);
  c.fail_store = true;  // twice in vain
  EXPECT_TRUE(c.acknowledge(r.framework, r.agent, "t", 2));
  c.advance(2s);
  EXPECT_EQ(c.core->agent_count(), 1u);
  c.fail_store = false;
  c.advance(2s);
  EXPECT_EQ(c.core->agent_count(), 0u);
  EXPECT_EQ(c.heard<fb::link::ShutdownT>(1).size(), 1u);
  EXPECT_EQ(agent_row(c, r.agent).standing, fb::state::Standing::GONE);
}

TEST(Upkeep, TasksOfAnAgentThatIsGoneAreGone) {
  for (const bool aware : {false, true}) {
    Cluster c;
    const auto r = c.run_one(Cluster::info("f", 0, aware));
    ASSERT_TRUE(operate(c, one_agent(C::MARK_AGENT_GONE, r.agent)));
    const auto u = c.updates(r.stream);
    ASSERT_EQ(u.size(), 1u);
    EXPECT_EQ(u[0].state, aware ? S::TASK_GONE_BY_OPERATOR : S::TASK_LOST);
    EXPECT_EQ(u[0].reason, aware ? R::REASON_AGENT_REMOVED_BY_OPERATOR : R::REASON_AGENT_REMOVED);
    EXPECT_TRUE(u[0].uuid.empty());
    EXPECT_EQ(c.take(r.stream, fb::EventType::FAILURE).size(), 1u);
    EXPECT_EQ(c.heard<fb::link::ShutdownT>(1).size(), 1u);
    EXPECT_TRUE(c.dropped.contains(1));
    EXPECT_EQ(c.core->task_count(), 0u);
    EXPECT_TRUE(operate(c, one_agent(C::MARK_AGENT_GONE, r.agent))) << "it is";
    // For ever, whoever leads.
    c.join(2, c.with_tasks(r.agent, {}));
    EXPECT_TRUE(c.heard<fb::link::RefusedT>(2).at(0).fatal);
    c.restart();
    c.join(3, c.with_tasks(r.agent, {}));
    EXPECT_TRUE(c.heard<fb::link::RefusedT>(3).at(0).fatal);
  }
}

TEST(Upkeep, TasksOfAnUnreachableAgentEndWhenItIsMarkedGone) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 0, true));
  c.alive.clear();
  c.advance(100s);
  ASSERT_EQ(c.updates(r.stream).at(0).state, S::TASK_UNREACHABLE);
  ASSERT_TRUE(operate(c, one_agent(C::MARK_AGENT_GONE, r.agent)));
  const auto u = c.updates(r.stream);
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].state, S::TASK_GONE_BY_OPERATOR);
  EXPECT_EQ(c.core->task_count(), 0u);
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_TRUE(c.heard<fb::link::RefusedT>(2).at(0).fatal);
}

TEST(Upkeep, GraceOfLessThanNothingIsRefused) {
  Cluster c;
  const auto r = c.run_one();
  for (const std::int64_t seconds : {std::int64_t{-1}, std::int64_t{-18'446'744'072}, std::numeric_limits<std::int64_t>::min()}) {
    const auto s = operate(c, drain_call(r.agent, seconds));
    ASSERT_FALSE(s) << seconds;
    EXPECT_EQ(s.error().message, "'max_grace_period' must be non-negative");
  }
  EXPECT_TRUE(c.heard<Drain>(1).empty());
}

TEST(Upkeep, UnknownAgentsAreNamed) {
  Cluster c;
  for (const auto type : {C::DEACTIVATE_AGENT, C::REACTIVATE_AGENT}) {
    const Status s = operate(c, one_agent(type, "nope"));
    ASSERT_FALSE(s);
    EXPECT_EQ(s.error().code, Code::invalid_argument);
    EXPECT_EQ(s.error().message, "Unknown agent");
  }
  EXPECT_EQ(operate(c, drain_call("nope")).error().message, "Unknown agent");
  const Status s = operate(c, one_agent(C::MARK_AGENT_GONE, "nope"));
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::not_found);
  EXPECT_EQ(s.error().message, "Agent 'nope' not found");
}

}  // namespace
}  // namespace gantry::master
