// The health check's rules, on the core; and carrying one out.
#include "kernel/agent/checks.hpp"
#include "tests/kernel/agent/rig.hpp"

#include <gmock/gmock.h>

#include <csignal>

namespace gantry::agent {
namespace {

using fb::Reason;
using fb::TaskState;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

fb::TaskInfoT checked_task(double delay = 1, double interval = 2, double grace = 10, unsigned failures = 3) {
  auto task = make_task("t");
  task.health_check = std::make_unique<fb::HealthCheckT>();
  auto& check = *task.health_check;
  check.type = fb::CheckType::TCP;
  check.tcp = std::make_unique<fb::TcpCheckT>();
  check.tcp->port = 80;
  check.delay_seconds = delay;
  check.interval_seconds = interval;
  check.timeout_seconds = 4;
  check.grace_period_seconds = grace;
  check.consecutive_failures = failures;
  return task;
}

// Advances to the next check and gives its result. Empty: no update followed.
std::vector<fb::link::StatusUpdateT> check(Rig& rig, const std::string& container, bool healthy) {
  for (int i = 0; i < 100 && rig.count<effect::RunCheck>() == 0; ++i) rig.advance(250ms);
  const auto* run = rig.find<effect::RunCheck>();
  if (!run) {
    ADD_FAILURE() << "no check came";
    return {};
  }
  EXPECT_EQ(run->timeout, Nanos(4s));
  rig.step(event::CheckDone{container, run->run, healthy, healthy ? "" : "refused"});
  const auto updates = rig.updates();
  if (!updates.empty()) {
    const auto effects = std::move(rig.effects);
    if (auto* task = rig.core->find("F", "t"); task && !task->outbox.empty()) rig.ack("t");
  } else {
    rig.effects.clear();
  }
  return updates;
}

TEST(Health, ReportsTheFirstSuccessAndEachChangeOnly) {
  Rig rig;
  rig.join();
  const auto container = rig.running(checked_task());
  rig.advance(900ms);
  EXPECT_EQ(rig.count<effect::RunCheck>(), 0u);  // delay
  auto updates = check(rig, container, true);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].status->state, TaskState::TASK_RUNNING);
  EXPECT_TRUE(*updates[0].status->healthy);
  EXPECT_EQ(*updates[0].status->reason, Reason::REASON_TASK_HEALTH_CHECK_STATUS_UPDATED);
  EXPECT_TRUE(check(rig, container, true).empty());
  updates = check(rig, container, false);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_FALSE(*updates[0].status->healthy);
  updates = check(rig, container, true);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_TRUE(*updates[0].status->healthy);
}

TEST(Health, EveryFailureIsReportedAndSoManyInARowKill) {
  Rig rig;
  rig.join();
  const auto container = rig.running(checked_task(0, 1, 0));
  EXPECT_EQ(check(rig, container, false).size(), 1u);
  EXPECT_EQ(check(rig, container, false).size(), 1u);
  EXPECT_EQ(check(rig, container, true).size(), 1u);  // the row is broken
  EXPECT_EQ(check(rig, container, false).size(), 1u);
  EXPECT_EQ(check(rig, container, false).size(), 1u);
  EXPECT_EQ(std::count(rig.all.begin(), rig.all.end(), "kill"), 0);
  EXPECT_EQ(check(rig, container, false).size(), 1u);
  EXPECT_EQ(std::count(rig.all.begin(), rig.all.end(), "kill"), 1);
  rig.step(event::Exited{container, Rig::signalled(SIGTERM)});
  EXPECT_EQ(rig.status().state, TaskState::TASK_KILLED);
  EXPECT_FALSE(*rig.status().healthy);
}

TEST(Health, FailuresDuringTheGracePeriodDoNotCount) {
  Rig rig;
  rig.join();
  const auto container = rig.running(checked_task(0, 1, 10, 1));
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(check(rig, container, false).empty()) << i;
  EXPECT_EQ(check(rig, container, true).size(), 1u);  // ends it
  EXPECT_EQ(check(rig, container, false).size(), 1u);
  EXPECT_EQ(std::count(rig.all.begin(), rig.all.end(), "kill"), 1);
}

