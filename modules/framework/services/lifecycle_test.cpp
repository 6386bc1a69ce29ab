// What applications live through: deployments, upgrades, single tasks, placement (marathon.md F 12-30).
#include <gmock/gmock.h>

#include "world.hpp"

namespace gantry::framework_services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  for (int i = 0; i < 100; ++i)
    ASSERT_EQ(w.post("/v2/apps", R"({"id":"a)" + std::to_string(i) + R"(","cmd":"sleep 1000","cpus":100})").status,
              201);
  EXPECT_EQ(w.post("/v2/apps", R"({"id":"one-more","cmd":"sleep 1000"})").status, 403);
}

TEST_F(LifecycleTest, DependenciesComeFirstAndCyclesAreRefused) {
  w.auto_run = false;
  const auto r =
      w.put("/v2/apps", R"([{"id":"/web","cmd":"sleep 1000","dependencies":["db"]},{"id":"/db","cmd":"sleep 1000"}])");
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
  ASSERT_EQ(
      w.put("/v2/apps/a", R"({"cmd":"sleep 2000","upgradeStrategy":{"minimumHealthCapacity":)" + std::to_string(p.min) +
                              R"(,"maximumOverCapacity":)" + std::to_string(p.over) + "}}")
          .status,
      200);
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
                         ::testing::Values(Upgrade{4, 0.5, 0, 2, 4}, Upgrade{4, 1, 0, 4, 5}, Upgrade{4, 1, 1, 4, 8},
                                           Upgrade{3, 0, 0, 0, 3}, Upgrade{1, 1, 0, 1, 2}, Upgrade{5, 0.7, 0.3, 4, 6}));

TEST_F(LifecycleTest, ReadinessGatesTheOldInstances) {
  w.web = [](const std::string& url) { return url.ends_with("/ready") ? 503 : 200; };
  const std::string check =
      R"("portDefinitions":[{"port":0,"name":"http-api"}],"readinessChecks":[{"path":"/ready","intervalSeconds":2,"timeoutSeconds":1}])";
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
  EXPECT_NE(print_json(w.app("/a").at("versionInfo").at("lastConfigChangeAt")),
            print_json(info.at("lastConfigChangeAt")));
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
  EXPECT_EQ(str(w.del("/v2/apps/a/tasks/" + id.substr(0, 3) + "x")["message"]),
            "Task '" + id.substr(0, 3) + "x' does not exist");
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
  EXPECT_EQ(w.post("/v2/tasks/delete", R"({"ids":["x.instance-00000000-0000-0000-0000-000000000000._app.1"]})").status,
            200);
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
    deploy(R"({"id":")" + id + R"(","cmd":"sleep 1000","cpus":0.1,"instances":)" + std::to_string(n) +
           R"(,"constraints":[)" + constraint + "]}");
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
  deploy(
      R"({"id":"/g/web","cmd":"sleep 1000","env":{"MINE":"yes","HOST":"override"},"labels":{"a-b":"c"},"user":"nobody",
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

}  // namespace
}  // namespace gantry::framework_services
