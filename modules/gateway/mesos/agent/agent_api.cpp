#include "agent_api.hpp"

#include "../masters.hpp"
#include "../reads/legacy.hpp"
#include "../reads/sums.hpp"
#include "../wrap.hpp"
#include "wire/codec.hpp"

#include <gantry/control_generated.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>

namespace gantry::gateway_mesos {

namespace op = fb::agent;
using C = op::CallType;
using Values = std::vector<std::pair<std::string, double>>;

namespace {

constexpr auto kOperateAgent = static_cast<std::uint32_t>(fb::host::OperateMethod::CALL_AGENT);
constexpr std::string_view kResponseTable = "gantry.fb.agent.Response";

std::string resolve(const std::string& name) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(name.c_str(), nullptr, &hints, &found) != 0 || !found) return {};
  char text[INET_ADDRSTRLEN] = {};
  const auto* in = reinterpret_cast<const sockaddr_in*>(found->ai_addr);
  ::inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
  ::freeaddrinfo(found);
  return text;
}

std::pair<std::string, int> host_and_port(std::string_view address) {
  const auto colon = address.rfind(':');
  if (colon == std::string_view::npos) return {std::string(address), 0};
  std::string host(address.substr(0, colon));
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return {host, std::atoi(std::string(address.substr(colon + 1)).c_str())};
}

Values system_gauges() {
  struct sysinfo info {};
  double load[3] = {};
  if (::getloadavg(load, 3) < 0) load[0] = load[1] = load[2] = 0;
  ::sysinfo(&info);
  return {{"system/cpus_total", static_cast<double>(::get_nprocs())},
          {"system/load_15min", load[2]},
          {"system/load_1min", load[0]},
          {"system/load_5min", load[1]},
          {"system/mem_free_bytes", static_cast<double>(info.freeram) * info.mem_unit},
          {"system/mem_total_bytes", static_cast<double>(info.totalram) * info.mem_unit}};
}

template <class T>
std::unique_ptr<T> made() {
  return std::make_unique<T>();
}

}  // namespace

AgentApi::AgentApi(Host& host, Doors& doors, Access& access, AgentApiOptions options)
    : host_(host), doors_(doors), access_(access), options_(std::move(options)), executors_(host),
      files_({[this](const ExchangePtr& e, fb::ops::FilesQueryT query, Files::Source::Listed then) {
                op::CallT call;
                call.type = C::LIST_FILES;
                call.list_files = std::make_unique<fb::ops::FilesQueryT>(std::move(query));
                ask_files(e, std::move(call), [then = std::move(then)](Result<const op::Response*> r) mutable {
                  if (!r) return then(r.error());
                  then((*r)->list_files());
                });
              },
              [this](const ExchangePtr& e, fb::ops::FileQueryT query, Files::Source::Read then) {
                op::CallT call;
                call.type = C::READ_FILE;
                call.read_file = std::make_unique<fb::ops::FileQueryT>(std::move(query));
                ask_files(e, std::move(call), [then = std::move(then)](Result<const op::Response*> r) mutable {
                  if (!r) return then(r.error());
                  if (!(*r)->read_file()) return then(fail(Code::internal, "the agent's answer is malformed"));
                  then((*r)->read_file());
                });
              },
              [this](const ExchangePtr& e, const std::string& path, Function<void()> then) { sandbox(e, path, std::move(then)); }}),
      logging_(host, access, [this](const ExchangePtr& e, const fb::ops::LoggingChangeT& change) {
        op::CallT call;
        call.type = C::SET_LOGGING_LEVEL;
        call.set_logging_level = std::make_unique<fb::ops::LoggingChangeT>(change);
        ask(*e, call, [e](Result<Buffer> reply) {
          if (!reply) return refuse(e, reply.error());
          e->answer(200);
        });
      }) {
  routes();
}
AgentApi::~AgentApi() { *alive_ = false; }

