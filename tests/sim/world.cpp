#include "tests/sim/world.hpp"

#include "modules/allocator/drf/drf.hpp"
#include "tests/sim/sim_agent.hpp"
#include "tests/sim/sim_framework.hpp"

#include <gantry/allocator.hpp>

#include <algorithm>
#include <cstdio>

namespace gantry::sim {

// One TCP connection as both ends see it: ordered, late, and, when it breaks, what was under way is lost.
struct World::Connection {
  SimAgent* agent = nullptr;
  Instant last_up{0}, last_down{0};  // delivery times so far, to keep the order
  bool agent_open = true, master_open = true;
};

class World::Links final : public master::LinkServer {
 public:
  explicit Links(World& w) : w_(w) {}
  void send(master::LinkId link, const Buffer& frame) override {
    const auto it = w_.connections_.find(link);
    if (it == w_.connections_.end()) return;
    auto c = it->second;
    auto copy = std::make_shared<std::vector<std::uint8_t>>(frame.data(), frame.data() + frame.size());
    c->last_down = std::max({c->last_down, w_.loop.now() + w_.random.between(Nanos(50us), Nanos(5ms)), c->agent->partitioned_until});
    w_.loop.at(c->last_down, [c, copy, link] {
      if (c->agent_open && c->agent->up() && c->agent->link == link) c->agent->on_frame(Bytes(*copy));
    });
  }
  void drop(master::LinkId link, std::string_view why) override {
    const auto it = w_.connections_.find(link);
    if (it == w_.connections_.end()) return;
    auto c = it->second;
    w_.connections_.erase(it);
    c->master_open = false;
    c->last_down = std::max({c->last_down, w_.loop.now() + w_.random.between(Nanos(50us), Nanos(5ms)), c->agent->partitioned_until});
    w_.loop.at(c->last_down, [c, link, text = std::string(why)] {
      if (!c->agent_open) return;
      c->agent_open = false;
      if (c->agent->up() && c->agent->link == link) c->agent->on_disconnected(text);
    });
  }

 private:
  World& w_;
};

// What a module in a process of its own does to its caller: answers late, fails, forgets everything.
class World::Allocator final : public module::Instance {
 public:
  Allocator(World& w, module::LocalInstance& inner) : w_(w), inner_(inner) {}
  ~Allocator() override { *alive_ = false; }
  const std::string& kind() const override { return inner_.kind(); }
  const std::string& name() const override { return inner_.name(); }
  module::State state() const override { return inner_.state(); }
  module::Counters counters() const override { return inner_.counters(); }
  void cancel(std::uint64_t id) override { inner_.cancel(id); }
  std::uint64_t call(std::uint32_t method, Buffer body, module::OnReply on_reply, module::CallOptions options) override {
    if (!w_.options.faults || w_.settled_) return inner_.call(method, std::move(body), std::move(on_reply), std::move(options));
    auto shared = std::make_shared<module::OnReply>(std::move(on_reply));
    const auto dice = w_.random.below(100);
    if (dice < w_.options.allocator_failures) {
      w_.loop.after(w_.random.between(Nanos(0), Nanos(3s)), [shared, alive = alive_] {
        if (*alive) (*shared)(GANTRY_UNAVAILABLE, pack_error(fail(Code::unavailable, "simulated: the module has crashed")));
      });
      return 0;
    }
    const Nanos late = dice < 90 ? Nanos(0) : w_.random.between(Nanos(100us), Nanos(2s));
    return inner_.call(method, std::move(body), [this, shared, late, alive = alive_](gantry_code code, Bytes bytes) {
      if (!*alive) return;
      if (late == Nanos(0)) return (*shared)(code, bytes);
      w_.loop.after(late, [shared, code, copy = std::vector<std::uint8_t>(bytes.begin(), bytes.end()), again = alive] {
        if (*again) (*shared)(code, Bytes(copy));
      });
    }, std::move(options));
  }

