// The API contract: shapes, statuses, errors, merging (marathon.md B, F 1-13).
#include <gmock/gmock.h>

#include "world.hpp"

namespace gantry::framework_services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class ApiTest : public ::testing::Test {
 protected:
  World w;
  std::vector<std::string> ids(const Json& list) {
    std::vector<std::string> out;
    for (const auto& a : list.get_array()) out.push_back(str(a.at("id")));
    return out;
  }
};

TEST_F(ApiTest, CreateShowsDefaultsLocationAndDeployment) {
  const auto r = w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000"})");
  ASSERT_EQ(r.status, 201) << r.text;
  EXPECT_EQ(r.headers.at("Location"), "/v2/apps/a");
  EXPECT_EQ(r.headers.at("Marathon-Deployment-Id"), str(r["deployments"].at(0).at("id")));
  EXPECT_EQ(str(r["id"]), "/a");
  EXPECT_EQ(print_json(r["cpus"]), "1");
  EXPECT_EQ(print_json(r["mem"]), "128");
  EXPECT_EQ(print_json(r["backoffFactor"]), "1.15");
  EXPECT_EQ(print_json(r["maxLaunchDelaySeconds"]), "300");
  EXPECT_EQ(print_json(r["networks"]), R"([{"mode":"host"}])");
  EXPECT_EQ(print_json(r["labels"]), "{}");
  EXPECT_EQ(print_json(r["upgradeStrategy"]), R"({"maximumOverCapacity":1,"minimumHealthCapacity":1})");
  EXPECT_EQ(print_json(r["unreachableStrategy"]), R"({"expungeAfterSeconds":0,"inactiveAfterSeconds":0})");
  EXPECT_EQ(str(r["killSelection"]), "YOUNGEST_FIRST");
  EXPECT_EQ(print_json(r["tasksStaged"]), "0");
  EXPECT_EQ(print_json(r["portDefinitions"].at(0).at("port")), "10000");
  for (const char* absent : {"constraints", "env", "fetch", "healthChecks", "args", "versionInfo", "ports", "uris",
                             "container", "taskKillGracePeriodSeconds"}) {
    EXPECT_FALSE(r.object().contains(absent)) << absent;
  }
  EXPECT_EQ(w.running("/a"), 1);
  const Object app = w.app("/a");
  EXPECT_EQ(print_json(app.at("tasksRunning")), "1");
  EXPECT_TRUE(app.contains("versionInfo"));
  EXPECT_EQ(app.at("tasks").get_array().size(), 1u);
  EXPECT_EQ(w.deployments(), 0u);
}

TEST_F(ApiTest, TrailingSlashWorks) { EXPECT_EQ(w.post("/v2/apps/", R"({"id":"/a","cmd":"sleep 1000"})").status, 201); }

TEST_F(ApiTest, DuplicateIdIs409WithoutDeployments) {
  w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000"})");
  const auto r = w.post("/v2/apps", R"({"id":"/a","cmd":"sleep 1000"})");
  EXPECT_EQ(r.status, 409);
  EXPECT_EQ(str(r["message"]), "An app with id [/a] already exists.");
  EXPECT_FALSE(r.object().contains("deployments"));
}

TEST_F(ApiTest, CmdAndArgsTogetherAre422WithPath) {
  const auto r = w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1","args":["x"]})");
  EXPECT_EQ(r.status, 422);
  EXPECT_EQ(str(r["message"]), "Object is not valid");
  EXPECT_EQ(str(r["details"].at(0).at("path")), "/");
  EXPECT_TRUE(w.records.empty() || !w.records.count("app/a"));
}

TEST_F(ApiTest, WrongTypesAre422AndBrokenJsonIs400) {
  const auto typed = w.post("/v2/apps", R"({"id":123,"cmd":"sleep 1"})");
  EXPECT_EQ(typed.status, 422);
  EXPECT_EQ(print_json(typed.body),
            R"({"message":"Invalid JSON","details":[{"path":"/id","errors":["error.expected.jsstring"]}]})");
  const auto missing = w.post("/v2/apps", R"({"cmd":"sleep 1"})");
  EXPECT_EQ(print_json(missing["details"]), R"([{"path":"/id","errors":["error.path.missing"]}])");
  const auto nested =
      w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1","healthChecks":[{"protocol":"HTTP"},{"path":7}]})");
  EXPECT_EQ(str(nested["details"].at(0).at("path")), "/healthChecks(1)/path");
  const auto broken = w.post("/v2/apps", R"({"id":"a",)");
  EXPECT_EQ(broken.status, 400);
  EXPECT_EQ(str(broken["message"]), "Invalid JSON");
  EXPECT_TRUE(broken["details"].is_string());
}

