#include "writes.hpp"

#include "asks.hpp"
#include "resources.hpp"
#include "wire/codec.hpp"

#include <gantry/host_generated.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace gantry::gateway_mesos {

namespace om = fb::master;
using C = om::CallType;

namespace {

constexpr std::uint32_t kCall = static_cast<std::uint32_t>(fb::host::OperateMethod::CALL);

bool books(C type) {
  return type == C::RESERVE_RESOURCES || type == C::UNRESERVE_RESOURCES || type == C::CREATE_VOLUMES || type == C::DESTROY_VOLUMES ||
         type == C::GROW_VOLUME || type == C::SHRINK_VOLUME;
}

// Older clients name the role of a reservation beside the resource.
void present_form(om::CallT& call) {
  if (auto* r = call.reserve_resources.get()) upgrade_resources(r->resources), upgrade_resources(r->source);
  if (auto* r = call.unreserve_resources.get()) upgrade_resources(r->resources);
  if (auto* v = call.create_volumes.get()) upgrade_resources(v->volumes);
  if (auto* v = call.destroy_volumes.get()) upgrade_resources(v->volumes);
  if (auto* v = call.grow_volume.get()) {
    if (v->volume) upgrade_resource(*v->volume);
    if (v->addition) upgrade_resource(*v->addition);
  }
  if (auto* v = call.shrink_volume.get(); v && v->volume) upgrade_resource(*v->volume);
}

// A field of a form (application/x-www-form-urlencoded).
std::optional<std::string> form_field(std::string_view body, std::string_view name) {
  while (!body.empty()) {
    const auto end = std::min(body.find('&'), body.size());
    const std::string_view pair = body.substr(0, end);
    body.remove_prefix(std::min(end + 1, body.size()));
    const auto eq = std::min(pair.find('='), pair.size());
    if (percent_decode(pair.substr(0, eq), true) == name)
      return percent_decode(pair.substr(std::min(eq + 1, pair.size())), true);
  }
  return std::nullopt;
}

std::string_view chars(Bytes b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

// What is inside a wrapper such as {"resources":[...]}, as a message. The reader's sentences speak of the Call that the v1 API
// would have been given.
template <class T>
Result<typename T::NativeTableType> parse(const std::string& json, std::string_view table) {
  const auto bytes = wire::Codec::get().from_json(json, table);
  if (!bytes) return bytes.error();
  return unpack<T>(Bytes(*bytes));
}

}  // namespace

Writes::Writes(Host& host, Masters& masters, Access& access, std::function<std::string(const std::string&)> principal_of,
               Function<void(const ExchangePtr&)> redirect)
    : host_(host), masters_(masters), access_(access), principal_of_(std::move(principal_of)), redirect_(std::move(redirect)),
      logging_(host, access, [this](const ExchangePtr& e, const fb::ops::LoggingChangeT& change) {
        CallT call;
        call.type = C::SET_LOGGING_LEVEL;
        call.set_logging_level = std::make_unique<fb::ops::LoggingChangeT>(change);
        calls_metric_.add();
        pass(e, call);
      }) {
  calls_metric_ = host.metric("operator_calls", fb::MetricKind::COUNTER, "1", "calls of operators that change something");
  refused_metric_ = host.metric("refused_operator_calls", fb::MetricKind::COUNTER, "1", "such calls that were answered with an error");
}

void Writes::routes(Router& router, Handler read_quota, Handler read_weights) {
  read_quota_ = std::move(read_quota);
  read_weights_ = std::move(read_weights);
  const auto post = [&router](std::string path, Handler handler) {
    Route r;
    r.path = std::move(path);
    r.methods = {"POST"};
    r.handler = std::move(handler);
    router.add(std::move(r));
  };
  for (const auto& [path, type] : {std::pair{"/reserve", C::RESERVE_RESOURCES}, {"/unreserve", C::UNRESERVE_RESOURCES},
                                   {"/create-volumes", C::CREATE_VOLUMES}, {"/destroy-volumes", C::DESTROY_VOLUMES}})
    post(path, [this, type = type](const ExchangePtr& e) { resources_form(e, type); });
  post("/teardown", [this](const ExchangePtr& e) { teardown_form(e); });
  logging_.routes(router, kReadwriteRealm);
  router.add({"/quota", {"GET", "POST", "DELETE"}, true, [this](const ExchangePtr& e) { quota(e); }});
  router.add({"/weights", {"GET", "PUT"}, true, [this](const ExchangePtr& e) { weights(e); }});
}

void Writes::maintenance_routes(Router& router, Handler read_schedule) {
  router.add({"/maintenance/schedule", {"GET", "POST"}, true, [this, read = std::move(read_schedule)](const ExchangePtr& e) mutable {
                if (e->method() == "GET") read(e);
                else schedule(e);
              }});
  router.add({"/machine/down", {"POST"}, true, [this](const ExchangePtr& e) { machines(e, true); }});
  router.add({"/machine/up", {"POST"}, true, [this](const ExchangePtr& e) { machines(e, false); }});
}

// ---- the v1 API

void Writes::call(const ExchangePtr& e, const om::Call& call) {
  const auto missing = [&](const char* field) { e->text(400, std::string("Failed to validate master::Call: Expecting '") + field + "' to be present"); };
  const struct {
    C type;
    const void* part;
    const char* name;
  } parts[] = {{C::SET_LOGGING_LEVEL, call.set_logging_level(), "set_logging_level"},
               {C::UPDATE_WEIGHTS, call.update_weights(), "update_weights"},
               {C::RESERVE_RESOURCES, call.reserve_resources(), "reserve_resources"},
               {C::UNRESERVE_RESOURCES, call.unreserve_resources(), "unreserve_resources"},
               {C::CREATE_VOLUMES, call.create_volumes(), "create_volumes"},
               {C::DESTROY_VOLUMES, call.destroy_volumes(), "destroy_volumes"},
               {C::GROW_VOLUME, call.grow_volume(), "grow_volume"},
               {C::SHRINK_VOLUME, call.shrink_volume(), "shrink_volume"},
               {C::UPDATE_MAINTENANCE_SCHEDULE, call.update_maintenance_schedule(), "update_maintenance_schedule"},
               {C::START_MAINTENANCE, call.start_maintenance(), "start_maintenance"},
               {C::STOP_MAINTENANCE, call.stop_maintenance(), "stop_maintenance"},
               {C::UPDATE_QUOTA, call.update_quota(), "update_quota"},
               {C::SET_QUOTA, call.set_quota(), "set_quota"},
               {C::REMOVE_QUOTA, call.remove_quota(), "remove_quota"},
               {C::TEARDOWN, call.teardown(), "teardown"},
               {C::MARK_AGENT_GONE, call.mark_agent_gone(), "mark_agent_gone"},
               {C::DRAIN_AGENT, call.drain_agent(), "drain_agent"},
               {C::DEACTIVATE_AGENT, call.deactivate_agent(), "deactivate_agent"},
               {C::REACTIVATE_AGENT, call.reactivate_agent(), "reactivate_agent"}};
  const auto* known = std::find_if(std::begin(parts), std::end(parts), [&](const auto& p) { return p.type == call.type(); });
  if (known == std::end(parts)) return e->text(501, "501 Not Implemented.");
  if (!known->part) return missing(known->name);
  if (call.type() == C::GROW_VOLUME && !call.grow_volume()->agent_id()) return missing("grow_volume.agent_id");
  if (call.type() == C::SHRINK_VOLUME && !call.shrink_volume()->agent_id()) return missing("shrink_volume.agent_id");
  std::unique_ptr<CallT> t(call.UnPack());
  if (call.type() == C::SET_LOGGING_LEVEL)
    return logging_.set(e, *t->set_logging_level);
  operate(e, std::move(*t));
}

void Writes::operate(const ExchangePtr& e, CallT call) {
  calls_metric_.add();
  present_form(call);
  if (access_.open()) return pass(e, call);
  auto asks = asks_of(call, principal_of_);
  auto kept = std::make_shared<CallT>(std::move(call));
  access_.guard(e, std::move(asks), [this, alive = alive_, e, kept] {
    if (*alive) pass(e, *kept);
  });
}

void Writes::pass(const ExchangePtr& e, const CallT& call) {
  const C type = call.type;
  fb::host::OperateT operate;
  operate.principal = e->principal();
  const Buffer bytes = pack(call);
  const Bytes view(bytes);
  operate.call.assign(view.begin(), view.end());
  const Buffer body = pack(operate);
  host_.stream(fb::host::Service::OPERATE, kCall, body, [this, alive = alive_, e, type](gantry_code code, Bytes reply) {
    if (!*alive || code == GANTRY_MORE) return;
    if (code < 0) return answer_error(e, type, unpack_error(code, reply));
    e->answer(books(type) ? 202 : 200);
  });
}

void Writes::answer_error(const ExchangePtr& e, C type, const Error& error) {
  refused_metric_.add();
  switch (error.code) {
    case Code::not_found:
      return e->text(type == C::MARK_AGENT_GONE ? 404 : 400, error.message);
    case Code::failed_precondition:
      return e->text(books(type) || type == C::MARK_AGENT_GONE ? 409 : 400, error.message);
    case Code::unimplemented:
      return e->text(501, "501 Not Implemented.");
    case Code::permission_denied:
      return e->text(403, "403 Forbidden.");
    case Code::unavailable:
      masters_.doubt();
      return masters_.refresh([this, alive = alive_, e, error] {
        if (!*alive) return;
        if (masters_.view().leading) e->text(503, error.message);
        else redirect_(e);
      });
    default:
      return exchange_error(e, error);
  }
}

// ---- the older endpoints

void Writes::resources_form(const ExchangePtr& e, C type) {
  const std::string_view body = chars(e->body());
  const bool volumes = type == C::CREATE_VOLUMES || type == C::DESTROY_VOLUMES;
  const std::string field = volumes ? "volumes" : "resources";
  const auto agent = form_field(body, "slaveId");
  if (!agent) return e->text(400, "Missing 'slaveId' query parameter in the request body");
  const auto json = form_field(body, field);
  if (!json) return e->text(400, "Missing '" + field + "' query parameter in the request body");
  // All four have the shape of a ReserveResources or CreateVolumes.
  const std::string wrapped = "{\"agent_id\":{\"value\":\"\"},\"" + field + "\":" + *json + "}";
  const auto refuse = [&](const Error& why) {
    e->text(400, "Error in parsing '" + field + "' query parameter in the request body: " + why.message);
  };
  CallT call;
  call.type = type;
  if (volumes) {
    auto v = parse<om::CreateVolumes>(wrapped, "gantry.fb.master.CreateVolumes");
    if (!v) return refuse(v.error());
    v->agent_id = *agent;
    if (type == C::CREATE_VOLUMES) {
      call.create_volumes = std::make_unique<om::CreateVolumesT>(std::move(*v));
    } else {
      call.destroy_volumes = std::make_unique<om::DestroyVolumesT>();
      call.destroy_volumes->agent_id = *agent;
      call.destroy_volumes->volumes = std::move(v->volumes);
    }
  } else {
    auto r = parse<om::UnreserveResources>(wrapped, "gantry.fb.master.UnreserveResources");
    if (!r) return refuse(r.error());
    r->agent_id = *agent;
    if (type == C::UNRESERVE_RESOURCES) {
      call.unreserve_resources = std::make_unique<om::UnreserveResourcesT>(std::move(*r));
    } else {
      call.reserve_resources = std::make_unique<om::ReserveResourcesT>();
      call.reserve_resources->agent_id = *agent;
      call.reserve_resources->resources = std::move(r->resources);
    }
  }
  operate(e, std::move(call));
}

void Writes::teardown_form(const ExchangePtr& e) {
  const auto id = form_field(chars(e->body()), "frameworkId");
  if (!id) return e->text(400, "Missing 'frameworkId' query parameter in the request body");
  CallT call;
  call.type = C::TEARDOWN;
  call.teardown = std::make_unique<om::TeardownT>();
  call.teardown->framework_id = *id;
  operate(e, std::move(call));
}

void Writes::quota(const ExchangePtr& e) {
  if (e->method() == "GET") return read_quota_(e);
  CallT call;
  if (e->method() == "DELETE") {
    if (e->rest().empty()) return e->text(400, "Failed to parse request path '" + e->path() + "': 3 tokens ('master', 'quota', 'role') required, found 2 token(s)");
    call.type = C::REMOVE_QUOTA;
    call.remove_quota = std::make_unique<om::RemoveQuotaT>();
    call.remove_quota->role = e->rest();
    return operate(e, std::move(call));
  }
  const std::string body(chars(e->body()));
  auto request = parse<om::QuotaRequest>(body, "gantry.fb.master.QuotaRequest");
  if (!request) return e->text(400, "Failed to parse set quota request JSON '" + body + "': " + request.error().message);
  call.type = C::SET_QUOTA;
  call.set_quota = std::make_unique<om::SetQuotaT>();
  call.set_quota->quota_request = std::make_unique<om::QuotaRequestT>(std::move(*request));
  operate(e, std::move(call));
}

void Writes::schedule(const ExchangePtr& e) {
  auto s = parse<om::MaintenanceSchedule>(std::string(chars(e->body())), "gantry.fb.master.MaintenanceSchedule");
  if (!s) return e->text(400, s.error().message);
  CallT call;
  call.type = C::UPDATE_MAINTENANCE_SCHEDULE;
  call.update_maintenance_schedule = std::make_unique<om::UpdateMaintenanceScheduleT>();
  call.update_maintenance_schedule->schedule = std::make_unique<om::MaintenanceScheduleT>(std::move(*s));
  operate(e, std::move(call));
}

// A bare list of machines.
void Writes::machines(const ExchangePtr& e, bool down) {
  auto m = parse<om::Machines>("{\"machines\":" + std::string(chars(e->body())) + "}", "gantry.fb.master.Machines");
  if (!m) return e->text(400, m.error().message);
  CallT call;
  call.type = down ? C::START_MAINTENANCE : C::STOP_MAINTENANCE;
  (down ? call.start_maintenance : call.stop_maintenance) = std::make_unique<om::MachinesT>(std::move(*m));
  operate(e, std::move(call));
}

void Writes::weights(const ExchangePtr& e) {
  if (e->method() == "GET") return read_weights_(e);
  const std::string body(chars(e->body()));
  auto u = parse<om::UpdateWeights>("{\"weight_infos\":" + body + "}", "gantry.fb.master.UpdateWeights");
  if (!u) return e->text(400, "Failed to parse update weights request JSON '" + body + "': " + u.error().message);
  CallT call;
  call.type = C::UPDATE_WEIGHTS;
  call.update_weights = std::make_unique<om::UpdateWeightsT>(std::move(*u));
  operate(e, std::move(call));
}

}  // namespace gantry::gateway_mesos
