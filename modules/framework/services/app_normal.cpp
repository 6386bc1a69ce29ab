// Legacy fields to modern ones, merging, defaults, service ports: from any accepted body to the canonical form.
#include "app.hpp"

#include <cmath>
#include <set>

namespace gantry::framework_services {
namespace {

bool is_archive(std::string_view uri) {
  for (const char* s : {".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip", ".tar"}) {
    if (uri.ends_with(s)) return true;
  }
  return false;
}

// Mind that writing o[key] may move the other members of o, even where the key exists.
void default_to(Object& o, const char* key, Json value) {
  if (!find(o, key)) o[key] = std::move(value);
}
// Empty or null members print as absent (marathon.md B).
void drop_empty(Object& o, const char* key) {
  const Json* v = o.if_contains(key);
  if (v && (v->is_null() || (v->is_array() && v->get_array().empty()) || (v->is_object() && v->get_object().empty())))
    o.erase(key);
}

// One order of keys and one form of numbers for all, so that equal definitions compare and print equally.
void canonicalise(Json& v) {
  if (v.is_object()) {
    std::map<std::string, Json> sorted;
    for (auto& m : v.get_object()) {
      canonicalise(m.value());
      sorted.emplace(std::string(m.key()), std::move(m.value()));
    }
    Object out;
    for (auto& [k, m] : sorted) out[k] = std::move(m);
    v = std::move(out);
  } else if (v.is_array()) {
    for (auto& m : v.get_array()) canonicalise(m);
  } else if (v.is_double()) {
    const double d = v.get_double();
    if (std::floor(d) == d && std::abs(d) < 9e15) v = static_cast<std::int64_t>(d);
  } else if (v.is_uint64() && v.get_uint64() <= INT64_MAX) {
    v = static_cast<std::int64_t>(v.get_uint64());
  }
}

enum class Mode { host, bridge, container };
Mode mode_of(const Object& app) {
  const Array* networks = find_array(app, "networks");
  if (!networks || networks->empty() || !networks->front().is_object()) return Mode::host;
  const std::string m = text_of(networks->front().get_object(), "mode", "container");
  return m == "host" ? Mode::host : m == "container/bridge" ? Mode::bridge : Mode::container;
}

Json port_definition(std::int64_t port) { return Object{{"port", port}, {"protocol", "tcp"}}; }

bool resident(const Object& app, bool* external = nullptr) {
  bool local = false;
  if (const Object* c = find_object(app, "container")) {
    if (const Array* volumes = find_array(*c, "volumes")) {
      for (const auto& v : *volumes) {
        local = local || find_object(v.get_object(), "persistent");
        if (external && find_object(v.get_object(), "external")) *external = true;
      }
    }
  }
  return local;
}

void complete_health(Object& check) {
  default_to(check, "protocol", "HTTP");
  const std::string protocol = text_of(check, "protocol");
  default_to(check, "gracePeriodSeconds", 300);
  default_to(check, "intervalSeconds", 60);
  default_to(check, "timeoutSeconds", 20);
  default_to(check, "maxConsecutiveFailures", 3);
  default_to(check, "delaySeconds", 15);
  if (protocol == "COMMAND") return;
  default_to(check, "ipProtocol", "IPv4");
  if (protocol.find("HTTP") != std::string::npos) {
    default_to(check, "path", "/");
    default_to(check, "ignoreHttp1xx", false);
  }
  if (!find(check, "port") && !find(check, "portIndex")) check["portIndex"] = 0;
}

void complete_container(Object& container, Mode mode) {
  default_to(container, "type", "DOCKER");
  default_to(container, "volumes", Array());
  const bool docker_engine = text_of(container, "type") == "DOCKER";
  if (Json* d = container.if_contains("docker"); d && d->is_object()) {
    default_to(d->get_object(), "forcePullImage", false);
    if (docker_engine) {
      default_to(d->get_object(), "privileged", false);
      default_to(d->get_object(), "parameters", Array());
    }
  }
  for (auto& v : container["volumes"].get_array()) {
    Object& volume = v.get_object();
    if (!find(volume, "secret")) default_to(volume, "mode", "RW");
    if (Json* p = volume.if_contains("persistent"); p && p->is_object()) default_to(p->get_object(), "type", "root");
  }
  if (mode == Mode::host) {
    container.erase("portMappings");
    return;
  }
  default_to(container, "portMappings", Array{Object{{"name", "default"}}});
  for (auto& m : container["portMappings"].get_array()) {
    Object& mapping = m.get_object();
    default_to(mapping, "containerPort", 0);
    if (mode == Mode::bridge) default_to(mapping, "hostPort", 0);
    default_to(mapping, "labels", Object());
    default_to(mapping, "protocol", "tcp");
    default_to(mapping, "servicePort", 0);
  }
}

}  // namespace

void modernise(Object& app, const std::string& path, Details& errors) {
  const auto conflict = [&](const char* field, const std::string& what) { errors.push_back({path + field, what}); };
  if (const Array* uris = find_array(app, "uris")) {
    const Array* fetch = find_array(app, "fetch");
    if (!uris->empty() && fetch && !fetch->empty()) conflict("/uris", "cannot specify both uris and fetch fields");
    if (!uris->empty() || !fetch) {
      Array list;
      for (const auto& u : *uris) {
        list.push_back(
            Object{{"uri", u}, {"extract", is_archive(to_text(u))}, {"executable", false}, {"cache", false}});
      }
      app["fetch"] = std::move(list);
    }
    app.erase("uris");
  }
  if (const Array* ports = find_array(app, "ports")) {
    Array definitions;
    for (const auto& p : *ports) definitions.push_back(port_definition(p.is_int64() ? p.get_int64() : 0));
    if (const Array* given = find_array(app, "portDefinitions")) {
      bool equal = given->size() == definitions.size();
      for (std::size_t i = 0; equal && i < given->size(); ++i) {
        equal = integer_of((*given)[i].get_object(), "port") == integer_of(definitions[i].get_object(), "port");
      }
      if (!equal) conflict("/ports", "cannot specify both ports and port definitions");
    } else {
      app["portDefinitions"] = std::move(definitions);
    }
    app.erase("ports");
  }
  std::string legacy_network;
  if (Json* c = app.if_contains("container"); c && c->is_object()) {
    Object& container = c->get_object();
    if (Json* d = container.if_contains("docker"); d && d->is_object()) {
      Object& docker = d->get_object();
      legacy_network = text_of(docker, "network");
      docker.erase("network");
      if (Json* found = docker.if_contains("portMappings")) {
        Json mappings = std::move(*found);
        docker.erase("portMappings");
        if (!mappings.is_null() && find(container, "portMappings")) {
          conflict("/container/portMappings",
                   "cannot specify both container.portMappings and container.docker.portMappings");
        } else if (!mappings.is_null()) {
          container["portMappings"] = std::move(mappings);  // from here on `docker` may have moved
        }
      }
    }
  }
  std::optional<Object> ip;  // a copy: members move when others are added
  if (const Object* found = find_object(app, "ipAddress")) ip = *found;
  const std::string ip_name = ip ? text_of(*ip, "networkName") : std::string();
  const Object* ip_labels = ip ? find_object(*ip, "labels") : nullptr;
  if ((ip || !legacy_network.empty()) && find(app, "networks")) {
    conflict("/networks", ip ? "cannot specify both ipAddress and networks"
                             : "cannot specify both container.docker.network and networks");
  } else if (legacy_network == "HOST") {
    app["networks"] = Array{Object{{"mode", "host"}}};
  } else if (legacy_network == "BRIDGE") {
    app["networks"] = Array{Object{{"mode", "container/bridge"}}};
  } else if (legacy_network == "USER" || (legacy_network.empty() && ip)) {
    Object network{{"mode", "container"}};
    if (!ip_name.empty()) network["name"] = ip_name;
    if (ip_labels && !ip_labels->empty()) network["labels"] = *ip_labels;
    app["networks"] = Array{std::move(network)};
  } else if (!legacy_network.empty()) {
    conflict("/container/docker/network", "'" + legacy_network + "' is not a valid network; use HOST, BRIDGE or USER");
  }
  if (ip) {
    const Object* discovery = find_object(*ip, "discovery");
    const Array* ports = discovery ? find_array(*discovery, "ports") : nullptr;
    Json* c = app.if_contains("container");
    if (ports && !ports->empty()) {
      Array mappings;
      for (const auto& p : *ports) {
        Object m{{"containerPort", integer_of(p.get_object(), "number")}};
        for (const char* k : {"name", "protocol", "labels"}) {
          if (const Json* v = find(p.get_object(), k)) m[k] = *v;
        }
        mappings.push_back(std::move(m));
      }
      if (!c || !c->is_object())
        app["container"] = Object{{"type", "MESOS"}, {"portMappings", std::move(mappings)}};
      else if (!find(c->get_object(), "portMappings"))
        c->get_object()["portMappings"] = std::move(mappings);
    }
    app.erase("ipAddress");
  }
  if (Json* networks = app.if_contains("networks"); networks && networks->is_array()) {
    for (auto& n : networks->get_array()) default_to(n.get_object(), "mode", "container");
  }
  if (Json* constraints = app.if_contains("constraints"); constraints && constraints->is_array()) {
    for (auto& c : constraints->get_array()) {
      if (!c.is_array() || c.get_array().size() < 2 || !c.get_array()[1].is_string()) continue;
      for (char& ch : c.get_array()[1].get_string()) {
        if (ch >= 'a' && ch <= 'z') ch = static_cast<char>(ch - 'a' + 'A');
      }
    }
  }
}

Object merge_app(const Object& base, Object update) {
  Object out = base;
  // A new command replaces arguments and the reverse: exactly one of them describes a command task.
  if (find(update, "cmd") && !find(update, "args")) out.erase("args");
  if (find(update, "args") && !find(update, "cmd")) out.erase("cmd");
  for (auto& m : update) {
    const std::string key(m.key());
    if (key != "id" && key != "version") out[key] = std::move(m.value());
  }
  return out;
}

void complete(Object& in, const std::string& base_group) {
  const std::string id = canonical_path(text_of(in, "id"), base_group);
  in["id"] = id;
  in.erase("version");
  default_to(in, "networks", Array{Object{{"mode", "host"}}});
  if (in["networks"].get_array().empty()) in["networks"] = Array{Object{{"mode", "host"}}};
  for (auto& n : in["networks"].get_array()) drop_empty(n.get_object(), "labels");
  const Mode mode = mode_of(in);
  if (mode != Mode::host && !find_object(in, "container")) in["container"] = Object{{"type", "MESOS"}};
  if (Json* c = in.if_contains("container"); c && c->is_object()) complete_container(c->get_object(), mode);

  bool external = false;
  const bool local = resident(in, &external);
  default_to(in, "backoffFactor", 1.15);
  default_to(in, "backoffSeconds", 1);
  default_to(in, "cpus", 1);
  default_to(in, "disk", 0);
  default_to(in, "executor", "");
  default_to(in, "gpus", 0);
  default_to(in, "instances", 1);
  default_to(in, "killSelection", "YOUNGEST_FIRST");
  default_to(in, "labels", Object());
  default_to(in, "maxLaunchDelaySeconds", 300);
  default_to(in, "mem", 128);
  default_to(in, "requirePorts", false);
  if (Json* cmd = in.if_contains("cmd"); cmd && cmd->is_string() && cmd->get_string().empty()) in.erase("cmd");
  if (Json* user = in.if_contains("user"); user && user->is_string() && user->get_string().empty()) in.erase("user");

  if (mode == Mode::host) {
    default_to(in, "portDefinitions", Array{Object{{"port", 0}, {"name", "default"}, {"protocol", "tcp"}}});
    for (auto& p : in["portDefinitions"].get_array()) {
      default_to(p.get_object(), "labels", Object());
      default_to(p.get_object(), "port", 0);
      default_to(p.get_object(), "protocol", "tcp");
    }
  } else {
    in.erase("portDefinitions");
    in["requirePorts"] = false;
  }
  if (Json* list = in.if_contains("healthChecks"); list && list->is_array()) {
    for (auto& h : list->get_array()) complete_health(h.get_object());
  }
  if (Json* list = in.if_contains("readinessChecks"); list && list->is_array()) {
    for (auto& r : list->get_array()) {
      Object& check = r.get_object();
      default_to(check, "name", "readinessCheck");
      default_to(check, "protocol", "HTTP");
      default_to(check, "path", "/");
      default_to(check, "portName", "http-api");
      default_to(check, "intervalSeconds", 30);
      default_to(check, "timeoutSeconds", 10);
      default_to(check, "httpStatusCodesForReady", Array{200});
      default_to(check, "preserveLastResponse", false);
    }
  }
  if (Json* check = in.if_contains("check"); check && check->is_object()) {
    default_to(check->get_object(), "intervalSeconds", 60);
    default_to(check->get_object(), "timeoutSeconds", 20);
    default_to(check->get_object(), "delaySeconds", 15);
  }
  if (Json* list = in.if_contains("fetch"); list && list->is_array()) {
    for (auto& f : list->get_array()) {
      default_to(f.get_object(), "cache", false);
      default_to(f.get_object(), "executable", false);
      default_to(f.get_object(), "extract", true);
    }
  }
  if (Json* e = in.if_contains("executorResources"); e && e->is_object()) {
    default_to(e->get_object(), "cpus", 0.1);
    default_to(e->get_object(), "mem", 32);
    default_to(e->get_object(), "disk", 10);
  }
  const bool single = [&] {
    const Object* l = find_object(in, "labels");
    return l && text_of(*l, "MARATHON_SINGLE_INSTANCE_APP") == "true";
  }();
  default_to(in, "upgradeStrategy", Object());
  Object& upgrade = in["upgradeStrategy"].get_object();
  default_to(upgrade, "maximumOverCapacity", single || local || external ? 0 : 1);
  default_to(upgrade, "minimumHealthCapacity", single ? 0.0 : local || external ? 0.5 : 1.0);
  if (single) upgrade = Object{{"maximumOverCapacity", 0}, {"minimumHealthCapacity", 0}};
  if (local)
    in["residency"] = Object{{"relaunchEscalationTimeoutSeconds", 3600}, {"taskLostBehavior", "WAIT_FOREVER"}};
  else
    in.erase("residency");
  default_to(in, "unreachableStrategy", local ? Json("disabled") : Json(Object()));
  if (Json& u = in["unreachableStrategy"]; u.is_object()) {
    default_to(u.get_object(), "inactiveAfterSeconds", 0);
    default_to(u.get_object(), "expungeAfterSeconds", integer_of(u.get_object(), "inactiveAfterSeconds"));
  }
  if (const Array* dependencies = find_array(in, "dependencies")) {
    std::set<std::string> unique;
    for (const auto& d : *dependencies) unique.insert(canonical_path(to_text(d), parent_path(id)));
    Array list;
    for (const auto& d : unique) list.push_back(boost::json::string(d));
    in["dependencies"] = std::move(list);
  }
  for (const char* k :
       {"constraints", "dependencies", "env", "fetch", "healthChecks", "readinessChecks", "args", "secrets"})
    drop_empty(in, k);

  Json whole(std::move(in));
  canonicalise(whole);
  Object out;
  out["id"] = whole.get_object()["id"];
  for (auto& m : whole.get_object()) {
    if (m.key() != "id" && !m.value().is_null()) out[m.key()] = std::move(m.value());
  }
  in = std::move(out);
}

Status assign_service_ports(Object& app, const Object* previous, const ServicePorts& ports) {
  const auto list_of = [](Object& o, const char*& key) -> Array* {
    if (Json* p = o.if_contains("portDefinitions"); p && p->is_array()) {
      key = "port";
      return &p->get_array();
    }
    if (Json* c = o.if_contains("container"); c && c->is_object()) {
      if (Json* p = c->get_object().if_contains("portMappings"); p && p->is_array()) {
        key = "servicePort";
        return &p->get_array();
      }
    }
    return nullptr;
  };
  const char* key = nullptr;
  Array* list = list_of(app, key);
  if (!list) return ok;
  const char* old_key = nullptr;
  Object old = previous ? *previous : Object();
  const Array* before = previous ? list_of(old, old_key) : nullptr;
  std::set<std::int64_t> mine;
  for (const auto& p : *list) {
    if (p.is_object()) mine.insert(integer_of(p.get_object(), key));
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    Object& p = (*list)[i].get_object();
    if (integer_of(p, key) != 0) continue;
    std::int64_t chosen = 0;
    if (before && i < before->size()) {
      const std::int64_t was = integer_of((*before)[i].get_object(), old_key);
      if (was >= ports.first && was <= ports.last && !mine.count(was)) chosen = was;
    }
    for (int n = ports.first; !chosen && n <= ports.last; ++n) {
      if (!mine.count(n) && !ports.used(n)) chosen = n;
    }
    if (!chosen) {
      return fail(Code::resource_exhausted, "No free service port is left in the range " + std::to_string(ports.first) +
                                                "-" + std::to_string(ports.last) +
                                                "; widen local_port_min and local_port_max");
    }
    mine.insert(chosen);
    p[key] = chosen;
  }
  return ok;
}

bool same_config(const Object& a, const Object& b) {
  Object x = a, y = b;
  x.erase("instances");
  y.erase("instances");
  return x == y;
}

Object App::print(bool version_info) const {
  Object out = json;
  out["version"] = format_time(version);
  if (version_info) {
    out["versionInfo"] =
        Object{{"lastScalingAt", format_time(last_scaling)}, {"lastConfigChangeAt", format_time(last_config)}};
  }
  return out;
}

}  // namespace gantry::framework_services
