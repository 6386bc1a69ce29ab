// Rounds of the allocator, through the module boundary as in production: the master's core makes the deltas, the drf module
// on its strand answers, the core checks and books every grant and writes the offers. The cluster is the one Mesos was
// measured with (README.md).
#include "tests/bench/messages.hpp"
#include "tests/bench/report.hpp"
#include "tests/bench/rig.hpp"

#include <gantry/operator_generated.h>

#include <map>

namespace gantry::bench {

namespace {

using master::AgentFrame;
using master::LinkId;
using master::StreamId;

constexpr const char* agent_resources = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";

// What one framework uses of an agent: 16 of its cpus, half its memory, 16 port ranges.
std::string used_resources() {
  std::string ports;
  for (int i = 0; i < 16; ++i) ports += (i ? "," : "") + std::to_string(31000 + 20 * i) + "-" + std::to_string(31009 + 20 * i);
  return "cpus:16;mem:2014;disk:1024;ports:[" + ports + "]";
}

// Waits until no round is under way.
void quiet(net::RealLoop& loop, Driver& driver) {
  if (!driver.in_round()) return;
  run_loop(loop, [&](std::function<void()> finish) {
    driver.on_round = [&driver, finish] {
      if (!driver.in_round()) finish();
    };
    // The reply may have come in before this ran: it was queued on the loop first.
    if (!driver.in_round()) finish();
  });
  driver.on_round = {};
}

// `agents` agents, each with a task of one of `frameworks` frameworks, which share a role and are suppressed at first.
class Cluster {
 public:
  Cluster(net::RealLoop& loop, module::Instance& allocator, std::size_t agents, std::size_t frameworks) : driver(loop, allocator), loop_(loop) {
    for (std::size_t i = 0; i < frameworks; ++i) driver.apply(master::Subscribe{i + 1, subscribe_call("framework-" + std::to_string(i), "bench", true)});
    quiet();
    for (auto& [stream, buffer] : std::exchange(driver.events, {})) {
      const auto* e = flatbuffers::GetRoot<fb::Event>(buffer.data());
      if (e->type() == fb::EventType::SUBSCRIBED) frameworks_.resize(stream), frameworks_[stream - 1] = text(e->subscribed()->framework_id());
    }
    fb::link::RegisterT r;
    r.info = std::make_unique<fb::AgentInfoT>();
    r.info->resources = wire(agent_resources);
    r.boot_id = "bench";
    r.tasks.push_back(std::make_unique<fb::link::KnownTaskT>());
    auto& known = *r.tasks.front();
    known.state = known.status_state = fb::TaskState::TASK_RUNNING;
    known.info = std::make_unique<fb::TaskInfoT>();
    known.info->resources = wire(used_resources());
    known.info->command = std::make_unique<fb::CommandInfoT>();
    known.info->command->value = "sleep 1000";
    driver.hold = true;  // thousands of agents in one round instead of thousands of rounds
    for (std::size_t i = 0; i < agents; ++i) {
      r.info->hostname = "host-" + std::to_string(i);
      known.framework_id = frameworks_[i % frameworks];
      known.info->name = known.info->task_id = "task-" + std::to_string(i);
      driver.apply(AgentFrame{i + 1, register_frame(r)});
    }
    driver.release();
    quiet();
    for (auto& [link, buffer] : std::exchange(driver.frames, {})) {
      const auto* m = flatbuffers::GetRoot<fb::link::ToAgent>(buffer.data());
      if (const auto* x = m->body_as_Registered()) agents_.resize(std::max<std::size_t>(agents_.size(), link)), agents_[link - 1] = text(x->agent_id());
    }
    if (agents_.size() != agents || frameworks_.size() != frameworks) throw std::runtime_error("the cluster did not come up");
  }

  void quiet() { bench::quiet(loop_, driver); }
  // Does something and waits for the end of the rounds it causes; how long that took.
  template <class F>
  double timed(F act) {
    double took = 0;
    run_loop(loop_, [&](std::function<void()> finish) {
      const auto start = Clock::now();
      driver.on_round = [&took, this, finish, start] {
        if (driver.in_round()) return;
        took = microseconds(Clock::now() - start);
        finish();
      };
      act();
      if (!driver.in_round()) throw std::runtime_error("that made no round");
    });
    driver.on_round = {};
    return took;
  }
  // Lets the held round go and measures the next one, in which all that gathered meanwhile is told: from before its deltas
  // are built to after its offers are written.
  double timed_after_held() {
    double took = 0;
    Clock::time_point start;
    int replies = 0;
    if (!driver.held()) throw std::runtime_error("no round is held");
    run_loop(loop_, [&](std::function<void()> finish) {
      driver.before_round = [&] {
        if (replies == 0) start = Clock::now();
      };
      driver.on_round = [&, finish] {
        if (++replies < 2) return;
        took = microseconds(Clock::now() - start);
        finish();
      };
      driver.release();
    });
    driver.before_round = {};
    driver.on_round = {};
    quiet();
    return took;
  }

