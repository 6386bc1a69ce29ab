// ACCEPT: the operations of a framework on what it was offered, in order, later ones using what earlier ones made.
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"
#include "kernel/resource/wire.hpp"

#include <algorithm>
#include <cmath>

namespace gantry::master {

using base::Level;

namespace {

// Why a text may not be an id; it becomes part of paths on the agent.
Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

}  // namespace

std::optional<std::string> Core::bad_id(std::string_view id) {
  if (id.empty()) return "ID must not be empty";
  if (id.size() > 255) return "ID must not be greater than 255 characters";
  if (id == "." || id == "..") return "'" + std::string(id) + "' is disallowed";
  for (const char c : id) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '/' || c == '\\')
      return "'" + std::string(id) + "' contains invalid characters";
  }
  return std::nullopt;
}

Handle Core::find_task(Handle framework, std::string_view id) const {
  return task_by_id_.find(hash_text(id, framework),
                          [&](Handle h) { return tasks_[h].framework == framework && tasks_[h].id() == id; });
}

Handle Core::add_task(Handle framework, Handle agent, RoleId role, Blob info, Resources resources) {
  const Handle h = tasks_.emplace();
  Task& t = tasks_[h];
  t.info = std::move(info);
  t.resources = std::move(resources);
  t.framework = framework;
  t.agent = agent;
  t.role = role;
  t.launched_wall = wall_;
  task_by_id_.insert(hash_text(t.id(), framework), h);
  chain_push(tasks_, &Task::of_framework, frameworks_[framework].first_task, h);
  chain_push(tasks_, &Task::of_agent, agents_[agent].first_task, h);
  ++frameworks_[framework].tasks;
  ++agents_[agent].tasks;
  ++by_state_[static_cast<std::size_t>(t.state)];
  note_task(h);
  ask_back(agent);
  return h;
}

void Core::on_accept(Handle fh, Bytes bytes, const fb::Accept& a, RequestId request) {
  answer(request, ok);
  const Framework& f = frameworks_[fh];
  // All offers must be this framework's, distinct, of one agent and one role; else none is used (mesos-kernel.md A1).
  std::vector<Handle> valid;
  std::string why;
  const std::uint32_t n = a.offer_ids() ? a.offer_ids()->size() : 0;
  if (!n) why = "No offers specified";
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::string_view id = text(a.offer_ids()->Get(i));
    const Handle h = find_offer(id);
    if (!h || offers_[h].framework != fh)
      why = "Offer " + std::string(id) + " is no longer valid";
    else if (std::find(valid.begin(), valid.end(), h) != valid.end())
      why = "Duplicate offer " + std::string(id) + " in offer list";
    else
      valid.push_back(h);
  }
  for (const Handle h : valid) {
    if (offers_[h].agent != offers_[valid[0]].agent)
      why = "Aggregated offers must belong to one single agent";
    else if (offers_[h].role != offers_[valid[0]].role)
      why = "Aggregated offers must be allocated to the same role";
  }
  if (!why.empty()) {
    ++counters_.refused_operations;
    const Handle agent = valid.empty() ? 0 : offers_[valid[0]].agent;
    for (const Handle h : valid) withdraw(h, false);
    return reject_operations(f, a, agent, why);
  }
  const Handle agent = offers_[valid[0]].agent;
  const RoleId role = offers_[valid[0]].role;
  Resources pool = std::move(offers_[valid[0]].resources);
  remove_offer(valid[0], false);
  for (std::size_t i = 1; i < valid.size(); ++i) {
    pool += offers_[valid[i]].resources;
    remove_offer(valid[i], false);
  }
  counters_.offers_accepted += valid.size();
  run_operations(fh, agent, role, std::move(pool), bytes, a, 0);
}

