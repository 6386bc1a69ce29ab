#include "asks.hpp"

namespace gantry::gateway_mesos {
namespace {

using C = fb::master::CallType;
using List = std::vector<std::unique_ptr<fb::ResourceT>>;

std::string role_of(const fb::ResourceT& r) {
  if (!r.reservations.empty()) return r.reservations.back()->role;
  return r.role.empty() ? "*" : r.role;
}
std::string reserver_of(const fb::ResourceT& r) {
  if (!r.reservations.empty()) return r.reservations.back()->principal;
  return r.reservation ? r.reservation->principal : std::string();
}
std::string creator_of(const fb::ResourceT& r) { return r.disk && r.disk->persistence ? r.disk->persistence->principal : std::string(); }

template <class Word>
void each(std::vector<Ask>& out, const List& list, const char* action, Word word) {
  for (const auto& r : list)
    if (r) out.push_back({action, word(*r)});
}

}  // namespace

std::vector<Ask> asks_of(const fb::master::CallT& c, const std::function<std::string(const std::string&)>& principal_of) {
  std::vector<Ask> out;
  switch (c.type) {
    case C::SET_LOGGING_LEVEL:
      return {{"set_log_level", {}}};
    case C::UPDATE_WEIGHTS:
      if (c.update_weights)
        for (const auto& w : c.update_weights->weight_infos)
          if (w) out.push_back({"update_weight", w->role});
      return out;
    case C::UPDATE_QUOTA:
      if (c.update_quota)
        for (const auto& q : c.update_quota->quota_configs)
          if (q) out.push_back({"update_quota", q->role});
      return out;
    case C::SET_QUOTA:
      return {{"update_quota", c.set_quota && c.set_quota->quota_request ? c.set_quota->quota_request->role : std::string()}};
    case C::REMOVE_QUOTA:
      return {{"update_quota", c.remove_quota ? c.remove_quota->role : std::string()}};
    case C::RESERVE_RESOURCES:
      if (c.reserve_resources) {
        each(out, c.reserve_resources->resources, "reserve_resources", role_of);
        each(out, c.reserve_resources->source, "unreserve_resources", reserver_of);
      }
      return out;
    case C::UNRESERVE_RESOURCES:
      if (c.unreserve_resources) each(out, c.unreserve_resources->resources, "unreserve_resources", reserver_of);
      return out;
    case C::CREATE_VOLUMES:
      if (c.create_volumes) each(out, c.create_volumes->volumes, "create_volume", role_of);
      return out;
    case C::DESTROY_VOLUMES:
      if (c.destroy_volumes) each(out, c.destroy_volumes->volumes, "destroy_volume", creator_of);
      return out;
    case C::GROW_VOLUME:
      if (c.grow_volume && c.grow_volume->volume) out.push_back({"resize_volume", role_of(*c.grow_volume->volume)});
      return out;
    case C::SHRINK_VOLUME:
      if (c.shrink_volume && c.shrink_volume->volume) out.push_back({"resize_volume", role_of(*c.shrink_volume->volume)});
      return out;
    case C::TEARDOWN:
      return {{"teardown_framework", c.teardown ? principal_of(c.teardown->framework_id) : std::string()}};
    case C::MARK_AGENT_GONE:
      return {{"mark_agent_gone", {}}};
    case C::DRAIN_AGENT:
      return {{"drain_agent", {}}};
    case C::DEACTIVATE_AGENT:
      return {{"deactivate_agent", {}}};
    case C::REACTIVATE_AGENT:
      return {{"reactivate_agent", {}}};
    case C::UPDATE_MAINTENANCE_SCHEDULE:
      return {{"update_maintenance_schedule", {}}};
    case C::START_MAINTENANCE:
      return {{"start_maintenance", {}}};
    case C::STOP_MAINTENANCE:
      return {{"stop_maintenance", {}}};
    default:
      return out;
  }
}

}  // namespace gantry::gateway_mesos
