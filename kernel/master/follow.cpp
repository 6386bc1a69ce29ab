// What followers hear: every change in order, and snapshots in pieces (sdk/schema/state.fbs).
//
// A change is noted where it is made and written at the end of the step that made it: rows of what is then alive, after what
// is gone or completed. A snapshot piece is the state of that moment, so a follower that applies pieces and changes in the order they were
// sent has every row at its newest; what it missed because its piece had passed came as a change.
#include "kernel/master/maintenance.hpp"
#include "kernel/resource/wire.hpp"

#include <gantry/state_generated.h>

#include <algorithm>

namespace gantry::master {

namespace st = fb::state;

namespace {

constexpr std::size_t kPiece = 256 * 1024;

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using BytesOffset = Offset<flatbuffers::Vector<std::uint8_t>>;

// A flatbuffer inside a flatbuffer, readable in place.
BytesOffset nest(FlatBufferBuilder& b, Bytes bytes) {
  if (bytes.empty()) return 0;
  b.ForceVectorAlignment(bytes.size(), 1, 8);
  return b.CreateVector(bytes.data(), bytes.size());
}
Offset<flatbuffers::String> put(FlatBufferBuilder& b, std::string_view s) {
  return s.empty() ? Offset<flatbuffers::String>() : b.CreateString(s.data(), s.size());
}
std::uint64_t ns(std::int64_t wall) { return static_cast<std::uint64_t>(wall); }

}  // namespace

// Writes changes into one chunk.
struct Core::Rows {
  FlatBufferBuilder b{4096};
  std::vector<Offset<st::Change>> changes;

