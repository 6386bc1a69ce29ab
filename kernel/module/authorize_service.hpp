// The host service AUTHORIZE (sdk/schema/host.fbs, authorizer.fbs): may somebody do that? Asked of all authorizer modules, and each
// must allow it; where none is configured, everything is allowed. An error of any of them means no.
//
// CHANGED here: one chunk at once where there is an authorizer, then one whenever verdicts may differ. UNIMPLEMENTED says that there
// is none, so that nobody need ask.
#pragma once

#include "kernel/base/loop.hpp"
#include "kernel/module/module.hpp"

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

namespace gantry::module {

// On the loop.
class AuthorizeService final : public Service {
 public:
  using Instances = std::function<std::vector<Instance*>()>;
  AuthorizeService(base::Loop& loop, Instances authorizers);
  ~AuthorizeService() override;
  void request(const ServiceRequest& request, ServiceReply reply) override;
  void cancelled(std::uint64_t id) override;

 private:
  struct Asking;
  void ask(const ServiceRequest& request, ServiceReply reply);
  void follow(std::uint64_t id, const ServiceReply& reply);
  void watch(std::size_t which);
  void tell();

  base::Loop& loop_;
  Instances authorizers_;
  std::unordered_map<std::uint64_t, ServiceReply> followers_;
  bool watching_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::module
