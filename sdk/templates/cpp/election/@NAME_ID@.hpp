// Election `@NAME@`: elects among the candidates of this daemon. The contract: docs/election.md of the SDK.
#pragma once

#include <gantry/election.hpp>

#include <list>
#include <map>
#include <string>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Election {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Status> stop() override;
  void contend(gantry::Request<gantry::fb::election::Candidate>, gantry::Responder) override;
  void watch(gantry::Responder) override;
  void cancelled(std::uint64_t token) override;

 private:
  struct Contender {
    gantry::fb::election::LeaderT who;
    gantry::Responder stream;
  };
  [[nodiscard]] gantry::Buffer leader() const;
  void elect();  // the first in line leads; all watchers are told

  std::string configured_;
  std::list<Contender> line_;
  std::map<std::uint64_t, gantry::Responder> watchers_;  // by token
  std::uint64_t epoch_ = 0;
};

}  // namespace @NAME_ID@
