#!/usr/bin/env bash
# The packages on a real system: a virtual machine (QEMU without KVM) with a fresh Debian 12, systemd and cgroup version 2.
# In it (in_vm.sh): install from a local repository, the unit is active, an application runs, a restart and an upgrade to a
# newer version leave its task alone, removal ends it, purging leaves nothing.
#
#   tests/packaging/vm_test.sh PACKAGES-DIRECTORY [CACHE-DIRECTORY]
#
# PACKAGES-DIRECTORY: what tools/packaging/build made. The cache keeps Debian's kernel and base system for the next run.
# Ends with 0 when all passed, 1 when something failed, 77 (skipped) where a tool, root or a network is missing.
# Needs: tools/install-deps --packaging
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
packages=${1:?usage: vm_test.sh PACKAGES-DIRECTORY [CACHE-DIRECTORY]}
cache=${2:-/var/tmp/gantry-vm-$(id -u)}

skip() { echo "skipped: $*" >&2; exit 77; }
[ "$(uname -m)" = x86_64 ] || skip "written for x86_64"
[ "$(id -u)" = 0 ] || skip "must be root to make a root file system"
for tool in qemu-system-x86_64 mmdebstrap busybox cpio mke2fs depmod dpkg-scanpackages; do
  command -v "$tool" >/dev/null || skip "$tool is not installed: tools/install-deps --packaging"
done
packages=$(cd "$packages" && pwd)
ls "$packages"/gantry_*.deb >/dev/null 2>&1 || { echo "there is no gantry_*.deb in $packages; run tools/packaging/build" >&2; exit 1; }
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
t0=$SECONDS
say() { printf 'vm_test [%4ds] %s\n' $((SECONDS - t0)) "$*"; }

# ---- Debian's kernel, fetched and unpacked, not installed

if ! ls "$cache"/kernel/boot/vmlinuz-* >/dev/null 2>&1; then
  name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
  [ -n "$name" ] || skip "apt does not know linux-image-cloud-amd64"
  (cd "$cache" && apt-get download -q "$name" >/dev/null 2>&1) || skip "cannot download $name"
  dpkg -x "$cache"/linux-image-*.deb "$cache/kernel"
  rm -f "$cache"/linux-image-*.deb
  say "kernel fetched"
fi
kernel=$(ls "$cache"/kernel/boot/vmlinuz-* | head -n 1)
release=${kernel##*/vmlinuz-}
[ -f "$cache/kernel/lib/modules/$release/modules.dep" ] || depmod -b "$cache/kernel" "$release"

initramfs=$cache/initramfs
rm -rf "$initramfs"
mkdir -p "$initramfs"/{bin,dev,proc,sys,newroot}
cp "$(command -v busybox)" "$initramfs/bin/busybox"
n=10
{
  echo '#!/bin/busybox sh'
  echo 'busybox mount -t devtmpfs devtmpfs /dev'
  # In the order of their needs, each once.
  modprobe -n --show-depends -d "$cache/kernel" -S "$release" -a virtio_pci virtio_blk virtio_rng ext4 | sed -n 's/^insmod //p' | awk '!seen[$1]++ {print $1}' |
    while read -r module; do
      cp "$module" "$initramfs/$n-${module##*/}"
      echo "busybox insmod /$n-${module##*/}"
      n=$((n + 1))
    done
  echo 'for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; busybox sleep 0.2; done'
  echo 'busybox mount -t ext4 /dev/vda /newroot && exec busybox switch_root /newroot /sbin/init'
} >"$initramfs/init"
chmod +x "$initramfs/init"
ln -s busybox "$initramfs/bin/sh"
(cd "$initramfs" && find . | cpio -o -H newc --quiet | gzip -1) >"$cache/initramfs.gz"

# ---- a base system with what the packages need, but not the packages

# First alternatives of all dependencies, without versions; what the packages give each other is left out.
needs=$(for deb in "$packages"/gantry*.deb; do case $deb in *-dbgsym_*) ;; *) dpkg-deb -f "$deb" Depends Pre-Depends ;; esac; done |
  sed 's/^[A-Za-z-]*: //' | tr ',' '\n' | sed 's/|.*//; s/(.*)//; s/[[:space:]]//g' | grep -v '^gantry' | grep . | LC_ALL=C sort -u | paste -sd,)
