#include "tools/gantry/app_json.hpp"

#include <boost/json.hpp>

#include <algorithm>

namespace gantry::cli {

namespace json = boost::json;

namespace {

Result<json::value> parse(std::string_view text, std::string_view what) {
  json::error_code ec;
  json::value v = json::parse(json::string_view(text.data(), text.size()), ec);
  if (ec) return fail(Code::invalid_argument, std::string(what) + " is not valid JSON: " + ec.message());
  return v;
}

const json::value* member(const json::value& v, const char* key) {
  const auto* object = v.if_object();
  return object ? object->if_contains(key) : nullptr;
}
std::string text(const json::value& v, const char* key) {
  const json::value* m = member(v, key);
  const auto* s = m ? m->if_string() : nullptr;
  return s ? std::string(s->data(), s->size()) : std::string();
}
double number(const json::value& v, const char* key) {
  const json::value* m = member(v, key);
  if (!m || !m->is_number()) return 0;
  json::error_code ec;
  const double d = m->to_number<double>(ec);
  return ec ? 0 : d;
}
unsigned count(const json::value& v, const char* key) {
  return static_cast<unsigned>(std::clamp(number(v, key), 0.0, 1e9));
}
template <class Each>
void each(const json::value& v, const char* key, Each fn) {
  const json::value* m = member(v, key);
  if (const auto* array = m ? m->if_array() : nullptr) {
    for (const json::value& item : *array) fn(item);
  }
}

App to_app(const json::value& v) {
  App a;
  a.id = text(v, "id");
  a.cmd = text(v, "cmd");
  if (a.cmd.empty()) {
    each(v, "args", [&](const json::value& arg) {
      if (const auto* s = arg.if_string()) a.cmd += (a.cmd.empty() ? "" : " ") + std::string(s->data(), s->size());
    });
  }
  a.version = text(v, "version");
  a.cpus = number(v, "cpus");
  a.mem = number(v, "mem");
  a.instances = count(v, "instances");
  a.staged = count(v, "tasksStaged");
  a.running = count(v, "tasksRunning");
  a.healthy = count(v, "tasksHealthy");
  a.unhealthy = count(v, "tasksUnhealthy");
  each(v, "healthChecks", [&](const json::value&) { a.checked = true; });
  each(v, "deployments", [&](const json::value& d) { a.deployments.push_back(text(d, "id")); });
  each(v, "tasks", [&](const json::value& t) {
    AppTask task{text(t, "id"), text(t, "host"), text(t, "state"), {}, -1};
    each(t, "ports", [&](const json::value& p) {
      json::error_code ec;
      const auto port = p.is_number() ? p.to_number<std::uint32_t>(ec) : 0;
      if (!ec) task.ports.push_back(port);
    });
    bool alive = true, any = false;
    each(t, "healthCheckResults", [&](const json::value& r) {
      const json::value* m = member(r, "alive");
      any = true;
      alive = alive && m && m->is_bool() && m->get_bool();
    });
    if (any) task.healthy = alive ? 1 : 0;
    a.tasks.push_back(std::move(task));
  });
  if (const json::value* f = member(v, "lastTaskFailure"); f && f->is_object()) {
    a.last_failure_task = text(*f, "taskId");
    a.last_failure = text(*f, "state");
    if (const std::string m = text(*f, "message"); !m.empty()) a.last_failure += ": " + m;
  }
  return a;
}

}  // namespace

Result<App> parse_app(std::string_view body) {
  GANTRY_TRY(const json::value v, parse(body, "the answer"));
  const json::value* app = member(v, "app");
  if (!app) return fail(Code::internal, "the answer holds no app; is that the URL of a services API?");
  return to_app(*app);
}

Result<std::vector<App>> parse_apps(std::string_view body) {
  GANTRY_TRY(const json::value v, parse(body, "the answer"));
  if (!member(v, "apps")) return fail(Code::internal, "the answer holds no apps; is that the URL of a services API?");
  std::vector<App> out;
  each(v, "apps", [&](const json::value& a) { out.push_back(to_app(a)); });
  std::sort(out.begin(), out.end(), [](const App& a, const App& b) { return a.id < b.id; });
  return out;
}

Result<DeploymentState> parse_deployment(std::string_view body, std::string_view id) {
  GANTRY_TRY(const json::value v, parse(body, "the answer"));
  DeploymentState out;
  if (const auto* array = v.if_array()) {
    for (const json::value& d : *array) {
      if (text(d, "id") != id) continue;
      out.running = true;
      if (const unsigned total = count(d, "totalSteps"); total > 1)
        out.step = "step " + std::to_string(count(d, "currentStep")) + " of " + std::to_string(total);
    }
  }
  return out;
}

std::string deployment_id(std::string_view body) {
  const auto v = parse(body, "");
  if (!v) return {};
  if (std::string id = text(*v, "deploymentId"); !id.empty()) return id;
  std::string first;
  each(*v, "deployments", [&](const json::value& d) {
    if (first.empty()) first = text(d, "id");
  });
  return first;
}

std::string error_message(std::string_view body) {
  const auto v = parse(body, "");
  if (!v) return {};
  std::string out = text(*v, "message");
  const json::value* details = member(*v, "details");
  if (details && details->is_string()) out += ": " + text(*v, "details");
  each(*v, "details", [&](const json::value& d) {
    std::string errors;
    each(d, "errors", [&](const json::value& e) {
      if (const auto* s = e.if_string()) errors += (errors.empty() ? "" : ", ") + std::string(s->data(), s->size());
    });
    out += "; " + text(d, "path") + ": " + errors;
  });
  return out;
}

Result<AppFile> parse_app_file(std::string_view body) {
  GANTRY_TRY(const json::value v, parse(body, "it"));
  AppFile out;
  const auto add = [&](const json::value& app) -> Status {
    if (!app.is_object()) return fail(Code::invalid_argument, "expected an application, a JSON object with an \"id\"");
    const std::string id = text(app, "id");
    if (id.empty()) return fail(Code::invalid_argument, "the application has no \"id\"");
    if (member(app, "groups") || member(app, "apps"))
      return fail(Code::unimplemented, "it is a group; deploy its applications one by one, or as a JSON list");
    out.ids.push_back(id);
    return ok;
  };
  if (const auto* array = v.if_array()) {
    out.list = true;
    if (array->empty()) return fail(Code::invalid_argument, "it is an empty list");
    for (const json::value& app : *array) GANTRY_CHECK(add(app));
  } else {
    GANTRY_CHECK(add(v));
  }
  return out;
}

}  // namespace gantry::cli
