#include "tests/sim/sim_framework.hpp"

#include "kernel/resource/wire.hpp"

#include <gantry/framework_generated.h>

namespace gantry::sim {
namespace {

using S = fb::TaskState;

bool terminal(S s) {
  switch (s) {
    case S::TASK_FINISHED: case S::TASK_FAILED: case S::TASK_KILLED: case S::TASK_LOST: case S::TASK_ERROR:
    case S::TASK_DROPPED: case S::TASK_GONE: case S::TASK_GONE_BY_OPERATOR: return true;
    default: return false;
  }
}

// States of one container only move up.
int rank(S s) {
  if (terminal(s)) return 3;
  if (s == S::TASK_KILLING) return 2;
  if (s == S::TASK_RUNNING) return 1;
  return 0;
}

}  // namespace

SimFramework::SimFramework(World& world, std::size_t number) : world_(world), number_(number) {
  role_ = number == 0 ? "*" : "role-" + std::to_string(number);
  partition_aware_ = world.random.chance(70);
}

void SimFramework::start() {
  subscribe_later(world_.random.between(1ms, 2s));
  live();
}

void SimFramework::subscribe_later(Nanos d) {
  world_.loop.after(d, [this, session = session_] {
    if (session == session_ && !subscribed_) subscribe();
  });
}

void SimFramework::subscribe() {
  auto* m = world_.master();
  if (!m) return subscribe_later(world_.random.between(500ms, 2s));
  fb::CallT c;
  c.type = fb::CallType::SUBSCRIBE;
  c.framework_id = id_;
  c.subscribe = std::make_unique<fb::SubscribeT>();
  auto info = std::make_unique<fb::FrameworkInfoT>();
  info->name = "sim-" + std::to_string(number_);
  info->user = "nobody";
  info->id = id_;
  info->failover_timeout = 7.0 * 24 * 3600;
  info->checkpoint = true;
  info->roles.push_back(role_);
  info->capabilities.push_back(fb::FrameworkCapability::MULTI_ROLE);
  if (partition_aware_) info->capabilities.push_back(fb::FrameworkCapability::PARTITION_AWARE);
  if (number_ % 2) info->capabilities.push_back(fb::FrameworkCapability::TASK_KILLING_STATE);
  c.subscribe->framework_info = std::move(info);
  const std::uint64_t session = ++session_;
  master::Master::Subscriber s;
  s.on_event = [this, session](const Buffer& b) {
    // The framework is another program: what it hears, it hears later.
    auto copy = std::make_shared<std::vector<std::uint8_t>>(b.data(), b.data() + b.size());
    world_.loop.post([this, session, copy] { on_event(session, Bytes(*copy)); });
  };
  s.on_end = [this, session](const Error& e) {
    world_.loop.post([this, session, e] { on_end(session, e); });
  };
  const Buffer body = pack(c);
  stream_ = m->subscribe(body, std::move(s));
  // If the answer never comes, try again.
  world_.loop.after(30s, [this, session] {
    if (session == session_ && !subscribed_) {
      if (auto* now = world_.master(); now && stream_) now->unsubscribe(stream_);
      ++session_;
      subscribe_later(1s);
    }
  });
}

void SimFramework::on_end(std::uint64_t session, const Error& error) {
  if (session != session_) return;
  subscribed_ = false;
  ++session_;
  if (error.code == Code::not_found) world_.violated("framework " + id_ + " was removed: " + error.message);
  subscribe_later(world_.random.between(100ms, 3s));
}

void SimFramework::master_gone() {
  subscribed_ = false;
  stream_ = 0;
  ++session_;
  subscribe_later(world_.random.between(100ms, 3s));
}

void SimFramework::disconnect() {
  if (!subscribed_) return;
  world_.trace("framework " + std::to_string(number_) + " disconnects");
  if (auto* m = world_.master()) m->unsubscribe(stream_);
  master_gone();
}

void SimFramework::fail_over() {
  if (!subscribed_) return;
  world_.trace("framework " + std::to_string(number_) + " fails over");
  subscribed_ = false;
  ++session_;
  subscribe();  // while the old stream is still open
}

void SimFramework::call(fb::CallT c, std::function<void(Status)> done) {
  c.framework_id = id_;
  const Buffer body = pack(c);
  auto copy = std::make_shared<std::vector<std::uint8_t>>(body.data(), body.data() + body.size());
  const std::uint64_t session = session_;
  const auto deliver = [this, session, copy, done] {
    auto* m = world_.master();
    if (!m || session != session_) {
      if (done) done(fail(Code::unavailable, "no master"));
      return;
    }
    m->call(Bytes(*copy), done);
  };
  const bool idempotent = c.type == fb::CallType::ACKNOWLEDGE || c.type == fb::CallType::KILL || c.type == fb::CallType::RECONCILE;
  world_.loop.post(deliver);
  if (world_.options.faults && idempotent && world_.random.chance(3)) world_.loop.post(deliver);
}

void SimFramework::on_event(std::uint64_t session, Bytes bytes) {
  if (session != session_) return;
  const auto* e = view<fb::Event>(bytes);
  if (!e) return world_.violated("framework " + id_ + " got a malformed event");
  switch (e->type()) {
    case fb::EventType::SUBSCRIBED:
      if (id_.empty()) id_ = text(e->subscribed()->framework_id());
      else if (id_ != text(e->subscribed()->framework_id())) world_.violated("framework " + id_ + " was given another id");
      subscribed_ = true;
      world_.loop.after(world_.random.between(1s, 10s), [this, session] {
        if (session == session_) reconcile();
      });
      break;
    case fb::EventType::OFFERS:
      for (const auto* o : *e->offers()->offers()) on_offer(*o);
      break;
    case fb::EventType::UPDATE: on_update(*e->update()->status()); break;
    case fb::EventType::ERROR: world_.trace("framework " + id_ + " hears: " + std::string(text(e->error()->message()))); break;
    default: break;
  }
}

void SimFramework::on_offer(const fb::Offer& offer) {
  auto& random = world_.random;
  ++world_.statistics.offers;
  for (const auto* r : *offer.resources())
    if (const auto* stack = r->reservations(); stack && stack->size() && text(stack->Get(stack->size() - 1)->role()) != role_)
      world_.violated("framework " + id_ + " of role " + role_ + " was offered a reservation of another role");
  auto pool = resource::from_wire(offer.resources());
  if (!pool) return world_.violated("framework " + id_ + " was offered what is no resource: " + pool.error().message);
  *pool = pool->unallocated();
  fb::CallT c;
  const std::string offer_id{text(offer.id())};
  if (resting_ || random.chance(30)) {
    c.type = fb::CallType::DECLINE;
    c.decline = std::make_unique<fb::DeclineT>();
    c.decline->offer_ids.push_back(offer_id);
    c.decline->filters = std::make_unique<fb::FiltersT>();
    c.decline->filters->refuse_seconds = resting_ ? 600.0 : static_cast<double>(random.below(60));
    call(std::move(c));
    return;
  }
  if (random.chance(5)) return;  // sits on it; it expires, or it is rescinded
  c.type = fb::CallType::ACCEPT;
  c.accept = std::make_unique<fb::AcceptT>();
  c.accept->offer_ids.push_back(offer_id);
  resource::Reservation ours;
  ours.dynamic = true;
  ours.role = role_;
  if (role_ != "*" && random.chance(10)) {
    const auto wanted = resource::Resources::parse("cpus:0." + std::to_string(random.between(1, 9)) + ";mem:64");
    if (auto after = pool->reserve(wanted->push_reservation(ours))) {
      auto op = std::make_unique<fb::OperationT>();
      op->type = fb::OperationType::RESERVE;
      op->reserve = std::make_unique<fb::ReserveT>();
      op->reserve->resources = resource::to_wire(wanted->push_reservation(ours));
      c.accept->operations.push_back(std::move(op));
      *pool = std::move(*after);
    }
  } else if (const auto mine = pool->reserved(); !mine.empty() && random.chance(20)) {
    auto op = std::make_unique<fb::OperationT>();
    op->type = fb::OperationType::UNRESERVE;
    op->unreserve = std::make_unique<fb::UnreserveT>();
    op->unreserve->resources = resource::to_wire(mine);
    c.accept->operations.push_back(std::move(op));
    if (auto after = pool->unreserve(mine)) *pool = std::move(*after);
  }
  auto op = std::make_unique<fb::OperationT>();
  op->type = fb::OperationType::LAUNCH;
  op->launch = std::make_unique<fb::LaunchT>();
  std::string group;
  const auto of_executor = resource::Resources::parse("cpus:0.1;mem:32;disk:1");
  if (random.chance(20) && pool->contains(*of_executor)) {
    *pool -= *of_executor;
    group = std::to_string(++next_group_);
    op->type = fb::OperationType::LAUNCH_GROUP;
    op->launch_group = std::make_unique<fb::LaunchGroupT>();
    op->launch_group->executor = std::make_unique<fb::ExecutorInfoT>();
    op->launch_group->executor->type = fb::ExecutorType::DEFAULT;
    op->launch_group->executor->executor_id = "pod-" + std::to_string(random.below(2));  // which may live, or be ending
    op->launch_group->executor->resources = resource::to_wire(*of_executor);
  }
  std::vector<std::string> ids;
  const std::uint64_t n = random.between(1, 4);
  for (std::uint64_t i = 0; i < n; ++i) {
    // Sometimes more than there is: the master must say ERROR.
    const bool greedy = random.chance(2);
    auto wanted = *resource::Resources::parse("cpus:" + std::to_string(greedy ? 99 : random.between(0, 1)) + "." + std::to_string(random.between(1, 9)) +
                                              ";mem:" + std::to_string(32 * random.between(1, 8)));
    if (random.chance(50) && !pool->reserved().empty()) wanted = wanted.push_reservation(ours);
    if (!pool->contains(wanted)) {
      if (!greedy) break;
    } else {
      *pool -= wanted;
    }
    auto t = std::make_unique<fb::TaskInfoT>();
    t->name = "sim";
    t->task_id = "t" + std::to_string(number_) + "-" + std::to_string(++next_task_);
    t->agent_id = text(offer.agent_id());
    t->command = std::make_unique<fb::CommandInfoT>();
    t->command->value = "true";
    t->resources = resource::to_wire(wanted);
    SimTask& task = tasks_[t->task_id];
    task.id = t->task_id;
    task.agent_id = t->agent_id;
    task.group = group;
    ids.push_back(t->task_id);
    (group.empty() ? op->launch->task_infos : op->launch_group->task_infos).push_back(std::move(t));
  }
  if (!group.empty()) op->launch.reset();
  c.accept->operations.push_back(std::move(op));
  c.accept->filters = std::make_unique<fb::FiltersT>();
  c.accept->filters->refuse_seconds = static_cast<double>(random.below(10));
  call(std::move(c), [this, ids](Status s) {
    for (const auto& id : ids) {
      if (s) {
        tasks_[id].launched = true;
        ++world_.statistics.launched;
      } else if (!tasks_[id].launched) {
        tasks_.erase(id);
      }
    }
  });
}

void SimFramework::on_update(const fb::TaskStatus& status) {
  ++world_.statistics.updates;
  const std::string id{text(status.task_id())};
  const S state = status.state();
  const auto it = tasks_.find(id);
  const bool has_uuid = status.uuid() && status.uuid()->size();
  if (it == tasks_.end()) return world_.violated("framework " + id_ + " heard of task " + id + " it never launched");
  SimTask& t = it->second;
  if (world_.options.trace)
    world_.trace("framework " + std::to_string(number_) + " hears " + id + " " + fb::EnumNameTaskState(state) + (has_uuid ? "" : " without uuid") +
                 (status.reason() ? std::string(" ") + fb::EnumNameReason(*status.reason()) : std::string()) + " " + std::string(text(status.message())));
  t.launched = true;
  t.last = state;
  if (has_uuid) {
    std::vector<std::uint8_t> uuid(status.uuid()->begin(), status.uuid()->end());
    const bool fresh = t.uuids.insert(uuid).second;
    if (fresh) {
      if (!t.final_uuid.empty())
        world_.violated("task " + id + " got " + fb::EnumNameTaskState(state) + " after its end as " + fb::EnumNameTaskState(t.final_state));
      if (t.terminal && t.final_uuid.empty() && !terminal(state))
        world_.violated("task " + id + " got " + fb::EnumNameTaskState(state) + " although the master had declared " +
                        fb::EnumNameTaskState(t.final_state));
      if (rank(state) < t.rank)
        world_.violated("task " + id + " went back to " + fb::EnumNameTaskState(state));
      t.rank = std::max(t.rank, rank(state));
      if (terminal(state)) {
        t.terminal = true;
        t.final_state = state;
        t.final_uuid = uuid;
        ++world_.statistics.terminal;
      }
    }
    // The acknowledgement may be late, or lost with the framework.
    fb::CallT ack;
    ack.type = fb::CallType::ACKNOWLEDGE;
    ack.acknowledge = std::make_unique<fb::AcknowledgeT>();
    ack.acknowledge->agent_id = text(status.agent_id());
    ack.acknowledge->task_id = id;
    ack.acknowledge->uuid = uuid;
    auto shared = std::make_shared<fb::CallT>(std::move(ack));
    const Nanos delay = world_.random.chance(90) ? world_.random.between(Nanos(0), Nanos(50ms)) : world_.random.between(1s, 60s);
    world_.loop.after(delay, [this, shared, session = session_] {
      if (session == session_) call(std::move(*shared));
    });
    return;
  }
  // The master's own word. LOST of a framework that does not know partitions may be taken back when the agent returns;
  // so may a state told in a reconciliation. ERROR, DROPPED, GONE and KILLED are for ever.
  if (state == S::TASK_ERROR || state == S::TASK_DROPPED || state == S::TASK_GONE || state == S::TASK_GONE_BY_OPERATOR) {
    if (!t.terminal) ++world_.statistics.terminal;
    t.terminal = true;
    if (t.final_uuid.empty()) t.final_state = state;
  } else if (state == S::TASK_LOST && status.reason() && *status.reason() == fb::Reason::REASON_INVALID_OFFERS) {
    if (!t.terminal) ++world_.statistics.terminal;
    t.terminal = true;
    t.final_state = state;
  }
}

void SimFramework::reconcile() {
  if (!subscribed_) return;
  fb::CallT c;
  c.type = fb::CallType::RECONCILE;
  c.reconcile = std::make_unique<fb::ReconcileT>();
  if (world_.random.chance(50)) {
    for (const auto& [id, t] : tasks_) {
      if (t.terminal) continue;
      auto r = std::make_unique<fb::ReconcileTaskT>();
      r->task_id = id;
      r->agent_id = t.agent_id;
      c.reconcile->tasks.push_back(std::move(r));
    }
    if (c.reconcile->tasks.empty()) return;
  }
  call(std::move(c));
}

void SimFramework::kill_something() {
  std::vector<SimTask*> live;
  for (auto& [id, t] : tasks_)
    if (t.launched && !t.terminal) live.push_back(&t);
  if (live.empty()) return;
  SimTask& t = *live[world_.random.below(live.size())];
  t.kill_asked = true;
  fb::CallT c;
  c.type = fb::CallType::KILL;
  c.kill = std::make_unique<fb::KillT>();
  c.kill->task_id = t.id;
  if (world_.random.chance(50)) c.kill->agent_id = t.agent_id;
  call(std::move(c));
}

void SimFramework::live() {
  world_.loop.after(world_.random.between(5s, 60s), [this] {
    if (subscribed_ && !hushed_) {
      const auto dice = world_.random.below(100);
      if (dice < 30) kill_something();
      else if (dice < 45) reconcile();
      else if (dice < 55 && !resting_) {
        fb::CallT c;
        c.type = fb::CallType::REVIVE;
        call(std::move(c));
      } else if (dice < 60 && !resting_) {
        fb::CallT c;
        c.type = fb::CallType::SUPPRESS;
        call(std::move(c));
        world_.loop.after(world_.random.between(5s, 120s), [this] {
          fb::CallT r;
          r.type = fb::CallType::REVIVE;
          if (subscribed_) call(std::move(r));
        });
      }
    }
    live();
  });
}

}  // namespace gantry::sim
