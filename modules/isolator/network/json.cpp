#include "json.hpp"

// The one place where Boost.JSON is compiled; everything else sees declarations.
#include <boost/json/src.hpp>

namespace gantry::isolator_network {

Result<Object> parse_object(std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = 32;
  boost::json::parser parser({}, options);
  boost::json::error_code ec;
  const std::size_t read = parser.write({text.data(), text.size()}, ec);
  if (ec) return fail(Code::invalid_argument, "no JSON: " + ec.message() + " at byte " + std::to_string(read));
  Json value = parser.release();
  if (!value.is_object()) return fail(Code::invalid_argument, "no JSON object, but another value");
  return std::move(value.get_object());
}

std::string print_json(const Json& value) { return boost::json::serialize(value); }

const Json* find(const Object& o, std::string_view key) {
  const Json* v = o.if_contains({key.data(), key.size()});
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

std::string text_of(const Object& o, std::string_view key) {
  const Json* v = find(o, key);
  return v && v->is_string() ? std::string(v->get_string()) : std::string();
}

std::int64_t integer_of(const Object& o, std::string_view key, std::int64_t otherwise) {
  const Json* v = find(o, key);
  if (!v) return otherwise;
  if (v->is_int64()) return v->get_int64();
  if (v->is_uint64() && v->get_uint64() <= INT64_MAX) return static_cast<std::int64_t>(v->get_uint64());
  return otherwise;
}

bool flag_of(const Object& o, std::string_view key) {
  const Json* v = find(o, key);
  return v && v->is_bool() && v->get_bool();
}

std::vector<std::string> texts_of(const Object& o, std::string_view key) {
  std::vector<std::string> out;
  if (const Array* all = find_array(o, key))
    for (const Json& v : *all)
      if (v.is_string()) out.emplace_back(v.get_string());
  return out;
}

Array array_of(const std::vector<std::string>& texts) {
  Array out;
  for (const auto& t : texts) out.emplace_back(t);
  return out;
}

}  // namespace gantry::isolator_network
