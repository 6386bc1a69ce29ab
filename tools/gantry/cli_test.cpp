#include "tools/gantry/cli.hpp"
#include "tools/gantry/app_json.hpp"
#include "tools/gantry/control.hpp"
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/gantry/services.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <sstream>
#include <thread>

namespace gantry::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Table, AlignsColumnsAndHidesControlCharacters) {
  Table t({"A", "LONGER"});
  EXPECT_TRUE(t.empty());
  t.add({"w\xc3\xa4lder", ""});
  t.add({"x\033[2J", "y"});
  EXPECT_EQ(t.text(), "A       LONGER\nw\xc3\xa4lder  -\nx?[2J   y\n");
  EXPECT_THAT(t.text(true), HasSubstr("\033[1mA       LONGER\033[0m\n"));
}

TEST(Format, Numbers) {
  EXPECT_EQ(age(5'000'000'000), "5s");
  EXPECT_EQ(age(65'000'000'000), "1m5s");
  EXPECT_EQ(age(3'600'000'000'000 * 25), "1d1h");
  EXPECT_EQ(age(-1), "0s");
  EXPECT_EQ(amount(0.1 + 0.2), "0.3");
  EXPECT_EQ(amount(4), "4");
  EXPECT_EQ(mebibytes(512), "512M");
  EXPECT_EQ(mebibytes(7987), "7.8G");
  EXPECT_EQ(bar(1, 4, 8), "[##......]");
  EXPECT_EQ(bar(9, 4, 8), "[########]");
  EXPECT_EQ(bar(0, 0, 4), "[####]");
  EXPECT_EQ(plural(1, "agent"), "1 agent");
  EXPECT_EQ(plural(0, "agent"), "0 agents");
}

TEST(JsonWriter, WritesAndEscapes) {
  JsonWriter w;
  w.open('{')
      .field("a", "q\"\n\x01")
      .key("b")
      .open('[')
      .value(1.5)
      .value(true)
      .close()
      .key("c")
      .open('{')
      .close()
      .list("d", {"x"})
      .close();
  EXPECT_EQ(w.text(),
            "{\n  \"a\": \"q\\\"\\n\\u0001\",\n  \"b\": [\n    1.5,\n    true\n  ],\n  \"c\": {},\n  \"d\": [\n    "
            "\"x\"\n  ]\n}\n");
}

TEST(AppJson, ReadsWhatTheApiSays) {
  const auto app = parse_app(
      R"({"app":{"id":"/web","args":["a","b"],"cpus":0.5,"mem":64,"instances":3,"tasksRunning":2,"tasksHealthy":1,
    "healthChecks":[{}],"deployments":[{"id":"d1"}],"lastTaskFailure":{"taskId":"web.1","state":"TASK_FAILED","message":"boom"},
    "tasks":[{"id":"web.2","host":"h","state":"TASK_RUNNING","ports":[31000],"healthCheckResults":[{"alive":false}]}]}})");
  ASSERT_TRUE(app) << app.error().message;
  EXPECT_EQ(app->cmd, "a b");
  EXPECT_EQ(app->good(), 1u);
  EXPECT_EQ(app->last_failure, "TASK_FAILED: boom");
  ASSERT_EQ(app->tasks.size(), 1u);
  EXPECT_EQ(app->tasks[0].healthy, 0);
  EXPECT_THAT(app->tasks[0].ports, ElementsAre(31000u));
  EXPECT_FALSE(parse_app("<html>"));
  EXPECT_FALSE(parse_app("[]"));
  EXPECT_TRUE(parse_apps(R"({"apps":[{"id":3,"cpus":"x"}]})"));
}

TEST(AppJson, DeploymentsAndErrors) {
  const char* list = R"([{"id":"a","currentStep":1,"totalSteps":2}])";
  EXPECT_TRUE(parse_deployment(list, "a")->running);
  EXPECT_EQ(parse_deployment(list, "a")->step, "step 1 of 2");
  EXPECT_FALSE(parse_deployment(list, "b")->running);
  EXPECT_EQ(deployment_id(R"({"version":"v","deploymentId":"d"})"), "d");
  EXPECT_EQ(deployment_id(R"({"deployments":[{"id":"e"}]})"), "e");
  EXPECT_EQ(deployment_id(""), "");
  EXPECT_EQ(
      error_message(R"({"message":"Object is not valid","details":[{"path":"/id","errors":["must not be empty"]}]})"),
      "Object is not valid; /id: must not be empty");
  EXPECT_EQ(http_error({404, R"({"message":"App '/x' does not exist"})"}, "show x").code, Code::not_found);
  EXPECT_THAT(http_error({409, ""}, "scale x").message, HasSubstr("--force"));
  EXPECT_EQ(exit_code(http_error({401, ""}, "x")), exit_denied);
  EXPECT_EQ(exit_code(http_error({422, ""}, "x")), exit_failed);
}

TEST(AppJson, Files) {
  EXPECT_THAT(parse_app_file(R"({"id":"web"})")->ids, ElementsAre("web"));
  const auto list = parse_app_file(R"([{"id":"a"},{"id":"b"}])");
  EXPECT_TRUE(list->list);
  EXPECT_THAT(list->ids, ElementsAre("a", "b"));
  for (const char* bad : {"", "[]", "{}", "3", "{\"id\":\"g\",\"apps\":[]}", "{"})
    EXPECT_FALSE(parse_app_file(bad)) << bad;
}

TEST(AppPath, Encodes) {
  EXPECT_EQ(app_path("web"), "/web");
  EXPECT_EQ(app_path("/team//web/"), "/team/web");
  EXPECT_EQ(app_path("a b?c"), "/a%20b%3Fc");
  EXPECT_EQ(app_path("/"), "");
}

// A daemon for one conversation: answers each question with what the test says.
class FakeDaemon {
 public:
  explicit FakeDaemon(std::vector<fb::control::AnswerT> answers) {
    path_ = "/tmp/gantry-cli-test-" + std::to_string(::getpid()) + ".sock";
    ::unlink(path_.c_str());
    const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    path_.copy(at.sun_path, sizeof at.sun_path - 1);
    EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    EXPECT_EQ(::listen(listener, 1), 0);
    thread_ = std::thread([listener, answers = std::move(answers)] {
      const int fd = ::accept(listener, nullptr, nullptr);
      std::uint32_t size = 0;
      std::vector<std::uint8_t> body;
      const auto frame = [&] {
        if (::recv(fd, &size, 4, MSG_WAITALL) != 4) return false;
        body.resize(size);
        return ::recv(fd, body.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size);
      };
      if (frame() && std::string(body.begin(), body.end()) == "gantry-control-1" && frame()) {
        const auto q = unpack<fb::control::Question>(body);
        for (fb::control::AnswerT a : answers) {
          if (a.id == 0) a.id = q->id;
          const Buffer bytes = pack(a);
          size = static_cast<std::uint32_t>(bytes.size());
          (void)!::write(fd, &size, 4);
          (void)!::write(fd, bytes.data(), bytes.size());
        }
      }
      ::close(fd);
      ::close(listener);
    });
  }
  ~FakeDaemon() {
    thread_.join();
    ::unlink(path_.c_str());
  }
  std::string path_;

 private:
  std::thread thread_;
};

struct Session {
  std::ostringstream out, err;
  Context c{&out, &err};
};

TEST(Status, IsPrintedForPeopleAndPrograms) {
  fb::control::StatusT s;
  s.version = "0.1.0";
  s.roles = {"master"};
  s.leading = true;
  s.agents = 2;
  fb::control::AnswerT late, a;
  late.id = 99;
  a.say.Set(s);
  for (const bool json : {false, true}) {
    FakeDaemon daemon({late, a});
    Session run;
    run.c.address = daemon.path_;
    run.c.json = json;
    EXPECT_EQ(status(run.c), exit_ok) << run.err.str();
    EXPECT_THAT(run.out.str(), HasSubstr(json ? "\"agents\": 2" : "2 agents, 0 frameworks"));
  }
}

TEST(Daemon, ProblemsBecomeExitCodes) {
  fb::control::ProblemT p;
  p.code = GANTRY_PERMISSION_DENIED;
  p.message = "no";
  fb::control::AnswerT a;
  a.say.Set(p);
  {
    FakeDaemon daemon({a});
    Session run;
    run.c.address = "unix:" + daemon.path_;
    EXPECT_EQ(agents(run.c), exit_denied);
    EXPECT_EQ(run.err.str(), "gantry: no\n");
  }
  {
    FakeDaemon daemon({});
    Session run;
    run.c.address = daemon.path_;
    EXPECT_EQ(agents(run.c), exit_unreachable);
    EXPECT_THAT(run.err.str(), HasSubstr("it closed the connection"));
  }
  Session run;
  run.c.address = "/nonexistent/gantry.sock";
  EXPECT_EQ(status(run.c), exit_unreachable);
  EXPECT_THAT(run.err.str(), HasSubstr("cannot reach gantryd at /nonexistent/gantry.sock: No such file or directory"));
  run.c.address = "nonsense";
  EXPECT_EQ(status(run.c), exit_usage);
}

TEST(Config, CheckAndFields) {
  Session run;
  EXPECT_EQ(config_check(run.c, {"/nonexistent/gantry.toml", {}, {}}), exit_failed);
  EXPECT_THAT(run.err.str(),
              HasSubstr("/nonexistent/gantry.toml: error: cannot read the configuration: there is no such file"));
  EXPECT_EQ(config_fields(run.c, "kernel", {}), exit_ok);
  EXPECT_THAT(run.out.str(), HasSubstr("work_dir  (path, default \"/var/lib/gantry\""));
  EXPECT_EQ(config_fields(run.c, "isolator.none", {"", {}, {"/nonexistent"}}), exit_not_found);
  EXPECT_EQ(config_fields(run.c, "isolator", {}), exit_usage);
}

TEST(App, UnreachableServices) {
  Session run;
  run.c.services = "http://127.0.0.1:1";
  EXPECT_EQ(app_list(run.c), exit_unreachable);
  EXPECT_THAT(run.err.str(), HasSubstr("cannot reach the services API at http://127.0.0.1:1"));
  EXPECT_EQ(app_deploy(run.c, "/nonexistent.json", {}), exit_usage);
}

}  // namespace
}  // namespace gantry::cli
