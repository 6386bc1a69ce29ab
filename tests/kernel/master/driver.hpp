// A cluster around the pure core: fake agents and frameworks that only record what they hear, a fake allocator that
// offers everything to everybody in turn, a store that can be held or fail. pump() carries out effects until nothing is
// left.
#pragma once

#include "kernel/master/core.hpp"
#include "kernel/resource/wire.hpp"

#include <gantry/control_generated.h>
#include <gantry/operator_generated.h>
#include <gantry/state_generated.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace gantry::master {

using namespace std::chrono_literals;
using S = fb::TaskState;
using R = fb::Reason;

inline std::vector<std::unique_ptr<fb::ResourceT>> wire(std::string_view text) {
  return resource::to_wire(resource::Resources::parse(text).value());
}

struct Cluster {
  explicit Cluster(CoreOptions o = {}) : options(std::move(o)) {
    if (options.run_id.empty()) options.run_id = "run";
    restart();
  }

  // A new core on what is stored, as after a crash of the master.
  void restart() {
    core = std::make_unique<Core>(options);
    effects.clear();
    waiting.clear();
    events.clear();
    ended.clear();
    frames.clear();
    dropped.clear();
    mirror = {};
    round_due = false;
    timer = Instant::max();
    for (const auto& [key, value] : records) {
      const auto s = core->recover(key, value);
      EXPECT_TRUE(s) << s.error().message;
    }
    core->recovered(now, wall(), effects);
    pump();
  }

  [[nodiscard]] Wall wall() const { return 1'700'000'000'000'000'000 + now.count(); }

  void apply(const Event& e) {
    core->apply(now, wall(), e, effects);
    pump();
  }
  void pump() {
    for (int guard = 0; guard < 100000; ++guard) {
      if (!effects.empty()) {
        Effects batch = std::exchange(effects, {});
        for (auto& e : batch) execute(e);
        const auto s = core->check();
        ASSERT_TRUE(s) << s.error().message;
        continue;
      }
      if (!hold_store && !waiting.empty()) {
        store_one();
        continue;
      }
      if (round_due && !hold_round) {
        round_due = false;
        const Buffer round = mirror.round(now);
        if (round_failure)
          core->apply(now, wall(), RoundFailed{*std::exchange(round_failure, nullptr)}, effects);
        else if (forged)
          core->apply(now, wall(), RoundDone{*std::exchange(forged, nullptr)}, effects);
        else
          core->apply(now, wall(), RoundDone{round}, effects);
        continue;
      }
      return;
    }
    FAIL() << "the core never comes to rest";
  }
  void store_one() {
    auto [cookie, ops] = std::move(waiting.front());
    waiting.pop_front();
    if (fail_store) {
      core->apply(now, wall(), StoreFailed{cookie, fail(Code::resource_exhausted, "disk full")}, effects);
      return;
    }
    for (auto& op : ops) {
      if (op.value)
        records.insert_or_assign(op.key, std::move(*op.value));
      else
        records.erase(op.key);
    }
    core->apply(now, wall(), Stored{cookie}, effects);
  }
  void execute(Effect& e) {
    if (auto* x = std::get_if<SendFramework>(&e)) {
      auto event = unpack<fb::Event>(x->event);
      ASSERT_TRUE(event);
      ASSERT_FALSE(ended.contains(x->stream)) << "an event after the end of its stream";
      events[x->stream].push_back(std::move(*event));
    } else if (auto* x = std::get_if<EndStream>(&e)) {
      ended.emplace(x->stream, x->error);
    } else if (auto* x = std::get_if<SendAgent>(&e)) {
      auto frame = unpack<fb::link::ToAgent>(x->frame);
      ASSERT_TRUE(frame);
      frames[x->link].push_back(std::move(*frame));
    } else if (auto* x = std::get_if<DropLink>(&e)) {
      dropped.insert(x->link);
    } else if (auto* x = std::get_if<Persist>(&e)) {
      waiting.emplace_back(x->cookie, std::move(x->ops));
    } else if (auto* x = std::get_if<Allocate>(&e)) {
      ASSERT_FALSE(round_due) << "two rounds at once";
      mirror.apply(x->deltas);
      round_due = true;
      ++rounds;
    } else if (auto* x = std::get_if<SetTimer>(&e)) {
      timer = x->at;
    } else if (auto* x = std::get_if<Answer>(&e)) {
      answers.insert_or_assign(x->request, x->status);
    }
  }
  // Lets time pass; agents in `alive` answer pings.
  void advance(Nanos d) {
    const Instant end = now + d;
    while (timer <= end) {
      now = std::max(now, timer);
      timer = Instant::max();
      apply(Tick{});
      for (const auto l : alive) {
        if (dropped.contains(l)) continue;
        for (auto& f : std::exchange(frames[l], {})) {
          if (f.body.type == fb::link::FromMaster::Ping)
            agent(l, fb::link::PongT{});
          else
            frames[l].push_back(std::move(f));
        }
      }
    }
    now = end;
  }

