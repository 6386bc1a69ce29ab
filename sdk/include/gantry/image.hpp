// Kind `image`: see sdk/schema/image.fbs for order, idempotence and meaning.
#pragma once
#include <gantry/image_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Images : public Module {
 public:
  static constexpr const char* kind = "image";
  static constexpr std::uint16_t revision = 1;

  // Keep the responder while it comes; more() a packed Progress, from any thread; complete() with a packed Image.
  virtual void pull(Request<fb::image::Pull>, Responder) = 0;
  virtual Task<Status> release(Request<fb::image::Release>) = 0;
  virtual Task<Result<fb::image::ImageT>> inspect(Request<fb::image::Inspect>) = 0;
  virtual Task<Result<fb::image::ImagesT>> list(Request<fb::image::List>) = 0;
  virtual Task<Result<fb::image::PrunedT>> prune(Request<fb::image::Prune>) = 0;
  virtual Task<Result<fb::image::RecoveredT>> recover(Request<fb::image::Recover>) { co_return fb::image::RecoveredT{}; }

 protected:
  void dispatch(Call c) final {
    using namespace fb::image;
    using M = fb::image::Method;
    switch (c.method) {
      case GANTRY_METHOD_RECOVER: return answer<Recover>(std::move(c), [this](auto r) { return recover(std::move(r)); });
      case static_cast<std::uint32_t>(M::PULL):
        return answer_stream<Pull>(std::move(c), [this](auto r, Responder s) { pull(std::move(r), std::move(s)); });
      case static_cast<std::uint32_t>(M::RELEASE): return answer<Release>(std::move(c), [this](auto r) { return release(std::move(r)); });
      case static_cast<std::uint32_t>(M::INSPECT): return answer<Inspect>(std::move(c), [this](auto r) { return inspect(std::move(r)); });
      case static_cast<std::uint32_t>(M::LIST): return answer<List>(std::move(c), [this](auto r) { return list(std::move(r)); });
      case static_cast<std::uint32_t>(M::PRUNE): return answer<Prune>(std::move(c), [this](auto r) { return prune(std::move(r)); });
      default: return unimplemented(c);
    }
  }
};

}  // namespace v1
}  // namespace gantry
