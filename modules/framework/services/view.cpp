#include "view.hpp"

#include <algorithm>

namespace gantry::framework_services {
namespace {

Json text(std::string_view s) { return boost::json::string(boost::json::string_view(s.data(), s.size())); }

}  // namespace

std::string_view to_string(Action::Kind kind) {
  switch (kind) {
    case Action::Kind::start:
      return "StartApplication";
    case Action::Kind::stop:
      return "StopApplication";
    case Action::Kind::scale:
      return "ScaleApplication";
    case Action::Kind::restart:
      return "RestartApplication";
  }
  return "";
}

Object step_json(const std::vector<Action>& actions) {
  Array list;
  for (const auto& a : actions) list.push_back(Object{{"action", text(to_string(a.kind))}, {"app", text(a.app)}});
  return {{"actions", std::move(list)}};
}

Object plan_json(const Deployment& d) {
  Array steps;
  for (const auto& s : d.steps) steps.push_back(step_json(s));
  return {{"id", text(d.id)},
          {"version", format_time(d.version)},
          {"original", Object()},
          {"target", Object()},
          {"steps", std::move(steps)}};
}

Object deployment_json(const Core& core, const Deployment& d) {
  Array affected, steps, current;
  for (const auto& [id, app] : d.target) affected.push_back(text(id));
  for (const auto& s : d.steps) steps.push_back(step_json(s));
  if (d.current < d.steps.size()) {
    for (const auto& a : d.steps[d.current]) {
      Array results;
      if (const auto it = core.specs().find(a.app); it != core.specs().end()) {
        for (const auto& [iid, i] : it->second.instances) {
          if (i.app->readiness.empty() || !i.ready_status) continue;
          Object r{{"name", text(i.app->readiness.front().name)}, {"taskId", text(i.task_id())}, {"ready", i.ready}};
          if (!i.ready_body.empty())
            r["lastResponse"] =
                Object{{"status", *i.ready_status}, {"contentType", "text/plain"}, {"body", text(i.ready_body)}};
          results.push_back(std::move(r));
        }
      }
      current.push_back(Object{
          {"action", text(to_string(a.kind))}, {"app", text(a.app)}, {"readinessCheckResults", std::move(results)}});
    }
  }
  return {{"id", text(d.id)},
          {"version", format_time(d.version)},
          {"affectedApps", std::move(affected)},
          {"affectedPods", Array()},
          {"steps", std::move(steps)},
          {"currentActions", std::move(current)},
          {"currentStep", d.current + 1},
          {"totalSteps", d.steps.size()}};
}

Object task_json(const Instance& i, const std::string& role, bool service_ports) {
  Array ports, health;
  for (const int p : i.ports) {
    if (p) ports.push_back(p);
  }
  for (const auto& h : i.health) {
    if (!h.alive && !h.last_failure) continue;
    Object o{{"alive", h.alive == true}, {"consecutiveFailures", h.failures}, {"instanceId", text(i.id)}};
    if (h.first_success) o["firstSuccess"] = format_time(h.first_success);
    if (h.last_success) o["lastSuccess"] = format_time(h.last_success);
    if (h.last_failure) {
      o["lastFailure"] = format_time(h.last_failure);
      o["lastFailureCause"] = text(h.cause);
    }
    health.push_back(std::move(o));
  }
  Object t{{"id", text(i.task_id())},
           {"appId", text(i.app->id)},
           {"host", text(i.host)},
           {"slaveId", text(i.agent_id)},
           {"state", text(i.condition == Condition::killing ? "TASK_KILLING" : i.state)},
           {"ipAddresses", Array()},
           {"healthCheckResults", std::move(health)},
           {"localVolumes", Array()},
           {"ports", std::move(ports)},
           {"role", text(role)}};
  if (i.has_task()) {
    t["version"] = format_time(i.app->version);
    if (i.staged_at) t["stagedAt"] = format_time(i.staged_at);
    if (i.started_at) t["startedAt"] = format_time(i.started_at);
  }
  if (service_ports) {
    Array list;
    for (const auto& p : i.app->ports) list.push_back(p.service_port);
    t["servicePorts"] = std::move(list);
  }
  return t;
}

Object failure_json(const std::string& app, const TaskFailure& f) {
  Object o{{"appId", text(app)},
           {"host", text(f.host)},
           {"message", text(f.message)},
           {"state", text(f.state)},
           {"taskId", text(f.task_id)},
           {"timestamp", format_time(f.timestamp)},
           {"version", format_time(f.version)}};
  if (!f.agent_id.empty()) o["slaveId"] = text(f.agent_id);
  return o;
}

Object health_check_json(const App& app, std::size_t index) {
  const Array* list = find_array(app.json, "healthChecks");
  return list && index < list->size() ? (*list)[index].get_object() : Object();
}

Object offer_json(const fb::OfferT& offer) {
  Array resources, attributes;
  for (const auto& r : offer.resources) {
    Object o{{"name", text(r->name)}, {"role", text(r->reservations.empty() ? "*" : r->reservations.back()->role)}};
    if (r->scalar) o["scalar"] = *r->scalar;
    if (!r->ranges.empty()) {
      Array ranges;
      for (const auto& x : r->ranges) ranges.push_back(Object{{"begin", x.begin()}, {"end", x.end()}});
      o["ranges"] = std::move(ranges);
    }
    if (!r->set.empty()) {
      Array set;
      for (const auto& x : r->set) set.push_back(text(x));
      o["set"] = std::move(set);
    }
    resources.push_back(std::move(o));
  }
  for (const auto& a : offer.attributes) {
    Object o{{"name", text(a->name)}};
    if (a->type == fb::ValueType::TEXT) o["text"] = text(a->text);
    if (a->scalar) o["scalar"] = *a->scalar;
    attributes.push_back(std::move(o));
  }
  return {{"id", text(offer.id)},
          {"agentId", text(offer.agent_id)},
          {"hostname", text(offer.hostname)},
          {"resources", std::move(resources)},
          {"attributes", std::move(attributes)}};
}

Object queue_item_json(const Core& core, const Spec& s, bool last_unused_offers) {
  const QueueStats& q = s.queue;
  const auto summary = [](const std::array<int, 10>& declined, const std::array<int, 10>& processed) {
    Array list;
    for (std::size_t r = 0; r < declined.size(); ++r) {
      list.push_back(Object{{"reason", text(kRejectNames[r])}, {"declined", declined[r]}, {"processed", processed[r]}});
    }
    return list;
  };
  std::array<int, 10> last_declined{}, last_tried{};
  for (const auto& [agent, why] : q.last_by_agent) {
    ++last_declined[static_cast<std::size_t>(why)];
    for (std::size_t r = 0; r <= static_cast<std::size_t>(why); ++r) ++last_tried[r];
  }
  Object offers{{"processedOffersCount", q.processed},
                {"unusedOffersCount", q.unused},
                {"rejectSummaryLastOffers", summary(last_declined, last_tried)},
                {"rejectSummaryLaunchAttempt", summary(q.declined, q.tried)}};
  if (q.last_unused) offers["lastUnusedOfferAt"] = format_time(q.last_unused);
  if (q.last_used) offers["lastUsedOfferAt"] = format_time(q.last_used);
  const double left = core.delay_left(s);
  Object item{{"count", s.waiting.size()},
              {"delay", Object{{"timeLeftSeconds", static_cast<std::int64_t>(left + 0.999)}, {"overdue", left <= 0}}},
              {"since", format_time(q.since)},
              {"processedOffersSummary", std::move(offers)}};
  if (s.app) item["app"] = s.app->print();
  if (last_unused_offers) {
    Array list;
    for (const auto& [agent, o] : q.unused_by_agent) list.push_back(o);
    item["lastUnusedOffers"] = std::move(list);
  }
  return item;
}

namespace {

Object stats_of(const std::vector<const Instance*>& list, Millis now) {
  int staged = 0, running = 0, healthy = 0, unhealthy = 0;
  std::vector<double> lives;
  for (const auto* i : list) {
    staged += i->condition == Condition::provisioned || i->condition == Condition::staging ||
              i->condition == Condition::starting;
    running += i->running();
    healthy += i->healthy() == true;
    unhealthy += i->healthy() == false;
    if (i->started_at) lives.push_back(static_cast<double>(now - i->started_at) / 1000);
  }
  Object stats{
      {"counts", Object{{"staged", staged}, {"running", running}, {"healthy", healthy}, {"unhealthy", unhealthy}}}};
  if (!lives.empty()) {
    std::sort(lives.begin(), lives.end());
    double sum = 0;
    for (const double l : lives) sum += l;
    stats["lifeTime"] =
        Object{{"averageSeconds", sum / static_cast<double>(lives.size())}, {"medianSeconds", lives[lives.size() / 2]}};
  }
  return {{"stats", std::move(stats)}};
}

}  // namespace

Object app_json(const Core& core, const Spec& s, const Embed& embed) {
  Object o = s.app->print();
  const std::string role = s.app->role;
  if (embed.counts) {
    int staged = 0, running = 0, healthy = 0, unhealthy = 0;
    for (const auto& [id, i] : s.instances) {
      staged += i.condition == Condition::provisioned || i.condition == Condition::staging ||
                i.condition == Condition::starting;
      running += i.running();
      healthy += i.running() && i.healthy() == true;
      unhealthy += i.running() && i.healthy() == false;
    }
    o["tasksStaged"] = staged;
    o["tasksRunning"] = running;
    o["tasksHealthy"] = healthy;
    o["tasksUnhealthy"] = unhealthy;
  }
  if (embed.deployments) {
    Array list;
    for (const auto& id : core.deployments_of(s.app->id)) list.push_back(Object{{"id", text(id)}});
    o["deployments"] = std::move(list);
  }
  if (embed.tasks) {
    Array list;
    for (const auto& [id, i] : s.instances) {
      if (i.has_task()) list.push_back(task_json(i, role, true));
    }
    o["tasks"] = std::move(list);
  }
  if (embed.failure && s.failure) o["lastTaskFailure"] = failure_json(s.app->id, *s.failure);
  if (embed.readiness) {
    Array list;
    for (const auto& [id, i] : s.instances) {
      if (i.app->readiness.empty() || !i.ready_status) continue;
      list.push_back(
          Object{{"name", text(i.app->readiness.front().name)}, {"taskId", text(i.task_id())}, {"ready", i.ready}});
    }
    o["readinessCheckResults"] = std::move(list);
  }
  if (embed.stats) {
    std::vector<const Instance*> all, latest, outdated, scaled;
    for (const auto& [id, i] : s.instances) {
      if (!i.has_task()) continue;
      all.push_back(&i);
      (i.app->last_config == s.app->last_config ? latest : outdated).push_back(&i);
      if (i.staged_at >= s.app->last_scaling) scaled.push_back(&i);
    }
    Object stats;
    if (!all.empty()) stats["totalSummary"] = stats_of(all, core.wall());
    if (!latest.empty()) stats["withLatestConfig"] = stats_of(latest, core.wall());
    if (!outdated.empty()) stats["withOutdatedConfig"] = stats_of(outdated, core.wall());
    if (!scaled.empty()) stats["startedAfterLastScaling"] = stats_of(scaled, core.wall());
    o["taskStats"] = std::move(stats);
  }
  return o;
}

}  // namespace gantry::framework_services
