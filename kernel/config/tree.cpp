#include "kernel/config/tree.hpp"

#define TOML_HEADER_ONLY 0
#define TOML_SHARED_LIB 1
#include <toml++/toml.h>

#include <algorithm>
#include <sstream>

namespace gantry::config {
namespace {

Where place(const toml::source_region& r, const std::string& file) { return {file, r.begin.line, r.begin.column}; }

Node convert(const toml::node& in, const std::string& file) {
  Node out;
  out.where = place(in.source(), file);
  if (const auto* s = in.as_string()) {
    out.kind = Node::Kind::string;
    out.text = s->get();
  } else if (const auto* i = in.as_integer()) {
    out.kind = Node::Kind::integer;
    out.number = i->get();
  } else if (const auto* f = in.as_floating_point()) {
    out.kind = Node::Kind::real;
    out.real = f->get();
  } else if (const auto* b = in.as_boolean()) {
    out.kind = Node::Kind::boolean;
    out.flag = b->get();
  } else if (const auto* a = in.as_array()) {
    out.kind = Node::Kind::array;
    for (const auto& item : *a) out.items.push_back(convert(item, file));
  } else if (const auto* t = in.as_table()) {
    out.kind = Node::Kind::table;
    for (const auto& [key, value] : *t) {
      Node child = convert(value, file);
      child.key_where = place(key.source(), file);
      out.members.push_back({std::string(key.str()), std::move(child)});
    }
    // toml++ sorts by name; people think in the order they wrote.
    std::stable_sort(out.members.begin(), out.members.end(), [](const Member& x, const Member& y) {
      const Where &a = x.value.key_where, &b = y.value.key_where;
      return std::pair(a.line, a.column) < std::pair(b.line, b.column);
    });
  } else {
    out.kind = Node::Kind::date;
  }
  return out;
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  for (const auto& [k, v] : members) {
    if (k == key) return &v;
  }
  return nullptr;
}
Node* Node::find(std::string_view key) { return const_cast<Node*>(std::as_const(*this).find(key)); }

std::string Node::describe() const {
  switch (kind) {
    case Kind::string:
      return "\"" + (text.size() > 100 ? text.substr(0, 100) + "..." : text) + "\"";
    case Kind::integer:
      return "the integer " + std::to_string(number);
    case Kind::real: {
      std::ostringstream s;
      s << real;
      return "the number " + s.str();
    }
    case Kind::boolean:
      return flag ? "true" : "false";
    case Kind::date:
      return "a date or time";
    case Kind::array:
      return "a list";
    case Kind::table:
      return "a table";
  }
  return "?";
}

Parsed parse_toml(std::string_view text, const std::string& file) {
  Parsed out;
  try {
    const toml::table t = toml::parse(text, file);
    out.root = convert(t, file);
  } catch (const toml::parse_error& e) {
    out.problems.push_back(
        {Severity::error, place(e.source(), file), "not valid TOML: " + std::string(e.description())});
  } catch (const std::exception& e) {
    out.problems.push_back({Severity::error, {file, 0, 0}, std::string("not valid TOML: ") + e.what()});
  }
  return out;
}

void merge(Node& base, Node&& over) {
  for (auto& [key, value] : over.members) {
    Node* old = base.find(key);
    if (!old) {
      base.members.push_back({key, std::move(value)});
    } else if (old->table() && value.table()) {
      merge(*old, std::move(value));
    } else {
      *old = std::move(value);
    }
  }
}

}  // namespace gantry::config
