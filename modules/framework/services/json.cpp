#include "json.hpp"

// The one place where Boost.JSON is compiled; everything else sees declarations.
#include <boost/json/src.hpp>

#include <charconv>
#include <cmath>

namespace gantry::framework_services {
namespace {

void print_string(std::string& out, std::string_view s) {
  static constexpr char hex[] = "0123456789abcdef";
  out += '"';
  for (const char c : s) {
    const auto u = static_cast<unsigned char>(c);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (u < 0x20) {
          out += "\\u00";
          out += hex[u >> 4];
          out += hex[u & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void print(std::string& out, const Json& v) {
  char buf[40];
  switch (v.kind()) {
    case boost::json::kind::null:
      out += "null";
      break;
    case boost::json::kind::bool_:
      out += v.get_bool() ? "true" : "false";
      break;
    case boost::json::kind::int64:
      out += std::to_string(v.get_int64());
      break;
    case boost::json::kind::uint64:
      out += std::to_string(v.get_uint64());
      break;
    case boost::json::kind::double_: {
      const double d = v.get_double();
      if (std::isfinite(d) && std::floor(d) == d && std::abs(d) < 9e15) {
        out += std::to_string(static_cast<std::int64_t>(d));
      } else if (!std::isfinite(d)) {
        out += "null";
      } else {
        const auto r = std::to_chars(buf, buf + sizeof buf, d);
        out.append(buf, r.ptr);
      }
      break;
    }
    case boost::json::kind::string:
      print_string(out, {v.get_string().data(), v.get_string().size()});
      break;
    case boost::json::kind::array: {
      out += '[';
      bool first = true;
      for (const auto& e : v.get_array()) {
        if (!first) out += ',';
        first = false;
        print(out, e);
      }
      out += ']';
      break;
    }
    case boost::json::kind::object: {
      out += '{';
      bool first = true;
      for (const auto& e : v.get_object()) {
        if (!first) out += ',';
        first = false;
        print_string(out, {e.key().data(), e.key().size()});
        out += ':';
        print(out, e.value());
      }
      out += '}';
      break;
    }
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
  boost::json::stream_parser parser;
  boost::json::error_code ec;
  const std::size_t used = parser.write_some(text.data(), text.size(), ec);
  if (!ec && used < text.size() && text.find_first_not_of(" \t\r\n", used) != std::string_view::npos) {
    return fail(Code::invalid_argument, "unexpected characters after the document at byte " + std::to_string(used));
  }
  if (!ec) parser.finish(ec);
  if (ec) return fail(Code::invalid_argument, ec.message() + " at byte " + std::to_string(used));
  return parser.release();
}

std::string print_json(const Json& value) {
  std::string out;
  print(out, value);
  return out;
}

const Json* find(const Object& o, std::string_view key) {
  const Json* v = o.if_contains(boost::json::string_view(key.data(), key.size()));
  return v && !v->is_null() ? v : nullptr;
}
const Object* find_object(const Object& o, std::string_view key) {
  const Json* v = find(o, key);
  return v ? v->if_object() : nullptr;
}
const Array* find_array(const Object& o, std::string_view key) {
  const Json* v = find(o, key);
  return v ? v->if_array() : nullptr;
}
std::string text_of(const Object& o, std::string_view key, std::string_view otherwise) {
  const Json* v = find(o, key);
  return v && v->is_string() ? to_text(*v) : std::string(otherwise);
}
double to_number(const Json& v) {
  if (v.is_int64()) return static_cast<double>(v.get_int64());
  if (v.is_uint64()) return static_cast<double>(v.get_uint64());
  return v.is_double() ? v.get_double() : 0;
}
double number_of(const Object& o, std::string_view key, double otherwise) {
  const Json* v = find(o, key);
  return v && v->is_number() ? to_number(*v) : otherwise;
}
std::int64_t integer_of(const Object& o, std::string_view key, std::int64_t otherwise) {
  const Json* v = find(o, key);
  if (!v || !v->is_number()) return otherwise;
  if (v->is_int64()) return v->get_int64();
  const double d = to_number(*v);
  return d >= 9.2e18 ? INT64_MAX : d <= -9.2e18 ? INT64_MIN : static_cast<std::int64_t>(d);
}
bool flag_of(const Object& o, std::string_view key, bool otherwise) {
  const Json* v = find(o, key);
  return v && v->is_bool() ? v->get_bool() : otherwise;
}

}  // namespace gantry::framework_services
