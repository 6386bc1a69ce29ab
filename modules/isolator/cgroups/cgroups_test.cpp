// Pure parts, a fake tree, and real cgroups where the machine allows it (v1 or v2, whichever is mounted).
#include "cgroups.hpp"

#include <gtest/gtest.h>
#include <gantry/testing/host.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
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

TEST(Limits, RevocableCpusWeighNextToNothing) {
  auto t = task(0.5, 64);
  t->resources.push_back(scalar("cpus", 2));
  t->resources.back()->revocable = true;
  const Limits l = limits(t);
  EXPECT_EQ(l.cpu_shares, 512u + 20u);
  EXPECT_EQ(l.cpu_quota_us, 250'000) << "what is given may be used while it is there";
}

TEST(Settings, SizesHaveUnits) {
  EXPECT_EQ(parse_bytes("1048576").value_or(0), 1u << 20);
  EXPECT_EQ(parse_bytes("64MiB").value_or(0), 64u << 20);
  EXPECT_EQ(parse_bytes("0").value_or(1), 0u);
  for (const char* bad : {"", "MiB", "1 MiB", "-1", "1.5GiB", "1MB", "18446744073709551615TiB", "99999999999999999999"})
    EXPECT_FALSE(parse_bytes(bad)) << bad;
}

TEST(Settings, IoMax) {
  const auto max = parse_io_max("8:16 rbps=1MiB wbps=max riops=100");
  ASSERT_TRUE(max) << max.error().message;
  EXPECT_EQ(max->major, 8);
  EXPECT_EQ(max->minor, 16);
  EXPECT_EQ(max->read_bytes, 1u << 20);
  EXPECT_FALSE(max->write_bytes);
  EXPECT_EQ(max->reads, 100u);
  EXPECT_FALSE(max->writes);
  for (const char* bad : {"", "8:0", "8 rbps=1", "8:x rbps=1", "-1:0 rbps=1", "8:0 speed=1", "8:0 rbps", "8:0 rbps=fast", "8:0 wiops=0",
                          "/dev/null rbps=1", "/nonexistent rbps=1"})
    EXPECT_FALSE(parse_io_max(bad)) << bad;
}

TEST(Settings, HugePages) {
  const auto size = parse_hugetlb("2MB=64MiB");
  ASSERT_TRUE(size);
  EXPECT_EQ(*size, std::pair(std::string("2MB"), std::uint64_t{64} << 20));
  for (const char* bad : {"", "2MB", "MB=1", "2=1", "2MiB=1", "../x=1", "2MB=lots"}) EXPECT_FALSE(parse_hugetlb(bad)) << bad;
}

TEST(Settings, CpuLists) {
  for (const char* good : {"", "0", "0-3", "0-3,8", "1,2,3"}) EXPECT_TRUE(check_cpu_list(good)) << good;
  for (const char* bad : {"a", "0-", "-3", "3-1", "0,", ",0", "0 1", "0-1-2"}) EXPECT_FALSE(check_cpu_list(bad)) << bad;
}

TEST(Settings, Devices) {
  EXPECT_EQ(parse_device("c 10:229 rwm").value_or(DeviceRule{}), (DeviceRule{'c', 10, 229, "rwm"}));
  EXPECT_EQ(parse_device("b 8:* r").value_or(DeviceRule{}), (DeviceRule{'b', 8, -1, "r"}));
  EXPECT_EQ(parse_device("/dev/null rw").value_or(DeviceRule{}), (DeviceRule{'c', 1, 3, "rw"}));
  EXPECT_EQ((DeviceRule{'b', 8, -1, "r"}).text(), "b 8:* r");
  for (const char* bad : {"", "c 1:3", "c 1:3 x", "x 1:3 r", "c 1 r", "c 1:3 rwmr", "c -1:3 r", "/nonexistent r", "/tmp rw", "c 1:3x r"})
    EXPECT_FALSE(parse_device(bad)) << bad;
}

TEST(Settings, FourteenDevicesAreEverybodys) {
  EXPECT_EQ(default_devices().size(), 14u);
  for (const char* wanted : {"c 1:3 rwm", "c 1:8 rwm", "c 136:* rwm", "c *:* m"})
    EXPECT_EQ(std::count_if(default_devices().begin(), default_devices().end(), [&](const auto& d) { return d.text() == wanted; }), 1)
        << wanted;
}

TEST(Mounts, OwnCgroups) {
  const auto own = parse_own("5:cpu,cpuacct:/a\n4:memory:/b/c\n1:name=systemd:/\n0::/system.slice/x.service\ngarbage\n");
  EXPECT_EQ(own.at("cpu"), "/a");
  EXPECT_EQ(own.at("cpuacct"), "/a");
  EXPECT_EQ(own.at("memory"), "/b/c");
  EXPECT_EQ(own.at(""), "/system.slice/x.service");
  EXPECT_EQ(own.at("name=systemd"), "");
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

const testing::Values defaults{{"root", "gantry-test"},
                               {"parent", "top"},
                               {"cpu_quota", true},
                               {"swap_limit", true},
                               {"swap", 0},
                               {"pids", 0},
                               {"cpuset", ""},
                               {"cpuset_mems", ""},
                               {"io_weight", 0},
                               {"io_max", std::vector<std::string>{}},
                               {"hugetlb", std::map<std::string, std::string>{}},
                               {"devices", true},
                               {"devices_allow", std::vector<std::string>{}},
                               {"filesystem_root", "/"}};
Policy no_devices() {
  Policy p;
  p.devices = false;
  return p;
}

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
  for (const char* f : {"/cg/cgroup.subtree_control", "/cg/gantry/cgroup.subtree_control", "/cg/gantry/t/cgroup.subtree_control"})
    put(f, "");
  for (const char* f : {"cpu.weight", "cpu.max", "memory.low", "memory.max", "memory.swap.max"})
    put(std::string("/cg/gantry/t/c1/") + f, "");
  auto h = discover(top_, "gantry/t", no_devices());
  ASSERT_TRUE(h) << h.error().message;
  EXPECT_EQ((*h)->version(), 2);
  ASSERT_TRUE((*h)->open());
  EXPECT_EQ(get("/cg/gantry/t/cgroup.subtree_control"), "+cpu +io +memory +pids");
  EXPECT_EQ(get("/cg/cgroup.subtree_control"), "+cpu +io +memory +pids");
  ASSERT_TRUE((*h)->create("c1", limits(task(1, 64, {}, 128))));
  EXPECT_EQ(get("/cg/gantry/t/c1/cpu.weight"), "39");
  EXPECT_EQ(get("/cg/gantry/t/c1/cpu.max"), "100000 100000");
  EXPECT_EQ(get("/cg/gantry/t/c1/memory.low"), std::to_string(64 << 20));
  EXPECT_EQ(get("/cg/gantry/t/c1/memory.max"), std::to_string(128 << 20));
  EXPECT_EQ(get("/cg/gantry/t/c1/memory.swap.max"), "0");
  EXPECT_EQ((*h)->enter_files("c1"), std::vector<std::string>{top_ + "/cg/gantry/t/c1/cgroup.procs"});
  EXPECT_EQ((*h)->list(), std::vector<std::string>{"c1"});
}

TEST_F(FakeTree, V2WithoutControllersIsRefused) {
  dirs("/cg");
  put("/proc/self/mountinfo", "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n");
  put("/cg/cgroup.controllers", "hugetlb cpuset\n");
  auto h = discover(top_, "gantry/t", no_devices());
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
  for (const char* f : {"/cpu/gantry/t/c1/cpu.shares", "/cpu/gantry/t/c1/cpu.cfs_quota_us", "/memory/gantry/t/c1/memory.limit_in_bytes"})
    put(f, "");
  auto h = discover(top_, "gantry/t", no_devices());
  ASSERT_TRUE(h);
  ASSERT_TRUE((*h)->open());
  ASSERT_TRUE((*h)->create("c1", limits(task(0.5, 64))));
  EXPECT_EQ(get("/cpu/gantry/t/c1/cpu.shares"), "512");
  EXPECT_EQ(get("/cpu/gantry/t/c1/cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(get("/memory/gantry/t/c1/memory.limit_in_bytes"), std::to_string(64 << 20));
  EXPECT_EQ((*h)->enter_files("c1").size(), 2u) << "cpu and cpuacct share a mount";
}

TEST_F(FakeTree, V2WritesWhatThePolicySays) {
  dirs("/cg/gantry/t/c1");
  put("/proc/self/mountinfo", "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n");
  put("/cg/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
  for (const char* f : {"/cg/cgroup.subtree_control", "/cg/gantry/cgroup.subtree_control", "/cg/gantry/t/cgroup.subtree_control",
                        "/cg/gantry/t/cpuset.cpus", "/cg/gantry/t/io.weight", "/cg/gantry/t/hugetlb.2MB.max"})
    put(f, "");
  for (const char* f :
       {"cpu.weight", "cpu.max", "memory.low", "memory.max", "memory.swap.max", "pids.max", "io.weight", "io.max", "hugetlb.2MB.max"})
    put(std::string("/cg/gantry/t/c1/") + f, "");
  Policy p = no_devices();
  p.pids = 100;
  p.swap = 1 << 20;
  p.cpus = "0-1";
  p.io_weight = 200;
  p.io_max = {*parse_io_max("8:0 rbps=1MiB wiops=10")};
  p.hugetlb["2MB"] = 4 << 20;
  auto h = discover(top_, "gantry/t", p);
  ASSERT_TRUE(h);
  ASSERT_TRUE((*h)->open());
  EXPECT_EQ((*h)->problems(), std::vector<std::string>{});
  EXPECT_EQ(get("/cg/gantry/t/cgroup.subtree_control"), "+cpu +cpuset +hugetlb +io +memory +pids");
  EXPECT_EQ(get("/cg/gantry/t/cpuset.cpus"), "0-1");
  ASSERT_TRUE((*h)->create("c1", limits(task(1, 64))));
  EXPECT_EQ(get("/cg/gantry/t/c1/pids.max"), "100");
  EXPECT_EQ(get("/cg/gantry/t/c1/memory.swap.max"), std::to_string(1 << 20));
  EXPECT_EQ(get("/cg/gantry/t/c1/io.weight"), "200");
  EXPECT_EQ(get("/cg/gantry/t/c1/io.max"), "8:0 rbps=1048576 wiops=10");
  EXPECT_EQ(get("/cg/gantry/t/c1/hugetlb.2MB.max"), std::to_string(4 << 20));
}

TEST_F(FakeTree, V2Figures) {
  dirs("/cg/gantry/t/c1");
  put("/proc/self/mountinfo", "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n");
  put("/cg/cgroup.controllers", "cpu io memory pids\n");
  for (const char* f : {"/cg/cgroup.subtree_control", "/cg/gantry/cgroup.subtree_control", "/cg/gantry/t/cgroup.subtree_control"})
    put(f, "");
  const auto c1 = [&](const char* file, const char* text) { put(std::string("/cg/gantry/t/c1/") + file, text); };
  c1("memory.stat", "anon 1\nfile 2\nkernel 3\nfile_mapped 4\npgfault 5\npgmajfault 6\n");
  c1("memory.events", "low 0\noom 9\noom_kill 7\n");
  c1("memory.low", "8\n");
  c1("memory.swap.current", "9\n");
  c1("pids.current", "10\n");
  c1("cgroup.procs", "1\n2\n");
  c1("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n8:16 rbytes=10 wbytes=20 rios=30 wios=40\n");
  c1("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=99\n");
  c1("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n");
  c1("io.pressure", "full avg10=0.00 avg60=0.00 avg300=0.00 total=99\n");
  auto h = discover(top_, "gantry/t", no_devices());
  ASSERT_TRUE(h);
  ASSERT_TRUE((*h)->open());
  const auto u = (*h)->usage("c1");
  EXPECT_EQ(u.memory_rss, 1u);
  EXPECT_EQ(u.memory_cache, 2u);
  EXPECT_EQ(u.memory_kernel, 3u);
  EXPECT_EQ(u.memory_mapped, 4u);
  EXPECT_EQ(u.page_faults, 5u);
  EXPECT_EQ(u.major_faults, 6u);
  EXPECT_EQ(u.oom_kills, 7u);
  EXPECT_EQ(u.memory_soft_limit, 8u);
  EXPECT_EQ(u.memory_swap, 9u);
  EXPECT_EQ(u.threads, 10u);
  EXPECT_EQ(u.processes, 2u);
  EXPECT_EQ(u.io_read_bytes, 11u);
  EXPECT_EQ(u.io_write_bytes, 22u);
  EXPECT_EQ(u.io_reads, 33u);
  EXPECT_EQ(u.io_writes, 44u);
  EXPECT_EQ(u.cpu_pressure_us, 11u);
  EXPECT_EQ(u.memory_pressure_us, 12u);
  EXPECT_EQ(u.io_pressure_us, 0u) << "a line \"full\" is not \"some\"";
}

TEST_F(FakeTree, V1SwapIsHeldWithMemory) {
  dirs("/cpu/gantry/t/c1");
  dirs("/memory/gantry/t/c1");
  put("/proc/self/mountinfo", "1 0 0:1 / /cpu rw - cgroup cgroup rw,cpu\n2 0 0:2 / /memory rw - cgroup cgroup rw,memory\n");
  for (const char* d : {"/cpu/gantry/t", "/memory/gantry/t"}) put(std::string(d) + "/cgroup.procs", "");
  for (const char* f : {"/cpu/gantry/t/c1/cpu.shares", "/cpu/gantry/t/c1/cpu.cfs_quota_us", "/memory/gantry/t/c1/memory.limit_in_bytes"})
    put(f, "");
  put("/memory/gantry/t/c1/memory.memsw.limit_in_bytes", "9223372036854771712");
  Policy p = no_devices();
  p.swap = 16 << 20;
  auto h = discover(top_, "gantry/t", p);
  ASSERT_TRUE(h);
  ASSERT_TRUE((*h)->open());
  ASSERT_TRUE((*h)->create("c1", limits(task(0.5, 64))));
  EXPECT_EQ(get("/memory/gantry/t/c1/memory.memsw.limit_in_bytes").substr(0, 8), std::to_string(80 << 20));
}

// cpu and memory on version 1, pids and huge pages on version 2.
TEST_F(FakeTree, HybridTakesEachControllerWhereItIs) {
  for (const char* d : {"/cpu/gantry/t/c1", "/memory/gantry/t/c1", "/v2/gantry/t/c1"}) dirs(d);
  put("/proc/self/mountinfo",
      "1 0 0:1 / /cpu rw - cgroup cgroup rw,cpu\n2 0 0:2 / /memory rw - cgroup cgroup rw,memory\n3 0 0:3 / /v2 rw - cgroup2 cgroup2 rw\n");
  put("/v2/cgroup.controllers", "hugetlb pids cpu\n");
  for (const char* f : {"/cpu/gantry/t/cgroup.procs", "/memory/gantry/t/cgroup.procs", "/v2/cgroup.subtree_control",
                        "/v2/gantry/cgroup.subtree_control", "/v2/gantry/t/cgroup.subtree_control", "/cpu/gantry/t/c1/cpu.shares",
                        "/cpu/gantry/t/c1/cpu.cfs_quota_us", "/memory/gantry/t/c1/memory.limit_in_bytes", "/v2/gantry/t/c1/pids.max"})
    put(f, "");
  Policy p = no_devices();
  p.pids = 7;
  p.cpus = "0";
  auto h = discover(top_, "gantry/t", p);
  ASSERT_TRUE(h);
  ASSERT_TRUE((*h)->open());
  EXPECT_EQ((*h)->version(), 1);
  EXPECT_EQ((*h)->describe(), "cpu v1, memory v1, pids v2");
  EXPECT_EQ(get("/v2/cgroup.subtree_control"), "+pids");
  ASSERT_EQ((*h)->problems().size(), 1u);
  EXPECT_NE((*h)->problems()[0].find("no controller cpuset"), std::string::npos) << (*h)->problems()[0];
  ASSERT_TRUE((*h)->create("c1", limits(task(0.5, 64))));
  EXPECT_EQ(get("/v2/gantry/t/c1/pids.max"), "7");
  EXPECT_EQ(get("/cpu/gantry/t/c1/cpu.shares"), "512");
  EXPECT_EQ((*h)->enter_files("c1").size(), 3u);
}

TEST_F(FakeTree, BelowOurOwnCgroupTheDaemonMakesRoom) {
  dirs("/cg/unit/gantry/t");
  dirs("/cg/unit/gantryd");
  put("/proc/self/mountinfo", "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n");
  put("/proc/self/cgroup", "0::/unit\n");
  put("/cg/unit/cgroup.controllers", "cpu memory\n");
  for (const char* f : {"/cg/unit/cgroup.subtree_control", "/cg/unit/gantry/cgroup.subtree_control",
                        "/cg/unit/gantry/t/cgroup.subtree_control", "/cg/unit/cgroup.procs", "/cg/unit/gantryd/cgroup.procs"})
    put(f, "");
  for (const char* cgroup : {"0::/unit\n", "0::/unit/gantryd\n"}) {  // the second time it is where it went
    put("/proc/self/cgroup", cgroup);
    auto h = discover(top_, "gantry/t", no_devices(), true);
    ASSERT_TRUE(h);
    const Status opened = (*h)->open();
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ((*h)->enter_files("c1"), std::vector<std::string>{top_ + "/cg/unit/gantry/t/c1/cgroup.procs"});
  }
  EXPECT_EQ(get("/cg/unit/cgroup.subtree_control"), "+cpu +memory");
  // A process there that never leaves: a plain file keeps its text.
  put("/cg/unit/cgroup.procs", "4242\n");
  auto h = discover(top_, "gantry/t", no_devices(), true);
  ASSERT_TRUE(h);
  EXPECT_FALSE((*h)->open());
  EXPECT_EQ(get("/cg/unit/gantryd/cgroup.procs"), "4242");
}

// ---- the module

class ModuleTest : public FakeTree {
 protected:
  ModuleTest() : module_(host_, "cgroups") { module_.defaults(defaults); }
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

TEST_F(Degraded, MistakesNameTheirSetting) {
  for (const auto& [key, value] : {std::pair<const char*, testing::Value>{"cpuset", "0-"},
                                   {"io_max", {"8:0 quick"}},
                                   {"hugetlb", std::map<std::string, std::string>{{"2MB", "x"}}},
                                   {"devices_allow", {"/nonexistent rw"}}}) {
    const Status s = module_.configure({{key, value}});
    ASSERT_FALSE(s) << key;
    EXPECT_EQ(s.error().key_path, key);
  }
}

TEST_F(Degraded, RefusesAnAbsoluteRoot) { EXPECT_FALSE(module_.configure({{"root", "/x"}})); }

// Real cgroups, started by each test with settings of its own.
class SomeCgroups : public ModuleTest {
 protected:
  void SetUp() override {
    ModuleTest::SetUp();
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  }
  // Starts with these settings; why it cannot run here, or nothing.
  std::string begin(const testing::Values& settings = {}) {
    EXPECT_TRUE(module_.configure(settings));
    EXPECT_TRUE(module_.start());
    const auto health = module_.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer());
    if (health && health->state == fb::HealthState::OK) return ready_ = true, "";
    EXPECT_TRUE(module_.stop());
    return health ? health->message : "no health";
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
  fb::isolator::UsageT usage(const std::string& id) {
    fb::isolator::UsageRequestT request;
    request.container_ids = {id};
    auto all = module_.call<fb::isolator::Usages>(Method::USAGE, request);
    EXPECT_TRUE(all && all->usages.size() == 1);
    return all && all->usages.size() == 1 ? *all->usages[0] : fb::isolator::UsageT{};
  }
  Status attach(const std::string& id, const std::string& path, const char* access) {
    struct stat st {};
    EXPECT_EQ(::stat(path.c_str(), &st), 0) << path;
    fb::isolator::AttachT a;
    a.container_id = id;
    auto d = std::make_unique<fb::isolator::DeviceT>();
    d->character = S_ISCHR(st.st_mode);
    d->major = static_cast<int>(major(st.st_rdev));
    d->minor = static_cast<int>(minor(st.st_rdev));
    d->access = access;
    a.devices.push_back(std::move(d));
    return module_.call(Method::ATTACH, a);
  }
  // errno of opening a file in these cgroups; 0: it worked.
  static int opens(const std::vector<std::string>& files, const char* path, int flags) {
    const pid_t pid = in(files, [=] { ::_exit(::open(path, flags | O_CLOEXEC) < 0 ? errno : 0); });
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  // Starts on this machine's cgroups, but shows the module only these of version 1, and version 2 if so.
  std::string begin_with(const std::vector<std::string>& controllers, bool v2, testing::Values settings = {}) {
    const Mounts mounts = parse_mounts(read_file("/proc/self/mountinfo").value_or(""));
    std::string text;
    const auto link = [&](const std::string& name, const std::string& from, const std::string& type) {
      dirs("/cg");
      EXPECT_EQ(::symlink(from.c_str(), (top_ + "/cg/" + name).c_str()), 0);
      text += "1 0 0:1 / /cg/" + name + " rw - " + type + "\n";
    };
    for (const auto& c : controllers) {
      if (!mounts.v1.count(c)) return "version 1 of " + c + " is not mounted here";
      link(c, mounts.v1.at(c), "cgroup cgroup rw," + c);
    }
    if (v2 && mounts.v2.empty()) return "version 2 is not mounted here";
    if (v2) link("unified", mounts.v2, "cgroup2 cgroup2 rw");
    put("/proc/self/mountinfo", text);
    settings.insert_or_assign("filesystem_root", testing::Value(top_));
    return begin(settings);
  }
  bool ready_ = false;
};

// On parts of what a machine with version 1 has.
using HybridCgroups = SomeCgroups;

// On whatever hierarchy the machine has.
class RealCgroups : public SomeCgroups {
 protected:
  void SetUp() override {
    SomeCgroups::SetUp();
    if (IsSkipped()) return;
    if (const auto reason = begin(); !reason.empty()) GTEST_SKIP() << reason;
  }
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

TEST_F(RealCgroups, ANestedOneSharesItsParentsAndItsLimit) {
  const auto files = enter("pod", task(1, 40));
  auto nested = prepare("inside", task(1, 4000));
  nested.parent = "pod";
  nested.share_cgroups = true;
  const auto p = module_.call<fb::isolator::Prepared>(Method::PREPARE, nested);
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_EQ(p->enter_files, files);
  EXPECT_TRUE(p->cgroup_kill.empty()) << "that would end the others, too";
  auto stream = module_.open(Method::WATCH, watch("pod"));
  auto own = module_.open(Method::WATCH, watch("inside"));
  EXPECT_TRUE(own.done()) << "it has no cgroup to watch";
  if (p->takes_devices) {
    EXPECT_NE(opens(files, "/dev/kmsg", O_RDONLY), 0);
    EXPECT_TRUE(attach("inside", "/dev/kmsg", "rw"));
    EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), 0) << "what one of them was given, all in the cgroup may use";
  }
  const pid_t pid = in(p->enter_files, [] { eat(100); });
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status));
  ASSERT_TRUE(cleanup("inside"));
  EXPECT_EQ(stream.chunks().size(), 1u) << "why it ended is known when it has been cleaned up";
  EXPECT_FALSE(stream.done());
  ASSERT_TRUE(cleanup("pod"));

  nested.parent = "never-heard-of";
  EXPECT_FALSE(module_.call<fb::isolator::Prepared>(Method::PREPARE, nested));
  nested.parent = "pod";
  nested.share_cgroups = false;
  const auto apart = module_.call<fb::isolator::Prepared>(Method::PREPARE, nested);
  ASSERT_TRUE(apart) << apart.error().message;
  EXPECT_NE(apart->enter_files, files);
  ASSERT_TRUE(cleanup("inside"));
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
  again.defaults(defaults);
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

TEST_F(RealCgroups, OnlyTheUsualDevicesAndThoseAttached) {
  const auto prepared = module_.call<fb::isolator::Prepared>(Method::PREPARE, prepare("nodes", task(1, 64)));
  ASSERT_TRUE(prepared);
  EXPECT_TRUE(prepared->takes_devices);
  EXPECT_TRUE(prepared->no_attach) << "without devices there is nothing to attach";
  const auto& files = prepared->enter_files;
  EXPECT_EQ(opens(files, "/dev/null", O_RDWR), 0);
  EXPECT_EQ(opens(files, "/dev/urandom", O_RDONLY), 0);
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), EPERM);
  ASSERT_TRUE(attach("nodes", "/dev/kmsg", "r"));
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), 0);
  EXPECT_EQ(opens(files, "/dev/kmsg", O_WRONLY), EPERM) << "only reading was given";
  EXPECT_EQ(opens(files, "/dev/null", O_RDWR), 0);
  ASSERT_TRUE(module_.call<fb::isolator::Prepared>(Method::PREPARE, prepare("nodes", task(1, 64))));
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), 0) << "a second PREPARE takes nothing away";
  EXPECT_FALSE(attach("nodes", "/dev/kmsg", "x"));
  EXPECT_FALSE(attach("unknown", "/dev/kmsg", "r"));
  EXPECT_TRUE(cleanup("nodes"));
}

