#include "mesos.hpp"

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
  address_ = s.text("address");
  advertise_ = s.text("advertise");
  realm_ = s.text("realm");
  insecure_ = s.flag("insecure");
  max_body_ = static_cast<std::uint64_t>(s.number("max_body"));
  scheduler_options_.heartbeat_interval = s.duration("heartbeat_interval");
  scheduler_options_.max_frameworks = static_cast<std::size_t>(s.number("max_frameworks"));
  if (!advertise_.empty()) {
    const auto [name, port] = host_and_port(advertise_);
    if (name.empty() || port < 1 || port > 65535)
      co_return fail(Code::invalid_argument, "advertise \"" + advertise_ + "\" is not host:port, as in \"master1.example.com:5050\"",
                     "advertise");
  }
  masters_ = std::make_unique<Masters>(host());
  masters_->self().cluster = s.text("cluster");
  masters_->self().start_wall_ns = host().wall_ns();
  scheduler_ = std::make_unique<SchedulerApi>(host(), *masters_, scheduler_options_,
                                              [this](const ExchangePtr& e) { redirect(e); });
  scheduler_->routes(router_);
  ReadsOptions reads;
  reads.heartbeat_interval = scheduler_options_.heartbeat_interval;
  const char* authenticated = realm_.empty() ? "false" : "true";
  for (const char* flag : {"authenticate_http_frameworks", "authenticate_http_readonly", "authenticate_http_readwrite"})
    reads.flags.emplace_back(flag, authenticated);
  reads_ = std::make_unique<Reads>(host(), *masters_, std::move(reads), [this](const ExchangePtr& e) { redirect(e); });
  reads_->routes(router_);
  co_return ok;
}

Task<Status> Mesos::start() {
  auto listening = listen();
  if (auto s = co_await std::move(listening); !s)
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
  if (reads_) reads_->stop();
  if (scheduler_) scheduler_->stop();
  if (masters_) masters_->stop();
  if (listener_) host().cancel_request(listener_);
  co_return ok;
}

Task<Result<fb::HealthT>> Mesos::health() {
  fb::HealthT h;
  if (!trouble_.empty()) {
    h.state = fb::HealthState::FAILED;
    h.message = trouble_;
  }
  co_return h;
}

Task<Status> Mesos::listen() {
  fb::host::ListenT l;
  l.address = address_;
  l.realm = realm_;
  l.insecure = insecure_;
  l.max_body = max_body_;
  l.public_paths = {"/health", "/master/health", "/version", "/master/version", "/redirect", "/master/redirect"};
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
  if (!route) return exchange->answer(404);
  if (!route->leader_only || masters_->view().leading) return serve(exchange, *route);
  masters_->refresh([this, exchange, route] { gate(exchange, *route); });
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
