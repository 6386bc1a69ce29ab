// Read views: listings in pages, sums, and the check of the books.
#include "kernel/master/core.hpp"
#include "kernel/resource/wire.hpp"

#include <gantry/control_generated.h>

namespace gantry::master {

void Core::sums(Resources& total, Resources& used, Resources& offered) const {
  for (Handle h = 1; h < agents_.end(); ++h)
    if (agents_.contains(h) && agents_[h].state == AgentState::registered) total += agents_[h].total;
  for (Handle h = 1; h < tasks_.end(); ++h)
    if (tasks_.contains(h) && !tasks_[h].released) used += tasks_[h].resources;
  for (const auto& [agent, list] : executors_)
    for (const auto& e : list) used += e.resources;
  for (Handle h = 1; h < offers_.end(); ++h)
    if (offers_.contains(h)) offered += offers_[h].resources;
}

void Core::fill(fb::control::StatusT& s) const {
  s.leading = true;
  s.master_id = options_.run_id;
  s.agents = static_cast<std::uint32_t>(registered_);
  s.frameworks = static_cast<std::uint32_t>(framework_count());
  s.tasks = static_cast<std::uint32_t>(tasks_.size());
  s.offers = static_cast<std::uint32_t>(offers_.size());
  if (recovering_) s.warnings.push_back(std::to_string(recovering_) + " known agents have not returned yet");
}

bool Core::list_agents(Cursor& c, std::size_t limit, fb::control::AgentsT& out) const {
  for (; c.at < agents_.end(); ++c.at) {
    if (!agents_.contains(c.at)) continue;
    const Agent& a = agents_[c.at];
    if (a.state == AgentState::departed || a.state == AgentState::registering) continue;
    if (limit-- == 0) return true;
    auto row = std::make_unique<fb::control::AgentT>();
    row->info = std::make_unique<fb::AgentInfoT>();
    a.about().UnPackTo(row->info.get());
    row->active = a.active;
    row->connected = a.link != 0;
    row->unreachable = a.state == AgentState::unreachable || a.state == AgentState::marking;
    row->tasks = a.tasks;
    Resources used, offered;
    for (Handle t = a.first_task; t; t = tasks_[t].of_agent.next) used += tasks_[t].resources;
    for (Handle o = a.first_offer; o; o = offers_[o].of_agent.next) offered += offers_[o].resources;
    row->total = resource::to_wire(a.total);
    row->used = resource::to_wire(used);
    row->offered = resource::to_wire(offered);
    out.agents.push_back(std::move(row));
  }
  return false;
}

bool Core::list_frameworks(Cursor& c, std::size_t limit, fb::control::FrameworksT& out) const {
  if (c.stage == 0) {
    for (; c.at < frameworks_.end(); ++c.at) {
      if (!frameworks_.contains(c.at) || frameworks_[c.at].id.empty()) continue;
      const Framework& f = frameworks_[c.at];
      if (limit-- == 0) return true;
      auto row = std::make_unique<fb::control::FrameworkT>();
      row->info = std::make_unique<fb::FrameworkInfoT>();
      f.about().UnPackTo(row->info.get());
      row->connected = f.connected();
      row->active = f.connected() && !f.removing;
      row->tasks = f.tasks;
      row->registered_ns = static_cast<std::uint64_t>(f.registered_wall);
      Resources used, offered;
      for (Handle t = f.first_task; t; t = tasks_[t].of_framework.next) used += tasks_[t].resources;
      for (Handle o = f.first_offer; o; o = offers_[o].of_framework.next) offered += offers_[o].resources;
      row->used = resource::to_wire(used);
      row->offered = resource::to_wire(offered);
      out.frameworks.push_back(std::move(row));
    }
    c = {1, 1, 0};
  }
  for (; c.inner < completed_.size(); ++c.inner) {
    if (limit-- == 0) return true;
    const auto& f = completed_[c.inner];
    auto row = std::make_unique<fb::control::FrameworkT>();
    row->info = std::make_unique<fb::FrameworkInfoT>();
    f.info.as<fb::FrameworkInfo>()->UnPackTo(row->info.get());
    row->completed = true;
    row->registered_ns = static_cast<std::uint64_t>(f.registered_wall);
    out.frameworks.push_back(std::move(row));
  }
  return false;
}

bool Core::list_tasks(const fb::control::AskTasksT& ask, Cursor& c, std::size_t limit, fb::control::TasksT& out) const {
  // Rows looked at count, not rows found: a page is a bounded piece of work.
  std::size_t budget = limit * 8;
  const auto make = [&](std::string_view framework_id, std::string_view framework_name, const Blob& info,
                        const Blob& status, fb::TaskState state, std::int64_t launched, bool completed) {
    const auto& about = *info.as<fb::TaskInfo>();
    if (!ask.task_id.empty() && text(about.task_id()) != ask.task_id) return;
    if (!ask.agent_id.empty() && text(about.agent_id()) != ask.agent_id) return;
    auto row = std::make_unique<fb::control::TaskT>();
    row->framework_id = framework_id;
    row->framework_name = framework_name;
    row->info = std::make_unique<fb::TaskInfoT>();
    about.UnPackTo(row->info.get());
    row->state = state;
    row->agent_id = text(about.agent_id());
    if (const Handle a = find_agent(row->agent_id)) row->hostname = text(agents_[a].about().hostname());
    if (!status.empty()) {
      row->status = std::make_unique<fb::TaskStatusT>();
      status.as<fb::TaskStatus>()->UnPackTo(row->status.get());
      if (row->status->container_status) row->container_id = row->status->container_status->container_id;
    }
    row->launched_wall_ns = static_cast<std::uint64_t>(launched);
    row->completed = completed;
    out.tasks.push_back(std::move(row));
  };
  if (c.stage == 0) {
    for (; c.at < tasks_.end(); ++c.at) {
      if (budget-- == 0 || out.tasks.size() >= limit) return true;
      if (!tasks_.contains(c.at)) continue;
      const Task& t = tasks_[c.at];
      const Framework& f = frameworks_[t.framework];
      if (!ask.framework_id.empty() && f.id != ask.framework_id) continue;
      make(f.id, text(f.about().name()), t.info, t.status, t.state, t.launched_wall, false);
    }
    c = {1, 1, 0};
  }
  if (!ask.completed) return false;
  if (c.stage == 1) {
    for (; c.at < frameworks_.end(); ++c.at, c.inner = 0) {
      if (!frameworks_.contains(c.at) || frameworks_[c.at].id.empty()) continue;
      const Framework& f = frameworks_[c.at];
      if (!ask.framework_id.empty() && f.id != ask.framework_id) continue;
      for (; c.inner < f.completed.size(); ++c.inner) {
        if (budget-- == 0 || out.tasks.size() >= limit) return true;
        const auto& t = f.completed[c.inner];
        make(f.id, text(f.about().name()), t.info, t.status, t.state, t.launched_wall, true);
      }
    }
    c = {2, 0, 0};
  }
  for (; c.at < completed_.size(); ++c.at, c.inner = 0) {
    const auto& f = completed_[c.at];
    if (!ask.framework_id.empty() && f.id != ask.framework_id) continue;
    for (; c.inner < f.tasks.size(); ++c.inner) {
      if (budget-- == 0 || out.tasks.size() >= limit) return true;
      const auto& t = f.tasks[c.inner];
      make(f.id, text(f.info.as<fb::FrameworkInfo>()->name()), t.info, t.status, t.state, t.launched_wall, true);
    }
  }
  return false;
}

Status Core::check() const {
  const auto broken = [](std::string what) {
    return fail(Code::internal, "the master's books are wrong: " + std::move(what));
  };
  std::unordered_map<Handle, Resources> limbo;
  for (const auto& [cookie, p] : pending_)
    if (p.limbo() && agents_.contains(p.agent) && agents_[p.agent].epoch == p.epoch)
      limbo[p.agent] += p.before;
  std::size_t on_agents = 0, offers = 0, registered = 0, recovering = 0;
  for (Handle h = 1; h < agents_.end(); ++h) {
    if (!agents_.contains(h)) continue;
    const Agent& a = agents_[h];
    const std::string id(a.id());
    registered += a.state == AgentState::registered || a.state == AgentState::marking;
    recovering += a.state == AgentState::recovered;
    std::uint32_t tasks = 0;
    Resources sum = a.available, used;
    for (Handle t = a.first_task; t; t = tasks_[t].of_agent.next, ++tasks) {
      if (tasks_[t].agent != h || tasks_[t].absent)
        return broken("a task in the list of agent " + id + " belongs elsewhere");
      if (!tasks_[t].released) used += tasks_[t].resources;
      if (tasks_[t].released != terminal(tasks_[t].state))
        return broken("task " + std::string(tasks_[t].id()) + " ended and was not released, or the reverse");
    }
    used += executor_resources(h);
    if (tasks != a.tasks) return broken("agent " + id + " counts its tasks wrongly");
    on_agents += tasks;
    Resources offered;
    for (Handle o = a.first_offer; o; o = offers_[o].of_agent.next, ++offers) {
      if (offers_[o].agent != h) return broken("an offer in the list of agent " + id + " belongs elsewhere");
      if (!frameworks_[offers_[o].framework].connected())
        return broken("an offer is held by a framework that is not connected");
      offered += offers_[o].resources;
    }
    if (a.state != AgentState::registered) {
      if (!offered.empty()) return broken("agent " + id + " is away and yet offered");
      continue;
    }
    if (!a.active && !offered.empty()) return broken("agent " + id + " is inactive and yet offered");
    sum += offered;
    if (const auto r = returns_.find(h); r != returns_.end()) sum += r->second;
    if (const auto l = limbo.find(h); l != limbo.end()) sum += l->second;
    if (a.total.contains(used)) {  // else the agent has shrunk below what runs there
      sum += used;
      if (!(sum == a.total))
        return broken("agent " + id + " has " + a.total.text() + ", and free, offered and used make " + sum.text());
    } else if (!a.total.contains(sum)) {
      return broken("agent " + id + " has " + a.total.text() + ", of which " + sum.text() + " are free or offered");
    }
  }
  for (const auto& [agent, list] : executors_)
    if (list.empty() || !agents_.contains(agent) || agents_[agent].state == AgentState::unreachable || agents_[agent].state == AgentState::gone)
      return broken("executors are booked on an agent that is not there");
  if (offers != offers_.size()) return broken("offers that belong to no agent");
  if (registered != registered_ || recovering != recovering_) return broken("the counts of agents are off");
  std::size_t of_frameworks = 0, absent = 0;
  std::array<std::size_t, 14> states{};
  for (Handle h = 1; h < frameworks_.end(); ++h) {
    if (!frameworks_.contains(h)) continue;
    const Framework& f = frameworks_[h];
    std::uint32_t tasks = 0, away = 0;
    for (Handle t = f.first_task; t; t = tasks_[t].of_framework.next, ++tasks) {
      if (tasks_[t].framework != h) return broken("a task in the list of framework " + f.id + " belongs elsewhere");
      if (find_task(h, tasks_[t].id()) != t)
        return broken("task " + std::string(tasks_[t].id()) + " cannot be found by its id");
      away += tasks_[t].absent;
      ++states[static_cast<std::size_t>(tasks_[t].state)];
    }
    if (tasks != f.tasks || away != f.absent) return broken("framework " + f.id + " counts its tasks wrongly");
    of_frameworks += tasks;
    absent += away;
  }
  if (of_frameworks != tasks_.size() || on_agents + absent != tasks_.size() || states != by_state_)
    return broken("the counts of tasks are off");
  return check_roles();
}

}  // namespace gantry::master
