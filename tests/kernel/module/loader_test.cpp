#include "support.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace gantry::module {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const std::string& file, const std::string& kind = "fetcher") {
  auto r = load_library(configured(kind, "good", bad(file)));
  if (r.has_value()) return "loaded";
  EXPECT_EQ(r.error().message.find('\n'), std::string::npos) << "one sentence: " << r.error().message;
  return r.error().message;
}

TEST(Loader, LoadsAGoodOne) {
  auto r = load_library(configured("fetcher", "good", bad("good")));
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_STREQ(r->provider.name, "good");
  EXPECT_EQ(r->revision, 1);
  EXPECT_EQ(r->build, "test build");
}

TEST(Loader, RefusesAnotherMajor) {
  EXPECT_THAT(refusal("other_major"),
              AllOf(HasSubstr("was built for ABI 2.0"), HasSubstr("this kernel speaks 1.0"), HasSubstr("rebuild it")));
}
TEST(Loader, RefusesAWrongMagic) {
  EXPECT_THAT(refusal("wrong_magic"), AllOf(HasSubstr("without the mark GANTRYM"), HasSubstr("GANTRY_MODULE")));
}
TEST(Loader, RefusesAMissingSymbol) { EXPECT_THAT(refusal("no_symbol"), HasSubstr("gantry_module_v1")); }
TEST(Loader, RefusesAMissingSymbolAlsoWhenTheManifestIsKnown) {
  auto c = configured("fetcher", "good", bad("no_symbol"));
  c.manifest.kind = "fetcher";
  c.manifest.name = "good";
  auto r = load_library(c);
  ASSERT_FALSE(r.has_value());
  EXPECT_THAT(r.error().message, AllOf(HasSubstr("does not export gantry_module_v1"), HasSubstr("gantry_add_module")));
}
TEST(Loader, RefusesAMissingManifest) {
  EXPECT_THAT(refusal("no_manifest"), AllOf(HasSubstr("no_manifest.so"), HasSubstr("manifest")));
}
TEST(Loader, RefusesABrokenManifest) {
  EXPECT_THAT(load_library(configured("fetcher", "good", bad("broken_manifest"))).error().message,
              HasSubstr("broken_manifest.so"));
}
TEST(Loader, RefusesAManifestOfAnother) {
  EXPECT_THAT(refusal("other_name"),
              AllOf(HasSubstr("manifest of fetcher.other"), HasSubstr("asks it for fetcher.good"),
                    HasSubstr("correct the table's name")));
}
TEST(Loader, RefusesADescriptorOfAnother) {
  auto c = configured("fetcher", "other", bad("other_name"));
  auto r = load_library(c);
  ASSERT_FALSE(r.has_value());
  EXPECT_THAT(r.error().message, AllOf(HasSubstr("manifest that it is fetcher.other"), HasSubstr("offers fetcher.good"),
                                       HasSubstr("one module.toml")));
}
TEST(Loader, RefusesDifferentRevisionsInManifestAndDescriptor) {
  EXPECT_THAT(refusal("other_revision"), AllOf(HasSubstr("speaks revision 3 of fetcher"),
                                               HasSubstr("descriptor says 1"), HasSubstr("build both")));
}
TEST(Loader, RefusesAnUnknownKind) {
  EXPECT_THAT(refusal("unknown_kind", "teleporter"),
              AllOf(HasSubstr("kind \"teleporter\""), HasSubstr("serves allocator, "), HasSubstr("upgrade gantryd")));
}
TEST(Loader, RefusesARevisionOfTheFuture) {
  EXPECT_THAT(refusal("new_revision"), AllOf(HasSubstr("revision 7 of kind fetcher"),
                                             HasSubstr("this kernel serves 1;"), HasSubstr("upgrade gantryd")));
}
TEST(Loader, RefusesARevisionNoLongerServed) {
  const Kind served[] = {{"fetcher", 4, 3}};
  auto r = load_library(configured("fetcher", "good", bad("good")), served);
  ASSERT_FALSE(r.has_value());
  EXPECT_THAT(r.error().message, AllOf(HasSubstr("speaks revision 1 of kind fetcher"), HasSubstr("serves 3 to 4"),
                                       HasSubstr("newer build")));
}
TEST(Loader, TakesThePreviousRevision) {
  const Kind served[] = {{"fetcher", 2, 1}};
  auto r = load_library(configured("fetcher", "good", bad("good")), served);
  ASSERT_TRUE(r.has_value());
  EXPECT_EQ(r->revision, 1);
}
TEST(Loader, RefusesUnstableUnlessAllowed) {
  EXPECT_THAT(refusal("unstable"),
              AllOf(HasSubstr("marks itself unstable"), HasSubstr("allow_unstable = true in [fetcher.good]")));
  auto c = configured("fetcher", "good", bad("unstable"));
  c.allow_unstable = true;
  EXPECT_TRUE(load_library(c).has_value());
}
TEST(Loader, WalksRecordsLongerAndShorterThanItsOwn) {
  auto longer = load_library(configured("fetcher", "good", bad("bigger_stride")));
  ASSERT_TRUE(longer.has_value()) << longer.error().message;
  EXPECT_STREQ(longer->provider.name, "good");
  EXPECT_EQ(longer->provider.size, sizeof(gantry_provider));
  auto shorter = load_library(configured("fetcher", "good", bad("smaller_provider")));
  ASSERT_TRUE(shorter.has_value()) << shorter.error().message;
  EXPECT_EQ(shorter->provider.extension, nullptr);
  EXPECT_NE(shorter->provider.destroy, nullptr);
}
TEST(Loader, RefusesRecordsTooShortToBeCalled) {
  EXPECT_THAT(refusal("tiny_provider"), AllOf(HasSubstr("16 bytes apart"), HasSubstr("provider_stride = sizeof")));
}
TEST(Loader, RefusesEmptyFunctions) {
  EXPECT_THAT(refusal("null_function"),
              AllOf(HasSubstr("leaves a function of its provider fetcher.good empty"), HasSubstr("fill them in")));
}
TEST(Loader, RefusesNoProviders) {
  EXPECT_THAT(refusal("no_providers"), AllOf(HasSubstr("has 0 providers"), HasSubstr("export one")));
}
TEST(Loader, RefusesWhatMustRunInAProcess) {
  EXPECT_THAT(refusal("needs_process"), AllOf(HasSubstr("process of its own"), HasSubstr("write host = \"process\"")));
}
TEST(Loader, RefusesWhatTheDynamicLinkerRefuses) {
  EXPECT_THAT(refusal("unresolved"), AllOf(HasSubstr("cannot be mapped"),
                                           HasSubstr("gantry_test_symbol_that_nobody_has"), HasSubstr("rebuild it")));
}
TEST(Loader, RefusesAMissingFile) {
  EXPECT_THAT(refusal("nothing_here"), AllOf(HasSubstr("nothing_here.so"), HasSubstr("kernel.module_dirs")));
}