  // ---- agents
  template <class T>
  void agent(LinkId l, T body) {
    fb::link::ToMasterT m;
    m.body.Set(std::move(body));
    const Buffer b = pack(m);
    apply(AgentFrame{l, b});
  }
  static fb::link::RegisterT registration(std::string_view resources, std::string id = {}) {
    fb::link::RegisterT r;
    r.info = std::make_unique<fb::AgentInfoT>();
    r.info->hostname = "host";
    r.info->id = std::move(id);
    r.info->resources = wire(resources);
    return r;
  }
  // Registers and returns the id it got ("" if it was not answered).
  std::string join(LinkId l, std::string_view resources = "cpus:4;mem:4096") {
    return join(l, registration(resources));
  }
  std::string join(LinkId l, fb::link::RegisterT r) {
    agent(l, fb::link::HelloT{});
    agent(l, std::move(r));
    return registered_as(l);
  }
  std::string registered_as(LinkId l) {
    for (auto& f : frames[l])
      if (auto* r = f.body.AsRegistered()) return r->agent_id;
    return {};
  }
  template <class T>
  std::vector<T> heard(LinkId l) {  // frames of one type, taken out
    std::vector<T> out;
    std::vector<fb::link::ToAgentT> rest;
    for (auto& f : frames[l]) {
      if (f.body.type == fb::link::FromMasterUnionTraits<T>::enum_value)
        out.push_back(std::move(*static_cast<T*>(f.body.value)));
      else
        rest.push_back(std::move(f));
    }
    frames[l] = std::move(rest);
    return out;
  }
  static std::vector<std::uint8_t> uuid(std::uint8_t n) { return std::vector<std::uint8_t>(16, n); }
  void update(LinkId l, const std::string& framework, const std::string& task, S state, std::uint8_t n, S latest) {
    fb::link::StatusUpdateT u;
    u.framework_id = framework;
    u.status = std::make_unique<fb::TaskStatusT>();
    u.status->task_id = task;
    u.status->agent_id = registered_as(l);
    u.status->state = state;
    u.status->uuid = uuid(n);
    u.status->healthy = true;
    u.latest_state = latest;
    u.terminal = terminal(latest);
    agent(l, std::move(u));
  }
  void update(LinkId l, const std::string& f, const std::string& t, S state, std::uint8_t n) {
    update(l, f, t, state, n, state);
  }

