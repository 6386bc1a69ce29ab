#include "hierarchy.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gantry::isolator_cgroups {
namespace {

// The agent's cgroup and the one it shares with other agents, if they are empty.
void remove_own(const std::string& dir) {
  if (::rmdir(dir.c_str()) == 0) ::rmdir(dir.substr(0, dir.rfind('/')).c_str());
}

Error dir_error(const std::string& path) {
  return fail(errno == EACCES || errno == EPERM || errno == EROFS ? Code::permission_denied : Code::internal,
              "cannot create the cgroup " + path + ": " + std::strerror(errno));
}

// In version 2 devices are no controller: every cgroup of the hierarchy can have a filter.
Place without_controller(const Place& unified, const char* name) {
  Place p = unified;
  p.controller = name;
  return p;
}

// The two that this is all about: without one of them nothing is isolated. Any other that does not open is left out.
bool is_base(const Controller& c) { return c.place().controller == "cpu" || c.place().controller == "memory"; }

std::string_view name_in_v2(const Controller& c) { return c.place().controller == "blkio" ? std::string_view("io") : c.place().controller; }

}  // namespace

Hierarchy::Hierarchy(Layout layout, Policy policy) : layout_(std::move(layout)), policy_(std::move(policy)) {}

int Hierarchy::version() const {
  const auto memory = layout_.places.find("memory");
  return memory == layout_.places.end() ? (layout_.unified ? 2 : 1) : memory->second.version;
}

std::string Hierarchy::describe() const {
  std::string out;
  for (const auto& c : controllers_) out += (out.empty() ? "" : ", ") + c->place().controller + " v" + std::to_string(c->place().version);
  return out;
}

// Controllers nobody asked for are used if they are there, for what they count; those asked for are missed if not.
void Hierarchy::choose() {
  const auto add = [&](const char* name, auto make, bool wanted, const char* missing) {
    const auto at = layout_.places.find(name);
    if (at != layout_.places.end())
      controllers_.push_back(make(at->second, policy_));
    else if (wanted)
      problems_.push_back(missing);
  };
  add("cpu", make_cpu, false, "");
  add("cpuacct", make_cpuacct, false, "");
  if (const auto at = layout_.places.find("memory"); at != layout_.places.end()) {
    auto memory = make_memory(at->second, policy_);
    memory_ = memory.get();
    controllers_.push_back(std::move(memory));
  }
  add("pids", make_pids, policy_.pids != 0, "pids is set, but there is no controller pids: processes are not limited");
  add("blkio", make_io, policy_.io_weight != 0 || !policy_.io_max.empty(),
      "io_weight or io_max is set, but there is no controller io or blkio: disks are not shared out");
  if (!policy_.cpus.empty() || !policy_.mems.empty())
    add("cpuset", make_cpuset, true, "cpuset is set, but there is no controller cpuset: containers use every CPU");
  if (!policy_.hugetlb.empty())
    add("hugetlb", make_hugetlb, true, "hugetlb is set, but there is no controller hugetlb: huge pages are not limited");
  if (policy_.devices) {
    const auto at = layout_.places.find("devices");
    if (at == layout_.places.end() && !layout_.unified) {
      problems_.push_back("devices is set, but there is no controller devices: containers may use every device node");
      return;
    }
    auto devices = make_devices(at != layout_.places.end() ? at->second : without_controller(*layout_.unified, "devices"), policy_);
    devices_ = devices.get();
    controllers_.push_back(std::move(devices));
  }
}

