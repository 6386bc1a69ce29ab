// Pure parts, counting on the machine's own disk, and project quotas where $GANTRY_QUOTA_DIRS names file systems that have them
// (tests/cluster/disk_quota_vm.sh does, for xfs and ext4).
#include "disk.hpp"

#include <gtest/gtest.h>
#include <gantry/testing/host.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>

namespace gantry::isolator_disk {
namespace {

using namespace std::chrono_literals;
using fb::isolator::Method;
constexpr std::uint64_t mib = 1 << 20;

std::unique_ptr<fb::ResourceT> disk(double mb) {
  auto r = std::make_unique<fb::ResourceT>();
  r->name = "disk";
  r->scalar = mb;
  return r;
}
std::unique_ptr<fb::ResourceT> volume(double mb, const std::string& id, const std::string& path,
                                      std::optional<fb::DiskSourceType> source = {}) {
  auto r = disk(mb);
  r->disk = std::make_unique<fb::DiskInfoT>();
  r->disk->persistence = std::make_unique<fb::PersistenceT>();
  r->disk->persistence->id = id;
  r->disk->volume = std::make_unique<fb::VolumeT>();
  r->disk->volume->container_path = path;
  if (source) {
    r->disk->source = std::make_unique<fb::DiskSourceT>();
    r->disk->source->type = *source;
  }
  return r;
}

template <class... R>
std::vector<std::unique_ptr<fb::ResourceT>> all(R... r) {
  std::vector<std::unique_ptr<fb::ResourceT>> out;
  (out.push_back(std::move(r)), ...);
  return out;
}

TEST(Shares, SandboxAndVolumes) {
  auto s = shares_of(all(disk(10), disk(5.5), volume(20, "data", "var/data"), volume(30, "whole", "mnt", fb::DiskSourceType::MOUNT)));
  ASSERT_EQ(s.size(), 3u);
  EXPECT_EQ(s[0].path, "");
  EXPECT_EQ(s[0].quota, 15 * mib + mib / 2);
  EXPECT_EQ(s[0].resources.size(), 2u);
  EXPECT_EQ(s[1].path, "var/data");
  EXPECT_EQ(s[1].quota, 20 * mib);
  EXPECT_EQ(s[1].volume_id, "data");
  EXPECT_TRUE(s[1].enforced);
  EXPECT_FALSE(s[2].enforced) << "the disk itself is the limit";
}

TEST(Shares, PathsThatLeadOutAreNotLookedAt) {
  for (const char* bad : {"/etc", "..", "a/../b", "", "a//b", "./a"}) EXPECT_EQ(shares_of(all(volume(1, "v", bad))).size(), 1u) << bad;
}

TEST(Shares, NoDiskIsNoQuota) { EXPECT_EQ(shares_of({})[0].quota, 0u); }

TEST(Shares, BytesAsMesosWritesThem) {
  EXPECT_EQ(show_bytes(0), "0B");
  EXPECT_EQ(show_bytes(5), "5B");
  EXPECT_EQ(show_bytes(24 << 10), "24KB");
  EXPECT_EQ(show_bytes(10 << 20), "10MB");
  EXPECT_EQ(show_bytes((1 << 20) + 1024), "1025KB");
  EXPECT_EQ(show_bytes(3ull << 40), "3TB");
}

// ---- trees

class Tree : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-disk-XXXXXX";
    top_ = ::mkdtemp(name);
    sandbox_ = top_ + "/sandbox";
    ASSERT_EQ(::mkdir(sandbox_.c_str(), 0755), 0);
  }
  void TearDown() override { (void)!std::system(("rm -rf " + top_ + " 2>/dev/null").c_str()); }
  // A file of this size that really takes it; errno if not.
  static int fill(const std::string& path, std::uint64_t bytes) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return errno;
    const std::string block(64 << 10, 'x');
    int e = 0;
    for (std::uint64_t done = 0; done < bytes && !e;) {  // the last write before the end may be a short one
      const ssize_t n = ::write(fd, block.data(), std::min<std::uint64_t>(block.size(), bytes - done));
      if (n < 0)
        e = errno;
      else
        done += static_cast<std::uint64_t>(n);
    }
    if (::fsync(fd) != 0 && !e) e = errno;
    ::close(fd);
    return e;
  }
  std::uint64_t space(const std::set<std::string>& exclude = {}) {
    const auto s = space_of(sandbox_, exclude, never_);
    EXPECT_TRUE(s) << (s ? "" : s.error().message);
    return s ? s->bytes : 0;
  }
  std::atomic<bool> never_{false};
  std::string top_, sandbox_;
};

