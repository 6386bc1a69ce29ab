#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
using fb::authorizer::Method;

class @CLASS@Test : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(m.configure({{"admin", "root"}, {"users", {"nobody"}}})); }
  void TearDown() override { EXPECT_EQ(host.faults(), std::vector<std::string>{}); }  // no breach of the ABI
  bool ask(const char* principal, const char* action, const char* object) {
    fb::authorizer::QuestionsT q;
    q.principal = principal;
    q.questions.push_back(std::make_unique<fb::authorizer::QuestionT>());
    q.questions[0]->action = action, q.questions[0]->object = object;
    const auto r = m.call<fb::authorizer::Verdicts>(Method::AUTHORIZE, q);
    return r && r->allowed.size() == 1 && r->allowed[0];
  }
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
};

TEST_F(@CLASS@Test, AllowsWhatItShould) {
  EXPECT_TRUE(ask("root", "teardown_framework", "somebody"));
  EXPECT_TRUE(ask("alice", "run_task", "nobody"));
  EXPECT_TRUE(ask("alice", "view_task", "root"));
  EXPECT_FALSE(ask("alice", "run_task", "root"));
  EXPECT_FALSE(ask("", "teardown_framework", ""));
}

}  // namespace
}  // namespace @NAME_ID@
