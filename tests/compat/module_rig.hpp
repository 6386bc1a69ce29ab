// One module in a real ModuleHost on a real loop, for tests that load binaries.
#pragma once

#include "kernel/base/log.hpp"
#include "kernel/module/host.hpp"
#include "kernel/module/loader.hpp"
#include "kernel/net/net.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gantry::compat {

using namespace std::chrono_literals;

// A folder that is gone with its owner. Modules are copied there: a checkout may be writable by its group.
struct TempDir {
  TempDir() {
    char name[] = "/tmp/gantry-compat-XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("mkdtemp");
    path = name;
    ::chmod(name, 0755);
  }
  ~TempDir() {
    std::error_code ec;
    std::filesystem::remove_all(path, ec);
  }
  std::string path;
};

// A setting that differs from its default; the rest comes from the manifest.
struct Given {
  std::string key, text;
  std::int64_t number = 0;
};

class Rig {
 public:
  Rig() : loop(net::make_real_loop()), strands(module::Strands::Limits{}) {}
  ~Rig() { stop(); }

  // Runs the loop until pred holds.
  template <class P>
  bool run_until(P pred, base::Nanos limit = 20s) {
    const base::Instant end = loop->now() + limit;
    bool met = false;
    std::function<void()> look = [&] {
      met = pred();
      if (met || loop->now() > end) loop->stop();
      else loop->after(500us, [&look] { look(); });
    };
    loop->post([&look] { look(); });
    loop->run();
    return met;
  }

  // Copies the .so, configures it with its defaults and `given`, and starts it. The error says which step failed.
  std::string start(const std::string& file, const std::string& host_kind, std::vector<Given> given = {},
                    module::ModuleHost::BeforeStart before = {}) {
    const std::string copy = dir.path + "/" + std::filesystem::path(file).filename().string();
    std::filesystem::copy_file(file, copy);
    ::chmod(copy.c_str(), 0755);
    auto manifest = config::read_manifest(copy);
    if (!manifest) return manifest.error().message;
    config::ModuleConfig c;
    c.kind = manifest->kind;
    c.name = manifest->name;
    c.path = copy;
    c.host = host_kind;
    c.work_dir = dir.path + "/work";
    std::vector<fb::SettingT> settings;
    for (const auto& f : manifest->fields) {
      settings.push_back(f.fallback);
      for (const Given& g : given)
        if (g.key == f.key) {
          settings.back().text = g.text;
          settings.back().number = g.number;
          settings.back().given = true;
        }
    }
    c.settings = config::Values(std::move(settings));
    c.manifest = std::move(*manifest);
    return start(std::move(c), std::move(before));
  }

  std::string start(config::ModuleConfig c, module::ModuleHost::BeforeStart before = {}) {
    host = std::make_unique<module::ModuleHost>(setup());
    kind = c.kind;
    name = c.name;
    if (provided) host->provide(c.id(), provided);
    const auto problems = host->load({std::move(c)});
    if (!problems.empty()) return problems.front().text();
    std::string out;
    spawn(host->start({}, std::move(before)), [&](Status s) { out = s.has_value() ? "started" : s.error().message; });
    if (!run_until([&] { return !out.empty(); })) return "start does not end";
    instance = host->find(kind, name);
    return out;
  }

  Result<Buffer> ask_raw(std::uint32_t method, Buffer body, std::vector<int> fds = {}) {
    module::CallOptions options;
    options.deadline = loop->now() + 10s;
    options.fds = std::move(fds);
    std::optional<Result<Buffer>> out;
    spawn(instance->ask(method, std::move(body), std::move(options)), [&](Result<Buffer> r) { out.emplace(std::move(r)); });
    run_until([&] { return out.has_value(); });
    if (!out) return fail(Code::deadline_exceeded, "no answer");
    return std::move(*out);
  }
  template <class M, class T>
  Result<Buffer> ask(M method, const T& message, std::vector<int> fds = {}) {
    return ask_raw(static_cast<std::uint32_t>(method), pack(message), std::move(fds));
  }

  // A stream: its chunks, its final code (1 = not yet) and its id.
  struct Stream {
    std::vector<std::vector<std::uint8_t>> chunks;
    gantry_code code = GANTRY_MORE;
    std::uint64_t id = 0;
  };
  std::shared_ptr<Stream> open(std::uint32_t method, Buffer body) {
    auto s = std::make_shared<Stream>();
    s->id = instance->call(method, std::move(body), [s](gantry_code code, Bytes b) {
      if (code == GANTRY_MORE) s->chunks.emplace_back(b.begin(), b.end());
      else s->code = code;
    });
    return s;
  }

  // Stops; true if the module went cleanly and made no fault on the way.
  bool stop() {
    if (!host) return true;
    bool done = false;
    const auto faults = instance ? instance->counters().faults : 0;
    spawn(host->stop(), [&] { done = true; });
    run_until([&] { return done; });
    const bool clean = done && faults == 0 && (!instance || instance->state() == module::State::stopped);
    instance = nullptr;
    host.reset();
    return clean;
  }

  std::unique_ptr<net::RealLoop> loop;
  module::Strands strands;
  base::Metrics metrics;
  TempDir dir;
  module::Services services;
  std::vector<module::Kind> kinds{std::begin(module::kinds), std::end(module::kinds)};
  const gantry_module* provided = nullptr;  // linked in, instead of a file
  std::unique_ptr<module::ModuleHost> host;
  module::Instance* instance = nullptr;
  std::string kind, name;

 private:
  module::HostSetup setup() {
    module::HostSetup s{*loop, strands, metrics, {"master", "agent"}, services};
    s.health_interval = base::Nanos(0);
    s.kinds = kinds;
    s.processes.loop = loop.get();
    s.processes.program = MODHOST;
    s.processes.group = "gantry-compat-" + std::to_string(::getpid());
    return s;
  }
};

}  // namespace gantry::compat