TEST_F(ApiTest, RulesAreReportedTogether) {
  const auto r = w.post("/v2/apps", R"({"id":"/a_b/tasks","cmd":"sleep 1","instances":-1,"cpus":-0.5,
    "upgradeStrategy":{"minimumHealthCapacity":1.5},"constraints":[["hostname","NEAR"]],"acceptedResourceRoles":[],
    "healthChecks":[{"portIndex":3}],"portDefinitions":[{"port":1,"name":"x"},{"port":1,"name":"x"}],
    "unreachableStrategy":{"inactiveAfterSeconds":9,"expungeAfterSeconds":3}})");
  ASSERT_EQ(r.status, 422);
  std::vector<std::string> paths;
  for (const auto& d : r["details"].get_array()) paths.push_back(str(d.at("path")));
  EXPECT_THAT(paths, UnorderedElementsAre("/id", "/instances", "/cpus", "/upgradeStrategy/minimumHealthCapacity",
                                          "/constraints(0)", "/acceptedResourceRoles", "/healthChecks(0)",
                                          "/portDefinitions", "/unreachableStrategy"));
}

TEST_F(ApiTest, LaterFeaturesAreRefusedByName) {
  const auto r = w.post("/v2/apps", R"({"id":"a","container":{"type":"DOCKER","docker":{"image":"nginx"}}})");
  EXPECT_EQ(r.status, 422);
  EXPECT_EQ(str(r["details"].at(0).at("path")), "/container/docker/image");
  EXPECT_THAT(str(r["details"].at(0).at("errors").at(0)), HasSubstr("containers release"));
  EXPECT_EQ(w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1","container":{"type":"MESOS"}})").status, 201);
}

TEST_F(ApiTest, MergeKeepsOtherFieldsReplaceDropsThem) {
  w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000","env":{"K":"v"},"labels":{"l":"1"}})");
  const auto before = w.app("/a");
  w.advance(1s);
  ASSERT_EQ(w.put("/v2/apps/a", R"({"instances":3,"ports":null,"dependencies":null})").status, 200);
  w.advance(2s);
  auto app = w.app("/a");
  EXPECT_EQ(print_json(app["env"]), R"({"K":"v"})");
  EXPECT_EQ(w.running("/a"), 3);
  EXPECT_EQ(app.at("versionInfo").at("lastConfigChangeAt"), before.at("versionInfo").at("lastConfigChangeAt"));
  EXPECT_NE(app.at("versionInfo").at("lastScalingAt"), before.at("versionInfo").at("lastScalingAt"));
  ASSERT_EQ(w.put("/v2/apps/a?partialUpdate=false", R"({"cmd":"sleep 2000"})").status, 200);
  w.advance(10s);
  app = w.app("/a");
  EXPECT_FALSE(app.contains("env"));
  EXPECT_EQ(print_json(app["labels"]), "{}");
  EXPECT_EQ(print_json(app["instances"]), "1");
}

TEST_F(ApiTest, TheSameInOtherWordsIsNoChange) {
  w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000","cpus":1,"ports":[0]})");
  const auto before = w.alive();
  const std::string version = str(w.app("/a").at("version"));
  w.advance(1s);
  const auto r =
      w.put("/v2/apps/a", R"({"mem":128.0,"cpus":1.0,"cmd":"sleep 1000","ports":[0],"uris":[],"constraints":[]})");
  EXPECT_EQ(r.status, 200);
  EXPECT_TRUE(r.object().contains("deploymentId"));
  w.advance(5s);
  EXPECT_EQ(w.alive(), before);
  EXPECT_EQ(str(w.app("/a").at("version")), version);
}

TEST_F(ApiTest, ScaleIsOneScaleStep) {
  w.auto_run = false;
  w.post("/v2/apps?force=true", R"({"id":"a","cmd":"sleep 1000"})");
  w.auto_offer = false;
  w.put("/v2/apps/a?force=true", R"({"instances":3})");
  const auto d = w.get("/v2/deployments").body.get_array();
  ASSERT_EQ(d.size(), 1u);
  EXPECT_EQ(print_json(d[0].at("steps")), R"([{"actions":[{"action":"ScaleApplication","app":"/a"}]}])");
  EXPECT_EQ(print_json(d[0].at("affectedApps")), R"(["/a"])");
  EXPECT_EQ(print_json(d[0].at("affectedPods")), "[]");
  EXPECT_EQ(print_json(d[0].at("currentStep")), "1");
}

