#include "kernel/agent/spawn.hpp"

#include "kernel/agent/supervisor_format.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

namespace gantry::agent {
namespace {

Error system_error(std::string what) {
  const int e = errno;
  const Code code = e == EPERM || e == EACCES ? Code::permission_denied : e == EAGAIN || e == ENOMEM || e == EMFILE || e == ENFILE || e == ENOSPC ? Code::resource_exhausted : Code::internal;
  return fail(code, std::move(what) + ": " + std::strerror(e));
}

// Writes the description of supervisor_format.h.
class Description {
 public:
  Description() : bytes_(sizeof(gantry_sup_header)) {}
  gantry_sup_header header{};

  void text(std::uint32_t tag, std::string_view s) { add(tag, {s}); }
  void mount(const SpawnMount& m) {
    std::string body = numbers({m.flags, m.options});
    for (const auto* text : {&m.source, &m.target, &m.type, &m.data}) body.append(*text).push_back('\0');
    add(GANTRY_SUP_MOUNT, {body, m.base});
  }
  void limit(const SpawnLimit& l) { add(GANTRY_SUP_LIMIT, {numbers({l.resource, l.soft, l.hard})}, false); }
  template <class T>
  void array(std::uint32_t tag, const std::vector<T>& values) {
    add(tag, {std::string_view(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))}, false);
  }
  // The description as a memfd.
  Result<base::Fd> finish() {
    header.magic = GANTRY_SUP_MAGIC;
    header.version = GANTRY_SUP_VERSION;
    header.size = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &header, sizeof header);
    base::Fd fd(memfd_create("gantry-container", MFD_CLOEXEC));
    if (!fd) return system_error("cannot make a memory file for the container's description");
    for (std::size_t at = 0; at < bytes_.size();) {
      const ssize_t n = ::write(fd.get(), bytes_.data() + at, bytes_.size() - at);
      if (n < 0) return system_error("cannot write the container's description");
      at += static_cast<std::size_t>(n);
    }
    return fd;
  }

 private:
  static std::string numbers(std::initializer_list<std::uint64_t> all) { return {reinterpret_cast<const char*>(all.begin()), all.size() * sizeof(std::uint64_t)}; }
  void add(std::uint32_t tag, std::initializer_list<std::string_view> parts, bool zero = true) {
    gantry_sup_record r{tag, zero ? 1u : 0u};
    for (const auto p : parts) r.length += static_cast<std::uint32_t>(p.size());
    const auto* raw = reinterpret_cast<const char*>(&r);
    bytes_.insert(bytes_.end(), raw, raw + sizeof r);
    for (const auto p : parts) bytes_.insert(bytes_.end(), p.begin(), p.end());
    if (zero) bytes_.push_back('\0');
    bytes_.resize((bytes_.size() + 7) & ~std::size_t{7});
    ++header.records;
  }
  std::vector<char> bytes_;
};

// Namespace bit -> CLONE_NEW*.
unsigned long clone_flags(std::uint32_t namespaces) {
  using fb::isolator::Namespace;
  static constexpr std::pair<Namespace, unsigned long> table[] = {
      {Namespace::PID, CLONE_NEWPID}, {Namespace::MOUNT, CLONE_NEWNS}, {Namespace::NETWORK, CLONE_NEWNET}, {Namespace::IPC, CLONE_NEWIPC},
      {Namespace::UTS, CLONE_NEWUTS}, {Namespace::CGROUP, CLONE_NEWCGROUP}, {Namespace::USER, CLONE_NEWUSER}};
  unsigned long flags = 0;
  for (const auto& [bit, flag] : table)
    if (namespaces & static_cast<std::uint32_t>(bit)) flags |= flag;
  return flags;
}

struct CloneArgs {
  const char* path;
  char* const* argv;
  int inherit[7];
};

// In the child, on the parent's memory and a stack of its own, all signals blocked: only system calls.
__attribute__((no_sanitize("address", "undefined", "thread"))) int child(void* p) {
  const auto* a = static_cast<const CloneArgs*>(p);
  for (const int fd : a->inherit)
    if (fd >= 0) ::fcntl(fd, F_SETFD, 0);
  static char* const no_environment[] = {nullptr};
  ::execve(a->path, a->argv, no_environment);
  ::_exit(errno);  // seen by the parent as a supervisor that ended without a report
}

std::string limit_name(std::uint32_t resource) {
  static constexpr const char* names[] = {"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"};
  return resource < std::size(names) ? std::string("RLIMIT_") + names[resource] : std::to_string(resource);
}