 private:
  World& w_;
  module::LocalInstance& inner_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

World::World(WorldOptions o)
    : options(o), random(o.seed), store_failures_(o.faults ? o.store_failures : 0), strands_(std::make_unique<module::Strands>(loop)),
      links_(std::make_unique<Links>(*this)) {
  for (unsigned i = 0; i < o.agents; ++i) {
    const std::string begin = std::to_string(31000 + 100 * i);
    agents.push_back(std::make_unique<SimAgent>(
        *this, i, "cpus:" + std::to_string(random.between(1, 8)) + ";mem:" + std::to_string(256 * random.between(2, 16)) +
                      ";disk:" + std::to_string(1000 * random.between(1, 9)) + ";ports:[" + begin + "-" + std::to_string(31099 + 100 * i) + "]"));
  }
  for (unsigned i = 0; i < o.frameworks; ++i) frameworks.push_back(std::make_unique<SimFramework>(*this, i));
}

World::~World() {
  master_.reset();
  retire_allocator();
  for (int i = 0; i < 10'000 && !retired_.empty(); ++i)
    if (!loop.run_one()) loop.skip_to(loop.next_due());
}

void World::retire_allocator() {
  troubled_.reset();
  if (!allocator_) return;
  std::shared_ptr<module::LocalInstance> old = std::move(allocator_);
  retired_.insert(old);
  spawn(old->stop(false, 1s, 1s), [this, old](Status s) {
    if (!s) violated("the allocator could not be stopped: " + s.error().message);
    loop.post([this, old] { retired_.erase(old); });
  });
}

void World::trace(const std::string& what) {
  if (options.trace) std::printf("%12.6f  %s\n", static_cast<double>(loop.now().count()) / 1e9, what.c_str());
}

void World::violated(std::string what) {
  if (!broken_.empty()) return;
  char at[32];
  std::snprintf(at, sizeof at, "%.6f s: ", static_cast<double>(loop.now().count()) / 1e9);
  broken_ = at + std::move(what);
  trace("VIOLATED " + broken_);
}

// ---- the master's machine

void World::start_master() {
  if (master_) return;
  trace("the master starts");
  ++statistics.master_starts;
  const std::uint64_t term = ++master_term_;
  store_ = std::make_unique<SimStore>(loop, random, disk_, store_failures_, options.acknowledge_before_store);
  module::InstanceSetup setup;
  setup.loop = &loop;
  setup.strands = strands_.get();
  setup.metrics = &metrics_;
  setup.kind = "allocator";
  setup.name = "drf";
  setup.provider = provider<allocator_drf::Drf>("drf");
  allocator_ = std::make_unique<module::LocalInstance>(std::move(setup));
  module::LocalInstance* allocator = allocator_.get();
  spawn(allocator->create(), [this, term, allocator](Status created) {
    if (term != master_term_) return;
    if (!created) return violated("the allocator could not be created: " + created.error().message);
    fb::ConfigureT configure;
    const auto text_setting = [&](const char* key, const char* value) {
      auto s = std::make_unique<fb::SettingT>();
      s->key = key;
      s->type = fb::SettingType::STRING;
      s->text = value;
      configure.settings.push_back(std::move(s));
    };
    text_setting("min_allocatable", "cpus:0.01|mem:32");
    allocator->call(GANTRY_METHOD_CONFIGURE, pack(configure), [this, term, allocator](gantry_code code, Bytes body) {
      if (term != master_term_) return;
      if (code != GANTRY_OK) return violated("the allocator refused its configuration: " + unpack_error(code, body).message);
      allocator->set_state(module::State::running);
      troubled_ = std::make_unique<Allocator>(*this, *allocator);
      master::MasterOptions mo;
      mo.id_seed = "sim";
      mo.ping_interval = options.ping_interval;
      mo.offer_timeout = options.offer_timeout;
      mo.agent_reregister_timeout = options.agent_reregister_timeout;
      master_ = std::make_unique<master::Master>(loop, std::move(mo), *troubled_, *store_, *links_);
      master_->lead([this, term](Status s) {
        if (term != master_term_) return;
        if (!s) {
          trace("the master cannot lead: " + s.error().message);
          loop.post([this, term] {
            if (term == master_term_) crash_master();
          });
          loop.after(5s, [this] { start_master(); });
        }
      });
    });
  });
}

void World::crash_master() {
  if (!master_) return;
  trace("the master dies");
  ++master_term_;
  master_.reset();
  store_.reset();
  retire_allocator();
  for (auto& [id, c] : std::exchange(connections_, {})) {
    c->master_open = false;
    loop.after(random.between(Nanos(1ms), Nanos(2s)), [c = c, link = id] {
      if (!c->agent_open) return;
      c->agent_open = false;
      if (c->agent->up() && c->agent->link == link) c->agent->on_disconnected("connection reset");
    });
  }
  for (auto& f : frameworks) f->master_gone();
  if (on_master_gone) on_master_gone();
}

void World::settle() {
  settled_ = true;
  store_failures_ = 0;
  if (store_) store_->set_failures(0);
  for (auto& a : agents) a->start();
  start_master();
  for (auto& f : frameworks) f->rest();
}

// ---- the network

master::LinkId World::connect(SimAgent& agent) {
  if (!master() || loop.now() < agent.partitioned_until) return 0;
  const master::LinkId link = ++next_link_;
  auto c = std::make_shared<Connection>();
  c->agent = &agent;
  connections_[link] = c;
  return link;
}

void World::send_to_master(master::LinkId link, Buffer frame, bool twice) {
  const auto it = connections_.find(link);
  if (it == connections_.end()) return;
  auto c = it->second;
  auto copy = std::make_shared<std::vector<std::uint8_t>>(frame.data(), frame.data() + frame.size());
  for (int i = 0; i < (twice ? 2 : 1); ++i) {
    c->last_up = std::max({c->last_up, loop.now() + random.between(Nanos(50us), Nanos(5ms)), c->agent->partitioned_until});
    loop.at(c->last_up, [this, c, copy, link, term = master_term_] {
      if (c->master_open && master_ && term == master_term_) master_->on_agent_frame(link, Bytes(*copy));
    });
  }
}

void World::cut(SimAgent& agent) {
  if (!agent.link) return;
  const master::LinkId link = agent.link;
  const auto it = connections_.find(link);
  if (it == connections_.end()) return;
  auto c = it->second;
  c->agent_open = false;
  // The master's side finds out later; what was under way to it may still arrive or be lost.
  const Nanos late = random.chance(70) ? random.between(Nanos(1ms), Nanos(1s)) : random.between(Nanos(1s), Nanos(40s));
  const bool lost = random.chance(50);
  if (lost) c->master_open = false;
  loop.after(late, [this, c, link, term = master_term_] {
    c->master_open = false;
    if (term != master_term_ || !connections_.erase(link)) return;
    if (master_) master_->on_agent_closed(link);
  });
}

void World::partition(SimAgent& agent, Nanos d) {
  trace("agent " + std::to_string(agent.number()) + " is cut off for " + std::to_string(d.count() / 1'000'000'000) + " s");
  agent.partitioned_until = std::max(agent.partitioned_until, loop.now() + d);
  // Long ones break the connection; short ones only delay.
  if (d > 20s || (random.chance(30) && !plan)) {
    const master::LinkId link = agent.link;
    if (!link) return;
    cut(agent);
    const Nanos noticed = random.between(Nanos(1s), Nanos(30s));
    loop.after(noticed, [&agent, link] {
      if (agent.up() && agent.link == link) agent.on_disconnected("timed out");
    });
  }
}

// ---- faults

void World::step_faults() {
  loop.after(random.between(Nanos(0), 2 * options.mean_between_faults), [this] {
    if (settled_) return;
    one_fault();
    step_faults();
  });
}

void World::one_fault() {
  ++statistics.faults;
  const auto dice = random.below(100);
  SimAgent& agent = *agents[random.below(agents.size())];
  if (dice < 15) {
    crash_master();
    loop.after(random.between(Nanos(100ms), Nanos(90s)), [this] { start_master(); });
  } else if (dice < 40) {
    agent.crash();
    loop.after(random.chance(80) ? random.between(Nanos(100ms), Nanos(50s)) : random.between(Nanos(60s), Nanos(5min)), [&agent] { agent.start(); });
  } else if (dice < 48) {
    agent.reboot();
    loop.after(random.between(Nanos(1s), Nanos(3min)), [&agent] { agent.start(); });
  } else if (dice < 65) {
    partition(agent, random.chance(70) ? random.between(Nanos(100ms), Nanos(30s)) : random.between(Nanos(30s), Nanos(4min)));
  } else if (dice < 80) {
    const master::LinkId link = agent.link;
    trace("the connection of agent " + std::to_string(agent.number()) + " breaks");
    cut(agent);
    loop.after(random.between(Nanos(1ms), Nanos(2s)), [&agent, link] {
      if (link && agent.up() && agent.link == link) agent.on_disconnected("connection reset");
    });
  } else if (dice < 92) {
    frameworks[random.below(frameworks.size())]->disconnect();
  } else {
    frameworks[random.below(frameworks.size())]->fail_over();
  }
}

// ---- the run

bool World::play_until(Instant end, const std::function<bool()>& until) {
  while (broken_.empty()) {
    if (until && until()) return true;
    if (loop.run_one()) {
      ++statistics.steps;
      check_laws();
      continue;
    }
    const Instant next = loop.next_due();
    if (next > end) break;
    loop.skip_to(next);
  }
  if (broken_.empty()) loop.skip_to(end);
  return broken_.empty();
}

bool World::run() {
  start_master();
  for (auto& a : agents) a->start();
  for (auto& f : frameworks) f->start();
  if (options.faults) step_faults();
  if (!play_until(loop.now() + options.length)) return false;
  settle();
  // Kills and reconciliations go on for a while; what they caused must be over at the end.
  if (!play_until(loop.now() + options.quiet - 10min)) return false;
  for (auto& f : frameworks) f->hush();
  if (!play_until(loop.now() + 10min)) return false;
  check_convergence();
  return broken_.empty();
}

void World::check_laws() {
  if (const auto* m = master(); m && m->core()->counters().events != std::exchange(checked_, m->core()->counters().events)) {
    if (const Status s = m->core()->check(); !s) violated("the master's books: " + s.error().message);
  }
}

void World::check_convergence() {
  const auto* m = master();
  if (!m) return violated("no master leads although nothing is broken any more");
  if (m->core()->agent_count() != agents.size())
    return violated("only " + std::to_string(m->core()->agent_count()) + " of " + std::to_string(agents.size()) + " agents are registered at the end");
  for (const auto& f : frameworks) {
    if (!f->connected()) return violated("framework " + f->id() + " is not connected at the end");
    for (const auto& [id, t] : f->tasks()) {
      if (!t.launched || t.terminal) continue;
      // An agent that died before it had written its id down carries another one now; of the first nothing can be known,
      // and that is what the framework must have been told.
      const auto& agent_id = t.agent_id;  // clang captures no structured bindings
      const bool carried = std::any_of(agents.begin(), agents.end(), [&](const auto& a) { return a->core()->agent_id() == agent_id; });
      if (!carried && (t.last == fb::TaskState::TASK_UNREACHABLE || t.last == fb::TaskState::TASK_UNKNOWN)) continue;
      bool lives = false;
      for (const auto& a : agents)
        for (const auto& [cid, c] : a->containers())
          if (c.framework_id == f->id() && c.task_id == id && !c.ended) lives = true;
      if (!lives && t.last != fb::TaskState::TASK_LOST && t.last != fb::TaskState::TASK_KILLED)
        return violated("task " + id + " of " + f->id() + " is forgotten: nobody runs it, the framework last heard " + fb::EnumNameTaskState(t.last));
      if (lives && t.last != fb::TaskState::TASK_RUNNING && t.last != fb::TaskState::TASK_KILLING)
        return violated("task " + id + " of " + f->id() + " runs, but the framework last heard " + fb::EnumNameTaskState(t.last));
      for (const auto& [other, o] : f->tasks())
        if (lives && !t.group.empty() && o.group == t.group && !o.final_uuid.empty() && o.final_state != fb::TaskState::TASK_FINISHED)
          return violated("task " + id + " of " + f->id() + " runs, but " + other + " of its group ended as " + fb::EnumNameTaskState(o.final_state));
    }
  }
  resource::Resources total, used, offered, running;
  m->core()->sums(total, used, offered);
  for (const auto& a : agents)
    for (const auto& [id, c] : a->containers())
      if (!c.ended) running += c.resources;
  if (!(used.unallocated().to_unreserved() == running.to_unreserved()))
    return violated("the master books " + used.text() + " as used at the end, but containers use " + running.text());
  for (const auto& a : agents) {
    if (!a->core()->registered()) return violated("agent " + std::to_string(a->number()) + " is not registered at the end");
    for (const auto& [id, task] : a->core()->tasks())
      if (!task->outbox.empty())
        return violated("agent " + std::to_string(a->number()) + " still has updates of task " + task->info->task_id + " nobody acknowledged");
  }
}

}  // namespace gantry::sim
