// Custom executors in the core: start, delivery, updates, ends, restarts.
#include "rig.hpp"

#include <gantry/executor_generated.h>

namespace gantry::agent {
namespace {

using namespace std::chrono_literals;
using fb::Reason;
using fb::TaskState;
namespace ex = fb::executor;

fb::TaskInfoT task_of(const std::string& id, const std::string& executor = "e") {
  fb::TaskInfoT t;
  t.name = id;
  t.task_id = id;
  t.executor = std::make_unique<fb::ExecutorInfoT>();
  t.executor->executor_id = executor;
  t.executor->command = std::make_unique<fb::CommandInfoT>();
  t.executor->command->value = "run";
  const auto cpus = [](double n) {
    auto r = std::make_unique<fb::ResourceT>();
    r->name = "cpus";
    r->scalar = n;
    return r;
  };
  t.executor->resources.push_back(cpus(0.5));
  t.resources.push_back(cpus(1));
  return t;
}

std::vector<std::uint8_t> uuid_of(std::uint8_t n) { return std::vector<std::uint8_t>(16, n); }

fb::TaskStatusT status_of(const std::string& task, TaskState state, std::uint8_t uuid) {
  fb::TaskStatusT s;
  s.task_id = task;
  s.state = state;
  s.source = fb::Source::SOURCE_EXECUTOR;
  s.uuid = uuid_of(uuid);
  return s;
}

class ExecutorsTest : public ::testing::Test {
 protected:
  ExecutorsTest() { join(); }
  void join(std::vector<RecoveredContainer> recovered = {}) {
    rig.step(event::Serve{true, {{"ID", "${executor_id} of ${framework_id}"}, {"TOKEN", "${token}"}, {"AWAY", "${recovery_timeout}"},
                                 {"CHECKPOINT", "${checkpoint}"}, {"GRACE", "${grace}"}}});
    rig.join(std::move(recovered));
  }
  void run(const fb::TaskInfoT& task, bool checkpoint = true, flatbuffers::Optional<bool> launch_executor = {}) {
    auto f = make_framework("F", {fb::FrameworkCapability::PARTITION_AWARE});
    f.checkpoint = checkpoint;
    auto frame = run_task(task, f);
    frame.launch_executor = launch_executor;
    rig.frame(std::move(frame));
    if (const auto* launch = rig.find<effect::Launch>()) container = launch->spec.container_id;
  }
  void launched() { rig.step(event::Launched{container, Identity{42, 41, 7}}); }
  Buffer call(ex::CallT c) {
    c.framework_id = "F";
    c.executor_id = "e";
    return pack(c);
  }
  std::string token() const {
    const auto& all = rig.core->executors();
    return all.empty() ? std::string() : all.begin()->second->token;
  }
  void subscribe(std::uint64_t stream = 1, ex::SubscribeT body = {}) {
    ex::CallT c;
    c.type = ex::CallType::SUBSCRIBE;
    c.subscribe = std::make_unique<ex::SubscribeT>(std::move(body));
    rig.step(event::ExecutorSubscribe{stream, token(), call(std::move(c))});
  }
  void update(fb::TaskStatusT s, std::uint64_t request = 9) {
    ex::CallT c;
    c.type = ex::CallType::UPDATE;
    c.update = std::make_unique<ex::UpdateT>();
    c.update->status = std::make_unique<fb::TaskStatusT>(std::move(s));
    rig.step(event::ExecutorCall{request, token(), call(std::move(c))});
  }
  // What executors heard in the last step, as words.
  std::vector<std::string> heard() const {
    std::vector<std::string> out;
    for (const Effect& e : rig.effects) {
      const auto* to = std::get_if<effect::ToExecutor>(&e);
      if (!to) continue;
      const auto* event = view<ex::Event>(to->event);
      std::string word = ex::EnumNameEventType(event->type());
      if (event->launch()) word += " " + std::string(text(event->launch()->task()->task_id()));
      if (event->kill()) word += " " + std::string(text(event->kill()->task_id()));
      if (event->acknowledged()) word += " " + std::string(text(event->acknowledged()->task_id()));
      out.push_back(std::move(word));
    }
    return out;
  }
  std::optional<int> exited() const {
    for (const Effect& e : rig.effects) {
      const auto* send = std::get_if<effect::Send>(&e);
      const auto* frame = send ? view<fb::link::ToMaster>(send->frame) : nullptr;
      if (frame && frame->body_as_ExecutorExited()) return frame->body_as_ExecutorExited()->status();
    }
    return std::nullopt;
  }
  // Started, subscribed, t1 delivered and RUNNING acknowledged by the framework.
  void running() {
    run(task_of("t1"));
    launched();
    subscribe();
    update(status_of("t1", TaskState::TASK_RUNNING, 1));
    rig.ack("t1");
  }

