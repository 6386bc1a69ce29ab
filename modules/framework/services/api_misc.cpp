// Routing, and everything of the API that is not under /v2/apps.
#include <algorithm>

#include "api.hpp"

namespace gantry::framework_services {
namespace {

int hex(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}
std::string decode(std::string_view s, bool plus) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '%' && i + 2 < s.size() && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0) {
      out += static_cast<char>(hex(s[i + 1]) * 16 + hex(s[i + 2]));
      i += 2;
    } else {
      out += plus && s[i] == '+' ? ' ' : s[i];
    }
  }
  return out;
}

Json text(std::string_view s) { return boost::json::string(boost::json::string_view(s.data(), s.size())); }

// "/v2/queue/a/b/delay" under "/v2/queue" is "/a/b/delay"; empty for the prefix itself.
bool under(const std::string& path, std::string_view prefix, std::string& rest) {
  if (!path.starts_with(prefix)) return false;
  if (path.size() > prefix.size() && path[prefix.size()] != '/') return false;
  rest = path.substr(prefix.size());
  return true;
}

}  // namespace

void parse_target(std::string_view target, ApiRequest& out) {
  const auto q = target.find('?');
  out.path = decode(target.substr(0, q), false);
  while (out.path.size() > 1 && out.path.ends_with('/')) out.path.pop_back();
  if (q == std::string_view::npos) return;
  std::string_view rest = target.substr(q + 1);
  while (!rest.empty()) {
    const auto amp = rest.find('&');
    const auto pair = rest.substr(0, amp);
    const auto eq = pair.find('=');
    if (!pair.empty()) {
      out.query.emplace_back(decode(pair.substr(0, eq), true),
                             eq == std::string_view::npos ? std::string() : decode(pair.substr(eq + 1), true));
    }
    rest = amp == std::string_view::npos ? std::string_view() : rest.substr(amp + 1);
  }
}

ApiReply json_reply(int status, const Json& body) {
  ApiReply r;
  r.status = status;
  r.body = print_json(body);
  return r;
}
ApiReply message_reply(int status, std::string_view message) {
  return json_reply(status, Object{{"message", text(message)}});
}

ApiReply refusal_reply(const Refusal& refusal) {
  Object o{{"message", text(refusal.message)}};
  if (!refusal.details.empty()) {
    // All errors of one path come together.
    Array details;
    for (const auto& d : refusal.details) {
      bool merged = false;
      for (auto& e : details) {
        if (text_of(e.get_object(), "path") != d.path) continue;
        e.get_object()["errors"].get_array().push_back(text(d.error));
        merged = true;
      }
      if (!merged) details.push_back(Object{{"path", text(d.path)}, {"errors", Array{text(d.error)}}});
    }
    o["details"] = std::move(details);
  }
  if (!refusal.deployments.empty()) {
    Array list;
    for (const auto& id : refusal.deployments) list.push_back(Object{{"id", text(id)}});
    o["deployments"] = std::move(list);
  }
  return json_reply(refusal.status, o);
}

ApiReply Api::accepted(const Outcome<Accepted>& outcome, int status) {
  if (const auto* refusal = std::get_if<Refusal>(&outcome)) return refusal_reply(*refusal);
  const auto& a = std::get<Accepted>(outcome);
  ApiReply r = json_reply(status, Object{{"version", format_time(a.version)}, {"deploymentId", text(a.deployment)}});
  r.headers.emplace_back("Marathon-Deployment-Id", a.deployment);
  r.durable = true;
  return r;
}

ApiReply Api::handle(const ApiRequest& r) {
  ApiReply reply = [&]() -> ApiReply {
    const bool get = r.method == "GET" || r.method == "HEAD";
    const bool sends = r.method == "POST" || r.method == "PUT" || r.method == "PATCH";
    std::string rest;
    if (r.path == "/") {
      ApiReply redirect;
      redirect.status = 302;
      redirect.headers.emplace_back("Location", "/ui/");
      return redirect;
    }
    if (r.path == "/ping") {
      const std::string accept = r.header("accept");
      ApiReply pong;
      if (accept.find("json") != std::string::npos) {
        pong.body = "\"pong\"";
      } else if (accept.empty() || accept.find("*/*") != std::string::npos ||
                 accept.find("text/") != std::string::npos) {
        pong.body = "pong";
        pong.type = "text/plain";
      } else {
        pong.status = 204;
      }
      return pong;
    }
    const std::string type = r.header("content-type");
    const bool restart = r.method == "POST" && r.path.ends_with("/restart");
    if (sends && !restart && !r.body.empty() && !type.empty() && type.find("json") == std::string::npos) {
      return message_reply(415, "Unsupported Media Type: send application/json");
    }
    if (under(r.path, "/v2/apps", rest)) return rest.empty() ? apps(r) : app(r, rest);
    if (r.path == "/v2/tasks" && get) return tasks(r);
    if (r.path == "/v2/tasks/delete" && r.method == "POST") return delete_tasks(r);
    if (under(r.path, "/v2/deployments", rest)) return deployments(r, rest.empty() ? rest : rest.substr(1));
    if (under(r.path, "/v2/queue", rest)) return queue(r, rest);
    if (under(r.path, "/v2/groups", rest)) return groups(r, rest);
    if (under(r.path, "/v2/pods", rest)) return pods(r, rest);
    if (r.path == "/v2/info" && get) return info(r);
    if (r.path == "/v2/leader") {
      if (get) return json_reply(200, Object{{"leader", text(info_.leader)}});
      return message_reply(405,
                           "this service has no leader of its own to abdicate; it follows the master that hosts it");
    }
    if (r.path == "/v2/plugins" && get) return json_reply(200, Object{{"plugins", Array()}});
    if (r.path == "/metrics" && get) return metrics(r);
    return message_reply(404, "URI not found: " + r.path);
  }();
  reply.headers.emplace_back("Cache-Control", "no-cache, no-store, must-revalidate");
  reply.headers.emplace_back("X-Marathon-Leader", "http://" + info_.leader);
  return reply;
}

