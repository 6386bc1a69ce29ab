// Reads of a large cluster: 10,000 agents, 100 frameworks with 1,000 running and 1,000 completed tasks each, all over the real links and
// the real API. How long the large answers take, and what they do to everybody else.
#include "tests/bench/fake_agents.hpp"
#include "tests/bench/mesos_rig.hpp"
#include "tests/bench/report.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <thread>

namespace gantry::bench {

namespace {

constexpr const char* kResources =
    R"([{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}},{"name":"mem","type":"SCALAR","scalar":{"value":32}}])";
constexpr const char* kJson = "Content-Type: application/json\r\nAccept: application/json\r\n";
constexpr const char* kProtobuf = "Content-Type: application/json\r\nAccept: application/x-protobuf\r\n";
constexpr const char* kGetState = R"({"type":"GET_STATE"})";

double milliseconds(Clock::time_point start) { return microseconds(Clock::now() - start) / 1000; }

// One framework's share: on each of its agents `per_agent` tasks that stay and as many that end.
void fill(HttpFramework& f, std::size_t begin, std::size_t end, std::size_t per_agent, std::size_t agents, const std::function<void()>& others) {
  std::size_t seen = 0, done = 0;
  f.on_offer = [&](const HttpFramework::Offered& o) {
    const std::size_t n = seen++;
    if (n < begin || n >= end) return f.decline(o, 86400);
    f.accept(o, "run-" + std::to_string(n) + "-", 0, per_agent, kResources, 86400);
    done += per_agent;
  };
  f.call("REVIVE");
  f.run_until([&] { return others(), seen >= agents && f.running >= done; }, 120, "running tasks");
  f.call("SUPPRESS", R"("suppress":{})");
  f.run_until([&] { return f.answered == f.sent; }, 60, "answers");
}

// How fast one framework's tasks come and go, one accept at a time, for `seconds`.
double launches(std::uint16_t api, double limit) {
  HttpFramework f(api, {true, 1, 64, "launcher", 0});
  std::size_t next = 0;
  f.run_until([&] { return !f.offers.empty(); }, 30, "an offer");
  const auto start = Clock::now();
  // One that launches faster than it acknowledges would only pile up ended tasks in the master.
  std::deque<HttpFramework::Offered> later;
  const auto busy = [&] { return f.sent - f.answered > 500; };
  f.on_offer = [&](const HttpFramework::Offered& o) {
    if (busy()) return later.push_back(o);
    f.accept(o, "one-", (next += 10) - 10, 10, kResources, 0);
  };
  for (std::size_t i = 0; i < 8 && !f.offers.empty(); ++i) {
    const auto o = f.offers.front();
    f.offers.pop_front();
    f.on_offer(o);
  }
  for (const auto& o : f.offers) f.decline(o, 86400);
  f.offers.clear();
  while (seconds(Clock::now() - start) < limit) {
    f.step(50);
    while (!busy() && !later.empty()) {
      f.on_offer(later.front());
      later.pop_front();
    }
  }
  const double rate = static_cast<double>(f.finished) / seconds(Clock::now() - start);
  f.on_offer = [](const HttpFramework::Offered&) {};
  f.call("TEARDOWN");
  const auto end = Clock::now();
  while (f.answered < f.sent && seconds(Clock::now() - end) < 5) f.step(50);
  return rate;
}

}  // namespace

void run_mesos_reads(const Settings& settings, const Report& report) {
  const std::size_t agent_count = settings.size(10'000, 20), frameworks = settings.size(100, 2);
  const std::size_t share = agent_count / frameworks, per_agent = 10;
  MesosMaster master(settings.bin_dir, "agent_ping_interval = \"30s\"");
  // Each framework's tasks run first and end then on the same agents, so that both lists are full.
  FakeAgents agents({"127.0.0.1", master.links, false}, agent_count, "cpus:24;mem:40960;disk:40960;ports:[31000-32000]", "run-");
  const auto registering = Clock::now();
  while (agents.registered() < agent_count) {
    if (seconds(Clock::now() - registering) > 120) throw std::runtime_error("agents do not register");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::fprintf(stderr, "%zu agents registered in %.1f s\n", agent_count, seconds(Clock::now() - registering));
  std::vector<std::unique_ptr<HttpFramework>> all;
  const auto filling = Clock::now();
  // An offer may cross the SUPPRESS of a framework that is full; held by it, nobody else gets it.
  const auto others = [&] {
    for (std::size_t i = 0; i + 1 < all.size(); ++i) all[i]->step(0);
  };
  for (std::size_t i = 0; i < frameworks; ++i) {
    HttpFramework::Options o;
    o.name = "framework-" + std::to_string(i);
    o.suppressed = true;
    auto& f = *all.emplace_back(std::make_unique<HttpFramework>(master.api, o));
    fill(f, i * share, (i + 1) * share, per_agent, agent_count, others);
    // And as many that end.
    std::size_t ended = 0, seen = 0;
    const std::size_t before = f.finished;
    f.on_offer = [&](const HttpFramework::Offered& offer) {
      const std::size_t n = seen++;
      if (n < i * share || n >= (i + 1) * share || ended >= share * per_agent) return f.decline(offer, 86400);
      f.accept(offer, "end-" + std::to_string(n) + "-", 0, per_agent, kResources, 86400);
      ended += per_agent;
    };
    f.call("REVIVE");
    f.run_until([&] { return others(), seen >= agent_count && f.finished >= before + ended; }, 120, "ended tasks");
    f.call("SUPPRESS", R"("suppress":{})");
    f.run_until([&] { return f.answered == f.sent; }, 60, "answers");
    f.on_offer = [&f](const HttpFramework::Offered& offer) { f.decline(offer, 86400); };
  }
  std::fprintf(stderr, "%zu tasks in %.1f s\n", 2 * agent_count * per_agent, seconds(Clock::now() - filling));
  std::jthread idle([&](const std::stop_token& over) {  // streams are read on, or the master cuts them off
    while (!over.stop_requested()) {
      for (auto& f : all) f->step(0);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  // What stays: the daemon gives back what the burst has left behind within a few seconds (kernel/base/heap.hpp).
  double resident = master.resident();
  for (int i = 0; i < (settings.smoke ? 0 : 15); ++i) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    resident = std::min(resident, master.resident());
  }
  const auto time = [&](const char* name, std::string_view method, std::string_view path, std::string_view headers, std::string_view body) {
    std::vector<double> runs;
    std::size_t size = 0;
    for (unsigned i = 0; i < settings.repeat(7); ++i) {
      const auto start = Clock::now();
      const Answered a = ask(master.api, method, path, headers, body, 0);
      if (a.status != 200) throw std::runtime_error(std::string(path) + ": " + a.head);
      runs.push_back(milliseconds(start));
      size = a.size;
    }
    std::fprintf(stderr, "%s: %.1f MB\n", name, static_cast<double>(size) / 1e6);
    report.value(name, "ms", runs);
  };
  report.value("mesos_memory_200k_tasks", "MB", {resident / 1e6});
  time("mesos_state_200k_tasks", "GET", "/state", {}, {});
  time("mesos_get_state_json_200k_tasks", "POST", "/api/v1", kJson, kGetState);
  time("mesos_get_state_protobuf_200k_tasks", "POST", "/api/v1", kProtobuf, kGetState);
  time("mesos_state_summary_10k_agents", "GET", "/state-summary", {}, {});

  const double window = settings.smoke ? 0.3 : 5;
  const auto with_readers = [&](std::size_t count, double pause, const std::function<void()>& what) {
    std::atomic<std::size_t> reads{0}, refused{0};
    std::vector<std::jthread> readers;
    for (std::size_t i = 0; i < count; ++i)
      readers.emplace_back([&, i](const std::stop_token& stop) {
        std::mutex mutex;
        std::condition_variable_any asked;
        const auto rest = [&](double time) {  // or until it is to stop
          std::unique_lock lock(mutex);
          asked.wait_for(lock, stop, std::chrono::duration<double>(time), [] { return false; });
        };
        rest(pause * static_cast<double>(i) / static_cast<double>(count));
        while (!stop.stop_requested()) {
          try {
            if (ask(master.api, "GET", "/state", {}, {}, 0).status != 200) ++refused;
          } catch (const std::exception& e) {
            std::fprintf(stderr, "a reader: %s\n", e.what());
          }
          ++reads;
          rest(pause);
        }
      });
    std::this_thread::sleep_for(std::chrono::duration<double>(settings.smoke ? 0.1 : 1));
    const auto start = Clock::now();
    what();
    std::fprintf(stderr, "%zu readers: %.1f reads/s, %zu refused, master %.0f MB\n", count,
                 static_cast<double>(reads) / seconds(Clock::now() - start), refused.load(), master.resident() / 1e6);
    for (auto& t : readers) t.request_stop();  // together, then each is waited for
  };
  const auto health = [&] {
    std::vector<double> ms;
    const auto start = Clock::now();
    while (seconds(Clock::now() - start) < window) {
      const auto one = Clock::now();
      (void)ask(master.api, "GET", "/health");
      ms.push_back(milliseconds(one));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return ms;
  };
  with_readers(5, 0, [&] { report.latencies("mesos_health_5_state_readers", "ms", {health()}); });
  std::vector<double> alone, five, fifty;
  for (unsigned i = 0; i < settings.repeat(3); ++i) {
    alone.push_back(launches(master.api, window));
    with_readers(5, 0, [&] { five.push_back(launches(master.api, window)); });
    with_readers(50, 5, [&] { fifty.push_back(launches(master.api, window)); });
  }
  report.value("mesos_launches_no_readers", "tasks/s", alone);
  report.value("mesos_launches_5_state_readers", "tasks/s", five);
  report.value("mesos_launches_50_state_pollers", "tasks/s", fifty);
}

}  // namespace gantry::bench
