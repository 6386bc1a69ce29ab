#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
namespace fs = gantry::fb::store;

class @CLASS@Test : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/@NAME@-XXXXXX";
    dir = ::mkdtemp(name);
    again();
  }
  void TearDown() override {
    m.reset();
    EXPECT_EQ(host.faults(), std::vector<std::string>{});  // no breach of the ABI
    std::filesystem::remove_all(dir);
  }
  void again() {  // without stop: as after a crash
    m.reset();
    m = std::make_unique<gantry::testing::Subject<@CLASS@>>(host, "@NAME@");
    m->work_dir(dir);
    ASSERT_TRUE(m->configure({{"sync", false}}));
    const Status s = m->start();
    ASSERT_TRUE(s) << s.error().message;
  }
  Result<fs::CommittedT> commit(std::vector<std::pair<std::string, std::string>> puts, std::optional<std::uint64_t> expected = {}) {
    fs::CommitT c;
    for (const auto& [key, value] : puts) {
      c.ops.push_back(std::make_unique<fs::OpT>());
      c.ops.back()->key = key;
      c.ops.back()->value.assign(value.begin(), value.end());
      if (expected) c.ops.back()->expected = *expected;
    }
    return m->call<fs::Committed>(fs::Method::COMMIT, c);
  }
  std::string get(const std::string& key) {
    fs::GetT g;
    g.key = key;
    const auto r = m->call<fs::Record>(fs::Method::GET, g);
    return r ? std::string(r->value.begin(), r->value.end()) : std::string(to_string(r.error().code));
  }
  std::string dir;
  gantry::testing::Host host;
  std::unique_ptr<gantry::testing::Subject<@CLASS@>> m;
};

TEST_F(@CLASS@Test, CommitsSurvive) {
  ASSERT_TRUE(commit({{"a", "1"}, {"a/b", ""}}));
  const auto second = commit({{"a", "2"}});
  again();
  EXPECT_EQ(get("a"), "2");
  EXPECT_EQ(get("a/b"), "");
  EXPECT_GT(commit({{"a", "3"}})->versions[0], second->versions[0]);
}

TEST_F(@CLASS@Test, AllOrNothing) {
  ASSERT_TRUE(commit({{"a", "1"}}));
  EXPECT_EQ(commit({{"b", "2"}, {"a", "2"}}, 0).error().code, Code::aborted);
  EXPECT_EQ(commit({{"b", "2"}, {"a//b", "2"}}).error().code, Code::invalid_argument);
  EXPECT_EQ(get("b"), "NOT_FOUND");
  EXPECT_EQ(get("a"), "1");
}

TEST_F(@CLASS@Test, HalfAFrameIsCutOffAndDamageBeforeIsNot) {
  ASSERT_TRUE(commit({{"a", "1"}}));
  ASSERT_TRUE(commit({{"b", "2"}}));
  m.reset();
  const std::string log = dir + "/log";
  std::filesystem::resize_file(log, std::filesystem::file_size(log) - 3);
  again();
  EXPECT_EQ(get("a"), "1");
  EXPECT_EQ(get("b"), "NOT_FOUND");
  ASSERT_TRUE(commit({{"c", "3"}}));
  m.reset();
  std::fstream(log, std::ios::in | std::ios::out | std::ios::binary).seekp(20).put('x');
  m = std::make_unique<gantry::testing::Subject<@CLASS@>>(host, "@NAME@");
  m->work_dir(dir);
  ASSERT_TRUE(m->configure({{"sync", false}}));
  EXPECT_EQ(m->start().error().code, Code::data_loss);
}

}  // namespace
}  // namespace @NAME_ID@
