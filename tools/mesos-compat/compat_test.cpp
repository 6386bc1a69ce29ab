// Flags, tables, translation, and mesos-execute as a conversation.
#include "daemon.hpp"
#include "execute.hpp"
#include "tables.hpp"

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace gantry::compat {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;
using Environment = std::map<std::string, std::string>;

constexpr Flag kFlags[] = {
    {"help", Kind::boolean, "false", Fate::maps, "", ""},
    {"port", Kind::number, "5050", Fate::maps, "", ""},
    {"quiet", Kind::boolean, "false", Fate::maps, "", "silent"},
    {"text", Kind::text, "", Fate::maps, "", ""},
    {"time", Kind::duration, "1mins", Fate::maps, "", ""},
    {"where", Kind::path, "", Fate::maps, "", "", true},
};

Result<Given> read(const Words& words, const Environment& environment = {}) { return read_flags(kFlags, words, environment); }
std::string mistake(const Words& words) {
  const auto r = read(words);
  return r ? "no mistake" : r.error().message;
}

TEST(Flags, AreGivenInAnyForm) {
  const auto g = read({"--where=/x", "--quiet", "--port=1", "word", "--text=a=b"});
  ASSERT_TRUE(g) << g.error().message;
  EXPECT_TRUE(g->flag("quiet"));
  EXPECT_EQ(g->number("port"), 1);
  EXPECT_EQ(g->text("text"), "a=b");
  EXPECT_EQ(g->nanoseconds("time"), 60'000'000'000);
  EXPECT_FALSE(g->has("time"));
  EXPECT_FALSE(g->flag("help"));
  EXPECT_FALSE(read({"--where=x", "--no-quiet"})->flag("quiet"));
  EXPECT_TRUE(read({"--where=x", "--quiet=1"})->flag("quiet"));
  EXPECT_EQ(read({"--where=file:///x/y", "--", "--unknown"})->text("where"), "/x/y");
}

TEST(Flags, ComeFromTheEnvironmentToo) {
  const Environment e{{"MESOS_WHERE", "/e"}, {"MESOS_PORT", "7"}, {"MESOS_TASK_ID", "x"}, {"OTHER", "y"}, {"MESOS_QUIET", ""}};
  const auto g = read({"--port=8"}, e);
  ASSERT_TRUE(g) << g.error().message;
  EXPECT_EQ(g->text("where"), "/e");
  EXPECT_EQ(g->number("port"), 8) << "the command line wins";
  EXPECT_TRUE(g->flag("quiet"));
}

TEST(Flags, OldNamesAreTakenAndNamed) {
  const auto g = read({"--where=x", "--silent"});
  ASSERT_TRUE(g);
  EXPECT_TRUE(g->flag("quiet"));
  EXPECT_THAT(g->warnings(), ElementsAre(HasSubstr("'silent'")));
}

TEST(Flags, MistakesHaveTheTextsOfMesos) {
  EXPECT_EQ(mistake({"--what=1"}), "Failed to load unknown flag 'what'");
  EXPECT_EQ(mistake({"--no-what"}), "Failed to load unknown flag 'what' via 'no-what'");
  EXPECT_EQ(mistake({"--port=1", "--port=2"}), "Duplicate flag 'port' on command line");
  EXPECT_EQ(mistake({"--quiet", "--silent"}), "Flag 'silent' is already loaded via name 'quiet'");
  EXPECT_EQ(mistake({"--port"}), "Failed to load non-boolean flag 'port': Missing value");
  EXPECT_EQ(mistake({"--no-port"}), "Failed to load non-boolean flag 'port' via 'no-port'");
  EXPECT_EQ(mistake({"--no-quiet=true"}), "Failed to load boolean flag 'quiet' via 'no-quiet' with value 'true'");
  EXPECT_EQ(mistake({}), "Flag 'where' is required, but it was not provided");
  EXPECT_THAT(mistake({"--where=x", "--port=x"}), HasSubstr("Failed to load flag 'port'"));
  EXPECT_THAT(mistake({"--where=x", "--time=5s"}), HasSubstr("Failed to load flag 'time'"));
  EXPECT_THAT(mistake({"--where=x", "--text=file:///no/such/file"}), HasSubstr("/no/such/file"));
  EXPECT_EQ(mistake({"--help"}), "no mistake") << "help needs nothing else";
}

TEST(Flags, MeasuresOfMesos) {
  EXPECT_EQ(*parse_duration("1secs"), 1'000'000'000);
  EXPECT_EQ(*parse_duration("1.5mins"), 90'000'000'000);
  EXPECT_EQ(*parse_duration("0ns"), 0);
  EXPECT_EQ(*parse_duration("2weeks"), 1'209'600'000'000'000);
  for (const char* bad : {"", "1", "secs", "1s", "1secs ", "1e400secs", "nanns", "99999999weeks"}) EXPECT_FALSE(parse_duration(bad)) << bad;
  EXPECT_EQ(*parse_bytes("2GB"), 2'147'483'648);
  EXPECT_EQ(*parse_bytes("4KB"), 4096);
  for (const char* bad : {"", "1", "-1B", "1GiB", "1e30TB"}) EXPECT_FALSE(parse_bytes(bad)) << bad;
}

TEST(Tables, AreInOrderWithSoundDefaults) {
  for (const auto table : {master_flags(), agent_flags(), execute_flags()}) {
    std::string_view before;
    for (const Flag& f : table) {
      EXPECT_LT(before, f.name);
      before = f.name;
      EXPECT_TRUE(f.help.ends_with(".")) << f.name;
      if (f.value.empty()) continue;
      EXPECT_TRUE(f.kind != Kind::duration || parse_duration(f.value)) << f.name;
      EXPECT_TRUE(f.kind != Kind::size || parse_bytes(f.value)) << f.name;
      EXPECT_TRUE(f.kind != Kind::boolean || f.value == "true" || f.value == "false") << f.name;
    }
  }
  EXPECT_GE(master_flags().size(), 77u);
  EXPECT_GE(agent_flags().size(), 160u);
  EXPECT_THAT(usage("mesos-master", master_flags()), HasSubstr("\n  --[no-]authenticate_agents"));
}

// ---- translation

struct Dir {
  Dir() {
    char name[] = "/tmp/gantry-compat-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Dir() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name, const std::string& content) const {
    std::ofstream(path + "/" + name) << content;
    return path + "/" + name;
  }
  std::string path;
};

Result<Translation> translated(Role role, const Words& words, const std::string& runtime = "/run/x") {
  const auto given = read_flags(role == Role::master ? master_flags() : agent_flags(), words, {});
  if (!given) return given.error();
  return translate(role, *given, Options{runtime});
}
std::string toml(Role role, const Words& words) {
  const auto t = translated(role, words);
  return t ? t->toml : "mistake: " + t.error().message;
}

TEST(Translate, AMasterInMemory) {
  const auto t = translated(Role::master, {"--registry=in_memory", "--ip=127.0.0.1", "--port=5060", "--work_dir=/w"});
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_THAT(t->toml, HasSubstr("[kernel]\nrole = [\"master\"]\nwork_dir = \"/w/master\"\nlisten = \"127.0.0.1:5070\"\n"));
  EXPECT_THAT(t->toml, HasSubstr("[gateway.mesos]\naddress = \"127.0.0.1:5060\"\n"));
  EXPECT_THAT(t->toml, HasSubstr("[store.lmdb]\ndirectory = \"/w/master/in_memory\"\nsync = false\n"));
  EXPECT_THAT(t->toml, Not(HasSubstr("insecure")));
  EXPECT_THAT(t->clear, ElementsAre("/w/master/in_memory"));
  EXPECT_TRUE(t->nothing.empty());
  EXPECT_TRUE(t->notes.empty());
}

TEST(Translate, AMastersSettings) {
  const std::string t = toml(Role::master, {"--ip=10.0.0.1", "--work_dir=/w", "--hostname=m1", "--cluster=blue", "--agent_ping_timeout=10secs",
                                            "--max_slave_ping_timeouts=3", "--offer_timeout=2mins", "--allocation_interval=500ms", "--quiet",
                                            "--registry_max_agent_age=1days", "--fair_sharing_excluded_resource_names=gpus,ports",
                                            "--max_completed_frameworks=7", "--link_port=6000"});
  for (const char* line : {"listen = \"10.0.0.1:6000\"", "advertise = \"m1:6000\"", "hostname = \"m1\"", "insecure = true", "agent_ping_interval = \"10s\"",
                           "agent_ping_misses = 3", "offer_timeout = \"2m\"", "interval = \"500ms\"", "log_level = \"error\"", "forget_agents_after = \"1d\"",
                           "fairness_exclude = [\"gpus\", \"ports\"]", "completed_frameworks = 7", "cluster = \"blue\"", "advertise = \"m1:5050\""})
    EXPECT_THAT(t, HasSubstr(std::string(line) + "\n"));
}

TEST(Translate, WhoMustShowCredentials) {
  const Dir d;
  const std::string file = d.file("c", R"({"credentials": [{"principal": "a", "secret": "b"}]})");
  const auto t = translated(Role::master, {"--ip=0.0.0.0", "--work_dir=/w", "--authenticate_agents", "--authenticate_http_readonly", "--authenticate_http_readwrite=true",
                                           "--authenticate_http_frameworks", "--credentials=" + file, "--acls={\"permissive\": false}"});
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_THAT(t->toml, HasSubstr("authenticate = true\n"));
  EXPECT_THAT(t->toml, HasSubstr("authenticate = [\"frameworks\", \"readonly\", \"readwrite\"]\n"));
  EXPECT_THAT(t->toml, HasSubstr("[authenticator.basic]\ncredentials = \"/run/x/credentials\"\n"));
  EXPECT_THAT(t->toml, HasSubstr("[authorizer.acl]\nfile = \"/run/x/acls.json\"\n"));
  EXPECT_THAT(t->toml, Not(HasSubstr("insecure")));
  ASSERT_EQ(t->files.size(), 2u);
  EXPECT_EQ(t->files[0].second, "a:{PLAIN}b\n");
  EXPECT_EQ(t->files[1].second, "{\"permissive\": false}");
  EXPECT_THAT(toml(Role::master, {"--work_dir=/w", "--authenticate_agents"}), HasSubstr("mistake: No credentials"));
  EXPECT_THAT(toml(Role::master, {"--work_dir=/w", "--credentials=/no/such"}), HasSubstr("mistake: Failed to load credentials from '/no/such'"));
}

TEST(Translate, WhatHasNoMeaningIsNamedOnce) {
  const auto t = translated(Role::master, {"--ip=127.0.0.1", "--work_dir=/w", "--webui_dir=/ui", "--hooks=x", "--filter_gpu_resources", "--no-root_submissions",
                                           "--recovery_agent_removal_limit=100%", "--quorum=1", "--no-hostname_lookup", "--logbufsecs=3"});
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_THAT(t->nothing, ElementsAre("--hooks", "--root_submissions", "--webui_dir"));
  const auto a = translated(Role::agent, {"--ip=127.0.0.1", "--master=m:5050", "--work_dir=/w", "--isolation=cgroups/cpu,cgroups/mem,docker/runtime,namespaces/pid",
                                          "--containerizers=docker,mesos", "--no-systemd_enable_support", "--launcher=posix", "--port=5051"});
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_THAT(a->nothing, ElementsAre());
  EXPECT_THAT(a->toml, HasSubstr("[isolator.cgroups]\nroot = \"mesos\"\ncpu_quota = false\n"));
  EXPECT_THAT(a->toml, HasSubstr("[isolator.namespaces]\npid = true\nmount = true\nipc = false\n"));
  for (const char* table : {"[isolator.filesystem]", "[isolator.security]", "[isolator.network]", "[image.oci]"}) EXPECT_THAT(a->toml, HasSubstr(table));
}

TEST(Translate, IsolatorsAndImages) {
  const auto t = translated(Role::agent, {"--ip=127.0.0.1", "--master=m:5050", "--work_dir=/w",
                                          "--isolation=filesystem/linux,docker/runtime,linux/capabilities,linux/seccomp,linux/nnp,network/ports,disk/xfs,gpu/nvidia,cgroups/devices,com_acme_thing",
                                          "--image_providers=docker,appc", R"(--effective_capabilities={"capabilities":["NET_RAW","KILL"]})", "--seccomp_config_dir=/seccomp",
                                          "--seccomp_profile_name=strict.json", "--network_cni_config_dir=/cni/conf", "--network_cni_plugins_dir=/cni/a:/cni/b",
                                          "--enforce_container_ports", "--container_ports_isolated_range=[31000-32000]", "--xfs_project_range=[6000-7000]", "--xfs_kill_containers",
                                          "--docker_registry=https://images.example:5000", R"(--image_gc_config={"image_disk_headroom":0.2,"image_disk_watch_interval":{"nanoseconds":60000000000},"excluded_images":[{"type":"DOCKER","docker":{"name":"base:1"}}]})",
                                          "--sandbox_directory=/sandbox", "--port=5051"});
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_THAT(t->nothing, ElementsAre("--image_providers=appc", "--isolation=com_acme_thing"));
  for (const char* line : {"[isolator.filesystem]\nsandbox = \"/sandbox\"\n", "effective_capabilities = [\"NET_RAW\", \"KILL\"]\nbounding_capabilities = [\"NET_RAW\", \"KILL\"]\n",
                           "seccomp_profile_dir = \"/seccomp\"\nseccomp_profile = \"strict.json\"\n", "no_new_privileges = true\n", "cni_config_dir = \"/cni/conf\"\n",
                           "cni_plugin_dirs = [\"/cni/a\", \"/cni/b\"]\n", "listening_ports = \"enforce\"\n", "listening_ports_range = \"31000-32000\"\n",
                           "[isolator.disk]\nenforce = true\nmethod = \"quota\"\nfirst_project = 6000\nlast_project = 7000\non_quota = \"kill\"\n", "[isolator.gpu]\n",
                           "default_registry = \"images.example:5000\"\n", "gc_headroom = 0.2\n", "gc_interval = \"1m\"\n", "gc_keep = [\"base:1\"]\n", "devices = true\n"})
    EXPECT_THAT(t->toml, HasSubstr(line)) << t->toml;
  const auto wrong = translated(Role::agent, {"--ip=127.0.0.1", "--master=m:5050", "--work_dir=/w", "--isolation=linux/capabilities", "--effective_capabilities=[]", "--port=5051"});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("Failed to parse --effective_capabilities"));
}

TEST(Translate, AnAgent) {
  const Dir d;
  const std::string credential = d.file("c", "agent1 s3cret\n");
  const auto t = translated(Role::agent, {"--ip=127.0.0.1", "--master=127.0.0.1:5060", "--work_dir=/w", "--resources=cpus:2;mem(eng):512", "--attributes=rack:r1",
                                          "--default_role=ops", "--gc_delay=2days", "--gc_disk_headroom=0.2", "--executor_shutdown_grace_period=3secs",
                                          "--fetcher_cache_size=1GB", "--registration_backoff_factor=10ms", "--credential=" + credential,
                                          R"(--domain={"fault_domain":{"region":{"name":"eu"},"zone":{"name":"a"}}})"});
  ASSERT_TRUE(t) << t.error().message;
  for (const char* line : {"role = [\"agent\"]", "work_dir = \"/w\"", "resources = \"cpus(ops):2;mem(eng):512\"", "attributes = \"rack:r1\"", "sandbox_gc_delay = \"2d\"",
                           "sandbox_gc_headroom = 0.2", "executor_shutdown_grace_period = \"3s\"", "registration_backoff = \"10ms\"", "principal = \"agent1\"",
                           "secret_file = \"/run/x/agent.secret\"", "agent_port = 5051", "agent_address = \"127.0.0.1:5051\"", "master = \"127.0.0.1:5070\"", "cache_size = \"1GiB\"", "domain = \"eu/a\""})
    EXPECT_THAT(t->toml, HasSubstr(std::string(line) + "\n"));
  ASSERT_EQ(t->files.size(), 1u);
  EXPECT_EQ(t->files[0].second, "s3cret\n");
  for (const char* domain : {"[]", "{}", R"({"fault_domain":{"region":{"name":"eu"}}})", R"({"fault_domain":{"region":"eu","zone":"a"}})"})
    EXPECT_THAT(toml(Role::agent, {"--work_dir=/w", "--master=x:1", std::string("--domain=") + domain}), HasSubstr("mistake: --domain")) << domain;
  EXPECT_EQ(toml(Role::agent, {"--work_dir=/w"}), "mistake: Missing required option `--master` or `--master_detector`");
  EXPECT_EQ(toml(Role::agent, {"--master=x:1"}), "mistake: Flag 'work_dir' is required, but it was not provided");
  EXPECT_THAT(toml(Role::agent, {"--work_dir=/w", "--master=zk://h:2181/mesos"}), HasSubstr("election.zookeeper"));
  EXPECT_THAT(toml(Role::agent, {"--work_dir=/w", "--master=" + d.file("m", "10.1.1.1\n")}), HasSubstr("master = \"10.1.1.1:5060\"\n"));
  for (const char* bad : {"--master=:1", "--master=h:", "--master=h:x", "--master=h:99999", "--master=a/b:1"})
    EXPECT_THAT(toml(Role::agent, {"--work_dir=/w", bad}), HasSubstr("mistake")) << bad;
}

TEST(Translate, MistakesOfAMaster) {
  EXPECT_EQ(toml(Role::master, {}), "mistake: --work_dir needed for replicated log based registry");
  EXPECT_EQ(toml(Role::master, {"--work_dir=/w", "--registry=x"}), "mistake: 'x' is not a supported option for registry persistence");
  EXPECT_THAT(toml(Role::master, {"--work_dir=/w", "--zk=zk://h:2181/mesos"}), HasSubstr("election.zookeeper"));
  EXPECT_THAT(toml(Role::master, {"--work_dir=/w", "--ip=1.2.3.4", "--ip_discovery_command=true"}), HasSubstr("Only one of"));
  EXPECT_THAT(toml(Role::master, {"--work_dir=/w", "--ip_discovery_command=echo 127.0.0.1"}), HasSubstr("listen = \"127.0.0.1:5060\""));
  EXPECT_THAT(toml(Role::master, {"--work_dir=/w", "--ip_discovery_command=exit 3"}), HasSubstr("mistake"));
}

TEST(Translate, StringsCannotLeaveTheirQuotes) {
  EXPECT_EQ(quoted("a\"\\\n\x01" "b"), "\"a\\\"\\\\\\n\\u0001b\"");
  EXPECT_THAT(toml(Role::master, {"--work_dir=/w\"\n[kernel]\ninsecure = true"}), HasSubstr("work_dir = \"/w\\\"\\n[kernel]\\ninsecure = true/master\"\n"));
}

TEST(Translate, PrintsTheConfiguration) {
  const auto t = configuration(Role::agent, Words{"--master=m:5050", "--work_dir=/w", "--hooks=x"});
  ASSERT_TRUE(t);
  EXPECT_THAT(*t, HasSubstr("# no meaning here: --hooks\n"));
  EXPECT_THAT(*t, HasSubstr("master = \"m:5060\"\n"));
}

TEST(Values, ResourcesAsJson) {
  EXPECT_EQ(*resources_text("cpus:1;mem:2"), "cpus:1;mem:2");
  EXPECT_EQ(*resources_text(R"([{"name":"cpus","type":"SCALAR","scalar":{"value":4.5}},
      {"name":"mem","type":"SCALAR","scalar":{"value":1024},"role":"eng"},
      {"name":"disk","type":"SCALAR","scalar":{"value":10},"reservations":[{"type":"STATIC","role":"ops"}]},
      {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2},{"begin":5,"end":6}]}},
      {"name":"labels","type":"SET","set":{"item":["a","b"]}}])"),
            "cpus:4.5;mem(eng):1024;disk(ops):10;ports:[1-2, 5-6];labels:{a, b}");
  for (const char* bad : {"[", "{}", "[1]", "[{}]", R"([{"name":"cpus","type":"SCALAR"}])", R"([{"name":"cpus","type":"X"}])",
                          R"([{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{}}}])",
                          R"([{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"x"}]}])"})
    EXPECT_FALSE(resources_text(bad)) << bad;
}

TEST(Values, RateLimits) {
  const auto r = parse_rate_limits(R"({"limits":[{"principal":"a","qps":5.5,"capacity":100},{"principal":"b"},{"principal":"c","qps":1}],"aggregate_default_qps":33})");
  ASSERT_TRUE(r) << r.error().message;
  using Pair = std::pair<std::string, std::string>;
  EXPECT_THAT(r->of, ElementsAre(Pair{"a", "5.5/100"}, Pair{"b", "unlimited"}, Pair{"c", "1"}));
  EXPECT_EQ(r->rest, "33");
  EXPECT_THAT(toml(Role::master, {"--ip=127.0.0.1", "--work_dir=/w", R"(--rate_limits={"limits":[{"principal":"a","qps":2}],"aggregate_default_qps":3,"aggregate_default_capacity":4})"}),
              HasSubstr("rate_limits = { \"a\" = \"2\" }\ndefault_rate_limit = \"3/4\"\n"));
  for (const char* bad : {"", "[]", R"({"limits":{}})", R"({"limits":[{}]})", R"({"limits":[{"principal":"a","qps":0}]})", R"({"limits":[{"principal":"a"},{"principal":"a"}]})"})
    EXPECT_FALSE(parse_rate_limits(bad)) << bad;
}

TEST(Values, Credentials) {
  EXPECT_EQ(parse_credential(R"({"principal":"a","secret":"b"})")->secret, "b");
  EXPECT_EQ(parse_credential("a b\n")->principal, "a");
  for (const char* bad : {"", "a", "a b c", "{}", "{", R"({"principal":1})", "a b\nc d"}) EXPECT_FALSE(parse_credential(bad)) << bad;
  EXPECT_EQ(parse_credentials(R"({"credentials":[{"principal":"a","secret":"b"},{"principal":"c"}]})")->size(), 2u);
  EXPECT_EQ(parse_credentials("a b\n\n c\td \r\n")->at(1).secret, "d");
  for (const char* bad : {"a", "{}", "[]", R"({"credentials":[1]})", "a b c"}) EXPECT_FALSE(parse_credentials(bad)) << bad;
}

// ---- mesos-execute

json::object object(std::string_view text) { return json::parse(json::string_view(text.data(), text.size())).get_object(); }

Job job(const Words& words) {
  const auto given = read_flags(execute_flags(), words, {});
  EXPECT_TRUE(given) << given.error().message;
  Mistake m;
  auto j = job_of(*given, "me", m);
  EXPECT_TRUE(j) << m.message;
  return j ? std::move(*j) : Job();
}
std::string refused(const Words& words) {
  const auto given = read_flags(execute_flags(), words, {});
  if (!given) return given.error().message;
  Mistake m;
  return job_of(*given, "me", m) ? "no mistake" : m.message;
}

TEST(Execute, TheFlagsMakeATask) {
  const Job j = job({"--master=m", "--name=t", "--command=echo $A", R"(--env={"A":"x"})", "--resources=cpus:0.5;mem:64;ports:[1-2]", "--docker_image=busybox", "--kill_after=2secs"});
  EXPECT_EQ(j.task, object(R"({"name":"t","task_id":{"value":"t"},
    "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}},{"name":"mem","type":"SCALAR","scalar":{"value":64.0}},
                 {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2}]}}],
    "command":{"shell":true,"value":"echo $A","environment":{"variables":[{"name":"A","value":"x"}]}},
    "container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"busybox"}}}}})"));
  EXPECT_EQ(j.kill_after, 2'000'000'000);
  EXPECT_EQ(j.framework.at("user").as_string(), "me");
  EXPECT_EQ(j.framework.at("capabilities").as_array().size(), 4u);
}

