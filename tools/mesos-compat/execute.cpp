#include "execute.hpp"

#include "translate.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gantry::compat {
namespace {

constexpr std::size_t kMaxRecord = 256u << 20;

json::string_view view(std::string_view s) { return {s.data(), s.size()}; }
std::string_view text(const json::string& s) { return {s.data(), s.size()}; }

const json::value* find(const json::object& o, std::string_view key) {
  const auto it = o.find(view(key));
  return it == o.end() || it->value().is_null() ? nullptr : &it->value();
}
const json::object* object_of(const json::object& o, std::string_view key) {
  const json::value* v = find(o, key);
  return v && v->is_object() ? &v->get_object() : nullptr;
}
const json::array* list_of(const json::object& o, std::string_view key) {
  const json::value* v = find(o, key);
  return v && v->is_array() ? &v->get_array() : nullptr;
}
std::string string_of(const json::object& o, std::string_view key) {
  const json::value* v = find(o, key);
  return v && v->is_string() ? std::string(text(v->get_string())) : std::string();
}
// {"value": "x"}
std::string id_of(const json::object& o, std::string_view key) {
  const json::object* v = object_of(o, key);
  return v ? string_of(*v, "value") : std::string();
}
double number_of(const json::value* v) {
  if (!v) return 0;
  if (v->is_double()) return v->get_double();
  if (v->is_int64()) return static_cast<double>(v->get_int64());
  if (v->is_uint64()) return static_cast<double>(v->get_uint64());
  return 0;
}
json::object value_of(const std::string& s) { return {{"value", s}}; }

Result<json::value> parse(const std::string& content, const std::string& flag) {
  json::error_code ec;
  json::value v = json::parse(content, ec);
  if (ec) return fail(Code::invalid_argument, "Failed to load flag '" + flag + "': Failed to load value '" + content + "': " + ec.message());
  return v;
}

std::vector<std::string> words(std::string_view s) {
  std::vector<std::string> out;
  while (!s.empty()) {
    const auto end = std::min(s.find(','), s.size());
    if (end > 0) out.emplace_back(s.substr(0, end));
    s.remove_prefix(std::min(end + 1, s.size()));
  }
  return out;
}

std::int64_t thousandths(const json::object& r) {
  const json::object* scalar = object_of(r, "scalar");
  return scalar ? std::llround(number_of(find(*scalar, "value")) * 1000) : 0;
}

// The role something is reserved for; "*": for none.
std::string role_of(const json::object& r) {
  if (const json::array* list = list_of(r, "reservations"); list && !list->empty() && list->back().is_object())
    return string_of(list->back().get_object(), "role");
  const std::string role = string_of(r, "role");
  return role.empty() ? "*" : role;
}

struct Span {
  std::uint64_t begin, end;
};
std::vector<Span> spans(const json::object& r) {
  std::vector<Span> out;
  const json::object* ranges = object_of(r, "ranges");
  if (const json::array* list = ranges ? list_of(*ranges, "range") : nullptr)
    for (const auto& one : *list)
      if (one.is_object())
        out.push_back({static_cast<std::uint64_t>(number_of(find(one.get_object(), "begin"))), static_cast<std::uint64_t>(number_of(find(one.get_object(), "end")))});
  return out;
}

// The ContainerInfo the flags ask for; empty: none.
Result<json::object> container_of(const Given& g) {
  const std::string& kind = g.text("containerizer");
  const auto networks = words(g.text("networks"));
  json::object out;
  if (kind == "mesos") {
    if (!g.has("docker_image") && !g.has("appc_image") && networks.empty() && !g.has("volumes") && !g.has("effective_capabilities") &&
        !g.has("bounding_capabilities") && !g.has("rlimits") && !g.flag("tty"))
      return out;
    out["type"] = "MESOS";
    if (g.has("docker_image"))
      out["mesos"] = {{"image", {{"type", "DOCKER"}, {"docker", {{"name", g.text("docker_image")}}}}}};
    else if (g.has("appc_image"))
      out["mesos"] = {{"image",
                       {{"type", "APPC"},
                        {"appc",
                         {{"name", g.text("appc_image")},
                          {"labels", {{"labels", {{{"key", "os"}, {"value", "linux"}}, {{"key", "arch"}, {"value", "amd64"}}}}}}}}}}};
    json::array infos;
    for (const auto& n : networks) infos.push_back(json::object{{"name", n}});
    if (!infos.empty()) out["network_infos"] = std::move(infos);
    if (g.has("volumes")) {
      GANTRY_TRY(json::value v, parse(g.text("volumes"), "volumes"));
      out["volumes"] = std::move(v);
    }
    json::object linux_info;
    for (const char* f : {"effective_capabilities", "bounding_capabilities"})
      if (g.has(f)) {
        GANTRY_TRY(json::value v, parse(g.text(f), f));
        linux_info[f] = std::move(v);
      }
    if (!linux_info.empty()) out["linux_info"] = std::move(linux_info);
    if (g.has("rlimits")) {
      GANTRY_TRY(json::value v, parse(g.text("rlimits"), "rlimits"));
      out["rlimit_info"] = std::move(v);
    }
    if (g.flag("tty")) out["tty_info"] = json::object();
    return out;
  }
  if (kind == "docker") {
    if (!g.has("docker_image")) return fail(Code::invalid_argument, "'Docker' containerizer requires docker image name");
    if (networks.size() > 1) return fail(Code::invalid_argument, "'Docker' containerizer can only support a single network");
    if (g.flag("tty")) return fail(Code::invalid_argument, "'Docker' containerizer does not allow attaching a TTY");
    out["type"] = "DOCKER";
    json::object docker{{"image", g.text("docker_image")}};
    if (!networks.empty()) {
      docker["network"] = "USER";
      out["network_infos"] = json::array{json::object{{"name", networks.front()}}};
    }
    out["docker"] = std::move(docker);
    return out;
  }
  return fail(Code::invalid_argument, "Unsupported containerizer: " + kind);
}

}  // namespace

