// Conformance of kind `gateway`. Contract: sdk/docs/gateway.md. The clients are FakeHttp (services.hpp); the cluster is away, so
// what is looked at is how a gateway keeps house, not what its protocol says.
#include "support.hpp"

namespace gantry::conformance {
namespace {

struct Clients {
  Subject& subject;
  Check& check;

  Clients(Subject& s, Check& c) : subject(s), check(c) {
    if (!s.declared().uses("http")) check.skip("the manifest does not list \"http\" in `services`; there is nothing to send requests to");
  }
  void listening() {
    check.require(check.ok(subject.up(), "configure and start"));
    check.require(check.that(subject.wait_until([&] { return subject.http.listening(); }, 10s), "no LISTEN within 10 s of START"));
  }
  // Whether a request has been answered, wholly or by the beginning of a stream.
  bool answered(std::uint64_t id, Nanos limit = 10s) {
    return subject.wait_until([&] { return subject.http.response(id).status != 0; }, limit);
  }
  void works_still() {
    const auto id = subject.http.send("GET", "/");
    check.that(id != 0 && answered(id), "an ordinary GET / after that is not answered");
  }
};

}  // namespace

GANTRY_CONFORMANCE(gateway, serves_at_once, "it listens after START although no master leads", "call LISTEN in start(); do not wait for the cluster there") {
  Clients clients(subject, check);
  subject.cluster.accept = false;
  clients.listening();
}

GANTRY_CONFORMANCE(gateway, loopback_by_default, "with its default settings it listens on loopback only",
                   "let the operator's own `insecure = true` or a realm be what allows other addresses") {
  Clients clients(subject, check);
  clients.listening();
  const auto& l = subject.http.listen();
  check.that(!l.insecure, "LISTEN says insecure = true by default");
  if (l.realm.empty())
    check.that(l.address.starts_with("127.") || l.address.starts_with("[::1]") || l.address.starts_with("localhost") || l.address.starts_with("unix:"),
               "LISTEN asks for " + l.address + " without a realm");
}

GANTRY_CONFORMANCE(gateway, answers_every_request, "each request is answered, known path or not, whatever the method",
                   "answer 404 to what you do not know; an unanswered request holds its connection") {
  Clients clients(subject, check);
  clients.listening();
  std::vector<std::pair<std::string, std::uint64_t>> sent;
  for (const char* method : {"GET", "POST", "DELETE", "BREW"})
    for (const char* path : {"/", "/conformance-no-such-path", "/conformance/no?such=path"})
      sent.emplace_back(std::string(method) + " " + path, subject.http.send(method, path));
  for (const auto& [what, id] : sent) check.that(clients.answered(id), what + " is not answered within 10 s");
}

GANTRY_CONFORMANCE(gateway, odd_requests, "requests of strange bytes do no harm", "take nothing for granted in target, headers and body") {
  Clients clients(subject, check);
  clients.listening();
  std::vector<std::string> targets{"", "?", "//", "*", "/%", "/%zz%2", "/..//../etc", std::string(20000, '/'), "/\xff\xfe?\x01=\x02", "http://x/y"};
  for (const auto& t : targets) {
    fb::host::RequestT r;
    r.method = t.size() % 2 ? "POST" : "GET";
    r.target = t;
    r.headers.push_back(std::make_unique<fb::host::HeaderT>());
    r.headers.back()->name = "accept";
    r.headers.back()->value = ";;,=\xff";
    r.headers.push_back(std::make_unique<fb::host::HeaderT>());
    r.headers.back()->name = "content-type";
    r.headers.back()->value = "application/json";
    r.body.assign(300, '[');
    const auto id = subject.http.send(std::move(r));
    check.that(clients.answered(id), "a request for \"" + t.substr(0, 40) + "\" is not answered within 10 s");
  }
  clients.works_still();
}

GANTRY_CONFORMANCE(gateway, gone_clients, "clients that go before they are answered do no harm", "CANCELLED from RESPOND means that nobody listens any more") {
  Clients clients(subject, check);
  clients.listening();
  for (int i = 0; i < 50; ++i) subject.http.disconnect(subject.http.send("GET", "/"));
  subject.pass(100ms);
  clients.works_still();
}

GANTRY_CONFORMANCE(gateway, stop_ends_listening, "STOP ends the listener", "cancel the LISTEN in stop()") {
  Clients clients(subject, check);
  clients.listening();
  check.ok(subject.stop(), "STOP");
  check.that(subject.wait_until([&] { return !subject.http.listening(); }, 5s), "it listens 5 s after STOP");
}

}  // namespace gantry::conformance