TEST(Execute, MistakesOfItsFlags) {
  EXPECT_EQ(refused({"--name=t"}), "Flag 'master' is required, but it was not provided");
  EXPECT_EQ(refused({"--master=m"}), "Missing required option --name");
  EXPECT_EQ(refused({"--master=m", "--name=t"}), "Missing required option --command");
  EXPECT_EQ(refused({"--master=m", "--name=t", "--no-shell"}), "no mistake");
  EXPECT_THAT(refused({"--master=m", "--name=t", "--command=x", "--framework_capabilities=FOO"}), HasSubstr("unknown capability 'FOO'"));
  EXPECT_THAT(refused({"--master=m", "--name=t", "--command=x", "--framework_capabilities=MULTI_ROLE"}), HasSubstr("unsupported capability"));
  EXPECT_THAT(refused({"--master=m", "--name=t", "--command=x", "--resources=cpus"}), HasSubstr("Failed to parse resources 'cpus'"));
  EXPECT_THAT(refused({"--master=m", "--name=t", "--command=x", "--env=x"}), HasSubstr("Failed to load flag 'env'"));
  EXPECT_THAT(refused({"--master=m", "--name=t", "--task={}"}), HasSubstr("can only be set when both"));
  EXPECT_THAT(refused({"--master=m", "--task={}", "--task_group={}"}), HasSubstr("Either task or task group"));
  EXPECT_EQ(refused({"--master=m", "--name=t", "--command=x", "--containerizer=x"}), "Unsupported containerizer: x");
  EXPECT_EQ(refused({"--master=m", "--name=t", "--command=x", "--content_type=xml"}), "Invalid content type 'xml'");
}