// ---- what the flags ask for

Result<json::array> resources_of(std::string_view source) {
  json::array out;
  if (source.find_first_not_of(" \t\n") != std::string_view::npos && source[source.find_first_not_of(" \t\n")] == '[') {
    GANTRY_TRY(const json::value v, parse(std::string(source), "resources"));
    if (!v.is_array()) return fail(Code::invalid_argument, "not a list of resources");
    return v.get_array();
  }
  const auto bad = [&](std::string_view one) { return fail(Code::invalid_argument, "Bad value for resources, missing or extra ':' in " + std::string(one)); };
  while (!source.empty()) {
    const auto end = std::min(source.find(';'), source.size());
    std::string_view one = source.substr(0, end);
    source.remove_prefix(std::min(end + 1, source.size()));
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    if (one.empty()) continue;
    const auto colon = one.find(':');
    if (colon == std::string_view::npos || colon == 0) return bad(one);
    std::string_view name = one.substr(0, colon), value = one.substr(colon + 1);
    if (const auto open = name.find('('); open != std::string_view::npos) name = name.substr(0, open);  // the role is the framework's
    json::object r{{"name", view(name)}};
    if (value.starts_with('[') && value.ends_with(']')) {
      json::array list;
      for (const std::string& span : words(value.substr(1, value.size() - 2))) {
        std::uint64_t from = 0, to = 0;
        const char* const last = span.data() + span.size();
        const char* at = span.data() + span.find_first_not_of(' ');
        auto [mid, ec] = std::from_chars(at, last, from);
        if (ec != std::errc() || mid == last || *mid != '-') return bad(one);
        const auto [stop, ec2] = std::from_chars(mid + 1, last, to);
        if (ec2 != std::errc() || stop != last || to < from) return bad(one);
        list.push_back(json::object{{"begin", from}, {"end", to}});
      }
      r["type"] = "RANGES";
      r["ranges"] = json::object{{"range", std::move(list)}};
    } else if (value.starts_with('{') && value.ends_with('}')) {
      json::array items;
      for (const std::string& item : words(value.substr(1, value.size() - 2))) items.push_back(json::string(view(item)));
      r["type"] = "SET";
      r["set"] = json::object{{"item", std::move(items)}};
    } else {
      double n = 0;
      const auto [stop, ec] = std::from_chars(value.data(), value.data() + value.size(), n);
      if (ec != std::errc() || stop != value.data() + value.size() || !std::isfinite(n) || n < 0) return bad(one);
      r["type"] = "SCALAR";
      r["scalar"] = json::object{{"value", n}};
    }
    out.push_back(std::move(r));
  }
  return out;
}

