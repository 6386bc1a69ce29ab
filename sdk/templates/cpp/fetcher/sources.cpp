#include "sources.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

namespace @NAME_ID@ {

using namespace gantry;
using Clock = std::chrono::steady_clock;

namespace {

struct Fd {
  int fd = -1;
  ~Fd() {
    if (fd >= 0) ::close(fd);
  }
};

struct HttpUrl {
  std::string host, port, target;
};

Result<HttpUrl> parse_http(const std::string& uri) {
  HttpUrl u;
  const std::string rest = uri.substr(7);
  const std::size_t slash = std::min(rest.find_first_of("/?#"), rest.size());
  std::string authority = rest.substr(0, slash);
  u.target = rest.substr(slash, rest.find('#') - slash);
  if (u.target.empty() || u.target.front() != '/') u.target.insert(0, "/");
  const std::size_t colon = authority.rfind(':');
  u.port = colon == std::string::npos ? "80" : authority.substr(colon + 1);
  u.host = authority.substr(0, colon);
  const bool printable = std::all_of(rest.begin(), rest.end(), [](char c) { return c > ' ' && c < 127; });
  if (u.host.empty() || u.port.empty() || u.host.find('@') != std::string::npos || !printable)
    return fail(Code::invalid_argument, "\"" + uri.substr(0, 120) + "\" is no http://host[:port]/path");
  return u;
}

// Waits until the socket is ready, the transfer stalls or is cancelled.
Status ready(int fd, short events, const Limits& limits, const std::atomic<bool>& cancelled) {
  for (const auto end = Clock::now() + limits.stall;;) {
    if (cancelled) return fail(Code::cancelled, "the transfer was cancelled");
    pollfd p{fd, events, 0};
    if (const int n = ::poll(&p, 1, 50); n > 0) return ok;
    if (Clock::now() >= end) return fail(Code::deadline_exceeded, "nothing came for " + std::to_string(limits.stall.count()) + " ms");
  }
}

Status connect_to(const HttpUrl& u, const Limits& limits, const std::atomic<bool>& cancelled, Fd& out) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int e = ::getaddrinfo(u.host.c_str(), u.port.c_str(), &hints, &found); e != 0)
    return fail(Code::unavailable, "host " + u.host + ": " + ::gai_strerror(e));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, &::freeaddrinfo);
  int error = EHOSTUNREACH;
  for (const addrinfo* a = found; a; a = a->ai_next) {
    Fd s{::socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol)};
    if (s.fd < 0) continue;
    if (::connect(s.fd, a->ai_addr, a->ai_addrlen) != 0) {
      if (errno != EINPROGRESS) {
        error = errno;
        continue;
      }
      GANTRY_CHECK(ready(s.fd, POLLOUT, limits, cancelled));
      socklen_t n = sizeof error;
      if (::getsockopt(s.fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0 || error != 0) continue;
    }
    out.fd = std::exchange(s.fd, -1);
    return ok;
  }
  return fail(Code::unavailable, "connect to " + u.host + ":" + u.port + ": " + std::strerror(error));
}

Status http_status(int status) {
  const std::string s = "the server answered " + std::to_string(status);
  if (status == 200) return ok;
  if (status == 404 || status == 410) return fail(Code::not_found, s);
  if (status == 401 || status == 403) return fail(Code::permission_denied, s);
  return fail(Code::unavailable, status / 100 == 3 ? s + "; redirections are not followed" : s);
}

