#include "acl.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace gantry::authorizer_acl {
namespace {

using Method = fb::authorizer::Method;

Acls parsed(std::string_view text) {
  auto r = Acls::parse(text);
  EXPECT_TRUE(r) << r.error().message;
  return r ? std::move(*r) : Acls();
}
std::string mistake(std::string_view text) {
  const auto r = Acls::parse(text);
  return r ? "no mistake" : r.error().message;
}
constexpr auto nobody = std::nullopt;

TEST(Rules, NothingSaidMeansPermissive) {
  const Acls open = parsed("{}");
  EXPECT_TRUE(open.allowed("a", "run_task", "root"));
  EXPECT_TRUE(open.allowed(nobody, "run_task", nobody));
  const Acls closed = parsed(R"({"permissive": false})");
  EXPECT_FALSE(closed.allowed("a", "run_task", "root"));
  EXPECT_FALSE(closed.allowed("a", "an_action_of_the_future", "root"));
  EXPECT_TRUE(open.allowed("a", "an_action_of_the_future", "root"));
  EXPECT_FALSE(parsed(R"({"permissive": "false"})").permissive());
}

TEST(Rules, TheFirstThatMatchesDecides) {
  const Acls a = parsed(R"({"run_tasks": [
    {"principals": {"values": ["alice", "bob"]}, "users": {"values": ["web"]}},
    {"principals": {"values": ["alice"]}, "users": {"type": "ANY"}},
    {"principals": {"type": "ANY"}, "users": {"values": ["guest"]}},
    {"principals": {"type": "NONE"}, "users": {"values": ["root"]}},
    {"principals": {"values": ["bob"]}, "users": {"type": "NONE"}}]})");
  EXPECT_TRUE(a.allowed("alice", "run_task", "web"));
  EXPECT_TRUE(a.allowed("alice", "run_task", "root"));
  EXPECT_TRUE(a.allowed("bob", "run_task", "web"));
  EXPECT_TRUE(a.allowed("carol", "run_task", "guest"));
  EXPECT_FALSE(a.allowed("carol", "run_task", "root"));
  EXPECT_FALSE(a.allowed("bob", "run_task", "db"));
  EXPECT_TRUE(a.allowed("carol", "run_task", "db")) << "no rule is about it, and permissive is true";
  EXPECT_TRUE(a.allowed(nobody, "run_task", "guest"));
  EXPECT_FALSE(a.allowed(nobody, "run_task", "root"));
}

TEST(Rules, NobodyAndAnythingMatchNoValues) {
  const Acls a = parsed(R"({"permissive": false,
    "teardown_frameworks": [{"principals": {"values": ["ops"]}, "framework_principals": {"values": ["x"]}},
                            {"principals": {"values": ["root"]}, "framework_principals": {"type": "ANY"}}]})");
  EXPECT_TRUE(a.allowed("ops", "teardown_framework", "x"));
  EXPECT_FALSE(a.allowed("ops", "teardown_framework", nobody));
  EXPECT_FALSE(a.allowed(nobody, "teardown_framework", "x"));
  EXPECT_TRUE(a.allowed("root", "teardown_framework", nobody));
}

TEST(Rules, RolesNest) {
  const Acls a = parsed(R"({"permissive": false,
    "register_frameworks": [{"principals": {"type": "ANY"}, "roles": {"values": ["eng/%", "ops"]}}],
    "run_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["eng/%"]}}]})");
  EXPECT_TRUE(a.allowed("p", "register_framework", "eng/web"));
  EXPECT_TRUE(a.allowed("p", "register_framework", "eng/web/front"));
  EXPECT_FALSE(a.allowed("p", "register_framework", "eng"));
  EXPECT_FALSE(a.allowed("p", "register_framework", "engine/x"));
  EXPECT_FALSE(a.allowed("p", "register_framework", "eng/"));
  EXPECT_TRUE(a.allowed("p", "register_framework", "ops"));
  EXPECT_FALSE(a.allowed("p", "register_framework", "ops/x"));
  EXPECT_FALSE(a.allowed("p", "run_task", "eng/web")) << "users do not nest";
}

TEST(Rules, WhatIsDoneToTheClusterHasNoObject) {
  const Acls a = parsed(R"({"permissive": false, "mark_agents_gone": [{"principals": {"values": ["ops"]}, "agents": {"type": "ANY"}}]})");
  EXPECT_TRUE(a.allowed("ops", "mark_agent_gone", nobody));
  EXPECT_TRUE(a.allowed("ops", "mark_agent_gone", "some agent"));
  EXPECT_FALSE(a.allowed("dev", "mark_agent_gone", nobody));
}

