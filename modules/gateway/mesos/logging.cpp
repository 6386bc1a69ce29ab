#include "logging.hpp"

#include <charconv>
#include <optional>

namespace gantry::gateway_mesos {
namespace {

// "15mins", "2secs", as the old endpoints take durations; nothing if it is none.
std::optional<std::int64_t> duration(std::string_view text) {
  double amount = 0;
  const auto r = std::from_chars(text.data(), text.data() + text.size(), amount);
  if (r.ec != std::errc() || amount < 0) return std::nullopt;
  const std::string_view unit(r.ptr, static_cast<std::size_t>(text.data() + text.size() - r.ptr));
  static constexpr std::pair<std::string_view, double> units[] = {{"ns", 1},       {"us", 1e3},       {"ms", 1e6},     {"secs", 1e9},
                                                                  {"mins", 60e9}, {"hrs", 3600e9}, {"days", 86400e9}, {"weeks", 604800e9}};
  for (const auto& [name, ns] : units)
    if (name == unit && amount * ns < 9e18) return static_cast<std::int64_t>(amount * ns);
  return std::nullopt;
}

}  // namespace

void Logging::routes(Router& router, const char* realm) {
  router.add({"/logging/toggle", {"POST"}, false, [this](const ExchangePtr& e) {
                access_.guard(e, "get_endpoint", "/logging/toggle", [this, e] { toggle(e); });
              }, realm});
}

void Logging::set(const ExchangePtr& e, const fb::ops::LoggingChangeT& wanted) {
  access_.guard(e, "set_log_level", {}, [this, e, wanted] { change(e, wanted); });
}

void Logging::change(const ExchangePtr& e, const fb::ops::LoggingChangeT& wanted) {
  if (wanted.duration_ns < 0) return e->text(400, "Invalid duration: it must not be negative");
  level_ = wanted.level;
  until_ns_ = host_.wall_ns() + static_cast<std::uint64_t>(wanted.duration_ns);
  say_(e, wanted);  // whoever came here may: the v1 call and the old endpoint have actions of their own
}

void Logging::toggle(const ExchangePtr& e) {
  const std::string* wanted = e->query("level");
  const std::string* length = e->query("duration");
  if (!wanted && !length) return e->text(200, std::to_string(level()) + "\n");
  if (!wanted) return e->text(400, "Expecting 'level=value' in query.\n");
  if (!length) return e->text(400, "Expecting 'duration=value' in query.\n");
  fb::ops::LoggingChangeT to;
  const auto r = std::from_chars(wanted->data(), wanted->data() + wanted->size(), to.level);
  if (r.ec != std::errc() || r.ptr != wanted->data() + wanted->size()) return e->text(400, "Failed to parse '" + *wanted + "' as a level.\n");
  const auto d = duration(*length);
  if (!d) return e->text(400, "Failed to parse '" + *length + "' as a duration, as in '10mins'.\n");
  to.duration_ns = *d;
  change(e, to);
}

}  // namespace gantry::gateway_mesos
