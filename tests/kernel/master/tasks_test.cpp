// Updates, acknowledgements, kills, reconciliation; agents that vanish, return, leave.
#include "driver.hpp"

namespace gantry::master {
namespace {

TEST(Updates, ReachTheFrameworkAndAcksTheAgent) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  const auto agent = c.join(1);
  EXPECT_TRUE(c.call(Cluster::accept("f", {c.offers(s).at(0).id}, {Cluster::task("t", agent)})));
  c.update(1, "f", "t", S::TASK_RUNNING, 7);
  const auto u = c.updates(s);
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].state, S::TASK_RUNNING);
  EXPECT_EQ(u[0].uuid, Cluster::uuid(7));
  EXPECT_EQ(u[0].agent_id, agent);
  EXPECT_EQ(c.core->task_states()[static_cast<std::size_t>(S::TASK_RUNNING)], 1u);
  EXPECT_TRUE(c.acknowledge("f", agent, "t", 7));
  const auto ack = c.heard<fb::link::AckUpdateT>(1);
  ASSERT_EQ(ack.size(), 1u);
  EXPECT_EQ(ack[0].uuid, Cluster::uuid(7));
  EXPECT_EQ(ack[0].framework_id, "f");
  auto bad = Cluster::make_call("f", fb::CallType::ACKNOWLEDGE);
  bad.acknowledge = std::make_unique<fb::AcknowledgeT>();
  bad.acknowledge->uuid = {1, 2};
  EXPECT_EQ(c.call(std::move(bad)).error().code, Code::invalid_argument);
}

TEST(Updates, ResourcesReturnOnTheTerminalUpdateAndTheTaskOnItsAck) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  // RUNNING again is unacknowledged; behind it the task has already finished.
  c.advance(10s);
  c.offers(r.stream);
  c.update(1, "f", "t", S::TASK_RUNNING, 2, S::TASK_FINISHED);
  EXPECT_EQ(c.offers(r.stream).size(), 1u) << "released on the latest state";
  EXPECT_EQ(c.core->task_count(), 1u);
  EXPECT_TRUE(c.reconcile("f"));
  const auto u = c.updates(r.stream);
  EXPECT_EQ(u.at(u.size() - 1).state, S::TASK_RUNNING) << "what was told last, not the latest";
  EXPECT_TRUE(c.acknowledge("f", r.agent, "t", 2));
  EXPECT_EQ(c.core->task_count(), 1u);
  c.update(1, "f", "t", S::TASK_FINISHED, 3);
  c.update(1, "f", "t", S::TASK_FINISHED, 3);  // repeated: told again, counted once
  EXPECT_EQ(c.updates(r.stream).size(), 2u);
  EXPECT_EQ(c.core->counters().tasks_finished, 1u);
  EXPECT_TRUE(c.acknowledge("f", r.agent, "t", 9));
  EXPECT_EQ(c.core->task_count(), 1u) << "another uuid is not its acknowledgement";
  EXPECT_TRUE(c.acknowledge("f", r.agent, "t", 3));
  EXPECT_EQ(c.core->task_count(), 0u);
}

TEST(Updates, ARepetitionThatCrossedItsAcknowledgementIsNotToldAgain) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.update(1, "f", "t", S::TASK_RUNNING, 2);
  EXPECT_TRUE(c.acknowledge("f", r.agent, "t", 2));
  c.updates(r.stream);
  c.heard<fb::link::AckUpdateT>(1);
  c.update(1, "f", "t", S::TASK_RUNNING, 2, S::TASK_FINISHED);
  EXPECT_TRUE(c.updates(r.stream).empty());
  EXPECT_EQ(c.heard<fb::link::AckUpdateT>(1).size(), 1u);
  c.update(1, "f", "t", S::TASK_FINISHED, 3);
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
}

