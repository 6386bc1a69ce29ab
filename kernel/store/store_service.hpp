// The host service STORE: each module instance has its own corner, "module/<kind.name>/", of the configured store.
#pragma once

#include "kernel/module/module.hpp"

#include <memory>

namespace gantry::store {

// Speaks the methods of kind `store` (store.fbs) with keys relative to the caller's corner. Versions and expectations
// are those of the store module. A malformed key is refused with INVALID_ARGUMENT that names it.
class StoreService final : public module::Service {
 public:
  explicit StoreService(module::Instance& store) : store_(store) {}
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;

 private:
  void get(const std::string& corner, Bytes body, module::ServiceReply reply);
  void commit(const std::string& corner, Bytes body, module::ServiceReply reply);
  void list(const std::string& corner, Bytes body, module::ServiceReply reply);
  module::Instance& store_;
};

}  // namespace gantry::store