  // Offers that came in, by framework (index), taken out of the driver.
  std::map<std::size_t, std::vector<std::string>> take_offers() {
    std::map<std::size_t, std::vector<std::string>> out;
    for (auto& [stream, buffer] : std::exchange(driver.events, {})) {
      const auto* e = flatbuffers::GetRoot<fb::Event>(buffer.data());
      if (e->type() != fb::EventType::OFFERS) continue;
      for (const auto* o : *e->offers()->offers()) out[stream - 1].emplace_back(text(o->id()));
    }
    return out;
  }
  void revive(std::size_t framework) { driver.call(revive_call(frameworks_[framework])); }
  void decline(std::size_t framework, const std::vector<std::string>& offers, double refuse) {
    driver.call(decline_call(frameworks_[framework], offers, refuse));
  }
  // Declines all, so that it gathers behind one held round; the first decline is what that round is about.
  std::size_t decline_gathered(const std::map<std::size_t, std::vector<std::string>>& offers, double refuse) {
    std::size_t n = 0;
    driver.hold = true;
    for (const auto& [f, ids] : offers) {
      n += ids.size();
      if (n == ids.size()) {
        decline(f, {ids.front()}, refuse);
        if (ids.size() > 1) decline(f, {ids.begin() + 1, ids.end()}, refuse);
      } else {
        decline(f, ids, refuse);
      }
    }
    return n;
  }
  [[nodiscard]] const std::string& framework(std::size_t i) const { return frameworks_[i]; }
  [[nodiscard]] const std::string& agent(std::size_t i) const { return agents_[i]; }
  [[nodiscard]] std::size_t size() const { return frameworks_.size(); }

  Driver driver;

