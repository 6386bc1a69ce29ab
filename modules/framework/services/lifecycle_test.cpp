// What applications live through: deployments, failures, placement, health, recovery (marathon.md F 12-35).
#include <gmock/gmock.h>

#include "world.hpp"

namespace gantry::framework_services {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using S = fb::TaskState;

class LifecycleTest : public ::testing::Test {
 protected:
  World w;
  void deploy(const std::string& body) {
    const auto r = w.post("/v2/apps", body);
    ASSERT_EQ(r.status, 201) << r.text;
    w.advance(3s);
  }
  std::string config_of(const std::string& task) { return w.tasks.at(task).info.command->value; }
  int good(const std::string& cmd) {
    int n = 0;
    for (const auto& t : w.alive()) n += w.tasks[t].running && config_of(t) == cmd;
    return n;
  }
};

// ---- conflicts, cancelling, limits

TEST_F(LifecycleTest, LockedAppIs409UnlessForced) {
  w.auto_offer = false;
  const auto first = w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000","cpus":100})");
  const std::string id = str(first["deployments"].at(0).at("id"));
  const auto locked = w.put("/v2/apps/a", R"({"instances":2})");
  EXPECT_EQ(locked.status, 409);
  EXPECT_THAT(str(locked["message"]), HasSubstr("force=true"));
  EXPECT_EQ(str(locked["deployments"].at(0).at("id")), id);
  const auto forced = w.put("/v2/apps/a?force=true", R"({"instances":2})");
  EXPECT_EQ(forced.status, 200);
  const auto list = w.get("/v2/deployments").body.get_array();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_NE(str(list[0].at("id")), id);
}

TEST_F(LifecycleTest, CancelRestoresForcedCancelOnlyStops) {
  deploy(R"({"id":"a","cmd":"sleep 1000","instances":2})");
  const auto before = w.alive();
  const auto change = w.put("/v2/apps/a", R"({"cmd":"sleep 2000","cpus":100})");
  w.advance(3s);
  const auto cancel = w.del("/v2/deployments/" + str(change["deploymentId"]));
  ASSERT_EQ(cancel.status, 200);
  EXPECT_TRUE(cancel.object().contains("deploymentId"));
  w.advance(5s);
  EXPECT_EQ(w.deployments(), 0u);
  EXPECT_EQ(str(w.app("/a").at("cmd")), "sleep 1000");
  EXPECT_EQ(w.alive(), before);  // instances of the old configuration were right all along

  const auto again = w.put("/v2/apps/a", R"({"cmd":"sleep 3000","cpus":100})");
  const auto forced = w.del("/v2/deployments/" + str(again["deploymentId"]) + "?force=true");
  EXPECT_EQ(forced.status, 202);
  EXPECT_EQ(forced.text, "");
  EXPECT_EQ(w.deployments(), 0u);
  EXPECT_EQ(w.del("/v2/deployments/nope").status, 404);
}

TEST_F(LifecycleTest, DeleteIsForcedByDefault) {
  w.auto_offer = false;
  w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000"})");
  EXPECT_EQ(w.del("/v2/apps/a").status, 200);
  w.advance(1s);
  EXPECT_EQ(w.get("/v2/apps/a").status, 404);
  EXPECT_EQ(w.deployments(), 0u);
  for (const auto& [k, v] : w.records) EXPECT_EQ(k, "framework");
}

TEST_F(LifecycleTest, DeleteKillsAndLeavesNoRecord) {
  deploy(R"({"id":"a","cmd":"sleep 1000","instances":3})");
  ASSERT_EQ(w.running(), 3);
  EXPECT_EQ(w.del("/v2/apps/a").status, 200);
  w.advance(1s);
  EXPECT_TRUE(w.alive().empty());
  for (const auto& [k, v] : w.records) EXPECT_EQ(k, "framework");
  EXPECT_EQ(w.del("/v2/apps/a").status, 404);
}

TEST_F(LifecycleTest, AHundredDeploymentsAreTheLimit) {
  w.auto_offer = false;
  for (int i = 0; i < 100; ++i) ASSERT_EQ(w.post("/v2/apps", R"({"id":"a)" + std::to_string(i) + R"(","cmd":"sleep 1000","cpus":100})").status, 201);
  EXPECT_EQ(w.post("/v2/apps", R"({"id":"one-more","cmd":"sleep 1000"})").status, 403);
}

