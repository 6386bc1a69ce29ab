#include "namespaces.hpp"

#include <gantry/testing/host.hpp>
#include <gtest/gtest.h>

namespace gantry::isolator_namespaces {
namespace {

using fb::isolator::Method;
using fb::isolator::Namespace;

constexpr std::uint32_t bits(std::initializer_list<Namespace> all) {
  std::uint32_t out = 0;
  for (const auto b : all) out |= static_cast<std::uint32_t>(b);
  return out;
}

class NamespacesTest : public ::testing::Test {
 protected:
  NamespacesTest() : module_(host_, "namespaces") {
    module_.defaults({{"pid", true}, {"mount", true}, {"ipc", false}, {"uts", false}});
    module_->allowed = [] { return true; };
  }
  ~NamespacesTest() override { EXPECT_EQ(host_.faults(), std::vector<std::string>{}); }
  fb::isolator::PreparedT prepare() {
    fb::isolator::PrepareT p;
    p.container_id = "c1";
    auto r = module_.call<fb::isolator::Prepared>(Method::PREPARE, p);
    EXPECT_TRUE(r);
    return r ? std::move(*r) : fb::isolator::PreparedT{};
  }
  testing::Host host_;
  testing::Subject<Namespaces> module_;
};

TEST_F(NamespacesTest, PidAndMountWithAProcOfItsOwn) {
  ASSERT_TRUE(module_.configure());
  ASSERT_TRUE(module_.start());
  const auto p = prepare();
  EXPECT_EQ(p.namespaces, bits({Namespace::PID, Namespace::MOUNT}));
  EXPECT_TRUE(p.no_attach);
  ASSERT_EQ(p.mounts.size(), 1u);
  EXPECT_EQ(p.mounts[0]->target, "/proc");
}

TEST_F(NamespacesTest, SettingsChoose) {
  ASSERT_TRUE(module_.configure({{"mount", false}, {"ipc", true}, {"uts", true}}));
  ASSERT_TRUE(module_.start());
  const auto p = prepare();
  EXPECT_EQ(p.namespaces, bits({Namespace::PID, Namespace::IPC, Namespace::UTS}));
  EXPECT_TRUE(p.mounts.empty());
}

TEST_F(NamespacesTest, WithoutRightsIsDegradedAndAsksForNothing) {
  module_->allowed = [] { return false; };
  ASSERT_TRUE(module_.configure());
  ASSERT_TRUE(module_.start());
  EXPECT_EQ(prepare().namespaces, 0u);
  EXPECT_EQ(prepare().namespaces, 0u);
  const auto health = module_.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer());
  ASSERT_TRUE(health);
  EXPECT_EQ(health->state, fb::HealthState::DEGRADED);
  EXPECT_NE(health->message.find("no right to make namespaces"), std::string::npos);
}

}  // namespace
}  // namespace gantry::isolator_namespaces
