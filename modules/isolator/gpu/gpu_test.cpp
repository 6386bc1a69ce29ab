// The module against a fake of NVIDIA's library (fake/nvml.cpp), and its pure parts.
#include "gpu.hpp"

#include <gtest/gtest.h>
#include <gantry/testing/host.hpp>

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace gantry::isolator_gpu {
namespace {

using namespace std::chrono_literals;
using fb::isolator::Method;

std::unique_ptr<fb::ResourceT> gpus(double n) {
  auto r = std::make_unique<fb::ResourceT>();
  r->name = "gpus";
  r->scalar = n;
  return r;
}

// ---- the system's list of libraries

struct Entry {
  std::uint32_t flags;
  std::string name, path;
};
constexpr std::uint32_t here =
#if defined(__aarch64__)
    0x0a03;
#else
    0x0303;
#endif

std::string cache_of(const std::vector<Entry>& entries, bool behind_old_format = false) {
  std::string strings, table;
  const auto put = [](std::string& s, std::uint32_t n) { s.append(reinterpret_cast<const char*>(&n), 4); };
  const std::size_t first = 48 + entries.size() * 24;
  for (const auto& e : entries) {
    put(table, e.flags);
    put(table, static_cast<std::uint32_t>(first + strings.size()));
    strings += e.name + '\0';
    put(table, static_cast<std::uint32_t>(first + strings.size()));
    strings += e.path + '\0';
    table.append(12, '\0');
  }
  std::string out = "glibc-ld.so.cache1.1";
  put(out, static_cast<std::uint32_t>(entries.size()));
  put(out, static_cast<std::uint32_t>(strings.size()));
  out.append(20, '\0');
  out += table + strings;
  if (!behind_old_format) return out;
  std::string old = "ld.so-1.7.0";
  old.push_back('\0');
  put(old, 1);
  old.append(12, '\0');  // one entry, to 28; aligned to 32
  old.append(4, '\0');
  return old + out;
}

TEST(LibraryCache, BothFormats) {
  const std::vector<Entry> entries{
      {here, "libcuda.so.1", "/lib/libcuda.so.1"}, {0x0c03, "libcuda.so.1", "/other/machine.so"}, {here, "libm.so.6", "/lib/libm.so.6"}};
  for (const bool old : {false, true}) {
    const auto all = parse_library_cache(cache_of(entries, old));
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(all->size(), 2u);
    EXPECT_EQ((*all)[0].name, "libcuda.so.1");
    EXPECT_EQ((*all)[0].path, "/lib/libcuda.so.1");
    EXPECT_EQ((*all)[1].name, "libm.so.6");
  }
}

TEST(LibraryCache, DamageIsToldAndNeverRead) {
  const std::string good = cache_of({{here, "libcuda.so.1", "/lib/libcuda.so.1"}});
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(parse_library_cache(std::string_view(good).substr(0, n))) << n;
  std::string bad = good;
  bad[20] = bad[21] = bad[22] = bad[23] = '\x7f';
  EXPECT_FALSE(parse_library_cache(bad));
  EXPECT_FALSE(parse_library_cache("ld.so-1.7.0"));
  EXPECT_FALSE(parse_library_cache("something else entirely, of some length, which is no list of libraries"));
}

TEST(LibraryCache, OfThisMachine) {
  std::ifstream in("/etc/ld.so.cache", std::ios::binary);
  if (!in) GTEST_SKIP() << "this system has no /etc/ld.so.cache";
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto all = parse_library_cache(bytes);
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_TRUE(
      std::any_of(all->begin(), all->end(), [](const auto& l) { return l.name == "libc.so.6" && ::access(l.path.c_str(), R_OK) == 0; }));
}

TEST(DriverFiles, ByNameAndNotByBeginning) {
  for (const char* yes : {"libcuda.so", "libcuda.so.1", "libnvidia-ml.so.535.104.05"}) EXPECT_TRUE(is_of_the_driver(yes)) << yes;
  for (const char* no : {"libcudart.so.12", "libcuda.so1", "libGL.so.1", "libc.so.6", ""}) EXPECT_FALSE(is_of_the_driver(no)) << no;
}

TEST(Wanted, WholeCardsOnly) {
  std::vector<std::unique_ptr<fb::ResourceT>> r;
  EXPECT_EQ(cards_wanted(r).value_or(9), 0u);
  r.push_back(gpus(1));
  r.push_back(gpus(2));
  EXPECT_EQ(cards_wanted(r).value_or(9), 3u);
  r.push_back(gpus(0.5));
  const auto half = cards_wanted(r);
  ASSERT_FALSE(half);
  EXPECT_NE(half.error().message.find("gpus = 3.5"), std::string::npos) << half.error().message;
  r.clear();
  r.push_back(gpus(-1));
  EXPECT_FALSE(cards_wanted(r));
  r[0]->scalar = 1e300;
  EXPECT_FALSE(cards_wanted(r));
}

TEST(Xid, SomeAreAProgramsOwnFault) {
  EXPECT_FALSE(xid_is_of_the_card(31));
  EXPECT_TRUE(xid_is_of_the_card(79));
}

// ---- the module

class GpuTest : public ::testing::Test {
 protected:
  GpuTest() : module_(host_, "gpu") {}
  void SetUp() override {
    char name[] = "/tmp/gantry-gpu-XXXXXX";
    top_ = ::mkdtemp(name);
    for (const char* d : {"/dev", "/work", "/lib", "/bin"}) ASSERT_EQ(::mkdir((top_ + d).c_str(), 0755), 0);
    ::setenv("GANTRY_FAKE_NVML", (top_ + "/cards").c_str(), 1);
    cards("GPU-aaaa 0 100 1000 25\nGPU-bbbb 1 0 2000 0\n");
    put("/cache", cache_of({{here, "libcuda.so.1", top_ + "/lib/libcuda.so.1"},
                            {here, "libm.so.6", top_ + "/lib/libm.so.6"},
                            {here, "libnvidia-ml.so.1", top_ + "/lib/absent.so"}}));
    put("/lib/libcuda.so.535.104.05", "ELF");
    put("/lib/libm.so.6", "ELF");
    ASSERT_EQ(::symlink("libcuda.so.535.104.05", (top_ + "/lib/libcuda.so.1").c_str()), 0);
    put("/bin/nvidia-smi", "#!");
    ::chmod((top_ + "/bin/nvidia-smi").c_str(), 0755);
    module_.defaults({{"cards", std::vector<std::string>{}},
                      {"library", FAKE_NVML},
                      {"dev", top_ + "/dev"},
                      {"driver_files", true},
                      {"library_cache", top_ + "/cache"},
                      {"programs", std::vector<std::string>{top_ + "/bin"}},
                      {"interval", 10s}});
    module_.work_dir(top_ + "/work");
  }
  void TearDown() override {
    if (started_) {
      EXPECT_TRUE(module_.stop());
    }
    EXPECT_EQ(host_.faults(), std::vector<std::string>{});
    ::unsetenv("GANTRY_FAKE_NVML");
    (void)!std::system(("rm -rf " + top_).c_str());
  }
  void put(const std::string& path, const std::string& text) { std::ofstream(top_ + path, std::ios::binary) << text; }
  void cards(const std::string& text) { put("/cards", text); }
  // Makes the device nodes; false without the right to.
  bool nodes() {
    for (const auto& [name, minor] : {std::pair("nvidiactl", 255), {"nvidia0", 0}, {"nvidia1", 1}})
      if (::mknod((top_ + "/dev/" + name).c_str(), S_IFCHR | 0666, makedev(195, minor)) != 0) return false;
    return true;
  }
  void start(const testing::Values& settings = {}) {
    ASSERT_TRUE(module_.configure(settings));
    ASSERT_TRUE(module_.start());
    started_ = true;
  }
  testing::Outcome<fb::isolator::Prepared> prepare(const std::string& id, double n, bool image = false) {
    fb::isolator::PrepareT p;
    p.container_id = id;
    p.task = std::make_unique<fb::TaskInfoT>();
    if (n != 0) p.task->resources.push_back(gpus(n));
    if (image) p.layers = {"/images/one"};
    return module_.call<fb::isolator::Prepared>(Method::PREPARE, p);
  }
  Status cleanup(const std::string& id) {
    fb::isolator::CleanupT c;
    c.container_id = id;
    return module_.call(Method::CLEANUP, c);
  }
  fb::HealthT health() {
    auto h = module_.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer());
    EXPECT_TRUE(h);
    return h ? *h : fb::HealthT{};
  }
  static std::string visible(const fb::isolator::PreparedT& p) {
    for (const auto& v : p.environment)
      if (v->name == "NVIDIA_VISIBLE_DEVICES") return v->value;
    return "";
  }
  static const fb::isolator::MountT* mount(const fb::isolator::PreparedT& p, const std::string& target) {
    for (const auto& m : p.mounts)
      if (m->target == target) return m.get();
    return nullptr;
  }
  std::string top_;
  testing::Host host_;
  testing::Subject<Gpu> module_;
  bool started_ = false;
};

TEST_F(GpuTest, WithoutAnyDriverItIsWellAndSaysNoToWhoWantsCards) {
  start({{"library", "libgantry-no-such-library.so.1"}});
  EXPECT_EQ(health().state, fb::HealthState::OK);
  const auto none = prepare("c0", 0);
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->no_attach);
  EXPECT_TRUE(none->devices.empty() && none->mounts.empty() && none->environment.empty());
  const auto one = prepare("c1", 1);
  ASSERT_FALSE(one);
  EXPECT_EQ(one.error().code, Code::failed_precondition);
  EXPECT_NE(one.error().message.find("no NVIDIA driver"), std::string::npos);
  EXPECT_TRUE(cleanup("c1"));
}

