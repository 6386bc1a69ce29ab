// Lax JSON in, in one pass: parser events go straight into a flatbuffer.
#include "json_in.hpp"

#include "table_builder.hpp"

// The one place of this library where Boost.JSON is compiled: only its event parser is used.
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/src.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace gantry::gateway_mesos::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t max_missing = 100;  // fields named in a refusal
constexpr std::size_t max_depth = 60;     // of brackets; view<>() follows 64 tables into each other

struct Frame {
  enum class Type : std::uint8_t { table, inlined, array, map };
  Type type;
  bool entry = false;                // of a map: ends with its value
  const Message* message = nullptr;  // table, inlined
  const Field* field = nullptr;      // the field the next value is for; null: unknown, skipped
  std::size_t begin = 0;             // mark of the builder
  std::size_t missing = 0;           // how many missing fields were known when it began
  std::uint64_t seen = 0;            // required fields that were given
  std::size_t index = 0;             // array, map: elements so far
};

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;
  if (c == '/' || c == '_') return 63;
  return -1;
}

// False: not base64. White space is skipped, padding may be left out.
bool decode_base64(std::string_view in, std::vector<std::uint8_t>& out) {
  out.clear();
  std::uint32_t bits = 0;
  unsigned have = 0;
  std::size_t i = 0;
  for (; i < in.size() && in[i] != '='; ++i) {
    const char c = in[i];
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t') continue;
    const int digit = base64_digit(c);
    if (digit < 0) return false;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    if (have += 6; have >= 8) {
      have -= 8;
      out.push_back(static_cast<std::uint8_t>(bits >> have));
    }
  }
  for (; i < in.size(); ++i)
    if (in[i] != '=' && in[i] != '\n' && in[i] != '\r') return false;
  return have != 6;
}

// The rest of a line, as Mesos shows where it stopped reading.
std::string near(std::string_view text, std::size_t at) {
  // Of a literal it has read what is right: "nope" is wrong from "ope" on.
  for (const std::string_view literal : {"null", "true", "false"}) {
    if (at >= text.size() || text[at] != literal[0]) continue;
    for (std::size_t i = 0; i < literal.size() && at < text.size() && text[at] == literal[i]; ++i) ++at;
    break;
  }
  const auto before = text.substr(0, std::min(at, text.size()));
  std::string out =
      "syntax error at line " + std::to_string(std::count(before.begin(), before.end(), '\n') + 1) + " near: ";
  for (const char c : text.substr(std::min(at, text.size()))) {
    if (c == '\n' || out.size() > 500) break;
    if (static_cast<unsigned char>(c) >= ' ') out += c;
  }
  return out;
}

struct Number {
  enum class Type : std::uint8_t { signed_, unsigned_, real } type = Type::signed_;
  std::int64_t i = 0;
  std::uint64_t u = 0;
  double d = 0;

  template <class T>
  [[nodiscard]] T as() const {
    switch (type) {
      case Type::signed_: return static_cast<T>(i);
      case Type::unsigned_: return static_cast<T>(u);
      case Type::real: break;
    }
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(d);
    } else {
      // Out of range is undefined for a cast: the nearest value instead.
      if (!(d > static_cast<double>(std::numeric_limits<T>::min()))) return std::numeric_limits<T>::min();
      if (d >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
      return static_cast<T>(d);
    }
  }
};

std::string_view trimmed(std::string_view s) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!s.empty() && blank(s.front())) s.remove_prefix(1);
  while (!s.empty() && blank(s.back())) s.remove_suffix(1);
  return s;
}

bool number_from(std::string_view s, Number& out) {
  s = trimmed(s);
  if (s.empty() || (s[0] != '-' && (s[0] < '0' || s[0] > '9'))) return false;
  const char* const end = s.data() + s.size();
  if (auto r = std::from_chars(s.data(), end, out.i); r.ptr == end && r.ec == std::errc()) {
    out.type = Number::Type::signed_;
    return true;
  }
  if (auto r = std::from_chars(s.data(), end, out.u); r.ptr == end && r.ec == std::errc()) {
    out.type = Number::Type::unsigned_;
    return true;
  }
  out.type = Number::Type::real;
  const auto r = std::from_chars(s.data(), end, out.d);
  return r.ptr == end && r.ec == std::errc() && std::isfinite(out.d);
}

}  // namespace

