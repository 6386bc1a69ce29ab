#include "kernel/config/config.hpp"
#include "tests/kernel/config/fake_module.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

namespace gantry::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::string manifest(const std::string& kind, const std::string& name, const std::string& more = "") {
  return "kind = \"" + kind + "\"\nname = \"" + name + "\"\nversion = \"1\"\nroles = [\"master\", \"agent\"]\n" + more;
}

// A folder of modules that are only manifests: nothing of them could run.
class Load : public ::testing::Test {
 protected:
  Load() {
    module("allocator", "drf",
           "[config.interval]\ntype = \"duration\"\ndefault = \"1s\"\nreloadable = true\nmin = \"1ms\"\n");
    module("allocator", "other");
    module(
        "store", "lmdb",
        "[config.map_size]\ntype = \"size\"\ndefault = \"1GiB\"\n[config.path]\ntype = \"string\"\ndefault = \"db\"\n");
    module("election", "standalone");
    module(
        "isolator", "cgroups",
        "[config.root]\ntype = \"string\"\ndefault = \"gantry\"\n[config.mode]\ntype = \"string\"\ndefault = "
        "\"auto\"\nchoices = [\"auto\", "
        "\"v1\", \"v2\"]\n[config.limits.memory]\ntype = \"bool\"\ndefault = true\n[config.extra]\ntype = \"map\"\n");
    module("framework", "services",
           "needs = [\"store\"]\n[config.listen]\ntype = \"address\"\ndefault = "
           "\"127.0.0.1:8080\"\n[config.insecure]\ntype = \"bool\"\n[config.realm]\ntype = "
           "\"string\"\n[config.password]\ntype = \"string\"\nsecret = true\n");
  }
  void module(const std::string& kind, const std::string& name, const std::string& more = "") {
    dir_.write("modules/gantry-" + kind + "-" + name + ".so", testing::library(manifest(kind, name, more)));
  }
  Loaded load_file(const std::string& text, std::vector<std::string> set = {}) {
    Options o;
    o.file = dir_.write("g.toml", text);
    o.module_dirs = {dir_.path() + "/modules"};
    o.set = std::move(set);
    return load(o);
  }
  std::vector<std::string> texts(const Loaded& l) const {
    std::vector<std::string> out;
    for (const Problem& p : l.problems) {
      std::string t = p.text();
      if (t.starts_with(dir_.path() + "/")) t.erase(0, dir_.path().size() + 1);
      out.push_back(t);
    }
    return out;
  }
  testing::TempDir dir_;
  const std::string base_ = "[allocator.drf]\n[store.lmdb]\n[election.standalone]\n[isolator.cgroups]\n";
};

TEST_F(Load, CompletesDefaults) {
  const auto l = load_file("[kernel]\nwork_dir = \"/tmp/g\"\n" + base_);
  ASSERT_TRUE(l.config) << ::testing::PrintToString(texts(l));
  EXPECT_THAT(l.problems, IsEmpty());
  const Config& c = *l.config;
  EXPECT_TRUE(c.master());
  EXPECT_TRUE(c.agent());
  EXPECT_EQ(c.kernel().text("control"), "/tmp/g/gantry.sock");
  EXPECT_EQ(c.kernel().duration("agent_ping_interval"), std::chrono::seconds(15));
  EXPECT_THAT(c.kernel().list("module_dirs"), ElementsAre(dir_.path() + "/modules"));
  ASSERT_EQ(c.modules().size(), 4u);
  EXPECT_EQ(c.modules()[0].id(), "allocator.drf");
  EXPECT_EQ(c.modules()[0].work_dir, "/tmp/g/modules/allocator.drf");
  const auto configure = c.module("isolator.cgroups")->configure();
  ASSERT_EQ(configure.settings.size(), 4u);
  EXPECT_EQ(configure.settings[0]->key, "extra");
  EXPECT_EQ(configure.settings[1]->key, "limits.memory");
  EXPECT_TRUE(configure.settings[1]->flag);
  EXPECT_FALSE(configure.settings[1]->given);
  EXPECT_THAT(configure.roles, ElementsAre("master", "agent"));
}