TEST_F(RealCgroups, PrivilegedContainersUseEveryDevice) {
  auto t = task(1, 64);
  t->container = std::make_unique<fb::ContainerInfoT>();
  t->container->docker = std::make_unique<fb::DockerInfoT>();
  t->container->docker->privileged = true;
  const auto files = enter("root", std::move(t));
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), 0);
  ASSERT_TRUE(attach("root", "/dev/zero", "r"));
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), 0);
  EXPECT_TRUE(cleanup("root"));
}

TEST_F(RealCgroups, WhatForksAllTheTimeIsKilledAllTheSame) {
  const auto files = enter("bomb", task(1, 64));
  const pid_t pid = in(files, [] {
    ::setsid();
    // Parent and child change places: a list of processes is old when it has been read.
    for (int i = 0; i < 30'000; ++i)
      if (::fork() > 0) ::_exit(0);
  });
  ::waitpid(pid, nullptr, 0);
  ::usleep(20'000);
  EXPECT_GE(usage("bomb").processes, 1u);
  EXPECT_TRUE(cleanup("bomb"));
}

TEST_F(RealCgroups, FiguresOfMemoryAndThreads) {
  const auto files = enter("figures", task(1, 64));
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t pid = in(files, [&] {
    eat(8);
    (void)!::write(ready[1], "x", 1);
    ::pause();
  });
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ::close(ready[0]);
  ::close(ready[1]);
  const auto u = usage("figures");
  EXPECT_EQ(u.processes, 1u);
  EXPECT_EQ(u.threads, 1u);
  EXPECT_GE(u.memory_total, 8u << 20);
  EXPECT_GT(u.page_faults, 0u);
  EXPECT_EQ(u.memory_limit, 64u << 20);
  EXPECT_EQ(u.oom_kills, 0u);
  EXPECT_TRUE(cleanup("figures"));
  ::waitpid(pid, nullptr, 0);
}

TEST_F(SomeCgroups, ProcessesHaveALimit) {
  if (const auto reason = begin({{"pids", 3}}); !reason.empty()) GTEST_SKIP() << reason;
  const auto files = enter("few", task(1, 64));
  const pid_t pid = in(files, [] {
    for (int i = 1;; ++i) {
      const pid_t child = ::fork();
      if (child < 0) ::_exit(errno == EAGAIN ? i : 0);
      if (child == 0) ::pause();
    }
  });
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 3) << "itself and two more";
  EXPECT_TRUE(cleanup("few"));
  ASSERT_TRUE(module_.configure({{"pids", 5}}, true));
  const auto more = enter("more", task(1, 64));
  EXPECT_EQ(more.size(), files.size());
  EXPECT_TRUE(cleanup("more"));
}

TEST_F(SomeCgroups, PinnedToOneCpu) {
  if (const auto reason = begin({{"cpuset", "0"}}); !reason.empty()) GTEST_SKIP() << reason;
  const auto files = enter("pinned", task(1, 64));
  const pid_t pid = in(files, [] {
    cpu_set_t set;
    ::_exit(::sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1 && CPU_ISSET(0, &set) ? 0 : 1);
  });
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(cleanup("pinned"));
}

TEST_F(SomeCgroups, WhatTheMachineCannotIsNamedAndTheRestWorks) {
  const auto reason = begin({{"cpuset", "4000"}});
  EXPECT_NE(reason.find("cpuset = \"4000\" does not fit this machine"), std::string::npos) << reason;
  testing::Subject<Cgroups> again(host_, "cgroups");
  again.defaults(defaults);
  again.work_dir(top_);
  ASSERT_TRUE(again.configure({{"cpuset", "4000"}}));
  ASSERT_TRUE(again.start());
  const auto p = again.call<fb::isolator::Prepared>(Method::PREPARE, prepare("rest", task(1, 64)));
  ASSERT_TRUE(p);
  EXPECT_FALSE(p->enter_files.empty());
  fb::isolator::CleanupT c;
  c.container_id = "rest";
  EXPECT_TRUE(again.call(Method::CLEANUP, c));
  EXPECT_TRUE(again.stop());
}

// The device of the file system of /tmp, for direct writes.
std::string disk_of(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0 || major(st.st_dev) == 0) return "";
  return std::to_string(major(st.st_dev)) + ":" + std::to_string(minor(st.st_dev));
}

