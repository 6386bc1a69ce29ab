// Layers into directories: everything tar has, and everything it can be made to do.
#include "unpack.hpp"

#include "world_test.hpp"

#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <random>

namespace gantry::image_oci {
namespace {

using namespace test;

class Unpack : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(out); }
  Result<Unpacked> unpack(const std::string& bytes, UnpackLimits limits = {64 << 20, 10'000}) {
    std::size_t at = 0;
    const Pull pull = [&](char* data, std::size_t size) -> Result<std::size_t> {
      const std::size_t n = std::min({size, bytes.size() - at, std::size_t{1000}});
      std::memcpy(data, bytes.data() + at, n);
      at += n;
      return n;
    };
    return image_oci::unpack(pull, out, limits, never);
  }
  void good(const std::string& bytes) {
    const auto u = unpack(bytes);
    ASSERT_TRUE(u) << u.error().message;
  }
  // What is refused says why, with this part.
  void refused(const std::string& bytes, Code code, const std::string& part, UnpackLimits limits = {64 << 20, 10'000}) {
    const auto u = unpack(bytes, limits);
    ASSERT_FALSE(u);
    EXPECT_EQ(u.error().code, code) << u.error().message;
    EXPECT_NE(u.error().message.find(part), std::string::npos) << u.error().message;
  }
  struct stat stat(const std::string& name) const {
    struct stat st {};
    EXPECT_EQ(::lstat((out + "/" + name).c_str(), &st), 0) << name;
    return st;
  }
  bool whiteout(const std::string& name) const {
    struct stat st {};
    return ::lstat((out + "/" + name).c_str(), &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
  }
  bool opaque(const std::string& name) const {
    char v = 0;
    return ::lgetxattr((out + "/" + name).c_str(), "trusted.overlay.opaque", &v, 1) == 1 && v == 'y';
  }
  // The sandbox of the test holds nothing but the layer.
  void nothing_outside() const {
    for (const auto& each : fs::directory_iterator(dir.path)) EXPECT_EQ(each.path().filename(), "out") << "written outside";
    EXPECT_FALSE(fs::exists("/tmp/gantry-oci-escaped"));
  }
  static bool root() { return ::geteuid() == 0; }
  TempDir dir{true};
  std::string out = dir.path + "/out";
};

TEST_F(Unpack, FilesWithTheirAttributes) {
  good(Tar()
           .add({.name = "bin/", .type = '5', .mode = 0750, .uid = 7, .gid = 8})
           .add({.name = "bin/su", .data = "x", .mode = 04755, .uid = 0, .gid = 5})
           .add({.name = "bin/wall", .data = "x", .mode = 02755, .uid = 3, .gid = 5})
           .link("bin/sh", "/bin/dash")
           .directory("tmp", 01777)
           .bytes());
  EXPECT_EQ(stat("bin").st_mode & 07777u, 0750u);
  EXPECT_EQ(stat("bin").st_mtime, 1'600'000'000);
  EXPECT_EQ(stat("bin/su").st_mode & 07777u, 04755u);
  EXPECT_EQ(stat("bin/wall").st_mode & 07777u, 02755u);
  EXPECT_EQ(stat("tmp").st_mode & 07777u, 01777u);
  EXPECT_EQ(stat("bin/su").st_mtime, 1'600'000'000);
  EXPECT_EQ(stat("bin/sh").st_mtime, 1'600'000'000);
  EXPECT_EQ(fs::read_symlink(out + "/bin/sh"), "/bin/dash");
  if (!root()) GTEST_SKIP() << "owners need root";
  EXPECT_EQ(stat("bin").st_uid, 7u);
  EXPECT_EQ(stat("bin/wall").st_uid, 3u);
  EXPECT_EQ(stat("bin/wall").st_gid, 5u);
}

TEST_F(Unpack, DiffIdIsOfTheDecompressedBytes) {
  const std::string tar = Tar().file("a", std::string(100'000, 'a')).bytes() + std::string(10'240, '\0');
  for (const char* how : {"", "gzip", "zstd", "xz", "bzip2"}) {
    out = dir.path + "/out" + how;
    fs::create_directories(out);
    const auto u = unpack(*how ? compressed(tar, how) : tar);
    ASSERT_TRUE(u) << how << ": " << u.error().message;
    EXPECT_EQ(u->diff_id, digest_of(tar)) << how;
    EXPECT_EQ(u->size, 100'000u);
    EXPECT_EQ(u->entries, 1u);
    EXPECT_EQ(get(out + "/a"), std::string(100'000, 'a'));
  }
}

TEST_F(Unpack, EmptyLayers) {
  good(std::string(1024, '\0'));
  good(compressed(std::string(1024, '\0')));
  good(std::string());
  EXPECT_TRUE(tree(out).empty());
}

TEST_F(Unpack, WhiteoutsAreThoseOfTheOverlay) {
  good(Tar()
           .directory("etc")
           .file("etc/.wh.gone", "")
           .file(".wh.top", "")
           .directory("var")
           .file("var/.wh..wh..opq", "")
           .file("var/new", "n")
           .bytes());
  EXPECT_TRUE(whiteout("etc/gone"));
  EXPECT_TRUE(whiteout("top"));
  EXPECT_FALSE(fs::exists(out + "/etc/.wh.gone"));
  if (!root()) GTEST_SKIP() << "trusted attributes need root";
  EXPECT_TRUE(opaque("var"));
  EXPECT_FALSE(opaque("etc"));
}

TEST_F(Unpack, WhiteoutAndNewFileInOneLayer) {
  good(Tar().file(".wh.a", "").file("a", "new").file("b", "new").file(".wh.b", "").bytes());
  EXPECT_EQ(get(out + "/a"), "new");
  EXPECT_EQ(get(out + "/b"), "new") << "a whiteout is of what is below, not of this layer's own";
}

TEST_F(Unpack, WhiteoutAndNewDirectoryHideWhatWasInIt) {
  if (!root()) GTEST_SKIP() << "trusted attributes need root";
  good(Tar()
           .file(".wh.a", "")
           .directory("a")
           .file("a/x", "1")
           .directory("b")
           .file("b/x", "1")
           .file(".wh.b", "")
           .file(".wh.c", "")
           .file("c/deep/x", "1")
           .bytes());
  EXPECT_TRUE(opaque("a"));
  EXPECT_TRUE(opaque("b"));
  EXPECT_TRUE(opaque("c")) << "the directory came with a file in it only";
  EXPECT_EQ(get(out + "/c/deep/x"), "1");
}

TEST_F(Unpack, AufsMetadataIsIgnored) {
  good(Tar().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x").file(".wh..wh.aufs", "x").file("a", "a").bytes());
  EXPECT_TRUE(fs::exists(out + "/a"));
  EXPECT_FALSE(fs::exists(out + "/.wh..wh.aufs"));
}

TEST_F(Unpack, MalformedWhiteouts) {
  for (const char* name : {".wh.", ".wh..", ".wh...", "a/.wh.."}) refused(Tar().file(name, "").bytes(), Code::invalid_argument, "whiteout");
}

TEST_F(Unpack, HardLinks) {
  good(Tar().file("a", "data").hard("d/b", "a").hard("c", "/d/b").bytes());
  EXPECT_EQ(stat("a").st_ino, stat("d/b").st_ino);
  EXPECT_EQ(stat("a").st_ino, stat("c").st_ino);
  EXPECT_EQ(stat("a").st_nlink, 3u);
}

TEST_F(Unpack, HardLinksToLayersBelowAreForLater) {
  const auto u = unpack(Tar().directory("d").hard("d/b", "lower/a").bytes());
  ASSERT_TRUE(u) << u.error().message;
  EXPECT_EQ(u->links, (std::vector<std::pair<std::string, std::string>>{{"d/b", "lower/a"}}));
  EXPECT_TRUE(u->implied.empty());
  const std::string below = dir.path + "/out-below";
  put(below + "/lower/a", "from below");
  ::chmod((below + "/lower/a").c_str(), 0640);
  const Status s = complete(*u, out, {below});
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_EQ(get(out + "/d/b"), "from below");
  EXPECT_EQ(stat("d/b").st_mode & 07777u, 0640u);
  fs::remove_all(below);
  const Status none = complete(*u, out, {});
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("lower/a"), std::string::npos) << none.error().message;
}

TEST_F(Unpack, ImpliedDirectoriesAreLikeThoseBelow) {
  const auto u = unpack(Tar().file("tmp/x/y", "1").bytes());
  ASSERT_TRUE(u) << u.error().message;
  EXPECT_EQ(u->implied, (std::vector<std::string>{"tmp", "tmp/x"}));
  const std::string low = dir.path + "/out-1", high = dir.path + "/out-2";
  fs::create_directories(low + "/tmp");
  fs::create_directories(high);
  ::chmod((low + "/tmp").c_str(), 01777);
  ASSERT_TRUE(complete(*u, out, {low, high}));
  EXPECT_EQ(stat("tmp").st_mode & 07777u, 01777u);
  EXPECT_EQ(stat("tmp/x").st_mode & 07777u, 0755u);
  fs::remove_all(low), fs::remove_all(high);
}

TEST_F(Unpack, SparseFilesStaySparse) {
  ASSERT_EQ(run("cd " + dir.path +
                " && mkdir in && truncate -s 40M in/s && printf end >> in/s && printf begin | dd of=in/s conv=notrunc && tar -S -cf in.tar "
                "-C in s && tar --format=pax -S -cf in2.tar -C in s"),
            0);
  const std::string wanted = get(dir.path + "/in/s");
  for (const char* name : {"/in.tar", "/in2.tar"}) {
    good(get(dir.path + name));
    EXPECT_EQ(get(out + "/s"), wanted);
    EXPECT_LT(stat("s").st_blocks, 1000) << name;
  }
}

TEST_F(Unpack, AttributesOfTheListOnly) {
  if (!root()) GTEST_SKIP() << "capabilities of files need root";
  // cap_net_raw+ep, as the kernel has it (VFS_CAP_REVISION_2, effective).
  const std::string cap("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
  good(Tar()
           .add({.name = "ping",
                 .data = "x",
                 .mode = 0755,
                 .pax = {{"SCHILY.xattr.security.capability", cap},
                         {"SCHILY.xattr.user.note", "hello"},
                         {"SCHILY.xattr.trusted.overlay.redirect", "/etc"},
                         {"SCHILY.xattr.user.overlay.opaque", "y"},
                         {"SCHILY.xattr.security.selinux", "x"}}})
           .bytes());
  char value[64];
  const std::string at = out + "/ping";
  ASSERT_EQ(::lgetxattr(at.c_str(), "security.capability", value, sizeof value), 20);
  EXPECT_EQ(std::string(value, 20), cap);
  // Not every file system has user attributes.
  if (::setxattr(dir.path.c_str(), "user.probe", "1", 1, 0) == 0) {
    EXPECT_EQ(::lgetxattr(at.c_str(), "user.note", value, sizeof value), 5);
  }
  EXPECT_LT(::lgetxattr(at.c_str(), "trusted.overlay.redirect", value, sizeof value), 0) << "the overlay would follow it";
  EXPECT_LT(::lgetxattr(at.c_str(), "user.overlay.opaque", value, sizeof value), 0);
  EXPECT_LT(::lgetxattr(at.c_str(), "security.selinux", value, sizeof value), 0);
}

TEST_F(Unpack, DevicesAndFifos) {
  const auto u = unpack(Tar()
                            .add({.name = "null", .type = '3', .mode = 0666, .major = 1, .minor = 3})
                            .add({.name = "fifo", .type = '6', .mode = 0600})
                            .bytes());
  ASSERT_TRUE(u) << u.error().message;
  EXPECT_TRUE(S_ISFIFO(stat("fifo").st_mode));
  if (!root() || u->left_out) GTEST_SKIP() << "devices need CAP_MKNOD";
  EXPECT_TRUE(S_ISCHR(stat("null").st_mode));
  EXPECT_EQ(stat("null").st_rdev, ::makedev(1, 3));
  EXPECT_EQ(stat("null").st_mode & 07777u, 0666u);
}

TEST_F(Unpack, AForgedWhiteoutIsRefused) {
  refused(Tar().add({.name = "a", .type = '3', .mode = 0}).bytes(), Code::invalid_argument, "0:0");
}

TEST_F(Unpack, LaterEntriesReplaceEarlierOnes) {
  good(Tar()
           .file("a", "1")
           .file("a", "22")
           .directory("d")
           .file("d/x", "x")
           .file("d", "now a file")
           .link("l", "a")
           .file("l", "file")
           .directory("k", 0700)
           .directory("k", 0711)
           .bytes());
  EXPECT_EQ(get(out + "/a"), "22");
  EXPECT_EQ(get(out + "/d"), "now a file");
  EXPECT_EQ(get(out + "/l"), "file");
  EXPECT_EQ(stat("k").st_mode & 07777u, 0711u);
}

TEST_F(Unpack, LongAndForeignNames) {
  const std::string deep = std::string(200, 'd') + "/" + std::string(200, 'e'), umlaut = "gr\xc3\xbc\xc3\x9f", bytes = "raw-\xff\xfe";
  good(Tar()
           .add({.name = "x", .data = "1", .pax = {{"path", deep}}})
           .add({.name = "y", .data = "2", .pax = {{"path", umlaut}}})
           .file(bytes, "3")
           .bytes());
  EXPECT_EQ(get(out + "/" + deep), "1");
  EXPECT_EQ(get(out + "/" + umlaut), "2");
  EXPECT_EQ(get(out + "/" + bytes), "3");
}

// ---- as an attack

TEST_F(Unpack, NamesThatLeadOut) {
  for (const char* name : {"../escaped", "a/../../escaped", "..", "./../escaped", "/../escaped"})
    refused(Tar().file(name, "x").bytes(), Code::invalid_argument, "leads out");
  good(Tar().file("/tmp/gantry-oci-escaped", "x").file("a/../inside", "y").bytes());
  EXPECT_EQ(get(out + "/tmp/gantry-oci-escaped"), "x") << "absolute names are of the layer's root";
  EXPECT_EQ(get(out + "/inside"), "y");
  nothing_outside();
}

TEST_F(Unpack, LinksThatLeadOut) {
  const std::string up = "../../../../../../../../../.." + dir.path;
  good(Tar()
           .link("a", dir.path)
           .file("a/escaped", "x")
           .link("b", "..")
           .file("b/escaped", "x")
           .link("c", up)
           .file("c/escaped", "x")
           .link("d", "/")
           .file("d/within", "x")
           .bytes());
  EXPECT_EQ(get(out + "/within"), "x");
  EXPECT_EQ(get(out + "/escaped"), "x") << "the root's .. is the root";
  nothing_outside();
}

TEST_F(Unpack, LinksInPlaceOfFilesAreNotFollowed) {
  const std::string victim = dir.path + "/out-victim";
  put(victim, "untouched");
  (void)unpack(Tar().link("f", victim).file("f", "overwritten").link("g", victim).hard("h", "g").file("h", "x").bytes());
  EXPECT_EQ(get(victim), "untouched");
  (void)unpack(Tar().link("d", dir.path).directory("d", 0700).file("d/out-victim", "overwritten").bytes());
  EXPECT_EQ(get(victim), "untouched");
  (void)unpack(Tar().link("o", dir.path).file("o/.wh.out-victim", "").file("o/.wh..wh..opq", "").bytes());
  EXPECT_EQ(get(victim), "untouched");
  fs::remove(victim);
  nothing_outside();
}

TEST_F(Unpack, HardLinksThatLeadOut) {
  put(dir.path + "/out-secret", "secret");
  for (const std::string& to : {std::string("../out-secret"), dir.path + "/out-secret", std::string("l/out-secret")}) {
    const auto u = unpack(Tar().link("l", dir.path).hard("h", to).bytes());
    EXPECT_FALSE(fs::exists(out + "/h")) << to;
    if (u) {
      EXPECT_EQ(u->links.size(), 1u) << "left for the layers below, which have it or not";
    }
  }
  fs::remove(dir.path + "/out-secret");
}

TEST_F(Unpack, Bombs) {
  const std::string zeros(80 << 20, '\0');
  refused(compressed(Tar().file("a", zeros).bytes()), Code::resource_exhausted, "max_layer_size");
  refused(compressed(Tar().file("a", "x").bytes() + zeros), Code::resource_exhausted, "max_layer_size");
  // A file that says it is larger than it is, and one that is a single hole.
  refused(Tar().add({.name = "a", .data = "x", .claimed = 1ULL << 32}).bytes(), Code::resource_exhausted, "max_layer_size");
  ASSERT_EQ(run("cd " + dir.path + " && truncate -s 1T out-hole && tar -S -cf out-hole.tar out-hole"), 0);
  refused(get(dir.path + "/out-hole.tar"), Code::resource_exhausted, "max_layer_size");
}

TEST_F(Unpack, CountsAreLimited) {
  Tar tar;
  for (int i = 0; i < 200; ++i) tar.file("f" + std::to_string(i), "");
  refused(tar.bytes(), Code::resource_exhausted, "max_layer_entries", {64 << 20, 100});
  // One long name makes many directories.
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += "d/";
  Tar deeps;
  for (int i = 0; i < 3; ++i) deeps.add({.name = "x", .data = "", .pax = {{"path", std::to_string(i) + "/" + deep + "f"}}});
  refused(deeps.bytes(), Code::resource_exhausted, "max_layer_entries", {64 << 20, 2000});
  refused(Tar().add({.name = "x", .pax = {{"path", std::string(5000, 'x')}}}).bytes(), Code::invalid_argument, "4095");
  refused(Tar().add({.name = "x", .pax = {{"path", "a/" + std::string(300, 'x')}}}).bytes(), Code::invalid_argument, "255");
}

TEST_F(Unpack, HugeHeadersAreLimited) {
  // A map of holes that never ends, in a file that is said to be large.
  std::string map = "100000000\n";
  while (map.size() < (20 << 20)) map += "1\n0\n";
  const auto before = [] {
    rusage u{};
    ::getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
  };
  const long at = before();
  const auto u = unpack(
      compressed(
          Tar()
              .add(
                  {.name = "x",
                   .data = map,
                   .pax = {{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "100"}, {"GNU.sparse.name", "y"}}})
              .bytes()),
      {1ULL << 30, 10'000});
  EXPECT_FALSE(u);
  EXPECT_LT(before() - at, 400'000) << "KiB";
  refused(Tar().add({.name = "x", .pax = {{"comment", std::string(2 << 20, 'c')}}}).bytes(), Code::invalid_argument, "read");
}

TEST_F(Unpack, WhatIsNoArchive) {
  refused("hello", Code::invalid_argument, "read");
  refused(std::string(100'000, 'x'), Code::invalid_argument, "read");
  const std::string tar = Tar().file("a", std::string(50'000, 'a')).bytes();
  refused(tar.substr(0, 20'000), Code::invalid_argument, "Truncated");
  const std::string packed = compressed(Tar().file("a", std::string(50'000, 'a')).bytes());
  refused(packed.substr(0, packed.size() / 2), Code::invalid_argument, "runcated");
}

TEST_F(Unpack, ErrorsOfTheSourceArePassedOn) {
  const Pull broken = [](char*, std::size_t) -> Result<std::size_t> { return fail(Code::unavailable, "the line is cut"); };
  const auto u = image_oci::unpack(broken, out, {1 << 20, 10}, never);
  ASSERT_FALSE(u);
  EXPECT_EQ(u.error().code, Code::unavailable);
  EXPECT_NE(u.error().message.find("the line is cut"), std::string::npos);
}

TEST_F(Unpack, Cancel) {
  const std::string tar = Tar().file("a", std::string(1 << 20, 'a')).bytes();
  const Pull pull = [&](char* data, std::size_t size) -> Result<std::size_t> {
    const std::size_t n = std::min(size, tar.size());
    std::memcpy(data, tar.data(), n);
    return n;
  };
  const auto u = image_oci::unpack(pull, out, {1ULL << 40, 10}, [] { return true; });
  ASSERT_FALSE(u);
  EXPECT_EQ(u.error().code, Code::cancelled);
}

// Damaged archives of everything above: an error or not, but nothing outside, nothing that crashes, memory as before.
TEST_F(Unpack, TenThousandMutations) {
  const std::string canary = dir.path + "/out-canary";
  put(canary, "untouched");
  const std::string seed =
      Tar()
          .directory("d")
          .file("d/f", std::string(700, 'f'))
          .link("d/l", "../../..")
          .link("abs", dir.path)
          .file("abs/x", "x")
          .hard("h", "d/f")
          .file(".wh.gone", "")
          .file("d/.wh..wh..opq", "")
          .add({.name = "p", .data = "p", .pax = {{"path", "long/name/p"}, {"SCHILY.xattr.user.a", "b"}, {"mtime", "1.5"}}})
          .add({.name = "fifo", .type = '6'})
          .bytes();
  const std::vector<std::string> words = {"../",
                                          dir.path + "/out-canary",
                                          "out-canary",
                                          "/",
                                          "..",
                                          ".wh.",
                                          "GNU.sparse.map=",
                                          "path=../../out-canary\n",
                                          "size=99999999999\n",
                                          "\xff\xff\xff\xff"};
  std::mt19937 random(11);
  rusage first{};
  int accepted = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string bytes = seed;
    const bool fix = random() % 4 != 0;
    for (int n = 1 + static_cast<int>(random() % 4); n > 0; --n) {
      const std::size_t at = random() % (bytes.size() - 100);
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.replace(at, words[random() % words.size()].size() % 90, words[random() % words.size()]);
          break;
        case 2:
          bytes[at / 512 * 512 + 156] = "0123456789xgLKS\0"[random() % 16];
          break;
        default: {
          const std::string& w = words[random() % words.size()];
          bytes.replace(at / 512 * 512 + (random() % 2 ? 0 : 157), w.size(), w);
        }
      }
    }
    if (fix)  // right checksums let the damage through to where it hurts
      for (std::size_t at = 0; at + 512 <= bytes.size(); at += 512)
        if (bytes.compare(at + 257, 5, "ustar") == 0) {
          std::memset(&bytes[at + 148], ' ', 8);
          unsigned sum = 0;
          for (std::size_t k = 0; k < 512; ++k) sum += static_cast<unsigned char>(bytes[at + k]);
          char text[8];
          std::snprintf(text, sizeof text, "%06o", sum);
          std::memcpy(&bytes[at + 148], text, 7);
        }
    const auto u = unpack(bytes, {1 << 20, 200});
    if (u) {
      ++accepted;
    } else {
      EXPECT_FALSE(u.error().message.empty());
    }
    if (i % 50 == 0) {
      const Fd at(::open(dir.path.c_str(), O_RDONLY | O_DIRECTORY));
      ASSERT_TRUE(remove_tree(at.get(), "out"));
      fs::create_directories(out);
      ASSERT_EQ(get(canary), "untouched") << "mutation " << i;
      for (const auto& each : fs::directory_iterator(dir.path))
        ASSERT_TRUE(each.path().filename() == "out" || each.path() == canary) << "mutation " << i << " made " << each.path();
    }
    if (i == 1000) ::getrusage(RUSAGE_SELF, &first);
  }
  rusage last{};
  ::getrusage(RUSAGE_SELF, &last);
  EXPECT_LT(last.ru_maxrss - first.ru_maxrss, 200'000) << "KiB";
  EXPECT_GT(accepted, 100) << "mutations that are never accepted test the first check only";
}

TEST(RemoveTree, DeepAndWide) {
  TempDir dir(true);
  const Fd at(::open(dir.path.c_str(), O_RDONLY | O_DIRECTORY));
  std::string path = "t";
  Fd here(::dup(at.get()));
  for (int i = 0; i < 3000; ++i) {  // deeper than any path can say
    ASSERT_EQ(::mkdirat(here.get(), i ? "d" : "t", 0700), 0);
    here = Fd(::openat(here.get(), i ? "d" : "t", O_RDONLY | O_DIRECTORY));
  }
  for (int i = 0; i < 2500; ++i) put(dir.path + "/t/w" + std::to_string(i) + "/f", "x");
  ::chmod((dir.path + "/t/w7").c_str(), 0);
  const Status s = remove_tree(at.get(), "t");
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_TRUE(tree(dir.path).empty());
  EXPECT_TRUE(remove_tree(at.get(), "t"));
}

}  // namespace
}  // namespace gantry::image_oci
