#include "flags.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

extern char** environ;

namespace gantry::compat {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};
constexpr std::array kDurations{Unit{"ns", 1}, Unit{"us", 1e3}, Unit{"ms", 1e6}, Unit{"secs", 1e9}, Unit{"mins", 6e10},
                                Unit{"hrs", 3.6e12}, Unit{"days", 8.64e13}, Unit{"weeks", 6.048e14}};
constexpr std::array kSizes{Unit{"B", 1}, Unit{"KB", 1024.0}, Unit{"MB", 1048576.0}, Unit{"GB", 1073741824.0}, Unit{"TB", 1099511627776.0}};

// A number and one of the units, nothing between but space.
template <std::size_t N>
std::optional<double> measure(std::string_view text, const std::array<Unit, N>& units) {
  double n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc() || !std::isfinite(n)) return std::nullopt;
  std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const Unit& u : units)
    if (u.name == unit) return n * u.factor;
  return std::nullopt;
}

const Flag* find(std::span<const Flag> flags, std::string_view name) {
  for (const Flag& f : flags)
    if (f.name == name || (!f.old.empty() && f.old == name)) return &f;
  return nullptr;
}

Error bad(const Flag& f, const std::string& why) { return fail(Code::invalid_argument, "Failed to load flag '" + std::string(f.name) + "': " + why); }

std::string trimmed(std::string s) {
  while (!s.empty() && (s.back() == '\n' || s.back() == '\r' || s.back() == ' ')) s.pop_back();
  return s;
}

// What the value stands for, checked. `origin`: the file it is in.
Result<std::string> load(const Flag& f, std::string value, std::string& origin) {
  constexpr std::string_view kFile = "file://";
  const bool file = value.starts_with(kFile);
  if (f.kind == Kind::path) {
    if (file) value = value.substr(kFile.size());
    origin = value;
    return value;
  }
  if (file || (f.kind == Kind::contents && value.starts_with('/'))) {
    origin = file ? value.substr(kFile.size()) : value;
    auto content = read_file(origin);
    if (!content) return bad(f, "Failed to load value '" + value + "': Error reading file '" + origin + "': " + content.error().message);
    value = trimmed(std::move(*content));
  }
  const auto refuse = [&](const std::string& why) { return bad(f, "Failed to load value '" + value + "': " + why); };
  switch (f.kind) {
    case Kind::boolean:
      if (value == "true" || value == "1") return std::string("true");
      if (value == "false" || value == "0") return std::string("false");
      return refuse("Expecting a boolean (e.g., true or false)");
    case Kind::number: {
      std::int64_t n = 0;
      const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), n);
      if (ec != std::errc() || end != value.data() + value.size()) return refuse("Failed to convert '" + value + "' to number");
      break;
    }
    case Kind::real: {
      double n = 0;
      const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), n);
      if (ec != std::errc() || end != value.data() + value.size()) return refuse("Failed to convert '" + value + "' to number");
      break;
    }
    case Kind::duration:
      if (auto d = parse_duration(value); !d) return refuse(d.error().message);
      break;
    case Kind::size:
      if (auto b = parse_bytes(value); !b) return refuse(b.error().message);
      break;
    default:
      break;
  }
  return value;
}

}  // namespace

Result<std::int64_t> parse_duration(std::string_view text) {
  const auto d = measure(text, kDurations);
  if (!d) return fail(Code::invalid_argument, "Invalid duration '" + std::string(text) + "'; it is a number and one of ns, us, ms, secs, mins, hrs, days, weeks");
  if (std::abs(*d) > 9e18) return fail(Code::invalid_argument, "Argument out of the range that a Duration can represent due to int64_t's size limit");
  return static_cast<std::int64_t>(std::llround(*d));
}

Result<std::int64_t> parse_bytes(std::string_view text) {
  const auto b = measure(text, kSizes);
  if (!b || *b < 0 || *b > 9e18) return fail(Code::invalid_argument, "Invalid bytes '" + std::string(text) + "'; it is a number and one of B, KB, MB, GB, TB");
  return static_cast<std::int64_t>(std::llround(*b));
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(Code::not_found, std::strerror(errno));
  std::string out{std::istreambuf_iterator<char>(in), {}};
  if (in.bad()) return fail(Code::internal, "it cannot be read");
  return out;
}

std::map<std::string, std::string> environment() {
  std::map<std::string, std::string> out;
  for (char** e = environ; e && *e; ++e)
    if (const char* eq = std::strchr(*e, '=')) out.emplace(std::string(*e, static_cast<std::size_t>(eq - *e)), eq + 1);
  return out;
}

