// What operators change: one call, one answer, once it is stored. The flows themselves are in the files that know the things
// they change; here is only who does what.
//
// Codes of errors (host.fbs, OPERATE): INVALID_ARGUMENT what is wrong with the call, NOT_FOUND what it names and is not there,
// FAILED_PRECONDITION what of the cluster stands against it.
#include "kernel/master/core.hpp"

#include <gantry/operator_generated.h>

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
    case C::DRAIN_AGENT:
      if (!call->drain_agent()) return missing("drain_agent");
      return on_drain(*call->drain_agent(), e.request);
    case C::DEACTIVATE_AGENT:
      if (!call->deactivate_agent()) return missing("deactivate_agent");
      return on_deactivate(text(call->deactivate_agent()->agent_id()), e.request);
    case C::REACTIVATE_AGENT:
      if (!call->reactivate_agent()) return missing("reactivate_agent");
      return on_reactivate(text(call->reactivate_agent()->agent_id()), e.request);
    case C::MARK_AGENT_GONE:
      if (!call->mark_agent_gone()) return missing("mark_agent_gone");
      return on_mark_gone(text(call->mark_agent_gone()->agent_id()), e.request);
    case C::UPDATE_MAINTENANCE_SCHEDULE:
    case C::START_MAINTENANCE:
    case C::STOP_MAINTENANCE:
      return on_maintenance(*call, e.call, e.request);
    case C::UPDATE_WEIGHTS:
      if (!call->update_weights()) return missing("update_weights");
      return update_weights(*call->update_weights(), e.request);
    case C::UPDATE_QUOTA:
      if (!call->update_quota()) return missing("update_quota");
      return update_quota(*call->update_quota(), e.request);
    case C::SET_QUOTA:
      if (!call->set_quota() || !call->set_quota()->quota_request()) return missing("set_quota");
      return set_old_quota(*call->set_quota()->quota_request(), e.request);
    case C::REMOVE_QUOTA:
      if (!call->remove_quota()) return missing("remove_quota");
      return remove_quota(text(call->remove_quota()->role()), e.request);
    case C::RESERVE_RESOURCES:
      if (!call->reserve_resources()) return missing("reserve_resources");
      return operator_reserve(*call->reserve_resources(), e.principal, e.request);
    case C::UNRESERVE_RESOURCES:
      if (!call->unreserve_resources()) return missing("unreserve_resources");
      return operator_unreserve(*call->unreserve_resources(), e.principal, e.request);
    case C::CREATE_VOLUMES:
      if (!call->create_volumes()) return missing("create_volumes");
      return operator_create(*call->create_volumes(), e.principal, e.request);
    case C::DESTROY_VOLUMES:
      if (!call->destroy_volumes()) return missing("destroy_volumes");
      return operator_destroy(*call->destroy_volumes(), e.principal, e.request);
    case C::GROW_VOLUME:
      if (!call->grow_volume()) return missing("grow_volume");
      return operator_grow(*call->grow_volume(), e.principal, e.request);
    case C::SHRINK_VOLUME:
      if (!call->shrink_volume()) return missing("shrink_volume");
      return operator_shrink(*call->shrink_volume(), e.principal, e.request);
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