TEST_F(Tree, CountsWhatIsOnTheDisk) {
  const auto empty = space();
  ASSERT_EQ(fill(sandbox_ + "/a", mib), 0);
  const auto one = space();
  EXPECT_GE(one, empty + mib);
  EXPECT_LT(one, empty + 2 * mib);
  ASSERT_EQ(::truncate((sandbox_ + "/hole").c_str(), 0), -1);
  std::ofstream(sandbox_ + "/hole").flush();
  ASSERT_EQ(::truncate((sandbox_ + "/hole").c_str(), 100 * mib), 0);
  EXPECT_LT(space(), one + mib) << "a hole takes no space";
}

TEST_F(Tree, AFileWithTwoNamesCountsOnce) {
  ASSERT_EQ(fill(sandbox_ + "/a", mib), 0);
  const auto one = space();
  ASSERT_EQ(::link((sandbox_ + "/a").c_str(), (sandbox_ + "/b").c_str()), 0);
  EXPECT_EQ(space(), one);
}

TEST_F(Tree, LinksAreNotFollowed) {
  ASSERT_EQ(::mkdir((top_ + "/outside").c_str(), 0755), 0);
  ASSERT_EQ(fill(top_ + "/outside/big", 4 * mib), 0);
  ASSERT_EQ(::symlink("../outside", (sandbox_ + "/link").c_str()), 0);
  EXPECT_LT(space(), mib);
  ASSERT_EQ(::symlink(sandbox_.c_str(), (top_ + "/way").c_str()), 0);
  EXPECT_FALSE(space_of(top_ + "/way", {}, never_)) << "the root neither";
}

TEST_F(Tree, ExcludedPathsAreLeftOut) {
  for (const char* d : {"/v", "/v/data", "/data"}) ASSERT_EQ(::mkdir((sandbox_ + d).c_str(), 0755), 0);
  ASSERT_EQ(fill(sandbox_ + "/v/data/big", 4 * mib), 0);
  ASSERT_EQ(fill(sandbox_ + "/data/small", mib), 0);
  EXPECT_GE(space(), 5 * mib);
  EXPECT_GE(space({"v/data"}), mib);
  EXPECT_LT(space({"v/data"}), 2 * mib) << "by path, not by name";
}

