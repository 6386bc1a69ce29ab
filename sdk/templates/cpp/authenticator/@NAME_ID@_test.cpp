#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
using fb::authenticator::Method;

class @CLASS@Test : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(m.configure({{"principal", "alice"}, {"secret", "wonderland"}})); }
  void TearDown() override { EXPECT_EQ(host.faults(), std::vector<std::string>{}); }  // no breach of the ABI
  Result<fb::authenticator::IdentityT> ask(const char* scheme, const char* parameters, const char* principal, const char* secret) {
    fb::authenticator::CredentialsT c;
    c.scheme = scheme, c.parameters = parameters, c.principal = principal, c.secret = secret;
    return m.call<fb::authenticator::Identity>(Method::AUTHENTICATE, c);
  }
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
};

TEST_F(@CLASS@Test, LetsInWhoKnowsTheSecret) {
  EXPECT_EQ(ask("", "", "alice", "wonderland")->principal, "alice");
  EXPECT_EQ(ask("basic", "YWxpY2U6d29uZGVybGFuZA==", "", "")->principal, "alice");
  EXPECT_EQ(ask("", "", "alice", "").error().code, Code::unauthenticated);
  EXPECT_EQ(ask("", "", "bob", "wonderland").error().code, Code::unauthenticated);
  EXPECT_EQ(ask("basic", "no base64!", "", "").error().code, Code::unauthenticated);
  EXPECT_EQ(ask("bearer", "x", "", "").error().code, Code::unimplemented);
}

}  // namespace
}  // namespace @NAME_ID@
