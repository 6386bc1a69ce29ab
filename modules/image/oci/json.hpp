// Reading JSON of strangers: bounded in size and depth, every mistake named by its field.
#pragma once

#include <gantry/result.hpp>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::image_oci {

namespace json = boost::json;

inline constexpr std::size_t kMaxJson = 8 << 20;  // of a manifest or configuration; registries stop at 4 MiB

// An object; INVALID_ARGUMENT begins with `what` and says where it stops being JSON.
[[nodiscard]] Result<json::object> parse_object(std::string_view text, std::string_view what);

// Fields of an object. Absent and null are the same and give what is empty; another type is INVALID_ARGUMENT.
class Fields {
 public:
  Fields(const json::object& object, std::string where) : object_(&object), where_(std::move(where)) {}
  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
  [[nodiscard]] Result<std::string> text(std::string_view key) const;
  [[nodiscard]] Result<std::uint64_t> number(std::string_view key) const;
  [[nodiscard]] Result<bool> flag(std::string_view key) const;
  [[nodiscard]] Result<std::vector<std::string>> texts(std::string_view key) const;
  // The keys of an object, sorted.
  [[nodiscard]] Result<std::vector<std::string>> keys(std::string_view key) const;
  // Text values of an object, in its order.
  [[nodiscard]] Result<std::vector<std::pair<std::string, std::string>>> map(std::string_view key) const;
  // Absent: an empty one.
  [[nodiscard]] Result<Fields> object(std::string_view key) const;
  [[nodiscard]] Result<std::vector<Fields>> objects(std::string_view key) const;
  [[nodiscard]] const std::string& where() const { return where_; }

 private:
  [[nodiscard]] const json::value* find(std::string_view key) const;
  [[nodiscard]] Status count(std::string_view key, std::size_t n) const;
  [[nodiscard]] Error wrong(std::string_view key, const char* wanted) const;
  [[nodiscard]] std::string name(std::string_view key) const;
  const json::object* object_;
  std::string where_;
};

}  // namespace gantry::image_oci
