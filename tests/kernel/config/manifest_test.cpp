#include "kernel/config/config.hpp"
#include "tests/kernel/config/fake_module.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gantry::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view good = R"(
kind = "isolator"
name = "demo"
version = "1.2.3"
revision = 2
revision_min = 1
license = "Apache-2.0"
summary = "shows"
roles = ["agent"]
needs = ["store"]
services = ["http", "store"]
[config.root]
type = "string"
default = "gantry"
doc = "where"
[config."limits.memory"]
type = "size"
default = "1GiB"
min = "1MiB"
max = "2GiB"
reloadable = true
[config.limits.period]
type = "duration"
default = "100ms"
[config.token]
type = "string"
secret = true
required = true
)";

TEST(Manifest, Reads) {
  const auto m = parse_manifest(good, "module.toml");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(m->id(), "isolator.demo");
  EXPECT_EQ(m->revision_min, 1);
  EXPECT_EQ(m->revision_max, 2);
  EXPECT_TRUE(m->for_role("agent"));
  EXPECT_FALSE(m->for_role("master"));
  ASSERT_EQ(m->fields.size(), 4u);
  EXPECT_EQ(m->fields[0].key, "limits.memory");
  EXPECT_EQ(m->field("limits.memory")->fallback.number, 1LL << 30);
  EXPECT_TRUE(m->field("limits.memory")->reloadable);
  EXPECT_EQ(*m->field("limits.memory")->max, static_cast<double>(2LL << 30));
  EXPECT_EQ(m->field("limits.period")->fallback.number, 100'000'000);
  EXPECT_EQ(m->field("nothing"), nullptr);
  const std::string text = describe(*m);
  EXPECT_THAT(text, HasSubstr("limits.memory  (size, default \"1GiB\", at least 1MiB, at most 2GiB, reloadable)"));
  EXPECT_THAT(text, HasSubstr("token  (string, required, needs a restart, secret)"));
}

TEST(Manifest, ReportsEveryMistake) {
  const auto m = parse_manifest(R"(
kind = "isolator"
name = "Demo"
versoin = "1"
roles = ["agnt"]
services = ["htp"]
[config.a]
type = "strng"
[config.b]
type = "duration"
default = "5"
[config.c]
doc = "x"
default = 1
)",
                                "m.toml");
  ASSERT_FALSE(m);
  const std::string& e = m.error().message;
  EXPECT_THAT(e, HasSubstr("m.toml:4:1: there is no key \"versoin\" in a manifest; did you mean \"version\"?"));
  EXPECT_THAT(e, HasSubstr("the manifest lacks version"));
  EXPECT_THAT(e, HasSubstr("m.toml:3:8: name has only lower-case"));
  EXPECT_THAT(e, HasSubstr("expected master or agent, got \"agnt\"; did you mean \"agent\"?"));
  EXPECT_THAT(e, HasSubstr("got \"htp\"; did you mean \"http\"?"));
  EXPECT_THAT(e, HasSubstr("m.toml:8:8: config.a.type: "));
  EXPECT_THAT(e, HasSubstr("m.toml:11:11: config.b.default: "));
  EXPECT_THAT(e, HasSubstr("config.c.doc: expected a table"));
}

TEST(Manifest, OfTheKernelIsValid) {
  EXPECT_EQ(kernel_manifest().kind, "kernel");
  EXPECT_NE(kernel_manifest().field("work_dir"), nullptr);
  for (const Field& f : kernel_manifest().fields) EXPECT_FALSE(f.doc.empty()) << f.key;
}

TEST(Elf, ReadsNoteAndSymbols) {
  const auto info = inspect_library(testing::library(good));
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->manifest, good);
  EXPECT_THAT(info->symbols, ElementsAre("gantry_module_v1"));
}

TEST(Elf, SkipsForeignNotes) {
  std::string bytes = testing::library(good);
  const auto at = bytes.find("Gantry");
  bytes[at] = 'X';
  EXPECT_EQ(inspect_library(bytes)->manifest, "");
}

TEST(Elf, SurvivesEveryTruncationAndFlippedByte) {
  const std::string whole = testing::library(good);
  for (std::size_t n = 0; n < whole.size(); ++n) (void)inspect_library(std::string_view(whole).substr(0, n));
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const char with : {'\0', '\xff', '\x80'}) {
      std::string bytes = whole;
      bytes[i] = with;
      (void)inspect_library(bytes);
    }
  }
  EXPECT_FALSE(inspect_library(std::string_view(whole).substr(0, whole.size() - 1)));
}

TEST(ReadManifest, RefusesInOneSentence) {
  testing::TempDir dir;
  EXPECT_THAT(read_manifest(dir.path() + "/no.so").error().message,
              HasSubstr("no.so is not a Gantry module: cannot read it: No such file"));
  EXPECT_THAT(read_manifest(dir.write("text.so", "hello")).error().message,
              HasSubstr("text.so is not a Gantry module: it is not an ELF file"));
  EXPECT_THAT(read_manifest(dir.write("bare.so", testing::library(""))).error().message,
              HasSubstr("it has no manifest"));
  EXPECT_THAT(read_manifest(dir.write("mute.so", testing::library(good, ""))).error().message,
              HasSubstr("does not export gantry_module_v1"));
  EXPECT_THAT(read_manifest(dir.write("broken.so", testing::library("kind = "))).error().message,
              HasSubstr("not valid TOML"));
  EXPECT_THAT(read_manifest(dir.path()).error().message, HasSubstr("not a regular file"));
  EXPECT_TRUE(read_manifest(dir.write("good.so", testing::library(good))));
}

}  // namespace
}  // namespace gantry::config
