#include "kernel/module/http_service.hpp"

#include "kernel/base/log.hpp"

#include <gantry/host_generated.h>

#include <algorithm>
#include <unordered_map>

namespace gantry::module {
namespace {

namespace fb = gantry::fb::host;
using Method = fb::HttpMethod;

constexpr base::Nanos auth_cache_time = std::chrono::seconds(5);
constexpr std::size_t auth_cache_limit = 4096;
constexpr base::Nanos default_timeout = std::chrono::seconds(30);

void finish(const ServiceReply& reply, const Error& error) {
  reply(static_cast<gantry_code>(error.code), pack_error(error));
}

std::vector<net::HttpHeader> headers_of(const flatbuffers::Vector<flatbuffers::Offset<fb::Header>>* list) {
  std::vector<net::HttpHeader> out;
  if (!list) return out;
  for (const fb::Header* h : *list) out.push_back({std::string(text(h->name())), std::string(text(h->value()))});
  return out;
}

std::string body_of(const flatbuffers::Vector<std::uint8_t>* body) {
  return body ? std::string(reinterpret_cast<const char*>(body->data()), body->size()) : std::string();
}

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Header>>> pack_headers(flatbuffers::FlatBufferBuilder& b,
                                                                                      const std::vector<net::HttpHeader>& headers) {
  std::vector<flatbuffers::Offset<fb::Header>> out;
  out.reserve(headers.size());
  for (const auto& h : headers) out.push_back(fb::CreateHeader(b, b.CreateString(h.name), b.CreateString(h.value)));
  return b.CreateVector(out);
}
auto pack_body(flatbuffers::FlatBufferBuilder& b, const std::string& body) {
  return b.CreateVector(reinterpret_cast<const std::uint8_t*>(body.data()), body.size());
}

// "Basic abc" -> "basic", "abc".
std::pair<std::string, std::string> split_authorization(std::string_view value) {
  const auto space = value.find(' ');
  std::string scheme(value.substr(0, space));
  for (char& c : scheme)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  std::string_view rest = space == std::string_view::npos ? std::string_view() : value.substr(space + 1);
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  return {std::move(scheme), std::string(rest)};
}

void deny(const net::HttpReplyPtr& reply, const std::string& realm) {
  std::string quoted;
  for (const char c : realm) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  reply->send(401, {{"WWW-Authenticate", "Basic realm=\"" + quoted + "\""}, {"Content-Type", "text/plain"}}, "authentication is required\n");
}

}  // namespace

struct HttpService::Impl : std::enable_shared_from_this<Impl> {
  Impl(net::RealLoop& l, Authenticate a) : loop(l), authenticate(std::move(a)) {}

  struct Listening {
    ServiceReply reply;
    const Instance* owner;
    std::string realm;
    std::vector<std::string> public_paths;
    std::unique_ptr<net::Listener> listener;
  };
  // One request of a client, from its arrival to the last piece of its answer.
  struct Open {
    std::uint64_t listen;  // id of the LISTEN it came through
    const Instance* owner;
    net::HttpReplyPtr reply;
    bool begun = false;
    bool gone = false;
    std::vector<std::uint64_t> watches;
  };
  struct Watcher {
    ServiceReply reply;
    std::uint64_t request;
  };
  struct Cached {
    std::string principal;
    base::Instant until;
  };

  net::RealLoop& loop;
  Authenticate authenticate;
  std::unordered_map<std::uint64_t, Listening> listeners;  // by the id of their service request
  std::unordered_map<std::uint64_t, Open> open;            // by Request.id
  std::unordered_map<std::uint64_t, Watcher> watchers;
  std::unordered_map<std::uint64_t, ServiceReply> pending;  // FETCH and PROBE under way
  std::unordered_map<std::string, Cached> cache;
  std::uint64_t last_request = 0;

  // ---- LISTEN

