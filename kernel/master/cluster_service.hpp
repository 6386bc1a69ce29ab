// The host service CLUSTER: framework modules subscribe and call (sdk/schema/host.fbs, framework.fbs).
#pragma once

#include "kernel/master/master.hpp"

#include <unordered_map>

namespace gantry::master {

// A module that leaves too much unread is cut off by the module host, which holds its queue (HostOptions.queue_bytes)
// and then cancels the request here; so in here a stream is either open or not.
class ClusterService final : public module::Service {
 public:
  explicit ClusterService(Master& master) : master_(master) {}
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;
  void cancelled(std::uint64_t id) override;

 private:
  Master& master_;
  struct Open {
    StreamId stream = 0;
    module::ServiceReply reply;
  };
  std::unordered_map<std::uint64_t, Open> streams_;  // by request
};

}  // namespace gantry::master
