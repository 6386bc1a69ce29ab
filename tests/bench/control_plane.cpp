// The control plane without executors: the master's shell, a fake agent on a thread of its own behind a real framed TCP
// link, and one framework in this process. Life cycle of a task: accept, run, RUNNING, ack, FINISHED, ack.
#include "kernel/master/master.hpp"
#include "tests/bench/cluster.hpp"
#include "tests/bench/fake_agents.hpp"
#include "tests/bench/messages.hpp"
#include "tests/bench/report.hpp"
#include "tests/bench/rig.hpp"

namespace gantry::bench {

void run_control_plane(const Settings& settings, const Report& report) {
  const std::size_t tasks = settings.size(10'000, 100);
  std::vector<double> rates, cpus;
  for (unsigned run = 0; run < settings.repeat(9); ++run) {
    TemporaryDirectory dir;
    const auto loop = net::make_real_loop();
    Modules modules(*loop, master_toml(dir.path()), {"allocator"});
    NoStore store(*loop);
    TcpLinks links(*loop);
    master::Master master(*loop, master_options(), modules.find("allocator"), store, links);
    links.serve(master);
    lead(*loop, master);
    Framework framework(master, "bench");
    FakeAgents agents(links.address(), 1, "cpus:10000;mem:1000000");
    run_loop(*loop, [&](std::function<void()> finish) {
      framework.on_offers = [&, finish] { finish(); };
      framework.subscribe();
    });
    framework.on_offers = {};
    LaunchCall launch = framework.launch_on_next_offer();
    launch.prefix = "task-";
    launch.count = tasks;
    launch.resources = "cpus:1;mem:100";
    const Buffer accept = accept_call(launch);
    Clock::time_point start;
    double cpu = 0;
    run_loop(*loop, [&](std::function<void()> finish) {
      framework.on_state = [&, finish](std::string_view, fb::TaskState) {
        if (framework.finished < tasks) return;
        rates.push_back(static_cast<double>(tasks) / seconds(Clock::now() - start));
        finish();
      };
      cpu = process_cpu() - agents.cpu();
      start = Clock::now();
      master.call(accept, {});
    });
    cpus.push_back((process_cpu() - agents.cpu() - cpu) / static_cast<double>(tasks) * 1e6);
    framework.on_state = {};
  }
  report.value("control_plane_10k", "tasks/s", rates);
  report.value("control_plane_10k_master_cpu", "us/task", cpus);
}

void run_accept_to_running(const Settings& settings, const Report& report) {
  const std::size_t agent_count = settings.size(100, 4), tasks = settings.size(500, 10);
  TemporaryDirectory dir;
  const auto loop = net::make_real_loop();
  Modules modules(*loop, master_toml(dir.path()), {"allocator"});
  NoStore store(*loop);
  TcpLinks links(*loop);
  master::Master master(*loop, master_options(), modules.find("allocator"), store, links);
  links.serve(master);
  lead(*loop, master);
  Framework framework(master, "bench");
  FakeAgents agents(links.address(), agent_count, "cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
  run_loop(*loop, [&](std::function<void()> finish) {
    framework.on_offers = [&, finish] {
      if (framework.offers.size() == agent_count) finish();
    };
    framework.subscribe();
  });
  framework.on_offers = {};

  // One after the other, each on an offer that is held: the last task has ended and its resources are offered again.
  std::vector<std::vector<double>> runs(settings.repeat(5));
  std::size_t next = 0;
  for (auto& run : runs) {
    run_loop(*loop, [&](std::function<void()> finish) {
      auto start = std::make_shared<Clock::time_point>();
      auto one = std::make_shared<std::function<void()>>();
      *one = [&, start] {
        LaunchCall launch = framework.launch_on_next_offer();
        launch.prefix = "task-";
        launch.first = next++;
        launch.resources = "cpus:1;mem:100";
        launch.refuse_seconds = 0;
        const Buffer accept = accept_call(launch);
        *start = Clock::now();
        master.call(accept, {});
      };
      framework.on_state = [&, start, one, finish](std::string_view, fb::TaskState state) {
        if (state == fb::TaskState::TASK_RUNNING) run.push_back(microseconds(Clock::now() - *start) / 1000);
        if (state != fb::TaskState::TASK_FINISHED) return;
        if (run.size() == tasks) return finish();
        loop->after(std::chrono::milliseconds(1), [one] { (*one)(); });
      };
      (*one)();
    });
    framework.on_state = {};
  }
  report.latencies("accept_to_running", "ms", runs);
}

}  // namespace gantry::bench
