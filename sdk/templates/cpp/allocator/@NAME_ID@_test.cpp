#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace @NAME_ID@ {
namespace {

using namespace gantry;

constexpr std::uint32_t kCpus = 1;

// One agent of 4 cpus, frameworks 7 and 8 in role 1.
fb::allocator::DeltasT cluster() {
  fb::allocator::DeltasT d;
  d.reset = true;
  d.now_ns = 1;
  d.names.push_back(std::make_unique<fb::allocator::NameT>());
  d.names[0]->id = kCpus;
  d.names[0]->text = "cpus";
  d.roles.push_back(std::make_unique<fb::allocator::RoleT>());
  d.roles[0]->id = 1;
  for (const std::uint32_t id : {7u, 8u}) {
    d.frameworks.push_back(std::make_unique<fb::allocator::FrameworkDeltaT>());
    d.frameworks.back()->id = id;
    d.frameworks.back()->roles = {1};
    d.frameworks.back()->active = true;
  }
  d.agents.push_back(std::make_unique<fb::allocator::AgentDeltaT>());
  d.agents[0]->id = 3;
  d.agents[0]->total = d.agents[0]->available = {fb::allocator::Quantity(kCpus, 0, 0, 0, 4000)};
  return d;
}

TEST(@CLASS@Test, WhoHoldsLeastGetsTheAgentAndADeclineCounts) {
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
  ASSERT_TRUE(m.configure({{"min_cpus", 0.01}, {"min_mem", 32 << 20}}));
  auto d = cluster();
  d.held.emplace_back(7u, 1u, kCpus, 0u, 1000);
  const auto first = m.call<fb::allocator::Round>(fb::allocator::Method::ALLOCATE, d);
  ASSERT_TRUE(first);
  ASSERT_EQ(first->grants.size(), 1u);
  EXPECT_EQ(first->grants[0].framework(), 8u);
  d.filters.push_back(std::make_unique<fb::allocator::FilterT>());
  d.filters[0]->framework = 8;
  d.filters[0]->role = 1;
  d.filters[0]->agent = 3;
  d.filters[0]->until_ns = 1'000'000'000;
  d.filters[0]->refused = d.agents[0]->available;
  const auto second = m.call<fb::allocator::Round>(fb::allocator::Method::ALLOCATE, d);
  ASSERT_EQ(second->grants.size(), 1u);
  EXPECT_EQ(second->grants[0].framework(), 7u);
  EXPECT_EQ(host.faults(), std::vector<std::string>{});
}

}  // namespace
}  // namespace @NAME_ID@