Result<Job> job_of(const Given& g, const std::string& user, Mistake& mistake) {
  const auto refuse = [&](std::string message, bool usage = false) {
    mistake = {message, usage};
    return fail(Code::invalid_argument, std::move(message));
  };
  if (g.has("task") && g.has("task_group"))
    return refuse("Either task or task group should be set but not both. Provide either '--task' OR '--task_group'", true);
  const bool own = !g.has("task") && !g.has("task_group");
  if (own) {
    if (!g.has("name")) return refuse("Missing required option --name", true);
    if (g.flag("shell") && !g.has("command")) return refuse("Missing required option --command", true);
  } else {
    for (const char* f : {"name", "command", "env", "appc_image", "docker_image", "volumes"})
      if (g.has(f))
        return refuse("'--name, --command, --env, --appc_image, --docker_image, --volumes' can only be set when both '--task' and '--task_group' are not set", true);
    if (g.has("task") && g.has("networks")) return refuse("'--networks' can only be set when '--task' is not set", true);
  }
  const std::string& type = g.text("content_type");
  if (type != "json" && type != "protobuf" && type != "application/json" && type != "application/x-protobuf")
    return refuse("Invalid content type '" + type + "'");
  if (g.has("appc_image") && g.has("docker_image")) return refuse("Flags '--docker-image' and '--appc-image' are both set");
  if (g.has("package")) return refuse("--package: there is no HDFS client here; name the file with a URI in --task");

  Job job;
  job.role = g.text("role");
  job.principal = g.text("principal");
  job.secret = g.text("secret");
  if (g.has("kill_after")) job.kill_after = g.nanoseconds("kill_after");
  json::array capabilities;
  const auto capability = [&](std::string_view name) { capabilities.push_back(json::object{{"type", view(name)}}); };
  capability("RESERVATION_REFINEMENT");
  capability("TASK_KILLING_STATE");
  capability("REVOCABLE_RESOURCES");
  if (g.flag("partition_aware")) capability("PARTITION_AWARE");
  static const std::set<std::string, std::less<>> known{"REVOCABLE_RESOURCES", "TASK_KILLING_STATE", "GPU_RESOURCES", "SHARED_RESOURCES",
                                                        "PARTITION_AWARE", "MULTI_ROLE", "RESERVATION_REFINEMENT", "REGION_AWARE"};
  for (const std::string& c : words(g.text("framework_capabilities"))) {
    if (known.find(c) == known.end()) return refuse("Flags '--framework_capabilities' specifies an unknown capability '" + c + "'");
    if (c != "GPU_RESOURCES") return refuse("Flags '--framework_capabilities' specifies an unsupported capability '" + c + "'");
    capability(c);
  }
  job.framework = {{"user", user}, {"name", "mesos-execute instance"}, {"role", job.role}, {"checkpoint", g.flag("checkpoint")}, {"capabilities", std::move(capabilities)}};
  if (!job.principal.empty()) job.framework["principal"] = job.principal;

  if (g.has("task") || g.has("task_group")) {
    const std::string flag = g.has("task") ? "task" : "task_group";
    auto v = parse(g.text(flag), flag);
    if (!v) return refuse(v.error().message, true);
    if (!v->is_object()) return refuse("Failed to load flag '" + flag + "': a JSON object is expected", true);
    (g.has("task") ? job.task : job.group) = std::move(v->get_object());
    if (!job.task.empty() && id_of(job.task, "task_id").empty()) return refuse("Failed to load flag 'task': Missing required fields: task_id", true);
    if (job.task.empty() && !list_of(job.group, "tasks")) return refuse("Failed to load flag 'task_group': Missing required fields: tasks", true);
    job.networks = words(g.text("networks"));
    return job;
  }
  auto resources = resources_of(g.text("resources"));
  if (!resources) return refuse("Failed to parse resources '" + g.text("resources") + "': " + resources.error().message);
  json::object command;
  command["shell"] = g.flag("shell");
  if (g.has("command")) command["value"] = g.text("command");
  if (g.has("env")) {
    auto env = parse(g.text("env"), "env");
    if (!env) return refuse(env.error().message, true);
    if (!env->is_object()) return refuse("Failed to load flag 'env': a JSON object of names and values is expected", true);
    json::array variables;
    for (const auto& [name, value] : env->get_object()) {
      if (!value.is_string()) return refuse("Failed to load flag 'env': the value of '" + std::string(name) + "' is no string", true);
      variables.push_back(json::object{{"name", name}, {"value", value}});
    }
    command["environment"] = json::object{{"variables", std::move(variables)}};
  }
  job.task = {{"name", g.text("name")}, {"task_id", value_of(g.text("name"))}, {"resources", std::move(*resources)}, {"command", std::move(command)}};
  auto container = container_of(g);
  if (!container) return refuse(container.error().message);
  if (!container->empty()) job.task["container"] = std::move(*container);
  return job;
}

