// JSON for --json: keys in the order written, two spaces of indentation, or all on one line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::cli {

class JsonWriter {
 public:
  enum class Layout { indented, line };
  explicit JsonWriter(Layout layout = Layout::indented) : line_(layout == Layout::line) {}
  JsonWriter& open(char bracket);  // '{' or '['
  JsonWriter& close();
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool v) { return raw(v ? "true" : "false"); }
  JsonWriter& value(double v);
  JsonWriter& value(std::int64_t v) { return raw(std::to_string(v)); }
  JsonWriter& value(std::uint64_t v) { return raw(std::to_string(v)); }
  JsonWriter& value(std::uint32_t v) { return raw(std::to_string(v)); }
  JsonWriter& value(std::int32_t v) { return raw(std::to_string(v)); }
  template <class T>
  JsonWriter& field(std::string_view name, const T& v) {
    key(name);
    return value(v);
  }
  JsonWriter& list(std::string_view name, const std::vector<std::string>& items);
  // With a newline at the end.
  [[nodiscard]] const std::string& text() const { return out_; }

 private:
  JsonWriter& raw(std::string_view v);
  void separate();
  std::string out_;
  std::string open_;  // brackets
  bool line_;
  bool first_ = true, after_key_ = false;
};

}  // namespace gantry::cli