Task<Status> AgentApi::start() {
  fb::host::ListenT l;
  l.address = options_.address;
  // Credentials are judged here, each in the realm of its path; executors show tokens of their own, if any.
  l.insecure = options_.insecure || (doors_.closed(kAgentReadonlyRealm) && doors_.closed(kAgentReadwriteRealm) && options_.authenticate_executors);
  l.max_body = options_.max_body;
  const Buffer body = pack(l);
  Promise<Status> done;
  listener_ = host_.stream(fb::host::Service::HTTP, static_cast<std::uint32_t>(fb::host::HttpMethod::LISTEN), body,
                           [this, done](gantry_code code, Bytes bytes) {
                             if (code == GANTRY_MORE) {
                               if (done.is_set()) return arrived(bytes);
                               if (const auto* b = view<fb::host::Listening>(bytes)) {
                                 const auto [at, port] = host_and_port(text(b->address()));
                                 ip_ = at;
                                 port_ = static_cast<std::uint16_t>(port);
                               }
                               return done.set(ok);
                             }
                             listener_ = 0;
                             const Error why = code < 0 ? unpack_error(code, bytes) : fail(Code::unavailable, "the listener closed");
                             if (!done.is_set()) return done.set(Status(why));
                             if (stopping_) return;
                             trouble_ = "the agent's listener has closed: " + why.message;
                             host_.error(trouble_);
                           });
  if (auto s = co_await done.get(); !s) co_return std::move(s.error()).because("cannot serve the agent's API on " + options_.address);
  hostname_ = ip_;
  if (!options_.advertise.empty()) {
    const auto [name, port] = host_and_port(options_.advertise);
    hostname_ = name;
    if (port) port_ = static_cast<std::uint16_t>(port);
  } else if (ip_ == "0.0.0.0" || ip_ == "::") {
    char name[256] = {};
    hostname_ = ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
  }
  if (ip_ == "0.0.0.0" || ip_ == "::" || !options_.advertise.empty()) {
    auto looking = host_.offload([name = hostname_]() -> Result<std::string> { return resolve(name); });
    const Result<std::string> found = co_await std::move(looking);
    ip_ = found && !found->empty() ? *found : "127.0.0.1";
  }
  executors_.serve(ip_, port_, options_.authenticate_executors);
  host_.info("Mesos API of the agent ready", {{"address", hostname_ + ":" + std::to_string(port_)}});
  co_return ok;
}

void AgentApi::stop() {
  stopping_ = true;
  executors_.stop();
  if (listener_) host_.cancel_request(listener_);
}

void AgentApi::arrived(Bytes bytes) {
  if (!view<fb::host::Request>(bytes)) return;
  auto exchange = std::make_shared<Exchange>(host_, Buffer(bytes), "/slave(1)");
  if (stopping_) return exchange->text(503, "Agent is stopping");
  Route* route = router_.find(*exchange);
  if (!route) return exchange->text(404, "404 Not Found.");
  doors_.enter(exchange, route->realm, [this, exchange, route] { serve(exchange, *route); });
}

void AgentApi::serve(const ExchangePtr& exchange, Route& route) {
  if (!Router::allow(route, *exchange)) return;
  try {
    route.handler(exchange);
  } catch (const std::exception& e) {
    host_.error("a request failed", {{"path", exchange->path()}, {"error", e.what()}});
    exchange->text(500, "Internal error; it has been logged");
  }
}

