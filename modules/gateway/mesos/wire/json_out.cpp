// Strict JSON out, straight from the flatbuffer.
#include "json_out.hpp"

#include "access.hpp"
#include "codec.hpp"

#include <array>
#include <charconv>
#include <cmath>

namespace gantry::gateway_mesos::wire {

bool present(const std::uint8_t* base, const Message& message, const Field& f) {
  if (!f.wrapped || (f.repeated && f.message->fields[0].element)) {
    const Field& slot = f.wrapped ? f.message->fields[0] : f;
    const std::uint8_t* at = find(base, message, slot);
    if (!at) return false;
    if (f.kind == Kind::presence) return *at != 0;
    return !f.repeated || ReadScalar<uoffset_t>(follow(at)) > 0;
  }
  for (const Field& inner : f.message->fields) {
    if (!inner.wrapped && inner.repeated) {
      if (find(base, message, inner)) return true;
    } else if (present(base, message, inner)) {
      return true;
    }
  }
  return f.required && implied(f.message->fields[0], true);
}

namespace {

template <class T>
void append_number(std::string& out, T value) {
  char buffer[24];
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, value);
  out.append(buffer, r.ptr);
}

constexpr auto plain_characters = [] {
  std::array<bool, 256> plain{};
  for (int c = 0x20; c < 0x80; ++c) plain[static_cast<std::size_t>(c)] = c != '"' && c != '\\' && c != 0x7f;
  return plain;
}();

// Length of the UTF-8 sequence that begins here, 0 if it is none.
std::size_t utf8(std::string_view s, std::size_t i) {
  const auto at = [&](std::size_t k) { return static_cast<unsigned char>(s[k]); };
  const unsigned c = at(i);
  const std::size_t n = c < 0x80                ? 1
                        : c >= 0xC2 && c < 0xE0 ? 2
                        : c >= 0xE0 && c < 0xF0 ? 3
                        : c >= 0xF0 && c < 0xF5 ? 4
                                                : 0;
  if (n == 0 || i + n > s.size()) return 0;
  for (std::size_t k = 1; k < n; ++k)
    if ((at(i + k) & 0xC0) != 0x80) return 0;
  if (n >= 3) {
    const unsigned d = at(i + 1);
    if ((c == 0xE0 && d < 0xA0) || (c == 0xED && d >= 0xA0) || (c == 0xF0 && d < 0x90) || (c == 0xF4 && d >= 0x90))
      return 0;
  }
  return n;
}

class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) {}

  void message(const std::uint8_t* base, const Message& m) {
    out_ += '{';
    bool first = true;
    fields(base, m, m, false, first);
    out_ += '}';
  }
  // `m`: whose fields; `home`: in whose table they lie.
  void fields(const std::uint8_t* base, const Message& m, const Message& home, bool wrapper_required, bool& first) {
    for (const Field& f : m.fields) {
      if (f.wrapped) {
        if (!present(base, home, f)) continue;
        comma(first);
        out_ += f.key;
        if (f.repeated) {
          const Field& inner = f.message->fields[0];
          elements(find(base, home, inner), inner, &inner);
        } else {
          out_ += '{';
          bool inner_first = true;
          fields(base, *f.message, home, f.required, inner_first);
          out_ += '}';
        }
        continue;
      }
      const std::uint8_t* at = find(base, home, f);
      if (!at) {
        if (!f.preset.empty()) {
          comma(first);
          out_ += f.preset;
        } else if (implied(f, wrapper_required)) {
          comma(first);
          out_ += f.key;
          implied_value(f);
        }
        continue;
      }
      if (f.kind == Kind::presence) {
        if (!*at) continue;
        comma(first);
        out_ += f.key;
        out_ += "{}";
        continue;
      }
      if (f.repeated) {
        if (ReadScalar<uoffset_t>(follow(at)) == 0) {
          if (f.preset.empty()) continue;
          comma(first);
          out_ += f.preset;
          continue;
        }
        comma(first);
        out_ += f.key;
        if (f.map) {
          map(at, f);
        } else {
          elements(at, f, nullptr);
        }
        continue;
      }
      if (f.kind == Kind::enumeration && !f.enumeration->name(integer_at(at, f.store)))
        continue;  // from a newer kernel
      comma(first);
      out_ += f.key;
      value(at, f);
    }
  }

 private:
  void comma(bool& first) {
    if (!first) out_ += ',';
    first = false;
  }

  void elements(const std::uint8_t* at, const Field& f, const Field* wrap) {
    const std::uint8_t* vector = follow(at);
    const uoffset_t count = ReadScalar<uoffset_t>(vector);
    const std::uint8_t* element = vector + sizeof(uoffset_t);
    const std::size_t step = width(f);
    out_ += '[';
    bool first = true;
    for (uoffset_t i = 0; i < count; ++i, element += step) {
      const bool unknown = f.kind == Kind::enumeration && !f.enumeration->name(integer_at(element, f.store));
      if (unknown && !wrap) continue;
      comma(first);
      if (wrap) {
        out_ += '{';
        if (!unknown) {
          out_ += wrap->key;
          value(element, f);
        }
        out_ += '}';
      } else {
        value(element, f);
      }
    }
    out_ += ']';
  }

  void map(const std::uint8_t* at, const Field& f) {
    const std::uint8_t* vector = follow(at);
    const uoffset_t count = ReadScalar<uoffset_t>(vector);
    const std::uint8_t* element = vector + sizeof(uoffset_t);
    const Field& name = *f.message->find(std::uint64_t{1});
    const Field& mapped = *f.message->find(std::uint64_t{2});
    out_ += '{';
    bool first = true;
    for (uoffset_t i = 0; i < count; ++i, element += sizeof(uoffset_t)) {
      const std::uint8_t* entry = follow(element);
      const std::uint8_t* key = find(entry, *f.message, name);
      comma(first);
      append_string(out_, key ? text_at(key) : std::string_view());
      out_ += ':';
      if (mapped.wrapped) {
        out_ += '{';
        bool inner_first = true;
        fields(entry, *mapped.message, *f.message, true, inner_first);
        out_ += '}';
      } else if (const std::uint8_t* v = find(entry, *f.message, mapped)) {
        value(v, mapped);
      } else if (is_scalar(mapped.kind)) {
        implied_value(mapped);
      } else {
        out_ += mapped.kind == Kind::message ? "{}" : "\"\"";
      }
    }
    out_ += '}';
  }

  void implied_value(const Field& f) {
    if (f.kind == Kind::enumeration) {
      const std::string* name = f.enumeration->name(f.integer);
      append_string(out_, name ? std::string_view(*name) : "UNKNOWN");
    } else if (f.kind == Kind::real || f.kind == Kind::single) {
      append_double(out_, f.real);
    } else if (f.kind == Kind::boolean) {
      out_ += f.integer ? "true" : "false";
    } else {
      append_number(out_, f.integer);
    }
  }

  void value(const std::uint8_t* at, const Field& f) {
    switch (f.kind) {
      case Kind::boolean: out_ += *at ? "true" : "false"; break;
      case Kind::int32:
      case Kind::uint32:
      case Kind::int64: append_number(out_, integer_at(at, f.store)); break;
      case Kind::uint64: append_number(out_, static_cast<std::uint64_t>(integer_at(at, f.store))); break;
      case Kind::single:
      case Kind::real: append_double(out_, real_at(at, f.store)); break;
      case Kind::enumeration:
        out_ += '"';
        out_ += *f.enumeration->name(integer_at(at, f.store));
        out_ += '"';
        break;
      case Kind::text: append_string(out_, text_at(at)); break;
      case Kind::bytes: {
        const std::string_view s = text_at(at);
        out_ += '"';
        append_base64(out_, as_bytes(s));
        out_ += '"';
        break;
      }
      case Kind::message: message(f.message->is_struct ? at : follow(at), *f.message); break;
      case Kind::presence: out_ += "{}"; break;
    }
  }

  std::string& out_;
};

}  // namespace

