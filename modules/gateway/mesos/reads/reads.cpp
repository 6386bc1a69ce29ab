#include "reads.hpp"

#include "../wrap.hpp"
#include "filter.hpp"
#include "operator_views.hpp"
#include "pace.hpp"
#include "sums.hpp"
#include "wire/codec.hpp"

#include <gantry/control_generated.h>

#include <sys/sysinfo.h>

#include <algorithm>
#include <cstdlib>
#include <map>

namespace gantry::gateway_mesos {

namespace om = fb::master;

namespace {

constexpr std::size_t kLargeKnown = 64;

std::string record(std::string_view bytes) {
  std::string out = std::to_string(bytes.size());
  out += '\n';
  return out += bytes;
}

std::string object(const std::vector<std::pair<std::string, double>>& values) {
  std::string out = "{";
  for (const auto& [name, value] : values) {
    if (out.size() > 1) out += ',';
    wire::append_string(out, name);
    out += ':';
    write_number(out, value);
  }
  return out + "}";
}

std::vector<std::pair<std::string, double>> system_gauges() {
  struct sysinfo info {};
  double load[3] = {};
  if (::getloadavg(load, 3) < 0) load[0] = load[1] = load[2] = 0;
  ::sysinfo(&info);
  const auto cpus = static_cast<double>(::get_nprocs());
  return {{"system/cpus_total", cpus},
          {"system/load_15min", load[2]},
          {"system/load_1min", load[0]},
          {"system/load_5min", load[1]},
          {"system/mem_free_bytes", static_cast<double>(info.freeram) * info.mem_unit},
          {"system/mem_total_bytes", static_cast<double>(info.totalram) * info.mem_unit}};
}

std::string stats() {
  const auto g = system_gauges();
  std::string out = "{\"avg_load_15min\":";
  write_number(out, g[1].second);
  out += ",\"avg_load_1min\":";
  write_number(out, g[2].second);
  out += ",\"avg_load_5min\":";
  write_number(out, g[3].second);
  out += ",\"cpus_total\":" + std::to_string(static_cast<long>(g[0].second));
  out += ",\"mem_free_bytes\":" + std::to_string(static_cast<long long>(g[4].second));
  out += ",\"mem_total_bytes\":" + std::to_string(static_cast<long long>(g[5].second));
  return out + "}";
}

std::optional<std::string> parameter(const Exchange& e, std::string_view name) {
  const std::string* value = e.query(name);
  return value && !value->empty() ? std::optional(*value) : std::nullopt;
}

bool number(const Exchange& e, std::string_view name, long& out) {
  const std::string* value = e.query(name);
  if (!value) return true;
  char* end = nullptr;
  out = std::strtol(value->c_str(), &end, 10);
  return !value->empty() && *end == '\0';
}

}  // namespace

Reads::Reads(Host& host, Masters& masters, Access& access, ReadsOptions options, Function<void(const ExchangePtr&)> redirect)
    : host_(host), masters_(masters), access_(access), options_(std::move(options)), redirect_(std::move(redirect)), follower_(host) {
  follower_.cluster().listen(this);
  follower_.on_change([this] { changed(); });
}

Reads::~Reads() { *alive_ = false; }

void Reads::start() { follower_.start(); }

void Reads::stop() {
  stopped_ = true;
  if (rest_) host_.cancel_timer(std::exchange(rest_, 0));
  follower_.stop();
  while (!subscribers_.empty()) {
    const SubscriberPtr s = subscribers_.front();
    s->exchange->end();
    forget(s);
  }
}

legacy::About Reads::about() const {
  const Self& self = masters_.self();
  legacy::About a;
  a.ip = self.ip;
  a.hostname = self.hostname;
  a.port = self.port;
  a.cluster = self.cluster;
  const Bytes domain = masters_.view().domain;
  a.domain.assign(domain.begin(), domain.end());
  a.start_ns = self.start_wall_ns;
  a.elected_ns = masters_.view().elected_wall_ns;
  a.flags = options_.flags;
  const auto flag = [&](std::string name, std::string value) { a.flags.emplace_back(std::move(name), std::move(value)); };
  flag("ip", self.ip);
  flag("port", std::to_string(self.port));
  flag("version", "false");
  if (!self.cluster.empty()) flag("cluster", self.cluster);
  std::sort(a.flags.begin(), a.flags.end());
  return a;
}

void Reads::routes(Router& router) {
  const auto read = [this, &router](std::string path, auto make) {
    Route r;
    r.path = std::move(path);
    r.realm = kReadonlyRealm;
    r.methods = {"GET", "POST"};  // some clients post their reads (clients.md section 0, rule 13)
    r.handler = [this, make](const ExchangePtr& e) {
      Build build = make(*e);
      if (build) serve(e, std::move(build));
      else e->text(400, "A query parameter is not valid: 'limit' and 'offset' are numbers, 'order' is 'asc' or 'desc'");
    };
    router.add(std::move(r));
  };
  read("/state", [](const Exchange&) -> Build { return [](const View& v, const legacy::About& a) { return legacy::state(v, a); }; });
  read("/state-summary",
       [](const Exchange&) -> Build { return [](const View& v, const legacy::About& a) { return legacy::state_summary(v, a); }; });
  read("/slaves", [](const Exchange& e) -> Build {
    auto id = parameter(e, "slave_id");
    if (!id && !e.rest().empty()) id = e.rest();
    return [id](const View& v, const legacy::About&) { return legacy::slaves(v, id); };
  });
  read("/frameworks", [](const Exchange& e) -> Build {
    auto id = parameter(e, "framework_id");
    return [id](const View& v, const legacy::About&) { return legacy::frameworks(v, id); };
  });
  read("/tasks", [](const Exchange& e) -> Build {
    legacy::TaskQuery q;
    q.framework_id = parameter(e, "framework_id");
    q.task_id = parameter(e, "task_id");
    const std::string* order = e.query("order");
    if (!number(e, "limit", q.limit) || !number(e, "offset", q.offset) || (order && *order != "asc" && *order != "desc"))
      return nullptr;
    q.ascending = order && *order == "asc";
    return [q](const View& v, const legacy::About&) { return legacy::tasks(v, q); };
  });
  read("/roles", [](const Exchange&) -> Build { return [](const View& v, const legacy::About&) { return legacy::roles(v); }; });
  read("/maintenance/status", [](const Exchange&) -> Build {
    return [](const View& v, const legacy::About&) { return legacy::maintenance_status(v); };
  });

  // What any master answers, leading or not.
  const auto always = [&router](std::string path, const char* realm, Handler handler) {
    Route r;
    r.realm = realm;
    r.path = std::move(path);
    r.methods = {"GET", "POST"};
    r.leader_only = false;
    r.handler = std::move(handler);
    router.add(std::move(r));
  };
  always("/health", kNoRealm, [](const ExchangePtr& e) { e->answer(200); });
  always("/version", kNoRealm, [](const ExchangePtr& e) { finish(e, legacy::version(), kJson); });
  always("/flags", kReadonlyRealm, [this](const ExchangePtr& e) {
    access_.guard(e, "view_flags", {}, [this, e] { finish(e, legacy::flags(about()), kJson); });
  });
  always("/system/stats", kNoRealm, [](const ExchangePtr& e) { finish(e, stats(), kJson); });
  always("/redirect", kNoRealm, [this](const ExchangePtr& e) { redirect_to_leader(e); });
  always("/metrics/snapshot", kReadonlyRealm, [this](const ExchangePtr& e) {
    access_.guard(e, "get_endpoint", "/metrics/snapshot", [this, e] {
      metrics(e, [e](std::vector<std::pair<std::string, double>> all) { finish(e, object(all), kJson); });
    });
  });

  Route v1;
  v1.path = "/api/v1";
  v1.methods = {"POST"};
  v1.handler = [this](const ExchangePtr& e) { operator_call(e); };
  router.add(std::move(v1));
}

void Reads::redirect_to_leader(const ExchangePtr& e) {
  masters_.refresh([this, e] {
    const auto& leader = masters_.view().leader;
    if (leader.empty()) return e->text(503, "No leader elected");
    e->answer(307, {}, {}, {{"Location", "//" + leader}});
  });
}

void Reads::seen(const ExchangePtr& exchange, Seen then) {
  auto view = cluster().view();
  if (access_.open()) return then(std::move(view));
  auto collecting = host_.offload([view]() -> Result<std::vector<Ask>> { return asks_of(*view); });
  spawn(std::move(collecting), [this, alive = alive_, exchange, view, then = std::move(then)](Result<std::vector<Ask>> asks) mutable {
    if (!*alive) return;
    if (!asks) return then(asks.error());
    access_.verdicts(exchange->principal(), std::move(*asks), [this, alive, view, then = std::move(then)](const Verdicts& v) mutable {
      if (!*alive) return;
      auto filtering = host_.offload([view, v]() -> Result<std::shared_ptr<const View>> { return filtered(view, v); });
      spawn(std::move(filtering), [alive, then = std::move(then)](Result<std::shared_ptr<const View>> part) mutable {
        if (*alive) then(std::move(part));
      });
    });
  });
}

void Reads::serve(const ExchangePtr& exchange, Build build) {
  std::string key = exchange->path();
  key += exchange->query_text();
  render(exchange, key, kJson, std::move(build));
}

// Large answers are written one at a time and at a pace (pace.hpp), so that they leave room for everything else, and once for all who
// ask for the same: who comes before the writing begins gets what is true then. Small ones do not wait for a large one's turn.
void Reads::render(const ExchangePtr& exchange, std::string key, std::string_view type, Build build) {
  if (!cluster().whole()) return exchange->text(503, "Master has not finished recovery");
  if (!access_.open()) key += "\n" + exchange->principal();
  Wrapping how = wrapping(*exchange);
  for (Render& r : renders_)
    if (r.key == key && r.type == type && r.how.zip == how.zip && r.how.callback == how.callback) return r.waiting.push_back(exchange);
  renders_.push_back({key, type, std::move(how), std::move(build), {exchange}});
  next_render();
}

void Reads::next_render() {
  if (rendering_ || renders_.empty() || stopped_) return;
  if (!cluster().whole()) {
    for (const Render& r : std::exchange(renders_, {}))
      for (const auto& e : r.waiting) e->text(503, "Master has not finished recovery");
    return;
  }
  const auto begun = host_.now();
  auto first = renders_.begin();
  if (begun < rest_until_) {
    first = std::find_if(first, renders_.end(), [&](const Render& r) { return !large_.contains(r.key); });
    if (first == renders_.end()) {
      if (!rest_) rest_ = host_.timer(rest_until_ - begun, [this] { rest_ = 0, next_render(); });
      return;
    }
  }
  rendering_ = true;
  auto r = std::make_shared<Render>(std::move(*first));
  renders_.erase(first);
  struct Body {
    Exchange::Shared text;
    std::string_view type;
    bool zipped = false;
  };
  const auto finish = [this, alive = alive_, r, begun, version = cluster().version()](const Result<Body>& body) {
    for (const auto& e : r->waiting) {
      if (!body) {
        exchange_error(e, body.error());
        continue;
      }
      Headers headers;
      if (body->zipped) headers.emplace_back("Content-Encoding", "gzip");
      e->answer_shared(200, body->text, body->type, std::move(headers));
    }
    if (!*alive) return;
    rendering_ = false;
    if (body) {
      const auto now = host_.now();
      // A new master's versions may be smaller.
      const std::uint64_t changes = cluster().version() > version ? cluster().version() - version : 0;
      const auto rest = rest_after({now - begun, body->text->size() * r->waiting.size(), changes});
      if (rest > rest.zero()) {
        rest_until_ = now + rest;
        if (large_.size() >= kLargeKnown) large_.clear();  // keys are clients' words
        large_.insert(r->key);
      } else {
        large_.erase(r->key);
      }
    }
    next_render();
  };
  // All who wait for it are the same principal, if that matters at all.
  seen(r->waiting.front(), [this, r, finish](Result<std::shared_ptr<const View>> view) {
    if (!view) return finish(view.error());
    auto work = host_.offload([view = std::move(*view), about = about(), r]() -> Result<Body> {
      Wrapped w = wrap(r->build(*view, about), r->type, r->how);
      return Body{std::make_shared<const std::string>(std::move(w.body)), w.type, w.zipped};
    });
    spawn(std::move(work), finish);
  });
}

// What the kernel counts, and what the view adds up to, under one set of names.
void Reads::metrics(const ExchangePtr& exchange, Function<void(std::vector<std::pair<std::string, double>>)> then) {
  fb::control::QuestionT question;
  question.ask.Set(fb::control::AskMetricsT());
  const Buffer body = pack(question);
  auto done = std::make_shared<Function<void(std::vector<std::pair<std::string, double>>)>>(std::move(then));
  host_.stream(fb::host::Service::QUERY, 0, body, [this, alive = alive_, exchange, done](gantry_code code, Bytes reply) {
    if (code == GANTRY_MORE || !*alive) return;
    if (code < 0) return exchange_error(exchange, unpack_error(code, reply));
    std::map<std::string, double> all;
    const auto* answer = view<fb::control::Answer>(reply);
    if (const auto* m = answer ? answer->say_as_Metrics() : nullptr; m && m->metrics())
      for (const auto* x : *m->metrics()) all[std::string(text(x->name()))] = x->value();
    for (const auto& [name, value] : system_gauges()) all[name] = value;
    const auto count = [&](const char* name, const char* from) {
      if (const auto it = all.find(from); it != all.end()) all.emplace(name, it->second);
    };
    count("master/messages_status_update", "master/valid_status_updates");
    count("master/valid_status_update_acknowledgements", "master/messages_status_update_acknowledgement");
    count("master/messages_register_slave", "master/slave_registrations");
    count("master/messages_reregister_slave", "master/slave_reregistrations");
    count("master/messages_launch_tasks", "master/tasks_launched");
    count("master/messages_decline_offers", "master/offers_declined");
    count("master/dropped_messages", "master/invalid_messages");
    all["master/operator_event_stream_subscribers"] = static_cast<double>(subscribers_.size());
    if (cluster().whole())
      for (const auto& [name, value] : legacy::gauges(*cluster().view())) all[name] = value;
    // Things that do not exist here: there are none of them, and monitors look for the names.
    for (const char* name : {"master/tasks_dropped", "master/tasks_gone", "master/tasks_gone_by_operator", "master/tasks_unreachable",
                             "master/event_queue_dispatches", "master/event_queue_http_requests", "master/event_queue_messages",
                             "master/invalid_status_updates", "master/invalid_status_update_acknowledgements",
                             "master/slave_removals/reason_registered", "master/slave_removals/reason_unhealthy",
                             "master/slave_removals/reason_unregistered", "master/slave_shutdowns_canceled",
                             "master/slave_shutdowns_completed", "master/slave_shutdowns_scheduled",
                             "master/slave_unreachable_canceled", "master/slave_unreachable_completed",
                             "master/slave_unreachable_scheduled", "registrar/queued_operations", "registrar/registry_size_bytes"})
      all.emplace(name, 0.0);
    (*done)({all.begin(), all.end()});
  });
}

// ---- the v1 operator API

void Reads::operator_call(const ExchangePtr& e) {
  const std::string* type = e->header("content-type");
  if (!type) return e->text(400, "Expecting 'Content-Type' to be present");
  const std::string media = type->substr(0, type->find_first_of("; "));
  const bool in_protobuf = media == kProtobuf;
  if (!in_protobuf && media != kJson)
    return e->text(415, "Expecting 'Content-Type' of application/json or application/x-protobuf");
  const auto& codec = wire::Codec::get();
  const Bytes bytes = e->body();
  const auto body = in_protobuf ? codec.from_protobuf(bytes, "gantry.fb.master.Call")
                                : codec.from_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "gantry.fb.master.Call");
  if (!body) return e->text(400, body.error().message);
  const auto& call = *flatbuffers::GetRoot<om::Call>(body->data());
  if (!flatbuffers::IsFieldPresent(&call, om::Call::VT_TYPE)) return e->text(400, "Failed to validate master::Call: Expecting 'type' to be present");
  const std::string_view accepted = negotiate(e->header("accept"), {kJson, kProtobuf});
  if (accepted.empty()) return e->text(406, "Expecting 'Accept' to allow 'application/json' or 'application/x-protobuf'");
  const bool protobuf = accepted == kProtobuf;
  const auto answer = [e, protobuf](const om::ResponseT& r) {
    finish(e, ops::encode(r, protobuf), protobuf ? kProtobuf : kJson);
  };
  using C = om::CallType;
  om::ResponseT r;
  switch (call.type()) {
    case C::SUBSCRIBE:
      return subscribe(e, protobuf);
    case C::GET_STATE:
    case C::GET_TASKS:
    case C::GET_AGENTS:
    case C::GET_FRAMEWORKS:
    case C::GET_EXECUTORS:
    case C::GET_ROLES:
    case C::GET_WEIGHTS:
    case C::GET_QUOTA:
    case C::GET_OPERATIONS:
    case C::GET_MASTER:
      return render(e, std::string("v1 ") + om::EnumNameCallType(call.type()) + (protobuf ? " p" : ""), protobuf ? kProtobuf : kJson,
                    [what = call.type(), protobuf](const View& v, const legacy::About& about) {
                      return ops::Writer(v, about, protobuf).response(what);
                    });
    case C::GET_HEALTH:
      r.type = om::ResponseType::GET_HEALTH;
      r.get_health = std::make_unique<fb::ops::GetHealthT>();
      r.get_health->healthy = true;
      return answer(r);
    case C::GET_VERSION: {
      r.type = om::ResponseType::GET_VERSION;
      r.get_version = std::make_unique<fb::ops::GetVersionT>();
      auto& v = *(r.get_version->version_info = std::make_unique<fb::ops::VersionInfoT>());
      v.version = kVersion;
      v.build_date = kBuildDate;
      v.build_time = kBuildTime;
      v.build_user = "gantry";
      return answer(r);
    }
    case C::GET_FLAGS:
      if (const auto may = access_.known(e->principal(), "view_flags", {}); !may)
        return access_.allowed(e->principal(), "view_flags", {}, [this, e](bool yes) { yes ? operator_call(e) : forbid(e); });
      else if (!*may)
        return forbid(e);
      r.type = om::ResponseType::GET_FLAGS;
      r.get_flags = std::make_unique<fb::ops::GetFlagsT>();
      for (const auto& [name, value] : about().flags) {
        auto f = std::make_unique<fb::ops::FlagT>();
        f->name = name;
        f->value = value;
        r.get_flags->flags.push_back(std::move(f));
      }
      return answer(r);
    case C::GET_METRICS:
      return metrics(e, [answer](std::vector<std::pair<std::string, double>> all) {
        om::ResponseT m;
        m.type = om::ResponseType::GET_METRICS;
        m.get_metrics = std::make_unique<fb::ops::GetMetricsT>();
        for (const auto& [name, value] : all) {
          auto x = std::make_unique<fb::ops::MetricT>();
          x->name = name;
          x->value = value;
          m.get_metrics->metrics.push_back(std::move(x));
        }
        answer(m);
      });
    case C::GET_LOGGING_LEVEL:
      r.type = om::ResponseType::GET_LOGGING_LEVEL;
      r.get_logging_level = std::make_unique<fb::ops::GetLoggingLevelT>();
      if (options_.logging_level) r.get_logging_level->level = options_.logging_level();
      return answer(r);
    case C::GET_MAINTENANCE_STATUS:
      r.type = om::ResponseType::GET_MAINTENANCE_STATUS;
      r.get_maintenance_status = std::make_unique<om::GetMaintenanceStatusT>();
      if (!cluster().whole()) return e->text(503, "Master has not finished recovery");
      return seen(e, [e, answer, kept = std::make_shared<om::ResponseT>(std::move(r))](Result<std::shared_ptr<const View>> v) {
        if (!v) return exchange_error(e, v.error());
        kept->get_maintenance_status->status = std::make_unique<om::MaintenanceStatusT>(maintenance_status(**v));
        answer(*kept);
      });
    case C::GET_MAINTENANCE_SCHEDULE:
      r.type = om::ResponseType::GET_MAINTENANCE_SCHEDULE;
      r.get_maintenance_schedule = std::make_unique<om::GetMaintenanceScheduleT>();
      if (!cluster().whole()) return e->text(503, "Master has not finished recovery");
      return seen(e, [e, answer, kept = std::make_shared<om::ResponseT>(std::move(r))](Result<std::shared_ptr<const View>> v) {
        if (!v) return exchange_error(e, v.error());
        kept->get_maintenance_schedule->schedule = std::make_unique<om::MaintenanceScheduleT>(maintenance_schedule(**v));
        answer(*kept);
      });
    case C::LIST_FILES:
    case C::READ_FILE:
      if (!options_.files) return e->text(501, "501 Not Implemented.");
      return options_.files(e, call, answer);
    default:
      if (options_.write) return options_.write(e, call);
      return e->text(501, "501 Not Implemented.");
  }
}