TEST_F(Tree, AsDeepAsItMayBe) {
  int at = ::open(sandbox_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int i = 0; i < 3000; ++i) {  // far beyond the longest path
    ASSERT_EQ(::mkdirat(at, "deeper", 0755), 0);
    const int below = ::openat(at, "deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ::close(at);
    at = below;
  }
  const int fd = ::openat(at, "treasure", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  const std::string block(mib, 'x');
  ASSERT_EQ(::write(fd, block.data(), block.size()), static_cast<ssize_t>(mib));
  ::fsync(fd);
  ::close(fd);
  ::close(at);
  int files = 0;
  const auto whole = walk(sandbox_, {}, never_, [&](const Entry& e) { files += e.is_file; });
  ASSERT_TRUE(whole);
  EXPECT_TRUE(*whole);
  EXPECT_EQ(files, 1);
}

TEST_F(Tree, NeverLeavesThroughADirectoryThatIsMoved) {
  for (const char* d : {"/a", "/a/b", "/a/b/c"}) ASSERT_EQ(::mkdir((sandbox_ + d).c_str(), 0755), 0);
  ASSERT_EQ(::mkdir((top_ + "/elsewhere").c_str(), 0755), 0);
  ASSERT_EQ(fill(top_ + "/elsewhere/secret", 4096), 0);
  bool saw_secret = false;
  const auto whole = walk(sandbox_, {}, never_, [&](const Entry& e) {
    if (std::string(e.name) == "c") ::rename((sandbox_ + "/a/b").c_str(), (top_ + "/elsewhere/b").c_str());
    saw_secret |= std::string(e.name) == "secret";
  });
  ASSERT_TRUE(whole);
  EXPECT_FALSE(*whole) << "what was seen is not all";
  EXPECT_FALSE(saw_secret);
}

TEST_F(Tree, CanBeGivenUp) {
  const std::atomic<bool> at_once{true};
  const auto s = space_of(sandbox_, {}, at_once);
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::cancelled);
}

// ---- the module

class DiskTest : public Tree {
 protected:
  DiskTest() : module_(host_, "disk") {
    module_.defaults({{"enforce", true},
                      {"method", "count"},
                      {"on_quota", "deny"},
                      {"interval", 15s},
                      {"parallel", 2},
                      {"first_project", 5000},
                      {"last_project", 10000}});
  }
  void TearDown() override {
    if (started_) {
      EXPECT_TRUE(module_.stop());
    }
    EXPECT_EQ(host_.faults(), std::vector<std::string>{});
    EXPECT_EQ(host_.timers(), 0u);
    Tree::TearDown();
  }
  void start(const testing::Values& settings = {}) {
    module_.work_dir(top_);
    ASSERT_TRUE(module_.configure(settings));
    ASSERT_TRUE(module_.start());
    started_ = true;
  }
  Status prepare(const std::string& id, const std::string& sandbox, std::vector<std::unique_ptr<fb::ResourceT>> resources) {
    fb::isolator::PrepareT p;
    p.container_id = id;
    p.sandbox = sandbox;
    p.task = std::make_unique<fb::TaskInfoT>();
    p.task->resources = std::move(resources);
    const auto r = module_.call<fb::isolator::Prepared>(Method::PREPARE, p);
    if (!r) return r.error();
    EXPECT_TRUE(r->no_attach);
    return ok;
  }
  testing::Pending watch(const std::string& id) {
    fb::isolator::WatchT w;
    w.container_id = id;
    return module_.open(Method::WATCH, w);
  }
  Status cleanup(const std::string& id) {
    fb::isolator::CleanupT c;
    c.container_id = id;
    return module_.call(Method::CLEANUP, c);
  }
  fb::isolator::UsageT usage(const std::string& id) {
    fb::isolator::UsageRequestT r;
    r.container_ids = {id, "unknown"};
    auto u = module_.call<fb::isolator::Usages>(Method::USAGE, r);
    EXPECT_TRUE(u && u->usages.size() == 1);
    return u && u->usages.size() == 1 ? *u->usages[0] : fb::isolator::UsageT{};
  }
  testing::Host host_;
  testing::Subject<Disk> module_;
  bool started_ = false;
};

TEST_F(DiskTest, ABreachEndsTheContainerWithItsReason) {
  start();
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(2))));
  auto stream = watch("c1");
  ASSERT_EQ(fill(sandbox_ + "/a", mib), 0);
  host_.advance(15s);
  EXPECT_TRUE(stream.chunks().empty());
  EXPECT_GE(usage("c1").disk_used, mib);
  EXPECT_EQ(usage("c1").disk_limit, 2 * mib);
  ASSERT_EQ(fill(sandbox_ + "/b", 2 * mib), 0);
  host_.advance(14s);
  EXPECT_TRUE(stream.chunks().empty()) << "not before it is looked at again";
  host_.advance(1s);
  ASSERT_EQ(stream.chunks().size(), 1u);
  const auto limited = stream.chunk<fb::isolator::Limited>(0);
  ASSERT_TRUE(limited);
  EXPECT_EQ(limited->reason, fb::Reason::REASON_CONTAINER_LIMITATION_DISK);
  EXPECT_EQ(limited->message, "Disk usage (" + show_bytes(usage("c1").disk_used) + ") exceeds quota (2MB)");
  ASSERT_EQ(limited->resources.size(), 1u);
  EXPECT_EQ(limited->resources[0]->scalar, 2);
  host_.advance(60s);
  EXPECT_EQ(stream.chunks().size(), 1u) << "once";
  ASSERT_TRUE(cleanup("c1"));
  EXPECT_TRUE(stream.done());
  EXPECT_TRUE(cleanup("c1"));
}

