// Feedback on operations: what became of one that its framework gave an id, told until it is acknowledged (mesos-kernel.md A5).
//
// The outcome is stored in the same commit as what the operation did, so it is told even if the master dies in between.
// Operations that were refused change nothing and are told once, without uuid.
#include "kernel/master/core.hpp"

#include <gantry/operator_generated.h>
#include "kernel/master/messages.hpp"

#include <algorithm>

namespace gantry::master {

namespace {

constexpr Nanos kFirstRetry = std::chrono::seconds(10), kLastRetry = std::chrono::minutes(10);
constexpr std::size_t kMostUnacknowledged = 10'000;  // of one framework

std::string key_of(std::string_view uuid) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out = "operation/";
  for (const char c : uuid) {
    out += digits[static_cast<unsigned char>(c) >> 4];
    out += digits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

}  // namespace

// Unique, and the same in every run of a simulation: run ids are unique, and so are numbers within one.
std::string Core::new_uuid() {
  const std::uint64_t a = mix(hash_text(options_.run_id) ^ mix(++next_uuid_)), b = mix(a ^ next_uuid_);
  std::string out(kUuid, '\0');
  for (std::size_t i = 0; i < 8; ++i) {
    out[i] = static_cast<char>(a >> (8 * i));
    out[i + 8] = static_cast<char>(b >> (8 * i));
  }
  out[6] = static_cast<char>((out[6] & 0x0f) | 0x40);
  out[8] = static_cast<char>((out[8] & 0x3f) | 0x80);
  return out;
}

bool Core::may_track(const Framework& f) const {
  const auto it = operations_of_.find(f.id);
  return it == operations_of_.end() || it->second.size() < kMostUnacknowledged;
}

// The record that says that it is done; track_operation() makes it known once that is stored.
store::Op Core::operation_record(const std::string& uuid, const Framework& f, const Agent& agent, const fb::Operation& op) const {
  fb::ops::OperationT row;
  row.framework_id = f.id;
  row.agent_id = agent.id();
  row.info.reset(op.UnPack());
  row.uuid.assign(uuid.begin(), uuid.end());
  fb::OperationStatusT status;
  status.operation_id = text(op.id());
  status.state = fb::OperationState::OPERATION_FINISHED;
  status.uuid = row.uuid;
  status.agent_id = row.agent_id;
  row.latest_status = std::make_unique<fb::OperationStatusT>(status);
  row.statuses.push_back(std::make_unique<fb::OperationStatusT>(status));
  return {key_of(uuid), pack(row)};
}

store::Op Core::operation_gone(const std::string& uuid) { return {key_of(uuid), std::nullopt}; }

void Core::track_operation(const std::string& uuid, Bytes record) {
  TrackedOperation o;
  o.row = Blob(record);
  const auto& row = *o.row.as<fb::ops::Operation>();
  o.framework_id = text(row.framework_id());
  o.id = text(row.latest_status()->operation_id());
  o.interval = kFirstRetry;
  operations_of_[o.framework_id].emplace(o.id, uuid);
  const auto it = operations_.insert_or_assign(uuid, std::move(o)).first;
  note_operation(it->second);
  tell_tracked(uuid, it->second);
}

// Says it, and when it will be said again.
void Core::tell_tracked(const std::string& uuid, TrackedOperation& o) {
  operations_due_.erase({o.due, uuid});
  o.due = Instant::max();
  const Handle h = find_framework(o.framework_id);
  if (!h || !frameworks_[h].stream) return;  // said when it returns
  const auto& status = *o.row.as<fb::ops::Operation>()->latest_status();
  out_->emplace_back(SendFramework{frameworks_[h].stream, operation_event(status)});
  o.due = now_ + o.interval;
  operations_due_.insert({o.due, uuid});
  o.interval = std::min(o.interval * 2, kLastRetry);
}

void Core::retell_operations(const std::string& framework_id) {
  const auto own = operations_of_.find(framework_id);
  if (own == operations_of_.end()) return;
  for (const auto& [id, uuid] : own->second) {
    TrackedOperation& o = operations_.at(uuid);
    o.interval = kFirstRetry;
    tell_tracked(uuid, o);
  }
}

void Core::operations_due() {
  while (!operations_due_.empty() && operations_due_.begin()->first <= now_) {
    const std::string uuid = operations_due_.begin()->second;
    operations_due_.erase(operations_due_.begin());
    if (const auto it = operations_.find(uuid); it != operations_.end()) tell_tracked(uuid, it->second);
  }
}

void Core::forget_operation(const std::string& uuid) {
  const auto it = operations_.find(uuid);
  if (it == operations_.end()) return;
  operations_due_.erase({it->second.due, uuid});
  if (const auto own = operations_of_.find(it->second.framework_id); own != operations_of_.end()) {
    auto [first, last] = own->second.equal_range(it->second.id);
    while (first != last && first->second != uuid) ++first;
    if (first != last) own->second.erase(first);
    if (own->second.empty()) operations_of_.erase(own);
  }
  operations_.erase(it);
  note_operation_gone(uuid);
  std::vector<store::Op> ops;
  ops.push_back(operation_gone(uuid));
  persist(std::move(ops), Pending{});  // should that fail it is told and acknowledged once more
}

void Core::on_acknowledge_operation(Handle fh, const fb::AcknowledgeOperationStatus& a) {
  const std::string uuid(a.uuid()->begin(), a.uuid()->end());
  const auto it = operations_.find(uuid);
  if (it == operations_.end() || it->second.framework_id != frameworks_[fh].id || it->second.id != text(a.operation_id())) {
    ++counters_.invalid_messages;
    return;
  }
  forget_operation(uuid);
}

void Core::forget_operations_of(const std::string& framework_id) {
  std::vector<std::string> uuids;
  if (const auto own = operations_of_.find(framework_id); own != operations_of_.end())
    for (const auto& [id, uuid] : own->second) uuids.push_back(uuid);
  for (const auto& uuid : uuids) forget_operation(uuid);
}

// True if it is known; then it has been said.
bool Core::reconcile_tracked(const Framework& f, std::string_view id) {
  const auto own = operations_of_.find(f.id);
  if (own == operations_of_.end()) return false;
  const auto found = own->second.find(std::string(id));
  if (found == own->second.end()) return false;
  tell_tracked(found->second, operations_.at(found->second));
  return true;
}

// The framework's removal was stored and its operations' was not: nobody would ever acknowledge them.
void Core::forget_orphaned_operations() {
  std::vector<std::string> gone;
  for (const auto& [framework, own] : operations_of_)
    if (removed_ids_.contains(framework)) gone.push_back(framework);
  for (const auto& framework : gone) forget_operations_of(framework);
}

Status Core::recover_operation(Bytes value) {
  const auto* row = view<fb::ops::Operation>(value);
  if (!row || !row->uuid() || row->uuid()->size() != kUuid || !row->latest_status() || text(row->framework_id()).empty())
    return fail(Code::data_loss, "a record of an operation is damaged");
  TrackedOperation o;
  o.row = Blob(value);
  o.framework_id = text(row->framework_id());
  o.id = text(row->latest_status()->operation_id());
  o.interval = kFirstRetry;
  std::string uuid(row->uuid()->begin(), row->uuid()->end());
  operations_of_[o.framework_id].emplace(o.id, uuid);
  operations_.insert_or_assign(std::move(uuid), std::move(o));
  return ok;
}

}  // namespace gantry::master
