// Kind `authorizer`: see sdk/schema/authorizer.fbs. Contract: sdk/docs/authorizer.md.
#pragma once
#include <gantry/authorizer_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Authorizer : public Module {
 public:
  static constexpr const char* kind = "authorizer";
  static constexpr std::uint16_t revision = 1;
  // One verdict a question, in the same order.
  virtual Task<Result<fb::authorizer::VerdictsT>> authorize(Request<fb::authorizer::Questions>) = 0;
  // Keep the responder and say more() whenever verdicts may differ from those given before. An authorizer whose verdicts never
  // change leaves this out.
  virtual void changed(Responder responder) {
    responder.fail(v1::fail(Code::unimplemented, "the verdicts of this authorizer do not change"));
  }

 protected:
  void dispatch(Call c) final {
    using namespace fb::authorizer;
    using M = fb::authorizer::Method;
    switch (c.method) {
      case static_cast<std::uint32_t>(M::AUTHORIZE):
        return answer<Questions>(std::move(c), [this](auto r) { return authorize(std::move(r)); });
      case static_cast<std::uint32_t>(M::CHANGED): return changed(std::move(c.responder));
      default: return unimplemented(c);
    }
  }
};

}  // namespace v1
}  // namespace gantry