// ---- its event stream

void Reads::subscribe(const ExchangePtr& e, bool protobuf) {
  if (!cluster().whole()) return e->text(503, "Master has not finished recovery");
  auto s = std::make_shared<Subscriber>();
  s->exchange = e;
  s->protobuf = protobuf;
  if (subscribers_.size() >= options_.max_subscribers) {
    drop(SubscriberPtr(subscribers_.front()), "Too many event streams are open");
  }
  subscribers_.push_back(s);
  // Events from here on wait until the snapshot, which is of this moment, has been written.
  const double seconds = std::chrono::duration<double>(options_.heartbeat_interval).count();
  seen(e, [this, weak = std::weak_ptr(s), protobuf, seconds](Result<std::shared_ptr<const View>> part) {
    const auto s = weak.lock();
    if (!s) return;
    if (!part) {
      exchange_error(s->exchange, part.error());
      return forget(s);
    }
    auto work = host_.offload([view = std::move(*part), about = about(), protobuf, seconds]() -> Result<std::string> {
      return ops::Writer(*view, about, protobuf).subscribed(seconds);
    });
    spawn(std::move(work), [this, alive = alive_, weak](Result<std::string> snapshot) {
      const auto s = weak.lock();
      if (!*alive || !s) return;
      if (!snapshot) {
        exchange_error(s->exchange, snapshot.error());
        return forget(s);
      }
      begin(s, std::move(*snapshot));
    });
  });
}

