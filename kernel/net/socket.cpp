#include "kernel/net/socket.hpp"

#include "kernel/base/log.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace gantry::net {
namespace {

struct SockAddr {
  sockaddr_storage storage{};
  socklen_t size = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

SockAddr unix_address(const std::string& path) {
  SockAddr a;
  auto* u = reinterpret_cast<sockaddr_un*>(&a.storage);
  u->sun_family = AF_UNIX;
  std::memcpy(u->sun_path, path.data(), std::min(path.size(), sizeof(u->sun_path) - 1));
  a.size = sizeof(sockaddr_un);
  return a;
}

// Without numeric_only this asks DNS and blocks.
Result<std::vector<SockAddr>> resolve(const Address& address, bool numeric_only) {
  if (address.unix_socket) return std::vector{unix_address(address.host)};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : 0);
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &list);
  if (error != 0)
    return fail(Code::unavailable, "cannot resolve host \"" + address.host + "\": " + ::gai_strerror(error));
  std::vector<SockAddr> out;
  for (const addrinfo* i = list; i; i = i->ai_next) {
    SockAddr a;
    std::memcpy(&a.storage, i->ai_addr, i->ai_addrlen);
    a.size = i->ai_addrlen;
    out.push_back(a);
  }
  ::freeaddrinfo(list);
  return out;
}

Address address_of(const SockAddr& a) {
  char text[INET6_ADDRSTRLEN] = "";
  Address out;
  if (a.storage.ss_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&a.storage);
    ::inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    out.port = ntohs(in->sin_port);
  } else if (a.storage.ss_family == AF_INET6) {
    const auto* in = reinterpret_cast<const sockaddr_in6*>(&a.storage);
    if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
      ::inet_ntop(AF_INET, &in->sin6_addr.s6_addr[12], text, sizeof text);
    } else {
      ::inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
    }
    out.port = ntohs(in->sin6_port);
  }
  out.host = text;
  return out;
}

void no_delay(int fd, int family) {
  const int on = 1;
  if (family != AF_UNIX) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// True if nobody listens behind the socket file any more.
bool stale(const SockAddr& a) {
  const base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return fd && ::connect(fd.get(), a.get(), a.size) != 0 && errno == ECONNREFUSED;
}

Error listen_error(const Address& address, int error) {
  const std::string where = "listen on " + address.text();
  if (error == EADDRINUSE)
    return fail(Code::already_exists, where + ": the address is already in use; stop that program or set another address");
  if (error == EACCES)
    return fail(Code::permission_denied, where + ": permission denied; use a port above 1023 or run with CAP_NET_BIND_SERVICE");
  if (error == EADDRNOTAVAIL)
    return fail(Code::unavailable, where + ": this machine has no such address; set one of its own, or 0.0.0.0");
  return fail(Code::unavailable, where + ": " + errno_text(error));
}

}  // namespace

std::string errno_text(int error) {
  char buffer[128];
  return ::strerror_r(error, buffer, sizeof buffer);
}

std::ptrdiff_t receive(int fd, void* data, std::size_t size) {
  ssize_t n = 0;
  do n = ::recv(fd, data, size, 0);
  while (n < 0 && errno == EINTR);
  return n;
}

// ---- accepting

struct Acceptor::State : std::enable_shared_from_this<State> {
  State(RealLoop& l, Address a, Function<void(base::Fd, std::string)> f) : loop(l), address(std::move(a)), on_accept(std::move(f)) {}
  RealLoop& loop;
  Address address;
  Function<void(base::Fd, std::string)> on_accept;
  std::unique_ptr<FdWatch> watch;
  base::TimerId retry = 0;
  bool calling = false;

  void accept() {
    const auto self = shared_from_this();
    for (int burst = 0; burst < 64 && watch; ++burst) {
      SockAddr from;
      from.size = sizeof from.storage;
      base::Fd fd(::accept4(watch->fd(), from.get(), &from.size, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        // Out of descriptors or memory: the listener stays readable, so pause instead of spinning.
        base::log_warning("net", "cannot accept connections for now", {{"address", address.text()}, {"error", errno_text(errno)}});
        retry = loop.after(std::chrono::milliseconds(100), [this] {
          retry = 0;
          if (watch) watch->want_read();
        });
        return;
      }
      no_delay(fd.get(), from.storage.ss_family);
      calling = true;
      on_accept(std::move(fd), address.unix_socket ? address.text() : address_of(from).text());
      calling = false;
    }
    if (watch) watch->want_read();
  }
};

Result<std::unique_ptr<Acceptor>> Acceptor::make(RealLoop& loop, const Address& address,
                                                 Function<void(base::Fd, std::string)> on_accept) {
  GANTRY_TRY(const auto list, resolve(address, false));
  int error = EADDRNOTAVAIL;
  for (const SockAddr& a : list) {
    const int family = a.storage.ss_family;
    base::Fd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
      error = errno;
      continue;
    }
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int bound = ::bind(fd.get(), a.get(), a.size);
    if (bound != 0 && errno == EADDRINUSE && address.unix_socket) {
      if (stale(a)) {
        ::unlink(address.host.c_str());
        bound = ::bind(fd.get(), a.get(), a.size);
      } else {
        errno = EADDRINUSE;
      }
    }
    if (bound != 0 || ::listen(fd.get(), SOMAXCONN) != 0) {
      error = errno;
      continue;
    }
    auto state = std::make_shared<State>(loop, address, std::move(on_accept));
    if (!address.unix_socket) {
      SockAddr real;
      real.size = sizeof real.storage;
      ::getsockname(fd.get(), real.get(), &real.size);
      state->address.port = address_of(real).port;
    }
    state->watch = std::make_unique<FdWatch>(loop, std::move(fd), [s = state.get()] { s->accept(); }, nullptr);
    state->watch->want_read();
    return std::unique_ptr<Acceptor>(new Acceptor(std::move(state)));
  }
  return listen_error(address, error);
}