void AgentApi::routes() {
  executors_.routes(router_);
  const auto add = [this](std::string path, Handler handler, const char* realm = kAgentReadonlyRealm) {
    router_.add({std::move(path), {"GET", "POST"}, false, std::move(handler), realm});
  };
  add("/state", [this](const ExchangePtr& e) {
    picture(e, true, [](const Picture& p, const agent_views::About& a) { return agent_views::state(p, a); });
  });
  add("/containers", [this](const ExchangePtr& e) {
    access_.guard(e, "get_endpoint", "/containers", [this, e] {
      picture(e, true, [](const Picture& p, const agent_views::About&) { return agent_views::containers(p); });
    });
  });
  add("/monitor/statistics", [this](const ExchangePtr& e) {
    access_.guard(e, "get_endpoint", "/monitor/statistics", [this, e] {
      picture(e, true, [](const Picture& p, const agent_views::About&) { return agent_views::statistics(p); });
    });
  });
  add("/flags", [this](const ExchangePtr& e) {
    access_.guard(e, "view_flags", {}, [this, e] { with_flags(e, [e](agent_views::About a) { finish(e, agent_views::flags(a), kJson); }); });
  });
  add("/health", [](const ExchangePtr& e) { e->answer(200); }, kNoRealm);
  add("/version", [](const ExchangePtr& e) { finish(e, legacy::version(), kJson); }, kNoRealm);
  add("/metrics/snapshot", [this](const ExchangePtr& e) {
    access_.guard(e, "get_endpoint", "/metrics/snapshot", [this, e] { metrics(e, [e](Values all) {
      std::string out = "{";
      for (const auto& [name, value] : all) {
        if (out.size() > 1) out += ',';
        wire::append_string(out, name);
        out += ':';
        write_number(out, value);
      }
      finish(e, out + "}", kJson);
    }); });
  });
  add("/files/debug", [this](const ExchangePtr& e) {
    access_.guard(e, "get_endpoint", "/files/debug", [this, e] { debug(e); });
  });
  files_.routes(router_, kAgentReadonlyRealm);
  logging_.routes(router_, kAgentReadwriteRealm);
  router_.add({"/api/v1", {"POST"}, false, [this](const ExchangePtr& e) { operator_call(e); }, kAgentReadwriteRealm});
}

void AgentApi::ask(const Exchange& exchange, const op::CallT& call, Say then) {
  fb::host::OperateT body;
  body.principal = exchange.principal();
  const Buffer packed = pack(call);
  body.call.assign(packed.data(), packed.data() + packed.size());
  auto shared = std::make_shared<Say>(std::move(then));
  const Buffer request = pack(body);
  host_.stream(fb::host::Service::OPERATE, kOperateAgent, Bytes(request), [alive = alive_, shared](gantry_code code, Bytes reply) {
    if (code == GANTRY_MORE || !*alive) return;
    if (code < 0) return (*shared)(unpack_error(code, reply));
    (*shared)(Buffer(reply));
  });
}

void AgentApi::users(const ExchangePtr& e, Function<void(agent_permits::Users)> then) {
  op::CallT call;
  call.type = C::GET_STATE;
  auto next = std::make_shared<Function<void(agent_permits::Users)>>(std::move(then));
  ask(*e, call, [e, next](Result<Buffer> reply) {
    if (!reply) return refuse(e, reply.error());
    const auto* r = view<op::Response>(*reply);
    if (!r) return e->text(500, "Internal error; it has been logged");
    (*next)(agent_permits::users_of(*r));
  });
}

void AgentApi::restrict(const ExchangePtr& e, Buffer reply, Function<void(Buffer)> then) {
  if (access_.open()) return then(std::move(reply));
  auto kept = std::make_shared<Buffer>(std::move(reply));
  users(e, [this, e, kept, then = std::move(then)](agent_permits::Users users) mutable {
    const auto* r = view<op::Response>(*kept);
    if (!r) return e->text(500, "Internal error; it has been logged");
    auto answer = std::make_shared<op::ResponseT>();
    r->UnPackTo(answer.get());
    auto asks = agent_permits::asks_of(*answer, users);
    access_.verdicts(e->principal(), std::move(asks),
                     [answer, users = std::move(users), then = std::move(then)](const Verdicts& v) mutable {
                       agent_permits::filter(*answer, v, users);
                       then(pack(*answer));
                     });
  });
}

