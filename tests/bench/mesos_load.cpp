// The scheduler API over HTTP: a master process with gateway/mesos, fake agents on a thread here, one framework. Life cycle of a task:
// accept, run, RUNNING, ack, FINISHED, ack; 10,000 in one accept, as Mesos was measured.
#include "tests/bench/fake_agents.hpp"
#include "tests/bench/mesos_rig.hpp"
#include "tests/bench/report.hpp"

#include <cstdlib>

namespace gantry::bench {

namespace {

constexpr const char* kResources =
    R"([{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":100}}])";

net::Address local(std::uint16_t port) { return {"127.0.0.1", port, false}; }

unsigned setting(const char* name, unsigned usual) {
  const char* v = std::getenv(name);
  return v ? static_cast<unsigned>(std::atoi(v)) : usual;
}

void life_cycles(const Settings& settings, const Report& report, bool protobuf) {
  const std::size_t tasks = settings.size(10'000, 100);
  std::vector<double> rates, cpus;
  MesosMaster master(settings.bin_dir);
  FakeAgents agents(local(master.links), 1, "cpus:10000;mem:1000000");
  HttpFramework framework(master.api, {protobuf, setting("CONNECTIONS", 1), setting("DEPTH", 256)});
  std::size_t first = 0;
  for (unsigned run = 0; run < settings.repeat(9); ++run, first += tasks) {
    framework.run_until([&] { return !framework.offers.empty(); }, 20, "an offer");
    while (framework.offers.size() > 1) framework.offers.pop_front();
    // All there is must be in the offer: leftovers come back first.
    const auto offer = framework.offers.front();
    framework.offers.clear();
    framework.running = framework.finished = 0;
    const double cpu = master.cpu();
    const auto start = Clock::now();
    framework.accept(offer, "task-", first, tasks, kResources, 0);
    framework.run_until([&] { return framework.finished == tasks || framework.failed > 0; }, 60, "all tasks finished");
    if (framework.failed > 0) throw std::runtime_error("a task failed");
    rates.push_back(static_cast<double>(tasks) / seconds(Clock::now() - start));
    framework.run_until([&] { return framework.answered == framework.sent; }, 20, "the last answers");
    cpus.push_back((master.cpu() - cpu) / static_cast<double>(tasks) * 1e6);
    // What was released meanwhile is offered in pieces; decline until all of it is in one offer.
    framework.call("SUPPRESS", R"("suppress":{})");
    for (const auto& o : framework.offers) framework.decline(o, 0);
    framework.offers.clear();
    const auto settle = Clock::now();
    framework.run_until([&] { return Clock::now() - settle > std::chrono::milliseconds(300); }, 5, "the end of the run");
    for (const auto& o : framework.offers) framework.decline(o, 0);
    framework.offers.clear();
    framework.call("REVIVE");
  }
  const std::string form = protobuf ? "protobuf" : "json";
  report.value("mesos_life_cycles_" + form, "tasks/s", rates);
  report.value("mesos_life_cycle_cpu_" + form, "us/task", cpus);
}

void latency(const Settings& settings, const Report& report, bool protobuf) {
  const std::size_t agent_count = settings.size(100, 4), tasks = settings.size(500, 10);
  MesosMaster master(settings.bin_dir);
  FakeAgents agents(local(master.links), agent_count, "cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
  HttpFramework framework(master.api, {protobuf, 1, 1});
  framework.run_until([&] { return framework.offers.size() == agent_count; }, 20, "an offer of every agent");
  std::vector<std::vector<double>> runs(settings.repeat(5)), again(settings.repeat(5));
  std::size_t next = 0;
  for (auto& run : runs) {
    while (run.size() < tasks) {
      framework.run_until([&] { return !framework.offers.empty(); }, 20, "an offer");
      const auto offer = framework.offers.front();
      framework.offers.pop_front();
      const std::size_t before = framework.running, done = framework.finished;
      Clock::time_point ran;
      framework.on_state = [&](std::string_view, bool finished) {
        if (!finished) ran = Clock::now();
      };
      const auto start = Clock::now();
      framework.accept(offer, "task-", next++, 1, kResources, 0);
      framework.run_until([&] { return framework.running > before; }, 20, "RUNNING");
      run.push_back(microseconds(ran - start) / 1000);
      framework.run_until([&] { return framework.finished > done && framework.answered == framework.sent; }, 20, "FINISHED");
      framework.pause(std::chrono::milliseconds(1));
    }
  }
  const std::string form = protobuf ? "protobuf" : "json";
  report.latencies("mesos_accept_to_running_" + form, "ms", runs);
  framework.on_state = {};
  for (auto& run : again) {
    while (run.size() < tasks / 5 + 1) {
      framework.run_until([&] { return !framework.offers.empty(); }, 20, "an offer");
      const auto offer = framework.offers.front();
      framework.offers.pop_front();
      bool offered = false;
      framework.on_offer = [&](const HttpFramework::Offered& o) {
        offered = offered || o.agent == offer.agent;
        framework.offers.push_back(o);
      };
      const auto start = Clock::now();
      framework.decline(offer, 0);
      framework.run_until([&] { return offered; }, 20, "the declined agent's next offer");
      run.push_back(microseconds(Clock::now() - start) / 1000);
      framework.on_offer = {};
    }
  }
  report.latencies("mesos_declined_to_offered_" + form, "ms", again);
}

}  // namespace

void run_mesos_life_cycles_protobuf(const Settings& s, const Report& r) { life_cycles(s, r, true); }
void run_mesos_life_cycles_json(const Settings& s, const Report& r) { life_cycles(s, r, false); }
void run_mesos_latency_protobuf(const Settings& s, const Report& r) { latency(s, r, true); }
void run_mesos_latency_json(const Settings& s, const Report& r) { latency(s, r, false); }

}  // namespace gantry::bench
