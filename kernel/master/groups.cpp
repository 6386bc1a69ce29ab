// Task groups: tasks that are launched together or not at all (mesos-kernel.md A4).
//
//   LAUNCH_GROUP -> everything about it is checked -> each task and, with its first group, the executor are booked -> one RunGroup.
//
// One mistake fails all tasks, and each is told whose mistake it was. What a group does once it runs is its agent's: there the tasks
// are nested in the executor's container (DEFAULT), or the executor is told of all of them at once (CUSTOM).
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"
#include "kernel/resource/wire.hpp"

#include <set>

namespace gantry::master {

using base::Level;

namespace {

Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

// What an executor of groups has at least, so that its container can be made.
constexpr double least_cpus = 0.01, least_mem = 32;

Status validate_least(const Resources& r) {
  const auto amount = [&](const char* name) { return r.scalar(resource::intern_name(name)); };
  const auto lacks = [](const char* what, resource::Scalar has, double least) {
    return invalid("Executor of a task group has " + has.text() + " " + what + "; it needs at least " + resource::Scalar::of(least).text());
  };
  if (amount("cpus") < resource::Scalar::of(least_cpus)) return lacks("cpus", amount("cpus"), least_cpus);
  if (amount("mem") < resource::Scalar::of(least_mem)) return lacks("mem", amount("mem"), least_mem);
  if (!(resource::Scalar::of(0) < amount("disk"))) return invalid("Executor of a task group has no disk; it needs some");
  return ok;
}

// The container of the default executor holds what its tasks share; there is no program in it.
Status validate_default_executor(const fb::ExecutorInfo& x) {
  if (x.command()) return invalid("'ExecutorInfo.command' must not be set for 'DEFAULT' executor");
  const auto* c = x.container();
  if (!c) return ok;
  if (c->type() != fb::ContainerType::MESOS) return invalid("'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor");
  if (c->mesos() && c->mesos()->image()) return invalid("'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor");
  return ok;
}

bool shares_cgroups(const fb::TaskInfo& t) {
  const auto* linux_info = t.container() ? t.container()->linux_info() : nullptr;
  return !linux_info || linux_info->share_cgroups().value_or(true);
}

// What a task may not ask for because it is of a group.
Status validate_in_group(const fb::TaskInfo& t, bool nested, bool share_cgroups) {
  if (t.executor()) return invalid("'TaskInfo.executor' must not be set");
  if (nested && !t.command()) return invalid("'TaskInfo.command' must be set");
  if (const auto* c = t.container(); c && nested) {
    if (c->type() == fb::ContainerType::DOCKER) return invalid("'DockerInfo' must not be set in 'TaskInfo.container' of a task group");
    if (c->network_infos() && c->network_infos()->size() > 0)
      return invalid("'NetworkInfos' must not be set in 'TaskInfo.container': tasks of a group use the network of their executor");
  }
  if (shares_cgroups(t) != share_cgroups)
    return invalid("'linux_info.share_cgroups' must be the same for all tasks of a group");
  if (share_cgroups && t.limits() && t.limits()->size() > 0)
    return invalid("'TaskInfo.limits' can be set only with 'linux_info.share_cgroups' = false");
  return ok;
}

}  // namespace

void Core::reject_group(const Framework& f, const fb::LaunchGroup& group, std::string_view why) {
  if (!group.task_infos()) return;
  for (const auto* t : *group.task_infos()) {
    ++counters_.tasks_error;
    send_update(f, status_of(text(t->task_id()), text(t->agent_id()), fb::TaskState::TASK_ERROR,
                             fb::Reason::REASON_TASK_GROUP_INVALID, std::string(why)));
  }
}

// What each task needs of `pool`, in their order, and what the executor does; or why nothing of it can be launched.
Status Core::validate_group(const Framework& f, const Agent& agent, const fb::LaunchGroup& group, RoleId role, const Resources& pool,
                            std::vector<Resources>& needs, Resources& of_executor) const {
  if (!agent.knows_groups)
    return invalid("Agent " + std::string(agent.id()) + " is of a release that does not know task groups; upgrade it");
  const auto* x = group.executor();
  if (!x) return invalid("'LaunchGroup.executor' must be set");
  if (auto bad = bad_id(text(x->executor_id()))) return invalid("Executor ID is invalid: " + *bad);
  if (x->type() == fb::ExecutorType::UNKNOWN) return invalid("'ExecutorInfo.type' must be 'DEFAULT' or 'CUSTOM' in a task group");
  const bool nested = x->type() == fb::ExecutorType::DEFAULT;
  if (nested) GANTRY_CHECK(validate_default_executor(*x));
  const auto of_container = resource::from_wire(x->resources());
  if (!of_container) return invalid("Executor uses invalid resources: " + of_container.error().message);
  GANTRY_CHECK(validate_least(*of_container));
  GANTRY_CHECK(validate_executor(f, agent, *x, role, nested, of_executor));
  of_executor = of_executor.unallocated();

  Resources rest = pool, all = of_executor;
  bool enough = true;
  const auto take = [&](Resources& asked) {
    asked = resource::as_in(rest, asked);
    enough = enough && rest.contains(asked);
    asked = charge_of(rest, asked);
    if (enough) rest -= asked;
  };
  take(of_executor);
  std::set<std::string_view> ids;
  const auto& tasks = *group.task_infos();
  const bool share_cgroups = shares_cgroups(*tasks.Get(0));
  for (const auto* t : tasks) {
    Resources own;
    Status s = validate_in_group(*t, nested, share_cgroups);
    if (s) s = validate_own(f, agent, *t, own);
    if (s && !ids.insert(text(t->task_id())).second) s = invalid("another task of the group has the same ID");
    if (s && !own.gpus().is_whole()) s = invalid("The 'gpus' resource must be an unsigned integer");
    if (!s) return invalid("Task '" + std::string(text(t->task_id())) + "' is invalid: " + s.error().message);
    own = own.unallocated();
    all += own;
    take(own);
    needs.push_back(std::move(own));
  }
  if (!enough)
    return invalid("Total resources " + resource::words(all, role) + " required by task group and its executor are more than available " +
                   resource::words(pool, role));
  return ok;
}

void Core::launch_group(Handle fh, Handle ah, RoleId role, Resources& pool, const fb::LaunchGroup& group, bool has_id) {
  if (!group.task_infos() || group.task_infos()->size() == 0) {
    ++counters_.refused_operations;
    return log(Level::warning, "dropped a LAUNCH_GROUP without tasks", {{"framework", frameworks_[fh].id}});
  }
  const Framework& f = frameworks_[fh];
  const Agent& agent = agents_[ah];
  std::vector<Resources> needs;
  Resources of_executor;
  Status valid = has_id ? Status(invalid("The 'id' field cannot be set in LAUNCH_GROUP operations"))
                        : validate_group(f, agent, group, role, pool, needs, of_executor);
  if (!valid) {
    ++counters_.refused_operations;
    return reject_group(f, group, valid.error().message);
  }
  pool -= of_executor;
  const bool launch_executor = use_executor(ah, fh, role, *group.executor(), std::move(of_executor));
  const auto in_role = [&](auto& resources) {  // to be charged rightly after a master failover
    for (auto& r : resources)
      if (r->allocation_role.empty()) r->allocation_role = resource::text_of(role);
  };
  fb::ExecutorInfoT executor;
  group.executor()->UnPackTo(&executor);
  executor.framework_id = f.id;
  in_role(executor.resources);
  std::vector<Bytes> infos;
  for (std::size_t i = 0; i < needs.size(); ++i) {
    fb::TaskInfoT t;
    group.task_infos()->Get(static_cast<flatbuffers::uoffset_t>(i))->UnPackTo(&t);
    in_role(t.resources);
    t.executor = std::make_unique<fb::ExecutorInfoT>(executor);
    pool -= needs[i];
    const Handle h = add_task(fh, ah, role, Blob(pack(t)), std::move(needs[i]));
    infos.push_back(tasks_[h].info);
    ++counters_.tasks_launched;
  }
  if (agent.link) to_agent(agent.link, run_group(f.info, infos, launch_executor));
  if (now_ >= lull_) lull_ = now_ + options_.launch_lull;
}

}  // namespace gantry::master
