#include "operator_views.hpp"

#include "../permits.hpp"

#include "../masters.hpp"
#include "filter.hpp"
#include "sums.hpp"
#include "task_views.hpp"
#include "wire/codec.hpp"

#include <algorithm>
#include <future>
#include <optional>
#include <set>
#include <unordered_map>

namespace gantry::gateway_mesos::ops {

namespace om = fb::master;
using wire::Composer;
using wire::Field;
using wire::field;

namespace {

// Which agent has an id.
struct Agents {
  std::unordered_map<std::string_view, const AgentRow*> agents;
  explicit Agents(const View& v) {
    agents.reserve(v.agents.size());
    for (const auto& a : v.agents) agents[a->id] = a.get();
  }
  [[nodiscard]] const AgentRow* agent(std::string_view id) const {
    const auto it = agents.find(id);
    return it == agents.end() ? nullptr : it->second;
  }
};

// What is used and on offer, of agents and of frameworks.
struct Index {
  std::unordered_map<std::string_view, Sums> used, offered;  // by id of agent or framework
  explicit Index(const View& v) {
    used.reserve(v.agents.size() + v.frameworks.size());
    for (const auto& f : v.frameworks) {
      Sums own;
      for (const auto& t : f.tasks) {
        if (!t->holds()) continue;
        own.add(t->info->resources());
        used[t->agent_id()].add(t->info->resources());
      }
      if (!own.empty()) used[f.row->id].add(own);
    }
    for (const auto& e : v.executors)
      for (const auto id : {std::string_view(e->agent_id), std::string_view(e->framework_id)}) used[id].add(e->info->resources());
    for (const auto& o : v.offers)
      for (const auto id : {std::string_view(o->agent_id), std::string_view(o->framework_id)})
        offered[id].add(o->row->resources());
  }
  [[nodiscard]] static std::vector<std::unique_ptr<fb::ResourceT>> of(const std::unordered_map<std::string_view, Sums>& map,
                                                                      std::string_view id) {
    const auto it = map.find(id);
    return it == map.end() ? std::vector<std::unique_ptr<fb::ResourceT>>() : to_messages(it->second);
  }
};

void hide(std::vector<std::unique_ptr<fb::ResourceT>>& list, const Verdicts& verdicts) {
  if (!verdicts.all()) std::erase_if(list, [&](const auto& r) { return !sees(verdicts, *r); });
}

std::unique_ptr<om::AgentT> full_agent(const AgentRow& a, const Index& index, const Verdicts& verdicts) {
  auto out = agent(a, verdicts);
  out->allocated_resources = Index::of(index.used, a.id);
  out->offered_resources = Index::of(index.offered, a.id);
  hide(out->allocated_resources, verdicts);
  hide(out->offered_resources, verdicts);
  return out;
}

std::unique_ptr<fb::OfferT> offer(const OfferRow& o, const AgentRow* a) {
  auto out = std::make_unique<fb::OfferT>();
  out->id = o.id;
  out->framework_id = o.framework_id;
  out->agent_id = o.agent_id;
  out->allocation_role = o.role;
  if (o.row->resources())
    for (const auto* r : *o.row->resources()) out->resources.emplace_back(r->UnPack());
  if (!a) return out;
  out->hostname = text(a->info->hostname());
  out->url = std::make_unique<fb::UrlT>();
  out->url->scheme = "http";
  out->url->address = std::make_unique<fb::AddressT>();
  out->url->address->hostname = out->hostname;
  out->url->address->ip = agent_ip(*a);
  out->url->address->port = agent_port(*a);
  out->url->path = "/slave(1)";
  if (a->info->attributes())
    for (const auto* x : *a->info->attributes()) out->attributes.emplace_back(x->UnPack());
  if (a->row->unavailability()) out->unavailability.reset(a->row->unavailability()->UnPack());
  return out;
}

std::unique_ptr<om::FrameworkT> full_framework(const FrameworkRow& f, const View& v, const Agents& agents, const Index& index) {
  auto out = framework(f);
  if (!f.row->unregistered_ns()) out->unregistered_time_ns = flatbuffers::nullopt;  // events say 0, lists nothing
  for (const auto& o : v.offers)
    if (o->framework_id == f.id) out->offers.push_back(offer(*o, agents.agent(o->agent_id)));
  for (const auto& o : v.inverse_offers)
    if (o->framework_id == f.id) out->inverse_offers.push_back(std::make_unique<fb::InverseOfferT>(*o));
  out->allocated_resources = Index::of(index.used, f.id);
  out->offered_resources = Index::of(index.offered, f.id);
  if (!out->offer_constraints) out->offer_constraints = std::make_unique<fb::OfferConstraintsT>();
  return out;
}

// The large responses, row by row.
struct Parts {
  const View& v;
  Agents agents_by_id;
  mutable std::optional<Index> sums;  // made when first asked for: not all responses say them
  explicit Parts(const View& view) : v(view), agents_by_id(view) {}
  [[nodiscard]] const Index& index() const { return sums ? *sums : sums.emplace(v); }

