// Custom executors as the master sees them: each holds resources of its agent, from its first task until the agent says that it has
// ended (mesos-kernel.md A3). Its tasks come and go meanwhile.
//
// The agent's word is final: who is not named when it registers is gone, and what an agent is told to start and does not, it says
// has ended. Each RunTask says whether its executor was booked with it; one that counts on an executor which ended meanwhile starts
// nothing, so no executor runs that is not booked.
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"
#include "kernel/resource/wire.hpp"

#include <algorithm>

namespace gantry::master {

namespace {

Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

// As it is kept and compared: of this framework, its resources allocated to the role.
Blob kept(const fb::ExecutorInfo& info, const std::string& framework_id, RoleId role) {
  fb::ExecutorInfoT t;
  info.UnPackTo(&t);
  t.framework_id = framework_id;
  for (auto& r : t.resources)
    if (r->allocation_role.empty()) r->allocation_role = resource::text_of(role);
  return Blob(pack(t));
}

}  // namespace

const Executor* Core::find_executor(Handle agent, Handle framework, std::string_view id) const {
  const auto it = executors_.find(agent);
  if (it == executors_.end()) return nullptr;
  for (const auto& e : it->second)
    if (e.framework == framework && e.id() == id) return &e;
  return nullptr;
}

Resources Core::executor_resources(Handle agent) const {
  Resources out;
  if (const auto it = executors_.find(agent); it != executors_.end())
    for (const auto& e : it->second) out += e.resources;
  return out;
}

// What a task's executor asks for: nothing if it lives. `needs` is added to.
Status Core::validate_executor(const Framework& f, const Agent& agent, const fb::ExecutorInfo& x, RoleId role, bool may_be_default,
                               Resources& needs) const {
  if (const auto own = text(x.framework_id()); !own.empty() && own != f.id)
    return invalid("ExecutorInfo has an invalid FrameworkID (Actual: " + std::string(own) + " vs Expected: " + f.id + ")");
  const bool is_default = x.type() == fb::ExecutorType::DEFAULT;
  if (is_default && !may_be_default) return invalid("'ExecutorInfo.type' must be 'CUSTOM'");
  if (!is_default && !x.command()) return invalid("'ExecutorInfo.command' must be set for 'CUSTOM' executor");
  if (x.shutdown_grace_period_ns().value_or(0) < 0) return invalid("ExecutorInfo's 'shutdown_grace_period' must be non-negative");
  const auto extra = resource::from_wire(x.resources());
  if (!extra) return invalid("Executor uses invalid resources: " + extra.error().message);
  const auto framework = framework_by_id_.find(f.id)->second;
  if (const Executor* lives = find_executor(find_agent(agent.id()), framework, text(x.executor_id()))) {
    if (!same_bytes(kept(x, f.id, role), lives->info))
      return invalid("Task has invalid ExecutorInfo: ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID '" +
                     std::string(text(x.executor_id())) + "'");
    return ok;
  }
  needs += *extra;
  return ok;
}

// Books it unless it is there; its resources are out of the offer already. True if it was not.
bool Core::use_executor(Handle agent, Handle framework, RoleId role, const fb::ExecutorInfo& info, Resources resources) {
  if (find_executor(agent, framework, text(info.executor_id()))) return false;
  Executor e;
  e.framework = framework;
  e.info = kept(info, frameworks_[framework].id, role);
  e.resources = std::move(resources);
  e.role = role;
  executors_[agent].push_back(std::move(e));
  note_executor(agent, executors_[agent].back());
  return true;
}

// `give`: what it held goes back to the agent; else the agent's books are opened anew or closed.
void Core::end_executors(Handle agent, bool give, const std::function<bool(const Executor&)>& which) {
  const auto it = executors_.find(agent);
  if (it == executors_.end()) return;
  std::vector<Executor> ended;
  for (std::size_t i = 0; i < it->second.size();) {
    if (which && !which(it->second[i])) {
      ++i;
      continue;
    }
    ended.push_back(std::move(it->second[i]));
    it->second.erase(it->second.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (it->second.empty()) executors_.erase(it);
  for (const Executor& e : ended) {
    note_executor_gone(agent, e);
    if (give) give_back(agent, e.framework, e.role, e.resources);
    else note_held(e.framework, e.role, e.resources, -1);
  }
}

void Core::adopt_executors(Handle agent, const fb::link::Register& reg, const std::function<Handle(const std::string&)>& framework_of, Resources& used) {
  end_executors(agent, false, {});
  if (!reg.executors()) return;
  for (const auto* k : *reg.executors()) {
    if (!k->info() || text(k->info()->executor_id()).empty() || text(k->framework_id()).empty()) {
      ++counters_.invalid_messages;
      continue;
    }
    const auto resources = resource::from_wire(k->info()->resources());
    if (!resources) {
      ++counters_.invalid_messages;
      continue;
    }
    const Handle framework = framework_of(std::string(text(k->framework_id())));
    if (!framework || find_executor(agent, framework, text(k->info()->executor_id()))) continue;
    const Framework& f = frameworks_[framework];
    RoleId role = f.roles.empty() ? RoleId::star : f.roles.front();
    for (const auto& r : *resources)
      if (r.allocation_role() != RoleId::none) role = r.allocation_role();
    Resources charge = charge_of(agents_[agent].total, resources->unallocated());
    note_held(framework, role, charge, +1);
    used += charge;
    use_executor(agent, framework, role, *k->info(), std::move(charge));
  }
}

void Core::on_executor_exited(Handle ah, const fb::link::ExecutorExited& x) {
  const Handle fh = find_framework(text(x.framework_id()));
  if (!fh) return;
  end_executors(ah, true, [&](const Executor& e) { return e.framework == fh && e.id() == text(x.executor_id()); });
  if (frameworks_[fh].stream)
    out_->emplace_back(SendFramework{frameworks_[fh].stream, failure_event(agents_[ah].id(), text(x.executor_id()), x.status())});
}

void Core::on_shutdown_executor(Handle fh, const fb::ShutdownExecutor& s) {
  const Handle ah = find_agent(text(s.agent_id()));
  if (!ah || agents_[ah].state != AgentState::registered || !agents_[ah].link) return;
  to_agent(agents_[ah].link, shutdown_executor(frameworks_[fh].id, text(s.executor_id())));
}

// The framework is over: its executors give back what they held, and their agents are told.
void Core::end_executors_of(Handle framework, std::set<LinkId>& links) {
  std::vector<Handle> agents;
  for (const auto& [agent, list] : executors_)
    if (std::any_of(list.begin(), list.end(), [&](const Executor& e) { return e.framework == framework; })) agents.push_back(agent);
  std::sort(agents.begin(), agents.end());
  for (const Handle agent : agents) {
    if (agents_[agent].link) links.insert(agents_[agent].link);
    end_executors(agent, true, [&](const Executor& e) { return e.framework == framework; });
  }
}

// Agents that run something of it learn its new information.
void Core::tell_agents_of(Handle framework) {
  const Framework& f = frameworks_[framework];
  std::set<LinkId> links;
  for (Handle t = f.first_task; t; t = tasks_[t].of_framework.next)
    if (tasks_[t].agent && agents_[tasks_[t].agent].link) links.insert(agents_[tasks_[t].agent].link);
  for (const auto& [agent, list] : executors_)
    for (const auto& e : list)
      if (e.framework == framework && agents_[agent].link) links.insert(agents_[agent].link);
  for (const LinkId l : links) to_agent(l, changed_framework(f.info));
}

}  // namespace gantry::master
