// Modules as the rest of the kernel sees them: instances to call, services to offer. Loading is loader.hpp's business.
#pragma once

#include "kernel/base/loop.hpp"

#include <gantry/message.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::module {

// What an operator sees of an instance.
enum class State { configured, starting, running, degraded, stopping, stopped, failed, not_for_role, restarting, crash_loop };
[[nodiscard]] std::string_view to_string(State);

struct CallOptions {
  base::Instant deadline{0};     // absolute, 0 = none; past it the caller gets DEADLINE_EXCEEDED and the module a cancel
  std::vector<int> fds;          // borrowed until the final reply
  bool keep_deadline = true;     // false: the module is told of the deadline, whoever called watches over it
  bool from_host = false;        // of the module host: goes through while the instance is not open to others
};

using OnReply = Function<void(gantry_code, Bytes)>;

struct Counters {
  std::uint64_t calls = 0;
  std::uint64_t faults = 0;      // late, double or unknown completions, malformed answers
  std::uint64_t slow = 0;        // entries that held the strand over 10 ms
  std::uint32_t restarts = 0;
};

// One running provider. Members run on the kernel loop's thread; the module itself runs on its strand.
class Instance {
 public:
  virtual ~Instance() = default;
  [[nodiscard]] virtual const std::string& kind() const = 0;
  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] std::string id() const { return kind() + "." + name(); }
  [[nodiscard]] virtual State state() const = 0;
  [[nodiscard]] virtual Counters counters() const = 0;
  // Bytes of calls and replies that it has not come to yet.
  [[nodiscard]] virtual std::size_t backlog() const { return 0; }

  // Calls the module. on_reply runs on the loop: MORE any number of times, then once with a final code; the bytes are
  // valid during the callback. The body is copied or moved in. Returns an id for cancel().
  virtual std::uint64_t call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions options = {}) = 0;
  virtual void cancel(std::uint64_t id) = 0;

  // The same for calls that answer once, as a coroutine.
  Task<Result<Buffer>> ask(std::uint32_t method, Buffer body, CallOptions options = {});
};

// A service the kernel offers to modules. Runs on the loop. `reply` may be kept and called later from the loop: MORE
// any number of times, then once with a final code; it is safe to call after the instance has gone (ignored).
struct ServiceRequest {
  Instance* caller;              // valid while the request is open
  std::uint32_t method;
  Bytes body;                    // valid during the call
  std::uint64_t id;              // unique; names the request in `cancelled`
};
using ServiceReply = std::function<void(gantry_code, Bytes)>;
class Service {
 public:
  virtual ~Service() = default;
  virtual void request(const ServiceRequest&, ServiceReply reply) = 0;
  // The caller cancelled it, or stopped. The service should finish the reply soon.
  virtual void cancelled(std::uint64_t /*id*/) {}
};

}  // namespace gantry::module
