// Types of an application definition, as a table of shapes: the part of validation Marathon calls "Invalid JSON".
#include "app.hpp"

#include <cmath>

namespace gantry::framework_services {
namespace {

using Check = Json (*)(const Json&, const std::string& path, Details&);

struct Field {
  const char* name;
  Check check;
  bool required = false;
};

Json bad(const std::string& path, Details& errors, const char* what) {
  errors.push_back({path, what});
  return nullptr;
}
Json string_(const Json& v, const std::string& p, Details& e) {
  return v.is_string() ? v : bad(p, e, "error.expected.jsstring");
}
Json bool_(const Json& v, const std::string& p, Details& e) {
  return v.is_bool() ? v : bad(p, e, "error.expected.jsboolean");
}
Json number(const Json& v, const std::string& p, Details& e) {
  return v.is_number() ? v : bad(p, e, "error.expected.jsnumber");
}
Json integer(const Json& v, const std::string& p, Details& e) {
  if (!v.is_number()) return bad(p, e, "error.expected.jsnumber");
  const double d = to_number(v);
  if (std::floor(d) != d || std::abs(d) > 2147483647.0) return bad(p, e, "error.expected.int");
  return static_cast<std::int64_t>(d);
}

Json array(const Json& v, const std::string& p, Details& e, Check element) {
  if (!v.is_array()) return bad(p, e, "error.expected.jsarray");
  Array out;
  std::size_t i = 0;
  for (const auto& x : v.get_array()) out.push_back(element(x, p + "(" + std::to_string(i++) + ")", e));
  return out;
}
template <Check Element>
Json array_of(const Json& v, const std::string& p, Details& e) {
  return array(v, p, e, Element);
}

Json map(const Json& v, const std::string& p, Details& e, Check value) {
  if (!v.is_object()) return bad(p, e, "error.expected.jsobject");
  Object out;
  for (const auto& m : v.get_object()) {
    const std::string key(m.key());
    out[key] = value(m.value(), p + "/" + key, e);
  }
  return out;
}
template <Check Value>
Json map_of(const Json& v, const std::string& p, Details& e) {
  return map(v, p, e, Value);
}

template <std::size_t N>
Json object(const Json& v, const std::string& p, Details& e, const Field (&fields)[N]) {
  if (!v.is_object()) return bad(p.empty() ? "/" : p, e, "error.expected.jsobject");
  Object out;
  for (const Field& f : fields) {
    const Json* m = find(v.get_object(), f.name);
    if (m)
      out[f.name] = f.check(*m, p + "/" + f.name, e);
    else if (f.required)
      e.push_back({p + "/" + f.name, "error.path.missing"});
  }
  return out;
}

Json object_(const Json& v, const std::string& p, Details& e) {
  return v.is_object() ? v : bad(p, e, "error.expected.jsobject");
}
Json strings(const Json& v, const std::string& p, Details& e) { return array_of<string_>(v, p, e); }
Json labels(const Json& v, const std::string& p, Details& e) { return map_of<string_>(v, p, e); }

Json env_value(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"secret", string_, true}};
  if (v.is_object()) return object(v, p, e, f);
  return string_(v, p, e);
}
Json env(const Json& v, const std::string& p, Details& e) { return map_of<env_value>(v, p, e); }
Json secret(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"source", string_, true}};
  return object(v, p, e, f);
}
Json executor_resources(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"cpus", number}, {"mem", number}, {"disk", number}};
  return object(v, p, e, f);
}
Json limit(const Json& v, const std::string& p, Details& e) {
  if (v.is_string() && v.get_string() == "unlimited") return v;
  return v.is_number() ? v : bad(p, e, "error.expected.jsnumber");
}
Json resource_limits(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"cpus", limit}, {"mem", limit}};
  return object(v, p, e, f);
}
Json parameter(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"key", string_, true}, {"value", string_, true}};
  return object(v, p, e, f);
}
Json port_mapping(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"containerPort", integer}, {"hostPort", integer}, {"servicePort", integer},
                                {"protocol", string_},      {"name", string_},     {"labels", labels},
                                {"networkNames", strings}};
  return object(v, p, e, f);
}
Json pull_config(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"secret", string_, true}};
  return object(v, p, e, f);
}
Json docker(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"image", string_, true},
                                {"forcePullImage", bool_},
                                {"privileged", bool_},
                                {"parameters", array_of<parameter>},
                                {"pullConfig", pull_config},
                                {"network", string_},
                                {"portMappings", array_of<port_mapping>}};
  return object(v, p, e, f);
}
Json persistent(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"type", string_},
                                {"size", integer},
                                {"maxSize", integer},
                                {"profileName", string_},
                                {"constraints", array_of<strings>}};
  return object(v, p, e, f);
}
Json external(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {
      {"provider", string_}, {"name", string_}, {"size", integer}, {"options", object_}, {"shared", bool_}};
  return object(v, p, e, f);
}
Json volume(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"containerPath", string_}, {"hostPath", string_},  {"mode", string_},
                                {"persistent", persistent}, {"external", external}, {"secret", string_}};
  return object(v, p, e, f);
}
Json container(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"type", string_},
                                {"docker", docker},
                                {"portMappings", array_of<port_mapping>},
                                {"volumes", array_of<volume>},
                                {"linuxInfo", object_}};
  return object(v, p, e, f);
}
Json network(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"mode", string_}, {"name", string_}, {"labels", labels}};
  return object(v, p, e, f);
}
Json port_definition(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"port", integer}, {"protocol", string_}, {"name", string_}, {"labels", labels}};
  return object(v, p, e, f);
}
Json ip_port(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {
      {"number", integer, true}, {"name", string_}, {"protocol", string_}, {"labels", labels}};
  return object(v, p, e, f);
}
Json ip_discovery(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"ports", array_of<ip_port>}};
  return object(v, p, e, f);
}
Json ip_address(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {
      {"networkName", string_}, {"groups", strings}, {"labels", labels}, {"discovery", ip_discovery}};
  return object(v, p, e, f);
}
Json fetch(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {
      {"uri", string_, true}, {"extract", bool_}, {"executable", bool_}, {"cache", bool_}, {"destPath", string_}};
  return object(v, p, e, f);
}
Json command(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"value", string_, true}};
  return object(v, p, e, f);
}
Json health_check(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"gracePeriodSeconds", integer},
                                {"intervalSeconds", integer},
                                {"timeoutSeconds", integer},
                                {"maxConsecutiveFailures", integer},
                                {"delaySeconds", integer},
                                {"ignoreHttp1xx", bool_},
                                {"ipProtocol", string_},
                                {"path", string_},
                                {"port", integer},
                                {"portIndex", integer},
                                {"protocol", string_},
                                {"command", command}};
  return object(v, p, e, f);
}
Json readiness_check(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"name", string_},
                                {"protocol", string_},
                                {"path", string_},
                                {"portName", string_},
                                {"intervalSeconds", integer},
                                {"timeoutSeconds", integer},
                                {"httpStatusCodesForReady", array_of<integer>},
                                {"preserveLastResponse", bool_}};
  return object(v, p, e, f);
}
Json check_http(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"path", string_}, {"portIndex", integer}, {"port", integer}, {"scheme", string_}};
  return object(v, p, e, f);
}
Json check_tcp(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"portIndex", integer}, {"port", integer}};
  return object(v, p, e, f);
}
Json check(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"http", check_http},         {"tcp", check_tcp},          {"exec", object_},
                                {"intervalSeconds", integer}, {"timeoutSeconds", integer}, {"delaySeconds", integer}};
  return object(v, p, e, f);
}
Json upgrade(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"minimumHealthCapacity", number}, {"maximumOverCapacity", number}};
  return object(v, p, e, f);
}
Json unreachable(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"inactiveAfterSeconds", integer}, {"expungeAfterSeconds", integer}};
  if (v.is_string() && v.get_string() == "disabled") return v;
  return object(v, p, e, f);
}
Json residency(const Json& v, const std::string& p, Details& e) {
  static constexpr Field f[] = {{"relaunchEscalationTimeoutSeconds", integer}, {"taskLostBehavior", string_}};
  return object(v, p, e, f);
}