TEST_F(SomeCgroups, DisksAreThrottledAndCounted) {
  const std::string disk = disk_of(top_);
  if (disk.empty()) GTEST_SKIP() << "/tmp is not on a block device";
  if (const auto reason = begin({{"io_max", {(disk + " wbps=2MiB").c_str()}}}); !reason.empty()) GTEST_SKIP() << reason;
  const auto files = enter("slow", task(1, 64));
  const auto from = std::chrono::steady_clock::now();
  const std::string path = top_ + "/data";
  const pid_t pid = in(files, [&] {
    void* block = nullptr;
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0 || ::posix_memalign(&block, 4096, 1 << 20) != 0) ::_exit(77);
    for (int i = 0; i < 4; ++i)
      if (::write(fd, block, 1 << 20) != 1 << 20) ::_exit(1);
  });
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  const auto took = std::chrono::steady_clock::now() - from;
  const auto u = usage("slow");
  EXPECT_TRUE(cleanup("slow"));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no direct writes to the file system of /tmp";
  EXPECT_EQ(status, 0);
  EXPECT_GT(took, 1s);
  EXPECT_GE(u.io_write_bytes, 4u << 20);
  EXPECT_GE(u.io_writes, 4u);
}

TEST_F(SomeCgroups, HugePagesAreLimitedWhereverTheirControllerIs) {
  if (const auto reason = begin({{"hugetlb", std::map<std::string, std::string>{{"2MB", "4MiB"}}}}); !reason.empty())
    GTEST_SKIP() << reason;
  const auto files = enter("huge", task(1, 64));
  std::vector<std::string> found;
  for (const auto& f : files)
    for (const char* name : {"hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"})
      if (const auto text = read_file(f.substr(0, f.rfind('/') + 1) + name)) found.push_back(*text);
  EXPECT_EQ(found, std::vector<std::string>{"4194304\n"});
  EXPECT_TRUE(cleanup("huge"));
}

