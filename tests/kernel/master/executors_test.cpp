// Custom executors in the master's books: booked with their first task, free when they end, told and recovered.
#include "driver.hpp"

namespace gantry::master {
namespace {

struct ExecutorsTest : ::testing::Test {
  Cluster c;
  std::string agent;
  StreamId stream = 0;

  void SetUp() override {
    agent = c.join(1);
    stream = c.subscribe(Cluster::info("f", 3600, true));
  }
  fb::TaskInfoT task(const std::string& id, const std::string& executor = "e", std::string_view resources = "cpus:1;mem:100",
                     std::string_view own = "cpus:0.5;mem:50") {
    auto t = Cluster::task(id, agent, resources);
    t.command.reset();
    t.executor = std::make_unique<fb::ExecutorInfoT>();
    t.executor->executor_id = executor;
    t.executor->resources = wire(own);
    t.executor->command = std::make_unique<fb::CommandInfoT>();
    t.executor->command->value = "run";
    return t;
  }
  void launch(std::vector<fb::TaskInfoT> tasks) {
    auto offers = c.offers(stream);
    ASSERT_FALSE(offers.empty());
    ASSERT_TRUE(c.call(Cluster::accept("f", {offers.back().id}, std::move(tasks), 0)));
  }
  // By the books; and what is on offer now.
  double free_cpus() {
    c.advance(2s);
    for (const auto& o : c.offers(stream)) {
      last_ids = o.executor_ids;
      last = o.id;
    }
    Resources total, used, offered;
    c.core->sums(total, used, offered);
    const auto cpus = resource::intern_name("cpus");
    return (total.scalar(cpus) - used.scalar(cpus)).value();
  }
  void again(std::vector<fb::TaskInfoT> tasks) { ASSERT_TRUE(c.call(Cluster::accept("f", {last}, std::move(tasks), 0))); }
  void end(const std::string& executor, int status = 0) {
    fb::link::ExecutorExitedT x;
    x.framework_id = "f";
    x.executor_id = executor;
    x.status = status;
    c.agent(1, std::move(x));
  }
  std::vector<std::string> last_ids;
  std::string last;
};

TEST_F(ExecutorsTest, CountsOnceForAllItsTasks) {
  std::vector<fb::TaskInfoT> both;
  both.push_back(task("t1"));
  both.push_back(task("t2"));
  launch(std::move(both));
  const auto runs = c.heard<fb::link::RunTaskT>(1);
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].launch_executor, true);
  EXPECT_EQ(runs[1].launch_executor, false) << "it lives, or will";
  EXPECT_EQ(runs[0].task->executor->framework_id, "f");
  EXPECT_DOUBLE_EQ(free_cpus(), 4 - 2 - 0.5);
  EXPECT_EQ(last_ids, std::vector<std::string>{"e"});
  // Its resources stay in use until it ends, whatever becomes of its tasks.
  EXPECT_TRUE(c.decline("f", last, 0));
  c.update(1, "f", "t1", S::TASK_FINISHED, 1);
  c.update(1, "f", "t2", S::TASK_FAILED, 2);
  EXPECT_DOUBLE_EQ(free_cpus(), 3.5);
  EXPECT_TRUE(c.decline("f", last, 0));
  end("e", 256);
  const auto failures = c.take(stream, fb::EventType::FAILURE);
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].failure->executor_id, "e");
  EXPECT_EQ(*failures[0].failure->status, 256);
  EXPECT_DOUBLE_EQ(free_cpus(), 4);
}

// Recounting (a change of quota) and counting on (launch, end) come to the same; the driver compares them after each step.
TEST_F(ExecutorsTest, CountsOnceAgainstTheQuotaOfItsRole) {
  fb::FrameworkInfoT info = Cluster::info("q", 3600, true);
  info.role = "eng";
  ASSERT_TRUE(c.operate(Cluster::quota_call("eng", {{"cpus", 3}})));
  (void)c.call(Cluster::make_call("f", fb::CallType::SUPPRESS));
  for (const auto& o : c.offers(stream)) ASSERT_TRUE(c.decline("f", o.id, 3600));
  const auto eng = c.subscribe(std::move(info));
  auto offers = c.offers(eng);
  ASSERT_FALSE(offers.empty());
  std::vector<fb::TaskInfoT> one;
  one.push_back(task("t1"));
  ASSERT_TRUE(c.call(Cluster::accept("q", {offers.back().id}, std::move(one), 0)));
  // 1.5 of 3 are in use: a limit of 2 still holds them, counted anew; one of 1 does not.
  EXPECT_TRUE(c.operate(Cluster::quota_call("eng", {{"cpus", 2}})));
  EXPECT_FALSE(c.operate(Cluster::quota_call("eng", {{"cpus", 1}})));
  const auto books = c.core->check();
  EXPECT_TRUE(books) << books.error().message;
}

TEST_F(ExecutorsTest, OtherInformationUnderItsIdIsRefused) {
  std::vector<fb::TaskInfoT> one;
  one.push_back(task("t1"));
  launch(std::move(one));
  free_cpus();
  std::vector<fb::TaskInfoT> other;
  other.push_back(task("t2", "e", "cpus:1;mem:100", "cpus:1;mem:50"));
  again(std::move(other));
  const auto updates = c.updates(stream);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].state, S::TASK_ERROR);
  EXPECT_NE(updates[0].message.find("not compatible with existing ExecutorInfo"), std::string::npos);
}

