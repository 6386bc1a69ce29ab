#include "@NAME_ID@.hpp"

#include <algorithm>

namespace @NAME_ID@ {

using namespace gantry;
using namespace std::chrono_literals;

namespace {

constexpr auto kFirstPause = 500ms, kLongestPause = 10'000ms, kLongPause = 30'000ms;
constexpr char kIdKey[] = "framework-id";

constexpr auto method(fb::store::Method m) { return static_cast<std::uint32_t>(m); }
constexpr auto method(fb::host::ClusterMethod m) { return static_cast<std::uint32_t>(m); }

}  // namespace

Task<Status> @CLASS@::configure(Settings settings) {
  role_ = settings.text("role");
  user_ = settings.text("user");
  failover_seconds_ = std::chrono::duration<double>(settings.duration("failover_timeout")).count();
  co_return ok;
}

// The id is the tie to the tasks of an earlier life: without it they would be lost. So it is read before anything else.
Task<Status> @CLASS@::start() {
  fb::store::GetT get;
  get.key = kIdKey;
  const Result<Buffer> stored = co_await host().request(fb::host::Service::STORE, method(fb::store::Method::GET), get);
  if (stored) {
    const auto record = unpack<fb::store::Record>(Bytes(*stored));
    if (record) id_.assign(record->value.begin(), record->value.end());
  } else if (Error why = stored.error(); why.code != Code::not_found) {
    co_return std::move(why).because("read the framework id");
  }
  pause_ = kFirstPause;
  subscribe_now();
  co_return ok;
}

// No TEARDOWN: tasks live on, and the next instance takes over.
Task<Status> @CLASS@::stop() {
  stopping_ = true;
  host().cancel_timer(retry_);
  if (stream_) host().cancel_request(stream_);
  co_return ok;
}

Task<Result<fb::HealthT>> @CLASS@::health() {
  fb::HealthT h;
  h.state = trouble_.empty() ? fb::HealthState::OK : fb::HealthState::DEGRADED;
  h.message = trouble_;
  co_return h;
}

void @CLASS@::subscribe_now() {
  fb::CallT call;
  call.type = fb::CallType::SUBSCRIBE;
  call.framework_id = id_;
  call.subscribe = std::make_unique<fb::SubscribeT>();
  auto info = std::make_unique<fb::FrameworkInfoT>();
  info->id = id_;
  info->name = "@NAME@";
  info->user = user_;
  info->roles = {role_};
  info->capabilities = {fb::FrameworkCapability::MULTI_ROLE, fb::FrameworkCapability::PARTITION_AWARE};
  info->failover_timeout = failover_seconds_;
  info->checkpoint = true;
  call.subscribe->framework_info = std::move(info);
  const Buffer body = pack(call);
  subscribed_ = false;
  stream_ = host().stream(fb::host::Service::CLUSTER, method(fb::host::ClusterMethod::SUBSCRIBE), body, [this](gantry_code code, Bytes b) {
    if (code != GANTRY_MORE) return on_end(unpack_error(code, b));
    if (const auto* event = view<fb::Event>(b)) on_event(*event);  // what does not verify is ignored
  });
}

void @CLASS@::on_event(const fb::Event& event) {
  if (event.type() == fb::EventType::SUBSCRIBED && event.subscribed()) {
    subscribed_ = true;
    pause_ = kFirstPause;
    trouble_.clear();
    if (const std::string id{text(event.subscribed()->framework_id())}; id != id_) remember(id);
    fb::CallT reconcile;  // what became of the tasks meanwhile; the answers come as updates
    reconcile.type = fb::CallType::RECONCILE;
    reconcile.reconcile = std::make_unique<fb::ReconcileT>();
    return send(std::move(reconcile), "reconcile");
  }
  if (!subscribed_) return;
  if (event.type() == fb::EventType::OFFERS && event.offers() && event.offers()->offers()) {
    for (const auto* offer : *event.offers()->offers()) on_offer(*offer);
  } else if (event.type() == fb::EventType::UPDATE && event.update() && event.update()->status()) {
    const fb::TaskStatus& status = *event.update()->status();
    host().info("task update", {{"task", text(status.task_id())}, {"state", fb::EnumNameTaskState(status.state())}});
    // Store what it says before this, if you keep anything: once acknowledged it does not come again.
    if (!status.uuid() || status.uuid()->size() == 0) return;
    fb::CallT acknowledge;
    acknowledge.type = fb::CallType::ACKNOWLEDGE;
    acknowledge.acknowledge = std::make_unique<fb::AcknowledgeT>();
    acknowledge.acknowledge->agent_id = text(status.agent_id());
    acknowledge.acknowledge->task_id = text(status.task_id());
    acknowledge.acknowledge->uuid.assign(status.uuid()->begin(), status.uuid()->end());
    send(std::move(acknowledge), "acknowledge");
  }
}

// The place for your scheduler: ACCEPT with a LAUNCH operation, or decline. An offer you sit on is lost to everybody else.
void @CLASS@::on_offer(const fb::Offer& offer) {
  fb::CallT decline;
  decline.type = fb::CallType::DECLINE;
  decline.decline = std::make_unique<fb::DeclineT>();
  decline.decline->offer_ids.emplace_back(text(offer.id()));
  decline.decline->filters = std::make_unique<fb::FiltersT>();
  decline.decline->filters->refuse_seconds = 300;  // nothing wanted for a while; REVIVE ends that early
  send(std::move(decline), "decline");
}

void @CLASS@::on_end(Error why) {
  stream_ = 0;
  subscribed_ = false;
  if (stopping_) return;
  std::chrono::nanoseconds wait = pause_;
  switch (why.code) {
    case Code::ok:
    case Code::not_found:  // removed, and its tasks with it: begin anew
      remember({});
      break;
    case Code::aborted:
    case Code::permission_denied:
    case Code::invalid_argument:
      trouble_ = "not subscribed: " + why.message;
      host().warning(trouble_);
      wait = kLongPause;
      break;
    default:
      trouble_ = "not subscribed: " + why.message;
      pause_ = std::min<std::chrono::nanoseconds>(pause_ * 2, kLongestPause);
  }
  retry_ = host().timer(wait, [this] { subscribe_now(); });
}

void @CLASS@::remember(const std::string& id) {
  id_ = id;
  fb::store::CommitT commit;
  commit.ops.push_back(std::make_unique<fb::store::OpT>());
  commit.ops[0]->type = id.empty() ? fb::store::OpType::DELETE : fb::store::OpType::PUT;
  commit.ops[0]->key = kIdKey;
  commit.ops[0]->value.assign(id.begin(), id.end());
  const Buffer body = pack(commit);
  host().stream(fb::host::Service::STORE, method(fb::store::Method::COMMIT), body, [this](gantry_code code, Bytes b) {
    if (code < 0) host().error("framework id not stored: " + unpack_error(code, b).message);
  });
}

void @CLASS@::send(fb::CallT call, const char* what) {
  call.framework_id = id_;
  const Buffer body = pack(call);
  host().stream(fb::host::Service::CLUSTER, method(fb::host::ClusterMethod::CALL), body, [this, what](gantry_code code, Bytes b) {
    if (code < 0 && code != GANTRY_CANCELLED) host().warning(std::string(what) + " was refused: " + unpack_error(code, b).message);
  });
}

}  // namespace @NAME_ID@
