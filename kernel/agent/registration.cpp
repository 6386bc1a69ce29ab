// The link to the master: find, dial, greet, register, stay.
//
//   waiting --dial--> connecting --LinkUp, Hello--> greeting --Welcome, Register--> registering --Registered-->
//   registered
// Every failure leads back to waiting, with exponential back-off and jitter. The master being silent counts as failure.
#include "kernel/agent/core.hpp"

#include <algorithm>

namespace gantry::agent {

using fb::link::FromAgentUnion;

namespace {

// Connecting is cheap for the master; registering is not, so that its back-off may grow longer.
constexpr Nanos dial_backoff_max = std::chrono::seconds(10);
constexpr Nanos welcome_timeout = std::chrono::seconds(10);

}  // namespace

Nanos Core::next_backoff(Nanos max) {
  backoff_ = backoff_.count() == 0 ? options_.backoff_first : std::min(backoff_ * 2, max);
  // Between half and all of it, so that agents that lost the same master do not return together.
  return backoff_ / 2 +
         Nanos(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(backoff_.count() / 2 + 1)));
}

void Core::on(Step& step, const event::Leader& e) {
  if (e.address == leader_ && (link_ != LinkState::waiting || e.address.empty())) return;
  leader_ = e.address;
  if (link_ != LinkState::waiting) {
    step.effects.emplace_back(effect::Disconnect{});
    link_ = LinkState::waiting;
  }
  set_due(nullptr, Due::link, Instant{0});
  backoff_ = Nanos{0};
  if (leader_.empty()) {
    log(step, base::Level::warning, "no master leads at present; tasks keep running");
    return;
  }
  if (started_) dial(step);
}

void Core::dial(Step& step) {
  if (leader_.empty() || stopping_) return;
  link_ = LinkState::connecting;
  set_due(nullptr, Due::link, Instant{0});
  step.effects.emplace_back(effect::Connect{leader_});
}

void Core::dial_later(Step& step) {
  link_ = LinkState::waiting;
  for (Task* task : in_order()) {
    // The next master asks again about tasks that we do not know.
    if (task->unknown) drop(*task);
  }
  if (!leader_.empty()) {
    set_due(nullptr, Due::link, step.time.now + next_backoff(std::min(options_.backoff_max, dial_backoff_max)));
  }
}

void Core::on(Step& step, const event::LinkUp&) {
  if (link_ != LinkState::connecting) return;
  link_ = LinkState::greeting;
  set_due(nullptr, Due::link, step.time.now + welcome_timeout);
  fb::link::HelloT hello;
  hello.version = options_.version;
  hello.principal = options_.principal;
  hello.secret = options_.secret;
  FromAgentUnion body;
  body.Set(std::move(hello));
  send(step, std::move(body));
}

void Core::on(Step& step, const event::LinkDown& e) {
  if (link_ == LinkState::waiting) return;
  const bool was_registered = link_ == LinkState::registered;
  log(step, was_registered ? base::Level::warning : base::Level::info,
      (was_registered ? "lost the master " : "cannot join the master ") + leader_ + ": " + e.message +
          "; trying again");
  dial_later(step);
  if (stopping_) finish_shutdown(step);
}

void Core::on(Step& step, const event::Frame& e) {
  const auto* frame = view<fb::link::ToAgent>(e.bytes);
  if (!frame) {
    log(step, base::Level::error,
        "the master sent a malformed frame of " + std::to_string(e.bytes.size()) + " bytes; closing the link");
    step.effects.emplace_back(effect::Disconnect{});
    dial_later(step);
    return;
  }
  // Anything from the master shows that it lives.
  if (link_ == LinkState::registered && agent_timeout_.count() > 0) {
    set_due(nullptr, Due::link, step.time.now + agent_timeout_);
  }
  using fb::link::FromMaster;
  // The verifier accepts a type without a body.
  if (!frame->body()) return log(step, base::Level::warning, "ignored an empty frame of the master");
  switch (frame->body_type()) {
    case FromMaster::Welcome: return on_welcome(step, *frame->body_as_Welcome());
    case FromMaster::Registered: return on_registered(step, *frame->body_as_Registered());
    case FromMaster::Refused: return on_refused(step, *frame->body_as_Refused());
    case FromMaster::RunTask: return on_run(step, *frame->body_as_RunTask());
    case FromMaster::RunGroup: return on_run_group(step, *frame->body_as_RunGroup());
    case FromMaster::KillTask: return on_kill(step, *frame->body_as_KillTask());
    case FromMaster::AckUpdate: return on_ack(step, *frame->body_as_AckUpdate());
    case FromMaster::RemoveFramework: return on_remove_framework(step, *frame->body_as_RemoveFramework());
    case FromMaster::ReconcileAgentTasks: return on_reconcile(step, *frame->body_as_ReconcileAgentTasks());
    case FromMaster::SetResources:  // the registry's name is the master's id without its term
      return step.effects.emplace_back(effect::Volumes{Buffer(e.bytes), master_id_.substr(0, master_id_.rfind('-'))}), void();
    case FromMaster::Ping: return on_ping(step, *frame->body_as_Ping());
    case FromMaster::Shutdown: return on_shutdown(step, *frame->body_as_Shutdown());
    case FromMaster::Drain: return on_drain(step, *frame->body_as_Drain());
    case FromMaster::EndDrain: return on_end_drain(step);
    case FromMaster::MasterMessage: return on_message(step, *frame->body_as_MasterMessage());
    case FromMaster::ShutdownExecutor: return on_shutdown_executor(step, *frame->body_as_ShutdownExecutor());
    case FromMaster::UpdateFramework: return on_update_framework(step, *frame->body_as_UpdateFramework());
    case FromMaster::NONE: break;
  }
  log(step, base::Level::debug, "ignored a frame of an unknown type from a newer master");
}

