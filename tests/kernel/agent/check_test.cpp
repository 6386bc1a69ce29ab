// Checks: what is told of them, on the core; and carrying one out.
#include "kernel/agent/checks.hpp"
#include "tests/kernel/agent/rig.hpp"

#include <csignal>

namespace gantry::agent {
namespace {

using fb::CheckType;
using fb::Reason;
using fb::TaskState;
using namespace std::chrono_literals;

fb::TaskInfoT command_check(double delay = 1, double interval = 2) {
  auto task = make_task("t");
  task.check = std::make_unique<fb::CheckInfoT>();
  task.check->type = CheckType::COMMAND;
  task.check->command = std::make_unique<fb::CommandCheckT>();
  task.check->command->command = std::make_unique<fb::CommandInfoT>();
  task.check->command->command->value = "test -e good";
  task.check->delay_seconds = delay;
  task.check->interval_seconds = interval;
  task.check->timeout_seconds = 4;
  return task;
}

fb::CheckStatusInfoT exited(std::optional<int> code) {
  auto s = no_result(CheckType::COMMAND);
  if (code) s.command->exit_code = *code;
  return s;
}

// Advances to the next check and gives its result. Empty: no update followed.
std::vector<fb::link::StatusUpdateT> check(Rig& rig, const std::string& container, std::optional<int> code) {
  for (int i = 0; i < 100 && rig.count<effect::RunCheck>() == 0; ++i) rig.advance(250ms);
  const auto* run = rig.find<effect::RunCheck>();
  if (!run) {
    ADD_FAILURE() << "no check came";
    return {};
  }
  EXPECT_EQ(run->what, effect::RunCheck::What::check);
  EXPECT_EQ(run->timeout, Nanos(4s));
  rig.step(event::Checked{container, run->run, exited(code)});
  auto updates = rig.updates();
  if (updates.empty()) rig.effects.clear();
  else rig.ack("t");
  return updates;
}

TEST(Check, EveryStatusSaysThatItHasNotRunYet) {
  Rig rig;
  rig.join();
  rig.run(command_check());
  const auto starting = rig.status();
  ASSERT_TRUE(starting.check_status && starting.check_status->command);
  EXPECT_EQ(starting.check_status->type, CheckType::COMMAND);
  EXPECT_FALSE(starting.check_status->command->exit_code);
}

TEST(Check, OneUpdateForEachChange) {
  Rig rig;
  rig.join();
  const auto container = rig.running(command_check());
  rig.advance(900ms);
  EXPECT_EQ(rig.count<effect::RunCheck>(), 0u);  // delay
  EXPECT_TRUE(check(rig, container, std::nullopt).empty()) << "no answer, and none was told before";
  auto updates = check(rig, container, 1);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].status->state, TaskState::TASK_RUNNING);
  EXPECT_EQ(*updates[0].status->reason, Reason::REASON_TASK_CHECK_STATUS_UPDATED);
  EXPECT_EQ(updates[0].status->source, fb::Source::SOURCE_EXECUTOR);
  EXPECT_EQ(updates[0].status->check_status->command->exit_code, 1);
  EXPECT_TRUE(check(rig, container, 1).empty());
  EXPECT_EQ(check(rig, container, 0).size(), 1u);
  updates = check(rig, container, std::nullopt);  // timed out: an empty result
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_FALSE(updates[0].status->check_status->command->exit_code);
  EXPECT_TRUE(check(rig, container, std::nullopt).empty());
  EXPECT_EQ(std::count(rig.all.begin(), rig.all.end(), "kill"), 0) << "a check ends nobody";
}

TEST(Check, HealthAndCheckDoNotEraseEachOther) {
  Rig rig;
  rig.join();
  auto task = command_check(1, 30);
  task.health_check = std::make_unique<fb::HealthCheckT>();
  task.health_check->type = CheckType::TCP;
  task.health_check->tcp = std::make_unique<fb::TcpCheckT>();
  task.health_check->delay_seconds = 10;
  const auto container = rig.running(task);
  ASSERT_EQ(check(rig, container, 3).size(), 1u);
  rig.advance(10s);
  const auto* health = rig.find<effect::RunCheck>();
  ASSERT_TRUE(health);
  ASSERT_EQ(health->what, effect::RunCheck::What::health);
  rig.step(event::CheckDone{container, health->run, true, ""});
  auto status = rig.status();
  EXPECT_TRUE(*status.healthy);
  ASSERT_TRUE(status.check_status);
  EXPECT_EQ(status.check_status->command->exit_code, 3);
  rig.ack("t");
  rig.advance(30s);
  for (const auto& e : rig.effects) {
    const auto* run = std::get_if<effect::RunCheck>(&e);
    if (!run || run->what != effect::RunCheck::What::check) continue;
    rig.step(event::Checked{container, run->run, exited(4)});
    break;
  }
  status = rig.status();
  EXPECT_EQ(status.check_status->command->exit_code, 4);
  ASSERT_TRUE(status.healthy);
  EXPECT_TRUE(*status.healthy);
}