// ---- offers

std::optional<json::array> take(json::array& offered, const json::array& wanted, const std::string& role) {
  json::array rest = offered, out;
  for (const auto& w : wanted) {
    if (!w.is_object()) return std::nullopt;
    const json::object& want = w.get_object();
    const std::string name = string_of(want, "name"), type = string_of(want, "type");
    std::int64_t need = type == "SCALAR" ? thousandths(want) : 0;
    auto ports = type == "RANGES" ? spans(want) : std::vector<Span>();
    for (const bool reserved : {true, false}) {
      if (reserved && role == "*") continue;
      for (auto& o : rest) {
        if (!o.is_object()) continue;
        json::object& r = o.get_object();
        if (string_of(r, "name") != name || string_of(r, "type") != type || role_of(r) != (reserved ? role : "*") || find(r, "disk") || find(r, "revocable") || find(r, "shared")) continue;
        if (type == "SCALAR") {
          const std::int64_t have = thousandths(r), used = std::min(have, need);
          if (used <= 0) continue;
          json::object piece = r;
          piece["scalar"] = json::object{{"value", static_cast<double>(used) / 1000}};
          out.push_back(std::move(piece));
          r["scalar"] = json::object{{"value", static_cast<double>(have - used) / 1000}};
          need -= used;
        } else if (type == "RANGES") {
          const auto have = spans(r);
          const auto inside = [&](const Span& s) { return std::any_of(have.begin(), have.end(), [&](const Span& h) { return h.begin <= s.begin && s.end <= h.end; }); };
          json::array list;
          std::erase_if(ports, [&](const Span& s) {
            if (!inside(s)) return false;
            list.push_back(json::object{{"begin", s.begin}, {"end", s.end}});
            return true;
          });
          if (list.empty()) continue;
          json::object piece = r;
          piece["ranges"] = json::object{{"range", std::move(list)}};
          out.push_back(std::move(piece));
        }
      }
    }
    if (need > 0 || !ports.empty() || type == "SET") return std::nullopt;
  }
  offered = std::move(rest);
  return out;
}

// ---- the conversation

