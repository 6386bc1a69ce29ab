#include "kernel/base/fd.hpp"
#include "kernel/net/net.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>
#include <unistd.h>

namespace gantry::net {
namespace {

using namespace std::chrono_literals;

struct LoopTest : testing::Test {
  std::unique_ptr<RealLoop> loop = make_real_loop(2);
  void run() {
    loop->after(20s, [] { FAIL() << "the loop never stopped"; });
    loop->run();
  }
};

TEST_F(LoopTest, RunsPostedWorkInOrderAndLater) {
  std::vector<int> seen;
  loop->post([&] {
    seen.push_back(1);
    loop->post([&] {
      seen.push_back(3);
      loop->stop();
    });
    seen.push_back(2);
  });
  EXPECT_TRUE(seen.empty());
  run();
  EXPECT_EQ(seen, (std::vector{1, 2, 3}));
}

TEST_F(LoopTest, PostFromManyThreadsKeepsEachOnesOrder) {
  constexpr int threads = 4, each = 5000;
  std::vector<int> last(threads, -1);
  int total = 0;
  std::vector<std::thread> senders;
  for (int t = 0; t < threads; ++t) {
    senders.emplace_back([&, t] {
      for (int i = 0; i < each; ++i)
        loop->post([&, t, i] {
          EXPECT_TRUE(loop->on_thread());
          EXPECT_EQ(last[static_cast<std::size_t>(t)], i - 1);
          last[static_cast<std::size_t>(t)] = i;
          if (++total == threads * each) loop->stop();
        });
      EXPECT_FALSE(loop->on_thread());
    });
  }
  run();
  for (auto& t : senders) t.join();
  EXPECT_EQ(total, threads * each);
}

TEST_F(LoopTest, TimersFireInOrderOfTimeAndCancelHolds) {
  std::vector<int> seen;
  const auto t = loop->now();
  loop->at(t + 3ms, [&] {
    seen.push_back(3);
    loop->stop();
  });
  const auto gone = loop->at(t + 2ms, [&] { seen.push_back(2); });
  loop->at(t + 1ms, [&] {
    seen.push_back(1);
    loop->cancel(gone);
  });
  loop->at(t - 1s, [&] { seen.push_back(0); });
  loop->cancel(12345);
  EXPECT_TRUE(seen.empty());
  run();
  EXPECT_EQ(seen, (std::vector{0, 1, 3}));
  EXPECT_GE(loop->now(), t + 3ms);
}

TEST_F(LoopTest, ManyCancelledTimersCostNothing) {
  for (int i = 0; i < 100000; ++i) loop->cancel(loop->after(1h, [] { FAIL(); }));
  loop->after(0s, [&] { loop->stop(); });
  run();
}

TEST_F(LoopTest, AZeroTimerThatRenewsItselfDoesNotStarveOthers) {
  int renewed = 0;
  std::function<void()> again = [&] {
    ++renewed;
    loop->after(0s, [&] { again(); });
  };
  again();
  loop->after(5ms, [&] { loop->stop(); });
  run();
  EXPECT_GT(renewed, 1);
}

TEST_F(LoopTest, OffloadsBesideTheLoopAndComesBack) {
  int done = 0;
  std::atomic<int> worked = 0;
  const auto loop_thread = std::this_thread::get_id();
  for (int i = 0; i < 50; ++i) {
    loop->offload(
        [&] {
          EXPECT_NE(std::this_thread::get_id(), loop_thread);
          ++worked;
        },
        [&] {
          EXPECT_TRUE(loop->on_thread());
          if (++done == 50) loop->stop();
        });
  }
  run();
  EXPECT_EQ(worked, 50);
}

TEST_F(LoopTest, EndsWithWorkInFlight) {
  auto token = std::make_shared<int>();
  loop->post([token] {});
  loop->after(1h, [token] {});
  loop->offload([token] {}, [token] {});
  loop.reset();
  EXPECT_EQ(token.use_count(), 1);
}

TEST_F(LoopTest, StopsBeforeRunAndRunsAgain) {
  loop->stop();
  loop->run();
  bool ran = false;
  loop->post([&] {
    ran = true;
    loop->stop();
  });
  run();
  EXPECT_TRUE(ran);
}

TEST_F(LoopTest, WatchesADescriptorUntilUnwatched) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  base::Fd in(ends[0]), out(ends[1]);
  int calls = 0;
  std::uint64_t id = 0;
  id = loop->watch_readable(in.get(), [&] {
    char c;
    ASSERT_EQ(::read(in.get(), &c, 1), 1);
    if (++calls == 2) {
      loop->unwatch(id);
      loop->after(2ms, [&] { loop->stop(); });
    }
  });
  ASSERT_EQ(::write(out.get(), "abc", 3), 3);
  run();
  EXPECT_EQ(calls, 2);
  char c;
  EXPECT_EQ(::read(in.get(), &c, 1), 1);  // the descriptor stayed open and the third byte unread
}

TEST_F(LoopTest, DeliversSignals) {
  int seen = 0;
  loop->on_signal({SIGUSR1}, [&](int n) {
    seen = n;
    loop->stop();
  });
  loop->post([] { ::raise(SIGUSR1); });
  run();
  EXPECT_EQ(seen, SIGUSR1);
}

}  // namespace
}  // namespace gantry::net