Status Hierarchy::open() {
  for (const char* base : {"cpu", "memory"})
    if (!layout_.places.count(base))
      return fail(Code::unavailable, std::string("the cgroup hierarchy at ") + (layout_.unified ? layout_.unified->top : "") +
                                         " does not have the controller " + base);
  choose();
  if (layout_.unified) {
    Status made = open_v2();
    if (made) unified_ = layout_.unified->dir;
    for (auto c = controllers_.begin(); !made && c != controllers_.end();) {
      if ((*c)->place().version == 1) {
        ++c;
        continue;
      }
      if (is_base(**c)) return made;
      problems_.push_back((*c)->place().controller + " is left out: " + made.error().message);
      c = drop(c);
    }
  }
  for (auto c = controllers_.begin(); c != controllers_.end();) {
    Controller& one = **c;
    const Status made = one.place().version == 1 ? open_v1(one.place()) : Status(ok);
    if (!made && is_base(one)) return made;
    const Status opened = made ? one.open() : made;
    if (!opened) problems_.push_back(opened.error().message);
    if (!opened && !is_base(one)) {
      const std::string dir = one.place().dir;
      c = drop(c);
      if (!dirs_.count(dir) && dir != unified_) remove_own(dir);
    } else {
      dirs_.insert(one.place().dir);
      ++c;
    }
  }
  if (!unified_.empty()) dirs_.insert(unified_);
  // Without cgroup.kill the freezer holds still what is to be killed, so that nothing escapes by forking.
  const bool kills = !unified_.empty() && file_exists(unified_ + "/cgroup.kill");
  if (const auto at = layout_.places.find("freezer"); !kills && at != layout_.places.end() && open_v1(at->second)) {
    freezer_ = at->second.dir;
    dirs_.insert(freezer_);
  }
  return ok;
}

Hierarchy::Controllers::iterator Hierarchy::drop(Controllers::iterator c) {
  if (c->get() == devices_) devices_ = nullptr;
  return controllers_.erase(c);
}

Status Hierarchy::open_v1(const Place& place) {
  GANTRY_CHECK(make_dirs(place.dir));
  if (::access((place.dir + "/cgroup.procs").c_str(), W_OK) != 0)
    return fail(Code::permission_denied, "cannot write to " + place.dir + "/cgroup.procs: " + std::strerror(errno));
  return ok;
}

// A cgroup of version 2 that hands controllers down has no processes of its own.
Status Hierarchy::make_room() const {
  GANTRY_CHECK(make_dirs(layout_.own_daemon));
  // New ones may be forked while we go; a few rounds find the last.
  for (int round = 0; round < 10; ++round) {
    const std::string text = read_file(layout_.unified->top + "/cgroup.procs").value_or("");
    if (text.empty()) return ok;
    for (const auto pid : split(text, '\n')) {
      const Status moved = write_file(layout_.own_daemon + "/cgroup.procs", pid);
      if (!moved && moved.error().code != Code::internal) return moved;  // internal: it has ended (ESRCH)
    }
  }
  return fail(Code::aborted, "processes do not stop appearing in " + layout_.unified->top);
}

// From the top to our own: each level hands the controllers down.
Status Hierarchy::open_v2() {
  const std::string &top = layout_.unified->top, &dir = layout_.unified->dir;
  GANTRY_CHECK(make_dirs(dir));
  std::set<std::string> wanted;
  for (const auto& c : controllers_)
    if (c->place().version == 2 && c.get() != devices_) wanted.emplace(name_in_v2(*c));
  if (wanted.empty()) return ok;
  if (!layout_.own_daemon.empty()) GANTRY_CHECK(make_room());
  std::string all;
  for (const auto& name : wanted) all += (all.empty() ? "+" : " +") + name;
  for (auto at = top.size(); at != std::string::npos;
       at = at < dir.size() ? std::min(dir.find('/', at + 1), dir.size()) : std::string::npos) {
    const std::string file = dir.substr(0, at) + "/cgroup.subtree_control";
    if (write_file(file, all)) continue;
    // One of them is not to be had; which?
    for (const auto& name : wanted) {
      const Status written = write_file(file, "+" + name);
      if (written) continue;
      const auto c = std::find_if(controllers_.begin(), controllers_.end(),
                                  [&](const auto& one) { return one->place().version == 2 && name_in_v2(*one) == name; });
      if (c == controllers_.end()) continue;  // left out at a level above
      if (is_base(**c)) return written;
      problems_.push_back(name + " is left out: " + written.error().message);
      drop(c);
    }
  }
  return ok;
}

