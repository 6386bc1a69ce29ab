// Requests that change applications: create, update, delete, restart, roll back, kill.
#include <algorithm>

#include "core.hpp"

namespace gantry::framework_services {
namespace {

Refusal invalid_json(Details d) { return {422, "Invalid JSON", std::move(d), {}, {}}; }
Refusal invalid_object(Details d) { return {422, "Object is not valid", std::move(d), {}, {}}; }
Refusal no_app(const std::string& id) { return {404, "App '" + id + "' does not exist", {}, {}, {}}; }

// Paths on the way round a dependency cycle through `from`, empty if there is none.
bool reaches(const std::map<std::string, std::vector<std::string>>& graph, const std::string& from,
             const std::string& target, std::set<std::string>& seen) {
  const auto it = graph.find(from);
  if (it == graph.end()) return false;
  for (const auto& d : it->second) {
    for (const auto& [id, unused] : graph) {
      if (!within(id, d)) continue;
      if (id == target) return true;
      if (seen.insert(id).second && reaches(graph, id, target, seen)) return true;
    }
  }
  return false;
}

}  // namespace

Millis Core::next_version() { return last_version_ = std::max(wall_, last_version_ + 1); }

const Spec* Core::spec(const std::string& id) const {
  const auto it = specs_.find(id);
  return it != specs_.end() && it->second.app ? &it->second : nullptr;
}

const Instance* Core::instance(const std::string& id) const {
  const auto s = specs_.find(app_of_instance(id));
  if (s == specs_.end()) return nullptr;
  const auto i = s->second.instances.find(id);
  return i == s->second.instances.end() ? nullptr : &i->second;
}

ServicePorts Core::service_ports(const std::string& except) const {
  auto used = std::make_shared<std::set<int>>();
  for (const auto& [id, s] : specs_) {
    if (!s.app || id == except) continue;
    for (const auto& p : s.app->ports) used->insert(p.service_port);
  }
  return {options_.port_first, options_.port_last, [used](int port) { return used->count(port) > 0; }};
}

// Completes, validates and decodes a shaped and modernised definition.
Outcome<App> Core::build(Object definition, const App* previous, const std::string& path) {
  Details errors;
  complete(definition, "/");
  definition["role"] = boost::json::string(text_of(definition, "role", options_.role));
  validate_app(definition, path, options_.role, errors);
  if (errors.empty()) check_features(definition, path, errors);
  if (!errors.empty()) return invalid_object(std::move(errors));
  const std::string id = text_of(definition, "id");
  if (const auto s = assign_service_ports(definition, previous ? &previous->json : nullptr, service_ports(id)); !s) {
    return Refusal{422, s.error().message, {}, {}, {}};
  }
  return decode_app(std::move(definition));
}

Outcome<std::pair<Accepted, AppPtr>> Core::create_app(const Json& raw, bool force) {
  Details errors;
  Object shaped = shape_app(raw, "", errors);
  if (errors.empty() && !find(shaped, "id")) errors.push_back({"/id", "error.path.missing"});
  if (!errors.empty()) return invalid_json(std::move(errors));
  modernise(shaped, "", errors);
  if (!errors.empty()) return invalid_object(std::move(errors));
  shaped.erase("version");
  auto built = build(std::move(shaped), nullptr, "");
  if (auto* r = std::get_if<Refusal>(&built)) return std::move(*r);
  App app = std::move(std::get<App>(built));
  if (spec(app.id)) return Refusal{409, "An app with id [" + app.id + "] already exists.", {}, {}, {}};
  int apps = 0;
  for (const auto& [id, s] : specs_) {
    apps += s.app != nullptr;
    if (s.app && (within(id, app.id + "/x") || (id.size() > app.id.size() && within(id, app.id)))) {
      return Refusal{409, "An app or group with id [" + app.id + "] already exists.", {}, {}, {}};
    }
  }
  if (options_.max_apps && apps >= options_.max_apps) {
    return Refusal{403, "Max number (" + std::to_string(options_.max_apps) + ") of applications reached", {}, {}, {}};
  }
  app.version = app.last_scaling = app.last_config = next_version();
  const auto ptr = std::make_shared<const App>(std::move(app));
  auto accepted = deploy({{ptr->id, ptr}}, {}, force, ptr->version);
  if (auto* r = std::get_if<Refusal>(&accepted)) return std::move(*r);
  return std::pair{std::get<Accepted>(accepted), ptr};
}

Outcome<Accepted> Core::update_app(const std::string& id, const Json& raw, bool force, bool partial, bool must_exist,
                                   bool* created) {
  if (!raw.is_object()) return invalid_json({{"/", "error.expected.jsobject"}});
  const Spec* s = spec(id);
  if (created) *created = !s;
  if (!s && must_exist) return no_app(id);
  // {version} alone, perhaps with id: back to that definition.
  if (const Json* v = find(raw.get_object(), "version"); v && s) {
    bool alone = true;
    for (const auto& m : raw.get_object())
      alone = alone && (m.value().is_null() || m.key() == "version" || m.key() == "id" || m.key() == "versionInfo");
    const auto at = v->is_string() ? parse_time(to_text(*v)) : std::nullopt;
    if (!alone) {
      return invalid_object({{"/version", "The 'version' field may only be combined with the 'id' field."}});
    }
    if (!at) return invalid_json({{"/version", "error.expected.date.isoformat"}});
    const auto old = s->versions.find(*at);
    if (old == s->versions.end())
      return Refusal{404, "App '" + id + "' does not exist in version " + to_text(*v), {}, {}, {}};
    App app = *old->second;
    const AppPtr before = s->app;
    app.version = next_version();
    const bool config = !same_config(app.json, before->json);
    app.last_config = config ? app.version : before->last_config;
    app.last_scaling = config || app.instances != before->instances ? app.version : before->last_scaling;
    return deploy({{id, std::make_shared<const App>(std::move(app))}}, {}, force, last_version_);
  }
  Array one;
  Object body = raw.get_object();
  body["id"] = boost::json::string(id);
  one.push_back(std::move(body));
  auto r = update_apps(one, force, partial, false);
  if (auto* refusal = std::get_if<Refusal>(&r)) {
    for (auto& d : refusal->details) {
      if (d.path.starts_with("(0)")) d.path.erase(0, 3);
    }
  }
  return r;
}

Outcome<Accepted> Core::update_apps(const Json& raw, bool force, bool partial, bool must_exist) {
  if (!raw.is_array()) return invalid_json({{"/", "error.expected.jsarray"}});
  Details errors;
  Changes changes;
  std::vector<std::pair<AppPtr, App>> built;  // before, after
  std::size_t index = 0;
  for (const auto& element : raw.get_array()) {
    const std::string path = "(" + std::to_string(index++) + ")";
    Object shaped = shape_app(element, path, errors);
    if (errors.empty() && !find(shaped, "id")) errors.push_back({path + "/id", "error.path.missing"});
    if (!errors.empty()) return invalid_json(std::move(errors));
    const std::string id = canonical_path(text_of(shaped, "id"));
    const Spec* s = spec(id);
    if (!s && must_exist) return no_app(id);
    if (find(shaped, "version")) {
      bool alone = true;
      for (const auto& m : element.get_object())
        alone = alone && (m.value().is_null() || m.key() == "version" || m.key() == "id" || m.key() == "versionInfo");
      // A whole application read back from us carries its version; replacing with it is no rollback.
      if (partial && !alone)
        return invalid_object({{path + "/version", "The 'version' field may only be combined with the 'id' field."}});
      shaped.erase("version");
    }
    modernise(shaped, path, errors);
    if (!errors.empty()) return invalid_object(std::move(errors));
    Object whole = s && partial ? merge_app(s->app->json, std::move(shaped)) : std::move(shaped);
    whole["id"] = boost::json::string(id);
    auto app = build(std::move(whole), s ? s->app.get() : nullptr, path);
    if (auto* r = std::get_if<Refusal>(&app)) return std::move(*r);
    built.emplace_back(s ? s->app : nullptr, std::move(std::get<App>(app)));
  }
  const Millis version = next_version();
  for (auto& [before, app] : built) {
    const bool config = !before || !same_config(before->json, app.json);
    const bool scale = !before || before->instances != app.instances;
    if (!config && !scale) {
      changes[app.id] = before;
      continue;
    }
    app.version = version;
    app.last_config = config ? version : before->last_config;
    app.last_scaling = version;
    auto ptr = std::make_shared<const App>(std::move(app));
    changes[ptr->id] = ptr;
  }
  return deploy(std::move(changes), {}, force, version);
}

Outcome<Accepted> Core::delete_app(const std::string& id, bool force) {
  if (!spec(id)) return no_app(id);
  return deploy({{id, nullptr}}, {}, force, next_version());
}

Outcome<Accepted> Core::restart_app(const std::string& id, bool force) {
  const Spec* s = spec(id);
  if (!s) return no_app(id);
  App app = *s->app;
  app.version = app.last_config = next_version();
  return deploy({{id, std::make_shared<const App>(std::move(app))}}, {id}, force, last_version_);
}

std::vector<std::string> Core::deployments_of(const std::string& app) const {
  const auto it = locks_.find(app);
  return it == locks_.end() ? std::vector<std::string>() : std::vector<std::string>{it->second};
}

std::optional<Refusal> Core::conflict(const Changes& changes, bool force) {
  std::set<std::string> holders;
  for (const auto& [id, app] : changes) {
    if (const auto it = locks_.find(id); it != locks_.end()) holders.insert(it->second);
  }
  if (!holders.empty() && !force) {
    return Refusal{409,
                   "App is locked by one or more deployments. Override with the option '?force=true'. View details at "
                   "'/v2/deployments/<DEPLOYMENT_ID>'.",
                   {},
                   {holders.begin(), holders.end()},
                   {}};
  }
  if (static_cast<int>(deployments_.size() - holders.size()) >= options_.max_deployments) {
    return Refusal{
        403,
        "Max number (" + std::to_string(options_.max_deployments) +
            ") of running deployments is achieved. Wait for existing deployments to complete or cancel one using "
            "force=true parameter.",
        {},
        {},
        {}};
  }
  std::map<std::string, std::vector<std::string>> graph;
  for (const auto& [id, s] : specs_) {
    if (s.app) graph[id] = s.app->dependencies;
  }
  for (const auto& [id, app] : changes) {
    if (app)
      graph[id] = app->dependencies;
    else
      graph.erase(id);
  }
  for (const auto& [id, app] : changes) {
    std::set<std::string> seen;
    if (app && !app->dependencies.empty() && reaches(graph, id, id, seen)) {
      return invalid_object({{"/dependencies", "Dependency graph has cyclic dependencies through " + id}});
    }
  }
  for (const auto& holder : holders) finish_deployment(holder, false, "cancelled by a forced update");
  return {};
}

// Makes `changes` the wanted state and starts the plan that gets there.
Outcome<Accepted> Core::deploy(Changes changes, const std::set<std::string>& restarts, bool force, Millis version) {
  if (auto refusal = conflict(changes, force)) return std::move(*refusal);
  Deployment d;
  d.id = make_uuid(random_);
  d.version = version;
  std::vector<Action> stops, starts;
  std::map<std::string, int> layer;
  std::map<std::string, Action> work;
  for (const auto& [id, app] : changes) {
    Spec& s = specs_[id];
    const AppPtr before = s.app;
    d.original[id] = before;
    d.target[id] = app;
    if (!app) {
      stops.push_back({Action::Kind::stop, id});
    } else if (!before) {
      starts.push_back({Action::Kind::start, id});
      work[id] = {Action::Kind::scale, id};
    } else {
      const bool stale =
          std::any_of(s.instances.begin(), s.instances.end(),
                      [config = app->last_config](const auto& i) { return i.second.app->last_config != config; });
      const bool config = restarts.count(id) || stale || before->last_config != app->last_config;
      if (config && app->instances > 0)
        work[id] = {Action::Kind::restart, id};
      else if (config || before->instances != app->instances || static_cast<int>(s.instances.size()) != app->instances)
        work[id] = {Action::Kind::scale, id};
    }
    s.app = app;
    if (app) {
      const bool fresh_config = !before || before->last_config != app->last_config;
      if (fresh_config) {
        s.delay = 0;
        s.delayed_until = {};
        s.delay_pending = false;
      }
      if (!before || before->version != app->version) save_app(*app);
      if (app != before) s.versions[app->version] = app;
      while (s.versions.size() > 50) {
        write("version/" + safe_path(id) + "/" + std::to_string(s.versions.begin()->first), {});
        s.versions.erase(s.versions.begin());
      }
    } else {
      write("app/" + safe_path(id), {});
    }
  }
  // Layers: an application comes after those of the plan it depends on.
  std::function<int(const std::string&)> depth = [&](const std::string& id) {
    if (const auto it = layer.find(id); it != layer.end()) return it->second;
    int n = 0;
    layer[id] = 0;
    for (const auto& dep : specs_.at(id).app->dependencies) {
      for (const auto& [other, action] : work) {
        if (other != id && within(other, dep)) n = std::max(n, depth(other) + 1);
      }
    }
    return layer[id] = n;
  };
  std::map<int, std::vector<Action>> layers;
  for (const auto& [id, action] : work) layers[depth(id)].push_back(action);
  if (!stops.empty()) d.steps.push_back(stops);
  if (!starts.empty()) d.steps.push_back(starts);
  for (auto& [n, actions] : layers) d.steps.push_back(actions);

  for (const auto& [id, app] : changes) {
    locks_[id] = d.id;
    dirty_.insert(id);
  }
  const Accepted accepted{version, d.id};
  auto& stored = deployments_[d.id] = std::move(d);
  announce("group_change_success", {{"groupId", "/"}, {"version", format_time(version)}});
  enter_step(stored);
  return accepted;
}

Outcome<Accepted> Core::cancel_deployment(const std::string& id, bool force) {
  const auto it = deployments_.find(id);
  if (it == deployments_.end()) return Refusal{404, "DeploymentPlan " + id + " does not exist", {}, {}, {}};
  const Deployment old = it->second;
  if (force) {
    finish_deployment(id, false, "cancelled");
    return Accepted{old.version, ""};
  }
  // The reverse plan. Definitions return with their old configuration stamp, so instances of it that still run are
  // right again and stay; only what the cancelled plan had started goes.
  Changes changes;
  const Millis version = next_version();
  for (const auto& [app_id, before] : old.original) {
    if (!before) {
      if (spec(app_id)) changes[app_id] = nullptr;
      continue;
    }
    App app = *before;
    app.version = version;
    changes[app_id] = std::make_shared<const App>(std::move(app));
  }
  return deploy(std::move(changes), {}, true, version);
}

Outcome<std::optional<Accepted>> Core::kill_tasks(const std::vector<std::string>& instances, bool scale, bool force) {
  Changes changes;
  std::map<std::string, std::vector<std::string>> by_app;
  for (const auto& id : instances) {
    if (instance(id)) by_app[app_of_instance(id)].push_back(id);
  }
  if (!scale) {
    for (const auto& [app, ids] : by_app) {
      Spec& s = specs_.at(app);
      for (const auto& id : ids) {
        if (Instance& i = s.instances.at(id); i.has_task()) kill(s, i, false);
      }
    }
    return std::optional<Accepted>();
  }
  const Millis version = next_version();
  for (const auto& [id, ids] : by_app) {
    const Spec* s = spec(id);
    if (!s) continue;
    App app = *s->app;
    app.instances = std::max(0, app.instances - static_cast<int>(ids.size()));
    app.json["instances"] = app.instances;
    app.version = app.last_scaling = version;
    changes[id] = std::make_shared<const App>(std::move(app));
  }
  auto r = deploy(changes, {}, force, version);
  if (auto* refusal = std::get_if<Refusal>(&r)) return std::move(*refusal);
  for (const auto& [id, ids] : by_app) {
    Spec& s = specs_.at(id);
    for (const auto& i : ids) kill(s, s.instances.at(i), true);
  }
  return std::optional<Accepted>(std::get<Accepted>(r));
}

bool Core::reset_delay(const std::string& id) {
  const auto it = specs_.find(id);
  if (it == specs_.end() || it->second.waiting.empty()) return false;
  it->second.delay = 0;
  it->second.delayed_until = {};
  it->second.delay_pending = false;
  want_offers();
  return true;
}

}  // namespace gantry::framework_services
