// Task groups in the master: all or none, whose mistake it was, and what is booked.
#include "driver.hpp"

namespace gantry::master {
namespace {

struct GroupsTest : ::testing::Test {
  Cluster c;
  std::string agent;
  StreamId stream = 0;

  void SetUp() override {
    join(1, true);
    stream = c.subscribe(Cluster::info("f", 3600, true));
  }
  void join(LinkId link, bool groups) {
    auto r = Cluster::registration("cpus:4;mem:4096;disk:1000");
    r.groups = groups;
    agent = c.join(link, std::move(r));
  }
  fb::TaskInfoT task(const std::string& id, std::string_view resources = "cpus:1;mem:100") { return Cluster::task(id, agent, resources); }
  static fb::ExecutorInfoT executor(std::string_view resources = "cpus:0.5;mem:50;disk:10") {
    fb::ExecutorInfoT e;
    e.executor_id = "e";
    e.type = fb::ExecutorType::DEFAULT;
    e.resources = wire(resources);
    return e;
  }
  // The newest offer, with this as its only operation.
  void launch(fb::ExecutorInfoT e, std::vector<fb::TaskInfoT> tasks, std::string op_id = {}) {
    for (const auto& o : c.offers(stream)) offer = o.id;
    auto accept = Cluster::accept("f", {offer}, {}, 0);
    auto& op = *accept.accept->operations[0];
    op.type = fb::OperationType::LAUNCH_GROUP;
    op.id = std::move(op_id);
    op.launch.reset();
    op.launch_group = std::make_unique<fb::LaunchGroupT>();
    op.launch_group->executor = std::make_unique<fb::ExecutorInfoT>(std::move(e));
    for (auto& t : tasks) op.launch_group->task_infos.push_back(std::make_unique<fb::TaskInfoT>(std::move(t)));
    ASSERT_TRUE(c.call(std::move(accept)));
    c.advance(2s);
  }
  double free_cpus() {
    Resources total, used, offered;
    c.core->sums(total, used, offered);
    return (total.scalar(resource::intern_name("cpus")) - used.scalar(resource::intern_name("cpus"))).value();
  }
  // Nothing of it was launched or booked, and each task is told `why`.
  void refused(std::vector<std::string> ids, const std::string& why) {
    const auto told = c.updates(stream);
    ASSERT_EQ(told.size(), ids.size()) << why;
    for (std::size_t i = 0; i < told.size(); ++i) {
      EXPECT_EQ(told[i].task_id, ids[i]);
      EXPECT_EQ(told[i].state, S::TASK_ERROR);
      EXPECT_EQ(told[i].reason, R::REASON_TASK_GROUP_INVALID);
      EXPECT_NE(told[i].message.find(why), std::string::npos) << told[i].message << " does not say " << why;
    }
    EXPECT_EQ(c.core->task_count(), 0u);
    EXPECT_DOUBLE_EQ(free_cpus(), 4);
    EXPECT_TRUE(c.heard<fb::link::RunGroupT>(1).empty());
  }
  template <class F>
  fb::TaskInfoT changed(const std::string& id, F change) {
    auto t = task(id);
    change(t);
    return t;
  }
  std::vector<fb::TaskInfoT> with(fb::TaskInfoT culprit) {
    std::vector<fb::TaskInfoT> both;
    both.push_back(task("good"));
    both.push_back(std::move(culprit));
    return both;
  }
  std::string offer;
};

TEST_F(GroupsTest, IsOneMessageAndOneBooking) {
  launch(executor(), {task("a"), task("b")});
  auto runs = c.heard<fb::link::RunGroupT>(1);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].launch_executor, true);
  ASSERT_EQ(runs[0].tasks.size(), 2u);
  EXPECT_EQ(runs[0].tasks[1]->task_id, "b");
  for (const auto& t : runs[0].tasks) {
    ASSERT_TRUE(t->executor);
    EXPECT_EQ(t->executor->framework_id, "f");
    EXPECT_EQ(t->executor->resources[0]->allocation_role, "*");
    EXPECT_EQ(t->resources[0]->allocation_role, "*");
  }
  EXPECT_DOUBLE_EQ(free_cpus(), 4 - 2 - 0.5);
  EXPECT_TRUE(c.updates(stream).empty());

  // Another group of the same executor: it lives, and is not paid for twice.
  launch(executor(), {task("c")});
  runs = c.heard<fb::link::RunGroupT>(1);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].launch_executor, false);
  EXPECT_DOUBLE_EQ(free_cpus(), 0.5);

  fb::link::ExecutorExitedT x;
  x.framework_id = "f";
  x.executor_id = "e";
  for (const char* t : {"a", "b", "c"}) c.update(1, "f", t, S::TASK_FINISHED, 7);
  EXPECT_DOUBLE_EQ(free_cpus(), 3.5);
  c.agent(1, std::move(x));
  EXPECT_DOUBLE_EQ(free_cpus(), 4);
}

