/* gantry-supervisor: the parent of one container. Starts its task, forwards two signals, records how it ended.
 *
 *   gantry-supervisor CONTAINER-ID DESCRIPTION-FD
 *
 * The launcher clones this program into the container's namespaces, so with a pid namespace it is pid 1 there: it reaps
 * what is orphaned, the task is an ordinary process with ordinary signal defaults, and when this program ends the
 * kernel ends the rest. Without one it is a child subreaper and kills what the task leaves behind.
 * It stays outside the container's cgroups: the out-of-memory killer must not take the witness.
 * One lives beside every running task, so: static, no stdio, no malloc.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/agent/supervisor_format.h"

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
  struct stat st;
  if (fstat(fd, &st) != 0) return -1;
  if ((size_t)st.st_size < sizeof *head) return errno = EINVAL, -1;
  head = mmap(0, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (head == MAP_FAILED) return -1;
  if (head->magic != GANTRY_SUP_MAGIC || head->version != GANTRY_SUP_VERSION || head->size != st.st_size)
    return errno = EPROTO, -1;
  /* The writer is our own daemon; this only catches a mismatched pair of binaries. */
  const char* end = (const char*)head + head->size;
  const struct gantry_sup_record* r = first_record();
  for (uint32_t i = 0; i < head->records; ++i) {
    if ((const char*)(r + 1) > end || r->length > (size_t)(end - payload(r))) return errno = EPROTO, -1;
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
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t got = read(fd, text, sizeof text - 1);
  close(fd);
  if (got <= 0) return -1;
  text[got] = 0;
  const char* p = strrchr(text, ')'); /* "pid (name) S ppid ..." */
  if (!p || p[1] == 0 || p[2] == 0) return -1;
  int parent = 0;
  for (p += 4; *p >= '0' && *p <= '9'; ++p) parent = parent * 10 + (*p - '0');
  return parent;
}

/* Sends `signal` to all descendants; without a pid namespace they have to be looked for. */
static void signal_descendants(int signal) {
  enum { most = 1 << 16 };
  struct known* table = mmap(0, most * sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (table == MAP_FAILED) return;
  char buffer[4096];
  int n = 0, dir = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (long got; dir >= 0 && (got = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0;) {
    for (long at = 0; at < got;) {
      struct dirent64* e = (struct dirent64*)(buffer + at);
      at += e->d_reclen;
      if (e->d_name[0] < '0' || e->d_name[0] > '9' || n == most) continue;
      int pid = 0;
      for (const char* p = e->d_name; *p; ++p) pid = pid * 10 + (*p - '0');
      table[n].pid = pid;
      table[n].parent = read_parent(e->d_name);
      table[n].ours = 0;
      ++n;
    }
  }
  if (dir >= 0) close(dir);
  const int self = getpid();
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
    if (table[i].ours) kill(table[i].pid, signal);
  munmap(table, most * sizeof *table);
}

static pid_t task_pid;

static void signal_all(int signal) {
  /* Beside a container /proc may count in another namespace; the command's session is what we know. */
  if (head->flags & GANTRY_SUP_JOIN) kill(-task_pid, signal);
  else if (head->flags & GANTRY_SUP_PID_NS) kill(-1, signal); /* everybody in the namespace but us, in one step */
  else signal_descendants(signal);
}

/* ---- starting */

static int apply_mounts(void) {
  if (!(head->flags & GANTRY_SUP_MOUNT_NS)) return 0;
  report.step = GANTRY_SUP_PROPAGATION;
  if (mount("", "/", "", MS_SLAVE | MS_REC, 0) != 0) return -1;
  report.step = GANTRY_SUP_MOUNTING;
  const struct gantry_sup_record* r = first_record();
  for (uint32_t i = 0; i < head->records; ++i, r = next_record(r)) {
    if (r->tag != GANTRY_SUP_MOUNT) continue;
    uint64_t flags;
    memcpy(&flags, payload(r), sizeof flags);
    const char* source = payload(r) + sizeof flags;
    const char* target = source + strlen(source) + 1;
    const char* type = target + strlen(target) + 1;
    const char* data = type + strlen(type) + 1;
    if (mount(source, target, type, (unsigned long)flags, *data ? data : 0) != 0) return -1;
    ++report.index;
  }
  return 0;
}

static int write_zero(const char* path) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t n = write(fd, "0", 1);
  int error = errno;
  close(fd);
  errno = error;
  return n == 1 ? 0 : -1;
}

static int open_output(const char* path, int as) {
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY, 0644);
  if (fd < 0) return -1;
  if (fd == as) return 0;
  if (dup2(fd, as) < 0) return -1;
  close(fd);
  return 0;
}

