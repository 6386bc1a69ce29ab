#include "views.hpp"

#include "../masters.hpp"
#include "../reads/legacy.hpp"
#include "../reads/legacy_json.hpp"
#include "../reads/sums.hpp"
#include "wire/codec.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace gantry::gateway_mesos::agent_views {
namespace {

namespace op = fb::agent;
using S = fb::TaskState;

using legacy::attributes;
using legacy::is_reserved_for;
using legacy::is_unreserved;
using legacy::Json;
using legacy::labels;
using legacy::reserved_roles;
using legacy::resource_list;


template <class V>
std::uint32_t count(const V* v) { return v ? v->size() : 0; }

void status(Json& j, const fb::TaskStatus& s) {
  j.open('{');
  j.field("state", fb::EnumNameTaskState(s.state()));
  j.field_number("timestamp", s.timestamp().value_or(0));
  if (s.labels()) j.key("labels"), labels(j, *s.labels());
  if (const auto* c = s.container_status()) {
    j.key("container_status"), j.open('{');
    if (c->container_id()) {
      j.key("container_id"), j.open('{');
      j.field("value", text(c->container_id()));
      j.close('}');
    }
    if (count(c->network_infos())) {
      j.list("network_infos");
      for (const auto* n : *c->network_infos()) j.item(), j.message(*n, "gantry.fb.NetworkInfo");
      j.close(']');
    }
    j.close('}');
  }
  if (s.healthy()) j.key("healthy"), j.flag(*s.healthy());
  j.close('}');
}

std::string_view role_of(const ResourceVector* resources) {
  if (count(resources)) {
    const auto role = text(resources->Get(0)->allocation_role());
    if (!role.empty()) return role;
  }
  return "*";
}

void task(Json& j, const fb::ops::Task& t) {
  j.open('{');
  j.field("id", text(t.task_id()));
  j.field("name", text(t.name()));
  j.field("framework_id", text(t.framework_id()));
  j.field("executor_id", text(t.executor_id()));
  j.field("slave_id", text(t.agent_id()));
  j.field("state", fb::EnumNameTaskState(t.state()));
  Sums s;
  s.add(t.resources());
  j.key("resources"), j.resources(s);
  j.field("role", role_of(t.resources()));
  if (t.user() && t.user()->size()) j.field("user", text(t.user()));
  j.list("statuses");
  if (t.statuses())
    for (const auto* x : *t.statuses()) j.item(), status(j, *x);
  j.close(']');
  if (count(t.labels())) j.key("labels"), labels(j, *t.labels());
  if (t.discovery()) j.key("discovery"), j.message(*t.discovery(), "gantry.fb.DiscoveryInfo");
  if (t.container()) j.key("container"), j.message(*t.container(), "gantry.fb.ContainerInfo");
  if (t.health_check()) j.key("health_check"), j.message(*t.health_check(), "gantry.fb.HealthCheck");
  if (count(t.limits())) {
    j.key("limits"), j.open('{');
    for (const auto* l : *t.limits()) j.data_key(text(l->key())), j.number(l->value());
    j.close('}');
  }
  j.close('}');
}

using Tasks = std::vector<const fb::ops::Task*>;
// (framework, executor); a command task counts as its own executor.
using Who = std::pair<std::string_view, std::string_view>;

Who who(const fb::ops::Task& t) {
  const auto executor = text(t.executor_id());
  return {text(t.framework_id()), executor.empty() ? text(t.task_id()) : executor};
}

struct Index {
  std::map<Who, Tasks> live, queued, done;
  std::map<Who, std::string_view> container;
  explicit Index(const Picture& p) {
    const auto add = [this](std::map<Who, Tasks>& to, const auto* list) {
      if (!list) return;
      for (const auto* t : *list) {
        to[who(*t)].push_back(t);
        if (t->statuses())
          for (const auto* s : *t->statuses())
            if (s->container_status() && s->container_status()->container_id()) container[who(*t)] = text(s->container_status()->container_id());
      }
    };
    if (p.state && p.state->get_tasks()) {
      const auto& t = *p.state->get_tasks();
      add(live, t.launched_tasks());
      add(queued, t.queued_tasks());
      add(done, t.terminated_tasks());
      add(done, t.completed_tasks());
    }
    if (p.containers && p.containers->containers())
      for (const auto* c : *p.containers->containers())
        container[{text(c->framework_id()), text(c->executor_id())}] = text(c->container_id()->value());
  }
};

void task_list(Json& j, std::string_view name, const std::map<Who, Tasks>& from, const Who& of) {
  j.list(name);
  if (const auto it = from.find(of); it != from.end())
    for (const auto* t : it->second) j.item(), task(j, *t);
  j.close(']');
}

void executor(Json& j, const fb::ExecutorInfo& e, const Index& index, const About& about, std::string_view agent_id) {
  const Who id{text(e.framework_id()), text(e.executor_id())};
  const auto c = index.container.find(id);
  const std::string container(c == index.container.end() ? std::string_view() : c->second);
  j.open('{');
  j.field("id", id.second);
  j.field("name", text(e.name()));
  j.field("source", text(e.source()));
  j.field("container", container);
  j.field("directory", about.work_dir + "/slaves/" + std::string(agent_id) + "/frameworks/" + std::string(id.first) + "/executors/" +
                           std::string(id.second) + "/runs/" + (container.empty() ? "latest" : container));
  Sums s;
  s.add(e.resources());
  std::string_view role = role_of(e.resources());
  for (const auto* list : {&index.live, &index.queued})
    if (const auto it = list->find(id); it != list->end())
      for (const auto* t : it->second) {
        s.add(t->resources());
        if (!count(e.resources())) role = role_of(t->resources());
      }
  j.key("resources"), j.resources(s);
  j.field("role", role);
  if (count(e.labels())) j.key("labels"), labels(j, *e.labels());
  task_list(j, "tasks", index.live, id);
  task_list(j, "queued_tasks", index.queued, id);
  task_list(j, "completed_tasks", index.done, id);
  j.close('}');
}

void executor_list(Json& j, std::string_view name, const flatbuffers::Vector<flatbuffers::Offset<op::Executor>>* list, std::string_view framework,
                   const Index& index, const About& about, std::string_view agent_id) {
  j.list(name);
  std::set<std::string_view> seen;  // one that ran again is told once
  if (list)
    for (const auto* e : *list)
      if (text(e->executor_info()->framework_id()) == framework && seen.insert(text(e->executor_info()->executor_id())).second)
        j.item(), executor(j, *e->executor_info(), index, about, agent_id);
  j.close(']');
}

void framework(Json& j, const fb::FrameworkInfo& f, const op::GetExecutors* executors, const Index& index, const About& about, std::string_view agent_id) {
  j.open('{');
  j.field("id", text(f.id()));
  j.field("name", text(f.name()));
  j.field("user", text(f.user()));
  j.field_number("failover_timeout", f.failover_timeout().value_or(0));
  j.key("checkpoint"), j.flag(f.checkpoint().value_or(false));
  j.field("hostname", text(f.hostname()));
  if (f.principal()) j.field("principal", text(f.principal()));
  if (multi_role(f)) {
    j.list("roles");
    for (const auto r : roles_of(f)) j.item(), j.text(r);
    j.close(']');
  } else {
    j.field("role", roles_of(f).at(0));
  }
  executor_list(j, "executors", executors ? executors->executors() : nullptr, text(f.id()), index, about, agent_id);
  executor_list(j, "completed_executors", executors ? executors->completed_executors() : nullptr, text(f.id()), index, about, agent_id);
  j.close('}');
}

void framework_list(Json& j, std::string_view name, const flatbuffers::Vector<flatbuffers::Offset<op::Framework>>* list, const op::GetExecutors* executors,
                    const Index& index, const About& about, std::string_view agent_id) {
  j.list(name);
  if (list)
    for (const auto* f : *list) j.item(), framework(j, *f->framework_info(), executors, index, about, agent_id);
  j.close(']');
}

// What runs here holds: executors and their tasks.
Sums in_use(const Picture& p) {
  Sums s;
  if (!p.state) return s;
  if (const auto* e = p.state->get_executors(); e && e->executors())
    for (const auto* x : *e->executors()) s.add(x->executor_info()->resources());
  if (const auto* t = p.state->get_tasks())
    for (const auto* list : {t->launched_tasks(), t->queued_tasks()})
      if (list)
        for (const auto* x : *list) s.add(x->resources());
  return s;
}

void by_role(Json& j, std::string_view name, const Sums& sums, const std::set<std::string_view>& roles, bool full) {
  j.key(name), j.open('{');
  for (const auto role : roles) {
    j.data_key(role);
    if (full) resource_list(j, sums, is_reserved_for, role);
    else j.resources(sums, is_reserved_for, role);
  }
  j.close('}');
}

void flag_object(Json& j, const About& about) {
  j.key("flags"), j.open('{');
  for (const auto& [name, value] : about.flags) j.field(name, value);
  j.close('}');
}

void statistics_of(Json& j, const op::ResourceStatistics* s) {
  j.key("statistics");
  if (!s) return j.open('{'), j.close('}');
  j.message(*s, "gantry.fb.agent.ResourceStatistics");
}

}  // namespace

