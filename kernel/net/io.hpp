// For kernel/net and kernel/module/process: readiness of one descriptor, and objects that live as long as the loop lets them.
#pragma once

#include "kernel/base/fd.hpp"
#include "kernel/net/net.hpp"

namespace gantry::net {

// Owns a descriptor (made non-blocking) and tells when it can be read or written. Destroying it closes the descriptor;
// no callback runs afterwards. A callback may destroy the watch it belongs to.
class FdWatch {
 public:
  FdWatch(RealLoop& loop, base::Fd fd, Function<void()> readable, Function<void()> writable);
  ~FdWatch();
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;
  [[nodiscard]] int fd() const;
  // Each asks for one callback; asking again before it came changes nothing.
  void want_read();
  void want_write();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Holds an object until release() or the end of the loop: connections that nobody else owns. Ids are never reused.
std::uint64_t hold(RealLoop& loop, std::shared_ptr<void> object);
void release(RealLoop& loop, std::uint64_t id);

}  // namespace gantry::net