Scheduler::Scheduler(Job job) : job_(std::move(job)) {
  if (const json::array* tasks = list_of(job_.group, "tasks")) tasks_ = tasks->size();
}

json::object Scheduler::subscribe() const {
  json::object info = job_.framework;
  json::object out{{"type", "SUBSCRIBE"}};
  if (!framework_id_.empty()) {
    info["id"] = value_of(framework_id_);
    out["framework_id"] = value_of(framework_id_);
  }
  out["subscribe"] = json::object{{"framework_info", std::move(info)}};
  return out;
}

json::object Scheduler::call(const char* type, const char* part, json::object body) const {
  return {{"framework_id", value_of(framework_id_)}, {"type", type}, {part, std::move(body)}};
}

std::vector<json::object> Scheduler::on_event(const json::object& event) {
  const std::string type = string_of(event, "type");
  if (type == "SUBSCRIBED") {
    if (const json::object* s = object_of(event, "subscribed")) framework_id_ = id_of(*s, "framework_id");
    print("Subscribed with ID " + framework_id_);
  } else if (type == "OFFERS") {
    if (const json::object* o = object_of(event, "offers")) return on_offers(*o);
  } else if (type == "UPDATE") {
    const json::object* u = object_of(event, "update");
    if (const json::object* s = u ? object_of(*u, "status") : nullptr) return on_update(*s);
  } else if (type == "ERROR") {
    const json::object* e = object_of(event, "error");
    error_ = "Received an ERROR event: " + (e ? string_of(*e, "message") : std::string());
    done_ = true;
  }
  return {};
}

std::vector<json::object> Scheduler::on_offers(const json::object& offers) {
  std::vector<json::object> out;
  const json::array* list = list_of(offers, "offers");
  if (!list) return out;
  for (const auto& o : *list) {
    if (!o.is_object()) continue;
    const json::object& offer = o.get_object();
    if (!launched_) {
      auto calls = launch(offer, launched_);
      if (launched_) {
        out.insert(out.end(), std::make_move_iterator(calls.begin()), std::make_move_iterator(calls.end()));
        continue;
      }
    }
    out.push_back(call("DECLINE", "decline", {{"offer_ids", json::array{value_of(id_of(offer, "id"))}}}));
  }
  return out;
}

std::vector<json::object> Scheduler::launch(const json::object& offer, bool& launched) {
  const std::string agent = id_of(offer, "agent_id");
  json::array left;
  if (const json::array* resources = list_of(offer, "resources")) left = *resources;
  json::object operation;
  const auto fit = [&](json::object& task) {
    const json::array* wanted = list_of(task, "resources");
    auto taken = take(left, wanted ? *wanted : json::array(), job_.role);
    if (!taken) return false;
    task["resources"] = std::move(*taken);
    task["agent_id"] = value_of(agent);
    return true;
  };
  if (!job_.task.empty()) {
    json::object task = job_.task;
    if (!fit(task)) return {};
    print("Submitted task '" + string_of(task, "name") + "' to agent '" + agent + "'");
    operation = {{"type", "LAUNCH"}, {"launch", json::object{{"task_infos", json::array{std::move(task)}}}}};
  } else {
    json::object group = job_.group;
    std::string ids;
    for (auto& t : group["tasks"].as_array()) {
      if (!t.is_object() || !fit(t.get_object())) return {};
      ids += (ids.empty() ? " " : ", ") + id_of(t.get_object(), "task_id");
    }
    json::array wanted;
    for (const auto& [name, amount] : {std::pair{"cpus", 0.1}, {"mem", 32.0}, {"disk", 32.0}})
      wanted.push_back(json::object{{"name", name}, {"type", "SCALAR"}, {"scalar", json::object{{"value", amount}}}});
    auto taken = take(left, wanted, job_.role);
    if (!taken) return {};
    json::object executor{{"type", "DEFAULT"}, {"executor_id", value_of("default-executor")}, {"framework_id", value_of(framework_id_)}, {"resources", std::move(*taken)}};
    if (!job_.networks.empty()) {
      json::array infos;
      for (const auto& n : job_.networks) infos.push_back(json::object{{"name", n}});
      executor["container"] = json::object{{"type", "MESOS"}, {"network_infos", std::move(infos)}};
    }
    print("Submitted task group with tasks [" + ids + " ] to agent '" + agent + "'");
    operation = {{"type", "LAUNCH_GROUP"}, {"launch_group", json::object{{"executor", std::move(executor)}, {"task_group", std::move(group)}}}};
  }
  launched = true;
  return {call("ACCEPT", "accept", {{"offer_ids", json::array{value_of(id_of(offer, "id"))}}, {"operations", json::array{std::move(operation)}}})};
}

