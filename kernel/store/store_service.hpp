// The host service STORE: each module instance has its own corner, "module/<kind.name>/", of the configured store.
#pragma once

#include "kernel/module/module.hpp"

#include <functional>
#include <memory>

namespace gantry::store {

// Speaks the methods of kind `store` (store.fbs) with keys relative to the caller's corner. Versions and expectations
// are those of the store module. A malformed key is refused with INVALID_ARGUMENT that names it.
class StoreService final : public module::Service {
 public:
  // With a loop, requests that find the module away are asked again for a while, but for commits that expect versions:
  // the first one may have been done.
  explicit StoreService(module::Instance& store, base::Loop* loop = nullptr) : store_(store), loop_(loop) {}
  ~StoreService() override { *alive_ = false; }
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;

 private:
  void get(const std::string& corner, Bytes body, module::ServiceReply reply);
  void commit(const std::string& corner, Bytes body, module::ServiceReply reply);
  void list(const std::string& corner, Bytes body, module::ServiceReply reply);
  using Said = std::function<void(gantry_code, Bytes)>;
  [[nodiscard]] base::Instant now() const;
  void ask(std::uint32_t method, std::shared_ptr<Buffer> body, bool again, base::Instant since, Said said);
  module::Instance& store_;
  base::Loop* const loop_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::store
