// The built-in bridge on a machine made for each test: real devices, rules, packets.
#include "testing.hpp"

namespace gantry::isolator_network {
namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GANTRY_TEST_SANITIZED 1
#endif
#endif
#if defined(GANTRY_TEST_SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

class BuiltInBridge : public Machine {
 protected:
  void SetUp() override {
    Machine::SetUp();
    if (IsSkipped()) return;
    const std::string nft = output_of("nft list ruleset");
    if (nft.find("not permitted") != nft.npos || nft.find("not supported") != nft.npos) GTEST_SKIP() << "no nftables here: " << nft;
  }
  Scratch scratch;
};

TEST_F(BuiltInBridge, AMappedPortAnswersFromEverywhere) {
  Agent agent(scratch.path());
  ASSERT_OK(agent.started);
  auto task = docker_bridge({{31005, 80}});
  task->container->docker->port_mappings.push_back(mapping(31006, 53, "udp"));
  const auto prepared = agent.prepare("web", task);
  ASSERT_OK(prepared);
  EXPECT_FALSE(prepared->no_attach);
  EXPECT_EQ(prepared->hostname, "web");
  ASSERT_EQ(prepared->environment.size(), 2u);
  EXPECT_EQ(prepared->environment[0]->name + "=" + prepared->environment[0]->value, "MESOS_CONTAINER_IP=172.31.240.2");
  ASSERT_EQ(prepared->mounts.size(), 3u);
  EXPECT_EQ(prepared->mounts[0]->options, static_cast<std::uint32_t>(fb::isolator::MountOption::FILE)) << "it has an image";
  EXPECT_NE(read_file(prepared->mounts[0]->source).value_or("").find("172.31.240.2\tweb\n"), std::string::npos);

  const Contained web;
  const auto attached = agent.attach("web", web.pid());
  ASSERT_OK(attached);
  ASSERT_EQ(attached->networks.size(), 1u);
  EXPECT_EQ(attached->networks[0]->name, "bridge");
  EXPECT_EQ(ip_of(attached), "172.31.240.2");
  EXPECT_EQ(attached->networks[0]->port_mappings.size(), 2u);

  const Process server = web.run([] { serve_tcp(80, "hello"); });
  const Process udp = web.run([] { serve_udp(53, "udp here"); });
  EXPECT_EQ(eventually([] { return ask_tcp("172.31.240.2", 80); }, "hello"), "hello 172.31.240.1") << "its own address, from the machine";
  EXPECT_EQ(ask_tcp("127.0.0.1", 31005), "hello 172.31.240.1") << "the machine's loopback";
  EXPECT_EQ(ask_tcp("192.0.2.2", 31005).substr(0, 5), "hello") << "the machine's address, from the machine";
  EXPECT_EQ(eventually([] { return ask_udp("127.0.0.1", 31006); }, "udp here"), "udp here");

  // From another machine the client's own address is seen.
  Process outside = neighbour().run([] { ::_exit(ask_tcp("192.0.2.2", 31005) == "hello 192.0.2.1" ? 0 : 1); });
  EXPECT_EQ(outside.wait(), 0);
  Process outside_udp = neighbour().run([] { ::_exit(ask_udp("192.0.2.2", 31006) == "udp here" ? 0 : 1); });
  EXPECT_EQ(outside_udp.wait(), 0);
  // Hairpin: the container asks for itself by the mapped port.
  Process hairpin = web.run([] {
    ::_exit(ask_tcp("192.0.2.2", 31005) == "hello 172.31.240.1" && ask_tcp("172.31.240.1", 31005) == "hello 172.31.240.1" ? 0 : 1);
  });
  EXPECT_EQ(hairpin.wait(), 0);
  // Out into the world, behind the machine's address.
  const Process far = neighbour().run([] { serve_tcp(7000, "far"); });
  Process way_out = web.run([] { ::_exit(eventually([] { return ask_tcp("192.0.2.1", 7000); }, "far") == "far 192.0.2.2" ? 0 : 1); });
  EXPECT_EQ(way_out.wait(), 0);

  // A second container reaches the first by address, and by its mapped port.
  ASSERT_OK(agent.prepare("client", on_networks({"mesos-bridge"})));
  const Contained client;
  ASSERT_OK(agent.attach("client", client.pid()));
  Process neighbours = client.run(
      [] { ::_exit(ask_tcp("172.31.240.2", 80) == "hello 172.31.240.3" && ask_tcp("192.0.2.2", 31005) == "hello 172.31.240.1" ? 0 : 1); });
  EXPECT_EQ(neighbours.wait(), 0);

  ASSERT_OK(agent.cleanup("client"));
  ASSERT_OK(agent.cleanup("web"));
  EXPECT_EQ(ask_tcp("127.0.0.1", 31005), "");
  EXPECT_EQ(leftovers(scratch.path()), "");
  ASSERT_OK(agent.network.stop());
  EXPECT_EQ(output_of("ip -o link show gantry0").find("does not exist") == std::string::npos, false)
      << "the bridge goes with its agent when it is empty";
  EXPECT_EQ(output_of("nft list tables"), "");
}

TEST_F(BuiltInBridge, ContainersCannotUseTheBridgeToReachTheMachinesLoopback) {
  Agent agent(scratch.path());
  ASSERT_OK(agent.prepare("evil", docker_bridge()));
  const Contained evil;
  ASSERT_OK(agent.attach("evil", evil.pid()));
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const Process secret([&] {
    const int s = ::socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in here = address_of("127.0.0.1", 9999);
    if (::bind(s, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0) ::_exit(1);
    char in[10];
    if (::write(ready[1], "b", 1) != 1) ::_exit(1);
    if (::recv(s, in, sizeof in, 0) > 0 && ::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  });
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  // The way in of CVE-2020-8558: loopback as a route of the container's through the bridge.
  Process attack = evil.run([] {
    const std::string said = output_of(
        "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via 172.31.240.1 dev eth0 src 172.31.240.2; sysctl -qw "
        "net.ipv4.conf.eth0.route_localnet=1 net.ipv4.conf.all.route_localnet=1");
    const int s = ::socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in to = address_of("127.0.0.1", 9999);
    for (int i = 0; i < 3; ++i) {
      (void)::sendto(s, "!", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
      ::usleep(50000);
    }
    ::_exit(said.empty() ? 0 : 1);
  });
  const int tried = attack.wait();
  pollfd heard{ready[0], POLLIN, 0};
  EXPECT_EQ(::poll(&heard, 1, 200), 0) << "a datagram of the container came to the machine's loopback";
  ::close(ready[0]);
  ::close(ready[1]);
  EXPECT_EQ(tried, 0);
  ASSERT_OK(agent.cleanup("evil"));
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, AnOldFlowFollowsTheNewContainer) {
  Agent agent(scratch.path());
  auto task = docker_bridge();
  task->container->docker->port_mappings.push_back(mapping(31006, 53, "udp"));
  // A client that began before the port was mapped, and goes on from the same port.
  Process before = neighbour().run([] { ::_exit(ask_udp("192.0.2.2", 31006, 5353, 200ms).empty() ? 0 : 1); });
  ASSERT_EQ(before.wait(), 0);
  for (const std::string word : {"first", "second"}) {
    ASSERT_OK(agent.prepare(word, task));
    const Contained container;
    ASSERT_OK(agent.attach(word, container.pid()));
    const Process server = container.run([&] { serve_udp(53, word); });
    Process client =
        neighbour().run([&] { ::_exit(eventually([] { return ask_udp("192.0.2.2", 31006, 5353, 200ms); }, word) == word ? 0 : 1); });
    EXPECT_EQ(client.wait(), 0) << word;
    ASSERT_OK(agent.cleanup(word));
  }
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, NoneIsAnEmptyNetworkWithLoopback) {
  Agent agent(scratch.path());
  auto task = docker_bridge();
  task->container->docker->network = fb::DockerNetwork::NONE;
  const auto p = agent.prepare("alone", task);
  ASSERT_OK(p);
  EXPECT_EQ(p->namespaces & static_cast<std::uint32_t>(fb::isolator::Namespace::NETWORK),
            static_cast<std::uint32_t>(fb::isolator::Namespace::NETWORK));
  const Contained alone;
  const auto a = agent.attach("alone", alone.pid());
  ASSERT_OK(a);
  EXPECT_TRUE(a->networks.empty());
  Process inside = alone.run([] {
    const Process server([] { serve_tcp(80, "self"); });
    const bool self = eventually([] { return ask_tcp("127.0.0.1", 80); }, "self") == "self 127.0.0.1";
    ::_exit(self && output_of("ip -o link | wc -l") == "1\n" ? 0 : 1);
  });
  EXPECT_EQ(inside.wait(), 0);
  ASSERT_OK(agent.cleanup("alone"));
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, RatesAreKeptInBothDirections) {
  if (output_of("ip link add probe type ifb").find("Unknown device type") != std::string::npos) GTEST_SKIP() << "this kernel has no ifb";
  (void)output_of("ip link del probe");
  Agent agent(scratch.path(), {{"ingress_rate", 4 << 20}});
  auto task = docker_bridge();
  task->labels.push_back(label(egress_label, "2MiB"));
  ASSERT_OK(agent.prepare("slow", task));
  const Contained slow;
  ASSERT_OK(agent.attach("slow", slow.pid()));

  // Seconds for this many bytes, from a sender in one network to a receiver in the other.
  const auto seconds = [&](bool out, std::size_t bytes) {
    const auto sender = [bytes](const std::string& to) {
      const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_in a = address_of(to, 9000);
      for (int i = 0; i < 100 && ::connect(s, reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0; ++i) ::usleep(10000);
      const std::string data(65536, 'x');
      for (std::size_t left = bytes; left > 0;) {
        const ssize_t n = ::write(s, data.data(), std::min(left, data.size()));
        if (n <= 0) ::_exit(1);
        left -= static_cast<std::size_t>(n);
      }
      ::shutdown(s, SHUT_WR);
      char byte;
      if (::read(s, &byte, 1) < 0) ::_exit(1);  // all has arrived
      ::_exit(0);
    };
    const auto receiver = [] {
      const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
      ::setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
      const sockaddr_in any = address_of("0.0.0.0", 9000);
      if (::bind(s, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0 || ::listen(s, 1) != 0) ::_exit(1);
      const int c = ::accept(s, nullptr, nullptr);
      std::string chunk(65536, 0);
      while (::read(c, chunk.data(), chunk.size()) > 0) {
      }
      ::_exit(0);
    };
    const auto begin = std::chrono::steady_clock::now();
    Process r = out ? neighbour().run(receiver) : slow.run(receiver);
    Process s = out ? slow.run([&] { sender("192.0.2.1"); }) : Process([&] { sender("172.31.240.2"); });
    EXPECT_EQ(s.wait(30s), 0);
    EXPECT_EQ(r.wait(30s), 0);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  // 6 MiB at 4 MiB/s, less what the bucket holds at first: at least a second; without a limit it takes milliseconds.
  const double in = seconds(false, 6 << 20);
  EXPECT_GT(in, 1.0);
  EXPECT_LT(in, 6.0);
  const double out = seconds(true, 4 << 20);
  EXPECT_GT(out, 1.5);
  EXPECT_LT(out, 8.0);
  ASSERT_OK(agent.cleanup("slow"));
  EXPECT_EQ(leftovers(scratch.path()), "");
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, CountersAreTheContainersOwn) {
  Agent agent(scratch.path());
  ASSERT_OK(agent.prepare("counted", docker_bridge({{31005, 80}})));
  const Contained counted;
  fb::isolator::UsageRequestT ask;
  ask.container_ids = {"counted", "unknown"};
  EXPECT_TRUE((agent.network.call<fb::isolator::Usages>(Method::USAGE, ask)->usages.empty())) << "nothing is attached yet";
  ASSERT_OK(agent.attach("counted", counted.pid()));
  // One way: datagrams to a port where nobody answers but with small errors.
  Process sender = counted.run([] {
    const int s = ::socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in to = address_of("172.31.240.1", 9);
    const std::string data(1000, 'x');
    for (int i = 0; i < 50; ++i) (void)::sendto(s, data.data(), data.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    ::_exit(0);
  });
  ASSERT_EQ(sender.wait(), 0);
  const auto usages = agent.network.call<fb::isolator::Usages>(Method::USAGE, ask);
  ASSERT_OK(usages);
  ASSERT_EQ(usages->usages.size(), 1u);
  const auto& u = *usages->usages[0];
  EXPECT_GE(u.network_tx_bytes, 50'000u) << "sent by the container";
  EXPECT_LT(u.network_rx_bytes, 40'000u);
  EXPECT_GE(u.network_tx_packets, 1u);
  ASSERT_OK(agent.cleanup("counted"));
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, AClashOfDevicesOrSubnetsIsTold) {
  ASSERT_EQ(output_of("ip link add gantry0 type bridge"), "");
  {
    Agent agent(scratch.path());
    const auto p = agent.prepare("one", docker_bridge());
    ASSERT_FALSE(p);
    EXPECT_EQ(p.error().code, Code::failed_precondition);
    EXPECT_EQ(p.error().message,
              "the built-in bridge: network device gantry0 exists and is not this agent's; set bridge_device, and subnet, of "
              "isolator.network to others");
    ASSERT_OK(agent.cleanup("one"));
    ASSERT_OK(agent.network.stop());
  }
  EXPECT_EQ(output_of("ip -o link show gantry0 | wc -l"), "1\n") << "somebody else's is left alone";
  ASSERT_EQ(output_of("sh -c 'ip link del gantry0 && ip route add 172.31.0.0/16 via 192.0.2.1'"), "");
  Agent agent(scratch.path());
  const auto p = agent.prepare("one", docker_bridge());
  ASSERT_FALSE(p);
  EXPECT_EQ(p.error().message,
            "the built-in bridge: subnet 172.31.240.0/20 overlaps the route to 172.31.0.0/16 through up0; set subnet of isolator.network "
            "to a free one");
  EXPECT_EQ(leftovers(scratch.path()), "");
  ASSERT_OK(agent.cleanup("one"));
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, TwoAgentsShareAMachine) {
  Scratch other_scratch;
  Agent one(scratch.path()), two(other_scratch.path(), {{"bridge_device", "gantry1"}, {"subnet", "10.99.0.0/24"}});
  ASSERT_OK(one.prepare("same-id", docker_bridge({{31005, 80}})));
  ASSERT_OK(two.prepare("same-id", docker_bridge({{31006, 80}})));
  const Contained a, b;
  ASSERT_OK(one.attach("same-id", a.pid()));
  ASSERT_OK(two.attach("same-id", b.pid()));
  const Process server_a = a.run([] { serve_tcp(80, "one"); }), server_b = b.run([] { serve_tcp(80, "two"); });
  EXPECT_EQ(eventually([] { return ask_tcp("127.0.0.1", 31005); }, "one"), "one 172.31.240.1");
  EXPECT_EQ(eventually([] { return ask_tcp("127.0.0.1", 31006); }, "two"), "two 10.99.0.1");
  ASSERT_OK(one.cleanup("same-id"));
  EXPECT_EQ(ask_tcp("127.0.0.1", 31006), "two 10.99.0.1");
  ASSERT_OK(one.network.stop());
  EXPECT_EQ(ask_tcp("127.0.0.1", 31006), "two 10.99.0.1") << "the first agent's end is not the second's";
  ASSERT_OK(two.cleanup("same-id"));
  ASSERT_OK(two.network.stop());
}

TEST_F(BuiltInBridge, AHostPortIsMappedOnce) {
  Agent agent(scratch.path());
  ASSERT_OK(agent.prepare("one", docker_bridge({{31005, 80}})));
  const auto p = agent.prepare("two", docker_bridge({{31005, 80}}));
  ASSERT_FALSE(p);
  EXPECT_EQ(p.error().message, "host port 31005/tcp is mapped to container one already");
  ASSERT_OK(agent.cleanup("one"));
  ASSERT_OK(agent.prepare("two", docker_bridge({{31005, 80}})));
  ASSERT_OK(agent.cleanup("two"));
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, AProcessWithoutANetworkOfItsOwnIsRefused) {
  Agent agent(scratch.path());
  ASSERT_OK(agent.prepare("shared", docker_bridge()));
  const Process here([] {
    for (;;) ::pause();
  });
  const auto a = agent.attach("shared", here.pid());
  ASSERT_FALSE(a);
  EXPECT_NE(a.error().message.find("is on the machine's network"), std::string::npos) << a.error().message;
  EXPECT_EQ(agent.attach("shared", 999'999'999).error().code, Code::not_found);
  ASSERT_OK(agent.cleanup("shared"));
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, RulesThatSomebodyFlushedComeBack) {
  Agent agent(scratch.path());
  ASSERT_OK(agent.prepare("one", docker_bridge({{31005, 80}})));
  const Contained one;
  ASSERT_OK(agent.attach("one", one.pid()));
  const Process server = one.run([] { serve_tcp(80, "one"); });
  ASSERT_EQ(eventually([] { return ask_tcp("127.0.0.1", 31005); }, "one"), "one 172.31.240.1");
  ASSERT_EQ(output_of("nft flush ruleset"), "");
  ASSERT_EQ(ask_tcp("127.0.0.1", 31005), "");
  ASSERT_OK(agent.prepare("two", docker_bridge({{31006, 80}})));
  EXPECT_EQ(ask_tcp("127.0.0.1", 31005), "one 172.31.240.1");
  ASSERT_OK(agent.cleanup("two"));
  ASSERT_EQ(output_of("nft flush ruleset"), "");
  agent.host.advance(31s);
  EXPECT_EQ(ask_tcp("127.0.0.1", 31005), "one 172.31.240.1") << "by itself, too";
  ASSERT_OK(agent.cleanup("one"));
  ASSERT_OK(agent.network.stop());
}

// ---- crashes

TEST_F(BuiltInBridge, ANewLifeGoesOnWithTheLivingAndFindsTheOthers) {
  const Contained living, dead;
  const Process server = living.run([] { serve_tcp(80, "still here"); });
  {
    Agent agent(scratch.path());
    ASSERT_OK(agent.prepare("living", docker_bridge({{31005, 80}})));
    ASSERT_OK(agent.attach("living", living.pid()));
    ASSERT_OK(agent.prepare("dead", docker_bridge({{31006, 80}})));
    ASSERT_OK(agent.attach("dead", dead.pid()));
    ASSERT_OK(agent.prepare("unborn", docker_bridge({{31007, 80}})));
  }  // no stop, no cleanup
  // What nothing knows of: a port on our bridge, an element in our map.
  ASSERT_EQ(output_of("ip link add stray type veth peer name stray1 && ip link set stray master gantry0"), "");
  const std::string table = output_of("nft list tables").substr(sizeof "table " - 1);
  ASSERT_EQ(output_of("nft add element " + table.substr(0, table.size() - 1) + " tcp_ports '{ 31999 : 172.31.240.9 . 80 }'"), "");

  Agent agent(scratch.path());
  const auto recovered = agent.recover({{"living", living.pid()}});
  ASSERT_OK(recovered);
  EXPECT_EQ(recovered->orphans, (std::vector<std::string>{"dead", "unborn"}));
  ASSERT_EQ(recovered->networks.size(), 1u);
  EXPECT_EQ(recovered->networks[0]->container_id, "living");
  EXPECT_EQ(recovered->networks[0]->networks.at(0)->ip_addresses.at(0)->ip_address, "172.31.240.2");
  EXPECT_EQ(ask_tcp("127.0.0.1", 31005), "still here 172.31.240.1");
  EXPECT_EQ(output_of("ip -o link show stray").find("does not exist") != std::string::npos, true);
  EXPECT_EQ(output_of("nft list ruleset").find("31999"), std::string::npos);
  ASSERT_OK(agent.prepare("next", docker_bridge()));
  EXPECT_NE(read_file(scratch.path() + "/containers/next/hosts").value_or("").find("172.31.240.5\t"), std::string::npos)
      << "no address is given twice";
  ASSERT_OK(agent.cleanup("next"));
  for (const auto& id : recovered->orphans) ASSERT_OK(agent.cleanup(id));
  EXPECT_EQ(ask_tcp("127.0.0.1", 31005), "still here 172.31.240.1");
  fb::isolator::UsageRequestT ask;
  ask.container_ids = {"living"};
  EXPECT_EQ((agent.network.call<fb::isolator::Usages>(Method::USAGE, ask)->usages.size()), 1u);
  ASSERT_OK(agent.cleanup("living"));
  EXPECT_EQ(leftovers(scratch.path()), "");
  ASSERT_OK(agent.network.stop());
  EXPECT_EQ(output_of("nft list tables"), "");
}

TEST_F(BuiltInBridge, ADamagedRecordIsCleanedUpByWhatCanBeKnown) {
  const Contained container;
  {
    Agent agent(scratch.path());
    ASSERT_OK(agent.prepare("torn", docker_bridge({{31005, 80}})));
    ASSERT_OK(agent.attach("torn", container.pid()));
  }
  scratch.write("containers/torn/record.json", "{\"version\":1,");
  Agent agent(scratch.path());
  const auto recovered = agent.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(recovered->orphans, std::vector<std::string>{"torn"});
  ASSERT_OK(agent.cleanup("torn"));
  EXPECT_EQ(leftovers(scratch.path()), "");
  ASSERT_OK(agent.network.stop());
}

// The module is killed by SIGKILL at random moments of launches and ends; afterwards a new one cleans up, and nothing is left.
TEST_F(BuiltInBridge, NothingIsLeftWhateverTheMomentOfTheCrash) {
  const Contained container;
  unsigned kills = 0;
  for (unsigned round = 0; round < 40; ++round) {
    Process module([&] {
      Agent agent(scratch.path());
      if (!agent.recover()) ::_exit(1);
      for (int i = 0;; ++i) {
        const std::string id = "c" + std::to_string(i);
        auto task = docker_bridge({{31005, 80}});
        task->labels.push_back(label(egress_label, "2MiB"));
        if (!agent.prepare(id, task) || !agent.attach(id, container.pid()) || !agent.cleanup(id)) ::_exit(1);
      }
    });
    // Launches take about 10 ms: the moments spread over all steps, the making of the bridge among them.
    ::usleep(1000 + round * 1370 % 60000);
    ::kill(module.pid(), SIGKILL);
    const int status = module.wait();
    ASSERT_TRUE(WIFSIGNALED(status)) << "round " << round << ": a step failed by itself, status " << status;
    ++kills;
    Agent agent(scratch.path());
    const auto recovered = agent.recover();
    ASSERT_OK(recovered);
    for (const auto& id : recovered->orphans) ASSERT_OK(agent.cleanup(id));
    ASSERT_EQ(leftovers(scratch.path()), "") << "round " << round;
    Process inside = container.run([] { ::_exit(output_of("ip -o link | wc -l") == "1\n" ? 0 : 1); });
    ASSERT_EQ(inside.wait(), 0) << "round " << round << ": a device is left in the container";
    if (round % 3 == 0) ASSERT_OK(agent.network.stop());
  }
  EXPECT_EQ(kills, 40u);
}

TEST_F(BuiltInBridge, ALaunchPaysLittle) {
  Agent agent(scratch.path());
  ASSERT_OK(agent.prepare("first", docker_bridge()));  // makes the bridge
  std::vector<double> took;
  for (int i = 0; i < 21; ++i) {
    const Contained container;
    const std::string id = "c" + std::to_string(i);
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_OK(agent.prepare(id, docker_bridge({{31005, 80}})));
    ASSERT_OK(agent.attach(id, container.pid()));
    took.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    ASSERT_OK(agent.cleanup(id));
  }
  std::sort(took.begin(), took.end());
  RecordProperty("median_us", static_cast<int>(took[10] * 1000));
  RecordProperty("best_us", static_cast<int>(took[0] * 1000));
  // The best one: with eight jobs on two cores the median says more about these than about us.
  EXPECT_TRUE(sanitized || took[0] < 25.0) << took[0] << " ms";
  ASSERT_OK(agent.cleanup("first"));
  ASSERT_OK(agent.network.stop());
}

TEST_F(BuiltInBridge, NginxAnswersThroughItsMappedPort) {
  if (::access("/usr/sbin/nginx", X_OK) != 0) GTEST_SKIP() << "nginx is not installed";
  Agent agent(scratch.path());
  ASSERT_OK(agent.prepare("nginx", docker_bridge({{31005, 80}})));
  const Contained container;
  ASSERT_OK(agent.attach("nginx", container.pid()));
  scratch.write("www/index.html", "served");
  scratch.write("nginx.conf", "daemon off; master_process off; pid " + scratch.path() + "/pid; error_log stderr;\nevents {}\n"
                              "http { access_log off; server { listen 80; root " + scratch.path() + "/www; } }\n");
  ASSERT_EQ(::chmod(scratch.path().c_str(), 0755), 0);
  const std::string conf = scratch.path() + "/nginx.conf";
  const Process nginx = container.run([&] { ::execl("/usr/sbin/nginx", "nginx", "-c", conf.c_str(), "-e", "/dev/null", nullptr); });
  EXPECT_EQ(eventually([] { return output_of("curl -s -m 2 http://127.0.0.1:31005/"); }, "served"), "served");
  EXPECT_EQ(output_of("curl -s -m 2 http://192.0.2.2:31005/"), "served");
  Process hairpin = container.run([] { ::_exit(output_of("curl -s -m 2 http://192.0.2.2:31005/") == "served" ? 0 : 1); });
  EXPECT_EQ(hairpin.wait(), 0);
  ASSERT_OK(agent.cleanup("nginx"));
  ASSERT_OK(agent.network.stop());
}

}  // namespace
}  // namespace gantry::isolator_network