TEST_F(DiskTest, CountedOnlyIsCountedOnly) {
  start({{"enforce", false}});
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(1))));
  auto stream = watch("c1");
  ASSERT_EQ(fill(sandbox_ + "/a", 2 * mib), 0);
  host_.advance(15s);
  EXPECT_GE(usage("c1").disk_used, 2 * mib);
  EXPECT_TRUE(stream.chunks().empty());
  ASSERT_TRUE(module_.configure({{"enforce", true}}, true));
  host_.advance(15s);
  EXPECT_EQ(stream.chunks().size(), 1u) << "from now on it is enforced";
}

TEST_F(DiskTest, VolumesCountForThemselves) {
  start();
  const std::string data = top_ + "/volumes/roles/web/data";
  ASSERT_EQ(std::system(("mkdir -p " + data).c_str()), 0);
  ASSERT_EQ(::symlink(data.c_str(), (sandbox_ + "/var").c_str()), 0);
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(2), volume(4, "data", "var"))));
  auto stream = watch("c1");
  ASSERT_EQ(fill(data + "/a", 3 * mib), 0);
  host_.advance(15s);
  EXPECT_TRUE(stream.chunks().empty());
  EXPECT_LT(usage("c1").disk_used, mib);
  ASSERT_EQ(fill(data + "/b", 2 * mib), 0);
  host_.advance(15s);
  ASSERT_EQ(stream.chunks().size(), 1u);
  const auto limited = stream.chunk<fb::isolator::Limited>(0);
  EXPECT_NE(limited->message.find("exceeds quota (4MB)"), std::string::npos) << limited->message;
  ASSERT_EQ(limited->resources.size(), 1u);
  EXPECT_TRUE(limited->resources[0]->disk) << "the volume's, not the sandbox's";
}

TEST_F(DiskTest, ALinkThatIsNoVolumeIsNotBelieved) {
  start();
  ASSERT_EQ(::mkdir((top_ + "/elsewhere").c_str(), 0755), 0);
  ASSERT_EQ(fill(top_ + "/elsewhere/big", 4 * mib), 0);
  ASSERT_EQ(::symlink((top_ + "/elsewhere").c_str(), (sandbox_ + "/var").c_str()), 0);
  ASSERT_TRUE(prepare("c1", sandbox_, all(volume(1, "data", "var"))));
  auto stream = watch("c1");
  host_.advance(15s);
  EXPECT_TRUE(stream.chunks().empty());
}

TEST_F(DiskTest, AWholeDiskIsItsOwnLimit) {
  start();
  const std::string data = top_ + "/volumes/roles/web/whole";
  ASSERT_EQ(std::system(("mkdir -p " + data).c_str()), 0);
  ASSERT_EQ(::symlink(data.c_str(), (sandbox_ + "/var").c_str()), 0);
  ASSERT_TRUE(prepare("c1", sandbox_, all(volume(1, "whole", "var", fb::DiskSourceType::MOUNT))));
  auto stream = watch("c1");
  ASSERT_EQ(fill(data + "/a", 2 * mib), 0);
  host_.advance(15s);
  EXPECT_TRUE(stream.chunks().empty());
}

