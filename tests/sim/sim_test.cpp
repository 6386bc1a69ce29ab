#include "kernel/base/log.hpp"
#include "tests/sanitizers.hpp"
#include "tests/sim/world.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace gantry::sim {
namespace {

// Sanitizer builds and quick rounds play fewer: GANTRY_SIM_SEEDS.
std::uint64_t seeds() {
  const char* n = std::getenv("GANTRY_SIM_SEEDS");
  constexpr bool slow = gantry::testing::kAddressSanitizer || gantry::testing::kThreadSanitizer;
  return n ? std::strtoull(n, nullptr, 10) : slow ? 5 : 200;
}

class Simulation : public ::testing::Test {
 protected:
  void SetUp() override { base::log_threshold() = 100; }
  void TearDown() override { base::log_threshold() = GANTRY_LOG_INFO; }
};

TEST_F(Simulation, WithoutFaultsEverythingConverges) {
  WorldOptions o;
  o.faults = false;
  o.length = 10min;
  World w(o);
  EXPECT_TRUE(w.run()) << w.broken();
  EXPECT_GT(w.statistics.launched, 10u);
  EXPECT_GT(w.statistics.terminal, 5u);
}

TEST_F(Simulation, TheLawsHoldUnderFaults) {
  std::uint64_t launched = 0, faults = 0;
  for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
    WorldOptions o;
    o.seed = seed;
    World w(o);
    ASSERT_TRUE(w.run()) << "seed " << seed << ": " << w.broken() << "\n  replay: gantry-sim --seed " << seed << " --trace";
    launched += w.statistics.launched;
    faults += w.statistics.faults;
  }
  EXPECT_GT(launched, seeds() * 20);
  EXPECT_GT(faults, seeds() * 50);
}

// 77: a task lost on a breaking link stayed UNREACHABLE for ever. The others: a task whose accept waited for its
// reservation to be stored was called GONE in a reconciliation, and then ran.
TEST_F(Simulation, SeedsThatOnceBroke) {
  for (const std::uint64_t seed : {77, 998, 1983, 2356, 4511, 7406}) {
    WorldOptions o;
    o.seed = seed;
    World w(o);
    EXPECT_TRUE(w.run()) << "seed " << seed << ": " << w.broken();
  }
}

TEST_F(Simulation, ASeedGivesTheSameRunTwice) {
  WorldOptions o;
  o.seed = 7;
  o.length = 20min;
  World a(o), b(o);
  EXPECT_EQ(a.run(), b.run());
  EXPECT_EQ(a.statistics.steps, b.statistics.steps);
  EXPECT_EQ(a.statistics.updates, b.statistics.updates);
}

// The simulator must notice when a guard is missing, or its silence means nothing.
std::uint64_t broken_seeds(bool WorldOptions::* guard) {
  std::uint64_t broken = 0;
  for (std::uint64_t seed = 1; seed <= 20 && !broken; ++seed) {
    WorldOptions o;
    o.seed = seed;
    o.*guard = true;
    World w(o);
    if (!w.run()) ++broken;
  }
  return broken;
}

TEST_F(Simulation, NoticesAcknowledgementBeforeTheStore) { EXPECT_GT(broken_seeds(&WorldOptions::acknowledge_before_store), 0u); }
TEST_F(Simulation, NoticesUpdatesSentBeforeTheJournalHasThem) { EXPECT_GT(broken_seeds(&WorldOptions::send_before_append), 0u); }

}  // namespace
}  // namespace gantry::sim
