#include "support.hpp"

#include <future>

namespace gantry::module {
namespace {

Entry number(std::uint64_t n) {
  Entry e;
  e.what = Entry::What::call;
  e.token = n;
  return e;
}

TEST(Strand, RunsInOrderWithTheBytesItWasGiven) {
  base::ManualLoop loop;
  Strands strands(loop);
  std::vector<std::string> seen;
  StrandPtr s = strands.make("t", false, [&](const Entry& e, Bytes b) {
    seen.push_back(std::to_string(e.token) + std::string(reinterpret_cast<const char*>(b.data()), b.size()));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.data()) % 16, 0u);
  });
  s->post(number(1), as_bytes("a"));
  s->post(number(2), as_bytes("bcd"));
  s->post(number(3), as_bytes("e"));
  EXPECT_TRUE(seen.empty()) << "nothing runs inside post";
  EXPECT_GT(s->backlog(), 0u);
  loop.run();
  EXPECT_THAT(seen, testing::ElementsAre("1a", "2bcd", "3e"));
  EXPECT_EQ(s->backlog(), 0u);
  s->post(number(4), as_bytes("f"));
  loop.run();
  EXPECT_EQ(seen.back(), "4f");
}

TEST(Strand, PostsFromInsideRunLater) {
  base::ManualLoop loop;
  Strands strands(loop);
  std::vector<std::uint64_t> seen;
  StrandPtr s;
  s = strands.make("t", false, [&](const Entry& e, Bytes) {
    if (e.token < 3) s->post(number(e.token + 1));
    seen.push_back(e.token);
  });
  s->post(number(1));
  loop.run();
  EXPECT_THAT(seen, testing::ElementsAre(1u, 2u, 3u));
}

TEST(Strands, NeverOverlapAndLoseNothingWithManyPosters) {
  Strands::Limits limits;
  limits.threads = 2;
  std::atomic<int> inside{0};
  std::vector<std::uint64_t> last(4);
  std::atomic<std::uint64_t> total{0};
  std::promise<void> all;
  Strands strands(limits);  // after what its entries use, so that its threads end first
  StrandPtr s = strands.make("t", false, [&](const Entry& e, Bytes b) {
    EXPECT_EQ(inside.fetch_add(1), 0);
    EXPECT_EQ(e.token, ++last[e.method]) << "FIFO per poster";
    EXPECT_EQ(b.size(), e.token % 7);
    inside.fetch_sub(1);
    if (total.fetch_add(1) + 1 == 4 * 5000) all.set_value();
  });
  std::vector<std::thread> posters;
  for (std::uint32_t t = 0; t < 4; ++t)
    posters.emplace_back([&, t] {
      const std::uint8_t bytes[8] = {};
      for (std::uint64_t i = 1; i <= 5000; ++i) {
        Entry e = number(i);
        e.method = t;
        s->post(e, Bytes(bytes, i % 7));
      }
    });
  for (auto& t : posters) t.join();
  ASSERT_EQ(all.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

TEST(Strand, NobodyIsWokenWhileItIsCorked) {
  base::ManualLoop loop;
  Strands strands(loop);
  std::vector<std::uint64_t> seen;
  StrandPtr s = strands.make("t", false, [&](const Entry& e, Bytes) { seen.push_back(e.token); });
  s->cork();
  s->post(number(1));
  s->post(number(2));
  loop.run();
  EXPECT_TRUE(seen.empty());
  s->uncork();
  loop.run();
  EXPECT_THAT(seen, testing::ElementsAre(1u, 2u));
  s->cork();
  s->uncork();
  s->post(number(3));
  loop.run();
  EXPECT_EQ(seen.back(), 3u);
}

// A wake that is wanted while the cork is drawn must not be lost between the two.
TEST(Strands, ACorkLosesNoWake) {
  constexpr std::uint64_t posts = 20'000;
  std::atomic<std::uint64_t> ran{0};
  Strands strands(Strands::Limits{});
  StrandPtr s = strands.make("t", false, [&](const Entry&, Bytes) { ran.fetch_add(1); });
  std::atomic<bool> over{false};
  std::thread corker([&] {
    while (!over) s->cork(), s->uncork();
  });
  for (std::uint64_t i = 1; i <= posts; ++i) {
    s->post(number(i));
    if (i % 4 != 0) continue;  // whatever was posted is run, though nothing else comes
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (ran.load() < i && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    ASSERT_EQ(ran.load(), i);
  }
  over = true;
  corker.join();
}

// One thing after the other stays with one thread, whose processor has it all in its caches.
TEST(Strands, WhoWentIdleLastIsCalledFirst) {
  std::atomic<std::thread::id> who{};
  std::atomic<int> ran{0};
  Strands strands(Strands::Limits{});
  StrandPtr s = strands.make("t", false, [&](const Entry&, Bytes) {
    who = std::this_thread::get_id();
    ran.fetch_add(1);
  });
  int changes = 0;
  std::thread::id last;
  for (int i = 1; i <= 50; ++i) {
    s->post(number(1));
    while (ran.load() < i) std::this_thread::yield();
    changes += i > 1 && who.load() != last;
    last = who.load();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // it goes idle
  }
  EXPECT_LT(changes, 25);
}

TEST(Strands, TheWatchdogNamesAStallOnce) {
  Strands::Limits limits;
  limits.threads = 1;
  limits.slow = std::chrono::milliseconds(1);
  limits.stall = std::chrono::milliseconds(2);
  limits.poll = std::chrono::milliseconds(1);
  std::promise<std::string> named;
  std::atomic<int> times{0};
  std::promise<void> done, after;
  auto said = named.get_future().share();
  Strands strands(limits, [&](const Strands::Stall& s) {
    if (times.fetch_add(1) == 0)
      named.set_value(s.strand + " " + std::string(to_string(s.what)) + " " + std::to_string(s.method));
  });
  // The entry ends only once the watchdog has spoken: no time is guessed.
  StrandPtr s = strands.make("isolator.slow", false, [&](const Entry&, Bytes) {
    said.wait();
    std::this_thread::yield();
    done.set_value();
  });
  Entry e = number(1);
  e.method = 16;
  s->post(e);
  EXPECT_EQ(said.get(), "isolator.slow call 16");
  done.get_future().wait();
  StrandPtr second = strands.make("t", false, [&](const Entry&, Bytes) { after.set_value(); });
  second->post(number(1));  // one thread: runs when the first has been accounted for
  after.get_future().wait();
  EXPECT_EQ(s->slow(), 1u);
  EXPECT_EQ(s->stalls(), 1u);
  EXPECT_EQ(times.load(), 1);
}

TEST(Strands, ABlockingProviderDoesNotHoldUpOthers) {
  Strands::Limits limits;
  limits.threads = 1;
  std::promise<void> release, ran;
  auto released = release.get_future();
  Strands strands(limits);
  StrandPtr blocking = strands.make("blocking", true, [&](const Entry&, Bytes) { released.wait(); });
  StrandPtr other = strands.make("other", false, [&](const Entry&, Bytes) { ran.set_value(); });
  blocking->post(number(1));
  other->post(number(1));
  EXPECT_EQ(ran.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  release.set_value();
}

}  // namespace
}  // namespace gantry::module
