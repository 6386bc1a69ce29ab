#include "kernel/base/fd.hpp"
#include "kernel/net/net.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <sys/socket.h>
#include <unistd.h>

namespace gantry::net {
namespace {

using namespace std::chrono_literals;

std::vector<std::uint8_t> framed(std::string_view payload) {
  const auto n = static_cast<std::uint32_t>(payload.size());
  std::vector<std::uint8_t> out;
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<std::uint8_t>(n >> (8 * i)));
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}
std::string str(Bytes b) { return {b.begin(), b.end()}; }

TEST(FrameParserTest, FindsFramesHoweverTheStreamIsCut) {
  const std::vector<std::string> want{"", "a", "hello", std::string(300, 'x'), "", "end"};
  std::vector<std::uint8_t> stream;
  for (const auto& w : want) {
    const auto f = framed(w);
    stream.insert(stream.end(), f.begin(), f.end());
  }
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    FrameParser p;
    std::vector<std::string> got;
    const auto take = [&](Bytes b) { got.push_back(str(b)); };
    EXPECT_TRUE(p.feed(Bytes(stream).first(cut), take));
    EXPECT_TRUE(p.feed(Bytes(stream).subspan(cut), take));
    EXPECT_EQ(got, want) << "cut at " << cut;
  }
  FrameParser one;
  std::vector<std::string> got;
  for (const auto& byte : stream) EXPECT_TRUE(one.feed(Bytes(&byte, 1), [&](Bytes b) { got.push_back(str(b)); }));
  EXPECT_EQ(got, want);
}

TEST(FrameParserTest, RefusesOverlongFramesForGood) {
  FrameParser p(10);
  int frames = 0;
  EXPECT_TRUE(p.feed(framed("0123456789"), [&](Bytes) { ++frames; }));
  const auto status = p.feed(framed("0123456789a"), [&](Bytes) { ++frames; });
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("11 bytes exceeds the limit of 10"), std::string::npos);
  EXPECT_FALSE(p.feed(framed("ok"), [&](Bytes) { ++frames; }));
  EXPECT_EQ(frames, 1);
  // The same when the length arrives byte by byte.
  FrameParser q(10);
  const auto long_one = framed("0123456789a");
  EXPECT_TRUE(q.feed(Bytes(long_one).first(3), [](Bytes) {}));
  EXPECT_FALSE(q.feed(Bytes(long_one).subspan(3, 1), [](Bytes) {}));
}

TEST(AddressTest, ParsesEveryForm) {
  auto a = parse_address("127.0.0.1:5050");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->host, "127.0.0.1");
  EXPECT_EQ(a->port, 5050);
  EXPECT_TRUE(a->loopback());
  EXPECT_EQ(a->text(), "127.0.0.1:5050");
  a = parse_address("[::1]:80");
  ASSERT_TRUE(a);
  EXPECT_TRUE(a->loopback());
  EXPECT_EQ(a->text(), "[::1]:80");
  a = parse_address("unix:/run/x.sock");
  ASSERT_TRUE(a);
  EXPECT_TRUE(a->unix_socket && a->loopback());
  EXPECT_EQ(a->text(), "unix:/run/x.sock");
  EXPECT_FALSE(parse_address("0.0.0.0:1")->loopback());
  EXPECT_FALSE(parse_address("[::]:1")->loopback());
  EXPECT_FALSE(parse_address("127.example.org:1")->loopback());
  EXPECT_TRUE(parse_address("[::ffff:127.0.0.1]:1")->loopback());
  EXPECT_TRUE(parse_address("localhost:0")->loopback());
}

TEST(AddressTest, SaysWhatIsWrong) {
  for (const char* text : {"", "host", "host:", "host:x", "host:65536", "host:-1", "host:1x", ":80", "::1:80", "[::1]", "[::1]80", "[::1:80",
                           "[host]:80", "unix:", "unix:rel", "a b:1", "http://a:1", "host: 1"}) {
    const auto a = parse_address(text);
    ASSERT_FALSE(a) << text;
    EXPECT_EQ(a.error().code, Code::invalid_argument);
    EXPECT_NE(a.error().message.find('"' + std::string(text) + '"'), std::string::npos);
    EXPECT_NE(a.error().message.find("write \"host:port\""), std::string::npos);
  }
  EXPECT_FALSE(parse_address("unix:/" + std::string(200, 'x')));
}

struct LinkTest : testing::Test {
  std::unique_ptr<RealLoop> loop = make_real_loop(1);
  std::unique_ptr<Listener> listener;
  LinkPtr server, client;
  LinkOptions options;