void AgentApi::sandbox(const ExchangePtr& e, const std::string& path, Function<void()> then) {
  if (access_.open()) return then();
  users(e, [this, e, path, then = std::move(then)](const agent_permits::Users& users) mutable {
    access_.guard(e, {agent_permits::ask_for(path, users)}, std::move(then));
  });
}

void AgentApi::refuse(const ExchangePtr& e, const Error& why) {
  if (why.code == Code::not_found) return e->answer(404, why.message, kText);
  if (why.code == Code::failed_precondition) return e->text(400, why.message);
  exchange_error(e, why);
}

// What this gateway and its agent are set to, and who leads.
void AgentApi::with_flags(const ExchangePtr& e, Function<void(agent_views::About)> then) {
  op::CallT call;
  call.type = C::GET_FLAGS;
  auto next = std::make_shared<Function<void(agent_views::About)>>(std::move(then));
  ask(*e, call, [this, e, next](Result<Buffer> reply) {
    if (!reply) return refuse(e, reply.error());
    auto about = std::make_shared<agent_views::About>();
    about->ip = ip_;
    about->hostname = hostname_;
    about->port = port_;
    about->start_ns = options_.start_wall_ns;
    std::map<std::string, std::string> flags = {{"authenticate_http_executors", options_.authenticate_executors ? "true" : "false"},
                                                {"authenticate_http_readonly", doors_.closed(kAgentReadonlyRealm) ? "true" : "false"},
                                                {"authenticate_http_readwrite", doors_.closed(kAgentReadwriteRealm) ? "true" : "false"},
                                                {"containerizers", "mesos"},
                                                {"ip", ip_},
                                                {"port", std::to_string(port_)}};
    const auto* r = view<op::Response>(*reply);
    if (r && r->get_flags() && r->get_flags()->flags())
      for (const auto* f : *r->get_flags()->flags()) {
        flags[std::string(text(f->name()))] = text(f->value());
        if (text(f->name()) == "work_dir") about->work_dir = text(f->value());
      }
    about->flags.assign(flags.begin(), flags.end());
    fb::control::QuestionT question;
    question.ask.Set(fb::control::AskStatusT());
    const Buffer body = pack(question);
    host_.stream(fb::host::Service::QUERY, 0, body, [alive = alive_, about, next](gantry_code code, Bytes answer) {
      if (code == GANTRY_MORE || !*alive) return;
      const auto* a = code == GANTRY_OK ? view<fb::control::Answer>(answer) : nullptr;
      if (const auto* s = a ? a->say_as_Status() : nullptr) {
        about->master_hostname = text(s->leader_hostname());
        if (about->master_hostname.empty()) about->master_hostname = std::string(text(s->leader()).substr(0, text(s->leader()).rfind(':')));
      }
      (*next)(std::move(*about));
    });
  });
}

