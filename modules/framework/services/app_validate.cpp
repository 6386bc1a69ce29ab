// The rules an application definition must keep (marathon.md A1, A4, A5, A6), and what this release cannot run.
#include "app.hpp"

#include <re2/re2.h>

#include <cmath>
#include <set>

namespace gantry::framework_services {
namespace {

class Rules {
 public:
  Rules(const Object& app, std::string path, Details& errors) : app_(app), path_(std::move(path)), errors_(errors) {}

  void run(const std::string& role) {
    identity();
    command();
    numbers();
    placement(role);
    networks();
    ports();
    container();
    health();
    readiness();
    strategies();
    rest();
  }

 private:
  void bad(const std::string& where, std::string what) { errors_.push_back({path_ + where, std::move(what)}); }
  static std::string at(const char* list, std::size_t i) {
    return "/" + std::string(list) + "(" + std::to_string(i) + ")";
  }
  [[nodiscard]] std::string network_mode() const {
    const Array* n = find_array(app_, "networks");
    return n && !n->empty() ? text_of(n->front().get_object(), "mode") : "host";
  }
  void at_least(const Object& o, const char* key, double min, const std::string& where) {
    const Json* v = find(o, key);
    if (v && to_number(*v) < min)
      bad(where + "/" + key, "got " + print_json(*v) + ", expected " + print_json(Json(min)) + " or more");
  }

  void identity() {
    static const re2::RE2 segment(
        "(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])");
    const std::string id = text_of(app_, "id");
    if (id == "/") return bad("/id", "must not be the root path");
    std::size_t from = 1;
    while (from <= id.size()) {
      const auto to = std::min(id.find('/', from), id.size());
      const std::string part = id.substr(from, to - from);
      if (!re2::RE2::FullMatch(part, segment)) {
        bad("/id",
            "must fully match regular expression "
            "'^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$'");
        return;
      }
      from = to + 1;
    }
    const std::string last = id.substr(id.rfind('/') + 1);
    for (const char* reserved : {"restart", "tasks", "versions"}) {
      if (last == reserved)
        bad("/id", "must not end with any of the following reserved keywords: restart, tasks, versions, . , ..");
    }
  }

  void command() {
    const Json* cmd = find(app_, "cmd");
    const Json* args = find(app_, "args");
    const Object* c = find_object(app_, "container");
    const bool image = c && (find_object(*c, "docker") || text_of(*c, "type") == "MESOS");
    if ((cmd && args) || (!cmd && !args && !image)) {
      bad("/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.");
    }
    if (cmd && to_text(*cmd).size() < 2) bad("/cmd", "must have at least two characters");
  }

  void numbers() {
    for (const char* k :
         {"cpus", "mem", "disk", "gpus", "instances", "maxLaunchDelaySeconds", "taskKillGracePeriodSeconds"})
      at_least(app_, k, 0, "");
    at_least(app_, "backoffSeconds", 0, "");
    at_least(app_, "backoffFactor", 1, "");
    if (const Object* l = find_object(app_, "labels");
        l && text_of(*l, "MARATHON_SINGLE_INSTANCE_APP") == "true" && integer_of(app_, "instances") > 1) {
      bad("/instances", "Single instance app may only have one instance");
    }
    if (const Object* limits = find_object(app_, "resourceLimits")) {
      for (const char* k : {"cpus", "mem"}) {
        const Json* v = find(*limits, k);
        if (v && v->is_number() && to_number(*v) < number_of(app_, k)) {
          bad(std::string("/resourceLimits/") + k,
              std::string("resource limit must be greater than or equal to the requested value (") + k + ")");
        }
      }
    }
  }

  void placement(const std::string& role) {
    if (const Array* list = find_array(app_, "constraints")) {
      for (std::size_t i = 0; i < list->size(); ++i) constraint((*list)[i].get_array(), at("constraints", i));
    }
    if (const Json* r = find(app_, "role"); r && to_text(*r) != role)
      bad("/role", "got " + to_text(*r) + ", expected one of: " + role);
    if (const Array* roles = find_array(app_, "acceptedResourceRoles")) {
      if (roles->empty()) bad("/acceptedResourceRoles", "must not be empty");
      for (const auto& r : *roles) {
        if (to_text(r) != "*" && to_text(r) != role) {
          bad("/acceptedResourceRoles",
              "acceptedResourceRoles can only contain *" + (role == "*" ? std::string() : " and " + role));
          break;
        }
      }
    }
  }