json::array scalars(std::initializer_list<std::tuple<const char*, double, const char*>> list) {
  json::array out;
  for (const auto& [name, amount, role] : list) {
    json::object r{{"name", name}, {"type", "SCALAR"}, {"scalar", json::object{{"value", amount}}}};
    if (std::string_view(role) != "*") r["reservations"] = json::array{json::object{{"type", "STATIC"}, {"role", role}}};
    out.push_back(std::move(r));
  }
  return out;
}

TEST(Execute, TakesReservedResourcesFirst) {
  json::array offered = scalars({{"cpus", 1, "*"}, {"cpus", 0.5, "eng"}, {"mem", 100, "*"}});
  const auto taken = take(offered, scalars({{"cpus", 1.2, "*"}, {"mem", 100, "*"}}), "eng");
  ASSERT_TRUE(taken);
  EXPECT_EQ(*taken, scalars({{"cpus", 0.5, "eng"}, {"cpus", 0.7, "*"}, {"mem", 100, "*"}}));
  EXPECT_EQ(offered, scalars({{"cpus", 0.3, "*"}, {"cpus", 0, "eng"}, {"mem", 0, "*"}}));
  EXPECT_FALSE(take(offered, scalars({{"cpus", 0.5, "*"}}), "eng"));
  json::array other = scalars({{"cpus", 1, "eng"}});
  EXPECT_FALSE(take(other, scalars({{"cpus", 0.5, "*"}}), "*")) << "of another role";
}