void Reads::begin(const SubscriberPtr& s, std::string snapshot) {
  if (std::find(subscribers_.begin(), subscribers_.end(), s) == subscribers_.end()) return;
  s->begun = true;
  s->exchange->begin(200, s->protobuf ? kProtobuf : kJson, {}, record(snapshot), [this, alive = alive_, weak = std::weak_ptr(s)] {
    if (const auto gone = weak.lock(); gone && *alive) forget(gone);
  });
  beat(s);
  for (auto& piece : std::exchange(s->waiting, {})) s->exchange->write(piece);
  s->bytes = 0;
}

void Reads::beat(const SubscriberPtr& s) {
  om::EventT e;
  e.type = om::EventType::HEARTBEAT;
  s->exchange->write(record(ops::encode(e, s->protobuf)));
  s->heartbeat = host_.timer(options_.heartbeat_interval, [this, weak = std::weak_ptr(s)] {
    const auto s = weak.lock();
    if (!s) return;
    s->heartbeat = 0;
    beat(s);
  });
}

void Reads::forget(const SubscriberPtr& s) {
  if (s->heartbeat) host_.cancel_timer(std::exchange(s->heartbeat, 0));
  s->waiting.clear();
  s->unjudged.clear();
  s->bytes = s->unjudged_bytes = 0;
  std::erase(subscribers_, s);
}