// Each task says whether its executor was booked with it; none is counted on that has ended.
TEST_F(ExecutorsTest, ATaskThatCrossesTheEndOfItsExecutorFreesAllItHeld) {
  std::vector<fb::TaskInfoT> one;
  one.push_back(task("t1"));
  launch(std::move(one));
  free_cpus();
  std::vector<fb::TaskInfoT> two;
  two.push_back(task("t2"));
  again(std::move(two));  // on its way while
  end("e");               // this is, too
  auto runs = c.heard<fb::link::RunTaskT>(1);
  ASSERT_FALSE(runs.empty());
  EXPECT_EQ(runs.back().launch_executor, false);
  c.update(1, "f", "t1", S::TASK_FAILED, 1);
  c.update(1, "f", "t2", S::TASK_DROPPED, 2);
  EXPECT_DOUBLE_EQ(free_cpus(), 4);
  std::vector<fb::TaskInfoT> three;
  three.push_back(task("t3", "e", "cpus:0.25;mem:10", "cpus:0.25;mem:10"));  // what was freed is on offer in pieces
  again(std::move(three));
  runs = c.heard<fb::link::RunTaskT>(1);
  ASSERT_FALSE(runs.empty());
  EXPECT_EQ(runs.back().launch_executor, true);
  EXPECT_DOUBLE_EQ(free_cpus(), 4 - 0.5);
  const auto books = c.core->check();
  EXPECT_TRUE(books) << books.error().message;
}

TEST_F(ExecutorsTest, ATaskWithoutExecutorSaysNothingOfOne) {
  std::vector<fb::TaskInfoT> one;
  one.push_back(Cluster::task("t1", agent, "cpus:1;mem:100"));
  launch(std::move(one));
  EXPECT_FALSE(c.heard<fb::link::RunTaskT>(1).back().launch_executor);
}

TEST_F(ExecutorsTest, ShutdownReachesTheAgent) {
  auto call = Cluster::make_call("f", fb::CallType::SHUTDOWN);
  call.shutdown = std::make_unique<fb::ShutdownExecutorT>();
  call.shutdown->agent_id = agent;
  call.shutdown->executor_id = "e";
  ASSERT_TRUE(c.call(std::move(call)));
  const auto told = c.heard<fb::link::ShutdownExecutorT>(1);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].executor_id, "e");
}

TEST_F(ExecutorsTest, ATornDownFrameworkGivesEverythingBack) {
  std::vector<fb::TaskInfoT> one;
  one.push_back(task("t1"));
  launch(std::move(one));
  c.update(1, "f", "t1", S::TASK_FINISHED, 1);
  ASSERT_TRUE(c.acknowledge("f", agent, "t1", 1));
  ASSERT_TRUE(c.call(Cluster::make_call("f", fb::CallType::TEARDOWN)));
  EXPECT_EQ(c.heard<fb::link::RemoveFrameworkT>(1).size(), 1u);  // though it has no task there
  stream = c.subscribe(Cluster::info("g", 3600, true));
  EXPECT_DOUBLE_EQ(free_cpus(), 4);
}

TEST_F(ExecutorsTest, RegistrationTellsWhichLive) {
  std::vector<fb::TaskInfoT> one;
  one.push_back(task("t1"));
  launch(std::move(one));
  for (const bool lives : {true, false}) {
    auto reg = Cluster::registration("cpus:4;mem:4096", agent);
    if (lives) {
      reg.executors.push_back(std::make_unique<fb::link::KnownExecutorT>());
      reg.executors.back()->framework_id = "f";
      reg.executors.back()->info = std::make_unique<fb::ExecutorInfoT>(*task("x").executor);
    }
    reg.tasks.push_back(std::make_unique<fb::link::KnownTaskT>());
    reg.tasks.back()->framework_id = "f";
    reg.tasks.back()->info = std::make_unique<fb::TaskInfoT>(task("t1"));
    reg.tasks.back()->state = reg.tasks.back()->status_state = S::TASK_RUNNING;
    c.agent(2, fb::link::HelloT{});
    c.agent(2, std::move(reg));
    EXPECT_DOUBLE_EQ(free_cpus(), lives ? 2.5 : 3) << lives;
    EXPECT_TRUE(c.decline("f", last, 0));
  }
}

TEST_F(ExecutorsTest, GoneWithItsAgent) {
  std::vector<fb::TaskInfoT> one;
  one.push_back(task("t1"));
  launch(std::move(one));
  c.advance(120s);  // no pong: unreachable
  EXPECT_EQ(c.core->agent_count(), 0u);
  ASSERT_TRUE(c.core->check());
}

TEST_F(ExecutorsTest, FollowersSeeThem) {
  c.core->follow(true);
  std::vector<fb::TaskInfoT> one;
  one.push_back(task("t1"));
  launch(std::move(one));
  end("e");
  bool came = false, went = false;
  for (const auto& chunk : c.core->take_changes()) {
    const auto t = unpack<fb::state::Chunk>(Bytes(chunk));
    ASSERT_TRUE(t);
    for (const auto& change : t->changes) {
      if (change->executor) came = change->executor->info->executor_id == "e" && change->executor->agent_id == agent;
      if (change->gone && !change->gone->executor_id.empty()) went = true;
    }
  }
  EXPECT_TRUE(came && went);
}

}  // namespace
}  // namespace gantry::master