TEST(Updates, OfARemovedFrameworkAreAcknowledgedByTheMaster) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  EXPECT_TRUE(c.call(Cluster::make_call("f", fb::CallType::TEARDOWN)));
  c.heard<fb::link::RemoveFrameworkT>(1);
  c.update(1, "f", "t", S::TASK_KILLED, 4);
  EXPECT_EQ(c.heard<fb::link::AckUpdateT>(1).size(), 2u);  // the one of RUNNING, and this
}

TEST(Updates, HistoryIsBounded) {
  CoreOptions o;
  o.completed_tasks = 3;
  Cluster c(o);
  const auto s = c.subscribe(Cluster::info("f"));
  const auto agent = c.join(1);
  for (std::uint8_t i = 0; i < 10; ++i) {
    const std::string id = "t" + std::to_string(i);
    EXPECT_TRUE(c.call(Cluster::accept("f", {c.offers(s).at(0).id}, {Cluster::task(id, agent)}, 0)));
    c.offers(s);
    c.update(1, "f", id, S::TASK_FINISHED, i);
    EXPECT_TRUE(c.acknowledge("f", agent, id, i));
    EXPECT_TRUE(c.call(Cluster::make_call("f", fb::CallType::REVIVE)));
    // All is free again, perhaps in two offers: hand them back to be joined.
    for (auto& x : c.offers(s)) EXPECT_TRUE(c.decline("f", x.id, 1));
    c.offers(s);
    EXPECT_TRUE(c.call(Cluster::make_call("f", fb::CallType::REVIVE)));
  }
  fb::control::AskTasksT ask;
  ask.completed = true;
  fb::control::TasksT rows;
  Core::Cursor cursor;
  c.core->list_tasks(ask, cursor, 100, rows);
  ASSERT_EQ(rows.tasks.size(), 3u);
  EXPECT_EQ(rows.tasks[0]->info->task_id, "t7");
}

TEST(Kill, GoesToTheAgentWithItsGrace) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  auto k = Cluster::make_call("f", fb::CallType::KILL);
  k.kill = std::make_unique<fb::KillT>();
  k.kill->task_id = "t";
  k.kill->kill_policy = std::make_unique<fb::KillPolicyT>();
  k.kill->kill_policy->grace_period_ns = 9;
  EXPECT_TRUE(c.call(std::move(k)));
  const auto kills = c.heard<fb::link::KillTaskT>(1);
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0].grace_ns, 9);
  EXPECT_TRUE(c.kill("f", "t", "another-agent"));
  EXPECT_TRUE(c.heard<fb::link::KillTaskT>(1).empty());
  EXPECT_TRUE(c.updates(r.stream).empty());
  EXPECT_TRUE(c.kill("f", "unknown"));
  const auto u = c.updates(r.stream);
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].state, S::TASK_LOST);
  EXPECT_EQ(u[0].reason, R::REASON_RECONCILIATION);
}

TEST(Kill, IsRepeatedWhenTheAgentReturns) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.apply(LinkClosed{1});
  EXPECT_TRUE(c.kill("f", "t"));
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(c.heard<fb::link::KillTaskT>(2).size(), 1u);
}

TEST(Kill, ByTheOperator) {
  Cluster c;
  c.run_one(Cluster::info("f"));
  c.apply(OperatorKill{1001, "", "t"});
  EXPECT_TRUE(c.answers.at(1001));
  EXPECT_EQ(c.heard<fb::link::KillTaskT>(1).size(), 1u);
  c.apply(OperatorKill{1002, "f", "nope"});
  EXPECT_EQ(c.answers.at(1002).error().code, Code::not_found);
}

struct ReconcileCase {
  bool aware;
  S gone, unreachable, unknown;
};
class Reconcile : public testing::TestWithParam<ReconcileCase> {};
INSTANTIATE_TEST_SUITE_P(Frameworks, Reconcile,
                         testing::Values(ReconcileCase{false, S::TASK_LOST, S::TASK_LOST, S::TASK_LOST},
                                         ReconcileCase{true, S::TASK_GONE, S::TASK_UNREACHABLE, S::TASK_UNKNOWN}));