ApiReply Api::tasks(const ApiRequest& r) {
  auto wanted = r.all("status");
  for (auto& s : r.all("status[]")) wanted.push_back(s);
  const bool running = std::find(wanted.begin(), wanted.end(), "running") != wanted.end();
  const bool staging = std::find(wanted.begin(), wanted.end(), "staging") != wanted.end();
  Array list;
  for (const auto& [id, s] : core_.specs()) {
    for (const auto& [iid, i] : s.instances) {
      if (!i.has_task()) continue;
      const bool is_running = i.running();
      const bool is_staging = i.condition == Condition::provisioned || i.condition == Condition::staging ||
                              i.condition == Condition::starting;
      if ((running || staging) && !(running && is_running) && !(staging && is_staging)) continue;
      list.push_back(task_json(i, i.app->role, true));
    }
  }
  return json_reply(200, Object{{"tasks", std::move(list)}});
}

ApiReply Api::delete_tasks(const ApiRequest& r) {
  const bool scale = r.flag("scale", false), wipe = r.flag("wipe", false);
  if (scale && wipe) return message_reply(400, "You cannot use scale and wipe at the same time.");
  auto body = parse_json(r.body);
  if (!body) return json_reply(400, Object{{"message", "Invalid JSON"}, {"details", text(body.error().message)}});
  const Array* ids = body->is_object() ? find_array(body->get_object(), "ids") : nullptr;
  if (!ids) return refusal_reply({422, "Invalid JSON", {{"/ids", "error.path.missing"}}, {}, {}});
  std::vector<std::string> instances;
  Array tasks;
  for (const auto& v : *ids) {
    const auto id = parse_task_id(to_text(v));
    if (!id) return message_reply(400, "Invalid task id '" + to_text(v) + "'");
    if (const Instance* i = core_.instance(id->instance_id); i && i->has_task()) {
      instances.push_back(id->instance_id);
      tasks.push_back(task_json(*i, i->app->role, false));
    }
  }
  auto outcome = core_.kill_tasks(instances, scale, r.flag("force", false));
  if (auto* refusal = std::get_if<Refusal>(&outcome)) return refusal_reply(*refusal);
  auto& plan = std::get<std::optional<Accepted>>(outcome);
  ApiReply reply = plan ? accepted(*plan) : json_reply(200, Object{{"tasks", std::move(tasks)}});
  reply.durable = true;
  return reply;
}

ApiReply Api::deployments(const ApiRequest& r, const std::string& id) {
  if (id.empty()) {
    Array list;
    for (const auto& [did, d] : core_.deployments()) list.push_back(deployment_json(core_, d));
    return json_reply(200, list);
  }
  if (r.method != "DELETE") return message_reply(405, "use DELETE to cancel a deployment");
  const bool force = r.flag("force", false);
  auto outcome = core_.cancel_deployment(id, force);
  if (!force || std::holds_alternative<Refusal>(outcome)) return accepted(outcome);
  ApiReply reply;
  reply.status = 202;
  reply.durable = true;
  return reply;
}

ApiReply Api::queue(const ApiRequest& r, const std::string& rest) {
  if (rest.empty()) {
    const auto embed = r.all("embed");
    const bool last = std::find(embed.begin(), embed.end(), "lastUnusedOffers") != embed.end();
    Array list;
    for (const auto& [id, s] : core_.specs()) {
      if (!s.waiting.empty()) list.push_back(queue_item_json(core_, s, last));
    }
    return json_reply(200, Object{{"queue", std::move(list)}});
  }
  if (r.method == "DELETE" && rest.ends_with("/delay")) {
    const std::string id = rest.substr(0, rest.size() - 6);
    if (!core_.reset_delay(id)) return message_reply(404, "Application " + id + " not found in tasks queue.");
    ApiReply reply;
    reply.status = 204;
    reply.durable = true;
    return reply;
  }
  return message_reply(404, "URI not found: " + r.path);
}