void Core::reject_operations(const Framework& f, const fb::Accept& a, Handle agent, std::string_view why, std::size_t from) {
  if (!a.operations()) return;
  const auto state = f.partition_aware ? fb::TaskState::TASK_DROPPED : fb::TaskState::TASK_LOST;
  for (std::size_t i = from; i < a.operations()->size(); ++i) {
    const auto* op = a.operations()->Get(static_cast<flatbuffers::uoffset_t>(i));
    const auto* tasks = op->launch() ? op->launch()->task_infos() : op->launch_group() ? op->launch_group()->task_infos() : nullptr;
    if (op->type() != fb::OperationType::LAUNCH && op->type() != fb::OperationType::LAUNCH_GROUP) {
      tell_operation(f, text(op->id()), agent, fb::OperationState::OPERATION_ERROR, why);
      continue;
    }
    if (!tasks) continue;
    for (const auto* t : *tasks) {
      const std::string_view agent_id =
          agent && text(t->agent_id()).empty() ? agents_[agent].id() : text(t->agent_id());
      auto s = status_of(text(t->task_id()), agent_id, state, fb::Reason::REASON_INVALID_OFFERS,
                         "Task launched with invalid offers: " + std::string(why));
      ++counters_.tasks_lost;
      send_update(f, s);
    }
  }
}

void Core::tell_operation(const Framework& f, std::string_view id, Handle agent, fb::OperationState state,
                          std::string_view why) {
  if (id.empty() || !f.stream) return;
  out_->emplace_back(SendFramework{f.stream, operation_event(id, agent ? agents_[agent].id() : std::string_view(), state, why)});
}

// From operation `from` on. Stops at a reservation to have it stored, and is continued by continue_accept().
void Core::run_operations(Handle fh, Handle agent, RoleId role, Resources pool, Bytes bytes, const fb::Accept& a,
                          std::size_t from) {
  const std::size_t n = a.operations() ? a.operations()->size() : 0;
  for (std::size_t i = from; i < n; ++i) {
    const auto& op = *a.operations()->Get(static_cast<flatbuffers::uoffset_t>(i));
    if (op.type() == fb::OperationType::LAUNCH) {
      if (!op.launch() || !op.launch()->task_infos()) continue;
      const auto& infos = *op.launch()->task_infos();
      for (const auto* t : infos) {
        if (op.id()) {
          auto s = status_of(text(t->task_id()), text(t->agent_id()), fb::TaskState::TASK_ERROR,
                             fb::Reason::REASON_TASK_INVALID, "The 'id' field cannot be set in LAUNCH operations");
          ++counters_.tasks_error;
          send_update(frameworks_[fh], s);
          continue;
        }
        launch(fh, agent, role, pool, *t);
      }
    } else if (books(op.type())) {
      const Framework& f = frameworks_[fh];
      auto c = conversion_of(f, agent, role, pool, op);
      if (c && op.id() && !may_track(f))
        c = invalid("too many operations of the framework wait for an acknowledgement");
      if (!c) {
        ++counters_.refused_operations;
        std::string why = c.error().message;
        if (c.error().code == Code::invalid_argument) why += "; on agent " + agent_words(agents_[agent]);
        log(Level::warning, "dropped an operation",
            {{"framework", f.id}, {"operation", fb::EnumNameOperationType(op.type())}, {"reason", why}});
        tell_operation(f, text(op.id()), 0, fb::OperationState::OPERATION_ERROR, why);
        continue;
      }
      Pending p;
      p.kind = Pending::Kind::accept;
      p.id = f.id;
      p.handle = fh;
      p.role = role;
      p.bytes = Buffer(bytes);
      p.next_operation = i + 1;
      std::vector<store::Op> ops;
      if (op.id()) {
        p.uuid = new_uuid();
        ops.push_back(operation_record(p.uuid, f, agents_[agent], op));
        p.operation = Buffer(Bytes(*ops.back().value));
      }
      Resources after = pool - c->consumed;
      after += c->converted;
      return persist_booking(agent, std::move(pool), std::move(after), std::move(p), std::move(ops));
    } else if (op.type() == fb::OperationType::LAUNCH_GROUP && op.launch_group()) {
      launch_group(fh, agent, role, pool, *op.launch_group(), op.id() != nullptr);
    } else {
      ++counters_.refused_operations;
      log(Level::warning, "dropped an operation this release does not know",
          {{"framework", frameworks_[fh].id}, {"type", std::to_string(static_cast<int>(op.type()))}});
      tell_operation(frameworks_[fh], text(op.id()), 0, fb::OperationState::OPERATION_ERROR,
                     "This release does not know operations of type " + std::string(fb::EnumNameOperationType(op.type())));
    }
  }
  look_after(agent);
  if (pool.empty()) return;
  add_filter(fh, role, agent, pool, refusal(a.filters()));
  give_back(agent, fh, role, pool);
}

