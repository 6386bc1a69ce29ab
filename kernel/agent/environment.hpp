// The environment of a task: NAME -> value with later ones winning, in order of first appearance.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::agent {

class Environment {
 public:
  Environment() = default;
  explicit Environment(const std::vector<std::string>& lines) {
    for (const auto& l : lines) add(l);
  }
  void set(const std::string& name, const std::string& value) {
    const auto [it, fresh] = index_.try_emplace(name, lines_.size());
    if (fresh) lines_.push_back(name + "=" + value);
    else lines_[it->second] = name + "=" + value;
  }
  // "NAME=value"; without '=' the value is empty.
  void add(const std::string& line) {
    const auto at = line.find('=');
    set(line.substr(0, at), at == line.npos ? std::string() : line.substr(at + 1));
  }
  [[nodiscard]] bool has(const std::string& name) const { return index_.contains(name); }
  [[nodiscard]] std::vector<std::string> take() { return std::move(lines_); }

 private:
  std::unordered_map<std::string, std::size_t> index_;
  std::vector<std::string> lines_;
};

}  // namespace gantry::agent