TEST_F(GpuTest, ALibraryThatIsNotNvidiasIsNamed) {
  start({{"library", "libm.so.6"}});
  EXPECT_EQ(health().state, fb::HealthState::DEGRADED);
  EXPECT_NE(health().message.find("libm.so.6 is not NVIDIA's"), std::string::npos) << health().message;
}

TEST_F(GpuTest, ADriverThatIsLoadedLaterIsFound) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  cards("init=9\n");
  start();
  EXPECT_EQ(health().state, fb::HealthState::DEGRADED);
  EXPECT_NE(health().message.find("Driver Not Loaded"), std::string::npos);
  cards("GPU-aaaa 0 0 1000 0\n");
  host_.advance(10s);
  EXPECT_EQ(health().state, fb::HealthState::OK);
  EXPECT_TRUE(prepare("c1", 1));
}

TEST_F(GpuTest, EachCardIsOneContainers) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start();
  const auto one = prepare("c1", 1), two = prepare("c2", 1), three = prepare("c3", 1);
  ASSERT_TRUE(one) << one.error().message;
  ASSERT_TRUE(two) << two.error().message;
  EXPECT_EQ(visible(*one), "GPU-aaaa");
  EXPECT_EQ(visible(*two), "GPU-bbbb");
  ASSERT_FALSE(three);
  EXPECT_EQ(three.error().code, Code::resource_exhausted);
  EXPECT_NE(three.error().message.find("of 2 cards 0 are free"), std::string::npos) << three.error().message;
  ASSERT_EQ(one->devices.size(), 2u) << "the control node and the card's, no other card's";
  EXPECT_EQ(one->devices[0]->minor, 255);
  EXPECT_EQ(one->devices[1]->major, 195);
  EXPECT_EQ(one->devices[1]->minor, 0);
  EXPECT_EQ(two->devices[1]->minor, 1);
  EXPECT_TRUE(one->mounts.empty()) << "without an image the machine's nodes are there";
  const auto again = prepare("c1", 1);
  ASSERT_TRUE(again);
  EXPECT_EQ(visible(*again), "GPU-aaaa");
  ASSERT_TRUE(cleanup("c3"));
  ASSERT_TRUE(cleanup("c1"));
  const auto next = prepare("c4", 1);
  ASSERT_TRUE(next);
  EXPECT_EQ(visible(*next), "GPU-aaaa");
}

