#include "rules.hpp"

// The one place where Boost.JSON is compiled.
#include <boost/json/src.hpp>

#include <algorithm>
#include <array>

namespace gantry::authorizer_acl {

namespace json = boost::json;

// What an action is done to, and how a file may name it.
struct Action {
  enum class Of { words, roles, paths, anything };
  std::string_view list;     // in the file
  std::string_view objects;  // field of its rules
  std::string_view action;   // sdk/docs/authorizer.md
  Of of;
};

namespace {

using Of = Action::Of;

constexpr std::array kActions{
    Action{"register_frameworks", "roles", "register_framework", Of::roles},
    Action{"run_tasks", "users", "run_task", Of::words},
    Action{"teardown_frameworks", "framework_principals", "teardown_framework", Of::words},
    Action{"reserve_resources", "roles", "reserve_resources", Of::roles},
    Action{"unreserve_resources", "reserver_principals", "unreserve_resources", Of::words},
    Action{"create_volumes", "roles", "create_volume", Of::roles},
    Action{"destroy_volumes", "creator_principals", "destroy_volume", Of::words},
    Action{"resize_volumes", "roles", "resize_volume", Of::roles},
    Action{"create_block_disks", "roles", "create_block_disk", Of::roles},
    Action{"destroy_block_disks", "roles", "destroy_block_disk", Of::roles},
    Action{"create_mount_disks", "roles", "create_mount_disk", Of::roles},
    Action{"destroy_mount_disks", "roles", "destroy_mount_disk", Of::roles},
    Action{"destroy_raw_disks", "roles", "destroy_raw_disk", Of::roles},
    Action{"get_quotas", "roles", "get_quota", Of::roles},
    Action{"update_quotas", "roles", "update_quota", Of::roles},
    Action{"view_roles", "roles", "view_role", Of::roles},
    Action{"update_weights", "roles", "update_weight", Of::roles},
    Action{"get_endpoints", "paths", "get_endpoint", Of::paths},
    Action{"view_frameworks", "users", "view_framework", Of::words},
    Action{"view_tasks", "users", "view_task", Of::words},
    Action{"view_executors", "users", "view_executor", Of::words},
    Action{"view_containers", "users", "view_container", Of::words},
    Action{"access_sandboxes", "users", "access_sandbox", Of::words},
    Action{"access_mesos_logs", "logs", "access_mesos_log", Of::anything},
    Action{"view_flags", "flags", "view_flags", Of::anything},
    Action{"set_log_level", "level", "set_log_level", Of::anything},
    Action{"register_agents", "agents", "register_agent", Of::anything},
    Action{"update_maintenance_schedules", "machines", "update_maintenance_schedule", Of::anything},
    Action{"get_maintenance_schedules", "machines", "get_maintenance_schedule", Of::anything},
    Action{"get_maintenance_statuses", "machines", "get_maintenance_status", Of::anything},
    Action{"start_maintenances", "machines", "start_maintenance", Of::anything},
    Action{"stop_maintenances", "machines", "stop_maintenance", Of::anything},
    Action{"drain_agents", "agents", "drain_agent", Of::anything},
    Action{"deactivate_agents", "agents", "deactivate_agent", Of::anything},
    Action{"reactivate_agents", "agents", "reactivate_agent", Of::anything},
    Action{"mark_agents_gone", "agents", "mark_agent_gone", Of::anything},
    Action{"launch_nested_containers_as_user", "users", "launch_nested_container", Of::words},
    Action{"launch_nested_containers_under_parent_with_user", "users", "launch_nested_container_under_parent", Of::words},
    Action{"launch_nested_container_sessions_as_user", "users", "launch_nested_container_session", Of::words},
    Action{"launch_nested_container_sessions_under_parent_with_user", "users", "launch_nested_container_session_under_parent", Of::words},
    Action{"wait_nested_containers", "users", "wait_nested_container", Of::words},
    Action{"kill_nested_containers", "users", "kill_nested_container", Of::words},
    Action{"remove_nested_containers", "users", "remove_nested_container", Of::words},
    Action{"attach_containers_input", "users", "attach_container_input", Of::words},
    Action{"attach_containers_output", "users", "attach_container_output", Of::words},
    Action{"launch_standalone_containers", "users", "launch_standalone_container", Of::anything},
    Action{"wait_standalone_containers", "users", "wait_standalone_container", Of::anything},
    Action{"kill_standalone_containers", "users", "kill_standalone_container", Of::anything},
    Action{"remove_standalone_containers", "users", "remove_standalone_container", Of::anything},
    Action{"view_standalone_containers", "users", "view_standalone_container", Of::anything},
    Action{"modify_resource_provider_configs", "resource_providers", "modify_resource_provider_config", Of::anything},
    Action{"mark_resource_providers_gone", "resource_providers", "mark_resource_provider_gone", Of::anything},
    Action{"view_resource_providers", "resource_providers", "view_resource_provider", Of::anything},
    Action{"prune_images", "images", "prune_images", Of::anything},
};

// Lists of earlier releases that say the same under another name.
struct Old {
  std::string_view list, now, objects;
};
constexpr std::array kOld{
    Old{"shutdown_frameworks", "teardown_frameworks", "framework_principals"},
    Old{"set_quotas", "update_quotas", "roles"},
};

constexpr std::array<std::string_view, 5> kPaths{"/containers", "/files/debug", "/logging/toggle", "/metrics/snapshot", "/monitor/statistics"};

std::size_t row_of_list(std::string_view name) {
  return static_cast<std::size_t>(std::find_if(kActions.begin(), kActions.end(), [&](const Action& a) { return a.list == name; }) - kActions.begin());
}
std::size_t row_of_action(std::string_view name) {
  return static_cast<std::size_t>(std::find_if(kActions.begin(), kActions.end(), [&](const Action& a) { return a.action == name; }) - kActions.begin());
}

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t corner = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = corner + (a[i - 1] != b[j - 1]);
      corner = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

std::string quoted(std::string_view s) { return "\"" + std::string(s.substr(0, 80)) + "\""; }

Error wrong(const std::string& field, const std::string& what) { return fail(Code::invalid_argument, field + ": " + what, "file"); }

const char* kind_of(const json::value& v) {
  switch (v.kind()) {
    case json::kind::null: return "null";
    case json::kind::bool_: return "true or false";
    case json::kind::string: return "a string";
    case json::kind::array: return "a list";
    case json::kind::object: return "an object";
    default: return "a number";
  }
}

}  // namespace

class Reader {
 public:
  static Result<Acls> read(const json::object& document) {
    Acls out;
    out.lists_.resize(kActions.size());
    for (const auto& [key, value] : document) {
      const std::string_view name(key.data(), key.size());
      const std::string field = "acls." + std::string(name.substr(0, 80));
      if (value.is_null()) continue;
      if (name == "permissive") {
        GANTRY_TRY(out.permissive_, flag(field, value));
        continue;
      }
      std::size_t row = row_of_list(name);
      std::string_view objects = row < kActions.size() ? kActions[row].objects : std::string_view();
      if (row == kActions.size()) {
        const auto old = std::find_if(kOld.begin(), kOld.end(), [&](const Old& o) { return o.list == name; });
        if (old == kOld.end()) return wrong(field, "there is no such list" + nearest(name));
        row = row_of_list(old->now);
        objects = old->objects;
        out.warnings_.push_back(field + " is of an old release of Mesos; it is read as " + std::string(old->now));
      }
      if (!value.is_array()) return wrong(field, std::string("a list of rules is expected, not ") + kind_of(value));
      std::size_t n = 0;
      for (const auto& entry : value.get_array()) {
        GANTRY_TRY(Rule r, rule(field + "[" + std::to_string(n++) + "]", entry, kActions[row], objects));
        out.lists_[row].push_back(std::move(r));
      }
    }
    return out;
  }