TEST_F(LifecycleTest, DependenciesComeFirstAndCyclesAreRefused) {
  w.auto_run = false;
  const auto r = w.put("/v2/apps", R"([{"id":"/web","cmd":"sleep 1000","dependencies":["db"]},{"id":"/db","cmd":"sleep 1000"}])");
  ASSERT_EQ(r.status, 200) << r.text;
  w.advance(2s);
  EXPECT_EQ(w.alive("/db").size(), 1u);
  EXPECT_EQ(w.alive("/web").size(), 0u);
  w.update(w.alive("/db")[0], S::TASK_RUNNING);
  w.advance(3s);
  EXPECT_EQ(w.alive("/web").size(), 1u);
  const auto cyclic = w.put("/v2/apps?force=true", R"([{"id":"/db","cmd":"sleep 1000","dependencies":["web"]}])");
  EXPECT_EQ(cyclic.status, 422);
}

// ---- upgrades

struct Upgrade {
  int n;
  double min, over;
  int least_good, most_running;
};
class UpgradeTest : public LifecycleTest, public ::testing::WithParamInterface<Upgrade> {};

TEST_P(UpgradeTest, KeepsItsCapacity) {
  const auto p = GetParam();
  deploy(R"({"id":"a","cmd":"sleep 1000","cpus":0.1,"instances":)" + std::to_string(p.n) + "}");
  ASSERT_EQ(w.running(), p.n);
  w.auto_run = w.auto_kill = false;
  ASSERT_EQ(w.put("/v2/apps/a", R"({"cmd":"sleep 2000","upgradeStrategy":{"minimumHealthCapacity":)" + std::to_string(p.min) +
                                    R"(,"maximumOverCapacity":)" + std::to_string(p.over) + "}}").status, 200);
  int most = 0, least = p.n;
  for (int round = 0; round < 100 && w.deployments(); ++round) {
    w.advance(1s);
    most = std::max(most, static_cast<int>(w.alive().size()));
    // Kills asked for take effect, one round late; then starts come up.
    std::set<std::string> wanted;
    for (const auto& c : w.calls) {
      if (c.kill) wanted.insert(c.kill->task_id);
    }
    for (const auto& t : w.alive()) {
      if (wanted.count(t)) w.finish(t, S::TASK_KILLED);
    }
    least = std::min(least, w.running());
    for (const auto& t : w.alive()) {
      if (!w.tasks[t].running) w.finish(t, S::TASK_RUNNING);
    }
    most = std::max(most, static_cast<int>(w.alive().size()));
  }
  EXPECT_EQ(w.deployments(), 0u);
  EXPECT_EQ(good("sleep 2000"), p.n);
  EXPECT_EQ(good("sleep 1000"), 0);
  EXPECT_GE(least, p.least_good);
  EXPECT_LE(most, p.most_running);
}
INSTANTIATE_TEST_SUITE_P(Strategies, UpgradeTest,
                         ::testing::Values(Upgrade{4, 0.5, 0, 2, 4}, Upgrade{4, 1, 0, 4, 5}, Upgrade{4, 1, 1, 4, 8}, Upgrade{3, 0, 0, 0, 3},
                                           Upgrade{1, 1, 0, 1, 2}, Upgrade{5, 0.7, 0.3, 4, 6}));

TEST_F(LifecycleTest, ReadinessGatesTheOldInstances) {
  w.web = [](const std::string& url) { return url.ends_with("/ready") ? 503 : 200; };
  const std::string check = R"("portDefinitions":[{"port":0,"name":"http-api"}],"readinessChecks":[{"path":"/ready","intervalSeconds":2,"timeoutSeconds":1}])";
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  ASSERT_EQ(w.put("/v2/apps/a", R"({"cmd":"sleep 2000",)" + check + "}").status, 200);
  w.advance(20s);
  EXPECT_EQ(good("sleep 1000"), 1);
  EXPECT_EQ(good("sleep 2000"), 1);
  const auto d = w.get("/v2/deployments").body.get_array();
  ASSERT_EQ(d.size(), 1u);
  EXPECT_EQ(print_json(d[0].at("currentActions").at(0).at("readinessCheckResults").at(0).at("ready")), "false");
  w.web = [](const std::string&) { return 200; };
  w.advance(5s);
  EXPECT_EQ(w.deployments(), 0u);
  EXPECT_EQ(good("sleep 1000"), 0);
}