void Hierarchy::close() {
  for (const auto& dir : dirs_) remove_own(dir);
}

Status Hierarchy::create(const std::string& id, const Limits& limits) {
  for (const auto& dir : dirs_) {
    const std::string path = dir + "/" + id;
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return dir_error(path);
  }
  for (const auto& c : controllers_) GANTRY_CHECK(c->create(id, limits));
  return ok;
}

Status Hierarchy::apply(const std::string& id, const Limits& limits) {
  for (const auto& c : controllers_)
    if (c.get() != devices_) GANTRY_CHECK(c->apply(id, limits));
  return ok;
}

Status Hierarchy::allow(const std::string& id, const std::vector<DeviceRule>& more) {
  return devices_ ? devices_->allow(id, more) : Status(ok);
}

std::vector<std::string> Hierarchy::enter_files(const std::string& id) const {
  std::vector<std::string> out;
  for (const auto& dir : dirs_) out.push_back(dir + "/" + id + "/cgroup.procs");
  return out;
}

std::string Hierarchy::kill_path(const std::string& id) const {
  const std::string by_v2 = unified_ + "/" + id + "/cgroup.kill";
  if (!unified_.empty() && file_exists(by_v2)) return by_v2;
  return memory_->place().dir + "/" + id + "/cgroup.procs";
}

bool Hierarchy::exists(const std::string& id) const { return file_exists(memory_->place().dir + "/" + id); }

std::vector<std::string> Hierarchy::list() const {
  std::set<std::string> all;
  for (const auto& dir : dirs_)
    for (auto& name : subdirectories(dir)) all.insert(std::move(name));
  return {all.begin(), all.end()};
}

fb::isolator::UsageT Hierarchy::usage(const std::string& id) const {
  fb::isolator::UsageT u;
  u.container_id = id;
  for (const auto& c : controllers_) c->measure(id, u);
  const std::string dir = memory_->place().dir + "/" + id + "/";
  u.processes = count_lines(dir + "cgroup.procs");
  if (u.threads == 0) u.threads = count_lines(dir + (version() == 2 ? "cgroup.threads" : "tasks"));
  if (!unified_.empty()) {
    u.cpu_pressure_us = pressure_us(unified_ + "/" + id + "/cpu.pressure");
    u.memory_pressure_us = pressure_us(unified_ + "/" + id + "/memory.pressure");
    u.io_pressure_us = pressure_us(unified_ + "/" + id + "/io.pressure");
  }
  return u;
}

void Hierarchy::kill(const std::string& id) const {
  if (!unified_.empty() && write_file(unified_ + "/" + id + "/cgroup.kill", "1")) return;  // since Linux 5.14
  const std::string state = freezer_ + "/" + id + "/freezer.state";
  const bool frozen = !freezer_.empty() && write_file(state, "FROZEN");
  kill_tree((frozen ? freezer_ : memory_->place().dir) + "/" + id);
  if (frozen) (void)write_file(state, "THAWED");  // the signals wait for this
}

Result<bool> Hierarchy::remove(const std::string& id) {
  std::vector<std::string> left;
  for (const auto& dir : dirs_) {
    GANTRY_TRY(const bool gone, remove_dir(dir + "/" + id));
    if (!gone) left.push_back(dir + "/" + id);
  }
  if (left.empty()) return true;
  kill(id);
  // A process of root may have left some of the hierarchies, so each is asked.
  for (const auto& dir : left) kill_tree(dir);
  return false;
}

Result<std::unique_ptr<Hierarchy>> discover(const std::string& prefix, const std::string& root, Policy policy, bool below_own) {
  GANTRY_TRY(Layout layout, find_layout(prefix, root, below_own));
  return std::make_unique<Hierarchy>(std::move(layout), std::move(policy));
}

}  // namespace gantry::isolator_cgroups
