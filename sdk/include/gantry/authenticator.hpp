// Kind `authenticator`: see sdk/schema/authenticator.fbs.
#pragma once
#include <gantry/authenticator_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Authenticator : public Module {
 public:
  static constexpr const char* kind = "authenticator";
  static constexpr std::uint16_t revision = 1;
  virtual Task<Result<fb::authenticator::IdentityT>> authenticate(Request<fb::authenticator::Credentials>) = 0;
  virtual Task<Result<fb::authenticator::ChallengeT>> challenge(Request<fb::authenticator::Challenge>) = 0;

 protected:
  void dispatch(Call c) final {
    using namespace fb::authenticator;
    using M = fb::authenticator::Method;
    switch (c.method) {
      case static_cast<std::uint32_t>(M::AUTHENTICATE):
        return answer<Credentials>(std::move(c), [this](auto r) { return authenticate(std::move(r)); });
      case static_cast<std::uint32_t>(M::CHALLENGE): return answer<Challenge>(std::move(c), [this](auto r) { return challenge(std::move(r)); });
      default: return unimplemented(c);
    }
  }
};

}  // namespace v1
}  // namespace gantry
