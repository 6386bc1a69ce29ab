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
  [[nodiscard]] Buffer leader() const;

  std::string configured_;
  fb::election::LeaderT candidate_;               // address empty: nobody contends in this process
  std::map<std::uint64_t, Responder> contenders_;  // by token; the first one leads
  std::map<std::uint64_t, Responder> watchers_;
  std::uint64_t epoch_ = 0;
};

}  // namespace gantry::election_standalone
