// How many calls a principal may make: a bucket of tokens for each that has a limit of its own, one for all others together, as the
// original's `--rate_limits` counts. Pure: time is given. Nothing is limited unless somebody says so.
#pragma once

#include <gantry/result.hpp>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::gateway_mesos {

class RateLimits {
 public:
  using Time = std::chrono::nanoseconds;  // of a steady clock

  // `each`: "principal=limit"; `others`: a limit or empty. A limit is calls a second and, behind a slash, how many may come at
  // once: "100" or "100/500"; alone it is as many as in a second, at least one. "unlimited": none, not even that of the others.
  static Result<RateLimits> parse(const std::vector<std::string>& each, std::string_view others);

  // Nothing: the call may go on. Else how long until it may be tried again.
  [[nodiscard]] std::optional<Time> take(std::string_view principal, Time now);
  [[nodiscard]] bool any() const { return !each_.empty() || others_; }

 private:
  struct Bucket {
    double rate = 0, size = 0;  // rate 0: unlimited
    double tokens = 0;
    Time at{0};
  };
  static Result<Bucket> bucket(std::string_view limit);
  std::map<std::string, Bucket, std::less<>> each_;
  std::optional<Bucket> others_;
};

}  // namespace gantry::gateway_mesos
