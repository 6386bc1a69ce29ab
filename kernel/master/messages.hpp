// Building the messages the master sends, straight into a builder: the few on the hot path copy what passes through as
// blocks (graft.hpp).
#pragma once

#include "kernel/base/loop.hpp"
#include "kernel/master/graft.hpp"
#include "kernel/resource/resources.hpp"

#include <gantry/framework_generated.h>
#include <gantry/link_generated.h>

#include <optional>
#include <string_view>

namespace gantry::master {

// ---- to agents (fb::link::ToAgent)
[[nodiscard]] Buffer welcome(std::string_view master_id, base::Nanos timeout, base::Nanos ping_interval);
[[nodiscard]] Buffer fb_registered(std::string_view agent_id, std::string_view master_id);
[[nodiscard]] Buffer refused(std::string_view message, bool fatal);
[[nodiscard]] Buffer run_group(Bytes framework_info, const std::vector<Bytes>& task_infos, bool launch_executor);
[[nodiscard]] Buffer run_task(Bytes framework_info, Bytes task_info, std::optional<bool> launch_executor);  // each a root of its own
[[nodiscard]] Buffer kill_task(std::string_view framework_id, std::string_view task_id,
                               std::optional<std::int64_t> grace_ns);
[[nodiscard]] Buffer ack_update(std::string_view framework_id, std::string_view task_id, Bytes uuid);
[[nodiscard]] Buffer shutdown_executor(std::string_view framework_id, std::string_view executor_id);
[[nodiscard]] Buffer changed_framework(Bytes framework_info);
[[nodiscard]] Buffer remove_framework(std::string_view framework_id);
[[nodiscard]] Buffer master_message(std::string_view framework_id, const fb::SendMessage& m);
[[nodiscard]] Buffer ping(std::uint64_t seq);
[[nodiscard]] Buffer shutdown(std::string_view message);
[[nodiscard]] Buffer drain(std::int64_t grace_ns, bool mark_gone);
[[nodiscard]] Buffer end_drain();

// ---- to frameworks (fb::Event)
[[nodiscard]] Buffer subscribed_event(std::string_view framework_id);
[[nodiscard]] Buffer error_event(std::string_view message);
[[nodiscard]] Buffer rescind_event(std::string_view offer_id);
[[nodiscard]] Buffer failure_event(std::string_view agent_id, std::string_view executor_id,
                                   std::optional<std::int32_t> status);
[[nodiscard]] Buffer message_event(std::string_view agent_id, const fb::link::AgentMessage& m);
// `status` lies inside `source`.
[[nodiscard]] Buffer update_event(Bytes source, const fb::TaskStatus* status);
[[nodiscard]] Buffer update_event(const fb::TaskStatusT& status);
[[nodiscard]] Buffer inverse_offers_event(std::vector<fb::InverseOfferT> offers);
[[nodiscard]] Buffer rescind_inverse_event(std::string_view id);
// Without uuid: it is told once. Empty agent_id or message: absent.
[[nodiscard]] Buffer operation_event(const fb::OperationStatus& status);
[[nodiscard]] Buffer set_resources(const resource::Resources& made);
[[nodiscard]] Buffer operation_event(std::string_view id, std::string_view agent_id, fb::OperationState state,
                                     std::string_view message);

// ---- blobs
// The info with its id set, encoded the same way each time, so that equal infos are equal bytes.
[[nodiscard]] Blob packed_info(const fb::AgentInfo& info, std::string_view id);
[[nodiscard]] inline bool same_bytes(Bytes a, Bytes b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}
// What reconciliation needs of a status; `status` lies inside `source`.
[[nodiscard]] Blob small_status(Bytes source, const fb::TaskStatus* status);
void keep_health(const fb::TaskStatus& from, fb::TaskStatusT& to);

}  // namespace gantry::master
