#include "kernel/base/heap.hpp"
#include "kernel/base/manual_loop.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

namespace gantry::base {
namespace {

constexpr std::size_t MB = std::size_t{1} << 20;

TEST(Heap, GivesBackWhenMuchIsFree) {
  EXPECT_TRUE(worth_giving_back({500 * MB, 300 * MB}, 0));
  EXPECT_FALSE(worth_giving_back({500 * MB, 460 * MB}, 0)) << "an eighth is the heap's own business";
  EXPECT_FALSE(worth_giving_back({50 * MB, 20 * MB}, 0)) << "a small process";
  EXPECT_FALSE(worth_giving_back({500 * MB, 300 * MB}, 480 * MB)) << "that much stayed when it was last tried";
  EXPECT_TRUE(worth_giving_back({520 * MB, 300 * MB}, 480 * MB));
}

TEST(Heap, UseIsTold) {
  const std::vector<char> held(64 * MB, 'x');
  const HeapUse use = heap_use();
  EXPECT_GE(use.resident, held.size());
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__) && !defined(__clang__)
  EXPECT_GE(use.in_use, held.size());
#endif
}

TEST(Heap, LooksAgainAndAgainUntilItIsStopped) {
  ManualLoop loop;
  auto keeper = std::make_unique<HeapKeeper>(loop, 1s);
  keeper->start();
  for (int i = 0; i < 3; ++i) loop.advance(1s);
  EXPECT_NE(loop.next_due(), Instant::max());
  keeper.reset();
  loop.advance(5s);
  EXPECT_EQ(loop.next_due(), Instant::max());
}

}  // namespace
}  // namespace gantry::base
