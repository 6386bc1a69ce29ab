// A custom executor on a simulated agent: it subscribes once it runs, runs what it is given, and says so. It does not come back to
// an agent that was restarted.
#include "tests/sim/sim_agent.hpp"

#include <gantry/executor_generated.h>

#include <algorithm>

namespace gantry::sim {

namespace ex = fb::executor;

void SimAgent::connect_executor(const std::string& container) {
  after(Nanos(5ms), [this, container] {
    const auto it = containers_.find(container);
    if (it == containers_.end() || it->second.ended) return;
    it->second.stream = ++streams_;
    ex::CallT call;
    call.type = ex::CallType::SUBSCRIBE;
    call.framework_id = it->second.framework_id;
    call.executor_id = it->second.task_id;
    call.subscribe = std::make_unique<ex::SubscribeT>();
    step(agent::event::ExecutorSubscribe{it->second.stream, {}, pack(call)});
  });
}

void SimAgent::tell_executor(std::uint64_t stream, Bytes bytes) {
  const auto* event = view<ex::Event>(bytes);
  const auto it = std::find_if(containers_.begin(), containers_.end(), [&](const auto& c) { return c.second.stream == stream; });
  if (!event || it == containers_.end() || it->second.ended) return;
  if (event->launch()) {
    const std::string task(text(event->launch()->task()->task_id()));
    const TaskPlan plan = world_.plan ? world_.plan(it->second.framework_id, task) : chance_plan();
    after(plan.starts_after + Nanos(1ms), [this, stream, task] { say_update(stream, task, fb::TaskState::TASK_RUNNING); });
    if (plan.ends_after)
      after(plan.starts_after + *plan.ends_after + Nanos(1ms), [this, stream, task, code = plan.exit_code] {
        say_update(stream, task, code == 0 ? fb::TaskState::TASK_FINISHED : fb::TaskState::TASK_FAILED);
      });
  } else if (event->kill()) {
    after(Nanos(1ms), [this, stream, task = std::string(text(event->kill()->task_id()))] { say_update(stream, task, fb::TaskState::TASK_KILLED); });
  } else if (event->type() == ex::EventType::SHUTDOWN) {
    after(Nanos(1ms), [this, id = it->first] {
      const auto c = containers_.find(id);
      if (c == containers_.end() || c->second.ended) return;
      agent::ExitInfo exit;
      exit.wait_status = 0;
      end_container(id, exit);
    });
  }
}

void SimAgent::say_update(std::uint64_t stream, const std::string& task, fb::TaskState state) {
  const auto it = std::find_if(containers_.begin(), containers_.end(), [&](const auto& c) { return c.second.stream == stream; });
  if (it == containers_.end() || it->second.ended) return;
  ex::CallT call;
  call.type = ex::CallType::UPDATE;
  call.framework_id = it->second.framework_id;
  call.executor_id = it->second.task_id;
  call.update = std::make_unique<ex::UpdateT>();
  call.update->status = std::make_unique<fb::TaskStatusT>();
  auto& status = *call.update->status;
  status.task_id = task;
  status.state = state;
  status.source = fb::Source::SOURCE_EXECUTOR;
  status.uuid.assign(16, 0);
  const std::uint64_t word = ++words_;
  for (std::size_t i = 0; i < 8; ++i) status.uuid[i] = static_cast<std::uint8_t>(word >> (8 * i));
  step(agent::event::ExecutorCall{word, {}, pack(call)});
}

}  // namespace gantry::sim
