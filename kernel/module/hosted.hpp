// An instance as its ModuleHost sees it: what the rest of the kernel calls, and the life cycle that only the host drives.
// Where the module runs - in this process (instance.hpp) or in one of its own (process/) - is a matter of which subclass.
#pragma once

#include "kernel/module/module.hpp"

#include <cstdint>
#include <string>

namespace gantry::module {

class Tracer;

// What is known of a provider once it has been loaded.
struct Facts {
  std::uint16_t revision = 0;  // of the kind: the highest both sides speak
  std::uint32_t flags = 0;     // of abi.h: GANTRY_BLOCKING, ...
  std::string build;           // the module's stamp, for people
};

// Members run on the loop, as do those of Instance.
class HostedInstance : public Instance {
 public:
  // Makes the module ready for CONFIGURE: enters create(), in a process of its own if that is how it is hosted.
  // An instance whose process ended may be created again.
  virtual Task<Status> create() = 0;

  // STOP (if `drain`) with a deadline, cancel what is left, destroy. An instance that does not give up its calls within
  // `grace` is not destroyed but left behind or killed; the error says so. Idempotent.
  virtual Task<Status> stop(bool drain, base::Nanos timeout, base::Nanos grace) = 0;

  // Why it is degraded, restarting or failed.
  [[nodiscard]] virtual const std::string& message() const = 0;
  virtual void set_state(State state, std::string message = {}) = 0;

  // Before create() has succeeded, what the file says without being run; it may be empty.
  [[nodiscard]] virtual Facts facts() const = 0;

  // Tells `tracer` (trace.hpp) of every call and request from now on; null: nobody, and no cost but this pointer's test.
  virtual void trace(Tracer* tracer) { tracer_ = tracer; }

  // ---- instances that can end by themselves; the others never do
  // Runs on the loop each time the module has ended unasked, with one sentence about it. All its calls have been
  // answered with UNAVAILABLE before. Set once.
  virtual void on_ended(Function<void(const Error&)> /*fn*/) {}
  // Ends it at once, without asking it: it does not answer. on_ended follows.
  virtual void kill(const std::string& /*why*/) {}
  // Whether kill() does anything.
  [[nodiscard]] virtual bool can_end() const { return false; }

 protected:
  Tracer* tracer_ = nullptr;
};

}  // namespace gantry::module
