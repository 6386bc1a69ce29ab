#include "kernel/module/http_service.hpp"

#include <gantry/host_generated.h>

#include <gtest/gtest.h>

#include <map>

namespace gantry::module {
namespace {

namespace fb = gantry::fb::host;
using namespace std::chrono_literals;

class FakeInstance final : public Instance {
 public:
  explicit FakeInstance(std::string name) : name_(std::move(name)) {}
  [[nodiscard]] const std::string& kind() const override { return kind_; }
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] State state() const override { return {}; }
  [[nodiscard]] Counters counters() const override { return {}; }
  std::uint64_t call(std::uint32_t, Buffer, OnReply, CallOptions) override { return 0; }
  void cancel(std::uint64_t) override {}

 private:
  std::string kind_ = "framework", name_;
};

struct Chunk {
  gantry_code code;
  std::vector<std::uint8_t> body;
};

struct HttpServiceTest : testing::Test {
  std::unique_ptr<net::RealLoop> loop = net::make_real_loop(1);
  FakeInstance me{"me"}, other{"other"};
  std::unique_ptr<HttpService> service = std::make_unique<HttpService>(*loop);
  std::map<std::uint64_t, std::vector<Chunk>> replies;
  std::uint64_t last_id = 100;
  std::function<void(const fb::RequestT&)> on_request;
  std::vector<fb::RequestT> requests;

  template <class T>
  std::uint64_t ask(fb::HttpMethod method, const T& message, Instance* who = nullptr) {
    const std::uint64_t id = ++last_id;
    const Buffer body = pack(message);
    service->request({who ? who : &me, static_cast<std::uint32_t>(method), body, id}, [this, id](gantry_code code, Bytes bytes) {
      replies[id].push_back({code, {bytes.begin(), bytes.end()}});
      if (code == GANTRY_MORE && replies[id].size() > 1) {
        requests.push_back(*unpack<fb::Request>(bytes));
        if (on_request) on_request(requests.back());
      }
    });
    return id;
  }
  Error error_of(std::uint64_t id) {
    EXPECT_FALSE(replies[id].empty());
    if (replies[id].empty()) return {};
    return unpack_error(replies[id].back().code, replies[id].back().body);
  }
  gantry_code code_of(std::uint64_t id) { return replies[id].empty() ? 999 : replies[id].back().code; }

  std::string url;
  std::uint64_t listen(fb::ListenT m = {}) {
    if (m.address.empty()) m.address = "127.0.0.1:0";
    const auto id = ask(fb::HttpMethod::LISTEN, m);
    if (code_of(id) == GANTRY_MORE) url = "http://" + unpack<fb::Listening>(replies[id][0].body)->address;
    return id;
  }
  std::uint64_t respond(std::uint64_t id, std::uint16_t status, std::string_view body, bool more = false, Instance* who = nullptr) {
    fb::RespondT m;
    m.id = id;
    m.status = status;
    m.body.assign(body.begin(), body.end());
    m.more = more;
    return ask(fb::HttpMethod::RESPOND, m, who);
  }
  void run() {
    const auto guard = loop->after(20s, [this] {
      ADD_FAILURE() << "the loop never stopped";
      loop->stop();
    });
    loop->run();
    loop->cancel(guard);
  }
  Result<net::HttpFetched> get(const std::string& path, std::vector<net::HttpHeader> headers = {}) {
    Result<net::HttpFetched> out = fail(Code::unknown, "never called");
    net::HttpFetch f;
    f.url = url + path;
    f.headers = std::move(headers);
    net::fetch_http(*loop, std::move(f), [&](Result<net::HttpFetched> r) {
      out = std::move(r);
      loop->stop();
    });
    run();
    return out;
  }
};

TEST_F(HttpServiceTest, ListensAndAnswers) {
  listen();
  on_request = [&](const fb::RequestT& r) { EXPECT_EQ(code_of(respond(r.id, 201, "made " + r.target)), GANTRY_OK); };
  const auto r = get("/v2/apps?x=1", {{"X-A", "b"}});
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->status, 201u);
  EXPECT_EQ(r->body, "made /v2/apps?x=1");
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].method, "GET");
  EXPECT_EQ(requests[0].principal, "");
  bool found = false;
  for (const auto& h : requests[0].headers) found = found || (h->name == "x-a" && h->value == "b");
  EXPECT_TRUE(found);
  EXPECT_EQ(error_of(respond(requests[0].id, 200, "again")).code, Code::cancelled);
}

