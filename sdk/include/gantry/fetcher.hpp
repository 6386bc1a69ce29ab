// Kind `fetcher`: see sdk/schema/fetcher.fbs.
#pragma once
#include <gantry/fetcher_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Fetcher : public Module {
 public:
  static constexpr const char* kind = "fetcher";
  static constexpr std::uint16_t revision = 1;
  virtual Task<Status> fetch(Request<fb::fetcher::Fetch>, std::uint64_t token) = 0;

 protected:
  void dispatch(Call c) final {
    if (c.method != static_cast<std::uint32_t>(fb::fetcher::Method::FETCH)) return unimplemented(c);
    const std::uint64_t token = c.responder.token();
    answer<fb::fetcher::Fetch>(std::move(c), [this, token](auto r) { return fetch(std::move(r), token); });
  }
};

}  // namespace v1
}  // namespace gantry
