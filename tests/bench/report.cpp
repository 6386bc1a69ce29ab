#include "tests/bench/report.hpp"

#include <algorithm>
#include <cstdio>

namespace gantry::bench {

double Report::percentile(std::vector<double> v, double p) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  const auto at = static_cast<std::size_t>(p * static_cast<double>(v.size()));
  return v[std::min(at, v.size() - 1)];
}

double Report::median_of(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  const std::size_t n = v.size();
  return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

void Report::latencies(std::string_view name, std::string_view unit, const std::vector<std::vector<double>>& runs) const {
  std::vector<double> all, medians;
  for (const auto& r : runs) {
    all.insert(all.end(), r.begin(), r.end());
    medians.push_back(median_of(r));
  }
  line(name, unit, median_of(medians), all, runs.size());
}

void Report::line(std::string_view name, std::string_view unit, double value, const std::vector<double>& all, std::size_t runs) const {
  if (!wants(name)) return;
  std::printf("%-40.*s %12.4g %-8.*s %12.4g %12.4g %4zu\n", static_cast<int>(name.size()), name.data(), value, static_cast<int>(unit.size()),
              unit.data(), median_of(all), percentile(all, 0.99), runs);
  std::fflush(stdout);
}

void Report::skipped(std::string_view name, std::string_view why) const {
  if (!wants(name)) return;
  std::printf("%-40.*s skipped: %.*s\n", static_cast<int>(name.size()), name.data(), static_cast<int>(why.size()), why.data());
  std::fflush(stdout);
}

}  // namespace gantry::bench
