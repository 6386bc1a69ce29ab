#include "tools/gantry/format.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace gantry::cli {

std::size_t width(std::string_view utf8) {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f) c = '?';
  }
  return out;
}

std::string Table::text(bool bold) const {
  std::vector<std::size_t> widths;
  std::vector<std::vector<std::string>> rows = rows_;
  for (auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = printable(row[i].empty() ? "-" : row[i]);
      widths[i] = std::max(widths[i], width(row[i]));
    }
  }
  std::string out;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (std::size_t i = 0; i < rows[r].size(); ++i) {
      line += rows[r][i];
      if (i + 1 < rows[r].size()) line.append(widths[i] - width(rows[r][i]) + 2, ' ');
    }
    out += bold && r == 0 ? "\033[1m" + line + "\033[0m\n" : line + "\n";
  }
  return out;
}

std::string age(std::int64_t ns) {
  const std::int64_t s = std::max<std::int64_t>(0, ns / 1'000'000'000);
  if (s < 60) return std::to_string(s) + "s";
  if (s < 3600) return std::to_string(s / 60) + "m" + (s < 600 && s % 60 ? std::to_string(s % 60) + "s" : "");
  if (s < 86400) return std::to_string(s / 3600) + "h" + (s / 60 % 60 ? std::to_string(s / 60 % 60) + "m" : "");
  return std::to_string(s / 86400) + "d" + (s < 864000 && s / 3600 % 24 ? std::to_string(s / 3600 % 24) + "h" : "");
}

std::string amount(double v) {
  std::ostringstream s;
  s.setf(std::ios::fixed);
  s.precision(3);
  s << v;
  std::string t = s.str();
  t.erase(t.find_last_not_of('0') + 1);
  if (t.ends_with('.')) t.pop_back();
  return t == "-0" ? "0" : t;
}

std::string mebibytes(double mib) {
  const char* unit = "M";
  for (const char* next : {"G", "T", "P"}) {
    if (std::abs(mib) < 1024) break;
    mib /= 1024;
    unit = next;
  }
  return amount(std::round(mib * 10) / 10) + unit;
}

std::string bar(unsigned done, unsigned total, unsigned cells) {
  const unsigned filled =
      total == 0 ? cells : static_cast<unsigned>(std::uint64_t{std::min(done, total)} * cells / total);
  return "[" + std::string(filled, '#') + std::string(cells - filled, '.') + "]";
}

std::string plural(std::uint64_t n, std::string_view noun) {
  return std::to_string(n) + " " + std::string(noun) + (n == 1 ? "" : "s");
}

}  // namespace gantry::cli
