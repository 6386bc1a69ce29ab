#include "legacy.hpp"

#include "../masters.hpp"
#include "../permits.hpp"
#include "sums.hpp"
#include "wire/codec.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_map>

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

using S = fb::TaskState;

// A JSON object or array under construction: commas and keys.
class Json {
 public:
  explicit Json(std::string& out) : out_(out) {}
  void open(char c) {
    out_ += c;
    first_ = true;
  }
  void close(char c) {
    out_ += c;
    first_ = false;
  }
  void item() {
    if (!first_) out_ += ',';
    first_ = false;
  }
  void key(std::string_view name) {  // plain names only
    item();
    out_ += '"';
    out_ += name;
    out_ += "\":";
    first_ = true;
  }
  void data_key(std::string_view name) {
    item();
    wire::append_string(out_, name);
    out_ += ':';
    first_ = true;
  }
  void done() { first_ = false; }
  void text(std::string_view s) { wire::append_string(out_, s), first_ = false; }
  void number(double d) { write_number(out_, d), first_ = false; }
  void integer(std::int64_t n) { out_ += std::to_string(n), first_ = false; }
  void flag(bool b) { out_ += b ? "true" : "false", first_ = false; }
  void field(std::string_view name, std::string_view s) { key(name), text(s); }
  void field_number(std::string_view name, double d) { key(name), number(d); }
  void field_integer(std::string_view name, std::int64_t n) { key(name), integer(n); }
  void field_flag(std::string_view name, bool b) { key(name), flag(b); }
  template <class T>
  void message(const T& table, std::string_view name) {
    wire::Codec::get().append_json(out_, reinterpret_cast<const flatbuffers::Table*>(&table), name);
    first_ = false;
  }
  void resources(const Sums& sums, Which of = nullptr, std::string_view role = {}) {
    write_resources(out_, sums, of, role);
    first_ = false;
  }
  std::string& out() { return out_; }

 private:
  std::string& out_;
  bool first_ = true;
};

double seconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e9; }

bool is_unreserved(const Amount& a, std::string_view) { return reservation_role(*a.like).empty(); }
bool is_reserved_for(const Amount& a, std::string_view role) { return reservation_role(*a.like) == role; }
bool is_allocated_to(const Amount& a, std::string_view role) { return a.allocation == role; }
// What a role's limits count: what it and the roles below it use, unless it is reserved for them, and what is.
bool is_used_within(const Amount& a, std::string_view role) {
  return within(a.allocation, role) && !within(reservation_role(*a.like), role);
}
bool is_reserved_within(const Amount& a, std::string_view role) { return within(reservation_role(*a.like), role); }

Sums sums_of(const TaskRow& t) {
  Sums s;
  s.add(t.info->resources());
  return s;
}

constexpr std::array kStates = {S::TASK_STAGING, S::TASK_STARTING, S::TASK_RUNNING, S::TASK_KILLING, S::TASK_FINISHED,
                                S::TASK_KILLED,  S::TASK_FAILED,   S::TASK_LOST,    S::TASK_ERROR,   S::TASK_UNREACHABLE};

// What the rows of a view add up to, by agent and by framework.
struct Tally {
  struct Part {
    Sums used, offered;
    std::array<std::uint32_t, 14> states{};
    std::set<std::string_view> others;  // ids of frameworks, or of agents
    void write(Json& j, std::string_view ids) const {
      for (const S s : kStates) j.field_integer(fb::EnumNameTaskState(s), states[static_cast<std::size_t>(s)]);
      j.key(ids);
      j.open('[');
      for (const auto id : others) j.item(), j.text(id);
      j.close(']');
    }
  };
  std::unordered_map<std::string_view, Part> agents, frameworks;
  std::unordered_map<std::string_view, const AgentRow*> agent;
  std::unordered_map<std::string_view, std::vector<const OfferRow*>> offers;  // of frameworks
  std::unordered_map<std::string_view, std::vector<const ExecutorRow*>> executors;  // likewise

  const Verdicts* verdicts;

