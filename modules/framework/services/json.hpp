// JSON for this module: Boost.JSON values, a printer that writes numbers the way people do, and short accessors.
#pragma once
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <gantry/result.hpp>

#include <string>
#include <string_view>

namespace gantry::framework_services {

using Json = boost::json::value;
using Object = boost::json::object;
using Array = boost::json::array;

// Parses one document; the error's message is the parser's reason with the byte offset.
Result<Json> parse_json(std::string_view text);
// Compact text. Whole numbers print without ".0", others with the fewest digits that read back the same.
std::string print_json(const Json& value);

// Members by name. A null counts as absent.
const Json* find(const Object& o, std::string_view key);
const Object* find_object(const Object& o, std::string_view key);
const Array* find_array(const Object& o, std::string_view key);
std::string text_of(const Object& o, std::string_view key, std::string_view otherwise = {});
double number_of(const Object& o, std::string_view key, double otherwise = 0);
std::int64_t integer_of(const Object& o, std::string_view key, std::int64_t otherwise = 0);
bool flag_of(const Object& o, std::string_view key, bool otherwise = false);
double to_number(const Json& v);
inline std::string to_text(const Json& v) { return v.is_string() ? std::string(v.get_string()) : std::string(); }

}  // namespace gantry::framework_services
