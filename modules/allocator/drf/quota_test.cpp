// Quota in the engine: limits and guarantees, alone and in random lives with books beside it.
#include "engine.hpp"

#include <gantry/message.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

namespace gantry::allocator_drf {
namespace {

namespace fa = fb::allocator;
constexpr std::uint32_t kCpus = 1, kMem = 2;

fa::Quantity q(std::uint32_t name, double n, std::uint32_t role = 0) {
  return fa::Quantity(name, role, 0, 0, static_cast<std::int64_t>(n * 1000));
}

// Books as the kernel keeps them.
struct World {
  Engine engine;
  fa::DeltasT next;
  std::uint64_t now = 1'000'000'000;
  struct Agent {
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::int64_t> available;  // name, reserved for
  };
  struct Held {
    std::uint32_t agent, framework, role;
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::int64_t> what;
  };
  std::map<std::uint32_t, Agent> agents;
  std::map<std::uint32_t, std::uint32_t> parents;
  std::vector<Held> held;

  World() {
    engine.set_min_allocatable(parse_min_allocatable("cpus:0.01|mem:32").value());
    next.reset = true;
    for (const auto& [id, text] : {std::pair{kCpus, "cpus"}, {kMem, "mem"}}) {
      auto n = std::make_unique<fa::NameT>();
      n->id = id;
      n->text = text;
      next.names.push_back(std::move(n));
    }
  }
  void role(std::uint32_t id, std::uint32_t parent = 0, std::vector<fa::Amount> limits = {}, std::vector<fa::Amount> guarantees = {}) {
    auto r = std::make_unique<fa::RoleT>();
    r->id = id;
    r->parent = parent;
    r->text = "role" + std::to_string(id);
    r->limited = !limits.empty() || !guarantees.empty();
    r->limits = std::move(limits);
    r->guarantees = std::move(guarantees);
    next.roles.push_back(std::move(r));
    parents[id] = parent;
  }
  void framework(std::uint32_t id, std::uint32_t role, bool active = true) {
    auto f = std::make_unique<fa::FrameworkDeltaT>();
    f->id = id;
    f->roles = {role};
    f->active = active;
    next.frameworks.push_back(std::move(f));
  }
  void agent(std::uint32_t id, const std::vector<fa::Quantity>& what) {
    auto a = std::make_unique<fa::AgentDeltaT>();
    a->id = id;
    a->total = a->available = what;
    next.agents.push_back(std::move(a));
    for (const auto& x : what) agents[id].available[{x.name(), x.role()}] += x.amount();
  }
  void tell(std::uint32_t id) {
    auto a = std::make_unique<fa::AgentDeltaT>();
    a->id = id;
    for (const auto& [key, n] : agents[id].available)
      if (n > 0) a->available.emplace_back(key.first, key.second, 0u, 0u, n);
    next.agents.push_back(std::move(a));
  }
  bool within(std::uint32_t role, std::uint32_t above) const {
    for (; role; role = parents.at(role))
      if (role == above) return true;
    return false;
  }
  void give_back(std::size_t i) {
    const Held h = held[i];
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
    for (const auto& [key, n] : h.what) {
      agents[h.agent].available[key] += n;
      next.held.emplace_back(h.framework, h.role, key.first, 0u, -n);
    }
    tell(h.agent);
  }
  const Engine::Round& round() {
    next.now_ns = now;
    const Buffer b = pack(next);
    next = {};
    EXPECT_TRUE(engine.apply(*view<fa::Deltas>(b)));
    const auto& r = engine.round();
    for (const auto& g : r.grants) {
      Held h{g.agent(), g.framework(), g.role(), {}};
      auto& available = agents.at(g.agent()).available;
      if (g.part_count()) {
        for (std::uint32_t p = g.part_begin(); p < g.part_begin() + g.part_count(); ++p)
          h.what[{r.parts[p].name(), r.parts[p].role()}] += r.parts[p].amount();
      } else {
        for (const auto& [key, n] : available)
          if (n > 0 && (key.second == 0 || within(g.role(), key.second))) h.what[key] = n;
      }
      EXPECT_FALSE(h.what.empty());
      for (const auto& [key, n] : h.what) {
        EXPECT_GE(available[key], n) << "granted twice";
        available[key] -= n;
        next.held.emplace_back(g.framework(), g.role(), key.first, 0u, n);
      }
      held.push_back(std::move(h));
    }
    return r;
  }
  // What a role has, as the kernel counts it.
  std::int64_t has(std::uint32_t role, std::uint32_t name) const {
    std::int64_t sum = 0;
    for (const auto& h : held)
      if (within(h.role, role))
        for (const auto& [key, n] : h.what)
          if (key.first == name) sum += n;
    for (const auto& [id, a] : agents)
      for (const auto& [key, n] : a.available)
        if (key.first == name && key.second && within(key.second, role)) sum += n;
    return sum;
  }
  std::int64_t free(std::uint32_t name) const {
    std::int64_t sum = 0;
    for (const auto& [id, a] : agents)
      if (const auto it = a.available.find({name, 0}); it != a.available.end()) sum += it->second;
    return sum;
  }
};

TEST(Quota, LimitsChopWhatIsLimitedAndNothingElse) {
  World w;
  w.role(2, 0, {{kCpus, 0, 6000}});
  w.framework(1, 2);
  w.agent(1, {q(kCpus, 4), q(kMem, 1000)});
  w.agent(2, {q(kCpus, 4), q(kMem, 1000)});
  w.round();
  EXPECT_EQ(w.has(2, kCpus), 6000);
  EXPECT_EQ(w.has(2, kMem), 2000000);
  // The rest is for others.
  w.role(3);
  w.framework(2, 3);
  w.round();
  EXPECT_EQ(w.has(3, kCpus), 2000);
  // What it gives back it may have again, wherever it is.
  w.give_back(0);
  w.round();
  EXPECT_LE(w.has(2, kCpus), 6000);
}

TEST(Quota, LimitsOfARoleHoldForThoseBelowTogether) {
  World w;
  w.role(2, 0, {{kCpus, 0, 5000}});
  w.role(3, 2);
  w.role(4, 2, {{kCpus, 0, 1000}});
  w.framework(1, 3);
  w.framework(2, 4);
  for (std::uint32_t a = 1; a <= 4; ++a) w.agent(a, {q(kCpus, 4), q(kMem, 1000)});
  w.round();
  EXPECT_EQ(w.has(2, kCpus), 5000);
  EXPECT_LE(w.has(4, kCpus), 1000);
}

TEST(Quota, ReservationsCountButAreOffered) {
  World w;
  w.role(2, 0, {{kCpus, 0, 3000}, {kMem, 0, 100000}});
  w.framework(1, 2);
  w.agent(1, {q(kCpus, 2, 2), q(kCpus, 4), q(kMem, 1000)});
  w.round();
  EXPECT_EQ(w.has(2, kCpus), 3000);
  EXPECT_EQ(w.held.at(0).what[(std::pair<std::uint32_t, std::uint32_t>{kCpus, 2u})], 2000);
}

TEST(Quota, GuaranteesStayFreeForTheirRole) {
  World w;
  w.role(2, 0, {}, {{kCpus, 0, 6000}});
  w.role(3);
  w.framework(1, 3);
  for (std::uint32_t a = 1; a <= 4; ++a) w.agent(a, {q(kCpus, 4), q(kMem, 1000)});
  w.round();
  EXPECT_EQ(w.has(3, kCpus), 10000);
  EXPECT_EQ(w.free(kCpus), 6000);
  w.framework(2, 2);
  w.round();
  EXPECT_EQ(w.has(2, kCpus), 6000);
  // Beyond its guarantee it is like any other.
  w.give_back(0);
  w.round();
  EXPECT_EQ(w.free(kCpus), 0);
}

TEST(Quota, NoneAgainAndEverythingIsForEverybody) {
  World w;
  w.role(2, 0, {{kCpus, 0, 1000}});
  w.framework(1, 2);
  w.agent(1, {q(kCpus, 4), q(kMem, 1000)});
  w.round();
  EXPECT_EQ(w.has(2, kCpus), 1000);
  w.role(2);
  w.round();
  EXPECT_EQ(w.has(2, kCpus), 4000);
}

TEST(Quota, RandomLives) {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto pick = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    World w;
    std::map<std::uint32_t, std::map<std::uint32_t, std::int64_t>> limits;
    const auto shape = [&](std::uint32_t id, std::uint32_t parent) {
      std::vector<fa::Amount> caps;
      limits[id].clear();
      if (pick(2)) caps.emplace_back(kCpus, 0u, limits[id][kCpus] = 1000 * pick(20));
      if (pick(3) == 0) caps.emplace_back(kMem, 0u, limits[id][kMem] = 1000 * pick(4000));
      std::vector<fa::Amount> guarantees;
      if (parent == 0 && pick(3) == 0) guarantees.emplace_back(kCpus, 0u, 1000 * pick(10));
      w.role(id, parent, std::move(caps), std::move(guarantees));
    };
    for (std::uint32_t r = 2; r <= 6; ++r) shape(r, r == 5 ? 2 : r == 6 ? 5 : 0);
    for (std::uint32_t f = 1; f <= 8; ++f) w.framework(f, 2 + f % 5);
    for (std::uint32_t a = 1; a <= 6; ++a) {
      std::vector<fa::Quantity> what = {q(kCpus, 1 + pick(8)), q(kMem, 100 + pick(1000))};
      if (pick(2)) what.push_back(q(kCpus, 1 + pick(3), 2 + pick(5)));
      w.agent(a, what);
    }
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::int64_t> excess;  // from before a limit was lowered, or reserved
    for (int step = 0; step < 60; ++step) {
      std::map<std::pair<std::uint32_t, std::uint32_t>, std::int64_t> before;
      for (const auto& [role, caps] : limits)
        for (const auto& [name, limit] : caps) before[{role, name}] = w.has(role, name);
      w.round();
      for (const auto& [role, caps] : limits)
        for (const auto& [name, limit] : caps)
          ASSERT_LE(w.has(role, name), std::max(limit, before[{role, name}])) << "role " << role << " name " << name << " step " << step;
      if (!w.held.empty() && pick(2)) w.give_back(pick(static_cast<std::uint32_t>(w.held.size())));
      if (pick(8) == 0) {
        const std::uint32_t r = 2 + pick(5);
        shape(r, r == 5 ? 2 : r == 6 ? 5 : 0);
      }
    }
  }
}

// 3,000 machines, 3,000 roles with quota, one framework each (the bar is in tests/bench; this only says that it is no square).
TEST(Quota, ManyRolesAndManyMachines) {
  World w;
  for (std::uint32_t r = 2; r < 3002; ++r) w.role(r, 0, {{kCpus, 0, 1000}, {kMem, 0, 1000000}}, {{kCpus, 0, 1000}});
  for (std::uint32_t f = 1; f <= 3000; ++f) w.framework(f, f + 1);
  for (std::uint32_t a = 1; a <= 3000; ++a) w.agent(a, {q(kCpus, 24), q(kMem, 4096)});
  w.next.now_ns = w.now;
  const Buffer b = pack(w.next);
  ASSERT_TRUE(w.engine.apply(*view<fa::Deltas>(b)));
  const auto start = std::chrono::steady_clock::now();
  const auto& r = w.engine.round();
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(r.grants.size(), 3000u);
  EXPECT_LT(took, std::chrono::seconds(5));
  RecordProperty("round_us", static_cast<int>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
  std::printf("one round: %.1f ms, %zu grants\n", std::chrono::duration<double, std::milli>(took).count(), r.grants.size());
}

}  // namespace
}  // namespace gantry::allocator_drf
