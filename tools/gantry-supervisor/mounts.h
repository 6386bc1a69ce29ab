/* The mounts of a container and its root. Runs in the new mount namespace, as root, before the task exists.
 *
 * Targets are resolved below the root by the kernel itself (openat2, RESOLVE_IN_ROOT): neither ".." nor a symbolic link of
 * an image leads out of it, whoever changes the tree meanwhile. Mounts go onto the file that was opened so. */
#ifndef GANTRY_SUP_MOUNTS_H
#define GANTRY_SUP_MOUNTS_H

#include "tiny.h"

#include "kernel/agent/supervisor_format.h"

#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/stat.h>

struct mount_record {
  uint64_t flags, options;
  const char *source, *target, *type, *data, *base;
};

static struct mount_record parse_mount(const char* p) {
  struct mount_record m;
  memcpy(&m.flags, p, sizeof m.flags);
  memcpy(&m.options, p + 8, sizeof m.options);
  m.source = p + 16;
  m.target = m.source + strlen(m.source) + 1;
  m.type = m.target + strlen(m.target) + 1;
  m.data = m.type + strlen(m.type) + 1;
  m.base = m.data + strlen(m.data) + 1;
  return m;
}

static int open_below(int root, const char* path, int flags, int strict) {
  struct open_how how = {0};
  how.flags = (unsigned)flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | (strict ? RESOLVE_NO_SYMLINKS : RESOLVE_NO_MAGICLINKS);
  return (int)SYS4(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
}

/* "/proc/self/fd/<n>": the way to name an open file to mount(2). */
static const char* name_of(int fd, char* space) {
  char digits[12];
  int k = 0;
  memcpy(space, "/proc/self/fd/", 14);
  char* at = space + 14;
  do digits[k++] = (char)('0' + fd % 10);
  while (fd /= 10);
  while (k) *at++ = digits[--k];
  *at = 0;
  return space;
}

/* Opens `path` below `root`, making what is missing on the way: directories, the last part a directory or an empty file. */
static int make_below(int root, const char* path, int file, int strict) {
  static char prefix[4096];
  const size_t n = strlen(path);
  if (n >= sizeof prefix) return last_error = ENAMETOOLONG, -1;
  int at = open_below(root, "", O_PATH, strict);
  for (size_t from = 0; at >= 0;) {
    while (path[from] == '/') ++from;
    if (!path[from]) return at;
    size_t to = from;
    while (path[to] && path[to] != '/') ++to;
    size_t rest = to;
    while (path[rest] == '/') ++rest;
    const int last = !path[rest];
    memcpy(prefix, path, to);
    prefix[to] = 0;
    int next = open_below(root, prefix, O_PATH, strict);
    if (next < 0 && last_error == ENOENT) {
      const char* name = prefix + from;
      if (last && file) {
        const int made = (int)SYS4(SYS_openat, at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (made >= 0) close_fd(made);
        else if (last_error != EEXIST) next = -2;
      } else if (SYS3(SYS_mkdirat, at, name, 0755) != 0 && last_error != EEXIST) {
        next = -2;
      }
      if (next != -2) next = open_below(root, prefix, O_PATH, strict);
    }
    close_fd(at);
    at = next;
    from = to;
  }
  return -1;
}

static int set_attributes(int root, const struct mount_record* m) {
  static const struct {
    uint64_t flag, attribute;
  } table[] = {{MS_RDONLY, MOUNT_ATTR_RDONLY}, {MS_NOSUID, MOUNT_ATTR_NOSUID}, {MS_NODEV, MOUNT_ATTR_NODEV}, {MS_NOEXEC, MOUNT_ATTR_NOEXEC}};
  struct mount_attr attributes = {0};
  for (size_t i = 0; i < sizeof table / sizeof *table; ++i)
    if (m->flags & table[i].flag) attributes.attr_set |= table[i].attribute;
  attributes.propagation = m->flags & (MS_SHARED | MS_SLAVE | MS_PRIVATE);
  if (!attributes.attr_set && !attributes.propagation) return 0;
  /* The descriptor we mounted on is below the new mount: open it again. */
  const int fd = m->options & GANTRY_SUP_OUTSIDE ? (int)SYS4(SYS_openat, AT_FDCWD, m->target, O_PATH | O_CLOEXEC, 0)
                                                 : open_below(root, m->target, O_PATH, (m->options & GANTRY_SUP_STRICT) != 0);
  if (fd < 0) return -1;
  const int rc = (int)SYS5(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | (m->flags & MS_REC ? AT_RECURSIVE : 0), &attributes, sizeof attributes);
  close_fd(fd);
  return rc;
}

static int mask(int fd, const char* where) {
  struct stat s;
  if (SYS4(SYS_newfstatat, fd, "", &s, AT_EMPTY_PATH) != 0) return -1;
  if (S_ISDIR(s.st_mode)) return (int)SYS5(SYS_mount, "tmpfs", where, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0");
  return (int)SYS5(SYS_mount, "/dev/null", where, "", MS_BIND, 0);
}

/* A bind whose source others may change: opened without following anything, then bound as it was found. */
static int bind_strictly(const struct mount_record* m, const char* where) {
  char space[32];
  struct open_how how = {0};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const int fd = (int)SYS4(SYS_openat2, AT_FDCWD, m->source, &how, sizeof how);
  if (fd < 0) return -1;
  const int rc = (int)SYS5(SYS_mount, name_of(fd, space), where, "", m->flags & (MS_BIND | MS_REC), 0);
  close_fd(fd);
  return rc;
}

/* One mount below `root` (an open directory). Relative paths in source and data start from `base`. */
static int do_mount(int root, const struct mount_record* m) {
  char space[32];
  const int strict = (m->options & GANTRY_SUP_STRICT) != 0;
  const uint64_t binding = MS_BIND | MS_REC, propagation = MS_SHARED | MS_SLAVE | MS_PRIVATE;
  int fd;
  if (*m->base && SYS1(SYS_chdir, m->base) != 0) return -1;
  if (m->options & GANTRY_SUP_OUTSIDE) fd = (int)SYS4(SYS_openat, AT_FDCWD, m->target, O_PATH | O_CLOEXEC, 0);
  else if (m->options & (GANTRY_SUP_MAKE_DIRECTORY | GANTRY_SUP_MAKE_FILE)) fd = make_below(root, m->target, (m->options & GANTRY_SUP_MAKE_FILE) != 0, strict);
  else fd = open_below(root, m->target, O_PATH, strict);
  if (fd < 0) return (m->options & (GANTRY_SUP_OPTIONAL | GANTRY_SUP_MASK)) && (last_error == ENOENT || last_error == ENOTDIR) ? 0 : -1;
  const char* where = name_of(fd, space);
  int rc;
  if (m->options & GANTRY_SUP_MASK) rc = mask(fd, where);
  else if (m->flags & MS_BIND && m->options & GANTRY_SUP_STRICT_SOURCE) rc = bind_strictly(m, where);
  else if (m->flags & MS_BIND) rc = (int)SYS5(SYS_mount, *m->source ? m->source : where, where, "", m->flags & binding, 0);
  else rc = (int)SYS5(SYS_mount, m->source, where, m->type, m->flags & ~propagation, *m->data ? m->data : 0);
  const int missing = rc != 0 && last_error == ENOENT && (m->options & GANTRY_SUP_OPTIONAL);
  close_fd(fd);
  if (missing) return 0;
  if (rc == 0 && ((m->flags & MS_BIND) || (m->flags & propagation))) rc = set_attributes(root, m);
  return rc;
}

static int make_read_only(int fd) {
  struct mount_attr attributes = {0};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  return (int)SYS5(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
}

/* The open directory becomes "/", and nothing of the old tree can be reached any more. */
static int enter_root(int root) {
  if (SYS1(SYS_fchdir, root) != 0) return -1;
  /* The old root comes to lie over the new one, and is taken away from there. */
  if (SYS2(SYS_pivot_root, ".", ".") != 0) return -1;
  if (SYS2(SYS_umount2, ".", MNT_DETACH) != 0) return -1;
  return (int)SYS1(SYS_chdir, "/");
}

#endif
