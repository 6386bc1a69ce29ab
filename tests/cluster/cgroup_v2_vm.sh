#!/bin/sh
# Runs the tests of isolator/cgroups on a machine with cgroup version 2 only: a small virtual machine, see small_vm.sh.
# Out-of-memory, cpu.max, pids.max, io.max and the filter for devices are among them.
#
#   tests/cluster/cgroup_v2_vm.sh BUILD-DIRECTORY [CACHE-DIRECTORY]
#
# Ends with 0 when they pass, 1 when one fails, 77 (skipped) where QEMU, busybox or a kernel cannot be had.
set -eu
. "$(dirname "$0")/small_vm.sh"

build=${1:?usage: cgroup_v2_vm.sh BUILD-DIRECTORY [CACHE-DIRECTORY]}
vm_begin "$build" "${2:-$build/vm}" gantry-isolator-cgroups-test
command -v mkfs.ext4 >/dev/null || skip "mkfs.ext4 is not installed (e2fsprogs)"
vm_modules virtio_pci virtio_blk
rm -f "$cache/tmp.ext4"
mkfs.ext4 -q -F "$cache/tmp.ext4" 64M
vm_disk "$cache/tmp.ext4"
# Tests that need version 1 beside version 2 have a suite of their own.
cat >"$root/test.sh" <<'TEST'
mount -t ext4 /dev/vda /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
test-program --gtest_color=no --gtest_filter=-HybridCgroups.*
echo "test-program ended with $?"
TEST
vm_run cgroup_no_v1=all 300

# All real-cgroup tests ran, none was skipped, and everything passed.
if grep -q "^test-program ended with 0" "$console" && grep -q "OK \] RealCgroups.OutOfMemoryIsReportedWithItsReason" "$console" &&
  ! grep -q "SKIPPED" "$console"; then
  echo "cgroup v2: passed"
else
  echo "cgroup v2: failed, see $console" >&2
  exit 1
fi