TEST_F(GpuTest, PartsOfACardAreRefused) {
  start();
  const auto half = prepare("c1", 0.5);
  ASSERT_FALSE(half);
  EXPECT_EQ(half.error().code, Code::invalid_argument);
}

TEST_F(GpuTest, ImagesGetNodesAndDriverFiles) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start();
  const auto p = prepare("c1", 1, true);
  ASSERT_TRUE(p) << p.error().message;
  const auto* node = mount(*p, "/dev/nvidia0");
  ASSERT_NE(node, nullptr);
  EXPECT_EQ(node->source, top_ + "/dev/nvidia0");
  EXPECT_EQ(node->flags, MS_BIND) << "a read-only or nodev node could not be used";
  EXPECT_EQ(node->options, static_cast<std::uint32_t>(fb::isolator::MountOption::FILE));
  EXPECT_EQ(mount(*p, "/dev/nvidia1"), nullptr);
  for (const char* target : {"/usr/local/nvidia/lib64/libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.535.104.05"}) {
    const auto* library = mount(*p, target);
    ASSERT_NE(library, nullptr) << target;
    EXPECT_EQ(library->source, top_ + "/lib/libcuda.so.535.104.05");
    EXPECT_TRUE(library->flags & MS_RDONLY);
  }
  EXPECT_EQ(mount(*p, "/usr/local/nvidia/lib64/libm.so.6"), nullptr);
  EXPECT_EQ(mount(*p, "/usr/local/nvidia/lib64/libnvidia-ml.so.1"), nullptr) << "a file that is not there";
  EXPECT_NE(mount(*p, "/usr/bin/nvidia-smi"), nullptr);
  EXPECT_TRUE(std::any_of(p->environment.begin(), p->environment.end(),
                          [](const auto& v) { return v->name == "LD_LIBRARY_PATH" && v->value.find("/usr/local/nvidia/lib64") == 0; }));
}

