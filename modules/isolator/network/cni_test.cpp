// CNI: documents, plugins of our own that tell what they were told, and the real ones of containernetworking-plugins.
#include "testing.hpp"

namespace gantry::isolator_network {
namespace {

template <class T>
std::string error_of(const Result<T>& r) { return r ? "no error" : r.error().message; }

TEST(CniConfig, ListsAndSinglePlugins) {
  const auto list = parse_network(
      R"({"cniVersion":"1.0.0","name":"blue","plugins":[{"type":"bridge","ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true}}]})");
  ASSERT_OK(list);
  EXPECT_EQ(list->name, "blue");
  EXPECT_EQ(list->plugins.size(), 2u);
  EXPECT_TRUE(list->capable("portMappings"));
  EXPECT_FALSE(list->capable("bandwidth"));
  const auto one = parse_network(R"({"name":"old","type":"bridge"})");
  ASSERT_OK(one);
  EXPECT_EQ(one->version, "0.3.1") << "files for Mesos say no version";
  EXPECT_EQ(one->plugins.size(), 1u);
}

TEST(CniConfig, MistakesAreNamed) {
  EXPECT_NE(error_of(parse_network("{")).find("at byte"), std::string::npos);
  EXPECT_EQ(error_of(parse_network("[]")), "no JSON object, but another value");
  EXPECT_EQ(error_of(parse_network(R"({"type":"bridge"})")), "name is missing; a network needs one");
  EXPECT_EQ(error_of(parse_network(R"({"name":"a","cniVersion":"2.0.0","type":"bridge"})")),
            "cniVersion \"2.0.0\" is not supported; write 0.3.0, 0.3.1, 0.4.0 or 1.0.0");
  EXPECT_EQ(error_of(parse_network(R"({"name":"a","cniVersion":1,"type":"bridge"})")), "cniVersion is no text; write it as \"1.0.0\"");
  EXPECT_EQ(error_of(parse_network(R"({"name":"a","type":"../../bin/sh"})")),
            "type of plugins[0] is \"../../bin/sh\"; give the name of a plugin, such as \"bridge\"");
  EXPECT_FALSE(parse_network(R"({"name":"a","type":"x","ipam":{"type":"/bin/sh"}})"));
  EXPECT_FALSE(parse_network(R"({"name":"a","plugins":[]})"));
  EXPECT_FALSE(parse_network(R"({"name":"a","plugins":[1]})"));
  EXPECT_FALSE(parse_network(R"({"name":"a b","type":"x"})"));
}

TEST(CniConfig, WhatAPluginReads) {
  const auto network = parse_network(R"({"cniVersion":"0.4.0","name":"n","plugins":[{"type":"a","args":{"cni":{"x":1}}},)"
                                     R"({"type":"b","capabilities":{"portMappings":true,"bandwidth":true,"ips":true}}]})");
  ASSERT_OK(network);
  Wanted w;
  w.name = "n";
  w.ports = {{31000, 80, false}, {31001, 53, true}};
  w.rates = {1'000'000, 0};
  w.addresses = {"10.0.0.9"};
  w.info.name = "n";
  w.info.labels.push_back(label("k", "v"));
  w.info.port_mappings.push_back(mapping(31000, 80));
  EXPECT_EQ(
      input_text(plugin_input(*network, 0, w), {}),
      R"({"type":"a","args":{"cni":{"x":1},"org.apache.mesos":{"network_info":{"name":"n","labels":{"labels":[{"key":"k","value":"v"}]},)"
      R"("port_mappings":[{"host_port":31000,"container_port":80,"protocol":"tcp"}]}}},"cniVersion":"0.4.0","name":"n"})");
  const Object second = plugin_input(*network, 1, w);
  EXPECT_EQ(
      print_json(*find(second, "runtimeConfig")),
      R"({"portMappings":[{"hostPort":31000,"containerPort":80,"protocol":"tcp"},{"hostPort":31001,"containerPort":53,"protocol":"udp"}],)"
      R"("bandwidth":{"ingressRate":8000000,"ingressBurst":800000},"ips":["10.0.0.9"]})");
  EXPECT_NE(input_text(second, Object{{"ips", Array{}}}).find(R"("prevResult":{"ips":[]})"), std::string::npos);
}

