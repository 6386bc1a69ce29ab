#include "ids.hpp"

#include <charconv>
#include <cstdio>
#include <vector>

namespace gantry::framework_services {
namespace {

// Days since 1970 of a civil date and back (proleptic Gregorian calendar).
std::int64_t days_from_civil(std::int64_t y, unsigned m, unsigned d) {
  y -= m <= 2;
  const std::int64_t era = (y >= 0 ? y : y - 399) / 400;
  const auto yoe = static_cast<unsigned>(y - era * 400);
  const unsigned doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
  const unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + static_cast<std::int64_t>(doe) - 719468;
}

bool is_uuid(std::string_view s) {
  if (s.size() != 36) return false;
  for (std::size_t i = 0; i < s.size(); ++i) {
    const char c = s[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return false;
    } else if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::string format_time(Millis t) {
  std::int64_t days = t / 86400000, rest = t % 86400000;
  if (rest < 0) {
    rest += 86400000;
    --days;
  }
  const std::int64_t z = days + 719468;
  const std::int64_t era = (z >= 0 ? z : z - 146096) / 146097;
  const auto doe = static_cast<unsigned>(z - era * 146097);
  const unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const unsigned mp = (5 * doy + 2) / 153;
  const unsigned d = doy - (153 * mp + 2) / 5 + 1, m = mp < 10 ? mp + 3 : mp - 9;
  const std::int64_t y = static_cast<std::int64_t>(yoe) + era * 400 + (m <= 2);
  char buf[64];
  std::snprintf(buf, sizeof buf, "%04lld-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<long long>(y), m, d,
                static_cast<int>(rest / 3600000), static_cast<int>(rest / 60000 % 60),
                static_cast<int>(rest / 1000 % 60), static_cast<int>(rest % 1000));
  return buf;
}

std::optional<Millis> parse_time(std::string_view text) {
  const std::string s(text);
  int y = 0, mo = 0, d = 0, h = 0, mi = 0, sec = 0, used = 0;
  if (std::sscanf(s.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &y, &mo, &d, &h, &mi, &sec, &used) != 6 || used < 19)
    return {};
  if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 60 || h < 0 || mi < 0 || sec < 0) return {};
  std::size_t i = static_cast<std::size_t>(used);
  int ms = 0, scale = 100;
  if (i < s.size() && s[i] == '.') {
    for (++i; i < s.size() && s[i] >= '0' && s[i] <= '9'; ++i, scale /= 10) ms += (s[i] - '0') * scale;
  }
  Millis offset = 0;
  if (i < s.size() && (s[i] == '+' || s[i] == '-')) {
    int oh = 0, om = 0;
    if (std::sscanf(s.c_str() + i + 1, "%2d:%2d", &oh, &om) != 2 &&
        std::sscanf(s.c_str() + i + 1, "%2d%2d", &oh, &om) != 2)
      return {};
    offset = (oh * 60 + om) * 60000 * (s[i] == '-' ? -1 : 1);
  } else if (i + 1 != s.size() || s[i] != 'Z') {
    return {};
  }
  const std::int64_t days = days_from_civil(y, static_cast<unsigned>(mo), static_cast<unsigned>(d));
  return ((days * 24 + h) * 60 + mi) * 60000 + sec * 1000 + ms - offset;
}

std::string make_uuid(const Random& random) {
  const std::uint64_t a = (random() & ~0xf000ull) | 0x4000ull;
  const std::uint64_t b = (random() & ~(3ull << 62)) | (2ull << 62);
  char buf[40];
  std::snprintf(buf, sizeof buf, "%08x-%04x-%04x-%04x-%012llx", static_cast<unsigned>(a >> 32),
                static_cast<unsigned>(a >> 16 & 0xffff), static_cast<unsigned>(a & 0xffff),
                static_cast<unsigned>(b >> 48), static_cast<unsigned long long>(b & 0xffffffffffffull));
  return buf;
}

std::string canonical_path(std::string_view path, std::string_view base) {
  std::vector<std::string_view> parts;
  const auto add = [&](std::string_view p) {
    while (!p.empty()) {
      const auto slash = p.find('/');
      const auto part = p.substr(0, slash);
      if (part == "..") {
        if (!parts.empty()) parts.pop_back();
      } else if (!part.empty() && part != ".") {
        parts.push_back(part);
      }
      p = slash == std::string_view::npos ? std::string_view() : p.substr(slash + 1);
    }
  };
  if (path.empty() || path[0] != '/') add(base);
  add(path);
  std::string out;
  for (const auto& p : parts) out.append("/").append(p);
  return out.empty() ? "/" : out;
}

std::string parent_path(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos || slash == 0 ? "/" : std::string(path.substr(0, slash));
}

bool within(std::string_view path, std::string_view group) {
  if (group == "/") return true;
  return path == group || (path.size() > group.size() && path.starts_with(group) && path[group.size()] == '/');
}

std::string safe_path(std::string_view path) {
  std::string out(path.starts_with('/') ? path.substr(1) : path);
  for (char& c : out) {
    if (c == '/') c = '_';
  }
  return out;
}

std::string app_of_instance(std::string_view id) {
  auto mark = id.rfind(".instance-");
  std::size_t skip = 10;
  if (mark == std::string_view::npos) {
    mark = id.rfind('.');
    skip = 1;
  }
  if (mark == std::string_view::npos || mark == 0 || !is_uuid(id.substr(mark + skip))) return {};
  std::string out = "/" + std::string(id.substr(0, mark));
  for (char& c : out) {
    if (c == '_') c = '/';
  }
  return out;
}

std::optional<TaskId> parse_task_id(std::string_view id) {
  if (const auto mark = id.find(".instance-"); mark != std::string_view::npos) {
    const std::size_t end = mark + 10 + 36;
    if (id.size() < end || app_of_instance(id.substr(0, end)).empty()) return {};
    TaskId t{std::string(id.substr(0, end)), "_app", 1};
    std::string_view rest = id.substr(end);
    if (rest.empty()) return t;
    if (rest[0] != '.') return {};
    rest.remove_prefix(1);
    const auto dot = rest.find('.');
    t.container = std::string(rest.substr(0, dot));
    if (t.container.empty()) return {};
    if (dot == std::string_view::npos) return t;
    rest.remove_prefix(dot + 1);
    const auto r = std::from_chars(rest.data(), rest.data() + rest.size(), t.incarnation);
    if (r.ec != std::errc() || r.ptr != rest.data() + rest.size()) return {};
    return t;
  }
  if (!app_of_instance(id).empty()) return TaskId{std::string(id), "_app", 1};
  return {};
}

std::string task_id(std::string_view instance_id, int incarnation) {
  return std::string(instance_id) + "._app." + std::to_string(incarnation);
}

}  // namespace gantry::framework_services