TEST_F(GpuTest, WithoutDriverFilesOnlyTheNodes) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start({{"driver_files", false}});
  const auto p = prepare("c1", 1, true);
  ASSERT_TRUE(p);
  EXPECT_EQ(p->mounts.size(), 2u);
}

TEST_F(GpuTest, AMissingNodeNamesItsRemedy) {
  start();
  const auto p = prepare("c1", 1);
  ASSERT_FALSE(p);
  EXPECT_NE(p.error().message.find("/dev/nvidiactl"), std::string::npos);
  EXPECT_NE(p.error().message.find("nvidia-modprobe"), std::string::npos);
}

TEST_F(GpuTest, ALostCardIsNamedAndNotGiven) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start();
  ASSERT_EQ(health().state, fb::HealthState::OK);
  cards("GPU-aaaa 0 100 1000 25 lost\nGPU-bbbb 1 0 2000 0\n");
  host_.advance(10s);
  EXPECT_EQ(health().state, fb::HealthState::DEGRADED);
  EXPECT_NE(health().message.find("GPU-aaaa"), std::string::npos);
  EXPECT_NE(health().message.find("GPU is lost"), std::string::npos) << health().message;
  EXPECT_EQ(health().message.find("GPU-bbbb"), std::string::npos);
  const auto p = prepare("c1", 1);
  ASSERT_TRUE(p);
  EXPECT_EQ(visible(*p), "GPU-bbbb");
  const auto none = prepare("c2", 1);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("1 out of order"), std::string::npos) << none.error().message;
}

TEST_F(GpuTest, ACardTheDriverForgetsIsNotForgotten) {
  start();
  cards("GPU-bbbb 1 0 2000 0\n");
  host_.advance(10s);
  EXPECT_EQ(health().state, fb::HealthState::DEGRADED);
  EXPECT_NE(health().message.find("GPU-aaaa"), std::string::npos);
}

TEST_F(GpuTest, CriticalEventsOfTheCardCountThoseOfProgramsDoNot) {
  start();
  cards("GPU-aaaa 0 100 1000 25 xid=31\nGPU-bbbb 1 0 2000 0\n");
  host_.advance(10s);
  EXPECT_EQ(health().state, fb::HealthState::OK) << "a page fault of a program";
  cards("GPU-aaaa 0 100 1000 25 xid=79\nGPU-bbbb 1 0 2000 0\n");
  host_.advance(10s);
  EXPECT_EQ(health().state, fb::HealthState::DEGRADED);
  EXPECT_NE(health().message.find("Xid 79"), std::string::npos) << health().message;
  cards("GPU-aaaa 0 100 1000 25\nGPU-bbbb 1 0 2000 0\n");
  host_.advance(10s);
  EXPECT_EQ(health().state, fb::HealthState::DEGRADED) << "it stays so until somebody has looked";
}

TEST_F(GpuTest, OnlyTheChosenCards) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start({{"cards", {"1", "GPU-zzzz"}}});
  EXPECT_TRUE(host_.logged("GPU-zzzz"));
  const auto p = prepare("c1", 1);
  ASSERT_TRUE(p);
  EXPECT_EQ(visible(*p), "GPU-bbbb");
  EXPECT_FALSE(prepare("c2", 1));
}

