// Progress: instance counts, deployments step by step, timers.
#include <algorithm>

#include "core.hpp"
#include "view.hpp"

namespace gantry::framework_services {

void Core::announce(std::string type, Object body) {
  Object whole{{"eventType", boost::json::string(type)}, {"timestamp", format_time(wall_)}};
  for (auto& m : body) whole[m.key()] = std::move(m.value());
  out_.events.push_back({std::move(type), std::move(whole)});
}

void Core::enter_step(Deployment& d) {
  d.done.clear();
  if (d.current >= d.steps.size()) {
    finish_deployment(d.id, true, {});
    return;
  }
  save_deployment(d);
  announce("deployment_info", {{"plan", plan_json(d)}, {"currentStep", step_json(d.steps[d.current])}});
  for (const auto& a : d.steps[d.current]) dirty_.insert(a.app);
}

// By value: the id may live in the plan that is erased here.
void Core::finish_deployment(std::string id, bool success, const std::string& reason) {
  const auto it = deployments_.find(id);
  if (it == deployments_.end()) return;
  Object body{{"id", boost::json::string(id)}, {"plan", plan_json(it->second)}};
  if (!success) body["reason"] = boost::json::string(reason);
  announce(success ? "deployment_success" : "deployment_failed", std::move(body));
  for (auto l = locks_.begin(); l != locks_.end();) {
    if (l->second == id) {
      dirty_.insert(l->first);
      l = locks_.erase(l);
    } else {
      ++l;
    }
  }
  deployments_.erase(it);
  write("deployment/" + id, {});
}

void Core::settle() {
  while (!dirty_.empty()) {
    const auto batch = std::exchange(dirty_, {});
    std::set<std::string> moved;
    for (const auto& id : batch) {
      settle_app(id);
      if (const auto l = locks_.find(id); l != locks_.end()) moved.insert(l->second);
    }
    for (const auto& id : moved) {
      if (const auto d = deployments_.find(id); d != deployments_.end()) advance(d->second);
    }
  }
  if (connected_ && waiting_.empty() && !suppressed_) {
    fb::CallT c = call(fb::CallType::SUPPRESS);
    c.suppress = std::make_unique<fb::SuppressT>();
    c.suppress->roles.push_back(options_.role);
    out_.calls.push_back(std::move(c));
    suppressed_ = true;
    want_revive_ = false;
  }
  tick();
}

// Applies the arithmetic to one application and marks its action done when it has arrived.
void Core::settle_app(const std::string& id) {
  const auto it = specs_.find(id);
  if (it == specs_.end()) return;
  Spec& s = it->second;
  Deployment* d = nullptr;
  if (const auto l = locks_.find(id); l != locks_.end()) d = &deployments_.at(l->second);
  const Action* action = nullptr;
  if (d && d->current < d->steps.size()) {
    for (const auto& a : d->steps[d->current]) {
      if (a.app == id) action = &a;
    }
  }
  if (!s.app) {  // deleted: everything goes
    std::vector<std::string> all;
    for (const auto& [iid, i] : s.instances) all.push_back(iid);
    for (const auto& iid : all) {
      if (auto& i = s.instances.at(iid); !i.doomed || !i.has_task()) kill(s, i, true);
    }
    if (!s.instances.empty()) return;
    if (d && action) d->done.insert(id);
    announce("app_terminated_event", {{"appId", boost::json::string(id)}});
    for (const auto& [v, app] : s.versions) write("version/" + safe_path(id) + "/" + std::to_string(v), {});
    waiting_.erase(id);
    specs_.erase(it);
    if (d && !action) dirty_.erase(id);
    return;
  }
  if (d && !action) return;  // its turn comes, or has been
  if (action && action->kind == Action::Kind::start) {
    d->done.insert(id);
    return;
  }
  std::vector<RolloutView> views;
  views.reserve(s.instances.size());
  for (const auto& [iid, i] : s.instances) views.push_back({&i, !d || i.app->last_config == s.app->last_config});
  const auto step =
      rollout(s.app->instances, s.app->min_health, s.app->max_over, s.app->oldest_first, std::move(views));
  apply(s, id, step, s.app);
  if (d && action && step.done) d->done.insert(id);
}

void Core::apply(Spec& s, const std::string& id, const RolloutStep& step, const AppPtr& app) {
  for (const auto& iid : step.kill) kill(s, s.instances.at(iid), true);
  for (int k = 0; k < step.start; ++k) add_instance(s, app);
  if (!step.kill.empty()) dirty_.insert(id);  // room may have been made at once
}

void Core::advance(Deployment& d) {
  while (d.current < d.steps.size()) {
    for (const auto& a : d.steps[d.current]) {
      if (!d.done.count(a.app)) return;
    }
    announce("deployment_step_success", {{"plan", plan_json(d)}, {"currentStep", step_json(d.steps[d.current])}});
    ++d.current;
    const bool last = d.current >= d.steps.size();
    enter_step(d);
    if (last) return;  // d is gone
    return;            // the next settle looks at the new step
  }
}

Instance& Core::add_instance(Spec& s, const AppPtr& app) {
  Instance i;
  i.id = safe_path(app->id) + ".instance-" + make_uuid(random_);
  i.app = app;
  i.health.resize(app->health.size());
  i.incarnation = 0;
  Instance& in = s.instances[i.id] = std::move(i);
  schedule(s, in, false);
  return in;
}

// (Re)enters the launch queue with the next incarnation.
void Core::schedule(Spec& s, Instance& i, bool backoff) {
  if (i.has_task()) out_.probe.insert(i.id);
  ++i.incarnation;
  i.condition = Condition::scheduled;
  i.state = "TASK_STAGING";
  i.agent_id.clear();
  i.host.clear();
  i.ports.clear();
  i.attributes.clear();
  i.staged_at = i.started_at = i.unreachable_at = 0;
  if (s.app && (s.app->last_config == i.app->last_config || !locks_.count(s.app->id))) i.app = s.app;
  i.health.assign(i.app->health.size(), {});
  i.ready = false;
  i.ready_status.reset();
  if (backoff) add_delay(s);
  if (s.waiting.empty()) {
    s.queue = {};
    s.queue.since = wall_;
  }
  s.waiting.insert(i.id);
  waiting_.insert(i.app->id);
  if (s.delayed_until <= now_)
    want_offers();
  else
    s.delay_pending = true;
  save(i);
}

void Core::add_delay(Spec& s) {
  const App* app = s.app.get();
  if (!app) return;
  if (s.last_failure_at.count() && s.last_failure_at + seconds(app->max_delay) < now_) s.delay = 0;
  s.delay = s.delay == 0 ? app->backoff : s.delay * app->backoff_factor;
  s.delay = std::min(s.delay, app->max_delay);
  s.last_failure_at = now_;
  s.delayed_until = now_ + seconds(s.delay);
  s.delay_pending = true;
}

void Core::kill(Spec& s, Instance& i, bool doom) {
  const bool was = i.doomed;
  i.doomed = i.doomed || doom;
  // Nothing runs, or nothing can be reached: there is no update to wait for.
  if (!i.has_task() || (i.doomed && (i.condition == Condition::unreachable || i.condition == Condition::inactive))) {
    if (i.has_task()) send_kill(i);
    if (i.doomed) remove(s, i.id);
    return;
  }
  if (i.condition == Condition::killing && was == i.doomed) return;
  if (i.condition != Condition::killing) {
    i.condition = Condition::killing;
    out_.probe.insert(i.id);
    changed_event(i, "Killing");
    send_kill(i);
    arm(seconds(10), i.id);  // a kill is nobody's record but ours: repeated until the end is told
  }
  save(i);
}

void Core::send_kill(const Instance& i) {
  fb::CallT c = call(fb::CallType::KILL);
  c.kill = std::make_unique<fb::KillT>();
  c.kill->task_id = i.task_id();
  c.kill->agent_id = i.agent_id;
  if (i.app->kill_grace) {
    c.kill->kill_policy = std::make_unique<fb::KillPolicyT>();
    c.kill->kill_policy->grace_period_ns = static_cast<std::int64_t>(*i.app->kill_grace * 1e9);
  }
  out_.calls.push_back(std::move(c));
}

void Core::remove(Spec& s, const std::string& instance_id) {
  const auto it = s.instances.find(instance_id);
  if (it == s.instances.end()) return;
  const std::string app = it->second.app->id;
  s.waiting.erase(instance_id);
  if (s.waiting.empty()) waiting_.erase(app);
  out_.probe.insert(instance_id);
  dirty_instances_.erase(instance_id);
  write("instance/" + instance_id, {});
  dirty_.insert(app);
  s.instances.erase(it);
  if (!waiting_.empty()) want_offers();  // what it held may serve others
}

// ---- timers

void Core::due(const std::string& instance_id) {
  Spec* s = spec_of_instance(instance_id);
  if (!s) return;
  const auto it = s->instances.find(instance_id);
  if (it == s->instances.end()) return;
  Instance& i = it->second;
  const double away = static_cast<double>(wall_ - i.unreachable_at) / 1000;
  switch (i.condition) {
    case Condition::provisioned:
    case Condition::staging:
    case Condition::starting:
      // Armed when it was launched; five minutes without RUNNING.
      if (wall_ - i.staged_at >= 300000)
        kill(*s, i, false);
      else
        arm(seconds(30), i.id);
      break;
    case Condition::killing:
      send_kill(i);
      arm(seconds(10), i.id);
      break;
    case Condition::unreachable:
    case Condition::inactive:
      if (!i.app->inactive_after) break;
      if (away >= *i.app->expunge_after) {
        changed_event(i, "Unreachable");
        remove(*s, instance_id);
      } else if (away >= *i.app->inactive_after && i.condition == Condition::unreachable) {
        i.condition = Condition::inactive;
        changed_event(i, "UnreachableInactive");
        save(i);
        dirty_.insert(i.app->id);
        arm(seconds(*i.app->expunge_after - away), instance_id);
      } else {
        arm(seconds(std::max(
                0.05, (i.condition == Condition::inactive ? *i.app->expunge_after : *i.app->inactive_after) - away)),
            instance_id);
      }
      break;
    default:
      break;
  }
}

void Core::tick() {
  while (!timers_.empty() && timers_.begin()->first <= now_) {
    const std::string id = timers_.begin()->second;
    timers_.erase(timers_.begin());
    due(id);
  }
  for (const auto& id : waiting_) {
    Spec& s = specs_.at(id);
    if (s.delay_pending && s.delayed_until <= now_) {
      s.delay_pending = false;
      want_offers();
    }
  }
  if (next_refill_ <= now_) {
    if (tokens_ <= 0 && !waiting_.empty()) want_offers();
    tokens_ = options_.launch_tokens;
    next_refill_ = now_ + seconds(30);
  }
  if (connected_ && next_reconcile_ <= now_) reconcile();
  if (connected_ && want_revive_ && !waiting_.empty() && tokens_ > 0 &&
      (!ever_revived_ || now_ >= last_revive_ + options_.revive_interval)) {
    fb::CallT c = call(fb::CallType::REVIVE);
    c.revive = std::make_unique<fb::ReviveT>();
    c.revive->roles.push_back(options_.role);
    out_.calls.push_back(std::move(c));
    want_revive_ = suppressed_ = false;
    ever_revived_ = true;
    last_revive_ = now_;
  }
}

Nanos Core::next_wake() const {
  Nanos next = now_ + seconds(3600);
  if (!timers_.empty()) next = std::min(next, timers_.begin()->first);
  if (!waiting_.empty()) {
    next = std::min(next, next_refill_);
    for (const auto& id : waiting_) {
      const Spec& s = specs_.at(id);
      if (s.delay_pending) next = std::min(next, s.delayed_until);
    }
    if (connected_ && want_revive_ && tokens_ > 0) next = std::min(next, last_revive_ + options_.revive_interval);
  }
  if (connected_) next = std::min(next, next_reconcile_);
  return std::max(next, now_);
}

}  // namespace gantry::framework_services
