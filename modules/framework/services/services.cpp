#include "services.hpp"

#include <random>

#include "ask.hpp"

namespace gantry::framework_services {
namespace {

constexpr auto kStore = fb::host::Service::STORE;
constexpr auto kHttp = fb::host::Service::HTTP;
constexpr std::size_t kMostOps = 2000;  // of one commit

std::uint32_t number(fb::store::Method m) { return static_cast<std::uint32_t>(m); }
std::uint32_t number(fb::host::HttpMethod m) { return static_cast<std::uint32_t>(m); }

}  // namespace

Services::Services() = default;
Services::~Services() = default;

Task<Status> Services::configure(Settings s) {
  options_.role = s.text("role");
  options_.launch.user = s.text("user");
  options_.launch.prefix = s.text("env_vars_prefix");
  options_.decline_time = s.duration("decline_time");
  options_.revive_interval = s.duration("revive_interval");
  options_.reconcile_interval = s.duration("reconcile_interval");
  options_.max_instances_per_offer = static_cast<int>(s.number("max_instances_per_offer"));
  options_.launch_tokens = static_cast<int>(s.number("launch_tokens"));
  options_.max_deployments = static_cast<int>(s.number("max_running_deployments"));
  options_.max_apps = static_cast<int>(s.number("max_apps"));
  options_.port_first = static_cast<int>(s.number("local_port_min"));
  options_.port_last = static_cast<int>(s.number("local_port_max"));
  if (options_.port_first > options_.port_last) {
    co_return fail(Code::invalid_argument,
                   "local_port_min " + std::to_string(options_.port_first) + " is above local_port_max " +
                       std::to_string(options_.port_last) + "; swap them",
                   "local_port_min");
  }
  if (s.reload()) {
    if (core_) core_->options(options_);
    co_return ok;
  }
  listen_address_ = s.text("listen");
  realm_ = s.text("realm");
  insecure_ = s.flag("insecure");
  health_limit_ = static_cast<std::size_t>(s.number("health_concurrency"));
  info_.name = s.text("name");
  info_.version = "1.11.0";  // the Marathon release whose API this is; clients switch features on it
  info_.hostname = s.text("hostname");
  framework_.name = s.text("name");
  framework_.user = s.text("user").empty() ? "root" : s.text("user");
  framework_.principal = s.text("principal");
  framework_.failover_timeout = static_cast<double>(s.duration("failover_timeout").count()) / 1e9;
  framework_.checkpoint = true;
  framework_.roles = {options_.role};
  framework_.capabilities = {fb::FrameworkCapability::PARTITION_AWARE, fb::FrameworkCapability::TASK_KILLING_STATE,
                             fb::FrameworkCapability::MULTI_ROLE, fb::FrameworkCapability::RESERVATION_REFINEMENT,
                             fb::FrameworkCapability::GPU_RESOURCES};

  std::random_device device;
  auto engine = std::make_shared<std::mt19937_64>((static_cast<std::uint64_t>(device()) << 32) ^ device());
  core_ = std::make_unique<Core>(options_, [engine] { return (*engine)(); });
  api_ = std::make_unique<Api>(*core_, info_);
  hub_ = std::make_unique<EventHub>(host(), [this](std::string type, Object body) {
    if (!stopping_) step([&] { core_->announce(std::move(type), std::move(body)); });
  });
  prober_ = std::make_unique<Prober>(host(), *core_, health_limit_,
                                     [this](const std::string& instance, int incarnation, int check, bool passed,
                                            int status, const std::string& text) {
                                       step([&] {
                                         if (check < 0)
                                           core_->readiness(instance, incarnation, status, text);
                                         else
                                           core_->probed(instance, incarnation, static_cast<std::size_t>(check), passed,
                                                         text);
                                       });
                                     });
  co_return ok;
}

Task<Status> Services::start() {
  if (auto loaded = co_await load(); !loaded)
    co_return std::move(loaded.error()).because("cannot read the stored applications");
  if (auto bound = co_await listen(); !bound)
    co_return std::move(bound.error()).because("cannot serve the Marathon API on " + listen_address_);
  step([&] { core_->recovered(); });
  host().info("services framework ready", {{"api", info_.leader}, {"apps", std::to_string(core_->specs().size())}});
  open_subscription();
  heartbeat();
  co_return ok;
}

Task<Status> Services::stop() {
  stopping_ = true;
  ++generation_;
  if (timer_) host().cancel_timer(timer_);
  timer_ = 0;
  // Absent when the settings were refused or nothing was started.
  if (prober_) prober_->stop();
  if (hub_) hub_->stop();
  if (listener_) host().cancel_request(listener_);
  // What has been accepted is stored before the instance goes; the framework stays registered for its fail-over time.
  for (int tries = 0; tries < 100 && (committing_ || !waiting_.out.writes.empty()); ++tries) {
    pump();
    co_await host().sleep(std::chrono::milliseconds(10));
  }
  if (subscription_) host().cancel_request(subscription_);
  co_return ok;
}

Task<Result<fb::HealthT>> Services::health() {
  fb::HealthT h;
  if (!store_trouble_.empty()) {
    h.state = fb::HealthState::FAILED;
    h.message = "the store refuses changes: " + store_trouble_;
  } else if (!subscribed_) {
    h.state = fb::HealthState::DEGRADED;
    h.message = "not subscribed to the master" + (cluster_trouble_.empty() ? std::string() : ": " + cluster_trouble_);
  }
  co_return h;
}

// ---- one step: event, records, then everything else

void Services::after() {
  if (core_->dirty() && !settle_posted_) {
    // Posted, so that a burst of events is settled once.
    settle_posted_ = true;
    host().post([this] {
      settle_posted_ = false;
      if (!stopping_) step([&] { core_->settle(); });
    });
  }
  Out out = core_->take();
  for (auto& w : out.writes) waiting_.out.writes.push_back(std::move(w));
  for (auto& c : out.calls) waiting_.out.calls.push_back(std::move(c));
  for (auto& e : out.events) waiting_.out.events.push_back(std::move(e));
  waiting_.out.probe.merge(out.probe);
  pump();
  rearm();
}

void Services::rearm() {
  if (stopping_) return;
  const Nanos next = core_->next_wake();
  if (timer_ && armed_ <= next) return;
  if (timer_) host().cancel_timer(timer_);
  armed_ = next;
  timer_ = host().timer_at(next, [this] {
    timer_ = 0;
    if (stopping_) return;
    step([&] {
      core_->tick();
      core_->settle();
    });
  });
}

void Services::pump() {
  while (!committing_ && !waiting_.empty()) {
    Batch batch = std::exchange(waiting_, {});
    if (batch.out.writes.empty()) {
      release(std::move(batch));
    } else {
      committing_ = true;
      commit(std::move(batch));
    }
  }
}

struct Services::Commit {
  Batch batch;
  std::vector<std::unique_ptr<fb::store::OpT>> ops;
  std::size_t from = 0;
};

void Services::commit(Batch batch) {
  auto work = std::make_shared<Commit>();
  // The last write of a key is the one that counts.
  std::map<std::string, std::size_t> last;
  auto& writes = batch.out.writes;
  for (std::size_t k = 0; k < writes.size(); ++k) last[writes[k].key] = k;
  for (std::size_t k = 0; k < writes.size(); ++k) {
    if (last[writes[k].key] != k) continue;
    auto op = std::make_unique<fb::store::OpT>();
    op->type = writes[k].value ? fb::store::OpType::PUT : fb::store::OpType::DELETE;
    op->key = writes[k].key;
    if (writes[k].value) op->value.assign(writes[k].value->begin(), writes[k].value->end());
    work->ops.push_back(std::move(op));
  }
  writes.clear();
  work->batch = std::move(batch);
  commit_next(std::move(work));
}

void Services::commit_next(std::shared_ptr<Commit> work) {
  if (work->from >= work->ops.size()) {
    if (!store_trouble_.empty()) {
      store_trouble_.clear();
      host().info("the store accepts changes again");
    }
    committing_ = false;
    release(std::move(work->batch));
    pump();
    return;
  }
  const std::size_t to = std::min(work->ops.size(), work->from + kMostOps);
  fb::store::CommitT c;
  for (std::size_t k = work->from; k < to; ++k) c.ops.push_back(std::make_unique<fb::store::OpT>(*work->ops[k]));
  ask(host(), kStore, fb::store::Method::COMMIT, c, [this, work, to](Result<Buffer> reply) {
    if (reply) {
      work->from = to;
      return commit_next(work);
    }
    if (stopping_) {
      committing_ = false;
      return;
    }
    if (store_trouble_.empty()) {
      host().error("the store refuses changes, retrying; new requests are answered with 503",
                   {{"error", reply.error().message}});
    }
    store_trouble_ = reply.error().message;
    for (auto& r : work->batch.replies) {
      respond(r.request, message_reply(503, "The change is accepted but cannot be stored yet: " + store_trouble_ +
                                                ". It takes effect when the store accepts changes again."));
    }
    work->batch.replies.clear();
    host().timer(seconds(1), [this, work] { commit_next(work); });
  });
}

void Services::release(Batch batch) {
  for (auto& c : batch.out.calls) send(std::move(c));
  for (const auto& e : batch.out.events) hub_->send(e);
  for (const auto& id : batch.out.probe) prober_->sync(id);
  for (auto& r : batch.replies) respond(r.request, std::move(r.reply));
}

void Services::send(fb::CallT c) {
  std::vector<std::string> launched;
  if (c.accept) {
    for (const auto& op : c.accept->operations) {
      if (op->launch) {
        for (const auto& t : op->launch->task_infos) launched.push_back(t->task_id);
      }
    }
  }
  c.framework_id = core_->framework_id();
  const auto type = c.type;
  ask(host(), fb::host::Service::CLUSTER, fb::host::ClusterMethod::CALL, c,
      [this, type, launched = std::move(launched)](Result<Buffer> reply) {
        if (reply || stopping_) return;
        host().warning("the master refused a call",
                       {{"call", fb::EnumNameCallType(type)}, {"error", reply.error().message}});
        if (!launched.empty()) step([&] { core_->launch_failed(launched, reply.error().message); });
      });
}

// ---- recovery

Task<Status> Services::load() {
  struct State {
    Status status;
    std::size_t records = 0;
  };
  auto state = std::make_shared<State>();
  Promise<bool> done;
  const Buffer body = pack(fb::store::ListT{});
  core_->at(host().now(), static_cast<Millis>(host().wall_ns() / 1000000));
  host().stream(kStore, number(fb::store::Method::LIST), body, [this, state, done](gantry_code code, Bytes bytes) {
    if (code == GANTRY_MORE) {
      const auto* records = view<fb::store::Records>(bytes);
      if (!records || !records->records()) return;
      for (const auto* r : *records->records()) {
        const auto value = r->value()
                               ? std::string_view(reinterpret_cast<const char*>(r->value()->data()), r->value()->size())
                               : std::string_view();
        auto s = core_->load(std::string(text(r->key())), value);
        if (!s && state->status) state->status = s;
        ++state->records;
      }
      return;
    }
    if (code < 0 && state->status) state->status = unpack_error(code, bytes);
    done.set(true);
  });
  co_await done.get();
  co_return state->status;
}

// ---- the master

void Services::open_subscription() {
  fb::FrameworkInfoT info = framework_;
  info.id = core_->framework_id();
  info.webui_url = "http://" + info_.leader;
  info.hostname = info_.hostname;
  fb::CallT c;
  c.type = fb::CallType::SUBSCRIBE;
  c.framework_id = info.id;
  c.subscribe = std::make_unique<fb::SubscribeT>();
  c.subscribe->framework_info = std::make_unique<fb::FrameworkInfoT>(std::move(info));
  if (core_->idle()) c.subscribe->suppressed_roles.push_back(options_.role);
  const Buffer body = pack(c);
  const std::uint64_t generation = ++generation_;
  subscription_ =
      host().stream(fb::host::Service::CLUSTER, static_cast<std::uint32_t>(fb::host::ClusterMethod::SUBSCRIBE), body,
                    [this, generation](gantry_code code, Bytes bytes) { on_event(code, bytes, generation); });
}

void Services::resubscribe(Nanos after) {
  host().timer(after, [this] {
    if (!stopping_) open_subscription();
  });
}

void Services::on_event(gantry_code code, Bytes bytes, std::uint64_t generation) {
  if (generation != generation_ || stopping_) return;
  if (code != GANTRY_MORE) {
    const bool was = std::exchange(subscribed_, false);
    core_->disconnected();
    const Error e =
        code < 0 ? unpack_error(code, bytes) : fail(Code::failed_precondition, "the master has removed this framework");
    if (was || cluster_trouble_.empty())
      host().warning("the subscription ended, trying again", {{"reason", e.message}});
    cluster_trouble_ = e.message;
    // Removed for good: a new framework takes over, and starts what is wanted afresh.
    if (code == GANTRY_OK) step([&] { core_->forget_framework(); });
    retry_delay_ =
        e.code == Code::aborted ? seconds(30) : std::min(std::max(retry_delay_ * 2, seconds(0.25)), seconds(5));
    resubscribe(retry_delay_);
    return;
  }
  auto event = unpack<fb::Event>(bytes);
  if (!event) {
    host().error("a malformed event from the master was ignored");
    return;
  }
  switch (event->type) {
    case fb::EventType::SUBSCRIBED:
      if (!event->subscribed) return;
      subscribed_ = true;
      cluster_trouble_.clear();
      retry_delay_ = {};
      host().info("subscribed to the master", {{"framework", event->subscribed->framework_id}});
      step([&] { core_->subscribed(event->subscribed->framework_id); });
      return;
    case fb::EventType::OFFERS:
      if (event->offers) step([&] { core_->offers(std::move(event->offers->offers)); });
      return;
    case fb::EventType::UPDATE:
      if (event->update && event->update->status) step([&] { core_->status(*event->update->status); });
      return;
    case fb::EventType::ERROR:
      host().error("the master reports an error", {{"error", event->error ? event->error->message : ""}});
      return;
    case fb::EventType::MESSAGE:
      if (event->message) {
        const auto& m = *event->message;
        step([&] {
          core_->announce("framework_message_event",
                          {{"slaveId", boost::json::string(m.agent_id)},
                           {"executorId", boost::json::string(m.executor_id)},
                           {"message", boost::json::string(boost::json::string_view(
                                           reinterpret_cast<const char*>(m.data.data()), m.data.size()))}});
        });
      }
      return;
    default:
      return;  // offers are answered at once, so a rescinded one is not held; agents speak through their tasks
  }
}

// ---- the API

Task<Status> Services::listen() {
  fb::host::ListenT l;
  l.address = listen_address_;
  l.realm = realm_;
  l.insecure = insecure_;
  l.public_paths = {"/ping"};
  const Buffer body = pack(l);
  Promise<Status> bound;
  listener_ =
      host().stream(kHttp, number(fb::host::HttpMethod::LISTEN), body, [this, bound](gantry_code code, Bytes bytes) {
        if (code == GANTRY_MORE) {
          if (bound.is_set()) {
            on_request(bytes);
            return;
          }
          if (const auto* b = view<fb::host::Listening>(bytes)) info_.leader = std::string(text(b->address()));
          bound.set(ok);
          return;
        }
        if (!bound.is_set())
          bound.set(code < 0 ? Status(unpack_error(code, bytes))
                             : Status(fail(Code::unavailable, "the listener closed")));
        else if (!stopping_)
          host().error("the API listener has closed");
      });
  auto status = co_await bound.get();
  if (status) {
    const auto colon = info_.leader.rfind(':');
    info_.http_port = colon == std::string::npos ? 8080 : std::atoi(info_.leader.c_str() + colon + 1);
    if (info_.hostname.empty()) info_.hostname = info_.leader.substr(0, colon);
    info_.leader = info_.hostname + ":" + std::to_string(info_.http_port);
    info_.config = {
        {"checkpoint", true},
        {"executor", "//cmd"},
        {"failover_timeout", framework_.failover_timeout.value_or(0)},
        {"framework_name", boost::json::string(framework_.name)},
        {"ha", false},
        {"hostname", boost::json::string(info_.hostname)},
        {"local_port_min", options_.port_first},
        {"local_port_max", options_.port_last},
        {"mesos_role", boost::json::string(options_.role)},
        {"mesos_user", boost::json::string(framework_.user)},
        {"reconciliation_interval", static_cast<std::int64_t>(options_.reconcile_interval.count() / 1000000)},
        {"webui_url", nullptr}};
  }
  co_return status;
}

void Services::on_request(Bytes bytes) {
  const auto* r = view<fb::host::Request>(bytes);
  if (!r) return;
  ApiRequest request;
  request.method = std::string(text(r->method()));
  request.peer = std::string(text(r->peer()));
  if (r->headers()) {
    for (const auto* h : *r->headers()) request.headers[std::string(text(h->name()))] = std::string(text(h->value()));
  }
  if (r->body()) request.body.assign(reinterpret_cast<const char*>(r->body()->data()), r->body()->size());
  parse_target(text(r->target()), request);
  const std::uint64_t id = r->id();
  if (stopping_) return respond(id, message_reply(503, "The service is stopping"));
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (!reads && !store_trouble_.empty()) {
    return respond(id, message_reply(503, "Nothing can be changed now, the store refuses changes: " + store_trouble_));
  }
  if (request.path == "/v2/events" && request.method == "GET") {
    const std::string accept = request.header("accept");
    if (!accept.empty() && accept.find("text/event-stream") == std::string::npos &&
        accept.find("*/*") == std::string::npos) {
      return respond(id, message_reply(406, "Not Acceptable: /v2/events needs Accept: text/event-stream"));
    }
    const auto types = request.all("event_type");
    core_->at(host().now(), static_cast<Millis>(host().wall_ns() / 1000000));
    hub_->attach(id, {types.begin(), types.end()}, request.peer, format_time(core_->wall()));
    return;
  }
  step([&] {
    ApiReply reply;
    try {
      reply = api_->handle(request);
    } catch (const std::exception& e) {
      host().error("a request failed", {{"path", request.path}, {"error", e.what()}});
      reply = message_reply(500, "Internal error; it has been logged");
    }
    if (reply.durable) {
      // Joins the batch of the records it made, so it leaves when they are stored.
      waiting_.replies.push_back({id, std::move(reply)});
    } else {
      respond(id, std::move(reply));
    }
  });
}

void Services::respond(std::uint64_t request, ApiReply reply) {
  fb::host::RespondT r;
  r.id = request;
  r.status = static_cast<std::uint16_t>(reply.status);
  r.body.assign(reply.body.begin(), reply.body.end());
  if (!reply.body.empty()) reply.headers.emplace_back("Content-Type", reply.type);
  for (auto& [k, v] : reply.headers) {
    auto h = std::make_unique<fb::host::HeaderT>();
    h->name = std::move(k);
    h->value = std::move(v);
    r.headers.push_back(std::move(h));
  }
  const Buffer body = pack(r);
  host().stream(kHttp, number(fb::host::HttpMethod::RESPOND), body, [](gantry_code, Bytes) {});
}

void Services::heartbeat() {
  if (stopping_) return;
  hub_->heartbeat();
  host().timer(seconds(15), [this] { heartbeat(); });
}

}  // namespace gantry::framework_services
