// Rows of the model (cluster.hpp) as they are kept: hundreds of thousands of them, so in few bytes and few allocations.
#pragma once

#include <gantry/message.hpp>
#include <gantry/types_generated.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::gateway_mesos {

// Bytes of a flatbuffer with root T, verified where they came in. Shared, in one allocation.
template <class T>
class Own {
 public:
  Own() = default;
  explicit Own(Bytes b) : size_(static_cast<std::uint32_t>(b.size())) {
    if (b.empty()) return;
    auto words = std::make_shared_for_overwrite<std::uint64_t[]>((b.size() + 7) / 8);  // aligned for what T may hold
    std::memcpy(words.get(), b.data(), b.size());
    words_ = std::move(words);
  }
  explicit operator bool() const { return size_ != 0; }
  const T& operator*() const { return *get(); }
  const T* operator->() const { return get(); }
  [[nodiscard]] const T* get() const { return flatbuffers::GetRoot<T>(words_.get()); }
  [[nodiscard]] Bytes bytes() const { return {reinterpret_cast<const std::uint8_t*>(words_.get()), size_}; }

 private:
  std::shared_ptr<const std::uint64_t[]> words_;
  std::uint32_t size_ = 0;
};

// A status of a task, without its data and without what its task says too. What most of them have is here, the rest is a
// TaskStatus with nothing else in it, shared with the status before where that says the same.
class StatusRow {
 public:
  // `before`: null for a task's first.
  StatusRow(const fb::TaskStatus& status, const StatusRow* before);
  [[nodiscard]] fb::TaskState state() const { return state_; }
  [[nodiscard]] std::optional<double> timestamp() const { return timed_ ? std::optional(timestamp_) : std::nullopt; }
  [[nodiscard]] std::optional<fb::Source> source() const;
  [[nodiscard]] std::optional<fb::Reason> reason() const;
  [[nodiscard]] std::optional<bool> healthy() const { return healthy_ < 0 ? std::nullopt : std::optional(healthy_ != 0); }
  [[nodiscard]] Bytes uuid() const { return {uuid_.data(), has_uuid_ ? uuid_.size() : 0}; }
  // Its task's agent and executor are named in it.
  [[nodiscard]] bool names_agent() const { return agent_; }
  [[nodiscard]] bool names_executor() const { return executor_; }
  // Message, labels, container_status, unreachable_time, check_status and limitation; null: none of them.
  [[nodiscard]] const fb::TaskStatus* more() const { return more_ ? more_.get() : nullptr; }

 private:
  Own<fb::TaskStatus> more_;
  double timestamp_ = 0;
  std::array<std::uint8_t, 16> uuid_{};
  fb::TaskState state_;
  std::int8_t source_ = -1, healthy_ = -1;  // -1: not said
  std::int16_t reason_ = -1;
  bool timed_ = false, has_uuid_ = false, agent_ = false, executor_ = false;
};

struct TaskRow {
  std::shared_ptr<const std::string> framework_id;
  Own<fb::TaskInfo> info;
  std::vector<StatusRow> statuses;  // one of each state, in order; the last of each
  std::uint64_t launched_ns = 0;
  std::uint64_t completed = 0;
  fb::TaskState state = fb::TaskState::TASK_STAGING;
  bool absent = false;
  [[nodiscard]] std::string_view id() const { return text(info->task_id()); }
  [[nodiscard]] std::string_view agent_id() const { return text(info->agent_id()); }
  // Empty: none of its own.
  [[nodiscard]] std::string_view executor_id() const { return info->executor() ? text(info->executor()->executor_id()) : std::string_view(); }
  // Holds resources of its agent.
  [[nodiscard]] bool holds() const;
  // Adds a status, in the place of one of the same state. Nothing, if there is none.
  void add(const Own<fb::TaskStatus>& status);
};
using TaskPtr = std::shared_ptr<const TaskRow>;

[[nodiscard]] bool terminal(fb::TaskState s);

}  // namespace gantry::gateway_mesos
