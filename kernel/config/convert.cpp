#include "kernel/config/convert.hpp"

#include "kernel/config/suggest.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

namespace gantry::config {
namespace {

std::string number_text(const Field& f, double v) {
  if (f.type == Type::duration) return format_duration(static_cast<std::int64_t>(v));
  if (f.type == Type::size) return format_size(static_cast<std::int64_t>(v));
  std::ostringstream s;
  s.precision(15);
  s << v;
  return s.str();
}

Status check_bounds(const Field& f, double v, std::string_view shown) {
  const std::string noun = f.type == Type::list || f.type == Type::map ? "a number of entries" : "a value";
  const bool low = f.min && v < *f.min, high = f.max && v > *f.max;
  if (!low && !high) return ok;
  std::string range;
  if (f.min && f.max) {
    range = "from " + number_text(f, *f.min) + " to " + number_text(f, *f.max);
  } else {
    range = f.min ? "of at least " + number_text(f, *f.min) : "of at most " + number_text(f, *f.max);
  }
  return fail(Code::out_of_range, "expected " + noun + " " + range + ", got " + std::string(shown));
}

Status check_choice(const Field& f, const std::string& v) {
  if (f.choices.empty() || std::find(f.choices.begin(), f.choices.end(), v) != f.choices.end()) return ok;
  return fail(Code::invalid_argument,
              "expected " + one_of(f.choices) + ", got \"" + v + "\"" + did_you_mean(v, f.choices));
}

Error expected(std::string_view what, const Node& n) {
  return fail(Code::invalid_argument, "expected " + std::string(what) + ", got " + n.describe());
}

// Scalars inside lists and maps, as text.
Result<std::string> scalar_text(const Node& n) {
  switch (n.kind) {
    case Node::Kind::string:
      return n.text;
    case Node::Kind::integer:
      return std::to_string(n.number);
    case Node::Kind::boolean:
      return std::string(n.flag ? "true" : "false");
    case Node::Kind::real: {
      std::ostringstream s;
      s.precision(15);
      s << n.real;
      return s.str();
    }
    default:
      return expected("a string or number inside", n);
  }
}

bool parse_v4(std::string_view host, unsigned (&parts)[4]) {
  const char* p = host.data();
  const char* const end = p + host.size();
  for (int i = 0; i < 4; ++i) {
    const auto [next, ec] = std::from_chars(p, end, parts[i]);
    if (ec != std::errc{} || parts[i] > 255) return false;
    p = next;
    if (i < 3 && (p == end || *p++ != '.')) return false;
  }
  return p == end;
}

}  // namespace

Status check_address(std::string_view text) {
  const std::string got = ", got \"" + std::string(text) + "\"";
  if (text.starts_with("unix:")) {
    if (text.size() < 7 || text[5] != '/')
      return fail(Code::invalid_argument, "expected unix: and an absolute path" + got);
    if (text.size() - 5 > 107)
      return fail(Code::invalid_argument, "a unix socket's path has at most 107 characters" + got);
    return ok;
  }
  const auto colon = text.rfind(':');
  const std::string form = "expected an address such as \"127.0.0.1:5060\", \"[::1]:5060\" or \"unix:/run/x.sock\"";
  if (colon == std::string_view::npos) return fail(Code::invalid_argument, form + got + " without a port");
  const std::string_view host = text.substr(0, colon), port = text.substr(colon + 1);
  unsigned value = 0;
  const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), value);
  if (port.empty() || ec != std::errc{} || end != port.data() + port.size() || value > 65535)
    return fail(Code::invalid_argument, "expected a port from 0 to 65535" + got);
  if (host.starts_with('[') != host.ends_with(']')) return fail(Code::invalid_argument, form + got);
  if (!host.starts_with('[') && host.find(':') != std::string_view::npos)
    return fail(Code::invalid_argument, "expected brackets around an IPv6 address, \"[" + std::string(host) +
                                            "]:" + std::string(port) + "\"" + got);
  if (host.empty())
    return fail(Code::invalid_argument, "expected a host before the port (0.0.0.0 for all addresses)" + got);
  for (const char c : host) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '/' || c == '"') return fail(Code::invalid_argument, form + got);
  }
  return ok;
}

bool is_loopback(std::string_view address) {
  if (address.empty() || address.starts_with("unix:")) return true;
  const auto colon = address.rfind(':');
  const std::string_view host = address.substr(0, colon == std::string_view::npos ? address.size() : colon);
  if (host == "localhost" || host == "[::1]") return true;
  unsigned parts[4];
  return parse_v4(host, parts) && parts[0] == 127;
}

