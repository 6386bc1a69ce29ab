// From the canonical JSON of a valid application to the struct the scheduler works with.
#include "app.hpp"

#include <limits>

namespace gantry::framework_services {
namespace {

std::vector<std::string> strings(const Object& o, const char* key) {
  std::vector<std::string> out;
  if (const Array* a = find_array(o, key)) {
    for (const auto& v : *a) out.push_back(to_text(v));
  }
  return out;
}
std::vector<std::pair<std::string, std::string>> pairs(const Object& o, const char* key) {
  std::vector<std::pair<std::string, std::string>> out;
  if (const Object* m = find_object(o, key)) {
    for (const auto& e : *m) {
      if (e.value().is_string()) out.emplace_back(std::string(e.key()), to_text(e.value()));
    }
  }
  return out;
}
std::optional<double> limit(const Object& o, const char* key) {
  const Json* v = find(o, key);
  if (!v) return {};
  return v->is_string() ? std::numeric_limits<double>::infinity() : to_number(*v);
}
HealthCheckSpec health(const Object& o) {
  HealthCheckSpec h;
  std::string protocol = text_of(o, "protocol");
  h.by_agent = protocol == "COMMAND" || protocol.starts_with("MESOS_");
  if (protocol.starts_with("MESOS_")) protocol = protocol.substr(6);
  h.kind = protocol == "COMMAND" ? HealthCheckSpec::Kind::command
           : protocol == "TCP"   ? HealthCheckSpec::Kind::tcp
                                 : HealthCheckSpec::Kind::http;
  h.https = protocol == "HTTPS";
  h.ignore_1xx = flag_of(o, "ignoreHttp1xx");
  h.path = text_of(o, "path", "/");
  if (h.path.empty() || h.path[0] != '/') h.path.insert(0, "/");
  if (const Object* c = find_object(o, "command")) h.command = text_of(*c, "value");
  if (find(o, "port")) h.port = static_cast<int>(integer_of(o, "port"));
  h.port_index = static_cast<int>(integer_of(o, "portIndex"));
  h.max_failures = static_cast<int>(integer_of(o, "maxConsecutiveFailures", 3));
  h.grace = number_of(o, "gracePeriodSeconds", 300);
  h.interval = number_of(o, "intervalSeconds", 60);
  h.timeout = number_of(o, "timeoutSeconds", 20);
  h.delay = number_of(o, "delaySeconds", 15);
  return h;
}

}  // namespace

App decode_app(Object o) {
  App a;
  a.id = text_of(o, "id");
  a.cmd = text_of(o, "cmd");
  a.user = text_of(o, "user");
  a.role = text_of(o, "role");
  a.executor = text_of(o, "executor");
  a.args = strings(o, "args");
  a.accepted_roles = strings(o, "acceptedResourceRoles");
  a.dependencies = strings(o, "dependencies");
  a.env = pairs(o, "env");
  a.labels = pairs(o, "labels");
  a.instances = static_cast<int>(integer_of(o, "instances", 1));
  a.cpus = number_of(o, "cpus");
  a.mem = number_of(o, "mem");
  a.disk = number_of(o, "disk");
  a.gpus = number_of(o, "gpus");
  if (const Object* l = find_object(o, "resourceLimits")) {
    a.limit_cpus = limit(*l, "cpus");
    a.limit_mem = limit(*l, "mem");
  }
  if (const Array* list = find_array(o, "constraints")) {
    for (const auto& c : *list) {
      const Array& e = c.get_array();
      a.constraints.push_back({to_text(e[0]), to_text(e[1]), e.size() > 2 ? to_text(e[2]) : ""});
    }
  }
  a.require_ports = flag_of(o, "requirePorts");
  const Array* networks = find_array(o, "networks");
  a.host_network = !networks || networks->empty() || text_of(networks->front().get_object(), "mode") == "host";
  if (const Array* list = find_array(o, "portDefinitions")) {
    for (const auto& p : *list) {
      PortSpec s;
      s.service_port = s.container_port = static_cast<int>(integer_of(p.get_object(), "port"));
      s.host_port = a.require_ports ? s.service_port : 0;
      s.name = text_of(p.get_object(), "name");
      s.protocol = text_of(p.get_object(), "protocol", "tcp");
      s.labels = pairs(p.get_object(), "labels");
      a.ports.push_back(std::move(s));
    }
  }
  if (const Object* c = find_object(o, "container")) {
    if (const Array* list = find_array(*c, "portMappings")) {
      for (const auto& p : *list) {
        const Object& m = p.get_object();
        PortSpec s;
        s.container_port = static_cast<int>(integer_of(m, "containerPort"));
        if (find(m, "hostPort")) s.host_port = static_cast<int>(integer_of(m, "hostPort"));
        s.service_port = static_cast<int>(integer_of(m, "servicePort"));
        s.name = text_of(m, "name");
        s.protocol = text_of(m, "protocol", "tcp");
        s.labels = pairs(m, "labels");
        a.ports.push_back(std::move(s));
      }
    }
  }
  if (const Array* list = find_array(o, "fetch")) {
    for (const auto& f : *list) {
      const Object& e = f.get_object();
      a.fetch.push_back({text_of(e, "uri"), text_of(e, "destPath"), flag_of(e, "extract", true),
                         flag_of(e, "executable"), flag_of(e, "cache")});
    }
  }
  if (const Array* list = find_array(o, "healthChecks")) {
    for (const auto& h : *list) a.health.push_back(health(h.get_object()));
  }
  if (const Array* list = find_array(o, "readinessChecks")) {
    for (const auto& r : *list) {
      const Object& e = r.get_object();
      ReadinessSpec s;
      s.name = text_of(e, "name");
      s.path = text_of(e, "path", "/");
      s.port_name = text_of(e, "portName");
      s.https = text_of(e, "protocol") == "HTTPS";
      s.preserve_last_response = flag_of(e, "preserveLastResponse");
      s.interval = number_of(e, "intervalSeconds", 30);
      s.timeout = number_of(e, "timeoutSeconds", 10);
      if (const Array* codes = find_array(e, "httpStatusCodesForReady")) {
        for (const auto& c : *codes) s.ready_codes.push_back(static_cast<int>(to_number(c)));
      }
      a.readiness.push_back(std::move(s));
    }
  }
  a.backoff = number_of(o, "backoffSeconds", 1);
  a.backoff_factor = number_of(o, "backoffFactor", 1.15);
  a.max_delay = number_of(o, "maxLaunchDelaySeconds", 300);
  if (find(o, "taskKillGracePeriodSeconds")) a.kill_grace = number_of(o, "taskKillGracePeriodSeconds");
  if (const Object* u = find_object(o, "upgradeStrategy")) {
    a.min_health = number_of(*u, "minimumHealthCapacity", 1);
    a.max_over = number_of(*u, "maximumOverCapacity", 1);
  }
  if (const Object* u = find_object(o, "unreachableStrategy")) {
    a.inactive_after = number_of(*u, "inactiveAfterSeconds");
    a.expunge_after = number_of(*u, "expungeAfterSeconds");
  } else if (find(o, "unreachableStrategy")) {
    a.inactive_after.reset();
    a.expunge_after.reset();
  }
  a.oldest_first = text_of(o, "killSelection") == "OLDEST_FIRST";
  a.json = std::move(o);
  return a;
}

}  // namespace gantry::framework_services