  void constraint(const Array& c, const std::string& where) {
    if (c.size() < 2 || c.size() > 3)
      return bad(where, "Constraint must have 2 or 3 elements: field, operator and optionally a value");
    const std::string op = to_text(c[1]), value = c.size() == 3 ? to_text(c[2]) : "";
    static const std::set<std::string> known = {"UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS"};
    static const re2::RE2 number("[0-9]+"), literal("[a-zA-Z0-9_/.-]*");
    if (to_text(c[0]).empty()) bad(where, "Constraint field name must not be empty");
    if (!known.count(op))
      return bad(
          where,
          "Constraint operator must be one of the following: UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS.");
    if (op == "UNIQUE" && c.size() == 3) bad(where, "Value specified but not used");
    if (op == "LIKE" || op == "UNLIKE") {
      if (c.size() < 3)
        bad(where, "A regular expression value must be provided");
      else if (const re2::RE2 re(value, re2::RE2::Quiet); !re.ok())
        bad(where, "'" + value + "' is not a valid regular expression: " + re.error());
    }
    if (op == "MAX_PER" && (c.size() < 3 || !re2::RE2::FullMatch(value, number)))
      bad(where, "Value was not an integer");
    if (op == "GROUP_BY" && c.size() == 3 &&
        (!re2::RE2::FullMatch(value, number) || value.find_first_not_of('0') == std::string::npos)) {
      bad(where, "Value was not a positive integer");
    }
    if (op == "IS" && (c.size() < 3 || !re2::RE2::FullMatch(value, literal)))
      bad(where, "IS needs a text or scalar value of [a-zA-Z0-9_/.-]*");
  }

  void networks() {
    const Array* list = find_array(app_, "networks");
    if (!list) return;
    std::set<std::string> names, modes;
    for (std::size_t i = 0; i < list->size(); ++i) {
      const Object& n = (*list)[i].get_object();
      const std::string mode = text_of(n, "mode"), name = text_of(n, "name");
      const std::string where = at("networks", i);
      modes.insert(mode);
      if (mode != "host" && mode != "container" && mode != "container/bridge") {
        bad(where + "/mode", "'" + mode + "' is not a valid network mode; use host, container or container/bridge");
      } else if (mode == "host" && (!name.empty() || find(n, "labels"))) {
        bad(where, "a host network has neither name nor labels");
      } else if (mode == "container/bridge" && !name.empty()) {
        bad(where + "/name", "must be empty");
      } else if (mode == "container" && name.empty()) {
        bad(where + "/name", "must be set: there is no default network name");
      }
      if (!name.empty() && !names.insert(name).second) bad("/networks", "network names must be unique");
    }
    if (list->size() > 1 && (modes.size() > 1 || !modes.count("container"))) {
      bad("/networks", "must be one host network, or one container/bridge network, or one or more container networks");
    }
    const Object* c = find_object(app_, "container");
    if (c && text_of(*c, "type") == "DOCKER" && list->size() > 1)
      bad("/networks", "the DOCKER engine supports one network only");
  }

  void ports() {
    if (const Array* list = find_array(app_, "portDefinitions"))
      port_list(*list, "/portDefinitions", "port", "Port names must be unique.", "Ports must be unique.");
    const Object* c = find_object(app_, "container");
    const Array* mappings = c ? find_array(*c, "portMappings") : nullptr;
    if (!mappings) return;
    port_list(*mappings, "/container/portMappings", nullptr, "Port names must be unique.", "");
    for (std::size_t i = 0; i < mappings->size(); ++i) {
      for (const char* k : {"containerPort", "hostPort", "servicePort"})
        port_number((*mappings)[i].get_object(), k, "/container" + at("portMappings", i));
    }
  }
  void port_number(const Object& p, const char* key, const std::string& where) {
    const std::int64_t n = integer_of(p, key);
    if (n < 0 || n > 65535) bad(where + "/" + key, "got " + std::to_string(n) + ", expected between 0 and 65535");
  }
  void port_list(const Array& list, const std::string& where, const char* number, const char* name_error,
                 const char* number_error) {
    std::set<std::string> names;
    std::set<std::int64_t> numbers;
    bool names_bad = false, numbers_bad = false;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Object& p = list[i].get_object();
      const std::string here = where + "(" + std::to_string(i) + ")";
      const std::string name = text_of(p, "name"), protocol = text_of(p, "protocol");
      if (!name.empty()) names_bad = names_bad || !names.insert(name).second;
      if (protocol != "tcp" && protocol != "udp" && protocol != "udp,tcp" && protocol != "tcp,udp") {
        bad(here + "/protocol", "'" + protocol + "' is not a valid protocol; use tcp, udp or \"udp,tcp\"");
      }
      if (number) {
        port_number(p, number, here);
        const auto n = integer_of(p, number);
        if (n) numbers_bad = numbers_bad || !numbers.insert(n).second;
      }
    }
    if (names_bad) bad(where, name_error);
    if (numbers_bad) bad(where, number_error);
  }