// Handler of boost::json::basic_parser. Its functions say false only where reading on makes no sense; what is wrong in
// meaning is kept, as the text after it may be no JSON at all and that is what Mesos complains about first.
struct JsonHandler {
  static constexpr std::size_t max_object_size = std::size_t(-1);
  static constexpr std::size_t max_array_size = std::size_t(-1);
  static constexpr std::size_t max_key_size = std::size_t(-1);
  static constexpr std::size_t max_string_size = std::size_t(-1);

  TableBuilder builder;
  const Message* root = nullptr;
  std::vector<Frame> frames;
  std::size_t skipping = 0;  // brackets open within a value that is skipped
  std::string parts;         // of a string with escapes
  std::vector<std::uint8_t> decoded;
  std::string error;
  std::vector<std::string> missing;
  std::uint64_t result = 0;
  bool got_result = false;
  bool overflow = false;  // a number beyond double

  void begin(const Message& message) {
    root = &message;
    frames.clear();
    skipping = 0;
    parts.clear();
    error.clear();
    missing.clear();
    got_result = false;
    overflow = false;
    builder.reset();
  }

  // ---- where we are

  bool idle() const { return skipping > 0 || !error.empty(); }
  void refuse(std::string what) {
    if (error.empty()) error = std::move(what);
  }

  // The field the value that begins now is for; null: nothing to do. Counts it.
  const Field* target() {
    if (frames.empty()) return nullptr;
    Frame& f = frames.back();
    if (f.type == Frame::Type::array) ++f.index;
    return f.field;
  }

  // A value given for `field` is in the builder.
  void given(const Field& field) {
    Frame& f = frames.back();
    if (field.index != 255 && f.type != Frame::Type::array) f.seen |= std::uint64_t{1} << field.index;
  }

  // After every value, whatever became of it.
  void done() {
    if (!frames.empty() && frames.back().entry) close_table();
  }

  std::string path(std::string_view name) const {
    std::string out;
    for (std::size_t i = 0; i + 1 < frames.size(); ++i) {
      const Frame& f = frames[i];
      if (f.type == Frame::Type::array || f.type == Frame::Type::map) {
        out += "[" + std::to_string(f.index ? f.index - 1 : 0) + "]";
      } else if (f.field && !f.entry) {
        if (!out.empty()) out += '.';
        out += f.field->name;
        if (f.field->repeated && frames[i + 1].type != Frame::Type::array && frames[i + 1].type != Frame::Type::map)
          out += "[0]";
      }
    }
    if (!out.empty()) out += '.';
    return out += name;
  }

  void check_required(const Frame& f) {
    const std::uint64_t absent = f.message->required & ~f.seen;
    if (!absent) return;
    auto at = missing.begin() + static_cast<std::ptrdiff_t>(f.missing);
    for (const Field& field : f.message->fields)
      if (field.index != 255 && (absent >> field.index & 1) && missing.size() < max_missing)
        at = missing.insert(at, path(field.name)) + 1;
  }

  void open(Frame::Type type, const Message* message, const Field* field) {
    frames.push_back({type, false, message, field, builder.mark(), missing.size(), 0, 0});
  }

  // Ends the table on top and hands it to what holds it.
  void close_table() {
    const Frame f = frames.back();
    check_required(f);
    if (f.type == Frame::Type::inlined) {
      // A list given empty is a message without elements: there, not absent.
      for (const Field& field : f.message->fields)
        if (field.repeated && !field.element) builder.touch(field);
      frames.pop_back();
      if (frames.back().field) given(*frames.back().field);
      return;
    }
    const std::uint64_t made =
        f.message->is_struct ? builder.finish_struct(*f.message, f.begin) : builder.finish(f.begin);
    frames.pop_back();
    if (frames.empty()) {
      result = made;
      got_result = true;
      return;
    }
    const Field& field = *frames.back().field;
    builder.push(field, made);
    given(field);
  }