TEST_F(HttpServiceTest, StreamsInPieces) {
  listen();
  on_request = [&](const fb::RequestT& r) {
    EXPECT_EQ(code_of(respond(r.id, 200, "", true)), GANTRY_OK);
    loop->post([this, id = r.id] {
      EXPECT_EQ(code_of(respond(id, 0, "one ", true)), GANTRY_OK);
      EXPECT_EQ(code_of(respond(id, 0, "two", false)), GANTRY_OK);
      EXPECT_EQ(code_of(respond(id, 0, "late", false)), GANTRY_CANCELLED);
    });
  };
  const auto r = get("/");
  ASSERT_TRUE(r);
  EXPECT_EQ(r->body, "one two");
}

TEST_F(HttpServiceTest, OnlyTheOwnerAnswers) {
  listen();
  on_request = [&](const fb::RequestT& r) {
    EXPECT_EQ(code_of(respond(r.id, 200, "stolen", false, &other)), GANTRY_CANCELLED);
    EXPECT_EQ(code_of(respond(r.id, 0, "no status")), GANTRY_INVALID_ARGUMENT);
    respond(r.id, 200, "mine");
  };
  EXPECT_EQ(get("/")->body, "mine");
}

TEST_F(HttpServiceTest, OpenDoorsNeedAWord) {
  fb::ListenT m;
  m.address = "0.0.0.0:0";
  const auto refused = listen(m);
  EXPECT_EQ(error_of(refused).code, Code::permission_denied);
  EXPECT_NE(error_of(refused).message.find("insecure = true"), std::string::npos);
  m.insecure = true;
  EXPECT_EQ(code_of(listen(m)), GANTRY_MORE);
  m.realm = "r";
  EXPECT_EQ(error_of(listen(m)).code, Code::failed_precondition);
  m.address = "nowhere";
  EXPECT_EQ(error_of(listen(m)).code, Code::invalid_argument);
}

TEST_F(HttpServiceTest, AnAddressInUseIsTold) {
  listen();
  fb::ListenT m;
  m.address = url.substr(7);
  EXPECT_NE(error_of(listen(m)).message.find("already in use"), std::string::npos);
}

TEST_F(HttpServiceTest, AuthenticatesAndRemembersForAWhile) {
  int asked = 0;
  service = std::make_unique<HttpService>(*loop, [&](AuthQuestion q, Function<void(Result<std::string>)> done) {
    ++asked;
    EXPECT_EQ(q.realm, "gantry");
    loop->post([q, done = std::move(done)]() mutable {
      if (q.scheme == "basic" && q.parameters == "good") return done(std::string("alice"));
      if (q.scheme == "broken") return done(fail(Code::unavailable, "no authenticator answers"));
      done(fail(q.scheme == "basic" ? Code::unauthenticated : Code::unimplemented, "no"));
    });
  });
  fb::ListenT m;
  m.realm = "gantry";
  m.public_paths = {"/ping"};
  listen(m);
  on_request = [&](const fb::RequestT& r) { respond(r.id, 200, "hello " + r.principal); };
  auto r = get("/");
  EXPECT_EQ(r->status, 401u);
  bool challenged = false;
  for (const auto& h : r->headers) challenged = challenged || (h.name == "www-authenticate" && h.value == "Basic realm=\"gantry\"");
  EXPECT_TRUE(challenged);
  EXPECT_EQ(get("/ping?x")->body, "hello ");
  EXPECT_EQ(get("/ping/more")->status, 401u);
  EXPECT_EQ(get("/", {{"Authorization", "Basic bad"}})->status, 401u);
  EXPECT_EQ(get("/", {{"Authorization", "Digest x"}})->status, 401u);
  EXPECT_EQ(get("/", {{"Authorization", "Broken x"}})->status, 503u);
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(get("/", {{"Authorization", "Basic good"}})->body, "hello alice");
  EXPECT_EQ(get("/", {{"Authorization", "bAsIc  good"}})->body, "hello alice");
  EXPECT_EQ(asked, 4);
  for (const auto& h : requests.back().headers) EXPECT_NE(h->name, "authorization");
}

TEST_F(HttpServiceTest, WatchTellsWhenTheClientHasGone) {
  listen();
  std::uint64_t watch = 0, request = 0;
  on_request = [&](const fb::RequestT& r) {
    request = r.id;
    fb::WatchT w;
    w.id = r.id;
    watch = ask(fb::HttpMethod::WATCH, w);
    respond(r.id, 200, "event\n", true);
    EXPECT_TRUE(replies[watch].empty());
  };
  net::HttpFetch f;
  f.url = url + "/events";
  f.timeout = 30ms;
  net::fetch_http(*loop, std::move(f), [&](Result<net::HttpFetched> r) {
    EXPECT_FALSE(r);
    loop->after(10ms, [&] { loop->stop(); });
  });
  run();
  EXPECT_EQ(code_of(watch), GANTRY_OK);
  EXPECT_EQ(code_of(respond(request, 0, "x", true)), GANTRY_CANCELLED);
  fb::WatchT w;
  w.id = request;
  EXPECT_EQ(code_of(ask(fb::HttpMethod::WATCH, w)), GANTRY_OK);
}