void Core::on_welcome(Step& step, const fb::link::Welcome& welcome) {
  if (link_ != LinkState::greeting) return;
  master_id_ = text(welcome.master_id());
  agent_timeout_ = Nanos(static_cast<std::int64_t>(std::min<std::uint64_t>(welcome.agent_timeout_ns(), INT64_MAX / 4)));
  link_ = LinkState::registering;
  send_register(step);
}

void Core::send_register(Step& step) {
  fb::link::RegisterT reg;
  reg.info = std::make_unique<fb::AgentInfoT>(options_.info);
  reg.info->id = agent_id_;
  reg.boot_id = options_.boot_id;
  reg.groups = true;
  std::set<std::string> frameworks;
  for (const Task* task : in_order()) {
    if (task->unknown) continue;
    auto known = std::make_unique<fb::link::KnownTaskT>();
    known->framework_id = task->framework_id;
    known->info = std::make_unique<fb::TaskInfoT>(*task->info);
    known->state = task->status.state;
    known->status_state = task->status.state;
    if (!task->outbox.empty()) {
      known->status_state = task->outbox.front().state;
      known->status_uuid = task->outbox.front().uuid;
    }
    known->status = std::make_unique<fb::TaskStatusT>(task->status);
    known->status->uuid.clear();
    known->launched_wall_ns = static_cast<std::uint64_t>(std::max<base::Wall>(task->launched_wall, 0));
    reg.tasks.push_back(std::move(known));
    frameworks.insert(task->framework_id);
  }
  for (const auto& [k, executor] : executors_) {
    auto known = std::make_unique<fb::link::KnownExecutorT>();
    known->framework_id = executor->framework_id;
    known->info = std::make_unique<fb::ExecutorInfoT>(*executor->info);
    reg.executors.push_back(std::move(known));
    frameworks.insert(executor->framework_id);
  }
  exited_.clear();
  for (const auto& id : frameworks) {
    auto known = std::make_unique<fb::link::KnownFrameworkT>();
    const auto* info = framework(id);
    known->info = info ? std::make_unique<fb::FrameworkInfoT>(*info) : std::make_unique<fb::FrameworkInfoT>();
    known->info->id = id;
    reg.frameworks.push_back(std::move(known));
  }
  FromAgentUnion body;
  body.Set(std::move(reg));
  send(step, std::move(body));
  // Asked again if no answer comes: the master may be busy, or may have lost the message.
  set_due(nullptr, Due::link, step.time.now + next_backoff(options_.backoff_max) + options_.backoff_first);
}

void Core::on_registered(Step& step, const fb::link::Registered& registered) {
  if (link_ != LinkState::registering) return;  // a second answer to a repeated Register
  const std::string id(text(registered.agent_id()));
  if (id.empty()) return log(step, base::Level::error, "the master registered this agent without an id; ignored");
  if (const auto master = text(registered.master_id()); !master.empty()) master_id_ = master;
  if (id != agent_id_) {
    agent_id_ = id;
    options_.info.id = id;
    fb::record::EntryT e;
    e.type = fb::record::EntryType::IDENTITY;
    e.agent_id = agent_id_;
    e.master_id = master_id_;
    e.boot_id = options_.boot_id;
    e.wall_ns = static_cast<std::uint64_t>(step.time.wall);
    append(step, std::move(e));
  }
  link_ = LinkState::registered;
  draining_.reset();  // should it be draining, the master says so next
  backoff_ = Nanos{0};
  set_due(nullptr, Due::link, agent_timeout_.count() > 0 ? step.time.now + agent_timeout_ : Instant{0});
  log(step, base::Level::info, "registered with master " + master_id_ + " as agent " + agent_id_);
  for (const auto& [framework_id, executor_id, status] : std::exchange(exited_, {})) tell_exited(step, framework_id, executor_id, status);
  send_all(step);
}