// For a reason of ours.
void Reads::drop(const SubscriberPtr& s, std::string_view why) {
  if (s->begun) s->exchange->end();
  else s->exchange->text(503, why);
  forget(s);
}

std::size_t Reads::Subscriber::Event::bytes() const {
  std::size_t n = sizeof(*this) + piece.size();
  for (const Ask& a : asks) n += sizeof(a) + a.action.size() + a.object.size();
  return n;
}

void Reads::publish(const om::EventT& event, std::vector<Ask> asks) {
  publish([&](bool protobuf) { return ops::encode(event, protobuf); }, std::move(asks));
}

void Reads::publish(const std::function<std::string(bool)>& encode, std::vector<Ask> asks) {
  if (subscribers_.empty()) return;
  std::string pieces[2];
  const auto all = subscribers_;  // writing may end a stream
  for (const auto& s : all) {
    std::string& piece = pieces[s->protobuf];
    if (piece.empty()) piece = record(encode(s->protobuf));
    if (access_.open() && s->unjudged.empty()) {
      deliver(s, piece);
      continue;
    }
    s->unjudged.push_back({piece, asks});
    s->unjudged_bytes += s->unjudged.back().bytes();
    pump(s);
    if (s->unjudged_bytes > options_.max_waiting) drop(s, "Too much happened while permission was awaited");
  }
}

