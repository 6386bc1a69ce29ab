// What is durable: framework id, applications with their versions, instances, deployments. One small record each.
//
//   framework                       the id the master gave
//   app/<path>                      version number of the current definition
//   version/<path>/<milliseconds>   a definition, as the API prints it
//   instance/<instance id>          placement, state and health of one instance
//   deployment/<id>                 a running plan: versions before and after, steps, position
#include <charconv>

#include "core.hpp"

namespace gantry::framework_services {
namespace {

std::int64_t number_in(std::string_view s) {
  std::int64_t v = 0;
  std::from_chars(s.data(), s.data() + s.size(), v);
  return v;
}

Json optional_app(const AppPtr& app) { return app ? Json(app->print()) : Json(nullptr); }

AppPtr app_from(const Json& v) {
  if (!v.is_object()) return nullptr;
  Object o = v.get_object();
  const auto at = [](const Object& from, const char* key) { return parse_time(text_of(from, key)).value_or(0); };
  const Millis version = at(o, "version");
  Millis scaling = version, config = version;
  if (const Object* info = find_object(o, "versionInfo")) {
    scaling = at(*info, "lastScalingAt");
    config = at(*info, "lastConfigChangeAt");
  }
  o.erase("version");
  o.erase("versionInfo");
  App app = decode_app(std::move(o));
  app.version = version;
  app.last_scaling = scaling;
  app.last_config = config;
  return std::make_shared<const App>(std::move(app));
}

Object instance_record(const Instance& i) {
  Array ports, health;
  for (const int p : i.ports) ports.push_back(p);
  for (const auto& h : i.health) {
    Object o{{"failures", h.failures},
             {"first", h.first_success},
             {"last", h.last_success},
             {"lastFailure", h.last_failure},
             {"cause", boost::json::string(h.cause)}};
    if (h.alive) o["alive"] = *h.alive;
    health.push_back(std::move(o));
  }
  Object attributes;
  for (const auto& [k, v] : i.attributes) attributes[k] = boost::json::string(v);
  return {{"id", boost::json::string(i.id)},
          {"app", boost::json::string(i.app->id)},
          {"version", i.app->version},
          {"incarnation", i.incarnation},
          {"doomed", i.doomed},
          {"condition", static_cast<int>(i.condition)},
          {"agent", boost::json::string(i.agent_id)},
          {"host", boost::json::string(i.host)},
          {"ports", std::move(ports)},
          {"attributes", std::move(attributes)},
          {"state", boost::json::string(i.state)},
          {"staged", i.staged_at},
          {"started", i.started_at},
          {"unreachable", i.unreachable_at},
          {"health", std::move(health)},
          {"ready", i.ready}};
}

}  // namespace

void Core::save_app(const App& app) {
  write("version/" + safe_path(app.id) + "/" + std::to_string(app.version), print_json(app.print()));
  write("app/" + safe_path(app.id), std::to_string(app.version));
}

void Core::save_deployment(const Deployment& d) {
  Object original, target;
  for (const auto& [id, app] : d.original) original[id] = optional_app(app);
  for (const auto& [id, app] : d.target) target[id] = optional_app(app);
  Array steps;
  for (const auto& step : d.steps) {
    Array actions;
    for (const auto& a : step)
      actions.push_back(Object{{"kind", static_cast<int>(a.kind)}, {"app", boost::json::string(a.app)}});
    steps.push_back(std::move(actions));
  }
  write("deployment/" + d.id, print_json(Object{{"id", boost::json::string(d.id)},
                                                {"version", d.version},
                                                {"original", std::move(original)},
                                                {"target", std::move(target)},
                                                {"steps", std::move(steps)},
                                                {"current", d.current}}));
}

Out Core::take() {
  for (const auto& id : dirty_instances_) {
    if (const Instance* i = instance(id)) write("instance/" + id, print_json(instance_record(*i)));
  }
  dirty_instances_.clear();
  return std::exchange(out_, {});
}

Status Core::load(const std::string& key, std::string_view value) {
  try {
    return load_record(key, value);
  } catch (const std::exception& e) {
    return fail(Code::data_loss, "record " + key + " does not have the expected form (" + e.what() +
                                     "); restore it from a backup or delete it");
  }
}

Status Core::load_record(const std::string& key, std::string_view value) {
  const auto slash = key.find('/');
  const std::string kind = key.substr(0, slash), rest = slash == std::string::npos ? "" : key.substr(slash + 1);
  if (kind == "framework") {
    framework_id_ = std::string(value);
    return ok;
  }
  if (kind == "app") {
    // Versions come later in key order; the number is resolved in recovered().
    const std::string id = app_of_instance(rest + ".instance-00000000-0000-4000-8000-000000000000");
    App pending;
    pending.id = id;
    pending.version = number_in(value);
    specs_[id].app = std::make_shared<const App>(std::move(pending));
    return ok;
  }
  auto parsed = parse_json(value);
  if (!parsed || !parsed->is_object())
    return fail(Code::data_loss, "record " + key + " is not JSON; restore it from a backup or delete it");
  const Object& o = parsed->get_object();
  if (kind == "version") {
    if (auto app = app_from(*parsed)) {
      last_version_ = std::max(last_version_, app->version);
      specs_[app->id].versions[app->version] = app;
    }
  } else if (kind == "instance") {
    loaded_instances_.emplace_back(text_of(o, "app"), o);
  } else if (kind == "deployment") {
    Deployment d;
    d.id = text_of(o, "id");
    d.version = integer_of(o, "version");
    d.current = static_cast<std::size_t>(integer_of(o, "current"));
    for (const auto* part : {"original", "target"}) {
      if (const Object* apps = find_object(o, part)) {
        for (const auto& m : *apps)
          (part[0] == 'o' ? d.original : d.target)[std::string(m.key())] = app_from(m.value());
      }
    }
    if (const Array* steps = find_array(o, "steps")) {
      for (const auto& step : *steps) {
        auto& actions = d.steps.emplace_back();
        for (const auto& a : step.get_array()) {
          actions.push_back(
              {static_cast<Action::Kind>(integer_of(a.get_object(), "kind")), text_of(a.get_object(), "app")});
        }
      }
    }
    last_version_ = std::max(last_version_, d.version);
    deployments_[d.id] = std::move(d);
  }
  return ok;
}

void Core::recovered() {
  for (auto it = specs_.begin(); it != specs_.end();) {
    Spec& s = it->second;
    if (s.app) {
      const auto v = s.versions.find(s.app->version);
      if (v != s.versions.end())
        s.app = v->second;
      else
        s.app = s.versions.empty() ? nullptr : s.versions.rbegin()->second;
    }
    ++it;
  }
  for (auto& [app, o] : loaded_instances_) {
    Spec& s = specs_[app];
    Instance i;
    i.id = text_of(o, "id");
    const auto v = s.versions.find(integer_of(o, "version"));
    i.app = v != s.versions.end() ? v->second : s.app;
    if (!i.app) continue;
    i.incarnation = static_cast<int>(integer_of(o, "incarnation", 1));
    i.doomed = flag_of(o, "doomed");
    i.condition = static_cast<Condition>(integer_of(o, "condition"));
    i.agent_id = text_of(o, "agent");
    i.host = text_of(o, "host");
    if (const Array* ports = find_array(o, "ports")) {
      for (const auto& p : *ports) i.ports.push_back(static_cast<int>(to_number(p)));
    }
    if (const Object* attributes = find_object(o, "attributes")) {
      for (const auto& m : *attributes) i.attributes[std::string(m.key())] = to_text(m.value());
    }
    i.state = text_of(o, "state");
    i.staged_at = integer_of(o, "staged");
    i.started_at = integer_of(o, "started");
    i.unreachable_at = integer_of(o, "unreachable");
    i.health.resize(i.app->health.size());
    if (const Array* health = find_array(o, "health")) {
      for (std::size_t k = 0; k < health->size() && k < i.health.size(); ++k) {
        const Object& h = (*health)[k].get_object();
        i.health[k] = {{},
                       static_cast<int>(integer_of(h, "failures")),
                       integer_of(h, "first"),
                       integer_of(h, "last"),
                       integer_of(h, "lastFailure"),
                       text_of(h, "cause")};
        if (find(h, "alive")) i.health[k].alive = flag_of(h, "alive");
      }
    }
    i.ready = flag_of(o, "ready");
    if (i.condition == Condition::scheduled) {
      s.waiting.insert(i.id);
      s.queue.since = wall_;
      waiting_.insert(app);
      want_offers();
    } else {
      arm(i.condition == Condition::killing                                             ? seconds(5)
          : i.condition == Condition::unreachable || i.condition == Condition::inactive ? seconds(1)
                                                                                        : seconds(300),
          i.id);
      out_.probe.insert(i.id);
    }
    s.instances[i.id] = std::move(i);
  }
  loaded_instances_.clear();
  for (auto& [id, d] : deployments_) {
    for (const auto& [app, target] : d.target) locks_[app] = id;
  }
  for (auto it = specs_.begin(); it != specs_.end();) {
    if (!it->second.app && it->second.instances.empty() && !locks_.count(it->first)) {
      for (const auto& [v, app] : it->second.versions)
        write("version/" + safe_path(it->first) + "/" + std::to_string(v), {});
      it = specs_.erase(it);
    } else {
      dirty_.insert(it->first);
      ++it;
    }
  }
  // A plan whose remaining work has vanished with its applications is over.
  std::vector<std::string> over;
  for (auto& [id, d] : deployments_) {
    if (d.current >= d.steps.size()) {
      over.push_back(id);
      continue;
    }
    for (const auto& a : d.steps[d.current]) {
      if (!specs_.count(a.app)) d.done.insert(a.app);
      dirty_.insert(a.app);
    }
  }
  for (const auto& id : over) finish_deployment(id, true, {});
}

}  // namespace gantry::framework_services
