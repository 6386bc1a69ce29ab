#include "standalone.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace gantry::election_standalone {
namespace {

using Method = fb::election::Method;

class StandaloneTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(m.configure({{"master", "10.0.0.1:5060"}, {"insecure", true}})); }
  static std::string leader(const testing::Pending& watch) {
    return watch.chunk<fb::election::Leader>(watch.chunks().size() - 1)->address;
  }
  testing::Host host;
  testing::Subject<Standalone> m{host, "standalone"};
};

TEST_F(StandaloneTest, WatchersHearTheConfiguredMasterAtOnce) {
  const auto watch = m.open(Method::WATCH, Buffer());
  ASSERT_EQ(watch.chunks().size(), 1u);
  EXPECT_EQ(leader(watch), "10.0.0.1:5060");
  EXPECT_FALSE(watch.done());
}

TEST_F(StandaloneTest, TheContenderLeadsAndIsAnnounced) {
  const auto watch = m.open(Method::WATCH, Buffer());
  fb::election::CandidateT c;
  c.address = "127.0.0.1:7000";
  const auto contend = m.open(Method::CONTEND, c);
  ASSERT_EQ(contend.chunks().size(), 1u);
  EXPECT_TRUE(contend.chunk<fb::election::Leadership>(0)->elected);
  EXPECT_EQ(leader(watch), "127.0.0.1:7000");
  contend.cancel();
  host.run();
  EXPECT_EQ(contend.code(), Code::cancelled);
  EXPECT_EQ(leader(watch), "10.0.0.1:5060");
}

TEST_F(StandaloneTest, ASecondContenderDoesNotLead) {
  fb::election::CandidateT c;
  c.address = "127.0.0.1:7000";
  const auto first = m.open(Method::CONTEND, c);
  const auto second = m.open(Method::CONTEND, c);
  EXPECT_TRUE(first.chunk<fb::election::Leadership>(0)->elected);
  EXPECT_FALSE(second.chunk<fb::election::Leadership>(0)->elected);
}

TEST_F(StandaloneTest, TheNextInLineLeadsWhenTheLeaderStepsDown) {
  const auto watch = m.open(Method::WATCH, Buffer());
  fb::election::CandidateT a, b;
  a.address = "127.0.0.1:7000";
  b.address = "127.0.0.1:7001";
  const auto first = m.open(Method::CONTEND, a);
  const auto second = m.open(Method::CONTEND, b);
  EXPECT_EQ(leader(watch), "127.0.0.1:7000");
  first.cancel();
  host.run();
  ASSERT_EQ(second.chunks().size(), 2u);
  EXPECT_TRUE(second.chunk<fb::election::Leadership>(1)->elected);
  EXPECT_GT(second.chunk<fb::election::Leadership>(1)->epoch, first.chunk<fb::election::Leadership>(0)->epoch);
  EXPECT_EQ(leader(watch), "127.0.0.1:7001");
}

TEST_F(StandaloneTest, StopEndsEveryStream) {
  const auto watch = m.open(Method::WATCH, Buffer());
  ASSERT_TRUE(m.stop());
  EXPECT_TRUE(watch.done());
  EXPECT_EQ(host.faults(), std::vector<std::string>{});
}

}  // namespace
}  // namespace gantry::election_standalone
