#include <algorithm>

#include "api.hpp"

namespace gantry::framework_services {
namespace {

struct Cursor {
  std::string_view s;
  std::size_t i = 0;
  void space() {
    while (i < s.size() && (s[i] == ' ' || s[i] == '\t')) ++i;
  }
  bool eat(std::string_view t) {
    space();
    if (s.substr(i, t.size()) != t) return false;
    i += t.size();
    return true;
  }
  // A word ends at an operator, comma, parenthesis or space; a backslash takes the next character as it is.
  std::string word() {
    space();
    std::string out;
    while (i < s.size()) {
      const char c = s[i];
      if (c == '\\' && i + 1 < s.size()) {
        out += s[i + 1];
        i += 2;
        continue;
      }
      if (c == ',' || c == '(' || c == ')' || c == '=' || c == '!' || c == ' ' || c == '\t') break;
      out += c;
      ++i;
    }
    return out;
  }
  bool keyword(std::string_view k) {
    space();
    const std::size_t end = i + k.size();
    if (s.substr(i, k.size()) != k || (end < s.size() && s[end] != ' ' && s[end] != '(')) return false;
    i = end;
    return true;
  }
  bool end() {
    space();
    return i >= s.size();
  }
};

}  // namespace

Result<Selector> parse_selector(std::string_view text) {
  Selector out;
  Cursor c{text};
  const auto bad = [&](const char* what) {
    return fail(Code::invalid_argument, "Couldn't parse label selector '" + std::string(text) + "': " + what +
                                            " at position " + std::to_string(c.i));
  };
  do {
    Selector::Term t{Selector::Term::Op::exists, c.word(), {}};
    if (t.key.empty()) return bad("expected a label name");
    if (c.eat("==") || c.eat("=")) {
      t.op = Selector::Term::Op::in;
      t.values.push_back(c.word());
    } else if (c.eat("!=")) {
      t.op = Selector::Term::Op::not_in;
      t.values.push_back(c.word());
    } else if (const bool in = c.keyword("in"); in || c.keyword("notin")) {
      t.op = in ? Selector::Term::Op::in : Selector::Term::Op::not_in;
      if (!c.eat("(")) return bad("expected '('");
      do t.values.push_back(c.word());
      while (c.eat(","));
      if (!c.eat(")")) return bad("expected ')'");
    }
    out.terms.push_back(std::move(t));
  } while (c.eat(","));
  if (!c.end()) return bad("unexpected character");
  return out;
}

bool Selector::matches(const App& app) const {
  for (const auto& t : terms) {
    const auto l =
        std::find_if(app.labels.begin(), app.labels.end(), [&](const auto& kv) { return kv.first == t.key; });
    if (l == app.labels.end()) return false;
    const bool listed = std::find(t.values.begin(), t.values.end(), l->second) != t.values.end();
    if (t.op == Term::Op::in && !listed) return false;
    if (t.op == Term::Op::not_in && listed) return false;
  }
  return true;
}

}  // namespace gantry::framework_services
