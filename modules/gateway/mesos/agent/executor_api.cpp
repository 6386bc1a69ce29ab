#include "executor_api.hpp"

#include "wire/codec.hpp"
#include "wire/recordio.hpp"

namespace gantry::gateway_mesos {
namespace {

namespace ex = fb::executor;
using T = ex::CallType;
using namespace std::chrono_literals;
constexpr auto kExecutors = fb::host::Service::EXECUTORS;
constexpr std::string_view kCallTable = "gantry.fb.executor.Call", kEventTable = "gantry.fb.executor.Event";
constexpr auto kHeartbeat = 30min;

std::uint32_t number(fb::host::ExecutorMethod m) { return static_cast<std::uint32_t>(m); }

}  // namespace

std::optional<std::string> invalid(const ex::Call& call) {
  if (!flatbuffers::IsFieldPresent(&call, ex::Call::VT_TYPE)) return "Expecting 'type' to be present";
  const std::string executor(text(call.executor_id())), framework(text(call.framework_id()));
  switch (call.type()) {
    case T::SUBSCRIBE:
      if (!call.subscribe()) return "Expecting 'subscribe' to be present";
      return std::nullopt;
    case T::UPDATE: {
      if (!call.update() || !call.update()->status()) return "Expecting 'update' to be present";
      const auto& s = *call.update()->status();
      if (!s.uuid()) return "Expecting 'uuid' to be present";
      if (s.uuid()->size() != 16) return "Not a valid UUID";
      if (s.executor_id() && text(s.executor_id()) != executor)
        return "ExecutorID in Call: " + executor + " does not match ExecutorID in TaskStatus: " + std::string(text(s.executor_id()));
      const std::string who = "executor " + executor + " of framework " + framework;
      if (s.source().value_or(fb::Source::SOURCE_MASTER) != fb::Source::SOURCE_EXECUTOR)
        return "Received Call from " + who + " with invalid source, expecting 'SOURCE_EXECUTOR'";
      if (s.state() == fb::TaskState::TASK_STAGING) return "Received TASK_STAGING from " + who + " which is not allowed";
      return std::nullopt;
    }
    case T::MESSAGE:
      if (!call.message()) return "Expecting 'message' to be present";
      return std::nullopt;
    default: return std::nullopt;
  }
}

void ExecutorApi::routes(Router& router) {
  router.add({"/api/v1/executor", {"POST"}, false, [this](const ExchangePtr& e) { arrived(e); }, kNoRealm});
}

void ExecutorApi::serve(const std::string& ip, std::uint16_t port, bool authenticate) {
  const std::string endpoint = ip + ":" + std::to_string(port);
  fb::host::ServeExecutorsT s;
  const auto set = [&](const char* name, std::string value) {
    auto v = std::make_unique<fb::VariableT>();
    v->name = name;
    v->value = std::move(value);
    s.variables.push_back(std::move(v));
  };
  set("LIBPROCESS_IP", ip);
  set("LIBPROCESS_PORT", "0");
  set("MESOS_AGENT_ENDPOINT", endpoint);
  set("MESOS_CHECKPOINT", "${checkpoint}");
  set("MESOS_DIRECTORY", "${sandbox}");
  set("MESOS_EXECUTOR_ID", "${executor_id}");
  set("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "${grace}");
  set("MESOS_FRAMEWORK_ID", "${framework_id}");
  set("MESOS_HTTP_COMMAND_EXECUTOR", "0");
  set("MESOS_RECOVERY_TIMEOUT", "${recovery_timeout}");
  set("MESOS_SANDBOX", "${sandbox}");
  set("MESOS_SLAVE_ID", "${agent_id}");
  set("MESOS_SLAVE_PID", "slave(1)@" + endpoint);
  set("MESOS_SUBSCRIPTION_BACKOFF_MAX", "${backoff}");
  if (authenticate) set("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "${token}");
  serving_ = pack(s);
  offer_service();
}

void ExecutorApi::offer_service() {
  serve_ = host_.stream(kExecutors, number(fb::host::ExecutorMethod::SERVE), Bytes(serving_), [this](gantry_code code, Bytes) {
    if (code == GANTRY_MORE || stopped_) return;
    serve_ = 0;
    retry_ = host_.timer(200ms, [this] {
      retry_ = 0;
      if (!stopped_) offer_service();
    });
  });
}

void ExecutorApi::stop() {
  stopped_ = true;
  if (serve_) host_.cancel_request(std::exchange(serve_, 0));
  if (retry_) host_.cancel_timer(std::exchange(retry_, 0));
  for (const auto& [key, s] : std::exchange(streams_, {})) {
    if (s->heartbeat) host_.cancel_timer(s->heartbeat);
    if (s->subscription) host_.cancel_request(s->subscription);
    s->exchange->end();
  }
}

void ExecutorApi::arrived(const ExchangePtr& e) {
  if (stopped_) return e->text(503, "Agent is stopping");
  const std::string* type = e->header("content-type");
  if (!type) return e->text(400, "Expecting 'Content-Type' to be present");
  const std::string media = media_type(*type);
  const bool protobuf = media == kProtobuf;
  if (!protobuf && media != kJson) return e->text(415, "Expecting 'Content-Type' of application/json or application/x-protobuf");
  const auto& codec = wire::Codec::get();
  const Bytes bytes = e->body();
  auto body = protobuf ? codec.from_protobuf(bytes, kCallTable)
                       : codec.from_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, kCallTable);
  if (!body) return e->text(400, body.error().message);
  const auto& c = *flatbuffers::GetRoot<ex::Call>(body->data());
  if (const auto problem = invalid(c)) return e->text(400, "Failed to validate Executor::Call: " + *problem);
  switch (c.type()) {
    case T::SUBSCRIBE: return subscribe(e, *body);
    case T::HEARTBEAT: return e->answer(202);
    case T::UNKNOWN: return e->answer(501);
    default: return call(e, *body);
  }
}

Buffer ExecutorApi::envelope(const Exchange& exchange, const Buffer& call) {
  fb::host::ExecutorCallT body;
  if (const std::string* shown = exchange.header("authorization"); shown && shown->starts_with("Bearer ")) body.token = shown->substr(7);
  body.call.assign(call.data(), call.data() + call.size());
  return pack(body);
}

void ExecutorApi::refuse(const ExchangePtr& e, const Error& why) {
  if (why.code == Code::unauthenticated)
    return e->text(401, why.message, {{"WWW-Authenticate", "Bearer realm=\"mesos-agent-executor\""}});
  exchange_error(e, why);
}

void ExecutorApi::subscribe(const ExchangePtr& exchange, const Buffer& call) {
  const std::string_view accepted = negotiate(exchange->header("accept"), {kJson, kProtobuf});
  if (accepted.empty()) return exchange->text(406, "Expecting 'Accept' to allow 'application/json' or 'application/x-protobuf'");
  auto s = std::make_shared<Stream>();
  s->exchange = exchange;
  s->protobuf = accepted == kProtobuf;
  streams_.emplace(s.get(), s);
  const Buffer body = envelope(*exchange, call);
  s->subscription = host_.stream(kExecutors, number(fb::host::ExecutorMethod::SUBSCRIBE), Bytes(body),
                                 [this, weak = std::weak_ptr(s)](gantry_code code, Bytes reply) {
                                   const auto stream = weak.lock();
                                   if (!stream || stopped_) return;
                                   if (code == GANTRY_MORE) return send(stream, reply);
                                   stream->subscription = 0;
                                   forget(stream);
                                   if (stream->exchange->streaming()) return stream->exchange->end();
                                   refuse(stream->exchange, code < 0 ? unpack_error(code, reply) : fail(Code::not_found, "Executor has ended"));
                                 });
}

void ExecutorApi::send(const StreamPtr& s, Bytes event) {
  const auto& codec = wire::Codec::get();
  const std::string piece = wire::record(s->protobuf ? codec.to_protobuf(event, kEventTable) : codec.to_json(event, kEventTable));
  if (s->exchange->streaming()) return s->exchange->write(piece);
  if (s->exchange->answered()) return;
  s->exchange->begin(200, s->protobuf ? kProtobuf : kJson, {}, piece, [this, weak = std::weak_ptr(s)] {
    const auto stream = weak.lock();
    if (!stream || stopped_) return;
    if (stream->subscription) host_.cancel_request(std::exchange(stream->subscription, 0));
    forget(stream);
  });
  heartbeat(s);
}

void ExecutorApi::heartbeat(const StreamPtr& s) {
  s->heartbeat = host_.timer(kHeartbeat, [this, weak = std::weak_ptr(s)] {
    const auto stream = weak.lock();
    if (!stream || stopped_) return;
    stream->heartbeat = 0;
    if (!stream->exchange->streaming()) return;
    static const Buffer event = [] {
      ex::EventT e;
      e.type = ex::EventType::HEARTBEAT;
      return pack(e);
    }();
    send(stream, Bytes(event));
    heartbeat(stream);
  });
}

void ExecutorApi::forget(const StreamPtr& s) {
  if (s->heartbeat) host_.cancel_timer(std::exchange(s->heartbeat, 0));
  streams_.erase(s.get());
}

void ExecutorApi::call(const ExchangePtr& exchange, const Buffer& call) {
  const Buffer body = envelope(*exchange, call);
  host_.stream(kExecutors, number(fb::host::ExecutorMethod::CALL), Bytes(body), [this, exchange](gantry_code code, Bytes reply) {
    if (code == GANTRY_MORE || stopped_) return;
    if (code >= 0) return exchange->answer(202);
    refuse(exchange, unpack_error(code, reply));
  });
}

}  // namespace gantry::gateway_mesos
