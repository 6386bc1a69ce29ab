// HTTP/1.1 server. A connection is a state machine: read a request, hand it over, write the answer, begin again. A client that
// pipelines requests to one endpoint has several of them under way.
#include "kernel/net/http_parse.hpp"
#include "kernel/net/socket.hpp"

#include "kernel/base/log.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <optional>
#include <unordered_set>
#include <vector>

namespace gantry::net {
namespace {

constexpr base::Nanos linger_time = std::chrono::seconds(2);
constexpr std::size_t pipeline_limit = 256u << 10;  // bytes read ahead while an answer is awaited
constexpr std::size_t small_piece = 16u << 10;      // pieces below are gathered into one buffer
constexpr std::size_t small_answer = 4u << 10;      // requests whose answers are no larger may overlap
constexpr std::size_t little = 256u << 10;          // of an announced answer, once it waits for less there is room
constexpr std::size_t most_turns = 64;              // of one connection

class HttpConn;

struct Server {
  RealLoop& loop;
  HttpServerOptions options;
  // Shared, because the listener may end while the handler runs. Null: ended.
  std::shared_ptr<Function<void(HttpRequest, HttpReplyPtr)>> handler;
  std::unordered_set<HttpConn*> conns;
};

std::vector<char>& read_buffer() {
  thread_local std::vector<char> buffer(64u << 10);
  return buffer;
}

// A request that was handed over, and its answer. Answers leave in the order of the requests: what is said for a later one is
// held until it is the first.
struct Turn {
  std::uint64_t serial = 0;
  bool keep_alive = true, http10 = false, head = false;
  bool streaming = false, chunked = false, drop_body = false, done = false;
  std::optional<std::uint64_t> left = {};  // of an announced size
  std::size_t bonus = 0;                   // a piece written when nothing waited may be larger than the queue
  Function<void()> gone = {}, room = {};
  std::string held = {};
};

class HttpConn : public std::enable_shared_from_this<HttpConn> {
 public:
  HttpConn(std::shared_ptr<Server> server, base::Fd fd, std::string peer)
      : server_(std::move(server)),
        loop_(server_->loop),
        peer_(std::move(peer)),
        watch_(std::make_unique<FdWatch>(loop_, std::move(fd), [this] { readable(); }, [this] { writable(); })) {}
  ~HttpConn() {
    if (timer_) loop_.cancel(timer_);
    server_->conns.erase(this);
  }

  void start() {
    server_->conns.insert(this);
    held_ = hold(loop_, shared_from_this());
    new_parser();
    set_deadline(server_->options.idle_timeout);
    watch_->want_read();
  }
  // The listener has gone: an idle connection ends now, another after its answers.
  void drain() {
    if (!turns_.empty()) turns_.back().keep_alive = false;
    else if (state_ == State::open && !parser_->started()) close();
  }
  void refuse(unsigned status, std::string_view why) {
    Turn t;
    t.serial = ++serial_;
    t.keep_alive = false;
    turns_.push_back(std::move(t));
    send(serial_, status, {{"content-type", "text/plain"}}, std::string(why) + "\n");
  }

  // ---- the answer; `serial` tells which request it is for, so that a late one meets nobody

