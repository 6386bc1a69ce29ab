// The daemon as a process: from its start to the first answer on its control socket, and what it weighs while idle.
#include "tests/bench/report.hpp"
#include "tests/bench/rig.hpp"

#include <gantry/control_generated.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>

namespace gantry::bench {

namespace {

// What the shipped master.toml and agent.toml configure, on free ports and in a directory of its own.
std::string daemon_toml(const std::string& role, const std::string& work_dir) {
  std::string t = "[kernel]\nrole = [\"" + role + "\"]\nwork_dir = \"" + work_dir + "\"\nlisten = \"127.0.0.1:0\"\nlog_level = \"error\"\n";
  if (role == "master") t += "[election.standalone]\n[store.lmdb]\n[allocator.drf]\n[framework.services]\nlisten = \"127.0.0.1:0\"\n";
  else t += "[election.standalone]\nmaster = \"127.0.0.1:9\"\n[isolator.cgroups]\n[isolator.namespaces]\n[fetcher.curl]\n";
  return t;
}

bool transfer(int fd, std::uint8_t* data, std::size_t size, bool out) {
  while (size > 0) {
    const ssize_t n = out ? ::send(fd, data, size, MSG_NOSIGNAL) : ::recv(fd, data, size, 0);
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

// One question and its answer, as frames; false if nobody answers yet.
bool ask_status(const std::string& socket_path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  bool answered = false;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    fb::control::QuestionT q;
    q.id = 1;
    q.ask.Set(fb::control::AskStatusT{});
    const Buffer body = pack(q);
    std::vector<std::uint8_t> frame(4 + body.size());
    const auto size = static_cast<std::uint32_t>(body.size());
    std::memcpy(frame.data(), &size, 4);
    std::memcpy(frame.data() + 4, body.data(), body.size());
    std::uint32_t length = 0;
    answered = transfer(fd, frame.data(), frame.size(), true) && transfer(fd, reinterpret_cast<std::uint8_t*>(&length), 4, false) && length < (1u << 20);
    std::vector<std::uint8_t> answer(answered ? length : 0);
    answered = answered && transfer(fd, answer.data(), answer.size(), false);
    const auto* a = answered ? view<fb::control::Answer>(answer) : nullptr;
    answered = a && a->say_as_Status();
  }
  ::close(fd);
  return answered;
}

struct Measured {
  double cold_start_ms = 0, rss_mb = 0;
};

Measured measure(const Settings& settings, const std::string& role) {
  TemporaryDirectory dir;
  const std::string config = dir.path() + "/gantry.toml", work_dir = dir.path() + "/work", daemon = settings.bin_dir + "/gantryd";
  std::ofstream(config) << daemon_toml(role, work_dir);
  Measured m;
  const auto start = Clock::now();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execl(daemon.c_str(), "gantryd", "--config", config.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  const std::string socket_path = work_dir + "/gantry.sock";
  bool answered = false;
  while (!(answered = ask_status(socket_path)) && Clock::now() - start < std::chrono::seconds(20) && ::waitpid(pid, nullptr, WNOHANG) == 0)
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  m.cold_start_ms = microseconds(Clock::now() - start) / 1000;
  if (answered) {
    std::this_thread::sleep_for(std::chrono::milliseconds(settings.smoke ? 10 : 1000));
    std::ifstream in("/proc/" + std::to_string(pid) + "/status");
    std::string word;
    double kib = 0;
    while (in >> word)
      if (word == "VmRSS:" && in >> kib) m.rss_mb = kib / 1024;
  }
  ::kill(pid, SIGTERM);
  ::waitpid(pid, nullptr, 0);
  if (!answered) throw std::runtime_error("gantryd as " + role + " does not answer");
  return m;
}

}  // namespace

void run_daemons(const Settings& settings, const Report& report) {
  for (const std::string role : {"master", "agent"}) {
    if (!report.wants("idle_rss_mb_" + role) && !report.wants("cold_start_ms_" + role)) continue;
    std::vector<double> rss, cold;
    for (unsigned run = 0; run < settings.repeat(9); ++run) {
      const Measured m = measure(settings, role);
      rss.push_back(m.rss_mb);
      cold.push_back(m.cold_start_ms);
    }
    report.value("idle_rss_mb_" + role, "MiB", rss);
    report.value("cold_start_ms_" + role, "ms", cold);
  }
}

}  // namespace gantry::bench