// HTTP/1.0, so that the body is not chunked and ends with the connection or at Content-Length.
Status bring_http(const std::string& uri, const Limits& limits, const std::atomic<bool>& cancelled, Sandbox::File& to) {
  GANTRY_TRY(const HttpUrl u, parse_http(uri));
  Fd s;
  GANTRY_CHECK(connect_to(u, limits, cancelled, s));
  std::string request = "GET " + u.target + " HTTP/1.0\r\nHost: " + u.host + ":" + u.port + "\r\nConnection: close\r\n\r\n";
  while (!request.empty()) {
    GANTRY_CHECK(ready(s.fd, POLLOUT, limits, cancelled));
    const ssize_t n = ::send(s.fd, request.data(), request.size(), MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return fail(Code::unavailable, std::string("send: ") + std::strerror(errno));
    if (n > 0) request.erase(0, static_cast<std::size_t>(n));
  }
  std::string head;
  bool body = false;
  std::uint64_t got = 0, length = UINT64_MAX;
  auto block = std::make_unique<char[]>(65536);
  while (got < length) {
    GANTRY_CHECK(ready(s.fd, POLLIN, limits, cancelled));
    const ssize_t n = ::recv(s.fd, block.get(), 65536, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n < 0) return fail(Code::unavailable, std::string("receive: ") + std::strerror(errno));
    if (n == 0) break;
    std::string_view data(block.get(), static_cast<std::size_t>(n));
    if (!body) {
      head.append(data);
      const std::size_t end = head.find("\r\n\r\n");
      if (end == std::string::npos && head.size() > 65536) return fail(Code::unavailable, "the server's header does not end");
      if (end == std::string::npos) continue;
      int status = 0;
      const std::size_t space = head.find(' ');
      if (!head.starts_with("HTTP/1.") || space == std::string::npos) return fail(Code::unavailable, "the server does not speak HTTP/1");
      std::from_chars(head.data() + space + 1, head.data() + end, status);
      GANTRY_CHECK(http_status(status));
      std::string lower = head.substr(0, end + 2);
      std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
      if (lower.find("\r\ntransfer-encoding:") != std::string::npos) return fail(Code::unavailable, "the server sends chunks to an HTTP/1.0 client");
      if (const std::size_t at = lower.find("\r\ncontent-length:"); at != std::string::npos) {
        const std::size_t digit = lower.find_first_not_of(' ', at + 17);
        if (std::from_chars(lower.data() + digit, lower.data() + lower.size(), length).ec != std::errc())
          return fail(Code::unavailable, "the server's Content-Length is no number");
      }
      body = true;
      head.erase(0, end + 4);
      data = head;
    }
    got += data.size();
    if (got > limits.max_size || (length != UINT64_MAX && length > limits.max_size))
      return fail(Code::resource_exhausted, "it is larger than max_size, " + std::to_string(limits.max_size) + " bytes");
    GANTRY_CHECK(to.write(data));
  }
  if (!body || (length != UINT64_MAX && got != length)) return fail(Code::unavailable, "the connection ended after " + std::to_string(got) + " bytes");
  return ok;
}

Status bring_file(const std::string& path, const std::optional<Owner>& owner, const Limits& limits, const std::atomic<bool>& cancelled,
                  Sandbox::File& to) {
  GANTRY_TRY(const int opened, open_as(path, owner));
  const Fd from{opened};
  auto block = std::make_unique<char[]>(65536);
  std::uint64_t got = 0;
  for (ssize_t n = 0; (n = ::read(from.fd, block.get(), 65536)) != 0;) {
    if (n < 0) return fail(Code::unavailable, path + ": " + std::strerror(errno));
    if (cancelled) return fail(Code::cancelled, "the copy was cancelled");
    if ((got += static_cast<std::uint64_t>(n)) > limits.max_size) return fail(Code::resource_exhausted, path + " is larger than max_size");
    GANTRY_CHECK(to.write({block.get(), static_cast<std::size_t>(n)}));
  }
  return ok;
}

}  // namespace

