#include "security.hpp"

#include <gantry/testing/host.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace gantry::isolator_security {
namespace {

using fb::isolator::Method;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr CapabilitySet docker = 0xa80425fb;  // the fourteen

// What `attempt` gives in a child under this filter: its errno, 0 for success.
int under(const Filter& filter, int (*attempt)()) {
  const pid_t child = ::fork();
  if (child == 0) {
    sock_fprog program{static_cast<unsigned short>(filter.size() / 8), reinterpret_cast<sock_filter*>(const_cast<std::uint8_t*>(filter.data()))};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) ::syscall(SYS_exit_group, 200);
    errno = 0;
    const int result = attempt() == 0 ? 0 : errno;
    ::syscall(SYS_exit_group, result);  // nothing a sanitizer would do by the way is allowed
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int try_unshare() { return ::unshare(CLONE_NEWUTS); }
int try_mkdir() { return ::mkdir("/proc/no-such-place", 0700); }
int try_kexec() { return static_cast<int>(::syscall(SYS_kexec_load, 0, 0, 0, 0xffffffff)); }
int try_clone3() { return static_cast<int>(::syscall(SYS_clone3, nullptr, 0)); }
int try_fork() {
  const pid_t p = ::fork();
  if (p == 0) ::_exit(0);
  return p > 0 ? ::waitpid(p, nullptr, 0) != p : -1;
}
int try_new_user_namespace() {
  const long p = ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (p == 0) ::_exit(0);
  return p > 0 ? 0 : -1;
}

TEST(Capabilities, NamesInEveryUsualSpelling) {
  EXPECT_EQ(capability_number("NET_RAW"), CAP_NET_RAW);
  EXPECT_EQ(capability_number("cap_net_raw"), CAP_NET_RAW);
  EXPECT_EQ(capability_number("CAP_CHECKPOINT_RESTORE"), CAP_CHECKPOINT_RESTORE);
  EXPECT_EQ(capability_number("NET"), -1);
  const auto set = parse_capabilities({"CHOWN", "KILL"}, "f");
  ASSERT_TRUE(set);
  EXPECT_EQ(names_of(*set), "CHOWN, KILL");
  EXPECT_EQ(*parse_capabilities({"ALL"}, "f"), all_capabilities);
  const auto bad = parse_capabilities({"FLY"}, "bounding_capabilities");
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("bounding_capabilities: \"FLY\" is no capability"));
}

TEST(Builtin, RefusesWhatReachesTheMachineAndNothingElse) {
  const auto f = compile_builtin(docker);
  ASSERT_TRUE(f) << f.error().message;
  EXPECT_EQ(under(*f, try_unshare), EPERM);
  EXPECT_EQ(under(*f, try_kexec), EPERM);
  EXPECT_EQ(under(*f, try_new_user_namespace), EPERM);
  EXPECT_EQ(under(*f, try_clone3), ENOSYS);
  EXPECT_EQ(under(*f, try_fork), 0);
  EXPECT_EQ(under(*f, try_mkdir), ENOENT);
}

TEST(Builtin, ACapabilityOpensWhatItIsThereFor) {
  if (::geteuid() != 0) GTEST_SKIP() << "unshare needs root";
  const auto f = compile_builtin(docker | only(CAP_SYS_ADMIN));
  ASSERT_TRUE(f);
  EXPECT_EQ(under(*f, try_unshare), 0);
  EXPECT_EQ(under(*f, try_kexec), EPERM);
}

TEST(Profile, AsDockerWritesThem) {
  const auto f = compile_profile(R"({
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
    "syscalls": [
      {"names": ["mkdir", "mkdirat", "no_such_call_ever"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55},
      {"name": "unshare", "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 67108864, "valueTwo": 67108864, "op": "SCMP_CMP_MASKED_EQ"}]},
      {"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO", "errnoRet": 56, "includes": {"caps": ["CAP_SYS_BOOT"]}},
      {"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO", "errnoRet": 57, "excludes": {"caps": ["CAP_SYS_BOOT"]}, "comment": "", "args": []},
      {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 58, "includes": {"minKernel": "4.8"}},
      {"names": ["getpid"], "action": "SCMP_ACT_KILL", "includes": {"minKernel": "99.0"}},
      {"names": ["getpid"], "action": "SCMP_ACT_KILL", "includes": {"arches": ["s390x"]}}
    ]})", docker);
  ASSERT_TRUE(f) << f.error().message;
  EXPECT_EQ(under(*f, try_mkdir), 55);
  EXPECT_EQ(under(*f, try_unshare), EPERM);
  EXPECT_EQ(under(*f, try_kexec), 57);
  EXPECT_EQ(under(*f, try_clone3), 58);
  EXPECT_EQ(under(*f, [] { return ::getpid() > 0 ? 0 : -1; }), 0);
  EXPECT_EQ(under(*f, try_fork), 0);
}

TEST(Profile, ListsOfWhatIsAllowed) {
  const auto f = compile_profile(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
    "syscalls": [{"names": ["exit_group", "exit", "prctl"], "action": "SCMP_ACT_ALLOW"}]})", docker);
  ASSERT_TRUE(f) << f.error().message;
  EXPECT_EQ(under(*f, try_mkdir), ENOSYS);
}

TEST(Profile, MistakesAreNamedWithTheirPlace) {
  const auto why = [](const char* text) {
    const auto f = compile_profile(text, docker);
    return f ? std::string("accepted") : f.error().message;
  };
  EXPECT_THAT(why("{"), HasSubstr("not JSON"));
  EXPECT_THAT(why("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(why("{}"), HasSubstr("defaultAction is missing"));
  EXPECT_THAT(why(R"({"defaultAction": "SCMP_ACT_HOPE"})"), HasSubstr("defaultAction is \"SCMP_ACT_HOPE\""));
  EXPECT_THAT(why(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL"}]})"), HasSubstr("syscalls[0].names is missing"));
  EXPECT_THAT(why(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}]})"), HasSubstr("syscalls[0].errnoRet is 5000"));
  EXPECT_THAT(why(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_KILL", "args": [{"index": 7}]}]})"), HasSubstr("syscalls[0].args[0].index is 7"));
  EXPECT_THAT(why(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "op": "LIKE"}]}]})"), HasSubstr("args[0].op"));
  EXPECT_THAT(why(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_KILL", "includes": {"caps": ["FLY"]}}]})"), HasSubstr("includes.caps: \"FLY\""));
}

