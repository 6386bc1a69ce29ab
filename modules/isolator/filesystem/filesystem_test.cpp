#include "filesystem.hpp"

#include <gantry/testing/host.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace gantry::isolator_filesystem {
namespace {

namespace fs = std::filesystem;
using fb::isolator::Method;
using fb::isolator::MountOption;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Paths, AreTidied) {
  EXPECT_EQ(tidy("/a//b/./c/"), "/a/b/c");
  EXPECT_EQ(tidy("/a/../b"), "/b");
  EXPECT_EQ(tidy("/"), "/");
  EXPECT_EQ(tidy("/a/../.."), "");
  EXPECT_TRUE(below("/srv/data", {"/srv"}));
  EXPECT_FALSE(below("/srvdata", {"/srv"}));
  EXPECT_TRUE(below("/x", {"/"}));
  EXPECT_FALSE(below("/x", {}));
}

fb::TaskInfoT task(fb::ContainerType type = fb::ContainerType::MESOS) {
  fb::TaskInfoT t;
  t.container = std::make_unique<fb::ContainerInfoT>();
  t.container->type = type;
  if (type == fb::ContainerType::DOCKER) t.container->docker = std::make_unique<fb::DockerInfoT>();
  return t;
}
fb::VolumeT& volume(fb::TaskInfoT& t, const std::string& target, const std::string& host = {}, fb::VolumeMode mode = fb::VolumeMode::RW) {
  t.container->volumes.push_back(std::make_unique<fb::VolumeT>());
  auto& v = *t.container->volumes.back();
  v.container_path = target;
  v.host_path = host;
  v.mode = mode;
  return v;
}
void parameter(fb::TaskInfoT& t, const std::string& key, const std::string& value) {
  t.container->docker->parameters.push_back(std::make_unique<fb::ParameterT>());
  t.container->docker->parameters.back()->key = key;
  t.container->docker->parameters.back()->value = value;
}
std::string refused(const fb::TaskInfoT& t, const Rules& r = {}, bool image = true) {
  const auto p = plan_of(t, r, image);
  return p ? "accepted" : p.error().message;
}

TEST(Plan, VolumesOfTheMachineAndOfTheSandbox) {
  auto t = task();
  volume(t, "/data", "/srv/data", fb::VolumeMode::RO);
  volume(t, "cache", "shared/cache");
  const auto p = plan_of(t, {}, true);
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_EQ(p->volumes[0].source.kind, Source::Kind::host);
  EXPECT_EQ(p->volumes[0].source.path, "/srv/data");
  EXPECT_TRUE(p->volumes[0].read_only);
  EXPECT_EQ(p->volumes[1].source.kind, Source::Kind::sandbox);
  EXPECT_EQ(p->volumes[1].source.path, "shared/cache");
  EXPECT_EQ(p->volumes[1].target, "cache");
}

TEST(Plan, DockersWaysOfSayingIt) {
  auto t = task(fb::ContainerType::DOCKER);
  volume(t, "/data", "/srv/data");
  parameter(t, "volume", "named:/n:ro");
  parameter(t, "v", "/etc/ssl:/certs:ro,rslave");
  parameter(t, "tmpfs", "/scratch:size=64m,noexec");
  parameter(t, "device", "/dev/zero:/dev/nought:r");
  parameter(t, "read-only", "true");
  parameter(t, "env", "A=1");
  const auto p = plan_of(t, {}, true);
  ASSERT_TRUE(p) << p.error().message;
  ASSERT_EQ(p->volumes.size(), 3u);
  EXPECT_EQ(p->volumes[0].source.kind, Source::Kind::create);
  EXPECT_EQ(p->volumes[1].source.kind, Source::Kind::named);
  EXPECT_TRUE(p->volumes[1].read_only);
  EXPECT_TRUE(p->volumes[2].slave && p->volumes[2].read_only);
  EXPECT_EQ(p->tmpfs.at(0).options, "size=64m,noexec");
  EXPECT_EQ(p->devices.at(0).target, "/dev/nought");
  EXPECT_EQ(p->devices.at(0).access, "r");
  EXPECT_TRUE(p->read_only_root);
  EXPECT_THAT(p->parameters, ElementsAre("volume", "v", "tmpfs", "device", "read-only"));
}