void Core::on_refused(Step& step, const fb::link::Refused& refused) {
  const std::string message(text(refused.message()));
  const bool identity = refused.fatal() && (link_ == LinkState::registering || link_ == LinkState::registered);
  step.effects.emplace_back(effect::Disconnect{});
  if (!identity) {
    // Wrong credentials or a full master: an operator repairs that, and running tasks must survive it.
    log(step, base::Level::error, "the master " + leader_ + " refuses this agent: " + message + "; trying again");
    backoff_ = std::max(backoff_, std::min(options_.backoff_max, dial_backoff_max) / 2);
    return dial_later(step);
  }
  // The cluster has given this agent up; its tasks were replaced elsewhere and must not live twice.
  link_ = LinkState::waiting;
  shut_down(step,
            "the master refuses agent " + agent_id_ + ": " + message + "; its tasks were killed. Remove " +
                options_.work_dir + "/agent to let this machine join as a new agent",
            true);
}

void Core::on_ping(Step& step, const fb::link::Ping& ping) {
  fb::link::PongT pong;
  pong.seq = ping.seq();
  FromAgentUnion body;
  body.Set(std::move(pong));
  send(step, std::move(body));
}

void Core::on_link_due(Step& step) {
  switch (link_) {
    case LinkState::waiting: return dial(step);
    case LinkState::connecting: return;
    case LinkState::registering: return send_register(step);
    case LinkState::greeting:
    case LinkState::registered:
      log(step, base::Level::warning, "the master " + leader_ + " has been silent for too long; connecting anew");
      step.effects.emplace_back(effect::Disconnect{});
      // The address may have a new owner: the first attempt is immediate.
      if (link_ == LinkState::registered) return dial(step);
      return dial_later(step);
  }
}

void Core::on_shutdown(Step& step, const fb::link::Shutdown& shutdown) {
  shut_down(step, "the master asked this agent to shut down: " + std::string(text(shutdown.message())), false);
}

// All tasks end, none is taken; the master waits until their ends are acknowledged.
void Core::on_drain(Step& step, const fb::link::Drain& d) {
  if (!registered() || stopping_) return;
  draining_ = Draining{d.max_grace_ns() < 0 ? std::nullopt : std::optional(Nanos(d.max_grace_ns())), d.mark_gone()};
  log(step, base::Level::info, "draining: all tasks are killed, and no new ones are taken");
  for (Task* task : in_order()) {
    if (task->phase == Task::Phase::ended) continue;
    const Nanos grace = grace_of(*task);
    kill(step, *task, draining_->mark_gone ? Task::Cause::drained_gone : Task::Cause::drained,
         draining_->max_grace ? std::min(grace, *draining_->max_grace) : grace);
  }
}

void Core::on_end_drain(Step& step) {
  if (!std::exchange(draining_, std::nullopt)) return;
  log(step, base::Level::info, "no longer draining");
}

void Core::on(Step& step, const event::ShutDown& e) { shut_down(step, e.message, false); }

void Core::shut_down(Step& step, std::string message, bool failed) {
  if (stopping_) return;
  stopping_ = true;
  stop_message_ = std::move(message);
  stop_failed_ = failed;
  set_due(nullptr, Due::link, Instant{0});
  log(step, base::Level::warning, stop_message_);
  for (Task* task : in_order()) {
    if (task->phase != Task::Phase::ended) kill(step, *task, Task::Cause::shutdown, grace_of(*task));
  }
  std::vector<std::shared_ptr<Executor>> executors;
  for (const auto& [k, executor] : executors_) executors.push_back(executor);
  for (const auto& executor : executors) shut_down_executor(step, *executor, Executor::Cause::shutdown);
  finish_shutdown(step);
}

void Core::finish_shutdown(Step& step) {
  if (!stopping_ || stopped_) return;
  for (const auto& [k, task] : tasks_) {
    if (task->phase != Task::Phase::ended) return;
  }
  if (!executors_.empty()) return;
  if (link_ == LinkState::registered) {
    FromAgentUnion body;
    body.Set(fb::link::UnregisterT{});
    send(step, std::move(body));
  }
  stopped_ = true;
  timers_.clear();
  executor_timers_.clear();
  step.effects.emplace_back(effect::Stop{stop_message_, stop_failed_});
}

}  // namespace gantry::agent
