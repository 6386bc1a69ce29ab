// A core with a manual clock, a journal in memory and a master that is the test.
#pragma once

#include "kernel/agent/core.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace gantry::agent {

inline fb::TaskInfoT make_task(const std::string& id) {
  fb::TaskInfoT t;
  t.name = id;
  t.task_id = id;
  t.command = std::make_unique<fb::CommandInfoT>();
  t.command->value = "sleep 100";
  return t;
}

inline fb::FrameworkInfoT make_framework(const std::string& id,
                                         std::vector<fb::FrameworkCapability> capabilities = {}) {
  fb::FrameworkInfoT f;
  f.id = id;
  f.name = "test";
  f.user = "nobody";
  f.capabilities = std::move(capabilities);
  return f;
}

template <class Body>
Buffer to_agent(Body body) {
  fb::link::ToAgentT frame;
  frame.body.Set(std::move(body));
  return pack(frame);
}

inline fb::link::RunTaskT run_task(const fb::TaskInfoT& task, const fb::FrameworkInfoT& framework) {
  fb::link::RunTaskT run;
  run.task = std::make_unique<fb::TaskInfoT>(task);
  run.framework = std::make_unique<fb::FrameworkInfoT>(framework);
  return run;
}

class Rig {
 public:
  explicit Rig(std::function<void(CoreOptions&)> change = {}) : change_(std::move(change)) { fresh(); }

  // A new process on the same disk: kill -9 and start.
  void restart(const std::string& boot = "boot-1") {
    boot_ = boot;
    ++seed_;
    fresh();
  }
  // Start, nothing to recover unless `recovered`, link up, registered as agent A.
  void join(std::vector<RecoveredContainer> recovered = {}) {
    step(event::Start{});
    step(event::Recovered{std::move(recovered)});
    step(event::Leader{"master:5050"});
    link_up();
  }
  void link_up(const std::string& id = "A") {
    step(event::LinkUp{});
    fb::link::WelcomeT welcome;
    welcome.master_id = "M";
    welcome.agent_timeout_ns = 75'000'000'000;
    frame(welcome);
    fb::link::RegisteredT registered;
    registered.agent_id = id;
    registered.master_id = "M";
    frame(registered);
  }

  void step(const Event& event) {
    effects.clear();
    core->step(event, Time{now, wall()}, effects);
    for (const Effect& e : effects) {
      if (const auto* append = std::get_if<effect::Append>(&e)) journal.push_back(pack(append->entry));
      all.push_back(describe(e));
    }
  }
  template <class Body>
  void frame(Body body) {
    const Buffer bytes = to_agent(std::move(body));
    step(event::Frame{bytes});
  }
  void advance(Nanos d) {
    const Instant end = now + d;
    std::vector<std::string> gathered;
    Effects kept;
    while (core->next_due() <= end) {
      now = std::max(now, core->next_due());
      step(event::Tick{});
      for (auto& e : effects) kept.push_back(std::move(e));
    }
    now = end;
    effects = std::move(kept);
  }

  void run(const fb::TaskInfoT& task, std::vector<fb::FrameworkCapability> capabilities = {}) {
    frame(run_task(task, make_framework("F", std::move(capabilities))));
  }
  // RunTask, launched with pid 42, RUNNING; both updates acknowledged.
  std::string running(const fb::TaskInfoT& task, std::vector<fb::FrameworkCapability> capabilities = {}) {
    run(task, std::move(capabilities));
    const std::string container = find<effect::Launch>()->spec.container_id;
    step(event::Launched{container, Identity{42, 41, 1234}});
    ack(task.task_id);
    ack(task.task_id);
    return container;
  }
  void ack(const std::string& task_id) {
    const Task* task = core->find("F", task_id);
    ASSERT_TRUE(task && !task->outbox.empty()) << task_id;
    ack(task_id, task->outbox.front().uuid);
  }
  void ack(const std::string& task_id, std::vector<std::uint8_t> uuid) {
    fb::link::AckUpdateT a;
    a.framework_id = "F";
    a.task_id = task_id;
    a.uuid = std::move(uuid);
    frame(a);
  }
  void kill(const std::string& task_id, std::optional<Nanos> grace = {}) {
    fb::link::KillTaskT k;
    k.framework_id = "F";
    k.task_id = task_id;
    if (grace) k.grace_ns = grace->count();
    frame(k);
  }
  static ExitInfo exit_code(int code) {
    ExitInfo e;
    e.wait_status = code << 8;
    return e;
  }
  static ExitInfo signalled(int signal) {
    ExitInfo e;
    e.wait_status = signal;
    return e;
  }