TEST(Execute, RunsATaskToItsEnd) {
  std::vector<std::string> lines;
  Scheduler s(job({"--master=m", "--name=t", "--command=true", "--resources=cpus:1;mem:10"}));
  s.print = [&](const std::string& l) { lines.push_back(l); };
  EXPECT_TRUE(s.on_event(object(R"({"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":"F"}}})")).empty());
  const auto calls = s.on_event(object(R"({"type":"OFFERS","offers":{"offers":[
    {"id":{"value":"O1"},"agent_id":{"value":"S0"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]},
    {"id":{"value":"O2"},"agent_id":{"value":"S1"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":4}},{"name":"mem","type":"SCALAR","scalar":{"value":40}}]},
    {"id":{"value":"O3"},"agent_id":{"value":"S2"},"resources":[]}]}})"));
  ASSERT_EQ(calls.size(), 3u);
  EXPECT_EQ(calls[0].at("type").as_string(), "DECLINE");
  EXPECT_EQ(calls[1].at("type").as_string(), "ACCEPT");
  const auto& task = calls[1].at("accept").as_object().at("operations").as_array()[0].as_object().at("launch").as_object().at("task_infos").as_array()[0].as_object();
  EXPECT_EQ(task.at("agent_id").as_object().at("value").as_string(), "S1");
  EXPECT_EQ(task.at("resources"), scalars({{"cpus", 1, "*"}, {"mem", 10, "*"}}));
  EXPECT_EQ(calls[2].at("type").as_string(), "DECLINE");
  const auto ack = s.on_event(object(R"({"type":"UPDATE","update":{"status":{"task_id":{"value":"t"},"agent_id":{"value":"S1"},"state":"TASK_RUNNING","uuid":"AAAA","source":"SOURCE_EXECUTOR"}}})"));
  ASSERT_EQ(ack.size(), 1u);
  EXPECT_EQ(ack[0].at("type").as_string(), "ACKNOWLEDGE");
  EXPECT_FALSE(s.done());
  s.on_event(object(R"({"type":"UPDATE","update":{"status":{"task_id":{"value":"t"},"agent_id":{"value":"S1"},"state":"TASK_FAILED","message":"bad","reason":"REASON_COMMAND_EXECUTOR_FAILED"}}})"));
  EXPECT_TRUE(s.done());
  EXPECT_EQ(s.error(), "");
  EXPECT_THAT(lines, ElementsAre("Subscribed with ID F", "Submitted task 't' to agent 'S1'", "Received status update TASK_RUNNING for task 't'", "  source: SOURCE_EXECUTOR",
                                 "Received status update TASK_FAILED for task 't'", "  message: 'bad'", "  reason: REASON_COMMAND_EXECUTOR_FAILED"));
}

