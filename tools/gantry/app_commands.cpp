// gantry app ...: applications through the services API, with progress until a deployment has ended.
#include "tools/gantry/app_json.hpp"
#include "tools/gantry/cli.hpp"
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/gantry/services.hpp"

#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

namespace gantry::cli {
namespace {

std::string force(const DeployOptions& o) { return o.force ? "?force=true" : ""; }
bool good(const HttpAnswer& a) { return a.status >= 200 && a.status < 300; }

// One request whose answer must be a success.
Result<HttpAnswer> ask(const Context& c, const std::string& method, const std::string& path, const std::string& doing,
                       const std::string& body = {}) {
  GANTRY_TRY(auto answer, http(c, method, path, body));
  if (!good(answer)) return http_error(answer, doing);
  return answer;
}

Result<std::string> path_of(const std::string& id) {
  std::string path = app_path(id);
  if (path.empty())
    return fail(Code::invalid_argument, "\"" + id + "\" is not an application's id, for example web or /team/web");
  return "/v2/apps" + path;
}

// Shows how a deployment goes on until it has ended.
class Progress {
 public:
  Progress(Context& c, std::string id, std::string deployment)
      : c_(c), id_(std::move(id)), deployment_(std::move(deployment)) {}

  Status wait() {
    const auto begin = std::chrono::steady_clock::now();
    auto pause = std::chrono::milliseconds(100);
    unsigned failures = 0;
    for (;;) {
      auto running = state();
      if (!running && running.error().code == Code::unavailable && ++failures < 20) {
        running = true;  // the master may be restarting; its deployments are durable
      } else if (!running) {
        clear();
        return std::move(running).error();
      } else {
        failures = 0;
      }
      if (!*running) {
        clear();
        return ok;
      }
      if (c_.interrupted && c_.interrupted->load()) {
        clear();
        *c_.err << "gantry: no longer waiting; the deployment goes on. Look with: gantry app show " << id_ << "\n";
        return fail(Code::cancelled, "");
      }
      const auto waited = std::chrono::steady_clock::now() - begin;
      if (!hinted_ && waited > std::chrono::seconds(20) && waiting_) {
        hinted_ = true;
        clear();
        *c_.err << "  some instances wait for a machine with room; `gantry agents` shows what is free\n";
      }
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 3 / 2, std::chrono::milliseconds(1000));
    }
  }

 private:
  Result<bool> state() {
    GANTRY_TRY(const auto list, ask(c_, "GET", "/v2/deployments", "look at the deployments"));
    GANTRY_TRY(const auto deployment, parse_deployment(list.body, deployment_));
    GANTRY_TRY(const auto path, path_of(id_));
    GANTRY_TRY(const auto answer,
               http(c_, "GET", path + "?embed=app.lastTaskFailure&embed=app.counts&embed=app.deployments"));
    if (good(answer)) {
      GANTRY_TRY(const App app, parse_app(answer.body));
      show(app, deployment);
    }
    return deployment.running;
  }

  void show(const App& app, const DeploymentState& deployment) {
    waiting_ = app.running + app.staged < app.instances;
    if (c_.json) return;
    if (!app.last_failure_task.empty() && app.last_failure_task != failed_) {
      // The failure that stood there before we came is not this deployment's.
      if (seen_) {
        clear();
        *c_.err << "  " << printable(app.last_failure_task) << " ended with " << printable(app.last_failure) << "\n";
      }
      failed_ = app.last_failure_task;
    }
    seen_ = true;
    std::string line = bar(app.good(), app.instances) + " " + std::to_string(app.good()) + " of " +
                       plural(app.instances, "instance") + (app.checked ? " healthy" : " running");
    if (app.checked && app.running > app.healthy) line += ", " + std::to_string(app.running - app.healthy) + " not yet";
    if (app.staged) line += ", " + std::to_string(app.staged) + " starting";
    if (!deployment.step.empty()) line += " (" + deployment.step + ")";
    if (line == last_) return;
    last_ = line;
    if (c_.terminal) {
      *c_.err << "\r\033[K  " << line << std::flush;
    } else {
      *c_.err << "  " << line << "\n";
    }
  }
  void clear() {
    if (c_.terminal && !last_.empty()) *c_.err << "\r\033[K" << std::flush;
    last_.clear();
  }