  void container() {
    const Object* c = find_object(app_, "container");
    if (!c) return;
    const std::string type = text_of(*c, "type");
    const Object* docker = find_object(*c, "docker");
    if (type != "DOCKER" && type != "MESOS")
      bad("/container/type", "'" + type + "' is not a valid container type; use DOCKER or MESOS");
    if (type == "DOCKER" && !docker) bad("/container/docker", "not defined");
    if (docker && text_of(*docker, "image").empty()) bad("/container/docker/image", "must not be empty");
    if (docker && type == "DOCKER" && find(*docker, "pullConfig"))
      bad("/container/docker/pullConfig", "pullConfig is not supported with the DOCKER engine");
    if (docker && type == "MESOS" && flag_of(*docker, "privileged"))
      bad("/container/docker/privileged", "privileged is supported with the DOCKER engine only");
    if (docker && type == "MESOS" && find_array(*docker, "parameters") && !find_array(*docker, "parameters")->empty()) {
      bad("/container/docker/parameters", "must be empty");
    }
    if (type == "DOCKER" && integer_of(app_, "gpus") > 0)
      bad("/gpus", "GPU resources only work with the Mesos containerizer");
    if (type == "DOCKER" && find(app_, "check")) bad("/check", "checks are not supported with the DOCKER engine");
    const Array* volumes = find_array(*c, "volumes");
    for (std::size_t i = 0; volumes && i < volumes->size(); ++i)
      volume((*volumes)[i].get_object(), "/container" + at("volumes", i));
  }
  void volume(const Object& v, const std::string& where) {
    const std::string mode = text_of(v, "mode", "RW");
    if (mode != "RW" && mode != "RO") bad(where + "/mode", "'" + mode + "' is not a valid mode; use RW or RO");
    if (text_of(v, "containerPath").empty()) bad(where + "/containerPath", "must not be empty");
    const int kinds = (find(v, "hostPath") ? 1 : 0) + (find(v, "persistent") ? 1 : 0) + (find(v, "external") ? 1 : 0) +
                      (find(v, "secret") ? 1 : 0);
    if (kinds != 1) bad(where, "must have exactly one of hostPath, persistent, external and secret");
    if (const Object* p = find_object(v, "persistent")) {
      const std::string type = text_of(*p, "type", "root");
      if (integer_of(*p, "size") <= 0) bad(where + "/persistent/size", "size must be set and greater than 0");
      if (type != "root" && type != "path" && type != "mount")
        bad(where + "/persistent/type", "'" + type + "' is not a valid type; use root, path or mount");
      if (find(*p, "maxSize") && type != "mount")
        bad(where + "/persistent/maxSize", "only mount volumes can have a maxSize");
      if (const Array* cs = find_array(*p, "constraints"); cs && !cs->empty() && type == "root")
        bad(where + "/persistent/constraints", "must be empty");
      if (mode != "RW") bad(where + "/mode", "mode must be RW for persistent volumes");
      const std::string inside = text_of(v, "containerPath");
      if (inside.find('/') != std::string::npos) bad(where + "/containerPath", "must be a single path segment");
    }
    if (const Object* e = find_object(v, "external")) {
      if (text_of(*e, "name").empty()) bad(where + "/external/name", "must not be empty");
      if (text_of(*e, "provider").empty()) bad(where + "/external/provider", "must not be empty");
      if (integer_of(app_, "instances") > 1 && !flag_of(*e, "shared"))
        bad("/instances", "must not be greater than 1 with external volumes");
    }
  }

