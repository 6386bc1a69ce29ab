// Seeded random lives of a small cluster: agents and frameworks that come, go, launch, end and lose their links, a store and an
// allocator that are slow or fail, masters that crash.
#pragma once

#include "driver.hpp"

#include <random>

namespace gantry::master {

struct Life {
  explicit Life(unsigned seed) : random(seed) {
    c.options.offer_timeout = 30s;
    c.options.completed_tasks = 5;
    c.options.unreachable_tasks = 3;
    c.restart();
  }
  struct FakeAgent {
    std::string id;
    LinkId link = 0;
    std::map<std::string, std::pair<std::string, S>> tasks;  // id -> framework, state
  };
  struct FakeFramework {
    std::string id;
    StreamId stream = 0;
    std::vector<fb::OfferT> offers;
    bool leaving = false;  // it has gone when its stream ends; until then its removal may have failed
  };
  unsigned pick(std::size_t n) { return static_cast<unsigned>(random() % n); }

  void connect(FakeAgent& a) {
    if (a.id.empty() && a.link) return;  // still waits for its id; a second try would be a second agent
    a.link = ++last_link;
    std::vector<fb::link::KnownTaskT> known;
    for (const auto& [id, t] : a.tasks) {
      auto k = Cluster::known(t.first, id, a.id, t.second);
      if (terminal(t.second)) k.status_uuid = Cluster::uuid(3);
      known.push_back(std::move(k));
    }
    c.join(a.link, c.with_tasks(a.id, std::move(known), pick(4) ? "cpus:4;mem:4096;disk:1000" : "cpus:3;mem:4096;disk:1000"));
  }
  // What the agents do with what they were told.
  void listen(FakeAgent& a) {
    if (!a.link) return;
    if (a.id.empty()) a.id = c.registered_as(a.link);
    for (auto& r : c.heard<fb::link::RunTaskT>(a.link)) a.tasks[r.task->task_id] = {r.framework->id, S::TASK_RUNNING};
    for (auto& k : c.heard<fb::link::KillTaskT>(a.link))
      if (a.tasks.contains(k.task_id) && !terminal(a.tasks[k.task_id].second)) end(a, k.task_id, S::TASK_KILLED);
    for (auto& f : c.heard<fb::link::RemoveFrameworkT>(a.link))
      std::erase_if(a.tasks, [&](const auto& t) { return t.second.first == f.framework_id; });
    for (auto& k : c.heard<fb::link::AckUpdateT>(a.link))
      if (a.tasks.contains(k.task_id) && terminal(a.tasks[k.task_id].second)) a.tasks.erase(k.task_id);
    for (auto& p : c.heard<fb::link::PingT>(a.link)) {
      (void)p;
      c.agent(a.link, fb::link::PongT{});
    }
    if (c.dropped.contains(a.link)) a.link = 0;
  }
  void end(FakeAgent& a, const std::string& task, S state) {
    a.tasks[task].second = state;
    if (a.link) c.update(a.link, a.tasks[task].first, task, state, 3);
  }
  void listen(FakeFramework& f) {
    if (!f.stream) return;
    if (f.id.empty()) f.id = c.id_of(f.stream);
    for (auto& e : c.take(f.stream, fb::EventType::RESCIND))
      std::erase_if(f.offers, [&](const auto& o) { return o.id == e.rescind->offer_id; });
    for (auto& o : c.offers(f.stream)) f.offers.push_back(std::move(o));
    for (auto& u : c.updates(f.stream))
      if (!u.uuid.empty()) (void)c.acknowledge(f.id, u.agent_id, u.task_id, u.uuid[0]);
    if (!c.ended.contains(f.stream)) return;
    if (f.leaving) {
      f = {};
    } else {
      f.stream = 0, f.offers.clear();
    }
  }
  void listen() {
    for (auto& a : agents) listen(a);
    for (auto& f : frameworks) listen(f);
  }

