// What of an agent's answers a client may see, and whose a file is.
#include "permits.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gantry::gateway_mesos::agent_permits {
namespace {

namespace op = fb::agent;
using Allowed = std::set<std::pair<std::string, std::string>, std::less<>>;

Users two_frameworks() {
  Users u;
  u.frameworks = {{"F", "alice"}, {"G", "bob"}};
  u.executors = {{{"F", "X"}, "carol"}, {{"G", "X"}, "alice"}};
  return u;
}

std::unique_ptr<fb::ops::TaskT> task(std::string framework, std::string user) {
  auto t = std::make_unique<fb::ops::TaskT>();
  t->framework_id = std::move(framework);
  t->user = std::move(user);
  return t;
}
std::unique_ptr<op::ExecutorT> executor(std::string framework) {
  auto x = std::make_unique<op::ExecutorT>();
  x->executor_info = std::make_unique<fb::ExecutorInfoT>();
  x->executor_info->framework_id = std::move(framework);
  x->executor_info->executor_id = "X";
  return x;
}

TEST(AgentPermits, RowsAreOfAFrameworkThatMayBeSeen) {
  const Users users = two_frameworks();
  op::ResponseT r;
  r.get_state = std::make_unique<op::GetStateT>();
  r.get_state->get_tasks = std::make_unique<op::GetTasksT>();
  r.get_state->get_executors = std::make_unique<op::GetExecutorsT>();
  r.get_containers = std::make_unique<op::GetContainersT>();
  for (const char* f : {"F", "G"}) {
    r.get_state->get_tasks->launched_tasks.push_back(task(f, "alice"));
    r.get_state->get_executors->executors.push_back(executor(f));
    auto c = std::make_unique<op::ContainerT>();
    c->framework_id = f;
    c->executor_id = "X";
    c->container_id = std::make_unique<fb::ContainerIdT>();
    r.get_containers->containers.push_back(std::move(c));
  }
  Allowed yes;
  for (const auto& a : asks_of(r, users)) yes.emplace(a.action, a.object);
  EXPECT_TRUE(yes.count({"view_framework", "alice"}) && yes.count({"view_framework", "bob"}) && yes.count({"view_container", "carol"}));
  filter(r, Verdicts(yes), users);
  EXPECT_EQ(r.get_state->get_tasks->launched_tasks.size(), 2u);
  yes.erase({"view_framework", "bob"});
  filter(r, Verdicts(yes), users);
  ASSERT_EQ(r.get_state->get_tasks->launched_tasks.size(), 1u);
  EXPECT_EQ(r.get_state->get_tasks->launched_tasks[0]->framework_id, "F");
  ASSERT_EQ(r.get_state->get_executors->executors.size(), 1u);
  ASSERT_EQ(r.get_containers->containers.size(), 1u);
  EXPECT_EQ(r.get_containers->containers[0]->framework_id, "F");
}

TEST(AgentPermits, AFileIsOfWhoseNamesLeadToIt) {
  const Users users = two_frameworks();
  const auto whose = [&](std::string_view path) {
    const Ask a = ask_for(path, users);
    EXPECT_EQ(a.action, "access_sandbox");
    return a.object;
  };
  EXPECT_EQ(whose("/frameworks/F/executors/X/runs/latest/stdout"), "carol");
  EXPECT_EQ(whose("/frameworks/F/executors/Y/runs/latest"), "alice");
  EXPECT_EQ(whose("/frameworks/F"), "alice");
  EXPECT_EQ(whose("/var/slaves/A/frameworks/G/executors/X/runs/r"), "alice");
  EXPECT_EQ(whose("/frameworks/w/slaves/A/frameworks/G"), "");  // below the agent's own folder, as whoever opens it reads it
  EXPECT_EQ(whose("/w/frameworks/F/slaves/A/frameworks/G"), "bob");
  // Slashes and dots that are nothing hide nobody.
  EXPECT_EQ(whose("/frameworks//F/executors/.//X/runs"), "carol");
  EXPECT_EQ(whose("/frameworks/./F/./executors/X"), "carol");
  EXPECT_EQ(whose("/frameworks/F/executors/X/../../../G/executors/X"), "");
  EXPECT_EQ(whose("/frameworks/F/.."), "");
  EXPECT_EQ(whose("/frameworks"), "");
  EXPECT_EQ(whose(""), "");
  EXPECT_EQ(ask_for("/slave/log", users).action, "access_mesos_log");
}

}  // namespace
}  // namespace gantry::gateway_mesos::agent_permits