const char* step_text(int step) {
  switch (step) {
    case GANTRY_SUP_DESCRIPTION: return "the supervisor does not understand its description (another version?)";
    case GANTRY_SUP_PROPAGATION: return "cannot make the mounts of the container private";
    case GANTRY_SUP_MOUNTING: return "cannot mount ";
    case GANTRY_SUP_FORK: return "cannot fork the task";
    case GANTRY_SUP_ENTERING: return "cannot enter ";
    case GANTRY_SUP_USER: return "cannot become the user ";
    case GANTRY_SUP_CHDIR: return "cannot enter the sandbox ";
    case GANTRY_SUP_OUTPUT: return "cannot open stdout or stderr in the sandbox ";
    case GANTRY_SUP_EXEC: return "cannot execute ";
    case GANTRY_SUP_JOINING: return "cannot enter the container's namespaces";
    case GANTRY_SUP_ROOTING: return "cannot enter the container's root ";
    case GANTRY_SUP_NAMING: return "cannot set the host name ";
    case GANTRY_SUP_LIMITING: return "cannot set the limit ";
    case GANTRY_SUP_CONFINING: return "cannot drop capabilities";
    case GANTRY_SUP_FILTERING: return "cannot filter system calls";
    case GANTRY_SUP_TERMINAL_STEP: return "cannot take the terminal";
    case GANTRY_SUP_WORKDIR: return "cannot enter the working directory ";
    default: return "the supervisor failed in an unknown step";
  }
}

}  // namespace

Result<Account> find_account(const std::string& name) {
  Account account;
  const uid_t self = ::geteuid();
  std::vector<char> space(16384);
  passwd entry{};
  passwd* found = nullptr;
  const int rc = name.empty() ? ::getpwuid_r(self, &entry, space.data(), space.size(), &found)
                              : ::getpwnam_r(name.c_str(), &entry, space.data(), space.size(), &found);
  if (!found) {
    if (name.empty()) {
      account.uid = self;
      account.gid = ::getegid();
      account.home = "/";
      return account;
    }
    return fail(Code::not_found, "user \"" + name + "\" does not exist on this agent" + (rc ? std::string(": ") + std::strerror(rc) : std::string()) +
                                     "; create the account or choose another user");
  }
  account.uid = entry.pw_uid;
  account.gid = entry.pw_gid;
  account.home = entry.pw_dir;
  account.name = entry.pw_name;
  if (name.empty() || entry.pw_uid == self) return account;
  if (self != 0)
    return fail(Code::permission_denied, "cannot run as user \"" + name + "\": the agent is not root; run it as root or set switch_user = false");
  account.change = true;
  int count = 64;
  account.groups.resize(64);
  if (::getgrouplist(entry.pw_name, entry.pw_gid, account.groups.data(), &count) < 0) {
    account.groups.resize(static_cast<std::size_t>(count));
    ::getgrouplist(entry.pw_name, entry.pw_gid, account.groups.data(), &count);
  }
  account.groups.resize(static_cast<std::size_t>(count));
  return account;
}

