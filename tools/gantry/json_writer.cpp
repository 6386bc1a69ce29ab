#include "tools/gantry/json_writer.hpp"

#include <cmath>
#include <sstream>

namespace gantry::cli {

void JsonWriter::separate() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (open_.empty()) return;
  if (line_) {
    if (!first_) out_ += ", ";
  } else {
    out_ += first_ ? "\n" : ",\n";
    out_.append(open_.size() * 2, ' ');
  }
  first_ = false;
}

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  out_ += bracket;
  open_ += bracket;
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::close() {
  const char bracket = open_.back();
  open_.pop_back();
  if (!first_ && !line_) {
    out_ += '\n';
    out_.append(open_.size() * 2, ' ');
  }
  out_ += bracket == '{' ? '}' : ']';
  first_ = false;
  if (open_.empty()) out_ += '\n';
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  value(name);
  out_ += ": ";
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  separate();
  out_ += '"';
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out_ += '\\';
      out_ += c;
    } else if (c == '\n') {
      out_ += "\\n";
    } else if (u < 0x20) {
      out_ += "\\u00";
      out_ += hex[u >> 4];
      out_ += hex[u & 15];
    } else {
      out_ += c;
    }
  }
  out_ += '"';
  return *this;
}

JsonWriter& JsonWriter::value(double v) {
  if (!std::isfinite(v)) return raw("null");
  std::ostringstream s;
  s.precision(15);
  s << v;
  return raw(s.str());
}

JsonWriter& JsonWriter::list(std::string_view name, const std::vector<std::string>& items) {
  key(name).open('[');
  for (const std::string& i : items) value(std::string_view(i));
  return close();
}

JsonWriter& JsonWriter::raw(std::string_view v) {
  separate();
  out_ += v;
  return *this;
}

}  // namespace gantry::cli