// The filter of version 2, on machines whose other controllers are of version 1.
TEST_F(HybridCgroups, DevicesByFilterOnVersion2) {
  if (const auto reason = begin_with({"cpu", "memory"}, true); !reason.empty()) GTEST_SKIP() << reason;
  const auto files = enter("filter", task(1, 64));
  EXPECT_EQ(files.size(), 3u);
  EXPECT_EQ(opens(files, "/dev/null", O_RDWR), 0);
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), EPERM);
  // The agent comes back: the filter has stayed, is found, and takes more.
  testing::Subject<Cgroups> again(host_, "cgroups");
  again.defaults(defaults);
  again.work_dir(top_);
  ASSERT_TRUE(again.configure({{"filesystem_root", top_}}));
  ASSERT_TRUE(again.start());
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), EPERM);
  fb::isolator::AttachT a;
  a.container_id = "filter";
  a.devices.push_back(std::make_unique<fb::isolator::DeviceT>());
  a.devices[0]->major = 1;
  a.devices[0]->minor = 11;
  a.devices[0]->access = "r";
  ASSERT_TRUE(again.call(Method::ATTACH, a));
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), 0);
  EXPECT_EQ(opens(files, "/dev/kmsg", O_WRONLY), EPERM);
  EXPECT_EQ(opens(files, "/dev/null", O_RDWR), 0);
  ASSERT_TRUE(again.stop());
  EXPECT_TRUE(cleanup("filter"));
}

