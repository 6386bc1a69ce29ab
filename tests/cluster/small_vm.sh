# Sourced by the tests that need another kernel than this machine's: a small virtual machine (QEMU without KVM) that boots
# Debian's cloud kernel with one test program in its initramfs. Not a test itself.
#
#   . small_vm.sh
#   vm_begin BUILD CACHE PROGRAM        PROGRAM of BUILD/bin and its libraries become the root; $root is its directory
#   vm_modules NAME...                  kernel modules, loaded at boot in the order they need
#   vm_disk FILE                        one more disk: /dev/vda, /dev/vdb, ...
#   vm_run "KERNEL ARGUMENTS" SECONDS   runs $root/test.sh; what it prints is in $console
#
# Kernel: the file named by $GANTRY_VM_KERNEL (with its modules in $GANTRY_VM_MODULES/lib/modules), else Debian's package
# linux-image-cloud-amd64, fetched by apt and unpacked, not installed. What cannot be had ends the test with 77 (skipped).
# Needs: apt-get install --no-install-recommends qemu-system-x86 busybox-static cpio kmod

skip() {
  echo "skipped: $*" >&2
  exit 77
}

vm_begin() {
  build=$1 cache=$2 program=$1/bin/$3 drives='' modules=''
  [ -x "$program" ] || skip "$program is not built"
  [ "$(uname -m)" = x86_64 ] || skip "written for x86_64"
  for tool in qemu-system-x86_64 busybox cpio gzip depmod modprobe; do
    command -v "$tool" >/dev/null || skip "$tool is not installed (qemu-system-x86, busybox-static, cpio, kmod)"
  done
  mkdir -p "$cache"
  cache=$(cd "$cache" && pwd)
  console=$cache/console.log
  kernel=${GANTRY_VM_KERNEL:-} module_root=${GANTRY_VM_MODULES:-}
  if [ -z "$kernel" ]; then
    module_root=$cache/kernel
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
  mkdir -p "$root/bin" "$root/lib" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/mnt"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for name in sh mount umount mkdir mkfifo ln rm sync insmod poweroff echo sleep; do ln -s busybox "$root/bin/$name"; done
  cp "$program" "$root/bin/test-program"
  # Its shared libraries and the loader, at the paths where it looks for them.
  ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
}

vm_modules() {
  [ -n "$module_root" ] || skip "the modules of $kernel are not known; set GANTRY_VM_MODULES"
  version=$(ls "$module_root/lib/modules" 2>/dev/null | head -n 1)
  [ -n "$version" ] || skip "there are no kernel modules in $module_root/lib/modules"
  [ -e "$module_root/lib/modules/$version/modules.dep" ] || depmod -b "$module_root" "$version"
  for name in "$@"; do
    files=$(modprobe -n --show-depends -d "$module_root" -S "$version" "$name" 2>/dev/null) || skip "the kernel has no module $name"
    for file in $(echo "$files" | sed -n 's/^insmod \([^ ]*\).*/\1/p'); do
      [ -e "$root/lib/${file##*/}" ] && continue
      cp "$file" "$root/lib/"
      modules="$modules /lib/${file##*/}"
    done
  done
}

vm_disk() { drives="$drives -drive file=$1,format=raw,if=virtio,cache=unsafe"; }

vm_run() {
  {
    cat <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
INIT
    for module in $modules; do echo "insmod $module"; done
    echo 'sh /test.sh; poweroff -f'
  } >"$root/init"
  chmod +x "$root/init"
  (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$cache/initramfs.gz"
  # Never KVM: where it half works, an unmodified kernel does not boot. $drives is several words.
  # shellcheck disable=SC2086
  timeout "$2" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -M q35 -m 1024 -smp 1 -nographic -nodefaults -no-reboot \
    -serial stdio -kernel "$kernel" -initrd "$cache/initramfs.gz" $drives \
    -append "console=ttyS0 quiet panic=-1 $1" </dev/null | tr -d '\r' | tee "$console"
}
