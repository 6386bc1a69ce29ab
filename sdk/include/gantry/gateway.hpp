// Kind `gateway`: serves a protocol of the outside world. It listens through the host service HTTP, speaks for its clients
// through CLUSTER and looks through QUERY; the kind itself adds no methods. Contract: sdk/docs/gateway.md.
#pragma once
#include <gantry/control_generated.h>
#include <gantry/framework_generated.h>
#include <gantry/module.hpp>

namespace gantry {
inline namespace v1 {

class Gateway : public Module {
 public:
  static constexpr const char* kind = "gateway";
  static constexpr std::uint16_t revision = 1;

 protected:
  void dispatch(Call c) final { unimplemented(c); }

  // Asks the daemon this instance runs in (control.fbs); answers with the first Answer of the conversation.
  template <class Ask>
  Task<Result<fb::control::AnswerT>> ask(Ask what) {
    fb::control::QuestionT question;
    question.ask.Set(std::move(what));
    const Buffer body = pack(question);
    auto asking = host().request(fb::host::Service::QUERY, 0, Bytes(body));
    Result<Buffer> reply = co_await std::move(asking);
    if (!reply) co_return std::move(reply).error();
    co_return unpack<fb::control::Answer>(Bytes(*reply));
  }
};

}  // namespace v1
}  // namespace gantry
