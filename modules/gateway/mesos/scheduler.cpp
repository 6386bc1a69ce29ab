#include "scheduler.hpp"

#include "permits.hpp"
#include "validate.hpp"
#include "wire/codec.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace gantry::gateway_mesos {
namespace {

using T = fb::CallType;
constexpr auto kCluster = fb::host::Service::CLUSTER;
constexpr std::string_view kCallTable = "gantry.fb.Call", kEventTable = "gantry.fb.Event";
constexpr std::string_view kStreamId = "Mesos-Stream-Id";
constexpr std::size_t kMaxUsers = 10'000;
// Of one framework, while it is being asked whether a call before them is allowed.
constexpr std::size_t kMaxHeldCalls = 1000, kMaxHeldBytes = 32u << 20;

std::uint32_t number(fb::host::ClusterMethod m) { return static_cast<std::uint32_t>(m); }

// The record as it stands on a stream: its length in decimal, a line feed, its bytes (RecordIO).
std::string record(std::string_view bytes) {
  std::string out = std::to_string(bytes.size());
  out.reserve(out.size() + 1 + bytes.size());
  out += '\n';
  out += bytes;
  return out;
}

std::string encode(Bytes event, bool protobuf) {
  const auto& codec = wire::Codec::get();
  return protobuf ? codec.to_protobuf(event, kEventTable) : codec.to_json(event, kEventTable);
}

bool has(const fb::FrameworkInfo& info, fb::FrameworkCapability c) {
  return info.capabilities() &&
         std::find(info.capabilities()->begin(), info.capabilities()->end(), c) != info.capabilities()->end();
}

}  // namespace

SchedulerApi::SchedulerApi(Host& host, Masters& masters, Access& access, SchedulerOptions options, Redirect redirect,
                           UserOf user_of)
    : host_(host),
      masters_(masters),
      access_(access),
      options_(std::move(options)),
      redirect_(std::move(redirect)),
      user_of_(std::move(user_of)) {
  std::random_device device;
  random_.seed((static_cast<std::uint64_t>(device()) << 32) ^ device());
  streams_metric_ = host.metric("streams", fb::MetricKind::GAUGE, "1", "open event streams of frameworks");
  calls_metric_ = host.metric("calls", fb::MetricKind::COUNTER, "1", "calls of frameworks");
  events_metric_ = host.metric("events", fb::MetricKind::COUNTER, "1", "events sent to frameworks");
  refused_metric_ =
      host.metric("refused_calls", fb::MetricKind::COUNTER, "1", "calls of frameworks answered with an error");
}

void SchedulerApi::routes(Router& router) {
  router.add({"/api/v1/scheduler", {"POST"}, true, [this](const ExchangePtr& e) { arrived(e); }, kSchedulerRealm});
}

void SchedulerApi::stop() {
  stopped_ = true;
  for (const auto& [key, s] : std::exchange(streams_, {})) {
    if (s->heartbeat) host_.cancel_timer(s->heartbeat);
    if (s->subscription) host_.cancel_request(s->subscription);
    s->exchange->end();
  }
  by_framework_.clear();
}

std::string SchedulerApi::new_stream_id() {
  const std::uint64_t a = random_(), b = random_();
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%08x-%04x-4%03x-%04x-%012llx", static_cast<unsigned>(a >> 32),
                static_cast<unsigned>(a >> 16 & 0xffff), static_cast<unsigned>(a & 0xfff),
                static_cast<unsigned>(0x8000 | (b >> 48 & 0x3fff)),
                static_cast<unsigned long long>(b & 0xffffffffffffULL));
  return text.data();
}

void SchedulerApi::arrived(const ExchangePtr& exchange) {
  if (stopped_) return exchange->text(503, "This master is stopping");
  const auto refuse = [&](unsigned status, std::string_view sentence) {
    refused_metric_.add();
    exchange->text(status, sentence);
  };
  const std::string* type = exchange->header("content-type");
  if (!type) return refuse(400, "Expecting 'Content-Type' to be present");
  // Parameters such as a charset are accepted, which the original refuses.
  const std::string media = media_type(*type);
  const bool protobuf = media == kProtobuf;
  if (!protobuf && media != kJson)
    return refuse(415, "Expecting 'Content-Type' of application/json or application/x-protobuf");
  const auto& codec = wire::Codec::get();
  const Bytes bytes = exchange->body();
  auto body = protobuf ? codec.from_protobuf(bytes, kCallTable)
                       : codec.from_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, kCallTable);
  if (!body) return refuse(400, body.error().message);
  const auto& c = *flatbuffers::GetRoot<fb::Call>(body->data());
  if (const auto problem = invalid(c, exchange->principal()))
    return refuse(400, "Failed to validate scheduler::Call: " + *problem);
  if (c.type() == T::SUBSCRIBE) return subscribe(exchange, std::move(*body));
  call(exchange, std::move(*body));
}