TEST_F(LifecycleTest, RestartReplacesAll) {
  deploy(R"({"id":"a","cmd":"sleep 1000","instances":2})");
  const auto before = w.alive();
  const auto info = w.app("/a").at("versionInfo");
  EXPECT_EQ(w.post("/v2/apps/a/restart").status, 200);
  w.advance(5s);
  EXPECT_EQ(w.running(), 2);
  for (const auto& t : before) EXPECT_FALSE(w.tasks[t].alive);
  EXPECT_NE(print_json(w.app("/a").at("versionInfo").at("lastConfigChangeAt")), print_json(info.at("lastConfigChangeAt")));
  EXPECT_EQ(w.post("/v2/apps/none/restart").status, 404);
}

TEST_F(LifecycleTest, ScaleDownTakesTheYoungest) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const auto oldest = w.alive();
  w.advance(10s);
  w.put("/v2/apps/a", R"({"instances":4})");
  w.advance(5s);
  ASSERT_EQ(w.running(), 4);
  w.put("/v2/apps/a", R"({"instances":1})");
  w.advance(5s);
  EXPECT_EQ(w.alive(), oldest);
  w.put("/v2/apps/a", R"({"instances":0})");
  w.advance(1s);
  EXPECT_TRUE(w.alive().empty());
  EXPECT_EQ(w.deployments(), 0u);
}

// ---- tasks

TEST_F(LifecycleTest, KilledTaskIsReplacedAsTheSameInstance) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const std::string id = w.alive()[0];
  const auto r = w.del("/v2/apps/a/tasks/" + id);
  ASSERT_EQ(r.status, 200);
  EXPECT_EQ(str(r["task"].at("id")), id);
  w.advance(2s);
  ASSERT_EQ(w.running(), 1);
  const auto was = parse_task_id(id), is = parse_task_id(w.alive()[0]);
  EXPECT_EQ(is->instance_id, was->instance_id);
  EXPECT_EQ(is->incarnation, was->incarnation + 1);
  EXPECT_EQ(str(w.del("/v2/apps/a/tasks/" + id.substr(0, 3) + "x")["message"]), "Task '" + id.substr(0, 3) + "x' does not exist");
}

TEST_F(LifecycleTest, KillAndScale) {
  deploy(R"({"id":"a","cmd":"sleep 1000","instances":3,"constraints":[["hostname","MAX_PER","2"]]})");
  ASSERT_EQ(w.running(), 3);
  int on_h1 = 0;
  for (const auto& t : w.alive()) on_h1 += w.tasks[t].agent == "A1";
  ASSERT_EQ(w.del("/v2/apps/a/tasks?scale=true&wipe=true").status, 400);
  const auto r = w.del("/v2/apps/a/tasks?scale=true&host=h1");
  ASSERT_EQ(r.status, 200) << r.text;
  EXPECT_TRUE(r.object().contains("deploymentId"));
  w.advance(3s);
  EXPECT_EQ(w.running(), 3 - on_h1);
  for (const auto& t : w.alive()) EXPECT_EQ(w.tasks[t].agent, "A2");
  EXPECT_EQ(w.post("/v2/tasks/delete", R"({"ids":["garbage"]})").status, 400);
  EXPECT_EQ(w.post("/v2/tasks/delete", R"({"ids":["x.instance-00000000-0000-0000-0000-000000000000._app.1"]})").status, 200);
  EXPECT_EQ(w.get("/v2/tasks?status=running")["tasks"].get_array().size(), w.alive().size());
}

TEST_F(LifecycleTest, FailuresBackOffAndTheDelayCanBeReset) {
  deploy(R"({"id":"a","cmd":"exit 1","backoffSeconds":10,"backoffFactor":2})");
  w.finish(w.alive()[0], S::TASK_FAILED, "exited with 1");
  auto q = w.get("/v2/queue")["queue"].get_array();
  ASSERT_EQ(q.size(), 1u);
  EXPECT_EQ(print_json(q[0].at("delay").at("timeLeftSeconds")), "10");
  EXPECT_EQ(print_json(q[0].at("delay").at("overdue")), "false");
  w.advance(9s);
  EXPECT_TRUE(w.alive().empty());
  w.advance(2s);
  ASSERT_EQ(w.running(), 1);
  w.finish(w.alive()[0], S::TASK_FINISHED);
  EXPECT_EQ(print_json(w.get("/v2/queue")["queue"].at(0).at("delay").at("timeLeftSeconds")), "20");
  EXPECT_EQ(w.del("/v2/queue/a/delay").status, 204);
  w.advance(1s);
  EXPECT_EQ(w.running(), 1);
  EXPECT_EQ(w.del("/v2/queue/a/delay").status, 404);
  const auto app = w.app("/a");
  EXPECT_EQ(str(app.at("lastTaskFailure").at("state")), "TASK_FAILED");
  EXPECT_EQ(str(app.at("lastTaskFailure").at("message")), "exited with 1");
}