  void send(std::uint64_t serial, unsigned status, std::vector<HttpHeader> headers, std::string body) {
    Turn* t = awaits(serial);
    if (!t || t->streaming) return;
    const bool no_body = t->head || status < 200 || status == 204 || status == 304;
    for (const auto& h : headers)
      if (same_name(h.name, "connection") && same_name(h.value, "close")) t->keep_alive = false;
    put(*t, response_head(status, headers, {.keep_alive = t->keep_alive, .length = body.size(), .wall = loop_.wall()}));
    grow(body.size());
    if (!no_body) put(*t, std::move(body));
    finished(*t);
  }
  bool begin(std::uint64_t serial, unsigned status, std::vector<HttpHeader> headers) {
    Turn* t = awaits(serial);
    if (!t || t->streaming) return false;
    if (eof_) {
      close();
      return false;
    }
    t->streaming = true;
    window_ = 1;
    // 1.0 knows no chunks: the end of the connection ends an answer of unknown size.
    for (const auto& h : headers)
      if (same_name(h.name, "content-length") && !h.value.empty() && h.value.find_first_not_of("0123456789") == std::string::npos)
        t->left = std::strtoull(h.value.c_str(), nullptr, 10);
    if (t->http10 && !t->left) t->keep_alive = false;
    t->chunked = !t->left && !t->http10 && status != 204 && status != 304;
    t->drop_body = t->head || status == 204 || status == 304;
    put(*t, response_head(status, headers,
                          {.chunked = t->chunked, .keep_alive = t->keep_alive, .length_known = t->left.has_value(),
                           .length = static_cast<std::size_t>(t->left.value_or(0)), .wall = loop_.wall()}));
    flush_soon();
    return true;
  }
  bool write(std::uint64_t serial, std::string piece) {
    Turn* t = awaits(serial);
    if (!t || !t->streaming) return false;
    if (t->drop_body || piece.empty()) return true;
    if (t->left) {
      if (piece.size() > *t->left) {
        base::log_error("net", "an answer is larger than it was announced", {{"peer", peer_}});
        close();
        return false;
      }
      *t->left -= piece.size();
      put(*t, std::move(piece));
      flush_soon();
      return true;
    }
    // What the socket takes at once is not waiting; only a reader that is behind counts.
    if (waiting(*t) == 0) t->bonus = piece.size();
    const std::size_t most = server_->options.max_stream_queue + t->bonus;
    if (waiting(*t) + piece.size() > most) {
      flush();
      t = awaits(serial);
      if (!t) return false;
      if (waiting(*t) > 0 && waiting(*t) + piece.size() > most) {
        base::log_warning("net", "cut off a client that reads its stream too slowly",
                          {{"peer", peer_}, {"waiting", std::to_string(waiting(*t))}});
        close();
        return false;
      }
    }
    if (t->chunked) {
      std::array<char, 24> head;
      const int n = std::snprintf(head.data(), head.size(), "%zx\r\n", piece.size());
      put(*t, {head.data(), static_cast<std::size_t>(n)});
      put(*t, std::move(piece));
      put(*t, "\r\n");
    } else {
      put(*t, std::move(piece));
    }
    flush_now();
    return true;
  }
  void end(std::uint64_t serial) {
    Turn* t = awaits(serial);
    if (!t || !t->streaming) return;
    if (t->left.value_or(0) > 0 && !t->drop_body) return close();  // an answer cut short must not look whole
    if (t->chunked && !t->drop_body) put(*t, "0\r\n\r\n");
    finished(*t);
  }
  void on_gone(std::uint64_t serial, Function<void()> fn) {
    if (Turn* t = awaits(serial)) {
      if (!eof_) {
        t->gone = std::move(fn);
        return;
      }
    } else if (serial < first_ || state_ == State::open) {
      return;  // answered, or held until those before it are
    }
    loop_.post(std::move(fn));  // gone before anybody asked
  }
  void when_room(std::uint64_t serial, Function<void()> fn) {
    Turn* t = awaits(serial);
    if (t && t->left && waiting(*t) > little) t->room = std::move(fn);
    else fn();
  }
  void dropped(std::uint64_t serial) {
    Turn* t = awaits(serial);
    if (!t) return;
    if (t->streaming) return close();  // an answer cut short must not look whole
    t->gone = nullptr;
    send(serial, 500, {{"content-type", "text/plain"}}, "the request was dropped without an answer\n");
  }

 private:
  enum class State { open, lingering, closed };

  Turn* awaits(std::uint64_t serial) {
    if (state_ != State::open || turns_.empty() || serial < turns_.front().serial || serial > turns_.back().serial) return nullptr;
    Turn& t = turns_[static_cast<std::size_t>(serial - turns_.front().serial)];
    return t.done ? nullptr : &t;
  }
  [[nodiscard]] bool first(const Turn& t) const { return t.serial == turns_.front().serial; }
  [[nodiscard]] std::size_t waiting(const Turn& t) const { return first(t) ? out_bytes_ : t.held.size(); }
  void put(Turn& t, std::string piece) {
    if (first(t)) return queue(std::move(piece));
    t.held += piece;
  }
  // How many requests may be under way: more while answers are small, one as soon as they are not.
  void grow(std::size_t answer) { window_ = answer > small_answer ? 1 : std::min(2 * window_, most_turns); }

  void new_parser() {
    parser_.emplace(server_->options.max_header, server_->options.max_body);
    continued_ = false;
  }

  // ---- reading