void write_json(std::string& out, const Table& table, const Message& message) {
  Writer(out).message(reinterpret_cast<const std::uint8_t*>(&table), message);
}

void write_json_fields(std::string& out, const Table& table, const Message& message, const Message& home, bool& first) {
  Writer(out).fields(reinterpret_cast<const std::uint8_t*>(&table), message, home, false, first);
}

void append_double(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += std::isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
    return;
  }
  const double size = std::fabs(value);
  char buffer[40];
  // Nearly all values have three decimals at most: the shortest text that reads back as the same number is theirs.
  if (size < 1e11) {
    const double thousandths = std::nearbyint(size * 1000);
    if (thousandths / 1000 == size) {
      const auto n = static_cast<std::uint64_t>(thousandths);
      if (std::signbit(value)) out += '-';
      append_number(out, n / 1000);
      const auto fraction = static_cast<unsigned>(n % 1000);
      out += '.';
      out += static_cast<char>('0' + fraction / 100);
      if (fraction % 100) out += static_cast<char>('0' + fraction / 10 % 10);
      if (fraction % 10) out += static_cast<char>('0' + fraction % 10);
      return;
    }
  }
  if (size >= 1e-6 && size < 1e21) {
    char wide[48];
    const auto r = std::to_chars(wide, wide + sizeof wide, value, std::chars_format::fixed);
    const std::string_view text(wide, static_cast<std::size_t>(r.ptr - wide));
    out += text;
    if (text.find('.') == std::string_view::npos) out += ".0";
    return;
  }
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<std::size_t>(r.ptr - buffer));
  // Written 1e30 and 1e-7: neither a plus nor a leading zero.
  std::size_t exponent = text.find('e');
  out += text.substr(0, ++exponent);
  if (text[exponent] == '-') out += '-';
  if (text[exponent] == '-' || text[exponent] == '+') ++exponent;
  while (exponent + 1 < text.size() && text[exponent] == '0') ++exponent;
  out += text.substr(exponent);
}