TEST(CniConfig, Results) {
  const auto r =
      parse_result(R"({"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.0.5/16","gateway":"10.1.0.1"},{"address":"fd00::5/64"}],)"
                   R"("dns":{"nameservers":["10.1.0.1"],"domain":"example.org","options":["ndots:2"]},"new":1})");
  ASSERT_OK(r);
  EXPECT_EQ(r->addresses, (std::vector<std::string>{"10.1.0.5/16", "fd00::5/64"}));
  EXPECT_EQ(print_resolv_conf(r->dns), "nameserver 10.1.0.1\nsearch example.org\noptions ndots:2\n");
  EXPECT_EQ(integer_of(r->raw, "new"), 1) << "what we do not know is handed on";
  EXPECT_FALSE(parse_result(R"({"ips":[{"address":"10.0.0.1\u0000\n6.6.6.6 bank"}]})"));
  EXPECT_FALSE(parse_result(R"({"dns":{"nameservers":["fd00::1\u0000\nnameserver 6.6.6.6"]}})"));
  for (const char* bad : {"", "[]", R"({"ips":3})", R"({"ips":[3]})", R"({"ips":[{"address":"10.0.0.1\nevil"}]})",
                          R"({"dns":{"nameservers":["x"]}})", R"({"dns":{"search":["a\nnameserver 6.6.6.6"]}})"})
    EXPECT_EQ(parse_result(bad).has_value(), false) << bad;
  EXPECT_TRUE(parse_result("{}")->addresses.empty());
}

TEST(CniConfig, Errors) {
  EXPECT_EQ(plugin_error(R"({"cniVersion":"0.4.0","code":11,"msg":"no room","details":"range full"})", ""),
            "no room; range full (code 11)");
  EXPECT_EQ(plugin_error("", "panic: oh\n"), "panic: oh");
  EXPECT_EQ(plugin_error("", ""), "it said nothing");
}

TEST(CniRun, ALargeConversationAndACleanStart) {
  Scratch scratch;
  scratch.write("echo", "#!/bin/sh\ncat; env | sort >&2; ls /proc/self/fd | wc -l >&2; exit 3\n");
  ASSERT_EQ(::chmod((scratch.path() + "/echo").c_str(), 0755), 0);
  const std::string input(300'000, 'x');
  const auto run = run_plugin(scratch.path() + "/echo", {"A=1", "PATH=/usr/bin:/bin"}, input, 10s);
  ASSERT_OK(run);
  EXPECT_EQ(run->output, input);
  EXPECT_EQ(WEXITSTATUS(run->status), 3);
  EXPECT_EQ(run->errors.find("HOME="), std::string::npos) << run->errors;
  EXPECT_NE(run->errors.find("\n4\n"), std::string::npos) << "descriptors 0 to 2 and the folder's own: " << run->errors;
}

TEST(CniRun, OneThatDoesNotEndIsKilledWithItsChildren) {
  Scratch scratch;
  scratch.write("hang", "#!/bin/sh\nsleep 1000 &\necho $! > " + scratch.path() + "/child\nexec >/dev/null 2>&1\nsleep 1000\n");
  ASSERT_EQ(::chmod((scratch.path() + "/hang").c_str(), 0755), 0);
  const auto begin = std::chrono::steady_clock::now();
  const auto run = run_plugin(scratch.path() + "/hang", {"PATH=/usr/bin:/bin"}, "", 300ms);
  EXPECT_EQ(error_of(run), "it did not end within 300 ms and was killed; see cni_timeout");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  const int child = std::atoi(read_file(scratch.path() + "/child").value_or("0").c_str());
  ASSERT_GT(child, 0);
  const auto gone = [child] {
    const auto state = read_file("/proc/" + std::to_string(child) + "/stat");
    return !state || state->find(") Z") != std::string::npos ? "gone" : "alive";
  };
  EXPECT_EQ(eventually(gone, "gone"), "gone");
}

// ---- on a machine

constexpr char teller[] = R"sh(#!/bin/sh
# Writes what it was told into a log beside itself, and answers with one more address than it was given.
log=$(dirname "$0")/log
in=$(cat)
echo "$CNI_COMMAND $(basename "$0") $CNI_CONTAINERID $CNI_IFNAME $(test -e "$CNI_NETNS" && echo netns) $in" >> "$log"
if [ -e "$(dirname "$0")/fail-$CNI_COMMAND-$(basename "$0")" ]; then
  echo '{"cniVersion":"0.4.0","code":42,"msg":"told to fail","details":"by a file"}'
  exit 1
fi
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.9.0.7/24"}],"dns":{"nameservers":["10.9.0.1"],"search":["nine.example"]}}'
)sh";

