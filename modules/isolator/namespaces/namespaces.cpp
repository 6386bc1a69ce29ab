#include "namespaces.hpp"

#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <tuple>

#include <cmath>
#include <cstdlib>

namespace gantry::isolator_namespaces {
namespace {

using fb::isolator::Namespace;

constexpr char problem[] = "no right to make namespaces: containers share the machine's; run gantryd as root to separate them";

bool has_sys_admin() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  return ::syscall(SYS_capget, &header, data) == 0 && (data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}

constexpr std::uint32_t bit(Namespace n) { return static_cast<std::uint32_t>(n); }

std::unique_ptr<fb::isolator::MountT> mount(const char* source, const char* target, const char* type, std::uint64_t flags,
                                            std::string data = {}) {
  auto m = std::make_unique<fb::isolator::MountT>();
  m->source = source;
  m->target = target;
  m->type = type;
  m->flags = flags;
  m->data = std::move(data);
  m->options = static_cast<std::uint32_t>(fb::isolator::MountOption::DIRECTORY);
  return m;
}

const fb::LinuxInfoT& linux_info(const fb::isolator::PrepareT& request) {
  static const fb::LinuxInfoT none;
  return request.task && request.task->container && request.task->container->linux_info ? *request.task->container->linux_info : none;
}

// A tmpfs, which counts against the memory of whoever writes to it.
std::unique_ptr<fb::isolator::MountT> own_shm(std::uint64_t bytes) {
  return mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" + (bytes ? ",size=" + std::to_string(bytes) : std::string()));
}

}  // namespace

namespace {

// `docker run`: an ipc namespace with a /dev/shm of 64 MiB unless it is told otherwise.
struct DockerWishes {
  bool host_pid = false, host_ipc = false;
  std::optional<std::uint64_t> shm_size;
  std::vector<std::string> heeded;
};
Result<DockerWishes> docker_wishes(const fb::DockerInfoT& docker) {
  DockerWishes w;
  for (const auto& p : docker.parameters) {
    const std::string &key = p->key, &value = p->value;
    const auto wrong = [&](const char* what) { return fail(Code::invalid_argument, "docker parameter " + key + "=" + value + ": write " + what); };
    if (key == "pid") {
      if (value != "host" && !value.empty()) return wrong("host, or leave it out");
      w.host_pid = value == "host";
    } else if (key == "ipc") {
      if (value != "host" && value != "private" && value != "shareable" && !value.empty()) return wrong("host or private");
      w.host_ipc = value == "host";
    } else if (key == "shm-size") {
      char* end = nullptr;
      const double n = std::strtod(value.c_str(), &end);
      const std::string unit = end;
      const int shift = unit.empty() || unit == "b" ? 0 : unit == "k" || unit == "K" ? 10 : unit == "m" || unit == "M" ? 20 : unit == "g" || unit == "G" ? 30 : -1;
      if (value.empty() || shift < 0 || !(n > 0) || n > 1e15) return wrong("a size, such as 64m");
      w.shm_size = static_cast<std::uint64_t>(std::ldexp(n, shift));
    } else {
      continue;
    }
    w.heeded.push_back(key);
  }
  return w;
}

}  // namespace

Result<fb::isolator::PreparedT> namespaces_of(const Policy& policy, const fb::isolator::PrepareT& request) {
  const fb::LinuxInfoT& own = linux_info(request);
  const bool image = !request.layers.empty();
  fb::isolator::PreparedT out;
  out.no_attach = true;
  out.namespaces = policy.wanted;

  DockerWishes docker;
  const auto* container = request.task ? request.task->container.get() : nullptr;
  const bool is_docker = container && container->type == fb::ContainerType::DOCKER && container->docker;
  if (is_docker) {
    GANTRY_TRY(docker, docker_wishes(*container->docker));
    out.parameters = docker.heeded;
  }
  const bool nested = !request.parent.empty();
  // It is in its parent's, which the agent sees to, unless it wants its own.
  if (nested) out.namespaces &= ~(bit(Namespace::IPC) | bit(Namespace::UTS));
  if (own.share_pid_namespace.value_or(false) || docker.host_pid) {
    if (nested)
      return fail(Code::failed_precondition, "linux_info.share_pid_namespace: tasks of a group cannot share the pid namespace of their executor on this agent; leave it out");
    if (!policy.share_pid)
      return fail(Code::failed_precondition,
                  "linux_info.share_pid_namespace (for a Docker task its parameter pid): this agent does not share its pid namespace (disallow_sharing_agent_pid)");
    out.namespaces &= ~bit(Namespace::PID);
  }

  auto mode = own.ipc_mode.value_or(fb::IpcMode::UNKNOWN);
  if (is_docker && mode == fb::IpcMode::UNKNOWN && image) mode = docker.host_ipc ? fb::IpcMode::SHARE_PARENT : fb::IpcMode::PRIVATE;
  bool own_memory = false;
  switch (mode) {
    case fb::IpcMode::SHARE_PARENT:
      if (!policy.share_ipc && !nested)
        return fail(Code::failed_precondition, "linux_info.ipc_mode SHARE_PARENT: this agent does not share its ipc namespace and /dev/shm (disallow_sharing_agent_ipc)");
      out.namespaces &= ~bit(Namespace::IPC);
      break;
    case fb::IpcMode::PRIVATE:
      out.namespaces |= bit(Namespace::IPC);
      own_memory = true;
      break;
    default:  // as it was before tasks could choose: the namespace, but the machine's /dev/shm unless there is an image
      own_memory = image && (out.namespaces & bit(Namespace::IPC)) != 0;
  }

  if (!(out.namespaces & bit(Namespace::MOUNT))) {
    if (mode == fb::IpcMode::PRIVATE)
      return fail(Code::failed_precondition,
                  "linux_info.ipc_mode PRIVATE needs a mount namespace for its /dev/shm; set mount = true in [isolator.namespaces]");
    return out;
  }
  // /proc shows the pid namespace in which it was mounted; the old one would show, and name wrongly, the machine's.
  if (image || (out.namespaces & bit(Namespace::PID)))
    out.mounts.push_back(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC));
  if (own_memory)
    out.mounts.push_back(own_shm(own.shm_size          ? std::uint64_t{*own.shm_size} << 20
                                 : docker.shm_size      ? *docker.shm_size
                                 : is_docker && !policy.shm_size ? std::uint64_t{64} << 20
                                                                 : policy.shm_size));
  else if (image && mode == fb::IpcMode::SHARE_PARENT)
    out.mounts.push_back(mount("/dev/shm", "/dev/shm", "", MS_BIND));
  return out;
}