  void run() {
    const auto guard = loop->after(30s, [] { FAIL() << "the loop never stopped"; });
    loop->run();
    loop->cancel(guard);
  }
  // Listens and connects; returns once both ends are there.
  void pair(const std::string& address = "127.0.0.1:0") {
    auto l = listen(*loop, *parse_address(address), [this](LinkPtr link) {
      server = std::move(link);
      if (client) loop->stop();
    });
    ASSERT_TRUE(l) << l.error().message;
    listener = std::move(*l);
    connect(*loop, listener->address(), [this](Result<LinkPtr> link) {
      ASSERT_TRUE(link) << link.error().message;
      client = std::move(*link);
      if (server) loop->stop();
    }, options);
    run();
    ASSERT_TRUE(server && client);
  }
};

TEST_F(LinkTest, CarriesFramesBothWays) {
  pair();
  std::string at_server, at_client;
  server->on_frame([&](Bytes b) {
    at_server = str(b);
    server->send(as_bytes("pong"));
  });
  client->on_frame([&](Bytes b) {
    at_client = str(b);
    loop->stop();
  });
  EXPECT_TRUE(client->send(as_bytes("ping")));
  run();
  EXPECT_EQ(at_server, "ping");
  EXPECT_EQ(at_client, "pong");
  EXPECT_EQ(client->peer(), listener->address().text());
  EXPECT_EQ(server->peer().substr(0, 10), "127.0.0.1:");
}

TEST_F(LinkTest, UnixSocketsWorkAndLeaveNoFile) {
  char dir[] = "/tmp/gantry-link-XXXXXX";
  ASSERT_TRUE(::mkdtemp(dir));
  const std::string path = std::string(dir) + "/s";
  pair("unix:" + path);
  auto second = listen(*loop, *parse_address("unix:" + path), [](LinkPtr) {});
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("already in use"), std::string::npos);
  server->on_frame([&](Bytes) { loop->stop(); });
  client->send(as_bytes("x"));
  run();
  listener.reset();
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
  ::rmdir(dir);
}

TEST_F(LinkTest, HundredThousandFramesArriveInOrder) {
  pair();
  constexpr std::uint32_t count = 100000;
  std::uint32_t next = 0;
  server->on_frame([&](Bytes b) {
    ASSERT_EQ(b.size(), 4 + next % 97);
    std::uint32_t n;
    std::memcpy(&n, b.data(), 4);
    ASSERT_EQ(n, next++);
    if (next == count) loop->stop();
  });
  std::vector<std::uint8_t> frame;
  std::uint32_t sent = 0;
  std::function<void()> more = [&] {
    for (int i = 0; i < 1000 && sent < count; ++i, ++sent) {
      frame.assign(4 + sent % 97, 7);
      std::memcpy(frame.data(), &sent, 4);
      ASSERT_TRUE(client->send(frame));
    }
    if (sent < count) loop->post([&] { more(); });
  };
  more();
  run();
  EXPECT_EQ(next, count);
}

TEST_F(LinkTest, BigFramesArriveWhole) {
  pair();
  std::vector<std::uint8_t> big(20u << 20);
  std::iota(big.begin(), big.end(), std::uint8_t{0});
  bool equal = false;
  server->on_frame([&](Bytes b) {
    equal = std::equal(b.begin(), b.end(), big.begin(), big.end());
    loop->stop();
  });
  ASSERT_TRUE(client->send(big));
  run();
  EXPECT_TRUE(equal);
}

TEST_F(LinkTest, CloseDeliversWhatWasQueuedAndReportsOnce) {
  pair();
  std::size_t frames = 0;
  std::vector<Code> server_closed, client_closed;
  server->on_frame([&](Bytes) { ++frames; });
  server->on_closed([&](const Error& e) {
    server_closed.push_back(e.code);
    loop->after(5ms, [&] { loop->stop(); });
  });
  client->on_frame([](Bytes) { FAIL(); });
  client->on_closed([&](const Error& e) { client_closed.push_back(e.code); });
  const std::vector<std::uint8_t> frame(100000);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(client->send(frame));
  client->close();
  EXPECT_FALSE(client->send(frame));
  client->close();
  EXPECT_TRUE(client_closed.empty());  // never from inside the call
  run();
  EXPECT_EQ(frames, 50u);
  EXPECT_EQ(server_closed, std::vector{Code::unavailable});
  EXPECT_EQ(client_closed, std::vector{Code::cancelled});
  EXPECT_FALSE(server->send(frame));
}

