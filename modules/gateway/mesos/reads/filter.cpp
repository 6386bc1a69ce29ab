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

using Owners = std::map<std::string_view, std::string_view>;

Owners owners_by_framework(const View& v) {
  Owners out;
  for (const auto& f : v.frameworks) out[f.row->id] = text(f.row->info->user());
  return out;
}
std::string_view owner_of(const Owners& owners, std::string_view framework) {
  const auto it = owners.find(framework);
  return it == owners.end() ? std::string_view() : it->second;
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
  const auto owners_of = owners_by_framework(v);
  for (const auto& x : v.executors) users.insert(user_of(*x->info, owner_of(owners_of, x->framework_id)));
  for (const auto& o : v.offers) roles.insert(o->role);
  for (const auto& a : v.agents)
    if (a->row->total())
      for (const auto* r : *a->row->total())
        if (r->reservations())
          for (const auto* one : *r->reservations()) roles.insert(text(one->role()));
  std::vector<Ask> out;
  for (const auto u : owners) out.push_back({"view_framework", std::string(u)});
  for (const auto u : users) {
    out.push_back({"view_task", std::string(u)});
    out.push_back({"view_executor", std::string(u)});
  }
  for (const auto r : roles) out.push_back({"view_role", std::string(r)});
  return out;
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
  const auto owners = owners_by_framework(*v);
  std::erase_if(out->executors, [&](const ExecutorPtr& x) {
    return !verdicts.allows("view_executor", user_of(*x->info, owner_of(owners, x->framework_id)));
  });
  prune(out->frameworks);
  prune(out->completed);
  std::erase_if(out->offers, [&](const OfferPtr& o) { return hidden.count(o->framework_id) != 0; });
  std::erase_if(out->inverse_offers, [&](const InverseOfferPtr& o) { return hidden.count(o->framework_id) != 0; });
  std::erase_if(out->operations, [&](const auto& o) { return hidden.count(text(o->framework_id())) != 0; });
  return out;
}

std::vector<Ask> asks_of(const FrameworkRow& f) { return {{"view_framework", std::string(text(f.info->user()))}}; }

std::vector<Ask> asks_of(const TaskRow& t, const FrameworkRow* f) {
  const std::string_view owner = f ? text(f->info->user()) : std::string_view();
  return {{"view_framework", std::string(owner)}, {"view_task", std::string(user_of(*t.info, owner))}};
}

}  // namespace gantry::gateway_mesos
