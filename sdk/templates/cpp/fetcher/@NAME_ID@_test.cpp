#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
using namespace std::chrono_literals;
namespace stdfs = std::filesystem;

class @CLASS@Test : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/@NAME@-XXXXXX";
    dir = ::mkdtemp(name);
    stdfs::create_directories(dir + "/sandbox");
    put("a.txt", "hello");
    ASSERT_TRUE(m.configure({{"stall_timeout", 1s}, {"max_size", 1 << 20}}));
  }
  void TearDown() override {
    EXPECT_EQ(host.faults(), std::vector<std::string>{});  // no breach of the ABI
    stdfs::remove_all(dir);
  }
  void put(const std::string& file, const std::string& text) const { std::ofstream(dir + "/" + file, std::ios::binary) << text; }
  [[nodiscard]] std::string get(const std::string& file) const {
    std::ifstream in(dir + "/sandbox/" + file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  Status fetch(const std::string& uri, const std::string& output = {}, std::optional<bool> executable = {}) {
    fb::fetcher::FetchT f;
    f.directory = dir + "/sandbox";
    f.uris.push_back(std::make_unique<fb::UriT>());
    f.uris[0]->value = uri;
    f.uris[0]->output_file = output;
    if (executable) f.uris[0]->executable = *executable;
    return m.call(fb::fetcher::Method::FETCH, f);
  }
  std::string dir;
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
};

TEST_F(@CLASS@Test, BringsFilesUnderTheirNames) {
  ASSERT_TRUE(fetch("file://" + dir + "/a.txt"));
  ASSERT_TRUE(fetch(dir + "/a.txt", "made/b", true));
  EXPECT_EQ(get("a.txt"), "hello");
  EXPECT_EQ(get("made/b"), "hello");
  EXPECT_NE(stdfs::status(dir + "/sandbox/made/b").permissions() & stdfs::perms::owner_exec, stdfs::perms::none);
}

TEST_F(@CLASS@Test, NothingLeavesTheSandbox) {
  stdfs::create_directory_symlink(dir, dir + "/sandbox/out");
  for (const char* output : {"../x", "/tmp/x", "a/../../x", "out/x", ".."}) EXPECT_FALSE(fetch(dir + "/a.txt", output)) << output;
  EXPECT_FALSE(stdfs::exists(dir + "/x"));
}

TEST_F(@CLASS@Test, ErrorsNameWhatIsWrong) {
  EXPECT_EQ(fetch(dir + "/missing").error().code, Code::not_found);
  const Status s = fetch("acme://x/y");
  EXPECT_EQ(s.error().code, Code::invalid_argument);
  EXPECT_NE(s.error().message.find("\"acme\""), std::string::npos);
  put("broken.tar", std::string(600, 'x'));
  EXPECT_EQ(fetch(dir + "/broken.tar").error().code, Code::invalid_argument);
}

}  // namespace
}  // namespace @NAME_ID@