 private:
  // JSON of Mesos takes "true" for true.
  static Result<bool> flag(const std::string& field, const json::value& v) {
    if (v.is_bool()) return v.get_bool();
    if (v.is_string() && (v.get_string() == "true" || v.get_string() == "false")) return v.get_string() == "true";
    return wrong(field, std::string("true or false is expected, not ") + kind_of(v));
  }

  static std::string nearest(std::string_view name) {
    std::string_view best;
    std::size_t least = 4;
    if (name.size() > 80) return {};
    for (const Action& a : kActions)
      if (const std::size_t d = distance(name, a.list); d < least) {
        least = d;
        best = a.list;
      }
    return best.empty() ? std::string() : "; did you mean " + std::string(best) + "?";
  }

  static Result<Rule> rule(const std::string& field, const json::value& v, const Action& a, std::string_view objects) {
    if (!v.is_object()) return wrong(field, std::string("a rule is an object with principals and ") + std::string(objects) + ", not " + kind_of(v));
    Rule r;
    bool who = false, what = false;
    for (const auto& [key, value] : v.get_object()) {
      const std::string_view name(key.data(), key.size());
      const std::string at = field + "." + std::string(name.substr(0, 80));
      if (name == "principals") {
        GANTRY_TRY(r.subjects, entity(at, value, Of::words));
        who = true;
      } else if (name == objects) {
        GANTRY_TRY(r.objects, entity(at, value, a.of));
        what = true;
      } else {
        return wrong(at, "there is no such field; a rule of " + std::string(a.list) + " has principals and " + std::string(objects));
      }
    }
    if (!who) return wrong(field, "principals is missing; {\"type\": \"ANY\"} means everybody");
    if (!what) return wrong(field, std::string(objects) + " is missing; {\"type\": \"ANY\"} means all");
    return r;
  }

