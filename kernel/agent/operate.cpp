// What operators ask of this agent (operator_agent.fbs): the host service OPERATE on agents.
//
// Codes of errors: INVALID_ARGUMENT what is wrong with the call, NOT_FOUND what it names and is not here, UNIMPLEMENTED what this
// agent cannot do (yet).
#include "kernel/agent/agent.hpp"
#include "kernel/agent/files.hpp"

#include <gantry/operator_agent_generated.h>

#include <algorithm>
#include <set>

namespace gantry::agent {

namespace {

namespace op = fb::agent;
using C = op::CallType;

template <class T>
std::unique_ptr<T> copy(const std::unique_ptr<T>& from) {
  return from ? std::make_unique<T>(*from) : nullptr;
}
template <class T>
std::vector<std::unique_ptr<T>> copy(const std::vector<std::unique_ptr<T>>& from) {
  std::vector<std::unique_ptr<T>> out;
  for (const auto& x : from) out.push_back(std::make_unique<T>(*x));
  return out;
}

std::unique_ptr<fb::ops::TaskT> describe(const Core& core, const std::string& framework_id, const fb::TaskInfoT& info,
                                         const fb::TaskStatusT& latest, const std::deque<fb::TaskStatusT>* outbox) {
  auto t = std::make_unique<fb::ops::TaskT>();
  t->name = info.name;
  t->task_id = info.task_id;
  t->framework_id = framework_id;
  if (info.executor) t->executor_id = info.executor->executor_id;
  t->agent_id = core.agent_id();
  t->state = latest.state;
  t->resources = copy(info.resources);
  const auto add = [&](const fb::TaskStatusT& s) {
    if (s.state != fb::TaskState::TASK_STAGING) t->statuses.push_back(std::make_unique<fb::TaskStatusT>(s));
  };
  if (outbox && !outbox->empty()) {
    for (const auto& s : *outbox) add(s);
    t->status_update_state = outbox->front().state;
    t->status_update_uuid = outbox->front().uuid;
  } else {
    add(latest);
    if (latest.state != fb::TaskState::TASK_STAGING) {
      t->status_update_state = latest.state;
      t->status_update_uuid = latest.uuid;
    }
  }
  t->labels = copy(info.labels);
  t->discovery = copy(info.discovery);
  t->container = copy(info.container);
  if (info.command) t->user = info.command->user;
  t->health_check = copy(info.health_check);
  t->kill_policy = copy(info.kill_policy);
  t->limits = copy(info.limits);
  return t;
}

// A command has no executor of its own here. Tools look for one with its id, as it always had.
fb::ExecutorInfoT executor_of_command(const std::string& framework_id, const fb::TaskInfoT& task) {
  fb::ExecutorInfoT e;
  e.executor_id = task.task_id;
  e.framework_id = framework_id;
  e.source = task.task_id;
  std::string line;
  if (task.command) {
    e.command = std::make_unique<fb::CommandInfoT>(*task.command);
    if (task.command->shell.value_or(true)) {
      line = "sh -c '" + task.command->value + "'";
    } else {
      line = "[" + task.command->value;
      for (std::size_t i = 0; i < task.command->arguments.size(); ++i) line += ", " + task.command->arguments[i];
      line += "]";
    }
  }
  e.name = "Command Executor (Task: " + task.task_id + ") (Command: " + line + ")";
  e.labels = copy(task.labels);
  e.discovery = copy(task.discovery);
  return e;
}

std::vector<const Task*> in_order(const Core& core) {
  std::vector<const Task*> all;
  for (const auto& [k, t] : core.tasks())
    if (!t->unknown) all.push_back(t.get());
  std::sort(all.begin(), all.end(), [](const Task* a, const Task* b) { return a->serial < b->serial; });
  return all;
}

std::unique_ptr<op::GetTasksT> tasks_of(const Core& core) {
  auto out = std::make_unique<op::GetTasksT>();
  for (const Task* t : in_order(core)) {
    auto row = describe(core, t->framework_id, *t->info, t->status, &t->outbox);
    if (t->phase == Task::Phase::ended) out->terminated_tasks.push_back(std::move(row));
    else if (t->executor && t->phase == Task::Phase::launching && t->status.state == fb::TaskState::TASK_STAGING) out->queued_tasks.push_back(std::move(row));
    else out->launched_tasks.push_back(std::move(row));
  }
  for (const auto& c : core.completed()) out->completed_tasks.push_back(describe(core, c.framework_id, *c.info, c.status, nullptr));
  return out;
}

std::unique_ptr<op::GetExecutorsT> executors_of(const Core& core) {
  auto out = std::make_unique<op::GetExecutorsT>();
  const auto add = [](auto& list, const fb::ExecutorInfoT& info) {
    auto e = std::make_unique<op::ExecutorT>();
    e->executor_info = std::make_unique<fb::ExecutorInfoT>(info);
    list.push_back(std::move(e));
  };
  for (const auto& [k, e] : core.executors()) add(out->executors, *e->info);
  for (const Task* t : in_order(core)) {
    if (t->info->executor) continue;
    add(t->phase == Task::Phase::ended ? out->completed_executors : out->executors, executor_of_command(t->framework_id, *t->info));
  }
  for (const auto& e : core.completed_executors()) add(out->completed_executors, *e.info);
  for (const auto& c : core.completed())
    if (!c.info->executor) add(out->completed_executors, executor_of_command(c.framework_id, *c.info));
  return out;
}

std::unique_ptr<op::GetFrameworksT> frameworks_of(const Core& core) {
  auto out = std::make_unique<op::GetFrameworksT>();
  std::set<std::string> live;
  for (const auto& [k, t] : core.tasks())
    if (!t->unknown) live.insert(t->framework_id);
  for (const auto& [k, e] : core.executors()) live.insert(e->framework_id);
  for (const auto& [id, info] : core.frameworks()) {
    auto f = std::make_unique<op::FrameworkT>();
    f->framework_info = std::make_unique<fb::FrameworkInfoT>(info);
    (live.contains(id) ? out->frameworks : out->completed_frameworks).push_back(std::move(f));
  }
  return out;
}

double amount(const std::vector<std::unique_ptr<fb::ResourceT>>& resources, std::string_view name) {
  double sum = 0;
  for (const auto& r : resources)
    if (r->name == name && r->scalar) sum += *r->scalar;
  return sum;
}

// The containers that run, without what they use.
struct Running {
  std::vector<std::string> ids;
  std::vector<std::unique_ptr<op::ContainerT>> rows;
};
Running containers_of(const Core& core, double timestamp) {
  Running out;
  const auto add = [&](const std::string& framework_id, const fb::ExecutorInfoT& info, const std::string& container_id,
                       const std::optional<Identity>& identity, double cpus, double mem) {
    auto c = std::make_unique<op::ContainerT>();
    c->framework_id = framework_id;
    c->executor_id = info.executor_id;
    c->executor_name = info.name;
    c->container_id = std::make_unique<fb::ContainerIdT>();
    c->container_id->value = container_id;
    c->container_status = std::make_unique<fb::ContainerStatusT>();
    c->container_status->container_id = container_id;
    if (identity) c->container_status->executor_pid = static_cast<std::uint32_t>(identity->pid);
    auto& s = *(c->resource_statistics = std::make_unique<op::ResourceStatisticsT>());
    s.timestamp = timestamp;
    s.cpus_soft_limit = cpus;
    const auto bytes = static_cast<std::uint64_t>(mem * 1048576);
    s.mem_soft_limit_bytes = bytes;
    s.mem_limit_bytes = bytes;
    out.ids.push_back(container_id);
    out.rows.push_back(std::move(c));
  };
  for (const auto& [k, e] : core.executors()) {
    if (e->phase != Executor::Phase::running) continue;
    double cpus = amount(e->info->resources, "cpus"), mem = amount(e->info->resources, "mem");
    for (const Task* t : e->tasks) {
      if (is_nested(*t->info) && !shares_cgroups(*t->info)) continue;
      cpus += amount(t->info->resources, "cpus");
      mem += amount(t->info->resources, "mem");
    }
    add(e->framework_id, *e->info, e->container_id, e->identity, cpus, mem);
  }
  for (const Task* t : in_order(core)) {
    const bool nested = is_nested(*t->info);
    if ((t->info->executor && !nested) || t->phase != Task::Phase::running) continue;
    add(t->framework_id, nested ? *t->info->executor : executor_of_command(t->framework_id, *t->info), t->container_id, t->identity,
        amount(t->info->resources, "cpus"), amount(t->info->resources, "mem"));
    if (nested && t->executor) {
      auto parent = std::make_unique<fb::ContainerIdT>();
      parent->value = t->executor->container_id;
      out.rows.back()->container_status->container_parent = std::make_unique<fb::ContainerIdT>(*parent);
      out.rows.back()->container_id->parent = std::move(parent);
    }
  }
  return out;
}

void fill(op::ResourceStatisticsT& s, const fb::isolator::UsageT& u) {
  s.cpus_user_time_secs = static_cast<double>(u.cpu_user_ns) / 1e9;
  s.cpus_system_time_secs = static_cast<double>(u.cpu_system_ns) / 1e9;
  if (u.cpu_limit > 0) s.cpus_limit = u.cpu_limit;
  if (u.cpu_periods) {
    s.cpus_nr_periods = static_cast<std::uint32_t>(u.cpu_periods);
    s.cpus_nr_throttled = static_cast<std::uint32_t>(u.cpu_throttled);
    s.cpus_throttled_time_secs = static_cast<double>(u.cpu_throttled_ns) / 1e9;
  }
  if (u.memory_limit) s.mem_limit_bytes = u.memory_limit;
  s.mem_rss_bytes = u.memory_rss;
  if (u.memory_total) s.mem_total_bytes = u.memory_total;
  if (u.memory_cache) s.mem_cache_bytes = u.memory_cache;
  if (u.processes) s.processes = u.processes;
}

std::string value_of(const fb::ContainerIdT* id) { return id ? id->value : std::string(); }

}  // namespace

void Agent::operate(const std::string& /*principal*/, Bytes bytes, Function<void(Result<Buffer>)> reply) {
  const auto* view_of_call = view<op::Call>(bytes);
  if (!core_ || !*alive_) return reply(fail(Code::unavailable, "Agent has not finished recovery"));
  if (!view_of_call) return reply(fail(Code::invalid_argument, "malformed call"));
  op::CallT call;
  view_of_call->UnPackTo(&call);
  op::ResponseT r;
  const auto answer = [&] { reply(pack(r)); };
  const auto missing = [&](const char* field) { reply(fail(Code::invalid_argument, std::string("Expecting '") + field + "' to be present")); };
  const auto no_container = [&](const fb::ContainerIdT* id) { reply(fail(Code::not_found, "Container " + value_of(id) + " cannot be found")); };
  const auto not_killed = [&](const op::KillContainerT& k) {
    reply(fail(Code::not_found, "Container '" + value_of(k.container_id.get()) + "' cannot be found (or is already killed)"));
  };
  switch (call.type) {
    case C::GET_HEALTH:
      r.type = op::ResponseType::GET_HEALTH;
      r.get_health = std::make_unique<fb::ops::GetHealthT>();
      r.get_health->healthy = true;
      return answer();
    case C::GET_FLAGS: {
      r.type = op::ResponseType::GET_FLAGS;
      r.get_flags = std::make_unique<fb::ops::GetFlagsT>();
      const auto seconds = [](base::Nanos d) { return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(d).count()) + "secs"; };
      for (const auto& [name, value] : std::initializer_list<std::pair<const char*, std::string>>{
               {"executor_registration_timeout", seconds(options_.executor_registration)},
               {"executor_reregistration_timeout", seconds(options_.executor_reregistration)},
               {"executor_shutdown_grace_period", seconds(options_.executor_grace)},
               {"hostname", core_->info().hostname},
               {"recover", "reconnect"},
               {"recovery_timeout", "15mins"},
               {"registration_backoff_factor", seconds(options_.backoff_first)},
               {"strict", "true"},
               {"switch_user", options_.switch_user ? "true" : "false"},
               {"work_dir", options_.work_dir}}) {
        auto f = std::make_unique<fb::ops::FlagT>();
        f->name = name;
        f->value = value;
        r.get_flags->flags.push_back(std::move(f));
      }
      return answer();
    }
    case C::GET_STATE:
      r.type = op::ResponseType::GET_STATE;
      r.get_state = std::make_unique<op::GetStateT>();
      r.get_state->get_tasks = tasks_of(*core_);
      r.get_state->get_executors = executors_of(*core_);
      r.get_state->get_frameworks = frameworks_of(*core_);
      return answer();
    case C::GET_TASKS:
      r.type = op::ResponseType::GET_TASKS;
      r.get_tasks = tasks_of(*core_);
      return answer();
    case C::GET_EXECUTORS:
      r.type = op::ResponseType::GET_EXECUTORS;
      r.get_executors = executors_of(*core_);
      return answer();
    case C::GET_FRAMEWORKS:
      r.type = op::ResponseType::GET_FRAMEWORKS;
      r.get_frameworks = frameworks_of(*core_);
      return answer();
    case C::GET_AGENT:
      r.type = op::ResponseType::GET_AGENT;
      r.get_agent = std::make_unique<op::GetAgentT>();
      r.get_agent->agent_info = std::make_unique<fb::AgentInfoT>(core_->info());
      r.get_agent->agent_info->id = core_->agent_id();
      return answer();
    case C::GET_OPERATIONS:
      r.type = op::ResponseType::GET_OPERATIONS;
      r.get_operations = std::make_unique<fb::ops::GetOperationsT>();
      return answer();
    case C::GET_RESOURCE_PROVIDERS:
      r.type = op::ResponseType::GET_RESOURCE_PROVIDERS;
      r.get_resource_providers = std::make_unique<op::GetResourceProvidersT>();
      return answer();
    case C::GET_CONTAINERS: {
      auto running = std::make_shared<Running>(containers_of(*core_, static_cast<double>(loop_.wall()) / 1e9));
      const auto finish = [running, reply = std::make_shared<Function<void(Result<Buffer>)>>(std::move(reply))] {
        op::ResponseT all;
        all.type = op::ResponseType::GET_CONTAINERS;
        all.get_containers = std::make_unique<op::GetContainersT>();
        all.get_containers->containers = std::move(running->rows);
        (*reply)(pack(all));
      };
      if (running->ids.empty()) return finish();
      return launcher_.usage(running->ids, [running, finish](Result<std::vector<fb::isolator::UsageT>> usages) {
        if (usages) {
          for (const auto& u : *usages)
            for (const auto& row : running->rows)
              if (row->container_id->value == u.container_id) fill(*row->resource_statistics, u);
        }
        finish();
      });
    }
    case C::LIST_FILES:
    case C::READ_FILE: {
      if (call.type == C::LIST_FILES && !call.list_files) return missing("list_files");
      if (call.type == C::READ_FILE && !call.read_file) return missing("read_file");
      struct Work {
        Result<Buffer> result = fail(Code::internal, "");
        Function<void(Result<Buffer>)> reply;
      };
      auto work = std::make_shared<Work>();
      work->reply = std::move(reply);
      const SandboxFiles files{options_.work_dir, core_->agent_id()};
      auto asked = std::make_shared<op::CallT>(std::move(call));
      // Off the loop: a slow disk must not hold up scheduling.
      return loop_.offload(
          [work, files, asked] {
            op::ResponseT out;
            if (asked->type == C::LIST_FILES) {
              auto list = files.list(asked->list_files->path);
              if (!list) return work->result = list.error(), void();
              out.type = op::ResponseType::LIST_FILES;
              out.list_files = std::make_unique<fb::ops::ListFilesT>();
              out.list_files->file_infos = std::move(*list);
            } else {
              auto data = files.read(asked->read_file->path, asked->read_file->offset, asked->read_file->length);
              if (!data) return work->result = data.error(), void();
              out.type = op::ResponseType::READ_FILE;
              out.read_file = std::make_unique<fb::ops::ReadFileT>(std::move(*data));
            }
            work->result = pack(out);
          },
          [work] { work->reply(std::move(work->result)); });
    }
    case C::WAIT_CONTAINER:
      if (!call.wait_container) return missing("wait_container");
      return no_container(call.wait_container->container_id.get());
    case C::WAIT_NESTED_CONTAINER:
      if (!call.wait_nested_container) return missing("wait_nested_container");
      return no_container(call.wait_nested_container->container_id.get());
    case C::REMOVE_CONTAINER:
      if (!call.remove_container) return missing("remove_container");
      return reply(Buffer());  // it is not there, as asked
    case C::REMOVE_NESTED_CONTAINER:
      if (!call.remove_nested_container) return missing("remove_nested_container");
      return reply(Buffer());
    case C::KILL_CONTAINER:
      if (!call.kill_container) return missing("kill_container");
      return not_killed(*call.kill_container);
    case C::KILL_NESTED_CONTAINER:
      if (!call.kill_nested_container) return missing("kill_nested_container");
      return not_killed(*call.kill_nested_container);
    default: return reply(fail(Code::unimplemented, std::string("This agent does not know ") + op::EnumNameCallType(call.type) + " (yet)"));
  }
}

}  // namespace gantry::agent
