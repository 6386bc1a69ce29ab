// What the master keeps on disk, and what follows once it is there. Nothing is said to an agent or framework before the
// record it rests on is stored.
#include "kernel/master/core.hpp"

#include <gantry/state_generated.h>
#include "kernel/master/messages.hpp"
#include "kernel/resource/wire.hpp"

#include <algorithm>

namespace gantry::master {

using base::Level;
namespace rec = fb::record;

store::Op Core::agent_record(std::string_view id, Bytes info, rec::AgentFate fate, std::int64_t since) const {
  flatbuffers::FlatBufferBuilder b(info.size() + 64);
  const auto i = graft(b, info, flatbuffers::GetRoot<fb::AgentInfo>(info.data()));
  rec::AgentRecordBuilder r(b);
  r.add_info(i);
  r.add_fate(fate);
  r.add_since_wall_ns(static_cast<std::uint64_t>(since));
  if (const Handle h = find_agent(id); h && agents_[h].upkeep) {
    const Upkeep& u = *agents_[h].upkeep;
    r.add_deactivated(u.deactivated);
    r.add_drain(static_cast<rec::Drain>(u.drain));
    r.add_drain_grace_ns(u.grace_ns);
    r.add_drain_mark_gone(u.mark_gone);
    r.add_drain_since_ns(static_cast<std::uint64_t>(u.drain_since));
  }
  b.Finish(r.Finish());
  return {"agent/" + store::key_segment(id), Buffer(b.Release())};
}
store::Op Core::framework_record(std::string_view id, Bytes info, bool removed) const {
  flatbuffers::FlatBufferBuilder b(info.size() + 64);
  const auto i = graft(b, info, flatbuffers::GetRoot<fb::FrameworkInfo>(info.data()));
  b.Finish(rec::CreateFrameworkRecord(b, i, removed, static_cast<std::uint64_t>(wall_)));
  return {"framework/" + store::key_segment(id), Buffer(b.Release())};
}
store::Op Core::reservation_record(std::string_view agent_id, const Resources& reserved) const {
  const std::string key = "reservation/" + store::key_segment(agent_id);
  if (reserved.empty()) return {key, std::nullopt};
  flatbuffers::FlatBufferBuilder b(512);
  const auto id = b.CreateString(agent_id.data(), agent_id.size());
  const auto r = resource::write(b, reserved);
  b.Finish(rec::CreateReservationRecord(b, id, r));
  return {key, Buffer(b.Release())};
}

// The agent's own resources with the reservations made of them.
Resources Core::with_reservations(std::string_view agent_id, Resources total) {
  const auto it = reserved_.find(std::string(agent_id));
  if (it == reserved_.end()) return total;
  for (const auto& r : it->second) {
    if (total.subtract(Resources{resource::bare(r)}))
      total += r;
    else
      log(Level::warning, "the agent no longer has what was reserved on it",
          {{"agent", std::string(agent_id)}, {"reserved", r.text()}});
  }
  return total;
}

void Core::persist(std::vector<store::Op> ops, Pending pending) {
  const Cookie cookie = ++next_cookie_;
  pending_.emplace(cookie, std::move(pending));
  out_->emplace_back(Persist{cookie, std::move(ops)});
}

void Core::persist(std::vector<store::Op> ops, std::function<void(Status)> then) {
  Pending p;
  p.kind = Pending::Kind::then;
  p.then = std::move(then);
  persist(std::move(ops), std::move(p));
}

void Core::on_stored(Cookie cookie) {
  auto node = pending_.extract(cookie);
  if (!node) return;
  Pending& p = node.mapped();
  if (p.limbo() && agents_.contains(p.agent)) look_after(p.agent);
  const bool agent_there =
      agents_.contains(p.handle) && agents_[p.handle].state != AgentState::departed && agents_[p.handle].id() == p.id;
  const auto registration = [&]() -> const fb::link::Register& {
    return *flatbuffers::GetRoot<fb::link::ToMaster>(p.bytes.data())->body_as_Register();
  };
  switch (p.kind) {
    case Pending::Kind::nothing:
      return;
    case Pending::Kind::admit:
      if (agent_there) complete_registration(p.handle, p.bytes, registration());
      return;
    case Pending::Kind::reregister:
      if (!agent_there || agents_[p.handle].link != p.link) return;  // it has come again meanwhile, or gone
      agents_[p.handle].renew = !same_bytes(agents_[p.handle].info, p.info);
      agents_[p.handle].info = std::move(p.info);
      return complete_registration(p.handle, p.bytes, registration());
    case Pending::Kind::unreachable:
      if (agent_there && agents_[p.handle].state == AgentState::marking) became_unreachable(p.handle);
      return;
    case Pending::Kind::depart:
      if (agent_there) forget_agent(p.handle);
      return;
    case Pending::Kind::subscribe: {
      const bool open = opening_.erase(p.stream) > 0;
      Handle h = find_framework(p.id);
      if (h && frameworks_[h].removing) {
        if (open) refuse_stream(p.stream, "Framework has been removed");
        return;
      }
      if (!h) h = add_framework(p.id, Blob(Bytes(p.info)));
      return subscribed(h, open ? p.stream : 0, std::move(p.info), std::move(p.suppressed), std::move(p.wishes));
    }
    case Pending::Kind::remove_framework:
      if (frameworks_.contains(p.handle) && frameworks_[p.handle].id == p.id) framework_removed(p.handle);
      return answer(p.request, ok);
    case Pending::Kind::update_framework: {
      const bool there = frameworks_.contains(p.handle) && frameworks_[p.handle].id == p.id && !frameworks_[p.handle].removing;
      if (!there) return answer(p.request, fail(Code::not_found, "Framework cannot be found"));
      framework_updated(p.handle, std::move(p.info), std::move(p.suppressed), std::move(p.wishes));
      return answer(p.request, ok);
    }
    case Pending::Kind::accept:
      return continue_accept(p, true);
    case Pending::Kind::forget:
      return forgotten(p.handle);
    case Pending::Kind::book:
      return operator_booked(p, true);
    case Pending::Kind::then:
      return p.then(ok);
  }
}

void Core::on_store_failed(const StoreFailed& e) {
  ++counters_.store_failures;
  auto node = pending_.extract(e.cookie);
  if (!node) return;
  Pending& p = node.mapped();
  if (p.limbo() && agents_.contains(p.agent)) look_after(p.agent);
  log(Level::error, "a record could not be stored", {{"error", e.error.message}, {"record", p.id}});
  const bool agent_there = agents_.contains(p.handle) && agents_[p.handle].id() == p.id;
  switch (p.kind) {
    case Pending::Kind::nothing:
      return;
    case Pending::Kind::admit:  // as if it had never come; it tries again
      if (!agent_there) return;
      if (agents_[p.handle].link)
        out_->emplace_back(DropLink{agents_[p.handle].link, "the agent's record could not be stored"});
      unbind_link(p.handle);
      agent_by_id_.erase(hash_text(p.id), p.handle);
      agents_.erase(p.handle);
      return;
    case Pending::Kind::reregister:
      if (!agent_there || agents_[p.handle].link != p.link) return;
      out_->emplace_back(DropLink{p.link, "the agent's record could not be stored"});
      unbind_link(p.handle);
      return;
    case Pending::Kind::unreachable:
    case Pending::Kind::depart:
      if (!agent_there) return;
      set_state(agents_[p.handle], p.was);
      touch_agent(p.handle);
      if (p.kind == Pending::Kind::depart) {
        if (agents_[p.handle].link)
          out_->emplace_back(DropLink{agents_[p.handle].link, "the agent's departure could not be stored"});
        unbind_link(p.handle);
        disconnect_agent(p.handle);
      } else {
        retries_.push_back({now_ + options_.retry, p.handle});
      }
      if (p.was == AgentState::registered) start_pinging(p.handle);
      return;
    case Pending::Kind::subscribe:
      if (opening_.erase(p.stream))
        out_->emplace_back(EndStream{
            p.stream, fail(Code::unavailable, "the framework's record could not be stored: " + e.error.message)});
      return;
    case Pending::Kind::remove_framework: {
      answer(p.request, Error(e.error).because("the framework's removal could not be stored"));
      if (!frameworks_.contains(p.handle) || frameworks_[p.handle].id != p.id) return;
      Framework& f = frameworks_[p.handle];
      f.removing = false;
      touch_framework(p.handle);
      if (!f.stream && f.failover_at == Instant::max()) {  // else it is removed when its time is over, as before
        f.failover_at = now_ + options_.retry;
        failovers_.insert({f.failover_at, p.handle});
      }
      return;
    }
    case Pending::Kind::update_framework:
      return answer(p.request, Error(e.error).because("the framework's record could not be stored"));
    case Pending::Kind::accept:
      return continue_accept(p, false);
    case Pending::Kind::forget:
      return not_forgotten(p.handle, p.was);
    case Pending::Kind::book:
      return operator_booked(p, false);
    case Pending::Kind::then:
      return p.then(e.error);
  }
}

// ---- recovery

Status Core::recover(std::string_view key, Bytes value) {
  const auto slash = key.find('/');
  const std::string_view kind = key.substr(0, slash);
  const auto damaged = [&] {
    return fail(Code::data_loss, "the record '" + std::string(key) + "' of the store is damaged");
  };
  if (kind == "agent") {
    const auto* r = view<rec::AgentRecord>(value);
    if (!r || !r->info() || text(r->info()->id()).empty()) return damaged();
    const auto state = r->fate() == rec::AgentFate::KNOWN         ? AgentState::recovered
                       : r->fate() == rec::AgentFate::UNREACHABLE ? AgentState::unreachable
                                                                  : AgentState::gone;
    if (find_agent(text(r->info()->id()))) return damaged();
    const Handle h = add_agent(packed_info(*r->info(), text(r->info()->id())), state);
    agents_[h].since_wall = static_cast<std::int64_t>(r->since_wall_ns());
    if (state != AgentState::recovered) note_away(h);
    if (r->deactivated() || r->drain() != rec::Drain::NONE) {
      auto u = std::make_unique<Upkeep>();
      u->deactivated = r->deactivated();
      u->drain = r->drain() == rec::Drain::DRAINING  ? Upkeep::Drain::draining
                 : r->drain() == rec::Drain::DRAINED ? Upkeep::Drain::drained
                                                     : Upkeep::Drain::none;
      u->mark_gone = r->drain_mark_gone();
      u->grace_ns = r->drain_grace_ns();
      u->drain_since = static_cast<std::int64_t>(r->drain_since_ns());
      agents_[h].upkeep = std::move(u);
    }
  } else if (kind == "framework") {
    const auto* r = view<rec::FrameworkRecord>(value);
    if (!r || !r->info() || text(r->info()->id()).empty()) return damaged();
    const std::string id(text(r->info()->id()));
    if (r->removed()) {
      remember_removed(id);
      return ok;
    }
    if (find_framework(id)) return damaged();
    fb::FrameworkInfoT info;
    r->info()->UnPackTo(&info);
    const Handle h = add_framework(id, Blob(pack(info)));
    frameworks_[h].registered_wall = static_cast<std::int64_t>(r->since_wall_ns());
    frameworks_[h].recovered = true;
  } else if (kind == "reservation") {
    const auto* r = view<rec::ReservationRecord>(value);
    if (!r || text(r->agent_id()).empty()) return damaged();
    auto resources = resource::from_wire(r->resources());
    if (!resources) return std::move(resources).error().because("the record '" + std::string(key) + "' of the store");
    reserved_[std::string(text(r->agent_id()))] = std::move(*resources);
  } else if (kind == "weight" || kind == "quota") {
    const auto* r = view<fb::state::Role>(value);
    if (!r || text(r->name()).empty()) return damaged();
    return recover_role(*r, kind == "quota");
  } else if (kind == "operation") {
    if (!recover_operation(value)) return damaged();
  }
  if (kind == "maintenance") return load_plan(value) ? Status(ok) : Status(damaged());
  return ok;  // other kinds are not the core's
}

void Core::recovered(Instant now, Wall wall, Effects& out) {
  now_ = now;
  wall_ = wall;
  out_ = &out;
  std::sort(away_.begin(), away_.end(), [](const Away& a, const Away& b) { return a.since < b.since; });
  if (recovering_) reregister_deadline_ = now + options_.agent_reregister_timeout;
  if (quotas_ && recovering_) {  // mesos-kernel.md A1: four of five, or ten minutes
    awaited_ = (recovering_ * 4 + 4) / 5;
    awaited_until_ = now + options_.agent_reregister_timeout;
  }
  // A framework could not help that the master was away, so it has at least as long to return as an agent.
  for (const auto& [id, h] : framework_by_id_) {
    Framework& f = frameworks_[h];
    f.failover_at = now + std::max(f.failover_timeout, options_.agent_reregister_timeout);
    failovers_.insert({f.failover_at, h});
  }
  forget_orphaned_operations();
  if (recovering_ || !framework_by_id_.empty()) {
    log(Level::info, "recovered",
        {{"agents", std::to_string(recovering_)}, {"frameworks", std::to_string(framework_by_id_.size())}});
  }
  flush_allocator();
  schedule();
  out_ = nullptr;
}

}  // namespace gantry::master