TEST_P(Reconcile, AnswersAsTheTableSays) {
  Cluster c;
  const auto p = GetParam();
  const auto r = c.run_one(Cluster::info("f", 0, p.aware));
  const auto second = c.join(2);
  c.advance(100s);  // 2 never answers a ping
  c.take(r.stream, fb::EventType::FAILURE);
  c.updates(r.stream);
  EXPECT_TRUE(c.reconcile("f", {{"t", ""}, {"x", r.agent}, {"x", second}, {"x", "nobody"}, {"x", ""}}));
  const auto u = c.updates(r.stream);
  ASSERT_EQ(u.size(), 5u);
  EXPECT_EQ(u[0].state, S::TASK_RUNNING);
  EXPECT_EQ(u[0].healthy, true);
  EXPECT_EQ(u[1].state, p.gone);
  EXPECT_EQ(u[2].state, p.unreachable);
  EXPECT_EQ(u[2].unreachable_time_ns.has_value(), p.aware);
  EXPECT_EQ(u[3].state, p.unknown);
  EXPECT_EQ(u[4].state, p.unknown);
  for (const auto& x : u) {
    EXPECT_EQ(x.source, fb::Source::SOURCE_MASTER);
    EXPECT_EQ(x.reason, R::REASON_RECONCILIATION);
    EXPECT_TRUE(x.uuid.empty());
  }
  EXPECT_TRUE(c.reconcile("f"));
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
}

TEST(Reconciliation, IsSilentWhileAgentsMayStillReturn) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 1000));
  c.restart();
  const auto s = c.subscribe(Cluster::info("f", 1000));
  EXPECT_TRUE(c.reconcile("f", {{"t", ""}, {"t", r.agent}}));
  EXPECT_TRUE(c.updates(s).empty());
  EXPECT_TRUE(c.reconcile("f", {{"t", "nobody"}}));
  EXPECT_EQ(c.updates(s).size(), 1u) << "that agent is not one of them";
  c.advance(601s);
  c.updates(s);
  EXPECT_TRUE(c.reconcile("f", {{"t", ""}, {"t", r.agent}}));
  const auto u = c.updates(s);
  ASSERT_EQ(u.size(), 2u);
  EXPECT_EQ(u[1].state, S::TASK_LOST);
  EXPECT_EQ(c.take(s, fb::EventType::FAILURE).size(), 1u);
}

TEST(AgentLoss, IsNoticedAfter75SecondsStoredThenTold) {
  for (const bool aware : {false, true}) {
    Cluster c;
    const auto r = c.run_one(Cluster::info("f", 0, aware));
    c.alive.clear();
    c.hold_store = true;
    c.advance(74s);
    EXPECT_TRUE(c.waiting.empty());
    c.advance(17s);
    EXPECT_EQ(c.waiting.size(), 1u);
    EXPECT_TRUE(c.updates(r.stream).empty()) << "nothing is said before it is stored";
    c.hold_store = false;
    c.pump();
    const auto u = c.updates(r.stream);
    ASSERT_EQ(u.size(), 1u);
    EXPECT_EQ(u[0].state, aware ? S::TASK_UNREACHABLE : S::TASK_LOST);
    EXPECT_EQ(u[0].reason, R::REASON_AGENT_REMOVED);
    EXPECT_EQ(u[0].unreachable_time_ns.has_value(), aware);
    const auto f = c.take(r.stream, fb::EventType::FAILURE);
    ASSERT_EQ(f.size(), 1u);
    EXPECT_EQ(f[0].failure->agent_id, r.agent);
    EXPECT_EQ(c.core->agent_count(), 0u);
    EXPECT_TRUE(c.mirror.agents.empty());

    // Its task id stays taken; it returns and the task runs on.
    c.alive.insert(3);
    c.join(3, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
    EXPECT_EQ(c.registered_as(3), r.agent);
    const auto back = c.updates(r.stream);
    ASSERT_EQ(back.size(), 1u);
    EXPECT_EQ(back[0].state, S::TASK_RUNNING);
    EXPECT_EQ(back[0].reason, R::REASON_AGENT_REREGISTERED);
    EXPECT_TRUE(c.heard<fb::link::KillTaskT>(3).empty());
    EXPECT_EQ(resource::from_wire(c.offers(r.stream).at(0).resources)->cpus(), resource::Scalar::of(3));
    EXPECT_EQ(c.core->task_states()[static_cast<std::size_t>(S::TASK_RUNNING)], 1u);
  }
}

TEST(AgentLoss, AnswersKeepItAlive) {
  Cluster c;
  c.run_one();
  c.advance(1000s);
  EXPECT_EQ(c.core->agent_count(), 1u);
}

TEST(AgentLoss, IsTriedAgainWhenItCannotBeStored) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.alive.clear();
  c.fail_store = true;
  c.advance(95s);
  EXPECT_TRUE(c.updates(r.stream).empty());
  c.fail_store = false;
  c.advance(2s);
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
}

