#include "mesos.hpp"

#include <gantry/control_generated.h>

#include <algorithm>

#include <arpa/inet.h>
#include <netdb.h>
#include <unistd.h>

namespace gantry::gateway_mesos {
namespace {

// The first IPv4 address of a name; blocks.
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

}  // namespace

Mesos::Mesos() = default;
Mesos::~Mesos() = default;

Task<Status> Mesos::configure(Settings s) {
  if (s.reload()) co_return ok;
  // What the first made has timers, routes and perhaps a listener by now.
  if (masters_) co_return fail(Code::failed_precondition, "the gateway is configured already; settings change with a restart");
  const auto is = [roles = s.roles()](const char* role) { return std::find(roles.begin(), roles.end(), role) != roles.end(); };
  of_agent_ = is("agent");
  of_master_ = is("master") || !of_agent_;
  address_ = s.text("address");
  advertise_ = s.text("advertise");
  insecure_ = s.flag("insecure");
  max_body_ = static_cast<std::uint64_t>(s.number("max_body"));
  scheduler_options_.heartbeat_interval = s.duration("heartbeat_interval");
  scheduler_options_.max_frameworks = static_cast<std::size_t>(s.number("max_frameworks"));
  auto limits = RateLimits::parse(s.list("rate_limits"), s.text("default_rate_limit"));
  if (!limits) co_return fail(Code::invalid_argument, limits.error().message, "rate_limits");
  scheduler_options_.limits = std::move(*limits);
  if (!advertise_.empty()) {
    const auto [name, port] = host_and_port(advertise_);
    if (name.empty() || port < 1 || port > 65535)
      co_return fail(Code::invalid_argument, "advertise \"" + advertise_ + "\" is not host:port, as in \"master1.example.com:5050\"",
                     "advertise");
  }
  doors_ = std::make_unique<Doors>(host());
  for (const std::string& who : s.list("authenticate"))
    for (const char* realm : who == "frameworks" ? std::vector{kSchedulerRealm}
                             : who == "readonly" ? std::vector{kReadonlyRealm, kAgentReadonlyRealm}
                                                 : std::vector{kReadwriteRealm, kAgentReadwriteRealm})
      doors_->close(realm);
  access_ = std::make_unique<Access>(host());
  agent_options_.address = s.text("agent_address");
  agent_options_.advertise = s.text("agent_advertise");
  agent_options_.insecure = insecure_;
  agent_options_.authenticate_executors = s.flag("authenticate_executors");
  agent_options_.max_body = max_body_;
  agent_options_.start_wall_ns = host().wall_ns();
  masters_ = std::make_unique<Masters>(host());
  masters_->self().cluster = s.text("cluster");
  masters_->self().start_wall_ns = host().wall_ns();
  scheduler_ = std::make_unique<SchedulerApi>(
      host(), *masters_, *access_, scheduler_options_, [this](const ExchangePtr& e) { redirect(e); },
      [this](const std::string& framework_id) -> std::optional<std::string> {
        const auto row = reads_->cluster().framework_row(framework_id);
        if (!row || row->row->completed()) return std::nullopt;
        return std::string(text(row->info->user()));
      });
  scheduler_->routes(router_);
  ReadsOptions reads;
  reads.heartbeat_interval = scheduler_options_.heartbeat_interval;
  for (const auto& [flag, realm] : {std::pair{"authenticate_http_frameworks", kSchedulerRealm},
                                    {"authenticate_http_readonly", kReadonlyRealm},
                                    {"authenticate_http_readwrite", kReadwriteRealm}})
    reads.flags.emplace_back(flag, doors_->closed(realm) ? "true" : "false");
  writes_ = std::make_unique<Writes>(
      host(), *masters_, *access_,
      [this](const std::string& framework_id) {
        const auto row = reads_->cluster().framework_row(framework_id);
        return row ? std::string(text(row->info->principal())) : std::string();
      },
      [this](const ExchangePtr& e) { redirect(e); });
  reads.write = [this](const ExchangePtr& e, const fb::master::Call& call) { writes_->call(e, call); };
  files_ = std::make_unique<MasterFiles>(host(), *access_);
  files_->routes(router_);
  reads.files = [this](const ExchangePtr& e, const fb::master::Call& call, std::function<void(const fb::master::ResponseT&)> answer) {
    files_->call(e, call, std::move(answer));
  };
  reads.logging_level = [this] { return writes_->logging_level(); };
  reads_ = std::make_unique<Reads>(host(), *masters_, *access_, std::move(reads), [this](const ExchangePtr& e) { redirect(e); });
  reads_->routes(router_);
  writes_->routes(
      router_,
      [this](const ExchangePtr& e) { reads_->serve(e, [](const View& v, const legacy::About&) { return legacy::quota(v); }); },
      [this](const ExchangePtr& e) { reads_->serve(e, [](const View& v, const legacy::About&) { return legacy::weights(v); }); });
  writes_->maintenance_routes(
      router_, [this](const ExchangePtr& e) { reads_->serve(e, [](const View& v, const legacy::About&) { return legacy::schedule(v); }); });
  co_return ok;
}

// One daemon may be master and agent: each has a listener of its own.
Task<Status> Mesos::start() {
  access_->start();
  if (of_master_) {
    auto starting = start_master();
    if (auto s = co_await std::move(starting); !s) co_return s;
  }
  if (of_agent_) {
    agent_ = std::make_unique<AgentApi>(host(), *doors_, *access_, agent_options_);
    auto starting = agent_->start();
    if (auto s = co_await std::move(starting); !s) co_return s;
  }
  co_return ok;
}

Task<Status> Mesos::start_master() {
  auto listening = listen();
  if (auto s = co_await std::move(listening); !s && s.error().code == Code::permission_denied)
    co_return fail(Code::permission_denied, "serving the Mesos API on " + address_ +
                                                " without authentication is refused; write authenticate = [\"frameworks\", \"readonly\", "
                                                "\"readwrite\"], listen on 127.0.0.1, or write insecure = true");
  else if (!s)
    co_return std::move(s.error()).because("cannot serve the Mesos API on " + address_);
  const Self& self = masters_->self();
  if (self.ip.empty() || self.ip == "0.0.0.0") {
    auto looking = host().offload([name = self.hostname]() -> Result<std::string> { return resolve(name); });
    const Result<std::string> ip = co_await std::move(looking);
    masters_->self().ip = ip && !ip->empty() ? *ip : "127.0.0.1";
  }
  masters_->start();
  reads_->start();
  host().info("Mesos API ready", {{"address", self.host_port()}});
  co_return ok;
}

Task<Status> Mesos::stop() {
  stopping_ = true;
  // Absent when the settings were refused or nothing was started.
  if (agent_) agent_->stop();
  if (reads_) reads_->stop();
  if (scheduler_) scheduler_->stop();
  if (masters_) masters_->stop();
  if (access_) access_->stop();
  if (listener_) host().cancel_request(listener_);
  co_return ok;
}

Task<Result<fb::HealthT>> Mesos::health() {
  fb::HealthT h;
  const std::string& trouble = trouble_.empty() && agent_ ? agent_->trouble() : trouble_;
  if (!trouble.empty()) {
    h.state = fb::HealthState::FAILED;
    h.message = trouble;
  }
  co_return h;
}

Task<Status> Mesos::listen() {
  fb::host::ListenT l;
  l.address = address_;
  // Credentials are judged here, each in the realm of its path. With every realm closed that is as good as a listener's own.
  l.insecure = insecure_ || (doors_->closed(kSchedulerRealm) && doors_->closed(kReadonlyRealm) && doors_->closed(kReadwriteRealm));
  l.max_body = max_body_;
  const Buffer body = pack(l);
  Promise<Status> done;
  listener_ = host().stream(fb::host::Service::HTTP, static_cast<std::uint32_t>(fb::host::HttpMethod::LISTEN), body,
                            [this, done](gantry_code code, Bytes bytes) {
                              if (code == GANTRY_MORE) {
                                if (done.is_set()) return arrived(bytes);
                                if (const auto* b = view<fb::host::Listening>(bytes)) bound(text(b->address()));
                                return done.set(ok);
                              }
                              listener_ = 0;
                              const Error why = code < 0 ? unpack_error(code, bytes) : fail(Code::unavailable, "the listener closed");
                              if (!done.is_set()) return done.set(Status(why));
                              if (stopping_) return;
                              trouble_ = "the listener has closed: " + why.message;
                              host().error(trouble_);
                            });
  co_return co_await done.get();
}

void Mesos::bound(std::string_view address) {
  Self& self = masters_->self();
  const auto [at, port] = host_and_port(address);
  self.port = static_cast<std::uint16_t>(port);
  self.ip = at;
  self.hostname = at;
  if (!advertise_.empty()) {
    const auto [name, announced] = host_and_port(advertise_);
    self.hostname = name;
    self.port = static_cast<std::uint16_t>(announced);
    in_addr parsed{};
    if (::inet_pton(AF_INET, name.c_str(), &parsed) == 1) self.ip = name;
    else if (at == "0.0.0.0" || at == "::") self.ip.clear();  // start() looks it up
  } else if (at == "0.0.0.0" || at == "::") {
    char name[256] = {};
    self.hostname = ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
    self.ip.clear();
  }
}

void Mesos::arrived(Bytes bytes) {
  if (!view<fb::host::Request>(bytes)) return;
  auto exchange = std::make_shared<Exchange>(host(), Buffer(bytes));
  if (stopping_) return exchange->text(503, "This master is stopping");
  Route* route = router_.find(*exchange);
  if (!route) return exchange->text(404, "404 Not Found.");
  doors_->enter(exchange, route->realm, [this, exchange, route] { admitted(exchange, *route); });
}

void Mesos::admitted(const ExchangePtr& exchange, Route& route) {
  if (!route.leader_only || masters_->view().leading) return serve(exchange, route);
  masters_->refresh([this, exchange, at = &route] { gate(exchange, *at); });
}

// Before anything else is looked at: 307 to the leader, 503 without one or while this one recovers (B1).
void Mesos::gate(const ExchangePtr& exchange, Route& route) {
  if (masters_->view().leading) return serve(exchange, route);
  redirect(exchange);
}

void Mesos::redirect(const ExchangePtr& exchange) {
  const MasterView& v = masters_->view();
  if (v.recovering || v.leading) return exchange->text(503, "Master has not finished recovery");
  if (v.leader.empty()) return exchange->text(503, "No leader elected");
  const std::string path = exchange->target().substr(0, exchange->target().find('?'));
  std::string below = path == "/master" || path.starts_with("/master/") ? path : "/master" + path;
  exchange->answer(307, {}, {}, {{"Location", "//" + v.leader + below + std::string(exchange->query_text())}});
}

void Mesos::serve(const ExchangePtr& exchange, Route& route) {
  if (!Router::allow(route, *exchange)) return;
  try {
    route.handler(exchange);
  } catch (const std::exception& e) {
    host().error("a request failed", {{"path", exchange->path()}, {"error", e.what()}});
    exchange->text(500, "Internal error; it has been logged");
  }
}

}  // namespace gantry::gateway_mesos
