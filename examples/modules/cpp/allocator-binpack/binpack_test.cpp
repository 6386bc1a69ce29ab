#include "binpack.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace gantry::allocator_binpack {
namespace {

using namespace std::chrono_literals;
using fb::allocator::FrameworkFlags;
using fb::allocator::QuantityFlags;

constexpr std::uint32_t kCpus = 1, kMem = 2;

// Drives the module as the kernel does: deltas in, a round out. Amounts in whole cpus and MiB.
class BinpackTest : public ::testing::Test {
 protected:
  BinpackTest() {
    m.defaults({{"open", 1}, {"patience", 2s}, {"min_cpus", 0.01}, {"min_mem", 32 << 20}});
    EXPECT_TRUE(m.configure());
    d.reset = true;
    d.now_ns = 1;
    name(kCpus, "cpus"), name(kMem, "mem");
    role(1, 0), role(2, 0);
  }
  ~BinpackTest() override { EXPECT_EQ(host.faults(), std::vector<std::string>{}); }

  void name(std::uint32_t id, const char* text) {
    d.names.push_back(std::make_unique<fb::allocator::NameT>());
    d.names.back()->id = id;
    d.names.back()->text = text;
  }
  void role(std::uint32_t id, std::uint32_t parent, double weight = 1) {
    d.roles.push_back(std::make_unique<fb::allocator::RoleT>());
    d.roles.back()->id = id;
    d.roles.back()->parent = parent;
    d.roles.back()->weight = weight;
  }
  fb::allocator::FrameworkDeltaT& framework(std::uint32_t id, std::vector<std::uint32_t> roles, std::uint32_t flags = 0) {
    d.frameworks.push_back(std::make_unique<fb::allocator::FrameworkDeltaT>());
    auto& f = *d.frameworks.back();
    f.id = id;
    f.roles = std::move(roles);
    f.flags = flags;
    f.active = true;
    return f;
  }
  static fb::allocator::Quantity q(std::uint32_t name, std::int64_t whole, std::uint32_t role = 0, std::uint32_t flags = 0) {
    return {name, role, flags, 0u, whole * 1000};
  }
  // An agent of 8 cpus and 8 GiB of which so many cpus (and as many GiB) are in use.
  fb::allocator::AgentDeltaT& agent(std::uint32_t id, std::int64_t used = 0) {
    d.agents.push_back(std::make_unique<fb::allocator::AgentDeltaT>());
    auto& a = *d.agents.back();
    a.id = id;
    a.total = {q(kCpus, 8), q(kMem, 8192)};
    if (used < 8) a.available = {q(kCpus, 8 - used), q(kMem, 8192 - used * 1024)};
    return a;
  }
  void decline(std::uint32_t framework, std::uint32_t role, std::uint32_t agent, std::vector<fb::allocator::Quantity> refused, std::uint64_t until) {
    d.filters.push_back(std::make_unique<fb::allocator::FilterT>());
    auto& f = *d.filters.back();
    f.framework = framework;
    f.role = role;
    f.agent = agent;
    f.refused = std::move(refused);
    f.until_ns = until;
  }
  // "agent>framework" of each grant, in order.
  std::vector<std::string> round(std::uint64_t now = 0) {
    if (now) d.now_ns = now;
    auto r = m.call<fb::allocator::Round>(fb::allocator::Method::ALLOCATE, d);
    EXPECT_TRUE(r);
    const std::uint64_t keep = d.now_ns;
    d = {};
    d.now_ns = keep;
    if (!r) return {};
    last = std::move(*r);
    std::vector<std::string> out;
    for (const auto& g : last.grants) out.push_back(std::to_string(g.agent()) + ">" + std::to_string(g.framework()));
    return out;
  }
  using Strings = std::vector<std::string>;
  testing::Host host;
  testing::Subject<Binpack> m{host, "binpack"};
  fb::allocator::DeltasT d;
  fb::allocator::RoundT last;
};

TEST_F(BinpackTest, FullestFirstAndEmptyOnesOnlyWhenTheseDoNotServe) {
  framework(7, {1});
  agent(1), agent(2, 2), agent(3, 6), agent(4), agent(5, 8);
  EXPECT_EQ(round(), (Strings{"3>7", "2>7"}));        // 5 is full, 1 and 4 are empty
  EXPECT_EQ(last.wake_ns, 1u + 2'000'000'000u);
  EXPECT_EQ(round(1'000'000'000), Strings{});
  EXPECT_EQ(round(2'000'000'001), (Strings{"1>7"}));  // whoever sits on offers is offered more in the end,
  EXPECT_EQ(round(4'000'000'002), (Strings{"4>7"}));  // one at a time
}

TEST_F(BinpackTest, TheRestOfAnUsedAgentComesFirst) {
  framework(7, {1});
  agent(1), agent(2);
  EXPECT_EQ(round(), (Strings{"1>7"}));
  agent(1, 3).total.clear();  // accepted: a rest of 5
  EXPECT_EQ(round(2), (Strings{"1>7"}));
}

TEST_F(BinpackTest, ADeclineOpensTheNextAndEndsInTime) {
  framework(7, {1});
  agent(1), agent(2);
  EXPECT_EQ(round(), (Strings{"1>7"}));
  agent(1);
  decline(7, 1, 1, {q(kCpus, 8), q(kMem, 8192)}, 5'000'000'000);
  EXPECT_EQ(round(2), (Strings{"2>7"}));
  EXPECT_EQ(last.wake_ns, 5'000'000'000u);
  EXPECT_EQ(round(5'000'000'000), (Strings{"1>7"}));
}

TEST_F(BinpackTest, ReviveForgetsDeclinesAndMoreThanRefusedIsOffered) {
  framework(7, {1});
  agent(1, 4);
  decline(7, 1, 1, {q(kCpus, 4), q(kMem, 4096)}, 1'000'000'000'000);
  EXPECT_EQ(round(), Strings{});
  agent(1, 3);
  EXPECT_EQ(round(2), (Strings{"1>7"}));
  agent(1, 4);
  EXPECT_EQ(round(3), Strings{});
  d.unfilters.emplace_back(7u, 0u);
  EXPECT_EQ(round(4), (Strings{"1>7"}));
}

TEST_F(BinpackTest, ReservedGoesToItsRoleAndThoseBelow) {
  role(3, 1);  // role 3 below role 1
  framework(7, {2});
  framework(8, {3});
  auto& a = agent(1);
  a.total = a.available = {q(kCpus, 2), q(kMem, 512), q(kCpus, 6, 1), q(kMem, 512, 2)};
  const auto grants = round();
  ASSERT_EQ(grants, (Strings{"1>7", "1>8"}));
  std::int64_t seven = 0, eight = 0;
  for (std::uint32_t i = 0; i < last.grants[0].part_count(); ++i) seven |= std::int64_t{1} << last.parts[last.grants[0].part_begin() + i].role();
  for (std::uint32_t i = 0; i < last.grants[1].part_count(); ++i) eight |= std::int64_t{1} << last.parts[last.grants[1].part_begin() + i].role();
  EXPECT_EQ(seven, 1 << 0 | 1 << 2);
  EXPECT_EQ(eight, 1 << 1);
}

TEST_F(BinpackTest, OnlyWhoWantsAndCanHandleIt) {
  framework(6, {1}).active = false;
  framework(7, {1, 2}).suppressed = {1};
  auto& a = agent(1, 1);
  a.total.push_back(q(kCpus, 4, 0, static_cast<std::uint32_t>(QuantityFlags::REVOCABLE)));
  a.available.push_back(a.total.back());
  auto& gpu = agent(2, 1);
  gpu.total.push_back(q(3, 1, 0, static_cast<std::uint32_t>(QuantityFlags::GPU)));
  agent(3, 1).active = false;
  EXPECT_EQ(round(), (Strings{"1>7"}));
  EXPECT_EQ(last.grants[0].role(), 2u);
  for (const auto& p : last.parts) EXPECT_EQ(p.flags(), 0u);
  framework(8, {1}, static_cast<std::uint32_t>(FrameworkFlags::REVOCABLE | FrameworkFlags::GPU));
  EXPECT_EQ(round(2), (Strings{"1>8", "2>8"}));  // of agent 1 the revocable cpus, which are left
  ASSERT_EQ(last.grants[0].part_count(), 1u);
  EXPECT_EQ(last.parts[0].flags(), static_cast<std::uint32_t>(QuantityFlags::REVOCABLE));
}

TEST_F(BinpackTest, WhoHoldsLeastIsServedFirstByWeight) {
  role(2, 0, 4);
  framework(7, {1});
  framework(8, {2});
  agent(1, 4);
  d.held.emplace_back(7u, 1u, kCpus, 0u, 1000);
  d.held.emplace_back(8u, 2u, kCpus, 0u, 2000);
  EXPECT_EQ(round(), (Strings{"1>8"}));  // 2/4 is less than 1
  agent(1, 4);
  d.held.emplace_back(8u, 2u, kCpus, 0u, 4000);
  EXPECT_EQ(round(2), (Strings{"1>7"}));
  framework(7, {}).gone = true;
  agent(1, 4);
  EXPECT_EQ(round(3), (Strings{"1>8"}));
}

TEST_F(BinpackTest, CrumbsAndUnknownHandlesAreNoOffers) {
  framework(7, {1});
  agent(1).available = {{kCpus, 0, 0, 0u, 5}, {kMem, 0, 0, 0u, 31'000}};
  decline(99, 9, 98, {}, 10);
  d.held.emplace_back(99u, 1u, kCpus, 0u, 1000);
  d.unfilters.emplace_back(99u, 1u);
  EXPECT_EQ(round(), Strings{});
  EXPECT_EQ(last.wake_ns, 0u);
  agent(1).gone = true;
  EXPECT_EQ(round(2), Strings{});
}

}  // namespace
}  // namespace gantry::allocator_binpack
