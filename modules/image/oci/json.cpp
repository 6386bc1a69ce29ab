#include "json.hpp"

// The one place where Boost.JSON is compiled.
#include <boost/json/src.hpp>

#include <algorithm>

namespace gantry::image_oci {
namespace {

// Of a list or object: far more than any image has, and few enough to be copied.
constexpr std::size_t kMaxMembers = 20'000;

}  // namespace

Result<json::object> parse_object(std::string_view text, std::string_view what) {
  if (text.size() > kMaxJson)
    return fail(Code::resource_exhausted, std::string(what) + " is larger than " + std::to_string(kMaxJson) + " bytes");
  json::error_code ec;
  json::parse_options options;
  options.max_depth = 32;
  json::stream_parser parser({}, options);
  const std::size_t used = parser.write_some(text.data(), text.size(), ec);
  if (!ec) parser.finish(ec);
  if (!ec && text.find_first_not_of(" \t\r\n", used) != std::string_view::npos) ec = json::error::extra_data;
  if (ec) return fail(Code::invalid_argument, std::string(what) + " is no JSON: " + ec.message());
  json::value value = parser.release();
  if (!value.is_object()) return fail(Code::invalid_argument, std::string(what) + " is no JSON object");
  return std::move(value.get_object());
}

const json::value* Fields::find(std::string_view key) const {
  const json::value* v = object_->if_contains(key);
  return v && !v->is_null() ? v : nullptr;
}

std::string Fields::name(std::string_view key) const { return where_ + (where_.ends_with(':') ? " " : ".") + std::string(key); }

Status Fields::count(std::string_view key, std::size_t n) const {
  if (n <= kMaxMembers) return ok;
  return fail(Code::resource_exhausted, name(key) + " has " + std::to_string(n) + " members, at most " + std::to_string(kMaxMembers));
}

Error Fields::wrong(std::string_view key, const char* wanted) const {
  return fail(Code::invalid_argument, name(key) + " is not " + wanted);
}

// A zero byte ends a string for whoever gets it next; there is no good reason for one.
static bool whole(const json::string& s) { return std::string_view(s).find('\0') == std::string_view::npos; }

Result<std::string> Fields::text(std::string_view key) const {
  const json::value* v = find(key);
  if (!v) return std::string();
  if (!v->is_string() || !whole(v->get_string())) return wrong(key, "a string");
  return std::string(std::string_view(v->get_string()));
}

Result<std::uint64_t> Fields::number(std::string_view key) const {
  const json::value* v = find(key);
  if (!v) return std::uint64_t{0};
  if (v->is_int64() && v->get_int64() >= 0) return static_cast<std::uint64_t>(v->get_int64());
  if (v->is_uint64()) return v->get_uint64();
  return wrong(key, "a number, 0 or more");
}

Result<bool> Fields::flag(std::string_view key) const {
  const json::value* v = find(key);
  if (!v) return false;
  if (!v->is_bool()) return wrong(key, "true or false");
  return v->get_bool();
}

Result<std::vector<std::string>> Fields::texts(std::string_view key) const {
  std::vector<std::string> out;
  const json::value* v = find(key);
  if (!v) return out;
  // Old images have "Cmd": "text".
  if (v->is_string() && whole(v->get_string())) return std::vector<std::string>{std::string(std::string_view(v->get_string()))};
  if (!v->is_array()) return wrong(key, "a list of strings");
  GANTRY_CHECK(count(key, v->get_array().size()));
  for (const json::value& each : v->get_array()) {
    if (!each.is_string() || !whole(each.get_string())) return wrong(key, "a list of strings");
    out.emplace_back(std::string_view(each.get_string()));
  }
  return out;
}

Result<std::vector<std::string>> Fields::keys(std::string_view key) const {
  std::vector<std::string> out;
  const json::value* v = find(key);
  if (!v) return out;
  if (!v->is_object()) return wrong(key, "an object");
  GANTRY_CHECK(count(key, v->get_object().size()));
  for (const auto& each : v->get_object()) {
    if (std::string_view(each.key()).find('\0') != std::string_view::npos) return wrong(key, "an object of plain keys");
    out.emplace_back(std::string_view(each.key()));
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<std::vector<std::pair<std::string, std::string>>> Fields::map(std::string_view key) const {
  std::vector<std::pair<std::string, std::string>> out;
  const json::value* v = find(key);
  if (!v) return out;
  if (!v->is_object()) return wrong(key, "an object");
  GANTRY_CHECK(count(key, v->get_object().size()));
  for (const auto& each : v->get_object()) {
    if (!each.value().is_string() || !whole(each.value().get_string())) return wrong(key, "an object of strings");
    out.emplace_back(std::string_view(each.key()), std::string_view(each.value().get_string()));
  }
  return out;
}

Result<Fields> Fields::object(std::string_view key) const {
  static const json::object none;
  const json::value* v = find(key);
  if (!v) return Fields(none, name(key));
  if (!v->is_object()) return wrong(key, "an object");
  return Fields(v->get_object(), name(key));
}

Result<std::vector<Fields>> Fields::objects(std::string_view key) const {
  std::vector<Fields> out;
  const json::value* v = find(key);
  if (!v) return out;
  if (!v->is_array()) return wrong(key, "a list");
  GANTRY_CHECK(count(key, v->get_array().size()));
  for (const json::value& each : v->get_array()) {
    if (!each.is_object()) return wrong(key, "a list of objects");
    out.emplace_back(each.get_object(), name(key) + "[" + std::to_string(out.size()) + "]");
  }
  return out;
}

}  // namespace gantry::image_oci