TEST_F(LifecycleTest, ImpossibleDemandsAreExplained) {
  deploy(R"({"id":"a","cmd":"sleep 1000","cpus":100})");
  const auto q = w.get("/v2/queue")["queue"].at(0);
  EXPECT_EQ(print_json(q.at("count")), "1");
  EXPECT_EQ(print_json(q.at("delay").at("overdue")), "true");
  bool seen = false;
  for (const auto& s : q.at("processedOffersSummary").at("rejectSummaryLaunchAttempt").get_array()) {
    if (str(s.at("reason")) == "InsufficientCpus") seen = to_number(s.at("declined")) >= 2;
  }
  EXPECT_TRUE(seen);
  EXPECT_FALSE(q.get_object().contains("lastUnusedOffers"));
  EXPECT_EQ(w.get("/v2/queue?embed=lastUnusedOffers")["queue"].at(0).at("lastUnusedOffers").get_array().size(), 2u);
  bool filtered = false;
  for (const auto& c : w.calls) filtered = filtered || (c.decline && c.decline->filters->refuse_seconds == 120.0);
  EXPECT_TRUE(filtered);
}

TEST_F(LifecycleTest, OffersAreWantedOnlyWhileSomethingWaits) {
  EXPECT_EQ(w.calls.front().subscribe->suppressed_roles, std::vector<std::string>{"*"});
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  EXPECT_EQ(w.count(fb::CallType::REVIVE), 1);
  EXPECT_EQ(w.count(fb::CallType::SUPPRESS), 1);
  w.offer();
  EXPECT_EQ(w.count(fb::CallType::ACCEPT), 1);
  EXPECT_EQ(w.running(), 1);
}

TEST_F(LifecycleTest, RefusedAcceptIsTriedAgain) {
  w.accept_fails = true;
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  EXPECT_TRUE(w.alive().empty());
  w.accept_fails = false;
  w.advance(5s);
  EXPECT_EQ(w.running(), 1);
}

TEST_F(LifecycleTest, SilentLaunchIsGivenUpAfterFiveMinutes) {
  w.auto_run = false;
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const auto first = w.alive();
  ASSERT_EQ(first.size(), 1u);
  w.auto_run = true;
  w.advance(310s);
  EXPECT_FALSE(w.tasks[first[0]].alive);
  EXPECT_EQ(w.running(), 1);
}

// ---- placement

TEST_F(LifecycleTest, UniqueHostname) {
  deploy(R"({"id":"a","cmd":"sleep 1000","instances":3,"constraints":[["hostname","UNIQUE"]]})");
  EXPECT_EQ(w.running(), 2);
  bool seen = false;
  const auto queue = w.get("/v2/queue");
  for (const auto& s : queue["queue"].at(0).at("processedOffersSummary").at("rejectSummaryLastOffers").get_array()) {
    seen = seen || (str(s.at("reason")) == "UnfulfilledConstraint" && to_number(s.at("declined")) == 2);
  }
  EXPECT_TRUE(seen) << queue.text;
}

TEST_F(LifecycleTest, Operators) {
  w.agents = {{"A1", "h1"}, {"A2", "h2"}, {"A3", "other"}};
  w.agents[0].attributes = {{"zone", "z1"}, {"disk", "ssd"}};
  w.agents[1].attributes = {{"zone", "z2"}};
  const auto hosts = [&](const std::string& id, const std::string& constraint, int n) {
    deploy(R"({"id":")" + id + R"(","cmd":"sleep 1000","cpus":0.1,"instances":)" + std::to_string(n) + R"(,"constraints":[)" + constraint + "]}");
    std::map<std::string, int> out;
    for (const auto& t : w.alive(id)) ++out[w.tasks[t].agent];
    return out;
  };
  using M = std::map<std::string, int>;
  EXPECT_EQ(hosts("/max", R"(["hostname","MAX_PER","1"])", 5), (M{{"A1", 1}, {"A2", 1}, {"A3", 1}}));
  EXPECT_EQ(hosts("/cluster", R"(["zone","CLUSTER","z2"])", 3), (M{{"A2", 3}}));
  EXPECT_EQ(hosts("/first", R"(["hostname","CLUSTER"])", 3).size(), 1u);
  EXPECT_EQ(hosts("/like", R"(["hostname","like","h[0-9]"])", 7).count("A3"), 0u);
  const auto unlike = hosts("/unlike", R"(["disk","UNLIKE","ssd"])", 9);
  EXPECT_EQ(unlike.count("A1"), 0u);
  EXPECT_EQ(unlike.count("A3"), 1u);  // lacks the attribute
  EXPECT_EQ(hosts("/is", R"(["zone","IS","z1"])", 2), (M{{"A1", 2}}));
}

