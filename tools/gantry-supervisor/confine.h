/* What a task may do: capabilities, privileges, system calls. In the child between fork and exec, but for the last two. */
#ifndef GANTRY_SUP_CONFINE_H
#define GANTRY_SUP_CONFINE_H

#include "tiny.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>

static int set_capabilities(uint64_t permitted, uint64_t inheritable) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  data[0].permitted = data[0].effective = (uint32_t)permitted;
  data[1].permitted = data[1].effective = (uint32_t)(permitted >> 32);
  data[0].inheritable = (uint32_t)inheritable;
  data[1].inheritable = (uint32_t)(inheritable >> 32);
  return (int)SYS2(SYS_capset, &header, data);
}

static uint64_t my_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (SYS2(SYS_capget, &header, data) != 0) return 0;
  return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

/* Before the user is changed: nothing outside `bounding` comes back, not by any program. */
static int limit_capabilities(uint64_t bounding) {
  for (unsigned long cap = 0; SYS5(SYS_prctl, PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; ++cap)
    if (!(bounding >> cap & 1) && SYS5(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) return -1;
  return (int)SYS5(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
}

/* After the user was changed: exactly `effective`, across exec. A root that shall have less than its bounding set must not get
 * the rest back at exec for being root. What we lack ourselves cannot be given and is left out, as the kernel does at exec. */
static int take_capabilities(uint64_t bounding, uint64_t effective, int root) {
  const uint64_t have = my_capabilities();
  if (root && (effective & have) != (bounding & have)) {
    const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
    if (SYS5(SYS_prctl, PR_SET_SECUREBITS, bits, 0, 0, 0) != 0) return -1;
  }
  effective &= have;
  if (set_capabilities(effective, effective) != 0) return -1;
  for (unsigned long cap = 0; cap < 64; ++cap)
    if (effective >> cap & 1 && SYS5(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) != 0) return -1;
  return 0;
}

static int filter_calls(const void* program, size_t bytes) {
  struct sock_fprog filter = {(unsigned short)(bytes / sizeof(struct sock_filter)), (struct sock_filter*)program};
  return (int)SYS5(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}

/* A confined task must not get rid of its confinement through its supervisor: no tracing, no /proc/1/{fd,exe,mem} ... */
static void be_opaque(void) { SYS5(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0); }
/* ... and little to be won there. Changing the user made us dumpable as the machine has it. */
static void lie_low(void) {
  be_opaque();
  set_capabilities(my_capabilities() & 1ull << CAP_KILL, 0);
}

#endif