TEST_F(ApiTest, PutCreatesPatchDoesNot) {
  EXPECT_EQ(w.ask("PATCH", "/v2/apps/a", R"({"cmd":"sleep 5"})").status, 404);
  EXPECT_EQ(str(w.get("/v2/apps/a")["message"]), "App '/a' does not exist");
  const auto r = w.put("/v2/apps/a", R"({"cmd":"sleep 1000"})");
  EXPECT_EQ(r.status, 201);
  EXPECT_TRUE(r.object().contains("deploymentId"));
}

TEST_F(ApiTest, RollbackByVersion) {
  w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000"})");
  const std::string v1 = str(w.app("/a").at("version"));
  w.advance(1s);
  w.put("/v2/apps/a", R"({"cmd":"sleep 2000"})");
  w.advance(5s);
  EXPECT_EQ(w.get("/v2/apps/a/versions")["versions"].get_array().size(), 2u);
  const auto old = w.get("/v2/apps/a/versions/" + v1);
  EXPECT_EQ(str(old["cmd"]), "sleep 1000");  // not wrapped
  EXPECT_EQ(w.get("/v2/apps/a/versions/yesterday").status, 422);
  EXPECT_EQ(w.put("/v2/apps/a", R"({"version":")" + v1 + R"(","cmd":"x y"})").status, 422);
  EXPECT_EQ(w.put("/v2/apps/a", R"({"version":"2001-01-01T00:00:00.000Z"})").status, 404);
  ASSERT_EQ(w.put("/v2/apps/a", R"({"version":")" + v1 + R"("})").status, 200);
  w.advance(5s);
  EXPECT_EQ(str(w.app("/a").at("cmd")), "sleep 1000");
  EXPECT_EQ(w.running("/a"), 1);
}

TEST_F(ApiTest, GroupStarListsItsApps) {
  w.post("/v2/apps", R"({"id":"/g/a","cmd":"sleep 1000"})");
  w.post("/v2/apps", R"({"id":"/g/b","cmd":"sleep 1000"})");
  w.post("/v2/apps", R"({"id":"/h","cmd":"sleep 1000"})");
  w.advance(3s);
  EXPECT_THAT(ids(w.get("/v2/apps/g/*")["*"]), ElementsAre("/g/a", "/g/b"));
  EXPECT_EQ(w.get("/v2/apps/g/*/tasks")["tasks"].get_array().size(), 2u);
  const auto root = w.get("/v2/groups");
  EXPECT_EQ(str(root["groups"].at(0).at("id")), "/g");
  EXPECT_THAT(ids(root["apps"]), ElementsAre("/h"));
  EXPECT_EQ(w.get("/v2/groups/nope").status, 404);
}

TEST_F(ApiTest, Selectors) {
  w.post("/v2/apps", R"({"id":"/one","cmd":"sleep 1000","labels":{"env":"p","tier":"db"}})");
  w.post("/v2/apps", R"({"id":"/two","cmd":"sleep 1000","labels":{"env":"q","tier":"web"}})");
  w.post("/v2/apps", R"({"id":"/three","cmd":"TRUE 1","labels":{"env":"p"}})");
  EXPECT_THAT(ids(w.get("/v2/apps?label=env%20in%20(p,q),tier!=web")["apps"]), ElementsAre("/one"));
  EXPECT_THAT(ids(w.get("/v2/apps?label=env==p")["apps"]), ElementsAre("/one", "/three"));
  EXPECT_THAT(ids(w.get("/v2/apps?label=tier%20notin%20(db)")["apps"]), ElementsAre("/two"));
  EXPECT_THAT(ids(w.get("/v2/apps?cmd=true")["apps"]), ElementsAre("/three"));
  EXPECT_THAT(ids(w.get("/v2/apps?id=Tw")["apps"]), ElementsAre("/two"));
  EXPECT_EQ(w.get("/v2/apps?label=env%20in%20(p").status, 422);
  EXPECT_FALSE(w.get("/v2/apps").body.at("apps").at(0).get_object().contains("tasks"));
  EXPECT_TRUE(w.get("/v2/apps?embed=apps.tasks").body.at("apps").at(0).get_object().contains("tasks"));
}

TEST_F(ApiTest, ServicePortsStayWhenAskedForAgain) {
  const auto a = w.post("/v2/apps", R"({"id":"/a","cmd":"sleep 1000"})");
  const auto b = w.post("/v2/apps", R"({"id":"/b","cmd":"sleep 1000","ports":[0,0]})");
  EXPECT_EQ(print_json(a["portDefinitions"].at(0).at("port")), "10000");
  EXPECT_EQ(print_json(b["portDefinitions"].at(0).at("port")), "10001");
  EXPECT_EQ(print_json(b["portDefinitions"].at(1).at("port")), "10002");
  w.put("/v2/apps/b", R"({"portDefinitions":[{"port":0},{"port":0}],"cmd":"sleep 2000"})");
  w.advance(5s);
  EXPECT_EQ(print_json(w.app("/b").at("portDefinitions").at(1).at("port")), "10002");
}