std::vector<json::object> Scheduler::on_update(const json::object& status) {
  static const std::set<std::string, std::less<>> terminal{"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST",
                                                           "TASK_DROPPED", "TASK_GONE", "TASK_GONE_BY_OPERATOR"};
  std::vector<json::object> out;
  const std::string state = string_of(status, "state"), task = id_of(status, "task_id"), agent = id_of(status, "agent_id");
  print("Received status update " + state + " for task '" + task + "'");
  if (find(status, "message")) print("  message: '" + string_of(status, "message") + "'");
  if (find(status, "source")) print("  source: " + string_of(status, "source"));
  if (find(status, "reason")) print("  reason: " + string_of(status, "reason"));
  if (const json::value* h = find(status, "healthy"); h && h->is_bool()) print(std::string("  healthy?: ") + (h->get_bool() ? "1" : "0"));
  if (const json::value* c = find(status, "check_status")) print("  check status: " + std::string(json::serialize(*c)));
  if (const json::object* l = object_of(status, "limitation"))
    if (const json::value* r = find(*l, "resources")) print("  resource limit violation: " + std::string(json::serialize(*r)));
  if (find(status, "uuid"))
    out.push_back(call("ACKNOWLEDGE", "acknowledge", {{"agent_id", value_of(agent)}, {"task_id", value_of(task)}, {"uuid", string_of(status, "uuid")}}));
  if (state == "TASK_RUNNING" && std::find(running_.begin(), running_.end(), std::pair(task, agent)) == running_.end()) {
    running_.emplace_back(task, agent);
    if (job_.kill_after) kill_armed_ = true;
  }
  if (terminal.find(state) != terminal.end()) {
    std::erase(running_, std::pair(task, agent));
    ended_.insert(task);
    if (ended_.size() >= tasks_) done_ = true;
  }
  return out;
}

std::vector<json::object> Scheduler::kill() {
  std::vector<json::object> out;
  kill_armed_ = false;
  for (const auto& [task, agent] : running_) {
    print("Asked to kill task '" + task + "' on agent '" + agent + "'");
    out.push_back(call("KILL", "kill", {{"task_id", value_of(task)}, {"agent_id", value_of(agent)}}));
  }
  return out;
}

// ---- RecordIO

Status Records::feed(std::string_view bytes, const std::function<void(std::string_view)>& record) {
  rest_ += bytes;
  std::size_t at = 0;
  for (;;) {
    const auto line = rest_.find('\n', at);
    if (line == std::string::npos) {
      if (rest_.size() - at > 20) return fail(Code::data_loss, "the stream is no RecordIO");
      break;
    }
    std::size_t length = 0;
    const auto [end, ec] = std::from_chars(rest_.data() + at, rest_.data() + line, length);
    if (ec != std::errc() || end != rest_.data() + line || length > kMaxRecord) return fail(Code::data_loss, "the stream is no RecordIO");
    if (rest_.size() - line - 1 < length) break;
    record(std::string_view(rest_).substr(line + 1, length));
    at = line + 1 + length;
  }
  rest_.erase(0, at);
  return ok;
}

}  // namespace gantry::compat
