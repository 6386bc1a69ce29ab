// The text forms of Mesos: "cpus:4;ports:[31000-32000];disk(eng):5" and "rack:r1;zone:{a,b}" (mesos-kernel.md B7, end).
#include "kernel/resource/check.hpp"
#include "kernel/resource/fault_domain.hpp"
#include "kernel/resource/resources.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gantry::resource {
namespace {

std::string_view trim(std::string_view s) {
  const auto space = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!s.empty() && space(s.front())) s.remove_prefix(1);
  while (!s.empty() && space(s.back())) s.remove_suffix(1);
  return s;
}

Error bad(std::string_view entry, std::string_view why) {
  return fail(Code::invalid_argument, "'" + std::string(entry) + "': " + std::string(why));
}

// Calls f(part) for each trimmed part; stops at the first error.
template <class F>
Status split(std::string_view text, char separator, F f) {
  while (true) {
    const std::size_t at = text.find(separator);
    if (Status s = f(trim(text.substr(0, at))); !s) return s;
    if (at == std::string_view::npos) return ok;
    text.remove_prefix(at + 1);
  }
}

bool whole(std::string_view s, std::uint64_t& out) {
  const auto r = std::from_chars(s.data(), s.data() + s.size(), out);
  return !s.empty() && r.ec == std::errc() && r.ptr == s.data() + s.size();
}

bool number(std::string_view s, double& out) {
  const auto r = std::from_chars(s.data(), s.data() + s.size(), out);
  return !s.empty() && r.ec == std::errc() && r.ptr == s.data() + s.size() && std::isfinite(out);
}

Result<Value> parse_ranges(std::string_view entry, std::string_view inside) {
  std::vector<Range> ranges;
  if (trim(inside).empty()) return Value(Ranges());
  GANTRY_CHECK(split(inside, ',', [&](std::string_view part) -> Status {
    const std::size_t dash = part.find('-');
    Range r;
    if (!whole(trim(part.substr(0, dash)), r.begin)) return bad(entry, "a range is written '[begin-end, ...]' with whole numbers");
    if (dash == std::string_view::npos) r.end = r.begin;
    else if (!whole(trim(part.substr(dash + 1)), r.end)) return bad(entry, "a range is written '[begin-end, ...]' with whole numbers");
    if (r.begin > r.end) return bad(entry, "the range " + std::string(part) + " ends before it begins");
    ranges.push_back(r);
    return ok;
  }));
  return Value(Ranges(std::move(ranges)));
}

Result<Value> parse_set(std::string_view entry, std::string_view inside) {
  std::vector<std::string> items;
  if (trim(inside).empty()) return Value(Set());
  GANTRY_CHECK(split(inside, ',', [&](std::string_view part) -> Status {
    if (part.empty()) return bad(entry, "a set is written '{a, b}' without empty items");
    if (part.find_first_of("{}[]():") != std::string_view::npos) return bad(entry, "set items have no brackets or colons");
    items.emplace_back(part);
    return ok;
  }));
  return Value(Set(std::move(items)));
}

// Ranges and sets; nullopt: neither.
Result<std::optional<Value>> parse_bracketed(std::string_view entry, std::string_view text) {
  const char close = text.front() == '[' ? ']' : text.front() == '{' ? '}' : '\0';
  if (close) {
    if (text.size() < 2 || text.back() != close) return bad(entry, std::string("missing '") + close + "'");
    const std::string_view inside = text.substr(1, text.size() - 2);
    GANTRY_TRY(Value v, close == ']' ? parse_ranges(entry, inside) : parse_set(entry, inside));
    return std::optional<Value>(std::move(v));
  }
  return std::optional<Value>();
}