TEST_F(GpuTest, UsageOfEachCard) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start();
  ASSERT_TRUE(prepare("c1", 2));
  ASSERT_TRUE(prepare("c2", 0));
  fb::isolator::UsageRequestT request;
  request.container_ids = {"c1", "c2", "unknown"};
  const auto usage = module_.call<fb::isolator::Usages>(Method::USAGE, request);
  ASSERT_TRUE(usage);
  ASSERT_EQ(usage->usages.size(), 1u);
  const auto& u = *usage->usages[0];
  ASSERT_EQ(u.gpus.size(), 2u);
  EXPECT_EQ(u.gpus[0]->uuid, "GPU-aaaa");
  EXPECT_DOUBLE_EQ(u.gpus[0]->utilization, 0.25);
  EXPECT_EQ(u.gpus[0]->memory_used, 100u);
  EXPECT_EQ(u.gpus[0]->memory_total, 1000u);
  EXPECT_EQ(u.gpus[1]->index, 1u);
}

TEST_F(GpuTest, RecoveryKnowsWhoHasWhat) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start();
  ASSERT_TRUE(prepare("living", 1));
  ASSERT_TRUE(prepare("orphan", 1));
  ASSERT_TRUE(module_.stop());
  started_ = false;
  testing::Subject<Gpu> again(host_, "gpu");
  again.defaults({{"cards", std::vector<std::string>{}},
                  {"library", FAKE_NVML},
                  {"dev", top_ + "/dev"},
                  {"driver_files", true},
                  {"library_cache", top_ + "/cache"},
                  {"programs", std::vector<std::string>{}},
                  {"interval", 10s}});
  again.work_dir(top_ + "/work");
  ASSERT_TRUE(again.configure());
  ASSERT_TRUE(again.start());
  fb::isolator::RecoverT r;
  r.containers.push_back(std::make_unique<fb::isolator::KnownT>());
  r.containers[0]->container_id = "living";
  const auto recovered = again.call<fb::isolator::Recovered>(GANTRY_METHOD_RECOVER, r);
  ASSERT_TRUE(recovered);
  EXPECT_EQ(recovered->orphans, std::vector<std::string>{"orphan"});
  fb::isolator::PrepareT p;
  p.container_id = "new";
  p.task = std::make_unique<fb::TaskInfoT>();
  p.task->resources.push_back(gpus(1));
  EXPECT_FALSE(again.call<fb::isolator::Prepared>(Method::PREPARE, p)) << "both are taken still";
  fb::isolator::CleanupT c;
  c.container_id = "orphan";
  ASSERT_TRUE(again.call(Method::CLEANUP, c));
  const auto next = again.call<fb::isolator::Prepared>(Method::PREPARE, p);
  ASSERT_TRUE(next);
  EXPECT_EQ(visible(*next), "GPU-bbbb");
  ASSERT_TRUE(again.stop());
}

TEST_F(GpuTest, CleanedUpWhileItIsPrepared) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start();
  fb::isolator::PrepareT p;
  p.container_id = "hasty";
  p.task = std::make_unique<fb::TaskInfoT>();
  p.task->resources.push_back(gpus(2));
  const auto preparing = module_.enqueue(Method::PREPARE, p);
  ASSERT_TRUE(cleanup("hasty"));
  host_.run();
  EXPECT_TRUE(preparing.done());
  EXPECT_EQ(preparing.code(), Code::cancelled);
  EXPECT_NE(::access((top_ + "/work/containers/hasty").c_str(), F_OK), 0);
  EXPECT_TRUE(prepare("next", 2));
}

TEST_F(GpuTest, ADamagedRecordIsNamed) {
  ASSERT_EQ(::mkdir((top_ + "/work/containers").c_str(), 0700), 0);
  put("/work/containers/c9", "");
  put("/work/containers/.c8.new", "GPU-");
  start();
  EXPECT_NE(::access((top_ + "/work/containers/.c8.new").c_str(), F_OK), 0) << "what was never finished is removed";
  EXPECT_TRUE(host_.logged("containers/c9 names no card"));
  EXPECT_TRUE(cleanup("c9"));
}

TEST_F(GpuTest, CardsOfARunningContainerDoNotChange) {
  if (!nodes()) GTEST_SKIP() << "no right to make device nodes";
  start();
  ASSERT_TRUE(prepare("c1", 1));
  fb::isolator::UpdateT u;
  u.container_id = "c1";
  u.resources.push_back(gpus(1));
  EXPECT_TRUE(module_.call(Method::UPDATE, u));
  u.resources[0]->scalar = 2;
  EXPECT_FALSE(module_.call(Method::UPDATE, u));
}

TEST_F(GpuTest, NamesThatAreNoNamesAreRefused) {
  start();
  for (const char* bad : {"", "..", "a/b", ".new", "new\nline"}) EXPECT_FALSE(prepare(bad, 1)) << bad;
}

}  // namespace
}  // namespace gantry::isolator_gpu
