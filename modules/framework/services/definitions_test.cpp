// Application definitions: legacy forms, defaults, and that printing is stable (marathon.md A1, A4).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "app.hpp"

namespace gantry::framework_services {
namespace {

using ::testing::ElementsAre;

std::string read(const std::filesystem::path& p) {
  std::stringstream s;
  s << std::ifstream(p).rdbuf();
  return s.str();
}

struct Read {
  Object app;
  Details errors;
  bool shape = false;  // the errors are of the JSON's shape
};
// The way of a POST body, without the feature gate.
Read read_app(const std::string& body) {
  Read r;
  auto parsed = parse_json(body);
  if (!parsed) {
    r.errors.push_back({"", parsed.error().message});
    return r;
  }
  r.app = shape_app(*parsed, "", r.errors);
  r.shape = !r.errors.empty();
  if (!r.errors.empty()) return r;
  modernise(r.app, "", r.errors);
  if (!r.errors.empty()) return r;
  complete(r.app, "/");
  std::string role = text_of(r.app, "role", "*");
  validate_app(r.app, "", role, r.errors);
  if (r.errors.empty()) {
    ServicePorts ports;
    ports.used = [](int) { return false; };
    EXPECT_TRUE(assign_service_ports(r.app, nullptr, ports));
  }
  return r;
}
std::string errors_of(const Read& r) {
  std::string out;
  for (const auto& e : r.errors) out += e.path + ": " + e.error + "\n";
  return out;
}

// Accepted, printed, read back and printed again: the same text; and decoded without loss of what we know.
void check_stable(const Read& first, const std::string& name) {
  ASSERT_TRUE(first.errors.empty()) << name << "\n" << errors_of(first);
  App app = decode_app(first.app);
  app.version = app.last_config = app.last_scaling = 1700000000123;
  const std::string printed = print_json(first.app);
  const Read again = read_app(printed);
  ASSERT_TRUE(again.errors.empty()) << name << "\n" << errors_of(again) << printed;
  EXPECT_EQ(print_json(again.app), printed) << name;
  EXPECT_TRUE(again.app == first.app) << name;
  // A stored application reads back from what the API prints.
  const Read whole = read_app(print_json(app.print()));
  EXPECT_TRUE(whole.errors.empty()) << name << "\n" << errors_of(whole);
  for (const char* gone : {"ports", "uris", "ipAddress"}) EXPECT_FALSE(first.app.contains(gone)) << name;
}

TEST(DefinitionsTest, OwnExamplesAreStable) {
  int seen = 0;
  for (const auto& f : std::filesystem::directory_iterator(SERVICES_TESTDATA)) {
    if (f.path().filename() == "wrong.json") continue;
    check_stable(read_app(read(f.path())), f.path().filename());
    ++seen;
  }
  EXPECT_GE(seen, 7);
}

TEST(DefinitionsTest, ReferenceDefinitionsGetMarathonsVerdict) {
  const char* folder = std::getenv("GANTRY_REFERENCE_APPS");
  if (!folder) GTEST_SKIP() << "set GANTRY_REFERENCE_APPS to a folder of application definitions";
  // Bodies Marathon refuses, with the path it names: a group, a port that is a text, an empty id, a foreign role.
  const std::map<std::string, std::string> refused = {{"nexcloud.json", "/"},
                                                      {"logstash.json", "/ports(0)"},
                                                      {"edgelb-pool.json", "/id"},
                                                      {"marathon-lb-rc.json", "/acceptedResourceRoles"},
                                                      {"openvpn.json", "/acceptedResourceRoles"}};
  int seen = 0;
  for (const auto& f : std::filesystem::directory_iterator(folder)) {
    if (f.path().extension() != ".json") continue;
    ++seen;
    const std::string name = f.path().filename();
    const Read r = read_app(read(f.path()));
    if (const auto it = refused.find(name); it != refused.end()) {
      ASSERT_FALSE(r.errors.empty()) << name;
      EXPECT_EQ(r.errors[0].path, it->second) << name;
      continue;
    }
    check_stable(r, name);
  }
  EXPECT_GE(seen, 51);
}

TEST(DefinitionsTest, LegacyPortsAndUris) {
  const Object a = read_app(read(SERVICES_TESTDATA "/legacy-ports.json")).app;
  EXPECT_EQ(print_json(a.at("portDefinitions")),
            R"([{"labels":{},"port":10000,"protocol":"tcp"},{"labels":{},"port":8081,"protocol":"tcp"}])");
  EXPECT_EQ(print_json(a.at("fetch")),
            R"([{"cache":false,"executable":false,"extract":true,"uri":"https://example.com/site.tar.gz"},)"
            R"({"cache":false,"executable":false,"extract":false,"uri":"https://example.com/run.sh"}])");
  EXPECT_FALSE(a.contains("maintainer"));
  EXPECT_EQ(
      print_json(a.at("healthChecks")),
      R"([{"delaySeconds":15,"gracePeriodSeconds":300,"ignoreHttp1xx":false,"intervalSeconds":60,"ipProtocol":"IPv4",)"
      R"("maxConsecutiveFailures":3,"path":"/","portIndex":1,"protocol":"HTTP","timeoutSeconds":20}])");
}

TEST(DefinitionsTest, LegacyNetworks) {
  const Object bridge = read_app(read(SERVICES_TESTDATA "/legacy-bridge.json")).app;
  EXPECT_EQ(print_json(bridge.at("networks")), R"([{"mode":"container/bridge"}])");
  EXPECT_FALSE(bridge.contains("portDefinitions"));
  const auto& mappings = bridge.at("container").at("portMappings").get_array();
  EXPECT_EQ(
      print_json(mappings[0]),
      R"({"containerPort":8080,"hostPort":0,"labels":{"VIP_0":"/cart:80"},"name":"web","protocol":"tcp","servicePort":10000})");
  EXPECT_EQ(print_json(mappings[1].at("hostPort")), "0");
  EXPECT_FALSE(bridge.at("container").at("docker").get_object().contains("network"));
  const Object ip = read_app(read(SERVICES_TESTDATA "/legacy-ip.json")).app;
  EXPECT_EQ(print_json(ip.at("networks")), R"([{"labels":{"zone":"a"},"mode":"container","name":"blue"}])");
  EXPECT_EQ(print_json(ip.at("container").at("portMappings").at(0).at("containerPort")), "80");
  EXPECT_FALSE(ip.at("container").at("portMappings").at(0).get_object().contains("hostPort"));
}

TEST(DefinitionsTest, SpecialDefaults) {
  const Object resident = read_app(read(SERVICES_TESTDATA "/resident.json")).app;
  EXPECT_EQ(print_json(resident.at("unreachableStrategy")), "\"disabled\"");
  EXPECT_EQ(print_json(resident.at("upgradeStrategy")), R"({"maximumOverCapacity":0,"minimumHealthCapacity":0.5})");
  EXPECT_EQ(print_json(resident.at("residency")),
            R"({"relaunchEscalationTimeoutSeconds":3600,"taskLostBehavior":"WAIT_FOREVER"})");
  const Object single = read_app(read(SERVICES_TESTDATA "/single.json")).app;
  EXPECT_EQ(print_json(single.at("upgradeStrategy")), R"({"maximumOverCapacity":0,"minimumHealthCapacity":0})");
  const Object full = read_app(read(SERVICES_TESTDATA "/full.json")).app;
  EXPECT_EQ(print_json(full.at("dependencies")), R"(["/db","/other"])");
  EXPECT_EQ(print_json(full.at("constraints").at(0)), R"(["hostname","UNIQUE"])");
  EXPECT_EQ(print_json(full.at("executorResources")), R"({"cpus":0.2,"disk":10,"mem":32})");
  Details gate;
  check_features(full, "", gate);
  EXPECT_EQ(gate.size(), 5u);  // image, volume, network, secrets, tty
}

TEST(DefinitionsTest, WrongTypesNameTheirPath) {
  const Read r = read_app(read(SERVICES_TESTDATA "/wrong.json"));
  ASSERT_EQ(r.errors.size(), 2u);
  EXPECT_TRUE(r.shape);
  EXPECT_EQ(errors_of(r), "/env/N: error.expected.jsstring\n/ports(0): error.expected.jsnumber\n");
}

TEST(DefinitionsTest, MixturesOfOldAndNewAreRefused) {
  EXPECT_EQ(read_app(R"({"id":"a","cmd":"x y","ports":[1],"portDefinitions":[{"port":2}]})").errors.at(0).path,
            "/ports");
  EXPECT_TRUE(read_app(R"({"id":"a","cmd":"x y","ports":[1],"portDefinitions":[{"port":1}]})").errors.empty());
  EXPECT_EQ(read_app(R"({"id":"a","cmd":"x y","uris":["a"],"fetch":[{"uri":"b"}]})").errors.at(0).path, "/uris");
  EXPECT_EQ(read_app(R"({"id":"a","cmd":"x y","ipAddress":{},"networks":[{"mode":"host"}]})").errors.at(0).path,
            "/networks");
}

TEST(IdsTest, PathsTasksAndTimes) {
  EXPECT_EQ(canonical_path("a"), "/a");
  EXPECT_EQ(canonical_path("../b", "/g/h"), "/g/b");
  EXPECT_EQ(canonical_path("//x///y/"), "/x/y");
  EXPECT_EQ(canonical_path("../../.."), "/");
  const std::string uuid = "11111111-2222-4333-8444-555555555555";
  const auto t = parse_task_id("g_a.instance-" + uuid + "._app.7");
  ASSERT_TRUE(t);
  EXPECT_EQ(t->incarnation, 7);
  EXPECT_EQ(app_of_instance(t->instance_id), "/g/a");
  EXPECT_TRUE(parse_task_id("g_a.instance-" + uuid + "._app"));  // before incarnations
  EXPECT_TRUE(parse_task_id("g_a." + uuid));                     // before instances
  EXPECT_FALSE(parse_task_id("g_a.instance-123"));
  EXPECT_FALSE(parse_task_id(""));
  EXPECT_FALSE(parse_task_id("g_a.instance-" + uuid + "._app.x"));
  EXPECT_EQ(format_time(1700000000123), "2023-11-14T22:13:20.123Z");
  EXPECT_EQ(parse_time("2023-11-14T22:13:20.123Z"), 1700000000123);
  EXPECT_EQ(parse_time("2023-11-15T00:13:20.1+02:00"), 1700000000100);
  EXPECT_FALSE(parse_time("2023-11-14"));
  EXPECT_FALSE(parse_time("2023-13-14T22:13:20.123Z"));
}

TEST(JsonTest, NumbersAndText) {
  EXPECT_EQ(print_json(parse_json("[1.0,0.1,1e3,-2,1.15,3000000000]").value()), "[1,0.1,1000,-2,1.15,3000000000]");
  EXPECT_EQ(print_json(parse_json(R"("a\u0001\n\"é")").value()), R"("a\u0001\n\"é")");
  for (const char* bad : {"", "{", "[1,]", "{} {}", "nul", "\"\xff\""}) EXPECT_FALSE(parse_json(bad)) << bad;
  EXPECT_FALSE(parse_json(std::string(1000, '[')));
}

}  // namespace
}  // namespace gantry::framework_services