class Cni : public Machine {
 protected:
  void SetUp() override {
    Machine::SetUp();
    if (IsSkipped()) return;
    for (const char* name : {"one", "two"}) {
      scratch.write(std::string("bin/") + name, teller);
      ASSERT_EQ(::chmod((scratch.path() + "/bin/" + name).c_str(), 0755), 0);
    }
    std::filesystem::create_directories(scratch.path() + "/net.d");
    work = scratch.path() + "/work";
  }
  testing::Values settings(std::map<std::string, testing::Value> more = {}) const {
    testing::Values out = {{"cni_config_dir", scratch.path() + "/net.d"},
                           {"cni_plugin_dirs", std::vector<std::string>{scratch.path() + "/bin", "/usr/lib/cni"}}};
    for (auto& [key, value] : more) out.insert_or_assign(key, value);
    return out;
  }
  std::vector<std::string> log() const {
    std::vector<std::string> out;
    std::istringstream lines(read_file(scratch.path() + "/bin/log").value_or(""));
    for (std::string line; std::getline(lines, line);) out.push_back(line);
    return out;
  }
  void chain(const std::string& name = "told", const std::string& version = "0.4.0") const {
    scratch.write("net.d/10-" + name + ".conflist",
                  R"({"cniVersion":")" + version + R"(","name":")" + name + R"(","plugins":[{"type":"one"},{"type":"two"}]})");
  }
  Scratch scratch;
  std::string work;
};

TEST_F(Cni, PluginsAreChainedAndUndoneInReverse) {
  chain();
  Agent agent(work, settings());
  const auto p = agent.prepare("box", on_networks({"told"}));
  ASSERT_OK(p);
  const Contained box;
  const auto a = agent.attach("box", box.pid());
  ASSERT_OK(a);
  ASSERT_EQ(a->networks.size(), 1u);
  EXPECT_EQ(a->networks[0]->name, "told");
  EXPECT_EQ(ip_of(a), "10.9.0.7");
  EXPECT_NE(read_file(p->mounts[0]->source).value_or("").find("10.9.0.7\tbox\n"), std::string::npos)
      << "into the file that was mounted before";
  EXPECT_EQ(read_file(p->mounts[2]->source).value_or("").substr(0, 41), "nameserver 10.9.0.1\nsearch nine.example\n");
  auto said = log();
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0].substr(0, 27), "ADD one box eth0 netns {\"ty");
  EXPECT_EQ(said[0].find("prevResult"), std::string::npos);
  EXPECT_NE(said[1].find("ADD two box eth0 netns"), std::string::npos);
  EXPECT_NE(said[1].find(R"("prevResult":{"cniVersion":"0.4.0","ips":[)"), std::string::npos);
  EXPECT_NE(said[0].find(R"("args":{"org.apache.mesos":{"network_info":{"name":"told"}}})"), std::string::npos);
  ASSERT_OK(agent.cleanup("box"));
  said = log();
  ASSERT_EQ(said.size(), 4u);
  EXPECT_NE(said[2].find("DEL two box eth0 netns"), std::string::npos);
  EXPECT_NE(said[2].find("prevResult"), std::string::npos) << "since 0.4.0";
  EXPECT_NE(said[3].find("DEL one"), std::string::npos);
  EXPECT_EQ(leftovers(work), "");
  ASSERT_OK(agent.network.stop());
}

TEST_F(Cni, NewFilesAreSeenAndBrokenOnesAreTold) {
  Agent agent(work, settings());
  EXPECT_EQ(error_of(agent.prepare("box", on_networks({"told"}))),
            "Unknown CNI network 'told'; there are bridge, mesos-bridge (" + scratch.path() + "/net.d)");
  ASSERT_OK(agent.cleanup("box"));
  chain();
  scratch.write("net.d/00-broken.conf", "{\"name\":");
  scratch.write("net.d/20-again.conf", R"({"name":"told","type":"one"})");
  scratch.write("net.d/readme.txt", "not looked at");
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK(agent.prepare("box", on_networks({"told"})));
    ASSERT_OK(agent.cleanup("box"));
  }
  EXPECT_TRUE(agent.host.logged("00-broken.conf: no JSON"));
  EXPECT_TRUE(agent.host.logged("20-again.conf: there is a network \"told\" already, this one is not used"));
  std::size_t warnings = 0;
  for (const auto& l : agent.host.logs()) warnings += l.level == Level::warning;
  EXPECT_EQ(warnings, 2u) << "each once";
  ASSERT_OK(agent.network.stop());
}