  void readable() {
    const auto self = shared_from_this();
    auto& buffer = read_buffer();
    for (int burst = 0; burst < 4; ++burst) {
      const auto n = receive(watch_->fd(), buffer.data(), buffer.size());
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      if (n < 0) return close();
      if (n == 0) return ended();
      if (state_ == State::lingering) continue;
      if (turns_.empty() && in_.empty() && !parser_->started()) set_deadline(server_->options.request_timeout);
      in_.append(buffer.data(), static_cast<std::size_t>(n));
      process();
      if (state_ == State::closed) return;
      if (state_ == State::open && in_.size() > pipeline_limit && !(turns_.empty() && out_bytes_ == 0)) {
        paused_ = true;  // read on when answers are out
        return;
      }
      if (static_cast<std::size_t>(n) < buffer.size()) break;
    }
    watch_->want_read();
  }

  // The client will send no more. Requests it sent are still answered, streams have nobody to go to.
  void ended() {
    const bool streams = !turns_.empty() && (turns_.front().streaming || turns_.back().streaming);
    if (streams || (turns_.empty() && out_bytes_ == 0)) return close();
    eof_ = true;
    if (!turns_.empty() && in_.empty() && !next_) turns_.back().keep_alive = false;
    set_deadline(server_->options.idle_timeout);
    std::vector<Function<void()>> gone;
    for (Turn& t : turns_)
      if (t.gone) gone.push_back(std::exchange(t.gone, nullptr));
    for (auto& fn : gone) fn();
  }

  void process() {
    if (processing_) return;
    processing_ = true;
    std::size_t used = 0;
    // A client that pipelines without reading answers waits.
    while (state_ == State::open && out_bytes_ < pipeline_limit && turns_.size() < window_) {
      if (!turns_.empty() && !turns_.back().keep_alive) break;
      if (!next_) {
        if (parser_->awaits_continue() && turns_.empty() && !std::exchange(continued_, true)) {
          queue("HTTP/1.1 100 Continue\r\n\r\n");
          flush_soon();
        }
        if (used == in_.size()) break;
        const HttpProgress p = parser_->feed(std::string_view(in_).substr(used));
        used += p.consumed;
        if (p.state == HttpProgress::State::bad) {
          refuse(p.status, p.error);
          break;
        }
        if (p.state == HttpProgress::State::more) {
          if (parser_->awaits_continue() && turns_.empty() && !continued_) continue;
          // Only heads stay unconsumed: the request's own, which the parser limits, or a chunk's.
          if (in_.size() - used > server_->options.max_header + 4096) refuse(431, "the header is larger than this server accepts");
          if (eof_ && out_bytes_ == 0 && turns_.empty()) close();
          break;
        }
        next_keep_alive_ = parser_->keep_alive() && server_->handler != nullptr;
        next_http10_ = parser_->http10();
        next_ = parser_->take();
        new_parser();
      }
      // The next request begins while others are under way only if it repeats what they are (a client that pipelines calls to
      // one endpoint); whoever handles them gets them in order. Else it might overtake, which only safe methods may (RFC 9112 9.3.2).
      if (!turns_.empty() && (turns_.back().streaming || next_->method != method_ || next_->target != target_)) break;
      HttpRequest request = std::move(*next_);
      next_.reset();
      request.peer = peer_;
      method_ = request.method;
      target_ = request.target;
      Turn t;
      t.serial = ++serial_;
      t.keep_alive = next_keep_alive_ && !(eof_ && used == in_.size());
      t.http10 = next_http10_;
      t.head = request.method == "HEAD";
      turns_.push_back(std::move(t));
      no_deadline();
      deliver(std::move(request), serial_);
    }
    in_.erase(0, std::min(used, in_.size()));
    processing_ = false;
  }
  void deliver(HttpRequest request, std::uint64_t serial);

  // ---- writing

  void queue(std::string piece) {
    if (piece.empty()) return;
    out_bytes_ += piece.size();
    if (!out_.empty() && out_.back().size() + piece.size() <= small_piece) {
      out_.back() += piece;
    } else {
      out_.push_back(std::move(piece));
    }
  }