  static Result<Entity> entity(const std::string& field, const json::value& v, Of of) {
    if (!v.is_object()) return wrong(field, std::string("expected {\"values\": [...]} or {\"type\": \"ANY\"} or {\"type\": \"NONE\"}, not ") + kind_of(v));
    Entity e;
    for (const auto& [key, value] : v.get_object()) {
      const std::string_view name(key.data(), key.size());
      if (name == "type") {
        if (value.is_null()) continue;
        if (!value.is_string()) return wrong(field + ".type", std::string("ANY, NONE or SOME is expected, not ") + kind_of(value));
        const std::string_view type(value.get_string().data(), value.get_string().size());
        if (type == "ANY") e.type = Entity::Type::any;
        else if (type == "NONE") e.type = Entity::Type::none;
        else if (type != "SOME") return wrong(field + ".type", quoted(type) + " is neither ANY nor NONE nor SOME");
      } else if (name == "values") {
        if (value.is_null()) continue;
        if (!value.is_array()) return wrong(field + ".values", std::string("a list of strings is expected, not ") + kind_of(value));
        std::size_t n = 0;
        for (const auto& one : value.get_array()) {
          const std::string at = field + ".values[" + std::to_string(n++) + "]";
          if (!one.is_string()) return wrong(at, std::string("a string is expected, not ") + kind_of(one));
          const std::string_view word(one.get_string().data(), one.get_string().size());
          if (of == Of::paths && std::find(kPaths.begin(), kPaths.end(), word) == kPaths.end())
            return wrong(at, quoted(word) + " is not an authorizable path; those are " + paths());
          if (of == Of::roles && word.ends_with("/%") && word.size() > 2) e.below.emplace_back(word.substr(0, word.size() - 1));
          else e.values.emplace(word);
        }
      } else {
        return wrong(field + "." + std::string(name.substr(0, 80)), "there is no such field; it has type and values");
      }
    }
    if (of == Of::anything && e.type == Entity::Type::some) return wrong(field, "type must be either NONE or ANY");
    return e;
  }
  static std::string paths() {
    std::string out;
    for (const auto p : kPaths) out += (out.empty() ? "" : ", ") + std::string(p);
    return out;
  }
};

Result<Acls> Acls::parse(std::string_view text) {
  json::error_code ec;
  json::parse_options options;
  options.max_depth = 16;
  json::stream_parser parser({}, options);
  std::size_t at = 0;
  if (!text.empty()) at = parser.write_some(text.data(), text.size(), ec);
  if (!ec && at < text.size()) {
    // Nothing but space may follow.
    const auto rest = text.substr(at);
    if (rest.find_first_not_of(" \t\r\n") != std::string_view::npos) return wrong("acls", "something follows the document at byte " + std::to_string(at));
  }
  if (!ec) parser.finish(ec);
  if (ec) return wrong("acls", "no JSON: " + ec.message() + " near byte " + std::to_string(std::min(at, text.size())));
  const json::value document = parser.release();
  if (!document.is_object()) return wrong("acls", std::string("an object is expected, not ") + kind_of(document));
  return Reader::read(document.get_object());
}

bool Entity::lists(std::string_view word) const {
  return values.find(word) != values.end() ||
         std::any_of(below.begin(), below.end(), [&](const std::string& prefix) { return word.size() > prefix.size() && word.starts_with(prefix); });
}

namespace {

// Whether a rule is about the question. ANY and NONE are about everything; the unnamed ("any at all") only about those.
bool about(const Entity& e, std::optional<std::string_view> word) {
  if (e.type != Entity::Type::some) return true;
  return word && e.lists(*word);
}
bool grants(const Entity& e, std::optional<std::string_view> word) {
  if (e.type != Entity::Type::some) return e.type == Entity::Type::any;
  return word && e.lists(*word);
}

}  // namespace

bool Acls::allowed(std::optional<std::string_view> principal, std::string_view action, std::optional<std::string_view> object) const {
  const std::size_t row = row_of_action(action);
  if (row >= lists_.size()) return permissive_;
  if (kActions[row].of == Of::anything) object = std::nullopt;
  for (const Rule& r : lists_[row])
    if (about(r.subjects, principal) && about(r.objects, object)) return grants(r.subjects, principal) && grants(r.objects, object);
  return permissive_;
}

std::size_t Acls::rules() const {
  std::size_t n = 0;
  for (const auto& l : lists_) n += l.size();
  return n;
}

std::vector<std::string_view> list_names() {
  std::vector<std::string_view> out;
  for (const Action& a : kActions) out.push_back(a.list);
  return out;
}

}  // namespace gantry::authorizer_acl