Task<Status> Namespaces::configure(Settings settings) {
  Policy policy;
  const auto add = [&](const char* key, Namespace n) {
    if (settings.flag(key)) policy.wanted |= bit(n);
  };
  add("pid", Namespace::PID);
  add("mount", Namespace::MOUNT);
  add("ipc", Namespace::IPC);
  add("uts", Namespace::UTS);
  add("cgroup", Namespace::CGROUP);
  policy.shm_size = static_cast<std::uint64_t>(settings.number("shm_size"));
  policy.share_pid = !settings.flag("disallow_sharing_agent_pid");
  policy.share_ipc = !settings.flag("disallow_sharing_agent_ipc");
  // Forbidding a task to ask for what it gets anyway would look safe and not be.
  for (const auto& [shared, n, key, name] : {std::tuple(policy.share_pid, Namespace::PID, "disallow_sharing_agent_pid", "pid"),
                                             std::tuple(policy.share_ipc, Namespace::IPC, "disallow_sharing_agent_ipc", "ipc")})
    if (!shared && !(policy.wanted & bit(n)))
      co_return fail(
          Code::invalid_argument,
          std::string(key) + " = true has no meaning with " + name + " = false, which shares it with every task; set " + name + " = true",
          key);
  policy_ = policy;
  co_return ok;
}

Task<Status> Namespaces::start() {
  may_ = allowed ? allowed() : has_sys_admin();
  co_return ok;
}

Task<Result<fb::HealthT>> Namespaces::health() {
  fb::HealthT h;
  if (!may_ && policy_.wanted) {
    h.state = fb::HealthState::DEGRADED;
    h.message = problem;
  }
  co_return h;
}

Task<Result<fb::isolator::PreparedT>> Namespaces::prepare(Request<fb::isolator::Prepare> request) {
  if (!may_) {
    fb::isolator::PreparedT nothing;
    nothing.no_attach = true;
    co_return nothing;
  }
  fb::isolator::PrepareT body;
  request->UnPackTo(&body);
  co_return namespaces_of(policy_, body);
}

}  // namespace gantry::isolator_namespaces
