/* The least that a contained launch costs on this machine: for each of N tasks a cpu and a memory cgroup with limits, a
 * clone into new pid and mount namespaces, exec of /bin/true, wait, and the cgroups removed. Prints nanoseconds, one line a
 * task. Arguments: N, then the directory of the cpu and of the memory hierarchy (the same one on cgroup v2). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char stack[64 * 1024];

static int write_file(const char* dir, const char* name, const char* text) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const ssize_t n = write(fd, text, strlen(text));
  close(fd);
  return n < 0 ? -1 : 0;
}

static int child(void* arg) {
  const int* gate = arg;
  char go;
  close(gate[1]); /* so that it ends when the parent does */
  if (read(gate[0], &go, 1) != 1) _exit(126);
  execl("/bin/true", "true", (char*)NULL);
  _exit(127);
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int count = atoi(argv[1]);
  const int v2 = strcmp(argv[2], argv[3]) == 0;
  for (int i = 0; i < count; ++i) {
    char cpu[400], memory[400], pid[32];
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    snprintf(cpu, sizeof cpu, "%s/gantry-floor-%d-%d", argv[2], (int)getpid(), i);
    snprintf(memory, sizeof memory, "%s/gantry-floor-%d-%d", argv[3], (int)getpid(), i);
    if (mkdir(cpu, 0755) != 0 || (!v2 && mkdir(memory, 0755) != 0)) return perror(cpu), 1;
    if (v2) {
      write_file(cpu, "cpu.weight", "10");
      write_file(cpu, "cpu.max", "10000 100000");
      write_file(cpu, "memory.max", "33554432");
    } else {
      write_file(cpu, "cpu.shares", "102");
      write_file(cpu, "cpu.cfs_period_us", "100000");
      write_file(cpu, "cpu.cfs_quota_us", "10000");
      write_file(memory, "memory.limit_in_bytes", "33554432");
    }
    int gate[2];
    if (pipe2(gate, O_CLOEXEC) != 0) return perror("pipe"), 1;
    const int task = clone(child, stack + sizeof stack, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, gate);
    if (task < 0) return perror("clone"), 1;
    snprintf(pid, sizeof pid, "%d", task);
    if (write_file(cpu, "cgroup.procs", pid) != 0 || (!v2 && write_file(memory, "cgroup.procs", pid) != 0)) return perror("attach"), 1;
    if (write(gate[1], "g", 1) != 1) return 1;
    int status = 0;
    if (waitpid(task, &status, 0) != task || status != 0) return fprintf(stderr, "the task failed\n"), 1;
    close(gate[0]);
    close(gate[1]);
    rmdir(cpu);
    if (!v2) rmdir(memory);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%lld\n", (long long)(end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec));
  }
  return 0;
}
