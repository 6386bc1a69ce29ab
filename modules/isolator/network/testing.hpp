// A machine in a network namespace of its own, an agent on it, and containers: for the tests with real networks.
#pragma once

#include "network.hpp"

#include <gantry/testing/host.hpp>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

namespace gantry::isolator_network {

using namespace std::chrono_literals;
using fb::isolator::Method;

// A child that ends with the test, whatever becomes of it.
class Process {
 public:
  Process() = default;
  explicit Process(const std::function<void()>& body) {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      body();
      ::_exit(0);
    }
  }
  Process(Process&& o) noexcept : pid_(std::exchange(o.pid_, -1)) {}
  Process& operator=(Process&& o) noexcept {
    std::swap(pid_, o.pid_);
    return *this;
  }
  ~Process() { end(); }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  // Its wait status, or -1 if it does not end within this time.
  int wait(std::chrono::milliseconds patience = 20s) {
    const auto give_up = std::chrono::steady_clock::now() + patience;
    int status = 0;
    while (::waitpid(pid_, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > give_up) return -1;
      ::usleep(2000);
    }
    pid_ = -1;
    return status;
  }
  [[nodiscard]] int pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

// The first process of a container: in new namespaces, waiting. Servers and clients are run beside it.
class Contained {
 public:
  Contained() {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) std::abort();
    process_ = Process([&] {
      if (::unshare(CLONE_NEWNET) != 0) ::_exit(1);
      if (::write(ready[1], "r", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    });
    ::close(ready[1]);
    char byte = 0;
    good_ = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
  }
  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] int pid() const { return process_.pid(); }
  void end() { process_.end(); }
  // Runs `body` in the container's network.
  [[nodiscard]] Process run(const std::function<void()>& body) const {
    return Process([&] {
      const int fd = ::open(("/proc/" + std::to_string(pid()) + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC);
      if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) ::_exit(99);
      body();
    });
  }

 private:
  Process process_;
  bool good_ = false;
};

inline sockaddr_in address_of(const std::string& ip, int port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, ip.c_str(), &a.sin_addr);
  return a;
}

// A TCP server that answers every connection with `word` and the client's address, until it is killed.
inline void serve_tcp(int port, const std::string& word) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  ::setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const sockaddr_in any = address_of("0.0.0.0", port);
  if (::bind(s, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0 || ::listen(s, 16) != 0) ::_exit(98);
  for (;;) {
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const int c = ::accept4(s, reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC);
    if (c < 0) continue;
    char text[INET_ADDRSTRLEN] = "";
    ::inet_ntop(AF_INET, &from.sin_addr, text, sizeof text);
    const std::string reply = word + " " + text;
    if (::write(c, reply.data(), reply.size()) < 0) ::_exit(97);
    ::close(c);
  }
}