TEST(Plan, MistakesAreNamed) {
  const auto with = [](const std::string& target, const std::string& host, const Rules& r = {}) {
    auto t = task();
    volume(t, target, host);
    return refused(t, r);
  };
  EXPECT_THAT(with("/", "/srv"), HasSubstr("container_path must name a place"));
  EXPECT_THAT(with("../up", "/srv"), HasSubstr("container_path must name a place"));
  EXPECT_THAT(with("/d", "../../etc"), HasSubstr("\"../../etc\" leads out of the sandbox"));
  EXPECT_THAT(with("/d", "/../etc"), HasSubstr("leads above the root"));
  EXPECT_THAT(with("/d", "/etc", {.host_paths = {"/srv"}}), HasSubstr("this agent allows no volume at /etc (isolator.filesystem, host_paths)"));
  EXPECT_THAT(with("/d", "/srv/../etc", {.host_paths = {"/srv"}}), HasSubstr("allows no volume at /etc"));
  auto twice = task();
  volume(twice, "/d", "/a");
  volume(twice, "/d/", "/b");
  EXPECT_THAT(refused(twice), HasSubstr("two volumes at \"/d\""));
  auto secret = task();
  auto& v = volume(secret, "/s");
  v.source = std::make_unique<fb::VolumeSourceT>();
  v.source->type = fb::VolumeSourceType::SECRET;
  v.source->secret = std::make_unique<fb::SecretT>();
  v.source->secret->reference = std::make_unique<fb::SecretReferenceT>();
  EXPECT_THAT(refused(secret), HasSubstr("needs a secret module"));
  for (const auto& [key, value, why] : {std::tuple("volume", "x", "write SOURCE:/TARGET[:ro]"), std::tuple("volume", "/a:/b:fast", "unknown option \"fast\""), std::tuple("tmpfs", "t", "write /TARGET"),
                                        std::tuple("device", "/etc/passwd", "write /dev/NAME"), std::tuple("device", "/dev/null:/dev/n:xyz", "write /dev/NAME")}) {
    auto t = task(fb::ContainerType::DOCKER);
    parameter(t, key, value);
    EXPECT_THAT(refused(t), HasSubstr(why)) << value;
  }
}

class FilesystemTest : public ::testing::Test {
 protected:
  FilesystemTest() : module_(host_, "filesystem") {
    char dir[] = "/tmp/gantry-filesystem-XXXXXX";
    top_ = ::mkdtemp(dir);
    module_.work_dir(top_ + "/work");
    module_.defaults({{"sandbox", "/mnt/mesos/sandbox"}, {"host_paths", std::vector<std::string>{"/"}}, {"create_host_paths", true}, {"mask", true}, {"scratch", ""}});
    module_->allowed = [] { return true; };
    for (const char* d : {"/sandbox", "/layers/a", "/layers/b", "/work"}) fs::create_directories(top_ + d);
  }
  ~FilesystemTest() override {
    EXPECT_EQ(host_.faults(), std::vector<std::string>{});
    fs::remove_all(top_);
  }
  void start(const testing::Values& settings = {}) {
    ASSERT_TRUE(module_.configure(settings));
    ASSERT_TRUE(module_.start());
  }
  fb::isolator::PrepareT request(fb::TaskInfoT t, bool image) {
    fb::isolator::PrepareT p;
    p.container_id = "c1";
    p.sandbox = top_ + "/sandbox";
    p.task = std::make_unique<fb::TaskInfoT>(std::move(t));
    if (image) p.layers = {top_ + "/layers/a", top_ + "/layers/b"};
    return p;
  }
  Result<fb::isolator::PreparedT> prepare(const fb::isolator::PrepareT& p) { return module_.call<fb::isolator::Prepared>(Method::PREPARE, p); }
  Status cleanup(const std::string& id) {
    fb::isolator::CleanupT c;
    c.container_id = id;
    const auto r = module_.call(Method::CLEANUP, pack(c));
    return r ? ok : Status(r.error());
  }
  static const fb::isolator::MountT* at(const fb::isolator::PreparedT& p, const std::string& target) {
    const auto it = std::find_if(p.mounts.rbegin(), p.mounts.rend(), [&](const auto& m) { return m->target == target; });
    return it == p.mounts.rend() ? nullptr : it->get();
  }
  testing::Host host_;
  testing::Subject<Filesystem> module_;
  std::string top_;
};

