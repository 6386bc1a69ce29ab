// URLs and response heads as text: the part of HTTP that needs no parser.
#include "kernel/net/http_parse.hpp"

#include <array>
#include <cstdio>
#include <ctime>

namespace gantry::net {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// "Sun, 06 Nov 1994 08:49:37 GMT", whatever the locale.
std::string make_http_date(base::Wall wall) {
  static constexpr std::array days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array months{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t t = static_cast<std::time_t>(wall / 1'000'000'000);
  std::tm tm{};
  ::gmtime_r(&t, &tm);
  std::array<char, 80> out;
  const int n = std::snprintf(out.data(), out.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[static_cast<std::size_t>(tm.tm_wday)],
                              tm.tm_mday, months[static_cast<std::size_t>(tm.tm_mon)], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
  return {out.data(), static_cast<std::size_t>(n)};
}

// The same for a whole second, so it is made once a second.
const std::string& http_date(base::Wall wall) {
  thread_local base::Wall second = -1;
  thread_local std::string text;
  if (const base::Wall now = wall / 1'000'000'000; now != second) {
    text = make_http_date(wall);
    second = now;
  }
  return text;
}

}  // namespace

bool same_name(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

void append_header(std::string& out, std::string_view name, std::string_view value) {
  for (const char c : name) out += static_cast<unsigned char>(c) <= ' ' || c == ':' || c == 0x7f ? '-' : c;
  out += ": ";
  for (const char c : value) out += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
  out += "\r\n";
}

std::string response_head(unsigned status, const std::vector<HttpHeader>& headers, const HeadOptions& options) {
  if (status < 100 || status > 999) status = 500;
  std::string out = "HTTP/1.1 " + std::to_string(status) + " ";
  out += reason_phrase(status);
  out += "\r\n";
  for (const auto& h : headers) {
    if (h.name.empty() || same_name(h.name, "content-length") || same_name(h.name, "transfer-encoding") ||
        same_name(h.name, "connection") || same_name(h.name, "date"))
      continue;
    append_header(out, h.name, h.value);
  }
  append_header(out, "Date", http_date(options.wall));
  if (status >= 200 && status != 204 && status != 304) {
    if (options.chunked) {
      append_header(out, "Transfer-Encoding", "chunked");
    } else if (options.length_known) {
      append_header(out, "Content-Length", std::to_string(options.length));
    }
  }
  if (!options.keep_alive) append_header(out, "Connection", "close");
  out += "\r\n";
  return out;
}

Result<Url> parse_url(std::string_view text) {
  const auto wrong = [&](std::string_view why) {
    return fail(Code::invalid_argument, "url \"" + std::string(text) + "\" " + std::string(why));
  };
  Url url;
  std::string_view rest = text;
  if (rest.size() >= 8 && same_name(rest.substr(0, 8), "https://")) {
    url.tls = true;
    rest.remove_prefix(8);
  } else if (rest.size() >= 7 && same_name(rest.substr(0, 7), "http://")) {
    rest.remove_prefix(7);
  } else {
    return wrong("does not begin with http:// or https://");
  }
  const auto end = rest.find_first_of("/?#");
  std::string_view authority = rest.substr(0, end);
  url.target = end == std::string_view::npos ? std::string() : std::string(rest.substr(end));
  url.target = url.target.substr(0, url.target.find('#'));
  if (!url.target.starts_with('/')) url.target.insert(0, "/");
  for (const char c : url.target)
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return wrong("has a space or control character; write it as %20 and the like");
  if (authority.find('@') != std::string_view::npos) return wrong("carries a user name; send an Authorization header instead");
  const auto bracket = authority.rfind(']');
  const bool has_port = authority.find(':', bracket == std::string_view::npos ? 0 : bracket) != std::string_view::npos;
  auto address = parse_address(std::string(authority) + (has_port ? "" : url.tls ? ":443" : ":80"));
  if (!address) return std::move(address).error().because("url \"" + std::string(text) + "\"");
  if (address->unix_socket) return wrong("names no host");
  url.host = address->host;
  url.port = address->port;
  url.authority = std::string(authority);
  return url;
}

}  // namespace gantry::net