void Core::continue_accept(Pending& p, bool stored) {
  const bool agent_there = settle_booking(p, stored);
  const bool framework_there = frameworks_.contains(p.handle) && frameworks_[p.handle].id == p.id;
  const auto& a = *flatbuffers::GetRoot<fb::Call>(p.bytes.data())->accept();
  if (agent_there && stored) {  // what is reserved counts for its role as that
    count_allocated(p.role, p.before, -1);
    count_allocated(p.role, p.after, +1);
  }
  if (!stored) ++counters_.refused_operations;
  if (framework_there) {
    const auto* op = a.operations()->Get(static_cast<flatbuffers::uoffset_t>(p.next_operation - 1));
    if (stored && !p.uuid.empty())
      track_operation(p.uuid, p.operation);
    else if (!stored && op->id())
      tell_operation(frameworks_[p.handle], text(op->id()), agent_there ? p.agent : 0, fb::OperationState::OPERATION_FAILED,
                     "The operation could not be stored");
  } else if (stored && !p.uuid.empty()) {
    std::vector<store::Op> ops;
    ops.push_back(operation_gone(p.uuid));
    persist(std::move(ops), Pending{});
  }
  if (!agent_there) {  // its books were opened anew, with what was decided in them
    note_held(framework_there ? p.handle : 0, p.role, p.before, -1);
    if (framework_there) reject_operations(frameworks_[p.handle], a, 0, "the agent went away", p.next_operation);
    return;
  }
  Resources pool = stored ? std::move(p.after) : std::move(p.before);
  if (!framework_there) return give_back(p.agent, 0, p.role, pool);
  if (agents_[p.agent].state == AgentState::marking) {
    reject_operations(frameworks_[p.handle], a, p.agent, "the agent went away", p.next_operation);
    return give_back(p.agent, p.handle, p.role, pool);
  }
  run_operations(p.handle, p.agent, p.role, std::move(pool), p.bytes, a, p.next_operation);
}

Resources Core::charge_of(const Resources& there, const Resources& needs) {
  return resource::as_in(there, needs).filter([](const resource::Resource& r) { return !r.shared(); });
}

// What holds for every task, alone or in a group; `own` is what it asks for itself.
Status Core::validate_own(const Framework& f, const Agent& agent, const fb::TaskInfo& t, Resources& own) const {
  const std::string_view id = text(t.task_id());
  if (auto bad = bad_id(id)) return invalid(*bad);
  if (text(t.agent_id()) != agent.id()) {
    return invalid("Task uses invalid agent " + std::string(text(t.agent_id())) + " while agent " +
                   std::string(agent.id()) + " is expected");
  }
  const auto handle = static_cast<Handle>(framework_by_id_.find(f.id)->second);
  if (const Handle other = find_task(handle, id)) {
    return invalid(tasks_[other].absent ? "Task reuses the ID '" + std::string(id) + "' of an unreachable task"
                                        : "Task has duplicate ID: " + std::string(id));
  }
  if (t.kill_policy() && t.kill_policy()->grace_period_ns().value_or(0) < 0)
    return invalid("Task's 'kill_policy.grace_period' must be non-negative");
  if (t.max_completion_time_ns().value_or(0) < 0) return invalid("Task's 'max_completion_time' must be non-negative");
  auto asked_for = resource::from_wire(t.resources());
  if (!asked_for) return invalid("Task uses invalid resources: " + asked_for.error().message);
  if (asked_for->empty()) return invalid("Task uses no resources");
  own = std::move(*asked_for);
  if (!t.limits()) return ok;
  for (const auto* l : *t.limits()) {
    const std::string_view key = text(l->key());
    if (key != "cpus" && key != "mem")
      return invalid("Task's limits name '" + std::string(key) + "'; only cpus and mem can be limited");
    const auto asked = own.scalar(resource::intern_name(key));
    if (std::isnan(l->value()) || (std::isfinite(l->value()) && resource::Scalar::of(l->value()) < asked)) {
      return invalid("Task's " + std::string(key) + " limit " + std::to_string(l->value()) + " is less than its request " +
                     asked.text());
    }
  }
  return ok;
}

