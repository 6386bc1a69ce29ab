// Names and times of the Marathon contract: timestamps, application paths, instance and task ids.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace gantry::framework_services {

// Milliseconds since 1970, the resolution of every Marathon timestamp.
using Millis = std::int64_t;

// "2026-01-31T12:00:00.000Z", always three digits of milliseconds (marathon.md B).
std::string format_time(Millis t);
std::optional<Millis> parse_time(std::string_view text);

// Random ids are a seam: the core draws them from a function, so a test can replay it.
using Random = std::function<std::uint64_t()>;
std::string make_uuid(const Random& random);

// Absolute form of an application path: "a" -> "/a", "../b" relative to `base`, no trailing or double slash.
std::string canonical_path(std::string_view path, std::string_view base = "/");
std::string parent_path(std::string_view path);
// True if path lies in group (or group is the root).
bool within(std::string_view path, std::string_view group);

// "/g/a" <-> "g_a": the form used in instance ids.
std::string safe_path(std::string_view path);
// "g_a.instance-<uuid>" -> "/g/a"; empty if it is not an instance id.
std::string app_of_instance(std::string_view instance_id);

struct TaskId {
  std::string instance_id;
  std::string container;  // "_app" for applications
  int incarnation = 1;
};
// Parses "<instance>.<container>.<incarnation>", the legacy "<instance>.<container>" and "<app>.<uuid>".
std::optional<TaskId> parse_task_id(std::string_view id);
std::string task_id(std::string_view instance_id, int incarnation);

}  // namespace gantry::framework_services