TEST_F(ApiTest, SmallEndpoints) {
  EXPECT_EQ(w.get("/ping").text, "pong");
  EXPECT_EQ(w.ask("GET", "/ping", {}, {{"accept", "application/json"}}).text, "\"pong\"");
  EXPECT_EQ(w.ask("GET", "/ping", {}, {{"accept", "image/png"}}).status, 204);
  const auto info = w.get("/v2/info");
  EXPECT_EQ(str(info["name"]), "marathon");
  EXPECT_EQ(str(info["frameworkId"]), "F1");
  for (const char* k : {"marathon_config", "zookeeper_config", "http_config"}) EXPECT_TRUE(info[k].is_object());
  EXPECT_EQ(str(w.get("/v2/leader")["leader"]), "127.0.0.1:8080");
  EXPECT_EQ(print_json(w.get("/v2/plugins").body), R"({"plugins":[]})");
  EXPECT_EQ(print_json(w.get("/v2/queue").body), R"({"queue":[]})");
  EXPECT_EQ(w.get("/metrics").status, 200);
  EXPECT_EQ(w.get("/v2/nothing").status, 404);
  EXPECT_EQ(w.ask("POST", "/v2/apps", "id=a", {{"content-type", "application/x-www-form-urlencoded"}}).status, 415);
  EXPECT_EQ(w.ask("HEAD", "/v2/pods").status, 200);
  EXPECT_EQ(print_json(w.get("/v2/pods").body), "[]");
}

TEST_F(ApiTest, NothingIsAnsweredOrLaunchedBeforeItIsStored) {
  w.hold_commits = true;
  w.journal.clear();
  const auto id = w.send("POST", "/v2/apps", R"({"id":"a","cmd":"sleep 1000"})");
  w.host().run();
  EXPECT_EQ(w.responses.count(id), 0u);
  EXPECT_TRUE(w.alive().empty());
  w.release_commits();
  EXPECT_EQ(w.responses[id].status, 201);
  EXPECT_EQ(w.running(), 1);
  EXPECT_EQ(w.journal.front(), "commit");
}

TEST_F(ApiTest, FullStoreIs503AndHealsWithoutLoss) {
  w.store_fails = true;
  EXPECT_EQ(w.post("/v2/apps", R"({"id":"a","cmd":"sleep 1000"})").status, 503);
  EXPECT_EQ(w.post("/v2/apps", R"({"id":"b","cmd":"sleep 1000"})").status, 503);
  EXPECT_TRUE(w.alive().empty());
  w.store_fails = false;
  w.advance(3s);
  EXPECT_EQ(w.running("/a"), 1);  // accepted before the trouble was known, so it takes effect
  EXPECT_EQ(w.get("/v2/apps/b").status, 404);
}

TEST_F(ApiTest, HostileRequestsAreAnswered) {
  for (const char* target : {"/v2/apps//", "/v2/apps/%zz", "/v2/apps/a/versions/", "/v2/apps/*/tasks",
                             "/v2/queue/x/delay", "/v2/deployments/x", "/v2/groups/a/b", "/"}) {
    for (const char* method : {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}) {
      const auto r = w.ask(method, target, "[[[1,{\"id\":[]}]]]");
      EXPECT_GE(r.status, 200) << method << target;
      EXPECT_LT(r.status, 500) << method << target;
    }
  }
  for (const char* body :
       {"null", "1", "[]", "{}", "[null]", "[1]", "\"x\"", "{\"id\":\"/\"}", "{\"id\":\"..\"}",
        "{\"id\":\"a\",\"container\":{}}", "{\"id\":\"a\",\"container\":1}",
        "{\"id\":\"a\",\"cmd\":\"ab\",\"portDefinitions\":[null]}",
        "{\"id\":\"a\",\"cmd\":\"ab\",\"constraints\":[[]]}", "{\"id\":\"a\",\"cmd\":\"ab\",\"networks\":[]}",
        "{\"id\":\"a\",\"cmd\":\"ab\",\"container\":{\"docker\":{\"network\":\"BRIDGE\"}}}"}) {
    for (const char* method : {"POST", "PUT"}) {
      EXPECT_LT(w.ask(method, "/v2/apps", body).status, 500) << method << body;
      EXPECT_LT(w.ask(method, "/v2/apps/zz", body).status, 500) << method << body;
    }
  }
}

}  // namespace
}  // namespace gantry::framework_services