TEST_F(DiskTest, UpdateMovesTheLimit) {
  start();
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(1))));
  auto stream = watch("c1");
  ASSERT_EQ(fill(sandbox_ + "/a", 2 * mib), 0);
  fb::isolator::UpdateT u;
  u.container_id = "c1";
  u.resources = all(disk(8));
  ASSERT_TRUE(module_.call(Method::UPDATE, u));
  host_.advance(15s);
  EXPECT_TRUE(stream.chunks().empty());
  EXPECT_EQ(usage("c1").disk_limit, 8 * mib);
  u.container_id = "unknown";
  const Status unknown = module_.call(Method::UPDATE, u);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Code::not_found);
}

TEST_F(DiskTest, ABreachBeforeAnybodyWatchesIsToldLater) {
  start();
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(1))));
  ASSERT_EQ(fill(sandbox_ + "/a", 2 * mib), 0);
  host_.advance(15s);
  auto stream = watch("c1");
  EXPECT_EQ(stream.chunks().size(), 1u);
}

TEST_F(DiskTest, RecoveredContainersAreLookedAfter) {
  start();
  fb::isolator::RecoverT r;
  r.containers.push_back(std::make_unique<fb::isolator::KnownT>());
  r.containers[0]->container_id = "c1";
  r.containers[0]->sandbox = sandbox_;
  r.containers[0]->task = std::make_unique<fb::TaskInfoT>();
  r.containers[0]->task->resources = all(disk(1));
  const auto recovered = module_.call<fb::isolator::Recovered>(GANTRY_METHOD_RECOVER, r);
  ASSERT_TRUE(recovered);
  EXPECT_TRUE(recovered->orphans.empty());
  auto stream = watch("c1");
  ASSERT_EQ(fill(sandbox_ + "/a", 2 * mib), 0);
  host_.advance(15s);
  EXPECT_EQ(stream.chunks().size(), 1u);
}

TEST_F(DiskTest, ManyContainersTakeTurns) {
  start({{"parallel", 1}});
  for (int i = 0; i < 20; ++i) {
    const std::string sandbox = sandbox_ + "/" + std::to_string(i);
    ASSERT_EQ(::mkdir(sandbox.c_str(), 0755), 0);
    ASSERT_EQ(fill(sandbox + "/a", 4096), 0);
    ASSERT_TRUE(prepare("c" + std::to_string(i), sandbox, all(disk(1))));
  }
  ASSERT_TRUE(cleanup("c7"));
  host_.advance(15s);
  for (int i = 0; i < 20; ++i) {
    if (i == 7) continue;
    EXPECT_GT(usage("c" + std::to_string(i)).disk_used, 0u) << i;
  }
}

TEST_F(DiskTest, QuotasThatAreWantedAndNotThereAreNamed) {
  start({{"method", "quota"}});
  if (const auto q = quotas_at(sandbox_); q && *q != Quotas::none) GTEST_SKIP() << "/tmp has project quotas";
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(1)))) << "counted all the same";
  const auto health = module_.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer());
  ASSERT_TRUE(health);
  EXPECT_EQ(health->state, fb::HealthState::DEGRADED);
  EXPECT_NE(health->message.find("has no project quotas"), std::string::npos);
}

TEST_F(DiskTest, MistakesInTheSettingsAreNamed) {
  module_.work_dir(top_);
  const Status s = module_.configure({{"first_project", 6000}, {"last_project", 5999}});
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().key_path, "first_project");
}

TEST_F(DiskTest, NamesThatAreNoNamesAreRefused) {
  start();
  for (const char* bad : {"", "..", "a/b"}) EXPECT_FALSE(prepare(bad, sandbox_, {})) << bad;
}

// ---- project quotas, on each file system that is named