  // ---- frameworks
  static fb::FrameworkInfoT info(std::string id = {}, double failover_timeout = 0, bool aware = false) {
    fb::FrameworkInfoT i;
    i.name = "test";
    i.user = "root";
    i.id = std::move(id);
    i.checkpoint = true;
    if (failover_timeout > 0) i.failover_timeout = failover_timeout;
    if (aware) i.capabilities.push_back(fb::FrameworkCapability::PARTITION_AWARE);
    return i;
  }
  StreamId subscribe(fb::FrameworkInfoT i, std::vector<std::string> suppressed = {}) {
    fb::CallT c;
    c.type = fb::CallType::SUBSCRIBE;
    c.framework_id = i.id;
    c.subscribe = std::make_unique<fb::SubscribeT>();
    c.subscribe->framework_info = std::make_unique<fb::FrameworkInfoT>(std::move(i));
    c.subscribe->suppressed_roles = std::move(suppressed);
    const Buffer b = pack(c);
    const StreamId s = ++last_stream;
    apply(Subscribe{s, b});
    return s;
  }
  std::string id_of(StreamId s) {
    for (const auto& e : events[s])
      if (e.subscribed) return e.subscribed->framework_id;
    return {};
  }
  Status call(fb::CallT c) {
    const Buffer b = pack(c);
    const RequestId r = ++last_request;
    apply(FrameworkCall{r, b});
    if (!answers.contains(r)) return fail(Code::unknown, "no answer yet");
    return answers.at(r);
  }
  // An operator's call.
  Status operate(fb::master::CallT call, std::string_view principal = {}) {
    const Buffer b = pack(call);
    const RequestId r = ++last_request;
    apply(OperatorCall{r, principal, b});
    if (!answers.contains(r)) return fail(Code::unknown, "no answer yet");
    return answers.at(r);
  }
  // A scalar, dynamically reserved if there is a role, a persistent volume if there is an id.
  static std::unique_ptr<fb::ResourceT> amount(std::string name, double n, const std::string& role = {}, std::string volume = {},
                                               bool shared = false, std::string principal = {}) {
    auto r = std::make_unique<fb::ResourceT>();
    r->name = std::move(name);
    r->scalar = n;
    if (!role.empty()) {
      auto info = std::make_unique<fb::ReservationInfoT>();
      info->type = fb::ReservationType::DYNAMIC;
      info->role = role;
      info->principal = principal;
      r->reservations.push_back(std::move(info));
    }
    if (!volume.empty()) {
      r->disk = std::make_unique<fb::DiskInfoT>();
      r->disk->persistence = std::make_unique<fb::PersistenceT>();
      r->disk->persistence->id = std::move(volume);
      r->disk->persistence->principal = std::move(principal);
      r->disk->volume = std::make_unique<fb::VolumeT>();
      r->disk->volume->container_path = "data";
      r->shared = shared;
    }
    return r;
  }
  using Amounts = std::vector<std::unique_ptr<fb::ResourceT>>;
  static fb::master::CallT reserve_call(std::string agent, Amounts resources, bool undo = false) {
    fb::master::CallT c;
    if (undo) {
      c.type = fb::master::CallType::UNRESERVE_RESOURCES;
      c.unreserve_resources = std::make_unique<fb::master::UnreserveResourcesT>();
      c.unreserve_resources->agent_id = std::move(agent);
      c.unreserve_resources->resources = std::move(resources);
    } else {
      c.type = fb::master::CallType::RESERVE_RESOURCES;
      c.reserve_resources = std::make_unique<fb::master::ReserveResourcesT>();
      c.reserve_resources->agent_id = std::move(agent);
      c.reserve_resources->resources = std::move(resources);
    }
    return c;
  }
  static fb::master::CallT volumes_call(std::string agent, Amounts volumes, bool destroy = false) {
    fb::master::CallT c;
    if (destroy) {
      c.type = fb::master::CallType::DESTROY_VOLUMES;
      c.destroy_volumes = std::make_unique<fb::master::DestroyVolumesT>();
      c.destroy_volumes->agent_id = std::move(agent);
      c.destroy_volumes->volumes = std::move(volumes);
    } else {
      c.type = fb::master::CallType::CREATE_VOLUMES;
      c.create_volumes = std::make_unique<fb::master::CreateVolumesT>();
      c.create_volumes->agent_id = std::move(agent);
      c.create_volumes->volumes = std::move(volumes);
    }
    return c;
  }
  static fb::master::CallT quota_call(const std::string& role, std::map<std::string, double> limits,
                                      std::map<std::string, double> guarantees = {}, bool force = false) {
    fb::master::CallT c;
    c.type = fb::master::CallType::UPDATE_QUOTA;
    c.update_quota = std::make_unique<fb::master::UpdateQuotaT>();
    c.update_quota->force = force;
    add_quota(c, role, std::move(limits), std::move(guarantees));
    return c;
  }
  static void add_quota(fb::master::CallT& c, const std::string& role, std::map<std::string, double> limits,
                        std::map<std::string, double> guarantees = {}) {
    auto q = std::make_unique<fb::master::QuotaConfigT>();
    q->role = role;
    const auto fill = [](auto& list, const std::map<std::string, double>& from) {
      for (const auto& [name, n] : from) {
        auto e = std::make_unique<fb::ScalarEntryT>();
        e->key = name;
        e->value = n;
        list.push_back(std::move(e));
      }
    };
    fill(q->limits, limits);
    fill(q->guarantees, guarantees);
    c.update_quota->quota_configs.push_back(std::move(q));
  }
  static Amounts list(std::unique_ptr<fb::ResourceT> a, std::unique_ptr<fb::ResourceT> b = nullptr) {
    Amounts out;
    out.push_back(std::move(a));
    if (b) out.push_back(std::move(b));
    return out;
  }