void AgentApi::picture(const ExchangePtr& e, bool containers, std::function<std::string(const Picture&, const agent_views::About&)> make) {
  struct Parts {
    Buffer state, agent, containers;
    agent_views::About about;
  };
  auto parts = std::make_shared<Parts>();
  const auto get = [this, e](C type, Function<void(Buffer)> then) {
    op::CallT call;
    call.type = type;
    auto next = std::make_shared<Function<void(Buffer)>>(std::move(then));
    ask(*e, call, [this, e, next, type](Result<Buffer> reply) {
      if (!reply) return refuse(e, reply.error());
      if (type == C::GET_AGENT) return (*next)(std::move(*reply));
      restrict(e, std::move(*reply), [next](Buffer part) { (*next)(std::move(part)); });
    });
  };
  const auto write = [this, e, parts, make = std::move(make)] {
    auto work = host_.offload([parts, make, ip = ip_, how = wrapping(*e)]() -> Result<Wrapped> {
      op::ResponseT state;
      const auto* answered = view<op::Response>(parts->state);
      if (!answered) return fail(Code::internal, "the agent's answer is malformed");
      answered->UnPackTo(&state);
      agent_views::fill_addresses(state, ip);
      const Buffer filled = pack(state);
      const auto* a = view<op::Response>(parts->agent);
      const auto* c = parts->containers.size() ? view<op::Response>(parts->containers) : nullptr;
      if (!a || !a->get_agent() || !a->get_agent()->agent_info()) return fail(Code::internal, "the agent's answer is malformed");
      Picture p;
      p.state = flatbuffers::GetRoot<op::Response>(filled.data())->get_state();
      p.info = a->get_agent()->agent_info();
      p.containers = c ? c->get_containers() : nullptr;
      return wrap(make(p, parts->about), kJson, how);
    });
    spawn(std::move(work), [alive = alive_, e](Result<Wrapped> body) {
      if (!*alive) return;
      if (!body) return refuse(e, body.error());
      send(e, *body);
    });
  };
  const auto gather = [get, parts, containers, write] {
    get(C::GET_STATE, [get, parts, containers, write](Buffer b) {
      parts->state = std::move(b);
      get(C::GET_AGENT, [get, parts, containers, write](Buffer b) {
        parts->agent = std::move(b);
        if (!containers) return write();
        get(C::GET_CONTAINERS, [parts, write](Buffer b) {
          parts->containers = std::move(b);
          write();
        });
      });
    });
  };
  with_flags(e, [this, e, parts, gather](agent_views::About about) {
    parts->about = std::move(about);
    if (access_.open()) return gather();
    access_.allowed(e->principal(), "view_flags", {}, [alive = alive_, parts, gather](bool may) {
      if (!*alive) return;
      if (!may) parts->about.flags.clear();
      gather();
    });
  });
}

// What the daemon counts of its agent (agent/...) under the names of the field (slave/...).
void AgentApi::metrics(const ExchangePtr& e, Function<void(Values)> then) {
  auto done = std::make_shared<Function<void(Values)>>(std::move(then));
  op::CallT call;
  call.type = C::GET_STATE;
  ask(*e, call, [this, e, done](Result<Buffer> state) {
    if (!state) return refuse(e, state.error());
    auto kept = std::make_shared<Buffer>(std::move(*state));
    op::CallT again;
    again.type = C::GET_AGENT;
    ask(*e, again, [this, e, done, kept](Result<Buffer> agent) {
      if (!agent) return refuse(e, agent.error());
      std::map<std::string, double> all;
      const auto *s = view<op::Response>(*kept), *a = view<op::Response>(*agent);
      Picture p;
      p.state = s ? s->get_state() : nullptr;
      p.info = a && a->get_agent() ? a->get_agent()->agent_info() : nullptr;
      for (const auto& [name, value] : agent_views::gauges(p)) all[name] = value;
      for (const auto& [name, value] : system_gauges()) all[name] = value;
      all["slave/uptime_secs"] = static_cast<double>(host_.wall_ns() - options_.start_wall_ns) / 1e9;
      fb::control::QuestionT question;
      question.ask.Set(fb::control::AskMetricsT());
      const Buffer body = pack(question);
      host_.stream(fb::host::Service::QUERY, 0, body, [alive = alive_, done, all = std::move(all)](gantry_code code, Bytes reply) mutable {
        if (code == GANTRY_MORE || !*alive) return;
        const auto* answer = code >= 0 ? view<fb::control::Answer>(reply) : nullptr;
        if (const auto* m = answer ? answer->say_as_Metrics() : nullptr; m && m->metrics()) {
          for (const auto* x : *m->metrics()) {
            const std::string name(text(x->name()));
            if (name.starts_with("agent/")) all.emplace("slave/" + name.substr(6), x->value());
          }
        }
        // Monitors look for these names; of what does not exist here there is none.
        for (const char* name : {"containerizer/mesos/container_destroy_errors", "slave/container_launch_errors", "slave/executors_preempted",
                                 "slave/executors_registering", "slave/executors_terminated", "slave/executors_terminating",
                                 "slave/invalid_framework_messages", "slave/invalid_status_updates", "slave/recovery_errors",
                                 "slave/registered", "slave/tasks_failed", "slave/tasks_finished", "slave/tasks_gone", "slave/tasks_killed",
                                 "slave/tasks_lost", "slave/valid_framework_messages", "slave/valid_status_updates"})
          all.emplace(name, 0.0);
        (*done)({all.begin(), all.end()});
      });
    });
  });
}