Result<Spawned> spawn_supervised(const Spawn& s) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return system_error("cannot make a socket to the supervisor");
  base::Fd ours(pair[0]), theirs(pair[1]);
  const int on = 1;
  ::setsockopt(ours.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  base::Fd record;
  if (!s.record.empty()) {
    record = base::Fd(::open(s.record.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!record) return system_error("cannot create " + s.record);
  }

  const unsigned long namespaces = clone_flags(s.namespaces);
  Description d;
  auto& h = d.header;
  if (s.held) h.flags |= GANTRY_SUP_HELD;
  if (s.beside) h.flags |= GANTRY_SUP_BESIDE;
  if (s.hold) h.flags |= GANTRY_SUP_HOLD;
  if (namespaces & CLONE_NEWPID) h.flags |= GANTRY_SUP_PID_NS;
  if (namespaces & CLONE_NEWNS) h.flags |= GANTRY_SUP_MOUNT_NS;
  h.join = static_cast<std::uint32_t>(clone_flags(s.join));
  if (s.account.change) h.flags |= GANTRY_SUP_SWITCH_USER;
  if (s.read_only_root) h.flags |= GANTRY_SUP_READ_ONLY_ROOT;
  if (s.no_new_privileges) h.flags |= GANTRY_SUP_NO_NEW_PRIVILEGES;
  if (s.capabilities) {
    h.flags |= GANTRY_SUP_CAPABILITIES;
    h.bounding = s.capabilities->bounding;
    h.effective = s.capabilities->effective;
  }
  h.control_fd = theirs.get();
  h.record_fd = record.get();
  h.target_fd = s.join_pidfd;
  h.in_fd = s.in_fd;
  h.out_fd = s.out_fd;
  h.err_fd = s.err_fd;
  if (s.terminal) h.flags |= GANTRY_SUP_TERMINAL;
  h.uid = s.account.uid;
  h.gid = s.account.gid;
  h.arguments = static_cast<std::uint32_t>(s.arguments.size());
  h.environment = static_cast<std::uint32_t>(s.environment.size());
  for (const auto& a : s.arguments) d.text(GANTRY_SUP_ARGUMENT, a);
  for (const auto& e : s.environment) d.text(GANTRY_SUP_ENVIRONMENT, e);
  for (const auto& f : s.enter_files) d.text(GANTRY_SUP_ENTER, f);
  for (const auto& m : s.mounts) d.mount(m);
  if (!s.executable.empty()) d.text(GANTRY_SUP_EXECUTABLE, s.executable);
  if (!s.sandbox.empty()) d.text(GANTRY_SUP_SANDBOX, s.sandbox);
  if (!s.directory.empty()) d.text(GANTRY_SUP_DIRECTORY, s.directory);
  if (!s.root.empty()) d.text(GANTRY_SUP_ROOT, s.root);
  if (!s.hostname.empty()) d.text(GANTRY_SUP_HOSTNAME, s.hostname);
  for (const auto& l : s.limits) d.limit(l);
  if (!s.seccomp.empty()) d.array(GANTRY_SUP_SECCOMP, s.seccomp);
  if (!s.out.empty()) d.text(GANTRY_SUP_STDOUT, s.out);
  if (!s.err.empty()) d.text(GANTRY_SUP_STDERR, s.err);
  if (s.account.change) d.array(GANTRY_SUP_GROUPS, s.account.groups);
  GANTRY_TRY(const base::Fd description, d.finish());

  std::string name = "gantry-supervisor", id = s.container_id, number = std::to_string(description.get());
  char* argv[] = {name.data(), id.data(), number.data(), nullptr};
  CloneArgs args{s.supervisor.c_str(), argv, {theirs.get(), record.get(), description.get(), s.join_pidfd, s.in_fd, s.out_fd, s.err_fd}};
  // The child borrows our memory until it has executed (as vfork does): no page tables are copied. It needs a little
  // stack of its own and no signal handler may run in it.
  alignas(16) char stack[16384];
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  int pidfd = -1;
  const unsigned long flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD | namespaces;
  const int pid = ::clone(child, stack + sizeof stack, static_cast<int>(flags), &args, &pidfd, nullptr, nullptr);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) {
    errno = error;
    Error e = system_error("cannot clone the container's first process");
    if (error == EPERM && namespaces) e.message += "; namespaces need root (CAP_SYS_ADMIN): run gantryd as root or remove the namespaces isolator";
    return e;
  }
  Spawned out;
  out.supervisor_pid = pid;
  out.pidfd = base::Fd(pidfd);
  out.control = std::move(ours);
  if (record) {
    const std::string line = "supervisor " + std::to_string(pid) + " " + std::to_string(start_time(pid)) + " " + boot_id() + "\n";
    if (::write(record.get(), line.data(), line.size()) < 0) {
      Error e = system_error("cannot write " + s.record);
      // Held, or first of its pid namespace: nothing outlives it. Else it kills its task first, should that run already.
      signal_pidfd(pidfd, s.held || (h.flags & GANTRY_SUP_PID_NS) ? SIGKILL : SIGUSR1);
      siginfo_t info{};
      ::waitid(static_cast<idtype_t>(3 /* P_PIDFD */), static_cast<id_t>(pidfd), &info, WEXITED);
      return e;
    }
  }
  return out;
}

Status release(const Spawned& s) {
  const char go = GANTRY_SUP_GO;
  if (::send(s.control.get(), &go, 1, MSG_NOSIGNAL) != 1) return system_error("the supervisor is gone");
  return ok;
}

