#include "address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gantry::isolator_network {
namespace {

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

}  // namespace

std::string to_text(Ipv4 a) {
  const in_addr raw{htonl(a)};
  char out[INET_ADDRSTRLEN];
  return ::inet_ntop(AF_INET, &raw, out, sizeof out);
}

std::optional<Ipv4> parse_ipv4(std::string_view text) {
  in_addr raw{};
  if (text.find('\0') != text.npos) return std::nullopt;  // inet_pton would stop there, and files would not
  if (::inet_pton(AF_INET, std::string(text).c_str(), &raw) != 1) return std::nullopt;
  return ntohl(raw.s_addr);
}

bool is_address(const std::string& text) {
  in6_addr six{};
  if (text.find('\0') != text.npos) return false;
  return parse_ipv4(text) || ::inet_pton(AF_INET6, text.c_str(), &six) == 1;
}

Result<Subnet> parse_subnet(std::string_view text) {
  const auto bad = [&](const char* why) {
    return fail(Code::invalid_argument, "\"" + std::string(text) + "\" " + why + ", such as 172.31.240.0/20");
  };
  const auto slash = text.find('/');
  if (slash == text.npos) return bad("has no prefix length; give a subnet");
  const auto base = parse_ipv4(text.substr(0, slash));
  const auto prefix = whole_number(text.substr(slash + 1));
  if (!base || !prefix) return bad("is no IPv4 subnet; give one");
  if (*prefix < 8 || *prefix > 29) return bad("is too large or too small; give a subnet from /8 to /29");
  const Subnet s{*base, static_cast<int>(*prefix)};
  if ((s.base & s.mask()) != s.base) return bad("has bits behind its prefix; give the subnet's first address");
  return s;
}

std::optional<std::pair<Ipv4, Subnet>> parse_interface(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = parse_ipv4(text.substr(0, slash));
  const auto prefix = slash == text.npos ? std::optional<std::uint64_t>(32) : whole_number(text.substr(slash + 1));
  if (!address || !prefix || *prefix < 1 || *prefix > 32) return std::nullopt;
  Subnet s{*address, static_cast<int>(*prefix)};
  s.base &= s.mask();
  return std::pair{*address, s};
}

Result<Ipv4> Pool::take() {
  const std::uint64_t size = std::uint64_t{subnet_.last()} - subnet_.first() + 1;
  if (taken_.size() >= size)
    return fail(Code::resource_exhausted,
                "all " + std::to_string(size) + " addresses of subnet " + subnet_.text() + " are in use; set a larger subnet");
  for (;;) {
    const Ipv4 a = next_;
    next_ = a >= subnet_.last() ? subnet_.first() : a + 1;
    if (taken_.insert(a).second) return a;
  }
}

bool Pool::adopt(Ipv4 a) {
  if (a < subnet_.first() || a > subnet_.last() || !taken_.insert(a).second) return false;
  next_ = a >= subnet_.last() ? subnet_.first() : a + 1;
  return true;
}

bool contains(const PortRanges& ranges, std::uint32_t port) {
  return std::any_of(ranges.begin(), ranges.end(), [port](const PortRange& r) { return port >= r.begin && port <= r.end; });
}

Result<PortRanges> parse_ports(std::string_view text) {
  PortRanges out;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view part = trimmed(text.substr(0, comma));
    text = comma == text.npos ? std::string_view() : text.substr(comma + 1);
    const auto dash = part.find('-');
    const auto begin = whole_number(part.substr(0, dash));
    const auto end = dash == part.npos ? begin : whole_number(part.substr(dash + 1));
    if (!begin || !end || *begin > *end || *end > 65535)
      return fail(Code::invalid_argument, "\"" + std::string(part) + "\" is no range of ports; write ranges as \"31000-32000,8080\"");
    out.push_back({static_cast<std::uint32_t>(*begin), static_cast<std::uint32_t>(*end)});
  }
  return out;
}

std::string print_ports(const std::set<std::uint32_t>& ports) {
  std::string out = "[";
  for (auto it = ports.begin(); it != ports.end();) {
    const std::uint32_t begin = *it;
    std::uint32_t end = begin;
    while (++it != ports.end() && *it == end + 1) ++end;
    if (out.size() > 1) out += ", ";
    out += std::to_string(begin) + "-" + std::to_string(end);
  }
  return out + "]";
}

Result<std::uint64_t> parse_rate(std::string_view text) {
  static constexpr struct { std::string_view name; double bytes; } units[] = {
      {"", 1},           {"B", 1},          {"KB", 1e3},       {"MB", 1e6},        {"GB", 1e9},      {"KiB", 1024},
      {"MiB", 1048576},  {"GiB", 1 << 30},  {"bit", 0.125},    {"Kbit", 125},      {"Mbit", 125e3},  {"Gbit", 125e6}};
  const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = whole_number(text.substr(0, digits));
  for (const auto& unit : units)
    if (number && text.substr(digits) == unit.name) {
      const double bytes = std::floor(static_cast<double>(*number) * unit.bytes);
      if (bytes >= 1 && bytes <= 1e15) return static_cast<std::uint64_t>(bytes);
    }
  return fail(Code::invalid_argument,
              "\"" + std::string(text) + "\" is no rate; write bytes a second as \"10MiB\", or bits as \"100Mbit\"");
}

}  // namespace gantry::isolator_network