TEST_F(Cni, ANetworkOfTheNameOfTheBridgeWins) {
  chain("mesos-bridge");
  Agent agent(work, settings());
  ASSERT_OK(agent.prepare("box", on_networks({"mesos-bridge"})));
  const Contained box;
  EXPECT_EQ(ip_of(agent.attach("box", box.pid())), "10.9.0.7");
  ASSERT_OK(agent.cleanup("box"));
  ASSERT_OK(agent.network.stop());
}

TEST_F(Cni, AFailureIsToldAndUndone) {
  chain();
  scratch.write("bin/fail-ADD-two", "");
  Agent agent(work, settings());
  ASSERT_OK(agent.prepare("box", on_networks({"told"})));
  const Contained box;
  EXPECT_EQ(error_of(agent.attach("box", box.pid())),
            "network \"told\": plugin two: ADD failed with status 1: told to fail; by a file (code 42)");
  ASSERT_OK(agent.cleanup("box"));
  const auto said = log();
  ASSERT_EQ(said.size(), 4u) << "ADD, ADD, DEL, DEL";
  EXPECT_NE(said[3].find("DEL one"), std::string::npos);
  EXPECT_EQ(leftovers(work), "");

  scratch.write("net.d/30-missing.conf", R"({"name":"missing","type":"nowhere"})");
  ASSERT_OK(agent.prepare("box", on_networks({"missing"})));
  EXPECT_EQ(error_of(agent.attach("box", box.pid())), "network \"missing\": CNI plugin \"nowhere\" is in none of " + scratch.path() +
                                                          "/bin, /usr/lib/cni; install it or set cni_plugin_dirs");
  const Status s = agent.cleanup("box");
  EXPECT_FALSE(s) << "what has no plugin cannot be deleted by it";
  scratch.write("bin/nowhere", "#!/bin/sh\nexit 0\n");
  ASSERT_EQ(::chmod((scratch.path() + "/bin/nowhere").c_str(), 0755), 0);
  ASSERT_OK(agent.cleanup("box"));
  EXPECT_EQ(leftovers(work), "");
  ASSERT_OK(agent.network.stop());
}

TEST_F(Cni, ADelThatFailsIsRepeatedAfterARestart) {
  chain();
  const Contained box;
  {
    Agent agent(work, settings());
    ASSERT_OK(agent.prepare("box", on_networks({"told"})));
    ASSERT_OK(agent.attach("box", box.pid()));
    scratch.write("bin/fail-DEL-two", "");
    const Status s = agent.cleanup("box");
    ASSERT_FALSE(s);
    EXPECT_EQ(s.error().message,
              "network of container box: network \"told\": plugin two: DEL failed with status 1: told to fail; by a file (code 42)");
    EXPECT_EQ(log().size(), 4u) << "the other plugin's DEL was done";
  }
  std::filesystem::remove(scratch.path() + "/bin/fail-DEL-two");
  std::filesystem::remove_all(scratch.path() + "/net.d");  // the record has what DEL needs
  Agent agent(work, settings());
  EXPECT_EQ(agent.recover()->orphans, std::vector<std::string>{"box"});
  ASSERT_OK(agent.cleanup("box"));
  EXPECT_NE(log().back().find("DEL one box eth0 netns"), std::string::npos) << "the namespace was kept";
  EXPECT_EQ(leftovers(work), "");
  ASSERT_OK(agent.network.stop());
}

