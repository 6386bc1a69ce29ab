#include "tools/gantry-module/new.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace gantry::kit {
namespace {

namespace fs = std::filesystem;

class NewTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-new-XXXXXX";
    dir = ::mkdtemp(name);
    put("t/common/dot-gitignore", "build/\n");
    put("t/cpp/commands", "so build/@TARGET@.so\nrun cmake -B build@CMAKE_PREFIX@\nrun ctest\n");
    put("t/cpp/common/README.md", "@NAME@: @BUILD@ makes @SO@\n");
    put("t/cpp/isolator/@NAME_ID@.cpp.in", "class @CLASS@ {};\n");
    put("t/cpp/isolator/README.md", "@KIND@ @NAME@\n");
    put("t/cpp/store/x", "");
    put("t/rust/commands", "so x\n");
    put("t/rust/isolator/x", "");
    put("t/notes/isolator/x", "");  // no commands: no language
    p.kind = "isolator";
    p.name = "acme-no-file";
    p.dir = dir + "/out";
    p.templates = dir + "/t";
  }
  void TearDown() override { fs::remove_all(dir); }
  void put(const std::string& file, const std::string& text) const {
    fs::create_directories(fs::path(dir + "/" + file).parent_path());
    std::ofstream(dir + "/" + file) << text;
  }
  [[nodiscard]] std::string get(const std::string& file) const {
    std::ifstream in(dir + "/" + file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string dir;
  NewProject p;
};

TEST_F(NewTest, WritesWhatTheTemplatesSay) {
  p.prefix = "/opt/g";
  const auto c = create_project(p);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->files, (std::vector<std::string>{".gitignore", "README.md", "acme_no_file.cpp"}));
  EXPECT_EQ(get("out/acme_no_file.cpp"), "class AcmeNoFile {};\n");
  EXPECT_EQ(get("out/README.md"), "isolator acme-no-file\n");  // the kind's own replaces the language's
  EXPECT_EQ(c->build, (std::vector<std::string>{"cmake -B build -DCMAKE_PREFIX_PATH=/opt/g", "ctest"}));
  EXPECT_EQ(c->so, "build/gantry-isolator-acme-no-file.so");
}

TEST_F(NewTest, NeverOverwrites) {
  put("out/mine", "x");
  const auto c = create_project(p);
  ASSERT_FALSE(c);
  EXPECT_EQ(c.error().code, Code::already_exists);
  EXPECT_EQ(get("out/mine"), "x");
  fs::remove(dir + "/out/mine");
  EXPECT_TRUE(create_project(p));  // an empty folder is nobody's
  p.dir = "/proc/nowhere/x";
  EXPECT_FALSE(create_project(p));
}

TEST_F(NewTest, SaysWhatThereIsInstead) {
  p.lang = "rust", p.kind = "store";
  EXPECT_EQ(create_project(p).error().message, "there is no template for kind store in \"rust\"; there is one in cpp");
  p.kind = "isolatr";
  EXPECT_EQ(create_project(p).error().message, "there is no kind \"isolatr\"; kinds are isolator, store");
  p.templates = dir + "/nothing";
  EXPECT_NE(create_project(p).error().message.find("there are no templates in"), std::string::npos);
  EXPECT_FALSE(fs::exists(p.dir));
}

TEST_F(NewTest, Names) {
  for (const char* good : {"acme-nofile", "a-b", "acme2-x-9"}) EXPECT_EQ(name_problem(good), "") << good;
  for (const char* bad : {"", "nofile", "Acme-x", "acme_x", "-a-b", "a-b-", "a--b", "9a-b", "gantry-x", "a/-b", "../a-b"})
    EXPECT_NE(name_problem(bad), "") << bad;
  EXPECT_NE(name_problem(std::string(60, 'a') + "-b"), "");
  p.name = "nofile";
  EXPECT_EQ(create_project(p).error().code, Code::invalid_argument);
}

TEST(Templates, LieBesideTheProgram) { EXPECT_EQ(default_templates("/usr/bin/gantry-module"), "/usr/share/gantry/templates"); }

}  // namespace
}  // namespace gantry::kit