TEST_F(GroupsTest, OneBadTaskFailsAllAndIsNamed) {
  const auto expect = [&](fb::TaskInfoT culprit, const std::string& why) {
    const std::string id = culprit.task_id;
    launch(executor(), with(std::move(culprit)));
    refused({"good", id}, "Task '" + id + "' is invalid: " + why);
  };
  expect(changed("no-resources", [](auto& t) { t.resources.clear(); }), "Task uses no resources");
  expect(changed("a/b", [](auto&) {}), "'a/b' contains invalid characters");
  expect(changed("good", [](auto&) {}), "another task of the group has the same ID");
  expect(changed("x", [](auto& t) { t.agent_id = "other"; }), "Task uses invalid agent");
  expect(changed("x", [](auto& t) { t.command.reset(); }), "'TaskInfo.command' must be set");
  expect(changed("x", [](auto& t) { t.executor = std::make_unique<fb::ExecutorInfoT>(executor()); }), "'TaskInfo.executor' must not be set");
  const auto contained = [](auto& t) { return (t.container = std::make_unique<fb::ContainerInfoT>()).get(); };
  expect(changed("x", [&](auto& t) { contained(t)->type = fb::ContainerType::DOCKER; }), "'DockerInfo' must not be set");
  expect(changed("x", [&](auto& t) {
           auto* container = contained(t);
           container->type = fb::ContainerType::MESOS;
           container->network_infos.push_back(std::make_unique<fb::NetworkInfoT>());
         }),
         "'NetworkInfos' must not be set");
  expect(changed("x", [&](auto& t) {
           auto* container = contained(t);
           container->linux_info = std::make_unique<fb::LinuxInfoT>();
           container->linux_info->share_cgroups = false;
         }),
         "'linux_info.share_cgroups' must be the same");
  const auto limited = [](auto& t) {
    t.limits.push_back(std::make_unique<fb::ScalarEntryT>());
    t.limits[0]->key = "cpus";
    t.limits[0]->value = 2;
  };
  expect(changed("x", limited), "'TaskInfo.limits' can be set only with");

  // With cgroups of their own they may have limits.
  const auto own = [&](auto& t) {
    auto* container = contained(t);
    container->type = fb::ContainerType::MESOS;
    container->linux_info = std::make_unique<fb::LinuxInfoT>();
    container->linux_info->share_cgroups = false;
    limited(t);
  };
  launch(executor(), {changed("p", own), changed("q", own)});
  EXPECT_EQ(c.heard<fb::link::RunGroupT>(1).size(), 1u);
}

TEST_F(GroupsTest, TheExecutorIsCheckedToo) {
  const auto expect = [&](fb::ExecutorInfoT e, const std::string& why, std::string op = {}) {
    launch(std::move(e), {task("a"), task("b")}, std::move(op));
    refused({"a", "b"}, why);
  };
  expect(executor("mem:50;disk:10"), "0 cpus; it needs at least 0.01");
  expect(executor("cpus:0.1;mem:31;disk:10"), "31 mem; it needs at least 32");
  expect(executor("cpus:0.1;mem:32"), "no disk");
  auto e = executor();
  e.type = fb::ExecutorType::UNKNOWN;
  expect(e, "must be 'DEFAULT' or 'CUSTOM'");
  e = executor();
  e.executor_id = "..";
  expect(e, "Executor ID is invalid");
  e = executor();
  e.command = std::make_unique<fb::CommandInfoT>();
  expect(e, "'ExecutorInfo.command' must not be set");
  e.type = fb::ExecutorType::CUSTOM;
  e.command.reset();
  expect(e, "'ExecutorInfo.command' must be set");
  e = executor();
  e.container = std::make_unique<fb::ContainerInfoT>();
  e.container->type = fb::ContainerType::DOCKER;
  expect(e, "must be 'MESOS'");
  e.container->type = fb::ContainerType::MESOS;
  e.container->mesos = std::make_unique<fb::MesosInfoT>();
  e.container->mesos->image = std::make_unique<fb::ImageT>();
  expect(e, "'ExecutorInfo.container.mesos.image' must not be set");
  expect(executor(), "'id' field cannot be set", "op1");
  // Each would fit alone, and both without the executor.
  expect(executor("cpus:2.5;mem:50;disk:10"), "are more than available");

  // And it must be the one that lives, if one does.
  launch(executor(), {task("a")});
  EXPECT_EQ(c.heard<fb::link::RunGroupT>(1).size(), 1u);
  launch(executor("cpus:0.6;mem:50;disk:10"), {task("b")});
  const auto told = c.updates(stream);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_NE(told[0].message.find("not compatible with existing ExecutorInfo"), std::string::npos) << told[0].message;
}

TEST_F(GroupsTest, ACustomExecutorTakesThemAsToday) {
  auto e = executor();
  e.type = fb::ExecutorType::CUSTOM;
  e.command = std::make_unique<fb::CommandInfoT>();
  e.command->value = "run";
  auto a = task("a");
  a.command.reset();
  launch(e, {std::move(a), task("b")});
  const auto runs = c.heard<fb::link::RunGroupT>(1);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].tasks[0]->executor->command->value, "run");
}

TEST_F(GroupsTest, AnAgentOfAnOlderReleaseIsNotAsked) {
  fb::link::UnregisterT leaves;
  c.agent(1, std::move(leaves));
  join(2, false);
  launch(executor(), {task("a")});
  refused({"a"}, "does not know task groups");
}

TEST_F(GroupsTest, ASingleTaskCannotHaveTheDefaultExecutor) {
  auto t = task("t");
  t.command.reset();
  t.executor = std::make_unique<fb::ExecutorInfoT>(executor());
  for (const auto& o : c.offers(stream)) offer = o.id;
  ASSERT_TRUE(c.call(Cluster::accept("f", {offer}, {std::move(t)}, 0)));
  EXPECT_EQ(c.updates(stream).at(0).message, "'ExecutorInfo.type' must be 'CUSTOM'");
}

}  // namespace
}  // namespace gantry::master
