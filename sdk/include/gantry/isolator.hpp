// Kind `isolator`: see sdk/schema/isolator.fbs for order, idempotence and meaning.
#pragma once
#include <gantry/isolator_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Isolator : public Module {
 public:
  static constexpr const char* kind = "isolator";
  static constexpr std::uint16_t revision = 1;

  virtual Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) = 0;
  virtual Task<Status> attach(Request<fb::isolator::Attach>) { co_return ok; }
  // The same with an answer: override this one instead to tell the container's addresses.
  virtual Task<Result<fb::isolator::AttachedT>> attached(Request<fb::isolator::Attach> request) {
    const Status done = co_await attach(std::move(request));
    if (!done) co_return done.error();
    co_return fb::isolator::AttachedT{};
  }
  // Keep the responder while the container lives; more() a packed Limited; complete() at cleanup.
  virtual void watch(Request<fb::isolator::Watch>, Responder responder) { responder.complete(); }
  virtual Task<Status> update(Request<fb::isolator::Update>) { co_return ok; }
  virtual Task<Result<fb::isolator::UsagesT>> usage(Request<fb::isolator::UsageRequest>) { co_return fb::isolator::UsagesT{}; }
  virtual Task<Status> cleanup(Request<fb::isolator::Cleanup>) = 0;
  virtual Task<Result<fb::isolator::RecoveredT>> recover(Request<fb::isolator::Recover>) { co_return fb::isolator::RecoveredT{}; }

 protected:
  void dispatch(Call c) final {
    using namespace fb::isolator;
    using M = fb::isolator::Method;
    switch (c.method) {
      case GANTRY_METHOD_RECOVER: return answer<Recover>(std::move(c), [this](auto r) { return recover(std::move(r)); });
      case static_cast<std::uint32_t>(M::PREPARE): return answer<Prepare>(std::move(c), [this](auto r) { return prepare(std::move(r)); });
      case static_cast<std::uint32_t>(M::ATTACH): return answer<Attach>(std::move(c), [this](auto r) { return attached(std::move(r)); });
      case static_cast<std::uint32_t>(M::WATCH):
        return answer_stream<Watch>(std::move(c), [this](auto r, Responder s) { watch(std::move(r), std::move(s)); });
      case static_cast<std::uint32_t>(M::UPDATE): return answer<Update>(std::move(c), [this](auto r) { return update(std::move(r)); });
      case static_cast<std::uint32_t>(M::USAGE): return answer<UsageRequest>(std::move(c), [this](auto r) { return usage(std::move(r)); });
      case static_cast<std::uint32_t>(M::CLEANUP): return answer<Cleanup>(std::move(c), [this](auto r) { return cleanup(std::move(r)); });
      default: return unimplemented(c);
    }
  }
};

}  // namespace v1
}  // namespace gantry
