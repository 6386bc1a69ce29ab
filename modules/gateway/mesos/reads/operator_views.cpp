#include "operator_views.hpp"

#include "../permits.hpp"

#include "../masters.hpp"
#include "filter.hpp"
#include "sums.hpp"
#include "wire/codec.hpp"

#include <algorithm>
#include <set>
#include <unordered_map>

namespace gantry::gateway_mesos::ops {

namespace om = fb::master;

namespace {

struct Index {
  std::unordered_map<std::string_view, const AgentRow*> agents;
  std::unordered_map<std::string_view, Sums> used, offered;  // by id of agent or framework
  explicit Index(const View& v) {
    for (const auto& a : v.agents) agents[a->id] = a.get();
    const auto add = [&](const TaskRow& t) {
      if (!t.holds()) return;
      for (const auto id : {t.agent_id(), std::string_view(*t.framework_id)}) {
        Sums& s = used[id];
        s.add(t.info->resources());
      }
    };
    for (const auto& f : v.frameworks)
      for (const auto& t : f.tasks) add(*t);
    for (const auto& e : v.executors)
      for (const auto id : {std::string_view(e->agent_id), std::string_view(e->framework_id)}) used[id].add(e->info->resources());
    for (const auto& o : v.offers)
      for (const auto id : {std::string_view(o->agent_id), std::string_view(o->framework_id)})
        offered[id].add(o->row->resources());
  }
  [[nodiscard]] const AgentRow* agent(std::string_view id) const {
    const auto it = agents.find(id);
    return it == agents.end() ? nullptr : it->second;
  }
  [[nodiscard]] static std::vector<std::unique_ptr<fb::ResourceT>> of(const std::unordered_map<std::string_view, Sums>& map,
                                                                      std::string_view id) {
    const auto it = map.find(id);
    return it == map.end() ? std::vector<std::unique_ptr<fb::ResourceT>>() : to_messages(it->second);
  }
};

template <class T>
std::string json_of(const T& object, std::string_view table) {
  const Buffer b = pack(object);
  return wire::Codec::get().to_json(b, table);
}

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

std::unique_ptr<om::FrameworkT> full_framework(const FrameworkRow& f, const View& v, const Index& index) {
  auto out = framework(f);
  if (!f.row->unregistered_ns()) out->unregistered_time_ns = flatbuffers::nullopt;  // events say 0, lists nothing
  for (const auto& o : v.offers)
    if (o->framework_id == f.id) out->offers.push_back(offer(*o, index.agent(o->agent_id)));
  for (const auto& o : v.inverse_offers)
    if (o->framework_id == f.id) out->inverse_offers.push_back(std::make_unique<fb::InverseOfferT>(*o));
  out->allocated_resources = Index::of(index.used, f.id);
  out->offered_resources = Index::of(index.offered, f.id);
  if (!out->offer_constraints) out->offer_constraints = std::make_unique<fb::OfferConstraintsT>();
  return out;
}

template <class F>
void each_executor(const View& v, F fn) {
  for (const auto& x : v.executors) {
    om::ExecutorT e;
    e.executor_info.reset(x->info->UnPack());
    e.agent_id = x->agent_id;
    fn(std::move(e));
  }
}

// The lists, one after the other, either as JSON text or as objects.
struct Parts {
  const View& v;
  Index index;
  explicit Parts(const View& view) : v(view), index(view) {}

