// Inside kernel/net only: accepting and dialling, shared by links and HTTP.
#pragma once

#include "kernel/net/io.hpp"

namespace gantry::net {

// Listens; on_accept gets each connection (close-on-exec, non-blocking, TCP_NODELAY) and its peer's text.
// on_accept may destroy the acceptor.
class Acceptor {
 public:
  static Result<std::unique_ptr<Acceptor>> make(RealLoop& loop, const Address& address,
                                                Function<void(base::Fd, std::string peer)> on_accept);
  ~Acceptor();
  [[nodiscard]] const Address& address() const;

 private:
  struct State;
  explicit Acceptor(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

// Resolves and connects, trying each address in turn. `done` runs once, later, on the loop.
void dial(RealLoop& loop, const Address& address, base::Nanos timeout, Function<void(Result<base::Fd>)> done);

// The text of a system error, e.g. "Connection refused".
[[nodiscard]] std::string errno_text(int error);

// recv and send without signals; n < 0 with errno as usual, EINTR never.
[[nodiscard]] std::ptrdiff_t receive(int fd, void* data, std::size_t size);

}  // namespace gantry::net
