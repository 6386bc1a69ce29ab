// The control plane without executors: the master's shell, a fake agent on a thread of its own behind a real framed TCP
// link, and one framework in this process. Life cycle of a task: accept, run, RUNNING, ack, FINISHED, ack.
#include "kernel/master/master.hpp"
#include "tests/bench/cluster.hpp"
#include "tests/bench/messages.hpp"
#include "tests/bench/report.hpp"
#include "tests/bench/rig.hpp"

#include <future>
#include <thread>

namespace gantry::bench {

namespace {

// Agents that answer as fast as they can: RUNNING on a launch, FINISHED on the acknowledgement of RUNNING.
class FakeAgents {
 public:
  FakeAgents(const net::Address& master, std::size_t count, std::string resources) : links_(count), ids_(count) {
    std::promise<void> ready;
    thread_ = std::thread([this, master, resources = std::move(resources), &ready] {
      loop_ = net::make_real_loop();
      cpu_clock_of_thread(ready);
      for (std::size_t i = 0; i < links_.size(); ++i) {
        net::connect(*loop_, master, [this, i, resources](Result<net::LinkPtr> link) {
          if (!link) throw std::runtime_error(link.error().message);
          links_[i] = *link;
          links_[i]->on_frame([this, i](Bytes frame) { on_frame(*links_[i], ids_[i], frame); });
          links_[i]->on_closed([](const Error&) {});
          links_[i]->send(hello_frame());
          links_[i]->send(register_frame("host-" + std::to_string(i), resources));
        });
      }
      loop_->run();
      links_.clear();
    });
    ready.get_future().wait();
  }
  ~FakeAgents() {
    loop_->stop();
    thread_.join();
  }
  [[nodiscard]] double cpu() const {
    timespec t{};
    ::clock_gettime(clock_, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
  }

 private:
  void cpu_clock_of_thread(std::promise<void>& ready) {
    ::pthread_getcpuclockid(::pthread_self(), &clock_);
    ready.set_value();
  }
  void on_frame(net::Link& link, std::string& id, Bytes frame) {
    const auto* m = flatbuffers::GetRoot<fb::link::ToAgent>(frame.data());
    if (const auto* run = m->body_as_RunTask()) {
      link.send(update_frame(text(run->framework()->id()), text(run->task()->agent_id()), text(run->task()->task_id()), fb::TaskState::TASK_RUNNING, ++serial_));
    } else if (const auto* ack = m->body_as_AckUpdate()) {
      if (state_of(*ack->uuid()) != fb::TaskState::TASK_RUNNING) return;
      link.send(update_frame(text(ack->framework_id()), id, text(ack->task_id()), fb::TaskState::TASK_FINISHED, ++serial_));
    } else if (const auto* registered = m->body_as_Registered()) {
      id = text(registered->agent_id());
    }
  }

  std::unique_ptr<net::RealLoop> loop_;
  std::vector<net::LinkPtr> links_;
  std::vector<std::string> ids_;
  std::uint64_t serial_ = 0;
  clockid_t clock_ = 0;
  std::thread thread_;
};

}  // namespace

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
