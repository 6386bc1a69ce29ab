// Roots, mounts below them, capabilities, limits and filters: what isolators ask for, seen from inside the container, from a
// command beside it, and after the agent has returned.
#include "tests/kernel/agent/launch_rig.hpp"

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cstddef>

namespace gantry::agent::launching {
namespace {

using fb::isolator::MountOption;
using fb::isolator::PreparedT;

template <class... B>
std::uint32_t bits(B... all) {
  return (static_cast<std::uint32_t>(all) | ... | 0u);
}

void mount(PreparedT& p, const std::string& source, const std::string& target, std::uint64_t flags, std::uint32_t options, const std::string& type = {}, const std::string& data = {}) {
  auto m = std::make_unique<fb::isolator::MountT>();
  m->source = source;
  m->target = target;
  m->type = type;
  m->flags = flags;
  m->data = data;
  m->options = options;
  p.mounts.push_back(std::move(m));
}

// mkdir gives EPERM... of a kind nobody else gives: the errno is the filter's.
std::vector<std::uint8_t> refuse(int call, int error) {
  const sock_filter program[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<std::uint32_t>(call)},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const auto* raw = reinterpret_cast<const std::uint8_t*>(program);
  return {raw, raw + sizeof program};
}

class Confined : public LaunchTest {
 protected:
  void SetUp() override {
    LaunchTest::SetUp();
    if (::geteuid() != 0) GTEST_SKIP() << "namespaces and roots need root";
    if (IsSkipped()) return;
    isolate();
  }
  // A small root: the machine's programs, bound read-only, and directories of its own.
  std::string make_root() {
    const std::string root = work_dir_ + "/root";
    for (const char* d : {"proc", "tmp", "etc", "dev", "sandbox"}) std::filesystem::create_directories(root + "/" + d);
    std::ofstream(root + "/etc/whose") << "container\n";
    first_->shape = [root](PreparedT& p) {
      p.root = root;
      p.sandbox = "/sandbox";
      for (const char* d : {"/usr", "/bin", "/lib", "/lib64", "/sbin"})
        if (std::filesystem::exists(d)) mount(p, d, d, MS_BIND | MS_REC | MS_RDONLY, bits(MountOption::DIRECTORY));
      mount(p, "/dev/null", "/dev/null", MS_BIND, bits(MountOption::FILE));
    };
    return root;
  }
  void also(std::function<void(PreparedT&)> more) {
    first_->shape = [before = first_->shape, more = std::move(more)](PreparedT& p) {
      if (before) before(p);
      more(p);
    };
  }
  // The sandbox at /sandbox; each container has its own, so this is told per launch.
  void with_sandbox(const std::string& id) {
    also([from = sandbox(id)](PreparedT& p) { mount(p, from, "/sandbox", MS_BIND, bits(MountOption::DIRECTORY)); });
  }
  std::string output(const std::string& id, const std::string& command) {
    const Identity i = start(id, command);
    if (!i.pid) return {};
    const auto e = exit_of(id);
    EXPECT_TRUE(e && e->wait_status == 0) << (e ? e->wait_status.value_or(-1) : -1) << " " << slurp(sandbox(id) + "/stderr");
    return slurp(sandbox(id) + "/stdout");
  }
  std::string why_not(const std::string& id, const std::string& command) {
    const auto r = launch(spec(id, command));
    const auto* e = std::get_if<Launcher::LaunchError>(&r);
    return e ? e->error.message : "it started";
  }
  Result<int> beside(const std::string& id, const std::string& command) {
    std::promise<Result<int>> p;
    fb::CommandInfoT c;
    c.value = command;
    on_loop([&] { launcher_->run_in(id, c, 10s, [&](Result<int> r) { p.set_value(std::move(r)); }); });
    return p.get_future().get();
  }
};

TEST_F(Confined, ARootOfItsOwnAndNothingElse) {
  make_root();
  with_sandbox("c");
  EXPECT_EQ(output("c", "cat /etc/whose; ls /; pwd; echo $MESOS_SANDBOX; ls -d /home /var 2>&1 | grep -c cannot; touch made"),
            "container\nbin\ndev\netc\nlib\nlib64\nproc\nsandbox\nsbin\ntmp\nusr\n/sandbox\n/sandbox\n2\n");
  EXPECT_TRUE(std::filesystem::exists(sandbox("c") + "/made"));
  // What was mounted in there is seen nowhere else.
  EXPECT_EQ(slurp("/proc/self/mountinfo").find(work_dir_), std::string::npos);
}

// Cgroups are entered by files of the machine, which the container cannot see.
TEST_F(Confined, FilesToEnterAreThoseOfTheMachine) {
  make_root();
  with_sandbox("c");
  const std::string file = work_dir_ + "/procs";
  std::ofstream(file) << "";
  also([file](PreparedT& p) { p.enter_files = {file}; });
  start("c", "echo ready; sleep 1000");
  ASSERT_TRUE(prints("c", "ready"));
  EXPECT_EQ(slurp(file), "0");
  ::truncate(file.c_str(), 0);
  const auto r = beside("c", "true");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(slurp(file), "0");
  also([](PreparedT& p) { p.enter_files = {"/no/such/procs"}; });
  EXPECT_EQ(why_not("d", "true"), "cannot enter /no/such/procs: No such file or directory");
}

TEST_F(Confined, BindsAreReadOnlyToTheirDepths) {
  make_root();
  with_sandbox("c");
  EXPECT_EQ(output("c", "touch /usr/x 2>&1 | grep -o 'Read-only.*'; touch /etc/x && echo own"), "Read-only file system\nown\n");
}

// Images bring links of their own: they are followed inside the root, however they are written.
TEST_F(Confined, LinksOfTheImageDoNotLeadOut) {
  const std::string root = make_root(), victim = work_dir_ + "/victim";
  std::filesystem::create_directories(victim);
  std::filesystem::create_symlink(victim, root + "/absolute");
  std::filesystem::create_symlink("../../../../../../../.." + victim, root + "/relative");
  with_sandbox("c");
  also([](PreparedT& p) {
    mount(p, "tmpfs", "/absolute/a", 0, bits(MountOption::DIRECTORY), "tmpfs");
    mount(p, "/etc/hostname", "/relative/../../../../b/c", MS_BIND, bits(MountOption::FILE, MountOption::OPTIONAL));
  });
  // The links' targets do not exist inside the root, so the first mount has nowhere to go.
  EXPECT_THAT(why_not("c", "true"), HasSubstr("cannot mount tmpfs on /absolute/a"));
  EXPECT_TRUE(std::filesystem::is_empty(victim));
  std::filesystem::create_directories(root + victim);
  ids_.clear();
  EXPECT_EQ(output("c", "findmnt -n -o TARGET " + victim + "/a"), victim + "/a\n");
  EXPECT_TRUE(std::filesystem::is_empty(victim));
}

TEST_F(Confined, StrictTargetsHaveNoLinks) {
  const std::string root = make_root();
  std::filesystem::create_symlink("tmp", root + "/link");
  with_sandbox("c");
  also([](PreparedT& p) { mount(p, "tmpfs", "/link", 0, bits(MountOption::STRICT), "tmpfs"); });
  EXPECT_THAT(why_not("c", "true"), HasSubstr("cannot mount tmpfs on /link: Too many levels of symbolic links"));
}

TEST_F(Confined, StrictSourcesAreNotLedAnywhere) {
  make_root();
  with_sandbox("c");
  const std::string shelf = work_dir_ + "/shelf";
  std::filesystem::create_directories(shelf + "/real");
  std::ofstream(shelf + "/real/file") << "mine\n";
  std::filesystem::create_symlink("/etc", shelf + "/link");
  std::string source = "real";
  also([&](PreparedT& p) {
    mount(p, source, "/tmp/v", MS_BIND, bits(MountOption::DIRECTORY, MountOption::STRICT_SOURCE));
    p.mounts.back()->base = shelf;
  });
  EXPECT_EQ(output("c", "cat /tmp/v/file"), "mine\n");
  for (const char* bad : {"link", "link/ssl", "../shelf/real", "real/../../victim"}) {
    source = bad;
    EXPECT_THAT(why_not(std::string("d") + std::to_string(ids_.size()), "true"), HasSubstr(std::string("cannot mount ") + bad + " on /tmp/v")) << bad;
  }
}

TEST_F(Confined, WhatIsOptionalMayBeMissingAndWhatIsMaskedIsHidden) {
  const std::string root = make_root();
  std::filesystem::create_directories(root + "/tmp/secrets");
  std::ofstream(root + "/tmp/secrets/key") << "secret\n";
  std::ofstream(root + "/tmp/file") << "secret\n";
  with_sandbox("c");
  also([](PreparedT& p) {
    mount(p, "/no/such/source", "/tmp/x", MS_BIND, bits(MountOption::FILE, MountOption::OPTIONAL));
    mount(p, "/etc/hostname", "/no/such/target", MS_BIND, bits(MountOption::OPTIONAL));
    for (const char* t : {"/tmp/secrets", "/tmp/file", "/tmp/none", "/proc/kcore"}) mount(p, "", t, 0, bits(MountOption::MASK));
  });
  EXPECT_EQ(output("c", "cat /tmp/file /proc/kcore; ls -A /tmp/secrets; touch /tmp/secrets/x 2>/dev/null || echo held"), "held\n");
}

// Isolators need not know of each other's mounts: the shallow come first.
TEST_F(Confined, MountsComeInOrderOfDepth) {
  make_root();
  with_sandbox("c");
  also([](PreparedT& p) {
    mount(p, "tmpfs", "/tmp/a/b", 0, bits(MountOption::DIRECTORY), "tmpfs", "size=4096k");
    mount(p, "tmpfs", "/tmp", 0, 0, "tmpfs", "size=8192k");
  });
  EXPECT_EQ(output("c", "df -k --output=size /tmp/a/b /tmp | tail -n +2 | tr -d ' '"), "4096\n8192\n");
}

TEST_F(Confined, TwoIsolatorsThatContradictEachOtherAreNamed) {
  make_root();
  second_->shape = [](PreparedT& p) { p.root = "/other"; };
  EXPECT_EQ(why_not("c", "true"), "isolator.first wants the root \"" + work_dir_ + "/root\", and isolator.second \"/other\"; configure one of them otherwise");
}

TEST_F(Confined, MountsWithoutANamespaceAreRefused) {
  first_->namespaces = 0;
  first_->shape = [](PreparedT& p) { mount(p, "tmpfs", "/tmp", 0, 0, "tmpfs"); };
  EXPECT_THAT(why_not("c", "true"), HasSubstr("isolator.first wants mounts, but no isolator makes a mount namespace"));
}

TEST_F(Confined, HostNameIsTheContainersOwn) {
  first_->namespaces |= bits(Namespace::UTS);
  also([](PreparedT& p) { p.hostname = "box-1"; });
  const std::string before = output("plain", "true") + slurp("/proc/sys/kernel/hostname");
  EXPECT_EQ(output("c", "uname -n"), "box-1\n");
  EXPECT_EQ(slurp("/proc/sys/kernel/hostname"), before);
}

TEST_F(Confined, LimitsAreSetAndWhatCannotBeIsNamed) {
  also([](PreparedT& p) {
    auto l = std::make_unique<fb::isolator::ResourceLimitT>();
    l->resource = RLIMIT_NOFILE;
    l->soft = 77;
    l->hard = 88;
    p.limits.push_back(std::move(l));
  });
  EXPECT_EQ(output("c", "ulimit -Sn; ulimit -Hn"), "77\n88\n");
  also([](PreparedT& p) { p.limits[0]->soft = 99; });
  EXPECT_EQ(why_not("d", "true"), "cannot set the limit RLIMIT_NOFILE to 99 (hard 88): Invalid argument");
}

std::string word(const std::string& text, const std::string& key) {
  const auto at = text.find(key + ":\t");
  return at == text.npos ? std::string() : text.substr(at + key.size() + 2, text.find('\n', at) - at - key.size() - 2);
}

constexpr std::uint64_t cap(int c) { return std::uint64_t{1} << c; }

TEST_F(Confined, CapabilitiesOfRootAreExactlyThose) {
  also([](PreparedT& p) {
    p.capabilities = std::make_unique<fb::isolator::CapabilitiesT>();
    p.capabilities->bounding = cap(CAP_CHOWN) | cap(CAP_KILL);
    p.capabilities->effective = cap(CAP_CHOWN);
  });
  const std::string s = output("c", "cat /proc/self/status");
  EXPECT_EQ(word(s, "CapBnd"), "0000000000000021");
  for (const char* set : {"CapEff", "CapPrm", "CapInh", "CapAmb"}) EXPECT_EQ(word(s, set), "0000000000000001") << set;
}

TEST_F(Confined, AUserKeepsWhatItWasGivenAcrossExec) {
  ::chmod(work_dir_.c_str(), 0755);
  also([](PreparedT& p) {
    p.capabilities = std::make_unique<fb::isolator::CapabilitiesT>();
    p.capabilities->bounding = cap(CAP_NET_BIND_SERVICE) | cap(CAP_CHOWN);
    p.capabilities->effective = cap(CAP_NET_BIND_SERVICE);
  });
  auto s = spec("c", "id -un; cat /proc/self/status");
  s.user = "nobody";
  ASSERT_TRUE(std::holds_alternative<Identity>(launch(s)));
  ASSERT_TRUE(exit_of("c"));
  const std::string out = slurp(sandbox("c") + "/stdout");
  EXPECT_EQ(out.substr(0, 7), "nobody\n");
  EXPECT_EQ(word(out, "CapEff"), "0000000000000400");
  EXPECT_EQ(word(out, "CapBnd"), "0000000000000401");
}

class Filtered : public Confined, public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(NoNewPrivileges, Filtered, ::testing::Bool(), [](const auto& p) { return p.param ? "Promised" : "Not"; });

TEST_P(Filtered, SystemCallsAsToldAlsoForUsersAndCommandsBeside) {
  ::chmod(work_dir_.c_str(), 0755);
  also([](PreparedT& p) {
    p.no_new_privileges = GetParam();
    p.seccomp = refuse(SYS_mkdir, ENOANO);
    p.capabilities = std::make_unique<fb::isolator::CapabilitiesT>();
  });
  auto s = spec("c", "grep -e NoNewPrivs -e Seccomp: /proc/self/status; mkdir x 2>&1 | grep -o 'No anode'; echo ready; sleep 1000");
  s.user = "nobody";
  const auto r = launch(s);
  ASSERT_TRUE(std::holds_alternative<Identity>(r)) << std::get<Launcher::LaunchError>(r).error.message;
  ASSERT_TRUE(prints("c", "ready"));
  EXPECT_EQ(slurp(sandbox("c") + "/stdout"), std::string("NoNewPrivs:\t") + (GetParam() ? "1" : "0") + "\nSeccomp:\t2\nNo anode\nready\n");
  const auto filtered = beside("c", "mkdir y 2>&1 | grep -q 'No anode' && grep -q 'CapBnd:.0000000000000000' /proc/self/status && test $(id -un) = nobody");
  ASSERT_TRUE(filtered) << filtered.error().message;
  EXPECT_EQ(*filtered, 0);
}

// The supervisor is the container's pid 1, with all rights before. Whoever is root in there gets nothing out of it.
TEST_F(Confined, TheSupervisorIsNoWayOut) {
  also([](PreparedT& p) {
    p.capabilities = std::make_unique<fb::isolator::CapabilitiesT>();
    p.capabilities->bounding = p.capabilities->effective = cap(CAP_CHOWN) | cap(CAP_DAC_OVERRIDE) | cap(CAP_KILL);
  });
  const std::string out = output("c", "grep CapPrm /proc/1/status; ls /proc/1/fd /proc/1/root/ /proc/1/cwd/ >/dev/null 2>&1 || echo closed; readlink /proc/1/exe || echo hidden");
  EXPECT_EQ(out, "CapPrm:\t0000000000000020\nclosed\nhidden\n");
}

TEST_F(Confined, CommandsBesideAreAsConfinedAfterTheAgentHasReturned) {
  make_root();
  with_sandbox("c");
  also([](PreparedT& p) {
    p.no_new_privileges = true;
    p.capabilities = std::make_unique<fb::isolator::CapabilitiesT>();
    p.capabilities->bounding = p.capabilities->effective = cap(CAP_CHOWN);
    auto v = std::make_unique<fb::VariableT>();
    v->name = "FROM_ISOLATOR";
    v->value = "yes";
    p.environment.push_back(std::move(v));
  });
  const Identity i = start("c", "echo ready; sleep 1000");
  ASSERT_TRUE(prints("c", "ready"));
  const std::string look = "test $(cat /etc/whose) = container && test $(pwd) = /sandbox && test \"$FROM_ISOLATOR\" = yes && "
                           "grep -q 'CapBnd:.0000000000000001' /proc/self/status && grep -q 'NoNewPrivs:.1' /proc/self/status";
  auto r = beside("c", look);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(*r, 0);
  unmake();
  make();
  KnownContainer k;
  k.spec = spec("c", "echo ready; sleep 1000");
  k.identity = i;
  std::promise<bool> back;
  on_loop([&] { launcher_->recover({k}, [&](auto result) { back.set_value(result && result->size() == 1 && (*result)[0].fate == RecoveredContainer::Fate::running); }); });
  ASSERT_TRUE(back.get_future().get());
  r = beside("c", look);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(*r, 0);
}

TEST_F(Confined, AddressesAreToldAndToldAgainAfterReturning) {
  second_->on_attach = [](int) {};
  auto n = std::make_unique<fb::NetworkInfoT>();
  n->name = "net-1";
  n->ip_addresses.push_back(std::make_unique<fb::IpAddressT>());
  n->ip_addresses[0]->ip_address = "10.1.2.3";
  second_->networks.networks.push_back(std::move(n));
  const Identity i = start("c", "sleep 1000");
  ASSERT_EQ(i.networks.size(), 1u);
  EXPECT_EQ(i.networks[0].ip_addresses.at(0)->ip_address, "10.1.2.3");
  unmake();
  make();
  KnownContainer k;
  k.spec = spec("c", "sleep 1000");
  k.identity = Identity{i.pid, i.supervisor_pid, i.supervisor_start};
  std::promise<std::string> told;
  on_loop([&] { launcher_->recover({k}, [&](auto r) { told.set_value(r && r->size() == 1 && (*r)[0].networks.size() == 1 ? (*r)[0].networks[0].name : "nothing"); }); });
  EXPECT_EQ(told.get_future().get(), "net-1");
}

TEST_F(Confined, DevicesReachWhoeverTakesThem) {
  also([](PreparedT& p) {
    auto d = std::make_unique<fb::isolator::DeviceT>();
    d->major = 195;
    d->access = "rw";
    p.devices.push_back(std::move(d));
  });
  second_->shape = [](PreparedT& p) { p.takes_devices = true; };
  EXPECT_EQ(output("c", "true"), "");
  ASSERT_EQ(second_->attach.devices.size(), 1u);
  EXPECT_EQ(second_->attach.devices[0]->major, 195);
  EXPECT_EQ(second_->attach.devices[0]->minor, -1);
}

}  // namespace
}  // namespace gantry::agent::launching
