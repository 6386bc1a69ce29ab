#include "filter.hpp"

#include "../permits.hpp"
#include "legacy.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace gantry::gateway_mesos {
namespace {

template <class F>
void each_list(const View::Framework& f, F fn) {
  for (const auto* list : {&f.tasks, &f.absent, &f.completed})
    for (const auto& t : *list) fn(*t);
}

// As whom an executor runs.
std::string_view user_of(const ExecutorRow& x, const std::map<std::string_view, std::string_view>& owner_of) {
  const auto it = owner_of.find(x.framework_id);
  return gateway_mesos::user_of(*x.info, it == owner_of.end() ? std::string_view() : it->second);
}

}  // namespace

std::vector<Ask> asks_of(const View& v) {
  // Few words, many tasks: words are compared before they are copied.
  std::set<std::string_view> users, owners, roles = {"*"};
  for (const auto* all : {&v.frameworks, &v.completed})
    for (const auto& f : *all) {
      const std::string_view owner = text(f.row->info->user());
      owners.insert(owner);
      for (const auto r : roles_of(*f.row->info)) roles.insert(r);
      each_list(f, [&](const TaskRow& t) { users.insert(user_of(*t.info, owner)); });
    }
  for (const auto& o : v.offers) roles.insert(o->role);
  for (const auto& a : v.agents)
    for (const auto* list : {a->row->total(), a->info->resources()})
      if (list)
        for (const auto* r : *list)
          if (r->reservations())
            for (const auto* one : *r->reservations()) roles.insert(text(one->role()));
  std::map<std::string_view, std::string_view> owner_of;
  for (const auto& f : v.frameworks) owner_of.emplace(f.row->id, text(f.row->info->user()));
  for (const auto& x : v.executors) users.insert(user_of(*x, owner_of));
  for (const auto& [role, row] : v.roles) roles.insert(role);
  std::vector<Ask> out = {{"get_maintenance_schedule", {}}, {"get_maintenance_status", {}}, {"view_flags", {}}};
  for (const auto u : owners) out.push_back({"view_framework", std::string(u)});
  for (const auto u : users) {
    out.push_back({"view_task", std::string(u)});
    out.push_back({"view_executor", std::string(u)});
  }
  for (const auto r : roles) out.push_back({"view_role", std::string(r)});
  for (const auto& [role, row] : v.roles) out.push_back({"get_quota", role});
  return out;
}

bool sees(const Verdicts& verdicts, const fb::Resource& r) {
  if (verdicts.all() || !r.reservations()) return true;
  return std::all_of(r.reservations()->begin(), r.reservations()->end(),
                     [&](const fb::ReservationInfo* one) { return verdicts.allows("view_role", text(one->role())); });
}
bool sees(const Verdicts& verdicts, const fb::ResourceT& r) {
  return verdicts.all() || std::all_of(r.reservations.begin(), r.reservations.end(),
                                       [&](const auto& one) { return verdicts.allows("view_role", one->role); });
}

std::shared_ptr<const View> filtered(std::shared_ptr<const View> v, const Verdicts& verdicts) {
  if (verdicts.all()) return v;
  const auto asks = asks_of(*v);
  if (std::all_of(asks.begin(), asks.end(), [&](const Ask& a) { return verdicts.allows(a.action, a.object); })) return v;
  auto out = std::make_shared<View>(*v);
  out->verdicts = verdicts;
  std::set<std::string_view> hidden;
  const auto prune = [&](std::vector<View::Framework>& list) {
    std::erase_if(list, [&](View::Framework& f) {
      const std::string_view owner = text(f.row->info->user());
      if (!verdicts.allows("view_framework", owner)) {
        hidden.insert(f.row->id);
        return true;
      }
      for (auto* tasks : {&f.tasks, &f.absent, &f.completed})
        std::erase_if(*tasks, [&](const TaskPtr& t) { return !verdicts.allows("view_task", user_of(*t->info, owner)); });
      return false;
    });
  };
  // The names stand in rows that `v` keeps.
  prune(out->frameworks);
  prune(out->completed);
  std::erase_if(out->offers, [&](const OfferPtr& o) { return hidden.count(o->framework_id) != 0; });
  std::erase_if(out->inverse_offers, [&](const InverseOfferPtr& o) { return hidden.count(o->framework_id) != 0; });
  std::erase_if(out->operations, [&](const auto& o) { return hidden.count(text(o->framework_id())) != 0; });
  std::map<std::string_view, std::string_view> owner_of;
  for (const auto& f : v->frameworks) owner_of.emplace(f.row->id, text(f.row->info->user()));
  std::erase_if(out->executors, [&](const ExecutorPtr& x) {
    return hidden.count(x->framework_id) != 0 || !verdicts.allows("view_executor", user_of(*x, owner_of));
  });
  return out;
}

std::vector<Ask> asks_of(const FrameworkRow& f) { return {{"view_framework", std::string(text(f.info->user()))}}; }

std::vector<Ask> asks_of(const TaskRow& t, const FrameworkRow* f) {
  const std::string_view owner = f ? text(f->info->user()) : std::string_view();
  return {{"view_framework", std::string(owner)}, {"view_task", std::string(user_of(*t.info, owner))}};
}

}  // namespace gantry::gateway_mesos