fb::TaskInfoT docker_task(std::initializer_list<std::pair<const char*, const char*>> parameters, bool privileged = false) {
  fb::TaskInfoT t;
  t.container = std::make_unique<fb::ContainerInfoT>();
  t.container->type = fb::ContainerType::DOCKER;
  t.container->docker = std::make_unique<fb::DockerInfoT>();
  t.container->docker->privileged = privileged;
  for (const auto& [k, v] : parameters) {
    t.container->docker->parameters.push_back(std::make_unique<fb::ParameterT>());
    t.container->docker->parameters.back()->key = k;
    t.container->docker->parameters.back()->value = v;
  }
  return t;
}
fb::TaskInfoT mesos_task() {
  fb::TaskInfoT t;
  t.container = std::make_unique<fb::ContainerInfoT>();
  t.container->type = fb::ContainerType::MESOS;
  t.container->linux_info = std::make_unique<fb::LinuxInfoT>();
  return t;
}
Defaults defaults() {
  Defaults d;
  d.image = docker;
  return d;
}
std::string refused(const fb::TaskInfoT& t, const Defaults& d, bool image = true) {
  const auto w = wishes_of(t, d, image, true);
  return w ? "accepted" : w.error().message;
}

TEST(Wishes, WithoutAnImageAndWithoutAWishNothingChanges) {
  const auto w = wishes_of({}, defaults(), false, true);
  ASSERT_TRUE(w);
  EXPECT_FALSE(w->capabilities);
  EXPECT_EQ(w->profile, "");
}

TEST(Wishes, ImagesGetDockersFourteenAndUsersNone) {
  const auto root = wishes_of({}, defaults(), true, true), user = wishes_of({}, defaults(), true, false);
  ASSERT_TRUE(root && user && root->capabilities && user->capabilities);
  EXPECT_EQ(root->capabilities->effective, docker);
  EXPECT_EQ(root->profile, "builtin");
  EXPECT_EQ(user->capabilities->effective, 0u);
  EXPECT_EQ(user->capabilities->bounding, docker);
}

