#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

#include <filesystem>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
using fb::image::Method;

class @CLASS@Test : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/@NAME_ID@-XXXXXX";
    dir = ::mkdtemp(name);
    std::filesystem::create_directories(dir + "/images/tree/etc");
    m.work_dir(dir + "/work");
    ASSERT_TRUE(m.configure({{"root", dir + "/images"}}));
  }
  void TearDown() override {
    EXPECT_EQ(host.faults(), std::vector<std::string>{});  // no breach of the ABI
    std::filesystem::remove_all(dir);
  }
  Result<fb::image::ImageT> pull(const char* container, const char* name) {
    fb::image::PullT p;
    p.container_id = container, p.name = name;
    return m.call<fb::image::Image>(Method::PULL, p);
  }
  std::string dir;
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
};

TEST_F(@CLASS@Test, BringsWhatIsThere) {
  const auto image = pull("c1", "tree");
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->layers, std::vector<std::string>{dir + "/images/tree"});
  EXPECT_EQ(pull("c1", "nothing").error().code, Code::not_found);
  EXPECT_EQ(pull("c1", "../etc").error().code, Code::invalid_argument);
}

TEST_F(@CLASS@Test, PrunesWhatNobodyUses) {
  ASSERT_TRUE(pull("c1", "tree"));
  EXPECT_TRUE(m.call<fb::image::Pruned>(Method::PRUNE, fb::image::PruneT{})->images.empty());
  fb::image::ReleaseT r;
  r.container_id = "c1";
  ASSERT_TRUE(m.call(Method::RELEASE, r));
  EXPECT_EQ(m.call<fb::image::Pruned>(Method::PRUNE, fb::image::PruneT{})->images, std::vector<std::string>{"tree"});
}

}  // namespace
}  // namespace @NAME_ID@