TEST_F(Load, SettingsStandInTheTableOrBelowConfig) {
  const auto l = load_file(
      "[kernel]\nrole = [\"master\"]\n[allocator.drf.config]\ninterval = \"5s\"\n[store.lmdb]\nconfig.path = "
      "\"x\"\nmap_size = \"2GiB\"\n"
      "[election.standalone]\n[isolator.cgroups]\nlimits = { memory = false }\nextra = { b = 2, a = \"x\" }\n");
  ASSERT_TRUE(l.config) << ::testing::PrintToString(texts(l));
  EXPECT_EQ(l.config->module("allocator.drf")->settings.duration("interval"), std::chrono::seconds(5));
  EXPECT_EQ(l.config->module("store.lmdb")->settings.text("path"), "x");
  EXPECT_EQ(l.config->module("store.lmdb")->settings.number("map_size"), 2LL << 30);
  EXPECT_FALSE(l.config->module("isolator.cgroups")->settings.flag("limits.memory"));
  EXPECT_THAT(l.config->module("isolator.cgroups")->settings.list("extra"), ElementsAre("a=x", "b=2"));
}

// The bar of the issue: ten mistakes, ten errors, each at its place.
TEST_F(Load, TenMistakesGiveTenErrors) {
  const auto l = load_file(R"([kernel]
wrok_dir = "/tmp/g"
log_level = "inof"
agent_ping_interval = 15
listen = "0.0.0.0:5060"
agent_ping_misses = "five"

[allocator.drf]
interval = "1sec"

[store.lmbd]

[election.standalone]

[isolatr.cgroups]

[isolator.cgroups]
root = true
host = "proces"
sandbox = { memroy = "1GiB", cpu = "two" }
)");
  EXPECT_FALSE(l.config);
  EXPECT_THAT(texts(l),
              ElementsAre("g.toml:2:1: error: there is no setting kernel.wrok_dir; did you mean \"work_dir\"?",
                          "g.toml:3:13: error: kernel.log_level: expected debug, info, warning or error, got \"inof\"; "
                          "did you mean \"info\"?",
                          "g.toml:4:23: error: kernel.agent_ping_interval: expected a duration such as \"15s\", got "
                          "the integer 15 without a unit",
                          "g.toml:5:10: error: kernel.listen: 0.0.0.0:5060 is reachable from other machines without "
                          "authentication; set authenticate = true, or write "
                          "insecure = true if that is meant",
                          "g.toml:6:21: error: kernel.agent_ping_misses: expected an integer, got \"five\"",
                          "g.toml:9:12: error: allocator.drf.interval: expected a duration such as \"250ms\", \"5s\" "
                          "or \"1h30m\", got \"1sec\"; there is no unit \"sec\"; "
                          "did you mean \"s\"?",
                          "g.toml:11:8: error: there is no module store.lmbd: no gantry-store-lmbd.so in " +
                              dir_.path() + "/modules; did you mean \"lmdb\"?",
                          "g.toml:15:2: error: there is no module kind \"isolatr\"; did you mean \"isolator\"?",
                          "g.toml:18:8: error: isolator.cgroups.root: expected a string, got true",
                          "g.toml:19:8: error: isolator.cgroups.host: expected \"kernel\" or \"process\", got "
                          "\"proces\"; did you mean \"process\"?",
                          "g.toml:20:1: error: isolator.cgroups.sandbox: is for host = \"process\", and host is "
                          "\"kernel\" here; write host = \"process\" or leave it out",
                          "g.toml:20:13: error: there is no setting isolator.cgroups.sandbox.memroy; did you mean "
                          "\"memory\"?",
                          "g.toml:20:36: error: isolator.cgroups.sandbox.cpu: expected a number, got \"two\""));
}