TEST_F(LifecycleTest, GroupBySpreadsAndStaysBalanced) {
  w.agents = {{"A1", "h1"}, {"A2", "h2"}, {"A3", "h3"}};
  for (int i = 0; i < 3; ++i) w.agents[static_cast<std::size_t>(i)].attributes["zone"] = "z" + std::to_string(i);
  deploy(R"({"id":"a","cmd":"sleep 1000","cpus":0.1,"instances":7,"constraints":[["zone","GROUP_BY","3"]]})");
  w.advance(5s);
  const auto spread = [&] {
    std::map<std::string, int> n;
    for (const auto& t : w.alive()) ++n[w.tasks[t].agent];
    std::vector<int> out;
    for (auto& [a, k] : n) out.push_back(k);
    std::sort(out.rbegin(), out.rend());
    return out;
  };
  EXPECT_THAT(spread(), ElementsAre(3, 2, 2));
  w.put("/v2/apps/a", R"({"instances":4})");
  w.advance(5s);
  EXPECT_THAT(spread(), ElementsAre(2, 1, 1));
}

TEST_F(LifecycleTest, PortsAndEnvironment) {
  deploy(R"({"id":"/g/web","cmd":"sleep 1000","env":{"MINE":"yes","HOST":"override"},"labels":{"a-b":"c"},"user":"nobody",
             "portDefinitions":[{"port":0,"name":"http"},{"port":8123,"name":"admin-x"}],"taskKillGracePeriodSeconds":7})");
  const FakeTask& t = w.tasks.at(w.alive()[0]);
  const std::string port = t.env("PORT0");
  EXPECT_GE(std::stoi(port), 31000);
  EXPECT_EQ(t.env("PORT"), port);
  EXPECT_EQ(t.env("PORT_HTTP"), port);
  EXPECT_EQ(t.env("PORT_10000"), port);
  EXPECT_EQ(t.env("PORT_8123"), t.env("PORT1"));
  EXPECT_EQ(t.env("PORT_ADMIN_X"), t.env("PORT1"));
  EXPECT_EQ(t.env("PORTS"), port + "," + t.env("PORT1"));
  EXPECT_EQ(t.env("MARATHON_APP_ID"), "/g/web");
  EXPECT_EQ(t.env("MARATHON_APP_LABELS"), "A_B");
  EXPECT_EQ(t.env("MARATHON_APP_LABEL_A_B"), "c");
  EXPECT_EQ(t.env("MARATHON_APP_RESOURCE_CPUS"), "1.0");
  EXPECT_EQ(t.env("MESOS_TASK_ID"), w.alive()[0]);
  EXPECT_EQ(t.env("HOST"), "override");
  EXPECT_EQ(t.info.name, "web.g");
  EXPECT_EQ(t.info.command->user, "nobody");
  EXPECT_EQ(t.info.kill_policy->grace_period_ns, 7'000'000'000);
  EXPECT_EQ(t.info.discovery->ports.size(), 2u);
  EXPECT_EQ(std::to_string(t.info.discovery->ports[0]->number), port);
  EXPECT_TRUE(t.info.command->shell.value());
  deploy(R"({"id":"/args","args":["/bin/sleep","5 6"]})");
  const auto& c = *w.tasks.at(w.alive("/args")[0]).info.command;
  EXPECT_FALSE(c.shell.value());
  EXPECT_EQ(c.value, "/bin/sleep");
  EXPECT_THAT(c.arguments, ElementsAre("/bin/sleep", "5 6"));
}

TEST_F(LifecycleTest, RequiredPortsAreTakenOnceEach) {
  deploy(R"({"id":"a","cmd":"sleep 1000","instances":3,"requirePorts":true,"portDefinitions":[{"port":31500}]})");
  EXPECT_EQ(w.running(), 2);  // one per agent
  for (const auto& t : w.alive()) EXPECT_EQ(w.tasks[t].env("PORT0"), "31500");
}

// ---- health

constexpr char kChecked[] = R"({"id":"a","cmd":"sleep 1000","healthChecks":[{"protocol":"HTTP","path":"/h","gracePeriodSeconds":30,
  "intervalSeconds":5,"timeoutSeconds":2,"maxConsecutiveFailures":3}]})";