class QuotaTest : public DiskTest, public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    const char* dirs = std::getenv("GANTRY_QUOTA_DIRS");
    std::string all = dirs ? dirs : "", mount;
    while (!all.empty()) {
      const std::string one = all.substr(0, all.find(':'));
      all.erase(0, one.size() + 1);
      if (one.size() >= GetParam().size() && one.compare(one.size() - GetParam().size(), GetParam().size(), GetParam()) == 0) mount = one;
    }
    if (mount.empty()) GTEST_SKIP() << "no file system " << GetParam() << " with project quotas is named by GANTRY_QUOTA_DIRS";
    top_ = mount + "/test";
    sandbox_ = top_ + "/sandbox";
    (void)!std::system(("rm -rf " + top_).c_str());
    ASSERT_EQ(std::system(("mkdir -p " + sandbox_ + " && chmod 777 " + sandbox_).c_str()), 0);
    const auto has = quotas_at(sandbox_);
    ASSERT_TRUE(has) << has.error().message;
    ASSERT_EQ(*has, Quotas::enforced);
  }
  // As a task without rights does it: on ext4 root is above quotas.
  static int fill_as_user(const std::string& path, std::uint64_t bytes) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(::setgid(65534) != 0 || ::setuid(65534) != 0 ? 255 : fill(path, bytes));
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
};

TEST_P(QuotaTest, WritingBeyondTheQuotaFails) {
  start({{"method", "quota"}});
  ASSERT_EQ(fill(sandbox_ + "/before", mib), 0);  // an artifact that was fetched already
  ASSERT_EQ(
      std::system(("mkdir -m 777 -p " + sandbox_ + "/dir && mkfifo " + sandbox_ + "/pipe && ln -s before " + sandbox_ + "/link").c_str()),
      0);
  const Status prepared = prepare("c1", sandbox_, all(disk(8)));
  ASSERT_TRUE(prepared) << prepared.error().message;
  auto stream = watch("c1");
  EXPECT_EQ(project_of(sandbox_ + "/dir").value_or(0), 5000u);
  EXPECT_EQ(fill_as_user(sandbox_ + "/dir/a", 4 * mib), 0);
  const int e = fill_as_user(sandbox_ + "/dir/b", 8 * mib);
  EXPECT_TRUE(e == EDQUOT || e == ENOSPC) << e;  // xfs says the latter
  host_.advance(15s);
  EXPECT_GE(usage("c1").disk_used, 5 * mib);
  EXPECT_LE(usage("c1").disk_used, 8 * mib);
  EXPECT_TRUE(stream.chunks().empty()) << "denied, not killed";
  // The limit grows.
  fb::isolator::UpdateT u;
  u.container_id = "c1";
  u.resources = all(disk(32));
  ASSERT_TRUE(module_.call(Method::UPDATE, u));
  EXPECT_EQ(fill_as_user(sandbox_ + "/dir/c", 8 * mib), 0);
  ASSERT_TRUE(cleanup("c1"));
  EXPECT_EQ(fill_as_user(sandbox_ + "/dir/d", 32 * mib), 0) << "without a limit once the container is over";
}

TEST_P(QuotaTest, ABreachKillsIfThatIsWanted) {
  start({{"method", "quota"}, {"on_quota", "kill"}});
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(4))));
  auto stream = watch("c1");
  ASSERT_EQ(fill(sandbox_ + "/a", 6 * mib), 0) << "there is room to be caught in";
  host_.advance(15s);
  ASSERT_EQ(stream.chunks().size(), 1u);
  EXPECT_NE(stream.chunk<fb::isolator::Limited>(0)->message.find("exceeds quota (4MB)"), std::string::npos);
  const int e = fill_as_user(sandbox_ + "/b", 32 * mib);
  EXPECT_TRUE(e == EDQUOT || e == ENOSPC) << e;
  ASSERT_TRUE(cleanup("c1"));
}