TEST(AgentLoss, ConnectionAloneCostsCheckpointingFrameworksNothing) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.apply(LinkClosed{1});
  EXPECT_TRUE(c.updates(r.stream).empty());
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_TRUE(c.updates(r.stream).empty());
  EXPECT_EQ(c.core->task_count(), 1u);
}

// An agent that has lost its mind: a task named twice is charged once, a state that is none is not taken.
TEST(AgentReturns, WithNonsense) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.apply(LinkClosed{1});
  auto ended = Cluster::known("f", "t2", r.agent, S::TASK_FINISHED);
  auto wild = Cluster::known("f", "t3", r.agent, static_cast<S>(107));
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING),
                                   Cluster::known("f", "t2", r.agent, S::TASK_RUNNING), std::move(ended), std::move(wild)}));
  EXPECT_EQ(c.core->task_count(), 2u);
  EXPECT_EQ(c.core->counters().invalid_messages, 2u);
  EXPECT_TRUE(c.core->check());
  c.updates(r.stream);
  c.update(2, "f", "t", static_cast<S>(-7), 9);
  EXPECT_TRUE(c.updates(r.stream).empty());
  EXPECT_EQ(c.core->counters().invalid_messages, 3u);
}

TEST(AgentLoss, ConnectionCostsOthersTheirTasks) {
  Cluster c;
  auto info = Cluster::info("f");
  info.checkpoint = false;
  const auto r = c.run_one(info);
  c.apply(LinkClosed{1});
  const auto u = c.updates(r.stream);
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].state, S::TASK_LOST);
  EXPECT_EQ(u[0].reason, R::REASON_AGENT_DISCONNECTED);
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(c.heard<fb::link::KillTaskT>(2).size(), 1u);
  EXPECT_TRUE(c.updates(r.stream).empty());
  c.update(2, "f", "t", S::TASK_KILLED, 9);
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
}

TEST(AgentReturns, WithoutATaskWhoseLaunchWasLost) {
  for (const bool aware : {false, true}) {
    Cluster c;
    const auto s = c.subscribe(Cluster::info("f", 0, aware));
    const auto agent = c.join(1);
    EXPECT_TRUE(c.call(Cluster::accept("f", {c.offers(s).at(0).id}, {Cluster::task("t", agent)})));
    c.apply(LinkClosed{1});
    c.join(2, Cluster::registration("cpus:4;mem:4096", agent));
    const auto u = c.updates(s);
    ASSERT_EQ(u.size(), 1u);
    EXPECT_EQ(u[0].state, aware ? S::TASK_DROPPED : S::TASK_LOST);
    EXPECT_EQ(c.core->task_count(), 0u);
  }
}