  void listen(const ServiceRequest& call, ServiceReply reply) {
    const auto* m = view<fb::Listen>(call.body);
    if (!m) return finish(reply, fail(Code::invalid_argument, "malformed Listen"));
    auto address = net::parse_address(text(m->address()));
    if (!address) return finish(reply, std::move(address).error());
    Listening l;
    l.owner = call.caller;
    l.realm = text(m->realm());
    if (l.realm.empty() && !address->loopback() && !m->insecure())
      return finish(reply, fail(Code::permission_denied,
                                "listening on " + address->text() +
                                    " without authentication is refused; set a realm, listen on 127.0.0.1, or write insecure = true"));
    if (!l.realm.empty() && !authenticate)
      return finish(reply, fail(Code::failed_precondition, "realm \"" + l.realm +
                                                               "\" needs an authenticator; configure one, for example [authenticator.basic]"));
    if (m->public_paths())
      for (const auto* p : *m->public_paths()) l.public_paths.emplace_back(text(p));
    net::HttpServerOptions options;
    options.max_body = m->max_body();
    auto listener = net::serve_http(
        loop, *address,
        [weak = weak_from_this(), id = call.id](net::HttpRequest request, net::HttpReplyPtr http) {
          if (const auto self = weak.lock()) self->arrived(id, std::move(request), std::move(http));
        },
        options);
    if (!listener) return finish(reply, std::move(listener).error());
    l.listener = std::move(*listener);
    l.reply = reply;
    fb::ListeningT bound;
    bound.address = l.listener->address().text();
    listeners.insert_or_assign(call.id, std::move(l));
    reply(GANTRY_MORE, pack(bound));
  }

  void arrived(std::uint64_t listen, net::HttpRequest request, net::HttpReplyPtr http) {
    const auto it = listeners.find(listen);
    if (it == listeners.end()) return;
    const Listening& l = it->second;
    const std::string_view path = std::string_view(request.target).substr(0, request.target.find('?'));
    if (l.realm.empty() || std::find(l.public_paths.begin(), l.public_paths.end(), path) != l.public_paths.end())
      return deliver(listen, std::move(request), {}, std::move(http));

    const std::string_view header = request.header("authorization");
    if (header.empty()) return deny(http, l.realm);
    auto [scheme, parameters] = split_authorization(header);
    std::string key = l.realm + '\n' + scheme + '\n' + parameters;
    if (const auto hit = cache.find(key); hit != cache.end()) {
      if (hit->second.until > loop.now()) return deliver(listen, std::move(request), hit->second.principal, std::move(http));
      cache.erase(hit);
    }
    AuthQuestion question{std::move(scheme), std::move(parameters), l.realm};
    authenticate(std::move(question), [weak = weak_from_this(), listen, key = std::move(key), request = std::move(request),
                                       http = std::move(http)](Result<std::string> who) mutable {
      if (const auto self = weak.lock()) self->judged(listen, std::move(key), std::move(request), std::move(http), std::move(who));
    });
  }

  void judged(std::uint64_t listen, std::string key, net::HttpRequest request, net::HttpReplyPtr http, Result<std::string> who) {
    const auto it = listeners.find(listen);
    if (it == listeners.end()) return http->send(503, {}, "this server is stopping\n");
    if (!who) {
      const Code code = who.error().code;
      if (code == Code::unauthenticated || code == Code::unimplemented) return deny(http, it->second.realm);
      base::log_warning("http", "cannot authenticate a request", {{"peer", request.peer}, {"error", who.error().message}});
      return http->send(503, {{"Retry-After", "1"}, {"Content-Type", "text/plain"}}, "authentication is not available now\n");
    }
    if (cache.size() >= auth_cache_limit) cache.clear();
    cache.insert_or_assign(std::move(key), Cached{*who, loop.now() + auth_cache_time});
    deliver(listen, std::move(request), std::move(*who), std::move(http));
  }

  void deliver(std::uint64_t listen, net::HttpRequest request, std::string principal, net::HttpReplyPtr http) {
    const auto it = listeners.find(listen);
    if (it == listeners.end()) return;
    const std::uint64_t id = ++last_request;
    // The kernel has judged the credentials; the module sees who it is, not the password.
    if (!principal.empty()) std::erase_if(request.headers, [](const auto& h) { return h.name == "authorization"; });
    http->on_gone([weak = weak_from_this(), id] {
      if (const auto self = weak.lock()) self->client_gone(id);
    });
    open.emplace(id, Open{listen, it->second.owner, std::move(http), false, false, {}});
    flatbuffers::FlatBufferBuilder b(512 + request.body.size());
    const auto method = b.CreateString(request.method), target = b.CreateString(request.target), peer = b.CreateString(request.peer),
               who = b.CreateString(principal);
    const auto headers = pack_headers(b, request.headers);
    const auto body = pack_body(b, request.body);
    b.Finish(fb::CreateRequest(b, id, method, target, headers, body, peer, who));
    const ServiceReply reply = it->second.reply;  // it may end the listener
    reply(GANTRY_MORE, Bytes(b.GetBufferPointer(), b.GetSize()));
  }

