#include "resources.hpp"

#include <gantry/message.hpp>

#include <memory>
#include <string>
#include <vector>

namespace gantry::gateway_mesos {
namespace {

using List = std::vector<std::unique_ptr<fb::ResourceT>>;

void downgrade(List& list, Format format) {
  for (auto& r : list) {
    if (!format.multi_role) r->allocation_role.clear();
    // Stacked reservations have no old form; such resources are offered to frameworks with REFINEMENT only.
    if (format.refinement || r->reservations.size() > 1) continue;
    r->role = "*";
    if (r->reservations.empty()) continue;
    fb::ReservationInfoT& top = *r->reservations[0];
    r->role = top.role;
    if (top.type == fb::ReservationType::DYNAMIC) {
      r->reservation = std::make_unique<fb::ReservationInfoT>();
      r->reservation->principal = std::move(top.principal);
      r->reservation->labels = std::move(top.labels);
    }
    r->reservations.clear();
  }
}

void upgrade(fb::ResourceT& r) {
  if (r.reservations.empty() && !r.role.empty() && r.role != "*") {
    auto info = std::make_unique<fb::ReservationInfoT>();
    info->role = r.role;
    info->type = r.reservation ? fb::ReservationType::DYNAMIC : fb::ReservationType::STATIC;
    if (r.reservation) {
      info->principal = std::move(r.reservation->principal);
      info->labels = std::move(r.reservation->labels);
    }
    r.reservations.push_back(std::move(info));
  }
  r.role.clear();
  r.reservation.reset();
}
void upgrade(List& list) {
  for (auto& r : list) upgrade(*r);
}

using Packed = flatbuffers::Vector<flatbuffers::Offset<fb::Resource>>;

bool old(const fb::Resource* r) { return r && (r->reservation() || (r->role() && text(r->role()) != "*")); }
bool old(const Packed* list) {
  if (!list) return false;
  for (const auto* r : *list)
    if (old(r)) return true;
  return false;
}

bool infers(const fb::HealthCheck* h) { return h && h->type() == fb::CheckType::UNKNOWN; }

bool old(const fb::TaskInfo& t) {
  return old(t.resources()) || infers(t.health_check()) || (t.executor() && old(t.executor()->resources()));
}

void upgrade(fb::TaskInfoT& t) {
  upgrade(t.resources);
  if (t.executor) upgrade(t.executor->resources);
  if (auto* h = t.health_check.get(); h && h->type == fb::CheckType::UNKNOWN) {
    if (h->command)
      h->type = fb::CheckType::COMMAND;
    else if (h->http)
      h->type = fb::CheckType::HTTP;
    else if (h->tcp)
      h->type = fb::CheckType::TCP;
  }
}

}  // namespace

void downgrade(fb::EventT& event, Format format) {
  if (event.offers) {
    for (auto& o : event.offers->offers) {
      if (!format.multi_role) o->allocation_role.clear();
      downgrade(o->resources, format);
    }
  }
  if (event.update && event.update->status && event.update->status->limitation)
    downgrade(event.update->status->limitation->resources, format);
}

bool needs_upgrade(const fb::Accept& accept) {
  if (!accept.operations()) return false;
  for (const auto* op : *accept.operations()) {
    if (op->launch() && op->launch()->task_infos()) {
      for (const auto* t : *op->launch()->task_infos())
        if (old(*t)) return true;
    }
    if (op->reserve() && (old(op->reserve()->resources()) || old(op->reserve()->source()))) return true;
    if (op->unreserve() && old(op->unreserve()->resources())) return true;
    if (op->create() && old(op->create()->volumes())) return true;
    if (op->destroy() && old(op->destroy()->volumes())) return true;
    if (op->grow_volume() && (old(op->grow_volume()->volume()) || old(op->grow_volume()->addition()))) return true;
    if (op->shrink_volume() && old(op->shrink_volume()->volume())) return true;
    if (op->launch_group() && op->launch_group()->task_infos()) {
      for (const auto* t : *op->launch_group()->task_infos())
        if (old(*t)) return true;
    }
  }
  return false;
}

void upgrade_resources(std::vector<std::unique_ptr<fb::ResourceT>>& list) { upgrade(list); }
void upgrade_resource(fb::ResourceT& resource) { upgrade(resource); }

void upgrade(fb::AcceptT& accept) {
  for (auto& op : accept.operations) {
    if (op->launch)
      for (auto& t : op->launch->task_infos) upgrade(*t);
    if (op->reserve) upgrade(op->reserve->resources), upgrade(op->reserve->source);
    if (op->unreserve) upgrade(op->unreserve->resources);
    if (op->create) upgrade(op->create->volumes);
    if (op->destroy) upgrade(op->destroy->volumes);
    if (op->grow_volume) upgrade(*op->grow_volume->volume), upgrade(*op->grow_volume->addition);
    if (op->shrink_volume) upgrade(*op->shrink_volume->volume);
    if (op->launch_group)
      for (auto& t : op->launch_group->task_infos) upgrade(*t);
  }
}

}  // namespace gantry::gateway_mesos
