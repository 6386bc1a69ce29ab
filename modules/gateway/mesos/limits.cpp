#include "limits.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gantry::gateway_mesos {

namespace {
bool number(std::string_view text, double& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(out) && out > 0;
}
}  // namespace

Result<RateLimits::Bucket> RateLimits::bucket(std::string_view limit) {
  Bucket b;
  if (limit == "unlimited") return b;
  const auto slash = limit.find('/');
  const bool rate = number(limit.substr(0, slash), b.rate);
  const bool size = slash == std::string_view::npos || number(limit.substr(slash + 1), b.size);
  if (!rate || !size || (slash != std::string_view::npos && b.size < 1))
    return fail(Code::invalid_argument,
                "the limit \"" + std::string(limit) + "\" is none: give calls a second, as in \"100\", or with how many may come at once, as in \"100/500\", or \"unlimited\"");
  if (slash == std::string_view::npos) b.size = std::max(1.0, b.rate);
  b.tokens = b.size;
  return b;
}

Result<RateLimits> RateLimits::parse(const std::vector<std::string>& each, std::string_view others) {
  RateLimits out;
  for (const std::string& item : each) {
    const auto equals = item.rfind('=');
    const std::string principal = item.substr(0, equals);
    GANTRY_TRY(const Bucket b, bucket(equals == std::string::npos ? std::string_view() : std::string_view(item).substr(equals + 1)));
    out.each_.insert_or_assign(principal, b);
  }
  if (!others.empty()) {
    GANTRY_TRY(const Bucket b, bucket(others));
    if (b.rate > 0) out.others_ = b;
  }
  return out;
}

std::optional<RateLimits::Time> RateLimits::take(std::string_view principal, Time now) {
  const auto it = each_.find(principal);
  Bucket* b = it != each_.end() ? &it->second : others_ ? &*others_ : nullptr;
  if (!b || b->rate <= 0) return std::nullopt;
  if (b->at.count() && now > b->at)
    b->tokens = std::min(b->size, b->tokens + b->rate * std::chrono::duration<double>(now - b->at).count());
  b->at = now;
  if (b->tokens >= 1) {
    b->tokens -= 1;
    return std::nullopt;
  }
  const double seconds = std::min((1 - b->tokens) / b->rate, 86400.0);
  return Time(static_cast<std::int64_t>(std::ceil(seconds * 1e9)));
}

}  // namespace gantry::gateway_mesos