  struct Fields {
    static constexpr std::string_view kTasks = "gantry.fb.master.GetTasks", kAgents = "gantry.fb.master.GetAgents",
                                      kFrameworks = "gantry.fb.master.GetFrameworks", kState = "gantry.fb.master.GetState";
    const Field &tasks = field(kTasks, "tasks"), &unreachable = field(kTasks, "unreachable_tasks"), &completed = field(kTasks, "completed_tasks"),
                &executors = field("gantry.fb.master.GetExecutors", "executors"), &frameworks = field(kFrameworks, "frameworks"),
                &over = field(kFrameworks, "completed_frameworks"), &agents = field(kAgents, "agents"),
                &recovered = field(kAgents, "recovered_agents"), &get_tasks = field(kState, "get_tasks"),
                &get_executors = field(kState, "get_executors"), &get_frameworks = field(kState, "get_frameworks"),
                &get_agents = field(kState, "get_agents");
  };
  [[nodiscard]] static const Fields& fields() {
    static const Fields f;
    return f;
  }
  // A list of few rows, put together as objects.
  template <class T>
  static void item(Composer& out, const Field& f, const T& object) {
    const Buffer b = pack(object);
    out.item(f, *flatbuffers::GetRoot<flatbuffers::Table>(b.data()));
  }

