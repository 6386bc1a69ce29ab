// Reservations and persistent volumes: how an operation of a framework or an operator changes what an agent has
// (mesos-kernel.md A2, A7). The registry has the word: it is written before anybody hears, and told to the agent.
//
// An operation is a conversion of what is free. A framework's takes it from the offers it accepts (launch.cpp); an operator's
// from the agent, and offers that stand in the way are taken back. What is being converted belongs to nobody until it is
// stored; meanwhile it waits in the pending record.
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"
#include "kernel/resource/wire.hpp"

#include <gantry/operator_generated.h>

#include <algorithm>

namespace gantry::master {

namespace om = fb::master;
using resource::Conversion;

namespace {

Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

using Wire = flatbuffers::Vector<flatbuffers::Offset<fb::Resource>>;

Result<Resources> read(const Wire* list) {
  auto r = resource::from_wire(list);
  if (!r) return invalid("Invalid resources: " + r.error().message);
  return r->unallocated();
}
Result<resource::Resource> read_one(const fb::Resource* r) {
  if (!r) return invalid("no volume given");
  fb::ResourceT t;
  r->UnPackTo(&t);
  auto out = resource::from_wire(t);
  if (!out) return invalid("Invalid resources: " + out.error().message);
  out->set_allocation_role(RoleId::none);
  return out;
}
// One that holds nothing would be in no pool.
Result<resource::Resource> read_volume(const fb::Resource* r) {
  auto out = read_one(r);
  if (out && out->empty()) return invalid("The size of the volume must be greater than zero");
  return out;
}

}  // namespace

bool Core::books(fb::OperationType type) {
  using T = fb::OperationType;
  return type == T::RESERVE || type == T::UNRESERVE || type == T::CREATE || type == T::DESTROY || type == T::GROW_VOLUME ||
         type == T::SHRINK_VOLUME;
}

// "S0 at slave(1)@10.0.0.1:5051 (host)", the way frameworks and scripts know agents in sentences.
std::string Core::agent_words(const Agent& a) const {
  return std::string(a.id()) + " at slave(1)@" + std::string(text(a.about().address())) + " (" +
         std::string(text(a.about().hostname())) + ")";
}

// Whether one of these volumes is mounted by a task; also a shared one, of which the books know only that it is there.
bool Core::in_use(Handle agent, const Resources& volumes) const {
  const auto uses = [&](const Wire* list) {
    if (!list) return false;
    for (const auto* r : *list) {
      if (!r->disk() || !r->disk()->persistence()) continue;
      const auto one = read_one(r);
      if (!one) continue;
      for (const auto& v : volumes)
        if (v.persistent_volume() && one->persistent_volume() && v.reservation_role() == one->reservation_role() &&
            v.traits().disk->persistence_id == one->traits().disk->persistence_id)
          return true;
    }
    return false;
  };
  for (Handle t = agents_[agent].first_task; t; t = tasks_[t].of_agent.next) {
    if (terminal(tasks_[t].state)) continue;
    const auto& info = tasks_[t].about();
    if (uses(info.resources()) || (info.executor() && uses(info.executor()->resources()))) return true;
  }
  if (const auto it = executors_.find(agent); it != executors_.end())
    for (const auto& e : it->second)
      if (uses(e.info.as<fb::ExecutorInfo>()->resources())) return true;
  return false;
}

// A volume's id is unique on its agent within its role.
Status Core::check_new_volumes(Handle agent, const Resources& volumes) const {
  std::set<std::pair<RoleId, std::string>> taken;
  for (const auto& r : agents_[agent].total)
    if (r.persistent_volume()) taken.emplace(r.reservation_role(), r.traits().disk->persistence_id);
  for (const auto& [cookie, p] : pending_)
    if (p.limbo() && p.agent == agent)
      for (const auto& r : p.after)
        if (r.persistent_volume() && !p.before.contains(r)) taken.emplace(r.reservation_role(), r.traits().disk->persistence_id);
  for (const auto& r : volumes) {
    const std::string& id = r.traits().disk->persistence_id;
    if (id.size() > 255 || id == "." || id == ".." || std::any_of(id.begin(), id.end(), [](char c) {
          return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '/' || c == '\\';
        }))
      return invalid("Persistence ID '" + id + "' contains invalid characters");
    const std::string& path = r.traits().disk->container_path;
    if (path == "." || path == ".." || path.find('/') != std::string::npos)
      return invalid("Volume 'container_path' '" + path + "' is not a plain name: nested paths are not supported");
    if (!taken.emplace(r.reservation_role(), id).second) return invalid("Persistence ID '" + id + "' is not unique");
  }
  return ok;
}

// Who makes something is written on it.
static Status check_principals(const Conversion& c, fb::OperationType type, std::string_view principal, bool framework) {
  if (principal.empty()) return ok;
  const std::string who = "'" + std::string(principal) + "'";
  if (type == fb::OperationType::RESERVE) {
    for (const auto& r : c.converted) {
      if (!r.reserved()) continue;
      const auto& top = r.reservations().back();
      if (top.principal == principal) continue;
      return invalid(top.principal.empty()
                         ? "A reserve operation was attempted by principal " + who +
                               ", but there is a reserved resource in the request with no principal set"
                         : "A reserve operation was attempted by principal " + who +
                               ", but there is a reserved resource in the request with principal '" + top.principal + "' set");
    }
  }
  if (type == fb::OperationType::CREATE) {
    for (const auto& r : c.converted) {
      const auto& has = r.traits().disk->persistence_principal;
      if (has == principal || (framework && has.empty())) continue;
      return invalid("A create volume operation was attempted by principal " + who +
                     ", but there is a volume in the operation with " +
                     (has.empty() ? std::string("no principal") : "principal '" + has + "'") + " set in 'DiskInfo.Persistence'");
    }
  }
  return ok;
}

// What a framework's operation does to `pool`. An error that is INVALID_ARGUMENT is about the operation itself,
// FAILED_PRECONDITION: the pool does not have what it takes.
Result<Conversion> Core::conversion_of(const Framework& f, Handle agent, RoleId role, const Resources& pool,
                                       const fb::Operation& op) const {
  using T = fb::OperationType;
  Conversion c;
  const std::string_view principal = text(f.about().principal());
  switch (op.type()) {
    case T::RESERVE: {
      if (!op.reserve()) return invalid("the operation has no body");
      if (op.reserve()->source() && op.reserve()->source()->size() > 0) return invalid("'source' is for operators only");
      GANTRY_TRY(const Resources wanted, read(op.reserve()->resources()));
      GANTRY_TRY(c, resource::reservation_of(wanted));
      for (const auto& r : wanted)
        if (r.reservation_role() != role)
          return invalid("A reserve operation was attempted for a resource with role '" +
                         std::string(resource::text_of(r.reservation_role())) + "', but the offer is allocated to role '" +
                         std::string(resource::text_of(role)) + "'");
      break;
    }
    case T::UNRESERVE: {
      if (!op.unreserve()) return invalid("the operation has no body");
      GANTRY_TRY(const Resources wanted, read(op.unreserve()->resources()));
      GANTRY_TRY(c, resource::release_of(wanted));
      break;
    }
    case T::CREATE: {
      if (!op.create()) return invalid("the operation has no body");
      GANTRY_TRY(const Resources volumes, read(op.create()->volumes()));
      GANTRY_TRY(c, resource::creation_of(volumes));
      GANTRY_CHECK(check_new_volumes(agent, volumes));
      for (const auto& v : volumes)
        if (v.shared() && !(f.allocator_flags & static_cast<std::uint32_t>(fb::allocator::FrameworkFlags::SHARED)))
          return invalid("Create volume operation attempted for shared volume by a framework without capability SHARED_RESOURCES");
      break;
    }
    case T::DESTROY: {
      if (!op.destroy()) return invalid("the operation has no body");
      GANTRY_TRY(const Resources volumes, read(op.destroy()->volumes()));
      if (in_use(agent, volumes)) return invalid("Persistent volumes in use");
      GANTRY_TRY(c, resource::destruction_of(resource::as_in(pool, volumes)));
      break;
    }
    case T::GROW_VOLUME: {
      if (!op.grow_volume()) return invalid("the operation has no body");
      GANTRY_TRY(const auto volume, read_volume(op.grow_volume()->volume()));
      GANTRY_TRY(const auto addition, read_one(op.grow_volume()->addition()));
      if (in_use(agent, Resources{volume})) return invalid("Persistent volumes in use");
      GANTRY_TRY(c, resource::growth_of(*resource::as_in(pool, Resources{volume}).begin(), addition));
      break;
    }
    case T::SHRINK_VOLUME: {
      if (!op.shrink_volume()) return invalid("the operation has no body");
      GANTRY_TRY(const auto volume, read_volume(op.shrink_volume()->volume()));
      if (in_use(agent, Resources{volume})) return invalid("Persistent volumes in use");
      GANTRY_TRY(c, resource::shrinking_of(*resource::as_in(pool, Resources{volume}).begin(),
                                           resource::Scalar::of(op.shrink_volume()->subtract())));
      break;
    }
    default:
      return invalid("the operation books nothing");
  }
  GANTRY_CHECK(check_principals(c, op.type(), principal, true));
  if (!pool.contains(c.consumed))
    return fail(Code::failed_precondition, resource::words(pool, role) + " does not contain " + resource::words(c.consumed, role));
  return c;
}

// ---- operators

void Core::operator_reserve(const om::ReserveResources& r, std::string_view principal, RequestId request) {
  operate_books(text(r.agent_id()), fb::OperationType::RESERVE, "RESERVE", principal, request,
                [&](Handle) -> Result<Conversion> {
                  GANTRY_TRY(const Resources wanted, read(r.resources()));
                  GANTRY_TRY(const Resources source, read(r.source()));
                  return resource::reservation_of(wanted, source);
                });
}
void Core::operator_unreserve(const om::UnreserveResources& r, std::string_view principal, RequestId request) {
  operate_books(text(r.agent_id()), fb::OperationType::UNRESERVE, "UNRESERVE", principal, request,
                [&](Handle) -> Result<Conversion> {
                  GANTRY_TRY(const Resources wanted, read(r.resources()));
                  return resource::release_of(wanted);
                });
}
void Core::operator_create(const om::CreateVolumes& v, std::string_view principal, RequestId request) {
  operate_books(text(v.agent_id()), fb::OperationType::CREATE, "CREATE", principal, request,
                [&](Handle h) -> Result<Conversion> {
                  GANTRY_TRY(const Resources volumes, read(v.volumes()));
                  GANTRY_TRY(Conversion c, resource::creation_of(volumes));
                  GANTRY_CHECK(check_new_volumes(h, volumes));
                  return c;
                });
}
void Core::operator_destroy(const om::DestroyVolumes& v, std::string_view principal, RequestId request) {
  operate_books(text(v.agent_id()), fb::OperationType::DESTROY, "DESTROY", principal, request,
                [&](Handle h) -> Result<Conversion> {
                  GANTRY_TRY(const Resources volumes, read(v.volumes()));
                  if (in_use(h, volumes)) return invalid("Persistent volumes in use");
                  return resource::destruction_of(resource::as_in(agents_[h].total, volumes));
                });
}
void Core::operator_grow(const om::GrowVolume& g, std::string_view principal, RequestId request) {
  operate_books(text(g.agent_id()), fb::OperationType::GROW_VOLUME, "GROW_VOLUME", principal, request,
                [&](Handle h) -> Result<Conversion> {
                  GANTRY_TRY(const auto volume, read_volume(g.volume()));
                  GANTRY_TRY(const auto addition, read_one(g.addition()));
                  if (in_use(h, Resources{volume})) return invalid("Persistent volumes in use");
                  return resource::growth_of(*resource::as_in(agents_[h].total, Resources{volume}).begin(), addition);
                });
}
void Core::operator_shrink(const om::ShrinkVolume& s, std::string_view principal, RequestId request) {
  operate_books(text(s.agent_id()), fb::OperationType::SHRINK_VOLUME, "SHRINK_VOLUME", principal, request,
                [&](Handle h) -> Result<Conversion> {
                  GANTRY_TRY(const auto volume, read_volume(s.volume()));
                  if (in_use(h, Resources{volume})) return invalid("Persistent volumes in use");
                  return resource::shrinking_of(*resource::as_in(agents_[h].total, Resources{volume}).begin(),
                                                resource::Scalar::of(s.subtract()));
                });
}

void Core::operate_books(std::string_view agent_id, fb::OperationType type, const char* name, std::string_view principal,
                         RequestId request, const std::function<Result<Conversion>(Handle)>& make) {
  const Handle h = find_agent(agent_id);
  if (!h || agents_[h].state != AgentState::registered) return answer(request, invalid("No agent found with specified ID"));
  auto c = make(h);
  if (c)
    if (auto s = check_principals(*c, type, principal, false); !s) c = std::move(s).error();
  if (!c) {
    return answer(request, invalid("Invalid " + std::string(name) + " operation on agent " + agent_words(agents_[h]) + ": " +
                                   c.error().message));
  }
  if (auto s = make_room(h, c->consumed); !s) return answer(request, std::move(s));
  Pending p;
  p.kind = Pending::Kind::book;
  p.request = request;
  persist_booking(h, std::move(c->consumed), std::move(c->converted), std::move(p), {});
}

// What is free on an agent, whether or not the allocator has been told.
Resources Core::free_of(Handle h) const {
  Resources out = agents_[h].available;
  if (const auto it = returns_.find(h); it != returns_.end()) out += it->second;
  return out;
}

// Takes `needed` out of what is free; offers that hold parts of it are taken back, but only if that is enough.
Status Core::make_room(Handle h, const Resources& needed) {
  Resources free = free_of(h);
  if (!free.contains(needed)) {
    Resources all = free;
    for (Handle o = agents_[h].first_offer; o; o = offers_[o].of_agent.next) all += offers_[o].resources;
    if (!all.contains(needed))
      return fail(Code::failed_precondition, resource::words(all) + " does not contain " + resource::words(needed));
    for (Handle o = agents_[h].first_offer; o && !free.contains(needed);) {
      const Handle next = offers_[o].of_agent.next;
      if (!needed.without(free).intersect(offers_[o].resources).empty()) {
        withdraw(o, true);
        free = free_of(h);
      }
      o = next;
    }
  }
  replace_available(h, free - needed);
  touch_agent(h);
  return ok;
}

// The registry is to have `after` in the place of `before`, which is in nobody's books now.
void Core::persist_booking(Handle h, Resources before, Resources after, Pending p, std::vector<store::Op> ops) {
  const std::string agent_id(agents_[h].id());
  Resources& reserved = reserved_[agent_id];
  reserved = reserved.without(resource::made(before)) + resource::made(after);
  ops.push_back(reservation_record(agent_id, reserved));
  p.agent = h;
  p.epoch = agents_[h].epoch;
  p.before = std::move(before);
  p.after = std::move(after);
  if (p.id.empty()) p.id = agent_id;
  p.booked = agent_id;
  persist(std::move(ops), std::move(p));
}

// Whether the agent's books are still those from which it was taken. If they were opened anew meanwhile, it is in them as
// if it had been stored. One that is being marked unreachable has its books until that is stored; it may fail.
bool Core::settle_booking(Pending& p, bool stored) {
  const bool there = agents_.contains(p.agent) && agents_[p.agent].epoch == p.epoch &&
                     (agents_[p.agent].state == AgentState::registered || agents_[p.agent].state == AgentState::marking);
  if (!stored) {
    Resources& reserved = reserved_[p.booked];
    reserved = reserved.without(resource::made(p.after)) + resource::made(p.before);
    if (reserved.empty()) reserved_.erase(p.booked);
    // A later record of the same agent may hold what this one failed to write.
    persist_reservations(p.booked);
    if (!there) {
      if (const Handle h = find_agent(p.booked); h && agents_[h].state == AgentState::registered && agents_[h].link) {
        out_->emplace_back(DropLink{agents_[h].link, "the agent's reservations could not be stored"});
        unbind_link(h);
        disconnect_agent(h);
      }
    }
    return there;
  }
  if (!there) return false;
  set_total(p.agent, agents_[p.agent].total.without(p.before) + p.after);
  touch_total(p.agent);
  tell_reservations(p.agent);
  return true;
}

void Core::operator_booked(Pending& p, bool stored) {
  const bool there = settle_booking(p, stored);
  if (there) give_back(p.agent, 0, RoleId::none, stored ? p.after : p.before);
  answer(p.request, stored ? Status(ok) : fail(Code::unavailable, "the change could not be stored; nothing was done"));
}

void Core::persist_reservations(const std::string& agent_id) {
  const auto it = reserved_.find(agent_id);
  std::vector<store::Op> ops;
  ops.push_back(reservation_record(agent_id, it == reserved_.end() ? Resources() : it->second));
  persist(std::move(ops), [this, agent_id](Status stored) {
    if (!stored) unwritten_.push_back({now_ + options_.retry, agent_id});
  });
}
void Core::write_reservations_due() {
  while (!unwritten_.empty() && unwritten_.front().first <= now_) {
    const std::string id = std::move(unwritten_.front().second);
    unwritten_.pop_front();
    persist_reservations(id);
  }
}

// The agent makes and removes the directories of volumes.
void Core::tell_reservations(Handle h) {
  const Agent& a = agents_[h];
  if (!a.link) return;
  static const Resources none;
  const auto it = reserved_.find(std::string(a.id()));
  to_agent(a.link, set_resources(it == reserved_.end() ? none : it->second));
}

}  // namespace gantry::master
