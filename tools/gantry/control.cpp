#include "tools/gantry/control.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace gantry::cli {
namespace {

constexpr std::uint32_t max_answer = 64u << 20;
constexpr int timeout_s = 30;
// The first frame of an operator's connection: agents and operators share the master's port (kernel/control.hpp).
constexpr std::string_view preamble = "gantry-control-1";

// A frame: the length, little-endian, then the payload.
std::vector<std::uint8_t> frame_of(Bytes payload) {
  std::vector<std::uint8_t> out(4 + payload.size());
  for (std::size_t i = 0; i < 4; ++i) out[i] = static_cast<std::uint8_t>(payload.size() >> (8 * i));
  if (!payload.empty()) std::memcpy(out.data() + 4, payload.data(), payload.size());
  return out;
}

Error unreachable(const std::string& address, const std::string& why) {
  return fail(Code::unavailable, "cannot reach gantryd at " + address + ": " + why);
}

// A TCP connect that does not hang for minutes on a machine that is gone.
Status connect_in_time(int fd, const sockaddr* to, socklen_t size) {
  if (::connect(fd, to, size) == 0) return ok;
  if (errno != EINPROGRESS) return fail(Code::unavailable, std::strerror(errno));
  pollfd p{fd, POLLOUT, 0};
  int n;
  do n = ::poll(&p, 1, 5000);
  while (n < 0 && errno == EINTR);
  if (n == 0) return fail(Code::unavailable, "it does not answer");
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error) return fail(Code::unavailable, std::strerror(error));
  return ok;
}

}  // namespace

Result<Daemon> Daemon::connect(const std::string& address) {
  const timeval limit{timeout_s, 0};
  const bool is_unix = address.starts_with("unix:") || address.starts_with('/') || address.starts_with("./");
  if (is_unix) {
    const std::string path = address.starts_with("unix:") ? address.substr(5) : address;
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof to.sun_path)
      return fail(Code::invalid_argument, "\"" + path + "\" is not a path a socket can have");
    std::memcpy(to.sun_path, path.c_str(), path.size() + 1);
    base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
      const int error = errno;
      Error e = unreachable(
          path, error == EACCES ? "permission denied; run as the user of gantryd, or as root" : std::strerror(error));
      if (error == EACCES) e.code = Code::permission_denied;
      return e;
    }
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return Daemon(std::move(fd), path);
  }
  const auto colon = address.rfind(':');
  if (colon == std::string::npos || colon + 1 == address.size())
    return fail(Code::invalid_argument,
                "\"" + address + "\" is not an address; expected host:port or the path of a socket");
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int rc =
          ::getaddrinfo(host.empty() ? "127.0.0.1" : host.c_str(), address.c_str() + colon + 1, &hints, &found);
      rc != 0)
    return unreachable(address, ::gai_strerror(rc));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> guard(found, &::freeaddrinfo);
  std::string why = "it has no address";
  for (const addrinfo* a = found; a; a = a->ai_next) {
    base::Fd fd(::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) continue;
    const Status connected = connect_in_time(fd.get(), a->ai_addr, a->ai_addrlen);
    if (!connected) {
      why = connected.error().message;
      continue;
    }
    base::Fd blocking = std::move(fd);
    const int flags = ::fcntl(blocking.get(), F_GETFL);
    ::fcntl(blocking.get(), F_SETFL, flags & ~O_NONBLOCK);
    ::setsockopt(blocking.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return Daemon(std::move(blocking), address);
  }
  return unreachable(address, why);
}

Result<Daemon> Daemon::find(const Context& context) {
  if (!context.address.empty()) {
    auto d = connect(context.address);
    if (d) d->credentials(context.principal, context.secret);
    return d;
  }
  std::string tried, denied;
  for (const char* place : {"/run/gantry/gantry.sock", "/var/lib/gantry/gantry.sock", "127.0.0.1:5060"}) {
    auto d = connect(place);
    if (d) {
      d->credentials(context.principal, context.secret);
      return d;
    }
    if (d.error().code == Code::permission_denied && denied.empty()) denied = d.error().message;
    tried += (tried.empty() ? "" : ", ") + std::string(place);
  }
  if (!denied.empty()) return fail(Code::permission_denied, denied);
  return fail(Code::unavailable, "no gantryd is reachable (tried " + tried +
                                     "); start it, or name its socket or host:port with --address or GANTRY_ADDRESS");
}

Status Daemon::write(Bytes bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::send(fd_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return unreachable(address_, std::strerror(errno));
    done += static_cast<std::size_t>(n);
  }
  return ok;
}

Status Daemon::read(std::uint8_t* to, std::size_t n) {
  std::size_t done = 0;
  while (done < n) {
    const ssize_t got = ::recv(fd_.get(), to + done, n - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) return unreachable(address_, "it closed the connection; is that the address of a gantryd?");
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return unreachable(address_, "it did not answer within 30 s");
    if (got < 0) return unreachable(address_, std::strerror(errno));
    done += static_cast<std::size_t>(got);
  }
  return ok;
}

Result<std::uint64_t> Daemon::send(fb::control::QuestionT question) {
  question.id = ++last_id_;
  question.principal = principal_;
  question.secret = secret_;
  if (last_id_ == 1) GANTRY_CHECK(write(frame_of(as_bytes(preamble))));
  GANTRY_CHECK(write(frame_of(pack(question))));
  return last_id_;
}

Result<fb::control::AnswerT> Daemon::receive() {
  std::uint8_t head[4];
  GANTRY_CHECK(read(head, 4));
  const std::uint32_t size = head[0] | std::uint32_t{head[1]} << 8 | std::uint32_t{head[2]} << 16 | std::uint32_t{head[3]} << 24;
  if (size > max_answer) return fail(Code::internal, address_ + " does not speak the protocol of gantryd; is that its address?");
  std::vector<std::uint8_t> bytes(size);
  GANTRY_CHECK(read(bytes.data(), size));
  auto answer = unpack<fb::control::Answer>(bytes);
  if (!answer) return fail(Code::internal, address_ + " sent a malformed answer; are gantry and gantryd of the same release?");
  return std::move(*answer);
}

Status Daemon::ask(fb::control::QuestionT question, const std::function<void(const fb::control::AnswerT&)>& each) {
  GANTRY_TRY(const std::uint64_t id, send(std::move(question)));
  for (;;) {
    GANTRY_TRY(const fb::control::AnswerT answer, receive());
    if (answer.id != id) continue;  // late, of a question given up
    if (const auto* problem = answer.say.AsProblem()) {
      const auto code = static_cast<Code>(problem->code);
      return fail(problem->code < 0 ? code : Code::unknown, problem->message);
    }
    each(answer);
    if (!answer.more) return ok;
  }
}

}  // namespace gantry::cli