// ---- streams

void SchedulerApi::subscribe(const ExchangePtr& exchange, Buffer body) {
  const std::string_view accepted = negotiate(exchange->header("accept"), {kJson, kProtobuf});
  if (accepted.empty())
    return exchange->text(406, "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'");
  if (exchange->header("mesos-stream-id"))
    return exchange->text(400, "Subscribe calls should not include the 'Mesos-Stream-Id' header");
  if (streams_.size() >= options_.max_frameworks)
    return exchange->text(503, "Too many event streams are open", {{"Retry-After", "5"}});
  const auto& info = *flatbuffers::GetRoot<fb::Call>(body.data())->subscribe()->framework_info();
  auto s = std::make_shared<Stream>();
  s->exchange = exchange;
  s->id = new_stream_id();
  s->protobuf = accepted == kProtobuf;
  s->principal = std::string(text(info.principal()));
  s->user = std::string(text(info.user()));
  s->format.multi_role = has(info, fb::FrameworkCapability::MULTI_ROLE);
  s->format.refinement = has(info, fb::FrameworkCapability::RESERVATION_REFINEMENT);
  if (s->principal.empty() && !exchange->principal().empty()) {
    s->principal = exchange->principal();
    auto call = unpack<fb::Call>(Bytes(body));
    if (!call) return exchange->text(500, "Internal error; it has been logged");
    call->subscribe->framework_info->principal = s->principal;
    body = pack(*call);
  }
  if (limited(exchange, s->principal)) return;
  if (access_.open()) return permit(s, std::move(body));
  auto asks = asks_of(*flatbuffers::GetRoot<fb::Call>(body.data())->subscribe()->framework_info());
  access_.allowed(s->principal, std::move(asks), [this, s, body = std::move(body)](bool yes) mutable {
    if (stopped_ || s->exchange->answered()) return;
    if (yes) return permit(s, std::move(body));
    refused_metric_.add();
    refuse(s, not_registered(*flatbuffers::GetRoot<fb::Call>(body.data())->subscribe()->framework_info()));
  });
}

// What a semantic refusal looks like: an event, on a stream that ends with it.
void SchedulerApi::refuse(const StreamPtr& s, const std::string& why) {
  fb::EventT e;
  e.type = fb::EventType::ERROR;
  e.error = std::make_unique<fb::FrameworkErrorT>();
  e.error->message = why;
  send(s, Bytes(pack(e)));
  s->exchange->end();
}

void SchedulerApi::permit(const StreamPtr& s, Buffer body) {
  const std::string id(text(flatbuffers::GetRoot<fb::Call>(body.data())->framework_id()));
  if (id.empty() || by_framework_.count(id)) return open(s, body);
  // A framework that is connected, but not through here, lives in a module: nobody takes it over from outside.
  probe(id, [this, s, id, body = std::move(body)](Code code) {
    if (code != Code::unimplemented || by_framework_.count(id)) return open(s, body);
    refuse(s, "Framework is not connected via HTTP");
  });
}

void SchedulerApi::open(const StreamPtr& s, const Buffer& body) {
  streams_.emplace(s.get(), s);
  streams_metric_.add();
  s->subscription = host_.stream(
      kCluster, number(fb::host::ClusterMethod::SUBSCRIBE), Bytes(body),
      [this, weak = std::weak_ptr(s)](gantry_code code, Bytes reply) {
        const auto stream = weak.lock();
        if (!stream || stopped_) return;
        if (code == GANTRY_MORE) return on_event(stream, reply);
        stream->subscription = 0;
        on_end(stream, code < 0 ? unpack_error(code, reply) : fail(Code::not_found, "Framework has been removed"));
      });
}

