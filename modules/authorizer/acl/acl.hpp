// Authorizer for the ACL file of Mesos.
#pragma once

#include "rules.hpp"

#include <gantry/authorizer.hpp>

#include <chrono>
#include <map>
#include <memory>

namespace gantry::authorizer_acl {

class Acl final : public Authorizer {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Status> start() override;
  Task<Status> stop() override;
  Task<Result<fb::HealthT>> health() override;
  Task<Result<fb::authorizer::VerdictsT>> authorize(Request<fb::authorizer::Questions>) override;
  void changed(Responder responder) override;
  void cancelled(std::uint64_t token) override;

 private:
  struct Loaded {
    std::shared_ptr<const Acls> acls;
    std::int64_t stamp = 0;  // modification time, nanoseconds; size
    std::int64_t size = 0;
  };
  static Result<Loaded> load(const std::string& path, const Loaded& before);
  void look_later();
  void look();
  void adopt(Loaded loaded);

  std::string path_, trouble_;
  std::chrono::nanoseconds interval_{};
  Loaded loaded_;
  std::map<std::uint64_t, Responder> followers_;
  std::uint64_t timer_ = 0;
  bool started_ = false;
};

}  // namespace gantry::authorizer_acl
