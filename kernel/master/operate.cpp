// What operators change: one call, one answer, once it is stored. The flows themselves are in the files that know the things
// they change; here is only who does what.
//
// Codes of errors (host.fbs, OPERATE): INVALID_ARGUMENT what is wrong with the call, NOT_FOUND what it names and is not there,
// FAILED_PRECONDITION what of the cluster stands against it.
#include "kernel/master/core.hpp"

namespace gantry::master {

void Core::on_operate(const OperatorCall& e) {
  const auto* call = view<fb::master::Call>(e.call);
  if (!call) {
    ++counters_.invalid_messages;
    return answer(e.request, fail(Code::invalid_argument, "malformed call"));
  }
  const auto missing = [&](const char* field) {
    ++counters_.invalid_messages;
    answer(e.request, fail(Code::invalid_argument, std::string("Expecting '") + field + "' to be present"));
  };
  using C = fb::master::CallType;
  switch (call->type()) {
    case C::TEARDOWN:
      if (!call->teardown()) return missing("teardown");
      return operator_teardown(*call->teardown(), e.request);
    default:
      return answer(e.request, fail(Code::unimplemented, "the master has nothing to change for calls of type " +
                                                             std::string(fb::master::EnumNameCallType(call->type()))));
  }
}

void Core::operator_teardown(const fb::master::Teardown& t, RequestId request) {
  const Handle h = find_framework(text(t.framework_id()));
  if (!h || frameworks_[h].removing) return answer(request, fail(Code::not_found, "No framework found with specified ID"));
  teardown(h, request);
}

}  // namespace gantry::master