  // ---- events

  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }

  bool on_object_begin(json::error_code&) {
    if (idle()) {
      ++skipping;
      return true;
    }
    if (frames.empty()) {
      open(Frame::Type::table, root, nullptr);
      return true;
    }
    const Field* f = target();
    if (!f) {
      skipping = 1;
    } else if (f->kind == Kind::presence) {
      builder.push(*f, 1);
      given(*f);
      skipping = 1;
    } else if (f->kind != Kind::message) {
      refuse("Not expecting a JSON object for field '" + f->name + "'");
    } else if (f->map) {
      open(Frame::Type::map, nullptr, f);
    } else {
      open(f->wrapped ? Frame::Type::inlined : Frame::Type::table, f->message, nullptr);
    }
    return true;
  }

  bool on_object_end(std::size_t, json::error_code&) {
    if (skipping > 0) {
      if (--skipping == 0 && error.empty()) done();
      return true;
    }
    if (!error.empty()) return true;
    if (frames.back().type == Frame::Type::map) {
      frames.pop_back();
    } else {
      close_table();
    }
    done();
    return true;
  }

  bool on_array_begin(json::error_code&) {
    if (idle()) {
      ++skipping;
      return true;
    }
    if (frames.empty()) {
      refuse("Expecting a JSON object");
      return true;
    }
    const Field* f = target();
    if (!f) {
      skipping = 1;
    } else if (!f->repeated || f->element) {
      refuse("Not expecting a JSON array for field '" + f->name + "'");
    } else {
      open(Frame::Type::array, nullptr, f);
    }
    return true;
  }

  bool on_array_end(std::size_t, json::error_code&) {
    if (skipping > 0) {
      if (--skipping == 0 && error.empty()) done();
      return true;
    }
    if (!error.empty()) return true;
    frames.pop_back();
    done();
    return true;
  }

  bool on_key_part(json::string_view s, std::size_t, json::error_code&) {
    if (!idle()) parts.append(s.data(), s.size());
    return true;
  }

  bool on_key(json::string_view s, std::size_t, json::error_code&) {
    if (idle()) return true;
    const std::string_view key = whole(s);
    Frame& f = frames.back();
    if (f.type == Frame::Type::map) {
      ++f.index;
      const Field& map = *f.field;
      const Field* name = map.message->find(std::uint64_t{1});
      const Field* value = map.message->find(std::uint64_t{2});
      open(Frame::Type::table, map.message, value);
      frames.back().entry = true;
      builder.push_text(*name, key);
      given(*name);
    } else {
      f.field = f.message->find(key);
    }
    parts.clear();
    return true;
  }

  bool on_string_part(json::string_view s, std::size_t, json::error_code&) {
    if (!idle()) parts.append(s.data(), s.size());
    return true;
  }

  bool on_string(json::string_view s, std::size_t, json::error_code&) {
    if (idle()) return true;
    if (frames.empty()) {
      refuse("Expecting a JSON object");
      return true;
    }
    if (const Field* f = target()) string(*f, whole(s));
    parts.clear();
    if (error.empty()) done();
    return true;
  }

  bool on_number_part(json::string_view, json::error_code&) { return true; }
  bool on_int64(std::int64_t i, json::string_view, json::error_code&) {
    return number({Number::Type::signed_, i, 0, 0});
  }
  bool on_uint64(std::uint64_t u, json::string_view, json::error_code&) {
    return number({Number::Type::unsigned_, 0, u, 0});
  }
  bool on_double(double d, json::string_view text, json::error_code&) {
    // The parser's own conversion is off by a bit now and then: 1795361295.9338303 would come back as ...305.
    double exact = 0;
    const char* const end = text.data() + text.size();
    if (const auto r = std::from_chars(text.data(), end, exact); r.ec == std::errc() && r.ptr == end) d = exact;
    if (!std::isfinite(d)) overflow = true;
    return number({Number::Type::real, 0, 0, d});
  }

  bool on_bool(bool b, json::error_code&) {
    if (idle()) return true;
    if (frames.empty()) {
      refuse("Expecting a JSON object");
      return true;
    }
    if (const Field* f = target()) boolean(*f, b);
    if (error.empty()) done();
    return true;
  }

  bool on_null(json::error_code&) {
    if (idle()) return true;
    if (frames.empty()) {
      refuse("Expecting a JSON object");
      return true;
    }
    (void)target();
    done();
    return true;
  }

  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }

  // ---- values

  std::string_view whole(json::string_view last) {
    if (parts.empty()) return {last.data(), last.size()};
    parts.append(last.data(), last.size());
    return parts;
  }

  bool number(const Number& n) {
    if (idle()) return true;
    if (frames.empty()) {
      refuse("Expecting a JSON object");
      return true;
    }
    if (const Field* f = target()) {
      if (f->kind == Kind::boolean) {
        refuse("Not expecting a JSON number for field '" + f->name + "'");
      } else {
        numeric(*f, n);
      }
    }
    if (error.empty()) done();
    return true;
  }

  void numeric(const Field& f, const Number& n) {
    std::uint64_t bits = 0;
    switch (f.kind) {
      case Kind::int32: bits = static_cast<std::uint64_t>(n.as<std::int32_t>()); break;
      case Kind::uint32: bits = n.as<std::uint32_t>(); break;
      case Kind::int64: bits = static_cast<std::uint64_t>(n.as<std::int64_t>()); break;
      case Kind::uint64: bits = n.as<std::uint64_t>(); break;
      case Kind::single:
      case Kind::real: bits = std::bit_cast<std::uint64_t>(n.as<double>()); break;
      default: refuse("Not expecting a JSON number for field '" + f.name + "'"); return;
    }
    builder.push(f, bits);
    given(f);
  }

  void boolean(const Field& f, bool b) {
    if (f.kind != Kind::boolean) {
      refuse("Not expecting a JSON boolean for field '" + f.name + "'");
      return;
    }
    builder.push(f, b ? 1 : 0);
    given(f);
  }

  void string(const Field& f, std::string_view s) {
    switch (f.kind) {
      case Kind::text:
        builder.push_text(f, s);
        given(f);
        return;
      case Kind::bytes:
        if (!decode_base64(s, decoded)) {
          refuse("Failed to base64 decode bytes field '" + f.name + "': Invalid base64 encoding");
          return;
        }
        builder.push_bytes(f, decoded.data(), decoded.size());
        given(f);
        return;
      case Kind::enumeration: {
        const int value = f.enumeration->by_name.find(s);
        if (value >= 0) {
          builder.push(f, static_cast<std::uint64_t>(value));
          given(f);
        } else if (f.required) {
          refuse("Failed to find enum for '" + std::string(s) + "'");
        }
        return;
      }
      case Kind::boolean:
        if (trimmed(s) == "true" || trimmed(s) == "false") {
          boolean(f, trimmed(s) == "true");
        } else {
          refuse("Failed to parse '" + std::string(s) + "' as a JSON boolean for field '" + f.name +
                 "': " + why_not(s));
        }
        return;
      case Kind::message:
      case Kind::presence: refuse("Not expecting a JSON string for field '" + f.name + "'"); return;
      default: break;
    }
    Number n;
    if ((f.kind == Kind::real || f.kind == Kind::single) && (s == "Infinity" || s == "-Infinity")) {
      n.type = Number::Type::real;
      n.d = s[0] == '-' ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
    } else if (!number_from(s, n)) {
      refuse("Failed to parse '" + std::string(s) + "' as a JSON number for field '" + f.name + "': " + why_not(s));
      return;
    }
    numeric(f, n);
  }

  static std::string why_not(std::string_view s) {
    const std::string_view t = trimmed(s);
    Number n;
    const bool json = t == "true" || t == "false" || t == "null" || number_from(t, n) ||
                      (!t.empty() && (t[0] == '"' || t[0] == '{' || t[0] == '['));
    return json ? "Unexpected JSON type parsed" : near(s, 0);
  }
};