// Events in their order, without those that this client may not hear.
void Reads::pump(const SubscriberPtr& s) {
  while (!s->asking && !s->unjudged.empty()) {
    auto event = std::move(s->unjudged.front());
    s->unjudged.pop_front();
    s->unjudged_bytes -= event.bytes();
    bool yes = true, known = true;
    for (const Ask& a : event.asks) {
      const auto verdict = access_.known(s->exchange->principal(), a.action, a.object);
      known = known && verdict;
      yes = yes && verdict.value_or(false);
    }
    if (known) {
      if (yes) deliver(s, event.piece);
      continue;
    }
    s->asking = true;
    access_.allowed(s->exchange->principal(), std::move(event.asks),
                    [this, alive = alive_, weak = std::weak_ptr(s), piece = std::move(event.piece)](bool may) {
                      const auto s = weak.lock();
                      if (!*alive || !s) return;
                      s->asking = false;
                      if (may) deliver(s, piece);
                      pump(s);
                    });
  }
}

void Reads::deliver(const SubscriberPtr& s, const std::string& piece) {
  if (s->begun) return s->exchange->write(piece);
  s->bytes += piece.size();
  if (s->bytes > options_.max_waiting) {
    drop(s, "Too much happened while the snapshot was written");
  } else {
    s->waiting.push_back(piece);
  }
}