void SchedulerApi::on_event(const StreamPtr& s, Bytes bytes) {
  const auto* event = view<fb::Event>(bytes);
  if (!event) return host_.error("a malformed event from the master was ignored");
  switch (event->type()) {
    case fb::EventType::SUBSCRIBED: {
      auto e = unpack<fb::Event>(bytes);
      if (!e || !e->subscribed) return;
      s->framework_id = e->subscribed->framework_id;
      by_framework_[s->framework_id] = s;
      s->user = first_user(s->framework_id, user_of_(s->framework_id).value_or(s->user));
      e->subscribed->heartbeat_interval_seconds = std::chrono::duration<double>(options_.heartbeat_interval).count();
      e->subscribed->master_info = std::make_unique<fb::MasterInfoT>(masters_.info());
      send(s, Bytes(pack(*e)));
      return heartbeat(s);
    }
    case fb::EventType::OFFERS:
      if (!s->format.current()) {  // limitations in statuses are of no role, so only offers have an old form
        auto e = unpack<fb::Event>(bytes);
        if (!e) return;
        downgrade(*e, s->format);
        return send(s, Bytes(pack(*e)));
      }
      return send(s, bytes);
    case fb::EventType::UNKNOWN:
      return;
    default:
      return send(s, bytes);
  }
}

void SchedulerApi::send(const StreamPtr& s, Bytes event) {
  events_metric_.add();
  const std::string piece = record(encode(event, s->protobuf));
  if (s->exchange->streaming()) return s->exchange->write(piece);
  if (s->exchange->answered()) return;
  // Only now: a master that does not lead must be able to answer 307 or 503 instead.
  s->exchange->begin(200, s->protobuf ? kProtobuf : kJson, {{std::string(kStreamId), s->id}}, piece,
                     [this, weak = std::weak_ptr(s)] {
                       const auto stream = weak.lock();
                       if (!stream || stopped_) return;
                       // The framework hung up, or reads too slowly: to the master both are a broken stream.
                       if (stream->subscription) host_.cancel_request(std::exchange(stream->subscription, 0));
                       forget(stream);
                     });
}

// At once after SUBSCRIBED and then at a steady pace, whatever else flows: clients that read by lines see an event only
// when the next one comes (clients.md section 0, rule 3).
void SchedulerApi::heartbeat(const StreamPtr& s) {
  static const Buffer event = [] {
    fb::EventT e;
    e.type = fb::EventType::HEARTBEAT;
    return pack(e);
  }();
  send(s, Bytes(event));
  s->heartbeat = host_.timer(options_.heartbeat_interval, [this, weak = std::weak_ptr(s)] {
    const auto stream = weak.lock();
    if (!stream || stopped_) return;
    stream->heartbeat = 0;
    if (stream->exchange->streaming()) heartbeat(stream);
  });
}

const std::string& SchedulerApi::first_user(const std::string& framework_id, const std::string& user) {
  const auto [it, added] = users_.try_emplace(framework_id, user);
  if (added) {
    users_order_.push_back(framework_id);
    if (users_order_.size() > kMaxUsers) {
      users_.erase(users_order_.front());
      users_order_.pop_front();
    }
  }
  return it->second;
}

void SchedulerApi::on_end(const StreamPtr& s, const Error& why) {
  forget(s);
  if (s->exchange->streaming()) return s->exchange->end();
  if (s->exchange->answered()) return;
  if (why.code == Code::unavailable) {
    masters_.doubt();
    return masters_.refresh([this, exchange = s->exchange, why] {
      if (masters_.view().leading) return exchange_error(exchange, why);  // it leads, but its record was not stored
      redirect_(exchange);
    });
  }
  host_.warning("the master refused a subscription", {{"error", why.message}});
  exchange_error(s->exchange, why);
}

void SchedulerApi::forget(const StreamPtr& s) {
  if (s->heartbeat) host_.cancel_timer(std::exchange(s->heartbeat, 0));
  if (streams_.erase(s.get())) streams_metric_.add(-1);
  const auto it = by_framework_.find(s->framework_id);
  if (it != by_framework_.end() && it->second == s) by_framework_.erase(it);
}

// ---- calls