TEST_F(FilesystemTest, AnImageBecomesARootWithItsLayersInOrder) {
  if (::geteuid() != 0) GTEST_SKIP() << "making device nodes needs root";
  start();
  ::chmod((top_ + "/layers/b").c_str(), 0700);
  const auto p = prepare(request({}, true));
  ASSERT_TRUE(p) << p.error().message;
  const std::string dirs = top_ + "/work/containers/c1";
  EXPECT_EQ(p->root, dirs + "/root");
  EXPECT_EQ(p->sandbox, "/mnt/mesos/sandbox");
  const auto* root = at(*p, p->root);
  ASSERT_TRUE(root);
  EXPECT_EQ(root->options, static_cast<std::uint32_t>(MountOption::OUTSIDE));
  EXPECT_EQ(root->base, top_ + "/layers/");
  EXPECT_EQ(root->data, "lowerdir=b:a,upperdir=" + dirs + "/upper,workdir=" + dirs + "/work,volatile");
  // The root has the mode of the image's.
  EXPECT_EQ(fs::status(dirs + "/upper").permissions(), fs::perms(0700));
  struct stat s {};
  ASSERT_EQ(::stat((dirs + "/upper/dev/null").c_str(), &s), 0);
  EXPECT_EQ(s.st_rdev, makedev(1, 3));
  EXPECT_EQ(s.st_mode & 07777, 0666u);
  char opaque = 0;
  EXPECT_EQ(::getxattr((dirs + "/upper/dev").c_str(), "trusted.overlay.opaque", &opaque, 1), 1);
  EXPECT_TRUE(at(*p, "/proc/kcore"));
  ASSERT_TRUE(cleanup("c1"));
  EXPECT_FALSE(fs::exists(dirs));
  EXPECT_TRUE(cleanup("c1"));
  EXPECT_TRUE(cleanup("never-heard-of"));
}

TEST_F(FilesystemTest, WithoutAnImageTheMachinesFilesAreSeenButMasked) {
  start();
  auto p = prepare(request({}, false));
  ASSERT_TRUE(p);
  EXPECT_EQ(p->root, "");
  ASSERT_TRUE(at(*p, "/proc/sys"));
  EXPECT_TRUE(at(*p, "/proc/sys")->flags & MS_RDONLY);
  EXPECT_FALSE(at(*p, "/dev/pts"));
  auto t = task(fb::ContainerType::DOCKER);
  t.container->docker->privileged = true;
  p = prepare(request(std::move(t), false));
  ASSERT_TRUE(p);
  EXPECT_TRUE(p->mounts.empty());
}

TEST_F(FilesystemTest, PersistentVolumesAreWhereTheirLinksLead) {
  if (::geteuid() != 0) GTEST_SKIP() << "making device nodes needs root";
  start();
  const auto with = [&](bool image) {
    auto r = request({}, image);
    for (const bool read_only : {false, true}) {
      auto v = std::make_unique<fb::isolator::HostedVolumeT>();
      v->source = top_ + (read_only ? "/volumes/ro" : "/volumes/rw");
      v->path = "data";
      v->read_only = read_only;
      r.volumes.push_back(std::move(v));
    }
    return r;
  };
  auto p = prepare(with(true));
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_TRUE(at(*p, top_ + "/volumes/rw"));
  EXPECT_TRUE(at(*p, top_ + "/volumes/ro")->flags & MS_RDONLY);
  ASSERT_TRUE(cleanup("c1"));
  p = prepare(with(false));
  ASSERT_TRUE(p);
  EXPECT_FALSE(at(*p, top_ + "/volumes/rw"));
  EXPECT_TRUE(at(*p, top_ + "/volumes/ro"));
}

TEST_F(FilesystemTest, TheParentsSandboxIsForNestedOnes) {
  start();
  const auto with = [&](const std::string& path, bool nested) {
    auto t = task();
    auto& v = volume(t, "common");
    v.source = std::make_unique<fb::VolumeSourceT>();
    v.source->type = fb::VolumeSourceType::SANDBOX_PATH;
    v.source->sandbox_path = std::make_unique<fb::SandboxPathT>();
    v.source->sandbox_path->type = fb::SandboxPathType::PARENT;
    v.source->sandbox_path->path = path;
    auto r = request(std::move(t), false);
    if (nested) {
      r.parent = "pod";
      r.sandbox = top_ + "/sandbox/tasks/t1";
      fs::create_directories(r.sandbox);
    }
    return r;
  };
  auto p = prepare(with("shared/deep", false));
  ASSERT_FALSE(p);
  EXPECT_THAT(p.error().message, HasSubstr("only nested containers have a parent's sandbox"));
  p = prepare(with("shared/deep", true));
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_TRUE(fs::is_directory(top_ + "/sandbox/shared/deep"));
  const auto* m = at(*p, top_ + "/sandbox/tasks/t1/common");
  ASSERT_TRUE(m);
  EXPECT_EQ(m->base, top_ + "/sandbox");
  EXPECT_EQ(m->source, "shared/deep");
  EXPECT_TRUE(m->options & static_cast<std::uint32_t>(MountOption::STRICT_SOURCE));
  fs::create_directories(top_ + "/victim");
  fs::create_symlink(top_ + "/victim", top_ + "/sandbox/bad");
  EXPECT_FALSE(prepare(with("bad/x", true)));
  EXPECT_FALSE(prepare(with("../x", true)));
  EXPECT_TRUE(fs::is_empty(top_ + "/victim"));
}

