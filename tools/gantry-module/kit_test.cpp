// The kit's own parts: what it reads, what it makes, what it says of tests that go wrong. Modules are for check_test.
#include "kernel/base/file.hpp"
#include "tools/gantry-module/commands.hpp"
#include "tools/gantry-module/runner.hpp"

#include <gantry/isolator_generated.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <sstream>
#include <thread>

#include <unistd.h>

namespace gantry::kit {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

config::Manifest manifest() {
  auto m = config::parse_manifest(R"(
kind = "isolator"
name = "x"
version = "1"
revision = 1
license = "MIT"
summary = "s"
roles = ["agent"]
[config.root]
type = "path"
required = true
doc = "d"
[config."limits.memory"]
type = "size"
default = "1GiB"
doc = "d"
)", "module.toml");
  EXPECT_TRUE(m) << m.error().message;
  return *m;
}

TEST(Elf, ReadsThisProgram) {
  const auto image = base::read_file("/proc/self/exe", std::size_t{1} << 30);
  ASSERT_TRUE(image) << image.error().message;
  const auto elf = read_elf(*image);
  ASSERT_TRUE(elf) << elf.error().message;  // a position-independent program has the type of a library
  EXPECT_THAT(elf->needed, Contains(HasSubstr("libc.so")));
  EXPECT_TRUE(version_less("2.2", elf->floor("GLIBC_"))) << elf->floor("GLIBC_");
  EXPECT_TRUE(elf->relro);
  EXPECT_FALSE(elf->executable_stack);
  EXPECT_FALSE(elf->descriptor);
}

TEST(Elf, SurvivesEveryCutAndManyScratches) {
  const std::string image = base::read_file("/proc/self/exe", std::size_t{1} << 30)->substr(0, 300'000);
  for (std::size_t n = 0; n < 5000; n += 7) (void)read_elf(std::string_view(image).substr(0, n));
  Random random(7);
  for (int i = 0; i < 2000; ++i) {
    std::string bad = image.substr(0, 20'000);
    for (int k = 0; k < 8; ++k) bad[random() % (k < 4 ? 1024 : bad.size())] = static_cast<char>(random());
    (void)read_elf(bad);
  }
  EXPECT_THAT(read_elf("hello").error().message, HasSubstr("not an ELF file"));
}

TEST(Elf, VersionsAreNumbers) {
  EXPECT_TRUE(version_less("GLIBC_2.9", "GLIBC_2.14"));
  EXPECT_FALSE(version_less("2.34", "2.34"));
  EXPECT_TRUE(version_less("3.4", "3.4.30"));
}

TEST(Author, SettingsFilesFixtureWaivers) {
  const auto a = parse_author(R"(
[settings]
root = "@scratch@/r"
limits.memory = "2MiB"
[files]
users = "a:b\n"
[fixture]
principal = "a"
[[waiver]]
test = "static.*"
reason = "because"
[[waiver]]
test = "load.map"
host = "process"
reason = "because"
)", "c.toml", manifest());
  ASSERT_TRUE(a) << a.error().message;
  ASSERT_EQ(a->settings.size(), 2u);
  EXPECT_EQ(a->settings[0].text, "/@scratch@/r");  // what stands for the directory of the case
  EXPECT_EQ(a->settings[1].number, 2 << 20);
  EXPECT_EQ(a->files.at("users"), "a:b\n");
  EXPECT_EQ(a->fixture.at("principal"), "a");
  EXPECT_TRUE(a->waivers[0].covers("static.elf", ""));
  EXPECT_FALSE(a->waivers[1].covers("load.map", "kernel"));
  EXPECT_TRUE(a->waivers[1].covers("load.map", "process"));
}

TEST(Author, EveryMistakeIsNamed) {
  const auto a = parse_author(R"(
[settings]
rot = "x"
limits.memory = true
[files]
"../up" = "x"
[[waiver]]
test = "load.map"
[[waiver]]
host = "moon"
reason = "x"
)", "c.toml", manifest());
  ASSERT_FALSE(a);
  const std::string& m = a.error().message;
  EXPECT_THAT(m, HasSubstr("c.toml:3:1: the manifest has no setting \"rot\"; did you mean \"root\"?"));
  EXPECT_THAT(m, HasSubstr("c.toml:4:17: setting limits.memory"));
  EXPECT_THAT(m, HasSubstr("\"../up\""));
  EXPECT_THAT(m, HasSubstr("the waiver of load.map has no reason"));
  EXPECT_THAT(m, HasSubstr("a waiver needs test"));
  EXPECT_THAT(m, HasSubstr("host = \"moon\""));
}

TEST(Messages, RandomOnesVerifyAndAreMadeAgain) {
  int several = 0;
  for (const char* kind : {"allocator", "authenticator", "election", "fetcher", "image", "isolator", "store"}) {
    ASSERT_NE(schema(kind), nullptr) << kind;
    for (const Message& m : messages(kind)) {
      if (m.request.empty()) continue;
      Random a(11), b(11);
      for (int i = 0; i < 50; ++i) {
        const Buffer x = random_message(*schema(kind), m.request, a, "/dir"), y = random_message(*schema(kind), m.request, b, "/dir");
        ASSERT_TRUE(verifies(*schema(kind), m.request, x)) << m.request;
        ASSERT_TRUE(std::equal(x.data(), x.data() + x.size(), y.data(), y.data() + y.size()));
        several += x.size() > 200;
      }
      EXPECT_TRUE(verifies(*schema(kind), m.request, unknown_fields()));
      EXPECT_TRUE(verifies(*schema(kind), m.request, empty_table()));
    }
  }
  EXPECT_GT(several, 100);
}

TEST(Messages, TheGeneratedCodeAgrees) {
  Random random(3);
  int broken_ones = 0, lax = 0;
  for (int i = 0; i < 500; ++i) {
    const Buffer good = random_message(*schema("isolator"), "gantry.fb.isolator.Prepare", random, "/dir");
    ASSERT_NE(view<fb::isolator::Prepare>(good), nullptr);
    if (const auto* s = view<fb::isolator::Prepare>(good)->sandbox()) {
      EXPECT_THAT(s->str(), ::testing::StartsWith("/dir"));
    }
    const Buffer bad = broken(good, random);
    const bool here = verifies(*schema("isolator"), "gantry.fb.isolator.Prepare", bad);
    const bool there = view<fb::isolator::Prepare>(bad) != nullptr;
    // What is sent as broken must be broken for whoever reads it with generated code. Flatbuffers' reflection, which is used here,
    // lets a little more pass; that is then not sent.
    EXPECT_TRUE(here || !there);
    lax += here && !there;
    broken_ones += !here;
  }
  EXPECT_GT(broken_ones, 100);
  EXPECT_LT(lax, 10);
  const Buffer unknown = unknown_fields();
  const auto* empty = view<fb::isolator::Prepare>(unknown);
  ASSERT_NE(empty, nullptr);
  EXPECT_EQ(empty->container_id(), nullptr);
}

TEST(Filter, PartsAndPatterns) {
  EXPECT_TRUE(matches("contract.cancel", "cancel"));
  EXPECT_TRUE(matches("contract.cancel", ""));
  EXPECT_TRUE(matches("contract.cancel", "contract.*"));
  EXPECT_FALSE(matches("contract.cancel", "cancel*"));
}

class Running : public ::testing::Test {
 protected:
  TestResult run(std::function<void(Env&, Check&)> body, Nanos timeout = 10s) {
    options.timeout = timeout;
    const kit::Test test{"a.test", 2, "it holds", "do this", std::move(body), true, false};
    auto results = run_tests(target, options, {{&test, "kernel"}}, {});
    return results.at(0);
  }
  Target target;
  CheckOptions options;
};

TEST_F(Running, ResultsComeBack) {
  const auto r = run([](Env& env, Check& check) {
    check.notes.emplace_back("a note");
    check.equal(1, 2, "a number in " + std::string(env.scratch.empty() ? "nowhere" : "its directory"));
    check.fail("another", "do that");
  });
  EXPECT_EQ(r.outcome, Outcome::failed);
  ASSERT_EQ(r.failures.size(), 2u);
  EXPECT_EQ(r.failures[0].what, "a number in its directory: expected 2, got 1");
  EXPECT_EQ(r.failures[1].remedy, "do that");
  EXPECT_EQ(r.notes, std::vector<std::string>{"a note"});
  EXPECT_EQ(run([](Env&, Check&) {}).outcome, Outcome::passed);
  const auto s = run([](Env&, Check& check) { check.skip("no right"); });
  EXPECT_EQ(s.outcome, Outcome::skipped);
  EXPECT_EQ(s.reason, "no right");
}

TEST_F(Running, CrashesAreNamed) {
  const auto r = run([](Env&, Check&) {
    std::signal(SIGSEGV, SIG_DFL);  // a sanitizer would make an exit of it
    ::raise(SIGSEGV);
  });
  EXPECT_EQ(r.outcome, Outcome::failed);
  ASSERT_EQ(r.failures.size(), 1u);
  EXPECT_THAT(r.failures[0].what, HasSubstr("SIGSEGV (Segmentation fault)"));
  EXPECT_THAT(r.failures[0].remedy, HasSubstr("gdb"));
}

TEST_F(Running, SoAreExits) {
  const auto r = run([](Env&, Check&) {
    (void)!::write(2, "last words\n", 11);
    ::_exit(3);
  });
  EXPECT_EQ(r.outcome, Outcome::failed);
  EXPECT_THAT(r.failures.at(0).what, HasSubstr("status 3"));
  EXPECT_THAT(r.log, Contains("stderr: last words"));
  EXPECT_EQ(run([](Env&, Check&) { ::_exit(0); }).outcome, Outcome::failed);
}

TEST_F(Running, WhatNeverEndsIsEnded) {
  const auto r = run([](Env&, Check&) { for (;;) ::pause(); }, 150ms);
  EXPECT_EQ(r.outcome, Outcome::failed);
  EXPECT_THAT(r.failures.at(0).what, HasSubstr("did not end within"));
}

TEST_F(Running, ExceptionsOfATestAreItsFault) {
  const auto r = run([](Env&, Check&) { throw std::runtime_error("oops"); });
  EXPECT_EQ(r.failures.at(0).what, "the test itself threw: oops");
}

TEST(Commands, FilesThatAreNoModules) {
  std::ostringstream out, err;
  EXPECT_EQ(inspect("/no/such/file", false, out, err), exit_usage);
  EXPECT_THAT(err.str(), HasSubstr("cannot read /no/such/file: No such file"));
  EXPECT_EQ(inspect("/etc/passwd", false, out, err), exit_findings);
  EXPECT_THAT(out.str(), HasSubstr("it is not an ELF file"));
  CheckCommand c;
  c.file = "/etc/passwd";
  out.str("");
  EXPECT_EQ(check(c, out, err), exit_findings);
  // One finding says it; nothing else is blamed.
  EXPECT_THAT(out.str(), HasSubstr("FAILED  -       static.elf"));
  EXPECT_THAT(out.str(), HasSubstr("it cannot be loaded, see static.elf"));
  EXPECT_THAT(out.str(), ::testing::Not(HasSubstr("FAILED  kernel")));
}

}  // namespace
}  // namespace gantry::kit
