#include "rollout.hpp"

#include <algorithm>
#include <cmath>

namespace gantry::framework_services {
namespace {

// Lower goes first.
int rank(const Instance& i) {
  switch (i.condition) {
    case Condition::scheduled:
      return 0;
    case Condition::unreachable:
    case Condition::inactive:
      return 1;
    case Condition::provisioned:
      return 2;
    case Condition::staging:
    case Condition::starting:
      return 3;
    default:
      return i.healthy() == false ? 4 : 5;
  }
}

std::string group_field(const App& app) {
  for (const auto& c : app.constraints) {
    if (c.op == "GROUP_BY") return c.field;
  }
  return {};
}

}  // namespace

std::vector<const Instance*> kill_order(std::vector<const Instance*> all, bool oldest_first, std::size_t count) {
  std::vector<const Instance*> out;
  if (all.empty()) return out;
  const std::string field = group_field(*all.front()->app);
  std::map<std::string, int> group_size;
  const auto value_of = [&](const Instance& i) {
    const auto it = i.attributes.find(field);
    return it == i.attributes.end() ? std::string() : it->second;
  };
  if (!field.empty()) {
    for (const auto* i : all) {
      if (i->has_task()) ++group_size[value_of(*i)];
    }
  }
  const auto before = [&](const Instance* a, const Instance* b) {
    if ((rank(*a) == 0) != (rank(*b) == 0)) return rank(*a) == 0;
    if (!field.empty()) {
      const int ga = group_size[value_of(*a)], gb = group_size[value_of(*b)];
      if (ga != gb) return ga > gb;
    }
    if (rank(*a) != rank(*b)) return rank(*a) < rank(*b);
    if (a->started_at != b->started_at)
      return oldest_first ? a->started_at < b->started_at : a->started_at > b->started_at;
    return oldest_first ? a->id < b->id : a->id > b->id;
  };
  if (field.empty()) {
    std::sort(all.begin(), all.end(), before);
    if (all.size() > count) all.resize(count);
    return all;
  }
  while (out.size() < count && !all.empty()) {
    const auto it = std::min_element(all.begin(), all.end(), before);
    if ((*it)->has_task()) --group_size[value_of(**it)];
    out.push_back(*it);
    all.erase(it);
  }
  return out;
}

RolloutStep rollout(int n, double min_health, double max_over, bool oldest_first, std::vector<RolloutView> instances) {
  RolloutStep step;
  std::vector<const Instance*> fresh, old;
  int leaving = 0, good_new = 0, good_old = 0;
  for (const auto& v : instances) {
    const Instance& i = *v.instance;
    if (i.doomed) {
      ++leaving;
      continue;
    }
    // An instance that has been given up as unreachable no longer counts; the returned one will be surplus.
    if (i.condition == Condition::inactive) {
      if (!v.current) step.kill.push_back(i.id);
      continue;
    }
    if (v.current) {
      fresh.push_back(&i);
      good_new += i.good();
    } else {
      old.push_back(&i);
      good_old += i.good();
    }
  }
  const int have = static_cast<int>(fresh.size());
  if (have > n) {
    for (const auto* i : kill_order(fresh, oldest_first, static_cast<std::size_t>(have - n))) {
      step.kill.push_back(i->id);
      good_new -= i->good();
      leaving += i->has_task();
    }
  }
  const int min_good = static_cast<int>(std::ceil(n * min_health - 1e-9));
  int most = static_cast<int>(std::floor(n * (1 + max_over) + 1e-9));
  if (most == min_good) ++most;

  if (!old.empty()) {
    // What serves nobody goes at once: waiting, failing. The rest only as far as capacity allows.
    int allowance = good_old + good_new - min_good;
    if (n == 0) allowance = static_cast<int>(old.size());
    const auto order = kill_order(old, oldest_first, old.size());
    for (const auto* i : order) {
      const bool useless = i->condition == Condition::scheduled || i->healthy() == false;
      if (!useless && allowance <= 0) continue;
      if (!useless) --allowance;
      step.kill.push_back(i->id);
      leaving += i->has_task();
      old.erase(std::find(old.begin(), old.end(), i));
    }
  }
  const int total = static_cast<int>(old.size()) + leaving + std::min(have, n);
  if (have < n) step.start = std::max(0, std::min(n - have, most - total));
  step.done = step.kill.empty() && step.start == 0 && leaving == 0 && old.empty() && have == n && good_new == n;
  return step;
}

}  // namespace gantry::framework_services