void append_string(std::string& out, std::string_view s) {
  out += '"';
  std::size_t done = 0;
  for (std::size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    if (plain_characters[c]) {
      ++i;
      continue;
    }
    if (c >= 0x80 || c == 0x7f) {
      if (const std::size_t n = utf8(s, i)) {
        i += n;
        continue;
      }
    }
    out += s.substr(done, i - done);
    done = ++i;
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (c < 0x20) {
          static constexpr char hex[] = "0123456789ABCDEF";
          out += "\\u00";
          out += hex[c >> 4];
          out += hex[c & 15];
        } else {
          out += "\xEF\xBF\xBD";  // the replacement character
        }
    }
  }
  out += s.substr(done);
  out += '"';
}

void append_base64(std::string& out, Bytes bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::size_t i = 0;
  for (; i + 3 <= bytes.size(); i += 3) {
    const std::uint32_t n =
        static_cast<std::uint32_t>(bytes[i]) << 16 | static_cast<std::uint32_t>(bytes[i + 1]) << 8 | bytes[i + 2];
    const char four[] = {digits[n >> 18], digits[n >> 12 & 63], digits[n >> 6 & 63], digits[n & 63]};
    out.append(four, 4);
  }
  if (i + 1 == bytes.size()) {
    const std::uint32_t n = static_cast<std::uint32_t>(bytes[i]) << 16;
    out += digits[n >> 18];
    out += digits[n >> 12 & 63];
    out += "==";
  } else if (i + 2 == bytes.size()) {
    const std::uint32_t n = static_cast<std::uint32_t>(bytes[i]) << 16 | static_cast<std::uint32_t>(bytes[i + 1]) << 8;
    out += digits[n >> 18];
    out += digits[n >> 12 & 63];
    out += digits[n >> 6 & 63];
    out += '=';
  }
}

}  // namespace gantry::gateway_mesos::wire