  void tasks_of(Composer& out, const Field& list, const std::vector<TaskPtr> View::Framework::*which) const {
    out.list(list);
    for (const auto* all : {&v.frameworks, &v.completed})
      for (const auto& f : *all)
        for (const auto& t : f.*which) {
          out.item(list);
          write_task(out, *t, agents_by_id.agent(t->agent_id()));
          out.end();
        }
    out.end_list();
  }
  void tasks(Composer& out) const {
    tasks_of(out, fields().tasks, &View::Framework::tasks);
    tasks_of(out, fields().unreachable, &View::Framework::absent);
    tasks_of(out, fields().completed, &View::Framework::completed);
  }
  void executors(Composer& out) const {
    const Field& list = fields().executors;
    out.list(list);
    for (const auto& x : v.executors) {
      om::ExecutorT e;
      e.executor_info.reset(x->info->UnPack());
      e.agent_id = x->agent_id;
      item(out, list, e);
    }
    out.end_list();
  }
  void frameworks(Composer& out) const {
    for (const auto& [list, rows] : {std::pair(&fields().frameworks, &v.frameworks), std::pair(&fields().over, &v.completed)}) {
      out.list(*list);
      for (const auto& f : *rows) item(out, *list, *full_framework(*f.row, v, agents_by_id, index()));
      out.end_list();
    }
  }
  void agents(Composer& out) const {
    const Fields& f = fields();
    out.list(f.agents);
    for (const auto& a : v.agents)
      if (a->registered()) item(out, f.agents, *full_agent(*a, index(), v.verdicts));
    out.end_list();
    out.list(f.recovered);
    for (const auto& a : v.agents)
      if (a->row->standing() == fb::state::Standing::RECOVERED) item(out, f.recovered, *agent(*a, v.verdicts)->agent_info);
    out.end_list();
  }
  void state(Composer& out) const {
    const Fields& f = fields();
    // Beside the tasks, on another core if there is one: sums over all tasks are half as much work as writing them.
    auto others = std::async(std::launch::async | std::launch::deferred, [&, protobuf = out.protobuf()] {
      std::string text;
      Composer c(text, protobuf);
      c.begin(f.get_executors, true), executors(c), c.end();
      c.begin(f.get_frameworks, true), frameworks(c), c.end();
      c.begin(f.get_agents, true), agents(c), c.end();
      return text;
    });
    out.begin(f.get_tasks, true), tasks(out), out.end();
    out.join(others.get());
  }
  [[nodiscard]] std::unique_ptr<om::GetRolesT> roles() const {
    auto out = std::make_unique<om::GetRolesT>();
    std::map<std::string_view, std::vector<std::string_view>> names;
    for (const auto& f : v.frameworks)
      for (const auto r : roles_of(*f.row->info)) names[r].push_back(f.row->id);
    for (const auto& a : v.agents)
      if (a->row->total())
        for (const auto* r : *a->row->total())
          if (const auto reserved = reservation_role(*r); !reserved.empty()) names[reserved];
    for (const auto& [name, row] : v.roles) names[name];
    Sums held;
    for (const auto& f : v.frameworks) {
      for (const auto* map : {&index().used, &index().offered})
        if (const auto it = map->find(f.row->id); it != map->end()) held.add(it->second);
    }
    for (const auto& [name, ids] : names) {
      if (!v.verdicts.allows("view_role", name)) continue;
      auto role = std::make_unique<fb::ops::RoleT>();
      role->name = name;
      const auto set = v.roles.find(name);
      role->weight = set == v.roles.end() ? 1 : set->second->weight;
      role->frameworks.assign(ids.begin(), ids.end());
      std::map<std::string_view, std::int64_t> totals;
      for (const auto& a : held.amounts())
        if (a.allocation == name && a.like->type() == fb::ValueType::SCALAR) totals[text(a.like->name())] += a.scalar;
      for (const auto& [what, n] : totals) {
        if (!n) continue;
        auto r = std::make_unique<fb::ResourceT>();
        r->name = what;
        r->type = fb::ValueType::SCALAR;
        r->scalar = static_cast<double>(n) / 1000;
        role->resources.push_back(std::move(r));
      }
      out->roles.push_back(std::move(role));
    }
    return out;
  }
};

std::unique_ptr<om::GetMasterT> master(const View& v, const legacy::About& about) {
  auto out = std::make_unique<om::GetMasterT>();
  out->master_info = std::make_unique<fb::MasterInfoT>();
  auto& m = *out->master_info;
  Self self;
  self.ip = about.ip;
  m.id = v.master_id;
  m.ip = self.ip_number();
  m.port = about.port;
  m.pid = about.pid();
  m.hostname = about.hostname;
  m.version = kVersion;
  m.address = std::make_unique<fb::AddressT>();
  m.address->hostname = about.hostname;
  m.address->ip = about.ip;
  m.address->port = about.port;
  if (!about.domain.empty()) m.domain.reset(flatbuffers::GetRoot<fb::DomainInfo>(about.domain.data())->UnPack());
  m.capabilities = {fb::MasterCapability::AGENT_UPDATE, fb::MasterCapability::AGENT_DRAINING, fb::MasterCapability::QUOTA_V2};
  out->start_time = static_cast<double>(about.start_ns) / 1e9;
  out->elected_time = static_cast<double>(v.elected_ns) / 1e9;
  return out;
}

}  // namespace

std::unique_ptr<om::FrameworkT> framework(const FrameworkRow& f) {
  auto out = std::make_unique<om::FrameworkT>();
  out->framework_info.reset(f.info->UnPack());
  out->active = f.row->active();
  out->connected = f.row->connected();
  out->recovered = f.row->recovered();
  out->registered_time_ns = static_cast<std::int64_t>(f.row->registered_ns());
  out->reregistered_time_ns = static_cast<std::int64_t>(f.row->reregistered_ns() ? f.row->reregistered_ns() : f.row->registered_ns());
  out->unregistered_time_ns = static_cast<std::int64_t>(f.row->unregistered_ns());
  if (f.row->offer_constraints()) out->offer_constraints.reset(f.row->offer_constraints()->UnPack());
  return out;
}

std::unique_ptr<om::AgentT> agent(const AgentRow& a, const Verdicts& verdicts) {
  auto out = std::make_unique<om::AgentT>();
  out->agent_info.reset(a.info->UnPack());
  out->agent_info->port = agent_port(a);
  out->agent_info->checkpoint = true;  // every agent does
  out->active = a.row->active();
  out->deactivated = a.row->deactivated();
  if (a.row->drain()) {
    out->drain_info.reset(a.row->drain()->UnPack());
    // In whole seconds, as it always was.
    out->estimated_drain_start_time_ns = static_cast<std::int64_t>(a.row->drain_since_ns() / 1'000'000'000 * 1'000'000'000);
  }
  out->version = kVersion;
  out->pid = agent_pid(a);
  out->registered_time_ns = static_cast<std::int64_t>(a.row->since_ns());
  Sums total;
  total.add(a.row->total(), false);
  out->total_resources = to_messages(total);
  hide(out->total_resources, verdicts);
  hide(out->agent_info->resources, verdicts);
  using C = fb::ops::AgentCapability;
  out->capabilities = {C::MULTI_ROLE, C::HIERARCHICAL_ROLE, C::RESERVATION_REFINEMENT, C::RESIZE_VOLUME, C::AGENT_OPERATION_FEEDBACK,
                       C::AGENT_DRAINING, C::TASK_RESOURCE_LIMITS};
  return out;
}

std::string encode(const om::EventT& event, bool protobuf) {
  const Buffer b = pack(event);
  const auto& codec = wire::Codec::get();
  return protobuf ? codec.to_protobuf(b, "gantry.fb.master.Event") : codec.to_json(b, "gantry.fb.master.Event");
}
std::string encode(const om::ResponseT& response, bool protobuf) {
  const Buffer b = pack(response);
  const auto& codec = wire::Codec::get();
  return protobuf ? codec.to_protobuf(b, "gantry.fb.master.Response") : codec.to_json(b, "gantry.fb.master.Response");
}

namespace {

// An event about a task: `write` fills the member `name` of it.
template <class F>
std::string task_event(om::EventType type, std::string_view name, bool protobuf, F write) {
  std::string out;
  Composer c(out, protobuf);
  c.open();
  c.name(field("gantry.fb.master.Event", "type"), static_cast<std::int64_t>(type));
  c.begin(field("gantry.fb.master.Event", name));
  write(c);
  c.end();
  c.close();
  return out;
}

}  // namespace

std::string task_added(const TaskRow& t, const AgentRow* agent, bool protobuf) {
  return task_event(om::EventType::TASK_ADDED, "task_added", protobuf, [&](Composer& c) {
    c.begin(field("gantry.fb.master.TaskAdded", "task"));
    write_task(c, t, agent);
    c.end();
  });
}

std::string task_updated(const TaskRow& t, const fb::TaskStatus& status, const AgentRow* agent, bool protobuf) {
  static constexpr std::string_view kUpdated = "gantry.fb.master.TaskUpdated";
  return task_event(om::EventType::TASK_UPDATED, "task_updated", protobuf, [&](Composer& c) {
    c.text(field(kUpdated, "framework_id"), *t.framework_id);
    c.begin(field(kUpdated, "status"));
    write_status(c, status, agent);
    c.end();
    c.name(field(kUpdated, "state"), static_cast<std::int64_t>(t.state));
  });
}

std::string Writer::room() const {
  std::size_t tasks = 0;
  for (const auto* all : {&view_.frameworks, &view_.completed})
    for (const auto& f : *all) tasks += f.tasks.size() + f.absent.size() + f.completed.size();
  std::string out;
  out.reserve((tasks + view_.agents.size()) * (protobuf_ ? 512 : 1200) + 4096);
  return out;
}

std::string Writer::response(om::CallType type) const {
  using C = om::CallType;
  const Parts parts(view_);
  om::ResponseT r;
  const auto large = [&](om::ResponseType kind, std::string_view name, void (Parts::*write)(Composer&) const) {
    std::string out = room();
    Composer c(out, protobuf_);
    c.open();
    c.name(field("gantry.fb.master.Response", "type"), static_cast<std::int64_t>(kind));
    c.begin(field("gantry.fb.master.Response", name), true);
    (parts.*write)(c);
    c.end();
    c.close();
    return out;
  };
  switch (type) {
    case C::GET_STATE: return large(om::ResponseType::GET_STATE, "get_state", &Parts::state);
    case C::GET_TASKS: return large(om::ResponseType::GET_TASKS, "get_tasks", &Parts::tasks);
    case C::GET_AGENTS: return large(om::ResponseType::GET_AGENTS, "get_agents", &Parts::agents);
    case C::GET_FRAMEWORKS: return large(om::ResponseType::GET_FRAMEWORKS, "get_frameworks", &Parts::frameworks);
    case C::GET_EXECUTORS: return large(om::ResponseType::GET_EXECUTORS, "get_executors", &Parts::executors);
    case C::GET_WEIGHTS:
      r.type = om::ResponseType::GET_WEIGHTS;
      for (const auto& [role, row] : view_.roles) {
        if (row->quota && row->weight == 1) continue;  // it has a row for its quota
        if (!view_.verdicts.allows("view_role", role)) continue;
        if (!r.get_weights) r.get_weights = std::make_unique<om::GetWeightsT>();
        auto w = std::make_unique<fb::ops::WeightInfoT>();
        w->role = role;
        w->weight = row->weight;
        r.get_weights->weight_infos.push_back(std::move(w));
      }
      break;
    case C::GET_QUOTA:
      r.type = om::ResponseType::GET_QUOTA;
      r.get_quota = std::make_unique<om::GetQuotaT>();
      r.get_quota->status = std::make_unique<om::QuotaStatusT>(quota_status(view_));
      break;
    case C::GET_OPERATIONS:
      r.type = om::ResponseType::GET_OPERATIONS;
      r.get_operations = std::make_unique<fb::ops::GetOperationsT>();
      for (const auto& o : view_.operations) r.get_operations->operations.emplace_back(o->UnPack());
      break;
    case C::GET_ROLES:
      r.type = om::ResponseType::GET_ROLES;
      r.get_roles = parts.roles();
      break;
    default:
      r.type = om::ResponseType::GET_MASTER;
      r.get_master = master(view_, about_);
  }
  return encode(r, protobuf_);
}

std::string Writer::subscribed(double heartbeat_seconds) const {
  static constexpr std::string_view kSubscribed = "gantry.fb.master.Subscribed";
  const Parts parts(view_);
  std::string out = room();
  Composer c(out, protobuf_);
  c.open();
  c.name(field("gantry.fb.master.Event", "type"), static_cast<std::int64_t>(om::EventType::SUBSCRIBED));
  c.begin(field("gantry.fb.master.Event", "subscribed"), true);
  c.begin(field(kSubscribed, "get_state"), true);
  parts.state(c);
  c.end();
  c.number(field(kSubscribed, "heartbeat_interval_seconds"), heartbeat_seconds);
  c.end();
  c.close();
  return out;
}

}  // namespace gantry::gateway_mesos::ops
