// What people may reach below an agent's sandboxes.
#include "kernel/agent/files.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace gantry::agent {
namespace {

namespace fs = std::filesystem;

// Two frameworks, F and G, each with a run of an executor E.
class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-files-XXXXXX";
    ASSERT_TRUE(::mkdtemp(name));
    dir = name;
    for (const char* f : {"F", "G"}) {
      fs::create_directories(runs(f) + "/r1/sub");
      fs::create_directory_symlink("r1", runs(f) + "/latest");
      std::ofstream(runs(f) + "/r1/stdout") << "of " << f;
    }
    std::ofstream(runs("F") + "/r1/sub/file") << "deep";
  }
  void TearDown() override { fs::remove_all(dir); }
  std::string runs(const std::string& framework) const { return dir + "/slaves/A/frameworks/" + framework + "/executors/E/runs"; }
  std::string read(const std::string& path) const {
    const auto r = SandboxFiles{dir, "A"}.read(path, 0, {});
    return r ? std::string(r->data.begin(), r->data.end()) : std::string(to_string(r.error().code));
  }
  std::string list(const std::string& path) const {
    const auto r = SandboxFiles{dir, "A"}.list(path);
    if (!r) return std::string(to_string(r.error().code));
    std::string out;
    for (const auto& f : *r) out += (out.empty() ? "" : " ") + f->path.substr(f->path.rfind('/') + 1);
    return out;
  }
  std::string dir;
};

TEST_F(Files, AreReadByBothNamesAndThroughLatest) {
  const std::string box = "/frameworks/F/executors/E/runs/";
  EXPECT_EQ(read(box + "r1/stdout"), "of F");
  EXPECT_EQ(read(box + "latest/stdout"), "of F");
  EXPECT_EQ(read(runs("F") + "/r1/stdout"), "of F");
  EXPECT_EQ(read(runs("F") + "//latest/./sub//file"), "deep");
  EXPECT_EQ(list(box + "latest"), "stdout sub");
  EXPECT_EQ(list(box + "r1/sub/"), "file");
  EXPECT_EQ(list(box), "latest r1");
  EXPECT_EQ(list("/frameworks"), "F G");
  EXPECT_EQ(list(dir + "/slaves"), "A");
  EXPECT_EQ(read(box + "r2/stdout"), "NOT_FOUND");
  EXPECT_EQ(read(dir + "/elsewhere"), "NOT_FOUND");
  EXPECT_EQ(read(box + "r1"), "FAILED_PRECONDITION");
}

TEST_F(Files, DotsLeadNowhere) {
  const std::string box = "/frameworks/F/executors/E/runs/r1/";
  EXPECT_EQ(read(box + "../../../../../G/executors/E/runs/r1/stdout"), "NOT_FOUND");
  EXPECT_EQ(read(box + "sub/../stdout"), "NOT_FOUND");
  EXPECT_EQ(list("/frameworks/F/../G/executors"), "NOT_FOUND");
  EXPECT_EQ(list("/frameworks/F/.."), "NOT_FOUND");
  EXPECT_EQ(list(dir + "/slaves/A/frameworks/F/../G"), "NOT_FOUND");
}

TEST_F(Files, LinksOfATaskStayInItsRun) {
  const std::string box = "/frameworks/F/executors/E/runs/r1/";
  fs::create_symlink("sub/file", runs("F") + "/r1/in");
  fs::create_symlink("../stdout", runs("F") + "/r1/sub/up");
  fs::create_symlink("../../../../../G/executors/E/runs/r1/stdout", runs("F") + "/r1/other");
  fs::create_directory_symlink("../../../../../G/executors/E/runs/r1", runs("F") + "/r1/others");
  fs::create_symlink(runs("G") + "/r1/stdout", runs("F") + "/r1/absolute");
  fs::create_directory(runs("F") + "/r0");
  std::ofstream(runs("F") + "/r0/old") << "earlier";
  fs::create_symlink("../r0/old", runs("F") + "/r1/earlier");
  EXPECT_EQ(read(box + "in"), "deep");
  EXPECT_EQ(read(box + "sub/up"), "of F");
  EXPECT_EQ(read(box + "other"), "PERMISSION_DENIED");
  EXPECT_EQ(list(box + "others"), "PERMISSION_DENIED");
  EXPECT_EQ(read(box + "others/stdout"), "PERMISSION_DENIED");
  EXPECT_EQ(read(box + "absolute"), "PERMISSION_DENIED");
  EXPECT_EQ(read(box + "earlier"), "PERMISSION_DENIED");
}

TEST_F(Files, LinksAboveTheRunStayWithItsExecutor) {
  fs::create_directory_symlink("../../../../G/executors/E/runs/r1", runs("F") + "/wrong");
  fs::create_directory_symlink("G", dir + "/slaves/A/frameworks/H");
  EXPECT_EQ(read("/frameworks/F/executors/E/runs/wrong/stdout"), "PERMISSION_DENIED");
  EXPECT_EQ(list("/frameworks/F/executors/E/runs/wrong"), "PERMISSION_DENIED");
  EXPECT_EQ(read("/frameworks/H/executors/E/runs/r1/stdout"), "PERMISSION_DENIED");
}

}  // namespace
}  // namespace gantry::agent
