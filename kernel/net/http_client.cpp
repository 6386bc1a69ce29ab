// HTTP and HTTPS client: one connection a request, closed after it. Redirects are the caller's to follow.
#include "kernel/net/http_parse.hpp"
#include "kernel/net/socket.hpp"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>
#include <vector>

namespace gantry::net {
namespace {

// Made once; certificates of the system are read then.
SSL_CTX* tls_context() {
  static SSL_CTX* const context = [] {
    SSL_CTX* c = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
    SSL_CTX_set_default_verify_paths(c);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return c;
  }();
  return context;
}

std::string tls_error() {
  const unsigned long e = ERR_get_error();
  ERR_clear_error();
  if (e == 0) return "the connection was closed";
  const char* reason = ERR_reason_error_string(e);
  return reason ? reason : "error " + std::to_string(e);
}

class Fetch : public std::enable_shared_from_this<Fetch> {
 public:
  Fetch(RealLoop& loop, HttpFetch fetch, Function<void(Result<HttpFetched>)> done)
      : loop_(loop), fetch_(std::move(fetch)), done_(std::move(done)), parser_(fetch_.max_body, fetch_.method == "HEAD") {}
  ~Fetch() {
    if (timer_) loop_.cancel(timer_);
    if (ssl_) SSL_free(ssl_);
  }

  void start() {
    held_ = hold(loop_, shared_from_this());
    auto url = parse_url(fetch_.url);
    if (!url) return later(std::move(url).error());
    url_ = std::move(*url);
    if (fetch_.method.empty() || fetch_.method.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_abcdefghijklmnopqrstuvwxyz") != std::string::npos)
      return later(fail(Code::invalid_argument, "method \"" + fetch_.method + "\" is not a word"));
    build();
    timer_ = loop_.after(fetch_.timeout, [this] {
      timer_ = 0;
      finish(fail(Code::deadline_exceeded, "no complete answer within " + std::to_string(fetch_.timeout.count() / 1'000'000) + " ms"));
    });
    Address to{url_.host, url_.port, false};
    if (!fetch_.unix_socket.empty()) to = Address{fetch_.unix_socket, 0, true};
    dial(loop_, to, fetch_.timeout, [weak = weak_from_this()](Result<base::Fd> fd) {
      if (const auto self = weak.lock(); self && self->done_) self->connected(std::move(fd));
    });
  }

 private:
  void build() {
    out_ = fetch_.method + " " + url_.target + " HTTP/1.1\r\n";
    bool host = false, agent = false, accept = false;
    for (const auto& h : fetch_.headers) {
      if (same_name(h.name, "content-length") || same_name(h.name, "transfer-encoding") || same_name(h.name, "connection")) continue;
      host = host || same_name(h.name, "host");
      agent = agent || same_name(h.name, "user-agent");
      accept = accept || same_name(h.name, "accept");
      append_header(out_, h.name, h.value);
    }
    if (!host) append_header(out_, "Host", url_.authority);
    if (!agent) append_header(out_, "User-Agent", "gantry");
    if (!accept) append_header(out_, "Accept", "*/*");
    if (!fetch_.body.empty() || fetch_.method == "POST" || fetch_.method == "PUT" || fetch_.method == "PATCH")
      append_header(out_, "Content-Length", std::to_string(fetch_.body.size()));
    out_ += "Connection: close\r\n\r\n";
    out_ += fetch_.body;
  }

  void connected(Result<base::Fd> fd) {
    if (!fd) return finish(std::move(fd).error());
    watch_ = std::make_unique<FdWatch>(loop_, std::move(*fd), [this] { step(); }, [this] { step(); });
    if (url_.tls) {
      ssl_ = SSL_new(tls_context());
      SSL_set_fd(ssl_, watch_->fd());
      SSL_set_connect_state(ssl_);
      in6_addr ip;
      const bool literal = ::inet_pton(AF_INET, url_.host.c_str(), &ip) == 1 || ::inet_pton(AF_INET6, url_.host.c_str(), &ip) == 1;
      if (!literal) SSL_set_tlsext_host_name(ssl_, url_.host.c_str());
      if (fetch_.verify) {
        SSL_set_verify(ssl_, SSL_VERIFY_PEER, nullptr);
        if (literal) {
          X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), url_.host.c_str());
        } else {
          SSL_set1_host(ssl_, url_.host.c_str());
        }
      }
    }
    step();
  }

