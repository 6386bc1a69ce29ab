#include "kernel/master/operate_service.hpp"

#include <gantry/host_generated.h>

namespace gantry::master {

void OperateService::request(const module::ServiceRequest& r, module::ServiceReply reply) {
  const auto refuse = [&](const Error& e) { reply(static_cast<gantry_code>(e.code), pack_error(e)); };
  if (static_cast<fb::host::OperateMethod>(r.method) != fb::host::OperateMethod::CALL)
    return refuse(fail(Code::unimplemented, "the service OPERATE has no method " + std::to_string(r.method)));
  const auto* operate = view<fb::host::Operate>(r.body);
  if (!operate || !operate->call())
    return refuse(fail(Code::invalid_argument, "the body of CALL is no host.Operate with a call"));
  // Not in place: a flatbuffer inside another need not be aligned.
  const Buffer call(Bytes(operate->call()->data(), operate->call()->size()));
  master_.operate(call, text(operate->principal()), [reply](Status s) {
    if (s)
      reply(GANTRY_OK, {});
    else
      reply(static_cast<gantry_code>(s.error().code), pack_error(s.error()));
  });
}

}  // namespace gantry::master
