#include "namespaces.hpp"

#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gantry::isolator_namespaces {
namespace {

using fb::isolator::Namespace;

constexpr char problem[] = "no right to make namespaces: containers share the machine's; run gantryd as root to separate them";

bool has_sys_admin() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  return ::syscall(SYS_capget, &header, data) == 0 && (data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}

}  // namespace

Task<Status> Namespaces::configure(Settings settings) {
  wanted_ = 0;
  const auto add = [&](const char* key, Namespace bit) {
    if (settings.flag(key)) wanted_ |= static_cast<std::uint32_t>(bit);
  };
  add("pid", Namespace::PID);
  add("mount", Namespace::MOUNT);
  add("ipc", Namespace::IPC);
  add("uts", Namespace::UTS);
  co_return ok;
}

Task<Status> Namespaces::start() {
  may_ = allowed ? allowed() : has_sys_admin();
  co_return ok;
}

Task<Result<fb::HealthT>> Namespaces::health() {
  fb::HealthT h;
  if (!may_ && wanted_) {
    h.state = fb::HealthState::DEGRADED;
    h.message = problem;
  }
  co_return h;
}

Task<Result<fb::isolator::PreparedT>> Namespaces::prepare(Request<fb::isolator::Prepare>) {
  fb::isolator::PreparedT out;
  out.no_attach = true;
  if (!may_) co_return out;
  out.namespaces = wanted_;
  constexpr auto both = static_cast<std::uint32_t>(Namespace::PID) | static_cast<std::uint32_t>(Namespace::MOUNT);
  if ((wanted_ & both) == both) {
    // /proc shows the pid namespace in which it was mounted; the old one would show, and name wrongly, the machine's.
    auto proc = std::make_unique<fb::isolator::MountT>();
    proc->source = "proc";
    proc->target = "/proc";
    proc->type = "proc";
    proc->flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    out.mounts.push_back(std::move(proc));
  }
  co_return out;
}

}  // namespace gantry::isolator_namespaces
