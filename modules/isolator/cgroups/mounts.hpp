// Where the kernel's cgroup hierarchies are and which of them has a controller.
#pragma once

#include <gantry/result.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace gantry::isolator_cgroups {

// From /proc/self/mountinfo.
struct Mounts {
  int version = 0;                        // where cpu and memory are looked for first; 0: nowhere
  std::map<std::string, std::string> v1;  // controller -> mount point
  std::string v2;                         // mount point
};
// Version 1 if its cpu and memory controllers are mounted (also on hybrid machines), else 2.
[[nodiscard]] Mounts parse_mounts(std::string_view mountinfo);

// Our own cgroup in each hierarchy, from /proc/self/cgroup: controller -> path, "" -> that of version 2.
[[nodiscard]] std::map<std::string, std::string> parse_own(std::string_view proc_self_cgroup);

// One controller of this agent.
struct Place {
  std::string controller;
  int version = 0;
  std::string top;  // the cgroup we may use: a mount point, or our own cgroup
  std::string dir;  // the agent's own cgroup; containers lie in it
};

// All there is, controller by controller: version 1 where it is mounted, else version 2 if it offers the controller.
struct Layout {
  std::map<std::string, Place> places;
  std::optional<Place> unified;  // the hierarchy of version 2, whatever controllers it has
  std::string own_daemon;        // directory for processes that are in the way in unified->top; empty: leave them
};

// `prefix` is put in front of every path ("" in production); `root` is the agent's cgroup below the top, or below our own
// cgroup if `below_own`. UNAVAILABLE if nothing is mounted.
[[nodiscard]] Result<Layout> find_layout(const std::string& prefix, const std::string& root, bool below_own);

}  // namespace gantry::isolator_cgroups