TEST(Rules, EveryListIsUnderstood) {
  for (const auto name : list_names()) {
    const std::string probe = "{\"" + std::string(name) + "\": []}";
    EXPECT_TRUE(Acls::parse(probe)) << name;
  }
  EXPECT_EQ(list_names().size(), 54u);
  EXPECT_EQ(parsed(R"({"shutdown_frameworks": [{"principals": {"type": "NONE"}, "framework_principals": {"type": "ANY"}}]})")
                .allowed("a", "teardown_framework", "x"),
            false);
}

TEST(Rules, MistakesNameTheField) {
  EXPECT_EQ(mistake("[]"), "acls: an object is expected, not a list");
  EXPECT_NE(mistake("").find("acls: no JSON"), std::string::npos);
  EXPECT_NE(mistake("{} x").find("follows the document"), std::string::npos);
  EXPECT_EQ(mistake(R"({"run_task": []})"), "acls.run_task: there is no such list; did you mean run_tasks?");
  EXPECT_EQ(mistake(R"({"permissive": 1})"), "acls.permissive: true or false is expected, not a number");
  EXPECT_EQ(mistake(R"({"run_tasks": {}})"), "acls.run_tasks: a list of rules is expected, not an object");
  EXPECT_EQ(mistake(R"({"run_tasks": [{"principals": {"type": "ANY"}}]})"),
            "acls.run_tasks[0]: users is missing; {\"type\": \"ANY\"} means all");
  EXPECT_EQ(mistake(R"({"run_tasks": [{"principals": {"type": "ANY"}, "roles": {}}]})"),
            "acls.run_tasks[0].roles: there is no such field; a rule of run_tasks has principals and users");
  EXPECT_EQ(mistake(R"({"run_tasks": [{"principals": {"type": "ALL"}, "users": {}}]})"),
            "acls.run_tasks[0].principals.type: \"ALL\" is neither ANY nor NONE nor SOME");
  EXPECT_EQ(mistake(R"({"run_tasks": [{"principals": {"values": [1]}, "users": {}}]})"),
            "acls.run_tasks[0].principals.values[0]: a string is expected, not a number");
  EXPECT_EQ(mistake(R"({"view_flags": [{"principals": {"type": "ANY"}, "flags": {"values": ["x"]}}]})"),
            "acls.view_flags[0].flags: type must be either NONE or ANY");
  EXPECT_NE(mistake(R"({"get_endpoints": [{"principals": {"type": "ANY"}, "paths": {"values": ["/x"]}}]})").find("\"/x\" is not an authorizable path"),
            std::string::npos);
}

class AclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-acl-XXXXXX";
    dir = ::mkdtemp(name);
    path = dir + "/acls.json";
    write(R"({"view_tasks": [{"principals": {"values": ["a"]}, "users": {"values": ["u"]}}, {"principals": {"type": "ANY"}, "users": {"type": "NONE"}}]})");
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  void write(const std::string& text) {
    std::ofstream(path, std::ios::trunc) << text;
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::seconds(++writes));
  }
  bool ask(const std::string& principal, const std::string& object) {
    fb::authorizer::QuestionsT q;
    q.principal = principal;
    q.questions.push_back(std::make_unique<fb::authorizer::QuestionT>());
    q.questions[0]->action = "view_task";
    q.questions[0]->object = object;
    const auto r = m.call<fb::authorizer::Verdicts>(Method::AUTHORIZE, q);
    EXPECT_TRUE(r) << r.error().message;
    return r && r->allowed.size() == 1 && r->allowed[0];
  }
  int writes = 0;
  std::string dir, path;
  testing::Host host;
  testing::Subject<Acl> m{host, "acl"};
};

TEST_F(AclTest, Answers) {
  ASSERT_TRUE(m.configure({{"file", path}}));
  EXPECT_TRUE(ask("a", "u"));
  EXPECT_FALSE(ask("a", "v"));
  EXPECT_FALSE(ask("", "u"));
}

TEST_F(AclTest, ABrokenFileIsRefusedAtTheStart) {
  write("{\"view_task\": []}");
  const Status s = m.configure({{"file", path}});
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().message.find(path + ": acls.view_task"), std::string::npos) << s.error().message;
  EXPECT_FALSE(m.configure({{"file", dir + "/none"}}));
}

TEST_F(AclTest, AReloadReadsItAgain) {
  ASSERT_TRUE(m.configure({{"file", path}}));
  write("{}");
  ASSERT_TRUE(m.configure({{"file", path}}));
  EXPECT_TRUE(ask("a", "v"));
  write("{");
  EXPECT_FALSE(m.configure({{"file", path}}));
  EXPECT_TRUE(ask("a", "v")) << "the lists read last stay in force";
}

}  // namespace
}  // namespace gantry::authorizer_acl
