#include "kernel/agent/prepared.hpp"

#include "kernel/base/fd.hpp"
#include "kernel/base/file.hpp"

#include <gantry/message.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gantry::agent {
namespace {

using fb::isolator::MountOption;
using fb::isolator::Namespace;

constexpr std::uint32_t bit(Namespace n) { return static_cast<std::uint32_t>(n); }
constexpr std::uint32_t bit(MountOption o) { return static_cast<std::uint32_t>(o); }

// Parts of a path that are something: "/" has none, "/dev//shm/" two.
std::size_t depth(const std::string& path) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < path.size(); ++i)
    if (path[i] != '/' && (i == 0 || path[i - 1] == '/')) ++n;
  return n;
}

template <class T>
void append(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

Status Preparations::take(const std::string& what, std::string& into, std::string value, const std::string& isolator) {
  if (value.empty()) return ok;
  const auto [it, fresh] = first_.try_emplace(what, isolator);
  if (!fresh && into != value)
    return fail(Code::failed_precondition, it->second + " wants the " + what + " \"" + into + "\", and " + isolator + " \"" + value + "\"; configure one of them otherwise");
  into = std::move(value);
  return ok;
}

Status Preparations::add(const std::string& isolator, fb::isolator::PreparedT answer) {
  all_.namespaces |= answer.namespaces;
  if (!answer.mounts.empty()) first_.try_emplace("mounts", isolator);
  append(all_.mounts, answer.mounts);
  append(all_.environment, answer.environment);
  append(all_.enter_files, answer.enter_files);
  append(all_.devices, answer.devices);
  if (all_.cgroup_kill.empty()) all_.cgroup_kill = std::move(answer.cgroup_kill);
  GANTRY_CHECK(take("root", all_.root, std::move(answer.root), isolator));
  GANTRY_CHECK(take("sandbox", all_.sandbox, std::move(answer.sandbox), isolator));
  GANTRY_CHECK(take("host name", all_.hostname, std::move(answer.hostname), isolator));
  for (auto& l : answer.limits) {
    const auto same = std::find_if(all_.limits.begin(), all_.limits.end(), [&](const auto& have) { return have->resource == l->resource; });
    const std::string what = "limit " + std::to_string(l->resource);
    if (same == all_.limits.end()) {
      first_[what] = isolator;
      all_.limits.push_back(std::move(l));
    } else if ((*same)->soft != l->soft || (*same)->hard != l->hard) {
      return fail(Code::failed_precondition, first_[what] + " and " + isolator + " want different limits of resource " + std::to_string(l->resource) + "; configure one of them otherwise");
    }
  }
  if (answer.capabilities) {
    if (all_.capabilities && (all_.capabilities->bounding != answer.capabilities->bounding || all_.capabilities->effective != answer.capabilities->effective))
      return fail(Code::failed_precondition, first_["capabilities"] + " and " + isolator + " want different capabilities; configure one of them otherwise");
    first_.try_emplace("capabilities", isolator);
    all_.capabilities = std::move(answer.capabilities);
  }
  all_.no_new_privileges |= answer.no_new_privileges;
  all_.read_only_root |= answer.read_only_root;
  append(all_.parameters, answer.parameters);
  if (!answer.seccomp.empty()) {
    if (!all_.seccomp.empty()) return fail(Code::failed_precondition, first_["filter"] + " and " + isolator + " both want to filter system calls; configure one of them otherwise");
    if (answer.seccomp.size() % 8 != 0 || answer.seccomp.size() > 8 * 65535)
      return fail(Code::invalid_argument, isolator + " wants a filter of " + std::to_string(answer.seccomp.size()) + " bytes; it has 1 to 65535 instructions of 8 bytes");
    first_["filter"] = isolator;
    all_.seccomp = std::move(answer.seccomp);
  }
  return ok;
}

Status Preparations::complete() {
  const auto lacks = [this](Namespace n) { return (all_.namespaces & bit(n)) == 0; };
  if (lacks(Namespace::MOUNT) && (!all_.mounts.empty() || !all_.root.empty()))
    return fail(Code::failed_precondition, first_[all_.mounts.empty() ? "root" : "mounts"] + " wants mounts, but no isolator makes a mount namespace; configure [isolator.namespaces] with mount = true");
  if (lacks(Namespace::UTS) && !all_.hostname.empty())
    return fail(Code::failed_precondition, first_["host name"] + " wants a host name for the container, but asks for no uts namespace; this is a mistake of the module");
  if (!all_.root.empty() && all_.root[0] != '/') return fail(Code::invalid_argument, first_["root"] + " wants the root \"" + all_.root + "\", which is not absolute; this is a mistake of the module");
  for (const auto& m : all_.mounts)
    for (const auto* s : {&m->source, &m->target, &m->type, &m->data, &m->base})
      if (s->find('\0') != s->npos) return fail(Code::invalid_argument, "the mount on \"" + m->target + "\" has a zero byte");
  std::stable_sort(all_.mounts.begin(), all_.mounts.end(), [](const auto& a, const auto& b) {
    const bool outside = a->options & bit(MountOption::OUTSIDE), other = b->options & bit(MountOption::OUTSIDE);
    return outside != other ? outside : !outside && depth(a->target) < depth(b->target);
  });
  return ok;
}

void Preparations::apply(Spawn& to) const {
  to.namespaces = all_.namespaces;
  to.enter_files = all_.enter_files;
  to.root = all_.root;
  to.read_only_root = all_.read_only_root;
  to.hostname = all_.hostname;
  to.no_new_privileges = all_.no_new_privileges;
  to.seccomp = all_.seccomp;
  if (!all_.sandbox.empty()) to.sandbox = all_.sandbox;
  for (const auto& m : all_.mounts) to.mounts.push_back({m->source, m->target, m->type, m->data, m->base, m->flags, m->options});
  for (const auto& l : all_.limits) to.limits.push_back({l->resource, l->soft, l->hard});
  if (all_.capabilities) to.capabilities = SpawnCapabilities{all_.capabilities->bounding, all_.capabilities->effective};
}

fb::container::InsideT inside_of(const Spawn& s) {
  fb::container::InsideT out;
  out.namespaces = s.namespaces | s.join;
  out.enter_files = s.enter_files;
  out.environment = s.environment;
  out.sandbox = s.sandbox;
  out.directory = s.directory;
  out.change_user = s.account.change;
  out.uid = s.account.uid;
  out.gid = s.account.gid;
  out.groups = s.account.groups;
  out.user = s.account.name;
  out.home = s.account.home;
  out.no_new_privileges = s.no_new_privileges;
  out.seccomp = s.seccomp;
  for (const auto& l : s.limits) {
    auto one = std::make_unique<fb::isolator::ResourceLimitT>();
    one->resource = l.resource;
    one->soft = l.soft;
    one->hard = l.hard;
    out.limits.push_back(std::move(one));
  }
  if (s.capabilities) {
    out.capabilities = std::make_unique<fb::isolator::CapabilitiesT>();
    out.capabilities->bounding = s.capabilities->bounding;
    out.capabilities->effective = s.capabilities->effective;
  }
  return out;
}

Spawn spawn_inside(const fb::container::InsideT& in) {
  Spawn s;
  s.join = in.namespaces;
  s.enter_files = in.enter_files;
  s.environment = in.environment;
  s.sandbox = in.sandbox;
  s.directory = in.directory;
  s.account = {in.change_user, in.uid, in.gid, in.groups, in.home, in.user};
  s.no_new_privileges = in.no_new_privileges;
  s.seccomp = in.seccomp;
  for (const auto& l : in.limits) s.limits.push_back({l->resource, l->soft, l->hard});
  if (in.capabilities) s.capabilities = SpawnCapabilities{in.capabilities->bounding, in.capabilities->effective};
  return s;
}

Status write_inside(const std::string& path, const fb::container::InsideT& inside) {
  const Buffer bytes = pack(inside);
  const Bytes view(bytes);
  return base::write_whole(path, {reinterpret_cast<const char*>(view.data()), view.size()}, false);
}

Result<fb::container::InsideT> read_inside(const std::string& path) {
  GANTRY_TRY(const std::string text, base::read_file(path, std::size_t{16} << 20));
  auto inside = unpack<fb::container::Inside>(Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  if (!inside) return std::move(inside).error().because(path + " is damaged");
  return std::move(*inside);
}

}  // namespace gantry::agent
