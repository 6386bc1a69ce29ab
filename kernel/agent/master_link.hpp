// The seam to the leading master: one connection at a time.
#pragma once

#include <gantry/message.hpp>

#include <functional>
#include <memory>
#include <string>

namespace gantry::net {
class RealLoop;
}

namespace gantry::agent {

// Callbacks run on the loop's thread, never from inside a call of this class.
class MasterLink {
 public:
  struct Events {
    std::function<void()> up;
    std::function<void(Bytes)> frame;              // valid during the call
    std::function<void(const std::string&)> down;  // also a failed attempt; why
  };
  virtual ~MasterLink() = default;
  virtual void events(Events) = 0;  // set before anything else
  // Gives up what was before; ends in up or down.
  virtual void connect(const std::string& address) = 0;
  virtual void send(Bytes frame) = 0;  // dropped when down
  virtual void close() = 0;            // no event follows
};

// Over kernel/net; `loop` must outlive it.
[[nodiscard]] std::unique_ptr<MasterLink> make_net_master_link(net::RealLoop& loop);

}  // namespace gantry::agent