  Rig rig;
  std::string container;
};

using Words = std::vector<std::string>;

TEST_F(ExecutorsTest, StartsOnceAndDeliversInOrder) {
  run(task_of("t1"));
  const auto* launch = rig.find<effect::Launch>();
  ASSERT_TRUE(launch);
  EXPECT_TRUE(launch->spec.executor);
  EXPECT_EQ(launch->spec.task->command->value, "run");
  EXPECT_EQ(*launch->spec.task->resources.at(0)->scalar, 1.5);
  EXPECT_EQ(launch->spec.sandbox, "/w/slaves/A/frameworks/F/executors/e/runs/" + container);
  std::map<std::string, std::string> env(launch->spec.environment.begin(), launch->spec.environment.end());
  EXPECT_EQ(env["ID"], "e of F");
  EXPECT_EQ(env["AWAY"], "15mins");
  EXPECT_EQ(env["CHECKPOINT"], "1");
  EXPECT_EQ(env["GRACE"], "5secs");
  EXPECT_EQ(env["TOKEN"].size(), 64u);
  EXPECT_EQ(rig.steps(), (Words{"append FRAMEWORK", "append INTENT", "append INTENT", "launch"}));
  EXPECT_TRUE(rig.updates().empty());  // STAGING is not told
  run(task_of("t2"));
  EXPECT_FALSE(rig.find<effect::Launch>());
  launched();
  EXPECT_EQ(rig.steps(), (Words{"append STARTED"}));
  subscribe();
  EXPECT_EQ(heard(), (Words{"SUBSCRIBED"}));
  const auto* resize = rig.find<effect::Resize>();
  ASSERT_TRUE(resize);
  EXPECT_EQ(*resize->resources.at(0)->scalar, 2.5);
  rig.step(event::Resized{container});
  EXPECT_EQ(heard(), (Words{"LAUNCH t1", "LAUNCH t2"}));
}

TEST_F(ExecutorsTest, WithoutResourcesToChangeDeliveryFollowsAtOnce) {
  run(task_of("t1"));
  launched();
  subscribe();
  EXPECT_EQ(heard(), (Words{"SUBSCRIBED", "LAUNCH t1"}));
}

TEST_F(ExecutorsTest, UpdatesAreRecordedThenAcknowledgedOnce) {
  run(task_of("t1"));
  launched();
  subscribe();
  update(status_of("t1", TaskState::TASK_RUNNING, 1));
  EXPECT_EQ(heard(), (Words{"ACKNOWLEDGED t1"}));
  const auto status = rig.status();
  EXPECT_EQ(status.uuid, uuid_of(1));
  EXPECT_EQ(status.agent_id, "A");
  EXPECT_EQ(status.container_status->container_id, container);
  EXPECT_EQ(*status.container_status->executor_pid, 42u);
  const auto* answer = rig.find<effect::AnswerExecutor>();
  ASSERT_TRUE(answer && answer->status);
  EXPECT_EQ(rig.steps().front(), "append UPDATE");
  update(status_of("t1", TaskState::TASK_RUNNING, 1));
  EXPECT_EQ(heard(), (Words{"ACKNOWLEDGED t1"}));
  EXPECT_TRUE(rig.updates().empty());
  rig.ack("t1");
  update(status_of("t1", TaskState::TASK_FINISHED, 2));
  EXPECT_TRUE(rig.find<effect::Resize>());
  rig.ack("t1");
  EXPECT_EQ(rig.core->find("F", "t1"), nullptr);
  EXPECT_EQ(rig.core->executors().size(), 1u);  // it stays for more
  EXPECT_FALSE(rig.find<effect::Release>());
}

TEST_F(ExecutorsTest, WhoIsNotSubscribedOrKnownIsRefused) {
  run(task_of("t1"));
  launched();
  update(status_of("t1", TaskState::TASK_RUNNING, 1));
  ASSERT_FALSE(rig.find<effect::AnswerExecutor>()->status);
  EXPECT_EQ(rig.find<effect::AnswerExecutor>()->status.error().message, "Executor is not subscribed");
  ex::CallT c;
  c.type = ex::CallType::SUBSCRIBE;
  c.subscribe = std::make_unique<ex::SubscribeT>();
  rig.step(event::ExecutorSubscribe{1, "wrong", call(std::move(c))});
  EXPECT_EQ(rig.find<effect::EndExecutor>()->why.error().code, Code::unauthenticated);
}

TEST_F(ExecutorsTest, KillsGoToTheExecutor) {
  running();
  rig.kill("t1", 3s);
  EXPECT_EQ(heard(), (Words{"KILL t1"}));
  EXPECT_FALSE(rig.find<effect::Kill>());
  update(status_of("t1", TaskState::TASK_KILLED, 2));
  EXPECT_EQ(rig.status().state, TaskState::TASK_KILLED);
}

TEST_F(ExecutorsTest, KilledBeforeDeliveryTheExecutorGoesToo) {
  run(task_of("t1"));
  launched();
  rig.kill("t1");
  const auto status = rig.status();
  EXPECT_EQ(status.state, TaskState::TASK_KILLED);
  EXPECT_EQ(*status.reason, Reason::REASON_TASK_KILLED_DURING_LAUNCH);
  EXPECT_TRUE(rig.find<effect::Kill>());
}

TEST_F(ExecutorsTest, ItsDeathFailsItsTasksAndIsTold) {
  running();
  run(task_of("t2"));
  rig.step(event::Resized{container});
  ExitInfo exit;
  exit.wait_status = 7 << 8;
  rig.step(event::Exited{container, exit});
  const auto updates = rig.updates();
  ASSERT_EQ(updates.size(), 2u);
  for (const auto& u : updates) {
    EXPECT_EQ(u.status->state, TaskState::TASK_FAILED);
    EXPECT_EQ(*u.status->reason, Reason::REASON_EXECUTOR_TERMINATED);
  }
  EXPECT_EQ(exited(), 7 << 8);
  EXPECT_TRUE(rig.find<effect::EndExecutor>());
  EXPECT_TRUE(rig.find<effect::Release>());
  EXPECT_TRUE(rig.core->executors().empty());
}

// The master hears of the end while a task is on its way that counts on the executor: nobody would be charged for another one.
TEST_F(ExecutorsTest, ATaskThatCrossesTheEndOfItsExecutorIsDropped) {
  running();
  rig.step(event::Exited{container, Rig::exit_code(0)});
  EXPECT_EQ(exited(), 0);
  run(task_of("t2"), true, false);
  EXPECT_FALSE(rig.find<effect::Launch>());
  EXPECT_TRUE(rig.core->executors().empty());
  EXPECT_EQ(rig.status().state, TaskState::TASK_DROPPED);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_EXECUTOR_TERMINATED);
  EXPECT_FALSE(exited()) << "told already; a second word would end the books of the next one";
  run(task_of("t3"), true, true);
  EXPECT_TRUE(rig.find<effect::Launch>());
  EXPECT_EQ(rig.core->executors().size(), 1u);
}

TEST_F(ExecutorsTest, AnOlderMasterDoesNotSayWhetherOneIsNeeded) {
  running();
  rig.step(event::Exited{container, Rig::exit_code(0)});
  run(task_of("t2"));
  EXPECT_TRUE(rig.find<effect::Launch>());
}

// What the master has booked and will not be, it is told of; what it counts on is told of when it ends.
TEST_F(ExecutorsTest, ARefusedTaskGivesBackTheExecutorBookedWithIt) {
  rig.frame(fb::link::DrainT{});
  run(task_of("t1"), true, true);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_AGENT_DRAINING);
  EXPECT_EQ(exited(), -1);
  run(task_of("t2"), true, false);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_AGENT_DRAINING);
  EXPECT_FALSE(exited());
}

