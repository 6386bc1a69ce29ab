// Tracing a module in a process of its own: the same entries as in the kernel, and its end.
#include "kernel/config/manifest.hpp"
#include "kernel/module/method_names.hpp"
#include "kernel/module/trace.hpp"
#include "kernel/net/net.hpp"
#include "support.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <optional>

namespace gantry::module {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

class ProcessTrace : public testing::Test {
 protected:
  void SetUp() override {
    dir = std::filesystem::temp_directory_path() / ("gantry-process-trace-" + std::to_string(::getpid()));
    std::filesystem::create_directories(dir);
    ::chmod(dir.c_str(), 0755);
    ::unsetenv("GANTRY_TEST_CRASH");
    ::unsetenv("GANTRY_TEST_BLOCK");
    HostSetup s{*loop, strands, metrics, {"agent"}, {}};
    s.processes.loop = loop.get();
    s.processes.program = MODHOST;
    s.processes.group = "trace" + std::to_string(::getpid());
    s.processes.first_retry = 20ms;
    s.stop_grace = 500ms;
    s.health_interval = 0ms;
    host = std::make_unique<ModuleHost>(std::move(s));
    auto c = configured("isolator", "crashes", bad("crashes"));
    c.host = "process";
    c.work_dir = (dir / "work").string();
    auto manifest = config::read_manifest(c.path);
    ASSERT_TRUE(manifest.has_value()) << manifest.error().message;
    c.manifest = *manifest;
    const auto problems = host->load({c});
    ASSERT_TRUE(problems.empty()) << problems[0].text();
    std::optional<Status> started;
    spawn(host->start(), [&](Status st) { started = std::move(st); });
    ASSERT_TRUE(run_until([&] { return started.has_value(); }));
    ASSERT_TRUE(started->has_value()) << started->error().message;
  }
  void TearDown() override {
    traces.reset();
    bool stopped = false;
    spawn(host->stop(), [&] { stopped = true; });
    EXPECT_TRUE(run_until([&] { return stopped; }));
    host.reset();
    std::filesystem::remove_all(dir);
  }
  template <class P>
  bool run_until(P pred, base::Nanos limit = 30s) {
    const base::Instant end = loop->now() + limit;
    Function<void()>* again = nullptr;
    Function<void()> check = [&] {
      if (pred() || loop->now() > end) return loop->stop();
      loop->after(1ms, [&again] { (*again)(); });
    };
    again = &check;
    loop->post([&] { check(); });
    loop->run();
    return pred();
  }
  std::shared_ptr<Outcome> answered(std::uint32_t method, std::string_view body = {}) {
    auto o = std::make_shared<Outcome>();
    host->find("isolator")->call(method, Buffer(as_bytes(body)), into(o));
    EXPECT_TRUE(run_until([&] { return o->done(); })) << "method " << method;
    return o;
  }
  std::vector<std::string> read(std::uint64_t id) {
    std::optional<Result<fb::control::TraceT>> got;
    traces->read(id, 0s, [&](Result<fb::control::TraceT> t) { got.emplace(std::move(t)); });
    EXPECT_TRUE(run_until([&] { return got.has_value(); }));
    std::vector<std::string> out;
    if (!got || !got->has_value()) return out;
    for (const auto& e : (*got)->entries)
      out.push_back(std::string(fb::trace::EnumNameWhat(e->what)) + " " + entry_name("isolator", *e) + " " +
                    std::string(to_string(static_cast<Code>(e->code))) + " " + std::to_string(e->size));
    return out;
  }

  LogLines log;
  std::unique_ptr<net::RealLoop> loop = net::make_real_loop();
  Strands strands{*loop};
  base::Metrics metrics;
  std::filesystem::path dir;
  std::unique_ptr<ModuleHost> host;
  std::unique_ptr<Traces> traces = std::make_unique<Traces>(*loop);
};

TEST_F(ProcessTrace, ShowsCallsAndTheEndOfTheProcess) {
  auto subject = host->subject("isolator.crashes");
  ASSERT_TRUE(subject.has_value()) << subject.error().message;
  EXPECT_EQ(subject->header.host, "process");
  const auto started = traces->start(std::move(*subject), {});
  ASSERT_TRUE(started.has_value());
  EXPECT_EQ(answered(16, "hello")->body, "hello");
  EXPECT_THAT(read(started->id), ElementsAre("CALL PREPARE OK 5", "DONE PREPARE OK 5"));
  // The process dies: the call is given up, what follows is refused or comes from the next one.
  EXPECT_EQ(answered(17)->code, GANTRY_UNAVAILABLE);
  const auto seen = read(started->id);
  ASSERT_GE(seen.size(), 3u);
  EXPECT_EQ(seen[0], "CALL ATTACH OK 0");
  EXPECT_THAT(seen[1], HasSubstr("GAVE_UP ATTACH UNAVAILABLE"));
  EXPECT_THAT(seen[2], HasSubstr("RESTART"));
  EXPECT_TRUE(run_until([&] { return host->find("isolator")->state() == State::running; }));
  EXPECT_THAT(read(started->id), Contains("DONE CONFIGURE OK 0")) << "its new life is seen from the start";
  EXPECT_EQ(answered(16, "again")->body, "again");
}
TEST_F(ProcessTrace, DetailIsWhatTheManifestAndTheLogSay) {
  const auto d = host->detail("isolator.crashes", 50);
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->module_->host, "process");
  EXPECT_THAT(d->manifest, HasSubstr("kind = \"isolator\""));
  const auto none = host->detail("isolator.crashs", 50);
  EXPECT_THAT(none.error().message, HasSubstr("did you mean \"isolator.crashes\"?"));
}

}  // namespace
}  // namespace gantry::module