  // Ends a listener and what came through it. Unanswered requests get 503, streams are cut.
  void unlisten(std::unordered_map<std::uint64_t, Listening>::iterator it) {
    const std::uint64_t listen = it->first;
    Listening l = std::move(it->second);
    listeners.erase(it);
    std::vector<std::uint64_t> ids;
    for (const auto& [id, o] : open)
      if (o.listen == listen) ids.push_back(id);
    for (const std::uint64_t id : ids) {
      const auto o = open.find(id);
      if (o == open.end()) continue;
      if (!o->second.begun) o->second.reply->send(503, {{"Content-Type", "text/plain"}}, "this server is stopping\n");
      done(id);
    }
    l.listener.reset();
    finish(l.reply, fail(Code::cancelled, "no longer listening"));
  }

  // ---- RESPOND, WATCH

  void respond(const ServiceRequest& call, const ServiceReply& reply) {
    const auto* m = view<fb::Respond>(call.body);
    if (!m) return finish(reply, fail(Code::invalid_argument, "malformed Respond"));
    const auto it = open.find(m->id());
    if (it == open.end() || it->second.owner != call.caller)
      return finish(reply, fail(Code::cancelled, "request " + std::to_string(m->id()) + " is not open: answered before, or its client has gone"));
    const std::uint64_t id = it->first;
    const net::HttpReplyPtr http = it->second.reply;
    if (!it->second.begun) {
      if (m->status() < 200 || m->status() > 999)
        return finish(reply, fail(Code::invalid_argument, "status " + std::to_string(m->status()) + " is not one from 200 to 999"));
      if (!m->more()) {
        const bool gone = it->second.gone;
        http->send(m->status(), headers_of(m->headers()), body_of(m->body()));
        done(id);
        if (gone) return finish(reply, fail(Code::cancelled, "the client has gone"));
        return reply(GANTRY_OK, {});
      }
      it->second.begun = true;
      if (!http->begin(m->status(), headers_of(m->headers()))) return cut(id, reply);
    }
    if (m->body() && m->body()->size() > 0 && !http->write(body_of(m->body()))) return cut(id, reply);
    if (!m->more()) {
      http->end();
      done(id);
      return reply(GANTRY_OK, {});
    }
    http->when_room([reply] { reply(GANTRY_OK, {}); });  // at once, unless the size was announced
  }
  void cut(std::uint64_t id, const ServiceReply& reply) {
    done(id);
    finish(reply, fail(Code::cancelled, "the client has gone or read too slowly"));
  }

  void watch(const ServiceRequest& call, ServiceReply reply) {
    const auto* m = view<fb::Watch>(call.body);
    if (!m) return finish(reply, fail(Code::invalid_argument, "malformed Watch"));
    const auto it = open.find(m->id());
    if (it == open.end() || it->second.owner != call.caller || it->second.gone) return reply(GANTRY_OK, {});
    it->second.watches.push_back(call.id);
    watchers.insert_or_assign(call.id, Watcher{std::move(reply), m->id()});
  }

  void client_gone(std::uint64_t id) {
    const auto it = open.find(id);
    if (it == open.end()) return;
    it->second.gone = true;
    // A module that watches knows now; another learns it from its answer. (A client that only closed its sending side
    // still gets that answer.)
    if (it->second.begun || !it->second.watches.empty()) done(id);
  }
  // The request is over, in whichever way.
  void done(std::uint64_t id) {
    auto node = open.extract(id);
    if (!node) return;
    for (const std::uint64_t w : node.mapped().watches) {
      if (auto watcher = watchers.extract(w)) watcher.mapped().reply(GANTRY_OK, {});
    }
  }