Result<int> read_report(int control, const Spawn& s) {
  gantry_sup_report report{};
  iovec part{&report, sizeof report};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  // A supervisor that ended with our word unread resets the connection; what it said before is still to be had.
  ssize_t n;
  int resets = 0;
  do n = ::recvmsg(control, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (n < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
  if (n != static_cast<ssize_t>(sizeof report))
    return fail(Code::internal, "the supervisor " + s.supervisor + " ended before it could start the task; is it there and executable?");
  if (report.step == GANTRY_SUP_STARTED) {
    // Without a pid namespace the sender is the supervisor, and its word is good; with one the kernel translated the pid.
    if (!(s.namespaces & static_cast<std::uint32_t>(fb::isolator::Namespace::PID))) return report.pid;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS) continue;
      ucred who{};
      std::memcpy(&who, CMSG_DATA(c), sizeof who);
      return who.pid;
    }
    return report.pid;
  }
  std::string text = step_text(report.step);
  const auto nth = static_cast<std::size_t>(report.index);
  switch (report.step) {
    case GANTRY_SUP_MOUNTING: text += nth < s.mounts.size() ? s.mounts[nth].source + " on " + s.mounts[nth].target : ""; break;
    case GANTRY_SUP_ENTERING: text += nth < s.enter_files.size() ? s.enter_files[nth] : ""; break;
    case GANTRY_SUP_USER: text += "\"" + s.account.name + "\""; break;
    case GANTRY_SUP_CHDIR:
    case GANTRY_SUP_OUTPUT: text += s.sandbox; break;
    case GANTRY_SUP_ROOTING: text += s.root; break;
    case GANTRY_SUP_NAMING: text += "\"" + s.hostname + "\""; break;
    case GANTRY_SUP_WORKDIR: text += s.directory; break;
    case GANTRY_SUP_LIMITING:
      if (nth < s.limits.size()) text += limit_name(s.limits[nth].resource) + " to " + std::to_string(s.limits[nth].soft) + " (hard " + std::to_string(s.limits[nth].hard) + ")";
      break;
    case GANTRY_SUP_EXEC: text += "\"" + (s.executable.empty() ? s.arguments.at(0) : s.executable) + "\""; break;
    default: break;
  }
  errno = report.error;
  return system_error(std::move(text));
}

std::uint64_t start_time(int pid) {
  const base::Fd fd(::open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t n = fd ? ::read(fd.get(), text, sizeof text) : -1;
  if (n <= 0) return 0;
  std::string_view v(text, static_cast<std::size_t>(n));
  v.remove_prefix(std::min(v.rfind(')') + 1, v.size()));  // the name may hold anything; field 3 follows it
  for (int field = 2; field < 21; ++field) {
    const auto blank = v.find(' ', 1);
    if (blank == v.npos) return 0;
    v.remove_prefix(blank);
  }
  std::uint64_t start = 0;
  std::from_chars(v.data() + 1, v.data() + v.size(), start);
  return start;
}

std::string boot_id() {
  static const std::string id = [] {
    const base::Fd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
    char text[64];
    const ssize_t n = fd ? ::read(fd.get(), text, sizeof text) : -1;
    std::string_view v(text, n > 0 ? static_cast<std::size_t>(n) : 0);
    return std::string(v.substr(0, v.find('\n')));
  }();
  return id;
}

std::uint32_t namespaces_of(int pid) {
  using fb::isolator::Namespace;
  static constexpr std::pair<const char*, Namespace> table[] = {
      {"pid", Namespace::PID}, {"mnt", Namespace::MOUNT}, {"net", Namespace::NETWORK}, {"ipc", Namespace::IPC}, {"uts", Namespace::UTS}};
  std::uint32_t bits = 0;
  for (const auto& [name, bit] : table) {
    struct stat ours {}, theirs {};
    const std::string file = std::string("/ns/") + name;
    if (::stat(("/proc/self" + file).c_str(), &ours) == 0 && ::stat(("/proc/" + std::to_string(pid) + file).c_str(), &theirs) == 0 && ours.st_ino != theirs.st_ino)
      bits |= static_cast<std::uint32_t>(bit);
  }
  return bits;
}

bool signal_pidfd(int pidfd, int signal) { return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0; }

std::optional<int> reap(int pidfd) {
  siginfo_t info{};
  if (::waitid(static_cast<idtype_t>(3 /* P_PIDFD */), static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0) return std::nullopt;
  return info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : info.si_status & 0x7f;
}

Record parse_record(std::string_view text) {
  Record r;
  while (!text.empty()) {
    const auto end = text.find('\n');
    if (end == text.npos) break;  // cut off: as if it were not there
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    std::string_view words[4];
    for (auto& w : words) {
      w = line.substr(0, line.find(' '));
      line.remove_prefix(std::min(w.size() + 1, line.size()));
    }
    const auto number = [](std::string_view w, auto& out) { return std::from_chars(w.data(), w.data() + w.size(), out).ec == std::errc(); };
    if (words[0] == "supervisor") {
      number(words[1], r.supervisor_pid);
      number(words[2], r.supervisor_start);
      r.boot = words[3];
    } else if (int status = 0; words[0] == "exit" && number(words[1], status)) {
      r.wait_status = status;
    }
  }
  return r;
}

std::optional<Record> read_record(const std::string& path) {
  const base::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return std::nullopt;
  char text[4096];
  const ssize_t n = ::read(fd.get(), text, sizeof text);
  return parse_record(std::string_view(text, n > 0 ? static_cast<std::size_t>(n) : 0));
}

}  // namespace gantry::agent
