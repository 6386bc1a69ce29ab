#include "sandbox.hpp"

#include <cap-ng.h>
#include <seccomp.h>

#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

namespace gantry::modhost {
namespace {

Error problem(const std::string& what, int error = errno) {
  return fail(Code::permission_denied, "its sandbox cannot be made: " + what + ": " + std::strerror(error));
}

void limit(int resource, std::uint64_t value) {
  rlimit now{};
  ::getrlimit(static_cast<__rlimit_resource_t>(resource), &now);
  const rlim_t v = now.rlim_max == RLIM_INFINITY ? value : std::min<rlim_t>(value, now.rlim_max);
  const rlimit r{v, v};
  ::setrlimit(static_cast<__rlimit_resource_t>(resource), &r);
}

// A mount namespace whose /dev holds the usual harmless devices and those listed.
Status own_devices(const Options& o) {
  struct Device {
    std::string path;
    int fd;
  };
  std::vector<Device> keep;
  if (::unshare(CLONE_NEWNS) != 0) return problem("sandbox.devices needs a mount namespace of its own");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return problem("making / private");
  // Opened before the new /dev hides them, and after the change of namespace: others' mounts cannot be bound.
  std::vector<std::string> patterns{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
  patterns.insert(patterns.end(), o.devices.begin(), o.devices.end());
  for (const std::string& pattern : patterns) {
    glob_t found{};
    if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
      for (std::size_t i = 0; i < found.gl_pathc; ++i) {
        const int fd = ::open(found.gl_pathv[i], O_PATH | O_CLOEXEC);
        if (fd >= 0) keep.push_back({found.gl_pathv[i], fd});
      }
    else
      warn(o, "no device matches " + pattern);
    ::globfree(&found);
  }
  if (::mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=1m") != 0) return problem("mounting /dev");
  ::mkdir("/dev/shm", 01777);
  ::chmod("/dev/shm", 01777);
  (void)!::symlink("/proc/self/fd", "/dev/fd");
  for (const Device& d : keep) {
    for (std::size_t slash = d.path.find('/', 5); slash != std::string::npos; slash = d.path.find('/', slash + 1))
      ::mkdir(d.path.substr(0, slash).c_str(), 0755);
    const int file = ::open(d.path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) ::close(file);
    const std::string source = "/proc/self/fd/" + std::to_string(d.fd);
    if (::mount(source.c_str(), d.path.c_str(), nullptr, MS_BIND, nullptr) != 0) return problem("keeping " + d.path);
    ::close(d.fd);
  }
  return ok;
}

Status become(const Options& o) {
  if (::geteuid() != 0) return ok;
  passwd account{};
  account.pw_uid = ::getuid();
  account.pw_gid = ::getgid();
  if (!o.user.empty()) {
    const passwd* p = ::getpwnam(o.user.c_str());
    if (!p) return fail(Code::failed_precondition, "its sandbox cannot be made: there is no user " + o.user);
    account = *p;
  }
  // What the daemon lacks itself - in a container, say - cannot be kept; the module may do without.
  capng_get_caps_process();
  const auto possible = [](int number) {
    return capng_have_capability(CAPNG_PERMITTED, static_cast<unsigned>(number)) == 1 &&
           capng_have_capability(CAPNG_BOUNDING_SET, static_cast<unsigned>(number)) == 1;
  };
  std::vector<int> kept;
  for (const std::string& c : o.capabilities) {
    std::string name = c.starts_with("CAP_") ? c.substr(4) : c;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char x) { return static_cast<char>(std::tolower(x)); });
    const int number = capng_name_to_capability(name.c_str());
    if (number < 0) return fail(Code::failed_precondition, "there is no capability " + c + "; correct the module's manifest");
    if (possible(number)) kept.push_back(number);
    else warn(o, "the daemon has no " + c + " to give");
  }
  capng_clear(CAPNG_SELECT_ALL);
  for (const int number : kept)
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET),
                 static_cast<unsigned>(number));
  if (account.pw_uid != ::getuid()) {
    if (const int rc = capng_change_id(static_cast<int>(account.pw_uid), static_cast<int>(account.pw_gid),
                                       static_cast<capng_flags_t>(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING)))
      return fail(Code::permission_denied,
                  "its sandbox cannot be made: changing to user " + o.user + " failed (" + std::to_string(rc) + ")");
    return ok;
  }
  (void)::setgroups(0, nullptr);
  if (const int rc = capng_apply(CAPNG_SELECT_BOTH))
    return fail(Code::permission_denied,
                "its sandbox cannot be made: dropping capabilities failed (" + std::to_string(rc) + ")");
  return ok;
}

