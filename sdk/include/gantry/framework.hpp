// Kind `framework`: a scheduler that lives in a module. Its conversation is sdk/schema/framework.fbs over the host
// service CLUSTER; the kind itself adds no methods.
#pragma once
#include <gantry/framework_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Framework : public Module {
 public:
  static constexpr const char* kind = "framework";
  static constexpr std::uint16_t revision = 1;

 protected:
  void dispatch(Call c) final { unimplemented(c); }

  // Subscribes with `info`; on_event sees every event and, once, the final code of the stream. Returns the token.
  std::uint64_t subscribe(fb::FrameworkInfoT info, Host::Reply on_event) {
    fb::CallT call;
    call.type = fb::CallType::SUBSCRIBE;
    call.subscribe = std::make_unique<fb::SubscribeT>();
    call.subscribe->framework_info = std::make_unique<fb::FrameworkInfoT>(std::move(info));
    const Buffer body = pack(call);
    return host().stream(fb::host::Service::CLUSTER, static_cast<std::uint32_t>(fb::host::ClusterMethod::SUBSCRIBE), body,
                         std::move(on_event));
  }
  Task<Result<Buffer>> call(fb::CallT c) {
    const Buffer body = pack(c);
    co_return co_await host().request(fb::host::Service::CLUSTER, static_cast<std::uint32_t>(fb::host::ClusterMethod::CALL), Bytes(body));
  }
};

}  // namespace v1
}  // namespace gantry
