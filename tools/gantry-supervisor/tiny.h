/* System calls without a C library, because a copy of the supervisor lives beside every task: with glibc, static, it
 * has 700 KiB of pages of its own, like this 30. Only declarations and constants are taken from the headers.
 * On machines that are not named here the C library is used after all; nothing else changes. */
#ifndef GANTRY_TINY_H
#define GANTRY_TINY_H

#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int last_error; /* errno of the last failed call; shared with a child of spawn_on_my_memory() */

#if defined(__x86_64__) || defined(__aarch64__)
#define GANTRY_TINY 1

static inline long raw(long n, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#endif
}
static inline long sys(long n, long a, long b, long c, long d, long e, long f) {
  const long result = raw(n, a, b, c, d, e, f);
  if (result < 0 && result > -4096) {
    last_error = (int)-result;
    return -1;
  }
  return result;
}

#if defined(__x86_64__)
__asm__(
    ".globl _start\n.type _start,@function\n_start:\n"
    "  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call start_c\n  hlt\n");
#else
__asm__(
    ".globl _start\n.type _start,%function\n_start:\n"
    "  mov x29, #0\n  mov x30, #0\n  mov x0, sp\n  bl start_c\n  brk #0\n");
#endif
int main(int argc, char** argv);
__attribute__((used, noreturn)) void start_c(long* stack);
void start_c(long* stack) {
  const int rc = main((int)stack[0], (char**)(stack + 1));
  for (;;) raw(SYS_exit_group, rc, 0, 0, 0, 0, 0);
}

/* What compilers call on their own. */
void* memcpy(void* to, const void* from, size_t n) {
  for (size_t i = 0; i < n; ++i) ((char*)to)[i] = ((const char*)from)[i];
  return to;
}
void* memset(void* to, int c, size_t n) {
  for (size_t i = 0; i < n; ++i) ((char*)to)[i] = (char)c;
  return to;
}
size_t strlen(const char* s) {
  size_t n = 0;
  while (s[n]) ++n;
  return n;
}

#else
#include <string.h>
static inline long sys(long n, long a, long b, long c, long d, long e, long f) {
  const long result = syscall(n, a, b, c, d, e, f);
  if (result < 0) last_error = errno;
  return result;
}
#endif

#define SYS0(n) sys(n, 0, 0, 0, 0, 0, 0)
#define SYS1(n, a) sys(n, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b) sys(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c) sys(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d) sys(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) sys(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS6(n, a, b, c, d, e, f) sys(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static int open_file(const char* path, int flags, int mode) { return (int)SYS4(SYS_openat, AT_FDCWD, path, flags, mode); }
static long read_fd(int fd, void* to, size_t n) { return SYS3(SYS_read, fd, to, n); }
static long write_fd(int fd, const void* from, size_t n) { return SYS3(SYS_write, fd, from, n); }
static void close_fd(int fd) {
  const int keep = last_error;
  SYS1(SYS_close, fd);
  last_error = keep;
}
static int move_fd(int from, int to) { return (int)SYS3(SYS_dup3, from, to, 0); }
static void* map(size_t n, int protection, int flags, int fd) { return (void*)SYS6(SYS_mmap, 0, n, protection, flags, fd, 0); }
static int send_signal(int pid, int signal) { return (int)SYS2(SYS_kill, pid, signal); }
static void block_signals(uint64_t mask) { SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof mask); }
static void default_signals(void) {
  uint64_t action[4] = {0, 0, 0, 0}; /* handler, flags, restorer, mask */
  for (int s = 1; s < 32; ++s) SYS4(SYS_rt_sigaction, s, action, 0, 8);
}
static uint64_t signal_bit(int s) { return 1ull << (s - 1); }
/* The next of these signals; -1 after the time, if one is given. */
static int next_signal(uint64_t mask, const struct timespec* limit) { return (int)SYS4(SYS_rt_sigtimedwait, &mask, 0, limit, sizeof mask); }
static int wait_child(int pid, int* status, int flags) { return (int)SYS4(SYS_wait4, pid, status, flags, 0); }
__attribute__((noreturn)) static void leave(int status) {
  for (;;) SYS1(SYS_exit_group, status);
}

/* vfork: the child runs on our memory and stack, we wait until it has executed or left. `child` must not return. What
 * the parent needs afterwards must not live on its stack. */
#ifdef GANTRY_TINY
static inline int spawn_on_my_memory(void (*child)(void)) {
  const long pid = raw(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0, 0);
  if (pid == 0) child();
  if (pid < 0) last_error = (int)-pid;
  return pid < 0 ? -1 : (int)pid;
}
#else
static int spawn_on_my_memory(void (*child)(void)) {
  const int pid = vfork();
  if (pid == 0) child();
  if (pid < 0) last_error = errno;
  return pid;
}
#endif

#endif
