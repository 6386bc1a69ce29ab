#include "router.hpp"

#include <algorithm>

namespace gantry::gateway_mesos {

void Router::add(Route route) {
  std::string path = route.path;
  routes_.insert_or_assign(std::move(path), std::move(route));
}

Route* Router::find(Exchange& exchange) {
  std::string_view path = exchange.path();
  constexpr std::string_view kSuffix = ".json";
  for (;;) {
    auto it = routes_.find(path);
    if (it == routes_.end() && path.size() > kSuffix.size() && path.ends_with(kSuffix))
      it = routes_.find(path.substr(0, path.size() - kSuffix.size()));
    if (it != routes_.end()) {
      const std::string_view whole = exchange.path();
      std::string_view rest = whole.substr(path.size());
      while (rest.starts_with('/')) rest.remove_prefix(1);
      exchange.rest(std::string(rest));
      return &it->second;
    }
    const auto slash = path.rfind('/');
    if (slash == std::string_view::npos || slash == 0) return nullptr;  // "/" itself matches nothing but itself
    path = path.substr(0, slash);
  }
}

bool Router::allow(const Route& route, Exchange& exchange) {
  if (route.methods.empty()) return true;
  for (const auto& m : route.methods)
    if (m == exchange.method()) return true;
  std::string quoted, plain;
  for (const auto& m : route.methods) {
    quoted += (quoted.empty() ? "'" : ", '") + m + "'";
    plain += (plain.empty() ? "" : ", ") + m;
  }
  exchange.text(
      405, "405 Method Not Allowed. Expecting one of { " + quoted + " }, but received '" + exchange.method() + "'.",
      {{"Allow", plain}});
  return false;
}

}  // namespace gantry::gateway_mesos