  [[nodiscard]] std::size_t port_count() const {
    if (const Array* p = find_array(app_, "portDefinitions")) return p->size();
    const Object* c = find_object(app_, "container");
    const Array* m = c ? find_array(*c, "portMappings") : nullptr;
    return m ? m->size() : 0;
  }
  void health() {
    const Array* list = find_array(app_, "healthChecks");
    if (!list) return;
    static const std::set<std::string> known = {"HTTP",       "HTTPS",       "TCP",      "COMMAND",
                                                "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"};
    int mesos = 0;
    for (std::size_t i = 0; i < list->size(); ++i) {
      const Object& h = (*list)[i].get_object();
      const std::string where = at("healthChecks", i), protocol = text_of(h, "protocol");
      if (!known.count(protocol)) {
        bad(where + "/protocol",
            "'" + protocol +
                "' is not a valid protocol; use HTTP, HTTPS, TCP, MESOS_HTTP, MESOS_HTTPS, MESOS_TCP or COMMAND");
        continue;
      }
      for (const char* k : {"gracePeriodSeconds", "maxConsecutiveFailures", "delaySeconds", "timeoutSeconds"})
        at_least(h, k, 0, where);
      at_least(h, "intervalSeconds", protocol == "COMMAND" ? 0 : 1, where);
      if (protocol == "COMMAND") {
        if (!find_object(h, "command")) bad(where + "/command", "must be set for COMMAND health checks");
        continue;
      }
      if (protocol.starts_with("MESOS_")) ++mesos;
      if (find(h, "command")) bad(where + "/command", "is for COMMAND health checks only");
      const Json* port = find(h, "port");
      if (port) {
        port_number(h, "port", where);
      } else if (const auto index = integer_of(h, "portIndex");
                 index < 0 || static_cast<std::size_t>(index) >= port_count()) {
        bad(where, "Health check port indices must address an element of the ports array or container port mappings.");
      }
      if (const std::string ip = text_of(h, "ipProtocol", "IPv4"); ip != "IPv4" && ip != "IPv6") {
        bad(where + "/ipProtocol", "'" + ip + "' is not a valid protocol; use IPv4 or IPv6");
      }
    }
    if (mesos > 1) bad("/healthChecks", "AppDefinition can contain at most one Mesos health check");
  }

  void readiness() {
    const Array* list = find_array(app_, "readinessChecks");
    if (!list) return;
    if (list->size() > 1) bad("/readinessChecks", "may contain at most one element");
    for (std::size_t i = 0; i < list->size(); ++i) {
      const Object& r = (*list)[i].get_object();
      const std::string where = at("readinessChecks", i), protocol = text_of(r, "protocol");
      if (protocol != "HTTP" && protocol != "HTTPS")
        bad(where + "/protocol", "'" + protocol + "' is not a valid protocol; use HTTP or HTTPS");
      if (integer_of(r, "timeoutSeconds") >= integer_of(r, "intervalSeconds")) {
        bad(where + "/timeoutSeconds", "timeoutSeconds must be less than intervalSeconds");
      }
      if (find_array(r, "httpStatusCodesForReady")->empty())
        bad(where + "/httpStatusCodesForReady", "must not be empty");
      bool declared = false;
      const Object* c = find_object(app_, "container");
      const Array* ports = find_array(app_, "portDefinitions");
      if (!ports && c) ports = find_array(*c, "portMappings");
      for (std::size_t k = 0; ports && k < ports->size(); ++k)
        declared = declared || text_of((*ports)[k].get_object(), "name") == text_of(r, "portName");
      if (!declared) bad(where + "/portName", "'" + text_of(r, "portName") + "' is not the name of a declared port");
    }
  }

