// Status updates and health results: what happened to a task, and what follows.
#include <algorithm>

#include "core.hpp"
#include "view.hpp"

namespace gantry::framework_services {

std::string_view to_string(Condition c) {
  switch (c) {
    case Condition::scheduled:
      return "Scheduled";
    case Condition::provisioned:
      return "Provisioned";
    case Condition::staging:
      return "Staging";
    case Condition::starting:
      return "Starting";
    case Condition::running:
      return "Running";
    case Condition::killing:
      return "Killing";
    case Condition::unreachable:
      return "Unreachable";
    case Condition::inactive:
      return "UnreachableInactive";
  }
  return "Unknown";
}

namespace {

const char* state_name(fb::TaskState s) { return fb::EnumNameTaskState(s); }

// Marathon's condition of a task that has ended, or "" if the state is not an end.
std::string_view end_of(fb::TaskState s) {
  switch (s) {
    case fb::TaskState::TASK_FINISHED:
      return "Finished";
    case fb::TaskState::TASK_FAILED:
      return "Failed";
    case fb::TaskState::TASK_KILLED:
      return "Killed";
    case fb::TaskState::TASK_ERROR:
      return "Error";
    case fb::TaskState::TASK_LOST:
    case fb::TaskState::TASK_DROPPED:
      return "Dropped";
    case fb::TaskState::TASK_GONE:
    case fb::TaskState::TASK_GONE_BY_OPERATOR:
      return "Gone";
    case fb::TaskState::TASK_UNKNOWN:
      return "Unknown";
    default:
      return "";
  }
}

}  // namespace

std::optional<bool> Instance::healthy() const {
  if (health.empty()) return {};
  bool all = true;
  for (const auto& h : health) {
    if (h.alive == false) return false;
    all = all && h.alive == true;
  }
  return all ? std::optional<bool>(true) : std::nullopt;
}

void Core::status_event(const Instance& i, const std::string& task_status, const std::string& message) {
  Array ports;
  for (const int p : i.ports) {
    if (p) ports.push_back(p);
  }
  announce("status_update_event", {{"slaveId", boost::json::string(i.agent_id)},
                                   {"taskId", boost::json::string(i.task_id())},
                                   {"taskStatus", boost::json::string(task_status)},
                                   {"message", boost::json::string(message)},
                                   {"appId", boost::json::string(i.app->id)},
                                   {"host", boost::json::string(i.host)},
                                   {"ipAddresses", Array()},
                                   {"ports", std::move(ports)},
                                   {"version", format_time(i.app->version)}});
}

void Core::changed_event(const Instance& i, std::string_view condition) {
  announce("instance_changed_event", {{"instanceId", boost::json::string(i.id)},
                                      {"condition", boost::json::string(condition)},
                                      {"runSpecId", boost::json::string(i.app->id)},
                                      {"agentId", boost::json::string(i.agent_id)},
                                      {"host", boost::json::string(i.host)},
                                      {"runSpecVersion", format_time(i.app->version)}});
}

void Core::status(const fb::TaskStatusT& st) {
  // The acknowledgement leaves with this step's output, that is after its records are stored.
  if (!st.uuid.empty()) {
    fb::CallT c = call(fb::CallType::ACKNOWLEDGE);
    c.acknowledge = std::make_unique<fb::AcknowledgeT>();
    c.acknowledge->agent_id = st.agent_id;
    c.acknowledge->task_id = st.task_id;
    c.acknowledge->uuid = st.uuid;
    out_.calls.push_back(std::move(c));
  }
  const auto id = parse_task_id(st.task_id);
  Spec* s = id ? spec_of_instance(id->instance_id) : nullptr;
  Instance* i = nullptr;
  if (s) {
    const auto it = s->instances.find(id->instance_id);
    if (it != s->instances.end() && it->second.incarnation == id->incarnation && it->second.has_task()) i = &it->second;
  }
  const auto end = end_of(st.state);
  if (!i) {
    // Not ours to keep: a replaced task that came back, or one whose record is gone.
    if (!end.empty()) {
      if (id) {
        announce("unknown_instance_terminated_event",
                 {{"instanceId", boost::json::string(id->instance_id)},
                  {"runSpecId", boost::json::string(app_of_instance(id->instance_id))},
                  {"condition", boost::json::string(end)}});
      }
    } else if (st.state != fb::TaskState::TASK_UNREACHABLE && st.state != fb::TaskState::TASK_KILLING) {
      fb::CallT c = call(fb::CallType::KILL);
      c.kill = std::make_unique<fb::KillT>();
      c.kill->task_id = st.task_id;
      c.kill->agent_id = st.agent_id;
      out_.calls.push_back(std::move(c));
    }
    return;
  }
  dirty_.insert(i->app->id);
  if (!end.empty()) return terminal(*s, *i, st);
  if (st.state == fb::TaskState::TASK_UNREACHABLE) return unreachable(*s, *i, st);

  Condition next = i->condition;
  if (i->condition != Condition::killing) {
    switch (st.state) {
      case fb::TaskState::TASK_STAGING:
        next = Condition::staging;
        break;
      case fb::TaskState::TASK_STARTING:
        next = Condition::starting;
        break;
      case fb::TaskState::TASK_RUNNING:
        next = Condition::running;
        break;
      case fb::TaskState::TASK_KILLING:
        next = Condition::killing;
        break;
      default:
        break;
    }
    if (i->condition == Condition::running && next != Condition::killing) next = Condition::running;
  } else if (st.uuid.empty() && st.state != fb::TaskState::TASK_KILLING) {
    send_kill(*i);  // told in a reconciliation that it goes on: the kill was lost with a master or an agent
  }
  const std::string name = state_name(st.state);
  const bool changed = next != i->condition || name != i->state;
  const auto healthy_before = i->healthy();
  if (!st.agent_id.empty()) i->agent_id = st.agent_id;
  if (changed) {
    const bool back = i->condition == Condition::unreachable || i->condition == Condition::inactive;
    i->state = name;
    if (next == Condition::running && i->condition != Condition::running) {
      if (!back || !i->started_at) i->started_at = st.timestamp ? static_cast<Millis>(*st.timestamp * 1000) : wall_;
      if (!back) {
        if (tokens_ <= 0 && !waiting_.empty()) want_offers();
        tokens_ = std::min(tokens_ + 1, options_.launch_tokens);
      }
      i->unreachable_at = 0;
      out_.probe.insert(i->id);
    }
    if (next == Condition::killing && i->condition != Condition::killing) {
      out_.probe.insert(i->id);
      arm(seconds(30), i->id);
    }
    const bool condition_changed = next != i->condition;
    i->condition = next;
    status_event(*i, name, st.message);
    if (condition_changed) changed_event(*i, to_string(next));
    save(*i);
  }
  if (st.healthy && i->condition == Condition::running) {
    for (std::size_t k = 0; k < i->app->health.size() && k < i->health.size(); ++k) {
      if (!i->app->health[k].by_agent) continue;
      HealthState& h = i->health[k];
      const auto before = h.alive;
      h.alive = *st.healthy;
      if (*st.healthy) {
        h.failures = 0;
        h.last_success = wall_;
        if (!h.first_success) h.first_success = wall_;
      } else {
        ++h.failures;
        h.last_failure = wall_;
        h.cause = st.message;
        announce("failed_health_check_event", {{"appId", boost::json::string(i->app->id)},
                                               {"taskId", boost::json::string(i->id)},
                                               {"instanceId", boost::json::string(i->id)},
                                               {"healthCheck", health_check_json(*i->app, k)}});
      }
      if (before != h.alive) {
        announce("health_status_changed_event", {{"appId", boost::json::string(i->app->id)},
                                                 {"instanceId", boost::json::string(i->id)},
                                                 {"version", format_time(i->app->version)},
                                                 {"alive", *h.alive}});
      }
    }
    update_health(*i, healthy_before);
  }
}

void Core::terminal(Spec& s, Instance& i, const fb::TaskStatusT& st) {
  const std::string app = i.app->id;
  i.state = state_name(st.state);
  status_event(i, i.state, st.message);
  changed_event(i, end_of(st.state));
  const bool killed = st.state == fb::TaskState::TASK_KILLED;
  if (!killed && st.state != fb::TaskState::TASK_FINISHED) {
    s.failure = TaskFailure{i.host, st.message, i.state, i.task_id(), i.agent_id, wall_, i.app->version};
  }
  dirty_.insert(app);
  if (i.doomed || !s.app) {
    remove(s, i.id);
    return;
  }
  // KILLED is somebody's wish and lost agents are nobody's fault; everything else slows the next start down.
  const bool slow = st.state == fb::TaskState::TASK_FAILED || st.state == fb::TaskState::TASK_FINISHED ||
                    st.state == fb::TaskState::TASK_ERROR || st.state == fb::TaskState::TASK_DROPPED ||
                    st.state == fb::TaskState::TASK_LOST;
  const bool asked = i.condition == Condition::killing;
  schedule(s, i, slow && !asked);
}

void Core::unreachable(Spec& s, Instance& i, const fb::TaskStatusT& st) {
  if (i.condition == Condition::unreachable || i.condition == Condition::inactive) return;
  const std::string id = i.id, app = i.app->id;
  i.state = "TASK_UNREACHABLE";
  i.unreachable_at = st.unreachable_time_ns ? *st.unreachable_time_ns / 1000000 : wall_;
  status_event(i, i.state, st.message);
  const bool was_doomed = i.doomed;
  i.condition = Condition::unreachable;
  changed_event(i, "Unreachable");
  out_.probe.insert(id);
  s.failure = TaskFailure{i.host, st.message, i.state, i.task_id(), i.agent_id, wall_, i.app->version};
  dirty_.insert(app);
  if (was_doomed || !s.app) {
    remove(s, id);
    return;
  }
  save(i);
  if (!i.app->inactive_after) return;  // disabled: it is waited for
  const double away = static_cast<double>(wall_ - i.unreachable_at) / 1000;
  if (away >= *i.app->expunge_after) {
    remove(s, id);  // the count is made up with a new instance; should the task come back, it is killed
    return;
  }
  arm(seconds(std::max(0.0, *i.app->inactive_after - away)), id);
}

// ---- health

void Core::update_health(Instance& i, std::optional<bool> before) {
  const auto now = i.healthy();
  if (before == now) return;
  announce("instance_health_changed_event", {{"instanceId", boost::json::string(i.id)},
                                             {"runSpecId", boost::json::string(i.app->id)},
                                             {"runSpecVersion", format_time(i.app->version)},
                                             {"healthy", now ? Json(*now) : Json(nullptr)}});
  dirty_.insert(i.app->id);
  save(i);
}

void Core::health_of(Spec& s, Instance& i, std::size_t check, bool passed, const std::string& cause) {
  HealthState& h = i.health[check];
  const HealthCheckSpec& spec = i.app->health[check];
  const auto before = i.healthy();
  const auto alive_before = h.alive;
  if (passed) {
    h.alive = true;
    h.failures = 0;
    h.last_success = wall_;
    if (!h.first_success) h.first_success = wall_;
  } else {
    if (!h.first_success && wall_ - i.started_at < static_cast<Millis>(spec.grace * 1000)) return;
    h.alive = false;
    ++h.failures;
    h.last_failure = wall_;
    h.cause = cause;
    announce("failed_health_check_event", {{"appId", boost::json::string(i.app->id)},
                                           {"taskId", boost::json::string(i.id)},
                                           {"instanceId", boost::json::string(i.id)},
                                           {"healthCheck", health_check_json(*i.app, check)}});
  }
  if (alive_before != h.alive) {
    announce("health_status_changed_event", {{"appId", boost::json::string(i.app->id)},
                                             {"instanceId", boost::json::string(i.id)},
                                             {"version", format_time(i.app->version)},
                                             {"alive", *h.alive}});
    save(i);
  }
  update_health(i, before);
  // Marathon kills at failure N + 1; clients mirror that (marathon.md A6).
  if (!passed && spec.max_failures > 0 && h.failures > spec.max_failures) {
    announce("unhealthy_instance_kill_event", {{"appId", boost::json::string(i.app->id)},
                                               {"taskId", boost::json::string(i.task_id())},
                                               {"instanceId", boost::json::string(i.id)},
                                               {"version", format_time(i.app->version)},
                                               {"reason", boost::json::string(cause)},
                                               {"host", boost::json::string(i.host)},
                                               {"slaveId", boost::json::string(i.agent_id)}});
    s.failure = TaskFailure{i.host,        "Task was killed since health check failed: " + cause,
                            "TASK_KILLED", i.task_id(),
                            i.agent_id,    wall_,
                            i.app->version};
    kill(s, i, false);
  }
}

void Core::probed(const std::string& instance, int incarnation, std::size_t check, bool passed,
                  const std::string& cause) {
  Spec* s = spec_of_instance(instance);
  if (!s) return;
  const auto it = s->instances.find(instance);
  if (it == s->instances.end() || it->second.incarnation != incarnation || !it->second.running() ||
      check >= it->second.health.size())
    return;
  health_of(*s, it->second, check, passed, cause);
}

void Core::readiness(const std::string& instance, int incarnation, int status, const std::string& body) {
  Spec* s = spec_of_instance(instance);
  if (!s) return;
  const auto it = s->instances.find(instance);
  if (it == s->instances.end() || it->second.incarnation != incarnation || !it->second.running() ||
      it->second.app->readiness.empty())
    return;
  Instance& i = it->second;
  const auto& codes = i.app->readiness.front().ready_codes;
  i.ready_status = status;
  i.ready_body = i.app->readiness.front().preserve_last_response ? body : std::string();
  if (i.ready || std::find(codes.begin(), codes.end(), status) == codes.end()) return;
  i.ready = true;
  out_.probe.insert(i.id);
  dirty_.insert(i.app->id);
  save(i);
}

}  // namespace gantry::framework_services