TEST(Health, StopsWithTheTaskAndIgnoresLateResults) {
  Rig rig;
  rig.join();
  const auto container = rig.running(checked_task(0, 1, 0));
  rig.advance(1s);
  const auto run = rig.find<effect::RunCheck>()->run;
  rig.kill("t", 60s);
  rig.step(event::CheckDone{container, run, false, "late"});
  EXPECT_TRUE(rig.effects.empty());
  rig.advance(30s);
  EXPECT_EQ(rig.count<effect::RunCheck>(), 0u);
}

TEST(Health, ChecksNeverOverlap) {
  Rig rig;
  rig.join();
  rig.running(checked_task(0, 1, 0));
  rig.advance(20s);
  EXPECT_EQ(rig.count<effect::RunCheck>(), 1u);
}

// ---- carrying one out

class CommandOnly final : public Launcher {
 public:
  void on_exit(std::function<void(const std::string&, ExitInfo)>) override {}
  void recover(std::vector<KnownContainer>, Function<void(Result<std::vector<RecoveredContainer>>)>) override {}
  void launch(LaunchSpec, Function<void(Started)>) override {}
  void kill(const std::string&, base::Nanos) override {}
  void run_in(const std::string& id, const fb::CommandInfoT& command, base::Nanos,
              Function<void(Result<int>)> done) override {
    asked = id + ": " + command.value;
    done(result);
  }
  void usage(std::vector<std::string>, Function<void(Result<std::vector<fb::isolator::UsageT>>)>) override {}
  void release_sandbox(const std::string&) override {}
  void stop(Function<void()> done) override { done(); }

  Result<int> result = 0;
  std::string asked;
};

struct Outcome {
  bool healthy = false;
  std::string message;
};

Outcome carry_out(fb::HealthCheckT check, Launcher& launcher, const Probes& probes) {
  auto task = std::make_shared<fb::TaskInfoT>(make_task("t"));
  task->health_check = std::make_unique<fb::HealthCheckT>(std::move(check));
  Outcome out;
  run_health_check(launcher, probes, "C", task, 1s, [&](bool healthy, std::string message) {
    out = {healthy, std::move(message)};
  });
  return out;
}

TEST(Probe, HttpIsHealthyFrom200To399) {
  CommandOnly launcher;
  fb::HealthCheckT check;
  check.type = fb::CheckType::HTTP;
  check.http = std::make_unique<fb::HttpCheckT>();
  check.http->port = 8080;
  check.http->path = "health";
  std::string url;
  for (const auto& [code, healthy] :
       {std::pair{199u, false}, {200u, true}, {302u, true}, {399u, true}, {400u, false}, {500u, false}}) {
    Probes probes;
    probes.http = [&, code = code](const std::string& u, base::Nanos, Function<void(Result<unsigned>)> done) {
      url = u;
      done(code);
    };
    const auto outcome = carry_out(check, launcher, probes);
    EXPECT_EQ(outcome.healthy, healthy) << code;
    if (!healthy) {
      EXPECT_THAT(outcome.message, HasSubstr(std::to_string(code)));
    }
  }
  EXPECT_EQ(url, "http://127.0.0.1:8080/health");
}

TEST(Probe, TcpAndCommand) {
  CommandOnly launcher;
  fb::HealthCheckT check;
  check.type = fb::CheckType::TCP;
  check.tcp = std::make_unique<fb::TcpCheckT>();
  check.tcp->port = 81;
  Probes probes;
  probes.tcp = [](std::uint16_t port, base::Nanos, Function<void(Status)> done) {
    EXPECT_EQ(port, 81);
    done(fail(Code::unavailable, "connection refused"));
  };
  EXPECT_THAT(carry_out(check, launcher, probes).message, HasSubstr("port 81 failed: connection refused"));

  check.type = fb::CheckType::COMMAND;
  check.command = std::make_unique<fb::CommandInfoT>();
  check.command->value = "true";
  EXPECT_TRUE(carry_out(check, launcher, probes).healthy);
  EXPECT_EQ(launcher.asked, "C: true");
  launcher.result = 2 << 8;
  EXPECT_THAT(carry_out(check, launcher, probes).message, HasSubstr("status 2"));
  launcher.result = fail(Code::deadline_exceeded, "took too long");
  EXPECT_THAT(carry_out(check, launcher, probes).message, HasSubstr("took too long"));
}

}  // namespace
}  // namespace gantry::agent