  // Moves on as far as the socket allows: handshake, request, answer.
  void step() {
    const auto self = shared_from_this();
    if (!done_) return;
    if (ssl_ && !SSL_is_init_finished(ssl_)) {
      ERR_clear_error();
      const int n = SSL_do_handshake(ssl_);
      if (n != 1) {
        if (tls_waits(n)) return;
        const long verify = SSL_get_verify_result(ssl_);
        return finish(fail(Code::unavailable, "TLS with " + url_.authority + ": " +
                                                  (fetch_.verify && verify != X509_V_OK ? X509_verify_cert_error_string(verify) : tls_error())));
      }
    }
    while (!send_failed_ && sent_ < out_.size()) {
      const auto n = put(out_.data() + sent_, out_.size() - sent_);
      if (n == wait_more) break;
      if (n <= 0) {
        send_failed_ = true;  // the answer may already be there (a 413 for example)
        break;
      }
      sent_ += static_cast<std::size_t>(n);
    }
    receive_answer();
  }

  void receive_answer() {
    buffer_.resize(64u << 10);
    for (int burst = 0; burst < 16; ++burst) {
      const auto n = get(buffer_.data(), buffer_.size());
      if (n == wait_more) return;
      HttpProgress p;
      if (n > 0) {
        in_.append(buffer_.data(), static_cast<std::size_t>(n));
        p = parser_.feed(in_);
        in_.erase(0, p.consumed);
      } else if (n == 0) {
        p = parser_.end();
      } else {
        return finish(fail(Code::unavailable, "connection to " + url_.authority + " failed: " + errno_text(errno)));
      }
      if (p.state == HttpProgress::State::done) return finish(parser_.take());
      if (p.state == HttpProgress::State::bad) {
        if (p.status == 413)
          return finish(fail(Code::resource_exhausted, "the answer is larger than max_body, " + std::to_string(fetch_.max_body) + " bytes"));
        return finish(fail(Code::unavailable, p.error));
      }
    }
    // Others have their turn; TLS may hold bytes the socket no longer shows.
    loop_.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->step();
    });
  }

  // ---- plain or TLS: > 0 bytes, 0 end, -1 failure, wait_more once readiness was asked for
  static constexpr std::ptrdiff_t wait_more = -2;

  bool tls_waits(int n) {
    switch (SSL_get_error(ssl_, n)) {
      case SSL_ERROR_WANT_READ: watch_->want_read(); return true;
      case SSL_ERROR_WANT_WRITE: watch_->want_write(); return true;
      default: return false;
    }
  }
  std::ptrdiff_t put(const char* data, std::size_t size) {
    if (ssl_) {
      ERR_clear_error();
      const int n = SSL_write(ssl_, data, static_cast<int>(std::min<std::size_t>(size, 1u << 30)));
      return n > 0 ? n : tls_waits(n) ? wait_more : -1;
    }
    ssize_t n = 0;
    do n = ::send(watch_->fd(), data, size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      watch_->want_write();
      return wait_more;
    }
    return n;
  }
  std::ptrdiff_t get(char* data, std::size_t size) {
    if (ssl_) {
      ERR_clear_error();
      const int n = SSL_read(ssl_, data, static_cast<int>(size));
      if (n > 0) return n;
      if (tls_waits(n)) return wait_more;
      // Without close_notify somebody else may have cut the answer short.
      if (SSL_get_error(ssl_, n) == SSL_ERROR_ZERO_RETURN) return 0;
      errno = ECONNABORTED;
      return -1;
    }
    const auto n = receive(watch_->fd(), data, size);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      watch_->want_read();
      return wait_more;
    }
    return n;
  }

  void later(Error error) {
    loop_.post([self = shared_from_this(), error = std::move(error)]() mutable { self->finish(std::move(error)); });
  }
  void finish(Result<HttpFetched> result) {
    if (!done_) return;
    const auto self = shared_from_this();
    const auto done = std::make_unique<Function<void(Result<HttpFetched>)>>(std::move(done_));
    done_ = nullptr;
    if (timer_) loop_.cancel(std::exchange(timer_, 0));
    if (ssl_) {
      SSL_free(ssl_);
      ssl_ = nullptr;
    }
    watch_.reset();
    release(loop_, held_);
    if (result) {
      (*done)(std::move(result));
    } else {
      (*done)(std::move(result).error().because(fetch_.method + " " + fetch_.url.substr(0, fetch_.url.find('?'))));
    }
  }

  RealLoop& loop_;
  const HttpFetch fetch_;
  Function<void(Result<HttpFetched>)> done_;  // empty: finished
  ResponseParser parser_;
  Url url_;
  std::string out_, in_;
  std::vector<char> buffer_;
  std::size_t sent_ = 0;
  bool send_failed_ = false;
  std::unique_ptr<FdWatch> watch_;
  SSL* ssl_ = nullptr;
  base::TimerId timer_ = 0;
  std::uint64_t held_ = 0;
};

}  // namespace

void fetch_http(RealLoop& loop, HttpFetch fetch, Function<void(Result<HttpFetched>)> done) {
  std::make_shared<Fetch>(loop, std::move(fetch), std::move(done))->start();
}

}  // namespace gantry::net
