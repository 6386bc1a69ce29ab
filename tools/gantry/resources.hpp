// Resources in answers, as numbers and JSON.
#pragma once

#include "tools/gantry/json_writer.hpp"

#include <gantry/types_generated.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

namespace gantry::cli {

using Resources = std::vector<std::unique_ptr<fb::ResourceT>>;

// Sum of a scalar over roles and reservations.
inline double scalar(const Resources& all, std::string_view name) {
  double sum = 0;
  for (const auto& r : all) {
    if (r && r->name == name) sum += r->scalar.value_or(0);
  }
  return sum;
}

// {"cpus": 4, "ports": ["31000-32000"], ...}; names in order.
inline void write_resources(JsonWriter& w, std::string_view key, const Resources& all) {
  std::map<std::string, double> scalars;
  std::map<std::string, std::vector<std::string>> lists;
  for (const auto& r : all) {
    if (!r) continue;
    if (r->scalar) scalars[r->name] += *r->scalar;
    for (const auto& range : r->ranges)
      lists[r->name].push_back(std::to_string(range.begin()) + "-" + std::to_string(range.end()));
    for (const auto& item : r->set) lists[r->name].push_back(item);
  }
  w.key(key).open('{');
  for (const auto& [name, v] : scalars) w.field(name, v);
  for (const auto& [name, items] : lists) w.list(name, items);
  w.close();
}

// [any] Nanoseconds since 1970.
std::int64_t wall_now();

}  // namespace gantry::cli