TEST(AgentReturns, WithATaskThatEndedMeanwhile) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.advance(6s);  // past the filter of the leftovers
  c.offers(r.stream);
  c.apply(LinkClosed{1});
  auto k = Cluster::known("f", "t", r.agent, S::TASK_FINISHED);
  k.status_uuid = Cluster::uuid(5);
  c.join(2, c.with_tasks(r.agent, {std::move(k)}));
  EXPECT_EQ(resource::from_wire(c.offers(r.stream).at(0).resources)->cpus(), resource::Scalar::of(4));
  c.update(2, "f", "t", S::TASK_FINISHED, 5);
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
  EXPECT_TRUE(c.acknowledge("f", r.agent, "t", 5));
  EXPECT_EQ(c.core->task_count(), 0u);
}

TEST(AgentReturns, WithOtherResourcesWhichAreStoredFirst) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.advance(6s);
  c.offers(r.stream);
  c.hold_store = true;
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}, "cpus:8;mem:4096"));
  EXPECT_EQ(c.registered_as(2), "");
  EXPECT_TRUE(c.dropped.contains(1));
  c.hold_store = false;
  c.pump();
  EXPECT_EQ(c.registered_as(2), r.agent);
  EXPECT_EQ(resource::from_wire(c.offers(r.stream).at(0).resources)->cpus(), resource::Scalar::of(7));
  // Less than what runs there: accepted, but nothing of it is offered.
  c.join(3, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}, "cpus:0.5;mem:50"));
  EXPECT_EQ(c.registered_as(3), r.agent);
  c.take(r.stream, fb::EventType::RESCIND);
  EXPECT_TRUE(c.offers(r.stream).empty());
  c.update(3, "f", "t", S::TASK_FINISHED, 5);
}

TEST(AgentReturns, WhatItSaysBeforeItsRegistrationIsStoredDoesNotOvertakeIt) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  c.hold_store = true;
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}, "cpus:8;mem:4096"));
  c.update(2, "f", "t", S::TASK_FINISHED, 5);
  c.agent(2, fb::link::PongT{});
  EXPECT_TRUE(c.updates(r.stream).empty());
  EXPECT_TRUE(c.offers(r.stream).empty()) << "a pong must not open books that are about to change";
  c.hold_store = false;
  c.pump();
  EXPECT_EQ(c.core->task_states()[static_cast<std::size_t>(S::TASK_RUNNING)], 1u);
  c.update(2, "f", "t", S::TASK_FINISHED, 5);  // repeated, as agents do
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
}

TEST(AgentReturns, BringsFrameworksTheMasterHasForgotten) {
  Cluster c;
  c.join(1, c.with_tasks("old-S9", {Cluster::known("old-0001", "t", "old-S9", S::TASK_RUNNING)}));
  EXPECT_EQ(c.registered_as(1), "old-S9");
  EXPECT_EQ(c.core->task_count(), 1u);
  EXPECT_TRUE(c.records.contains("framework/old-0001"));
  EXPECT_EQ(c.id_of(c.subscribe(Cluster::info("old-0001"))), "old-0001");
}

TEST(AgentReturns, AfterTheMastersPatienceItIsStillWelcome) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 10000));
  c.restart();
  c.advance(601s);
  EXPECT_EQ(c.core->recovering_count(), 0u);
  const auto s = c.subscribe(Cluster::info("f", 10000));
  c.join(4, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(c.registered_as(4), r.agent);
  EXPECT_EQ(c.updates(s).at(0).reason, R::REASON_AGENT_REREGISTERED);
}

TEST(Agents, AreAnsweredOnlyOnceStored) {
  Cluster c;
  c.hold_store = true;
  EXPECT_EQ(c.join(1), "");
  c.agent(1, Cluster::registration("cpus:4;mem:4096"));  // asks again: still one agent
  c.hold_store = false;
  c.pump();
  EXPECT_EQ(c.registered_as(1), "run-S0");
  EXPECT_EQ(c.core->agent_count(), 1u);
  c.agent(1, Cluster::registration("cpus:4;mem:4096"));  // and once more, the answers crossed
  EXPECT_EQ(c.core->agent_count(), 1u);
  c.fail_store = true;
  EXPECT_EQ(c.join(2), "");
  EXPECT_TRUE(c.dropped.contains(2));
  EXPECT_EQ(c.core->agent_count(), 1u);
}

