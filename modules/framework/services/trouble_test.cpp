// Health, trouble and events: what is noticed, what survives, what is told (marathon.md F 31-35).
#include <gmock/gmock.h>

#include "world.hpp"

namespace gantry::framework_services {
namespace {

using ::testing::Contains;

class TroubleTest : public LifecycleTest {};

// ---- health

constexpr char kChecked[] =
    R"({"id":"a","cmd":"sleep 1000","healthChecks":[{"protocol":"HTTP","path":"/h","gracePeriodSeconds":30,
  "intervalSeconds":5,"timeoutSeconds":2,"maxConsecutiveFailures":3}]})";

TEST_F(TroubleTest, HealthGatesDeploymentAndShowsInCounts) {
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
  EXPECT_EQ(asked, "http://" + str(app.at("tasks").at(0).at("host")) + ":" +
                       print_json(app.at("tasks").at(0).at("ports").at(0)) + "/h");
}

TEST_F(TroubleTest, FourthFailureInARowKills) {
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

TEST_F(TroubleTest, GraceIgnoresFailuresAndThenCountsThem) {
  w.web = [](const std::string&) { return -1; };
  deploy(kChecked);
  const std::string first = w.alive()[0];
  w.advance(26s);  // 29 s in all
  EXPECT_TRUE(w.tasks[first].alive);
  EXPECT_EQ(print_json(w.app("/a").at("tasksUnhealthy")), "0");
  w.advance(30s);
  EXPECT_FALSE(w.tasks[first].alive);
}

TEST_F(TroubleTest, ZeroFailuresNeverKills) {
  w.web = [](const std::string&) { return 500; };
  deploy(
      R"({"id":"a","cmd":"sleep 1000","healthChecks":[{"protocol":"TCP","gracePeriodSeconds":0,"intervalSeconds":1,"maxConsecutiveFailures":0}]})");
  w.web = [](const std::string&) { return -1; };
  w.advance(100s);
  EXPECT_EQ(w.tasks.size(), 1u);
}

TEST_F(TroubleTest, AgentChecksTravelWithTheTaskAndReportBack) {
  deploy(
      R"({"id":"a","cmd":"sleep 1000","healthChecks":[{"protocol":"MESOS_HTTP","path":"/x","gracePeriodSeconds":9,"delaySeconds":1}]})");
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

TEST_F(TroubleTest, RestartOfTheModuleChangesNothingThatRuns) {
  deploy(
      R"({"id":"/g/a","cmd":"sleep 1000","instances":3,"healthChecks":[{"protocol":"HTTP","gracePeriodSeconds":1,"intervalSeconds":60}]})");
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

TEST_F(TroubleTest, RestartInTheMiddleOfADeploymentGoesOn) {
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

TEST_F(TroubleTest, LaunchLostBetweenStoreAndMasterIsRepeated) {
  w.cluster_down = false;
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const std::string lost = w.alive()[0];
  w.tasks[lost].alive = false;  // the master never heard of it
  w.reboot();
  w.advance(5s);
  EXPECT_EQ(w.running(), 1);
  EXPECT_NE(w.alive()[0], lost);
}

TEST_F(TroubleTest, MasterGoneAndBack) {
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

TEST_F(TroubleTest, UnreachableIsReplacedAndTheReturnedTaskKilled) {
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

TEST_F(TroubleTest, UnreachableDisabledWaitsTimedReplacesLate) {
  deploy(R"({"id":"a","cmd":"sleep 1000","unreachableStrategy":"disabled"})");
  deploy(
      R"({"id":"b","cmd":"sleep 1000","unreachableStrategy":{"inactiveAfterSeconds":60,"expungeAfterSeconds":120}})");
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

TEST_F(TroubleTest, AcknowledgedOnlyWhenStoredAndOnlyWithUuid) {
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

// A kill is in no record of the master: one lost with it would leave the task running and its deployment standing.
TEST_F(TroubleTest, AKillIsRepeatedUntilTheEndIsTold) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const std::string id = w.alive()[0];
  w.auto_kill = false;
  w.del("/v2/apps/a");
  w.host().run();
  EXPECT_EQ(w.count(fb::CallType::KILL), 1);
  w.advance(9s);
  EXPECT_EQ(w.count(fb::CallType::KILL), 1);
  w.advance(2s);
  EXPECT_EQ(w.count(fb::CallType::KILL), 2);
  w.advance(10s);
  EXPECT_EQ(w.count(fb::CallType::KILL), 3);
  EXPECT_EQ(w.calls.back().kill->task_id, id);
  w.update(id, S::TASK_KILLED);
  w.advance(60s);
  EXPECT_EQ(w.count(fb::CallType::KILL), 3);
  EXPECT_EQ(w.deployments(), 0u);
}

TEST_F(TroubleTest, AKillIsRepeatedWhenTheTaskIsToldToGoOn) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const std::string id = w.alive()[0];
  w.auto_kill = false;
  w.del("/v2/apps/a");
  w.host().run();
  EXPECT_EQ(w.count(fb::CallType::KILL), 1);
  // An update of its own life says nothing about the kill; it may have left before the kill came.
  w.update(id, S::TASK_RUNNING);
  w.host().run();
  EXPECT_EQ(w.count(fb::CallType::KILL), 1);
  // The answer to a reconciliation (no uuid) does: the master knows of no kill.
  w.update(id, S::TASK_RUNNING, "", {}, false);
  w.host().run();
  EXPECT_EQ(w.count(fb::CallType::KILL), 2);
  w.update(id, S::TASK_KILLING, "", {}, false);
  w.host().run();
  EXPECT_EQ(w.count(fb::CallType::KILL), 2) << "it has come";
}

TEST_F(TroubleTest, AKillIsRepeatedAfterARestart) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  w.auto_kill = false;
  w.del("/v2/apps/a");
  w.host().run();
  w.calls.clear();
  w.reboot();
  w.advance(6s);
  EXPECT_GE(w.count(fb::CallType::KILL), 1);
}

TEST_F(TroubleTest, StopAnswersEverything) {
  deploy(R"({"id":"a","cmd":"sleep 1000"})");
  const auto s = w.send("GET", "/v2/events", {}, {{"accept", "text/event-stream"}});
  w.host().run();
  EXPECT_TRUE(w.stop());
  w.host().run();
  EXPECT_FALSE(w.responses[s].open);
}

// ---- events

TEST_F(TroubleTest, EventStreamsFilterAndBeginWithThemselves) {
  const auto all = w.send("GET", "/v2/events", {}, {{"accept", "text/event-stream"}});
  w.host().run();
  const auto two = w.send("GET", "/v2/events?event_type=deployment_success&event_type=event_stream_attached", {},
                          {{"accept", "text/event-stream"}});
  w.host().run();
  const auto r = w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000"})");
  w.advance(3s);
  EXPECT_EQ(w.types(two), (std::vector<std::string>{"event_stream_attached", "deployment_success"}));
  EXPECT_EQ(str(w.events(two)[1].second.at("plan").at("id")), r.headers.at("Marathon-Deployment-Id"));
  const auto types = w.types(all);
  EXPECT_EQ(types.front(), "event_stream_attached");
  for (const char* t : {"api_post_event", "deployment_info", "deployment_step_success", "status_update_event",
                        "instance_changed_event", "group_change_success"}) {
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

TEST_F(TroubleTest, AClientThatDoesNotReadIsCutOff) {
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

TEST_F(TroubleTest, ThousandsOfTasksStayQuick) {
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
