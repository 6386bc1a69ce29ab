/* gantry-supervisor: the parent of one container. Starts its task, forwards two signals, records how it ended.
 *
 *   gantry-supervisor CONTAINER-ID DESCRIPTION-FD
 *
 * The launcher clones this program into the container's namespaces, so with a pid namespace it is pid 1 there: it reaps
 * what is orphaned, the task is an ordinary process with ordinary signal defaults, and when this program ends the
 * kernel ends the rest. Without one it is a child subreaper and kills what the task leaves behind.
 * It stays outside the container's cgroups: the out-of-memory killer must not take the witness.
 * One lives beside every running task, so: static, without a C library, see tiny.h.
 */
#define _GNU_SOURCE
#include "confine.h"
#include "mounts.h"
#include "tiny.h"

#include "kernel/agent/supervisor_format.h"

#include <asm/ioctls.h>

static const struct gantry_sup_header* head;
static struct gantry_sup_report report;

/* ---- the description */

static uint32_t padded(uint32_t n) { return (n + 7u) & ~7u; }

static const struct gantry_sup_record* first_record(void) {
  return (const struct gantry_sup_record*)((const char*)head + sizeof *head);
}
static const char* payload(const struct gantry_sup_record* r) { return (const char*)r + sizeof *r; }
static const struct gantry_sup_record* next_record(const struct gantry_sup_record* r) {
  return (const struct gantry_sup_record*)(payload(r) + padded(r->length));
}

static int load_description(int fd) {
  const long size = SYS3(SYS_lseek, fd, 0, SEEK_END);
  if (size < (long)sizeof *head) return last_error = EINVAL, -1;
  head = map((size_t)size, PROT_READ, MAP_PRIVATE, fd);
  close_fd(fd);
  if (head == MAP_FAILED) return -1;
  if (head->magic != GANTRY_SUP_MAGIC || head->version != GANTRY_SUP_VERSION || head->size != size) return last_error = EPROTO, -1;
  /* The writer is our own daemon; this only catches a mismatched pair of binaries. */
  const char* end = (const char*)head + head->size;
  const struct gantry_sup_record* r = first_record();
  for (uint32_t i = 0; i < head->records; ++i) {
    if ((const char*)(r + 1) > end || r->length > (size_t)(end - payload(r))) return last_error = EPROTO, -1;
    r = next_record(r);
  }
  return 0;
}

/* ---- processes of the container */

struct known {
  int pid, parent;
  int ours;
};

