// JSON for this module: Boost.JSON values, one parser with limits, short accessors that take a wrong type for absent.
#pragma once
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <gantry/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_network {

using Json = boost::json::value;
using Object = boost::json::object;
using Array = boost::json::array;

// Parses one document that is an object. INVALID_ARGUMENT: the parser's reason with the byte offset.
[[nodiscard]] Result<Object> parse_object(std::string_view text);
// Compact text, members in the order in which they were added.
[[nodiscard]] std::string print_json(const Json& value);

[[nodiscard]] const Json* find(const Object& o, std::string_view key);
[[nodiscard]] const Object* find_object(const Object& o, std::string_view key);
[[nodiscard]] const Array* find_array(const Object& o, std::string_view key);
[[nodiscard]] std::string text_of(const Object& o, std::string_view key);
[[nodiscard]] std::int64_t integer_of(const Object& o, std::string_view key, std::int64_t otherwise = 0);
[[nodiscard]] bool flag_of(const Object& o, std::string_view key);
[[nodiscard]] std::vector<std::string> texts_of(const Object& o, std::string_view key);  // strings of an array, others left out
[[nodiscard]] Array array_of(const std::vector<std::string>& texts);

}  // namespace gantry::isolator_network
