// The same provider on real threads. Run under ThreadSanitizer too.
#include "support.hpp"

namespace gantry::module {
namespace {

using namespace std::chrono_literals;

class Threads : public testing::Test {
 protected:
  void SetUp() override {
    Strands::Limits limits;
    limits.slow = 1ms;
    limits.stall = 2ms;
    limits.poll = 1ms;
    strands = std::make_unique<Strands>(limits, [this](const Strands::Stall& s) { stalled = s.method; });
    auto loaded = load_library(configured("fetcher", "misbehaves", bad("misbehaves")));
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    InstanceSetup s;
    s.loop = &loop;
    s.strands = strands.get();
    s.metrics = &metrics;
    s.services = &services;
    s.kind = "fetcher";
    s.name = "misbehaves";
    s.provider = loaded->provider;
    instance = std::make_unique<LocalInstance>(std::move(s));
    bool created = false;
    spawn(instance->create(), [&](Status st) { created = st.has_value(); });
    ASSERT_TRUE(loop.run_until([&] { return created; }));
    instance->set_state(State::running);
  }
  void TearDown() override {
    if (instance) {
      EXPECT_EQ(stop(5s), "stopped");
    }
    instance.reset();
    strands.reset();
  }
  std::string stop(base::Nanos grace) {
    std::string out;
    spawn(instance->stop(true, 1s, grace), [&](Status s) { out = s.has_value() ? "stopped" : s.error().message; });
    EXPECT_TRUE(loop.run_until([&] { return !out.empty(); }));
    return out;
  }
  LogLines log;
  ThreadLoop loop;
  base::Metrics metrics;
  Services services;
  std::unique_ptr<Strands> strands;
  std::unique_ptr<LocalInstance> instance;
  std::atomic<std::uint32_t> stalled{0};
};

TEST_F(Threads, CallsAreAnsweredInOrder) {
  std::vector<std::string> answers;
  for (int i = 0; i < 2000; ++i)
    instance->call(16, Buffer(as_bytes(std::to_string(i))), [&](gantry_code, Bytes b) {
      answers.emplace_back(reinterpret_cast<const char*>(b.data()), b.size());
    });
  ASSERT_TRUE(loop.run_until([&] { return answers.size() == 2000; }));
  for (int i = 0; i < 2000; ++i) EXPECT_EQ(answers[static_cast<std::size_t>(i)], std::to_string(i));
}

TEST_F(Threads, AHeldStrandIsNamedAndTheLoopGoesOn) {
  Pipe p;
  auto o = std::make_shared<Outcome>();
  CallOptions options;
  options.fds = {p.ends[0]};
  instance->call(20, {}, into(o), std::move(options));
  EXPECT_TRUE(loop.run_until([&] { return stalled.load() == 20; })) << "the loop runs while the module blocks";
  EXPECT_FALSE(o->done());
  p.write();
  ASSERT_TRUE(loop.run_until([&] { return o->done(); }));
  EXPECT_EQ(o->code, GANTRY_OK);
}

TEST_F(Threads, CompletionFromAForeignThreadAfterCancel) {
  Pipe p;
  auto o = std::make_shared<Outcome>();
  CallOptions options;
  options.fds = {p.ends[0]};
  const std::uint64_t id = instance->call(22, {}, into(o), std::move(options));
  instance->cancel(id);
  instance->cancel(id);
  auto echo = std::make_shared<Outcome>();
  instance->call(16, {}, into(echo));
  ASSERT_TRUE(loop.run_until([&] { return echo->done(); }));
  EXPECT_FALSE(o->done()) << "a cancel is a wish";
  p.write();
  ASSERT_TRUE(loop.run_until([&] { return o->done(); }));
  EXPECT_EQ(o->code, GANTRY_CANCELLED);
  EXPECT_EQ(instance->counters().faults, 0u);
}

TEST_F(Threads, CompletionFromAForeignThreadAfterTheDeadline) {
  Pipe p;
  auto o = std::make_shared<Outcome>();
  CallOptions options;
  options.fds = {p.ends[0]};
  options.deadline = loop.now() + 1ms;
  instance->call(22, {}, into(o), std::move(options));
  ASSERT_TRUE(loop.run_until([&] { return o->done(); }));
  EXPECT_EQ(o->code, GANTRY_DEADLINE_EXCEEDED);
  p.write();
  EXPECT_EQ(stop(5s), "stopped") << "the token came back, so the instance could be destroyed";
  EXPECT_EQ(o->finals, 1);
  instance.reset();
}

TEST_F(Threads, OffloadAndTimers) {
  auto a = std::make_shared<Outcome>();
  instance->call(31, {}, into(a));
  ASSERT_TRUE(loop.run_until([&] { return a->done(); }));
  EXPECT_EQ(a->body, "posted");
  auto b = std::make_shared<Outcome>();
  instance->call(21, {}, into(b));
  ASSERT_TRUE(loop.run_until([&] { return b->done(); }));
}

TEST_F(Threads, AStuckModuleDoesNotKeepTheKernelFromStopping) {
  Pipe p;
  CallOptions options;
  options.fds = {p.ends[0]};
  auto o = std::make_shared<Outcome>();
  instance->call(20, {}, into(o), std::move(options));
  ASSERT_TRUE(loop.run_until([&] { return stalled.load() == 20; }));
  std::string out;
  spawn(instance->stop(true, 1ms, 1ms), [&](Status s) { out = s.has_value() ? "stopped" : s.error().message; });
  ASSERT_TRUE(loop.run_until([&] { return !out.empty(); }));
  EXPECT_THAT(out, testing::HasSubstr("left behind"));
  EXPECT_EQ(o->code, GANTRY_UNAVAILABLE);
  instance.reset();
  p.write();
  strands.reset();
}

}  // namespace
}  // namespace gantry::module
