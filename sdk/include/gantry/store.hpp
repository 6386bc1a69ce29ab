// Kind `store`: see sdk/schema/store.fbs.
#pragma once
#include <gantry/module.hpp>
#include <gantry/store_generated.h>

namespace gantry {
inline namespace v1 {

class Store : public Module {
 public:
  static constexpr const char* kind = "store";
  static constexpr std::uint16_t revision = 1;
  virtual Task<Result<fb::store::RecordT>> get(Request<fb::store::Get>) = 0;
  virtual Task<Result<fb::store::CommittedT>> commit(Request<fb::store::Commit>) = 0;
  virtual void list(Request<fb::store::List>, Responder) = 0;

 protected:
  void dispatch(Call c) final {
    using namespace fb::store;
    using M = fb::store::Method;
    switch (c.method) {
      case static_cast<std::uint32_t>(M::GET): return answer<Get>(std::move(c), [this](auto r) { return get(std::move(r)); });
      case static_cast<std::uint32_t>(M::COMMIT): return answer<Commit>(std::move(c), [this](auto r) { return commit(std::move(r)); });
      case static_cast<std::uint32_t>(M::LIST):
        return answer_stream<List>(std::move(c), [this](auto r, Responder s) { list(std::move(r), std::move(s)); });
      default: return unimplemented(c);
    }
  }
};

}  // namespace v1
}  // namespace gantry