// What no module needs, or only with the capability beside it.
struct Denied {
  const char* call;
  const char* unless;  // capability; null: always denied
};
constexpr Denied denied[] = {
    {"kexec_load", nullptr},          {"kexec_file_load", nullptr},     {"init_module", "CAP_SYS_MODULE"},
    {"finit_module", "CAP_SYS_MODULE"}, {"delete_module", "CAP_SYS_MODULE"}, {"reboot", "CAP_SYS_BOOT"},
    {"swapon", nullptr},              {"swapoff", nullptr},             {"acct", nullptr},
    {"iopl", nullptr},                {"ioperm", nullptr},              {"settimeofday", "CAP_SYS_TIME"},
    {"clock_settime", "CAP_SYS_TIME"}, {"clock_adjtime", "CAP_SYS_TIME"}, {"adjtimex", "CAP_SYS_TIME"},
    {"add_key", nullptr},             {"request_key", nullptr},         {"keyctl", nullptr},
    {"userfaultfd", nullptr},         {"ptrace", "CAP_SYS_PTRACE"},     {"process_vm_readv", "CAP_SYS_PTRACE"},
    {"process_vm_writev", "CAP_SYS_PTRACE"}, {"perf_event_open", "CAP_SYS_ADMIN"}, {"bpf", "CAP_SYS_ADMIN"},
    {"open_by_handle_at", "CAP_DAC_READ_SEARCH"}, {"quotactl", "CAP_SYS_ADMIN"}, {"mount", "CAP_SYS_ADMIN"},
    {"umount2", "CAP_SYS_ADMIN"},     {"pivot_root", "CAP_SYS_ADMIN"},  {"move_mount", "CAP_SYS_ADMIN"},
    {"open_tree", "CAP_SYS_ADMIN"},   {"fsopen", "CAP_SYS_ADMIN"},      {"fsmount", "CAP_SYS_ADMIN"},
    {"fsconfig", "CAP_SYS_ADMIN"},    {"mount_setattr", "CAP_SYS_ADMIN"}, {"setns", "CAP_SYS_ADMIN"},
    {"unshare", "CAP_SYS_ADMIN"},     {"chroot", "CAP_SYS_CHROOT"},     {"vhangup", nullptr},
};

Status filter_calls(const Options& o) {
  scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
  if (!filter) return problem("seccomp_init", ENOMEM);
  int rc = 0;
  for (const Denied& d : denied) {
    if (d.unless && o.keeps(d.unless)) continue;
    const int number = ::seccomp_syscall_resolve_name(d.call);
    if (number == __NR_SCMP_ERROR) continue;  // this libseccomp does not know it
    const int r = ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0);
    if (r != 0 && r != -EDOM) rc = r;  // EDOM: not on this machine
  }
  if (!o.keeps("CAP_SYS_ADMIN")) {
    // New user namespaces are the usual way to more rights. clone3 hides its flags, and everyone falls back to clone.
    const scmp_arg_cmp new_user{0, SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER};  // SCMP_A0 is no C++
    rc = rc ? rc : ::seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, &new_user);
    rc = rc ? rc : ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  }
  if (!rc) rc = ::seccomp_load(filter);
  ::seccomp_release(filter);
  if (rc) return problem("seccomp", -rc);
  return ok;
}

}  // namespace

void warn(const Options& o, const std::string& line) {
  if (!o.quiet) std::fprintf(stderr, "%s\n", line.c_str());
}

Status shut_in(const Options& o, const Group& group) {
  const bool entered = group.enter();
  std::string missing = group.missing();
  if (!entered) missing = "memory, cpu, number of processes";
  if (!missing.empty())
    warn(o, "its process has no control group for: " + missing + " (" +
                (::geteuid() == 0 ? "no hierarchy with these controllers can be written"
                                  : "gantryd does not run as root") +
                "); limits of the process itself are used where there are such");
  if (!o.devices.empty()) GANTRY_CHECK(own_devices(o));
  limit(RLIMIT_CORE, 0);
  if (o.files) limit(RLIMIT_NOFILE, o.files);
  if (o.memory && (!entered || !group.limits_memory())) limit(RLIMIT_DATA, o.memory);
  GANTRY_CHECK(become(o));
  // Counts all processes of the user, hence only where nothing better is to be had and not for root.
  if (o.processes && (!entered || !group.limits_processes()) && ::geteuid() != 0 && !o.user.empty())
    limit(RLIMIT_NPROC, o.processes);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return problem("no_new_privs");
  // A change of user clears it. The keeper may have ended before; then the socket is closed as well.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Others of the same user must not reach into it through /proc.
  if (::geteuid() == 0 || !o.user.empty()) ::prctl(PR_SET_DUMPABLE, 0);
  if (o.seccomp) GANTRY_CHECK(filter_calls(o));
  return ok;
}

}  // namespace gantry::modhost