 private:
  net::RealLoop& loop_;
  std::vector<std::string> frameworks_, agents_;
};

std::size_t count(const std::map<std::size_t, std::vector<std::string>>& offers) {
  std::size_t n = 0;
  for (const auto& [f, ids] : offers) n += ids.size();
  return n;
}

}  // namespace

void run_allocate(const Settings& settings, const Report& report) {
  const std::size_t agents = settings.size(10'000, 200), frameworks = settings.size(200, 10);
  const unsigned runs = settings.repeat(9);
  TemporaryDirectory dir;
  const auto loop = net::make_real_loop();
  Modules modules(*loop, master_toml(dir.path()), {"allocator"});
  Cluster c(*loop, modules.find("allocator"), agents, frameworks);

  c.driver.hold = true;
  for (std::size_t i = 0; i < frameworks; ++i) c.revive(i);
  c.driver.release();
  c.quiet();
  auto offers = c.take_offers();
  if (count(offers) != agents) throw std::runtime_error("not every agent was offered");

  std::vector<double> full, idle;
  for (unsigned run = 0; run < runs; ++run) {
    // Every offer comes back at once and is offered anew.
    const std::size_t n = c.decline_gathered(offers, 0);
    full.push_back(c.timed_after_held() / 1000);
    offers = c.take_offers();
    if (n != agents || count(offers) != agents) throw std::runtime_error("a round did not offer every agent");
    std::vector<double> small;
    for (std::size_t i = 0; i < settings.size(100, 3); ++i) small.push_back(c.timed([&] { c.revive(i % frameworks); }) / 1000);
    idle.push_back(Report::median_of(small));
    if (!c.take_offers().empty()) throw std::runtime_error("an idle round made offers");
  }
  report.value("allocate_10k_agents_200_frameworks", "ms", full);
  report.value("allocate_idle_10k_agents", "ms", idle);

  std::vector<std::vector<double>> arrive(runs), freed(runs);
  std::size_t next_link = agents, next_task = 0;
  for (unsigned run = 0; run < runs; ++run) {
    for (std::size_t i = 0; i < settings.size(200, 3); ++i) {
      const LinkId link = ++next_link;
      const Buffer frame = register_frame("new-" + std::to_string(link), agent_resources);
      arrive[run].push_back(c.timed([&] { c.driver.apply(AgentFrame{link, frame}); }));
      if (count(c.take_offers()) != 1) throw std::runtime_error("the new agent was not offered");
    }
    for (std::size_t i = 0; i < settings.size(200, 3); ++i) {
      const std::size_t n = next_task++;
      const Buffer frame = update_frame(c.framework(n % frameworks), c.agent(n), "task-" + std::to_string(n), fb::TaskState::TASK_FINISHED, n);
      freed[run].push_back(c.timed([&] { c.driver.apply(AgentFrame{n + 1, frame}); }) / 1000);
      if (count(c.take_offers()) != 1) throw std::runtime_error("freed resources were not offered");
    }
  }
  report.latencies("agent_arrives_to_offer", "us", arrive);
  report.latencies("freed_to_offer", "ms", freed);
}

void run_allocate_filtered(const Settings& settings, const Report& report) {
  const std::size_t agents = settings.size(10'000, 100), frameworks = settings.size(50, 5);
  TemporaryDirectory dir;
  const auto loop = net::make_real_loop();
  Modules modules(*loop, master_toml(dir.path()), {"allocator"});
  Cluster c(*loop, modules.find("allocator"), agents, frameworks);
  constexpr double long_time = 86'400;

  c.driver.hold = true;
  for (std::size_t i = 0; i < frameworks; ++i) c.revive(i);
  c.driver.release();
  c.quiet();
  // Everybody declines everything, until nobody is left to be offered it.
  std::size_t declined = 0;
  for (auto offers = c.take_offers(); !offers.empty(); offers = c.take_offers()) {
    declined += c.decline_gathered(offers, long_time);
    c.driver.release();
    c.quiet();
  }
  if (declined != agents * frameworks) throw std::runtime_error("not everything was declined by everyone");

  // The round in which the last framework's declines arrive: every agent has changed, every framework has declined it.
  std::vector<double> rounds;
  for (unsigned run = 0; run < settings.repeat(9); ++run) {
    c.revive(run % frameworks);
    c.quiet();
    auto offers = c.take_offers();
    if (count(offers) != agents) throw std::runtime_error("a revived framework was not offered everything");
    c.decline_gathered(offers, long_time);
    rounds.push_back(c.timed_after_held() / 1000);
    if (!c.take_offers().empty()) throw std::runtime_error("something was offered in spite of its filter");
  }
  report.value("allocate_filtered_10k_agents_50_frameworks", "ms", rounds);
}

// As many roles with quota as agents, a framework in each: the round in which all of them want something (Mesos took 15 to 18 s).
void run_allocate_quota(const Settings& settings, const Report& report) {
  const std::size_t agents = settings.size(3'000, 60), roles = settings.size(3'000, 60);
  TemporaryDirectory dir;
  const auto loop = net::make_real_loop();
  Modules modules(*loop, master_toml(dir.path()), {"allocator"});
  std::vector<double> rounds;
  for (unsigned run = 0; run < settings.repeat(5); ++run) {
    Driver driver(*loop, modules.find("allocator"));
    // A master that has just begun tells the allocator so, which is a round of its own.
    quiet(*loop, driver);
    fb::master::CallT quota;
    quota.type = fb::master::CallType::UPDATE_QUOTA;
    quota.update_quota = std::make_unique<fb::master::UpdateQuotaT>();
    quota.update_quota->force = true;
    for (std::size_t i = 0; i < roles; ++i) {
      auto q = std::make_unique<fb::master::QuotaConfigT>();
      q->role = "role-" + std::to_string(i);
      for (auto* list : {&q->limits, &q->guarantees}) {
        auto e = std::make_unique<fb::ScalarEntryT>();
        e->key = "cpus";
        e->value = list == &q->limits ? 16 : 8;
        list->push_back(std::move(e));
      }
      quota.update_quota->quota_configs.push_back(std::move(q));
    }
    driver.hold = true;
    driver.apply(master::OperatorCall{1, {}, pack(quota)});
    for (std::size_t i = 0; i < roles; ++i)
      driver.apply(master::Subscribe{i + 1, subscribe_call("framework-" + std::to_string(i), "role-" + std::to_string(i), false)});
    for (std::size_t i = 0; i < agents; ++i) driver.apply(AgentFrame{i + 1, register_frame("host-" + std::to_string(i), agent_resources)});
    if (!driver.held()) throw std::runtime_error("no round is held");
    driver.events.clear();
    double took = 0;
    int replies = 0;
    Clock::time_point start;
    run_loop(*loop, [&](std::function<void()> finish) {
      driver.before_round = [&] {
        if (replies == 0) start = Clock::now();
      };
      driver.on_round = [&, finish] {
        if (++replies < 2) return;
        took = microseconds(Clock::now() - start) / 1000;
        finish();
      };
      driver.release();
    });
    driver.before_round = {};
    driver.on_round = {};
    rounds.push_back(took);
    std::size_t offered = 0;
    for (const auto& [stream, buffer] : driver.events) {
      const auto* e = flatbuffers::GetRoot<fb::Event>(buffer.data());
      if (e->type() == fb::EventType::OFFERS) offered += e->offers()->offers()->size();
    }
    if (offered < agents) throw std::runtime_error("not every agent was offered: " + std::to_string(offered));
    quiet(*loop, driver);
  }
  report.value("allocate_3k_agents_3k_roles_with_quota", "ms", rounds);
}

}  // namespace gantry::bench