  // The first effect of a kind of the last step, or null.
  template <class E>
  const E* find() const {
    for (const Effect& e : effects) {
      if (const auto* found = std::get_if<E>(&e)) return found;
    }
    return nullptr;
  }
  template <class E>
  std::size_t count() const {
    std::size_t n = 0;
    for (const Effect& e : effects) n += std::holds_alternative<E>(e);
    return n;
  }
  // Status updates sent in the last step.
  std::vector<fb::link::StatusUpdateT> updates() const {
    std::vector<fb::link::StatusUpdateT> out;
    for (const Effect& e : effects) {
      const auto* send = std::get_if<effect::Send>(&e);
      if (!send) continue;
      const auto* frame = view<fb::link::ToMaster>(send->frame);
      if (!frame || !frame->body_as_StatusUpdate()) continue;
      fb::link::StatusUpdateT u;
      frame->body_as_StatusUpdate()->UnPackTo(&u);
      out.push_back(std::move(u));
    }
    return out;
  }
  // The only status update sent in the last step.
  fb::TaskStatusT status() const {
    const auto all_updates = updates();
    EXPECT_EQ(all_updates.size(), 1u);
    return all_updates.size() == 1 ? *all_updates[0].status : fb::TaskStatusT{};
  }
  std::vector<std::string> sent() const {
    std::vector<std::string> out;
    for (const Effect& e : effects) {
      if (std::holds_alternative<effect::Send>(e)) out.push_back(describe(e));
    }
    return out;
  }
  static std::string describe(const Effect& e) {
    if (const auto* append = std::get_if<effect::Append>(&e))
      return std::string("append ") + EnumNameEntryType(append->entry.type);
    if (const auto* send = std::get_if<effect::Send>(&e)) {
      const auto* frame = view<fb::link::ToMaster>(send->frame);
      return std::string("send ") + EnumNameFromAgent(frame->body_type());
    }
    if (std::holds_alternative<effect::Launch>(e)) return "launch";
    if (std::holds_alternative<effect::Kill>(e)) return "kill";
    if (std::holds_alternative<effect::Connect>(e)) return "connect";
    if (std::holds_alternative<effect::Disconnect>(e)) return "disconnect";
    if (std::holds_alternative<effect::Stop>(e)) return "stop";
    if (std::holds_alternative<effect::Release>(e)) return "release";
    if (std::holds_alternative<effect::Recover>(e)) return "recover";
    if (std::holds_alternative<effect::RunCheck>(e)) return "check";
    return "log";
  }
  std::vector<std::string> steps() const {
    std::vector<std::string> out;
    for (const Effect& e : effects) {
      if (!std::holds_alternative<effect::Log>(e)) out.push_back(describe(e));
    }
    return out;
  }
  // A core rebuilt from entries.
  std::unique_ptr<Core> rebuild(const std::vector<Buffer>& entries) const {
    auto built = std::make_unique<Core>(options());
    for (const Buffer& e : entries) built->replay(*view<fb::record::Entry>(e));
    return built;
  }
  base::Wall wall() const { return 1'700'000'000'000'000'000 + now.count(); }

  Instant now = std::chrono::seconds(1);
  std::unique_ptr<Core> core;
  std::vector<Buffer> journal;
  Effects effects;               // of the last step
  std::vector<std::string> all;  // ever

 private:
  CoreOptions options() const {
    CoreOptions o;
    o.info.hostname = "host";
    o.boot_id = boot_;
    o.work_dir = "/w";
    o.seed = seed_;
    if (change_) change_(o);
    return o;
  }
  void fresh() { core = rebuild(journal); }

  std::function<void(CoreOptions&)> change_;
  std::string boot_ = "boot-1";
  std::uint64_t seed_ = 7;
};

}  // namespace gantry::agent
