#include "limits.hpp"

#include <gtest/gtest.h>

namespace gantry::gateway_mesos {
namespace {

using namespace std::chrono_literals;

RateLimits limits(std::vector<std::string> each, std::string_view others = {}) {
  auto l = RateLimits::parse(each, others);
  EXPECT_TRUE(l) << l.error().message;
  return std::move(*l);
}

TEST(Limits, NothingIsLimitedUnlessSaid) {
  RateLimits l;
  EXPECT_FALSE(l.any());
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(l.take("p", 1s));
}

TEST(Limits, ABurstThenTheRate) {
  auto l = limits({"p=2/3"});
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(l.take("p", 10s));
  EXPECT_EQ(l.take("p", 10s), 500ms);
  EXPECT_EQ(l.take("p", 10s + 250ms), 250ms);
  EXPECT_FALSE(l.take("p", 10s + 500ms));
  EXPECT_TRUE(l.take("p", 10s + 500ms));
  // However long nobody calls, no more than the burst gathers.
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(l.take("p", 1000s));
  EXPECT_TRUE(l.take("p", 1000s));
  EXPECT_FALSE(l.take("q", 1000s)) << "another has no limit";
}

TEST(Limits, WithoutABurstItIsASecondsWorth) {
  auto l = limits({"p=3", "rare=0.5"});
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(l.take("p", 1s));
  EXPECT_TRUE(l.take("p", 1s));
  EXPECT_FALSE(l.take("rare", 1s));
  EXPECT_EQ(l.take("rare", 1s), 2s);
}

TEST(Limits, OthersShareOneLimit) {
  auto l = limits({"own=1", "free=unlimited", "a=b=2"}, "2/2");
  EXPECT_FALSE(l.take("x", 1s));
  EXPECT_FALSE(l.take("y", 1s));
  EXPECT_TRUE(l.take("z", 1s));
  EXPECT_TRUE(l.take("", 1s));
  EXPECT_FALSE(l.take("own", 1s));
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(l.take("free", 1s));
  EXPECT_FALSE(l.take("a=b", 1s)) << "a name may contain the sign";
}

TEST(Limits, MistakesAreRefused) {
  for (const char* bad : {"p=", "p=x", "p=-1", "p=0", "p=1/0", "p=1/x", "p=1/", "p=nan", "p=inf", "p"})
    EXPECT_FALSE(RateLimits::parse({bad}, "")) << bad;
  EXPECT_FALSE(RateLimits::parse({}, "many"));
  EXPECT_TRUE(RateLimits::parse({}, "unlimited"));
}

}  // namespace
}  // namespace gantry::gateway_mesos