  Context& c_;
  std::string id_, deployment_, last_, failed_;
  bool seen_ = false, hinted_ = false, waiting_ = false;
};

std::string endpoints(const App& app) {
  std::string out;
  for (const AppTask& t : app.tasks) {
    for (const auto port : t.ports) out += (out.empty() ? "" : " ") + t.host + ":" + std::to_string(port);
  }
  return out;
}

// What stands at the end of a change: the app as it is now.
Status conclude(Context& c, const std::string& id, const std::string& verb, const std::string& deployment,
                bool waited) {
  if (c.json) {
    JsonWriter w;
    w.open('{').field("id", id).field("deployment", deployment).field("finished", waited).close();
    *c.out << w.text();
    return ok;
  }
  if (!waited) {
    *c.out << id << ": deployment " << deployment << " has begun; look with: gantry app show " << id << "\n";
    return ok;
  }
  GANTRY_TRY(const auto path, path_of(id));
  GANTRY_TRY(const auto answer, ask(c, "GET", path + "?embed=app.tasks&embed=app.counts", "show " + id));
  GANTRY_TRY(const App app, parse_app(answer.body));
  if (app.good() < app.instances)
    return fail(Code::aborted, "the deployment has ended, but " + std::to_string(app.good()) + " of " +
                                   plural(app.instances, "instance") + " of " + id +
                                   (app.checked ? " are healthy" : " run") + "; look with: gantry app show " + id +
                                   ", gantry task list --all");
  *c.out << app.id << " " << verb << ": " << app.good() << " of " << plural(app.instances, "instance")
         << (app.checked ? " healthy" : " running") << "\n";
  if (const std::string where = endpoints(app); !where.empty()) *c.out << "  at " << where << "\n";
  return ok;
}

// Waits for the deployment in a write's answer.
Status finish(Context& c, const std::string& id, const std::string& verb, const HttpAnswer& answer,
              const DeployOptions& o) {
  const std::string deployment = deployment_id(answer.body);
  const bool wait = o.wait && !deployment.empty();
  if (wait) GANTRY_CHECK(Progress(c, id, deployment).wait());
  return conclude(c, id, verb, deployment, wait || deployment.empty());
}

Result<std::string> read_input(const std::string& file) {
  std::ostringstream text;
  if (file == "-") {
    text << std::cin.rdbuf();
  } else {
    std::ifstream in(file, std::ios::binary);
    if (!in)
      return fail(Code::invalid_argument, "cannot read " + file + ": there is no such file, or it is not readable");
    text << in.rdbuf();
  }
  return std::move(text).str();
}

Status deploy(Context& c, const std::string& file, const DeployOptions& o) {
  GANTRY_TRY(const std::string body, read_input(file));
  auto apps = parse_app_file(body);
  if (!apps) return std::move(apps).error().because(file == "-" ? "standard input" : file);
  std::string path = "/v2/apps";
  if (!apps->list) {
    GANTRY_TRY(path, path_of(apps->ids[0]));
  }
  GANTRY_TRY(const auto answer,
             ask(c, "PUT", path + force(o),
                 "deploy " + (apps->list ? plural(apps->ids.size(), "application") : apps->ids[0]), body));
  const std::string deployment = deployment_id(answer.body);
  for (std::size_t i = 0; i < apps->ids.size(); ++i) {
    const bool wait = o.wait && !deployment.empty();
    if (wait) GANTRY_CHECK(Progress(c, apps->ids[i], deployment).wait());
    GANTRY_CHECK(conclude(c, apps->ids[i], "is deployed", deployment, wait || deployment.empty()));
  }
  return ok;
}

int done(const Context& c, const Status& s) {
  if (s) return exit_ok;
  if (s.error().code == Code::cancelled && s.error().message.empty()) return exit_interrupted;
  return report(c, s.error());
}

std::string state_of(const App& a) {
  if (!a.deployments.empty()) return "deploying";
  if (a.instances == 0) return "suspended";
  if (a.checked && a.unhealthy) return "unhealthy";
  return a.running < a.instances ? "waiting" : "running";
}

Status list(Context& c) {
  GANTRY_TRY(const auto answer,
             ask(c, "GET", "/v2/apps?embed=apps.counts&embed=apps.deployments", "list the applications"));
  if (c.json) {
    *c.out << answer.body << "\n";
    return ok;
  }
  GANTRY_TRY(const auto apps, parse_apps(answer.body));
  if (apps.empty()) {
    *c.out << "No application is deployed. Deploy one with: gantry app deploy FILE.json\n";
    return ok;
  }
  Table t({"APP", "STATE", "INSTANCES", "HEALTHY", "CPUS", "MEM", "COMMAND"});
  for (const App& a : apps) {
    std::string cmd = a.cmd;
    if (cmd.size() > 40) cmd = cmd.substr(0, 37) + "...";
    t.add({a.id, state_of(a), std::to_string(a.running) + "/" + std::to_string(a.instances),
           a.checked ? std::to_string(a.healthy) : "", amount(a.cpus), mebibytes(a.mem), cmd});
  }
  *c.out << t.text(c.terminal);
  return ok;
}

Status show(Context& c, const std::string& id) {
  GANTRY_TRY(const auto path, path_of(id));
  GANTRY_TRY(const auto answer,
             ask(c, "GET", path + "?embed=app.tasks&embed=app.counts&embed=app.deployments&embed=app.lastTaskFailure",
                 "show " + id));
  if (c.json) {
    *c.out << answer.body << "\n";
    return ok;
  }
  GANTRY_TRY(const App a, parse_app(answer.body));
  Table head({a.id, state_of(a)});
  head.add({"instances", std::to_string(a.running) + " of " + std::to_string(a.instances) + " running" +
                             (a.checked ? ", " + std::to_string(a.healthy) + " healthy" : "") +
                             (a.staged ? ", " + std::to_string(a.staged) + " starting" : "")});
  head.add({"each", amount(a.cpus) + " cpus, " + mebibytes(a.mem) + " memory"});
  if (!a.cmd.empty()) head.add({"command", a.cmd});
  head.add({"version", a.version});
  for (const std::string& d : a.deployments) head.add({"deployment", d});
  if (!a.last_failure.empty()) head.add({"last failure", a.last_failure + " (" + a.last_failure_task + ")"});
  *c.out << head.text(c.terminal);
  if (a.tasks.empty()) return ok;
  Table t({"TASK", "STATE", "HEALTH", "HOST", "PORTS"});
  for (const AppTask& task : a.tasks) {
    std::string ports;
    for (const auto p : task.ports) ports += (ports.empty() ? "" : " ") + std::to_string(p);
    t.add({task.id, task.state, task.healthy < 0 ? "" : task.healthy ? "healthy" : "unhealthy", task.host, ports});
  }
  *c.out << "\n" << t.text(c.terminal);
  return ok;
}

Status scale(Context& c, const std::string& id, unsigned instances, const DeployOptions& o) {
  GANTRY_TRY(const auto path, path_of(id));
  const std::string to = std::to_string(instances);
  // PUT creates what is not there; scaling must not.
  GANTRY_TRY(const auto there, ask(c, "GET", path, "scale " + id));
  GANTRY_TRY(const auto answer, ask(c, "PUT", path + force(o), "scale " + id, "{\"instances\":" + to + "}"));
  return finish(c, id, "is scaled", answer, o);
}

Status restart(Context& c, const std::string& id, const DeployOptions& o) {
  GANTRY_TRY(const auto path, path_of(id));
  GANTRY_TRY(const auto answer, ask(c, "POST", path + "/restart" + force(o), "restart " + id));
  return finish(c, id, "is restarted", answer, o);
}

Status remove(Context& c, const std::string& id, const DeployOptions& o) {
  GANTRY_TRY(const auto path, path_of(id));
  GANTRY_TRY(const auto answer, ask(c, "DELETE", path + force(o), "remove " + id));
  const std::string deployment = deployment_id(answer.body);
  const bool wait = o.wait && !deployment.empty();
  if (wait) GANTRY_CHECK(Progress(c, id, deployment).wait());
  if (c.json || !wait) return conclude(c, id, "is removed", deployment, wait);
  *c.out << id << " is removed\n";
  return ok;
}

}  // namespace

int app_deploy(Context& c, const std::string& file, DeployOptions o) { return done(c, deploy(c, file, o)); }
int app_list(Context& c) { return done(c, list(c)); }
int app_show(Context& c, const std::string& id) { return done(c, show(c, id)); }
int app_scale(Context& c, const std::string& id, unsigned instances, DeployOptions o) {
  return done(c, scale(c, id, instances, o));
}
int app_restart(Context& c, const std::string& id, DeployOptions o) { return done(c, restart(c, id, o)); }
int app_remove(Context& c, const std::string& id, DeployOptions o) { return done(c, remove(c, id, o)); }

}  // namespace gantry::cli