  void finished(Turn& t) {
    t.done = true;
    t.gone = nullptr;
    while (!turns_.empty() && turns_.front().done) {
      const bool keep_alive = turns_.front().keep_alive;
      first_ = turns_.front().serial + 1;
      turns_.pop_front();
      if (!keep_alive) return linger();
      if (!turns_.empty()) queue(std::move(turns_.front().held));
    }
    if (turns_.empty()) {
      if (eof_ && in_.empty() && !next_) return linger();
      set_deadline(in_.empty() && !next_ ? server_->options.idle_timeout : server_->options.request_timeout);
    }
    flush_soon();
  }
  // The last answer is on its way; whatever else the client asked for is not answered.
  void linger() {
    state_ = State::lingering;
    for (Turn& t : turns_) {
      if (t.gone) loop_.post(std::move(t.gone));
      if (t.room) loop_.post(std::move(t.room));
    }
    turns_.clear();
    next_.reset();
    in_.clear();
    set_deadline(server_->options.idle_timeout);
    flush_soon();
  }

  // Everything written until the loop comes round leaves together.
  void flush_soon() {
    if (std::exchange(flush_pending_, true)) return;
    loop_.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) {
        self->flush_pending_ = false;
        self->writable();
      }
    });
  }
  // The first piece leaves at once, the others of the same round together. Last in its caller: the connection may be over then.
  void flush_now() {
    const bool first = !flush_pending_;
    flush_soon();
    if (first) flush();
  }
  void writable() {
    const auto self = shared_from_this();
    flush();
    if (state_ == State::open) process();
    if (state_ == State::open && paused_ && (in_.size() <= pipeline_limit || (turns_.empty() && out_bytes_ == 0))) {
      paused_ = false;
      watch_->want_read();
    }
  }

  void flush() {
    if (!watch_ || state_ == State::closed) return;
    const auto self = shared_from_this();
    bool progress = false;
    while (out_bytes_ > 0) {
      std::array<iovec, 32> pieces;
      std::size_t count = 0;
      for (auto it = out_.begin(); it != out_.end() && count < pieces.size(); ++it, ++count) {
        const std::size_t skip = count == 0 ? out_offset_ : 0;
        pieces[count] = {it->data() + skip, it->size() - skip};
      }
      msghdr message{};
      message.msg_iov = pieces.data();
      message.msg_iovlen = count;
      const auto n = ::sendmsg(watch_->fd(), &message, MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) return close();
        // A reader that takes nothing for this long is cut off.
        if (progress || !write_stalled_) set_deadline(server_->options.idle_timeout);
        write_stalled_ = true;
        watch_->want_write();
        return;
      }
      progress = true;
      out_bytes_ -= static_cast<std::size_t>(n);
      out_offset_ += static_cast<std::size_t>(n);
      while (!out_.empty() && out_offset_ >= out_.front().size()) {
        out_offset_ -= out_.front().size();
        out_.pop_front();
      }
      if (out_bytes_ <= little && !turns_.empty() && turns_.front().room) std::exchange(turns_.front().room, nullptr)();
    }
    if (std::exchange(write_stalled_, false) && !turns_.empty() && !eof_) no_deadline();
    if (state_ == State::lingering) {
      // Waits for the client's end: closing with unread input would destroy the answer on its way.
      if (eof_) return close();
      if (!std::exchange(shut_, true)) {
        ::shutdown(watch_->fd(), SHUT_WR);
        set_deadline(linger_time);
      }
      watch_->want_read();
    } else if (eof_ && in_.empty() && !next_ && turns_.empty()) {
      close();
    }
  }

  // ---- time: one timer, moved lazily

  void set_deadline(base::Nanos d) {
    deadline_ = loop_.now() + d;
    if (timer_ && timer_at_ <= deadline_) return;
    if (timer_) loop_.cancel(timer_);
    arm();
  }
  void no_deadline() { deadline_ = base::Instant::max(); }
  void arm() {
    timer_at_ = deadline_;
    timer_ = loop_.at(deadline_, [this] {
      timer_ = 0;
      if (deadline_ == base::Instant::max()) return;
      if (loop_.now() < deadline_) return arm();
      expired();
    });
  }
  void expired() {
    const auto self = shared_from_this();
    if (state_ == State::open && turns_.empty() && parser_->started() && out_bytes_ == 0) {
      refuse(408, "the request did not arrive in time");
    } else {
      close();
    }
  }

  void close() {
    if (state_ == State::closed) return;
    const auto self = shared_from_this();
    state_ = State::closed;
    server_->conns.erase(this);
    watch_.reset();
    out_.clear();
    out_bytes_ = 0;
    if (timer_) loop_.cancel(std::exchange(timer_, 0));
    // Posted: it may be the answer's own write() that found out.
    for (Turn& t : turns_) {
      if (t.gone) loop_.post(std::move(t.gone));
      if (t.room) loop_.post(std::move(t.room));
    }
    turns_.clear();
    release(loop_, held_);
  }

  const std::shared_ptr<Server> server_;
  RealLoop& loop_;
  const std::string peer_;
  std::unique_ptr<FdWatch> watch_;
  State state_ = State::open;
  std::uint64_t held_ = 0;

  std::string in_;
  std::optional<RequestParser> parser_;
  bool continued_ = false, processing_ = false, paused_ = false, eof_ = false;
  std::optional<HttpRequest> next_;  // read ahead, not handed over
  bool next_keep_alive_ = true, next_http10_ = false;

  std::deque<Turn> turns_;                // handed over, in order; the first one's answer is being sent
  std::uint64_t serial_ = 0, first_ = 1;  // of the last request; of the first that is not answered
  std::size_t window_ = 1;                // how many turns there may be
  std::string method_, target_;           // of the last turn

  std::deque<std::string> out_;
  std::size_t out_offset_ = 0, out_bytes_ = 0;
  bool flush_pending_ = false, write_stalled_ = false, shut_ = false;

  base::Instant deadline_ = base::Instant::max(), timer_at_{0};
  base::TimerId timer_ = 0;
};

