#include "namespaces.hpp"

#include <gtest/gtest.h>
#include <gantry/testing/host.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

namespace gantry::isolator_namespaces {
namespace {

using fb::isolator::Method;
using fb::isolator::Namespace;

constexpr std::uint32_t bits(std::initializer_list<Namespace> all) {
  std::uint32_t out = 0;
  for (const auto b : all) out |= static_cast<std::uint32_t>(b);
  return out;
}

class NamespacesTest : public ::testing::Test {
 protected:
  NamespacesTest() : module_(host_, "namespaces") {
    module_.defaults({{"pid", true},
                      {"mount", true},
                      {"ipc", false},
                      {"uts", false},
                      {"cgroup", false},
                      {"shm_size", 0},
                      {"disallow_sharing_agent_pid", false},
                      {"disallow_sharing_agent_ipc", false}});
    module_->allowed = [] { return true; };
  }
  ~NamespacesTest() override { EXPECT_EQ(host_.faults(), std::vector<std::string>{}); }
  fb::isolator::PreparedT prepare() {
    auto r = prepare_as({}, false);
    EXPECT_TRUE(r);
    return r ? std::move(*r) : fb::isolator::PreparedT{};
  }
  // A task that says this of itself, with or without an image.
  testing::Outcome<fb::isolator::Prepared> prepare_as(fb::LinuxInfoT info, bool image) {
    fb::isolator::PrepareT p;
    p.container_id = "c1";
    p.task = std::make_unique<fb::TaskInfoT>();
    p.task->container = std::make_unique<fb::ContainerInfoT>();
    p.task->container->linux_info = std::make_unique<fb::LinuxInfoT>(info);
    if (image) p.layers = {"/images/one"};
    return module_.call<fb::isolator::Prepared>(Method::PREPARE, p);
  }
  static fb::LinuxInfoT ipc(fb::IpcMode mode, std::optional<std::uint32_t> shm = {}) {
    fb::LinuxInfoT info;
    info.ipc_mode = mode;
    if (shm) info.shm_size = *shm;
    return info;
  }
  static std::string shm(const fb::isolator::PreparedT& p) {
    for (const auto& m : p.mounts)
      if (m->target == "/dev/shm") return m->type + ":" + m->source + ":" + m->data;
    return "none";
  }
  static bool has(const fb::isolator::PreparedT& p, Namespace n) { return (p.namespaces & static_cast<std::uint32_t>(n)) != 0; }
  void start(const testing::Values& settings) {
    ASSERT_TRUE(module_.configure(settings));
    ASSERT_TRUE(module_.start());
  }
  testing::Host host_;
  testing::Subject<Namespaces> module_;
};

TEST_F(NamespacesTest, PidAndMountWithAProcOfItsOwn) {
  ASSERT_TRUE(module_.configure());
  ASSERT_TRUE(module_.start());
  const auto p = prepare();
  EXPECT_EQ(p.namespaces, bits({Namespace::PID, Namespace::MOUNT}));
  EXPECT_TRUE(p.no_attach);
  ASSERT_EQ(p.mounts.size(), 1u);
  EXPECT_EQ(p.mounts[0]->target, "/proc");
}

TEST_F(NamespacesTest, SettingsChoose) {
  ASSERT_TRUE(module_.configure({{"mount", false}, {"ipc", true}, {"uts", true}}));
  ASSERT_TRUE(module_.start());
  const auto p = prepare();
  EXPECT_EQ(p.namespaces, bits({Namespace::PID, Namespace::IPC, Namespace::UTS}));
  EXPECT_TRUE(p.mounts.empty());
}

TEST_F(NamespacesTest, WithoutRightsIsDegradedAndAsksForNothing) {
  module_->allowed = [] { return false; };
  ASSERT_TRUE(module_.configure());
  ASSERT_TRUE(module_.start());
  EXPECT_EQ(prepare().namespaces, 0u);
  EXPECT_EQ(prepare().namespaces, 0u);
  const auto health = module_.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer());
  ASSERT_TRUE(health);
  EXPECT_EQ(health->state, fb::HealthState::DEGRADED);
  EXPECT_NE(health->message.find("no right to make namespaces"), std::string::npos);
}

TEST_F(NamespacesTest, NestedOnesStayInTheirParentsUnlessTheyWantTheirOwn) {
  start({{"ipc", true}, {"uts", true}});
  fb::isolator::PrepareT p;
  p.container_id = "c1";
  p.parent = "pod";
  const auto ask = [&](fb::LinuxInfoT info) {
    p.task = std::make_unique<fb::TaskInfoT>();
    p.task->container = std::make_unique<fb::ContainerInfoT>();
    p.task->container->linux_info = std::make_unique<fb::LinuxInfoT>(info);
    return module_.call<fb::isolator::Prepared>(Method::PREPARE, p);
  };
  auto r = ask({});
  ASSERT_TRUE(r);
  EXPECT_EQ(r->namespaces, bits({Namespace::PID, Namespace::MOUNT}));
  r = ask(ipc(fb::IpcMode::PRIVATE));
  ASSERT_TRUE(r);
  EXPECT_EQ(r->namespaces, bits({Namespace::PID, Namespace::MOUNT, Namespace::IPC}));
  fb::LinuxInfoT shared;
  shared.share_pid_namespace = true;
  r = ask(shared);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find("tasks of a group cannot share the pid namespace"), std::string::npos) << r.error().message;
}

