// Kind `allocator`: see sdk/schema/allocator.fbs.
#pragma once
#include <gantry/allocator_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Allocator : public Module {
 public:
  static constexpr const char* kind = "allocator";
  static constexpr std::uint16_t revision = 1;
  // Answers with a finished Round. Runs inline on the strand; rounds never overlap.
  virtual Task<Result<Buffer>> allocate(Request<fb::allocator::Deltas>) = 0;

 protected:
  void dispatch(Call c) final {
    if (c.method != static_cast<std::uint32_t>(fb::allocator::Method::ALLOCATE)) return unimplemented(c);
    answer<fb::allocator::Deltas>(std::move(c), [this](auto r) { return allocate(std::move(r)); });
  }
};

}  // namespace v1
}  // namespace gantry