Result<std::string> artifact_name(const std::string& uri) {
  const std::string shown = "\"" + uri.substr(0, 120) + "\"";
  std::string path;
  if (uri.starts_with("http://")) {
    GANTRY_TRY(const HttpUrl u, parse_http(uri));
    path = u.target.substr(0, u.target.find('?'));
  } else if (uri.starts_with("file:///") || uri.starts_with('/')) {
    path = uri;
  } else {
    const std::size_t colon = uri.find("://");
    const std::string scheme = colon == std::string::npos ? "none" : "\"" + uri.substr(0, std::min<std::size_t>(colon, 32)) + "\"";
    return fail(Code::invalid_argument, "URI " + shown + ": scheme " + scheme + " is not served; write http://..., file:///... or an absolute path");
  }
  const std::string name = path.substr(path.rfind('/') + 1);
  if (name.empty() || name == "." || name == ".." || name.size() > 255)
    return fail(Code::invalid_argument, "URI " + shown + " does not end in a name; set output_file");
  return name;
}

Status bring(const std::string& uri, const std::optional<Owner>& owner, const Limits& limits, const std::atomic<bool>& cancelled, Sandbox::File& to) {
  if (uri.starts_with("http://")) return bring_http(uri, limits, cancelled, to);
  return bring_file(uri.starts_with("file://") ? uri.substr(7) : uri, owner, limits, cancelled, to);
}

// ---- tar (ustar)

namespace {

constexpr std::size_t kBlock = 512;

Result<bool> read_block(int fd, char* block) {
  std::size_t have = 0;
  for (ssize_t n = 0; have < kBlock && (n = ::read(fd, block + have, kBlock - have)) > 0;) have += static_cast<std::size_t>(n);
  if (have == 0) return false;
  if (have < kBlock) return fail(Code::invalid_argument, "the archive ends in the middle");
  return true;
}

std::string field(const char* block, std::size_t at, std::size_t size) { return {block + at, ::strnlen(block + at, size)}; }

Result<std::uint64_t> octal(const char* block, std::size_t at, std::size_t size) {
  std::string text = field(block, at, size);
  text.erase(0, text.find_first_not_of(' '));
  std::uint64_t value = 0;
  const auto [end, e] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (e != std::errc() || (end != text.data() + text.size() && *end != ' ')) return fail(Code::invalid_argument, "the archive has a header that is none");
  return value;
}

Status unpack_entry(int from, const char* block, const Sandbox& sandbox) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
  GANTRY_TRY(const std::uint64_t stated, octal(block, 148, 8));
  if (sum != stated) return fail(Code::invalid_argument, "the archive has a header with a wrong checksum");
  GANTRY_TRY(std::uint64_t left, octal(block, 124, 12));
  GANTRY_TRY(const std::uint64_t mode, octal(block, 100, 8));
  std::string name = field(block, 0, 100);
  if (std::memcmp(block + 257, "ustar", 5) == 0 && block[345] != 0) name = field(block, 345, 155) + "/" + name;
  const char type = block[156];
  if (type == '5') return sandbox.make_directories(name);
  if (type == '2') return sandbox.link(name, field(block, 157, 100));
  if (type != '0' && type != '\0') return fail(Code::invalid_argument, "entry \"" + name + "\" is of type '" + type + "'; files, directories and symbolic links are unpacked");
  GANTRY_TRY(Sandbox::File to, sandbox.create(name));
  char data[kBlock];
  while (left > 0) {
    GANTRY_TRY(const bool more, read_block(from, data));
    if (!more) return fail(Code::invalid_argument, "the archive ends in the middle of \"" + name + "\"");
    const std::size_t n = std::min<std::uint64_t>(left, kBlock);
    GANTRY_CHECK(to.write({data, n}));
    left -= n;
  }
  return to.keep((mode & 0111) ? 0755 : 0644);
}

}  // namespace

Status unpack_tar(int from, const Sandbox& sandbox) {
  if (::lseek(from, 0, SEEK_SET) < 0) return fail(Code::internal, "the archive cannot be read again");
  char block[kBlock];
  for (;;) {
    GANTRY_TRY(const bool more, read_block(from, block));
    if (!more) return fail(Code::invalid_argument, "the archive has no end");
    if (std::all_of(block, block + kBlock, [](char c) { return c == 0; })) return ok;
    GANTRY_CHECK(unpack_entry(from, block, sandbox));
  }
}

}  // namespace @NAME_ID@
