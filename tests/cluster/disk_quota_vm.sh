#!/bin/sh
# Runs the tests of isolator/disk on file systems with project quotas, which many machines' kernels lack: xfs and ext4 in a small
# virtual machine, see small_vm.sh.
#
#   tests/cluster/disk_quota_vm.sh BUILD-DIRECTORY [CACHE-DIRECTORY]
#
# Ends with 0 when they pass, 1 when one fails, 77 (skipped) where QEMU, busybox, mkfs or a kernel cannot be had.
# Needs beside small_vm.sh: apt-get install --no-install-recommends xfsprogs e2fsprogs
set -eu
. "$(dirname "$0")/small_vm.sh"

build=${1:?usage: disk_quota_vm.sh BUILD-DIRECTORY [CACHE-DIRECTORY]}
vm_begin "$build" "${2:-$build/vm}" gantry-isolator-disk-test
for tool in mkfs.xfs mkfs.ext4; do
  command -v $tool >/dev/null || skip "$tool is not installed (xfsprogs, e2fsprogs)"
done
vm_modules virtio_pci virtio_blk xfs quota_v2
rm -f "$cache/xfs.img" "$cache/ext4.img"
truncate -s 400M "$cache/xfs.img"
mkfs.xfs -q "$cache/xfs.img"
mkfs.ext4 -q -F -O quota,project -E quotatype=prjquota "$cache/ext4.img" 200M
vm_disk "$cache/xfs.img"
vm_disk "$cache/ext4.img"
cat >"$root/test.sh" <<'TEST'
mkdir /mnt/xfs /mnt/ext4
mount -t xfs -o prjquota /dev/vda /mnt/xfs
mount -t ext4 -o prjquota /dev/vdb /mnt/ext4
mount -t tmpfs tmpfs /tmp
GANTRY_QUOTA_DIRS=/mnt/xfs:/mnt/ext4 test-program --gtest_color=no
echo "test-program ended with $?"
TEST
vm_run "" 300

if grep -q "^test-program ended with 0" "$console" && ! grep -q "SKIPPED" "$console"; then
  echo "disk quotas: passed"
else
  echo "disk quotas: failed, see $console" >&2
  exit 1
fi