Result<fb::SettingT> to_setting(const Field& f, const Node& n) {
  fb::SettingT s;
  s.key = f.key;
  s.type = wire_type(f.type);
  s.given = true;
  switch (f.type) {
    case Type::string:
    case Type::path:
    case Type::address:
      if (n.kind != Node::Kind::string)
        return expected(f.type == Type::path ? "a path" : f.type == Type::address ? "an address" : "a string", n);
      s.text = n.text;
      if (s.text.find('\0') != std::string::npos) return fail(Code::invalid_argument, "contains a zero byte");
      if (f.type == Type::path && !s.text.empty() && s.text[0] != '/')
        return fail(Code::invalid_argument, "expected an absolute path, got \"" + s.text + "\"");
      if (f.type == Type::address && !s.text.empty()) GANTRY_CHECK(check_address(s.text));
      GANTRY_CHECK(check_choice(f, s.text));
      return s;
    case Type::integer:
      if (n.kind != Node::Kind::integer) return expected("an integer", n);
      s.number = n.number;
      GANTRY_CHECK(check_bounds(f, static_cast<double>(s.number), std::to_string(s.number)));
      return s;
    case Type::real:
      if (n.kind == Node::Kind::integer) {
        s.real = static_cast<double>(n.number);
      } else if (n.kind == Node::Kind::real) {
        s.real = n.real;
      } else {
        return expected("a number", n);
      }
      if (!std::isfinite(s.real)) return fail(Code::invalid_argument, "expected a finite number");
      GANTRY_CHECK(check_bounds(f, s.real, number_text(f, s.real)));
      return s;
    case Type::boolean:
      if (n.kind != Node::Kind::boolean) return expected("true or false", n);
      s.flag = n.flag;
      return s;
    case Type::duration:
    case Type::size: {
      const bool duration = f.type == Type::duration;
      if (n.kind == Node::Kind::integer) {
        return fail(Code::invalid_argument, std::string("expected a ") +
                                                (duration ? "duration such as \"" : "size such as \"") +
                                                std::to_string(n.number) + (duration ? "s\"" : "MiB\"") +
                                                ", got the integer " + std::to_string(n.number) + " without a unit");
      }
      if (n.kind != Node::Kind::string)
        return expected(duration ? "a duration such as \"5s\"" : "a size such as \"20GiB\"", n);
      GANTRY_TRY(s.number, duration ? parse_duration(n.text) : parse_size(n.text));
      GANTRY_CHECK(check_bounds(f, static_cast<double>(s.number), n.describe()));
      return s;
    }
    case Type::list:
      if (n.kind != Node::Kind::array) return expected("a list", n);
      for (const Node& item : n.items) {
        GANTRY_TRY(std::string text, scalar_text(item));
        GANTRY_CHECK(check_choice(f, text));
        s.items.push_back(std::move(text));
      }
      GANTRY_CHECK(check_bounds(f, static_cast<double>(s.items.size()), std::to_string(s.items.size())));
      return s;
    case Type::map:
      if (!n.table()) return expected("a table", n);
      for (const auto& [key, value] : n.members) {
        GANTRY_TRY(std::string text, scalar_text(value));
        if (key.find('=') != std::string::npos)
          return fail(Code::invalid_argument, "a key cannot contain \"=\", got \"" + key + "\"");
        s.items.push_back(key + "=" + text);
      }
      std::sort(s.items.begin(), s.items.end());
      GANTRY_CHECK(check_bounds(f, static_cast<double>(s.items.size()), std::to_string(s.items.size())));
      return s;
  }
  return fail(Code::internal, "unknown type");
}

std::string toml_string(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (u < 0x20 || u == 0x7f) {
      out += "\\u00";
      out += hex[u >> 4];
      out += hex[u & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string to_toml(const Field& f, const fb::SettingT& v) {
  switch (f.type) {
    case Type::string:
    case Type::path:
    case Type::address:
      return toml_string(v.text);
    case Type::integer:
      return std::to_string(v.number);
    case Type::real: {
      std::string s = number_text(f, v.real);
      if (s.find_first_of(".e") == std::string::npos) s += ".0";
      return s;
    }
    case Type::boolean:
      return v.flag ? "true" : "false";
    case Type::duration:
      return toml_string(format_duration(v.number));
    case Type::size:
      return toml_string(format_size(v.number));
    case Type::list: {
      std::string out = "[";
      for (std::size_t i = 0; i < v.items.size(); ++i) out += (i ? ", " : "") + toml_string(v.items[i]);
      return out + "]";
    }
    case Type::map: {
      std::string out = "{";
      for (std::size_t i = 0; i < v.items.size(); ++i) {
        const auto eq = v.items[i].find('=');
        out +=
            (i ? ", " : " ") + toml_string(v.items[i].substr(0, eq)) + " = " + toml_string(v.items[i].substr(eq + 1));
      }
      return out + (v.items.empty() ? "}" : " }");
    }
  }
  return "\"\"";
}

}  // namespace gantry::config