  static fb::CallT make_call(const std::string& framework, fb::CallType type) {
    fb::CallT c;
    c.framework_id = framework;
    c.type = type;
    return c;
  }
  // Events of one kind, taken out of the stream.
  std::vector<fb::EventT> take(StreamId s, fb::EventType type) {
    std::vector<fb::EventT> out, rest;
    for (auto& e : events[s]) (e.type == type ? out : rest).push_back(std::move(e));
    events[s] = std::move(rest);
    return out;
  }
  std::vector<fb::OfferT> offers(StreamId s) {
    std::vector<fb::OfferT> out;
    for (auto& e : take(s, fb::EventType::OFFERS))
      for (auto& o : e.offers->offers) out.push_back(std::move(*o));
    return out;
  }
  std::vector<fb::TaskStatusT> updates(StreamId s) {
    std::vector<fb::TaskStatusT> out;
    for (auto& e : take(s, fb::EventType::UPDATE)) out.push_back(std::move(*e.update->status));
    return out;
  }
  std::string error(StreamId s) {
    const auto e = take(s, fb::EventType::ERROR);
    return e.empty() ? "" : e[0].error->message;
  }
  static fb::TaskInfoT task(const std::string& id, const std::string& agent_id,
                            std::string_view resources = "cpus:1;mem:100") {
    fb::TaskInfoT t;
    t.name = id;
    t.task_id = id;
    t.agent_id = agent_id;
    t.resources = wire(resources);
    t.command = std::make_unique<fb::CommandInfoT>();
    t.command->value = "sleep 1000";
    return t;
  }
  static std::unique_ptr<fb::OperationT> launch_op(std::vector<fb::TaskInfoT> tasks) {
    auto op = std::make_unique<fb::OperationT>();
    op->type = fb::OperationType::LAUNCH;
    op->launch = std::make_unique<fb::LaunchT>();
    for (auto& t : tasks) op->launch->task_infos.push_back(std::make_unique<fb::TaskInfoT>(std::move(t)));
    return op;
  }
  static fb::CallT accept(const std::string& framework, std::vector<std::string> offer_ids,
                          std::vector<fb::TaskInfoT> tasks, double refuse = 5) {
    auto c = make_call(framework, fb::CallType::ACCEPT);
    c.accept = std::make_unique<fb::AcceptT>();
    c.accept->offer_ids = std::move(offer_ids);
    c.accept->operations.push_back(launch_op(std::move(tasks)));
    c.accept->filters = std::make_unique<fb::FiltersT>();
    c.accept->filters->refuse_seconds = refuse;
    return c;
  }
  Status decline(const std::string& framework, std::string offer, std::optional<double> seconds = {}) {
    auto c = make_call(framework, fb::CallType::DECLINE);
    c.decline = std::make_unique<fb::DeclineT>();
    c.decline->offer_ids.push_back(std::move(offer));
    if (seconds) {
      c.decline->filters = std::make_unique<fb::FiltersT>();
      c.decline->filters->refuse_seconds = *seconds;
    }
    return call(std::move(c));
  }
  Status kill(const std::string& framework, const std::string& id, const std::string& agent_id = {}) {
    auto c = make_call(framework, fb::CallType::KILL);
    c.kill = std::make_unique<fb::KillT>();
    c.kill->task_id = id;
    c.kill->agent_id = agent_id;
    return call(std::move(c));
  }
  Status acknowledge(const std::string& framework, const std::string& agent_id, const std::string& id, std::uint8_t n) {
    auto c = make_call(framework, fb::CallType::ACKNOWLEDGE);
    c.acknowledge = std::make_unique<fb::AcknowledgeT>();
    c.acknowledge->agent_id = agent_id;
    c.acknowledge->task_id = id;
    c.acknowledge->uuid = uuid(n);
    return call(std::move(c));
  }
  Status reconcile(const std::string& framework, std::vector<std::pair<std::string, std::string>> tasks = {}) {
    auto c = make_call(framework, fb::CallType::RECONCILE);
    c.reconcile = std::make_unique<fb::ReconcileT>();
    for (auto& [t, a] : tasks) {
      auto r = std::make_unique<fb::ReconcileTaskT>();
      r->task_id = t;
      r->agent_id = a;
      c.reconcile->tasks.push_back(std::move(r));
    }
    return call(std::move(c));
  }
  // One agent on link 1, one framework, one running task "t".
  struct Running {
    StreamId stream;
    std::string framework, agent;
  };
  Running run_one(fb::FrameworkInfoT i = info()) {
    Running r;
    r.stream = subscribe(std::move(i));
    r.framework = id_of(r.stream);
    r.agent = join(1);
    alive.insert(1);
    const auto o = offers(r.stream);
    EXPECT_EQ(o.size(), 1u);
    EXPECT_TRUE(call(accept(r.framework, {o.at(0).id}, {task("t", r.agent)})));
    update(1, r.framework, "t", S::TASK_RUNNING, 1);
    EXPECT_TRUE(acknowledge(r.framework, r.agent, "t", 1));
    updates(r.stream);
    offers(r.stream);
    return r;
  }
  static fb::link::KnownTaskT known(const std::string& framework, const std::string& id, const std::string& agent_id,
                                    S state) {
    fb::link::KnownTaskT k;
    k.framework_id = framework;
    k.info = std::make_unique<fb::TaskInfoT>(task(id, agent_id));
    k.state = k.status_state = state;
    k.status = std::make_unique<fb::TaskStatusT>();
    k.status->task_id = id;
    k.status->state = state;
    return k;
  }
  fb::link::RegisterT with_tasks(const std::string& agent_id, std::vector<fb::link::KnownTaskT> tasks,
                                 std::string_view resources = "cpus:4;mem:4096") {
    auto r = registration(resources, agent_id);
    std::set<std::string> frameworks;
    for (auto& t : tasks) {
      frameworks.insert(t.framework_id);
      r.tasks.push_back(std::make_unique<fb::link::KnownTaskT>(std::move(t)));
    }
    for (const auto& f : frameworks) {
      auto k = std::make_unique<fb::link::KnownFrameworkT>();
      k->info = std::make_unique<fb::FrameworkInfoT>(info(f));
      r.frameworks.push_back(std::move(k));
    }
    return r;
  }

