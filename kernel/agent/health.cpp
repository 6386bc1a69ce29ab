// Health checks: when one runs, and what its result means (reference mesos-kernel.md A9).
//
// During the grace period, which ends with the first success, failures do not count. Every other failure is reported;
// so many in a row that the task's limit is reached kill it.
#include "kernel/agent/core.hpp"
#include "kernel/agent/durations.hpp"

#include <algorithm>

namespace gantry::agent {

namespace {

bool can_run(const fb::HealthCheckT& check) {
  switch (check.type) {
    case fb::CheckType::COMMAND: return check.command != nullptr;
    case fb::CheckType::HTTP: return check.http != nullptr;
    case fb::CheckType::TCP: return check.tcp != nullptr;
    default: return false;
  }
}

}  // namespace

void Core::start_health(Step& step, Task& task, bool resumed) {
  const auto& check = task.info->health_check;
  if (!check || !can_run(*check)) return;
  const Nanos delay = seconds_or(check->delay_seconds, 15);
  const Nanos grace = seconds_or(check->grace_period_seconds, 10);
  const Nanos ran = resumed ? Nanos(std::max<base::Wall>(0, step.time.wall - task.launched_wall)) : Nanos{0};
  task.health.initializing = !(task.status.healthy && *task.status.healthy);
  task.health.grace_end = step.time.now + std::max(Nanos{0}, grace - ran);
  set_due(&task, Due::health, step.time.now + std::max(Nanos{0}, delay - ran));
}

void Core::on_health_due(Step& step, Task& task) {
  if (task.health.running || task.phase != Task::Phase::running || task.cause != Task::Cause::none) return;
  task.health.running = true;
  task.health.run = ++runs_;
  step.effects.emplace_back(effect::RunCheck{
      task.container_id, task.health.run, task.info,
      std::max<Nanos>(seconds_or(task.info->health_check->timeout_seconds, 20), std::chrono::milliseconds(1))});
}

void Core::on(Step& step, const event::CheckDone& e) {
  Task* task = by_container(e.container_id);
  if (!task || task->health.run != e.run || !task->health.running) return;  // of an earlier life
  const auto& check = *task->info->health_check;
  auto& health = task->health;
  health.running = false;
  // At least a little, so that an interval of zero does not become a loop.
  set_due(task, Due::health,
          step.time.now + std::max<Nanos>(seconds_or(check.interval_seconds, 10), std::chrono::milliseconds(10)));

  const auto report = [&](bool healthy) {
    auto status = make_status(step, *task, task->status.state);
    status.source = fb::Source::SOURCE_EXECUTOR;
    status.healthy = healthy;
    status.reason = fb::Reason::REASON_TASK_HEALTH_CHECK_STATUS_UPDATED;
    status.message = e.message;
    update(step, *task, std::move(status));
  };
  if (e.healthy) {
    health.initializing = false;
    health.failures = 0;
    if (!task->status.healthy || !*task->status.healthy) report(true);
    return;
  }
  if (health.initializing && step.time.now < health.grace_end) return;
  ++health.failures;
  report(false);
  const std::uint32_t limit = std::max<std::uint32_t>(1, check.consecutive_failures ? *check.consecutive_failures : 3);
  if (health.failures >= limit) {
    log(step, base::Level::warning,
        "killed after " + std::to_string(health.failures) + " failed health checks: " + e.message, task->info->task_id);
    kill(step, *task, Task::Cause::unhealthy, grace_of(*task));
  }
}

void Core::stop_checks(Task& task) {
  ++task.health.run;  // a result under way is of an earlier life
  task.health.running = false;
  set_due(&task, Due::health, Instant{0});
  ++task.check.run;
  task.check.running = false;
  set_due(&task, Due::check, Instant{0});
}

}  // namespace gantry::agent