TEST_F(Load, WhereAModuleRuns) {
  // From the installation's own folder: the kernel's process. From elsewhere: its own, unless the table says otherwise.
  const std::string elsewhere = dir_.path() + "/elsewhere";
  std::filesystem::create_directories(elsewhere);
  std::filesystem::copy(dir_.path() + "/modules/gantry-isolator-cgroups.so", elsewhere + "/x.so");
  const std::string path = "path = \"" + elsewhere + "/x.so\"\n";
  const auto module = [&](const std::string& table) {
    const auto l = load_file(base_ + table);
    EXPECT_TRUE(l.config) << (l.problems.empty() ? "" : l.problems[0].text());
    return l.config ? *l.config->module("isolator.cgroups") : ModuleConfig{};
  };
  EXPECT_EQ(module("").host, "kernel");
  EXPECT_EQ(module(path).host, "process");
  EXPECT_EQ(module(path + "host = \"kernel\"\n").host, "kernel");
  const ModuleConfig m = module(
      "host = \"process\"\nsandbox = { user = \"acme\", memory = \"256MiB\", cpu = 0.5, devices = [\"/dev/nvidia*\"], "
      "restart = \"never\", seccomp = \"off\" }\n");
  EXPECT_EQ(m.host, "process");
  EXPECT_EQ(m.sandbox.user, "acme");
  EXPECT_EQ(m.sandbox.memory, std::uint64_t{256} << 20);
  EXPECT_DOUBLE_EQ(m.sandbox.cpu, 0.5);
  EXPECT_THAT(m.sandbox.devices, ElementsAre("/dev/nvidia*"));
  EXPECT_FALSE(m.sandbox.restart);
  EXPECT_FALSE(m.sandbox.seccomp);
  EXPECT_EQ(module(path).sandbox.memory, std::uint64_t{1} << 30);  // a default that keeps the machine alive
  EXPECT_THAT(texts(load_file(base_ + "host = \"process\"\nsandbox = { memory = \"1MiB\" }\n")),
              ElementsAre(HasSubstr("isolator.cgroups.sandbox.memory: expected at least 16MiB")));
  EXPECT_THAT(texts(load_file(base_ + "host = \"process\"\nsandbox = { devices = [\"/etc\"] }\n")),
              ElementsAre(HasSubstr("expected paths below /dev, got \"/etc\"")));
}

TEST_F(Load, RolesNeedTheirModules) {
  EXPECT_THAT(texts(load_file("[kernel]\nrole = [\"master\"]\n")),
              ElementsAre(HasSubstr("a master needs one allocator module and there is none; add [allocator.drf]"),
                          HasSubstr("add [store.lmdb]"), HasSubstr("add [election.standalone]")));
  const auto agent = load_file("[kernel]\nrole = [\"agent\"]\n[election.standalone]\n");
  EXPECT_TRUE(agent.config);
  EXPECT_THAT(texts(agent), ElementsAre(HasSubstr("warning: no isolator is configured")));
  EXPECT_THAT(texts(load_file("[kernel]\nrole = []\n" + base_)),
              ElementsAre(HasSubstr("g.toml:2:8: error: kernel.role: expected a number of entries")));
  EXPECT_THAT(texts(load_file("[kernel]\nrole = [\"slave\"]\n" + base_)),
              ElementsAre(HasSubstr("kernel.role: expected master or agent, got \"slave\"")));
  EXPECT_THAT(texts(load_file(base_ + "[allocator.other]\n")),
              ElementsAre(HasSubstr("g.toml:5:12: error: there can be only one allocator, and allocator.other")));
  EXPECT_TRUE(load_file(base_ + "[allocator.other]\ndisabled = true\n").config);
}

TEST_F(Load, NeedsOfModules) {
  const auto l =
      load_file("[kernel]\nrole = [\"agent\"]\n[election.standalone]\n[isolator.cgroups]\n[framework.services]\n");
  EXPECT_THAT(
      texts(l),
      ElementsAre(HasSubstr("framework.services needs a module of kind store and there is none; add [store.NAME]")));
}

TEST_F(Load, ListenersBeyondLoopback) {
  const auto with = [&](const std::string& s) { return texts(load_file(base_ + "[framework.services]\n" + s)); };
  EXPECT_THAT(
      with("listen = \"0.0.0.0:8080\"\n"),
      ElementsAre(HasSubstr("g.toml:6:10: error: framework.services.listen: 0.0.0.0:8080 is reachable from other "
                            "machines without authentication; set realm, or write insecure = true")));
  EXPECT_THAT(with("listen = \"0.0.0.0:8080\"\ninsecure = true\n"), IsEmpty());
  EXPECT_THAT(with("listen = \"10.0.0.1:8080\"\nrealm = \"x\"\n"), IsEmpty());
  for (const char* local : {"127.9.8.7:1", "[::1]:80", "localhost:80", "unix:/run/x.sock"})
    EXPECT_THAT(with("listen = \"" + std::string(local) + "\"\n"), IsEmpty());
  for (const char* far : {"127.0.0.1.evil.org:80", "[::]:80", "1270.0.0.1:8", "host:1"})
    EXPECT_THAT(with("listen = \"" + std::string(far) + "\"\n").size(), 1u) << far;
  for (const char* bad : {"8080", ":80", "h:70000", "::1:80", "unix:x", "h:", "a b:1"})
    EXPECT_THAT(with("listen = \"" + std::string(bad) + "\"\n"),
                ElementsAre(HasSubstr("g.toml:6:10: error: framework.services.listen: expected")))
        << bad;
  EXPECT_TRUE(load_file("[kernel]\nlisten = \"0.0.0.0:5060\"\ninsecure = true\n" + base_).config);
  EXPECT_THAT(texts(load_file("[kernel]\nlisten = \"0.0.0.0:5060\"\nauthenticate = true\n" + base_)),
              ElementsAre(HasSubstr("needs an authenticator module")));
}

