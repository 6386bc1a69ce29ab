#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
using fb::isolator::Method;

class @CLASS@Test : public ::testing::Test {
 protected:
  @CLASS@Test() { m.defaults({{"variable", "ISOLATED_BY"}}); }
  ~@CLASS@Test() override { EXPECT_EQ(host.faults(), std::vector<std::string>{}); }  // no breach of the ABI
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
};

TEST_F(@CLASS@Test, LifeOfAContainer) {
  ASSERT_TRUE(m.configure());
  ASSERT_TRUE(m.start());
  fb::isolator::PrepareT prepare;
  prepare.container_id = "c1";
  const auto prepared = m.call<fb::isolator::Prepared>(Method::PREPARE, prepare);
  ASSERT_TRUE(prepared);
  ASSERT_EQ(prepared->environment.size(), 1u);
  EXPECT_EQ(prepared->environment[0]->name, "ISOLATED_BY");
  fb::isolator::AttachT attach;
  attach.container_id = "c1";
  attach.pid = 1;
  EXPECT_TRUE(m.call(Method::ATTACH, attach));
  fb::isolator::CleanupT cleanup;
  cleanup.container_id = "c1";
  EXPECT_TRUE(m.call(Method::CLEANUP, cleanup));
  EXPECT_TRUE(m.call(Method::CLEANUP, cleanup));
  EXPECT_EQ(m.call(Method::ATTACH, attach).error().code, Code::not_found);
  EXPECT_TRUE(m.stop());
}

TEST_F(@CLASS@Test, AWrongSettingIsRefusedByKey) {
  const Status s = m.configure({{"variable", "a=b"}});
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().key_path, "variable");
}

}  // namespace
}  // namespace @NAME_ID@
