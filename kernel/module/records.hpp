// What a module says beside its calls - log records and numbers - and where that goes.
#pragma once

#include "kernel/base/loop.hpp"

#include <gantry/message.hpp>

#include <cstdint>
#include <mutex>
#include <string>

namespace gantry::module {

// Where records and numbers of an instance go instead of this process's log and registry: over a socket, when this
// process only hosts the module. Members are [any].
class Outlet {
 public:
  virtual ~Outlet() = default;
  virtual void log(std::uint32_t level, Bytes record) = 0;
  // The desc is a fb::MetricDesc, not verified. 0: none; metric_add ignores it.
  virtual std::uint32_t metric(Bytes desc) = 0;
  virtual void metric_add(std::uint32_t id, double value) = 0;
};

// A bucket of `burst` records that refills at `rate` a second. [any]
class LogBudget {
 public:
  LogBudget(double rate, double burst) : rate_(rate), burst_(burst), left_(burst) {}
  // True if one more may be written. `dropped`: how many were refused since the last that was not.
  bool take(base::Instant now, std::uint64_t& dropped);

 private:
  const double rate_, burst_;
  std::mutex mutex_;
  double left_;
  base::Instant filled_{0};
  std::uint64_t dropped_ = 0;
};

// Verifies a fb::LogRecord and writes it in the name of `id`.
void write_record(const std::string& id, std::uint32_t level, Bytes record);

}  // namespace gantry::module
