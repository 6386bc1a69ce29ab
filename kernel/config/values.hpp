// What configuration is made of: places in files, mistakes, typed values.
#pragma once

#include <gantry/common_generated.h>
#include <gantry/result.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::config {

// A place in a configuration file, for messages. Line and column start at 1; 0 = unknown (a default, a flag).
struct Where {
  std::string file;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  // "file:line:column", with what is known of it.
  [[nodiscard]] std::string text() const;
};

enum class Severity { warning, error };

// One mistake, as a person reads it.
struct Problem {
  Severity severity = Severity::error;
  Where where;
  std::string message;
  // "file:line:column: error: message"
  [[nodiscard]] std::string text() const;
};

// Types a setting can have. path and address reach a module as STRING.
enum class Type { string, integer, real, boolean, duration, size, path, address, list, map };

// The word in manifests: "string", "int", "float", "bool", "duration", ...
[[nodiscard]] std::string_view to_string(Type);
[[nodiscard]] fb::SettingType wire_type(Type);

// "250ms", "1h30m", "0s" -> nanoseconds. Units ns us ms s m (or min) h d; a number without one is an error that says
// so.
[[nodiscard]] Result<std::int64_t> parse_duration(std::string_view text);
// "20GiB", "512MB", "10k" -> bytes. k M G T P are powers of 1024 with "i" or alone ("10k", "10KiB"), of 1000 with B
// ("10kB").
[[nodiscard]] Result<std::int64_t> parse_size(std::string_view text);
// The shortest exact text of a value: 5400000000000 -> "1h30m", 1073741824 -> "1GiB".
[[nodiscard]] std::string format_duration(std::int64_t ns);
[[nodiscard]] std::string format_size(std::int64_t bytes);

// Settings by key: complete (defaults included) and sorted. Asking for a key the manifest does not declare gives a
// neutral value; it is a mistake in our code and asserts in debug builds.
class Values {
 public:
  Values() = default;
  explicit Values(std::vector<fb::SettingT> sorted) : settings_(std::move(sorted)) {}
  [[nodiscard]] const std::vector<fb::SettingT>& all() const { return settings_; }
  [[nodiscard]] const fb::SettingT* find(std::string_view key) const;
  [[nodiscard]] fb::SettingT* find(std::string_view key);

  [[nodiscard]] bool given(std::string_view key) const { return at(key).given; }
  [[nodiscard]] const std::string& text(std::string_view key) const { return at(key).text; }
  [[nodiscard]] std::int64_t number(std::string_view key) const { return at(key).number; }
  [[nodiscard]] double real(std::string_view key) const { return at(key).real; }
  [[nodiscard]] bool flag(std::string_view key) const { return at(key).flag; }
  [[nodiscard]] std::chrono::nanoseconds duration(std::string_view key) const {
    return std::chrono::nanoseconds(at(key).number);
  }
  [[nodiscard]] const std::vector<std::string>& list(std::string_view key) const { return at(key).items; }

 private:
  [[nodiscard]] const fb::SettingT& at(std::string_view key) const;
  std::vector<fb::SettingT> settings_;
};

// True when two settings of one key have the same value.
[[nodiscard]] bool same_value(const fb::SettingT& a, const fb::SettingT& b);

}  // namespace gantry::config
