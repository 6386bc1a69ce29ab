// Sockets, as the rest of the kernel sees them: a real loop, framed links, an HTTP server and client. No Asio in here.
//
// Threads: everything runs on the loop's thread; callbacks never run from inside the call that registers them.
#pragma once

#include "kernel/base/loop.hpp"

#include <gantry/message.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace gantry::net {

// The real loop: an Asio io_context, its timers and a small blocking pool made on first use.
class RealLoop : public base::Loop {
 public:
  // Runs until stop(). Call from the thread that shall be the loop's.
  virtual void run() = 0;
  // [any]
  virtual void stop() = 0;
  // Calls fn on the loop's thread whenever one of the signals arrives (replaces the default action).
  virtual void on_signal(std::vector<int> signals, Function<void(int)> fn) = 0;
  // Calls fn each time fd becomes readable, until unwatch. The fd stays the caller's (pidfds, eventfds, pipes).
  virtual std::uint64_t watch_readable(int fd, Function<void()> fn) = 0;
  virtual void unwatch(std::uint64_t id) = 0;
};
std::unique_ptr<RealLoop> make_real_loop(unsigned blocking_threads = 4);

// "host:port", "[v6]:port" or "unix:/path". Host names are resolved when connecting or listening.
struct Address {
  std::string host;  // or path
  std::uint16_t port = 0;
  bool unix_socket = false;
  [[nodiscard]] std::string text() const;
  [[nodiscard]] bool loopback() const;  // 127/8, ::1, localhost, unix sockets
};
[[nodiscard]] Result<Address> parse_address(std::string_view text);

// ---- framed links

// Largest payload of a frame; a longer one closes the link.
inline constexpr std::size_t max_frame = 64u << 20;

// Splits a byte stream into frames: u32 little-endian length, then the payload. Pure, fuzzed.
class FrameParser {
 public:
  explicit FrameParser(std::size_t limit = max_frame) : limit_(limit) {}
  // Appends bytes and calls on_frame for every complete payload (valid during the call). An error is final.
  Status feed(Bytes bytes, const std::function<void(Bytes)>& on_frame);

 private:
  std::size_t limit_;
  std::vector<std::uint8_t> partial_;
  bool failed_ = false;
};

// One connection that carries frames both ways. Closed by either side or when the peer reads too slowly. Whoever holds
// the LinkPtr owns the connection: dropping the last one closes it without a callback. Frames queued before close() (or
// the drop) are still delivered if the peer reads them within a few seconds.
class Link {
 public:
  virtual ~Link() = default;
  // Queues a frame; frames queued in one turn of the loop leave in one write. False when the link is closed or its
  // queue would exceed the limit: then it is closed, and on_closed reports RESOURCE_EXHAUSTED.
  virtual bool send(Bytes frame) = 0;
  virtual void close() = 0;
  [[nodiscard]] virtual const std::string& peer() const = 0;
  // Set once, before the loop turns. on_closed runs exactly once, last.
  virtual void on_frame(Function<void(Bytes)> fn) = 0;
  virtual void on_closed(Function<void(const Error&)> fn) = 0;
};
using LinkPtr = std::shared_ptr<Link>;

struct LinkOptions {
  std::size_t max_queue = 256u << 20;  // bytes waiting to be written
  base::Nanos connect_timeout = std::chrono::seconds(10);
};

class Listener {
 public:
  virtual ~Listener() = default;  // stops listening; accepted links live on
  [[nodiscard]] virtual const Address& address() const = 0;  // with the real port
};

[[nodiscard]] Result<std::unique_ptr<Listener>> listen(RealLoop&, const Address&, Function<void(LinkPtr)> on_link, LinkOptions = {});
void connect(RealLoop&, const Address&, Function<void(Result<LinkPtr>)> done, LinkOptions = {});

// ---- HTTP/1.1 server

struct HttpHeader {
  std::string name;  // lower case in requests
  std::string value;
};

struct HttpRequest {
  std::string method, target, body, peer;
  std::vector<HttpHeader> headers;
  [[nodiscard]] std::string_view header(std::string_view lower_name) const;
};

// The answer to one request; may outlive the connection. Dropping it unanswered sends 500.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  // A whole answer. Content-Length and Date are added; Content-Encoding gzip is not our business here.
  virtual void send(unsigned status, std::vector<HttpHeader> headers, std::string body) = 0;
  // A streamed answer: begin, any number of writes (one HTTP chunk each), end. write is false once the client has gone
  // or more than max_stream_queue bytes wait; then the connection is cut. A Content-Length among the headers of begin announces an
  // answer of that size in pieces: no chunks, nothing is cut for waiting (whoever writes waits for when_room), and the
  // connection is closed when the size comes out otherwise.
  virtual bool begin(unsigned status, std::vector<HttpHeader> headers) = 0;
  virtual bool write(std::string chunk) = 0;
  virtual void end() = 0;
  // Runs once when the client's connection has ended before the answer was complete.
  virtual void on_gone(Function<void()> fn) = 0;
  // Of an announced answer: runs fn once when little of what was written still waits, or the client has gone; else at once.
  virtual void when_room(Function<void()> fn) = 0;
};
using HttpReplyPtr = std::shared_ptr<HttpReply>;

struct HttpServerOptions {
  std::size_t max_body = 16u << 20;
  std::size_t max_header = 64u << 10;
  std::size_t max_connections = 4096;
  std::size_t max_stream_queue = 4u << 20;
  base::Nanos idle_timeout = std::chrono::seconds(75);
  base::Nanos request_timeout = std::chrono::seconds(30);  // from first byte to the whole request (slow clients)
};

[[nodiscard]] Result<std::unique_ptr<Listener>> serve_http(RealLoop&, const Address&, Function<void(HttpRequest, HttpReplyPtr)> handler,
                                                           HttpServerOptions = {});

// ---- HTTP client

struct HttpFetch {
  std::string method = "GET";
  std::string url;  // http or https
  std::vector<HttpHeader> headers;
  std::string body;
  base::Nanos timeout = std::chrono::seconds(30);
  std::size_t max_body = 16u << 20;
  bool verify = true;
  std::string unix_socket;  // not empty: connect to this path instead of the host in the url
};
struct HttpFetched {
  unsigned status = 0;
  std::vector<HttpHeader> headers;  // names in lower case
  std::string body;
};
void fetch_http(RealLoop&, HttpFetch, Function<void(Result<HttpFetched>)> done);
// Connects and closes at once.
void probe_tcp(RealLoop&, const Address&, base::Nanos timeout, Function<void(Status)> done);

}  // namespace gantry::net
