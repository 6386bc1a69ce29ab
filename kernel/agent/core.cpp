#include "kernel/agent/core.hpp"

#include <algorithm>

namespace gantry::agent {

namespace {

std::string key(std::string_view framework_id, std::string_view task_id) {
  std::string k(framework_id);
  k += '\0';
  k += task_id;
  return k;
}

}  // namespace

bool is_terminal(fb::TaskState state) {
  switch (state) {
    case fb::TaskState::TASK_FINISHED:
    case fb::TaskState::TASK_FAILED:
    case fb::TaskState::TASK_KILLED:
    case fb::TaskState::TASK_ERROR:
    case fb::TaskState::TASK_LOST:
    case fb::TaskState::TASK_DROPPED:
    case fb::TaskState::TASK_GONE:
    case fb::TaskState::TASK_GONE_BY_OPERATOR:
      return true;
    default:
      return false;
  }
}

Core::Core(CoreOptions options) : options_(std::move(options)), random_(options_.seed) {}

void Core::step(const Event& event, Time time, Effects& effects) {
  if (stopped_) return;
  Step step{time, effects};
  std::visit([&](const auto& e) { on(step, e); }, event);
}

Instant Core::next_due() const {
  const Instant task = timers_.empty() ? Instant::max() : timers_.begin()->at;
  return executor_timers_.empty() ? task : std::min(task, std::get<0>(*executor_timers_.begin()));
}

void Core::on(Step& step, const event::Tick&) {
  while (!timers_.empty() && timers_.begin()->at <= step.time.now && !stopped_) {
    const Timer timer = *timers_.begin();
    set_due(timer.task, timer.due, Instant{0});
    switch (timer.due) {
      case Due::link: on_link_due(step); break;
      case Due::update: on_update_due(step, *timer.task); break;
      case Due::health: on_health_due(step, *timer.task); break;
      case Due::check: on_check_due(step, *timer.task); break;
      case Due::completion:
        log(step, base::Level::info, "max_completion_time is over", timer.task->info->task_id);
        kill(step, *timer.task, Task::Cause::too_long, Nanos{0});
        break;
    }
  }
  executors_due(step);
}

void Core::on(Step& step, const event::Journal& e) {
  if (!e.ok) {
    if (journal_problem_ != e.message) {
      log(step, base::Level::error, e.message + "; new tasks are refused until it can be written again");
    }
    journal_problem_ = e.message;
    return;
  }
  if (journal_problem_.empty()) return;
  journal_problem_.clear();
  log(step, base::Level::info, "the journal can be written again");
  send_all(step);
  for (const auto& [k, executor] : executors_) deliver(step, *executor);
}

// ---- small tools

void Core::append(Step& step, fb::record::EntryT entry) const {
  step.effects.emplace_back(effect::Append{std::move(entry)});
}

void Core::send(Step& step, fb::link::FromAgentUnion body) const {
  fb::link::ToMasterT frame;
  frame.body = std::move(body);
  step.effects.emplace_back(effect::Send{pack(frame)});
}

void Core::log(Step& step, base::Level level, std::string message, std::string task_id) const {
  step.effects.emplace_back(effect::Log{level, std::move(message), std::move(task_id)});
}

void Core::set_due(Task* task, Due due, Instant at) {
  Instant& slot = task ? task->timer_due[static_cast<int>(due)] : link_due_;
  const std::uint64_t serial = task ? task->serial : 0;
  if (slot.count() != 0) timers_.erase(Timer{slot, due, serial, task});
  slot = at;
  if (at.count() != 0) timers_.insert(Timer{at, due, serial, task});
}

Task* Core::get(const std::string& framework_id, const std::string& task_id) {
  const auto it = tasks_.find(key(framework_id, task_id));
  return it == tasks_.end() ? nullptr : it->second.get();
}

const Task* Core::find(const std::string& framework_id, const std::string& task_id) const {
  const auto it = tasks_.find(key(framework_id, task_id));
  return it == tasks_.end() || it->second->unknown ? nullptr : it->second.get();
}

Task* Core::by_container(const std::string& container_id) {
  const auto it = containers_.find(container_id);
  return it == containers_.end() ? nullptr : it->second;
}

const fb::FrameworkInfoT* Core::framework(const std::string& id) const {
  const auto it = frameworks_.find(id);
  return it == frameworks_.end() ? nullptr : &it->second;
}

bool Core::has_capability(const std::string& framework_id, fb::FrameworkCapability capability) const {
  const auto* info = framework(framework_id);
  return info &&
         std::find(info->capabilities.begin(), info->capabilities.end(), capability) != info->capabilities.end();
}

Task& Core::add(const std::string& framework_id, std::shared_ptr<const fb::TaskInfoT> info) {
  auto& slot = tasks_[key(framework_id, info->task_id)];
  if (slot) drop(*slot);
  auto task = std::make_unique<Task>();
  task->framework_id = framework_id;
  task->info = std::move(info);
  task->serial = ++serials_;
  Task& out = *task;
  tasks_[key(framework_id, out.info->task_id)] = std::move(task);
  return out;
}

void Core::drop(Task& task) {
  for (int due = 0; due < kDues; ++due) set_due(&task, static_cast<Due>(due), Instant{0});
  if (task.executor) std::erase(task.executor->tasks, &task);
  if (const auto it = containers_.find(task.container_id); it != containers_.end() && it->second == &task) containers_.erase(it);
  tasks_.erase(key(task.framework_id, task.info->task_id));
}

std::vector<Task*> Core::in_order() const {
  std::vector<Task*> all;
  all.reserve(tasks_.size());
  for (const auto& [k, task] : tasks_) all.push_back(task.get());
  std::sort(all.begin(), all.end(), [](const Task* a, const Task* b) { return a->serial < b->serial; });
  return all;
}

fb::record::EntryT Core::entry(fb::record::EntryType type, const Task& task, base::Wall wall) const {
  fb::record::EntryT e;
  e.type = type;
  e.framework_id = task.framework_id;
  e.task_id = task.info->task_id;
  e.wall_ns = static_cast<std::uint64_t>(wall);
  return e;
}

void Core::note_framework(Step& step, const fb::FrameworkInfoT& info) {
  const auto it = frameworks_.find(info.id);
  if (it != frameworks_.end()) {
    const Buffer known = pack(it->second), now = pack(info);
    if (std::equal(known.data(), known.data() + known.size(), now.data(), now.data() + now.size())) return;
  }
  frameworks_[info.id] = info;
  fb::record::EntryT e;
  e.type = fb::record::EntryType::FRAMEWORK;
  e.framework_id = info.id;
  e.framework = std::make_unique<fb::FrameworkInfoT>(info);
  append(step, std::move(e));
}

// splitmix64: small, and good enough for jitter and for identifiers that start from a random seed.
std::uint64_t Core::random() {
  random_ += 0x9E3779B97F4A7C15ull;
  std::uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

std::uint64_t Core::secret() { return options_.secrets ? options_.secrets() : random(); }

std::vector<std::uint8_t> Core::new_uuid() {
  std::vector<std::uint8_t> uuid(16);
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint64_t bits = random();
    for (std::size_t i = 0; i < 8; ++i) uuid[half * 8 + i] = static_cast<std::uint8_t>(bits >> (8 * i));
  }
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0F) | 0x40);  // version 4, variant 1
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3F) | 0x80);
  return uuid;
}

std::string Core::new_container_id() {
  static constexpr char hex[] = "0123456789abcdef";
  const auto uuid = new_uuid();
  std::string id;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) id += '-';
    id += hex[uuid[i] >> 4];
    id += hex[uuid[i] & 15];
  }
  return id;
}

}  // namespace gantry::agent
