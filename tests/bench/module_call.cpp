// What a call into a module costs: a message of 240 bytes built, carried, verified, read and answered, in both hosts.
#include "kernel/base/log.hpp"
#include "kernel/module/process/prepare.hpp"
#include "tests/bench/report.hpp"
#include "tests/bench/rig.hpp"

#include <gantry/allocator_generated.h>
#include <gantry/fetcher_generated.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

namespace gantry::bench {
namespace {

Buffer message() {
  flatbuffers::FlatBufferBuilder b(384);
  const auto uri = fb::CreateUri(b, b.CreateString("http://artifacts.example.org/releases/2026/web-1.2.3.tar.gz"));
  const auto uris = b.CreateVector(&uri, 1);
  const auto container = b.CreateString("4f6a1c36-9a4e-4e0f-8d9e-2c1f5b7a9d10");
  const auto directory = b.CreateString("/var/lib/gantry/sandboxes/4f6a1c36-9a4e-4e0f-8d9e-2c1f5b7a9d10");
  const auto user = b.CreateString("nobody");
  b.Finish(fb::fetcher::CreateFetch(b, container, uris, directory, user));
  return Buffer(b.Release());
}

class Callee {
 public:
  Callee(const Settings& settings, bool process) : process_(process), loop_(net::make_real_loop()), strands_(*loop_) {
    base::log_threshold() = static_cast<std::uint32_t>(base::Level::error);
    config::ModuleConfig c;
    c.kind = "fetcher";
    c.name = "echo";
    c.path = settings.bin_dir + "/../bench/gantry-fetcher-echo.so";
    auto manifest = config::read_manifest(c.path);
    if (!manifest) throw std::runtime_error(manifest.error().message);
    c.manifest = std::move(*manifest);
    c.host = process ? "process" : "kernel";
    ::chmod(work_.path().c_str(), 0755);
    c.work_dir = work_.path() + "/module";
    module::HostSetup setup{*loop_, strands_, metrics_, {"agent"}, {}};
    setup.health_interval = base::Nanos(0);
    setup.processes.loop = loop_.get();
    setup.processes.program = settings.bin_dir + "/gantry-modhost";
    setup.processes.group = "bench" + std::to_string(::getpid());
    host_ = std::make_unique<module::ModuleHost>(std::move(setup));
    if (const auto problems = host_->load({c}); !problems.empty()) throw std::runtime_error(problems.front().text());
    Status started = ok;
    run_loop(*loop_, [&](std::function<void()> finish) {
      spawn(host_->start(), [&started, finish](Status s) {
        started = std::move(s);
        finish();
      });
    });
    if (!started) throw std::runtime_error(started.error().message);
    instance_ = host_->find("fetcher");
  }
  ~Callee() {
    run_loop(*loop_, [&](std::function<void()> finish) { spawn(host_->stop(), [finish] { finish(); }); });
  }
  Callee(const Callee&) = delete;
  Callee& operator=(const Callee&) = delete;

  // `count` calls with `flight` of them open at any time. Seconds; in process those of this thread, which does all of it and
  // never waits, so that neighbours on the machine are not measured.
  double run(std::size_t count, std::size_t flight) {
    Clock::time_point begin;
    double cpu = 0, took = 0;
    run_loop(*loop_, [&](std::function<void()> finish) {
      left_ = count;
      open_ = 0;
      finish_ = [&, finish = std::move(finish)] {
        took = process_ ? seconds(Clock::now() - begin) : thread_cpu() - cpu;
        finish();
      };
      begin = Clock::now();
      cpu = thread_cpu();
      for (std::size_t i = 0; i < flight; ++i) call();
    });
    return took;
  }

 private:
  void call() {
    if (left_ == 0) return;
    --left_;
    ++open_;
    instance_->call(static_cast<std::uint32_t>(fb::fetcher::Method::FETCH), message(), [this](gantry_code code, Bytes) {
      if (code != GANTRY_OK) throw std::runtime_error("the module answered with code " + std::to_string(code));
      --open_;
      call();
      if (left_ == 0 && open_ == 0) std::exchange(finish_, nullptr)();
    });
  }