class Reply final : public HttpReply {
 public:
  Reply(std::shared_ptr<HttpConn> conn, std::uint64_t serial) : conn_(std::move(conn)), serial_(serial) {}
  ~Reply() override { conn_->dropped(serial_); }
  void send(unsigned status, std::vector<HttpHeader> headers, std::string body) override {
    conn_->send(serial_, status, std::move(headers), std::move(body));
  }
  bool begin(unsigned status, std::vector<HttpHeader> headers) override { return conn_->begin(serial_, status, std::move(headers)); }
  bool write(std::string chunk) override { return conn_->write(serial_, std::move(chunk)); }
  void end() override { conn_->end(serial_); }
  void on_gone(Function<void()> fn) override { conn_->on_gone(serial_, std::move(fn)); }
  void when_room(Function<void()> fn) override { conn_->when_room(serial_, std::move(fn)); }

 private:
  std::shared_ptr<HttpConn> conn_;
  const std::uint64_t serial_;
};

void HttpConn::deliver(HttpRequest request, std::uint64_t serial) {
  auto reply = std::make_shared<Reply>(shared_from_this(), serial);
  const auto handler = server_->handler;
  if (!handler) return reply->send(503, {}, "this server is stopping\n");
  (*handler)(std::move(request), std::move(reply));
}

class HttpListener final : public Listener {
 public:
  HttpListener(std::shared_ptr<Server> server, std::unique_ptr<Acceptor> acceptor)
      : server_(std::move(server)), acceptor_(std::move(acceptor)) {}
  ~HttpListener() override {
    // What the handler captured may be the caller; it ends after the callback that runs now, if one does.
    server_->loop.post([handler = std::move(server_->handler)] {});
    server_->handler = nullptr;
    const std::vector<HttpConn*> conns(server_->conns.begin(), server_->conns.end());
    for (HttpConn* c : conns) c->drain();
  }
  [[nodiscard]] const Address& address() const override { return acceptor_->address(); }

 private:
  std::shared_ptr<Server> server_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace

Result<std::unique_ptr<Listener>> serve_http(RealLoop& loop, const Address& address, Function<void(HttpRequest, HttpReplyPtr)> handler,
                                             HttpServerOptions options) {
  auto server = std::make_shared<Server>(
      Server{loop, options, std::make_shared<Function<void(HttpRequest, HttpReplyPtr)>>(std::move(handler)), {}});
  GANTRY_TRY(auto acceptor, Acceptor::make(loop, address, [server](base::Fd fd, std::string peer) {
               // Even refusals take room for a moment; beyond that there is no answer at all.
               if (server->conns.size() >= 2 * server->options.max_connections) return;
               auto conn = std::make_shared<HttpConn>(server, std::move(fd), std::move(peer));
               const bool full = server->conns.size() >= server->options.max_connections;
               conn->start();
               if (full) conn->refuse(503, "too many connections");
             }));
  return std::unique_ptr<Listener>(std::make_unique<HttpListener>(std::move(server), std::move(acceptor)));
}

}  // namespace gantry::net
