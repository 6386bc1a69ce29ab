// The arithmetic alone: for any mixture of instances, its promises hold (marathon.md A7).
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "rollout.hpp"

namespace gantry::framework_services {
namespace {

// Plays upgrades with random starts, failures and kills: capacity is never broken by our own hand, and every one ends.
TEST(RolloutTest, RandomUpgradesKeepCapacityAndEnd) {
  std::mt19937 random(7);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int game = 0; game < 2000; ++game) {
    App old_app, new_app;
    old_app.last_config = 1;
    new_app.last_config = 2;
    const auto before = std::make_shared<const App>(old_app), after = std::make_shared<const App>(new_app);
    const int n = pick(9), had = pick(9);
    const double min = pick(5) / 4.0, over = pick(5) / 4.0;
    int serial = 0;
    std::map<std::string, Instance> all;
    const auto add = [&](const std::shared_ptr<const App>& app, Condition c) {
      Instance i;
      i.id = std::to_string(serial++);
      i.app = app;
      i.condition = c;
      all[i.id] = i;
    };
    for (int k = 0; k < had; ++k) add(before, pick(5) ? Condition::running : Condition::staging);
    const int min_good = static_cast<int>(std::ceil(n * min - 1e-9));
    int most = static_cast<int>(std::floor(n * (1 + over) + 1e-9));
    if (most == min_good) ++most;
    bool done = false;
    for (int round = 0; round < 400 && !done; ++round) {
      std::vector<RolloutView> views;
      int good = 0, occupied = 0;
      for (const auto& [id, i] : all) {
        views.push_back({&i, i.app == after});
        good += i.good() && !i.doomed;
        ++occupied;
      }
      const auto step = rollout(n, min, over, false, views);
      done = step.done;
      int lost = 0;
      for (const auto& id : step.kill) {
        Instance& i = all.at(id);
        EXPECT_FALSE(i.doomed);
        lost += i.good();
        if (i.has_task())
          i.doomed = true;
        else
          all.erase(id);
      }
      EXPECT_GE(good - lost, std::min({good, min_good, n})) << "game " << game;
      for (int k = 0; k < step.start; ++k) add(after, Condition::scheduled);
      EXPECT_LE(static_cast<int>(all.size()), std::max(occupied, most)) << "game " << game;
      // The world moves.
      for (auto it = all.begin(); it != all.end();) {
        Instance& i = it->second;
        if (i.doomed && pick(2)) {
          it = all.erase(it);
          continue;
        }
        if (i.condition == Condition::scheduled && pick(2))
          i.condition = Condition::staging;
        else if (i.condition == Condition::staging && pick(3))
          i.condition = Condition::running;
        else if (i.condition == Condition::running && !i.doomed && round < 100 && pick(20) == 0)
          i.condition = Condition::scheduled;
        ++it;
      }
    }
    EXPECT_TRUE(done) << "game " << game << " n " << n << " had " << had << " min " << min << " over " << over;
  }
}

TEST(RolloutTest, FailingOldInstancesGoFirstAndFree) {
  App old_app, new_app;
  old_app.last_config = 1;
  new_app.last_config = 2;
  old_app.health.resize(1);
  const auto before = std::make_shared<const App>(old_app);
  Instance good, bad;
  for (auto* i : {&good, &bad}) {
    i->app = before;
    i->condition = Condition::running;
    i->health.resize(1);
  }
  good.id = "good";
  good.health[0].alive = true;
  bad.id = "bad";
  bad.health[0].alive = false;
  const auto step = rollout(2, 1, 0, false, {{&good, false}, {&bad, false}});
  EXPECT_EQ(step.kill, std::vector<std::string>{"bad"});
  EXPECT_EQ(step.start, 1);  // three at most, one is leaving
}

}  // namespace
}  // namespace gantry::framework_services