// Streams end when the cluster is lost from sight: what happens meanwhile could not be told.
void Reads::changed() {
  if (cluster().whole()) return;
  while (!subscribers_.empty()) {
    const SubscriberPtr s = subscribers_.front();
    if (s->begun) s->exchange->end();
    else redirect_(s->exchange);
    forget(s);
  }
}

void Reads::task_added(const TaskPtr& t) {
  if (subscribers_.empty()) return;
  const AgentPtr agent = cluster().agent(t->agent_id());
  publish([&](bool protobuf) { return ops::task_added(*t, agent.get(), protobuf); }, asks_of(*t, cluster().framework_row(*t->framework_id).get()));
}

void Reads::task_updated(const TaskPtr& t, const Own<fb::TaskStatus>& status) {
  if (subscribers_.empty()) return;
  Own<fb::TaskStatus> told = status;
  if (!told) {  // the master's own conclusion
    fb::TaskStatusT s;
    s.task_id = t->id();
    s.state = t->state;
    s.agent_id = t->agent_id();
    s.source = fb::Source::SOURCE_MASTER;
    s.timestamp = static_cast<double>(host_.wall_ns()) / 1e9;
    told = Own<fb::TaskStatus>(pack(s));
  }
  const AgentPtr agent = cluster().agent(t->agent_id());
  publish([&](bool protobuf) { return ops::task_updated(*t, *told, agent.get(), protobuf); },
          asks_of(*t, cluster().framework_row(*t->framework_id).get()));
}