Acceptor::~Acceptor() {
  if (state_->retry) state_->loop.cancel(state_->retry);
  state_->watch.reset();
  if (state_->address.unix_socket) ::unlink(state_->address.host.c_str());
  // The callback may be running, or own what owns this; it ends with the state.
  if (state_->calling) state_->loop.post([s = state_] { s->on_accept = nullptr; });
}

const Address& Acceptor::address() const { return state_->address; }

// ---- dialling

namespace {

struct Dial : std::enable_shared_from_this<Dial> {
  Dial(RealLoop& l, Address a, Function<void(Result<base::Fd>)> d) : loop(l), address(std::move(a)), done(std::move(d)) {}
  RealLoop& loop;
  Address address;
  Function<void(Result<base::Fd>)> done;
  std::vector<SockAddr> list;
  std::size_t next = 0;
  std::unique_ptr<FdWatch> watch;
  base::TimerId timer = 0;
  std::uint64_t held = 0;
  Error last = fail(Code::unavailable, "no address");

  ~Dial() {
    if (timer) loop.cancel(timer);
  }
  void finish(Result<base::Fd> result) {
    if (!done) return;
    const auto self = shared_from_this();
    release(loop, held);
    watch.reset();
    if (timer) loop.cancel(std::exchange(timer, 0));
    auto call = std::move(done);
    if (result) {
      call(std::move(result));
    } else {
      call(std::move(result).error().because("connect to " + address.text()));
    }
  }
  void resolved(Result<std::vector<SockAddr>> result) {
    if (!done) return;
    if (!result) return finish(std::move(result).error());
    list = std::move(*result);
    try_next();
  }
  void try_next() {
    while (next < list.size()) {
      const SockAddr& a = list[next++];
      base::Fd fd(::socket(a.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!fd) {
        last = fail(Code::unavailable, errno_text(errno));
        continue;
      }
      no_delay(fd.get(), a.storage.ss_family);
      if (::connect(fd.get(), a.get(), a.size) == 0) return finish(std::move(fd));
      if (errno != EINPROGRESS && errno != EINTR) {
        last = fail(Code::unavailable, errno_text(errno));
        continue;
      }
      watch = std::make_unique<FdWatch>(loop, std::move(fd), nullptr, [this] { connected(); });
      watch->want_write();
      return;
    }
    finish(last);
  }
  void connected() {
    const auto self = shared_from_this();
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(watch->fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0) {
      base::Fd fd(::fcntl(watch->fd(), F_DUPFD_CLOEXEC, 0));  // the watch keeps and closes its own copy
      if (fd) return finish(std::move(fd));
      error = errno;
    }
    last = fail(Code::unavailable, errno_text(error));
    watch.reset();
    try_next();
  }
};

}  // namespace

void dial(RealLoop& loop, const Address& address, base::Nanos timeout, Function<void(Result<base::Fd>)> done) {
  auto d = std::make_shared<Dial>(loop, address, std::move(done));
  d->held = hold(loop, d);
  const std::weak_ptr<Dial> weak = d;
  d->timer = loop.after(timeout, [weak, timeout] {
    const auto self = weak.lock();
    if (!self) return;
    self->timer = 0;
    self->finish(fail(Code::deadline_exceeded, "no answer within " + std::to_string(timeout.count() / 1'000'000) + " ms"));
  });
  auto numeric = resolve(address, true);
  if (numeric) {
    loop.post([weak, list = std::move(numeric)]() mutable {
      if (const auto self = weak.lock()) self->resolved(std::move(list));
    });
    return;
  }
  auto answer = std::make_shared<std::optional<Result<std::vector<SockAddr>>>>();
  loop.offload([answer, address] { answer->emplace(resolve(address, false)); },
               [answer, weak] {
                 if (const auto self = weak.lock()) self->resolved(std::move(**answer));
               });
}

void probe_tcp(RealLoop& loop, const Address& address, base::Nanos timeout, Function<void(Status)> done) {
  dial(loop, address, timeout, [done = std::move(done)](Result<base::Fd> fd) mutable {
    if (fd) {
      done(Status());
    } else {
      done(fail(Code::unavailable, std::move(fd.error().message)));
    }
  });
}

}  // namespace gantry::net
