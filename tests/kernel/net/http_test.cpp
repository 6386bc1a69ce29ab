#include "kernel/base/fd.hpp"
#include "kernel/net/http_parse.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <cerrno>
#include <csignal>
#include <functional>
#include <sys/socket.h>

namespace gantry::net {
namespace {

using namespace std::chrono_literals;

// ---- parsing

TEST(HttpParseTest, ReadsARequestHoweverItIsCut) {
  const std::string text =
      "\r\nPOST /v2/apps?force=true HTTP/1.1\r\nHost: h\r\nX-Thing: Value \r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
  const std::size_t rest = text.find("GET /");
  for (std::size_t step = 1; step < text.size(); ++step) {
    RequestParser parser(4096, 4096);
    std::string in;
    HttpProgress p;
    std::size_t fed = 0, consumed = 0;
    while (p.state == HttpProgress::State::more && fed < text.size()) {
      const std::size_t n = std::min(step, text.size() - fed);
      in += text.substr(fed, n);
      fed += n;
      p = parser.feed(in);
      in.erase(0, p.consumed);
      consumed += p.consumed;
    }
    ASSERT_EQ(p.state, HttpProgress::State::done) << step << " " << p.error;
    EXPECT_EQ(consumed, rest) << step;
    const HttpRequest r = parser.take();
    EXPECT_EQ(r.method, "POST");
    EXPECT_EQ(r.target, "/v2/apps?force=true");
    EXPECT_EQ(r.header("x-thing"), "Value");
    EXPECT_EQ(r.body, "hello world");
  }
}

TEST(HttpParseTest, AnEmptyChunkedBodyMayComeByteByByte) {
  const std::string text = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n";
  RequestParser parser(4096, 4096);
  std::string in;
  HttpProgress p;
  for (const char c : text) {
    ASSERT_EQ(p.state, HttpProgress::State::more);
    in += c;
    p = parser.feed(in);
    in.erase(0, p.consumed);
  }
  EXPECT_EQ(p.state, HttpProgress::State::done) << p.error;
}

TEST(HttpParseTest, JudgesBadRequests) {
  const auto status_of = [](std::string text) {
    RequestParser parser(1000, 100);
    const auto p = parser.feed(text);
    return p.state == HttpProgress::State::bad ? p.status : p.state == HttpProgress::State::done ? 200 : 100;
  };
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 200u);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\n"), 100u);
  EXPECT_EQ(status_of("\x16\x03\x01 hello\r\n\r\n"), 400u);
  EXPECT_EQ(status_of("GET /\r\n\r\n"), 400u);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nbroken header\r\n\r\n"), 400u);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400u);
  EXPECT_EQ(status_of("GET / HTTP/3.0\r\n\r\n"), 505u);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nA: " + std::string(2000, 'x') + "\r\n\r\n"), 431u);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n"), 413u);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n70\r\n" + std::string(0x70, 'x')), 413u);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400u);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), 400u);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400u);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nabc"), 501u);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), 400u);
  EXPECT_FALSE(parse_request(as_bytes("nonsense\r\n\r\n")));
  EXPECT_EQ(parse_request(as_bytes("GET / HT")).error().code, Code::out_of_range);
  EXPECT_EQ(parse_request(as_bytes("PUT /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"))->body, "ok");
}

TEST(HttpParseTest, AHeadInManyPiecesIsLimitedToo) {
  RequestParser parser(1000, 100);
  std::string text = "GET / HTTP/1.1\r\n";
  HttpProgress p;
  for (int i = 0; i < 1000 && p.state == HttpProgress::State::more; ++i) {
    text += "a: b\r\n";
    p = parser.feed(text);
    text.erase(0, p.consumed);
  }
  EXPECT_EQ(p.state, HttpProgress::State::bad);
  EXPECT_EQ(p.status, 431u);
}

