// The agent's mind under a master that sends anything, in any order, between exits and lost links: it does not fall, what it
// sends and writes is well formed, and a journal of it can be replayed.
#include "kernel/agent/core.hpp"
#include "tests/fuzz/program.hpp"

#include <algorithm>

using namespace gantry;

namespace {

class Agent {
 public:
  explicit Agent(fuzz::Program& p) : p_(p) { fresh(); }

  void run() {
    for (int steps = 0; !p_.done() && steps < 300; ++steps) one();
    fresh();  // what was written has to be readable
  }

 private:
  void fresh() {
    agent::CoreOptions o;
    o.info.hostname = "h";
    o.boot_id = "boot";
    o.work_dir = "/nowhere";
    core_ = std::make_unique<agent::Core>(o);
    for (const Buffer& b : journal_) {
      const auto* e = view<fb::record::Entry>(b);
      if (!e) std::abort();
      core_->replay(*e);
    }
    containers_.clear();
    step(agent::event::Start{});
    step(agent::event::Recovered{});
    step(agent::event::Leader{"m:1"});
  }
  void step(const agent::Event& e) {
    agent::Effects effects;
    core_->step(e, agent::Time{now_, now_.count()}, effects);
    for (agent::Effect& f : effects) {
      if (auto* s = std::get_if<agent::effect::Send>(&f)) fuzz::must_verify<fb::link::ToMaster>(s->frame);
      if (auto* a = std::get_if<agent::effect::Append>(&f)) {
        journal_.push_back(pack(a->entry));
        fuzz::must_verify<fb::record::Entry>(journal_.back());
      }
      if (auto* l = std::get_if<agent::effect::Launch>(&f)) containers_.push_back(l->spec.container_id);
    }
  }
  template <class Body>
  void frame(Body body, bool whole = false) {
    fb::link::ToAgentT m;
    m.body.Set(std::move(body));
    const Buffer b = pack(m);
    const auto bytes = whole ? std::vector<std::uint8_t>(b.data(), b.data() + b.size()) : p_.damage(b);
    step(agent::event::Frame{bytes});
  }
  std::string container() {
    return containers_.empty() ? "none" : containers_[p_.byte() % containers_.size()];
  }
  std::unique_ptr<fb::TaskInfoT> task() {
    auto t = std::make_unique<fb::TaskInfoT>();
    t->name = p_.name("n");
    t->task_id = p_.name("t");
    t->agent_id = "A";
    t->command = std::make_unique<fb::CommandInfoT>();
    t->command->value = "x";
    if (p_.below(3) == 0) {
      t->health_check = std::make_unique<fb::HealthCheckT>();
      t->health_check->grace_period_seconds = p_.byte();
      t->health_check->consecutive_failures = p_.byte();
    }
    return t;
  }
  void one() {
    switch (p_.below(16)) {
      case 0: {
        step(agent::event::LinkUp{});
        fb::link::WelcomeT w;
        w.master_id = "M";
        w.agent_timeout_ns = std::uint64_t{p_.byte()} << (p_.byte() % 60);
        frame(std::move(w), true);
        fb::link::RegisteredT r;
        r.agent_id = "A";
        return frame(std::move(r), true);
      }
      case 1: {
        fb::link::RunTaskT r;
        r.task = task();
        r.framework = std::make_unique<fb::FrameworkInfoT>();
        r.framework->id = p_.name("f");
        r.framework->user = p_.name("u");
        return frame(std::move(r));
      }
      case 2: {
        fb::link::KillTaskT k;
        k.framework_id = p_.name("f");
        k.task_id = p_.name("t");
        if (p_.below(2)) k.grace_ns = static_cast<std::int64_t>(static_cast<std::uint64_t>(p_.byte()) << 56);
        return frame(std::move(k));
      }
      case 3: {
        fb::link::AckUpdateT a;
        a.framework_id = p_.name("f");
        a.task_id = p_.name("t");
        const auto* t = core_->find(a.framework_id, a.task_id);
        if (t && !t->outbox.empty()) a.uuid = t->outbox.front().uuid;
        else a.uuid = p_.bytes(20);
        return frame(std::move(a));
      }
      case 4: {
        fb::link::RemoveFrameworkT r;
        r.framework_id = p_.name("f");
        return frame(std::move(r));
      }
      case 5: {
        fb::link::ReconcileAgentTasksT r;
        r.framework_id = p_.name("f");
        for (int n = p_.below(4); n > 0; --n) r.task_ids.push_back(p_.name("t"));
        return frame(std::move(r));
      }
      case 6: {
        fb::link::PingT ping;
        ping.seq = p_.byte();
        return frame(std::move(ping));
      }
      case 7: {
        fb::link::RefusedT r;
        r.message = "no";
        r.fatal = p_.below(8) == 0;
        return frame(std::move(r));
      }
      case 8: return step(agent::event::LinkDown{"gone"});
      case 9: return step(agent::event::Launched{container(), {}});
      case 10: {
        agent::ExitInfo exit;
        if (p_.below(4)) exit.wait_status = p_.byte() << 8;
        return step(agent::event::Exited{container(), std::move(exit)});
      }
      case 11: {
        now_ += std::chrono::milliseconds(1 << p_.below(22));
        if (core_->next_due() <= now_) step(agent::event::Tick{});
        return;
      }
      case 12: {
        fb::link::RunGroupT r;
        r.framework = std::make_unique<fb::FrameworkInfoT>();
        r.framework->id = p_.name("f");
        fb::ExecutorInfoT executor;
        executor.executor_id = p_.name("e");
        executor.type = p_.below(4) ? fb::ExecutorType::DEFAULT : fb::ExecutorType::CUSTOM;
        if (executor.type == fb::ExecutorType::CUSTOM || p_.below(8) == 0) executor.command = std::make_unique<fb::CommandInfoT>();
        for (int n = p_.below(4); n > 0; --n) {
          r.tasks.push_back(task());
          if (p_.below(16)) r.tasks.back()->executor = std::make_unique<fb::ExecutorInfoT>(executor);
        }
        if (p_.below(2)) r.launch_executor = p_.below(2) == 0;
        return frame(std::move(r));
      }
      case 13: return step(agent::event::Resized{container(), p_.below(4) != 0, "no"});
      case 14: return step(agent::event::LaunchFailed{container(), fb::Reason::REASON_CONTAINER_LAUNCH_FAILED, "no", p_.below(4) == 0});
      default: {
        const auto raw = p_.bytes(200);
        return step(agent::event::Frame{raw});
      }
    }
  }

  fuzz::Program& p_;
  std::unique_ptr<agent::Core> core_;
  std::vector<Buffer> journal_;
  std::vector<std::string> containers_;
  base::Instant now_{1'000'000'000};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Program p(data, size);
  Agent(p).run();
  return 0;
}