  template <class List>
  static void list(std::string& out, std::string_view name, bool first, List each) {
    out += first ? "\"" : ",\"";
    out += name;
    out += "\":[";
    bool comma = false;
    each([&](const auto& object, std::string_view table) {
      if (std::exchange(comma, true)) out += ',';
      out += json_of(object, table);
    });
    out += ']';
  }
  template <class Out>
  void tasks_of(const std::vector<TaskPtr> View::Framework::*which, Out&& out) const {
    for (const auto* all : {&v.frameworks, &v.completed})
      for (const auto& f : *all)
        for (const auto& t : f.*which) out(task(*t, index.agent(t->agent_id())), "gantry.fb.ops.Task");
  }
  void tasks(std::string& out) const {
    out += '{';
    list(out, "tasks", true, [&](auto row) { tasks_of(&View::Framework::tasks, row); });
    list(out, "unreachable_tasks", false, [&](auto row) { tasks_of(&View::Framework::absent, row); });
    list(out, "completed_tasks", false, [&](auto row) { tasks_of(&View::Framework::completed, row); });
    out += '}';
  }
  [[nodiscard]] std::unique_ptr<om::GetTasksT> tasks() const {
    auto out = std::make_unique<om::GetTasksT>();
    const auto into = [](auto& list) {
      return [&list](fb::ops::TaskT t, std::string_view) { list.push_back(std::make_unique<fb::ops::TaskT>(std::move(t))); };
    };
    tasks_of(&View::Framework::tasks, into(out->tasks));
    tasks_of(&View::Framework::absent, into(out->unreachable_tasks));
    tasks_of(&View::Framework::completed, into(out->completed_tasks));
    return out;
  }
  void executors(std::string& out) const {
    out += '{';
    list(out, "executors", true, [&](auto row) {
      each_executor(v, [&](const om::ExecutorT& e) { row(e, "gantry.fb.master.Executor"); });
    });
    out += '}';
  }
  [[nodiscard]] std::unique_ptr<om::GetExecutorsT> executors() const {
    auto out = std::make_unique<om::GetExecutorsT>();
    each_executor(v, [&](om::ExecutorT e) { out->executors.push_back(std::make_unique<om::ExecutorT>(std::move(e))); });
    return out;
  }
  void frameworks(std::string& out) const {
    out += '{';
    list(out, "frameworks", true, [&](auto row) {
      for (const auto& f : v.frameworks) row(*full_framework(*f.row, v, index), "gantry.fb.master.Framework");
    });
    list(out, "completed_frameworks", false, [&](auto row) {
      for (const auto& f : v.completed) row(*full_framework(*f.row, v, index), "gantry.fb.master.Framework");
    });
    out += '}';
  }
  [[nodiscard]] std::unique_ptr<om::GetFrameworksT> frameworks() const {
    auto out = std::make_unique<om::GetFrameworksT>();
    for (const auto& f : v.frameworks) out->frameworks.push_back(full_framework(*f.row, v, index));
    for (const auto& f : v.completed) out->completed_frameworks.push_back(full_framework(*f.row, v, index));
    return out;
  }
  void agents(std::string& out) const {
    out += '{';
    list(out, "agents", true, [&](auto row) {
      for (const auto& a : v.agents)
        if (a->registered()) row(*full_agent(*a, index, v.verdicts), "gantry.fb.master.Agent");
    });
    list(out, "recovered_agents", false, [&](auto row) {
      for (const auto& a : v.agents)
        if (a->row->standing() == fb::state::Standing::RECOVERED)
          row(*agent(*a, v.verdicts)->agent_info, "gantry.fb.AgentInfo");
    });
    out += '}';
  }
  [[nodiscard]] std::unique_ptr<om::GetAgentsT> agents() const {
    auto out = std::make_unique<om::GetAgentsT>();
    for (const auto& a : v.agents) {
      if (a->registered()) out->agents.push_back(full_agent(*a, index, v.verdicts));
      else if (a->row->standing() == fb::state::Standing::RECOVERED)
        out->recovered_agents.push_back(std::move(agent(*a, v.verdicts)->agent_info));
    }
    return out;
  }
  void state(std::string& out) const {
    out += "{\"get_tasks\":";
    tasks(out);
    out += ",\"get_executors\":";
    executors(out);
    out += ",\"get_frameworks\":";
    frameworks(out);
    out += ",\"get_agents\":";
    agents(out);
    out += '}';
  }
  [[nodiscard]] std::unique_ptr<om::GetStateT> state() const {
    auto out = std::make_unique<om::GetStateT>();
    out->get_tasks = tasks();
    out->get_executors = executors();
    out->get_frameworks = frameworks();
    out->get_agents = agents();
    return out;
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
      for (const auto* map : {&index.used, &index.offered})
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
  m.capabilities = {fb::MasterCapability::AGENT_UPDATE, fb::MasterCapability::AGENT_DRAINING, fb::MasterCapability::QUOTA_V2};
  out->start_time = static_cast<double>(about.start_ns) / 1e9;
  out->elected_time = static_cast<double>(v.elected_ns) / 1e9;
  return out;
}

}  // namespace

std::unique_ptr<fb::TaskStatusT> status(const fb::TaskStatus& s, const AgentRow* a) {
  std::unique_ptr<fb::TaskStatusT> out(s.UnPack());
  out->data.clear();
  if (out->container_status && out->container_status->network_infos.empty() && a) {
    auto ip = std::make_unique<fb::IpAddressT>();
    ip->protocol = fb::NetworkProtocol::IPv4;
    ip->ip_address = agent_ip(*a);
    auto info = std::make_unique<fb::NetworkInfoT>();
    info->ip_addresses.push_back(std::move(ip));
    out->container_status->network_infos.push_back(std::move(info));
  }
  return out;
}

fb::ops::TaskT task(const TaskRow& t, const AgentRow* a) {
  fb::ops::TaskT out;
  fb::TaskInfoT info;
  t.info->UnPackTo(&info);
  out.name = std::move(info.name);
  out.task_id = std::move(info.task_id);
  out.framework_id = *t.framework_id;
  if (info.executor) out.executor_id = info.executor->executor_id;
  out.agent_id = std::move(info.agent_id);
  out.state = t.state;
  out.resources = std::move(info.resources);
  for (const auto& s : t.statuses) out.statuses.push_back(status(*s, a));
  if (!t.statuses.empty()) {
    const auto& last = *t.statuses.back();
    if (last.uuid() && last.uuid()->size()) {
      out.status_update_state = last.state();
      out.status_update_uuid.assign(last.uuid()->begin(), last.uuid()->end());
    }
  }
  out.labels = std::move(info.labels);
  out.discovery = std::move(info.discovery);
  out.container = std::move(info.container);
  if (info.command) out.user = info.command->user;
  out.health_check = std::move(info.health_check);
  out.kill_policy = std::move(info.kill_policy);
  out.limits = std::move(info.limits);
  return out;
}

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

std::string Writer::response(om::CallType type) const {
  using C = om::CallType;
  const Parts parts(view_);
  om::ResponseT r;
  std::string out;
  const auto open = [&](const char* name, const char* member) {
    out = std::string("{\"type\":\"") + name + "\",\"" + member + "\":";
  };
  switch (type) {
    case C::GET_STATE:
      if (!protobuf_) return open("GET_STATE", "get_state"), parts.state(out), out + "}";
      r.type = om::ResponseType::GET_STATE;
      r.get_state = parts.state();
      break;
    case C::GET_TASKS:
      if (!protobuf_) return open("GET_TASKS", "get_tasks"), parts.tasks(out), out + "}";
      r.type = om::ResponseType::GET_TASKS;
      r.get_tasks = parts.tasks();
      break;
    case C::GET_AGENTS:
      if (!protobuf_) return open("GET_AGENTS", "get_agents"), parts.agents(out), out + "}";
      r.type = om::ResponseType::GET_AGENTS;
      r.get_agents = parts.agents();
      break;
    case C::GET_FRAMEWORKS:
      if (!protobuf_) return open("GET_FRAMEWORKS", "get_frameworks"), parts.frameworks(out), out + "}";
      r.type = om::ResponseType::GET_FRAMEWORKS;
      r.get_frameworks = parts.frameworks();
      break;
    case C::GET_EXECUTORS:
      if (!protobuf_) return open("GET_EXECUTORS", "get_executors"), parts.executors(out), out + "}";
      r.type = om::ResponseType::GET_EXECUTORS;
      r.get_executors = parts.executors();
      break;
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
  const Parts parts(view_);
  if (!protobuf_) {
    std::string out = "{\"type\":\"SUBSCRIBED\",\"subscribed\":{\"get_state\":";
    parts.state(out);
    out += ",\"heartbeat_interval_seconds\":";
    write_number(out, heartbeat_seconds);
    return out + "}}";
  }
  om::EventT e;
  e.type = om::EventType::SUBSCRIBED;
  e.subscribed = std::make_unique<om::SubscribedT>();
  e.subscribed->get_state = parts.state();
  e.subscribed->heartbeat_interval_seconds = heartbeat_seconds;
  return encode(e, true);
}

}  // namespace gantry::gateway_mesos::ops