  // Offers each agent whole, in turn, to the active frameworks; keeps filters and the sums of what is held.
  struct Mirror {
    struct Agent {
      std::vector<fb::allocator::Quantity> available;
      bool active = true;
    };
    struct Framework {
      std::vector<std::uint32_t> roles, suppressed;
      bool active = false;
    };
    std::map<std::uint32_t, Agent> agents;
    std::map<std::uint32_t, Framework> frameworks;
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::map<std::uint32_t, std::uint64_t>>
        filters;  // (framework, role) -> agent -> until
    std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::int64_t> held;
    std::size_t turn = 0;
    bool idle = false;

    void apply(Bytes bytes) {
      const auto* d = view<fb::allocator::Deltas>(bytes);
      ASSERT_TRUE(d);
      if (d->reset()) *this = Mirror{.idle = idle};
      if (d->frameworks())
        for (const auto* f : *d->frameworks()) {
          if (f->gone()) {
            frameworks.erase(f->id());
            std::erase_if(held, [&](const auto& h) { return std::get<0>(h.first) == f->id(); });
            continue;
          }
          auto& x = frameworks[f->id()];
          x.roles.assign(f->roles()->begin(), f->roles()->end());
          x.suppressed.assign(f->suppressed()->begin(), f->suppressed()->end());
          x.active = f->active();
        }
      if (d->unfilters())
        for (const auto* u : *d->unfilters())
          std::erase_if(filters, [&](const auto& f) {
            return f.first.first == u->framework() && (!u->role() || f.first.second == u->role());
          });
      if (d->agents())
        for (const auto* a : *d->agents()) {
          if (a->gone()) {
            EXPECT_EQ(agents.erase(a->id()), 1u) << "an unknown agent is gone";
            for (auto& [taker, of] : filters) of.erase(a->id());
            continue;
          }
          EXPECT_TRUE(agents.contains(a->id()) || a->total()) << "a new agent without total";
          auto& x = agents[a->id()];
          x.available.clear();
          if (a->available())
            for (const auto* q : *a->available()) x.available.push_back(*q);
          x.active = a->active();
        }
      if (d->held())
        for (const auto* h : *d->held())
          if (frameworks.contains(h->framework())) held[{h->framework(), h->role(), h->name()}] += h->amount();
      for (const auto& [k, v] : held) EXPECT_GE(v, 0) << "a framework holds less than nothing";
      if (d->filters())
        for (const auto* f : *d->filters()) filters[{f->framework(), f->role()}][f->agent()] = f->until_ns();
    }
    Buffer round(Instant now) {
      fb::allocator::RoundT r;
      std::uint64_t wake = 0;
      std::vector<std::pair<std::uint32_t, std::uint32_t>> takers;
      for (const auto& [id, f] : frameworks)
        if (f.active)
          for (const auto role : f.roles)
            if (std::find(f.suppressed.begin(), f.suppressed.end(), role) == f.suppressed.end())
              takers.emplace_back(id, role);
      for (auto& [id, a] : agents) {
        if (idle || !a.active || takers.empty()) continue;
        for (std::size_t i = 0; i < takers.size(); ++i) {
          const auto t = takers[(turn + i) % takers.size()];
          const auto may = [&](const fb::allocator::Quantity& q) { return q.role() == 0 || q.role() == t.second; };
          if (std::none_of(a.available.begin(), a.available.end(), may)) continue;
          if (filters.contains(t) && filters[t].contains(id) &&
              filters[t][id] > static_cast<std::uint64_t>(now.count())) {
            if (!wake || filters[t][id] < wake) wake = filters[t][id];
            continue;
          }
          r.grants.emplace_back(id, t.first, t.second, 0, 0, 0);
          std::erase_if(a.available, may);
          ++turn;
        }
      }
      r.wake_ns = wake;
      return pack(r);
    }
  };

  CoreOptions options;
  std::unique_ptr<Core> core;
  Instant now{1s};
  Instant timer = Instant::max();
  Effects effects;
  std::map<std::string, Buffer> records;
  std::deque<std::pair<Cookie, std::vector<store::Op>>> waiting;
  bool hold_store = false, fail_store = false, hold_round = false, round_due = false;
  std::unique_ptr<Error> round_failure;
  std::unique_ptr<Buffer> forged;
  int rounds = 0;
  Mirror mirror;
  std::map<StreamId, std::vector<fb::EventT>> events;
  std::map<StreamId, Error> ended;
  std::map<LinkId, std::vector<fb::link::ToAgentT>> frames;
  std::set<LinkId> dropped, alive;
  std::map<RequestId, Status> answers;
  StreamId last_stream = 0;
  RequestId last_request = 0;
};

}  // namespace gantry::master