TEST_F(ExecutorsTest, OneThatDoesNotSubscribeIsKilled) {
  run(task_of("t1"));
  launched();
  rig.advance(59s);
  EXPECT_FALSE(rig.find<effect::Kill>());
  rig.advance(2s);
  EXPECT_TRUE(rig.find<effect::Kill>());
  rig.step(event::Exited{container, Rig::signalled(9)});
  EXPECT_EQ(*rig.status().reason, Reason::REASON_EXECUTOR_REGISTRATION_TIMEOUT);
}

TEST_F(ExecutorsTest, ShutdownIsPoliteForAWhile) {
  running();
  fb::link::ShutdownExecutorT s;
  s.framework_id = "F";
  s.executor_id = "e";
  rig.frame(s);
  EXPECT_EQ(heard(), (Words{"SHUTDOWN"}));
  EXPECT_FALSE(rig.find<effect::Kill>());
  run(task_of("t2"));
  EXPECT_EQ(rig.status().state, TaskState::TASK_DROPPED);
  EXPECT_EQ(*rig.status().reason, Reason::REASON_EXECUTOR_TERMINATED);
  rig.advance(6s);
  EXPECT_TRUE(rig.find<effect::Kill>());
}

TEST_F(ExecutorsTest, ARemovedFrameworkTakesItsExecutorsAlong) {
  running();
  fb::link::RemoveFrameworkT r;
  r.framework_id = "F";
  rig.frame(r);
  EXPECT_EQ(heard(), (Words{"SHUTDOWN"}));
  rig.step(event::Exited{container, Rig::exit_code(0)});
  EXPECT_EQ(rig.status().state, TaskState::TASK_KILLED);
  EXPECT_TRUE(rig.core->tasks().empty());
  EXPECT_TRUE(rig.core->executors().empty());
}

