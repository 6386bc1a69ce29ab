#include "tests/bench/rig.hpp"

#include "kernel/base/log.hpp"
#include "kernel/config/config.hpp"

#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

namespace gantry::bench {

namespace {

double cpu(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

double status_bytes(const char* field) {
  std::ifstream in("/proc/self/status");
  std::string word;
  while (in >> word) {
    if (word != field) continue;
    double kib = 0;
    in >> kib;
    return kib * 1024;
  }
  return 0;
}

}  // namespace

double thread_cpu() { return cpu(CLOCK_THREAD_CPUTIME_ID); }
double process_cpu() { return cpu(CLOCK_PROCESS_CPUTIME_ID); }
double resident_bytes() {
  ::malloc_trim(0);
  return status_bytes("VmRSS:");
}
double peak_resident_bytes() { return status_bytes("VmHWM:"); }

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "gantry-bench-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary directory");
  path_ = name;
}
TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void run_loop(net::RealLoop& loop, const std::function<void(std::function<void()>)>& start) {
  // A start that finishes at once would otherwise stop a loop that does not run yet.
  loop.post([&] { start([&loop] { loop.post([&loop] { loop.stop(); }); }); });
  loop.run();
}

Modules::Modules(net::RealLoop& loop, const std::string& toml, std::vector<std::string> kinds) : loop_(loop) {
  base::log_threshold() = static_cast<std::uint32_t>(base::Level::error);
  config::Options options;
  options.file = "bench.toml";
  options.text = toml;
  options.module_dirs = config::default_module_dirs();
  const config::Loaded loaded = config::load(options);
  if (!loaded.config) throw std::runtime_error(loaded.problems.empty() ? "no configuration" : loaded.problems.front().text());
  strands_ = std::make_unique<module::Strands>(module::Strands::Limits{});
  module::HostSetup setup{loop_, *strands_, metrics_, loaded.config->roles(), {}};
  host_ = std::make_unique<module::ModuleHost>(std::move(setup));
  const auto problems = host_->load(loaded.config->modules());
  if (!problems.empty()) throw std::runtime_error(problems.front().text());
  Status started = ok;
  run_loop(loop_, [&](std::function<void()> finish) {
    auto starting = host_->start([&](const module::Instance& i) { return std::find(kinds.begin(), kinds.end(), i.kind()) != kinds.end(); });
    spawn(std::move(starting), [&started, finish](Status s) {
      started = std::move(s);
      finish();
    });
  });
  if (!started) throw std::runtime_error(started.error().message);
}

Modules::~Modules() {
  run_loop(loop_, [&](std::function<void()> finish) {
    auto stopping = host_->stop();
    spawn(std::move(stopping), [finish] { finish(); });
  });
}

module::Instance& Modules::find(std::string_view kind) const {
  module::Instance* i = host_->find(kind);
  if (!i) throw std::runtime_error("no module of kind " + std::string(kind));
  return *i;
}

std::string master_toml(const std::string& work_dir) {
  return "[kernel]\nrole = [\"master\"]\nwork_dir = \"" + work_dir + "\"\nlisten = \"127.0.0.1:0\"\n[election.standalone]\n[store.lmdb]\n[allocator.drf]\n";
}

void NoStore::commit(std::vector<store::Op>, Function<void(Status)> done) {
  loop_.post([done = std::move(done)]() mutable { done(ok); });
}
void NoStore::get(std::string key, Function<void(Result<Buffer>)> done) {
  loop_.post([key = std::move(key), done = std::move(done)]() mutable { done(fail(Code::not_found, "no record '" + key + "'")); });
}
void NoStore::list(std::string, Function<void(std::string_view, Bytes)>, Function<void(Status)> done) {
  loop_.post([done = std::move(done)]() mutable { done(ok); });
}

namespace {

master::CoreOptions driver_options() {
  master::CoreOptions o;
  o.run_id = "bench-0001";
  o.ping_interval = std::chrono::hours(24);  // the agents of a Driver do not answer
  return o;
}

}  // namespace

Driver::Driver(net::RealLoop& loop, module::Instance& allocator) : core(driver_options()), loop_(loop), allocator_(allocator) {
  core.recovered(loop_.now(), loop_.wall(), effects_);
  for (auto& e : effects_) execute(e);
  effects_.clear();
}

void Driver::apply(const master::Event& event) {
  core.apply(loop_.now(), loop_.wall(), event, effects_);
  for (auto& e : effects_) execute(e);
  effects_.clear();
  while (!stored_.empty()) {
    const auto cookies = std::exchange(stored_, {});
    for (const auto c : cookies) {
      core.apply(loop_.now(), loop_.wall(), master::Stored{c}, effects_);
      for (auto& e : effects_) execute(e);
      effects_.clear();
    }
  }
}

void Driver::execute(master::Effect& effect) {
  if (auto* f = std::get_if<master::SendFramework>(&effect)) events.emplace_back(f->stream, std::move(f->event));
  else if (auto* a = std::get_if<master::SendAgent>(&effect)) frames.emplace_back(a->link, std::move(a->frame));
  else if (auto* p = std::get_if<master::Persist>(&effect)) stored_.push_back(p->cookie);
  else if (auto* refused = std::get_if<master::Answer>(&effect); refused && !refused->status) throw std::runtime_error(refused->status.error().message);
  else if (auto* r = std::get_if<master::Allocate>(&effect)) {
    in_round_ = true;
    if (hold) held_ = std::move(r->deltas);
    else allocate(std::move(r->deltas));
  }
}

void Driver::release() {
  hold = false;
  if (held_) allocate(*std::exchange(held_, std::nullopt));
}

void Driver::allocate(Buffer deltas) {
  allocator_.call(static_cast<std::uint32_t>(fb::allocator::Method::ALLOCATE), std::move(deltas), [this](gantry_code code, Bytes body) {
    if (code == GANTRY_MORE) return;
    in_round_ = false;
    if (code < 0) throw std::runtime_error("the allocator failed: " + unpack_error(code, body).message);
    if (before_round) before_round();
    apply(master::RoundDone{body});
    if (on_round) on_round();
  });
}

}  // namespace gantry::bench