  void strategies() {
    if (const Object* u = find_object(app_, "upgradeStrategy")) {
      for (const char* k : {"minimumHealthCapacity", "maximumOverCapacity"}) {
        const double v = number_of(*u, k);
        if (!(v >= 0 && v <= 1))
          bad(std::string("/upgradeStrategy/") + k, "got " + print_json(Json(v)) + ", expected between 0.0 and 1.0");
      }
    }
    const Object* u = find_object(app_, "unreachableStrategy");
    if (u) {
      at_least(*u, "inactiveAfterSeconds", 0, "/unreachableStrategy");
      if (integer_of(*u, "inactiveAfterSeconds") > integer_of(*u, "expungeAfterSeconds")) {
        bad("/unreachableStrategy", "inactiveAfterSeconds must be less than or equal to expungeAfterSeconds");
      }
    }
    if (find(app_, "residency")) {
      if (u) bad("/unreachableStrategy", "unreachableStrategy must be disabled for resident tasks");
      const Object* up = find_object(app_, "upgradeStrategy");
      if (up && number_of(*up, "maximumOverCapacity") > 0)
        bad("/upgradeStrategy/maximumOverCapacity",
            "got " + print_json(*find(*up, "maximumOverCapacity")) + ", expected 0.0");
    }
    const std::string selection = text_of(app_, "killSelection");
    if (selection != "YOUNGEST_FIRST" && selection != "OLDEST_FIRST") {
      bad("/killSelection", "'" + selection + "' is not a valid kill selection; use YOUNGEST_FIRST or OLDEST_FIRST");
    }
  }

  void rest() {
    if (const Object* env = find_object(app_, "env")) {
      const Object* secrets = find_object(app_, "secrets");
      for (const auto& m : *env) {
        if (m.key().empty()) bad("/env", "must not contain an empty name");
        if (!m.value().is_object()) continue;
        const std::string name = text_of(m.value().get_object(), "secret");
        if (!secrets || !find(*secrets, name))
          bad("/env/" + std::string(m.key()), "references an undefined secret named '" + name + "'");
      }
    }
    if (const Array* list = find_array(app_, "fetch")) {
      for (std::size_t i = 0; i < list->size(); ++i) {
        const std::string uri = text_of((*list)[i].get_object(), "uri");
        if (uri.empty() || uri.size() > 1024 || uri.find_first_of(" <>\"\n") != std::string::npos)
          bad(at("fetch", i) + "/uri", "URI has invalid syntax.");
      }
    }
    if (const Array* list = find_array(app_, "dependencies")) {
      for (std::size_t i = 0; i < list->size(); ++i) {
        if (to_text((*list)[i]) == text_of(app_, "id"))
          bad(at("dependencies", i), "an application cannot depend on itself");
      }
    }
    if (const Object* c = find_object(app_, "check")) {
      const int kinds = (find(*c, "http") ? 1 : 0) + (find(*c, "tcp") ? 1 : 0) + (find(*c, "exec") ? 1 : 0);
      if (kinds != 1) bad("/check", "must have exactly one of http, tcp and exec");
    }
    if (const std::string e = text_of(app_, "executor"); !e.empty() && e != "//cmd") {
      static const re2::RE2 shape("(//cmd)|(/?[^/]+(/[^/]+)*)");
      if (!re2::RE2::FullMatch(e, shape)) bad("/executor", "{javax.validation.constraints.Pattern.message}");
    }
  }

  const Object& app_;
  std::string path_;
  Details& errors_;
};

}  // namespace

void validate_app(const Object& app, const std::string& path, const std::string& role, Details& errors) {
  Rules(app, path, errors).run(role);
}

void check_features(const Object& app, const std::string& path, Details& errors) {
  const auto later = [&](const std::string& where, const char* what, const char* verb = "arrive") {
    errors.push_back({path + where, std::string(what) + " " + verb + " with the containers release"});
  };
  if (const Object* c = find_object(app, "container")) {
    if (find_object(*c, "docker")) later("/container/docker/image", "container images");
    const Array* volumes = find_array(*c, "volumes");
    for (std::size_t i = 0; volumes && i < volumes->size(); ++i)
      later("/container/volumes(" + std::to_string(i) + ")", "volumes");
  }
  if (const Array* networks = find_array(app, "networks")) {
    for (std::size_t i = 0; i < networks->size(); ++i) {
      if (text_of((*networks)[i].get_object(), "mode") != "host")
        later("/networks(" + std::to_string(i) + ")/mode", "container networks");
    }
  }
  if (find(app, "secrets")) later("/secrets", "secrets");
  if (const std::string e = text_of(app, "executor"); !e.empty() && e != "//cmd")
    later("/executor", "custom executors");
  if (flag_of(app, "tty")) later("/tty", "pseudo-terminals");
}

}  // namespace gantry::framework_services
