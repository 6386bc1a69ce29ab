/* What the launcher (kernel/agent/spawn.cpp) tells gantry-supervisor, and what it hears back. Plain C, shared by both.
 *
 * Description: a memfd, its number given as argv[2]: one gantry_sup_header, then `records` records, each a gantry_sup_record
 * header followed by `length` bytes (texts with their terminating zero included), padded to 8.
 *
 * Control socket (SOCK_SEQPACKET): the launcher sends one byte GANTRY_SUP_GO to release a held container; end of file
 * instead means "give up, nothing was started". The supervisor answers with exactly one gantry_sup_report and closes.
 * With CAP_SYS_ADMIN the report carries SCM_CREDENTIALS, so that the kernel translates the task's pid to the reader's namespace.
 *
 * Record file (O_APPEND): one line "exit <raw wait status> <nanoseconds since 1970>\n" when the task has ended.
 *
 * Signals: SIGTERM = send SIGTERM to every process of the container; SIGUSR1 = SIGKILL to every process of it.
 */
#ifndef GANTRY_SUPERVISOR_FORMAT_H
#define GANTRY_SUPERVISOR_FORMAT_H

#include <stdint.h>

#define GANTRY_SUP_MAGIC 0x50555347u /* "GSUP" */
#define GANTRY_SUP_VERSION 2u
#define GANTRY_SUP_GO 'g'

/* gantry_sup_header.flags */
#define GANTRY_SUP_HELD 1u        /* wait for GANTRY_SUP_GO */
#define GANTRY_SUP_PID_NS 2u      /* the supervisor is pid 1 of its own pid namespace */
#define GANTRY_SUP_MOUNT_NS 4u    /* it has its own mount namespace: make propagation private, then apply the mounts */
#define GANTRY_SUP_SWITCH_USER 8u /* become uid, gid and the groups */
#define GANTRY_SUP_BESIDE 16u     /* run a command beside a container: its namespaces are in `join`, its processes are not ours */
#define GANTRY_SUP_CAPABILITIES 64u /* set bounding and effective */
#define GANTRY_SUP_NO_NEW_PRIVILEGES 128u
#define GANTRY_SUP_READ_ONLY_ROOT 256u
#define GANTRY_SUP_TERMINAL 512u /* in_fd becomes the controlling terminal */
#define GANTRY_SUP_HOLD 1024u /* no task: keep the namespaces until SIGTERM or SIGUSR1, then record exit 0; reported is the supervisor */

struct gantry_sup_header {
  uint32_t magic;
  uint32_t version;
  uint32_t size; /* of the whole description */
  uint32_t flags;
  int32_t control_fd; /* -1: none */
  int32_t record_fd;  /* -1: none */
  int32_t target_fd;  /* pidfd of the supervisor whose namespaces are entered; -1: none */
  uint32_t join;      /* CLONE_NEW* flags to enter */
  uint32_t uid;
  uint32_t gid;
  uint32_t records;
  uint32_t arguments;   /* number of ARGUMENT records */
  uint32_t environment; /* number of ENVIRONMENT records */
  int32_t in_fd, out_fd, err_fd; /* standard streams; -1: STDOUT, STDERR or /dev/null */
  uint64_t bounding;    /* 1 << CAP_*: what the task and its programs can ever get */
  uint64_t effective;   /* what it has from the start: permitted, effective, inheritable and ambient */
};

enum gantry_sup_tag {
  GANTRY_SUP_ARGUMENT = 1,    /* text; in order */
  GANTRY_SUP_ENVIRONMENT = 2, /* "NAME=value" */
  GANTRY_SUP_ENTER = 3,       /* path of a file into which the task writes "0" before it runs */
  GANTRY_SUP_MOUNT = 4,       /* u64 flags, u64 options (MountOption of isolator.fbs), then source, target, type, data, base as texts */
  GANTRY_SUP_SANDBOX = 5,     /* directory in which stdout and stderr are opened, as the task sees it */
  GANTRY_SUP_STDOUT = 6,      /* file to append to, relative to the sandbox */
  GANTRY_SUP_STDERR = 7,
  GANTRY_SUP_GROUPS = 8,      /* array of u32 */
  GANTRY_SUP_EXECUTABLE = 9,  /* what to execute, searched in the task's PATH; absent: the first argument */
  GANTRY_SUP_DIRECTORY = 10,  /* working directory, made if it is missing below a root; absent: the sandbox */
  GANTRY_SUP_ROOT = 11,       /* directory that becomes "/" */
  GANTRY_SUP_HOSTNAME = 12,   /* of the uts namespace, which is the container's own */
  GANTRY_SUP_LIMIT = 13,      /* u64 RLIMIT_*, u64 soft, u64 hard */
  GANTRY_SUP_SECCOMP = 14     /* array of sock_filter */
};

/* gantry_sup MOUNT options, the bits of fb::isolator::MountOption. */
#define GANTRY_SUP_MAKE_DIRECTORY 1u
#define GANTRY_SUP_MAKE_FILE 2u
#define GANTRY_SUP_OPTIONAL 4u
#define GANTRY_SUP_MASK 8u
#define GANTRY_SUP_OUTSIDE 16u
#define GANTRY_SUP_STRICT 32u
#define GANTRY_SUP_STRICT_SOURCE 64u

struct gantry_sup_record {
  uint32_t tag;
  uint32_t length;
};

/* Where a start failed. */
enum gantry_sup_step {
  GANTRY_SUP_STARTED = 0,
  GANTRY_SUP_DESCRIPTION = 1,
  GANTRY_SUP_PROPAGATION = 2,
  GANTRY_SUP_MOUNTING = 3,
  GANTRY_SUP_FORK = 4,
  GANTRY_SUP_ENTERING = 5,
  GANTRY_SUP_USER = 6,
  GANTRY_SUP_CHDIR = 7,
  GANTRY_SUP_OUTPUT = 8,
  GANTRY_SUP_EXEC = 9,
  GANTRY_SUP_JOINING = 10,
  GANTRY_SUP_ROOTING = 11,
  GANTRY_SUP_NAMING = 12,
  GANTRY_SUP_LIMITING = 13,
  GANTRY_SUP_CONFINING = 14, /* capabilities and privileges */
  GANTRY_SUP_FILTERING = 15, /* seccomp */
  GANTRY_SUP_WORKDIR = 16,
  GANTRY_SUP_TERMINAL_STEP = 17
};

struct gantry_sup_report {
  int32_t step;  /* 0 = the task runs, else where it failed */
  int32_t error; /* errno of the failure */
  int32_t pid;   /* the task, in the supervisor's pid namespace */
  int32_t index; /* ENTERING, MOUNTING, LIMITING: which record, from 0 */
};

#endif