TEST(Wishes, DockerParametersAddAndDrop) {
  auto w = wishes_of(docker_task({{"cap-drop", "ALL"}, {"cap-add", "NET_ADMIN"}, {"cap-add", "CHOWN"}, {"ulimit", "nofile=10:20"}, {"ulimit", "core=-1"}, {"security-opt", "no-new-privileges"}, {"env", "A=1"}}), defaults(), true, true);
  ASSERT_TRUE(w) << w.error().message;
  EXPECT_EQ(w->capabilities->effective, only(CAP_NET_ADMIN) | only(CAP_CHOWN));
  EXPECT_TRUE(w->no_new_privileges);
  ASSERT_EQ(w->limits.size(), 2u);
  EXPECT_EQ(w->limits[0].resource, static_cast<std::uint32_t>(RLIMIT_NOFILE));
  EXPECT_EQ(w->limits[0].hard, 20u);
  EXPECT_EQ(w->limits[1].soft, ~std::uint64_t{0});
  EXPECT_THAT(w->parameters, ElementsAre("cap-drop", "cap-add", "cap-add", "ulimit", "ulimit", "security-opt"));
  w = wishes_of(docker_task({{"cap-drop", "NET_RAW"}, {"security-opt", "seccomp=unconfined"}}), defaults(), true, true);
  ASSERT_TRUE(w);
  EXPECT_EQ(w->capabilities->effective, docker & ~only(CAP_NET_RAW));
  EXPECT_EQ(w->profile, "");
  EXPECT_THAT(refused(docker_task({{"ulimit", "wings=2"}}), defaults()), HasSubstr("docker parameter ulimit=wings=2"));
  EXPECT_THAT(refused(docker_task({{"cap-add", "FLY"}}), defaults()), HasSubstr("docker parameter cap-add: \"FLY\""));
  EXPECT_THAT(refused(docker_task({{"security-opt", "x=y"}}), defaults()), HasSubstr("security-opt=x=y is unknown"));
}

TEST(Wishes, PrivilegedIsEverythingIfTheOperatorAllows) {
  const auto w = wishes_of(docker_task({}, true), defaults(), true, true);
  ASSERT_TRUE(w);
  EXPECT_EQ(w->capabilities->effective, all_capabilities);
  EXPECT_EQ(w->profile, "");
  Defaults strict = defaults();
  strict.allow_unconfined = false;
  EXPECT_THAT(refused(docker_task({}, true), strict), HasSubstr("privileged: this agent's isolator.security has allow_unconfined = false"));
  EXPECT_THAT(refused(docker_task({{"security-opt", "seccomp=unconfined"}}), strict), HasSubstr("allow_unconfined = false"));
}

TEST(Wishes, NobodyGetsMoreThanTheOperatorAllows) {
  Defaults d = defaults();
  d.bounding = only(CAP_CHOWN) | only(CAP_KILL);
  auto t = mesos_task();
  t.container->linux_info->effective_capabilities = {fb::LinuxCapability::CHOWN, fb::LinuxCapability::NET_RAW};
  EXPECT_THAT(refused(t, d, false), HasSubstr("effective_capabilities: this agent does not allow NET_RAW"));
  t.container->linux_info->effective_capabilities = {fb::LinuxCapability::CHOWN};
  const auto w = wishes_of(t, d, false, false);
  ASSERT_TRUE(w) << w.error().message;
  EXPECT_EQ(w->capabilities->effective, only(CAP_CHOWN));
  EXPECT_EQ(w->capabilities->bounding, only(CAP_CHOWN));
  t.container->linux_info->bounding_capabilities = {fb::LinuxCapability::KILL};
  EXPECT_THAT(refused(t, d, false), HasSubstr("effective_capabilities has CHOWN, which bounding_capabilities lacks"));
  // Who asks for nothing is within the bounds all the same.
  const auto plain = wishes_of({}, d, false, true);
  ASSERT_TRUE(plain && plain->capabilities);
  EXPECT_EQ(plain->capabilities->bounding, d.bounding);
}

TEST(Wishes, LimitsHaveBothEndsOrNone) {
  auto t = mesos_task();
  t.container->rlimits.push_back(std::make_unique<fb::RLimitT>());
  auto& r = *t.container->rlimits.back();
  r.type = fb::RLimitType::RLMT_NOFILE;
  r.soft = 5;
  EXPECT_THAT(refused(t, defaults()), HasSubstr("RLMT_NOFILE has one of soft and hard"));
  r.hard = 4;
  EXPECT_THAT(refused(t, defaults()), HasSubstr("the soft limit 5 is above the hard limit 4"));
  r.hard = 6;
  const auto w = wishes_of(t, defaults(), false, true);
  ASSERT_TRUE(w);
  EXPECT_EQ(w->limits.at(0).hard, 6u);
}

