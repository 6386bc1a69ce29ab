#include "cluster.hpp"

#include <algorithm>

namespace gantry::gateway_mesos {

namespace st = fb::state;

namespace {
Bytes bytes(const flatbuffers::Vector<std::uint8_t>* v) { return v ? Bytes(v->data(), v->size()) : Bytes(); }

}  // namespace

fb::master::MaintenanceScheduleT maintenance_schedule(const View& v) {
  return v.maintenance && v.maintenance->schedule && v.verdicts.allows("get_maintenance_schedule", {}) ? *v.maintenance->schedule : fb::master::MaintenanceScheduleT();
}
fb::master::MaintenanceStatusT maintenance_status(const View& v) {
  return v.maintenance && v.maintenance->status && v.verdicts.allows("get_maintenance_status", {}) ? *v.maintenance->status : fb::master::MaintenanceStatusT();
}

void Cluster::clear() {
  agents_.clear();
  frameworks_.clear();
  over_.clear();
  offers_.clear();
  executors_.clear();
  inverse_offers_.clear();
  maintenance_.reset();
  roles_.clear();
  operations_.clear();
  master_id_.clear();
  version_ = live_ = 0;
  begun_ = whole_ = converged_ = false;
  view_.reset();
}

Status Cluster::apply(Bytes chunk) {
  const auto* c = gantry::view<st::Chunk>(chunk);
  if (!c) return fail(Code::data_loss, "malformed chunk of the cluster's state");
  if (const auto* b = c->begin()) {
    clear();
    begun_ = true;
    master_id_ = text(b->master_id());
    elected_ns_ = b->elected_ns();
    keep_frameworks_ = b->completed_frameworks();
    keep_tasks_ = b->completed_tasks();
    version_ = c->version();
  }
  if (!begun_ || c->from() != version_)
    return fail(Code::data_loss, "the cluster's state has a gap: version " + std::to_string(version_) + " is followed by a chunk from " +
                                     std::to_string(c->from()));
  if (c->changes()) {
    for (const auto* x : *c->changes()) {
      if (x->agent()) on_agent(*x->agent());
      if (x->framework()) on_framework(*x->framework());
      if (x->task()) on_task(*x->task(), c->snapshot());
      if (x->update()) on_update(*x->update());
      if (x->offer()) on_offer(*x->offer());
      if (x->inverse_offer() && x->inverse_offer()->inverse_offer()) on_inverse_offer(*x->inverse_offer()->inverse_offer());
      if (x->maintenance()) maintenance_.reset(x->maintenance()->UnPack());
      if (x->role()) on_role(*x->role());
      if (x->operation()) on_operation(*x->operation());
      if (x->executor()) on_executor(*x->executor());
      if (x->gone()) on_gone(*x->gone());
    }
  }
  version_ = c->version();
  converged_ = c->converged();
  if (c->snapshot()) whole_ = !c->more();
  view_.reset();
  return ok;
}

Cluster::Framework& Cluster::framework(std::string_view id) {
  const auto it = frameworks_.find(id);
  if (it != frameworks_.end()) return it->second;
  Framework& f = frameworks_[std::string(id)];
  f.id = std::make_shared<const std::string>(id);
  return f;
}

void Cluster::place(Framework& f, TaskPtr row) {
  const std::string_view id = row->id();
  if (auto known = f.tasks.extract(id)) {  // its key lies in the row that goes
    known.mapped() = std::move(row);
    known.key() = id;
    f.tasks.insert(std::move(known));
  } else {
    f.tasks.emplace(id, std::move(row));
  }
}

void Cluster::on_agent(const st::Agent& a) {
  auto row = std::make_shared<AgentRow>();
  st::AgentT t;
  a.UnPackTo(&t);
  row->info = Own<fb::AgentInfo>(bytes(a.info()));
  if (!row->info) return;
  t.info.clear();
  row->row = Own<st::Agent>(pack(t));
  row->id = text(row->info->id());
  AgentPtr& at = agents_[row->id];
  const bool was = at && at->registered();
  at = std::move(row);
  if (!listener_ || !whole_) return;
  const AgentPtr agent = at;
  if (agent->registered() && !was) listener_->agent_added(agent);
  if (!agent->registered() && was) listener_->agent_removed(agent->id);
}

void Cluster::on_framework(const st::Framework& f) {
  auto row = std::make_shared<FrameworkRow>();
  row->info = Own<fb::FrameworkInfo>(bytes(f.info()));
  if (!row->info) return;
  st::FrameworkT t;
  f.UnPackTo(&t);
  t.info.clear();
  row->row = Own<st::Framework>(pack(t));
  row->id = text(row->info->id());
  Framework& at = framework(row->id);
  const FrameworkPtr was = at.row;
  const bool known = was && !was->row->completed();
  at.row = std::move(row);
  const FrameworkPtr now = at.row;
  if (f.completed()) over_[f.completed()] = now->id;
  while (over_.size() > keep_frameworks_) {
    frameworks_.erase(over_.begin()->second);
    over_.erase(over_.begin());
  }
  if (!listener_ || !whole_) return;
  if (f.completed()) listener_->framework_removed(now);
  else if (!known) listener_->framework_added(now);
  // Not for every SUPPRESS and REVIVE.
  else if (was->row->active() != f.active() || was->row->connected() != f.connected() ||
           was->row->reregistered_ns() != f.reregistered_ns() ||
           !std::equal(was->info.bytes().begin(), was->info.bytes().end(), now->info.bytes().begin(), now->info.bytes().end()))
    listener_->framework_updated(now);
}

void Cluster::on_task(const st::Task& t, bool snapshot) {
  Framework& f = framework(text(t.framework_id()));
  auto row = std::make_shared<TaskRow>();
  row->framework_id = f.id;
  row->info = Own<fb::TaskInfo>(bytes(t.info()));
  if (!row->info) return;
  row->state = t.state();
  row->launched_ns = t.launched_ns();
  row->absent = t.absent();
  row->completed = t.completed();
  Own<fb::TaskStatus> status(bytes(t.status()));
  const auto live = f.tasks.find(row->id());
  const bool known = live != f.tasks.end();
  bool news = false;
  // A completed task of the snapshot may only have the id of a live one.
  if (known && !(snapshot && t.completed())) {
    row->statuses = live->second->statuses;
    news = live->second->state != row->state;
  }
  row->add(status);
  const TaskPtr now = std::move(row);
  if (t.completed()) {
    if (known && !snapshot) {
      f.tasks.erase(live);
      --live_;
    }
    f.completed[t.completed()] = now;
    while (f.completed.size() > keep_tasks_) f.completed.erase(f.completed.begin());  // as the master does
  } else {
    place(f, now);
    if (!known) ++live_;
  }
  if (!listener_ || !whole_ || snapshot) return;
  if (!known) listener_->task_added(now);
  else if (news) listener_->task_updated(now, status && status->state() == now->state ? status : Own<fb::TaskStatus>());
}

void Cluster::on_update(const st::Update& u) {
  const auto f = frameworks_.find(text(u.framework_id()));
  if (f == frameworks_.end()) return;
  const auto it = f->second.tasks.find(text(u.task_id()));
  if (it == f->second.tasks.end()) return;
  auto row = std::make_shared<TaskRow>(*it->second);
  row->state = u.state();
  Own<fb::TaskStatus> status(bytes(u.status()));
  row->add(status);
  const TaskPtr now = std::move(row);
  it->second = now;  // with the same info, so its key stands
  if (listener_ && whole_) listener_->task_updated(now, status);
}

void Cluster::on_offer(const st::Offer& o) {
  auto row = std::make_shared<OfferRow>();
  row->id = text(o.id());
  row->framework_id = text(o.framework_id());
  row->agent_id = text(o.agent_id());
  row->role = text(o.role());
  st::OfferT t;
  o.UnPackTo(&t);
  row->row = Own<st::Offer>(pack(t));
  offers_[row->id] = std::move(row);
}

void Cluster::on_inverse_offer(const fb::InverseOffer& o) {
  inverse_offers_[std::string(text(o.id()))].reset(o.UnPack());
}

void Cluster::on_role(const st::Role& r) {
  auto row = std::make_shared<RoleRow>();
  row->weight = r.weight();
  if (r.quota()) {
    fb::master::QuotaConfigT q;
    r.quota()->UnPackTo(&q);
    row->quota = Own<fb::master::QuotaConfig>(pack(q));
  }
  roles_[std::string(text(r.name()))] = std::move(row);
}

void Cluster::on_operation(const st::Operation& o) {
  if (!o.operation() || !o.operation()->uuid()) return;
  fb::ops::OperationT t;
  o.operation()->UnPackTo(&t);
  operations_[std::string(t.uuid.begin(), t.uuid.end())] = Own<fb::ops::Operation>(pack(t));
}

void Cluster::on_executor(const st::Executor& e) {
  if (!e.info()) return;
  auto row = std::make_shared<ExecutorRow>();
  row->agent_id = text(e.agent_id());
  row->framework_id = text(e.framework_id());
  fb::ExecutorInfoT t;
  e.info()->UnPackTo(&t);
  const std::string id = t.executor_id;
  row->info = Own<fb::ExecutorInfo>(pack(t));
  std::array<std::string, 3> key = {row->framework_id, row->agent_id, id};
  executors_[std::move(key)] = std::move(row);
}

void Cluster::on_gone(const st::Gone& g) {
  if (g.executor_id()) {
    executors_.erase({std::string(text(g.framework_id())), std::string(text(g.agent_id())), std::string(text(g.executor_id()))});
    return;
  }
  if (g.role()) {
    if (const auto it = roles_.find(text(g.role())); it != roles_.end()) roles_.erase(it);
  }
  if (g.operation_uuid()) operations_.erase(std::string(g.operation_uuid()->begin(), g.operation_uuid()->end()));
  if (g.inverse_offer_id()) {
    if (const auto it = inverse_offers_.find(text(g.inverse_offer_id())); it != inverse_offers_.end()) inverse_offers_.erase(it);
  }
  if (g.offer_id()) {
    if (const auto it = offers_.find(text(g.offer_id())); it != offers_.end()) offers_.erase(it);
  }
  if (g.agent_id()) {
    if (const auto it = agents_.find(text(g.agent_id())); it != agents_.end()) {
      const AgentPtr was = it->second;
      agents_.erase(it);
      if (listener_ && whole_ && was->registered()) listener_->agent_removed(was->id);
    }
  }
  if (!g.framework_id()) return;
  const auto f = frameworks_.find(text(g.framework_id()));
  if (f == frameworks_.end()) return;
  if (g.task_id()) {
    live_ -= f->second.tasks.erase(text(g.task_id()));
  } else {
    const FrameworkPtr was = f->second.row;
    live_ -= f->second.tasks.size();
    frameworks_.erase(f);
    if (listener_ && whole_ && was) listener_->framework_removed(was);
  }
}

FrameworkPtr Cluster::framework_row(std::string_view id) const {
  const auto it = frameworks_.find(id);
  return it == frameworks_.end() ? nullptr : it->second.row;
}

AgentPtr Cluster::agent(std::string_view id) const {
  const auto it = agents_.find(id);
  return it == agents_.end() ? nullptr : it->second;
}

std::shared_ptr<const View> Cluster::view() const {
  if (view_) return view_;
  auto v = std::make_shared<View>();
  v->master_id = master_id_;
  v->elected_ns = elected_ns_;
  v->version = version_;
  v->converged = converged_;
  v->completed_frameworks = keep_frameworks_;
  v->completed_tasks = keep_tasks_;
  v->agents.reserve(agents_.size());
  for (const auto& [id, a] : agents_) v->agents.push_back(a);
  for (const auto& [id, f] : frameworks_) {
    if (!f.row) continue;
    View::Framework x;
    x.row = f.row;
    x.tasks.reserve(f.tasks.size());
    for (const auto& [tid, t] : f.tasks) (t->absent ? x.absent : x.tasks).push_back(t);
    for (const auto& [order, t] : f.completed) x.completed.push_back(t);
    (f.row->row->completed() ? v->completed : v->frameworks).push_back(std::move(x));
  }
  for (const auto& [id, o] : offers_) v->offers.push_back(o);
  for (const auto& [id, x] : executors_) v->executors.push_back(x);
  for (const auto& [id, o] : inverse_offers_) v->inverse_offers.push_back(o);
  v->maintenance = maintenance_;
  v->roles = roles_;
  for (const auto& [uuid, o] : operations_) v->operations.push_back(o);
  view_ = std::move(v);
  return view_;
}

}  // namespace gantry::gateway_mesos