TEST_F(LifecycleTest, HealthGatesDeploymentAndShowsInCounts) {
  w.web = [](const std::string&) { return 500; };
  deploy(kChecked);
  EXPECT_EQ(w.deployments(), 1u);
  std::string asked;
  w.web = [&](const std::string& url) {
    asked = url;
    return 204;
  };
  w.advance(2s);
  EXPECT_EQ(w.deployments(), 0u);
  const auto app = w.app("/a");
  EXPECT_EQ(print_json(app.at("tasksHealthy")), "1");
  EXPECT_EQ(print_json(app.at("tasks").at(0).at("healthCheckResults").at(0).at("alive")), "true");
  EXPECT_EQ(asked, "http://" + str(app.at("tasks").at(0).at("host")) + ":" + print_json(app.at("tasks").at(0).at("ports").at(0)) + "/h");
}

TEST_F(LifecycleTest, FourthFailureInARowKills) {
  const auto stream = w.send("GET", "/v2/events", {}, {{"accept", "text/event-stream"}});
  deploy(kChecked);
  w.advance(5s);
  const std::string first = w.alive()[0];
  w.web = [](const std::string&) { return 500; };
  w.advance(15s);  // three failures
  EXPECT_TRUE(w.tasks[first].alive);
  EXPECT_EQ(print_json(w.app("/a").at("tasksUnhealthy")), "1");
  w.web = [](const std::string&) { return 200; };
  w.advance(5s);  // one success resets the row
  EXPECT_EQ(print_json(w.app("/a").at("tasksHealthy")), "1");
  w.web = [](const std::string&) { return 500; };
  w.advance(15s);
  EXPECT_TRUE(w.tasks[first].alive);
  w.advance(5s);
  EXPECT_FALSE(w.tasks[first].alive);
  w.advance(3s);
  EXPECT_EQ(w.alive().size(), 1u);
  const auto types = w.types(stream);
  EXPECT_THAT(types, Contains("unhealthy_instance_kill_event"));
  EXPECT_THAT(types, Contains("failed_health_check_event"));
  EXPECT_THAT(types, Contains("health_status_changed_event"));
  EXPECT_THAT(types, Contains("instance_health_changed_event"));
}

TEST_F(LifecycleTest, GraceIgnoresFailuresAndThenCountsThem) {
  w.web = [](const std::string&) { return -1; };
  deploy(kChecked);
  const std::string first = w.alive()[0];
  w.advance(26s);  // 29 s in all
  EXPECT_TRUE(w.tasks[first].alive);
  EXPECT_EQ(print_json(w.app("/a").at("tasksUnhealthy")), "0");
  w.advance(30s);
  EXPECT_FALSE(w.tasks[first].alive);
}

TEST_F(LifecycleTest, ZeroFailuresNeverKills) {
  w.web = [](const std::string&) { return 500; };
  deploy(R"({"id":"a","cmd":"sleep 1000","healthChecks":[{"protocol":"TCP","gracePeriodSeconds":0,"intervalSeconds":1,"maxConsecutiveFailures":0}]})");
  w.web = [](const std::string&) { return -1; };
  w.advance(100s);
  EXPECT_EQ(w.tasks.size(), 1u);
}

TEST_F(LifecycleTest, AgentChecksTravelWithTheTaskAndReportBack) {
  deploy(R"({"id":"a","cmd":"sleep 1000","healthChecks":[{"protocol":"MESOS_HTTP","path":"/x","gracePeriodSeconds":9,"delaySeconds":1}]})");
  const std::string id = w.alive()[0];
  const auto& h = *w.tasks[id].info.health_check;
  EXPECT_EQ(h.type, fb::CheckType::HTTP);
  EXPECT_EQ(std::to_string(h.http->port), w.tasks[id].env("PORT0"));
  EXPECT_EQ(h.grace_period_seconds, 9.0);
  EXPECT_EQ(w.deployments(), 1u);
  w.update(id, S::TASK_RUNNING, "", true);
  w.host().run();
  EXPECT_EQ(w.deployments(), 0u);
  EXPECT_EQ(print_json(w.app("/a").at("tasksHealthy")), "1");
  w.update(id, S::TASK_RUNNING, "", false);
  w.host().run();
  EXPECT_EQ(print_json(w.app("/a").at("tasksUnhealthy")), "1");
  deploy(R"({"id":"b","cmd":"sleep 1000","healthChecks":[{"protocol":"COMMAND","command":{"value":"true"}}]})");
  EXPECT_EQ(w.tasks[w.alive("/b")[0]].info.health_check->command->value, "true");
}