bool SchedulerApi::limited(const ExchangePtr& exchange, const std::string& principal) {
  const auto wait = options_.limits.take(principal, host_.now());
  if (!wait) return false;
  refused_metric_.add();
  const auto seconds = (wait->count() + 999'999'999) / 1'000'000'000;
  exchange->text(429, "Principal '" + principal + "' makes more calls than it may; try again later",
                 {{"Retry-After", std::to_string(std::max<std::int64_t>(1, seconds))}});
  return true;
}

void SchedulerApi::call(const ExchangePtr& exchange, Buffer body) {
  calls_metric_.add();
  const auto& c = *flatbuffers::GetRoot<fb::Call>(body.data());
  if (c.type() == T::RECONCILE_OPERATIONS && negotiate(exchange->header("accept"), {kJson, kProtobuf}).empty())
    return exchange->text(406, "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'");
  const std::string framework_id(text(c.framework_id()));
  const auto it = by_framework_.find(framework_id);
  if (it == by_framework_.end()) return explain(exchange, framework_id);
  Stream& s = *it->second;
  if (!exchange->principal().empty() && exchange->principal() != s.principal) {
    refused_metric_.add();
    return exchange->text(400, "Authenticated principal '" + exchange->principal() + "' does not match principal '" +
                                   s.principal + "' set in `FrameworkInfo`");
  }
  const std::string* stream_id = exchange->header("mesos-stream-id");
  if (!stream_id) {
    refused_metric_.add();
    return exchange->text(400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header");
  }
  if (*stream_id != s.id) {
    refused_metric_.add();
    return exchange->text(
        400, "The stream ID '" + *stream_id +
                 "' included in this request didn't match the stream ID currently associated with framework ID " +
                 framework_id);
  }
  if (limited(exchange, it->second->principal)) return;
  forward(exchange, it->second, std::move(body));
}

void SchedulerApi::forward(const ExchangePtr& exchange, const StreamPtr& s, Buffer body) {
  const auto& c = *flatbuffers::GetRoot<fb::Call>(body.data());
  const T type = c.type();
  if (type == T::UNKNOWN) return exchange->answer(501);
  if (type == T::ACCEPT && needs_upgrade(*c.accept())) {
    auto call = unpack<fb::Call>(Bytes(body));
    if (!call) return exchange->text(500, "Internal error; it has been logged");
    upgrade(*call->accept);
    body = pack(*call);
  }
  if (type == T::UPDATE_FRAMEWORK) return update(exchange, s, std::move(body));
  if (s->held.size() >= kMaxHeldCalls || (!s->held.empty() && s->held_bytes + body.size() > kMaxHeldBytes)) {
    refused_metric_.add();
    return exchange->text(503, "Too many calls wait for permission", {{"Retry-After", "1"}});
  }
  // 202 says that the call was taken, not what came of it: that is told by events. So nobody waits for the core here.
  exchange->answer(202);
  if (access_.open() || (s->held.empty() && !s->asking && type != T::ACCEPT)) return pass(body);
  s->held_bytes += body.size();
  s->held.push_back(std::move(body));
  pump(s);
}

// Calls go on in the order in which they came, also when an ACCEPT waits for the verdict on its tasks.
void SchedulerApi::pump(const StreamPtr& s) {
  while (!s->asking && !s->held.empty() && !stopped_) {
    Buffer body = std::move(s->held.front());
    s->held.pop_front();
    s->held_bytes -= body.size();
    const auto& c = *flatbuffers::GetRoot<fb::Call>(body.data());
    std::vector<Ask> asks;
    std::string user;
    if (c.type() == T::ACCEPT) {
      user = user_of_(s->framework_id).value_or(s->user);  // may have become known only after SUBSCRIBED
      asks = asks_of(*c.accept(), user);
    }
    if (asks.empty()) {
      pass(body);
      continue;
    }
    s->asking = true;
    auto at_once = std::make_shared<bool>(true);
    access_.verdicts(s->principal, std::move(asks), [this, s, at_once, user, body = std::move(body)](const Verdicts& v) {
      s->asking = false;
      if (stopped_) return;
      permitted(s, body, user, v);
      if (!*at_once) pump(s);
    });
    *at_once = false;
  }
}

void SchedulerApi::permitted(const StreamPtr& s, const Buffer& body, const std::string& user, const Verdicts& verdicts) {
  if (verdicts.all()) return pass(body);
  auto call = unpack<fb::Call>(Bytes(body));
  if (!call) return;
  const auto told = prune(*call->accept, verdicts, Whose{s->principal, user, s->framework_id, host_.wall_ns()});
  if (told.empty()) return pass(body);
  pass(pack(*call));  // what is left of the offers goes back with it
  for (const auto& e : told) send(s, Bytes(pack(e)));
}

void SchedulerApi::pass(const Buffer& body) {
  const T type = flatbuffers::GetRoot<fb::Call>(body.data())->type();
  host_.stream(
      kCluster, number(fb::host::ClusterMethod::CALL), Bytes(body), [this, type](gantry_code code, Bytes reply) {
        if (code >= 0 || stopped_) return;
        const Error why = unpack_error(code, reply);
        if (why.code == Code::unavailable) masters_.doubt();
        host_.debug("the master refused a call", {{"call", fb::EnumNameCallType(type)}, {"error", why.message}});
      });
}

// The one call with an answer of its own: 200 once it holds.
void SchedulerApi::update(const ExchangePtr& exchange, const StreamPtr& s, Buffer body) {
  const auto& info = *flatbuffers::GetRoot<fb::Call>(body.data())->update_framework()->framework_info();
  const Format format{has(info, fb::FrameworkCapability::MULTI_ROLE),
                      has(info, fb::FrameworkCapability::RESERVATION_REFINEMENT)};
  const std::weak_ptr<Stream> weak = s;
  if (!s->principal.empty() && text(info.principal()).empty()) {
    auto call = unpack<fb::Call>(Bytes(body));
    if (!call) return exchange->text(500, "Internal error; it has been logged");
    call->update_framework->framework_info->principal = s->principal;
    body = pack(*call);
  }
  const auto send_on = [this, exchange, weak, format](const Buffer& call) {
    host_.stream(kCluster, number(fb::host::ClusterMethod::CALL), Bytes(call),
                 [this, exchange, weak, format](gantry_code code, Bytes reply) {
                   if (stopped_) return;
                   if (code >= 0) {
                     if (const auto stream = weak.lock()) stream->format = format;
                     return exchange->answer(200);
                   }
                   const Error why = unpack_error(code, reply);
                   if (why.code == Code::invalid_argument)
                     return exchange->text(400, "Supplied FrameworkInfo is not valid: " + why.message);
                   exchange_error(exchange, why);
                 });
  };
  if (access_.open()) return send_on(body);
  auto asks = asks_of(*flatbuffers::GetRoot<fb::Call>(body.data())->update_framework()->framework_info());
  access_.allowed(s->principal, std::move(asks), [this, exchange, send_on, body = std::move(body)](bool yes) {
    if (stopped_) return;
    if (yes) return send_on(body);
    refused_metric_.add();
    exchange->text(403, not_registered(*flatbuffers::GetRoot<fb::Call>(body.data())->update_framework()->framework_info()));
  });
}

// A call of no type tells whether the master knows a framework, and changes nothing: NOT_FOUND, FAILED_PRECONDITION
// when it is not connected, UNIMPLEMENTED when it is.
void SchedulerApi::probe(std::string_view framework_id, Function<void(Code)> then) {
  fb::CallT call;
  call.framework_id = framework_id;
  const Buffer body = pack(call);
  host_.stream(kCluster, number(fb::host::ClusterMethod::CALL), Bytes(body),
               [this, then = std::move(then)](gantry_code code, Bytes) mutable {
                 if (!stopped_ && code != GANTRY_MORE) then(static_cast<Code>(code));
               });
}

// There is no stream of that framework here.
void SchedulerApi::explain(const ExchangePtr& exchange, std::string_view framework_id) {
  refused_metric_.add();
  probe(framework_id, [this, exchange](Code code) {
    switch (code) {
      case Code::not_found:
        return exchange->text(400, "Framework cannot be found");
      case Code::failed_precondition:
        return exchange->text(403, "Framework is not subscribed");
      case Code::unimplemented:
        return exchange->text(403, "Framework is not connected via HTTP");
      default:
        masters_.doubt();
        return masters_.refresh([this, exchange] { redirect_(exchange); });
    }
  });
}

}  // namespace gantry::gateway_mesos