  const bool process_;
  TemporaryDirectory work_;
  std::unique_ptr<net::RealLoop> loop_;
  module::Strands strands_;
  base::Metrics metrics_;
  std::unique_ptr<module::ModuleHost> host_;
  module::Instance* instance_ = nullptr;
  std::size_t left_ = 0, open_ = 0;
  std::function<void()> finish_;
};

std::vector<double> per_call(Callee& callee, unsigned runs, std::size_t count, std::size_t flight, double unit) {
  callee.run(count / 10 + 1, flight);
  std::vector<double> out;
  for (unsigned i = 0; i < runs; ++i) out.push_back(callee.run(count, flight) / static_cast<double>(count) * unit);
  return out;
}

// Offer rounds of the real allocator, one every few milliseconds, beside a module that does one bad thing after another.
class Neighbours {
 public:
  Neighbours(const std::string& bad, const Settings& settings) : loop_(net::make_real_loop()), strands_(module::Strands::Limits{}) {
    base::log_threshold() = static_cast<std::uint32_t>(base::Level::error);
    base::set_log_sink([](base::Level, std::string_view) {});
    ::chmod(work_.path().c_str(), 0755);
    config::Options options;
    options.file = "bench.toml";
    options.text = master_toml(work_.path()) + "\n[isolator.crashes]\npath = \"" + bad +
                   "\"\nhost = \"process\"\nsandbox = { memory = \"64MiB\", processes = 64 }\n";
    options.module_dirs = config::default_module_dirs();
    const config::Loaded loaded = config::load(options);
    if (!loaded.config)
      throw std::runtime_error(loaded.problems.empty() ? "no configuration" : loaded.problems.front().text());
    module::HostSetup setup{*loop_, strands_, metrics_, loaded.config->roles(), {}};
    setup.health_interval = std::chrono::milliseconds(200);
    setup.processes.loop = loop_.get();
    setup.processes.program = settings.bin_dir + "/gantry-modhost";
    setup.processes.group = "bench" + std::to_string(::getpid());
    setup.processes.first_retry = std::chrono::milliseconds(20);
    setup.processes.max_retry = std::chrono::milliseconds(100);
    host_ = std::make_unique<module::ModuleHost>(std::move(setup));
    if (const auto problems = host_->load(loaded.config->modules()); !problems.empty())
      throw std::runtime_error(problems.front().text());
    Status started = ok;
    run_loop(*loop_, [&](std::function<void()> finish) {
      auto starting = host_->start([](const module::Instance& i) { return i.kind() == "allocator" || i.kind() == "isolator"; });
      spawn(std::move(starting), [&started, finish](Status s) {
        started = std::move(s);
        finish();
      });
    });
    if (!started) throw std::runtime_error(started.error().message);
    allocator_ = host_->find("allocator");
    bad_ = host_->find("isolator", "crashes");
  }
  ~Neighbours() {
    run_loop(*loop_, [&](std::function<void()> finish) { spawn(host_->stop(), [finish] { finish(); }); });
    base::set_log_sink(nullptr);
  }
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  // Milliseconds from when a round was due to its answer, for each round of that time. `method` 0: nothing bad happens.
  std::vector<double> rounds(std::uint32_t method, base::Nanos time) {
    std::vector<double> out;
    run_loop(*loop_, [&](std::function<void()> finish) {
      const base::Instant end = loop_->now() + time;
      due_ = loop_->now();
      finish_ = std::move(finish);
      misbehave(method, end);
      round(out, end);
    });
    return out;
  }

 private:
  void misbehave(std::uint32_t method, base::Instant end) {
    if (method == 0 || loop_->now() >= end) return;
    module::CallOptions options;
    options.deadline = loop_->now() + std::chrono::milliseconds(300);
    bad_->call(method, Buffer(), [this, method, end](gantry_code code, Bytes) {
      if (code != GANTRY_MORE)
        loop_->after(std::chrono::milliseconds(10), [this, method, end] { misbehave(method, end); });
    }, std::move(options));
  }
  void round(std::vector<double>& out, base::Instant end) {
    allocator_->call(static_cast<std::uint32_t>(fb::allocator::Method::ALLOCATE), pack(fb::allocator::DeltasT()),
                     [this, &out, end](gantry_code code, Bytes) {
                       if (code != GANTRY_OK) throw std::runtime_error("the allocator failed");
                       out.push_back(std::chrono::duration<double, std::milli>(loop_->now() - due_).count());
                       if (loop_->now() >= end) return std::exchange(finish_, nullptr)();
                       due_ = std::max(due_ + std::chrono::milliseconds(2), loop_->now());
                       loop_->at(due_, [this, &out, end] { round(out, end); });
                     });
  }

  TemporaryDirectory work_;
  std::unique_ptr<net::RealLoop> loop_;
  module::Strands strands_;
  base::Metrics metrics_;
  std::unique_ptr<module::ModuleHost> host_;
  module::Instance *allocator_ = nullptr, *bad_ = nullptr;
  base::Instant due_{0};
  std::function<void()> finish_;
};

}  // namespace

void run_bad_neighbour(const Settings& settings, const Report& report) {
  const std::string bad = settings.bin_dir + "/../tests/kernel/module/bad/crashes.so";
  if (::access(bad.c_str(), R_OK) != 0) return report.skipped("offer_delay_bad_module", "the tests' bad modules are not built");
  Neighbours neighbours(bad, settings);
  const base::Nanos time = settings.smoke ? std::chrono::milliseconds(50) : std::chrono::seconds(2);
  std::vector<double> worst;
  // Segfault, abort, block, flood, memory, twice, never, garbage, fork, exit, close: tests/kernel/module/bad/crashes.cpp.
  for (const std::uint32_t method : {17u, 18u, 19u, 20u, 21u, 22u, 23u, 24u, 25u, 26u, 28u}) {
    const auto delays = neighbours.rounds(method, time);
    worst.push_back(*std::max_element(delays.begin(), delays.end()));
  }
  // The figure is the worst of all, not the usual: one value.
  report.value("offer_delay_bad_module", "ms", {*std::max_element(worst.begin(), worst.end())});
  const auto quiet = neighbours.rounds(0, time);
  report.value("offer_delay_no_bad_module", "ms", {*std::max_element(quiet.begin(), quiet.end())});
}

void run_module_call(const Settings& settings, const Report& report) {
  const unsigned runs = settings.repeat(9);
  if (report.wants("call_in_process")) {
    Callee callee(settings, false);
    report.value("call_in_process", "ns", per_call(callee, runs, settings.size(200'000, 1'000), 64, 1e9));
  }
  if (!report.wants("call_process_one") && !report.wants("call_process_64")) return;
  Callee callee(settings, true);
  if (report.wants("call_process_one"))
    report.value("call_process_one", "us", per_call(callee, runs, settings.size(10'000, 100), 1, 1e6));
  if (report.wants("call_process_64"))
    report.value("call_process_64", "us", per_call(callee, runs, settings.size(100'000, 1'000), 64, 1e6));
}

}  // namespace gantry::bench
