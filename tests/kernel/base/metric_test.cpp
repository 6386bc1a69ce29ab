#include "kernel/base/metric.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

namespace gantry::base {
namespace {

TEST(Metrics, OneIdForOneName) {
  Metrics m;
  const auto a = m.id("a", MetricKind::counter, "1", "first");
  EXPECT_EQ(m.id("a", MetricKind::gauge), a);
  EXPECT_NE(m.id("b", MetricKind::gauge), a);
  EXPECT_EQ(m.snapshot()[0].help, "first");
}
TEST(Metrics, KindsAddUpEachInItsWay) {
  Metrics m;
  const auto c = m.id("c", MetricKind::counter), g = m.id("g", MetricKind::gauge), h = m.id("h", MetricKind::histogram);
  for (const double v : {5.0, -2.0, std::nan("")}) m.add(c, v), m.add(g, v), m.add(h, v);
  m.add(0, 1);
  m.add(4711, 1);
  const auto s = m.snapshot();
  EXPECT_EQ(s[0].value, 5);
  EXPECT_EQ(s[1].value, 3);
  EXPECT_EQ(s[2].value, 3);
  EXPECT_EQ(s[2].count, 2u);
  EXPECT_EQ(s[2].max, 5);
}
TEST(Metrics, IsBounded) {
  Metrics m;
  for (int i = 0; i < 16384; ++i) ASSERT_NE(m.id("m" + std::to_string(i), MetricKind::counter), 0u);
  EXPECT_EQ(m.id("one too many", MetricKind::counter), 0u);
}
TEST(Metrics, AddsFromManyThreads) {
  Metrics m;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) m.add(m.id("n" + std::to_string(i % 100), MetricKind::counter));
    });
  for (auto& t : threads) t.join();
  double sum = 0;
  for (const auto& s : m.snapshot()) sum += s.value;
  EXPECT_EQ(sum, 4000);
}

}  // namespace
}  // namespace gantry::base
