// The host service OPERATE: gateways pass on what operators change (sdk/schema/host.fbs, operator.fbs).
#pragma once

#include "kernel/master/master.hpp"

namespace gantry::master {

class OperateService final : public module::Service {
 public:
  explicit OperateService(Master& master) : master_(master) {}
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;
  void cancelled(std::uint64_t) override {}  // what was asked for is done all the same; whoever asked has gone

 private:
  Master& master_;
};

}  // namespace gantry::master