class FileRules : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-loader-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir = name;
    file = dir + "/m.so";
    std::filesystem::copy_file(bad("good"), file);
    ::chmod(file.c_str(), 0755);
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  std::string why(const std::string& sha = {}, Trust trust = Trust::current()) {
    Status s = check_file(file, sha, trust);
    return s.has_value() ? "fine" : s.error().message;
  }
  std::string dir, file;
};

TEST_F(FileRules, AcceptsAPlainFile) { EXPECT_EQ(why(), "fine"); }
TEST_F(FileRules, RefusesAFileOthersCanWrite) {
  ::chmod(file.c_str(), 0757);
  EXPECT_THAT(why(),
              AllOf(HasSubstr(file), HasSubstr("writable by others (mode 0757)"), HasSubstr("run chmod go-w " + file)));
  auto r = load_library(configured("fetcher", "good", file));
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code, Code::permission_denied);
}
TEST_F(FileRules, RefusesAFileItsGroupCanWrite) {
  ::chmod(file.c_str(), 0775);
  EXPECT_THAT(why(), HasSubstr("writable by its group"));
}
TEST_F(FileRules, RefusesADirectoryOthersCanWrite) {
  ::chmod(dir.c_str(), 01777);
  EXPECT_THAT(why(), AllOf(HasSubstr("directory " + dir + " of module m.so"), HasSubstr("chmod go-w " + dir)));
}
TEST_F(FileRules, RefusesAnotherOwner) {
  if (::geteuid() != 0) GTEST_SKIP() << "changing a file's owner needs root";
  ASSERT_EQ(::chown(file.c_str(), 4711, 0), 0);
  EXPECT_THAT(why({}, {0}),
              AllOf(HasSubstr("owned by user 4711"), HasSubstr("runs as root"), HasSubstr("chown root " + file)));
  EXPECT_EQ(why({}, {4711}), "fine");
}
TEST_F(FileRules, RefusesWhatIsNoRegularFile) {
  std::filesystem::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0644), 0);
  EXPECT_THAT(why(), HasSubstr("not a regular file"));
}
TEST_F(FileRules, FollowsALinkToTheFileItMeans) {
  std::filesystem::create_symlink(file, dir + "/link.so");
  ::chmod(file.c_str(), 0757);
  EXPECT_FALSE(check_file(dir + "/link.so", {}).has_value());
}
TEST_F(FileRules, ComparesThePin) {
  std::ofstream(file, std::ios::trunc) << "abc";
  EXPECT_EQ(why("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "fine");
  EXPECT_THAT(why(std::string(64, '0')),
              AllOf(HasSubstr("ba7816bf"), HasSubstr("pins 0000"), HasSubstr("change `sha256`")));
}

}  // namespace
}  // namespace gantry::module