TEST_F(HttpServiceTest, CancellingTheListenerEndsWhatCameThroughIt) {
  const auto id = listen();
  std::uint64_t watch = 0;
  on_request = [&](const fb::RequestT& r) {
    fb::WatchT w;
    w.id = r.id;
    watch = ask(fb::HttpMethod::WATCH, w);
    loop->post([&] { service->cancelled(id); });
  };
  const auto r = get("/");
  ASSERT_TRUE(r);
  EXPECT_EQ(r->status, 503u);
  EXPECT_EQ(code_of(watch), GANTRY_OK);
  EXPECT_EQ(code_of(id), GANTRY_CANCELLED);
  EXPECT_EQ(code_of(respond(requests[0].id, 200, "late")), GANTRY_CANCELLED);
  EXPECT_FALSE(get("/"));  // nobody listens
}

TEST_F(HttpServiceTest, LargeBodiesAreRefused) {
  fb::ListenT m;
  m.max_body = 10;
  listen(m);
  net::HttpFetch f;
  f.method = "POST";
  f.url = url + "/";
  f.body = std::string(11, 'x');
  unsigned status = 0;
  net::fetch_http(*loop, std::move(f), [&](Result<net::HttpFetched> r) {
    status = r ? r->status : 0;
    loop->stop();
  });
  run();
  EXPECT_EQ(status, 413u);
  EXPECT_TRUE(requests.empty());
}

TEST_F(HttpServiceTest, FetchesAndProbes) {
  listen();
  on_request = [&](const fb::RequestT& r) { respond(r.id, 404, std::string(r.body.begin(), r.body.end())); };
  fb::FetchT f;
  f.method = "POST";
  f.url = url + "/x";
  f.body = {'a', 'b'};
  const auto fetched = ask(fb::HttpMethod::FETCH, f);
  fb::FetchT hopeless;
  hopeless.url = "http://[::1:/";
  const auto failed = ask(fb::HttpMethod::FETCH, hopeless);
  const auto cancelled = ask(fb::HttpMethod::FETCH, f);
  service->cancelled(cancelled);
  EXPECT_EQ(code_of(cancelled), GANTRY_CANCELLED);
  fb::ProbeT p;
  p.address = url.substr(7);
  p.timeout_ns = 5'000'000'000;
  const auto open = ask(fb::HttpMethod::PROBE, p);
  p.address = "127.0.0.1:1";
  const auto shut = ask(fb::HttpMethod::PROBE, p);
  loop->after(60ms, [&] { loop->stop(); });
  run();
  ASSERT_EQ(code_of(fetched), GANTRY_OK);
  const auto answer = unpack<fb::Fetched>(replies[fetched][0].body);
  EXPECT_EQ(answer->status, 404);
  EXPECT_EQ(answer->body, (std::vector<std::uint8_t>{'a', 'b'}));
  EXPECT_EQ(code_of(failed), GANTRY_INVALID_ARGUMENT);
  EXPECT_EQ(replies[cancelled].size(), 1u);
  EXPECT_EQ(code_of(open), GANTRY_OK);
  EXPECT_EQ(code_of(shut), GANTRY_UNAVAILABLE);
}

TEST_F(HttpServiceTest, RefusesNonsense) {
  const std::vector<std::uint8_t> junk(40, 0xff);
  for (std::uint32_t method : {16u, 17u, 18u, 19u, 20u, 99u}) {
    gantry_code code = 0;
    service->request({&me, method, junk, ++last_id}, [&](gantry_code c, Bytes) { code = c; });
    EXPECT_EQ(code, method == 99 ? GANTRY_UNIMPLEMENTED : GANTRY_INVALID_ARGUMENT) << method;
  }
}

TEST_F(HttpServiceTest, MayEndWithRequestsOpen) {
  listen();
  on_request = [&](const fb::RequestT&) {
    loop->post([&] {
      service.reset();
      loop->stop();
    });
  };
  net::HttpFetch f;
  f.url = url + "/";
  net::fetch_http(*loop, std::move(f), [](Result<net::HttpFetched>) {});
  run();
}

}  // namespace
}  // namespace gantry::module