// ---- the v1 operator API

void AgentApi::operator_call(const ExchangePtr& e) {
  const std::string* type = e->header("content-type");
  if (!type) return e->text(400, "Expecting 'Content-Type' to be present");
  const std::string media = media_type(*type);
  const bool in_protobuf = media == kProtobuf;
  if (!in_protobuf && media != kJson) return e->text(415, "Expecting 'Content-Type' of application/json or application/x-protobuf");
  const auto& codec = wire::Codec::get();
  const Bytes bytes = e->body();
  const auto body = in_protobuf ? codec.from_protobuf(bytes, "gantry.fb.agent.Call")
                                : codec.from_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "gantry.fb.agent.Call");
  if (!body) return e->text(400, body.error().message);
  const auto& call = *flatbuffers::GetRoot<op::Call>(body->data());
  if (!flatbuffers::IsFieldPresent(&call, op::Call::VT_TYPE)) return e->text(400, "Failed to validate agent::Call: Expecting 'type' to be present");
  const auto expect = [&](C wanted, const void* present, const char* field) {
    if (call.type() != wanted || present) return true;
    e->text(400, std::string("Failed to validate agent::Call: Expecting '") + field + "' to be present");
    return false;
  };
  if (!expect(C::LIST_FILES, call.list_files(), "list_files") || !expect(C::READ_FILE, call.read_file(), "read_file") ||
      !expect(C::SET_LOGGING_LEVEL, call.set_logging_level(), "set_logging_level") || !expect(C::GET_METRICS, call.get_metrics(), "get_metrics"))
    return;
  const std::string_view accepted = negotiate(e->header("accept"), {kJson, kProtobuf});
  if (accepted.empty()) return e->text(406, "Expecting 'Accept' to allow 'application/json' or 'application/x-protobuf'");
  const bool protobuf = accepted == kProtobuf;
  const auto answer = [e, protobuf](const op::ResponseT& r) {
    const Buffer packed = pack(r);
    const auto& wire = wire::Codec::get();
    finish(e, protobuf ? wire.to_protobuf(packed, kResponseTable) : wire.to_json(packed, kResponseTable), protobuf ? kProtobuf : kJson);
  };
  op::ResponseT r;
  switch (call.type()) {
    case C::UNKNOWN: return e->text(501, "501 Not Implemented.");
    case C::GET_VERSION: {
      r.type = op::ResponseType::GET_VERSION;
      r.get_version = made<fb::ops::GetVersionT>();
      auto& v = *(r.get_version->version_info = made<fb::ops::VersionInfoT>());
      v.version = kVersion;
      v.build_date = kBuildDate;
      v.build_time = kBuildTime;
      v.build_user = "gantry";
      return answer(r);
    }
    case C::GET_FLAGS:
      return access_.guard(e, "view_flags", {}, [this, e, answer] { with_flags(e, [answer](agent_views::About about) {
        op::ResponseT f;
        f.type = op::ResponseType::GET_FLAGS;
        f.get_flags = made<fb::ops::GetFlagsT>();
        for (const auto& [name, value] : about.flags) {
          auto flag = made<fb::ops::FlagT>();
          flag->name = name;
          flag->value = value;
          f.get_flags->flags.push_back(std::move(flag));
        }
        answer(f);
      }); });
    case C::GET_METRICS:
      return metrics(e, [answer](Values all) {
        op::ResponseT m;
        m.type = op::ResponseType::GET_METRICS;
        m.get_metrics = made<fb::ops::GetMetricsT>();
        for (const auto& [name, value] : all) {
          auto x = made<fb::ops::MetricT>();
          x->name = name;
          x->value = value;
          m.get_metrics->metrics.push_back(std::move(x));
        }
        answer(m);
      });
    case C::GET_LOGGING_LEVEL:
      r.type = op::ResponseType::GET_LOGGING_LEVEL;
      r.get_logging_level = made<fb::ops::GetLoggingLevelT>();
      r.get_logging_level->level = logging_.level();
      return answer(r);
    default: break;
  }
  auto asked = std::make_shared<op::CallT>();
  call.UnPackTo(asked.get());
  const auto go = [this, e, answer, asked] {
    ask(*e, *asked, [this, e, answer](Result<Buffer> reply) {
      if (!reply) return refuse(e, reply.error());
      if (!reply->size()) return e->answer(200);
      restrict(e, std::move(*reply), [this, e, answer](Buffer part) {
        const auto* response = view<op::Response>(part);
        if (!response) return e->text(500, "Internal error; it has been logged");
        op::ResponseT filled;
        response->UnPackTo(&filled);
        agent_views::fill_addresses(filled, ip_);
        answer(filled);
      });
    });
  };
  switch (call.type()) {
    case C::LIST_FILES:
    case C::READ_FILE:
      return sandbox(e, asked->list_files ? asked->list_files->path : asked->read_file->path, [this, e, answer, asked] {
        ask_files(e, std::move(*asked), [e, answer](Result<const op::Response*> response) {
          if (!response) return Files::refuse(e, response.error());
          op::ResponseT files;
          (*response)->UnPackTo(&files);
          answer(files);
        });
      });
    case C::SET_LOGGING_LEVEL: return logging_.set(e, *asked->set_logging_level);
    default: return go();
  }
}

