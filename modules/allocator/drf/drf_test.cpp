#include "drf.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace gantry::fb::allocator {
static bool operator==(const Quantity& a, const Quantity& b) {
  return a.name() == b.name() && a.role() == b.role() && a.flags() == b.flags() && a.amount() == b.amount();
}
}  // namespace gantry::fb::allocator

namespace gantry::allocator_drf {
namespace {

namespace fa = fb::allocator;
constexpr std::uint32_t kCpus = 1, kMem = 2, kPorts = 4, kGpus = 5;
constexpr std::uint64_t kSecond = 1'000'000'000;

std::vector<fa::Quantity> machine(double cpus, double mem, std::uint32_t role = 0, std::uint32_t flags = 0) {
  std::vector<fa::Quantity> out;
  if (cpus > 0) out.emplace_back(kCpus, role, flags, 0u, static_cast<std::int64_t>(cpus * 1000));
  if (mem > 0) out.emplace_back(kMem, role, flags, 0u, static_cast<std::int64_t>(mem * 1000));
  return out;
}
std::vector<fa::Quantity> operator+(std::vector<fa::Quantity> a, const std::vector<fa::Quantity>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A kernel in miniature: books grants as the real one does, and checks that nothing is granted twice.
class Cluster {
 public:
  explicit Cluster(testing::Values settings = {{"min_allocatable", "cpus:0.01|mem:32"}, {"fairness_exclude", std::vector<std::string>{}}, {"interval", std::chrono::seconds(1)}})
      : module_(host_, "drf") {
    const Status s = module_.configure(settings);
    EXPECT_TRUE(s) << (s ? "" : s.error().message);
    EXPECT_TRUE(module_.start());
    next_.reset = true;
    next_.now_ns = kSecond;
    for (const auto& [id, name] : {std::pair{kCpus, "cpus"}, {kMem, "mem"}, {kPorts, "ports"}, {kGpus, "gpus"}}) {
      auto n = std::make_unique<fa::NameT>();
      n->id = id;
      n->text = name;
      next_.names.push_back(std::move(n));
    }
    role(1, "*");
  }
  ~Cluster() { EXPECT_EQ(host_.faults(), std::vector<std::string>{}); }

  void role(std::uint32_t id, std::string text, std::uint32_t parent = 0, double weight = 1) {
    auto r = std::make_unique<fa::RoleT>();
    r->id = id;
    r->text = std::move(text);
    r->parent = parent;
    r->weight = weight;
    next_.roles.push_back(std::move(r));
  }
  void framework(std::uint32_t id, std::vector<std::uint32_t> roles = {1}, std::uint32_t flags = 0, bool active = true,
                 std::vector<std::uint32_t> suppressed = {}) {
    auto f = std::make_unique<fa::FrameworkDeltaT>();
    f->id = id;
    f->roles = std::move(roles);
    f->flags = flags;
    f->active = active;
    f->suppressed = std::move(suppressed);
    next_.frameworks.push_back(std::move(f));
  }
  void agent(std::uint32_t id, std::vector<fa::Quantity> what, bool active = true) {
    auto a = std::make_unique<fa::AgentDeltaT>();
    a->id = id;
    a->total = what;
    a->available = what;
    a->active = active;
    available_[id] = std::move(what);
    next_.agents.push_back(std::move(a));
  }
  void available(std::uint32_t id, std::vector<fa::Quantity> what) {
    auto a = std::make_unique<fa::AgentDeltaT>();
    a->id = id;
    a->available = what;
    available_[id] = std::move(what);
    next_.agents.push_back(std::move(a));
  }
  void held(std::uint32_t framework, std::uint32_t role, const std::vector<fa::Quantity>& what, int sign = 1) {
    for (const auto& q : what) next_.held.emplace_back(framework, role, q.name(), 0u, sign * q.amount());
  }
  // The framework gives a grant back, with a filter if seconds > 0.
  void decline(const fa::Grant& g, double seconds) {
    held(g.framework(), g.role(), granted_.at(g.agent()), -1);
    if (seconds > 0) {
      auto f = std::make_unique<fa::FilterT>();
      f->framework = g.framework();
      f->role = g.role();
      f->agent = g.agent();
      f->until_ns = now_ + static_cast<std::uint64_t>(seconds * 1e9);
      f->refused = granted_.at(g.agent());
      next_.filters.push_back(std::move(f));
    }
    available(g.agent(), available_[g.agent()] + granted_.at(g.agent()));
  }
  void unfilter(std::uint32_t framework, std::uint32_t role) { next_.unfilters.emplace_back(framework, role); }

  std::vector<fa::Grant> round(double after_seconds = 0, bool all = false) {
    now_ += static_cast<std::uint64_t>(after_seconds * 1e9);
    next_.now_ns = now_;
    next_.all = all;
    auto r = module_.call<fa::Round>(fa::Method::ALLOCATE, next_);
    next_ = {};
    EXPECT_TRUE(r.has_value()) << (r ? "" : r.error().message);
    if (!r) return {};
    last_ = std::move(*r);
    granted_.clear();
    for (const auto& g : last_.grants) {
      EXPECT_FALSE(granted_.count(g.agent()) && g.part_count() == 0 && available_[g.agent()].empty()) << "granted twice";
      if (g.part_count()) {
        granted_[g.agent()].assign(last_.parts.begin() + g.part_begin(), last_.parts.begin() + g.part_begin() + g.part_count());
      } else {
        granted_[g.agent()] = {};
        for (const auto& q : available_[g.agent()])
          if (q.role() == 0 || reserved_ok(g.role(), q.role())) granted_[g.agent()].push_back(q);
      }
      std::erase_if(available_[g.agent()], [&](const fa::Quantity& q) {
        for (const auto& x : granted_[g.agent()])
          if (x.name() == q.name() && x.role() == q.role() && x.flags() == q.flags()) return true;
        return false;
      });
      held(g.framework(), g.role(), granted_[g.agent()]);
    }
    return last_.grants;
  }
  // (role of the grant, role of a reservation): the tests say which are within which.
  std::function<bool(std::uint32_t, std::uint32_t)> reserved_ok = [](std::uint32_t a, std::uint32_t b) { return a == b; };

  std::map<std::uint32_t, int> count(const std::vector<fa::Grant>& grants) {
    std::map<std::uint32_t, int> n;
    for (const auto& g : grants) ++n[g.framework()];
    return n;
  }
  fa::DeltasT& next() { return next_; }
  fa::RoundT& last() { return last_; }
  testing::Subject<Drf>& module() { return module_; }
  std::vector<fa::Quantity> granted(std::uint32_t agent) { return granted_[agent]; }

 private:
  testing::Host host_;
  testing::Subject<Drf> module_;
  fa::DeltasT next_;
  fa::RoundT last_;
  std::uint64_t now_ = kSecond;
  std::map<std::uint32_t, std::vector<fa::Quantity>> available_, granted_;
};

TEST(Drf, OffersEverythingOfAnAgentToTheOnlyFramework) {
  Cluster c;
  c.framework(1);
  c.agent(7, machine(4, 1024));
  const auto grants = c.round();
  ASSERT_EQ(grants.size(), 1u);
  EXPECT_EQ(grants[0].agent(), 7u);
  EXPECT_EQ(grants[0].framework(), 1u);
  EXPECT_EQ(grants[0].role(), 1u);
  EXPECT_EQ(grants[0].part_count(), 0u);
  EXPECT_TRUE(c.round().empty()) << "it is offered already";
  EXPECT_TRUE(c.round(0, true).empty());
}

TEST(Drf, SharesAgentsEquallyAmongFrameworks) {
  Cluster c;
  for (std::uint32_t f = 1; f <= 3; ++f) c.framework(f);
  for (std::uint32_t a = 0; a < 30; ++a) c.agent(a, machine(4, 1024));
  const auto n = c.count(c.round());
  EXPECT_EQ(n, (std::map<std::uint32_t, int>{{1, 10}, {2, 10}, {3, 10}}));
}

TEST(Drf, DominantShareDecides) {
  Cluster c;
  c.framework(1);
  c.framework(2);
  c.agent(1, machine(10, 10000));
  // 1 holds half of the memory, 2 a third of the cpus: 2 has the lower dominant share.
  c.held(1, 1, machine(1, 5000));
  c.held(2, 1, machine(3, 100));
  EXPECT_EQ(c.round()[0].framework(), 2u);
}

TEST(Drf, ExcludedNamesDoNotCount) {
  Cluster c({{"min_allocatable", ""}, {"fairness_exclude", {"mem"}}});
  c.framework(1);
  c.framework(2);
  c.agent(1, machine(10, 10000));
  c.held(1, 1, machine(1, 5000));
  c.held(2, 1, machine(3, 100));
  EXPECT_EQ(c.round()[0].framework(), 1u);
}

TEST(Drf, WeightsOfRoles) {
  Cluster c;
  c.role(2, "light", 0, 1);
  c.role(3, "heavy", 0, 3);
  c.framework(1, {2});
  c.framework(2, {3});
  for (std::uint32_t a = 0; a < 40; ++a) c.agent(a, machine(1, 1024));
  EXPECT_EQ(c.count(c.round()), (std::map<std::uint32_t, int>{{1, 10}, {2, 30}}));
}

TEST(Drf, RolesFirstThenFrameworks) {
  Cluster c;
  c.role(2, "a");
  c.role(3, "b");
  c.framework(1, {2});
  c.framework(2, {3});
  c.framework(3, {3});
  for (std::uint32_t a = 0; a < 40; ++a) c.agent(a, machine(1, 1024));
  EXPECT_EQ(c.count(c.round()), (std::map<std::uint32_t, int>{{1, 20}, {2, 10}, {3, 10}}));
}

TEST(Drf, SharesAggregateUpTheTree) {
  Cluster c;
  c.role(2, "eng");
  c.role(3, "eng/web", 2);
  c.role(4, "eng/db", 2);
  c.role(5, "ops");
  c.framework(1, {3});
  c.framework(2, {4});
  c.framework(3, {5});
  for (std::uint32_t a = 0; a < 40; ++a) c.agent(a, machine(1, 1024));
  EXPECT_EQ(c.count(c.round()), (std::map<std::uint32_t, int>{{1, 10}, {2, 10}, {3, 20}}));
}

TEST(Drf, ReservedResourcesGoOnlyToTheRoleAndItsChildren) {
  Cluster c;
  c.role(2, "eng");
  c.role(3, "eng/web", 2);
  c.role(4, "ops");
  c.reserved_ok = [](std::uint32_t a, std::uint32_t b) { return a == b || (a == 3 && b == 2); };
  c.framework(1, {4});
  c.agent(1, machine(1, 100, 2) + machine(2, 200));
  auto grants = c.round();
  ASSERT_EQ(grants.size(), 1u);
  EXPECT_EQ(c.granted(1), machine(2, 200)) << "a framework of ops sees only the unreserved part";
  c.framework(2, {3});
  grants = c.round();
  ASSERT_EQ(grants.size(), 1u) << "the rest waits for somebody below eng";
  EXPECT_EQ(grants[0].framework(), 2u);
  EXPECT_EQ(grants[0].role(), 3u);
  EXPECT_EQ(c.granted(1), machine(1, 100, 2));
}

TEST(Drf, MinAllocatable) {
  Cluster c;
  c.framework(1);
  c.agent(1, machine(0.009, 31));
  c.agent(2, machine(0.01, 0));
  c.agent(3, machine(0, 32));
  std::set<std::uint32_t> agents;
  for (const auto& g : c.round()) agents.insert(g.agent());
  EXPECT_EQ(agents, (std::set<std::uint32_t>{2, 3}));
  c.available(1, machine(0.009, 32));
  EXPECT_EQ(c.round().size(), 1u);

  const auto both = parse_min_allocatable("cpus:1;mem:64|gpus:1");
  ASSERT_TRUE(both.has_value());
  EXPECT_EQ(both->size(), 2u);
  EXPECT_EQ((*both)[0].size(), 2u);
  EXPECT_EQ((*both)[0][1], (std::pair<std::string, std::int64_t>{"mem", 64000}));
  for (const char* bad : {"cpus", "cpus:", "cpus:x", "cpus:-1", "cpus:1||mem:2", ":3", "cpus:nan"}) EXPECT_FALSE(parse_min_allocatable(bad)) << bad;
  testing::Host host;
  testing::Subject<Drf> m(host, "drf");
  const Status s = m.configure({{"min_allocatable", "cpus=1"}, {"fairness_exclude", std::vector<std::string>{}}});
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().key_path, "min_allocatable");
}

TEST(Drf, AFilterHidesSubsetsUntilItExpires) {
  Cluster c;
  c.framework(1);
  c.agent(1, machine(4, 1024));
  auto grants = c.round();
  ASSERT_EQ(grants.size(), 1u);
  c.decline(grants[0], 5);
  EXPECT_TRUE(c.round().empty());
  EXPECT_EQ(c.last().wake_ns, 6 * kSecond);
  EXPECT_TRUE(c.round(1, true).empty());
  c.available(1, machine(3, 1024));
  EXPECT_TRUE(c.round().empty()) << "a smaller bundle is a subset";
  c.available(1, machine(4.5, 1024));
  grants = c.round();
  EXPECT_EQ(grants.size(), 1u) << "more cpus than refused";
  c.decline(grants[0], 0);
  c.available(1, machine(2, 100));
  EXPECT_TRUE(c.round().empty());
  EXPECT_EQ(c.last().wake_ns, 6 * kSecond) << "still waiting for the first filter";
  EXPECT_EQ(c.round(5).size(), 1u) << "expired: the agent is found without being mentioned";
}

TEST(Drf, AnotherFrameworkTakesWhatOneDeclined) {
  Cluster c;
  c.framework(1);
  c.framework(2);
  c.agent(1, machine(4, 1024));
  auto first = c.round();
  c.decline(first[0], 5);
  auto second = c.round();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_NE(second[0].framework(), first[0].framework());
  c.decline(second[0], 100);
  EXPECT_TRUE(c.round(1).empty());
  EXPECT_EQ(c.last().wake_ns, 6 * kSecond) << "the earlier of the two";
  const auto third = c.round(4);
  ASSERT_EQ(third.size(), 1u);
  EXPECT_EQ(third[0].framework(), first[0].framework());
}

TEST(Drf, ReviveDropsFilters) {
  Cluster c;
  c.framework(1);
  c.agent(1, machine(4, 1024));
  c.decline(c.round()[0], 1000);
  EXPECT_TRUE(c.round().empty());
  c.unfilter(1, 0);
  const auto again = c.round();
  ASSERT_EQ(again.size(), 1u);
  c.decline(again[0], 1000);
  EXPECT_TRUE(c.round().empty());
  c.unfilter(1, 9);
  EXPECT_TRUE(c.round().empty()) << "another role";
  c.unfilter(1, 1);
  EXPECT_EQ(c.round().size(), 1u);
}

TEST(Drf, FiltersAreOfOneAgentAndRole) {
  Cluster c;
  c.role(2, "a");
  c.role(3, "b");
  c.framework(1, {2, 3});
  c.agent(1, machine(4, 1024));
  auto g = c.round();
  const auto role = g[0].role();
  c.decline(g[0], 1000);
  g = c.round();
  ASSERT_EQ(g.size(), 1u);
  EXPECT_NE(g[0].role(), role);
  c.decline(g[0], 1000);
  c.agent(2, machine(4, 1024));
  g = c.round();
  ASSERT_EQ(g.size(), 1u);
  EXPECT_EQ(g[0].agent(), 2u);
}

TEST(Drf, FiltersDieWithTheConnection) {
  Cluster c;
  c.framework(1);
  c.agent(1, machine(4, 1024));
  c.decline(c.round()[0], 1000);
  EXPECT_TRUE(c.round().empty());
  c.framework(1, {1}, 0, false);
  EXPECT_TRUE(c.round().empty());
  c.framework(1);
  EXPECT_EQ(c.round().size(), 1u);
}

TEST(Drf, SuppressedAndInactiveGetNothing) {
  Cluster c;
  c.role(2, "a");
  c.framework(1, {1, 2}, 0, true, {2});
  c.framework(2, {1}, 0, false);
  for (std::uint32_t a = 0; a < 4; ++a) c.agent(a, machine(1, 100));
  for (const auto& g : c.round()) {
    EXPECT_EQ(g.framework(), 1u);
    EXPECT_EQ(g.role(), 1u);
  }
  c.framework(1, {1, 2}, 0, true, {1, 2});
  c.agent(9, machine(1, 100));
  EXPECT_TRUE(c.round().empty());
  c.framework(1, {1, 2}, 0, true, {1});
  const auto g = c.round();
  ASSERT_EQ(g.size(), 1u) << "found again without being mentioned";
  EXPECT_EQ(g[0].role(), 2u);
}

TEST(Drf, GpuAgentsAreKeptForGpuFrameworks) {
  Cluster c;
  c.framework(1);
  std::vector<fa::Quantity> gpu = machine(4, 1024);
  gpu.emplace_back(kGpus, 0u, static_cast<std::uint32_t>(fa::QuantityFlags::GPU), 0u, 1000);
  c.agent(1, gpu);
  EXPECT_TRUE(c.round().empty());
  c.available(1, machine(4, 1024));
  EXPECT_TRUE(c.round().empty()) << "even while its gpus are in use";
  c.framework(2, {1}, static_cast<std::uint32_t>(fa::FrameworkFlags::GPU));
  EXPECT_EQ(c.round().at(0).framework(), 2u);
}

TEST(Drf, WhatAFrameworkCannotHandleIsLeftOut) {
  using Q = fa::QuantityFlags;
  using F = fa::FrameworkFlags;
  for (const auto& [quantity, capability] : {std::pair{Q::REVOCABLE, F::REVOCABLE}, {Q::SHARED, F::SHARED}, {Q::REFINED, F::REFINEMENT}}) {
    Cluster c;
    c.framework(1);
    const auto special = machine(2, 200, 0, static_cast<std::uint32_t>(quantity));
    c.agent(1, machine(1, 100) + special);
    ASSERT_EQ(c.round().size(), 1u);
    EXPECT_EQ(c.granted(1), machine(1, 100));
    c.framework(2, {1}, static_cast<std::uint32_t>(capability));
    const auto g = c.round();
    ASSERT_EQ(g.size(), 1u);
    EXPECT_EQ(g[0].framework(), 2u);
    EXPECT_EQ(c.granted(1), special);
  }
}

TEST(Drf, InactiveAndGoneAgents) {
  Cluster c;
  c.framework(1);
  c.agent(1, machine(1, 100), false);
  c.agent(2, machine(1, 100));
  auto gone = std::make_unique<fa::AgentDeltaT>();
  gone->id = 2;
  gone->gone = true;
  c.next().agents.push_back(std::move(gone));
  EXPECT_TRUE(c.round(0, true).empty());
  auto back = std::make_unique<fa::AgentDeltaT>();
  back->id = 1;
  c.next().agents.push_back(std::move(back));
  EXPECT_EQ(c.round().at(0).agent(), 1u);
  c.agent(2, machine(1, 100));
  EXPECT_EQ(c.round().at(0).agent(), 2u) << "the handle is used again";
}

TEST(Drf, GoneFrameworksTakeTheirShareAlong) {
  Cluster c;
  c.role(2, "a");
  c.framework(1, {2});
  c.framework(2, {2});
  c.framework(3, {1});
  c.agent(1, machine(10, 1000));
  c.held(1, 2, machine(9, 10));
  c.held(3, 1, machine(5, 10));
  auto gone = std::make_unique<fa::FrameworkDeltaT>();
  gone->id = 1;
  gone->gone = true;
  EXPECT_EQ(c.round().at(0).framework(), 3u) << "role a holds nine cpus";
  c.next().frameworks.push_back(std::move(gone));
  c.agent(2, machine(10, 1000));
  EXPECT_EQ(c.round().at(0).framework(), 2u);
}

TEST(Drf, BookedGrantsAreNotCountedTwice) {
  Engine engine;
  fa::DeltasT d;
  d.now_ns = kSecond;
  auto n = std::make_unique<fa::NameT>();
  n->id = kCpus;
  n->text = "cpus";
  d.names.push_back(std::move(n));
  auto f = std::make_unique<fa::FrameworkDeltaT>();
  f->id = 1;
  f->roles = {1};
  f->active = true;
  d.frameworks.push_back(std::move(f));
  for (std::uint32_t i = 0; i < 2; ++i) {
    auto a = std::make_unique<fa::AgentDeltaT>();
    a->id = i;
    a->total = machine(4, 0);
    if (i == 0) a->available = machine(4, 0);
    d.agents.push_back(std::move(a));
  }
  const auto apply = [&] {
    const Buffer b = pack(d);
    ASSERT_TRUE(engine.apply(*view<fa::Deltas>(b)));
    d = {};
    d.now_ns = kSecond;
  };
  apply();
  ASSERT_EQ(engine.round().grants.size(), 1u);
  EXPECT_DOUBLE_EQ(engine.share(1, 1), 0.5) << "counted at once";
  d.held.emplace_back(1u, 1u, kCpus, 0u, 4000);
  apply();
  EXPECT_DOUBLE_EQ(engine.share(1, 1), 0.5) << "counted once";
  EXPECT_DOUBLE_EQ(engine.share(1), 0.5);
  apply();
  EXPECT_DOUBLE_EQ(engine.share(1, 1), 0.5);
  d.held.emplace_back(1u, 1u, kCpus, 0u, -4000);
  apply();
  EXPECT_DOUBLE_EQ(engine.share(1, 1), 0);
}

TEST(Drf, EqualFrameworksTakeTurns) {
  Cluster c;
  c.framework(1);
  c.framework(2);
  c.agent(1, machine(1, 100));
  std::map<std::uint32_t, int> n;
  for (int i = 0; i < 10; ++i) {
    const auto g = c.round();
    ASSERT_EQ(g.size(), 1u);
    ++n[g[0].framework()];
    c.decline(g[0], 0);
  }
  EXPECT_EQ(n, (std::map<std::uint32_t, int>{{1, 5}, {2, 5}}));
}

TEST(Drf, ResetForgetsEverything) {
  Cluster c;
  c.framework(1);
  c.agent(1, machine(1, 100));
  c.decline(c.round().at(0), 1000);
  EXPECT_TRUE(c.round().empty());
  c.next().reset = true;
  c.round();
  c.agent(1, machine(1, 100));
  EXPECT_TRUE(c.round().empty()) << "the framework is forgotten";
}

TEST(Drf, BrokenMessagesAreRefused) {
  Cluster c;
  auto a = std::make_unique<fa::AgentDeltaT>();
  a->id = UINT32_MAX;
  c.next().agents.push_back(std::move(a));
  auto r = c.module().call<fa::Round>(fa::Method::ALLOCATE, c.next());
  ASSERT_FALSE(r.has_value());
  EXPECT_NE(r.error().message.find("agent handle 4294967295"), std::string::npos);
  const std::vector<std::uint8_t> garbage(40, 0xff);
  auto g = c.module().call<fa::Round>(fa::Method::ALLOCATE, Bytes(garbage));
  EXPECT_FALSE(g.has_value());
}

// Random clusters against a straightforward model of the rules: whatever is granted was free and permitted, and what is
// not granted has no taker.
TEST(Drf, NothingIsGrantedTwiceAndNothingUsefulIsLeft) {
  std::mt19937 random(11);
  const auto below = [&](unsigned n) { return static_cast<std::uint32_t>(random() % n); };
  for (int run = 0; run < 40; ++run) {
    Cluster c;
    c.role(2, "a");
    c.role(3, "a/b", 2);
    c.role(4, "c", 0, 2);
    c.reserved_ok = [](std::uint32_t role, std::uint32_t by) { return role == by || (role == 3 && by == 2); };
    const std::uint32_t frameworks = 1 + below(5);
    for (std::uint32_t f = 1; f <= frameworks; ++f) c.framework(f, {1 + below(4)});
    std::vector<fa::Grant> open;
    std::set<std::uint32_t> offered, agents;
    for (int step = 0; step < 30; ++step) {
      const std::uint32_t id = below(8);
      if (!offered.count(id)) {
        c.agent(id, machine(1 + below(3), 100) + (below(3) == 0 ? machine(1, 50, 2) : machine(0, 0)));
        agents.insert(id);
      }
      for (auto it = open.begin(); it != open.end();) {
        if (below(2)) {
          ++it;
          continue;
        }
        // An agent's pieces come back together, to keep the model small.
        offered.erase(it->agent());
        c.held(it->framework(), it->role(), machine(0, 0));
        const auto agent = it->agent();
        if (below(2)) {
          auto f = std::make_unique<fa::FilterT>();
          f->framework = it->framework();
          f->role = it->role();
          f->agent = agent;
          f->until_ns = UINT64_MAX / 4;
          f->refused = machine(9, 999) + machine(9, 999, 2);
          c.next().filters.push_back(std::move(f));
        }
        std::erase_if(open, [&](const fa::Grant& g) { return g.agent() == agent; });
        c.available(agent, machine(1 + below(3), 100));
        it = open.begin();
      }
      for (const auto& g : c.round(0.1, below(4) == 0)) {
        open.push_back(g);
        offered.insert(g.agent());
        EXPECT_FALSE(c.granted(g.agent()).empty());
      }
    }
    // After REVIVE of all, every known agent must end up offered.
    for (std::uint32_t f = 1; f <= frameworks; ++f) c.unfilter(f, 0);
    for (const auto& g : c.round(1)) offered.insert(g.agent());
    EXPECT_EQ(offered, agents) << "run " << run;
  }
}

TEST(ShareTree, KeepsOrdersUnderRandomChanges) {
  std::mt19937 random(5);
  ShareTree t;
  t.add_total(0, 1'000'000);
  t.add_total(1, 500'000);
  std::vector<NodeId> clients;
  for (int r = 0; r < 5; ++r) {
    const NodeId role = t.add(kRoot, NodeKind::role, static_cast<std::uint32_t>(r));
    const NodeId self = t.add(role, NodeKind::self, static_cast<std::uint32_t>(r));
    for (int k = 0; k < 20; ++k) clients.push_back(t.add(self, NodeKind::client, static_cast<std::uint32_t>(k)));
  }
  for (int i = 0; i < 5000; ++i) {
    const NodeId c = clients[random() % clients.size()];
    switch (random() % 5) {
      case 0: t.list(c, !t.listed(c)); break;
      case 1: t.add_total(static_cast<std::uint16_t>(random() % 2), static_cast<std::int64_t>(random() % 1000)); break;
      default: {
        t.hold(c, static_cast<std::uint16_t>(random() % 2), static_cast<std::int64_t>(random() % 1000));
        if (t.listed(c) && random() % 2) {
          t.refresh();
          t.hold(c, 0, 500);
          t.granted(c);
        }
      }
    }
    t.refresh();
    std::size_t listed = 0;
    for (const auto& role : t.order(kRoot)) {
      for (const auto& self : t.order(role.node)) {
        ASSERT_TRUE(std::is_sorted(t.order(self.node).begin(), t.order(self.node).end())) << i;
        ASSERT_FALSE(t.order(self.node).empty());
        for (const auto& e : t.order(self.node)) ASSERT_EQ(e.share, t.share(e.node)) << i;
        listed += t.order(self.node).size();
      }
    }
    ASSERT_TRUE(std::is_sorted(t.order(kRoot).begin(), t.order(kRoot).end())) << i;
    ASSERT_EQ(listed, static_cast<std::size_t>(std::count_if(clients.begin(), clients.end(), [&](NodeId x) { return t.listed(x); })));
  }
}

}  // namespace
}  // namespace gantry::allocator_drf
