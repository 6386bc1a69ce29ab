// TOML as a small tree with places, so that toml++ is compiled in one file only.
#pragma once

#include "kernel/config/values.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace gantry::config {

struct Member;

struct Node {
  enum class Kind { string, integer, real, boolean, date, array, table };
  Kind kind = Kind::table;
  Where where;      // of the value
  Where key_where;  // of its key, where it has one
  std::string text;
  std::int64_t number = 0;
  double real = 0;
  bool flag = false;
  std::vector<Node> items;      // of an array
  std::vector<Member> members;  // of a table, in order of the source

  [[nodiscard]] bool table() const { return kind == Kind::table; }
  [[nodiscard]] const Node* find(std::string_view key) const;
  [[nodiscard]] Node* find(std::string_view key);
  // "the string \"x\"", "the integer 5", "a table": how messages name what was found.
  [[nodiscard]] std::string describe() const;
};

struct Member {
  std::string key;
  Node value;
};

// Parses TOML text. The first syntax error is returned with its place.
struct Parsed {
  Node root;
  std::vector<Problem> problems;
};
[[nodiscard]] Parsed parse_toml(std::string_view text, const std::string& file);

// Puts `over` on top of `base`: tables merge by key, anything else is replaced together with its place.
void merge(Node& base, Node&& over);

}  // namespace gantry::config