Status Core::validate_task(const Framework& f, const Agent& agent, const fb::TaskInfo& t, RoleId role,
                           const Resources& pool, Resources& needs, Resources& of_executor) const {
  Resources all;
  GANTRY_CHECK(validate_own(f, agent, t, all));
  if (!t.command() == !t.executor())
    return invalid("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present");
  if (t.executor()) {
    if (auto bad = bad_id(text(t.executor()->executor_id()))) return invalid("Executor ID is invalid: " + *bad);
    Resources extra;
    GANTRY_CHECK(validate_executor(f, agent, *t.executor(), role, false, extra));
    of_executor = extra.unallocated();
    all += extra;
  }
  needs = all.unallocated();
  if (!needs.gpus().is_whole()) return invalid("The 'gpus' resource must be an unsigned integer");
  needs = resource::as_in(pool, needs);
  if (!pool.contains(needs))
    return invalid("Total resources " + resource::words(needs, role) + " required by task and its executor is more than available " +
                   resource::words(pool, role));
  return ok;
}

void Core::launch(Handle fh, Handle ah, RoleId role, Resources& pool, const fb::TaskInfo& info) {
  const Framework& f = frameworks_[fh];
  const Agent& agent = agents_[ah];
  Resources needs, of_executor;
  if (auto s = validate_task(f, agent, info, role, pool, needs, of_executor); !s) {
    ++counters_.tasks_error;
    return send_update(f, status_of(text(info.task_id()), agent.id(), fb::TaskState::TASK_ERROR,
                                    fb::Reason::REASON_TASK_INVALID, s.error().message));
  }
  needs = charge_of(pool, needs);  // what is shared stays on offer while it is in use
  pool -= needs;
  std::optional<bool> launch_executor;
  if (info.executor()) {
    of_executor = charge_of(needs, of_executor);
    needs -= of_executor;
    launch_executor = use_executor(ah, fh, role, *info.executor(), std::move(of_executor));
  }
  // Kept alone, not inside its call: a million of these stay. The task carries its role, to be charged rightly after a
  // master failover, whatever roles its framework has by then.
  fb::TaskInfoT t;
  info.UnPackTo(&t);
  for (auto& r : t.resources)
    if (r->allocation_role.empty()) r->allocation_role = resource::text_of(role);
  if (t.executor) t.executor->framework_id = f.id;
  if (t.executor)
    for (auto& r : t.executor->resources)
      if (r->allocation_role.empty()) r->allocation_role = resource::text_of(role);
  Blob blob(pack(t));
  const Handle h = add_task(fh, ah, role, std::move(blob), std::move(needs));
  ++counters_.tasks_launched;
  send_run_task(agent, f, tasks_[h], launch_executor);
  if (now_ >= lull_) lull_ = now_ + options_.launch_lull;
}

void Core::send_run_task(const Agent& agent, const Framework& f, const Task& t, std::optional<bool> launch_executor) {
  if (agent.link) to_agent(agent.link, run_task(f.info, t.info, launch_executor));
}

}  // namespace gantry::master