TEST_P(QuotaTest, WhoIsAboveQuotasIsStoppedAllTheSame) {
  start({{"method", "quota"}});
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(4))));
  auto stream = watch("c1");
  const int e = fill(sandbox_ + "/a", 24 * mib);
  host_.advance(15s);
  EXPECT_TRUE(e == EDQUOT || e == ENOSPC || stream.chunks().size() == 1) << "neither denied nor killed";
  ASSERT_TRUE(cleanup("c1"));
}

TEST_P(QuotaTest, ANumberIsTakenUntilItsSandboxIsDeleted) {
  start({{"method", "quota"}, {"last_project", 5001}});
  const std::string a = sandbox_ + "-a", b = sandbox_ + "-b", c = sandbox_ + "-c";
  for (const auto& s : {a, b, c}) ASSERT_EQ(::mkdir(s.c_str(), 0755), 0);
  ASSERT_TRUE(prepare("a", a, all(disk(4))));
  ASSERT_TRUE(prepare("b", b, all(disk(4))));
  EXPECT_NE(*project_of(a), *project_of(b));
  const std::uint32_t freed = *project_of(a);
  ASSERT_TRUE(cleanup("a"));
  const Status full = prepare("c", c, all(disk(4)));
  ASSERT_FALSE(full) << "the old sandbox still has the number";
  EXPECT_EQ(full.error().code, Code::resource_exhausted);
  ASSERT_TRUE(cleanup("c"));
  ASSERT_EQ(::rmdir(a.c_str()), 0);
  for (int i = 0; i < 500 && project_use(b, freed)->files != 0; ++i) ::usleep(10'000);  // xfs forgets a little later
  ASSERT_TRUE(prepare("c", c, all(disk(4))));
  EXPECT_EQ(*project_of(c), freed);
  ASSERT_TRUE(cleanup("b"));
  ASSERT_TRUE(cleanup("c"));
}

TEST_P(QuotaTest, ALaterLifeOfTheAgentFindsTheNumber) {
  start({{"method", "quota"}});
  ASSERT_TRUE(prepare("c1", sandbox_, all(disk(4))));
  ASSERT_EQ(fill(sandbox_ + "/a", 2 * mib), 0);
  ASSERT_TRUE(module_.stop());
  started_ = false;
  testing::Subject<Disk> again(host_, "disk");
  again.defaults({{"enforce", true},
                  {"method", "quota"},
                  {"on_quota", "deny"},
                  {"interval", 15s},
                  {"parallel", 2},
                  {"first_project", 5000},
                  {"last_project", 10000}});
  again.work_dir(top_);
  ASSERT_TRUE(again.configure());
  ASSERT_TRUE(again.start());
  fb::isolator::RecoverT r;
  r.containers.push_back(std::make_unique<fb::isolator::KnownT>());
  r.containers[0]->container_id = "c1";
  r.containers[0]->sandbox = sandbox_;
  r.containers[0]->task = std::make_unique<fb::TaskInfoT>();
  r.containers[0]->task->resources = all(disk(6));
  ASSERT_TRUE(again.call<fb::isolator::Recovered>(GANTRY_METHOD_RECOVER, r));
  const auto use = project_use(sandbox_, *project_of(sandbox_));
  ASSERT_TRUE(use);
  EXPECT_EQ(use->limit, 6 * mib) << "as its task says now";
  // Its number is not given again.
  const std::string other = sandbox_ + "-other";
  ASSERT_EQ(::mkdir(other.c_str(), 0755), 0);
  fb::isolator::PrepareT p;
  p.container_id = "c2";
  p.sandbox = other;
  ASSERT_TRUE(again.call<fb::isolator::Prepared>(Method::PREPARE, p));
  EXPECT_NE(*project_of(other), *project_of(sandbox_));
  EXPECT_NE(*project_of(other), 0u);
  ASSERT_TRUE(again.stop());
}

INSTANTIATE_TEST_SUITE_P(FileSystems, QuotaTest, ::testing::Values("xfs", "ext4"), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace gantry::isolator_disk