Result<Buffer> read_json(std::string_view text, const Message& message, std::string_view short_name) {
  static const json::parse_options options = [] {
    json::parse_options o;
    o.max_depth = max_depth;
    return o;
  }();
  static thread_local json::basic_parser<JsonHandler> parser(options);
  parser.reset();
  JsonHandler& h = parser.handler();
  h.begin(message);
  json::error_code ec;
  std::size_t used = parser.write_some(false, text.data(), text.size(), ec);
  if (ec == json::error::too_deep)
    return fail(Code::invalid_argument,
                "Failed to parse body into JSON: nested deeper than " + std::to_string(max_depth));
  if (ec) return fail(Code::invalid_argument, "Failed to parse body into JSON: " + near(text, used));
  if (const auto rest = trimmed(text.substr(used)); !rest.empty())
    return fail(Code::invalid_argument,
                "Failed to parse body into JSON: Parsed JSON included non-whitespace trailing characters: " +
                    std::string(rest.substr(0, 500)));
  if (h.overflow) return fail(Code::invalid_argument, "Failed to parse body into JSON: Value out of range");
  if (h.error.empty() && !h.missing.empty()) {
    h.error = "Missing required fields: ";
    for (std::size_t i = 0; i < h.missing.size(); ++i) {
      if (i) h.error += ", ";
      h.error += h.missing[i];
    }
  }
  if (!h.error.empty())
    return fail(Code::invalid_argument,
                "Failed to convert JSON into " + std::string(short_name) + " protobuf: " + h.error);
  return Buffer(h.builder.release(h.result));
}

}  // namespace gantry::gateway_mesos::wire
