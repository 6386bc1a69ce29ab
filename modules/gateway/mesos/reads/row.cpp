#include "row.hpp"

#include <algorithm>
#include <utility>

namespace gantry::gateway_mesos {

bool terminal(fb::TaskState s) {
  using S = fb::TaskState;
  return s == S::TASK_FINISHED || s == S::TASK_FAILED || s == S::TASK_KILLED || s == S::TASK_ERROR ||
         s == S::TASK_LOST || s == S::TASK_DROPPED || s == S::TASK_GONE || s == S::TASK_GONE_BY_OPERATOR;
}

StatusRow::StatusRow(const fb::TaskStatus& s, const StatusRow* before) : state_(s.state()) {
  if (s.timestamp()) timestamp_ = *s.timestamp(), timed_ = true;
  if (s.source()) source_ = static_cast<std::int8_t>(*s.source());
  if (s.reason()) reason_ = static_cast<std::int16_t>(*s.reason());
  if (s.healthy()) healthy_ = *s.healthy();
  if (s.uuid() && s.uuid()->size() == uuid_.size()) {  // the kernel's always are
    std::copy(s.uuid()->begin(), s.uuid()->end(), uuid_.begin());
    has_uuid_ = true;
  }
  agent_ = s.agent_id() != nullptr;
  executor_ = s.executor_id() != nullptr;
  if (!s.message() && !s.labels() && !s.container_status() && !s.unreachable_time_ns() && !s.limitation() && !s.check_status()) return;
  fb::TaskStatusT more;
  s.UnPackTo(&more);
  more.task_id.clear();
  more.state = {};
  more.data.clear();
  more.agent_id.clear();
  more.executor_id.clear();
  more.uuid.clear();
  more.timestamp = flatbuffers::nullopt;
  more.healthy = flatbuffers::nullopt;
  more.source = flatbuffers::nullopt;
  more.reason = flatbuffers::nullopt;
  const Buffer b = pack(more);
  const Bytes bytes = b, last = before ? before->more_.bytes() : Bytes();
  if (std::equal(bytes.begin(), bytes.end(), last.begin(), last.end())) more_ = before->more_;
  else more_ = Own<fb::TaskStatus>(bytes);
}

std::optional<fb::Source> StatusRow::source() const {
  return source_ < 0 ? std::nullopt : std::optional(static_cast<fb::Source>(source_));
}
std::optional<fb::Reason> StatusRow::reason() const {
  return reason_ < 0 ? std::nullopt : std::optional(static_cast<fb::Reason>(reason_));
}

bool TaskRow::holds() const { return !completed && !absent && !terminal(state); }

void TaskRow::add(const Own<fb::TaskStatus>& status) {
  if (!status) return;
  if (!statuses.empty() && statuses.back().state() == status->state()) statuses.pop_back();
  // A few at most, and never more than needed: most rows keep theirs for long.
  statuses.reserve(statuses.size() + 1);
  statuses.emplace_back(*status, statuses.empty() ? nullptr : &statuses.back());
}

}  // namespace gantry::gateway_mesos
