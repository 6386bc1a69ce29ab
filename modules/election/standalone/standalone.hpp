// Election without an election: for one master.
#pragma once

#include <gantry/election.hpp>

#include <map>

namespace gantry::election_standalone {

class Standalone final : public Election {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Status> stop() override;
  void contend(Request<fb::election::Candidate>, Responder) override;
  void watch(Responder) override;
  void cancelled(std::uint64_t token) override;

 private:
  struct Contender {
    fb::election::LeaderT candidate;
    Responder responder;
  };
  [[nodiscard]] Buffer leader() const;
  void elect(std::uint64_t token);  // 0: nobody
  void tell_watchers() const;

  std::string configured_;
  std::map<std::uint64_t, Contender> contenders_;  // by token
  std::uint64_t leading_ = 0;                      // token; 0: nobody contends in this process
  std::map<std::uint64_t, Responder> watchers_;
  std::uint64_t epoch_ = 0;
};

}  // namespace gantry::election_standalone