TEST_F(Load, ConfDirOverridesInOrderOfName) {
  dir_.write("conf.d/20-b.toml", "[allocator.drf]\ninterval = \"3s\"\n");
  dir_.write("conf.d/10-a.toml", "[allocator.drf]\ninterval = \"2s\"\n[kernel]\nlog_level = \"debug\"\n");
  dir_.write("conf.d/30.toml.example", "garbage");
  const auto l = load_file("[kernel]\nlog_level = \"error\"\n" + base_);
  ASSERT_TRUE(l.config) << ::testing::PrintToString(texts(l));
  EXPECT_EQ(l.config->module("allocator.drf")->settings.duration("interval"), std::chrono::seconds(3));
  EXPECT_EQ(l.config->kernel().text("log_level"), "debug");
  EXPECT_THAT(l.config->where("log_level").text(), HasSubstr("conf.d/10-a.toml:4:13"));
  ASSERT_EQ(l.config->files().size(), 3u);
  // A mistake is reported where it stands, the winner only.
  dir_.write("conf.d/20-b.toml", "[allocator.drf]\ninterval = 3\n");
  EXPECT_THAT(texts(load_file(base_)), ElementsAre(HasSubstr("conf.d/20-b.toml:2:12: error: allocator.drf.interval")));
  // A broken file is one error; nothing is said to be missing.
  dir_.write("conf.d/20-b.toml", "[allocator.drf\n");
  EXPECT_THAT(texts(load_file("[kernel]\n")), ElementsAre(HasSubstr("conf.d/20-b.toml:1:15: error: not valid TOML")));
}

TEST_F(Load, SetOverrides) {
  const auto l = load_file(base_, {"kernel.log_level=debug", "allocator.drf.interval=9s", "kernel.completed_tasks=7",
                                   "isolator.cgroups.limits.memory=false"});
  ASSERT_TRUE(l.config) << ::testing::PrintToString(texts(l));
  EXPECT_EQ(l.config->kernel().text("log_level"), "debug");
  EXPECT_EQ(l.config->kernel().number("completed_tasks"), 7);
  EXPECT_FALSE(l.config->module("isolator.cgroups")->settings.flag("limits.memory"));
  EXPECT_THAT(texts(load_file(base_, {"kernel.completed_tasks=many", "nonsense", "a b=c"})),
              UnorderedElementsAre(
                  "--set kernel.completed_tasks: error: kernel.completed_tasks: expected an integer, got \"many\"",
                  HasSubstr("--set nonsense: error: expected KEY=VALUE"), HasSubstr("--set a b: error: is not a key")));
}

TEST_F(Load, FilesMustExist) {
  Options o;
  o.file = dir_.path() + "/missing.toml";
  EXPECT_THAT(texts(load(o)), ElementsAre("missing.toml: error: cannot read the configuration: there is no such file"));
  EXPECT_THAT(texts(load_file("[kernel]\nprincipal = \"a\"\nsecret_file = \"/nonexistent/secret\"\n" + base_)),
              ElementsAre(HasSubstr("g.toml:3:15: error: kernel.secret_file: cannot read /nonexistent/secret")));
  EXPECT_THAT(texts(load_file("[kernel]\nwork_dir = \"here\"\n" + base_)),
              ElementsAre(HasSubstr("kernel.work_dir: expected an absolute path, got \"here\"")));
  EXPECT_THAT(texts(load_file(base_ + "path = \"/none.so\"\n")),
              ElementsAre(HasSubstr("isolator.cgroups.path: there is no file /none.so")));
}

TEST_F(Load, ResourcesAndAttributes) {
  EXPECT_TRUE(
      load_file("[kernel]\nresources = \"cpus:4;mem:100;ports:[1-2]\"\nattributes = \"rack:r1\"\n" + base_).config);
  EXPECT_THAT(texts(load_file("[kernel]\nresources = \"cpus=4\"\nattributes = \"rack\"\n" + base_)),
              ElementsAre(HasSubstr("g.toml:2:13: error: kernel.resources: "),
                          HasSubstr("g.toml:3:14: error: kernel.attributes: ")));
}