// A plugin whose agent was killed goes on; DEL must not overtake it.
TEST_F(Cni, DelWaitsForAnAddThatOutlivedItsAgent) {
  scratch.write("bin/slow",
                "#!/bin/sh\ncat > /dev/null\ntest $CNI_COMMAND = ADD && { echo begun >> $(dirname $0)/log; sleep 0.7; }\necho $CNI_COMMAND "
                ">> $(dirname $0)/log\necho '{}'\n");
  ASSERT_EQ(::chmod((scratch.path() + "/bin/slow").c_str(), 0755), 0);
  scratch.write("net.d/slow.conf", R"({"cniVersion":"0.4.0","name":"slow","type":"slow"})");
  const Contained box;
  Process module([&] {
    Agent agent(work, settings());
    (void)agent.prepare("box", on_networks({"slow"}));
    (void)agent.attach("box", box.pid());
  });
  ASSERT_EQ(eventually([&] { return log().empty() ? "" : log()[0]; }, "begun"), "begun");
  module.end();
  Agent agent(work, settings());
  EXPECT_EQ(agent.recover()->orphans, std::vector<std::string>{"box"});
  ASSERT_OK(agent.cleanup("box"));
  EXPECT_EQ(log(), (std::vector<std::string>{"begun", "ADD", "DEL"}));
  EXPECT_EQ(leftovers(work), "");
  ASSERT_OK(agent.network.stop());
}

// ---- the real plugins

class RealCni : public Cni {
 protected:
  void SetUp() override {
    Cni::SetUp();
    if (IsSkipped()) return;
    if (::access("/usr/lib/cni/bridge", X_OK) != 0) GTEST_SKIP() << "containernetworking-plugins is not installed";
    // Plugins keep locks and state below /run and /var; these are this test's own.
    ASSERT_EQ(::mount("none", "/run", "tmpfs", 0, nullptr), 0);
  }
  // bridge, host-local, and what is given besides.
  void bridge_network(const std::string& name, const std::string& subnet, const std::string& more = "",
                      const std::string& version = "0.4.0") const {
    scratch.write("net.d/" + name + ".conflist",
                  R"({"cniVersion":")" + version + R"(","name":")" + name + R"(","plugins":[{"type":"bridge","bridge":"cni-)" + name +
                      R"(","isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":{"type":"host-local","dataDir":")" + scratch.path() +
                      R"(/leases","ranges":[[{"subnet":")" + subnet + R"("}]],"routes":[{"dst":"0.0.0.0/0"}]}})" + more + "]}");
  }
  std::string leases() const {
    std::string out;
    std::error_code ec;
    for (const auto& e : std::filesystem::recursive_directory_iterator(scratch.path() + "/leases", ec))
      if (e.path().filename().string().find("10.") == 0) out += e.path().string() + " ";
    return out;
  }
  // Chains that plugins make for a container; their own base chains stay.
  static std::string rules() { return output_of("sh -c \"iptables-save 2>/dev/null | grep -E 'CNI-DN-|CNI-[0-9a-f]{16}|box' \""); }
  static std::string leftovers_of_rules() { return output_of("sh -c \"nft list ruleset | grep 'elements = '\""); }
  static std::string devices() { return output_of("sh -c \"ip -o link | grep -vE '^[0-9]+: (lo:|up0@|cni-)'\""); }
  static constexpr char portmap[] = R"(,{"type":"portmap","capabilities":{"portMappings":true},"snat":true})";
};

TEST_F(RealCni, BridgeWithPortmapAnswers) {
  bridge_network("blue", "10.77.0.0/24", std::string(portmap) + R"(,{"type":"firewall"})");
  Agent agent(work, settings());
  auto task = on_networks({"blue"});
  task->container->network_infos[0]->port_mappings.push_back(mapping(31005, 80));
  ASSERT_OK(agent.prepare("box", task));
  const Contained box;
  const auto a = agent.attach("box", box.pid());
  ASSERT_OK(a);
  EXPECT_EQ(ip_of(a), "10.77.0.2");
  const Process server = box.run([] { serve_tcp(80, "cni"); });
  EXPECT_EQ(eventually([] { return ask_tcp("10.77.0.2", 80); }, "cni").substr(0, 3), "cni");
  EXPECT_EQ(ask_tcp("127.0.0.1", 31005).substr(0, 3), "cni");
  EXPECT_NE(leases(), "");
  EXPECT_NE(rules(), "");
  ASSERT_OK(agent.cleanup("box"));
  EXPECT_EQ(leases(), "");
  EXPECT_EQ(rules(), "");
  EXPECT_EQ(devices(), "");
  ASSERT_OK(agent.network.stop());
}