  void agent(const Agent& a) {
    const auto info = nest(b, a.info);
    resource::ResourceOffsets total;
    if (!a.total.empty()) total = resource::write(b, a.total);
    Offset<fb::ops::DrainInfo> drain;
    Offset<fb::Unavailability> unavailability;
    if (const Upkeep* u = a.upkeep.get()) {
      if (u->drain != Upkeep::Drain::none) {
        fb::ops::DrainConfigBuilder config(b);
        if (u->grace_ns >= 0) config.add_max_grace_period_ns(u->grace_ns);
        config.add_mark_gone(u->mark_gone);
        const auto configured = config.Finish();
        drain = fb::ops::CreateDrainInfo(
            b, u->drain == Upkeep::Drain::draining ? fb::ops::DrainState::DRAINING : fb::ops::DrainState::DRAINED, configured);
      }
      if (u->planned) {
        fb::UnavailabilityBuilder window(b);
        window.add_start_ns(u->start_ns);
        if (u->duration_ns) window.add_duration_ns(*u->duration_ns);
        unavailability = window.Finish();
      }
    }
    st::AgentBuilder r(b);
    if (!info.IsNull()) r.add_info(info);
    switch (a.state) {
      case AgentState::registered:
      case AgentState::marking:
        r.add_standing(st::Standing::REGISTERED);
        break;
      case AgentState::unreachable:
        r.add_standing(st::Standing::UNREACHABLE);
        break;
      case AgentState::gone:
        r.add_standing(st::Standing::GONE);
        break;
      default:
        r.add_standing(st::Standing::RECOVERED);
    }
    r.add_active(a.active);
    r.add_connected(a.link != 0);
    r.add_since_ns(ns(a.since_wall));
    if (!total.IsNull()) r.add_total(total);
    if (a.deactivated()) r.add_deactivated(true);
    if (!drain.IsNull()) {
      r.add_drain(drain);
      r.add_drain_since_ns(ns(a.upkeep->drain_since));
    }
    if (!unavailability.IsNull()) r.add_unavailability(unavailability);
    const auto row = r.Finish();
    st::ChangeBuilder c(b);
    c.add_agent(row);
    changes.push_back(c.Finish());
  }
  void framework(const Framework& f) {
    const auto info = nest(b, f.info);
    std::vector<Offset<flatbuffers::String>> roles;
    for (const RoleId r : f.suppressed) roles.push_back(b.CreateString(std::string(resource::text_of(r))));
    const auto suppressed = b.CreateVector(roles);
    Offset<fb::OfferConstraints> constraints;
    if (f.wishes && !f.wishes->message().empty()) {
      const Bytes message = f.wishes->message();
      constraints = graft(b, message, flatbuffers::GetRoot<fb::OfferConstraints>(message.data()));
    }
    st::FrameworkBuilder r(b);
    if (!info.IsNull()) r.add_info(info);
    r.add_connected(f.connected());
    r.add_active(f.connected() && !f.removing);
    r.add_recovered(f.recovered);
    r.add_registered_ns(ns(f.registered_wall));
    r.add_reregistered_ns(ns(f.reregistered_wall));
    r.add_suppressed(suppressed);
    if (!constraints.IsNull()) r.add_offer_constraints(constraints);
    const auto row = r.Finish();
    st::ChangeBuilder c(b);
    c.add_framework(row);
    changes.push_back(c.Finish());
  }
  void completed(const CompletedFramework& f) {
    const auto info = nest(b, f.info);
    st::FrameworkBuilder r(b);
    if (!info.IsNull()) r.add_info(info);
    r.add_registered_ns(ns(f.registered_wall));
    r.add_reregistered_ns(ns(f.reregistered_wall));
    r.add_unregistered_ns(ns(f.unregistered_wall));
    r.add_completed(f.order);
    const auto row = r.Finish();
    st::ChangeBuilder c(b);
    c.add_framework(row);
    changes.push_back(c.Finish());
  }
  void task(std::string_view framework_id, Bytes info_bytes, Bytes status_bytes, fb::TaskState state, std::int64_t launched,
            bool absent, std::uint64_t order) {
    const auto id = b.CreateSharedString(framework_id.data(), framework_id.size());
    const auto info = nest(b, info_bytes), status = nest(b, status_bytes);
    st::TaskBuilder r(b);
    r.add_framework_id(id);
    if (!info.IsNull()) r.add_info(info);
    if (!status.IsNull()) r.add_status(status);
    r.add_state(state);
    r.add_launched_ns(ns(launched));
    r.add_absent(absent);
    r.add_completed(order);
    const auto row = r.Finish();
    st::ChangeBuilder c(b);
    c.add_task(row);
    changes.push_back(c.Finish());
  }
  void task(const Framework& f, const Task& t) { task(f.id, t.info, t.status, t.state, t.launched_wall, t.absent, 0); }
  void completed(std::string_view framework_id, const CompletedTask& t) {
    task(framework_id, t.info, t.status, t.state, t.launched_wall, false, t.order);
  }
  void update(std::string_view framework_id, const Task& t) {
    const auto fid = b.CreateSharedString(framework_id.data(), framework_id.size());
    const auto tid = put(b, t.id());
    const auto status = nest(b, t.status);
    st::UpdateBuilder r(b);
    r.add_framework_id(fid);
    r.add_task_id(tid);
    if (!status.IsNull()) r.add_status(status);
    r.add_state(t.state);
    const auto row = r.Finish();
    st::ChangeBuilder c(b);
    c.add_update(row);
    changes.push_back(c.Finish());
  }
  void maintenance(const st::MaintenanceT& m) {
    const auto row = st::Maintenance::Pack(b, &m);
    st::ChangeBuilder c(b);
    c.add_maintenance(row);
    changes.push_back(c.Finish());
  }
  void inverse_offer(const fb::InverseOfferT& o) {
    const auto row = st::CreateOpenInverseOffer(b, fb::InverseOffer::Pack(b, &o));
    st::ChangeBuilder c(b);
    c.add_inverse_offer(row);
    changes.push_back(c.Finish());
  }
  void inverse_gone(const std::string& id) {
    const auto i = b.CreateString(id);
    st::GoneBuilder g(b);
    g.add_inverse_offer_id(i);
    const auto row = g.Finish();
    st::ChangeBuilder c(b);
    c.add_gone(row);
    changes.push_back(c.Finish());
  }
  void offer(std::string id_text, const std::string& framework_id, std::string_view agent_id, const Offer& o) {
    const auto id = b.CreateString(id_text);
    const auto fid = b.CreateSharedString(framework_id);
    const auto aid = put(b, agent_id);
    const auto role = b.CreateSharedString(std::string(resource::text_of(o.role)));
    const auto resources = resource::write_allocated(b, o.resources, o.role);
    const auto row = st::CreateOffer(b, id, fid, aid, role, resources);
    st::ChangeBuilder c(b);
    c.add_offer(row);
    changes.push_back(c.Finish());
  }
  void role(const st::RoleT& r) {
    const auto row = st::Role::Pack(b, &r);
    st::ChangeBuilder c(b);
    c.add_role(row);
    changes.push_back(c.Finish());
  }
  void operation(const TrackedOperation& o) {
    std::unique_ptr<fb::ops::OperationT> t(o.row.as<fb::ops::Operation>()->UnPack());
    const auto operation = fb::ops::Operation::Pack(b, t.get());
    const auto row = st::CreateOperation(b, operation);
    st::ChangeBuilder c(b);
    c.add_operation(row);
    changes.push_back(c.Finish());
  }
  void executor(std::string_view agent_id, const std::string& framework_id, const Executor& e) {
    const auto aid = b.CreateSharedString(agent_id.data(), agent_id.size());
    const auto fid = b.CreateSharedString(framework_id);
    const auto info = graft(b, e.info, flatbuffers::GetRoot<fb::ExecutorInfo>(Bytes(e.info).data()));
    const auto row = st::CreateExecutor(b, aid, fid, info);
    st::ChangeBuilder c(b);
    c.add_executor(row);
    changes.push_back(c.Finish());
  }
  void gone(const st::GoneT& g) {
    const auto row = st::Gone::Pack(b, &g);
    st::ChangeBuilder c(b);
    c.add_gone(row);
    changes.push_back(c.Finish());
  }
  void gone(std::string_view agent_id, std::string_view framework_id, std::string_view task_id, std::string_view offer_id) {
    const auto a = put(b, agent_id), f = put(b, framework_id), t = put(b, task_id), o = put(b, offer_id);
    const auto row = st::CreateGone(b, a, f, t, o);
    st::ChangeBuilder c(b);
    c.add_gone(row);
    changes.push_back(c.Finish());
  }
  Buffer finish(std::uint64_t from, std::uint64_t version, bool snapshot, bool more, bool converged,
                const st::BeginT* begin = nullptr) {
    const auto list = b.CreateVector(changes);
    Offset<st::Begin> first;
    if (begin) first = st::Begin::Pack(b, begin);
    st::ChunkBuilder c(b);
    c.add_from(from);
    c.add_version(version);
    c.add_snapshot(snapshot);
    c.add_more(more);
    c.add_converged(converged);
    if (begin) c.add_begin(first);
    c.add_changes(list);
    b.Finish(c.Finish());
    changes.clear();
    Buffer out(b.Release());
    return out;
  }
};

struct Core::ChangeLog {
  std::vector<Handle> agents, frameworks, tasks, offers;  // whose rows are to be written at the end of this step
  std::unique_ptr<Rows> rows = std::make_unique<Rows>();
  bool plan = false;       // the row of maintenance, likewise
  std::uint64_t from = 0;  // version at which `rows` begins
  std::vector<Buffer> ready;
};

Core::Core(CoreOptions options) : options_(std::move(options)), plan_(std::make_unique<Plan>()) {}
Core::~Core() = default;

void Core::follow(bool on) {
  if (on == followed()) return;
  log_ = on ? std::make_unique<ChangeLog>() : nullptr;
  if (log_) log_->from = version_;
}

// A change has been written. Chunks are of the size of pieces, however much a step changes, so that they can be told at a
// follower's pace.
void Core::noted() {
  ++version_;
  if (log_->rows->b.GetSize() >= kPiece) cut_chunk();
}

void Core::cut_chunk() {
  log_->ready.push_back(log_->rows->finish(log_->from, version_, false, false, recovering_ == 0));
  log_->rows = std::make_unique<Rows>();
  log_->from = version_;
}

bool Core::changes_waiting() const { return log_ && (!log_->ready.empty() || !log_->rows->changes.empty()); }

std::vector<Buffer> Core::take_changes() {
  if (!changes_waiting()) return {};
  if (!log_->rows->changes.empty()) cut_chunk();
  return std::exchange(log_->ready, {});
}

void Core::note_agent(Handle h) {
  if (log_ && h) log_->agents.push_back(h);
}
void Core::note_framework(Handle h) {
  if (log_) log_->frameworks.push_back(h);
}
void Core::note_task(Handle h) {
  if (log_) log_->tasks.push_back(h);
}
void Core::note_offer(Handle h) {
  if (log_) log_->offers.push_back(h);
}
void Core::note_update(const Task& t) {
  if (!log_) return;
  log_->rows->update(frameworks_[t.framework].id, t);
  noted();
}
void Core::note_completed(const std::string& framework_id, const CompletedTask& t) {
  if (!log_) return;
  log_->rows->completed(framework_id, t);
  noted();
}
void Core::note_completed(const CompletedFramework& f) {
  if (!log_) return;
  log_->rows->completed(f);
  noted();
}
void Core::note_gone(std::string_view framework_id, std::string_view task_id) {
  if (!log_) return;
  log_->rows->gone({}, framework_id, task_id, {});
  noted();
}
void Core::note_offer_gone(std::uint64_t number) {
  if (!log_) return;
  log_->rows->gone({}, {}, {}, offer_id(number));
  noted();
}

void Core::note_executor(Handle agent, const Executor& e) {
  if (!log_) return;
  log_->rows->executor(agents_[agent].id(), frameworks_[e.framework].id, e);
  noted();
}
void Core::note_executor_gone(Handle agent, const Executor& e) {
  if (!log_) return;
  st::GoneT gone;
  gone.agent_id = agents_[agent].id();
  gone.framework_id = frameworks_[e.framework].id;
  gone.executor_id = e.id();
  log_->rows->gone(gone);
  noted();
}

void Core::note_plan() {
  if (log_) log_->plan = true;
}
void Core::note_inverse(std::uint64_t number, Handle agent, Handle framework) {
  if (!log_) return;
  log_->rows->inverse_offer(inverse_offer(number, agent, framework));
  noted();
}
void Core::note_inverse_gone(std::uint64_t number) {
  if (!log_) return;
  log_->rows->inverse_gone(offer_id(number));
  noted();
}
void Core::note_role_row(RoleId role) {
  if (!log_) return;
  const auto it = role_settings_.find(role);
  if (it != role_settings_.end() && (it->second.limited || it->second.weighted)) {
    log_->rows->role(role_row(role));
  } else {
    st::GoneT g;
    g.role = resource::text_of(role);
    log_->rows->gone(g);
  }
  noted();
}
void Core::note_operation(const TrackedOperation& o) {
  if (!log_) return;
  log_->rows->operation(o);
  noted();
}
void Core::note_operation_gone(std::string_view uuid) {
  if (!log_) return;
  st::GoneT g;
  g.operation_uuid.assign(uuid.begin(), uuid.end());
  log_->rows->gone(g);
  noted();
}

// At the end of a step, before the allocator is told and handles become free.
void Core::settle_notes() {
  ChangeLog& log = *log_;
  const auto each = [&](std::vector<Handle>& handles, auto&& write) {
    std::sort(handles.begin(), handles.end());
    handles.erase(std::unique(handles.begin(), handles.end()), handles.end());
    for (const Handle h : handles) write(h);
    handles.clear();
  };
  each(log.frameworks, [&](Handle h) {
    if (!frameworks_.contains(h) || frameworks_[h].id.empty()) return;
    log.rows->framework(frameworks_[h]);
    noted();
  });
  each(log.agents, [&](Handle h) {
    if (!agents_.contains(h)) return;
    const Agent& a = agents_[h];
    if (a.state == AgentState::registering) return;
    if (a.state == AgentState::departed)
      log.rows->gone(a.id(), {}, {}, {});
    else
      log.rows->agent(a);
    noted();
  });
  each(log.tasks, [&](Handle h) {
    if (!tasks_.contains(h)) return;
    log.rows->task(frameworks_[tasks_[h].framework], tasks_[h]);
    noted();
  });
  each(log.offers, [&](Handle h) {
    if (!offers_.contains(h)) return;
    const Offer& o = offers_[h];
    log.rows->offer(offer_id(o.number), frameworks_[o.framework].id, agents_[o.agent].id(), o);
    noted();
  });
  if (std::exchange(log.plan, false)) {
    st::MaintenanceT m;
    write_plan(m);
    log.rows->maintenance(m);
    noted();
  }
}

Buffer Core::snapshot(SnapshotCursor& c, std::size_t bytes, const st::BeginT* begin) const {
  Rows rows;
  std::size_t budget = 20'000;  // rows looked at, so that empty places cost no more than full ones
  const auto full = [&] { return rows.b.GetSize() >= bytes || budget-- == 0; };
  const auto walk = [&](const auto& slab, auto&& write) {
    for (; c.at < slab.end(); ++c.at) {
      if (full()) return false;
      if (slab.contains(c.at)) write(slab[c.at]);
    }
    return true;
  };
  // From c.order on, of a history sorted by it.
  const auto history = [&](const std::string& id, const std::deque<CompletedTask>& tasks) {
    auto it = std::lower_bound(tasks.begin(), tasks.end(), c.order,
                               [](const CompletedTask& t, std::uint64_t order) { return t.order < order; });
    for (; it != tasks.end(); ++it) {
      if (full()) return c.order = it->order, false;
      rows.completed(id, *it);
    }
    return true;
  };
  const auto stage = [&]() -> bool {
    switch (c.stage) {
      case 0:
        return walk(frameworks_, [&](const Framework& f) {
          if (!f.id.empty()) rows.framework(f);
        });
      case 1:
        for (const auto& f : completed_) {
          if (f.order < c.order) continue;
          if (full()) return c.order = f.order, false;
          rows.completed(f);
        }
        return true;
      case 2:
        return walk(agents_, [&](const Agent& a) {
          if (a.state != AgentState::registering && a.state != AgentState::departed) rows.agent(a);
        });
      case 3:
        return walk(tasks_, [&](const Task& t) { rows.task(frameworks_[t.framework], t); });
      case 4:
        for (; c.at < frameworks_.end(); ++c.at, c.order = 0)
          if (frameworks_.contains(c.at) && !frameworks_[c.at].id.empty() &&
              !history(frameworks_[c.at].id, frameworks_[c.at].completed))
            return false;
        return true;
      case 5: {
        // A framework at a time: at most completed_tasks rows above the size of a piece.
        for (const auto& f : completed_) {
          if (f.order < c.order) continue;
          for (const auto& t : f.tasks) rows.completed(f.id, t);
          if (full()) return c.order = f.order + 1, false;
        }
        return true;
      }
      case 6: {
        // Few; all of them in one piece.
        for (const auto& [role, settings] : role_settings_)
          if (settings.limited || settings.weighted) rows.role(role_row(role));
        return true;
      }
      case 7:
        for (const auto& [uuid, o] : operations_) rows.operation(o);
        return true;
      case 8:
        for (; c.at < agents_.end() && !executors_.empty(); ++c.at) {
          if (full()) return false;
          const auto it = executors_.find(c.at);
          if (it == executors_.end() || !agents_.contains(c.at)) continue;
          for (const Executor& e : it->second) rows.executor(agents_[c.at].id(), frameworks_[e.framework].id, e);
        }
        return true;
      default: {
        const bool over = walk(offers_, [&](const Offer& o) {
          rows.offer(offer_id(o.number), frameworks_[o.framework].id, agents_[o.agent].id(), o);
        });
        if (!over) return false;
        for (const auto& [number, of] : plan_->by_number) rows.inverse_offer(inverse_offer(number, of.first, of.second));
        if (!plan_->machines.empty()) {
          st::MaintenanceT m;
          write_plan(m);
          rows.maintenance(m);
        }
        return true;
      }
    }
  };
  while (c.stage < kSnapshotStages && stage()) c = {c.stage + 1, 1, 0};
  return rows.finish(version_, version_, true, c.stage < kSnapshotStages, recovering_ == 0, begin);
}

}  // namespace gantry::master