TEST_F(FilesystemTest, LinksInASandboxAreNotFollowed) {
  start();
  fs::create_directories(top_ + "/victim");
  fs::create_symlink(top_ + "/victim", top_ + "/sandbox/link");
  auto t = task();
  volume(t, "link/deeper", "/srv");
  auto p = prepare(request(std::move(t), false));
  ASSERT_FALSE(p);
  EXPECT_THAT(p.error().message, HasSubstr("symbolic link"));
  t = task();
  volume(t, "/tmp", "link/deeper");
  p = prepare(request(std::move(t), false));
  ASSERT_FALSE(p);
  EXPECT_TRUE(fs::is_empty(top_ + "/victim"));
  t = task();
  volume(t, "/tmp", "mine/here");
  p = prepare(request(std::move(t), false));
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_TRUE(fs::is_directory(top_ + "/sandbox/mine/here"));
  EXPECT_EQ(at(*p, "/tmp")->base, top_ + "/sandbox");
  EXPECT_TRUE(at(*p, "/tmp")->options & static_cast<std::uint32_t>(MountOption::STRICT_SOURCE));
}

TEST_F(FilesystemTest, AllowedDirectoriesAreJudgedByWhereTheyLead) {
  fs::create_directories(top_ + "/allowed/fine");
  fs::create_symlink("/etc", top_ + "/allowed/escape");
  start({{"host_paths", std::vector<std::string>{fs::canonical(top_ + "/allowed").string()}}});
  auto t = task();
  volume(t, "/tmp", top_ + "/allowed/escape");
  auto p = prepare(request(std::move(t), false));
  ASSERT_FALSE(p);
  EXPECT_THAT(p.error().message, HasSubstr("leads to /etc, where this agent allows none"));
  t = task();
  volume(t, "/tmp", top_ + "/allowed/fine");
  EXPECT_TRUE(prepare(request(std::move(t), false)));
}

TEST_F(FilesystemTest, SecretsAreFilesInMemoryThatGoWithTheContainer) {
  if (memory_directory().empty()) GTEST_SKIP() << "no tmpfs at /run or /dev/shm";
  if (::geteuid() != 0) GTEST_SKIP() << "/run belongs to root";
  start();
  auto t = task();
  auto& v = volume(t, "/tmp/token");
  v.source = std::make_unique<fb::VolumeSourceT>();
  v.source->type = fb::VolumeSourceType::SECRET;
  v.source->secret = std::make_unique<fb::SecretT>();
  v.source->secret->value = {'k', 'e', 'y'};
  const auto p = prepare(request(std::move(t), false));
  ASSERT_TRUE(p) << p.error().message;
  const std::string source = at(*p, "/tmp/token")->source;
  EXPECT_TRUE(source.starts_with(memory_directory()));
  std::ifstream in(source);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "key");
  EXPECT_EQ(fs::status(source).permissions(), fs::perms(0400));
  ASSERT_TRUE(cleanup("c1"));
  EXPECT_FALSE(fs::exists(source));
}

TEST_F(FilesystemTest, WhatNobodyKnowsIsAnOrphan) {
  start();
  fs::create_directories(top_ + "/work/containers/lost");
  fs::create_directories(top_ + "/work/containers/kept");
  fb::isolator::RecoverT r;
  r.containers.push_back(std::make_unique<fb::isolator::KnownT>());
  r.containers.back()->container_id = "kept";
  const auto recovered = module_.call<fb::isolator::Recovered>(GANTRY_METHOD_RECOVER, pack(r));
  ASSERT_TRUE(recovered);
  EXPECT_THAT(recovered->orphans, ElementsAre("lost"));
  EXPECT_TRUE(cleanup("lost"));
  EXPECT_FALSE(fs::exists(top_ + "/work/containers/lost"));
}

TEST_F(FilesystemTest, WithoutRightsOnlyWhatNeedsNoneRuns) {
  module_->allowed = [] { return false; };
  start();
  EXPECT_TRUE(prepare(request({}, false)));
  const auto p = prepare(request({}, true));
  ASSERT_FALSE(p);
  EXPECT_THAT(p.error().message, HasSubstr("no right to mount"));
}

}  // namespace
}  // namespace gantry::isolator_filesystem