// As Mesos' port mapper does; its configuration is understood, too.
TEST_F(RealCni, WithoutPortmapWeMapThePorts) {
  bridge_network("plain", "10.77.0.0/24");
  scratch.write(
      "net.d/mesos.conf",
      R"({"name":"mesos","type":"mesos-cni-port-mapper","excludeDevices":["x"],"chain":"M","delegate":{"type":"bridge","bridge":"cni-mesos",)"
      R"("isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":{"type":"host-local","dataDir":")" +
          scratch.path() + R"(/leases","subnet":"10.79.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}})");
  for (const std::string name : {"plain", "mesos"}) {
    const Contained box;
    auto task = on_networks({name});
    task->container->network_infos[0]->port_mappings.push_back(mapping(31005, 80));
    {
      Agent agent(work, settings());
      ASSERT_OK(agent.prepare("box", task));
      ASSERT_OK(agent.attach("box", box.pid()));
      EXPECT_EQ(error_of(agent.prepare("again", task)), "host port 31005/tcp is mapped to container box already");
      ASSERT_OK(agent.cleanup("again"));
    }  // killed
    ASSERT_EQ(output_of("nft flush table ip $(nft list tables | grep -o gantry-.*)"), "");
    Agent agent(work, settings());
    ASSERT_OK(agent.recover({{"box", box.pid()}}));
    const Process server = box.run([] { serve_tcp(80, "mapped"); });
    EXPECT_EQ(eventually([] { return ask_tcp("192.0.2.2", 31005); }, "mapped").substr(0, 6), "mapped") << name;
    Process outside = neighbour().run([] { ::_exit(ask_tcp("192.0.2.2", 31005) == "mapped 192.0.2.1" ? 0 : 1); });
    EXPECT_EQ(outside.wait(), 0) << name;
    Process hairpin = box.run([] { ::_exit(ask_tcp("192.0.2.2", 31005).substr(0, 6) == "mapped" ? 0 : 1); });
    EXPECT_EQ(hairpin.wait(), 0) << name;
    ASSERT_OK(agent.cleanup("box"));
    EXPECT_EQ(leases() + rules() + devices() + leftovers_of_rules(), "") << name;
    ASSERT_OK(agent.network.stop());
    EXPECT_EQ(output_of("sh -c \"nft list tables | grep gantry\""), "") << name;
  }
}

TEST_F(RealCni, EveryVersionWeNameIsSpoken) {
  for (const std::string version : {"0.3.0", "0.3.1", "0.4.0", "1.0.0"}) {
    bridge_network("blue", "10.77.0.0/24", portmap, version);
    Agent agent(work, settings());
    ASSERT_OK(agent.prepare("box", on_networks({"blue"})));
    const Contained box;
    const auto a = agent.attach("box", box.pid());
    ASSERT_TRUE(a) << version << ": " << a.error().message;
    EXPECT_EQ(ip_of(a).substr(0, 6), "10.77.") << version;
    ASSERT_OK(agent.cleanup("box"));
    EXPECT_EQ(leases() + rules() + devices(), "") << version;
    ASSERT_OK(agent.network.stop());
  }
}

TEST_F(RealCni, SeveralNetworksAndTheBuiltInBridgeTogether) {
  bridge_network("blue", "10.77.0.0/24");
  scratch.write("net.d/red.conf",
                R"({"cniVersion":"0.4.0","name":"red","type":"macvlan","master":"up0","ipam":{"type":"host-local","dataDir":")" +
                    scratch.path() + R"(/leases","subnet":"10.88.0.0/24"}})");
  Agent agent(work, settings());
  ASSERT_OK(agent.prepare("box", on_networks({"blue", "red", "bridge"})));
  const Contained box;
  const auto a = agent.attach("box", box.pid());
  ASSERT_OK(a);
  ASSERT_EQ(a->networks.size(), 3u);
  EXPECT_EQ(ip_of(a, 0), "10.77.0.2");
  EXPECT_EQ(ip_of(a, 1), "10.88.0.2");
  EXPECT_EQ(ip_of(a, 2), "172.31.240.2");
  Process inside = box.run([] {
    ::_exit(output_of("sh -c \"ip -o -4 addr | grep -cE 'eth0 .*10.77.0.2/24|eth1 .*10.88.0.2/24|eth2 .*172.31.240.2/20'\"") == "3\n" ? 0
                                                                                                                                      : 1);
  });
  EXPECT_EQ(inside.wait(), 0);
  ASSERT_OK(agent.cleanup("box"));
  EXPECT_EQ(leases() + rules(), "");
  EXPECT_EQ(output_of("sh -c \"ip -o link | grep -vE '^[0-9]+: (lo:|up0@|cni-|gantry0:)'\""), "");
  ASSERT_OK(agent.network.stop());
}

