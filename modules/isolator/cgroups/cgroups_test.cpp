// Pure parts, a fake tree, and real cgroups where the machine allows it (v1 or v2, whichever is mounted).
#include "cgroups.hpp"

#include <gantry/testing/host.hpp>
#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <ctime>
#include <fstream>
#include <limits>

#include <sys/stat.h>

namespace gantry::isolator_cgroups {
namespace {

using namespace std::chrono_literals;
using fb::isolator::Method;

std::unique_ptr<fb::ResourceT> scalar(const char* name, double value) {
  auto r = std::make_unique<fb::ResourceT>();
  r->name = name;
  r->scalar = value;
  return r;
}

std::unique_ptr<fb::TaskInfoT> task(double cpus, double mem, std::optional<double> cpu_limit = {}, std::optional<double> mem_limit = {}) {
  auto t = std::make_unique<fb::TaskInfoT>();
  if (cpus > 0) t->resources.push_back(scalar("cpus", cpus));
  if (mem > 0) t->resources.push_back(scalar("mem", mem));
  const auto limit = [&](const char* key, double v) {
    auto e = std::make_unique<fb::ScalarEntryT>();
    e->key = key;
    e->value = v;
    t->limits.push_back(std::move(e));
  };
  if (cpu_limit) limit("cpus", *cpu_limit);
  if (mem_limit) limit("mem", *mem_limit);
  return t;
}

Limits limits(const std::unique_ptr<fb::TaskInfoT>& t, bool quota = true) { return limits_of(t->resources, t->limits, quota); }

constexpr double infinity = std::numeric_limits<double>::infinity();

TEST(Limits, FollowRequestsAndLimits) {
  const Limits l = limits(task(0.5, 64));
  EXPECT_EQ(l.cpu_shares, 512u);
  EXPECT_EQ(l.cpu_quota_us, 50'000);
  EXPECT_EQ(l.memory_soft, 64u << 20);
  EXPECT_EQ(l.memory_hard, 64u << 20);
}

TEST(Limits, SharesAndMemoryHaveFloors) {
  const Limits l = limits(task(0.0001, 4));
  EXPECT_EQ(l.cpu_shares, 2u);
  EXPECT_EQ(l.cpu_quota_us, 1000);
  EXPECT_EQ(l.memory_hard, 32u << 20);
}

TEST(Limits, WithoutQuotaOnlyALimitIsOne) {
  EXPECT_FALSE(limits(task(1, 64), false).cpu_quota_us);
  EXPECT_EQ(limits(task(1, 64, 1.5), false).cpu_quota_us, 150'000);
}

TEST(Limits, InfiniteMeansNone) {
  const Limits l = limits(task(1, 64, infinity, infinity));
  EXPECT_FALSE(l.cpu_quota_us);
  EXPECT_EQ(l.memory_hard, 0u);
  EXPECT_EQ(l.memory_soft, 64u << 20);
}

TEST(Limits, AboveTheRequest) {
  const Limits l = limits(task(1, 64, 2, 128));
  EXPECT_EQ(l.cpu_shares, 1024u);
  EXPECT_EQ(l.cpu_quota_us, 200'000);
  EXPECT_EQ(l.memory_soft, 64u << 20);
  EXPECT_EQ(l.memory_hard, 128u << 20);
}

TEST(Mounts, HybridIsV1) {
  const auto m = parse_mounts(
      "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
      "34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
  EXPECT_EQ(m.version, 1);
  EXPECT_EQ(m.v1.at("cpu"), "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(m.v1.at("cpuacct"), "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(m.v1.at("memory"), "/sys/fs/cgroup/memory");
}

TEST(Mounts, UnifiedIsV2AndBlanksAreUnescaped) {
  const auto m = parse_mounts("41 31 0:38 / /sys/fs/my\\040cgroup rw,relatime - cgroup2 cgroup2 rw\n");
  EXPECT_EQ(m.version, 2);
  EXPECT_EQ(m.v2, "/sys/fs/my cgroup");
}

TEST(Mounts, NothingUsable) {
  EXPECT_EQ(parse_mounts("").version, 0);
  EXPECT_EQ(parse_mounts("garbage\n - \n1 2 - cgroup\n").version, 0);
  EXPECT_EQ(parse_mounts("34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n").version, 0);
}

TEST(Files, KeyedNumber) {
  EXPECT_EQ(keyed_number("oom 4\noom_kill 3\n", "oom_kill"), 3u);
  EXPECT_EQ(keyed_number("oom 4\noom_kill 3\n", "oom"), 4u);
  EXPECT_EQ(keyed_number("oom_kill\n", "oom_kill"), 0u);
}

// ---- a tree of plain files

class FakeTree : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-cgroups-XXXXXX";
    top_ = ::mkdtemp(name);
    dirs("/proc/self");
  }
  void TearDown() override { (void)!std::system(("rm -rf " + top_).c_str()); }
  void dirs(const std::string& path) { ASSERT_EQ(std::system(("mkdir -p " + top_ + path).c_str()), 0); }
  void put(const std::string& path, const std::string& text) { std::ofstream(top_ + path) << text; }
  std::string get(const std::string& path) { return read_file(top_ + path).value_or("<absent>"); }
  std::string top_;
};

TEST_F(FakeTree, V2WritesWeightAndMaxima) {
  dirs("/cg/gantry/t/c1");
  put("/proc/self/mountinfo", "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n");
  put("/cg/cgroup.controllers", "cpuset cpu io memory pids\n");
  for (const char* f : {"/cg/cgroup.subtree_control", "/cg/gantry/cgroup.subtree_control", "/cg/gantry/t/cgroup.subtree_control"}) put(f, "");
  for (const char* f : {"cpu.weight", "cpu.max", "memory.low", "memory.max", "memory.swap.max"}) put(std::string("/cg/gantry/t/c1/") + f, "");
  auto h = discover(top_, "gantry/t");
  ASSERT_TRUE(h) << h.error().message;
  EXPECT_EQ((*h)->version(), 2);
  ASSERT_TRUE((*h)->open());
  EXPECT_EQ(get("/cg/gantry/t/cgroup.subtree_control"), "+cpu +memory");
  EXPECT_EQ(get("/cg/cgroup.subtree_control"), "+cpu +memory");
  ASSERT_TRUE((*h)->create("c1", limits(task(1, 64, {}, 128))));
  EXPECT_EQ(get("/cg/gantry/t/c1/cpu.weight"), "39");
  EXPECT_EQ(get("/cg/gantry/t/c1/cpu.max"), "100000 100000");
  EXPECT_EQ(get("/cg/gantry/t/c1/memory.low"), std::to_string(64 << 20));
  EXPECT_EQ(get("/cg/gantry/t/c1/memory.max"), std::to_string(128 << 20));
  EXPECT_EQ((*h)->enter_files("c1"), std::vector<std::string>{top_ + "/cg/gantry/t/c1/cgroup.procs"});
  EXPECT_EQ((*h)->list(), std::vector<std::string>{"c1"});
}

TEST_F(FakeTree, V2WithoutControllersIsRefused) {
  dirs("/cg");
  put("/proc/self/mountinfo", "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n");
  put("/cg/cgroup.controllers", "hugetlb cpuset\n");
  auto h = discover(top_, "gantry/t");
  ASSERT_TRUE(h);
  const Status s = (*h)->open();
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().message.find("does not have the controller cpu"), std::string::npos) << s.error().message;
}

TEST_F(FakeTree, V1WritesSharesQuotaAndLimit) {
  dirs("/cpu/gantry/t/c1");
  dirs("/memory/gantry/t/c1");
  put("/proc/self/mountinfo", "1 0 0:1 / /cpu rw - cgroup cgroup rw,cpu,cpuacct\n2 0 0:2 / /memory rw - cgroup cgroup rw,memory\n");
  for (const char* d : {"/cpu/gantry/t", "/memory/gantry/t"}) put(std::string(d) + "/cgroup.procs", "");
  for (const char* f : {"/cpu/gantry/t/c1/cpu.shares", "/cpu/gantry/t/c1/cpu.cfs_quota_us", "/memory/gantry/t/c1/memory.limit_in_bytes"}) put(f, "");
  auto h = discover(top_, "gantry/t");
  ASSERT_TRUE(h);
  ASSERT_TRUE((*h)->open());
  ASSERT_TRUE((*h)->create("c1", limits(task(0.5, 64))));
  EXPECT_EQ(get("/cpu/gantry/t/c1/cpu.shares"), "512");
  EXPECT_EQ(get("/cpu/gantry/t/c1/cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(get("/memory/gantry/t/c1/memory.limit_in_bytes"), std::to_string(64 << 20));
  EXPECT_EQ((*h)->enter_files("c1").size(), 2u) << "cpu and cpuacct share a mount";
}

// ---- the module

class ModuleTest : public FakeTree {
 protected:
  ModuleTest() : module_(host_, "cgroups") { module_.defaults({{"root", "gantry-test"}, {"cpu_quota", true}, {"filesystem_root", "/"}}); }
  void SetUp() override {
    FakeTree::SetUp();
    module_.work_dir(top_);
  }
  fb::isolator::PrepareT prepare(const std::string& id, std::unique_ptr<fb::TaskInfoT> t) {
    fb::isolator::PrepareT p;
    p.container_id = id;
    p.task = std::move(t);
    return p;
  }
  Status cleanup(const std::string& id) {
    fb::isolator::CleanupT c;
    c.container_id = id;
    auto p = module_.open(Method::CLEANUP, c);
    for (int i = 0; i < 2000 && !p.done(); ++i) {
      ::usleep(1000);
      host_.advance(1ms);
    }
    return p.result();
  }
  fb::isolator::WatchT watch(const std::string& id) {
    fb::isolator::WatchT w;
    w.container_id = id;
    return w;
  }
  testing::Host host_;
  testing::Subject<Cgroups> module_;
};
using Degraded = ModuleTest;

TEST_F(Degraded, SaysSoOnceAndPreparesNothing) {
  put("/proc/self/mountinfo", "");
  ASSERT_TRUE(module_.configure({{"filesystem_root", top_}}));
  ASSERT_TRUE(module_.start());
  const auto p = module_.call<fb::isolator::Prepared>(Method::PREPARE, prepare("c1", task(1, 64)));
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_TRUE(p->enter_files.empty());
  EXPECT_TRUE(p->no_attach);
  ASSERT_TRUE(module_.call<fb::isolator::Prepared>(Method::PREPARE, prepare("c2", task(1, 64))));
  EXPECT_FALSE(host_.logged("no cgroup rights")) << "the kernel says it, once";
  const auto health = module_.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer());
  ASSERT_TRUE(health);
  EXPECT_EQ(health->state, fb::HealthState::DEGRADED);
  EXPECT_NE(health->message.find("no cgroup rights: limits are not enforced"), std::string::npos);
  EXPECT_TRUE(cleanup("c1"));
  EXPECT_TRUE(module_.call(Method::WATCH, watch("c1")));
  ASSERT_TRUE(module_.stop());
  EXPECT_EQ(host_.faults(), std::vector<std::string>{});
}

TEST_F(Degraded, RefusesAnAbsoluteRoot) { EXPECT_FALSE(module_.configure({{"root", "/x"}})); }

// Real cgroups: root and a mounted hierarchy with both controllers.
class RealCgroups : public ModuleTest {
 protected:
  void SetUp() override {
    ModuleTest::SetUp();
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_TRUE(module_.configure());
    ASSERT_TRUE(module_.start());
    if (module_.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer())->state != fb::HealthState::OK) {
      ASSERT_TRUE(module_.stop());
      GTEST_SKIP() << "no cgroup with cpu and memory can be made on this machine";
    }
    ready_ = true;
  }
  void TearDown() override {
    if (ready_) {
      EXPECT_TRUE(module_.stop());
      EXPECT_EQ(host_.faults(), std::vector<std::string>{});
    }
    ModuleTest::TearDown();
  }
  std::vector<std::string> enter(const std::string& id, std::unique_ptr<fb::TaskInfoT> t) {
    auto p = module_.call<fb::isolator::Prepared>(Method::PREPARE, prepare(id, std::move(t)));
    EXPECT_TRUE(p) << (p ? "" : p.error().message);
    return p ? p->enter_files : std::vector<std::string>{};
  }
  // A child in these cgroups that runs fn.
  static pid_t in(const std::vector<std::string>& files, const std::function<void()>& fn) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      for (const auto& f : files)
        if (!write_file(f, "0")) ::_exit(99);
      fn();
      ::_exit(0);
    }
    return pid;
  }
  static void eat(std::size_t mb) {
    for (std::size_t i = 0; i < mb; ++i) {
      void* p = ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
      if (p == MAP_FAILED) ::_exit(98);
    }
  }
  bool ready_ = false;
};

TEST_F(RealCgroups, OutOfMemoryIsReportedWithItsReason) {
  const auto files = enter("oom", task(1, 40));
  auto stream = module_.open(Method::WATCH, watch("oom"));
  const pid_t pid = in(files, [] { eat(100); });
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFSIGNALED(status)) << "status " << status;
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_TRUE(host_.run_until([&] { return !stream.chunks().empty(); }, 5s)) << "the event itself, before any cleanup";
  ASSERT_TRUE(cleanup("oom"));
  EXPECT_TRUE(stream.done());
  ASSERT_EQ(stream.chunks().size(), 1u);
  const auto limited = stream.chunk<fb::isolator::Limited>(0);
  ASSERT_TRUE(limited);
  EXPECT_EQ(limited->reason, fb::Reason::REASON_CONTAINER_LIMITATION_MEMORY);
  EXPECT_EQ(limited->message.find("Memory limit exceeded: Requested: 40 MB, maximum used: 40 MB"), 0u) << limited->message;
}

TEST_F(RealCgroups, OutOfMemoryIsKnownWhenCleanupEndsEvenUnwatched) {
  const auto files = enter("late", task(1, 40));
  const pid_t pid = in(files, [] { eat(100); });
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
  auto stream = module_.enqueue(Method::WATCH, watch("late"));
  ASSERT_TRUE(cleanup("late"));
  EXPECT_EQ(stream.chunks().size(), 1u);
  EXPECT_TRUE(stream.done());
}

TEST_F(RealCgroups, NoLimitationWithoutCause) {
  const auto files = enter("calm", task(1, 64));
  auto stream = module_.open(Method::WATCH, watch("calm"));
  const pid_t pid = in(files, [] { eat(8); });
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  ASSERT_TRUE(cleanup("calm"));
  EXPECT_TRUE(stream.chunks().empty());
  EXPECT_TRUE(stream.done());
}

TEST_F(RealCgroups, QuotaHoldsABusyLoop) {
  const auto files = enter("busy", task(0.2, 64));
  const pid_t pid = in(files, [] {
    for (;;) (void)::getppid();
  });
  fb::isolator::UsageRequestT request;
  request.container_ids = {"busy"};
  auto usage = module_.call<fb::isolator::Usages>(Method::USAGE, request);
  // Until the quota has bitten; on a machine whose cores others want that takes a while.
  const auto begin = std::chrono::steady_clock::now();
  std::chrono::duration<double> lasted{0};
  do {
    ::usleep(100'000);
    usage = module_.call<fb::isolator::Usages>(Method::USAGE, request);
    lasted = std::chrono::steady_clock::now() - begin;
  } while (usage && usage->usages.size() == 1 && (usage->usages[0]->cpu_throttled <= 2 || lasted.count() < 1) && lasted.count() < 30);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  ASSERT_TRUE(usage);
  ASSERT_EQ(usage->usages.size(), 1u);
  const auto& u = *usage->usages[0];
  EXPECT_LT(static_cast<double>(u.cpu_user_ns + u.cpu_system_ns) / 1e9, 0.2 * lasted.count() + 0.15);
  EXPECT_GT(u.cpu_throttled, 2u);
  EXPECT_NEAR(u.cpu_limit, 0.2, 0.001);
  EXPECT_EQ(u.memory_limit, 64u << 20);
  EXPECT_EQ(u.processes, 1u);
  EXPECT_TRUE(cleanup("busy"));
}

TEST_F(RealCgroups, UpdateChangesTheLimits) {
  enter("grow", task(1, 64));
  fb::isolator::UpdateT update;
  update.container_id = "grow";
  update.resources.push_back(scalar("mem", 128));
  update.resources.push_back(scalar("cpus", 2));
  ASSERT_TRUE(module_.call(Method::UPDATE, update));
  fb::isolator::UsageRequestT request;
  request.container_ids = {"grow"};
  const auto usage = module_.call<fb::isolator::Usages>(Method::USAGE, request);
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage->usages.at(0)->memory_limit, 128u << 20);
  EXPECT_NEAR(usage->usages.at(0)->cpu_limit, 2, 0.001);
  EXPECT_TRUE(cleanup("grow"));
}

TEST_F(RealCgroups, CleanupKillsWhatIsLeftAndIsIdempotent) {
  const auto files = enter("left", task(1, 64));
  const pid_t pid = in(files, [] { ::pause(); });
  ::usleep(20'000);
  std::thread reaper([pid] { ::waitpid(pid, nullptr, 0); });
  EXPECT_TRUE(cleanup("left"));
  reaper.join();
  EXPECT_TRUE(cleanup("left"));
  EXPECT_TRUE(cleanup("never-heard-of"));
}

TEST_F(RealCgroups, RecoverTellsOrphansAndMissedOutOfMemory) {
  const auto files = enter("known", task(1, 40));
  enter("orphan", task(1, 40));
  const pid_t pid = in(files, [] { eat(100); });
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
  // The agent comes back: a second instance on the same work directory.
  testing::Subject<Cgroups> again(host_, "cgroups");
  again.defaults({{"root", "gantry-test"}, {"cpu_quota", true}, {"filesystem_root", "/"}});
  again.work_dir(top_);
  ASSERT_TRUE(again.configure());
  fb::isolator::RecoverT recover;
  auto k = std::make_unique<fb::isolator::KnownT>();
  k->container_id = "known";
  recover.containers.push_back(std::move(k));
  const auto recovered = again.call<fb::isolator::Recovered>(GANTRY_METHOD_RECOVER, recover);
  ASSERT_TRUE(recovered);
  EXPECT_EQ(recovered->orphans, std::vector<std::string>{"orphan"});
  ASSERT_TRUE(again.start());
  auto stream = again.open(Method::WATCH, watch("known"));
  EXPECT_EQ(stream.chunks().size(), 1u) << "it ran out of memory while nobody looked";
  ASSERT_TRUE(again.stop());
  EXPECT_TRUE(cleanup("known"));
  EXPECT_TRUE(cleanup("orphan"));
}

TEST_F(RealCgroups, NamesThatAreNoNamesAreRefused) {
  for (const char* bad : {"", "..", "a/b", ".hidden"})
    EXPECT_FALSE(module_.call<fb::isolator::Prepared>(Method::PREPARE, prepare(bad, task(1, 64)))) << bad;
}

}  // namespace
}  // namespace gantry::isolator_cgroups