base=$cache/base-$(printf %s "$needs" | sha256sum | cut -c1-12).tar
if [ ! -f "$base" ]; then
  mmdebstrap --quiet --format=tar --variant=minbase --include="systemd-sysv,dbus,procps,$needs" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -f "$1"/etc/dpkg/dpkg.cfg.d/*mmdebstrap*' bookworm "$base.part" >"$cache/mmdebstrap.log" 2>&1 ||
    { tail -5 "$cache/mmdebstrap.log" >&2; rm -f "$base.part"; skip "mmdebstrap could not make a Debian 12 (log: $cache/mmdebstrap.log)"; }
  mv "$base.part" "$base"
  say "base system made"
fi

root=$cache/root
rm -rf "$root"
mkdir "$root"
tar -xf "$base" -C "$root"

# ---- two repositories: the packages, and the same rebuilt as a newer version

index() { (cd "$1" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null); }
mkdir -p "$root/srv/repository/old" "$root/srv/repository/new"
for deb in "$packages"/gantry*.deb; do
  case $deb in *-dbgsym_*) continue ;; esac
  cp "$deb" "$root/srv/repository/old"
  tree=$cache/repack
  rm -rf "$tree"
  dpkg-deb -R "$deb" "$tree"
  version=$(dpkg-deb -f "$deb" Version)
  # The same files under a later version, as a rebuild would give.
  sed -i "s/^Version: .*/Version: $version+vm1/" "$tree/DEBIAN/control"
  dpkg-deb --root-owner-group -Znone -b "$tree" "$root/srv/repository/new" >/dev/null
done
index "$root/srv/repository/old"
index "$root/srv/repository/new"

cp "$here/in_vm.sh" "$root/srv/in_vm.sh"
chmod 755 "$root/srv/in_vm.sh"
cat >"$root/etc/systemd/system/packaging-test.service" <<'UNIT'
[Unit]
After=multi-user.target systemd-tmpfiles-setup.service
[Service]
Type=oneshot
ExecStart=/bin/bash -c '/srv/in_vm.sh >/dev/ttyS0 2>&1; echo "in_vm.sh ended with $?" >/dev/ttyS0; sync; systemctl --force --force poweroff'
TimeoutStartSec=infinity
[Install]
WantedBy=default.target
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -sf ../packaging-test.service "$root/etc/systemd/system/default.target.wants/packaging-test.service"
# Nothing else shall write while files are compared, and the console belongs to the test.
for unit in serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  systemd-networkd-wait-online.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/* "$root/usr/sbin/policy-rc.d"
echo '/dev/vda / ext4 rw 0 1' >"$root/etc/fstab"
echo gantry-vm >"$root/etc/hostname"
printf '127.0.0.1 localhost gantry-vm\n' >"$root/etc/hosts"

image=$cache/root.ext4
rm -f "$image"
mke2fs -q -t ext4 -d "$root" "$image" 1500M
rm -rf "$root" "$cache/repack"
say "image ready"

# Never KVM: where it half works, an unmodified kernel does not boot.
timeout "${GANTRY_VM_TIMEOUT:-1200}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -M q35 -m 1024 -smp 2 -nographic -nodefaults -no-reboot \
  -serial stdio -kernel "$kernel" -initrd "$cache/initramfs.gz" -net none -device virtio-rng-pci \
  -drive file="$image",format=raw,if=virtio,snapshot=on,cache=unsafe \
  -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all mitigations=off systemd.show_status=0" </dev/null |
  tr -d '\r' | tee "$cache/console.log"
rm -f "$image"

say "machine off"
if grep -q '^in_vm.sh ended with 0' "$cache/console.log" && ! grep -q '^FAIL' "$cache/console.log"; then
  echo "packages in a virtual machine: $(grep -c '^ok ' "$cache/console.log") checks passed"
else
  echo "packages in a virtual machine: failed, see $cache/console.log" >&2
  exit 1
fi
