// Scale: a million one-task launches onto a million simulated agents, and what an agent and a task cost in memory. The
// agents live behind the master's LinkServer seam and keep nothing, so the memory is the master's and its allocator's.
#include "tests/bench/cluster.hpp"
#include "tests/bench/report.hpp"

#include <utility>

namespace gantry::bench {

namespace {

// Answers every launch with RUNNING, from the loop.
class SimulatedAgents final : public master::LinkServer {
 public:
  explicit SimulatedAgents(net::RealLoop& loop) : loop_(loop) {}
  void serve(master::Master& master) { master_ = &master; }
  void send(master::LinkId link, const Buffer& frame) override {
    const auto* m = flatbuffers::GetRoot<fb::link::ToAgent>(frame.data());
    if (m->body_type() == fb::link::FromMaster::Registered) ++registered;
    const auto* run = m->body_as_RunTask();
    if (!run) return;
    updates_.emplace_back(link, update_frame(text(run->framework()->id()), text(run->task()->agent_id()), text(run->task()->task_id()),
                                             fb::TaskState::TASK_RUNNING, ++serial_));
    if (!std::exchange(posted_, true)) loop_.post([this] { answer(); });
  }
  void drop(master::LinkId, std::string_view) override { ++dropped; }
  std::size_t registered = 0, dropped = 0;

 private:
  void answer() {
    posted_ = false;
    for (auto& [link, frame] : std::exchange(updates_, {})) master_->on_agent_frame(link, frame);
  }
  net::RealLoop& loop_;
  master::Master* master_ = nullptr;
  std::deque<std::pair<master::LinkId, Buffer>> updates_;
  std::uint64_t serial_ = 0;
  bool posted_ = false;
};

struct Placed {
  double seconds = 0, bytes_per_agent = 0, bytes_per_task = 0, peak_bytes = 0;
};

Placed place(std::size_t agents, std::size_t tasks_per_agent) {
  Placed result;
  TemporaryDirectory dir;
  const auto loop = net::make_real_loop();
  Modules modules(*loop, master_toml(dir.path()), {"allocator"});
  NoStore store(*loop);
  SimulatedAgents links(*loop);
  master::Master master(*loop, master_options(), modules.find("allocator"), store, links);
  links.serve(master);
  lead(*loop, master);

  const double empty = resident_bytes();
  run_loop(*loop, [&](std::function<void()> finish) {
    auto turn = std::make_shared<std::function<void()>>();
    auto next = std::make_shared<master::LinkId>(0);
    *turn = [&, turn = std::weak_ptr(turn), next, finish] {
      for (int i = 0; i < 1000 && *next < agents; ++i) {
        const master::LinkId link = ++*next;
        master.on_agent_frame(link, hello_frame());
        master.on_agent_frame(link, register_frame("host-" + std::to_string(link), "cpus:4;mem:4096;disk:10000;ports:[31000-32000]"));
      }
      if (links.registered == agents) return finish();
      loop->post([turn = turn.lock()] { (*turn)(); });
    };
    (*turn)();
  });
  const double with_agents = resident_bytes();

  Framework framework(master, "bench");
  const std::size_t tasks = agents * tasks_per_agent;
  std::size_t launched = 0;
  framework.take_offers = [&](const fb::Offers& offers) {
    for (const auto* o : *offers.offers()) {
      LaunchCall l;
      l.framework = framework.id;
      l.agent = text(o->agent_id());
      l.offers = {std::string(text(o->id()))};
      l.prefix = "task-";
      l.first = launched;
      l.count = tasks_per_agent;
      l.resources = "cpus:0.1;mem:128";
      l.refuse_seconds = 3600;  // it needs no more than one offer of each agent
      launched += tasks_per_agent;
      master.call(accept_call(l), {});
    }
  };
  const auto start = Clock::now();
  run_loop(*loop, [&](std::function<void()> finish) {
    framework.on_state = [&, finish](std::string_view, fb::TaskState) {
      if (framework.running == tasks) finish();
    };
    framework.subscribe();
  });
  result.seconds = seconds(Clock::now() - start);
  framework.on_state = {};
  if (framework.failed || links.dropped) throw std::runtime_error("tasks failed");
  // The last round's offers and messages go before memory is counted.
  run_loop(*loop, [&](std::function<void()> finish) { loop->after(std::chrono::milliseconds(200), finish); });
  if (master.core()->task_states()[static_cast<std::size_t>(fb::TaskState::TASK_RUNNING)] != tasks) throw std::runtime_error("not every task runs");
  const double with_tasks = resident_bytes();
  result.bytes_per_agent = (with_agents - empty) / static_cast<double>(agents);
  result.bytes_per_task = (with_tasks - with_agents) / static_cast<double>(tasks);
  result.peak_bytes = peak_resident_bytes();
  return result;
}

}  // namespace

void run_place_100k(const Settings& settings, const Report& report) {
  std::vector<double> times;
  for (unsigned run = 0; run < settings.repeat(5); ++run) times.push_back(place(settings.size(10'000, 100), 10).seconds);
  report.value("place_100k_tasks_10k_agents", "s", times);
}

void run_place_1m(const Settings& settings, const Report& report) {
  // Once: memory of a second run could be what the first one left free.
  const Placed p = place(settings.size(1'000'000, 1000), 1);
  report.value("place_1m_tasks", "s", {p.seconds});
  report.value("place_1m_tasks_rss", "GB", {p.peak_bytes / 1e9});
  report.value("master_bytes_per_agent", "bytes", {p.bytes_per_agent});
  report.value("master_bytes_per_task", "bytes", {p.bytes_per_task});
}

}  // namespace gantry::bench
