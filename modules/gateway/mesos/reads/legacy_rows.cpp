#include "legacy_rows.hpp"

#include "../masters.hpp"
#include "../permits.hpp"
#include "filter.hpp"

#include <algorithm>

namespace gantry::gateway_mesos::legacy {
bool is_allocated_to(const Amount& a, std::string_view role) { return a.allocation == role; }

void Tally::Part::write(Json& j, std::string_view ids) const {
  for (const S s : kStates) j.field_integer(fb::EnumNameTaskState(s), states[static_cast<std::size_t>(s)]);
  j.key(ids);
  j.open('[');
  for (const auto id : others) j.item(), j.text(id);
  j.close(']');
}

Tally::Tally(const View& v, bool count) : verdicts(&v.verdicts) {
  for (const auto& a : v.agents) agent[a->id] = a.get();
  agents.reserve(v.agents.size());
  for (const auto* list : {&v.frameworks, &v.completed}) {
    for (const auto& f : *list) {
      Sums held;
      Part* of = nullptr;
      const auto own = [&]() -> Part& { return of ? *of : *(of = &frameworks[f.row->id]); };
      const auto task = [&](const TaskRow& t) {
        if (t.holds()) {
          held.add(t.info->resources());
          agents[t.agent_id()].used.add(t.info->resources());
        }
        if (!count) return;
        const auto at = static_cast<std::size_t>(t.state);
        Part& a = agents[t.agent_id()];
        ++a.states[at];
        a.others.insert(f.row->id);
        ++own().states[at];
        own().others.insert(t.agent_id());
      };
      for (const auto& t : f.tasks) task(*t);
      for (const auto& t : f.absent) task(*t);
      if (count)
        for (const auto& t : f.completed) task(*t);
      if (!held.empty()) own().used.add(held);
    }
  }
  for (const auto& e : v.executors) {
    agents[e->agent_id].used.add(e->info->resources());
    frameworks[e->framework_id].used.add(e->info->resources());
    executors[e->framework_id].push_back(e.get());
  }
  for (const auto& o : v.offers) {
    agents[o->agent_id].offered.add(o->row->resources());
    frameworks[o->framework_id].offered.add(o->row->resources());
    offers[o->framework_id].push_back(o.get());
  }
}

namespace {

void container_status(Json& j, const fb::ContainerStatus& c, const AgentRow* agent) {
  j.open('{');
  if (c.container_id()) {
    j.key("container_id");
    j.open('{');
    j.field("value", text(c.container_id()));
    j.close('}');
  }
  // Where nothing else is said a container shares its agent's addresses; name servers read them here.
  if (c.network_infos() && c.network_infos()->size()) {
    j.key("network_infos");
    j.open('[');
    for (const auto* n : *c.network_infos()) j.item(), j.message(*n, "gantry.fb.NetworkInfo");
    j.close(']');
  } else if (agent) {
    j.key("network_infos");
    j.open('[');
    j.item();
    j.open('{');
    j.key("ip_addresses");
    j.open('[');
    j.item();
    j.open('{');
    j.field("protocol", "IPv4");
    j.field("ip_address", agent_ip(*agent));
    j.close('}');
    j.close(']');
    j.close('}');
    j.close(']');
  }
  j.close('}');
}

void status(Json& j, const StatusRow& s, const AgentRow* agent) {
  j.open('{');
  j.field("state", fb::EnumNameTaskState(s.state()));
  j.field_number("timestamp", s.timestamp().value_or(0));
  if (const auto* more = s.more()) {
    if (more->labels()) j.key("labels"), labels(j, *more->labels());
    if (more->container_status()) j.key("container_status"), container_status(j, *more->container_status(), agent);
  }
  if (s.healthy()) j.field_flag("healthy", *s.healthy());
  j.close('}');
}

std::string_view role_of(const TaskRow& t) {
  if (t.info->resources() && t.info->resources()->size()) {
    const auto role = text(t.info->resources()->Get(0)->allocation_role());
    if (!role.empty()) return role;
  }
  return "*";
}

}  // namespace

void task(Json& j, const TaskRow& t, const Tally& tally) {
  const auto& info = *t.info;
  const AgentRow* agent = tally.find(t.agent_id());
  j.open('{');
  j.field("id", t.id());
  j.field("name", text(info.name()));
  j.field("framework_id", *t.framework_id);
  j.field("executor_id", executor_of(info));
  j.field("slave_id", t.agent_id());
  j.field("state", fb::EnumNameTaskState(t.state));
  Sums s;
  s.add(info.resources());
  j.key("resources"), j.resources(s);
  j.field("role", role_of(t));
  const auto* command = info.command() ? info.command() : info.executor() ? info.executor()->command() : nullptr;
  if (command && command->user()) j.field("user", text(command->user()));
  j.key("statuses");
  j.open('[');
  for (const auto& x : t.statuses) j.item(), status(j, x, agent);
  j.close(']');
  if (info.labels() && info.labels()->size()) j.key("labels"), labels(j, *info.labels());
  if (info.discovery()) j.key("discovery"), j.message(*info.discovery(), "gantry.fb.DiscoveryInfo");
  if (info.container()) j.key("container"), j.message(*info.container(), "gantry.fb.ContainerInfo");
  if (info.health_check()) j.key("health_check"), j.message(*info.health_check(), "gantry.fb.HealthCheck");
  if (info.limits() && info.limits()->size()) {
    j.key("limits");
    j.open('{');
    for (const auto* l : *info.limits()) j.data_key(text(l->key())), j.number(l->value());
    j.close('}');
  }
  j.close('}');
}

namespace {

void task_list(Json& j, std::string_view name, const std::vector<TaskPtr>& list, const Tally& tally) {
  j.key(name);
  j.open('[');
  for (const auto& t : list) j.item(), task(j, *t, tally);
  j.close(']');
}

}  // namespace

void scalars(Json& j, const flatbuffers::Vector<flatbuffers::Offset<fb::ScalarEntry>>* list) {
  std::map<std::string_view, double> sorted;
  if (list)
    for (const auto* e : *list) sorted[text(e->key())] = e->value();
  j.open('{');
  for (const auto& [name, value] : sorted) j.data_key(name), j.number(value);
  j.close('}');
}

namespace {

// What may be told of, reservation by reservation.
Sums seen(const Sums& sums, const Verdicts& verdicts) {
  if (verdicts.all()) return sums;
  Sums out;
  for (const auto& a : sums.amounts())
    if (sees(verdicts, *a.like)) out.add(a);
  return out;
}

}  // namespace

namespace {

void agent(Json& j, const AgentRow& a, const Tally& tally, bool full, std::string_view counts) {
  static const Tally::Part nothing;
  const auto it = tally.agents.find(a.id);
  const Tally::Part& part = it == tally.agents.end() ? nothing : it->second;
  Sums total;
  total.add(a.row->total(), false);
  j.open('{');
  j.field("id", a.id);
  j.field("hostname", text(a.info->hostname()));
  j.field_integer("port", agent_port(a));
  j.key("attributes"), attributes(j, *a.info);
  if (a.info->domain()) j.key("domain"), j.message(*a.info->domain(), "gantry.fb.DomainInfo");
  j.field("pid", agent_pid(a));
  j.field_number("registered_time", seconds(a.row->since_ns()));
  j.key("resources"), j.resources(total);
  j.key("used_resources"), j.resources(part.used);
  j.key("offered_resources"), j.resources(part.offered);
  const Sums told = seen(total, *tally.verdicts);
  const auto reserved = reserved_roles(told);
  j.key("reserved_resources");
  j.open('{');
  for (const auto role : reserved) j.data_key(role), j.resources(told, is_reserved_for, role);
  j.close('}');
  j.key("unreserved_resources"), j.resources(total, is_unreserved);
  j.field_flag("active", a.row->active());
  j.field_flag("deactivated", a.row->deactivated());
  if (a.row->drain()) {
    j.key("drain_info"), j.message(*a.row->drain(), "gantry.fb.ops.DrainInfo");
    j.field_number("estimated_drain_start_time_seconds", static_cast<double>(a.row->drain_since_ns() / 1'000'000'000));
  }
  j.field("version", kVersion);
  j.key("capabilities");
  j.open('[');
  for (const char* c : {"MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "RESIZE_VOLUME", "AGENT_OPERATION_FEEDBACK",
                        "AGENT_DRAINING", "TASK_RESOURCE_LIMITS"}) j.item(), j.text(c);
  j.close(']');
  if (full) {
    j.key("reserved_resources_full");
    j.open('{');
    for (const auto role : reserved) j.data_key(role), resource_list(j, told, is_reserved_for, role);
    j.close('}');
    j.key("unreserved_resources_full"), resource_list(j, total, is_unreserved);
    j.key("used_resources_full"), resource_list(j, seen(part.used, *tally.verdicts));
    j.key("offered_resources_full"), resource_list(j, seen(part.offered, *tally.verdicts));
  }
  if (!counts.empty()) part.write(j, counts);
  j.close('}');
}

}  // namespace

void recovered(Json& j, const View& v) {
  j.key("recovered_slaves");
  j.open('[');
  for (const auto& a : v.agents) {
    if (a->row->standing() != fb::state::Standing::RECOVERED) continue;
    j.item();
    j.open('{');
    j.field("id", a->id);
    j.field("hostname", text(a->info->hostname()));
    j.field_integer("port", agent_port(*a));
    j.key("attributes"), attributes(j, *a->info);
    Sums total;
    total.add(a->info->resources(), false);
    j.key("resources"), j.resources(total);
    j.close('}');
  }
  j.close(']');
}

void agent_list(Json& j, const View& v, const Tally& tally, bool full, std::string_view counts,
                const std::optional<std::string>& only) {
  j.key("slaves");
  j.open('[');
  for (const auto& a : v.agents) {
    if (!a->registered() || (only && a->id != *only)) continue;
    j.item(), agent(j, *a, tally, full, counts);
  }
  j.close(']');
}

namespace {

// `pid` is left out: these frameworks have none, and an empty one breaks readers (clients.md section 0, rule 16).
void framework(Json& j, const View::Framework& f, const Tally& tally, bool full) {
  static const Tally::Part nothing;
  const auto it = tally.frameworks.find(f.row->id);
  const Tally::Part& part = it == tally.frameworks.end() ? nothing : it->second;
  const auto& info = *f.row->info;
  const auto& row = *f.row->row;
  j.open('{');
  j.field("id", f.row->id);
  j.field("name", text(info.name()));
  j.key("used_resources"), j.resources(part.used);
  j.key("offered_resources"), j.resources(part.offered);
  j.key("capabilities");
  j.open('[');
  if (info.capabilities())
    for (const auto c : *info.capabilities()) j.item(), j.text(fb::EnumNameFrameworkCapability(static_cast<fb::FrameworkCapability>(c)));
  j.close(']');
  j.field("hostname", text(info.hostname()));
  j.field("webui_url", text(info.webui_url()));
  j.field_flag("active", row.active());
  j.field_flag("connected", row.connected());
  j.field_flag("recovered", row.recovered());
  if (!full) {
    part.write(j, "slave_ids");
    return j.close('}');
  }
  j.field("user", text(info.user()));
  j.field_number("failover_timeout", info.failover_timeout().value_or(0));
  j.field_flag("checkpoint", info.checkpoint().value_or(false));
  j.field_number("registered_time", seconds(row.registered_ns()));
  j.field_number("unregistered_time", seconds(row.unregistered_ns()));
  if (row.reregistered_ns()) j.field_number("reregistered_time", seconds(row.reregistered_ns()));
  if (info.principal()) j.field("principal", text(info.principal()));
  Sums held = part.used;
  held.add(part.offered);
  j.key("resources"), j.resources(held);
  if (multi_role(info)) {
    j.key("roles");
    j.open('[');
    for (const auto r : roles_of(info)) j.item(), j.text(r);
    j.close(']');
  } else {
    j.field("role", roles_of(info).at(0));
  }
  task_list(j, "tasks", f.tasks, tally);
  task_list(j, "unreachable_tasks", f.absent, tally);
  task_list(j, "completed_tasks", f.completed, tally);
  j.key("offers");
  j.open('[');
  if (const auto o = tally.offers.find(f.row->id); o != tally.offers.end()) {
    for (const auto* offer : o->second) {
      j.item();
      j.open('{');
      j.field("id", offer->id);
      j.field("framework_id", offer->framework_id);
      j.key("allocation_info");
      j.open('{');
      j.field("role", offer->role);
      j.close('}');
      j.field("slave_id", offer->agent_id);
      Sums s;
      s.add(offer->row->resources());
      j.key("resources"), j.resources(s);
      j.close('}');
    }
  }
  j.close(']');
  j.key("executors");
  j.open('[');
  if (const auto x = tally.executors.find(f.row->id); x != tally.executors.end()) {
    for (const auto* row : x->second) {
      const auto& e = *row->info;
      j.item();
      j.open('{');
      j.field("executor_id", text(e.executor_id()));
      j.field("name", text(e.name()));
      j.field("framework_id", f.row->id);
      if (e.command()) j.key("command"), j.message(*e.command(), "gantry.fb.CommandInfo");
      Sums s;
      s.add(e.resources());
      j.key("resources"), j.resources(s);
      const auto role = e.resources() && e.resources()->size() ? text(e.resources()->Get(0)->allocation_role()) : std::string_view();
      j.field("role", role.empty() ? std::string_view("*") : role);
      j.field("slave_id", row->agent_id);
      j.close('}');
    }
  }
  j.close(']');
  if (info.labels() && info.labels()->size()) j.key("labels"), labels(j, *info.labels());
  j.key("offer_constraints");
  if (row.offer_constraints()) {
    j.message(*row.offer_constraints(), "gantry.fb.OfferConstraints");
  } else {
    j.open('{');
    j.close('}');
  }
  j.close('}');
}

}  // namespace

void framework_list(Json& j, std::string_view name, const std::vector<View::Framework>& list, const Tally& tally, bool full,
                    const std::optional<std::string>& only) {
  j.key(name);
  j.open('[');
  for (const auto& f : list)
    if (!only || f.row->id == *only) j.item(), framework(j, f, tally, full);
  j.close(']');
}

}  // namespace gantry::gateway_mesos::legacy
