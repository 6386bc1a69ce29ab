#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
using fb::election::Method;

TEST(@CLASS@Test, TheNextInLineFollows) {
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
  ASSERT_TRUE(m.configure({{"master", "10.0.0.1:5060"}}));
  const auto watch = m.open(Method::WATCH, Buffer());
  EXPECT_EQ(watch.chunk<fb::election::Leader>(0)->address, "10.0.0.1:5060");
  fb::election::CandidateT candidate;
  candidate.address = "127.0.0.1:1";
  const auto first = m.open(Method::CONTEND, candidate);
  candidate.address = "127.0.0.1:2";
  const auto second = m.open(Method::CONTEND, candidate);
  EXPECT_TRUE(first.chunk<fb::election::Leadership>(0)->elected);
  EXPECT_FALSE(second.chunk<fb::election::Leadership>(0)->elected);
  first.cancel();
  host.run();
  EXPECT_EQ(first.code(), Code::cancelled);
  EXPECT_TRUE(second.chunk<fb::election::Leadership>(1)->elected);
  EXPECT_EQ(watch.chunk<fb::election::Leader>(watch.chunks().size() - 1)->address, "127.0.0.1:2");
  ASSERT_TRUE(m.stop());
  EXPECT_TRUE(second.done() && watch.done());
  EXPECT_EQ(host.faults(), std::vector<std::string>{});
}

}  // namespace
}  // namespace @NAME_ID@