  // ---- FETCH, PROBE

  void fetch(const ServiceRequest& call, ServiceReply reply) {
    const auto* m = view<fb::Fetch>(call.body);
    if (!m) return finish(reply, fail(Code::invalid_argument, "malformed Fetch"));
    net::HttpFetch f;
    if (m->method() && m->method()->size() > 0) f.method = text(m->method());
    f.url = text(m->url());
    f.headers = headers_of(m->headers());
    f.body = body_of(m->body());
    f.timeout = timeout_of(m->timeout_ns());
    f.max_body = m->max_body();
    f.verify = m->verify();
    f.unix_socket = text(m->unix_socket());
    if (!f.unix_socket.empty()) {
      if (auto a = net::parse_address("unix:" + f.unix_socket); !a) return finish(reply, std::move(a).error());
    }
    pending.insert_or_assign(call.id, std::move(reply));
    net::fetch_http(loop, std::move(f), [weak = weak_from_this(), id = call.id](Result<net::HttpFetched> r) {
      const auto self = weak.lock();
      if (!self) return;
      const auto node = self->pending.extract(id);
      if (!node) return;
      if (!r) return finish(node.mapped(), r.error());
      flatbuffers::FlatBufferBuilder b(512 + r->body.size());
      const auto headers = pack_headers(b, r->headers);
      const auto body = pack_body(b, r->body);
      b.Finish(fb::CreateFetched(b, static_cast<std::uint16_t>(r->status), headers, body));
      node.mapped()(GANTRY_OK, Bytes(b.GetBufferPointer(), b.GetSize()));
    });
  }

  void probe(const ServiceRequest& call, ServiceReply reply) {
    const auto* m = view<fb::Probe>(call.body);
    if (!m) return finish(reply, fail(Code::invalid_argument, "malformed Probe"));
    auto address = net::parse_address(text(m->address()));
    if (!address) return finish(reply, std::move(address).error());
    pending.insert_or_assign(call.id, std::move(reply));
    net::probe_tcp(loop, *address, timeout_of(m->timeout_ns()), [weak = weak_from_this(), id = call.id](Status s) {
      const auto self = weak.lock();
      if (!self) return;
      const auto node = self->pending.extract(id);
      if (!node) return;
      if (!s) return finish(node.mapped(), s.error());
      node.mapped()(GANTRY_OK, {});
    });
  }
  static base::Nanos timeout_of(std::uint64_t ns) {
    const auto longest = static_cast<std::uint64_t>(base::Nanos(std::chrono::hours(24)).count());
    return ns == 0 ? default_timeout : base::Nanos(static_cast<std::int64_t>(std::min(ns, longest)));
  }

  // ---- the end of a call

  void cancelled(std::uint64_t id) {
    if (const auto it = listeners.find(id); it != listeners.end()) return unlisten(it);
    if (auto node = watchers.extract(id)) {
      if (const auto it = open.find(node.mapped().request); it != open.end()) std::erase(it->second.watches, id);
      return finish(node.mapped().reply, fail(Code::cancelled, "cancelled"));
    }
    if (auto node = pending.extract(id)) finish(node.mapped(), fail(Code::cancelled, "cancelled"));
  }
};

HttpService::HttpService(net::RealLoop& loop, Authenticate authenticate) : impl_(std::make_shared<Impl>(loop, std::move(authenticate))) {}
HttpService::~HttpService() = default;

void HttpService::request(const ServiceRequest& request, ServiceReply reply) {
  switch (static_cast<Method>(request.method)) {
    case Method::LISTEN: return impl_->listen(request, std::move(reply));
    case Method::RESPOND: return impl_->respond(request, reply);
    case Method::WATCH: return impl_->watch(request, std::move(reply));
    case Method::FETCH: return impl_->fetch(request, std::move(reply));
    case Method::PROBE: return impl_->probe(request, std::move(reply));
  }
  finish(reply, fail(Code::unimplemented, "service HTTP has no method " + std::to_string(request.method)));
}
void HttpService::cancelled(std::uint64_t id) { impl_->cancelled(id); }

}  // namespace gantry::module