Result<Given> read_flags(std::span<const Flag> flags, std::span<const std::string> words, const std::map<std::string, std::string>& environment) {
  Given out;
  out.flags_ = flags;
  for (const Flag& f : flags)
    if (!f.value.empty()) out.defaults_.emplace(f.name, f.value);

  // By the name of the flag: the name it was given under, and the value, which may be missing.
  struct Word {
    std::string name;
    std::optional<std::string> value;
  };
  std::map<std::string_view, Word> found;
  constexpr std::string_view kPrefix = "MESOS_";
  for (const auto& [name, value] : environment) {
    if (!name.starts_with(kPrefix)) continue;
    std::string lower = name.substr(kPrefix.size());
    for (char& c : lower)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    if (const Flag* f = find(flags, lower)) found.insert_or_assign(f->name, Word{lower, value});  // others are of other programs
  }
  std::map<std::string_view, std::string> on_line;
  for (const std::string& word : words) {
    if (word == "--") break;
    if (!word.starts_with("--")) continue;
    const auto eq = word.find('=');
    std::string name = word.substr(2, eq == std::string::npos ? eq : eq - 2);
    std::optional<std::string> value;
    if (eq != std::string::npos) value = word.substr(eq + 1);
    const bool negated = name.starts_with("no-");
    const std::string bare = negated ? name.substr(3) : name;
    const Flag* f = find(flags, bare);
    if (!f) return fail(Code::invalid_argument, "Failed to load unknown flag '" + bare + "'" + (negated ? " via '" + name + "'" : ""));
    if (const auto [at, fresh] = on_line.emplace(f->name, name); !fresh)
      return fail(Code::invalid_argument, at->second == name ? "Duplicate flag '" + bare + "' on command line"
                                                             : "Flag '" + bare + "' is already loaded via name '" + at->second + "'");
    found.insert_or_assign(f->name, Word{name, value});
  }

  for (const auto& [flag, word] : found) {
    const Flag& f = *find(flags, flag);
    const bool negated = word.name.starts_with("no-");
    const std::string bare = negated ? word.name.substr(3) : word.name;
    std::string value = word.value.value_or("");
    if (f.kind == Kind::boolean) {
      if (negated && !value.empty())
        return fail(Code::invalid_argument, "Failed to load boolean flag '" + bare + "' via '" + word.name + "' with value '" + value + "'");
      if (value.empty()) value = negated ? "false" : "true";
    } else {
      if (negated) return fail(Code::invalid_argument, "Failed to load non-boolean flag '" + bare + "' via '" + word.name + "'");
      if (!word.value) return fail(Code::invalid_argument, "Failed to load non-boolean flag '" + bare + "': Missing value");
    }
    std::string origin;
    GANTRY_TRY(value, load(f, std::move(value), origin));
    if (bare == f.old) out.warnings_.push_back("Loaded deprecated flag '" + bare + "'; it is --" + std::string(f.name) + " now");
    out.values_.emplace(f.name, std::move(value));
    if (!origin.empty()) out.origins_.emplace(f.name, std::move(origin));
  }
  const bool asks = out.flag("help") || out.flag("version");
  for (const Flag& f : flags)
    if (f.required && !asks && !out.has(f.name)) return fail(Code::invalid_argument, "Flag '" + std::string(f.name) + "' is required, but it was not provided");
  return out;
}

const std::string& Given::text(std::string_view name) const {
  static const std::string none;
  if (const auto it = values_.find(name); it != values_.end()) return it->second;
  if (const auto it = defaults_.find(name); it != defaults_.end()) return it->second;
  return none;
}
std::int64_t Given::number(std::string_view name) const {
  const std::string& s = text(name);
  std::int64_t n = 0;
  std::from_chars(s.data(), s.data() + s.size(), n);
  return n;
}
std::int64_t Given::nanoseconds(std::string_view name) const {
  const auto d = parse_duration(text(name));
  return d ? *d : 0;
}
std::int64_t Given::bytes(std::string_view name) const {
  const auto b = parse_bytes(text(name));
  return b ? *b : 0;
}
const std::string& Given::origin(std::string_view name) const {
  static const std::string none;
  const auto it = origins_.find(name);
  return it == origins_.end() ? none : it->second;
}
bool Given::differs(std::string_view name) const {
  const auto it = values_.find(name);
  if (it == values_.end()) return false;
  const auto d = defaults_.find(name);
  return d == defaults_.end() || d->second != it->second;
}

std::string usage(std::string_view program, std::span<const Flag> flags, std::string_view message) {
  std::string out;
  if (!message.empty()) out += std::string(message) + "\n\n";
  out += "Usage: " + std::string(program) + " [options]\n\n";
  for (const Flag& f : flags) {
    std::string left = "  --";
    if (f.kind == Kind::boolean) left += "[no-]" + std::string(f.name);
    else left += std::string(f.name) + "=VALUE";
    std::string right(f.help);
    if (!f.value.empty()) right += " (default: " + std::string(f.value) + ")";
    if (f.fate == Fate::nothing) right += " [no meaning here]";
    constexpr std::size_t kColumn = 48, kWidth = 120;
    if (left.size() + 2 > kColumn) {
      out += left + "\n";
      left.clear();
    }
    left.resize(kColumn, ' ');
    std::size_t column = kColumn;
    out += left;
    for (std::size_t at = 0; at < right.size();) {
      const std::size_t end = std::min(right.find(' ', at), right.size());
      if (column > kColumn && column + end - at > kWidth) {
        out += "\n" + std::string(kColumn, ' ');
        column = kColumn;
      }
      if (column > kColumn) {
        out += ' ';
        ++column;
      }
      out += right.substr(at, end - at);
      column += end - at;
      at = end + 1;
    }
    out += "\n";
  }
  return out;
}

}  // namespace gantry::compat
