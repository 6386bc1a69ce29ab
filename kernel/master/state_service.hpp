// The host service STATE: modules follow what the cluster looks like (sdk/schema/host.fbs, state.fbs).
#pragma once

#include "kernel/master/master.hpp"

#include <unordered_map>

namespace gantry::master {

// A module that leaves too much unread is cut off by the module host, as with the service CLUSTER.
class StateService final : public module::Service {
 public:
  explicit StateService(Master& master) : master_(master) {}
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;
  void cancelled(std::uint64_t id) override;

 private:
  Master& master_;
  struct Open {
    Master::FollowerId follower = 0;
    module::ServiceReply reply;
  };
  std::unordered_map<std::uint64_t, Open> streams_;  // by request
};

}  // namespace gantry::master