std::string state(const Picture& p, const About& about) {
  std::string out;
  Json j(out);
  const Index index(p);
  const std::string_view agent_id = text(p.info->id());
  Sums total;
  total.add(p.info->resources(), false);
  const Sums used = in_use(p);
  const auto roles = reserved_roles(total);
  j.open('{');
  j.field("version", kVersion);
  j.field("build_date", kBuildDate);
  j.field_number("build_time", kBuildTime);
  j.field("build_user", "gantry");
  j.field_number("start_time", static_cast<double>(about.start_ns) / 1e9);
  j.field("id", agent_id);
  j.field("pid", about.pid());
  j.field("hostname", text(p.info->hostname()));
  j.list("capabilities");
  for (const char* c : {"MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "AGENT_DRAINING", "TASK_RESOURCE_LIMITS"}) j.item(), j.text(c);
  j.close(']');
  j.key("resources"), j.resources(total);
  by_role(j, "reserved_resources", total, roles, false);
  j.key("unreserved_resources"), j.resources(total, is_unreserved);
  by_role(j, "reserved_resources_full", total, roles, true);
  j.key("unreserved_resources_full"), resource_list(j, total, is_unreserved);
  by_role(j, "reserved_resources_allocated", used, reserved_roles(used), false);
  j.key("unreserved_resources_allocated"), j.resources(used, is_unreserved);
  j.list("resource_providers"), j.close(']');
  j.key("attributes"), attributes(j, *p.info);
  if (!about.master_hostname.empty()) j.field("master_hostname", about.master_hostname);
  if (!about.flags.empty()) flag_object(j, about);
  const auto* executors = p.state ? p.state->get_executors() : nullptr;
  const auto* frameworks = p.state ? p.state->get_frameworks() : nullptr;
  framework_list(j, "frameworks", frameworks ? frameworks->frameworks() : nullptr, executors, index, about, agent_id);
  framework_list(j, "completed_frameworks", frameworks ? frameworks->completed_frameworks() : nullptr, executors, index, about, agent_id);
  j.close('}');
  return out;
}

std::string containers(const Picture& p) {
  std::string out;
  Json j(out);
  j.open('[');
  if (p.containers && p.containers->containers()) {
    for (const auto* c : *p.containers->containers()) {
      j.item(), j.open('{');
      j.field("container_id", text(c->container_id()->value()));
      j.field("executor_id", text(c->executor_id()));
      j.field("executor_name", text(c->executor_name()));
      j.field("framework_id", text(c->framework_id()));
      j.field("source", text(c->executor_id()));
      statistics_of(j, c->resource_statistics());
      if (c->container_status()) j.key("status"), j.message(*c->container_status(), "gantry.fb.ContainerStatus");
      j.close('}');
    }
  }
  j.close(']');
  return out;
}

std::string statistics(const Picture& p) {
  std::string out;
  Json j(out);
  j.open('[');
  if (p.containers && p.containers->containers()) {
    for (const auto* c : *p.containers->containers()) {
      j.item(), j.open('{');
      j.field("executor_id", text(c->executor_id()));
      j.field("executor_name", text(c->executor_name()));
      j.field("framework_id", text(c->framework_id()));
      j.field("source", text(c->executor_id()));
      statistics_of(j, c->resource_statistics());
      j.close('}');
    }
  }
  j.close(']');
  return out;
}

std::string flags(const About& about) {
  std::string out;
  Json j(out);
  j.open('{');
  flag_object(j, about);
  j.close('}');
  return out;
}

std::vector<std::pair<std::string, double>> gauges(const Picture& p) {
  std::vector<std::pair<std::string, double>> out;
  Sums total;
  if (p.info) total.add(p.info->resources(), false);
  const Sums used = in_use(p);
  const auto amount = [](const Sums& s, std::string_view name, bool revocable) {
    std::int64_t n = 0;
    for (const auto& a : s.amounts())
      if (text(a.like->name()) == name && a.like->revocable() == revocable) n += a.scalar;
    return static_cast<double>(n) / 1000;
  };
  for (const char* name : {"cpus", "disk", "gpus", "mem"}) {
    for (const bool revocable : {false, true}) {
      const std::string prefix = std::string("slave/") + name + (revocable ? "_revocable" : "");
      const double t = amount(total, name, revocable), u = amount(used, name, revocable);
      out.emplace_back(prefix + "_percent", t > 0 ? u / t : 0);
      out.emplace_back(prefix + "_total", t);
      out.emplace_back(prefix + "_used", u);
    }
  }
  std::map<S, double> states;
  double executors = 0, frameworks = 0;
  if (p.state) {
    if (const auto* t = p.state->get_tasks())
      for (const auto* list : {t->launched_tasks(), t->queued_tasks()})
        if (list)
          for (const auto* x : *list) ++states[x->state()];
    if (p.state->get_executors()) executors = count(p.state->get_executors()->executors());
    if (p.state->get_frameworks()) frameworks = count(p.state->get_frameworks()->frameworks());
  }
  out.insert(out.end(), {{"slave/executors_running", executors},
                         {"slave/frameworks_active", frameworks},
                         {"slave/tasks_killing", states[S::TASK_KILLING]},
                         {"slave/tasks_running", states[S::TASK_RUNNING]},
                         {"slave/tasks_staging", states[S::TASK_STAGING]},
                         {"slave/tasks_starting", states[S::TASK_STARTING]}});
  return out;
}

void fill_addresses(op::ResponseT& r, const std::string& ip) {
  const auto fill = [&](std::vector<std::unique_ptr<fb::ops::TaskT>>& tasks) {
    for (auto& t : tasks)
      for (auto& s : t->statuses) {
        s->data.clear();
        if (!s->container_status || !s->container_status->network_infos.empty()) continue;
        auto address = std::make_unique<fb::IpAddressT>();
        address->protocol = fb::NetworkProtocol::IPv4;
        address->ip_address = ip;
        auto info = std::make_unique<fb::NetworkInfoT>();
        info->ip_addresses.push_back(std::move(address));
        s->container_status->network_infos.push_back(std::move(info));
      }
  };
  const auto all = [&](op::GetTasksT* t) {
    if (!t) return;
    fill(t->pending_tasks), fill(t->queued_tasks), fill(t->launched_tasks), fill(t->terminated_tasks), fill(t->completed_tasks);
  };
  all(r.get_tasks.get());
  if (r.get_state) all(r.get_state->get_tasks.get());
}

}  // namespace gantry::gateway_mesos::agent_views
