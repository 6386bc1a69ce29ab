// The seam to time and threads: everything above sees only this, so tests and simulations run on a manual clock.
#pragma once

#include <gantry/function.hpp>
#include <gantry/task.hpp>

#include <chrono>
#include <cstdint>

namespace gantry::base {

using Nanos = std::chrono::nanoseconds;
using namespace std::chrono_literals;

// Time since an arbitrary start, never jumping. Durations and deadlines are made of it.
using Instant = Nanos;
// Nanoseconds since 1970; may jump. Only for timestamps.
using Wall = std::int64_t;

using TimerId = std::uint64_t;  // 0 = none

// One thread's queue of work. All members run on the loop's thread unless tagged [any].
class Loop {
 public:
  virtual ~Loop() = default;
  // [any] Runs fn on the loop's thread, later, in order of posting.
  virtual void post(Function<void()> fn) = 0;
  // [any] Runs `work` on a blocking pool, then `then` on the loop's thread.
  virtual void offload(Function<void()> work, Function<void()> then) = 0;
  // [any]
  [[nodiscard]] virtual Instant now() const = 0;
  [[nodiscard]] virtual Wall wall() const = 0;
  // Runs fn once now() >= at; never from inside the call.
  virtual TimerId at(Instant at, Function<void()> fn) = 0;
  // fn does not run after this returns. Unknown ids are ignored.
  virtual void cancel(TimerId id) = 0;
  // [any] True on the loop's own thread.
  [[nodiscard]] virtual bool on_thread() const = 0;

  TimerId after(Nanos d, Function<void()> fn) { return at(now() + d, std::move(fn)); }
  // Awaitable pause.
  Task<void> sleep(Nanos d);
};

}  // namespace gantry::base