TEST_F(ExecutorsTest, AFailedChangeOfResourcesEndsIt) {
  running();
  run(task_of("t2"));
  rig.step(event::Resized{container, false, "no room"});
  EXPECT_TRUE(rig.find<effect::Kill>());
  rig.step(event::Exited{container, Rig::signalled(9)});
  for (const auto& u : rig.updates()) {
    EXPECT_EQ(u.status->state, TaskState::TASK_GONE);
    EXPECT_EQ(*u.status->reason, Reason::REASON_CONTAINER_UPDATE_FAILED);
  }
}

TEST_F(ExecutorsTest, WithoutAGatewayNoneIsStarted) {
  rig.step(event::Serve{});
  run(task_of("t1"));
  EXPECT_EQ(rig.status().state, TaskState::TASK_FAILED);
  EXPECT_EQ(exited(), -1);
}

TEST_F(ExecutorsTest, MessagesBothWays) {
  running();
  fb::link::MasterMessageT m;
  m.framework_id = "F";
  m.executor_id = "e";
  m.data = {1, 2};
  rig.frame(m);
  EXPECT_EQ(heard(), (Words{"MESSAGE"}));
  ex::CallT c;
  c.type = ex::CallType::MESSAGE;
  c.message = std::make_unique<ex::SendMessageT>();
  c.message->data = {3};
  rig.step(event::ExecutorCall{5, token(), call(std::move(c))});
  EXPECT_EQ(rig.sent(), (Words{"send AgentMessage"}));
}

TEST_F(ExecutorsTest, ARestartOfTheAgentLosesNothing) {
  running();
  run(task_of("t2"));
  rig.step(event::Resized{container});
  ASSERT_EQ(heard(), (Words{"LAUNCH t2"}));
  run(task_of("t3"));
  rig.step(event::Resized{container});  // delivered, but the executor never saw it
  const std::string before = token();
  rig.restart();
  rig.step(event::Serve{true, {{"TOKEN", "${token}"}}});
  rig.step(event::Start{});
  ASSERT_EQ(rig.find<effect::Recover>()->known.size(), 1u);
  RecoveredContainer alive;
  alive.container_id = container;
  alive.fate = RecoveredContainer::Fate::running;
  rig.step(event::Recovered{{alive}});
  EXPECT_EQ(token(), before);
  rig.step(event::Leader{"m:1"});
  rig.link_up();
  EXPECT_EQ(rig.core->find("F", "t1")->status.state, TaskState::TASK_RUNNING);
  // It comes back with an update that nobody acknowledged, and a task of which it has said nothing.
  ex::SubscribeT body;
  body.unacknowledged_tasks.push_back(std::make_unique<fb::TaskInfoT>(task_of("t2")));
  body.unacknowledged_updates.push_back(std::make_unique<ex::UpdateT>());
  body.unacknowledged_updates.back()->status = std::make_unique<fb::TaskStatusT>(status_of("t1", TaskState::TASK_FINISHED, 3));
  subscribe(2, std::move(body));
  EXPECT_EQ(heard(), (Words{"SUBSCRIBED", "ACKNOWLEDGED t1"}));
  const auto updates = rig.updates();
  ASSERT_EQ(updates.size(), 2u);
  EXPECT_EQ(updates[0].status->state, TaskState::TASK_FINISHED);
  EXPECT_EQ(updates[1].status->task_id, "t3");
  EXPECT_EQ(updates[1].status->state, TaskState::TASK_DROPPED);
  EXPECT_EQ(*updates[1].status->reason, Reason::REASON_AGENT_RESTARTED);
  EXPECT_EQ(rig.core->executors().begin()->second->tasks.size(), 1u);
}

