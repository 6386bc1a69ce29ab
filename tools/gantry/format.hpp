// Text for people: tables, ages, amounts, bars. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::cli {

// Rows under a heading, columns as wide as their widest cell, two spaces between; no trailing spaces.
class Table {
 public:
  explicit Table(std::vector<std::string> heading) : rows_{std::move(heading)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] bool empty() const { return rows_.size() == 1; }
  // bold: the heading in bold, for terminals.
  [[nodiscard]] std::string text(bool bold = false) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Characters a UTF-8 text takes up, one per code point.
[[nodiscard]] std::size_t width(std::string_view utf8);
// What outsiders wrote, safe to print: control characters become "?".
[[nodiscard]] std::string printable(std::string_view text);
// "12s", "4m", "3h12m", "5d"
[[nodiscard]] std::string age(std::int64_t ns);
// At most three decimals: "1.5", "4"
[[nodiscard]] std::string amount(double v);
// MiB as "512M", "7.8G"
[[nodiscard]] std::string mebibytes(double mib);
// "[#####.....]"
[[nodiscard]] std::string bar(unsigned done, unsigned total, unsigned cells = 20);
[[nodiscard]] std::string plural(std::uint64_t n, std::string_view noun);

}  // namespace gantry::cli