/* In the child: everything between fork and exec. Returns only on failure, with report.step and errno set. */
static void become_task(char** argv, char** envp) {
  const struct gantry_sup_record* r;
  const char* directory = 0;
  const char* output = 0;
  const char* errors = 0;
  const char* executable = argv[0];
  const gid_t* groups = 0;
  size_t group_count = 0;
  setsid();
  report.step = GANTRY_SUP_ENTERING;
  report.index = 0;
  r = first_record();
  for (uint32_t i = 0; i < head->records; ++i, r = next_record(r)) {
    switch (r->tag) {
      case GANTRY_SUP_ENTER:
        if (write_zero(payload(r)) != 0) return;
        ++report.index;
        break;
      case GANTRY_SUP_DIRECTORY: directory = payload(r); break;
      case GANTRY_SUP_STDOUT: output = payload(r); break;
      case GANTRY_SUP_STDERR: errors = payload(r); break;
      case GANTRY_SUP_EXECUTABLE: executable = payload(r); break;
      case GANTRY_SUP_GROUPS:
        groups = (const gid_t*)payload(r);
        group_count = r->length / sizeof *groups;
        break;
      default: break;
    }
  }
  if (head->flags & GANTRY_SUP_SWITCH_USER) {
    report.step = GANTRY_SUP_USER;
    /* System calls, not the wrappers: the child shares our memory until it execs. */
    if (syscall(SYS_setgroups, group_count, groups) != 0) return;
    if (syscall(SYS_setresgid, head->gid, head->gid, head->gid) != 0) return;
    if (syscall(SYS_setresuid, head->uid, head->uid, head->uid) != 0) return;
  }
  report.step = GANTRY_SUP_CHDIR;
  if (directory && chdir(directory) != 0) return;
  report.step = GANTRY_SUP_OUTPUT;
  if (output && open_output(output, 1) != 0) return;
  if (errors && open_output(errors, 2) != 0) return;
  report.step = GANTRY_SUP_EXEC;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, 0);
  environ = envp;
  execvp(executable, argv);
}

static pid_t start_task(void) {
  const size_t slots = (size_t)head->arguments + head->environment + 2;
  char** table = mmap(0, slots * sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  report.step = GANTRY_SUP_FORK;
  if (table == MAP_FAILED) return -1;
  char** argv = table;
  char** envp = table + head->arguments + 1;
  uint32_t a = 0, e = 0;
  const struct gantry_sup_record* r = first_record();
  for (uint32_t i = 0; i < head->records; ++i, r = next_record(r)) {
    if (r->tag == GANTRY_SUP_ARGUMENT && a < head->arguments) argv[a++] = (char*)payload(r);
    if (r->tag == GANTRY_SUP_ENVIRONMENT && e < head->environment) envp[e++] = (char*)payload(r);
  }
  volatile int error = 0;
  const pid_t pid = vfork(); /* shares memory: `report` and `error` are how the child tells what failed */
  if (pid == 0) {
    become_task(argv, envp);
    error = errno ? errno : EINVAL;
    _exit(127);
  }
  const int fork_error = errno;
  munmap(table, slots * sizeof *table);
  if (pid < 0) {
    errno = fork_error;
    return -1;
  }
  if (error) {
    waitpid(pid, 0, 0);
    errno = error;
    return -1;
  }
  report.step = GANTRY_SUP_STARTED;
  return pid;
}

static void send_report(pid_t pid) {
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
    struct ucred who = {pid, geteuid(), getegid()};
    memcpy(CMSG_DATA(c), &who, sizeof who);
  }
  if (sendmsg(head->control_fd, &message, MSG_NOSIGNAL) < 0 && message.msg_control) {
    message.msg_control = 0;
    message.msg_controllen = 0;
    sendmsg(head->control_fd, &message, MSG_NOSIGNAL);
  }
  close(head->control_fd);
}

static void give_up(void) {
  report.error = errno;
  if (head && head != MAP_FAILED) send_report(0);
  _exit(126);
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
  clock_gettime(CLOCK_REALTIME, &now);
  char line[80] = "exit ";
  char* at = put_number(line + 5, (unsigned)status);
  *at++ = ' ';
  at = put_number(at, (unsigned long long)now.tv_sec * 1000000000ull + (unsigned long long)now.tv_nsec);
  *at++ = '\n';
  while (write(fd, line, (size_t)(at - line)) < 0 && errno == EINTR) {}
}