// In the order Marathon prints them.
constexpr Field kApp[] = {{"id", string_},
                          {"acceptedResourceRoles", strings},
                          {"args", strings},
                          {"backoffFactor", number},
                          {"backoffSeconds", integer},
                          {"check", check},
                          {"cmd", string_},
                          {"constraints", array_of<strings>},
                          {"container", container},
                          {"cpus", number},
                          {"dependencies", strings},
                          {"disk", number},
                          {"env", env},
                          {"executor", string_},
                          {"executorResources", executor_resources},
                          {"fetch", array_of<fetch>},
                          {"gpus", integer},
                          {"healthChecks", array_of<health_check>},
                          {"instances", integer},
                          {"ipAddress", ip_address},
                          {"killSelection", string_},
                          {"labels", labels},
                          {"maxLaunchDelaySeconds", integer},
                          {"mem", number},
                          {"networks", array_of<network>},
                          {"portDefinitions", array_of<port_definition>},
                          {"ports", array_of<integer>},
                          {"readinessChecks", array_of<readiness_check>},
                          {"requirePorts", bool_},
                          {"residency", residency},
                          {"resourceLimits", resource_limits},
                          {"role", string_},
                          {"secrets", map_of<secret>},
                          {"taskKillGracePeriodSeconds", integer},
                          {"tty", bool_},
                          {"unreachableStrategy", unreachable},
                          {"upgradeStrategy", upgrade},
                          {"uris", strings},
                          {"user", string_},
                          {"version", string_}};

}  // namespace

Object shape_app(const Json& raw, const std::string& path, Details& errors) {
  Json shaped = object(raw, path, errors, kApp);
  return shaped.is_object() ? std::move(shaped.get_object()) : Object();
}

}  // namespace gantry::framework_services
