#include "mounts.hpp"

#include "files.hpp"

#include <algorithm>
#include <array>

namespace gantry::isolator_cgroups {
namespace {

constexpr std::array<std::string_view, 9> known{"cpu", "cpuacct", "memory", "pids", "devices", "freezer", "blkio", "cpuset", "hugetlb"};
// Where the daemon goes that makes room for its containers.
constexpr char daemon_leaf[] = "/gantryd";

// What version 2 calls it; empty: it has no such controller, or one that is always there.
std::string_view name_in_v2(std::string_view controller) {
  if (controller == "blkio") return "io";
  if (controller == "cpuacct" || controller == "freezer" || controller == "devices") return "";
  return controller;
}

// mountinfo writes blanks and the like as \040.
std::string unescape(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\\' && i + 3 < s.size()) {
      out.push_back(static_cast<char>((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + (s[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(s[i]);
    }
  }
  return out;
}

}  // namespace

Mounts parse_mounts(std::string_view mountinfo) {
  Mounts m;
  for (const auto line : split(mountinfo, '\n')) {
    // "31 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct": fields before and after a lone "-".
    const auto dash = line.find(" - ");
    if (dash == line.npos) continue;
    const auto left = split(line.substr(0, dash), ' '), right = split(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (right[0] == "cgroup2") {
      if (m.v2.empty()) m.v2 = unescape(left[4]);
    } else if (right[0] == "cgroup") {
      for (const auto option : split(right[2], ','))
        if (std::find(known.begin(), known.end(), option) != known.end()) m.v1.try_emplace(std::string(option), unescape(left[4]));
    }
  }
  m.version = m.v1.count("cpu") && m.v1.count("memory") ? 1 : !m.v2.empty() ? 2 : 0;
  return m;
}

std::map<std::string, std::string> parse_own(std::string_view text) {
  std::map<std::string, std::string> out;
  for (const auto line : split(text, '\n')) {
    // "4:memory:/some/where", "0::/some/where"
    const auto first = line.find(':'), second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    std::string path(line.substr(second + 1));
    if (path == "/") path.clear();
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty()) out[""] = path;
    for (const auto controller : split(controllers, ',')) out[std::string(controller)] = path;
  }
  return out;
}

Result<Layout> find_layout(const std::string& prefix, const std::string& root, bool below_own) {
  const auto info = read_file(prefix + "/proc/self/mountinfo");
  if (!info) return fail(Code::unavailable, "cannot read " + prefix + "/proc/self/mountinfo");
  const Mounts mounts = parse_mounts(*info);
  if (mounts.version == 0) return fail(Code::unavailable, "no cgroup hierarchy with cpu and memory is mounted");
  std::map<std::string, std::string> own;
  if (below_own) own = parse_own(read_file(prefix + "/proc/self/cgroup").value_or(""));

  Layout out;
  const auto place = [&](std::string controller, int version, const std::string& mount, const std::string& at) {
    Place p{std::move(controller), version, prefix + mount + at, {}};
    p.dir = p.top + "/" + root;
    return p;
  };
  for (const auto& [controller, mount] : mounts.v1) out.places[controller] = place(controller, 1, mount, own[controller]);
  if (mounts.v2.empty()) return out;

  std::string at = own[""];
  if (below_own) {
    // Started again in the leaf where an earlier life of ours moved to: the room is beside it.
    if (at.ends_with(daemon_leaf)) at.resize(at.size() - (sizeof daemon_leaf - 1));
    out.own_daemon = prefix + mounts.v2 + at + daemon_leaf;
  }
  out.unified = place("", 2, mounts.v2, at);
  const std::string offered = read_file(out.unified->top + "/cgroup.controllers").value_or("");
  std::set<std::string_view> there;
  for (const auto line : split(offered, '\n'))
    for (const auto word : split(line, ' ')) there.insert(word);
  for (const auto controller : known)
    if (!out.places.count(std::string(controller)) && there.count(name_in_v2(controller)))
      out.places[std::string(controller)] = place(std::string(controller), 2, mounts.v2, at);
  return out;
}

}  // namespace gantry::isolator_cgroups