void Reads::agent_added(const AgentPtr& a) {
  if (subscribers_.empty()) return;
  om::EventT e;
  e.type = om::EventType::AGENT_ADDED;
  e.agent_added = std::make_unique<om::AgentAddedT>();
  // One event for all: where an authorizer judges, what is reserved is read by those who may, with GET_AGENTS.
  e.agent_added->agent = ops::agent(*a, access_.open() ? Verdicts() : Verdicts(std::set<std::pair<std::string, std::string>, std::less<>>()));
  publish(e);
}

void Reads::agent_removed(const std::string& id) {
  if (subscribers_.empty()) return;
  om::EventT e;
  e.type = om::EventType::AGENT_REMOVED;
  e.agent_removed = std::make_unique<om::AgentRemovedT>();
  e.agent_removed->agent_id = id;
  publish(e);
}

void Reads::framework_added(const FrameworkPtr& f) {
  if (subscribers_.empty()) return;
  om::EventT e;
  e.type = om::EventType::FRAMEWORK_ADDED;
  e.framework_added = std::make_unique<om::FrameworkAddedT>();
  e.framework_added->framework = ops::framework(*f);
  publish(e, asks_of(*f));
}

void Reads::framework_updated(const FrameworkPtr& f) {
  if (subscribers_.empty()) return;
  om::EventT e;
  e.type = om::EventType::FRAMEWORK_UPDATED;
  e.framework_updated = std::make_unique<om::FrameworkUpdatedT>();
  e.framework_updated->framework = ops::framework(*f);
  publish(e, asks_of(*f));
}

void Reads::framework_removed(const FrameworkPtr& f) {
  if (subscribers_.empty()) return;
  om::EventT e;
  e.type = om::EventType::FRAMEWORK_REMOVED;
  e.framework_removed = std::make_unique<om::FrameworkRemovedT>();
  e.framework_removed->framework_info.reset(f->info->UnPack());
  publish(e, asks_of(*f));
}

}  // namespace gantry::gateway_mesos
