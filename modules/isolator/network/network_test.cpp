// Pure parts: what a task asks for, files, addresses, records.
#include "testing.hpp"

namespace gantry::isolator_network {
namespace {

Policy policy() { return {{"bridge", "mesos-bridge"}, {}}; }
Result<Plan> plan(const std::unique_ptr<fb::TaskInfoT>& t, const Policy& p = policy()) {
  return plan_of(*t, "0123456789abcdef-01", false, p);
}

template <class T>
std::string error_of(const Result<T>& r) { return r ? "no error" : r.error().message; }

TEST(Plan, NoContainerAndUnnamedNetworksMeanTheHost) {
  EXPECT_EQ(plan(task_with_ports(1, 2))->mode, Mode::host);
  const auto p = plan(on_networks({""}));
  ASSERT_OK(p);
  EXPECT_EQ(p->mode, Mode::host);
  EXPECT_EQ(p->hostname, "");
}

TEST(Plan, DockerModes) {
  auto t = docker_bridge();
  t->container->docker->network = std::nullopt;
  EXPECT_EQ(plan(t)->mode, Mode::host) << "Docker's default";
  EXPECT_TRUE(plan(t)->image);
  t->container->docker->network = fb::DockerNetwork::NONE;
  EXPECT_EQ(plan(t)->mode, Mode::none);
  t->container->docker->network = fb::DockerNetwork::USER;
  EXPECT_EQ(error_of(plan(t)), "docker.network is USER, but network_infos[0].name is missing; name a network");
  t->container->network_infos.push_back(std::make_unique<fb::NetworkInfoT>());
  t->container->network_infos[0]->name = "blue";
  ASSERT_OK(plan(t));
  EXPECT_EQ(plan(t)->networks.at(0).name, "blue");
  t->container->docker->network = fb::DockerNetwork::BRIDGE;
  EXPECT_EQ(plan(t)->networks.at(0).name, "bridge");
  EXPECT_EQ(plan(t)->hostname, "0123456789ab") << "shortened as Docker does";
  EXPECT_NE(error_of(plan(t, Policy{})).find("bridge_names"), std::string::npos);
}

TEST(Plan, MappingsAreCheckedAgainstThePortsOfTheTask) {
  auto t = docker_bridge({{31005, 80}});
  t->container->docker->port_mappings.push_back(mapping(31006, 53, "udp,tcp"));
  const auto p = plan(t);
  ASSERT_OK(p);
  EXPECT_EQ(p->networks[0].ports, (std::vector<Mapping>{{31005, 80, false}, {31006, 53, true}, {31006, 53, false}}));
  EXPECT_EQ(p->networks[0].info.port_mappings.size(), 2u) << "the answer repeats what was asked";

  t->container->docker->port_mappings.push_back(mapping(31005, 81));
  EXPECT_EQ(error_of(plan(t)), "docker.port_mappings[2] maps host port 31005 a second time; map each port once");
  t->container->docker->port_mappings.back() = mapping(40000, 81);
  EXPECT_EQ(error_of(plan(t)), "Port [40000] not included in resources");
  t->container->docker->port_mappings.back() = mapping(31007, 81, "sctp");
  EXPECT_NE(error_of(plan(t)).find("protocol is \"sctp\""), std::string::npos);
  t->container->docker->port_mappings.back() = mapping(31007, 0);
  EXPECT_NE(error_of(plan(t)).find("container_port is 0"), std::string::npos);
  t->container->docker->port_mappings.back() = mapping(0, 80);
  EXPECT_NE(error_of(plan(t)).find("host_port is 0"), std::string::npos);
  t->resources.clear();
  EXPECT_EQ(error_of(plan(t)), "Port mappings require port resources");
}

TEST(Plan, OneNetworkOnlyOnce) {
  EXPECT_EQ(error_of(plan(on_networks({"a", "b", "a"}))), "Attempted to join CNI network 'a' multiple times");
  EXPECT_EQ(plan(on_networks({"a", "b"}))->networks.size(), 2u);
  EXPECT_FALSE(plan(on_networks({"a b"})));
}

TEST(Plan, LabelsLowerRatesAndNeverRaiseThem) {
  auto t = on_networks({"a"});
  Policy p = policy();
  p.rates = {1000, 0};
  t->labels.push_back(label(ingress_label, "1MiB"));
  t->labels.push_back(label(egress_label, "8Mbit"));
  t->container->network_infos[0]->labels.push_back(label(egress_label, "500KB"));
  EXPECT_EQ(plan(t, p)->networks[0].rates, (Rates{1000, 500'000}));
  t->labels[0]->value = "fast";
  EXPECT_NE(error_of(plan(t, p)).find("label network.ingress_rate: \"fast\""), std::string::npos);
}

TEST(Plan, HostnamesCannotCarryAnythingElse) {
  auto t = docker_bridge();
  for (const char* bad : {"a b", "a\nb", "-a", "", "a/b"}) {
    t->container->hostname = bad;
    EXPECT_EQ(plan(t).has_value(), std::string(bad).empty()) << bad;
  }
  t->container->hostname = std::string(65, 'a');
  EXPECT_FALSE(plan(t));
  t->container->hostname = "web-1.example.org";
  EXPECT_EQ(plan(t)->hostname, "web-1.example.org");
}

TEST(Plan, DockerParametersOfTheGeneratedFiles) {
  auto t = docker_bridge();
  const auto add = [&](const char* key, const char* value) {
    auto p = std::make_unique<fb::ParameterT>();
    p->key = key;
    p->value = value;
    t->container->docker->parameters.push_back(std::move(p));
  };
  add("hostname", "db");
  add("add-host", "other:10.0.0.7");
  add("dns", "10.0.0.53");
  add("dns-search", "example.org");
  add("dns-opt", "ndots:2");
  add("ulimit", "nofile=10");  // not ours
  const auto p = plan(t);
  ASSERT_OK(p);
  EXPECT_EQ(p->hostname, "db");
  EXPECT_EQ(p->extra_hosts, std::vector<std::string>{"10.0.0.7\tother"});
  EXPECT_EQ(print_resolv_conf({p->nameservers, p->search, p->options}), "nameserver 10.0.0.53\nsearch example.org\noptions ndots:2\n");
  add("add-host", "evil:10.0.0.7\n10.0.0.8 bank");
  EXPECT_FALSE(plan(t));
}

TEST(Addresses, Subnets) {
  const auto s = parse_subnet("172.31.240.0/20");
  ASSERT_OK(s);
  EXPECT_EQ(to_text(s->gateway()), "172.31.240.1");
  EXPECT_EQ(to_text(s->first()), "172.31.240.2");
  EXPECT_EQ(to_text(s->last()), "172.31.255.254");
  EXPECT_TRUE(s->overlaps(*parse_subnet("172.31.0.0/16")));
  EXPECT_TRUE(s->overlaps(*parse_subnet("172.31.250.0/24")));
  EXPECT_FALSE(s->overlaps(*parse_subnet("172.31.0.0/17")));
  for (const char* bad :
       {"", "172.31.240.0", "172.31.240.1/20", "172.31.240.0/30", "172.31.240.0/7", "x/20", "1.2.3.4/x", "172.31.240.0/20 "})
    EXPECT_FALSE(parse_subnet(bad)) << bad;
}

TEST(Addresses, APoolGivesEveryAddressBeforeItRepeatsOne) {
  Pool pool(*parse_subnet("10.0.0.0/29"));  // .2 to .6
  std::set<Ipv4> given;
  const Ipv4 first = *pool.take();
  given.insert(first);
  pool.give_back(first);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(given.insert(*pool.take()).second);
  EXPECT_EQ(*pool.take(), first);
  EXPECT_EQ(error_of(pool.take()), "all 5 addresses of subnet 10.0.0.0/29 are in use; set a larger subnet");
  EXPECT_FALSE(pool.adopt(first)) << "taken";
  EXPECT_FALSE(pool.adopt(*parse_ipv4("10.0.0.1"))) << "the bridge's own";
  EXPECT_FALSE(pool.adopt(*parse_ipv4("10.0.1.2"))) << "elsewhere";
}

TEST(Addresses, PortsAndRates) {
  EXPECT_EQ(*parse_ports("31000-32000, 80"), (PortRanges{{31000, 32000}, {80, 80}}));
  EXPECT_TRUE(parse_ports("")->empty());
  for (const char* bad : {"a", "5-4", "1-70000", "1-", "1,,2", "-1"}) EXPECT_FALSE(parse_ports(bad)) << bad;
  EXPECT_EQ(print_ports({31000, 31001, 31005}), "[31000-31001, 31005-31005]");
  EXPECT_EQ(*parse_rate("10MiB"), 10u << 20);
  EXPECT_EQ(*parse_rate("100Mbit"), 12'500'000u);
  EXPECT_EQ(*parse_rate("1000"), 1000u);
  for (const char* bad : {"", "0", "fast", "-1", "1.5MB", "10 MB", "4bit", "99999999999GB"})
    EXPECT_EQ(parse_rate(bad).has_value(), false) << bad;
}

TEST(Files, ResolvConf) {
  const Resolver r = parse_resolv_conf(
      "# c\nnameserver 127.0.0.53\nnameserver 10.0.0.1 ; x\ndomain a\nsearch b c\noptions ndots:1\noptions edns0\nnameserver "
      "::1\nrubbish\n");
  EXPECT_EQ(print_resolv_conf(r), "nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\nsearch b c\noptions ndots:1 edns0\n");
  EXPECT_EQ(reachable(r).nameservers, std::vector<std::string>{"10.0.0.1"});
}

TEST(Files, Hosts) {
  const std::string h = hosts_file("web.example.org", {"10.0.0.5/16", "fd00::5/64"}, {"10.0.0.7\tother"});
  EXPECT_NE(h.find("127.0.0.1\tlocalhost\n"), h.npos);
  EXPECT_NE(h.find("10.0.0.5\tweb.example.org web\nfd00::5\tweb.example.org web\n10.0.0.7\tother\n"), h.npos) << h;
  EXPECT_NE(hosts_file("lonely", {}, {}).find("127.0.1.1\tlonely\n"), h.npos);
  EXPECT_EQ(hosts_file_of_host("127.0.0.1 localhost", "x", {}), "127.0.0.1 localhost\n127.0.1.1\tx\n");
}

TEST(Records, ReadBackTheSame) {
  Record r;
  r.hostname = "web";
  r.own_namespace = true;
  r.bridge = BridgeEnd{"eth1", "gv1", "gi1", *parse_ipv4("10.0.0.9"), {{31000, 80, false}, {31001, 53, true}}, {7, 1ull << 40}};
  CniEnd c;
  c.interface = "eth0";
  c.network = "blue";
  c.version = "0.4.0";
  c.inputs = {Object{{"type", "bridge"}}, Object{{"type", "portmap"}}};
  c.result = Object{{"ips", Array{}}};
  c.rates = {0, 9};
  c.ifb = "gi2";
  c.ports = {{31005, 80, true}};
  c.address = "10.1.0.5/16";
  EXPECT_EQ(c.target()->behind->text(), "10.1.0.0/16");
  r.cni.push_back(c);
  const auto back = parse_record(print_record(r));
  ASSERT_OK(back);
  EXPECT_EQ(back->bridge, r.bridge);
  EXPECT_EQ(print_record(*back), print_record(r));
  for (const char* bad : {"", "{}", "{\"version\":2}", R"({"version":1,"bridge":{"interface":"eth0","veth":"../x","address":"10.0.0.1"}})",
                          R"({"version":1,"cni":[{"interface":"eth0"}]})", R"({"version":1,"cni":[3]})"})
    EXPECT_EQ(parse_record(bad).has_value(), false) << bad;
}

TEST(Ports, TheTableIsTextAnOperatorKnows) {
  const PortMap ports("gantry-x", "gantry0", *parse_subnet("10.0.0.0/24"));
  const Target t{*parse_ipv4("10.0.0.2"), {{31000, 80, false}, {31001, 81, false}, {31002, 53, true}}, {}};
  EXPECT_EQ(ports.elements_text("add", t, true), "add element ip gantry-x tcp_ports { 31000 : 10.0.0.2 . 80, 31001 : 10.0.0.2 . 81 }\n"
                                                 "add element ip gantry-x udp_ports { 31002 : 10.0.0.2 . 53 }\n");
  EXPECT_EQ(ports.elements_text("delete", {0, {}, {}}, false), "");
}

TEST(Usage, CountersOfAllDevicesButLoopback) {
  fb::isolator::UsageT u;
  add_counters("Inter-|   Receive    |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n"
               "    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n"
               "  eth0:100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\n"
               "  eth1: 1 1 1 1 0 0 0 0 1 1 1 1 0 0 0 0\nbroken: 1 2\n", u);
  EXPECT_EQ(u.network_rx_bytes, 101u);
  EXPECT_EQ(u.network_rx_dropped, 5u);
  EXPECT_EQ(u.network_tx_bytes, 501u);
  EXPECT_EQ(u.network_tx_packets, 7u);
  EXPECT_EQ(u.network_tx_dropped, 9u);
}

// ---- the module without networks

TEST(Module, TheHostsNetworkNeedsNothing) {
  Scratch scratch;
  Agent agent(scratch.path(), {{"listening_ports", "off"}});
  ASSERT_OK(agent.started);
  const auto p = agent.prepare("one", task_with_ports(31000, 31001));
  ASSERT_OK(p);
  EXPECT_TRUE(p->no_attach);
  EXPECT_EQ(p->namespaces, 0u);
  EXPECT_TRUE(p->mounts.empty());
  EXPECT_FALSE(std::filesystem::exists(scratch.path() + "/containers"));
  ASSERT_OK(agent.cleanup("one"));
  ASSERT_OK(agent.network.stop());
}

TEST(Module, ANameOnTheHostsNetwork) {
  Scratch scratch;
  Agent agent(scratch.path());
  if (!has_rights()) GTEST_SKIP() << "needs CAP_NET_ADMIN and CAP_SYS_ADMIN";
  auto t = on_networks({""});
  t->container->hostname = "named";
  const auto p = agent.prepare("one", t);
  ASSERT_OK(p);
  EXPECT_EQ(p->hostname, "named");
  EXPECT_EQ(p->namespaces,
            static_cast<std::uint32_t>(fb::isolator::Namespace::UTS) | static_cast<std::uint32_t>(fb::isolator::Namespace::MOUNT));
  ASSERT_EQ(p->mounts.size(), 3u);
  EXPECT_EQ(p->mounts[1]->target, "/etc/hostname");
  EXPECT_EQ(read_file(p->mounts[1]->source), "named\n");
  EXPECT_EQ(p->mounts[1]->options, static_cast<std::uint32_t>(fb::isolator::MountOption::OPTIONAL));
  const auto again = agent.prepare("one", t);
  ASSERT_OK(again);
  EXPECT_EQ(again->mounts.size(), 3u);
  ASSERT_OK(agent.cleanup("one"));
  EXPECT_FALSE(std::filesystem::exists(scratch.path() + "/containers/one"));
  ASSERT_OK(agent.network.stop());
}

TEST(Module, WithoutRightsTheHostsNetworkGoesOn) {
  Scratch scratch;
  Agent agent(scratch.path());
  agent.network->allowed = [] { return false; };
  ASSERT_OK(agent.network.start());
  const auto health = agent.network.call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer());
  ASSERT_OK(health);
  EXPECT_EQ(health->state, fb::HealthState::DEGRADED);
  ASSERT_OK(agent.prepare("host", task_with_ports(1, 2), {"/layer"}));
  const auto refused = agent.prepare("bridge", docker_bridge());
  EXPECT_EQ(error_of(refused),
            "the container asks for network \"bridge\", and this agent has no right to make networks; run gantryd with CAP_NET_ADMIN and "
            "CAP_SYS_ADMIN");
  ASSERT_OK(agent.cleanup("host"));
  ASSERT_OK(agent.cleanup("bridge"));
  ASSERT_OK(agent.network.stop());
}

TEST(Module, SettingsAreCheckedWithTheirKeys) {
  Scratch scratch;
  for (const auto& [key, value] : {std::pair{"subnet", "10.0.0.1/8"},
                                   {"bridge_device", "a/b"},
                                   {"bridge_device", "a-name-much-too-long"},
                                   {"listening_ports_range", "1-"}}) {
    testing::Host host;
    testing::Subject<Network> m(host, "network");
    m.defaults(default_settings());
    m.work_dir(scratch.path());
    const Status s = m.configure({{key, value}});
    ASSERT_FALSE(s) << key;
    EXPECT_EQ(s.error().key_path, key) << s.error().message;
  }
}

// A child of ours that listens; we play the agent that knows it as a container on the host's network.
TEST(Listening, UnallocatedPortsEndAContainerOrAreReported) {
  Scratch scratch;
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  Process container([&] {
    // A grandchild listens: it is the container's all the same.
    const pid_t child = ::fork();
    if (child != 0) {
      for (;;) ::pause();
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int port = 0;
    const int s = ::socket(AF_INET, SOCK_STREAM, 0);
    for (port = 31900; port < 31990; ++port) {
      const sockaddr_in here = address_of("127.0.0.1", port);
      if (::bind(s, reinterpret_cast<const sockaddr*>(&here), sizeof here) == 0) break;
    }
    ::listen(s, 1);
    if (::write(ready[1], &port, sizeof port) < 0) ::_exit(1);
    for (;;) ::pause();
  });
  int port = 0;
  ASSERT_EQ(::read(ready[0], &port, sizeof port), static_cast<ssize_t>(sizeof port));
  ::close(ready[0]);
  ::close(ready[1]);
  const std::string said = "Container is listening on unallocated port(s): [" + std::to_string(port) + "-" + std::to_string(port) + "]";

  for (const std::string mode : {"report", "enforce"}) {
    Agent agent(scratch.path(), {{"listening_ports", mode}});
    const auto p = agent.prepare("mine", task_with_ports(31000, 31010));
    ASSERT_OK(p);
    EXPECT_FALSE(p->no_attach);
    ASSERT_OK(agent.prepare("allowed", task_with_ports(31000, 32000)));
    ASSERT_OK(agent.attach("mine", container.pid()));
    ASSERT_OK(agent.attach("allowed", container.pid()));
    fb::isolator::WatchT w;
    w.container_id = "mine";
    const auto watch = agent.network.open(Method::WATCH, w);
    w.container_id = "allowed";
    const auto other = agent.network.open(Method::WATCH, w);
    agent.host.advance(31s);
    agent.host.advance(31s);
    EXPECT_EQ(agent.host.metric("network_unallocated_ports"), 1) << "counted once";
    if (mode == "report") {
      EXPECT_TRUE(agent.host.logged(said));
      EXPECT_TRUE(watch.chunks().empty());
    } else {
      ASSERT_EQ(watch.chunks().size(), 1u);
      const auto limited = unpack<fb::isolator::Limited>(Bytes(watch.chunks()[0]));
      ASSERT_OK(limited);
      EXPECT_EQ(limited->reason, fb::Reason::REASON_CONTAINER_LIMITATION);
      EXPECT_EQ(limited->message, said);
    }
    EXPECT_TRUE(other.chunks().empty()) << "31000-32000 are its own";
    ASSERT_OK(agent.cleanup("mine"));
    EXPECT_TRUE(watch.done());
    ASSERT_OK(agent.cleanup("allowed"));
    ASSERT_OK(agent.network.stop());
  }
}

}  // namespace
}  // namespace gantry::isolator_network