  void step() {
    FakeAgent& a = agents[pick(agents.size())];
    FakeFramework& f = frameworks[pick(frameworks.size())];
    switch (pick(19)) {
      case 0:
        if (a.link) c.apply(LinkClosed{a.link});
        a.link = 0;
        break;
      case 1:
      case 2:
        connect(a);
        break;  // also on top of a link that seems open
      case 3:
        if (f.stream) c.apply(StreamClosed{f.stream});
        f.stream = 0;
        f.offers.clear();
        break;
      case 4:
      case 5: {
        auto info = Cluster::info(f.id, pick(3) ? 500 : 0, pick(2) == 0);
        if (pick(2)) info.role = "eng";
        f.offers.clear();
        f.stream = c.subscribe(std::move(info));
        break;
      }
      case 6:
        c.hold_store = !c.hold_store;
        break;
      case 7:
        c.hold_round = !c.hold_round;
        break;
      case 8:
        c.fail_store = pick(4) == 0;
        break;
      case 9:
        c.advance(std::chrono::seconds(pick(40)));
        break;
      case 10:
        if (pick(12) == 0) restart();
        break;
      case 14:
        operate(a);
        break;
      case 15:
        quota();
        break;
      case 11:
        if (f.stream && pick(10) == 0) (void)c.call(Cluster::make_call(f.id, fb::CallType::TEARDOWN)), f.leaving = true;
        break;
      case 12:
        if (!a.tasks.empty())
          end(a, std::next(a.tasks.begin(), pick(a.tasks.size()))->first, pick(2) ? S::TASK_FINISHED : S::TASK_FAILED);
        break;
      case 13:
        if (!a.tasks.empty() && f.stream) (void)c.kill(f.id, a.tasks.begin()->first);
        break;
      default:
        if (f.stream && !f.offers.empty()) {
          const auto o = std::move(f.offers.back());
          f.offers.pop_back();
          if (pick(4) == 0) {
            (void)c.decline(f.id, o.id, pick(20));
          } else if (pick(4) == 0) {
            accept_with_bookings(f, o);
          } else {
            auto t = Cluster::task("t" + std::to_string(++last_task), o.agent_id);
            (void)c.call(Cluster::accept(f.id, {o.id}, {std::move(t)}, pick(10)));
          }
        } else if (f.stream) {
          (void)c.call(Cluster::make_call(f.id, pick(3) ? fb::CallType::REVIVE : fb::CallType::SUPPRESS));
        }
    }
    c.pump();
    listen();
  }
  // Operators and frameworks reserve and release, make and destroy volumes; most of it is refused.
  void operate(const FakeAgent& a) {
    const std::string role = pick(2) ? "eng" : "ops";
    const std::string id = "v" + std::to_string(pick(3));
    switch (pick(5)) {
      case 0:
      case 1:
        return (void)c.operate(Cluster::reserve_call(a.id, Cluster::list(Cluster::amount("cpus", 1, role), Cluster::amount("mem", 100 * (1 + pick(4)), role))));
      case 2:
        return (void)c.operate(Cluster::reserve_call(a.id, Cluster::list(Cluster::amount("cpus", 1, role)), true));
      case 3:
        (void)c.operate(Cluster::reserve_call(a.id, Cluster::list(Cluster::amount("disk", 64, role))));
        return (void)c.operate(Cluster::volumes_call(a.id, Cluster::list(Cluster::amount("disk", 64, role, id))));
      default:
        (void)c.operate(Cluster::volumes_call(a.id, Cluster::list(Cluster::amount("disk", 64, role, id)), true));
        return (void)c.operate(Cluster::reserve_call(a.id, Cluster::list(Cluster::amount("disk", 64, role)), true));
    }
  }
  void quota() {
    std::map<std::string, double> limits, guarantees;
    if (pick(3)) limits["cpus"] = pick(12);
    if (pick(3) == 0) limits["mem"] = 1000 * pick(12);
    if (limits.contains("cpus") && pick(2)) guarantees["cpus"] = pick(1 + static_cast<unsigned>(limits["cpus"]));
    (void)c.operate(Cluster::quota_call(pick(2) ? "eng" : "ops", std::move(limits), std::move(guarantees), pick(2) == 0));
  }
  void accept_with_bookings(const FakeFramework& f, const fb::OfferT& o) {
    auto call = Cluster::accept(f.id, {o.id}, {}, pick(10));
    call.accept->operations.clear();
    const auto add = [&](fb::OperationType type, std::unique_ptr<fb::ResourceT> r) {
      auto op = std::make_unique<fb::OperationT>();
      op->type = type;
      if (pick(2)) op->id = "op" + std::to_string(++last_task);
      if (type == fb::OperationType::RESERVE) {
        op->reserve = std::make_unique<fb::ReserveT>();
        op->reserve->resources.push_back(std::move(r));
      } else if (type == fb::OperationType::CREATE) {
        op->create = std::make_unique<fb::CreateVolumesT>();
        op->create->volumes.push_back(std::move(r));
      } else {
        op->destroy = std::make_unique<fb::DestroyVolumesT>();
        op->destroy->volumes.push_back(std::move(r));
      }
      call.accept->operations.push_back(std::move(op));
    };
    add(fb::OperationType::RESERVE, Cluster::amount("disk", 64, o.allocation_role));
    add(fb::OperationType::CREATE, Cluster::amount("disk", 64, o.allocation_role, "f" + std::to_string(pick(3)), pick(3) == 0));
    if (pick(2)) add(fb::OperationType::DESTROY, Cluster::amount("disk", 64, o.allocation_role, "f" + std::to_string(pick(3))));
    auto t = Cluster::task("t" + std::to_string(++last_task), o.agent_id);
    if (pick(2)) t.resources.push_back(Cluster::amount("disk", 64, o.allocation_role, "f" + std::to_string(pick(3))));
    std::vector<fb::TaskInfoT> tasks;
    tasks.push_back(std::move(t));
    call.accept->operations.push_back(Cluster::launch_op(std::move(tasks)));
    (void)c.call(std::move(call));
  }
  void restart() {
    c.hold_store = c.hold_round = c.fail_store = false;
    c.options.run_id = "run" + std::to_string(++runs);
    c.restart();
    for (auto& a : agents) a.link = 0;
    for (auto& f : frameworks) f.stream = 0, f.offers.clear();
  }
  void settle() {
    c.hold_store = c.hold_round = c.fail_store = false;
    c.pump();
    for (auto& f : frameworks) {
      if (!f.id.empty() && !f.stream) {
        f.stream = c.subscribe(Cluster::info(f.id, 500));
        if (c.ended.contains(f.stream)) f = {};
      }
    }
    for (int i = 0; i < 10; ++i) {
      listen();
      for (auto& a : agents)
        if (!a.link) connect(a);
      for (auto& a : agents)
        for (auto& [id, t] : a.tasks)
          if (a.link && terminal(t.second)) c.update(a.link, t.first, id, t.second, 3);
      c.pump();
    }
    listen();
  }

  Cluster c;
  std::mt19937 random;
  std::vector<FakeAgent> agents{3};
  std::vector<FakeFramework> frameworks{3};
  LinkId last_link = 0;
  int last_task = 0, runs = 0;
};

}  // namespace gantry::master