static int read_parent(const char* pid) {
  char path[32], text[512];
  size_t n = strlen(pid);
  if (n > 12) return -1;
  memcpy(path, "/proc/", 6);
  memcpy(path + 6, pid, n);
  memcpy(path + 6 + n, "/stat", 6);
  const int fd = open_file(path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return -1;
  const long got = read_fd(fd, text, sizeof text - 1);
  close_fd(fd);
  if (got <= 0) return -1;
  text[got] = 0;
  const char* p = text + got; /* "pid (name) S ppid ...", where the name may hold anything */
  while (p > text && *p != ')') --p;
  if (p == text || text + got - p < 5) return -1;
  int parent = 0;
  for (p += 4; *p >= '0' && *p <= '9'; ++p) parent = parent * 10 + (*p - '0');
  return parent;
}

/* Sends `signal` to all descendants; without a pid namespace they have to be looked for. */
static void signal_descendants(int signal) {
  enum { most = 1 << 16 };
  struct known* table = map(most * sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (table == MAP_FAILED) return;
  static char buffer[4096];
  int n = 0;
  const int dir = open_file("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  for (long got; dir >= 0 && (got = SYS3(SYS_getdents64, dir, buffer, sizeof buffer)) > 0;) {
    for (long at = 0; at < got;) {
      /* struct linux_dirent64: u64 inode, s64 offset, u16 length, u8 type, name */
      const char* name = buffer + at + 19;
      uint16_t length;
      memcpy(&length, buffer + at + 16, sizeof length);
      at += length;
      if (*name < '0' || *name > '9' || n == most) continue;
      int pid = 0;
      for (const char* p = name; *p; ++p) pid = pid * 10 + (*p - '0');
      table[n].pid = pid;
      table[n].parent = read_parent(name);
      table[n].ours = 0;
      ++n;
    }
  }
  if (dir >= 0) close_fd(dir);
  const int self = (int)SYS0(SYS_getpid);
  for (int changed = 1; changed;) {
    changed = 0;
    for (int i = 0; i < n; ++i) {
      if (table[i].ours) continue;
      int ours = table[i].parent == self;
      for (int j = 0; !ours && j < n; ++j) ours = table[j].ours && table[j].pid == table[i].parent;
      if (ours) table[i].ours = changed = 1;
    }
  }
  for (int i = 0; i < n; ++i)
    if (table[i].ours) send_signal(table[i].pid, signal);
  SYS2(SYS_munmap, table, most * sizeof *table);
}

static int task_pid;

static void signal_all(int signal) {
  /* Beside a container /proc may count in another namespace; the command's session is what we know. */
  if (head->flags & GANTRY_SUP_BESIDE) send_signal(-task_pid, signal);
  else if (head->flags & GANTRY_SUP_PID_NS) send_signal(-1, signal); /* everybody in the namespace but us, in one step */
  else signal_descendants(signal);
}

/* ---- starting */

static const struct gantry_sup_record* find_record(uint32_t tag) {
  const struct gantry_sup_record* r = first_record();
  for (uint32_t i = 0; i < head->records; ++i, r = next_record(r))
    if (r->tag == tag) return r;
  return 0;
}

static int mount_all(int root, int outside) {
  const struct gantry_sup_record* r = first_record();
  report.step = GANTRY_SUP_MOUNTING;
  report.index = 0;
  for (uint32_t i = 0; i < head->records; ++i, r = next_record(r)) {
    if (r->tag != GANTRY_SUP_MOUNT) continue;
    const struct mount_record m = parse_mount(payload(r));
    if (((m.options & GANTRY_SUP_OUTSIDE) != 0) == outside && do_mount(root, &m) != 0) return -1;
    ++report.index;
  }
  return 0;
}

/* First what lies outside of the root, the root itself among it; then the root is opened, and what lies below it is mounted. */
static int apply_mounts(void) {
  if (!(head->flags & GANTRY_SUP_MOUNT_NS)) return 0;
  report.step = GANTRY_SUP_PROPAGATION;
  if (SYS5(SYS_mount, "", "/", "", MS_SLAVE | MS_REC, 0) != 0) return -1;
  if (mount_all(-1, 1) != 0) return -1;
  const struct gantry_sup_record* at = find_record(GANTRY_SUP_ROOT);
  if (!at) {
    const int slash = open_file("/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    const int rc = slash < 0 ? -1 : mount_all(slash, 0);
    close_fd(slash);
    return rc;
  }
  report.step = GANTRY_SUP_ROOTING;
  /* Bound onto itself: pivot_root wants a mount, and not one that the agent's own namespace would see change. */
  if (SYS5(SYS_mount, payload(at), payload(at), "", MS_BIND | MS_REC, 0) != 0) return -1;
  const int root = open_file(payload(at), O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (root < 0) return -1;
  if (mount_all(root, 0) != 0) return -1;
  const struct gantry_sup_record* directory = find_record(GANTRY_SUP_DIRECTORY);
  report.step = GANTRY_SUP_WORKDIR;
  if (directory) {
    const int made = make_below(root, payload(directory), 0, 0);
    if (made < 0) return -1;
    close_fd(made);
  }
  report.step = GANTRY_SUP_ROOTING;
  if (head->flags & GANTRY_SUP_READ_ONLY_ROOT && make_read_only(root) != 0) return -1;
  const int rc = enter_root(root);
  close_fd(root);
  return rc;
}

static int apply_hostname(void) {
  const struct gantry_sup_record* name = find_record(GANTRY_SUP_HOSTNAME);
  report.step = GANTRY_SUP_NAMING;
  return name ? (int)SYS2(SYS_sethostname, payload(name), strlen(payload(name))) : 0;
}

/* The files the task enters its cgroups by are the agent's: opened while its tree is still to be seen. */
enum { most_entries = 64 };
static int entries[most_entries];
static int entry_count;

static int open_entries(void) {
  const struct gantry_sup_record* r = first_record();
  report.step = GANTRY_SUP_ENTERING;
  report.index = 0;
  for (uint32_t i = 0; i < head->records; ++i, r = next_record(r)) {
    if (r->tag != GANTRY_SUP_ENTER) continue;
    if (entry_count == most_entries) return last_error = E2BIG, -1;
    const int fd = open_file(payload(r), O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return -1;
    entries[entry_count++] = fd;
    ++report.index;
  }
  return 0;
}

static void close_entries(void) {
  for (int i = 0; i < entry_count; ++i) close_fd(entries[i]);
}

static int open_output(const char* path, int as) {
  const int fd = open_file(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY, 0644);
  if (fd < 0) return -1;
  if (fd == as) return 0;
  if (move_fd(fd, as) < 0) return -1;
  close_fd(fd);
  return 0;
}

static int starts_with(const char* s, const char* with) {
  for (; *with; ++s, ++with)
    if (*s != *with) return 0;
  return 1;
}

/* As execvp does it, with the PATH of the task. Returns on failure only. */
static void execute(const char* file, char** argv, char** envp) {
  static char full[4096];
  const char* path = "/usr/local/bin:/usr/bin:/bin";
  int denied = 0;
  for (const char* p = file; *p; ++p)
    if (*p == '/') {
      SYS3(SYS_execve, file, argv, envp);
      return;
    }
  for (char** e = envp; *e; ++e)
    if (starts_with(*e, "PATH=")) path = *e + 5;
  const size_t n = strlen(file);
  last_error = ENOENT;
  for (;;) {
    size_t k = 0;
    while (path[k] && path[k] != ':') ++k;
    if (k + n + 2 <= sizeof full) {
      memcpy(full, path, k);
      if (k) full[k] = '/';
      memcpy(full + k + (k ? 1 : 0), file, n + 1);
      SYS3(SYS_execve, full, argv, envp);
      if (last_error == EACCES) denied = 1;
      else if (last_error != ENOENT && last_error != ENOTDIR) return;
    }
    if (!path[k]) break;
    path += k + 1;
  }
  if (denied) last_error = EACCES;
}

static int apply_limit(const char* p) {
  uint64_t resource;
  struct {
    uint64_t soft, hard;
  } limit;
  memcpy(&resource, p, sizeof resource);
  memcpy(&limit, p + 8, sizeof limit);
  return (int)SYS4(SYS_prlimit64, 0, resource, &limit, 0);
}

/* Cgroups first, so that nothing of the task runs outside of them; then limits. */
static int enter_and_limit(void) {
  report.step = GANTRY_SUP_ENTERING;
  for (report.index = 0; report.index < entry_count; ++report.index)
    if (write_fd(entries[report.index], "0", 1) != 1) return -1;
  report.step = GANTRY_SUP_LIMITING;
  report.index = 0;
  const struct gantry_sup_record* r = first_record();
  for (uint32_t i = 0; i < head->records; ++i, r = next_record(r)) {
    if (r->tag != GANTRY_SUP_LIMIT) continue;
    if (apply_limit(payload(r)) != 0) return -1;
    ++report.index;
  }
  return 0;
}

static int become_user(void) {
  if (!(head->flags & GANTRY_SUP_SWITCH_USER)) return 0;
  const struct gantry_sup_record* groups = find_record(GANTRY_SUP_GROUPS);
  report.step = GANTRY_SUP_USER;
  if (SYS2(SYS_setgroups, groups ? groups->length / sizeof(uint32_t) : 0, groups ? payload(groups) : 0) != 0) return -1;
  if (SYS3(SYS_setresgid, head->gid, head->gid, head->gid) != 0) return -1;
  return (int)SYS3(SYS_setresuid, head->uid, head->uid, head->uid);
}

/* The order matters. A filter needs privileges or the promise not to gain any, so without the promise it comes before the privileges
 * go; with it, it comes last and need not allow what we do ourselves. The bounding set is cut while we may, and what is effective is
 * taken when the user has been changed. */
static int confine(const struct gantry_sup_record* filter, int last) {
  const int promise = (head->flags & GANTRY_SUP_NO_NEW_PRIVILEGES) != 0;
  if (!last) {
    report.step = GANTRY_SUP_CONFINING;
    if (promise && SYS5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    if (head->flags & GANTRY_SUP_CAPABILITIES && limit_capabilities(head->bounding) != 0) return -1;
  } else if (head->flags & GANTRY_SUP_CAPABILITIES) {
    report.step = GANTRY_SUP_CONFINING;
    if (take_capabilities(head->bounding, head->effective, !(head->flags & GANTRY_SUP_SWITCH_USER) || head->uid == 0) != 0) return -1;
  }
  report.step = GANTRY_SUP_FILTERING;
  return filter && promise == last ? filter_calls(payload(filter), filter->length) : 0;
}

static int open_outputs(void) {
  const struct gantry_sup_record* sandbox = find_record(GANTRY_SUP_SANDBOX);
  const struct gantry_sup_record* output = find_record(GANTRY_SUP_STDOUT);
  const struct gantry_sup_record* errors = find_record(GANTRY_SUP_STDERR);
  const struct gantry_sup_record* directory = find_record(GANTRY_SUP_DIRECTORY);
  report.step = GANTRY_SUP_CHDIR;
  if (sandbox && SYS1(SYS_chdir, payload(sandbox)) != 0) return -1;
  report.step = GANTRY_SUP_TERMINAL_STEP;
  if (head->in_fd >= 0 && move_fd(head->in_fd, 0) < 0) return -1;
  if (head->out_fd >= 0 && move_fd(head->out_fd, 1) < 0) return -1;
  if (head->err_fd >= 0 && move_fd(head->err_fd, 2) < 0) return -1;
  if (head->flags & GANTRY_SUP_TERMINAL && SYS3(SYS_ioctl, 0, TIOCSCTTY, 0) != 0) return -1;
  report.step = GANTRY_SUP_OUTPUT;
  if (output && open_output(payload(output), 1) != 0) return -1;
  if (errors && open_output(payload(errors), 2) != 0) return -1;
  report.step = GANTRY_SUP_WORKDIR;
  return directory ? (int)SYS1(SYS_chdir, payload(directory)) : 0;
}

/* In the child: everything between fork and exec. Returns only on failure, with report.step and last_error set. */
static void become_task(char** argv, char** envp) {
  const struct gantry_sup_record* executable = find_record(GANTRY_SUP_EXECUTABLE);
  const struct gantry_sup_record* filter = find_record(GANTRY_SUP_SECCOMP);
  SYS0(SYS_setsid);
  if (enter_and_limit() != 0) return;
  if (confine(filter, 0) != 0) return;
  if (become_user() != 0) return;
  if (open_outputs() != 0) return;
  if (confine(filter, 1) != 0) return;
  report.step = GANTRY_SUP_EXEC;
  block_signals(0);
  execute(executable ? payload(executable) : argv[0], argv, envp);
}

/* Shared with the child, and kept off the stack because it runs on the same one. */
static struct {
  char** table;
  size_t bytes;
  char** envp;
  int failed;
} start;

__attribute__((noinline)) static void child(void) {
  become_task(start.table, start.envp);
  start.failed = last_error ? last_error : EINVAL;
  leave(127);
}

static int start_task(void) {
  start.bytes = ((size_t)head->arguments + head->environment + 2) * sizeof(char*);
  start.table = map(start.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  report.step = GANTRY_SUP_FORK;
  if (start.table == MAP_FAILED) return -1;
  start.envp = start.table + head->arguments + 1;
  uint32_t a = 0, e = 0;
  const struct gantry_sup_record* r = first_record();
  for (uint32_t i = 0; i < head->records; ++i, r = next_record(r)) {
    if (r->tag == GANTRY_SUP_ARGUMENT && a < head->arguments) start.table[a++] = (char*)payload(r);
    if (r->tag == GANTRY_SUP_ENVIRONMENT && e < head->environment) start.envp[e++] = (char*)payload(r);
  }
  task_pid = spawn_on_my_memory(child);
  if (task_pid < 0) return -1;
  SYS2(SYS_munmap, start.table, start.bytes);
  if (start.failed) {
    wait_child(task_pid, 0, 0);
    last_error = start.failed;
    return -1;
  }
  report.step = GANTRY_SUP_STARTED;
  return task_pid;
}

static void send_report(int pid) {
  if (head->control_fd < 0) return;
  report.pid = pid;
  struct iovec part = {&report, sizeof report};
  union {
    char space[CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (pid > 0 && (head->flags & GANTRY_SUP_PID_NS)) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    memset(&control, 0, sizeof control);
    struct cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_CREDENTIALS;
    c->cmsg_len = CMSG_LEN(sizeof(struct ucred));
    struct ucred who = {pid, (uid_t)SYS0(SYS_geteuid), (gid_t)SYS0(SYS_getegid)};
    memcpy(CMSG_DATA(c), &who, sizeof who);
  }
  if (SYS3(SYS_sendmsg, head->control_fd, &message, MSG_NOSIGNAL) < 0 && message.msg_control) {
    message.msg_control = 0;
    message.msg_controllen = 0;
    SYS3(SYS_sendmsg, head->control_fd, &message, MSG_NOSIGNAL);
  }
  close_fd(head->control_fd);
}

static void give_up(void) {
  report.error = last_error;
  if (head && head != MAP_FAILED) send_report(0);
  leave(126);
}

/* ---- ending */

static char* put_number(char* at, unsigned long long n) {
  char digits[24];
  int k = 0;
  do digits[k++] = (char)('0' + n % 10);
  while (n /= 10);
  while (k) *at++ = digits[--k];
  return at;
}

static void record_exit(int fd, int status) {
  if (fd < 0) return;
  struct timespec now;
  SYS2(SYS_clock_gettime, CLOCK_REALTIME, &now);
  char line[80] = "exit ";
  char* at = put_number(line + 5, (unsigned)status);
  *at++ = ' ';
  at = put_number(at, (unsigned long long)now.tv_sec * 1000000000ull + (unsigned long long)now.tv_nsec);
  *at++ = '\n';
  while (write_fd(fd, line, (size_t)(at - line)) < 0 && last_error == EINTR) {}
}

/* Waits for the task, serving signals. Returns its raw wait status; everything else in the container is dead then,
 * or dies with us. */
static int supervise(int task, uint64_t signals) {
  for (;;) {
    const int signal = next_signal(signals, 0);
    if (signal == SIGTERM) signal_all(SIGTERM);
    if (signal == SIGUSR1) signal_all(SIGKILL);
    if (signal != SIGCHLD) continue;
    int status, ended = -1;
    for (int pid; (pid = wait_child(-1, &status, WNOHANG)) > 0;)
      if (pid == task) ended = status;
    if (ended == -1) continue;
    if (head->flags & GANTRY_SUP_BESIDE) {
      signal_all(SIGKILL);
    } else if (!(head->flags & GANTRY_SUP_PID_NS)) {
      /* Orphans come to us as their parents die, so kill until there is nobody left. */
      for (;;) {
        signal_descendants(SIGKILL);
        const int pid = wait_child(-1, &status, WNOHANG);
        if (pid < 0) break;
        if (pid == 0) {
          struct timespec pause = {0, 1000000};
          next_signal(signals, &pause);
        }
      }
    }
    return ended;
  }
}

/* There is no task: the container is there for others. Whoever wants it to end has seen to those. */
static int hold(uint64_t signals) {
  for (;;) {
    const int signal = next_signal(signals, 0);
    if (signal == SIGTERM || signal == SIGUSR1) return 0;
  }
}

enum { kept_fds = 6 };
static void close_others(void) {
  int keep[kept_fds] = {head->control_fd, head->record_fd, head->target_fd, head->in_fd, head->out_fd, head->err_fd};
  for (int i = 0; i < kept_fds; ++i)
    for (int j = i + 1; j < kept_fds; ++j)
      if (keep[j] < keep[i]) {
        int t = keep[i];
        keep[i] = keep[j];
        keep[j] = t;
      }
  unsigned from = 3;
  for (int i = 0; i < kept_fds; ++i) {
    if (keep[i] < (int)from) continue;
    if ((unsigned)keep[i] > from) SYS3(SYS_close_range, from, (unsigned)keep[i] - 1, 0);
    from = (unsigned)keep[i] + 1;
  }
  SYS3(SYS_close_range, from, ~0u, 0);
}

/* Enters namespaces of a running container; a pid namespace takes effect for the child. */
static int join_container(void) {
  if (head->target_fd < 0) return 0;
  report.step = GANTRY_SUP_JOINING;
  if (head->join && SYS2(SYS_setns, head->target_fd, head->join) != 0) return -1;
  close_fd(head->target_fd);
  return 0;
}

static const char usage[] =
    "gantry-supervisor is started by gantryd, one for each container; it is of no use by hand.\n"
    "usage: gantry-supervisor CONTAINER-ID DESCRIPTION-FD\n";

int main(int argc, char** argv) {
  const uint64_t signals = signal_bit(SIGCHLD) | signal_bit(SIGTERM) | signal_bit(SIGUSR1);
  int fd = 0;
  if (argc != 3) return write_fd(2, usage, sizeof usage - 1) < 0 ? 1 : 2;
  for (const char* p = argv[2]; *p >= '0' && *p <= '9'; ++p) fd = fd * 10 + (*p - '0');

  block_signals(~0ull);
  default_signals(); /* ignored ones would pass to the task */
  SYS0(SYS_setsid);
  SYS1(SYS_umask, 022);
  report.step = GANTRY_SUP_DESCRIPTION;
  if (load_description(fd) != 0) give_up();
  const int null = open_file("/dev/null", O_RDWR, 0);
  if (null >= 0) {
    for (int i = 0; i < 3; ++i)
      if (null != i) move_fd(null, i);
    if (null > 2) close_fd(null);
  }
  close_others();
  const int streams[3] = {head->in_fd, head->out_fd, head->err_fd};
  for (int i = 0; i < 3; ++i)
    if (streams[i] >= 0) SYS3(SYS_fcntl, streams[i], F_SETFD, FD_CLOEXEC);
  if (head->control_fd >= 0) SYS3(SYS_fcntl, head->control_fd, F_SETFD, FD_CLOEXEC);
  if (head->record_fd >= 0) SYS3(SYS_fcntl, head->record_fd, F_SETFD, FD_CLOEXEC);
  if (!(head->flags & GANTRY_SUP_PID_NS)) SYS5(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);

  if (open_entries() != 0) give_up();
  if (join_container() != 0) give_up();
  if (apply_mounts() != 0) give_up();
  if (apply_hostname() != 0) give_up();
  if (head->flags & GANTRY_SUP_HELD) {
    char byte = 0;
    long n;
    while ((n = read_fd(head->control_fd, &byte, 1)) < 0 && last_error == EINTR) {}
    if (n != 1 || byte != GANTRY_SUP_GO) leave(0);
  }
  if (head->flags & GANTRY_SUP_HOLD) {
    close_entries();
    report.step = GANTRY_SUP_STARTED;
    send_report((int)SYS0(SYS_getpid));
    record_exit(head->record_fd, hold(signals));
    leave(0);
  }
  const int confined = head->flags & (GANTRY_SUP_CAPABILITIES | GANTRY_SUP_NO_NEW_PRIVILEGES) || find_record(GANTRY_SUP_SECCOMP);
  if (confined) be_opaque();
  const int task = start_task();
  if (task < 0) give_up();
  send_report(task);
  close_entries();
  /* Their end is to be seen when the task has closed them. */
  for (int i = 0; i < 3; ++i)
    if (streams[i] >= 0) close_fd(streams[i]);
  if (confined) lie_low();
  const int status = supervise(task, signals);
  record_exit(head->record_fd, status);
  if (!(head->flags & GANTRY_SUP_BESIDE)) leave(0);
  leave(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
