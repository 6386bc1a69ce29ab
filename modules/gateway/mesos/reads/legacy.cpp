#include "legacy.hpp"

#include "../masters.hpp"
#include "legacy_rows.hpp"

#include <algorithm>

namespace gantry::gateway_mesos {

std::string agent_ip(const AgentRow& a) {
  const std::string_view at = text(a.info->address());
  std::string_view host = at.substr(0, at.rfind(':'));
  if (host.empty() || host == "0.0.0.0") host = text(a.info->hostname());
  return std::string(host);
}
int agent_port(const AgentRow& a) { return static_cast<int>(a.info->port()); }
std::string agent_pid(const AgentRow& a) { return "slave(1)@" + agent_ip(a) + ":" + std::to_string(agent_port(a)); }

bool multi_role(const fb::FrameworkInfo& info) {
  if (info.capabilities())
    for (const auto c : *info.capabilities())
      if (c == fb::FrameworkCapability::MULTI_ROLE) return true;
  return false;
}
std::vector<std::string_view> roles_of(const fb::FrameworkInfo& info) {
  std::vector<std::string_view> out;
  if (info.roles())
    for (const auto* r : *info.roles()) out.push_back(text(r));
  if (out.empty() && !multi_role(info)) out.push_back(info.role() ? text(info.role()) : std::string_view("*"));
  return out;
}
// The old form tells guarantees only, the present one limits as well; both are told of every role with quota.
fb::master::QuotaStatusT quota_status(const View& v) {
  fb::master::QuotaStatusT out;
  for (const auto& [role, row] : v.roles) {
    if (!row->quota || !v.verdicts.allows("get_quota", role)) continue;
    auto config = std::make_unique<fb::master::QuotaConfigT>();
    row->quota->UnPackTo(config.get());
    auto info = std::make_unique<fb::master::QuotaInfoT>();
    info->role = role;
    for (const auto& g : config->guarantees) {
      auto r = std::make_unique<fb::ResourceT>();
      r->name = g->key;
      r->type = fb::ValueType::SCALAR;
      r->scalar = g->value;
      info->guarantee.push_back(std::move(r));
    }
    out.infos.push_back(std::move(info));
    out.configs.push_back(std::move(config));
  }
  return out;
}

std::string_view executor_of(const fb::TaskInfo& info) {
  return info.executor() ? text(info.executor()->executor_id()) : std::string_view();
}

bool within(std::string_view role, std::string_view ancestor) {
  return role == ancestor || (role.size() > ancestor.size() && role.starts_with(ancestor) && role[ancestor.size()] == '/');
}

namespace legacy {
namespace {

// What a role's limits count: what it and the roles below it use, unless it is reserved for them, and what is.
bool is_used_within(const Amount& a, std::string_view role) {
  return within(a.allocation, role) && !within(reservation_role(*a.like), role);
}
bool is_reserved_within(const Amount& a, std::string_view role) { return within(reservation_role(*a.like), role); }

std::string room(const View& v) {
  std::size_t rows = v.agents.size() * 2;
  for (const auto& f : v.frameworks) rows += f.tasks.size() + f.absent.size() + f.completed.size() + 2;
  std::string out;
  out.reserve(rows * 640 + 8192);
  return out;
}

void flag_list(Json& j, const About& about) {
  j.key("flags");
  j.open('{');
  for (const auto& [k, value] : about.flags) j.field(k, value);
  j.close('}');
}

}  // namespace

std::string version() {
  std::string out;
  Json j(out);
  j.open('{');
  j.field("build_date", kBuildDate);
  j.field_number("build_time", kBuildTime);
  j.field("build_user", "gantry");
  j.field("version", kVersion);
  j.close('}');
  return out;
}

std::string flags(const About& about) {
  std::string out;
  Json j(out);
  j.open('{');
  flag_list(j, about);
  j.close('}');
  return out;
}

std::string state(const View& v, const About& about) {
  std::string out = room(v);
  Json j(out);
  const Tally tally(v);
  j.open('{');
  j.field("version", kVersion);
  j.field("build_date", kBuildDate);
  j.field_number("build_time", kBuildTime);
  j.field("build_user", "gantry");
  j.field_number("start_time", seconds(about.start_ns));
  j.field_number("elected_time", seconds(v.elected_ns));
  j.field("id", v.master_id);
  j.field("pid", about.pid());
  j.field("hostname", about.hostname);
  if (!about.domain.empty()) j.key("domain"), j.message(*flatbuffers::GetRoot<fb::DomainInfo>(about.domain.data()), "gantry.fb.DomainInfo");
  j.key("capabilities");
  j.open('[');
  for (const char* c : {"AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"}) j.item(), j.text(c);
  j.close(']');
  double active = 0, inactive = 0, unreachable = 0;
  for (const auto& a : v.agents) {
    if (a->registered()) ++(a->row->active() ? active : inactive);
    unreachable += a->row->standing() == fb::state::Standing::UNREACHABLE;
  }
  j.field_number("activated_slaves", active);
  j.field_number("deactivated_slaves", inactive);
  j.field_number("unreachable_slaves", unreachable);
  if (!about.cluster.empty()) j.field("cluster", about.cluster);
  j.field("leader", about.pid());
  j.key("leader_info");
  j.open('{');
  j.field("id", v.master_id);
  j.field("pid", about.pid());
  j.field_integer("port", about.port);
  j.field("hostname", about.hostname);
  j.close('}');
  if (v.verdicts.allows("view_flags", {})) flag_list(j, about);
  agent_list(j, v, tally, false);
  recovered(j, v);
  framework_list(j, "frameworks", v.frameworks, tally, true);
  framework_list(j, "completed_frameworks", v.completed, tally, true);
  for (const char* empty : {"orphan_tasks", "unregistered_frameworks"}) {
    j.key(empty);
    j.open('[');
    j.close(']');
  }
  j.close('}');
  return out;
}

std::string state_summary(const View& v, const About& about) {
  std::string out;
  Json j(out);
  const Tally tally(v, true);
  j.open('{');
  j.field("hostname", about.hostname);
  if (!about.cluster.empty()) j.field("cluster", about.cluster);
  agent_list(j, v, tally, false, "framework_ids");
  framework_list(j, "frameworks", v.frameworks, tally, false);
  j.close('}');
  return out;
}

std::string slaves(const View& v, const std::optional<std::string>& slave_id) {
  std::string out;
  Json j(out);
  const Tally tally(v);
  j.open('{');
  agent_list(j, v, tally, true, {}, slave_id);
  recovered(j, v);
  j.close('}');
  return out;
}

std::string frameworks(const View& v, const std::optional<std::string>& framework_id) {
  std::string out = room(v);
  Json j(out);
  const Tally tally(v);
  j.open('{');
  framework_list(j, "frameworks", v.frameworks, tally, true, framework_id);
  framework_list(j, "completed_frameworks", v.completed, tally, true, framework_id);
  j.key("unregistered_frameworks");
  j.open('[');
  j.close(']');
  j.close('}');
  return out;
}

std::string tasks(const View& v, const TaskQuery& q) {
  struct Entry {
    double at;
    const TaskRow* task;
  };
  std::vector<Entry> found;
  const auto add = [&](const std::vector<TaskPtr>& list) {
    for (const auto& t : list) {
      if (q.task_id && t->id() != *q.task_id) continue;
      found.push_back({t->statuses.empty() ? -1 : t->statuses.front().timestamp().value_or(0), t.get()});
    }
  };
  for (const auto* list : {&v.frameworks, &v.completed}) {
    for (const auto& f : *list) {
      if (q.framework_id && f.row->id != *q.framework_id) continue;
      add(f.tasks), add(f.absent), add(f.completed);
    }
  }
  const auto before = [](const Entry& a, const Entry& b) {
    return a.at != b.at ? a.at < b.at : a.task->id() < b.task->id();
  };
  std::sort(found.begin(), found.end(), [&](const Entry& a, const Entry& b) { return q.ascending ? before(a, b) : before(b, a); });
  const std::size_t begin = std::min<std::size_t>(found.size(), static_cast<std::size_t>(std::max(q.offset, 0L)));
  const std::size_t end =
      q.limit < 0 ? found.size() : std::min(found.size(), begin + static_cast<std::size_t>(q.limit));
  std::string out;
  out.reserve((end - begin) * 640 + 64);
  Json j(out);
  View few;  // only agents are looked up
  few.agents = v.agents;
  const Tally tally(few);
  j.open('{');
  j.key("tasks");
  j.open('[');
  for (std::size_t i = begin; i < end; ++i) j.item(), task(j, *found[i].task, tally);
  j.close(']');
  j.close('}');
  return out;
}

std::string schedule(const View& v) {
  const Buffer b = pack(maintenance_schedule(v));
  return wire::Codec::get().to_json(b, "gantry.fb.master.MaintenanceSchedule");
}
std::string maintenance_status(const View& v) {
  const Buffer b = pack(gateway_mesos::maintenance_status(v));
  return wire::Codec::get().to_json(b, "gantry.fb.master.MaintenanceStatus");
}

std::string weights(const View& v) {
  std::string out;
  Json j(out);
  j.open('[');
  for (const auto& [role, row] : v.roles) {
    if (row->quota && row->weight == 1) continue;  // it has a row for its quota
    if (!v.verdicts.allows("view_role", role)) continue;
    j.item();
    j.open('{');
    j.field("role", role);
    j.field_number("weight", row->weight);
    j.close('}');
  }
  j.close(']');
  return out;
}

std::string quota(const View& v) {
  const Buffer b = pack(quota_status(v));
  return wire::Codec::get().to_json(b, "gantry.fb.master.QuotaStatus");
}

std::string roles(const View& v) {
  std::string out;
  Json j(out);
  const Tally tally(v);
  Sums total, used, offered;
  for (const auto& a : v.agents) total.add(a->row->total(), false);
  for (const auto& [id, part] : tally.frameworks) used.add(part.used), offered.add(part.offered);
  std::map<std::string_view, std::vector<std::string_view>> names;
  for (const auto& f : v.frameworks)
    for (const auto r : roles_of(*f.row->info)) names[r].push_back(f.row->id);
  for (const auto r : reserved_roles(total)) names[r];
  for (const auto& a : used.amounts())
    if (!a.allocation.empty()) names[a.allocation];
  for (const auto& [role, row] : v.roles) names[role];
  j.open('{');
  j.key("roles");
  j.open('[');
  for (const auto& [role, ids] : names) {
    if (!v.verdicts.allows("view_role", role)) continue;
    const auto set = v.roles.find(role);
    j.item();
    j.open('{');
    j.field("name", role);
    j.field_number("weight", set == v.roles.end() ? 1 : set->second->weight);
    Sums consumed, held = used;  // consumed: what quota counts, reservations included
    for (const auto& a : used.amounts())
      if (is_used_within(a, role)) consumed.add(a);
    for (const auto& a : total.amounts())
      if (is_reserved_within(a, role)) consumed.add(a);
    const fb::master::QuotaConfig* config = set != v.roles.end() && set->second->quota ? &*set->second->quota : nullptr;
    j.key("quota");
    j.open('{');
    j.field("role", role);
    j.key("guarantee"), scalars(j, config ? config->guarantees() : nullptr);
    j.key("limit"), scalars(j, config ? config->limits() : nullptr);
    j.key("consumed"), write_quantities(out, consumed), j.done();
    j.close('}');
    held.add(offered);
    j.key("resources"), write_quantities(out, held, is_allocated_to, role), j.done();
    j.key("allocated"), write_quantities(out, used, is_allocated_to, role), j.done();
    j.key("offered"), write_quantities(out, offered, is_allocated_to, role), j.done();
    j.key("reserved"), write_quantities(out, total, is_reserved_for, role), j.done();
    j.key("frameworks");
    j.open('[');
    for (const auto id : ids) j.item(), j.text(id);
    j.close(']');
    j.close('}');
  }
  j.close(']');
  j.close('}');
  return out;
}

std::vector<std::pair<std::string, double>> gauges(const View& v) {
  std::vector<std::pair<std::string, double>> out;
  const Tally tally(v);
  Sums total, used;
  double registered = 0, connected = 0, active = 0, unreachable = 0;
  for (const auto& a : v.agents) {
    total.add(a->row->total(), false);
    unreachable += a->row->standing() == fb::state::Standing::UNREACHABLE;
    if (!a->registered()) continue;
    ++registered;
    connected += a->row->connected();
    active += a->row->active();
  }
  for (const auto& [id, part] : tally.frameworks) used.add(part.used);
  const auto amount = [](const Sums& s, std::string_view name, bool revocable) {
    std::int64_t n = 0;
    for (const auto& a : s.amounts())
      if (text(a.like->name()) == name && a.like->revocable() == revocable) n += a.scalar;
    return static_cast<double>(n) / 1000;
  };
  for (const char* name : {"cpus", "disk", "gpus", "mem"}) {
    for (const bool revocable : {false, true}) {
      const std::string prefix = std::string("master/") + name + (revocable ? "_revocable" : "");
      const double t = amount(total, name, revocable), u = amount(used, name, revocable);
      out.emplace_back(prefix + "_percent", t > 0 ? u / t : 0);
      out.emplace_back(prefix + "_total", t);
      out.emplace_back(prefix + "_used", u);
    }
  }
  double connected_f = 0, active_f = 0;
  for (const auto& f : v.frameworks) {
    connected_f += f.row->row->connected();
    active_f += f.row->row->active();
  }
  const auto all = static_cast<double>(v.frameworks.size());
  out.insert(out.end(), {{"master/slaves_active", active},
                         {"master/slaves_inactive", registered - active},
                         {"master/slaves_connected", connected},
                         {"master/slaves_disconnected", registered - connected},
                         {"master/slaves_unreachable", unreachable},
                         {"master/frameworks_active", active_f},
                         {"master/frameworks_inactive", all - active_f},
                         {"master/frameworks_connected", connected_f},
                         {"master/frameworks_disconnected", all - connected_f},
                         {"master/outstanding_offers", static_cast<double>(v.offers.size())}});
  return out;
}

}  // namespace legacy
}  // namespace gantry::gateway_mesos