TEST_F(HybridCgroups, PrivilegedHasNoFilterOnVersion2) {
  if (const auto reason = begin_with({"cpu", "memory"}, true); !reason.empty()) GTEST_SKIP() << reason;
  auto t = task(1, 64);
  t->container = std::make_unique<fb::ContainerInfoT>();
  t->container->docker = std::make_unique<fb::DockerInfoT>();
  t->container->docker->privileged = true;
  const auto files = enter("privileged", std::move(t));
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), 0);
  ASSERT_TRUE(attach("privileged", "/dev/zero", "r"));
  EXPECT_EQ(opens(files, "/dev/kmsg", O_RDONLY), 0) << "more devices must not take the others away";
  EXPECT_TRUE(cleanup("privileged"));
}

// Without version 2 there is no cgroup.kill; the freezer takes its place.
TEST_F(HybridCgroups, TheFreezerHoldsStillWhatIsKilled) {
  if (const auto reason = begin_with({"cpu", "memory", "freezer", "devices"}, false); !reason.empty()) GTEST_SKIP() << reason;
  const auto files = enter("frozen", task(1, 64));
  EXPECT_EQ(files.size(), 4u);
  const pid_t pid = in(files, [] {
    ::setsid();
    for (int i = 0; i < 30'000; ++i)
      if (::fork() > 0) ::_exit(0);
  });
  ::waitpid(pid, nullptr, 0);
  EXPECT_TRUE(cleanup("frozen"));
}

// As in a unit of systemd with Delegate=yes: the test puts itself into a cgroup and the module stays below it.
TEST_F(SomeCgroups, BelowItsOwnCgroupOnVersion2) {
  const Mounts mounts = parse_mounts(read_file("/proc/self/mountinfo").value_or(""));
  const std::string offered = mounts.v2.empty() ? "" : read_file(mounts.v2 + "/cgroup.controllers").value_or("");
  if (offered.find("cpu ") == offered.npos || offered.find("memory") == offered.npos)
    GTEST_SKIP() << "version 2 has no cpu and memory here";
  const std::string before = mounts.v2 + parse_own(read_file("/proc/self/cgroup").value_or(""))[""];
  const std::string unit = mounts.v2 + "/gantry-unit-" + std::to_string(::getpid());
  (void)write_file(mounts.v2 + "/cgroup.subtree_control", "+cpu +memory");
  ASSERT_EQ(::mkdir(unit.c_str(), 0755), 0);
  ASSERT_TRUE(write_file(unit + "/cgroup.procs", "0"));
  const auto reason = begin({{"parent", "own"}});
  EXPECT_EQ(reason, "");
  EXPECT_EQ(parse_own(read_file("/proc/self/cgroup").value_or(""))[""], unit.substr(mounts.v2.size()) + "/gantryd");
  if (ready_) {
    const auto files = enter("below", task(1, 64));
    EXPECT_FALSE(files.empty());
    if (!files.empty()) {
      EXPECT_EQ(files[0].find(unit + "/gantry-test/"), 0u) << files[0];
      EXPECT_EQ(read_number(files[0].substr(0, files[0].rfind('/')) + "/memory.max"), 64u << 20);
    }
    EXPECT_TRUE(cleanup("below"));
    EXPECT_TRUE(module_.stop());
    ready_ = false;
  }
  EXPECT_TRUE(write_file(before + "/cgroup.procs", "0"));
  ::rmdir((unit + "/gantryd").c_str());
  EXPECT_EQ(::rmdir(unit.c_str()), 0) << "the module leaves nothing in it but the leaf it was in";
}

TEST_F(RealCgroups, NamesThatAreNoNamesAreRefused) {
  for (const char* bad : {"", "..", "a/b", ".hidden"})
    EXPECT_FALSE(module_.call<fb::isolator::Prepared>(Method::PREPARE, prepare(bad, task(1, 64)))) << bad;
}

TEST(DockerLimits, TakeThePlaceOfWhatResourcesSay) {
  fb::TaskInfoT t;
  t.container = std::make_unique<fb::ContainerInfoT>();
  t.container->type = fb::ContainerType::DOCKER;
  t.container->docker = std::make_unique<fb::DockerInfoT>();
  const auto with = [&](std::initializer_list<std::pair<const char*, const char*>> all) {
    t.container->docker->parameters.clear();
    for (const auto& [k, v] : all) {
      t.container->docker->parameters.push_back(std::make_unique<fb::ParameterT>());
      t.container->docker->parameters.back()->key = k;
      t.container->docker->parameters.back()->value = v;
    }
  };
  with({{"cpus", "1.5"}, {"cpu-shares", "512"}, {"memory", "1g"}, {"memory-reservation", "256m"}, {"pids-limit", "100"}, {"env", "A=1"}});
  Limits limits;
  const auto heeded = docker_limits(t, limits);
  ASSERT_TRUE(heeded) << heeded.error().message;
  EXPECT_EQ(*heeded, (std::vector<std::string>{"cpus", "cpu-shares", "memory", "memory-reservation", "pids-limit"}));
  EXPECT_EQ(limits.cpu_quota_us, 150'000);
  EXPECT_EQ(limits.cpu_shares, 512u);
  EXPECT_EQ(limits.memory_hard, 1ull << 30);
  EXPECT_EQ(limits.memory_soft, 256ull << 20);
  EXPECT_EQ(limits.pids, 100u);
  with({{"cpu-quota", "50000"}, {"cpu-period", "200000"}});
  ASSERT_TRUE(docker_limits(t, limits));
  EXPECT_EQ(limits.cpu_quota_us, 25'000);
  for (const auto& [k, v] : {std::pair("memory", "lots"), std::pair("cpus", "-1"), std::pair("cpu-period", "5"), std::pair("pids-limit", "many"), std::pair("memory", "")}) {
    with({{k, v}});
    const auto wrong = docker_limits(t, limits);
    ASSERT_FALSE(wrong) << k;
    EXPECT_NE(wrong.error().message.find(std::string("docker parameter ") + k + "=" + v), std::string::npos) << wrong.error().message;
  }
}

}  // namespace
}  // namespace gantry::isolator_cgroups