TEST(Execute, KillsAndFails) {
  Scheduler s(job({"--master=m", "--name=t", "--command=sleep 9", "--kill_after=1secs"}));
  s.on_event(object(R"({"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":"F"}}})"));
  EXPECT_FALSE(s.kill_armed());
  s.on_event(object(R"({"type":"UPDATE","update":{"status":{"task_id":{"value":"t"},"agent_id":{"value":"S"},"state":"TASK_RUNNING"}}})"));
  EXPECT_TRUE(s.kill_armed());
  const auto kill = s.kill();
  ASSERT_EQ(kill.size(), 1u);
  EXPECT_EQ(kill[0].at("kill"), object(R"({"task_id":{"value":"t"},"agent_id":{"value":"S"}})"));
  s.on_event(object(R"({"type":"ERROR","error":{"message":"no"}})"));
  EXPECT_TRUE(s.done());
  EXPECT_EQ(s.error(), "Received an ERROR event: no");
  // What makes no sense is ignored.
  for (const char* odd : {"{}", R"({"type":1})", R"({"type":"OFFERS"})", R"({"type":"OFFERS","offers":{"offers":[1]}})", R"({"type":"UPDATE","update":{}})"})
    (void)s.on_event(object(odd));
}

TEST(Execute, RecordsComeInPieces) {
  Records r;
  std::vector<std::string> seen;
  const auto take_record = [&](std::string_view s) { seen.emplace_back(s); };
  for (const char* piece : {"3", "\nab", "c2\nde0\n", "1", "\n", "f"}) EXPECT_TRUE(r.feed(piece, take_record));
  EXPECT_THAT(seen, ElementsAre("abc", "de", "", "f"));
  EXPECT_FALSE(r.feed("x\n", take_record));
  EXPECT_FALSE(Records().feed(std::string(30, '1'), take_record));
}

}  // namespace
}  // namespace gantry::compat