Object Api::group_json(const std::string& id, const ApiRequest& r, bool root) {
  auto embed = r.all("embed");
  const auto wants = [&](std::string_view what) {
    return embed.empty() || std::any_of(embed.begin(), embed.end(), [&](const std::string& e) {
             return e == what || e.starts_with(std::string(what) + ".");
           });
  };
  const auto detail = [&](const char* what) {
    return std::find(embed.begin(), embed.end(), std::string("group.apps.") + what) != embed.end();
  };
  Array apps, groups;
  std::set<std::string> children;
  Millis version = 0;
  for (const auto& [path, s] : core_.specs()) {
    if (!s.app || !within(path, id) || path == id) continue;
    version = std::max(version, s.app->version);
    const std::size_t from = id == "/" ? 1 : id.size() + 1;
    const auto slash = path.find('/', from);
    if (slash != std::string::npos)
      children.insert(path.substr(0, slash));
    else if (wants("group.apps")) {
      apps.push_back(app_json(core_, s,
                              {detail("tasks"), detail("lastTaskFailure"), detail("counts"), detail("deployments"),
                               detail("readiness"), detail("taskStats")}));
    }
  }
  if (wants("group.groups")) {
    for (const auto& c : children) groups.push_back(group_json(c, r, false));
  }
  Object o{{"id", text(id)}};
  if (root && apps.empty() && children.empty() && embed.empty()) version = 0;
  o["dependencies"] = Array();
  o["version"] = format_time(version);
  if (wants("group.apps")) o["apps"] = std::move(apps);
  if (wants("group.groups")) o["groups"] = std::move(groups);
  if (wants("group.pods")) o["pods"] = Array();
  return o;
}

ApiReply Api::groups(const ApiRequest& r, const std::string& path) {
  if (r.method != "GET" && r.method != "HEAD")
    return message_reply(405, "groups are read-only in this release; change their applications through /v2/apps");
  std::string id = path.empty() ? "/" : path;
  if (id.ends_with("/apps") && core_.specs().count(id) == 0) {
    id.resize(id.size() - 5);
    if (id.empty()) id = "/";
    Array list;
    for (const auto& [app, s] : core_.specs()) {
      if (s.app && within(app, id)) list.push_back(app_json(core_, s, {}));
    }
    return json_reply(200, Object{{"apps", std::move(list)}});
  }
  bool exists = id == "/";
  for (const auto& [app, s] : core_.specs()) exists = exists || (s.app && app != id && within(app, id));
  if (!exists) return message_reply(404, "Group '" + id + "' does not exist");
  return json_reply(200, group_json(id, r, true));
}

ApiReply Api::pods(const ApiRequest& r, const std::string& rest) {
  if (r.method == "HEAD") return {};
  if (rest.empty()) {
    if (r.method == "GET") return json_reply(200, Array());
    return refusal_reply({422, "Object is not valid", {{"/", "pods arrive with the services release"}}, {}, {}});
  }
  if (rest == "/::status") return json_reply(200, Array());
  return message_reply(404, "Pod '" + rest.substr(0, rest.find("::")) + "' does not exist");
}

ApiReply Api::info(const ApiRequest&) {
  Object o{{"name", text(info_.name)},
           {"version", text(info_.version)},
           {"buildref", "unknown"},
           {"elected", info_.elected},
           {"leader", text(info_.leader)},
           {"frameworkId", text(core_.framework_id())},
           {"marathon_config", info_.config},
           {"zookeeper_config", Object()},
           {"http_config", Object{{"http_port", info_.http_port}, {"https_port", 8443}}}};
  return json_reply(200, o);
}

ApiReply Api::metrics(const ApiRequest&) {
  std::int64_t apps = 0, instances = 0, running = 0, staged = 0, healthy = 0, unhealthy = 0, waiting = 0;
  for (const auto& [id, s] : core_.specs()) {
    apps += s.app != nullptr;
    waiting += static_cast<std::int64_t>(s.waiting.size());
    for (const auto& [iid, i] : s.instances) {
      ++instances;
      running += i.running();
      staged += i.has_task() && !i.running();
      healthy += i.healthy() == true;
      unhealthy += i.healthy() == false;
    }
  }
  Object gauges;
  const auto gauge = [&](const char* name, std::int64_t v) { gauges[name] = Object{{"value", v}}; };
  gauge("marathon.apps.active.gauge", apps);
  gauge("marathon.deployments.active.gauge", static_cast<std::int64_t>(core_.deployments().size()));
  gauge("marathon.instances.gauge", instances);
  gauge("marathon.instances.running.gauge", running);
  gauge("marathon.instances.staged.gauge", staged);
  gauge("marathon.instances.healthy.gauge", healthy);
  gauge("marathon.instances.unhealthy.gauge", unhealthy);
  gauge("marathon.instances.queued.gauge", waiting);
  return json_reply(200, Object{{"version", "5.0.0"},
                                {"counters", Object()},
                                {"gauges", std::move(gauges)},
                                {"histograms", Object()},
                                {"meters", Object()},
                                {"timers", Object()}});
}

}  // namespace gantry::framework_services