class SecurityTest : public ::testing::Test {
 protected:
  SecurityTest() : module_(host_, "security") {
    module_.defaults({{"bounding_capabilities", std::vector<std::string>{"ALL"}}, {"effective_capabilities", std::vector<std::string>{"ALL"}},
                      {"image_capabilities", std::vector<std::string>{"CHOWN", "SETUID"}}, {"seccomp_profile", ""}, {"image_seccomp_profile", "builtin"},
                      {"seccomp_profile_dir", ""}, {"allow_unconfined", true}, {"no_new_privileges", false}});
    module_->allowed = [] { return true; };
  }
  ~SecurityTest() override { EXPECT_EQ(host_.faults(), std::vector<std::string>{}); }
  Result<fb::isolator::PreparedT> prepare(bool image) {
    fb::isolator::PrepareT p;
    p.container_id = "c1";
    if (image) p.layers = {"/l"};
    return module_.call<fb::isolator::Prepared>(Method::PREPARE, p);
  }
  testing::Host host_;
  testing::Subject<Security> module_;
};

TEST_F(SecurityTest, ImagesAreConfinedByDefault) {
  ASSERT_TRUE(module_.configure());
  ASSERT_TRUE(module_.start());
  const auto p = prepare(true);
  ASSERT_TRUE(p) << p.error().message;
  ASSERT_TRUE(p->capabilities);
  EXPECT_EQ(p->capabilities->bounding, only(CAP_CHOWN) | only(CAP_SETUID));
  EXPECT_EQ(under(p->seccomp, try_unshare), EPERM);
  EXPECT_FALSE(p->no_new_privileges);
  const auto plain = prepare(false);
  ASSERT_TRUE(plain);
  EXPECT_FALSE(plain->capabilities);
  EXPECT_TRUE(plain->seccomp.empty());
}

TEST_F(SecurityTest, WithoutRightsFiltersHoldStill) {
  module_->allowed = [] { return false; };
  ASSERT_TRUE(module_.configure());
  ASSERT_TRUE(module_.start());
  const auto p = prepare(true);
  ASSERT_TRUE(p);
  EXPECT_FALSE(p->capabilities);
  EXPECT_TRUE(p->no_new_privileges);
  EXPECT_FALSE(p->seccomp.empty());
  const auto health = module_.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer());
  ASSERT_TRUE(health);
  EXPECT_EQ(health->state, fb::HealthState::DEGRADED);
}

TEST_F(SecurityTest, ProfilesAreCheckedWhenTheyAreConfigured) {
  char dir[] = "/tmp/gantry-seccomp-XXXXXX";
  const std::string folder = ::mkdtemp(dir);
  std::ofstream(folder + "/good.json") << R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55}]})";
  std::ofstream(folder + "/bad.json") << R"({"defaultAction": "SCMP_ACT_HOPE"})";
  auto configured = module_.configure({{"seccomp_profile", "bad.json"}, {"seccomp_profile_dir", folder}});
  ASSERT_FALSE(configured);
  EXPECT_THAT(configured.error().message, HasSubstr("seccomp_profile = \"bad.json\""));
  ASSERT_FALSE(module_.configure({{"seccomp_profile", "good.json"}}));
  ASSERT_TRUE(module_.configure({{"seccomp_profile", "good.json"}, {"seccomp_profile_dir", folder}}));
  ASSERT_TRUE(module_.start());
  auto p = prepare(false);
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_EQ(under(p->seccomp, try_mkdir), 55);
  // Edited while we run: the next container gets the new one.
  std::ofstream(folder + "/good.json") << R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 56}]}  )";
  p = prepare(false);
  ASSERT_TRUE(p);
  EXPECT_EQ(under(p->seccomp, try_mkdir), 56);
  std::filesystem::remove_all(folder);
}

TEST_F(SecurityTest, ANameCannotLeadOutOfTheFolder) {
  ASSERT_TRUE(module_.configure({{"seccomp_profile_dir", "/tmp"}}));
  ASSERT_TRUE(module_.start());
  fb::isolator::PrepareT p;
  p.container_id = "c1";
  p.task = std::make_unique<fb::TaskInfoT>(mesos_task());
  p.task->container->linux_info->seccomp = std::make_unique<fb::SeccompInfoT>();
  p.task->container->linux_info->seccomp->profile_name = "../etc/passwd";
  const auto r = module_.call<fb::isolator::Prepared>(Method::PREPARE, p);
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().message, HasSubstr("must be the plain name of a file"));
}

}  // namespace
}  // namespace gantry::isolator_security