TEST(Agents, GoneOnesAreRefusedForGood) {
  Cluster c;
  const auto agent = c.join(1);
  fb::record::AgentRecordT gone;
  gone.info = std::make_unique<fb::AgentInfoT>();
  gone.info->id = agent;
  gone.fate = fb::record::AgentFate::GONE;
  c.records.insert_or_assign("agent/" + agent, pack(gone));
  c.restart();
  c.join(2, Cluster::registration("cpus:4;mem:4096", agent));
  const auto refused = c.heard<fb::link::RefusedT>(2);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_TRUE(refused[0].fatal);
  EXPECT_TRUE(c.dropped.contains(2));
  c.subscribe(Cluster::info("f", 0, true));
  EXPECT_TRUE(c.reconcile("f", {{"x", agent}}));
  EXPECT_EQ(c.updates(c.last_stream).at(0).state, S::TASK_GONE_BY_OPERATOR);
}

TEST(Agents, ThatSayGoodbyeTakeTheirTasksAndRecordWithThem) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 0, true));
  c.agent(1, fb::link::UnregisterT{});
  EXPECT_EQ(c.updates(r.stream).at(0).state, S::TASK_GONE);
  EXPECT_FALSE(c.records.contains("agent/" + r.agent));
  EXPECT_EQ(c.core->agent_count(), 0u);
  EXPECT_EQ(c.join(7), "run-S1");
  EXPECT_EQ(c.offers(r.stream).size(), 1u);
}

TEST(Agents, OutsideBytesHarmNobody) {
  Cluster c;
  c.run_one();
  const std::vector<std::uint8_t> junk(64, 0x81);
  c.apply(AgentFrame{50, junk});
  EXPECT_TRUE(c.dropped.contains(50));
  c.agent(51, fb::link::PongT{});
  EXPECT_TRUE(c.dropped.contains(51));
  c.agent(52, fb::link::RegisterT{});
  EXPECT_FALSE(c.heard<fb::link::RefusedT>(52).at(0).fatal)
      << "fatal ends an agent's tasks; a bad message is no reason";
  auto bad = Cluster::registration("cpus:1");
  bad.info->resources[0]->scalar = -1;
  c.agent(53, std::move(bad));
  EXPECT_FALSE(c.heard<fb::link::RefusedT>(53).at(0).fatal);
  fb::link::StatusUpdateT u;
  c.agent(1, std::move(u));
  c.update(1, "nobody", "t", S::TASK_RUNNING, 1);
}

TEST(Agents, MessagesPassThrough) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  auto m = Cluster::make_call("f", fb::CallType::MESSAGE);
  m.message = std::make_unique<fb::SendMessageT>();
  m.message->agent_id = r.agent;
  m.message->executor_id = "e";
  m.message->data = {1, 2, 3};
  EXPECT_TRUE(c.call(std::move(m)));
  EXPECT_EQ(c.heard<fb::link::MasterMessageT>(1).at(0).data, (std::vector<std::uint8_t>{1, 2, 3}));
  fb::link::AgentMessageT up;
  up.framework_id = "f";
  up.executor_id = "e";
  up.data = {4};
  c.agent(1, std::move(up));
  EXPECT_EQ(c.take(r.stream, fb::EventType::MESSAGE).at(0).message->data, (std::vector<std::uint8_t>{4}));
  fb::link::ExecutorExitedT x;
  x.framework_id = "f";
  x.executor_id = "e";
  x.status = 256;
  c.agent(1, std::move(x));
  EXPECT_EQ(c.take(r.stream, fb::EventType::FAILURE).at(0).failure->status, 256);
}

}  // namespace
}  // namespace gantry::master
