// Plays every scenario of the folder, and checks that the runner notices what does not hold.
#include "kernel/base/log.hpp"
#include "tests/scenario/player.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

namespace gantry::scenario {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> files() {
  std::vector<std::string> out;
  for (const auto& e : std::filesystem::directory_iterator(GANTRY_SCENARIOS))
    if (e.path().extension() == ".toml") out.push_back(e.path().string());
  std::sort(out.begin(), out.end());
  return out;
}

class Scenarios : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { base::log_threshold() = 100; }
};

TEST_P(Scenarios, GoesAsWritten) { EXPECT_EQ(play_file(GetParam(), false), ""); }

INSTANTIATE_TEST_SUITE_P(Folder, Scenarios, ::testing::ValuesIn(files()), [](const auto& info) {
  std::string name = std::filesystem::path(info.param).stem().string();
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

constexpr const char* cluster =
    "about = \"x\"\n[[agent]]\nname = \"a\"\nresources = \"cpus:1;mem:128\"\n[[framework]]\nname = \"f\"\n";

std::string problems_of(const std::string& steps) {
  std::vector<config::Problem> problems;
  // Top-level keys come before the tables in TOML.
  const Scenario s = read("steps = [\n" + steps + "\n]\n" + cluster, "x.toml", problems);
  std::string out;
  for (const auto& p : problems) out += p.text() + "\n";
  if (!problems.empty()) return out;
  base::log_threshold() = 100;
  return play(s, false);
}

TEST(Runner, SaysWhatIsWrongWithAFileAndWhere) {
  EXPECT_THAT(problems_of("{ expct = \"offer\" },"), HasSubstr("x.toml:2:1: error: the step says not what to do"));
  EXPECT_THAT(problems_of("{ expect = \"ofer\" },"), HasSubstr("there is no event \"ofer\"; there are end, error, failure, offer"));
  EXPECT_THAT(problems_of("{ expect = \"update\", task = \"t\", state = \"RUNNING\" },"), HasSubstr("there is no task state \"RUNNING\""));
  EXPECT_THAT(problems_of("{ accept = \"g\" },"), HasSubstr("there is no framework \"g\"; there are f"));
  EXPECT_THAT(problems_of("{ wait = 5 },"), HasSubstr("must be a duration such as \"5s\", not the integer 5"));
  EXPECT_THAT(problems_of("{ wait = \"5s\", until = \"x\" },"), HasSubstr("\"until\" means nothing here"));
  EXPECT_THAT(problems_of("{ wait = \"5s\", stop = \"a\" },"), HasSubstr("a step does one thing"));
  EXPECT_THAT(problems_of("{ accept = \"f\", tasks = [{ id = \"t\", resources = \"cpus:x\" }] },"), HasSubstr("\"resources\": "));
}

TEST(Runner, NoticesWhatDoesNotHold) {
  EXPECT_EQ(problems_of("{ expect = \"offer\", resources = \"cpus:1;mem:128\" },"), "");
  EXPECT_THAT(problems_of("{ expect = \"offer\", resources = \"cpus:2;mem:128\" },"), HasSubstr("did not come in time"));
  EXPECT_THAT(problems_of("{ expect = \"rescind\" },"), HasSubstr("f has heard, not yet expected:"));
  EXPECT_THAT(problems_of("{ expect = \"offer\" }, { decline = \"f\", refuse = \"1s\" }, { forbid = \"offer\", for = \"3s\" },"), HasSubstr("it came: "));
  const std::string launch = "{ expect = \"offer\" }, { accept = \"f\", tasks = [{ id = \"t\", resources = \"cpus:1;mem:32\" }] },";
  EXPECT_THAT(problems_of(launch + "{ expect = \"update\", task = \"t\", state = \"TASK_RUNNING\" },"), HasSubstr("came something else first"));
  EXPECT_THAT(problems_of(launch + "{ wait = \"1s\" }, { running = \"t\", value = false },"), HasSubstr("its container runs"));
}

}  // namespace
}  // namespace gantry::scenario