TEST(HttpParseTest, ReadsUrls) {
  auto u = parse_url("https://example.org/a?b=c#d");
  ASSERT_TRUE(u);
  EXPECT_TRUE(u->tls);
  EXPECT_EQ(u->port, 443);
  EXPECT_EQ(u->target, "/a?b=c");
  u = parse_url("HTTP://[::1]:8080?x");
  ASSERT_TRUE(u);
  EXPECT_EQ(u->host, "::1");
  EXPECT_EQ(u->port, 8080);
  EXPECT_EQ(u->target, "/?x");
  EXPECT_EQ(u->authority, "[::1]:8080");
  for (const char* bad : {"", "ftp://x/", "http://", "http://u:p@h/", "http:///x", "http://h:99999/", "http://h/a b", "http://h/\r\nX: y"})
    EXPECT_FALSE(parse_url(bad)) << bad;
}

TEST(HttpParseTest, HeadersCannotBeSmuggledIntoAnswers) {
  const std::string head = response_head(200, {{"x-a", "1\r\nevil: 1"}, {"b\r\nc", "2"}, {"Content-Length", "7"}}, {.length = 3});
  EXPECT_EQ(head.find("\nevil"), std::string::npos);
  EXPECT_EQ(head.find("\nc:"), std::string::npos);
  EXPECT_EQ(head.find("Content-Length: 7"), std::string::npos);
  EXPECT_NE(head.find("Content-Length: 3\r\n"), std::string::npos);
}

// ---- over sockets

struct HttpTest : testing::Test {
  std::unique_ptr<RealLoop> loop = make_real_loop(1);
  std::unique_ptr<Listener> listener;
  HttpServerOptions options;
  std::vector<HttpRequest> requests;
  std::vector<HttpReplyPtr> replies;
  std::function<void(HttpRequest&, HttpReplyPtr&)> handler;

  // A raw client: sends bytes, gathers what comes until the server ends the connection or `until` appears.
  struct Raw {
    base::Fd fd;
    std::string got;
    bool ended = false;
    std::uint64_t watch = 0;
  };

