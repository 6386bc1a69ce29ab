// The host service AUTH: who speaks? Messages of authenticator.fbs, asked of the authenticator modules in turn until one knows the
// scheme. For gateways whose paths have different realms; a listener with one realm leaves it to the host service HTTP.
#pragma once

#include "kernel/base/loop.hpp"
#include "kernel/module/module.hpp"

#include <functional>
#include <memory>
#include <vector>

namespace gantry::module {

// On the loop.
class AuthService final : public Service {
 public:
  using Instances = std::function<std::vector<Instance*>()>;
  AuthService(base::Loop& loop, Instances authenticators) : loop_(loop), authenticators_(std::move(authenticators)) {}
  ~AuthService() override { *alive_ = false; }
  void request(const ServiceRequest& request, ServiceReply reply) override;

 private:
  void ask(std::uint32_t method, const std::shared_ptr<Buffer>& body, ServiceReply reply, std::size_t from);

  base::Loop& loop_;
  Instances authenticators_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::module