TEST_F(RealCni, RatesByThePluginOrByUs) {
  if (output_of("ip link add probe type ifb").find("Unknown device type") != std::string::npos) GTEST_SKIP() << "this kernel has no ifb";
  (void)output_of("ip link del probe");
  bridge_network("plugin", "10.77.0.0/24", R"(,{"type":"bandwidth","capabilities":{"bandwidth":true}})");
  bridge_network("ours", "10.78.0.0/24");
  for (const std::string name : {"plugin", "ours"}) {
    Agent agent(work, settings());
    auto task = on_networks({name});
    task->labels.push_back(label(ingress_label, "8Mbit"));
    task->labels.push_back(label(egress_label, "16Mbit"));
    ASSERT_OK(agent.prepare("box", task));
    const Contained box;
    ASSERT_OK(agent.attach("box", box.pid()));
    const std::string queues = output_of("tc qdisc show");
    EXPECT_NE(queues.find("rate 8Mbit"), std::string::npos) << name << ": " << queues;
    EXPECT_NE(queues.find("rate 16Mbit"), std::string::npos) << name << ": " << queues;
    ASSERT_OK(agent.cleanup("box"));
    EXPECT_EQ(devices(), "") << name;
    ASSERT_OK(agent.network.stop());
  }
  // A network that cannot be limited says so, and its container is not left unlimited.
  scratch.write("net.d/red.conf",
                R"({"cniVersion":"0.4.0","name":"red","type":"macvlan","master":"up0","ipam":{"type":"host-local","dataDir":")" +
                    scratch.path() + R"(/leases","subnet":"10.88.0.0/24"}})");
  Agent agent(work, settings({{"ingress_rate", 1000000}}));
  ASSERT_OK(agent.prepare("box", on_networks({"red"})));
  const Contained box;
  EXPECT_NE(error_of(agent.attach("box", box.pid())).find("network \"red\" cannot limit rates"), std::string::npos);
  ASSERT_OK(agent.cleanup("box"));
  EXPECT_EQ(leases(), "");
  ASSERT_OK(agent.network.stop());
}

TEST_F(RealCni, NothingIsLeftWhateverTheMomentOfTheCrash) {
  bridge_network("blue", "10.77.0.0/24", portmap);
  auto task = on_networks({"blue"});
  task->container->network_infos[0]->port_mappings.push_back(mapping(31005, 80));
  for (unsigned round = 0; round < 12; ++round) {
    Contained container;
    Process module([&] {
      Agent agent(work, settings());
      if (!agent.recover()) ::_exit(1);
      for (int i = 0;; ++i) {
        const std::string id = "box" + std::to_string(i);
        if (!agent.prepare(id, task) || !agent.attach(id, container.pid()) || !agent.cleanup(id)) ::_exit(1);
      }
    });
    ::usleep(5000 + round * 47000);  // ADD and DEL take about 150 ms each
    ::kill(module.pid(), SIGKILL);
    const int status = module.wait();
    ASSERT_TRUE(WIFSIGNALED(status)) << "round " << round << ": a step failed by itself, status " << status;
    // In half of the rounds the container has died as well.
    if (round % 2) container.end();
    Agent agent(work, settings());
    const auto recovered = agent.recover();
    ASSERT_OK(recovered);
    for (const auto& id : recovered->orphans) ASSERT_OK(agent.cleanup(id));
    ASSERT_EQ(leases() + rules() + devices(), "") << "round " << round;
    ASSERT_EQ(output_of("sh -c \"grep netns /proc/self/mounts\""), "") << "round " << round;
    ASSERT_FALSE(std::filesystem::exists(work + "/containers") && !std::filesystem::is_empty(work + "/containers")) << "round " << round;
    ASSERT_OK(agent.network.stop());
  }
}

}  // namespace
}  // namespace gantry::isolator_network
