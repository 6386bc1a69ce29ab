#include "kernel/config/values.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>

#include "kernel/config/suggest.hpp"

namespace gantry::config {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t factor;
};

constexpr std::array<Unit, 8> duration_units{{{"d", 86'400'000'000'000},
                                              {"h", 3'600'000'000'000},
                                              {"m", 60'000'000'000},
                                              {"s", 1'000'000'000},
                                              {"ms", 1'000'000},
                                              {"us", 1'000},
                                              {"ns", 1},
                                              {"min", 60'000'000'000}}};  // last: format_duration writes "m"
// Binary units first: format_size picks from them.
constexpr std::array<Unit, 18> size_units{{{"PiB", 1LL << 50},
                                           {"TiB", 1LL << 40},
                                           {"GiB", 1LL << 30},
                                           {"MiB", 1LL << 20},
                                           {"KiB", 1LL << 10},
                                           {"B", 1},
                                           {"P", 1LL << 50},
                                           {"T", 1LL << 40},
                                           {"G", 1LL << 30},
                                           {"M", 1LL << 20},
                                           {"K", 1LL << 10},
                                           {"k", 1LL << 10},
                                           {"PB", 1'000'000'000'000'000},
                                           {"TB", 1'000'000'000'000},
                                           {"GB", 1'000'000'000},
                                           {"MB", 1'000'000},
                                           {"kB", 1'000},
                                           {"KB", 1'000}}};

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string quoted(std::string_view s) { return "\"" + std::string(s) + "\""; }

// One or more "number unit" pairs without spaces in between; at most three decimals matter to anyone.
template <std::size_t N>
Result<std::int64_t> parse_units(std::string_view text, const std::array<Unit, N>& units, std::string_view what,
                                 bool compound) {
  const std::string expected = "expected a " + std::string(what);
  std::size_t pos = 0;
  std::int64_t total = 0;
  if (text.empty()) return fail(Code::invalid_argument, expected + ", got an empty text");
  if (text[0] == '-') return fail(Code::invalid_argument, expected + ", got the negative " + quoted(text));
  do {
    const std::size_t begin = pos;
    while (pos < text.size() && digit(text[pos])) ++pos;
    std::int64_t whole = 0;
    if (pos == begin) return fail(Code::invalid_argument, expected + ", got " + quoted(text));
    if (std::from_chars(text.data() + begin, text.data() + pos, whole).ec != std::errc{})
      return fail(Code::out_of_range, quoted(text) + " is too large");
    std::int64_t fraction = 0, scale = 1;
    if (pos < text.size() && text[pos] == '.') {
      ++pos;
      const std::size_t start = pos;
      for (; pos < text.size() && digit(text[pos]); ++pos) {
        if (scale < 1'000'000'000) {
          fraction = fraction * 10 + (text[pos] - '0');
          scale *= 10;
        }
      }
      if (pos == start) return fail(Code::invalid_argument, expected + ", got " + quoted(text));
    }
    if (!compound) {
      while (pos < text.size() && text[pos] == ' ') ++pos;
    }
    const std::size_t unit_begin = pos;
    while (pos < text.size() && letter(text[pos])) ++pos;
    const std::string_view unit = text.substr(unit_begin, pos - unit_begin);
    if (unit.empty() && !(whole == 0 && fraction == 0 && pos == text.size()))
      return fail(Code::invalid_argument, expected + ", got " + quoted(text) + " without a unit");
    if (!unit.empty()) {
      const auto it = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit; });
      if (it == units.end()) {
        std::vector<std::string> names;
        for (const Unit& u : units) names.emplace_back(u.name);
        return fail(Code::invalid_argument, expected + ", got " + quoted(text) + "; there is no unit " + quoted(unit) +
                                                did_you_mean_unit(unit, names));
      }
      // factor * fraction / scale, without leaving 64 bits: both factors of the second product are below 1e9.
      const std::int64_t part = it->factor / scale * fraction + it->factor % scale * fraction / scale;
      std::int64_t product = 0;
      if (__builtin_mul_overflow(whole, it->factor, &product) || __builtin_add_overflow(product, part, &product) ||
          __builtin_add_overflow(total, product, &total))
        return fail(Code::out_of_range, quoted(text) + " is too large");
    }
  } while (compound && pos < text.size());
  if (pos != text.size()) return fail(Code::invalid_argument, expected + ", got " + quoted(text));
  return static_cast<std::int64_t>(total);
}

}  // namespace

std::string Where::text() const {
  std::string out = file;
  if (line) out += ":" + std::to_string(line);
  if (line && column) out += ":" + std::to_string(column);
  return out;
}

std::string Problem::text() const {
  std::string out = where.text();
  if (!out.empty()) out += ": ";
  out += severity == Severity::error ? "error: " : "warning: ";
  return out + message;
}

std::string_view to_string(Type t) {
  switch (t) {
    case Type::string:
      return "string";
    case Type::integer:
      return "int";
    case Type::real:
      return "float";
    case Type::boolean:
      return "bool";
    case Type::duration:
      return "duration";
    case Type::size:
      return "size";
    case Type::path:
      return "path";
    case Type::address:
      return "address";
    case Type::list:
      return "list";
    case Type::map:
      return "map";
  }
  return "string";
}

fb::SettingType wire_type(Type t) {
  switch (t) {
    case Type::string:
    case Type::path:
    case Type::address:
      return fb::SettingType::STRING;
    case Type::integer:
      return fb::SettingType::INT;
    case Type::real:
      return fb::SettingType::FLOAT;
    case Type::boolean:
      return fb::SettingType::BOOL;
    case Type::duration:
      return fb::SettingType::DURATION;
    case Type::size:
      return fb::SettingType::SIZE;
    case Type::list:
      return fb::SettingType::LIST;
    case Type::map:
      return fb::SettingType::MAP;
  }
  return fb::SettingType::STRING;
}

Result<std::int64_t> parse_duration(std::string_view text) {
  return parse_units(text, duration_units, "duration such as \"250ms\", \"5s\" or \"1h30m\"", true);
}

Result<std::int64_t> parse_size(std::string_view text) {
  return parse_units(text, size_units, "size such as \"512MiB\" or \"20GiB\"", false);
}

std::string format_duration(std::int64_t ns) {
  if (ns == 0) return "0s";
  std::string out;
  for (const Unit& u : duration_units) {
    if (ns >= u.factor) {
      out += std::to_string(ns / u.factor) + std::string(u.name);
      ns %= u.factor;
    }
  }
  return out;
}

std::string format_size(std::int64_t bytes) {
  for (const Unit& u : size_units) {
    if (bytes != 0 && bytes % u.factor == 0) return std::to_string(bytes / u.factor) + std::string(u.name);
  }
  return std::to_string(bytes) + "B";
}

const fb::SettingT* Values::find(std::string_view key) const {
  const auto it = std::lower_bound(settings_.begin(), settings_.end(), key,
                                   [](const fb::SettingT& s, std::string_view k) { return s.key < k; });
  return it != settings_.end() && it->key == key ? &*it : nullptr;
}
fb::SettingT* Values::find(std::string_view key) { return const_cast<fb::SettingT*>(std::as_const(*this).find(key)); }

const fb::SettingT& Values::at(std::string_view key) const {
  static const fb::SettingT none;
  const fb::SettingT* s = find(key);
  assert(s && "a setting the manifest does not declare");
  return s ? *s : none;
}

bool same_value(const fb::SettingT& a, const fb::SettingT& b) {
  return a.type == b.type && a.text == b.text && a.number == b.number && a.real == b.real && a.flag == b.flag &&
         a.items == b.items;
}

}  // namespace gantry::config