  void serve() {
    auto l = serve_http(*loop, *parse_address("127.0.0.1:0"), [this](HttpRequest request, HttpReplyPtr reply) {
      requests.push_back(request);
      if (handler) {
        handler(requests.back(), reply);
      } else {
        reply->send(200, {{"X-Target", request.target}}, request.method + " " + request.body);
      }
      if (reply) replies.push_back(std::move(reply));
    }, options);
    ASSERT_TRUE(l) << l.error().message;
    listener = std::move(*l);
  }
  void run() {
    const auto guard = loop->after(20s, [this] {
      ADD_FAILURE() << "the loop never stopped";
      loop->stop();
    });
    loop->run();
    loop->cancel(guard);
  }
  std::unique_ptr<Raw> raw(std::string_view text, std::string until = {}, int receive_buffer = 0) {
    auto r = std::make_unique<Raw>();
    r->fd = base::Fd(::socket(AF_INET, SOCK_STREAM, 0));
    if (receive_buffer) ::setsockopt(r->fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(listener->address().port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(r->fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    put(*r, text);
    if (receive_buffer) return r;  // a client that does not read
    r->watch = loop->watch_readable(r->fd.get(), [this, p = r.get(), until] {
      char buffer[65536];
      const auto n = ::recv(p->fd.get(), buffer, sizeof buffer, 0);
      if (n > 0) p->got.append(buffer, static_cast<std::size_t>(n));
      if (n <= 0) {
        p->ended = true;
        loop->unwatch(p->watch);
      }
      if (n <= 0 || (!until.empty() && p->got.ends_with(until))) loop->stop();
    });
    return r;
  }
  static void put(Raw& r, std::string_view text) {
    ASSERT_EQ(::send(r.fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  Result<HttpFetched> fetch(HttpFetch f) {
    if (f.url.starts_with('/')) f.url = "http://" + listener->address().text() + f.url;
    Result<HttpFetched> out = fail(Code::unknown, "never called");
    fetch_http(*loop, std::move(f), [&](Result<HttpFetched> r) {
      out = std::move(r);
      loop->stop();
    });
    run();
    return out;
  }
  static std::size_t count(const std::string& s, std::string_view what) {
    std::size_t n = 0;
    for (auto i = s.find(what); i != std::string::npos; i = s.find(what, i + 1)) ++n;
    return n;
  }
};

TEST_F(HttpTest, AnswersAndKeepsTheConnection) {
  serve();
  const auto c = raw("GET /a?x=1 HTTP/1.1\r\nHost: h\r\nX-UPPER: v\r\n\r\n", "GET ");
  run();
  EXPECT_TRUE(c->got.starts_with("HTTP/1.1 200 OK\r\n")) << c->got;
  EXPECT_NE(c->got.find("X-Target: /a?x=1\r\n"), std::string::npos);
  EXPECT_NE(c->got.find("Content-Length: 4\r\n"), std::string::npos);
  EXPECT_NE(c->got.find("Date: "), std::string::npos);
  EXPECT_EQ(requests[0].header("x-upper"), "v");
  EXPECT_EQ(requests[0].peer.substr(0, 10), "127.0.0.1:");
  c->got.clear();
  put(*c, "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nGET ");
  run();
  EXPECT_TRUE(c->got.ends_with("POST GET "));
  EXPECT_FALSE(c->ended);
}

TEST_F(HttpTest, PipelinedRequestsAreAnsweredInOrder) {
  // Answers come later and out of the handler; the next request waits for them.
  handler = [this](HttpRequest& request, HttpReplyPtr& reply) {
    loop->post([reply = std::move(reply), t = request.target] { reply->send(200, {}, "<" + t + ">"); });
  };
  serve();
  std::string many;
  for (int i = 0; i < 300; ++i) many += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: h\r\n\r\n";
  const auto c = raw(many + "GET /last HTTP/1.1\r\nConnection: close\r\n\r\n");
  run();
  EXPECT_TRUE(c->ended);
  std::size_t at = 0;
  for (int i = 0; i < 300; ++i) {
    at = c->got.find("</" + std::to_string(i) + ">", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_TRUE(c->got.ends_with("</last>"));
  EXPECT_EQ(count(c->got, "Connection: close"), 1u);
}

TEST_F(HttpTest, PipelinedCallsToOneEndpointOverlapAndAreAnsweredInOrder) {
  std::size_t most = 0;
  handler = [&](HttpRequest&, HttpReplyPtr&) {};  // kept; answered below, the last one first
  serve();
  const std::string call = "POST /call HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
  std::string many;
  for (int i = 0; i < 200; ++i) many += call;
  const auto c = raw(many + "POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  std::size_t answered = 0;
  std::function<void()> answer = [&] {
    const std::size_t end = requests.size();
    most = std::max(most, end - answered);
    for (std::size_t i = answered; i < end; ++i) {
      if (requests[i].target == "/other") {
        EXPECT_EQ(end - answered, 1u);  // it waited for all others
      }
    }
    for (std::size_t i = end; i-- > answered;) replies[i]->send(202, {{"X-N", std::to_string(i)}}, {});
    answered = end;
    if (answered < 201) loop->after(100us, answer);
  };
  loop->after(1ms, answer);
  run();
  EXPECT_TRUE(c->ended);
  EXPECT_EQ(requests.size(), 201u);
  EXPECT_EQ(most, 64u);
  std::size_t at = 0;
  for (int i = 0; i < 201; ++i) {
    at = c->got.find("X-N: " + std::to_string(i) + "\r\n", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
}

TEST_F(HttpTest, LargeAnswersAreGivenOneAtATime) {
  const std::string large(100'000, 'x');
  handler = [&](HttpRequest&, HttpReplyPtr&) {};
  serve();
  std::string many;
  for (int i = 0; i < 20; ++i) many += "GET /large HTTP/1.1\r\nHost: h\r\n" + std::string(i == 19 ? "Connection: close\r\n" : "") + "\r\n";
  const auto c = raw(many);
  std::size_t answered = 0;
  std::function<void()> answer = [&] {
    EXPECT_LE(requests.size(), answered + 1);
    for (; answered < requests.size(); ++answered) replies[answered]->send(200, {}, large);
    if (answered < 20) loop->after(100us, answer);
  };
  answer();
  run();
  EXPECT_EQ(count(c->got, "HTTP/1.1 200"), 20u);
}

TEST_F(HttpTest, AnAnnouncedAnswerLeavesInPiecesAsThereIsRoom) {
  options.max_stream_queue = 64u << 10;
  const std::string piece(256u << 10, 'x');
  int pieces = 0;
  std::function<void()> more;
  handler = [&](HttpRequest&, HttpReplyPtr& reply) {
    EXPECT_TRUE(reply->begin(200, {{"Content-Length", std::to_string(40 * piece.size())}}));
    more = [&, r = reply] {
      if (++pieces > 40) return r->end();
      EXPECT_TRUE(r->write(piece));
      r->when_room(more);
    };
    more();
  };
  serve();
  const auto c = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  handler = [&, first = handler](HttpRequest& request, HttpReplyPtr& reply) {
    if (request.target == "/end") return reply->send(200, {}, "end");
    first(request, reply);
  };
  run();
  more = {};
  EXPECT_EQ(count(c->got, "Content-Length: 10485760\r\n"), 1u);
  EXPECT_EQ(count(c->got, "chunked"), 0u);
  EXPECT_GT(c->got.size(), 40 * piece.size());
  EXPECT_TRUE(c->got.ends_with("end"));
}

TEST_F(HttpTest, AnAnnouncedAnswerThatIsTooShortIsCut) {
  handler = [&](HttpRequest&, HttpReplyPtr& reply) {
    EXPECT_TRUE(reply->begin(200, {{"Content-Length", "10"}}));
    EXPECT_TRUE(reply->write("12345"));
    reply->end();
    EXPECT_FALSE(reply->write("67890"));
  };
  serve();
  const auto c = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run();
  EXPECT_TRUE(c->ended);
  EXPECT_FALSE(c->got.ends_with("67890"));
}

TEST_F(HttpTest, RequestsByteByByte) {
  serve();
  const std::string text = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
  const auto c = raw("");
  std::size_t at = 0;
  std::function<void()> next = [&] {
    put(*c, text.substr(at++, 1));
    if (at < text.size()) loop->post([&] { next(); });
  };
  next();
  run();
  EXPECT_TRUE(c->got.ends_with("POST abc")) << c->got;
}

TEST_F(HttpTest, MalformedRequestsGetTheirStatusAndTheConnectionEnds) {
  options.max_header = 1000;
  options.max_body = 10;
  serve();
  const std::vector<std::pair<std::string, std::string>> cases{
      {"nonsense\r\n\r\n", "400"},
      {"GET / HTTP/1.1\r\nA: " + std::string(2000, 'a') + "\r\n\r\n", "431"},
      {"PUT / HTTP/1.1\r\nContent-Length: 11\r\n\r\n" + std::string(11, 'b'), "413"},
      {"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n" + std::string(11, 'b') + "\r\n0\r\n\r\n", "413"}};
  for (const auto& [text, status] : cases) {
    const auto c = raw(text);
    run();
    EXPECT_TRUE(c->got.starts_with("HTTP/1.1 " + status)) << c->got;
    EXPECT_NE(c->got.find("Connection: close"), std::string::npos);
  }
  EXPECT_TRUE(requests.empty());
}

TEST_F(HttpTest, ExpectContinueIsAnswered) {
  serve();
  const auto c = raw("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", "Continue\r\n\r\n");
  run();
  EXPECT_EQ(c->got, "HTTP/1.1 100 Continue\r\n\r\n");
  loop->unwatch(c->watch);
  put(*c, "body");
  loop->after(20ms, [&] { loop->stop(); });
  run();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].body, "body");
}

TEST_F(HttpTest, HeadHasNoBodyAndOldClientsGetTheirConnectionClosed) {
  handler = [](HttpRequest& request, HttpReplyPtr& reply) {
    if (request.target == "/stream") {
      EXPECT_TRUE(reply->begin(200, {}));
      EXPECT_TRUE(reply->write("one"));
      EXPECT_TRUE(reply->write("two"));
      reply->end();
    } else {
      reply->send(request.target == "/none" ? 204 : 200, {}, "12345");
    }
  };
  serve();
  auto c = raw("HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n");
  run();
  EXPECT_NE(c->got.find("Content-Length: 5\r\n"), std::string::npos);
  EXPECT_TRUE(c->got.ends_with("\r\n\r\n"));
  c = raw("GET /stream HTTP/1.0\r\n\r\n");
  run();
  EXPECT_TRUE(c->got.ends_with("\r\n\r\nonetwo")) << c->got;
  EXPECT_EQ(c->got.find("chunked"), std::string::npos);
  c = raw("GET /none HTTP/1.1\r\nConnection: close\r\n\r\n");
  run();
  EXPECT_TRUE(c->got.ends_with("\r\n\r\n"));
  EXPECT_EQ(c->got.find("Content-Length"), std::string::npos);
  c = raw("GET /stream HTTP/1.1\r\nConnection: close\r\n\r\n");
  run();
  EXPECT_TRUE(c->got.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")) << c->got;
  EXPECT_NE(c->got.find("Transfer-Encoding: chunked"), std::string::npos);
}

TEST_F(HttpTest, ASlowRequestGets408AndAnIdleConnectionJustEnds) {
  options.request_timeout = 20ms;
  options.idle_timeout = 60ms;
  serve();
  auto c = raw("GET / HT");
  run();
  EXPECT_TRUE(c->got.starts_with("HTTP/1.1 408 ")) << c->got;
  c = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run();
  EXPECT_TRUE(c->ended);
  EXPECT_EQ(count(c->got, "HTTP/1.1 "), 1u);
  c = raw("");
  run();
  EXPECT_TRUE(c->ended);
  EXPECT_EQ(c->got, "");
}

TEST_F(HttpTest, TooManyConnectionsGet503) {
  options.max_connections = 2;
  serve();
  const auto a = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET ");
  run();
  const auto b = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET ");
  run();
  const auto c = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run();
  EXPECT_TRUE(c->got.starts_with("HTTP/1.1 503 ")) << c->got;
  EXPECT_TRUE(c->ended);
  EXPECT_FALSE(a->ended || b->ended);
}

TEST_F(HttpTest, BigBodiesBothWays) {
  handler = [](HttpRequest& request, HttpReplyPtr& reply) { reply->send(200, {}, request.body + request.body); };
  serve();
  HttpFetch f;
  f.method = "POST";
  f.url = "/big";
  f.body.resize(8u << 20);
  for (std::size_t i = 0; i < f.body.size(); ++i) f.body[i] = static_cast<char>(i * 7 + i / 251);
  f.max_body = 32u << 20;
  const std::string body = f.body;
  const auto r = fetch(std::move(f));
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_TRUE(r->body == body + body);
}

TEST_F(HttpTest, AClientThatGoesIsNoticed) {
  int gone = 0;
  handler = [&](HttpRequest& request, HttpReplyPtr& reply) {
    EXPECT_TRUE(request.target != "/stream" || reply->begin(200, {}));
    reply->on_gone([&] {
      ++gone;
      loop->stop();
    });
    loop->stop();
  };
  serve();
  for (const char* target : {"/stream", "/plain"}) {
    auto c = raw("GET " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n\r\n");
    run();
    loop->unwatch(c->watch);
    c->fd.reset();
    run();
  }
  EXPECT_EQ(gone, 2);
  EXPECT_FALSE(replies[0]->write("late"));
  EXPECT_FALSE(replies[1]->begin(200, {}));
  bool told = false;
  replies[0]->on_gone([&] {
    told = true;
    loop->stop();
  });
  EXPECT_FALSE(told);
  run();
  EXPECT_TRUE(told);
}

TEST_F(HttpTest, AHalfClosedClientIsStillAnswered) {
  handler = [this](HttpRequest&, HttpReplyPtr& reply) {
    loop->after(5ms, [reply = std::move(reply)] { reply->send(200, {}, "late but here"); });
  };
  serve();
  const auto c = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  ::shutdown(c->fd.get(), SHUT_WR);
  run();
  EXPECT_TRUE(c->got.ends_with("late but here")) << c->got;
  EXPECT_TRUE(c->ended);
}

TEST_F(HttpTest, ASlowStreamReaderIsCutOff) {
  options.max_stream_queue = 256u << 10;
  int gone = 0;
  handler = [&](HttpRequest&, HttpReplyPtr& reply) {
    reply->on_gone([&] { ++gone; });
    EXPECT_TRUE(reply->begin(200, {}));
    loop->stop();
  };
  serve();
  const auto c = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "", 4096);
  run();
  std::size_t written = 0;
  std::function<void()> more = [&] {
    for (int i = 0; i < 10; ++i) {
      if (!replies[0]->write(std::string(10000, 'x'))) return loop->post([&] { loop->stop(); });
      written += 10000;
    }
    ASSERT_LT(written, 100u << 20);
    loop->post([&] { more(); });
  };
  more();
  run();
  EXPECT_EQ(gone, 1);
  EXPECT_FALSE(replies[0]->write("x"));
}

TEST_F(HttpTest, ADroppedAnswerIsA500AndADroppedStreamIsCut) {
  handler = [](HttpRequest& request, HttpReplyPtr& reply) {
    if (request.target == "/stream") {
      reply->begin(200, {});
      reply->write("half");
    }
    reply.reset();
  };
  serve();
  auto r = fetch({.url = "/"});
  ASSERT_TRUE(r);
  EXPECT_EQ(r->status, 500u);
  r = fetch({.url = "/stream"});
  EXPECT_FALSE(r);
}

TEST_F(HttpTest, StoppingTheListenerFinishesWhatIsUnderWay) {
  handler = [this](HttpRequest&, HttpReplyPtr&) { loop->stop(); };
  serve();
  const auto busy = raw("GET /busy HTTP/1.1\r\nHost: h\r\n\r\n");
  run();
  const auto idle = raw("");
  loop->after(5ms, [&] { listener.reset(); });
  run();  // the idle one ends
  EXPECT_TRUE(idle->ended);
  replies[0]->send(200, {}, "done");
  run();
  EXPECT_TRUE(busy->ended);
  EXPECT_TRUE(busy->got.ends_with("done"));
}

TEST_F(HttpTest, TheListenerMayEndInItsHandler) {
  handler = [this, token = std::string(50, 't')](HttpRequest&, HttpReplyPtr& reply) {
    listener.reset();
    reply->send(200, {}, token);
  };
  serve();
  const auto c = raw("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run();
  EXPECT_TRUE(c->got.ends_with(std::string(50, 't'))) << c->got;
  EXPECT_EQ(requests.size(), 1u);
}

TEST_F(HttpTest, ThousandsOfRequestsOnOneConnection) {
  serve();
  std::string batch;
  for (int i = 0; i < 100; ++i) batch += "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n";
  const auto c = raw("");
  std::function<void()> more = [&] {
    if (requests.size() >= 5000) return loop->stop();
    put(*c, batch);
    requests.reserve(6000);
    loop->after(0s, [&] { more(); });
  };
  more();
  run();
  EXPECT_GE(requests.size(), 5000u);
}

// ---- the client

TEST_F(HttpTest, FetchSendsWhatItIsTold) {
  serve();
  const auto r = fetch({.method = "PUT", .url = "/p?q=1", .headers = {{"X-Token", "t"}, {"Host", "other"}}, .body = "payload"});
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->status, 200u);
  EXPECT_EQ(r->body, "PUT payload");
  EXPECT_EQ(requests[0].target, "/p?q=1");
  EXPECT_EQ(requests[0].header("x-token"), "t");
  EXPECT_EQ(requests[0].header("host"), "other");
  EXPECT_EQ(requests[0].header("content-length"), "7");
}

TEST_F(HttpTest, FetchHasLimits) {
  handler = [](HttpRequest& request, HttpReplyPtr& reply) {
    if (request.target == "/big") reply->send(200, {}, std::string(2000, 'x'));
  };
  serve();
  auto r = fetch({.url = "/big", .max_body = 1000});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::resource_exhausted);
  r = fetch({.url = "/never", .timeout = 20ms});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::deadline_exceeded);
  r = fetch({.url = "gopher://x/"});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::invalid_argument);
  r = fetch({.method = "GET /x", .url = "/"});
  EXPECT_FALSE(r);
}

TEST_F(HttpTest, FetchSaysWhoRefused) {
  serve();
  const std::string url = "http://" + listener->address().text() + "/x?secret=1";
  listener.reset();
  const auto r = fetch({.url = url});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::unavailable);
  EXPECT_NE(r.error().message.find("Connection refused"), std::string::npos);
  EXPECT_EQ(r.error().message.find("secret"), std::string::npos);
}

TEST_F(HttpTest, HeadFetchDoesNotWaitForABody) {
  serve();
  const auto r = fetch({.method = "HEAD", .url = "/"});
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->body, "");
}

}  // namespace
}  // namespace gantry::net
