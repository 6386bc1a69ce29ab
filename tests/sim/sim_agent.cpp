#include "tests/sim/sim_agent.hpp"

#include "kernel/resource/wire.hpp"

namespace gantry::sim {

namespace {

// No cpu, no state: a wait status as waitpid(2) gives it.
int exit_status(int code) { return code << 8; }

}  // namespace

SimAgent::SimAgent(World& world, std::size_t number, std::string resources, std::string hostname)
    : world_(world), number_(number) {
  total_ = *resource::Resources::parse(resources);
  info_.hostname = hostname.empty() ? "host-" + std::to_string(number) : std::move(hostname);
  info_.address = info_.hostname + ":5051";
  info_.resources = resource::to_wire(total_);
  boot_id_ = "boot-" + std::to_string(number) + "-0";
}

void SimAgent::after(Nanos d, Function<void()> fn) {
  world_.loop.after(d, [this, life = life_, fn = std::make_shared<Function<void()>>(std::move(fn))] {
    if (life == life_ && core_) (*fn)();
  });
}

void SimAgent::start() {
  if (core_) return;
  ++life_;
  world_.trace("agent " + std::to_string(number_) + " starts");
  agent::CoreOptions o;
  o.info = info_;
  o.version = "sim";
  o.boot_id = boot_id_;
  o.work_dir = "/sim";
  o.seed = world_.random.next();
  core_ = std::make_unique<agent::Core>(std::move(o));
  for (const auto& entry : journal_)
    if (const auto* e = view<fb::record::Entry>(Bytes(entry))) core_->replay(*e);
  step(agent::event::Serve{true, {}});
  step(agent::event::Start{});
  step(agent::event::Leader{"master:5060"});
}

void SimAgent::crash() {
  if (!core_) return;
  world_.trace("agent " + std::to_string(number_) + " daemon dies");
  write_cache_.clear();
  ++life_;
  pending_.clear();
  core_.reset();
  armed_ = Instant::max();
  // Whatever was being launched dies with it; what runs goes on under its supervisor.
  std::erase_if(containers_, [](const auto& c) { return !c.second.started; });
  world_.cut(*this);
  link = 0;
}

void SimAgent::reboot() {
  crash();
  world_.trace("machine " + std::to_string(number_) + " reboots");
  containers_.clear();
  boot_id_ = "boot-" + std::to_string(number_) + "-" + std::to_string(++boots_);
}

void SimAgent::on_connected(master::LinkId l) {
  link = l;
  step(agent::event::LinkUp{});
}
void SimAgent::on_disconnected(const std::string& why) {
  link = 0;
  step(agent::event::LinkDown{why});
}
void SimAgent::on_frame(Bytes frame) { step(agent::event::Frame{frame}); }

void SimAgent::step(agent::Event event) {
  if (!core_) return;
  pending_.push_back(std::move(event));
  if (stepping_) return;
  stepping_ = true;
  const std::uint64_t life = life_;
  while (!pending_.empty() && core_) {
    const agent::Event e = std::move(pending_.front());
    pending_.pop_front();
    agent::Effects effects;
    core_->step(e, {world_.loop.now(), world_.loop.wall()}, effects);
    for (auto& effect : effects) {
      execute(effect);
      if (life != life_) break;
    }
    if (life != life_) break;
  }
  stepping_ = false;
  arm();
}

void SimAgent::arm() {
  if (!core_) return;
  const Instant due = core_->next_due();
  if (due == armed_) return;
  if (timer_) world_.loop.cancel(timer_);
  timer_ = 0;
  armed_ = due;
  if (due == Instant::max()) return;
  timer_ = world_.loop.at(due, [this, life = life_] {
    if (life != life_ || !core_) return;
    timer_ = 0;
    armed_ = Instant::max();
    step(agent::event::Tick{});
  });
}

void SimAgent::execute(agent::Effect& effect) {
  namespace fx = agent::effect;
  auto& random = world_.random;
  if (auto* a = std::get_if<fx::Append>(&effect)) {
    const Buffer b = pack(a->entry);
    auto& target = world_.options.send_before_append ? write_cache_ : journal_;
    target.emplace_back(b.data(), b.data() + b.size());
    if (world_.options.send_before_append)
      after(random.between(1s, 60s), [this] {
        journal_.insert(journal_.end(), write_cache_.begin(), write_cache_.end());
        write_cache_.clear();
      });
    // Now and then the journal is compacted, as the daemon does.
    if (journal_.size() > 200 && random.chance(20)) {
      after(Nanos(0), [this] {
        if (!write_cache_.empty()) return;
        journal_.clear();
        for (const auto& entry : core_->snapshot()) {
          const Buffer s = pack(entry);
          journal_.emplace_back(s.data(), s.data() + s.size());
        }
      });
    }
  } else if (auto* s = std::get_if<fx::Send>(&effect)) {
    bool twice = false;
    if (const auto* m = view<fb::link::ToMaster>(Bytes(s->frame)))
      twice = world_.options.faults && m->body_type() == fb::link::FromAgent::StatusUpdate && random.chance(3);
    if (link) world_.send_to_master(link, std::move(s->frame), twice);
  } else if (std::get_if<fx::Connect>(&effect)) {
    after(random.between(1ms, 200ms), [this] {
      const master::LinkId l = world_.connect(*this);
      if (l) on_connected(l);
      else on_disconnected("connection refused");
    });
  } else if (std::get_if<fx::Disconnect>(&effect)) {
    world_.cut(*this);
    link = 0;
    after(Nanos(0), [this] { on_disconnected("closed by this side"); });
  } else if (auto* r = std::get_if<fx::Recover>(&effect)) {
    std::vector<agent::RecoveredContainer> out;
    std::set<std::string> listed;
    for (const auto& known : r->known) {
      listed.insert(known.spec.container_id);
      agent::RecoveredContainer c;
      c.container_id = known.spec.container_id;
      const auto it = containers_.find(c.container_id);
      if (it == containers_.end() || !known.identity || known.identity->supervisor_start != it->second.identity.supervisor_start) {
        containers_.erase(c.container_id);
        c.fate = agent::RecoveredContainer::Fate::gone;
      } else if (it->second.ended) {
        c.fate = agent::RecoveredContainer::Fate::exited;
        c.exit.wait_status = it->second.wait_status;
        c.exit.with_parent = it->second.with_parent;
        if (c.exit.with_parent) c.exit.reason = fb::Reason::REASON_EXECUTOR_TERMINATED;
        containers_.erase(it);
      } else {
        c.fate = agent::RecoveredContainer::Fate::running;
      }
      out.push_back(std::move(c));
    }
    std::erase_if(containers_, [&](const auto& c) { return !listed.count(c.first); });
    after(random.between(1ms, 500ms), [this, out = std::move(out)]() mutable { step(agent::event::Recovered{std::move(out)}); });
  } else if (auto* l = std::get_if<fx::Launch>(&effect)) {
    launch(std::move(l->spec));
  } else if (auto* k = std::get_if<fx::Kill>(&effect)) {
    const auto it = containers_.find(k->container_id);
    if (it == containers_.end() || it->second.ended) return;
    const auto& obeys = it->second.plan.obeys_after;
    const Instant at = world_.loop.now() + (obeys ? std::min(*obeys, k->grace) : k->grace);
    it->second.kill_at = std::min(it->second.kill_at.value_or(at), at);
    it->second.ends = std::min(it->second.ends, *it->second.kill_at);
    const std::string id = k->container_id;
    world_.loop.at(*it->second.kill_at, [this, id] {
      const auto c = containers_.find(id);
      if (c == containers_.end() || c->second.ended || !c->second.started) return;
      agent::ExitInfo exit;
      exit.wait_status = 9;  // killed by signal 9
      end_container(id, exit);
    });
  } else if (auto* c = std::get_if<fx::RunCheck>(&effect)) {
    const auto it = containers_.find(c->container_id);
    if (c->what == fx::RunCheck::What::check) {
      auto status = agent::no_result(c->task->check->type);
      if (status.command && random.chance(80)) status.command->exit_code = random.chance(50) ? 0 : 1;
      after(random.between(1ms, std::max(Nanos(2ms), std::min(Nanos(2s), c->timeout))),
            [this, id = c->container_id, run = c->run, status] { step(agent::event::Checked{id, run, status}); });
      return;
    }
    const bool healthy = it != containers_.end() && it->second.plan.healthy;
    after(random.between(1ms, std::max(Nanos(2ms), std::min(Nanos(2s), c->timeout))), [this, id = c->container_id, run = c->run, healthy] {
      step(agent::event::CheckDone{id, run, healthy && (world_.plan || world_.random.chance(90)), "sim"});
    });
  } else if (auto* to = std::get_if<fx::ToExecutor>(&effect)) {
    tell_executor(to->stream, to->event);
  } else if (auto* size = std::get_if<fx::Resize>(&effect)) {
    after(Nanos(1ms), [this, id = size->container_id] { step(agent::event::Resized{id}); });
  } else if (auto* stop = std::get_if<fx::Stop>(&effect)) {
    world_.trace("agent " + std::to_string(number_) + " stops: " + stop->message);
    if (stop->failed) world_.violated("agent " + std::to_string(number_) + " gave up: " + stop->message);
    world_.loop.post([this, life = life_] {
      if (life == life_) crash();
    });
  }
}

TaskPlan SimAgent::chance_plan() {
  auto& random = world_.random;
  TaskPlan p;
  p.starts_after = random.between(1ms, 3s);
  p.fails = random.chance(4);
  // Most tasks end by themselves after seconds to half an hour, some run for ever.
  if (!random.chance(15)) p.ends_after = random.chance(30) ? random.between(1s, 30s) : random.between(1min, 30min);
  p.exit_code = random.chance(70) ? 0 : 1;
  p.obeys_after = random.chance(80) ? std::optional(random.between(1ms, 10s)) : std::nullopt;
  return p;
}

void SimAgent::launch(agent::LaunchSpec spec) {
  const auto& task = *spec.task;
  if (!spec.executor && !started_once_.emplace(spec.framework_id, task.task_id).second)
    world_.violated("task " + task.task_id + " of " + spec.framework_id + " was launched twice on agent " + std::to_string(number_));
  SimContainer c;
  c.framework_id = spec.framework_id;
  c.task_id = task.task_id;
  c.plan = world_.plan ? world_.plan(spec.framework_id, task.task_id) : chance_plan();
  if (const auto r = resource::from_wire(task.resources)) c.resources = r->unallocated();
  c.executor = spec.executor;
  c.hold = spec.hold;
  c.parent = spec.parent;
  if (c.hold) {
    // What it holds is counted where it is; the rest of its own is known with the first of them.
    c.resources = {};
    if (!world_.plan && !world_.random.chance(10)) c.plan.ends_after.reset();
    c.plan.exit_code = 0;
  }
  if (!c.parent.empty()) {
    const auto holder = containers_.find(c.parent);
    if (holder == containers_.end() || !holder->second.started) return world_.violated("task " + task.task_id + " was launched into a container that does not run");
    if (const auto own = resource::from_wire(task.executor->resources)) holder->second.resources = own->unallocated();
    if (holder->second.ended) c.kill_at = world_.loop.now();
  }
  c.ends = Instant::max();
  const std::string id = spec.container_id;
  const Nanos delay = c.plan.starts_after;
  containers_[id] = std::move(c);
  check_laws();
  after(delay, [this, id] {
    const auto it = containers_.find(id);
    if (it == containers_.end()) return;
    SimContainer& c = it->second;
    if (c.plan.fails || c.kill_at) {
      containers_.erase(it);
      step(agent::event::LaunchFailed{id, fb::Reason::REASON_CONTAINER_LAUNCH_FAILED, "simulated"});
      return;
    }
    c.started = true;
    c.identity.pid = static_cast<int>(++pids_);
    c.identity.supervisor_pid = static_cast<int>(++pids_);
    c.identity.supervisor_start = ++pids_;
    if (c.plan.ends_after) {
      c.ends = world_.loop.now() + *c.plan.ends_after;
      const int status = exit_status(c.plan.exit_code);
      world_.loop.at(c.ends, [this, id, status] {
        const auto again = containers_.find(id);
        if (again == containers_.end() || again->second.ended) return;
        agent::ExitInfo exit;
        exit.wait_status = status;
        end_container(id, exit);
      });
    }
    const bool executor = c.executor;
    step(agent::event::Launched{id, c.identity});
    if (executor && !c.hold) connect_executor(id);
  });
}

void SimAgent::end_container(const std::string& id, agent::ExitInfo exit) {
  auto& c = containers_.at(id);
  c.ended = true;
  c.wait_status = exit.wait_status.value_or(0);
  const bool holder = c.hold;
  if (holder) end_nested(id);
  if (!core_) return;  // found by the next life of the daemon
  // Those nested in one are told of before it.
  after(holder ? Nanos(101ms) : world_.random.between(1ms, 100ms), [this, id, exit = std::move(exit)]() mutable {
    if (!containers_.erase(id)) return;
    step(agent::event::Exited{id, std::move(exit)});
  });
}

void SimAgent::end_nested(const std::string& parent) {
  std::vector<std::string> inside;
  for (const auto& [id, c] : containers_)
    if (c.parent == parent && !c.ended) inside.push_back(id);
  for (const auto& id : inside) {
    SimContainer& c = containers_.at(id);
    if (c.started) {
      c.with_parent = true;
      agent::ExitInfo exit;
      exit.wait_status = 9;
      exit.reason = fb::Reason::REASON_EXECUTOR_TERMINATED;
      exit.with_parent = true;
      end_container(id, std::move(exit));
    } else {
      containers_.erase(id);
      after(Nanos(1ms), [this, id] { step(agent::event::LaunchFailed{id, fb::Reason::REASON_EXECUTOR_TERMINATED, "simulated"}); });
    }
  }
}

// Only a launch can take too much.
void SimAgent::check_laws() {
  resource::Resources used;
  for (const auto& [id, c] : containers_)
    if (!c.ended) used += c.resources;
  if (!total_.to_unreserved().contains(used.to_unreserved()))
    world_.violated("agent " + std::to_string(number_) + " is over-committed: runs " + used.text() + " of " + total_.text());
}

}  // namespace gantry::sim