/* Waits for the task, serving signals. Returns its raw wait status; everything else in the container is dead then,
 * or dies with us. */
static int supervise(pid_t task, const sigset_t* signals) {
  for (;;) {
    siginfo_t info;
    const int signal = sigwaitinfo(signals, &info);
    if (signal == SIGTERM) signal_all(SIGTERM);
    if (signal == SIGUSR1) signal_all(SIGKILL);
    if (signal != SIGCHLD) continue;
    int status, ended = -1;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
      if (pid == task) ended = status;
    if (ended == -1) continue;
    if (head->flags & GANTRY_SUP_JOIN) {
      signal_all(SIGKILL);
    } else if (!(head->flags & GANTRY_SUP_PID_NS)) {
      /* Orphans come to us as their parents die, so kill until there is nobody left. */
      for (;;) {
        signal_descendants(SIGKILL);
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0) break;
        if (pid == 0) {
          struct timespec pause = {0, 1000000};
          sigtimedwait(signals, &info, &pause);
        }
      }
    }
    return ended;
  }
}

static void close_others(int a, int b, int c) {
  int keep[3] = {a, b, c};
  for (int i = 0; i < 3; ++i)
    for (int j = i + 1; j < 3; ++j)
      if (keep[j] < keep[i]) {
        int t = keep[i];
        keep[i] = keep[j];
        keep[j] = t;
      }
  unsigned from = 3;
  for (int i = 0; i < 3; ++i) {
    if (keep[i] < (int)from) continue;
    if ((unsigned)keep[i] > from) syscall(SYS_close_range, from, (unsigned)keep[i] - 1, 0);
    from = (unsigned)keep[i] + 1;
  }
  syscall(SYS_close_range, from, ~0u, 0);
}

/* Enters the namespaces of a running container; a pid namespace takes effect for the child. */
static int join_container(void) {
  if (!(head->flags & GANTRY_SUP_JOIN)) return 0;
  report.step = GANTRY_SUP_JOINING;
  if (head->join && syscall(SYS_setns, head->target_fd, head->join) != 0) return -1;
  close(head->target_fd);
  return 0;
}

static const char usage[] =
    "gantry-supervisor is started by gantryd, one for each container; it is of no use by hand.\n"
    "usage: gantry-supervisor CONTAINER-ID DESCRIPTION-FD\n";

int main(int argc, char** argv) {
  sigset_t signals;
  int fd = 0;
  if (argc != 3) return write(2, usage, sizeof usage - 1) < 0 ? 1 : 2;
  for (const char* p = argv[2]; *p >= '0' && *p <= '9'; ++p) fd = fd * 10 + (*p - '0');

  sigfillset(&signals);
  sigprocmask(SIG_SETMASK, &signals, 0);
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGUSR1);
  for (int s = 1; s < 32; ++s) signal(s, SIG_DFL); /* ignored signals would pass to the task */
  setsid();
  umask(022);
  report.step = GANTRY_SUP_DESCRIPTION;
  if (load_description(fd) != 0) give_up();
  const int null = open("/dev/null", O_RDWR);
  if (null >= 0) {
    for (int i = 0; i < 3; ++i)
      if (null != i) dup2(null, i);
    if (null > 2) close(null);
  }
  close_others(head->control_fd, head->record_fd, head->target_fd);
  if (head->control_fd >= 0) fcntl(head->control_fd, F_SETFD, FD_CLOEXEC);
  if (head->record_fd >= 0) fcntl(head->record_fd, F_SETFD, FD_CLOEXEC);
  if (!(head->flags & GANTRY_SUP_PID_NS)) prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);

  if (join_container() != 0) give_up();
  if (apply_mounts() != 0) give_up();
  if (head->flags & GANTRY_SUP_HELD) {
    char byte = 0;
    ssize_t n;
    while ((n = recv(head->control_fd, &byte, 1, 0)) < 0 && errno == EINTR) {}
    if (n != 1 || byte != GANTRY_SUP_GO) _exit(0);
  }
  const pid_t task = start_task();
  if (task < 0) give_up();
  task_pid = task;
  send_report(task);
  const int record = head->record_fd;
  const int joined = (head->flags & GANTRY_SUP_JOIN) != 0;
  const int status = supervise(task, &signals);
  record_exit(record, status);
  if (!joined) _exit(0);
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