TEST_F(NamespacesTest, CgroupNamespaceOnRequest) {
  start({{"cgroup", true}});
  EXPECT_TRUE(has(prepare(), Namespace::CGROUP));
}

// The table of Mesos: ipc_mode x image.
TEST_F(NamespacesTest, IpcUnsetKeepsTheMachinesSharedMemoryWithoutAnImage) {
  start({{"ipc", true}});
  for (const auto mode : {std::optional<fb::IpcMode>(), std::optional(fb::IpcMode::UNKNOWN)}) {
    fb::LinuxInfoT info;
    if (mode) info.ipc_mode = *mode;
    const auto plain = prepare_as(info, false), image = prepare_as(info, true);
    ASSERT_TRUE(plain && image);
    EXPECT_TRUE(has(*plain, Namespace::IPC));
    EXPECT_EQ(shm(*plain), "none");
    EXPECT_TRUE(has(*image, Namespace::IPC));
    EXPECT_EQ(shm(*image), "tmpfs:shm:mode=1777");
  }
}

TEST_F(NamespacesTest, IpcPrivateHasSharedMemoryOfItsSize) {
  start({{"shm_size", 8 << 20}});
  const auto by_default = prepare_as(ipc(fb::IpcMode::PRIVATE), false), own = prepare_as(ipc(fb::IpcMode::PRIVATE, 2), true);
  ASSERT_TRUE(by_default && own);
  EXPECT_TRUE(has(*by_default, Namespace::IPC)) << "asked for, though not every container gets one";
  EXPECT_EQ(shm(*by_default), "tmpfs:shm:mode=1777,size=8388608");
  EXPECT_EQ(shm(*own), "tmpfs:shm:mode=1777,size=2097152");
}

TEST_F(NamespacesTest, IpcSharedWithTheMachine) {
  start({{"ipc", true}});
  const auto plain = prepare_as(ipc(fb::IpcMode::SHARE_PARENT, 2), false), image = prepare_as(ipc(fb::IpcMode::SHARE_PARENT), true);
  ASSERT_TRUE(plain && image);
  EXPECT_FALSE(has(*plain, Namespace::IPC));
  EXPECT_EQ(shm(*plain), "none");
  EXPECT_FALSE(has(*image, Namespace::IPC));
  EXPECT_EQ(shm(*image), ":/dev/shm:");
}

TEST_F(NamespacesTest, SharingWithTheMachineCanBeForbidden) {
  start({{"ipc", true}, {"disallow_sharing_agent_ipc", true}, {"disallow_sharing_agent_pid", true}});
  const auto memory = prepare_as(ipc(fb::IpcMode::SHARE_PARENT), false);
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Code::failed_precondition);
  EXPECT_NE(memory.error().message.find("disallow_sharing_agent_ipc"), std::string::npos);
  fb::LinuxInfoT info;
  info.share_pid_namespace = true;
  const auto pid = prepare_as(info, false);
  ASSERT_FALSE(pid);
  EXPECT_NE(pid.error().message.find("disallow_sharing_agent_pid"), std::string::npos);
  EXPECT_TRUE(prepare_as(ipc(fb::IpcMode::PRIVATE), false));
}

TEST_F(NamespacesTest, ForbiddingWhatEverybodyGetsIsAMistake) {
  const Status s = module_.configure({{"disallow_sharing_agent_ipc", true}});
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().key_path, "disallow_sharing_agent_ipc");
  EXPECT_FALSE(module_.configure({{"pid", false}, {"disallow_sharing_agent_pid", true}}));
}

TEST_F(NamespacesTest, PidSharedWithTheMachine) {
  start({});
  fb::LinuxInfoT info;
  info.share_pid_namespace = true;
  const auto plain = prepare_as(info, false), image = prepare_as(info, true);
  ASSERT_TRUE(plain && image);
  EXPECT_EQ(plain->namespaces, bits({Namespace::MOUNT}));
  EXPECT_TRUE(plain->mounts.empty()) << "the machine's /proc is the right one";
  ASSERT_EQ(image->mounts.size(), 1u);
  EXPECT_EQ(image->mounts[0]->target, "/proc");
}

TEST_F(NamespacesTest, PrivateSharedMemoryNeedsAMountNamespace) {
  start({{"mount", false}});
  const auto p = prepare_as(ipc(fb::IpcMode::PRIVATE), false);
  ASSERT_FALSE(p);
  EXPECT_NE(p.error().message.find("mount = true"), std::string::npos);
}

// What is asked for is what the kernel takes.
TEST_F(NamespacesTest, SharedMemoryIsAsLargeAsAskedFor) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  start({});
  const auto p = prepare_as(ipc(fb::IpcMode::PRIVATE, 3), false);
  ASSERT_TRUE(p);
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::unshare(CLONE_NEWNS | CLONE_NEWIPC) != 0 || ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ::_exit(77);
    for (const auto& m : p->mounts)
      if (m->target == "/dev/shm" && ::mount(m->source.c_str(), m->target.c_str(), m->type.c_str(), m->flags, m->data.c_str()) != 0)
        ::_exit(1);
    struct statvfs fs {};
    if (::statvfs("/dev/shm", &fs) != 0) ::_exit(2);
    ::_exit(fs.f_blocks * fs.f_frsize == 3u << 20 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no right to make namespaces";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace gantry::isolator_namespaces