TEST_F(LinkTest, DroppingTheLinkClosesItWithoutACallback) {
  pair();
  std::string last;
  client->on_closed([](const Error&) { FAIL(); });
  server->on_frame([&](Bytes b) { last = str(b); });
  server->on_closed([&](const Error&) { loop->stop(); });
  client->send(as_bytes("bye"));
  client.reset();
  run();
  EXPECT_EQ(last, "bye");
}

TEST_F(LinkTest, CanBeDroppedInItsOwnCallbacks) {
  pair();
  int frames = 0;
  server->on_frame([&, token = std::string(100, 't')](Bytes) {
    ++frames;
    server.reset();
    EXPECT_EQ(token[99], 't');
  });
  client->on_closed([&](const Error&) {
    client.reset();
    loop->stop();
  });
  client->send(as_bytes("1"));
  client->send(as_bytes("2"));
  run();
  EXPECT_EQ(frames, 1);
}

TEST_F(LinkTest, ACallbackThatHoldsItsLinkDoesNotLeak) {
  pair();
  const std::weak_ptr<Link> weak = server;
  server->on_frame([link = server](Bytes) { link->close(); });
  server.reset();
  client->on_closed([&](const Error&) { loop->after(1ms, [&] { loop->stop(); }); });
  client->send(as_bytes("x"));
  run();
  EXPECT_TRUE(weak.expired());
}

TEST_F(LinkTest, ASlowReaderIsCutOff) {
  options.max_queue = 1u << 20;
  pair();
  Code code = Code::ok;
  client->on_closed([&](const Error& e) {
    code = e.code;
    EXPECT_NE(e.message.find("reads too slowly"), std::string::npos);
    loop->stop();
  });
  const std::vector<std::uint8_t> frame(100000);
  int sent = 0;
  while (client->send(frame)) ASSERT_LT(++sent, 1000);
  run();
  EXPECT_EQ(code, Code::resource_exhausted);
  EXPECT_LE(sent, 11);  // the first one was with the system before the others came
}

TEST_F(LinkTest, GarbageClosesTheLink) {
  std::string reason;
  auto l = listen(*loop, *parse_address("127.0.0.1:0"), [&](LinkPtr link) {
    server = std::move(link);
    server->on_frame([](Bytes) { FAIL(); });
    server->on_closed([&](const Error& e) {
      reason = e.message;
      loop->stop();
    });
  });
  ASSERT_TRUE(l);
  const base::Fd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons((*l)->address().port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  ASSERT_EQ(::send(fd.get(), "GET / HTTP/1.1\r\n", 16, 0), 16);
  run();
  EXPECT_NE(reason.find("exceeds the limit"), std::string::npos) << reason;
}

TEST_F(LinkTest, AnAddressInUseSaysSo) {
  pair();
  const auto again = listen(*loop, listener->address(), [](LinkPtr) {});
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().message.find(listener->address().text()), std::string::npos);
  EXPECT_NE(again.error().message.find("is already in use; stop that program or set another address"), std::string::npos);
}

TEST_F(LinkTest, ConnectingToNobodyFailsWithTheAddress) {
  std::string where;
  {
    auto l = listen(*loop, *parse_address("127.0.0.1:0"), [](LinkPtr) {});
    ASSERT_TRUE(l);
    where = (*l)->address().text();
  }
  Error error;
  connect(*loop, *parse_address(where), [&](Result<LinkPtr> r) {
    ASSERT_FALSE(r);
    error = r.error();
    loop->stop();
  });
  run();
  EXPECT_EQ(error.code, Code::unavailable);
  EXPECT_EQ(error.message, "connect to " + where + ": Connection refused");
}

TEST_F(LinkTest, ProbesAndResolvesNames) {
  auto l = listen(*loop, *parse_address("127.0.0.1:0"), [](LinkPtr) {});
  ASSERT_TRUE(l);
  std::vector<bool> results;
  const Address by_name{"localhost", (*l)->address().port, false};
  probe_tcp(*loop, by_name, 5s, [&](Status s) {
    results.push_back(s.has_value());
    probe_tcp(*loop, Address{"no-such-host.invalid", 1, false}, 10s, [&](Status t) {
      results.push_back(t.has_value());
      EXPECT_EQ(t.error().code, Code::unavailable);
      loop->stop();
    });
  });
  run();
  EXPECT_EQ(results, (std::vector{true, false}));
}

TEST_F(LinkTest, TheLoopMayEndFirstToCloseConnectionsNobodyOwns) {
  pair();
  client->send(std::vector<std::uint8_t>(5u << 20));
  client->close();  // lingers
  client.reset();
  server.reset();
  listener.reset();
  loop.reset();
}

}  // namespace
}  // namespace gantry::net
