#include "constraints.hpp"

#include <re2/re2.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gantry::framework_services {
namespace {

std::string scalar_text(double v) {
  const double r = std::nearbyint(v * 1000) / 1000;  // the default rounding mode is half to even
  return print_json(Json(r));
}

bool is_scalar_equal(const std::string& a, const std::string& b) {
  double x = 0, y = 0;
  const auto p = std::from_chars(a.data(), a.data() + a.size(), x);
  const auto q = std::from_chars(b.data(), b.data() + b.size(), y);
  return p.ec == std::errc() && q.ec == std::errc() && p.ptr == a.data() + a.size() && q.ptr == b.data() + b.size() &&
         std::nearbyint(x * 1000) == std::nearbyint(y * 1000);
}

int to_int(const std::string& s) {
  int v = 0;
  std::from_chars(s.data(), s.data() + s.size(), v);
  return v;
}

}  // namespace

std::optional<std::string> field_value(const fb::OfferT& offer, const std::string& field) {
  if (field == "hostname" || field == "@hostname") return offer.hostname;
  const std::string name = field.starts_with('@') ? field.substr(1) : field;
  for (const auto& a : offer.attributes) {
    if (!a || (a->name != field && a->name != name)) continue;
    switch (a->type) {
      case fb::ValueType::TEXT:
        return a->text;
      case fb::ValueType::SCALAR:
        return scalar_text(a->scalar.value_or(0));
      case fb::ValueType::RANGES: {
        std::string out = "[";
        for (const auto& r : a->ranges)
          out += (out.size() > 1 ? "," : "") + std::to_string(r.begin()) + "-" + std::to_string(r.end());
        return out + "]";
      }
      case fb::ValueType::SET: {
        auto items = a->set;
        std::sort(items.begin(), items.end());
        std::string out = "{";
        for (const auto& i : items) out += (out.size() > 1 ? "," : "") + i;
        return out + "}";
      }
    }
  }
  return {};
}

bool constraints_hold(const App& app, const fb::OfferT& offer, const std::vector<const Instance*>& placed) {
  for (const auto& c : app.constraints) {
    const auto value = field_value(offer, c.field);
    if (!value) {
      if (c.op == "UNLIKE") continue;
      return false;
    }
    std::map<std::string, int> count;
    for (const auto* i : placed) {
      const auto it = i->attributes.find(c.field);
      if (it != i->attributes.end()) ++count[it->second];
    }
    if (c.op == "UNIQUE") {
      if (count.count(*value)) return false;
    } else if (c.op == "CLUSTER") {
      if (!c.value.empty() ? c.value != *value : !count.empty() && !count.count(*value)) return false;
    } else if (c.op == "LIKE" || c.op == "UNLIKE") {
      const re2::RE2 re(c.value, re2::RE2::Quiet);
      if (re2::RE2::FullMatch(*value, re) != (c.op == "LIKE")) return false;
    } else if (c.op == "IS") {
      if (c.value != *value && !is_scalar_equal(c.value, *value)) return false;
    } else if (c.op == "MAX_PER") {
      if (count[*value] >= to_int(c.value)) return false;
    } else if (c.op == "GROUP_BY") {
      // With N: no group above its even share, remainder groups one more. Without: spread over the values in use, a
      // new value always being welcome.
      const int n = app.instances, groups = to_int(c.value);
      const int mine = count[*value];
      if (groups > 0) {
        const int share = n / groups, larger = n % groups;
        int used = 0, full = 0;
        for (const auto& [v, k] : count) {
          used += k > 0;
          full += k > share;
        }
        if (mine == 0 && used >= groups) return false;
        if (mine >= share + (larger ? 1 : 0)) return false;
        if (mine == share && larger && full >= larger) return false;
      } else {
        int least = mine;
        for (const auto& [v, k] : count) least = std::min(least, k);
        if (mine > least) return false;
      }
    }
  }
  return true;
}

}  // namespace gantry::framework_services
