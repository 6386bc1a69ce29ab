#!/bin/sh
# Runs the tests of isolator/cgroups on a machine with cgroup version 2 only: a small virtual machine (QEMU without KVM)
# that boots Debian's cloud kernel with the test binary in its initramfs. Out-of-memory and cpu.max are among them.
#
#   tests/cluster/cgroup_v2_vm.sh BUILD-DIRECTORY [CACHE-DIRECTORY]
#
# Ends with 0 when they pass, 1 when one fails, 77 (skipped) where QEMU, busybox or a kernel cannot be had. Kernel: the
# file named by $GANTRY_VM_KERNEL, else Debian's package linux-image-cloud-amd64, fetched by apt and unpacked, not installed.
# Needs: apt-get install --no-install-recommends qemu-system-x86 busybox-static cpio
set -eu

skip() {
  echo "skipped: $*" >&2
  exit 77
}

build=${1:?usage: cgroup_v2_vm.sh BUILD-DIRECTORY [CACHE-DIRECTORY]}
cache=${2:-$build/vm}
test=$build/bin/gantry-isolator-cgroups-test
[ -x "$test" ] || skip "$test is not built"
[ "$(uname -m)" = x86_64 ] || skip "written for x86_64"
for tool in qemu-system-x86_64 busybox cpio gzip; do
  command -v "$tool" >/dev/null || skip "$tool is not installed (qemu-system-x86, busybox-static, cpio)"
done
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

kernel=${GANTRY_VM_KERNEL:-}
if [ -z "$kernel" ]; then
  kernel=$(ls "$cache"/kernel/boot/vmlinuz-*cloud* 2>/dev/null | head -n 1)
fi
if [ -z "$kernel" ]; then
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
  [ -n "$package" ] || skip "apt does not know linux-image-cloud-amd64"
  (cd "$cache" && apt-get download -q "$package" >/dev/null 2>&1) || skip "cannot download $package"
  dpkg -x "$cache"/linux-image-*.deb "$cache/kernel"
  rm -f "$cache"/linux-image-*.deb
  kernel=$(ls "$cache"/kernel/boot/vmlinuz-* | head -n 1)
fi

root=$cache/root
rm -rf "$root"
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
for name in sh mount mkdir rm poweroff echo sleep; do ln -s busybox "$root/bin/$name"; done
cp "$test" "$root/bin/cgroups-test"
# Its shared libraries and the loader, at the paths where it looks for them.
ldd "$test" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
cat >"$root/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cgroups-test --gtest_color=no
echo "cgroups-test ended with $?"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$cache/initramfs.gz"

# Never KVM: where it half works, an unmodified kernel does not boot.
timeout 300 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -M q35 -m 1024 -smp 1 -nographic -nodefaults -no-reboot \
  -serial stdio -kernel "$kernel" -initrd "$cache/initramfs.gz" \
  -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all" </dev/null | tr -d '\r' | tee "$cache/console.log"

# All real-cgroup tests ran, none was skipped, and everything passed.
if grep -q "^cgroups-test ended with 0" "$cache/console.log" && grep -q "OK \] RealCgroups.OutOfMemoryIsReportedWithItsReason" "$cache/console.log" &&
  ! grep -q "SKIPPED" "$cache/console.log"; then
  echo "cgroup v2: passed"
else
  echo "cgroup v2: failed, see $cache/console.log" >&2
  exit 1
fi
