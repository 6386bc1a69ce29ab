// Everything under /v2/apps.
#include <algorithm>

#include "api.hpp"

namespace gantry::framework_services {
namespace {

Json text(std::string_view s) { return boost::json::string(boost::json::string_view(s.data(), s.size())); }

std::string lower(std::string s) {
  for (char& c : s) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return s;
}

ApiReply malformed(const Error& e) {
  return json_reply(400, Object{{"message", "Invalid JSON"}, {"details", text(e.message)}});
}
ApiReply no_app(const std::string& id) { return message_reply(404, "App '" + id + "' does not exist"); }

Embed embed_of(const ApiRequest& r, Embed e) {
  for (std::string name : r.all("embed")) {
    for (const char* prefix : {"group.apps.", "apps.", "app."}) {
      if (name.starts_with(prefix)) {
        name.erase(0, std::string_view(prefix).size());
        break;
      }
    }
    if (name == "tasks") e.tasks = true;
    if (name == "lastTaskFailure") e.failure = true;
    if (name == "failures") e.tasks = e.failure = true;
    if (name == "readiness") e.readiness = true;
    if (name == "taskStats") e.stats = true;
  }
  return e;
}

}  // namespace

void Api::post_event(const ApiRequest& r, const Json& app) {
  core_.announce(
      "api_post_event",
      {{"clientIp", text(r.peer.substr(0, r.peer.rfind(':')))}, {"uri", text(r.path)}, {"appDefinition", app}});
}

ApiReply Api::apps(const ApiRequest& r) {
  if (r.method == "GET" || r.method == "HEAD") {
    const std::string cmd = lower(r.one("cmd")), id_part = lower(r.one("id"));
    Selector selector;
    for (const auto& l : r.all("label")) {
      if (l.empty()) continue;
      auto parsed = parse_selector(l);
      if (!parsed) return message_reply(422, parsed.error().message);
      for (auto& t : parsed->terms) selector.terms.push_back(std::move(t));
    }
    const Embed embed = embed_of(r, {});
    Array list;
    for (const auto& [id, s] : core_.specs()) {
      if (!s.app || !selector.matches(*s.app)) continue;
      if (!cmd.empty() && lower(s.app->cmd).find(cmd) == std::string::npos) continue;
      if (!id_part.empty() && id.find(id_part) == std::string::npos) continue;
      list.push_back(app_json(core_, s, embed));
    }
    return json_reply(200, Object{{"apps", std::move(list)}});
  }
  if (r.method == "DELETE") return message_reply(405, "name the application to delete: /v2/apps/{id}");
  auto body = parse_json(r.body);
  if (!body) return malformed(body.error());
  const bool force = r.flag("force", false);
  if (r.method == "POST") {
    auto outcome = core_.create_app(*body, force);
    if (auto* refusal = std::get_if<Refusal>(&outcome)) return refusal_reply(*refusal);
    const auto& [accepted, app] = std::get<std::pair<Accepted, AppPtr>>(outcome);
    Object o = app->print(false);
    for (const char* k : {"tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy"}) o[k] = 0;
    o["deployments"] = Array{Object{{"id", text(accepted.deployment)}}};
    post_event(r, app->print(false));
    ApiReply reply = json_reply(201, o);
    reply.headers.emplace_back("Location", "/v2/apps" + app->id);
    reply.headers.emplace_back("Marathon-Deployment-Id", accepted.deployment);
    reply.durable = true;
    return reply;
  }
  if (r.method == "PUT" || r.method == "PATCH") {
    auto outcome =
        core_.update_apps(*body, force, r.method == "PATCH" || r.flag("partialUpdate", true), r.method == "PATCH");
    if (std::holds_alternative<Accepted>(outcome)) post_event(r, *body);
    return accepted(outcome);
  }
  return message_reply(405, "method not allowed");
}

ApiReply Api::app(const ApiRequest& r, const std::string& path) {
  const bool get = r.method == "GET" || r.method == "HEAD";
  const auto last = path.rfind('/');
  const std::string tail = path.substr(last + 1), head = last == 0 ? "/" : path.substr(0, last);
  if (tail == "restart" && r.method == "POST") {
    const std::string id = canonical_path(head);
    auto outcome = core_.restart_app(id, r.flag("force", false));
    if (std::holds_alternative<Accepted>(outcome)) post_event(r, core_.spec(id)->app->print(false));
    return accepted(outcome);
  }
  if (tail == "tasks") return app_tasks(r, head);
  if (tail == "versions" && get) return versions(r, head, {});
  if (!core_.spec(path)) {
    const auto cut = head.rfind('/');
    const std::string word = head.substr(cut + 1), owner = cut == 0 ? "/" : head.substr(0, cut);
    if (word == "versions" && get) return versions(r, owner, tail);
    if (word == "tasks" && r.method == "DELETE") return app_task(r, owner, tail);
  }
  if (tail == "*" && get) {
    const Embed embed = embed_of(r, {});
    Array list;
    for (const auto& [id, s] : core_.specs()) {
      if (s.app && within(id, head)) list.push_back(app_json(core_, s, embed));
    }
    return json_reply(200, Object{{"*", std::move(list)}});
  }
  const std::string id = canonical_path(path);
  if (get) {
    const Spec* s = core_.spec(id);
    if (!s) return no_app(id);
    Embed embed = embed_of(r, {});
    embed.tasks = embed.failure = true;
    return json_reply(200, Object{{"app", app_json(core_, *s, embed)}});
  }
  if (r.method == "DELETE") return accepted(core_.delete_app(id, r.flag("force", true)));
  if (r.method != "PUT" && r.method != "PATCH") return message_reply(405, "method not allowed");
  auto body = parse_json(r.body);
  if (!body) return malformed(body.error());
  bool created = false;
  auto outcome = core_.update_app(id, *body, r.flag("force", false),
                                  r.method == "PATCH" || r.flag("partialUpdate", true), r.method == "PATCH", &created);
  if (std::holds_alternative<Accepted>(outcome)) {
    if (const Spec* s = core_.spec(id)) post_event(r, s->app->print(false));
  }
  ApiReply reply = accepted(outcome, created ? 201 : 200);
  if (created && reply.status == 201) reply.headers.emplace_back("Location", "/v2/apps" + id);
  return reply;
}

ApiReply Api::versions(const ApiRequest&, const std::string& id, const std::string& version) {
  const Spec* s = core_.spec(id);
  if (!s) return no_app(id);
  if (version.empty()) {
    Array list;
    for (auto it = s->versions.rbegin(); it != s->versions.rend(); ++it) list.push_back(text(format_time(it->first)));
    return json_reply(200, Object{{"versions", std::move(list)}});
  }
  const auto at = parse_time(version);
  if (!at)
    return message_reply(422, "Invalid timestamp provided '" + version + "'. Expecting ISO-8601 datetime string.");
  const auto it = s->versions.find(*at);
  if (it == s->versions.end()) return message_reply(404, "App '" + id + "' does not exist in version " + version);
  return json_reply(200, it->second->print());
}

ApiReply Api::app_tasks(const ApiRequest& r, const std::string& id) {
  const bool group = id.ends_with("/*");
  const std::string path = group ? (id.size() == 2 ? "/" : id.substr(0, id.size() - 2)) : id;
  if (!group && !core_.spec(path)) return no_app(path);
  std::vector<const Instance*> chosen;
  for (const auto& [app, s] : core_.specs()) {
    if (group ? !within(app, path) : app != path) continue;
    for (const auto& [iid, i] : s.instances) {
      if (i.has_task()) chosen.push_back(&i);
    }
  }
  Array list;
  if (r.method == "GET" || r.method == "HEAD") {
    for (const auto* i : chosen) list.push_back(task_json(*i, i->app->role, true));
    return json_reply(200, Object{{"tasks", std::move(list)}});
  }
  if (r.method != "DELETE") return message_reply(405, "method not allowed");
  const bool scale = r.flag("scale", false), wipe = r.flag("wipe", false);
  if (scale && wipe) return message_reply(400, "You cannot use scale and wipe at the same time.");
  const std::string host = r.one("host");
  std::vector<std::string> ids;
  for (const auto* i : chosen) {
    if (!host.empty() && host != "*" && i->host != host) continue;
    ids.push_back(i->id);
    list.push_back(task_json(*i, i->app->role, false));
  }
  auto outcome = core_.kill_tasks(ids, scale, r.flag("force", false));
  if (auto* refusal = std::get_if<Refusal>(&outcome)) return refusal_reply(*refusal);
  auto& plan = std::get<std::optional<Accepted>>(outcome);
  ApiReply reply = plan ? accepted(*plan) : json_reply(200, Object{{"tasks", std::move(list)}});
  reply.durable = true;
  return reply;
}

ApiReply Api::app_task(const ApiRequest& r, const std::string& id, const std::string& task) {
  const bool scale = r.flag("scale", false), wipe = r.flag("wipe", false);
  if (scale && wipe) return message_reply(400, "You cannot use scale and wipe at the same time.");
  if (!core_.spec(id)) return no_app(id);
  const auto parsed = parse_task_id(task);
  const Instance* i = parsed ? core_.instance(parsed->instance_id) : nullptr;
  if (!i || !i->has_task() || i->app->id != id) return message_reply(404, "Task '" + task + "' does not exist");
  Object json = task_json(*i, i->app->role, false);
  auto outcome = core_.kill_tasks({i->id}, scale, r.flag("force", false));
  if (auto* refusal = std::get_if<Refusal>(&outcome)) return refusal_reply(*refusal);
  auto& plan = std::get<std::optional<Accepted>>(outcome);
  ApiReply reply = plan ? accepted(*plan) : json_reply(200, Object{{"task", std::move(json)}});
  reply.durable = true;
  return reply;
}

}  // namespace gantry::framework_services