// ---- trouble

TEST_F(LifecycleTest, RestartOfTheModuleChangesNothingThatRuns) {
  deploy(R"({"id":"/g/a","cmd":"sleep 1000","instances":3,"healthChecks":[{"protocol":"HTTP","gracePeriodSeconds":1,"intervalSeconds":60}]})");
  w.put("/v2/apps/g/a", R"({"labels":{"x":"y"},"instances":2})");
  w.advance(10s);
  const auto before = w.alive();
  const auto app = print_json(w.app("/g/a"));
  const auto launched = w.tasks.size();
  ASSERT_EQ(before.size(), 2u);
  w.web = [](const std::string&) { return 0; };  // what is known of health must come from the store
  w.hold_commits = true;
  w.reboot();
  w.hold_commits = false;
  EXPECT_EQ(w.calls.back().type == fb::CallType::SUBSCRIBE || w.core().framework_id() == "F1", true);
  EXPECT_EQ(print_json(w.app("/g/a").at("tasksHealthy")), "2");
  w.web = [](const std::string&) { return 200; };
  w.release_commits();
  w.advance(700s);  // reconciliations included
  EXPECT_EQ(w.alive(), before);
  EXPECT_EQ(w.tasks.size(), launched);
  EXPECT_EQ(print_json(w.app("/g/a").at("versionInfo")), print_json(parse_json(app).value().at("versionInfo")));
  EXPECT_EQ(w.get("/v2/apps/g/a/versions")["versions"].get_array().size(), 2u);
}

TEST_F(LifecycleTest, RestartInTheMiddleOfADeploymentGoesOn) {
  deploy(R"({"id":"a","cmd":"sleep 1000","instances":3})");
  w.auto_run = false;
  const auto d = w.put("/v2/apps/a", R"({"cmd":"sleep 2000"})");
  w.advance(1s);
  const std::string id = str(d["deploymentId"]);
  w.reboot();
  EXPECT_EQ(str(w.get("/v2/deployments").body.at(0).at("id")), id);
  w.auto_run = true;
  for (const auto& t : w.alive()) w.update(t, S::TASK_RUNNING);
  w.advance(20s);
  EXPECT_EQ(w.deployments(), 0u);
  EXPECT_EQ(good("sleep 2000"), 3);
  EXPECT_EQ(w.alive().size(), 3u);
}

TEST_F(LifecycleTest, LaunchLostBetweenStoreAndMasterIsRepeated) {
  w.cluster_down = false;
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const std::string lost = w.alive()[0];
  w.tasks[lost].alive = false;  // the master never heard of it
  w.reboot();
  w.advance(5s);
  EXPECT_EQ(w.running(), 1);
  EXPECT_NE(w.alive()[0], lost);
}

TEST_F(LifecycleTest, MasterGoneAndBack) {
  deploy(R"({"id":"a","cmd":"sleep 1000","instances":2})");
  const auto before = w.alive();
  w.cluster_down = true;
  w.disconnect();
  w.advance(20s);
  EXPECT_EQ(w.app("/a").at("tasks").get_array().size(), 2u);
  w.cluster_down = false;
  w.calls.clear();
  w.advance(10s);
  ASSERT_EQ(w.count(fb::CallType::SUBSCRIBE), 1);
  EXPECT_EQ(w.calls.front().subscribe->framework_info->id, "F1");
  EXPECT_EQ(w.count(fb::CallType::RECONCILE), 2);  // explicit and implicit
  EXPECT_EQ(w.alive(), before);
}

TEST_F(LifecycleTest, UnreachableIsReplacedAndTheReturnedTaskKilled) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const std::string id = w.alive()[0];
  w.update(id, S::TASK_UNREACHABLE);
  w.advance(3s);
  EXPECT_EQ(w.alive().size(), 2u);
  w.update(id, S::TASK_RUNNING);
  w.advance(3s);
  EXPECT_FALSE(w.tasks[id].alive);
  EXPECT_EQ(w.running(), 1);
}

