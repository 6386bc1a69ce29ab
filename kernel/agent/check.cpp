// Checks: what a task's CheckInfo asks is told to its framework, and means nothing else (reference mesos-kernel.md A9).
//
// An update is made when the result differs from the last one told. A check that gave no answer in time has an empty result; so has
// one that has not run yet, which every status of such a task says from the first on.
#include "kernel/agent/core.hpp"
#include "kernel/agent/durations.hpp"

#include <algorithm>

namespace gantry::agent {

namespace {

bool can_run(const fb::CheckInfoT& check) {
  switch (check.type) {
    case fb::CheckType::COMMAND: return check.command && check.command->command;
    case fb::CheckType::HTTP: return check.http != nullptr;
    case fb::CheckType::TCP: return check.tcp != nullptr;
    default: return false;
  }
}

bool same(const fb::CheckStatusInfoT& a, const fb::CheckStatusInfoT& b) {
  const auto code = [](const auto& s) { return s.command ? s.command->exit_code : flatbuffers::Optional<std::int32_t>(); };
  const auto status = [](const auto& s) { return s.http ? s.http->status_code : flatbuffers::Optional<std::uint32_t>(); };
  const auto open = [](const auto& s) { return s.tcp ? s.tcp->succeeded : flatbuffers::Optional<bool>(); };
  return a.type == b.type && code(a) == code(b) && status(a) == status(b) && open(a) == open(b);
}

}  // namespace

fb::CheckStatusInfoT no_result(fb::CheckType type) {
  fb::CheckStatusInfoT s;
  s.type = type;
  if (type == fb::CheckType::COMMAND) s.command = std::make_unique<fb::CommandCheckStatusT>();
  if (type == fb::CheckType::HTTP) s.http = std::make_unique<fb::HttpCheckStatusT>();
  if (type == fb::CheckType::TCP) s.tcp = std::make_unique<fb::TcpCheckStatusT>();
  return s;
}

void Core::start_check(Step& step, Task& task, bool resumed) {
  const auto& check = task.info->check;
  if (!check || !can_run(*check)) return;
  const Nanos delay = seconds_or(check->delay_seconds, 15);
  const Nanos ran = resumed ? Nanos(std::max<base::Wall>(0, step.time.wall - task.launched_wall)) : Nanos{0};
  set_due(&task, Due::check, step.time.now + std::max(Nanos{0}, delay - ran));
}

void Core::on_check_due(Step& step, Task& task) {
  if (task.check.running || task.phase != Task::Phase::running || task.cause != Task::Cause::none) return;
  task.check.running = true;
  task.check.run = ++runs_;
  step.effects.emplace_back(effect::RunCheck{
      task.container_id, task.check.run, task.info,
      std::max<Nanos>(seconds_or(task.info->check->timeout_seconds, 20), std::chrono::milliseconds(1)), effect::RunCheck::What::check});
}

void Core::on(Step& step, const event::Checked& e) {
  Task* task = by_container(e.container_id);
  if (!task || task->check.run != e.run || !task->check.running) return;  // of an earlier life
  task->check.running = false;
  set_due(task, Due::check, step.time.now + std::max<Nanos>(seconds_or(task->info->check->interval_seconds, 10), std::chrono::milliseconds(10)));
  if (task->status.check_status && same(*task->status.check_status, e.status)) return;
  auto status = make_status(step, *task, task->status.state);
  status.source = fb::Source::SOURCE_EXECUTOR;
  status.reason = fb::Reason::REASON_TASK_CHECK_STATUS_UPDATED;
  status.check_status = std::make_unique<fb::CheckStatusInfoT>(e.status);
  update(step, *task, std::move(status));
}

}  // namespace gantry::agent
