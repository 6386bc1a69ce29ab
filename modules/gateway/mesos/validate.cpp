#include "validate.hpp"

#include <gantry/message.hpp>

namespace gantry::gateway_mesos {
namespace {

std::string expecting(std::string_view field) { return "Expecting '" + std::string(field) + "' to be present"; }

std::optional<std::string> invalid_info(const fb::Call& call, const fb::FrameworkInfo* info, std::string_view part,
                                        std::string_view principal) {
  if (!info) return expecting(std::string(part) + ".framework_info");
  if (text(info->id()) != text(call.framework_id()))
    return "'framework_id' differs from '" + std::string(part) + ".framework_info.id'";
  if (!principal.empty() && info->principal() && text(info->principal()) != principal)
    return "Authenticated principal '" + std::string(principal) + "' does not match principal '" +
           std::string(text(info->principal())) + "' set in `FrameworkInfo`";
  return std::nullopt;
}

std::optional<std::string> invalid_uuid(const flatbuffers::Vector<std::uint8_t>* uuid) {
  if (!uuid || uuid->size() != 16) return "Not a valid UUID";
  return std::nullopt;
}

}  // namespace

std::optional<std::string> invalid(const fb::Call& call, std::string_view principal) {
  using T = fb::CallType;
  if (!flatbuffers::IsFieldPresent(&call, fb::Call::VT_TYPE)) return expecting("type");
  if (call.type() == T::SUBSCRIBE) {
    if (!call.subscribe()) return expecting("subscribe");
    return invalid_info(call, call.subscribe()->framework_info(), "subscribe", principal);
  }
  if (!call.framework_id()) return expecting("framework_id");
  const auto need = [](const void* part, std::string_view name) -> std::optional<std::string> {
    if (part) return std::nullopt;
    return expecting(name);
  };
  switch (call.type()) {
    case T::ACCEPT:
      return need(call.accept(), "accept");
    case T::DECLINE:
      return need(call.decline(), "decline");
    case T::KILL:
      return need(call.kill(), "kill");
    case T::ACKNOWLEDGE:
      if (!call.acknowledge()) return expecting("acknowledge");
      return invalid_uuid(call.acknowledge()->uuid());
    case T::ACCEPT_INVERSE_OFFERS:
      return need(call.accept_inverse_offers(), "accept_inverse_offers");
    case T::DECLINE_INVERSE_OFFERS:
      return need(call.decline_inverse_offers(), "decline_inverse_offers");
    case T::SHUTDOWN:
      return need(call.shutdown(), "shutdown");
    case T::ACKNOWLEDGE_OPERATION_STATUS:
      if (!call.acknowledge_operation_status()) return expecting("acknowledge_operation_status");
      return invalid_uuid(call.acknowledge_operation_status()->uuid());
    case T::RECONCILE:
      return need(call.reconcile(), "reconcile");
    case T::RECONCILE_OPERATIONS:
      return need(call.reconcile_operations(), "reconcile_operations");
    case T::MESSAGE:
      return need(call.message(), "message");
    case T::REQUEST:
      return need(call.request(), "request");
    case T::UPDATE_FRAMEWORK:
      if (!call.update_framework()) return expecting("update_framework");
      return invalid_info(call, call.update_framework()->framework_info(), "update_framework", principal);
    default:
      return std::nullopt;
  }
}

}  // namespace gantry::gateway_mesos
