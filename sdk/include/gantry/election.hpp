// Kind `election`: see sdk/schema/election.fbs.
#pragma once
#include <gantry/election_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Election : public Module {
 public:
  static constexpr const char* kind = "election";
  static constexpr std::uint16_t revision = 1;
  virtual void contend(Request<fb::election::Candidate>, Responder) = 0;
  virtual void watch(Responder) = 0;

 protected:
  void dispatch(Call c) final {
    using M = fb::election::Method;
    if (c.method == static_cast<std::uint32_t>(M::WATCH)) return watch(std::move(c.responder));
    if (c.method != static_cast<std::uint32_t>(M::CONTEND)) return unimplemented(c);
    answer_stream<fb::election::Candidate>(std::move(c), [this](auto r, Responder s) { contend(std::move(r), std::move(s)); });
  }
};

}  // namespace v1
}  // namespace gantry