inline void serve_udp(int port, const std::string& word) {
  const int s = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const sockaddr_in any = address_of("0.0.0.0", port);
  if (::bind(s, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0) ::_exit(98);
  for (;;) {
    char in[100];
    sockaddr_in from{};
    socklen_t size = sizeof from;
    if (::recvfrom(s, in, sizeof in, 0, reinterpret_cast<sockaddr*>(&from), &size) < 0) continue;
    ::sendto(s, word.data(), word.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
  }
}

// What a server says; "" if it does not within a second (connect and read each).
inline std::string ask_tcp(const std::string& ip, int port, std::chrono::milliseconds patience = 1s) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval limit{patience.count() / 1000, (patience.count() % 1000) * 1000};
  ::setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const sockaddr_in to = address_of(ip, port);
  std::string out;
  if (::connect(s, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
    char chunk[256];
    for (ssize_t n = 0; (n = ::read(s, chunk, sizeof chunk)) > 0;) out.append(chunk, static_cast<std::size_t>(n));
  }
  ::close(s);
  return out;
}

// `local` port: the same flow again. 0: any.
inline std::string ask_udp(const std::string& ip, int port, int local = 0, std::chrono::milliseconds patience = 500ms) {
  const int s = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const timeval limit{patience.count() / 1000, (patience.count() % 1000) * 1000};
  ::setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const sockaddr_in from = address_of("0.0.0.0", local), to = address_of(ip, port);
  char in[256] = "";
  ssize_t n = -1;
  if (::bind(s, reinterpret_cast<const sockaddr*>(&from), sizeof from) == 0 &&
      ::sendto(s, "?", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 1)
    n = ::recv(s, in, sizeof in, 0);
  ::close(s);
  return n > 0 ? std::string(in, static_cast<std::size_t>(n)) : std::string();
}

// Waits until something says what is expected: a server needs a moment to listen.
inline std::string eventually(const std::function<std::string()>& ask, const std::string& expected) {
  std::string last;
  for (int i = 0; i < 40; ++i) {
    last = ask();
    if (last.rfind(expected, 0) == 0) return last;
    ::usleep(25000);
  }
  return last;
}

inline std::string output_of(const std::string& command) {
  FILE* p = ::popen(("timeout 10 " + command + " 2>&1").c_str(), "re");
  std::string out;
  char chunk[4096];
  for (std::size_t n = 0; p && (n = ::fread(chunk, 1, sizeof chunk, p)) > 0;) out.append(chunk, n);
  if (p) ::pclose(p);
  return out;
}

// ---- tasks

inline std::unique_ptr<fb::PortMappingT> mapping(unsigned host, unsigned container, const char* protocol = "tcp") {
  auto m = std::make_unique<fb::PortMappingT>();
  m->host_port = host;
  m->container_port = container;
  m->protocol = protocol;
  return m;
}

inline std::unique_ptr<fb::LabelT> label(const char* key, const char* value) {
  auto l = std::make_unique<fb::LabelT>();
  l->key = key;
  l->value = value;
  return l;
}

inline std::unique_ptr<fb::TaskInfoT> task_with_ports(std::uint64_t begin, std::uint64_t end) {
  auto t = std::make_unique<fb::TaskInfoT>();
  t->name = "task";
  t->task_id = "task";
  auto r = std::make_unique<fb::ResourceT>();
  r->name = "ports";
  r->type = fb::ValueType::RANGES;
  r->ranges.push_back(fb::Range(begin, end));
  t->resources.push_back(std::move(r));
  return t;
}

// Docker's bridge with tcp mappings host -> container.
inline std::unique_ptr<fb::TaskInfoT> docker_bridge(std::vector<std::pair<unsigned, unsigned>> ports = {}) {
  auto t = task_with_ports(31000, 32000);
  t->container = std::make_unique<fb::ContainerInfoT>();
  t->container->type = fb::ContainerType::DOCKER;
  t->container->docker = std::make_unique<fb::DockerInfoT>();
  t->container->docker->image = "nginx";
  t->container->docker->network = fb::DockerNetwork::BRIDGE;
  for (const auto& p : ports) t->container->docker->port_mappings.push_back(mapping(p.first, p.second));
  return t;
}

inline std::unique_ptr<fb::TaskInfoT> on_networks(std::vector<std::string> names) {
  auto t = task_with_ports(31000, 32000);
  t->container = std::make_unique<fb::ContainerInfoT>();
  t->container->type = fb::ContainerType::MESOS;
  for (auto& n : names) {
    auto info = std::make_unique<fb::NetworkInfoT>();
    info->name = n;
    t->container->network_infos.push_back(std::move(info));
  }
  return t;
}

// ---- the agent's side

inline testing::Values default_settings() {
  return {{"bridge_names", {"bridge", "mesos-bridge"}},
          {"bridge_device", "gantry0"},
          {"subnet", "172.31.240.0/20"},
          {"ip_forward", true},
          {"cni_config_dir", "/nonexistent"},
          {"cni_plugin_dirs", {"/opt/cni/bin", "/usr/lib/cni"}},
          {"cni_timeout", 30s},
          {"ingress_rate", 0},
          {"egress_rate", 0},
          {"nameservers", std::vector<std::string>()},
          {"listening_ports", "report"},
          {"listening_ports_interval", 30s},
          {"listening_ports_range", "31000-32000"}};
}

// A folder that goes with the test.
class Scratch {
 public:
  Scratch() {
    char name[] = "/tmp/gantry-network-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Scratch() {
    // Namespaces that a failed test left mounted.
    if (std::filesystem::exists(path_)) {
      for (const auto& e : std::filesystem::recursive_directory_iterator(path_, std::filesystem::directory_options::skip_permission_denied))
        if (e.path().filename() == "netns") ::umount2(e.path().c_str(), MNT_DETACH);
      std::error_code ec;
      std::filesystem::remove_all(path_, ec);
    }
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + "/" + name).parent_path());
    std::ofstream(path_ + "/" + name) << text;
  }

 private:
  std::string path_;
};

// One life of the module.
struct Agent {
  testing::Host host;
  testing::Subject<Network> network{host, "network"};

  explicit Agent(const std::string& work_dir, const testing::Values& settings = {}) {
    network.defaults(default_settings());
    network.work_dir(work_dir);
    std::filesystem::create_directories(work_dir);
    started = network.configure(settings);
    if (started) started = network.start();
  }
  ~Agent() {
    network.destroy();
    EXPECT_EQ(host.faults(), std::vector<std::string>{});
  }
  Result<fb::isolator::PreparedT> prepare(const std::string& id, const std::unique_ptr<fb::TaskInfoT>& task,
                                          std::vector<std::string> layers = {}) {
    fb::isolator::PrepareT p;
    p.container_id = id;
    p.sandbox = "/tmp";
    p.task = std::make_unique<fb::TaskInfoT>(*task);
    p.layers = std::move(layers);
    return network.call<fb::isolator::Prepared>(Method::PREPARE, p);
  }
  Result<fb::isolator::AttachedT> attach(const std::string& id, int pid) {
    fb::isolator::AttachT a;
    a.container_id = id;
    a.pid = pid;
    return network.call<fb::isolator::Attached>(Method::ATTACH, a);
  }
  Status cleanup(const std::string& id) {
    fb::isolator::CleanupT c;
    c.container_id = id;
    return network.call(Method::CLEANUP, c);
  }
  struct Living {
    std::string id;
    int pid;
  };
  Result<fb::isolator::RecoveredT> recover(const std::vector<Living>& living = {}) {
    fb::isolator::RecoverT r;
    for (const auto& l : living) {
      auto k = std::make_unique<fb::isolator::KnownT>();
      k->container_id = l.id;
      k->pid = l.pid;
      k->task = std::make_unique<fb::TaskInfoT>();
      r.containers.push_back(std::move(k));
    }
    return network.call<fb::isolator::Recovered>(GANTRY_METHOD_RECOVER, r);
  }
  Status started;
};

inline std::string ip_of(const Result<fb::isolator::AttachedT>& a, std::size_t network = 0) {
  if (!a || a->networks.size() <= network || a->networks[network]->ip_addresses.empty()) return {};
  return a->networks[network]->ip_addresses[0]->ip_address;
}

#define ASSERT_OK(expression)                                     \
  do {                                                            \
    const auto& result_ = (expression);                           \
    ASSERT_TRUE(result_.has_value()) << result_.error().message; \
  } while (0)

// Puts this thread, and so everything the test does, on a machine of its own: a network with loopback and an uplink
// ("up0", 192.0.2.2/24, default route) to a neighbour at 192.0.2.1. Other mounts are private, too.
class Machine : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
    before_ = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    mounts_before_ = ::open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) GTEST_SKIP() << "no network namespaces here: " << std::strerror(errno);
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    neighbour_ = std::make_unique<Contained>();
    ASSERT_TRUE(neighbour_->good());
    const std::string pid = std::to_string(neighbour_->pid()), in = "nsenter -t " + pid + " -n ip ";
    std::string said;
    for (const std::string& command :
         {std::string("ip link set lo up"), "ip link add up0 type veth peer name eth0 netns " + pid,
          std::string("ip addr add 192.0.2.2/24 dev up0"), std::string("ip link set up0 up mtu 1400"), in + "link set lo up",
          in + "addr add 192.0.2.1/24 dev eth0", in + "link set eth0 up mtu 1400", std::string("ip route add default via 192.0.2.1")})
      said += output_of(command);
    ASSERT_EQ(said, "");
  }
  void TearDown() override {
    neighbour_.reset();
    if (before_ >= 0 && ::setns(before_, CLONE_NEWNET) != 0) std::abort();
    // A thread that shares its working directory with others cannot come back to a mount namespace; the next test makes another.
    (void)::setns(mounts_before_, CLONE_NEWNS);
    ::close(before_);
    ::close(mounts_before_);
  }
  [[nodiscard]] const Contained& neighbour() const { return *neighbour_; }

  // Everything a container could leave behind, by name.
  static std::string leftovers(const std::string& work_dir) {
    std::string out = output_of("ip -o link | grep -vE '^[0-9]+: (lo|up0@|gantry0:|gantry1:)'");
    std::error_code ec;
    for (const auto& e : std::filesystem::directory_iterator(work_dir + "/containers", ec)) out += " " + e.path().string();
    out += output_of("nft -j list ruleset | grep -oE '\"elem\": \\[.*\\]' | head -c 200");
    out += output_of("grep -c netns /proc/thread-self/mounts | grep -v '^0$'");
    return out;
  }

 private:
  int before_ = -1, mounts_before_ = -1;
  std::unique_ptr<Contained> neighbour_;
};

}  // namespace gantry::isolator_network