TEST(Check, StopsWithTheTask) {
  Rig rig;
  rig.join();
  const auto container = rig.running(command_check(0, 1));
  rig.advance(1s);
  ASSERT_TRUE(rig.find<effect::RunCheck>());
  const auto run = rig.find<effect::RunCheck>()->run;
  rig.kill("t", 60s);
  rig.step(event::Checked{container, run, exited(1)});
  EXPECT_TRUE(rig.effects.empty());
  rig.advance(30s);
  EXPECT_EQ(rig.count<effect::RunCheck>(), 0u);
}

TEST(Check, ARestartTellsNothingAnew) {
  Rig rig;
  rig.join();
  const auto container = rig.running(command_check(0, 1));
  ASSERT_EQ(check(rig, container, 1).size(), 1u);
  rig.restart();
  RecoveredContainer r;
  r.container_id = container;
  r.fate = RecoveredContainer::Fate::running;
  rig.join({r});
  EXPECT_TRUE(check(rig, container, 1).empty());
  EXPECT_EQ(check(rig, container, 0).size(), 1u);
}

// ---- carrying one out

class CommandOnly final : public Launcher {
 public:
  void on_exit(std::function<void(const std::string&, ExitInfo)>) override {}
  void recover(std::vector<KnownContainer>, Function<void(Result<std::vector<RecoveredContainer>>)>) override {}
  void launch(LaunchSpec, Function<void(Started)>) override {}
  void kill(const std::string&, base::Nanos) override {}
  void run_in(const std::string&, const fb::CommandInfoT&, base::Nanos, Function<void(Result<int>)> done) override { done(result); }
  void usage(std::vector<std::string>, Function<void(Result<std::vector<fb::isolator::UsageT>>)>) override {}
  void release_sandbox(const std::string&) override {}
  void stop(Function<void()> done) override { done(); }
  Result<int> result = 0;
};

fb::CheckStatusInfoT carry_out(fb::CheckInfoT check, CommandOnly& launcher, const Probes& probes) {
  auto task = std::make_shared<fb::TaskInfoT>(make_task("t"));
  task->check = std::make_unique<fb::CheckInfoT>(std::move(check));
  fb::CheckStatusInfoT out;
  run_check(launcher, probes, "C", task, 1s, [&](fb::CheckStatusInfoT s) { out = std::move(s); });
  return out;
}

TEST(Check, OfEachKind) {
  CommandOnly launcher;
  Probes probes;
  const auto command = *command_check().check;
  launcher.result = 2 << 8;
  EXPECT_EQ(carry_out(command, launcher, probes).command->exit_code, 2);
  launcher.result = SIGKILL;
  EXPECT_EQ(carry_out(command, launcher, probes).command->exit_code, 128 + SIGKILL);
  launcher.result = fail(Code::deadline_exceeded, "took too long");
  auto status = carry_out(command, launcher, probes);
  ASSERT_TRUE(status.command);
  EXPECT_FALSE(status.command->exit_code);

  fb::CheckInfoT http;
  http.type = CheckType::HTTP;
  http.http = std::make_unique<fb::HttpCheckT>();
  http.http->port = 8080;
  http.http->path = "/x";
  Result<unsigned> answer = 404u;
  probes.http = [&](const std::string& url, base::Nanos, Function<void(Result<unsigned>)> done) {
    EXPECT_EQ(url, "http://127.0.0.1:8080/x");
    done(answer);
  };
  EXPECT_EQ(carry_out(http, launcher, probes).http->status_code, 404u) << "told, not judged";
  answer = fail(Code::deadline_exceeded, "silence");
  EXPECT_FALSE(carry_out(http, launcher, probes).http->status_code);

  fb::CheckInfoT tcp;
  tcp.type = CheckType::TCP;
  tcp.tcp = std::make_unique<fb::TcpCheckT>();
  tcp.tcp->port = 81;
  Status reached = ok;
  probes.tcp = [&](std::uint16_t port, base::Nanos, Function<void(Status)> done) {
    EXPECT_EQ(port, 81);
    done(reached);
  };
  EXPECT_EQ(carry_out(tcp, launcher, probes).tcp->succeeded, true);
  reached = fail(Code::unavailable, "connection refused");
  EXPECT_EQ(carry_out(tcp, launcher, probes).tcp->succeeded, false);
  reached = fail(Code::deadline_exceeded, "silence");
  EXPECT_FALSE(carry_out(tcp, launcher, probes).tcp->succeeded);
}

}  // namespace
}  // namespace gantry::agent