TEST_F(LifecycleTest, UnreachableDisabledWaitsTimedReplacesLate) {
  deploy(R"({"id":"a","cmd":"sleep 1000","unreachableStrategy":"disabled"})");
  deploy(R"({"id":"b","cmd":"sleep 1000","unreachableStrategy":{"inactiveAfterSeconds":60,"expungeAfterSeconds":120}})");
  const std::string a = w.alive("/a")[0], b = w.alive("/b")[0];
  w.update(a, S::TASK_UNREACHABLE);
  w.update(b, S::TASK_UNREACHABLE);
  w.advance(58s);
  EXPECT_EQ(w.alive().size(), 2u);
  w.advance(10s);
  EXPECT_EQ(w.alive("/a").size(), 1u);
  EXPECT_EQ(w.alive("/b").size(), 2u);
  w.advance(600s);
  EXPECT_EQ(w.alive("/a").size(), 1u);
  w.update(a, S::TASK_RUNNING);
  w.update(b, S::TASK_RUNNING);
  w.advance(3s);
  EXPECT_TRUE(w.tasks[a].alive);
  EXPECT_FALSE(w.tasks[b].alive);  // expunged long ago
}

TEST_F(LifecycleTest, AcknowledgedOnlyWhenStoredAndOnlyWithUuid) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const std::string id = w.alive()[0];
  w.hold_commits = true;
  const int before = w.count(fb::CallType::ACKNOWLEDGE);
  w.update(id, S::TASK_FAILED);
  w.host().run();
  EXPECT_EQ(w.count(fb::CallType::ACKNOWLEDGE), before);
  w.release_commits();
  EXPECT_EQ(w.count(fb::CallType::ACKNOWLEDGE), before + 1);
  w.update("stranger.instance-11111111-2222-3333-4444-555555555555._app.1", S::TASK_RUNNING, "", {}, false);
  w.host().run();
  EXPECT_EQ(w.count(fb::CallType::ACKNOWLEDGE), before + 1);
  EXPECT_EQ(w.calls.back().kill->task_id, "stranger.instance-11111111-2222-3333-4444-555555555555._app.1");
}

TEST_F(LifecycleTest, StopAnswersEverything) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const auto s = w.send("GET", "/v2/events", {}, {{"accept", "text/event-stream"}});
  w.host().run();
  EXPECT_TRUE(w.stop());
  w.host().run();
  EXPECT_FALSE(w.responses[s].open);
}

// ---- events

TEST_F(LifecycleTest, EventStreamsFilterAndBeginWithThemselves) {
  const auto all = w.send("GET", "/v2/events", {}, {{"accept", "text/event-stream"}});
  w.host().run();
  const auto two = w.send("GET", "/v2/events?event_type=deployment_success&event_type=event_stream_attached", {}, {{"accept", "text/event-stream"}});
  w.host().run();
  const auto r = w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000"})");
  w.advance(3s);
  EXPECT_EQ(w.types(two), (std::vector<std::string>{"event_stream_attached", "deployment_success"}));
  EXPECT_EQ(str(w.events(two)[1].second.at("plan").at("id")), r.headers.at("Marathon-Deployment-Id"));
  const auto types = w.types(all);
  EXPECT_EQ(types.front(), "event_stream_attached");
  for (const char* t : {"api_post_event", "deployment_info", "deployment_step_success", "status_update_event", "instance_changed_event", "group_change_success"}) {
    EXPECT_THAT(types, Contains(t));
  }
  for (const auto& [type, data] : w.events(all)) {
    EXPECT_EQ(str(data.at("eventType")), type);
    EXPECT_TRUE(parse_time(str(data.at("timestamp"))));
    if (type == "deployment_info") {
      EXPECT_TRUE(data.at("plan").at("original").is_object());
    }
  }
  EXPECT_EQ(w.ask("GET", "/v2/events", {}, {{"accept", "application/json"}}).status, 406);
}

TEST_F(LifecycleTest, AClientThatDoesNotReadIsCutOff) {
  const auto s = w.send("GET", "/v2/events", {}, {{"accept", "text/event-stream"}});
  w.host().run();
  w.reads = [&](std::uint64_t id) { return id != s; };
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const std::string id = w.alive()[0];
  for (int i = 0; i < 1200; ++i) {
    w.update(id, i % 2 ? S::TASK_RUNNING : S::TASK_STARTING);
    w.host().run();
  }
  EXPECT_TRUE(w.host().logged("cut off"));
}

TEST_F(LifecycleTest, ThousandsOfTasksStayQuick) {
  w.agents.clear();
  for (int i = 0; i < 20; ++i) {
    w.agents.push_back({"A" + std::to_string(i), "h" + std::to_string(i)});
    w.agents.back().cpus = 100;
    w.agents.back().mem = 100000;
  }
  deploy(R"({"id":"a","cmd":"sleep 1000","cpus":0.1,"mem":1,"instances":1000})");
  w.advance(60s);
  EXPECT_EQ(w.running(), 1000);
  EXPECT_EQ(w.deployments(), 0u);
}

}  // namespace
}  // namespace gantry::framework_services
