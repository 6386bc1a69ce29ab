// Writing configuration: one table of TOML, and the small readers that its writers share.
#pragma once

#include "kernel/config/values.hpp"
#include "translate.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::compat {

// The parts, without the blanks around them and without empty ones.
inline std::vector<std::string> split(std::string_view s, char at) {
  std::vector<std::string> out;
  while (!s.empty()) {
    const auto end = std::min(s.find(at), s.size());
    std::string_view part = s.substr(0, end);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    if (!part.empty()) out.emplace_back(part);
    s.remove_prefix(std::min(end + 1, s.size()));
  }
  return out;
}

// Text of one table.
class Table {
 public:
  explicit Table(std::string name) : name_(std::move(name)) {}
  void text(std::string_view key, std::string_view value) { line(key, quoted(value)); }
  void flag(std::string_view key, bool value) { line(key, value ? "true" : "false"); }
  void number(std::string_view key, std::int64_t value) { line(key, std::to_string(value)); }
  void raw(std::string_view key, std::string_view value) { line(key, value); }
  void list(std::string_view key, const std::vector<std::string>& words) {
    std::string all;
    for (const auto& w : words) all += (all.empty() ? "" : ", ") + quoted(w);
    line(key, "[" + all + "]");
  }
  void duration(std::string_view key, std::int64_t ns) { text(key, config::format_duration(ns)); }
  void size(std::string_view key, std::int64_t bytes) { text(key, config::format_size(bytes)); }
  [[nodiscard]] std::string str() const { return "[" + name_ + "]\n" + lines_; }

 private:
  void line(std::string_view key, std::string_view value) { lines_ += std::string(key) + " = " + std::string(value) + "\n"; }
  std::string name_, lines_;
};

}  // namespace gantry::compat
