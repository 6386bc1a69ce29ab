#include "kernel/net/net.hpp"

#include <arpa/inet.h>
#include <sys/un.h>

#include <charconv>

namespace gantry::net {
namespace {

constexpr std::string_view forms = "; write \"host:port\", \"[v6]:port\" or \"unix:/path\"";

Error bad(std::string_view text, std::string_view why) {
  return fail(Code::invalid_argument, "address \"" + std::string(text) + "\" " + std::string(why) + std::string(forms));
}

bool is_v6(const std::string& host) {
  in6_addr a;
  return ::inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &a) == 1;
}

}  // namespace

std::string Address::text() const {
  if (unix_socket) return "unix:" + host;
  if (host.find(':') != std::string::npos) return "[" + host + "]:" + std::to_string(port);
  return host + ":" + std::to_string(port);
}

bool Address::loopback() const {
  if (unix_socket || host == "localhost") return true;
  in_addr v4;
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  if (::inet_pton(AF_INET6, host.c_str(), &v6) != 1) return false;
  return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

Result<Address> parse_address(std::string_view text) {
  Address a;
  if (text.starts_with("unix:")) {
    a.unix_socket = true;
    a.host = text.substr(5);
    if (!a.host.starts_with('/')) return bad(text, "needs an absolute path after unix:");
    if (a.host.find('\0') != std::string::npos) return bad(text, "has a zero byte in its path");
    if (a.host.size() >= sizeof(sockaddr_un::sun_path))
      return bad(text, "has a path longer than " + std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes");
    return a;
  }
  std::string_view port;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return bad(text, "lacks a closing bracket");
    a.host = text.substr(1, end - 1);
    if (!is_v6(a.host)) return bad(text, "has no IPv6 address in its brackets");
    if (end + 1 >= text.size() || text[end + 1] != ':') return bad(text, "names no port");
    port = text.substr(end + 2);
  } else {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos) return bad(text, "names no port");
    a.host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (a.host.empty()) return bad(text, "names no host (0.0.0.0 is every address)");
    if (a.host.find(':') != std::string::npos) return bad(text, "has an IPv6 address without brackets");
    for (const char c : a.host)
      if (static_cast<unsigned char>(c) <= ' ' || c == '/' || c == '@' || c == 0x7f) return bad(text, "has a character no host name has");
  }
  const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), a.port);
  if (port.empty() || ec != std::errc() || end != port.data() + port.size()) return bad(text, "has no port from 0 to 65535");
  return a;
}

}  // namespace gantry::net