TEST_F(ExecutorsTest, QueuedTasksSurviveARestart) {
  run(task_of("t1"));
  launched();
  rig.restart();
  RecoveredContainer alive;
  alive.container_id = container;
  alive.fate = RecoveredContainer::Fate::running;
  join({alive});
  subscribe();
  EXPECT_EQ(heard(), (Words{"SUBSCRIBED"}));
  rig.step(event::Resized{container});
  EXPECT_EQ(heard(), (Words{"LAUNCH t1"}));
}

TEST_F(ExecutorsTest, OneThatDoesNotComeBackIsKilled) {
  running();
  rig.restart();
  RecoveredContainer alive;
  alive.container_id = container;
  alive.fate = RecoveredContainer::Fate::running;
  join({alive});
  rig.advance(16s);
  EXPECT_TRUE(rig.find<effect::Kill>());
  rig.step(event::Exited{container, Rig::signalled(9)});
  EXPECT_EQ(*rig.status().reason, Reason::REASON_EXECUTOR_REREGISTRATION_TIMEOUT);
}

TEST_F(ExecutorsTest, WithoutCheckpointingARestartEndsIt) {
  run(task_of("t1"), false);
  launched();
  subscribe();
  rig.restart();
  rig.step(event::Start{});
  RecoveredContainer alive;
  alive.container_id = container;
  alive.fate = RecoveredContainer::Fate::running;
  rig.step(event::Recovered{{alive}});
  EXPECT_TRUE(rig.find<effect::Kill>());
}

TEST_F(ExecutorsTest, ACompactedJournalSaysTheSame) {
  running();
  run(task_of("t2"));
  rig.step(event::Resized{container});
  std::vector<Buffer> entries;
  for (const auto& e : rig.core->snapshot()) entries.push_back(pack(e));
  const auto again = rig.rebuild(entries);
  ASSERT_EQ(again->executors().size(), 1u);
  const auto& e = *again->executors().begin()->second;
  EXPECT_EQ(e.container_id, container);
  EXPECT_EQ(e.token, token());
  EXPECT_TRUE(e.known);
  EXPECT_EQ(e.identity->pid, 42);
  EXPECT_EQ(e.tasks.size(), 2u);
  EXPECT_EQ(again->find("F", "t1")->status.state, TaskState::TASK_RUNNING);
}

TEST_F(ExecutorsTest, TheMasterHearsOfThoseThatLive) {
  running();
  rig.step(event::LinkDown{"gone"});
  rig.advance(20s);
  rig.step(event::LinkUp{});
  fb::link::WelcomeT welcome;
  welcome.master_id = "M";
  rig.frame(welcome);
  const auto* send = rig.find<effect::Send>();
  ASSERT_TRUE(send);
  const auto* reg = view<fb::link::ToMaster>(send->frame)->body_as_Register();
  ASSERT_TRUE(reg && reg->executors());
  EXPECT_EQ(text(reg->executors()->Get(0)->info()->executor_id()), "e");
  // Its end while the registration is under way is told after it.
  rig.step(event::Exited{container, Rig::exit_code(0)});
  EXPECT_FALSE(exited());
  fb::link::RegisteredT registered;
  registered.agent_id = "A";
  registered.master_id = "M";
  rig.frame(registered);
  EXPECT_EQ(exited(), 0);
}

TEST_F(ExecutorsTest, AFullDiskStartsNothing) {
  run(task_of("t1"));
  rig.step(event::LaunchFailed{container, Reason::REASON_CONTAINER_LAUNCH_FAILED, "full", true});
  EXPECT_EQ(rig.status().state, TaskState::TASK_FAILED);
  EXPECT_TRUE(rig.core->executors().empty());
}

}  // namespace
}  // namespace gantry::agent
