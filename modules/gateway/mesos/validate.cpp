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
  if (!call.CheckField(fb::Call::VT_TYPE)) return expecting("type");
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
    case T::ACCEPT: return need(call.accept(), "accept");
    case T::DECLINE: return need(call.decline(), "decline");
    case T::KILL: return need(call.kill(), "kill");
    case T::ACKNOWLEDGE:
      if (!call.acknowledge()) return expecting("acknowledge");
      return invalid_uuid(call.acknowledge()->uuid());
    case T::RECONCILE: return need(call.reconcile(), "reconcile");
    case T::MESSAGE: return need(call.message(), "message");
    default: return std::nullopt;
  }
}

}  // namespace gantry::gateway_mesos