  explicit Tally(const View& v, bool count = false) : verdicts(&v.verdicts) {
    for (const auto& a : v.agents) agent[a->id] = a.get();
    const auto task = [&](const TaskRow& t) {
      if (t.holds()) {
        const Sums s = sums_of(t);
        agents[t.agent_id()].used.add(s);
        frameworks[*t.framework_id].used.add(s);
      }
      if (!count) return;
      const auto at = static_cast<std::size_t>(t.state);
      Part& a = agents[t.agent_id()];
      ++a.states[at];
      a.others.insert(*t.framework_id);
      Part& f = frameworks[*t.framework_id];
      ++f.states[at];
      f.others.insert(t.agent_id());
    };
    for (const auto* list : {&v.frameworks, &v.completed}) {
      for (const auto& f : *list) {
        for (const auto& t : f.tasks) task(*t);
        for (const auto& t : f.absent) task(*t);
        if (!count) continue;
        for (const auto& t : f.completed) task(*t);
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
  [[nodiscard]] const AgentRow* find(std::string_view id) const {
    const auto it = agent.find(id);
    return it == agent.end() ? nullptr : it->second;
  }
};

void labels(Json& j, const flatbuffers::Vector<flatbuffers::Offset<fb::Label>>& list) {
  j.open('[');
  for (const auto* l : list) {
    j.item();
    j.open('{');
    j.field("key", text(l->key()));
    if (l->value()) j.field("value", text(l->value()));
    j.close('}');
  }
  j.close(']');
}

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

void status(Json& j, const fb::TaskStatus& s, const AgentRow* agent) {
  j.open('{');
  j.field("state", fb::EnumNameTaskState(s.state()));
  j.field_number("timestamp", s.timestamp().value_or(0));
  if (s.labels()) j.key("labels"), labels(j, *s.labels());
  if (s.container_status()) j.key("container_status"), container_status(j, *s.container_status(), agent);
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
  for (const auto& x : t.statuses) j.item(), status(j, *x, agent);
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

void task_list(Json& j, std::string_view name, const std::vector<TaskPtr>& list, const Tally& tally) {
  j.key(name);
  j.open('[');
  for (const auto& t : list) j.item(), task(j, *t, tally);
  j.close(']');
}

void attributes(Json& j, const fb::AgentInfo& info) {
  j.open('{');
  if (info.attributes()) {
    for (const auto* a : *info.attributes()) {
      j.data_key(text(a->name()));
      if (a->text()) {
        j.text(text(a->text()));
      } else if (a->scalar()) {
        j.number(*a->scalar());
      } else if (a->ranges()) {
        std::string s = "[";
        for (const auto* r : *a->ranges())
          s += (s.size() > 1 ? ", " : "") + std::to_string(r->begin()) + "-" + std::to_string(r->end());
        j.text(s + "]");
      } else if (a->set()) {
        std::string s = "{";
        for (const auto* x : *a->set()) s += (s.size() > 1 ? ", " : "") + std::string(text(x));
        j.text(s + "}");
      } else {
        j.text("");
      }
    }
  }
  j.close('}');
}

void resource_list(Json& j, const Sums& sums, Which of = nullptr, std::string_view role = {}) {
  j.open('[');
  for (const auto& r : to_messages(sums, of, role)) {
    j.item();
    flatbuffers::FlatBufferBuilder b;
    b.Finish(fb::Resource::Pack(b, r.get()));
    j.message(*flatbuffers::GetRoot<fb::Resource>(b.GetBufferPointer()), "gantry.fb.Resource");
  }
  j.close(']');
}

void scalars(Json& j, const flatbuffers::Vector<flatbuffers::Offset<fb::ScalarEntry>>* list) {
  std::map<std::string_view, double> sorted;
  if (list)
    for (const auto* e : *list) sorted[text(e->key())] = e->value();
  j.open('{');
  for (const auto& [name, value] : sorted) j.data_key(name), j.number(value);
  j.close('}');
}

std::set<std::string_view> reserved_roles(const Sums& sums) {
  std::set<std::string_view> out;
  for (const auto& a : sums.amounts())
    if (const auto role = reservation_role(*a.like); !role.empty()) out.insert(role);
  return out;
}

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
  j.field("pid", agent_pid(a));
  j.field_number("registered_time", seconds(a.row->since_ns()));
  j.key("resources"), j.resources(total);
  j.key("used_resources"), j.resources(part.used);
  j.key("offered_resources"), j.resources(part.offered);
  const auto reserved = reserved_roles(total);
  j.key("reserved_resources");
  j.open('{');
  for (const auto role : reserved) j.data_key(role), j.resources(total, is_reserved_for, role);
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
    for (const auto role : reserved) j.data_key(role), resource_list(j, total, is_reserved_for, role);
    j.close('}');
    j.key("unreserved_resources_full"), resource_list(j, total, is_unreserved);
    j.key("used_resources_full"), resource_list(j, part.used);
    j.key("offered_resources_full"), resource_list(j, part.offered);
  }
  if (!counts.empty()) part.write(j, counts);
  j.close('}');
}

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

void agent_list(Json& j, const View& v, const Tally& tally, bool full, std::string_view counts = {},
                const std::optional<std::string>& only = {}) {
  j.key("slaves");
  j.open('[');
  for (const auto& a : v.agents) {
    if (!a->registered() || (only && a->id != *only)) continue;
    j.item(), agent(j, *a, tally, full, counts);
  }
  j.close(']');
}

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

void framework_list(Json& j, std::string_view name, const std::vector<View::Framework>& list, const Tally& tally, bool full,
                    const std::optional<std::string>& only = {}) {
  j.key(name);
  j.open('[');
  for (const auto& f : list)
    if (!only || f.row->id == *only) j.item(), framework(j, f, tally, full);
  j.close(']');
}

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
  flag_list(j, about);
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
      found.push_back({t->statuses.empty() ? -1 : t->statuses.front()->timestamp().value_or(0), t.get()});
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
