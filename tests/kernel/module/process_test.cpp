// Modules in processes of their own: real processes, a real loop, a module that does one bad thing per method.
#include "tests/sanitizers.hpp"

#include "kernel/module/process/frame.hpp"
#include "kernel/net/net.hpp"
#include "tests/kernel/module/support.hpp"

#include <sys/socket.h>
#include <sys/stat.h>

#include <fcntl.h>
#include <pwd.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>

namespace gantry::module {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;

class Fetches final : public Service {
 public:
  void request(const ServiceRequest& r, ServiceReply reply) override {
    ++asked;
    if (hold) {
      held = std::move(reply);
      return;
    }
    reply(GANTRY_OK, r.body);
  }
  void cancelled(std::uint64_t) override { ++cancels; }
  int asked = 0, cancels = 0;
  bool hold = false;
  ServiceReply held;
};

class Process : public ::testing::Test {
 protected:
  Process() : loop(net::make_real_loop()), strands(*loop) {
    dir = std::filesystem::temp_directory_path() / ("gantry-process-" + std::to_string(::getpid()));
    std::filesystem::create_directories(dir);
    ::chmod(dir.c_str(), 0755);
    ::setenv("GANTRY_TEST_CRASH", (dir / "crash").c_str(), 1);
    ::setenv("GANTRY_TEST_BLOCK", (dir / "block").c_str(), 1);
  }
  ~Process() override {
    if (host) {
      bool stopped = false;
      spawn(host->stop(), [&] { stopped = true; });
      run_until([&] { return stopped; });
      EXPECT_TRUE(stopped);
      host.reset();
    }
    std::filesystem::remove_all(dir);
  }
  config::ModuleConfig crashes(const std::string& file = "crashes") {
    auto c = configured("isolator", "crashes", bad(file));
    c.host = "process";
    c.sandbox.memory = std::uint64_t{256} << 20;
    c.work_dir = (dir / "work").string();
    auto manifest = config::read_manifest(c.path);
    EXPECT_TRUE(manifest.has_value());
    if (manifest) c.manifest = *manifest;
    return c;
  }
  HostSetup setup() {
    HostSetup s{*loop, strands, metrics, {"agent"}, {{fb::host::Service::HTTP, &fetches}}};
    s.processes.loop = loop.get();
    s.processes.program = MODHOST;
    s.processes.group = "test" + std::to_string(::getpid());
    s.processes.first_retry = 20ms;
    s.stop_grace = 500ms;
    s.health_interval = 0ms;
    return s;
  }
  template <class P>
  bool run_until(P pred, base::Nanos limit = 20s) {
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
  Status start(config::ModuleConfig c, HostSetup s) {
    host = std::make_unique<ModuleHost>(std::move(s));
    const auto problems = host->load({std::move(c)});
    if (!problems.empty()) return fail(Code::failed_precondition, problems[0].text());
    std::optional<Status> started;
    spawn(host->start(), [&](Status st) { started = std::move(st); });
    run_until([&] { return started.has_value(); });
    return started ? *started : Status(fail(Code::deadline_exceeded, "start"));
  }
  Status start() { return start(crashes(), setup()); }
  Instance& instance() { return *host->find("isolator"); }
  std::shared_ptr<Outcome> call(std::uint32_t method, std::string_view body = {}, CallOptions options = {}) {
    auto o = std::make_shared<Outcome>();
    instance().call(method, Buffer(as_bytes(body)), into(o), std::move(options));
    return o;
  }
  std::shared_ptr<Outcome> answered(std::uint32_t method, std::string_view body = {}, CallOptions options = {}) {
    auto o = call(method, body, std::move(options));
    EXPECT_TRUE(run_until([&] { return o->done(); })) << "method " << method;
    return o;
  }
  fb::control::ModuleT listed() { return host->list().at(0); }
  // The fault is over: the module answers again, in a new process.
  void expect_back(std::uint32_t restarts = 1) {
    EXPECT_TRUE(run_until([&] { return instance().state() == State::running; })) << listed().message;
    EXPECT_EQ(instance().counters().restarts, restarts);
    EXPECT_EQ(answered(16, "again")->body, "again");
  }
  // Their run time turns signals into an exit status of its own.
  static constexpr bool sanitized = gantry::testing::kAddressSanitizer || gantry::testing::kThreadSanitizer;
  // One call that ends the process: the caller hears it at once, the list says why, and it comes back.
  void expect_crash(std::uint32_t method, const std::string& reason) {
    const auto o = answered(method);
    EXPECT_EQ(o->code, GANTRY_UNAVAILABLE);
    EXPECT_THAT(o->error(), HasSubstr("isolator.crashes ended before it answered method " + std::to_string(method)));
    EXPECT_EQ(answered(16)->code, GANTRY_UNAVAILABLE);  // nobody is there now
    EXPECT_TRUE(run_until([&] { return listed().message.find("crashed once") != std::string::npos; })) << listed().message;
    EXPECT_EQ(listed().state, "restarting");
    EXPECT_THAT(listed().message, HasSubstr(sanitized ? "last: " : reason));
    expect_back();
  }
  // What stays visible for the time of a look.
  HostSetup slow() {
    auto s = setup();
    s.processes.first_retry = 150ms;
    return s;
  }

  std::filesystem::path dir;
  std::unique_ptr<net::RealLoop> loop;
  Strands strands;
  base::Metrics metrics;
  Fetches fetches;
  std::unique_ptr<ModuleHost> host;
};

TEST_F(Process, AnswersStreamsAndStops) {
  const auto started = start();
  ASSERT_TRUE(started) << started.error().message;
  EXPECT_EQ(listed().state, "running");
  EXPECT_EQ(listed().host, "process");
  EXPECT_EQ(listed().build, "crashes, test");
  EXPECT_EQ(listed().revision, 1);
  EXPECT_EQ(answered(16, "hello")->body, "hello");
  EXPECT_EQ(answered(99)->code, GANTRY_UNIMPLEMENTED);
  const auto stream = answered(32);
  EXPECT_EQ(stream->chunks.size(), 1000u);
  EXPECT_EQ(stream->body, "end");
  EXPECT_EQ(answered(36)->code, GANTRY_OK);
  const std::string big(5 << 20, 'b');
  EXPECT_EQ(answered(16, big)->body, big);
  std::vector<std::shared_ptr<Outcome>> many;
  for (int i = 0; i < 1000; ++i) many.push_back(call(16, std::to_string(i)));
  EXPECT_TRUE(run_until([&] { return many.back()->done(); }));
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(many[static_cast<std::size_t>(i)]->body, std::to_string(i));
}

TEST_F(Process, DescriptorsArriveWithTheirCalls) {
  ASSERT_TRUE(start());
  std::vector<std::shared_ptr<Outcome>> all;
  for (int i = 0; i < 300; ++i) {
    CallOptions options;
    std::vector<std::unique_ptr<Pipe>> pipes;
    for (int k = 0; k < i % 4; ++k) {
      pipes.push_back(std::make_unique<Pipe>());
      const std::string text = std::to_string(i) + "." + std::to_string(k) + " ";
      ASSERT_EQ(::write(pipes.back()->ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
      options.fds.push_back(pipes.back()->ends[0]);
    }
    all.push_back(call(27, {}, std::move(options)));  // our ends are closed before it has been sent
  }
  EXPECT_TRUE(run_until([&] { return all.back()->done(); }));
  for (int i = 0; i < 300; ++i) {
    std::string expected;
    for (int k = 0; k < i % 4; ++k) expected += std::to_string(i) + "." + std::to_string(k) + " ";
    EXPECT_EQ(all[static_cast<std::size_t>(i)]->body, expected);
  }
}

TEST_F(Process, DeadlinesCancelsAndNoCompletion) {
  ASSERT_TRUE(start());
  CallOptions options;
  options.deadline = loop->now() + 30ms;
  EXPECT_EQ(answered(23, {}, options)->code, GANTRY_DEADLINE_EXCEEDED);
  options.deadline = loop->now() + 10s;
  EXPECT_EQ(answered(33, {}, options)->body, std::to_string(options.deadline.count()));
  auto o = std::make_shared<Outcome>();
  const auto id = instance().call(35, Buffer(), into(o));
  EXPECT_EQ(answered(16)->code, GANTRY_OK);
  instance().cancel(id);
  EXPECT_TRUE(run_until([&] { return o->done(); }));
  EXPECT_EQ(o->code, GANTRY_CANCELLED);
  EXPECT_EQ(listed().state, "running");
  EXPECT_EQ(listed().restarts, 0u);
}

TEST_F(Process, ServicesAnswerAndAreCancelledWithIt) {
  ASSERT_TRUE(start());
  EXPECT_EQ(answered(29, "to the kernel and back")->body, "to the kernel and back");
  fetches.hold = true;
  const auto o = call(29, "held");
  EXPECT_TRUE(run_until([&] { return fetches.asked == 2; }));
  EXPECT_EQ(answered(18)->code, GANTRY_UNAVAILABLE);
  EXPECT_EQ(o->code, GANTRY_UNAVAILABLE);
  EXPECT_EQ(fetches.cancels, 1);
  fetches.held(GANTRY_OK, {});  // too late for anybody
  expect_back();
}

TEST_F(Process, NumbersAndLogReachTheKernel) {
  LogLines log;
  ASSERT_TRUE(start());
  EXPECT_EQ(answered(31)->code, GANTRY_OK);
  const auto value = [&](const std::string& name) {
    for (const auto& m : metrics.snapshot())
      if (m.name == name) return m.value;
    return -1.0;
  };
  EXPECT_TRUE(run_until([&] { return value("isolator.crashes/things") == 500; }));
  EXPECT_EQ(answered(20)->code, GANTRY_OK);
  EXPECT_EQ(answered(16)->code, GANTRY_OK);
  EXPECT_GT(log.count("isolator.crashes: flood"), 0u);
  EXPECT_LT(log.count("flood"), 450u);  // a bucket of 200 in the module host, one of 200 here
  EXPECT_EQ(listed().state, "running");
}

TEST_F(Process, Segfault) {
  ASSERT_TRUE(start(crashes(), slow()));
  expect_crash(17, "last: killed by signal 11 (Segmentation fault)");
}
TEST_F(Process, Abort) {
  ASSERT_TRUE(start(crashes(), slow()));
  expect_crash(18, "last: killed by signal 6 (Aborted)");
}
TEST_F(Process, Exit) {
  ASSERT_TRUE(start(crashes(), slow()));
  expect_crash(26, "last: exited with status 0");
}
TEST_F(Process, MemoryExhaustion) {
  auto c = crashes();
  c.sandbox.memory = std::uint64_t{48} << 20;
  ASSERT_TRUE(start(c, slow()));
  const auto o = answered(21);
  EXPECT_EQ(o->code, o->code == GANTRY_INTERNAL ? GANTRY_INTERNAL : GANTRY_UNAVAILABLE);
  // With a control group it is killed; with a limit of the process, new throws, and the call fails INTERNAL.
  if (o->code == GANTRY_UNAVAILABLE) {
    EXPECT_TRUE(run_until([&] { return listed().message.find("crashed once") != std::string::npos; }));
    EXPECT_THAT(listed().message, AnyOf(HasSubstr("reached its memory limit of 48 MiB"), HasSubstr("signal 6")));
    expect_back();
  }
}
TEST_F(Process, GarbageOnItsSocket) {
  ASSERT_TRUE(start(crashes(), slow()));
  const auto o = answered(24);
  EXPECT_EQ(o->code, GANTRY_UNAVAILABLE);
  EXPECT_TRUE(run_until([&] { return listed().message.find("crashed once") != std::string::npos; }));
  EXPECT_THAT(listed().message, HasSubstr("sent garbage on its socket: frame of unknown type 71"));
  expect_back();
}
TEST_F(Process, ClosesItsSocket) {
  ASSERT_TRUE(start(crashes(), slow()));
  EXPECT_EQ(answered(28)->code, GANTRY_UNAVAILABLE);
  expect_back();
}
TEST_F(Process, DoubleCompletion) {
  ASSERT_TRUE(start());
  EXPECT_EQ(answered(22)->code, GANTRY_OK);
  EXPECT_TRUE(run_until([&] { return instance().counters().faults == 1; }));
  EXPECT_EQ(answered(16, "fine")->body, "fine");
  EXPECT_EQ(listed().restarts, 0u);
}
TEST_F(Process, BlocksForEver) {
  auto s = setup();
  s.health_interval = 60ms;
  ASSERT_TRUE(start(crashes(), std::move(s)));
  const auto o = call(19);
  CallOptions options;
  options.deadline = loop->now() + 50ms;
  EXPECT_EQ(answered(16, {}, options)->code, GANTRY_DEADLINE_EXCEEDED);
  EXPECT_TRUE(run_until([&] { return o->done(); }));
  EXPECT_EQ(o->code, GANTRY_UNAVAILABLE);
  EXPECT_TRUE(run_until([&] { return listed().message.find("did not answer HEALTH") != std::string::npos || listed().restarts > 0; }));
  expect_back();
}
TEST_F(Process, ForkBomb) {
  auto c = crashes();
  c.sandbox.processes = 20;
  ASSERT_TRUE(start(c, slow()));
  const auto o = answered(25);
  ASSERT_EQ(o->code, GANTRY_OK);
  if (::geteuid() == 0) {
    EXPECT_LT(std::stoi(o->body), 20);
  }
  // Its children hold the socket open; all the same the end of the process shows, and they end with it.
  const auto crash = answered(18);
  EXPECT_EQ(crash->code, GANTRY_UNAVAILABLE);
  expect_back();
}

TEST_F(Process, CrashLoopIsSeenAndEnds) {
  auto s = setup();
  s.processes.first_retry = 5ms;
  s.processes.max_retry = 40ms;
  ASSERT_TRUE(start(crashes(), std::move(s)));
  std::ofstream(dir / "crash") << "x";
  EXPECT_EQ(answered(18)->code, GANTRY_UNAVAILABLE);
  EXPECT_TRUE(run_until([&] { return listed().state == "crash-loop"; }));
  EXPECT_TRUE(run_until([&] { return listed().message.find("next try in") != std::string::npos; }));
  EXPECT_THAT(listed().message, AllOf(StartsWith("crashed "), HasSubstr("times, last: isolator.crashes could not be loaded"),
                                      HasSubstr("signal 6 (Aborted)")));
  std::filesystem::remove(dir / "crash");
  EXPECT_TRUE(run_until([&] { return instance().state() == State::running; }));
  EXPECT_EQ(answered(34)->body, "1");
}
TEST_F(Process, ACrashAtTheStartIsNoRefusal) {
  std::ofstream(dir / "crash") << "x";
  ASSERT_TRUE(start());  // the daemon goes on without it
  EXPECT_THAT(listed().state, AnyOf("restarting", "crash-loop"));
  EXPECT_EQ(answered(16)->code, GANTRY_UNAVAILABLE);
  std::filesystem::remove(dir / "crash");
  EXPECT_TRUE(run_until([&] { return instance().state() == State::running; }));
}
TEST_F(Process, NeverComesBackIfTheTableSaysSo) {
  auto c = crashes();
  c.sandbox.restart = false;
  ASSERT_TRUE(start(c, setup()));
  EXPECT_EQ(answered(18)->code, GANTRY_UNAVAILABLE);
  EXPECT_TRUE(run_until([&] { return listed().state == "failed"; }));
  EXPECT_THAT(listed().message, AllOf(HasSubstr("signal 6"), HasSubstr("sandbox.restart is \"never\"")));
  EXPECT_EQ(answered(16)->code, GANTRY_UNAVAILABLE);
}
TEST_F(Process, ItsUsersRecoverItBeforeItIsOpen) {
  auto s = setup();
  std::vector<std::string> steps;
  s.processes.recover = [&](Instance& i) -> Task<Status> {
    CallOptions options;
    options.from_host = true;
    auto asking = i.ask(34, Buffer(), std::move(options));
    auto count = co_await std::move(asking);
    steps.push_back(count ? "recovered " + std::string(to_string(i.state())) : count.error().message);
    co_return ok;
  };
  s.processes.back = [&](Instance& i) { steps.push_back("back " + std::string(to_string(i.state()))); };
  ASSERT_TRUE(start(crashes(), std::move(s)));
  EXPECT_TRUE(steps.empty());
  EXPECT_EQ(answered(18)->code, GANTRY_UNAVAILABLE);
  EXPECT_TRUE(run_until([&] { return steps.size() == 2; }));
  EXPECT_THAT(steps, ::testing::ElementsAre("recovered restarting", "back running"));
}

TEST_F(Process, Sandbox) {
  auto c = crashes();
  c.sandbox.files = 77;
  if (::geteuid() == 0) c.sandbox.devices = {"/dev/tty"};
  const auto started = start(c, setup());
  ASSERT_TRUE(started) << started.error().message;
  const std::string who = answered(30)->body;
  EXPECT_THAT(who, AllOf(HasSubstr("NoNewPrivs:\t1"), HasSubstr("Seccomp:\t2"), HasSubstr("files=77")));
  if (::geteuid() != 0) GTEST_SKIP() << "the rest needs root";
  const passwd* p = ::getpwnam("gantry-module");
  if (!p) p = ::getpwnam("nobody");
  EXPECT_THAT(who, AllOf(HasSubstr("uid=" + std::to_string(p->pw_uid)), HasSubstr("CapEff:\t0000000000000000"),
                         HasSubstr("sda=0"), HasSubstr("full=0")));
  struct stat st{};
  ASSERT_EQ(::stat((dir / "work").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, p->pw_uid);
}
TEST_F(Process, RootKeepsExactlyTheCapabilitiesOfTheManifest) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  auto c = crashes();
  c.manifest.capabilities = {"CAP_KILL"};
  const auto started = start(c, setup());
  ASSERT_TRUE(started) << started.error().message;
  EXPECT_THAT(answered(30)->body, AllOf(HasSubstr("uid=0"), HasSubstr("CapEff:\t0000000000000020")));
}

TEST_F(Process, ABlockingProviderHasAThreadOfItsOwn) {
  ASSERT_TRUE(start(crashes("blocking"), setup()));
  EXPECT_EQ(answered(16, "x")->body, "x");
  EXPECT_EQ(answered(36)->code, GANTRY_OK);
}
TEST_F(Process, RefusalsSayWhy) {
  const auto never = start(crashes("never_process"), setup());
  ASSERT_FALSE(never);
  EXPECT_THAT(never.error().message, AllOf(HasSubstr("never_process.so cannot run in a process of its own"), HasSubstr("write host = \"kernel\"")));
  spawn(host->stop(), [] {});
  run_until([&] { return true; });
  auto s = setup();
  s.processes.program.clear();
  const auto missing = start(crashes(), std::move(s));
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("gantry-modhost is neither beside gantryd nor in its libexec folder"));
  auto c = crashes();
  c.sandbox.user = "nobody-of-this-name";
  const auto user = start(c, setup());
  ASSERT_FALSE(user);
  EXPECT_THAT(user.error().message, HasSubstr("there is no user nobody-of-this-name"));
  host.reset();
}

// ---- frames alone

TEST(Frames, ComeOutAsTheyWentInHoweverTheyAreCut) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  process::FrameWriter writer;
  for (std::uint64_t i = 0; i < 50; ++i) {
    process::Header h;
    h.type = process::Type::complete;
    h.token = i;
    writer.add(h, Bytes(std::vector<std::uint8_t>(i * 7, static_cast<std::uint8_t>(i))));
  }
  ASSERT_EQ(writer.flush(pair[0]), process::FrameWriter::Flushed::all);
  process::FrameReader reader(process::FrameReader::From::host);
  std::uint64_t seen = 0;
  for (std::size_t step = 1;; step = step % 97 + 1) {
    const ssize_t n = ::recv(pair[1], reader.room(step), step, 0);
    if (n <= 0) break;
    reader.arrived(static_cast<std::size_t>(n));
    process::Header h;
    Bytes body;
    for (;;) {
      const auto got = reader.next(h, body);
      ASSERT_TRUE(got);
      if (!*got) break;
      EXPECT_EQ(h.token, seen);
      EXPECT_EQ(body.size(), seen * 7);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(body.data()) % 8, 0u);
      for (const auto b : body) EXPECT_EQ(b, static_cast<std::uint8_t>(seen));
      ++seen;
    }
  }
  EXPECT_EQ(seen, 50u);
  EXPECT_FALSE(reader.partial());
  ::close(pair[0]), ::close(pair[1]);
}
TEST(Frames, WhatIsNoFrameIsAnError) {
  const auto problem = [](auto change) {
    process::FrameReader reader(process::FrameReader::From::host);
    process::Header h;
    h.type = process::Type::complete;
    change(h);
    std::memcpy(reader.room(sizeof h), &h, sizeof h);
    reader.arrived(sizeof h);
    process::Header out;
    Bytes body;
    const auto got = reader.next(out, body);
    return got ? std::string("none") : got.error().message;
  };
  EXPECT_EQ(problem([](auto&) {}), "none");
  EXPECT_THAT(problem([](auto& h) { h.type = process::Type::call; }), HasSubstr("unknown type 1"));  // the wrong way
  EXPECT_THAT(problem([](auto& h) { h.length = 0xffffffff; }), HasSubstr("4294967295 bytes"));
  EXPECT_THAT(problem([](auto& h) { h.fds = 1; }), HasSubstr("1 descriptors"));
  EXPECT_THAT(problem([](auto& h) { h.reserved = 1; }), HasSubstr("unknown type"));
}

}  // namespace
}  // namespace gantry::module