// ---- files

void AgentApi::ask_files(const ExchangePtr& e, op::CallT call, Function<void(Result<const op::Response*>)> then) {
  std::string& path = call.list_files ? call.list_files->path : call.read_file->path;
  auto there = daemon_path(path == "/agent/log" ? std::string(kAgentLog) : path, kAgentLog);
  if (!there) return then(there.error());
  path = std::move(*there);
  ask(*e, call, [then = std::move(then)](Result<Buffer> reply) mutable {
    if (!reply) return then(reply.error());
    const auto* response = view<op::Response>(*reply);
    if (!response) return then(fail(Code::internal, "the agent's answer is malformed"));
    then(response);
  });
}

// What lies where: virtual paths of sandboxes and of the log, and the real ones.
void AgentApi::debug(const ExchangePtr& e) {
  op::CallT own;
  own.type = C::LIST_FILES;
  own.list_files = made<fb::ops::FilesQueryT>();
  own.list_files->path = "/";
  ask(*e, own, [this, e](Result<Buffer> reply) {
    const auto* r = reply ? view<op::Response>(*reply) : nullptr;  // it may have no log to show
    const auto* infos = r && r->list_files() ? r->list_files()->file_infos() : nullptr;
    debug(e, infos && infos->size() ? std::string(text(infos->Get(0)->path())) : std::string());
  });
}

void AgentApi::debug(const ExchangePtr& e, const std::string& log) {
  picture(e, true, [log](const Picture& p, const agent_views::About& about) {
    std::map<std::string, std::string> paths;
    if (!log.empty()) paths.emplace(kAgentLog, log);
    const std::string root = about.work_dir + "/slaves/" + std::string(text(p.info->id()));
    if (p.containers && p.containers->containers()) {
      for (const auto* c : *p.containers->containers()) {
        const std::string run = "/frameworks/" + std::string(text(c->framework_id())) + "/executors/" + std::string(text(c->executor_id())) + "/runs/";
        const std::string real = root + run + std::string(text(c->container_id()->value()));
        paths[real] = real;
        paths[run + "latest"] = real;
      }
    }
    return Files::debug(paths);
  });
}

}  // namespace gantry::gateway_mesos