TEST_F(Load, ModuleFilesThatAreNone) {
  dir_.write("modules/gantry-isolator-text.so", "hello");
  dir_.write("modules/gantry-isolator-alias.so", testing::library(manifest("isolator", "cgroups")));
  module("isolator", "draft", "unstable = true\n");
  EXPECT_THAT(texts(load_file(base_ + "[isolator.text]\n[isolator.alias]\n[isolator.draft]\n")),
              ElementsAre(HasSubstr("g.toml:5:11: error: isolator.text: " + dir_.path() +
                                    "/modules/gantry-isolator-text.so is not a Gantry module"),
                          HasSubstr("says it is isolator.cgroups; name the table [isolator.cgroups]"),
                          HasSubstr("write allow_unstable = true")));
  EXPECT_TRUE(load_file(base_ + "[isolator.draft]\nallow_unstable = true\n").config);
}

TEST_F(Load, GivenTwiceAndOutsideOfTables) {
  EXPECT_THAT(texts(load_file("rolle = 1\n[allocator]\nfoo = 1\n" + base_ +
                              "root = \"a\"\n[isolator.cgroups.config]\nroot = \"b\"\nzzzz = 1\n")),
              ElementsAre(HasSubstr("g.toml:1:1: error: the key \"rolle\" stands outside of a table"),
                          HasSubstr("g.toml:3:1: error: allocator.foo: expected a table"),
                          HasSubstr("isolator.cgroups.root is given twice"),
                          HasSubstr("there is no setting isolator.cgroups.zzzz; `gantry config fields")));
}

TEST_F(Load, EffectiveIsAFileOfTheSameMeaningAndHidesSecrets) {
  const auto l = load_file(base_ + "extra = { a = \"q\\\"\" }\n[framework.services]\npassword = \"hunter2\"\n");
  ASSERT_TRUE(l.config) << ::testing::PrintToString(texts(l));
  const std::string text = l.config->effective();
  EXPECT_EQ(text.find("hunter2"), std::string::npos);
  EXPECT_THAT(text, HasSubstr("# work_dir = \"/var/lib/gantry\""));
  const auto again = load_file(text);
  ASSERT_TRUE(again.config) << ::testing::PrintToString(texts(again)) << text;
  EXPECT_THAT(again.config->module("isolator.cgroups")->settings.list("extra"), ElementsAre("a=q\""));
}

TEST_F(Load, ReloadAppliesWhatIsReloadableAndNamesTheRest) {
  const auto a = load_file("[kernel]\nlog_level = \"info\"\nmodule_threads = 2\n" + base_ + "root = \"a\"\n");
  const auto b = load_file(
      "[kernel]\nlog_level = \"debug\"\nmodule_threads = 3\n[allocator.drf]\ninterval = "
      "\"5s\"\n[store.lmdb]\n[election.standalone]\n"
      "[isolator.cgroups]\nroot = \"b\"\n[framework.services]\n");
  ASSERT_TRUE(a.config && b.config);
  const Change c = diff(*a.config, *b.config);
  EXPECT_TRUE(c.kernel);
  EXPECT_THAT(c.modules, ElementsAre("allocator.drf"));
  EXPECT_THAT(c.changed, ElementsAre(HasSubstr("kernel.log_level: \"info\" -> \"debug\" ("),
                                     HasSubstr("allocator.drf.interval: \"1s\" -> \"5s\"")));
  ASSERT_EQ(c.restart.size(), 3u);
  EXPECT_THAT(c.restart[0].text(), HasSubstr("g.toml:3:18: warning: restart needed: kernel.module_threads: 2 -> 3"));
  EXPECT_THAT(c.restart[1].text(), HasSubstr("isolator.cgroups.root: \"a\" -> \"b\""));
  EXPECT_THAT(c.restart[2].text(), HasSubstr("module framework.services is new"));
  EXPECT_EQ(c.applied->kernel().text("log_level"), "debug");
  EXPECT_EQ(c.applied->kernel().number("module_threads"), 2);
  EXPECT_EQ(c.applied->module("isolator.cgroups")->settings.text("root"), "a");
  EXPECT_EQ(c.applied->module("allocator.drf")->settings.duration("interval"), std::chrono::seconds(5));
  EXPECT_EQ(c.applied->modules().size(), 4u);
  const Change none = diff(*c.applied, *c.applied);
  EXPECT_FALSE(none.kernel);
  EXPECT_THAT(none.restart, IsEmpty());
  EXPECT_THAT(diff(*b.config, *a.config).restart.back().message, HasSubstr("module framework.services is gone"));
}

}  // namespace
}  // namespace gantry::config