Result<Resource> parse_resource(std::string_view entry, std::string_view default_role) {
  const std::size_t colon = entry.find(':');
  if (colon == std::string_view::npos) return bad(entry, "a resource is written name:value or name(role):value");
  std::string_view name = trim(entry.substr(0, colon));
  const std::string_view text = trim(entry.substr(colon + 1));
  std::string_view role = default_role;
  if (const std::size_t open = name.find('('); open != std::string_view::npos) {
    if (name.back() != ')') return bad(entry, "missing ')' after the role");
    role = trim(name.substr(open + 1, name.size() - open - 2));
    name = trim(name.substr(0, open));
  }
  GANTRY_CHECK(check_name(name));
  if (text.empty()) return bad(entry, "the value is missing");
  GANTRY_TRY(std::optional<Value> value, parse_bracketed(entry, text));
  if (!value) {
    double d = 0;
    if (!number(text, d)) return bad(entry, "the value is neither a number, '[begin-end]' ranges nor a '{a, b}' set");
    GANTRY_TRY(value, check_scalar(name, d));
  }
  Resource r(name, std::move(*value));
  if (r.name() == NameId::none) return fail(Code::resource_exhausted, "too many different resource names");
  GANTRY_CHECK(check_type(r));
  if (role != "*") {
    if (Status s = validate_role(role); !s) return std::move(s).error().because("'" + std::string(entry) + "'");
    if (role.find_first_of("(),:;") != std::string_view::npos) return bad(entry, "a role in a resource text has none of '( ) , : ;'");
    r.push_reservation({false, std::string(role), {}, {}});
  }
  return r;
}

}  // namespace

Result<Resources> Resources::parse(std::string_view text, std::string_view default_role) {
  Resources out;
  GANTRY_CHECK(split(text, ';', [&](std::string_view entry) -> Status {
    if (entry.empty()) return ok;
    GANTRY_TRY(Resource r, parse_resource(entry, default_role));
    for (const auto& other : out) {
      if (other.name() == r.name() && other.type() != r.type()) return bad(entry, "the same name has values of two types");
    }
    return add_within_bounds(out, r);
  }));
  return out;
}

Result<Attributes> parse_attributes(std::string_view text) {
  Attributes out;
  GANTRY_CHECK(split(text, ';', [&](std::string_view entry) -> Status {
    if (entry.empty()) return ok;
    const std::size_t colon = entry.find(':');
    if (colon == std::string_view::npos) return bad(entry, "an attribute is written name:value");
    Attribute a;
    a.name = trim(entry.substr(0, colon));
    const std::string_view value = trim(entry.substr(colon + 1));
    if (a.name.empty()) return bad(entry, "the name is missing");
    if (value.empty()) return bad(entry, "the value is missing");
    double d = 0;
    GANTRY_TRY(a.value, parse_bracketed(entry, value));
    // Beyond what thousandths keep exactly it stays a word.
    if (!a.value && number(value, d) && std::abs(d) <= kMaxScalar) a.value = Value(Scalar::of(d));
    if (!a.value) a.text = value;
    out.push_back(std::move(a));
    return ok;
  }));
  return out;
}

Result<std::optional<FaultDomain>> parse_fault_domain(std::string_view text) {
  if (text.empty()) return std::optional<FaultDomain>();
  const auto cut = text.find('/');
  const auto good = [](std::string_view s) {
    return !s.empty() && std::all_of(s.begin(), s.end(), [](unsigned char c) { return c > ' ' && c != '/' && c != 127; });
  };
  if (cut == std::string_view::npos || !good(text.substr(0, cut)) || !good(text.substr(cut + 1)))
    return fail(Code::invalid_argument, "expected region/zone, as in \"eu-west/a\", got \"" + std::string(text) + "\"");
  return std::optional(FaultDomain{std::string(text.substr(0, cut)), std::string(text.substr(cut + 1))});
}

std::string to_text(const Attributes& attributes) {
  std::string out;
  for (const auto& a : attributes) {
    if (!out.empty()) out += ";";
    out += a.name + ":" + (a.value ? a.value->text() : a.text);
  }
  return out;
}

}  // namespace gantry::resource
