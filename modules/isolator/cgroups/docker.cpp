// Parameters of `docker run` that are limits: they take the place of what the task's resources say.
#include "limits.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace gantry::isolator_cgroups {
namespace {

// "64m", "1g", "1048576", "0.5g": units b, k, m, g.
std::optional<std::uint64_t> docker_bytes(const std::string& text) {
  char* end = nullptr;
  const double n = std::strtod(text.c_str(), &end);
  std::string unit = end;
  if (unit.size() == 2 && (unit[1] == 'b' || unit[1] == 'B')) unit.pop_back();
  int shift = 0;
  if (unit == "k" || unit == "K") shift = 10;
  else if (unit == "m" || unit == "M") shift = 20;
  else if (unit == "g" || unit == "G") shift = 30;
  else if (unit == "t" || unit == "T") shift = 40;
  else if (!unit.empty() && unit != "b" && unit != "B") return std::nullopt;
  if (end == text.c_str() || !std::isfinite(n) || n < 0 || std::ldexp(n, shift) > 9e18) return std::nullopt;
  return static_cast<std::uint64_t>(std::ldexp(n, shift));
}

}  // namespace

Result<std::vector<std::string>> docker_limits(const fb::TaskInfoT& task, Limits& limits) {
  std::vector<std::string> heeded;
  if (!task.container || task.container->type != fb::ContainerType::DOCKER || !task.container->docker) return heeded;
  std::int64_t quota = 0, period = cpu_period_us;
  for (const auto& p : task.container->docker->parameters) {
    const std::string &key = p->key, &value = p->value;
    const auto wrong = [&](const char* what) { return fail(Code::invalid_argument, "docker parameter " + key + "=" + value + ": write " + what); };
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    const bool whole = error == std::errc() && end == value.data() + value.size() && !value.empty();
    if (key == "cpus") {
      char* rest = nullptr;
      const double cpus = std::strtod(value.c_str(), &rest);
      if (value.empty() || *rest || !std::isfinite(cpus) || cpus < 0 || cpus > 65536) return wrong("a number of CPUs, such as 1.5");
      if (cpus > 0) limits.cpu_quota_us = std::max<std::int64_t>(1000, std::llround(cpus * static_cast<double>(cpu_period_us)));
    } else if (key == "cpu-shares" || key == "c") {
      if (!whole || number < 0) return wrong("a number of shares; 1024 are one CPU's worth");
      if (number > 0) limits.cpu_shares = std::max<std::uint64_t>(2, static_cast<std::uint64_t>(number));
    } else if (key == "cpu-quota") {
      if (!whole) return wrong("microseconds");
      quota = number;
    } else if (key == "cpu-period") {
      if (!whole || number < 1000 || number > 1'000'000) return wrong("1000 to 1000000 microseconds");
      period = number;
    } else if (key == "memory" || key == "m" || key == "memory-reservation") {
      const auto bytes = docker_bytes(value);
      if (!bytes) return wrong("a size, such as 512m");
      if (*bytes > 0) (key == "memory-reservation" ? limits.memory_soft : limits.memory_hard) = std::max(memory_floor, *bytes);
    } else if (key == "pids-limit") {
      if (!whole) return wrong("a number of processes; -1 for no limit");
      limits.pids = number > 0 ? static_cast<std::uint64_t>(number) : 0;
    } else {
      continue;
    }
    heeded.push_back(key);
  }
  // Of the same share of a period, whatever its length.
  if (quota > 0) limits.cpu_quota_us = std::max<std::int64_t>(1000, std::llround(static_cast<double>(quota) * static_cast<double>(cpu_period_us) / static_cast<double>(period)));
  return heeded;
}

}  // namespace gantry::isolator_cgroups
