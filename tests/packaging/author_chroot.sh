#!/usr/bin/env bash
# A module author's machine: a fresh Debian 12 with compilers, the packages gantry-dev and gantry with what they recommend,
# and nothing of this repository. For C++, C and Rust: gantry-module new, the commands it prints, gantry-module check; then
# the daemon runs a task with all three modules, in process and each in a process of its own. (Issue 3, first bar.)
#
#   tests/packaging/author_chroot.sh PACKAGES-DIRECTORY [CACHE-DIRECTORY]
#
# Ends with 0 passed, 1 failed, 77 (skipped) without root, mmdebstrap or a network.
set -euo pipefail
packages=${1:?usage: author_chroot.sh PACKAGES-DIRECTORY [CACHE-DIRECTORY]}
cache=${2:-/var/tmp/gantry-vm-$(id -u)}
skip() { echo "skipped: $*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || skip "must be root to make a chroot"
for tool in mmdebstrap ip dpkg-deb; do
  command -v "$tool" >/dev/null || skip "$tool is not installed: tools/install-deps --packaging"
done
packages=$(cd "$packages" && pwd)
ls "$packages"/gantry-dev_*.deb >/dev/null 2>&1 || { echo "there is no gantry-dev_*.deb in $packages; run tools/packaging/build" >&2; exit 1; }
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
t0=$SECONDS
say() { printf 'author_chroot [%4ds] %s\n' $((SECONDS - t0)) "$*"; }

needs=$(for deb in "$packages"/gantry*.deb; do case $deb in *-dbgsym_*) ;; *) dpkg-deb -f "$deb" Depends Pre-Depends ;; esac; done |
  sed 's/^[A-Za-z-]*: //' | tr ',' '\n' | sed 's/|.*//; s/(.*)//; s/[[:space:]]//g' | grep -v '^gantry\|^systemd' | grep . | LC_ALL=C sort -u | paste -sd,)
# What gantry-dev suggests, to build with. The user of modules is made by systemd's sysusers, here by its stand-alone twin.
include="systemd-standalone-sysusers,procps,g++,make,cmake,cargo,pkg-config,libgtest-dev,$needs"
base=$cache/author-$(printf %s "$include" | sha256sum | cut -c1-12).tar
if [ ! -f "$base" ]; then
  mmdebstrap --quiet --format=tar --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$include" bookworm "$base.part" \
    >"$cache/mmdebstrap.log" 2>&1 ||
    { tail -5 "$cache/mmdebstrap.log" >&2; rm -f "$base.part"; skip "mmdebstrap could not make a Debian 12 (log: $cache/mmdebstrap.log)"; }
  mv "$base.part" "$base"
  say "base system made"
fi

root=$(mktemp -d "$cache/author.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT
tar -xf "$base" -C "$root"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
mkdir "$root/srv/packages"
for deb in "$packages"/gantry*.deb; do
  case $deb in *-dbgsym_*) ;; *) cp "$deb" "$root/srv/packages" ;; esac
done
cat >"$root/root/author.sh" <<'AUTHOR'
#!/bin/bash
set -euo pipefail
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
apt-get install -q -y /srv/packages/*.deb >/tmp/apt.log 2>&1 || { tail -20 /tmp/apt.log; exit 1; }
echo "author: packages installed"
mkdir /home/author
cd /home/author
paths=()
for lang in cpp c rust; do
  name=acme-$lang
  gantry-module new isolator "$name" --lang "$lang" >new.txt
  # The lines under "Build and test it:".
  sed -n '/^Build and test it:/,/^$/p' new.txt | sed '1d; /^$/d; s/^ *//' >commands
  bash -euc "$(cat commands)" >"build-$lang.log" 2>&1 || { cat new.txt; tail -30 "build-$lang.log"; exit 1; }
  path=$(pwd)/$(sed -n 's/.*path = "\(.*\)".*/\1/p' new.txt | head -n 1)
  [ -f "$path" ] || path=$(sed -n 's/.*path = "\(.*\)".*/\1/p' new.txt | head -n 1)
  gantry-module check "$path" >"check-$lang.log" 2>&1 || { tail -40 "check-$lang.log"; exit 1; }
  paths+=("$name=$path")
  echo "author: $lang: new, built by the printed commands, checked: $(tail -1 "check-$lang.log")"
done

running() { gantry task list --json | tr -d ' \n' | grep -q '"state":"TASK_RUNNING"\|"state":"RUNNING"'; }
within() { local end=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done; }
for host in kernel process; do
  {
    printf '[isolator.cgroups]\nroot = "gantry-author"\n'
    for p in "${paths[@]}"; do printf '[isolator.%s]\npath = "%s"\nhost = "%s"\n' "${p%%=*}" "${p#*=}" "$host"; done
  } >/etc/gantry/conf.d/acme.toml
  gantry config check /etc/gantry/gantry.toml
  gantryd --config /etc/gantry/gantry.toml >"/tmp/gantryd-$host.log" 2>&1 &
  daemon=$!
  within 20 gantry status || { cat "/tmp/gantryd-$host.log"; exit 1; }
  echo '{"id": "/with-it", "cmd": "exec sleep 86398", "cpus": 0.1, "mem": 32, "instances": 1}' >/tmp/app.json
  within 20 gantry app deploy /tmp/app.json && within 30 running || { gantry module list; cat "/tmp/gantryd-$host.log"; exit 1; }
  gantry module list | grep acme
  [ "$(gantry module list | grep -c "acme-.*$host")" = 3 ]
  within 10 pgrep -xf 'sleep 86398'
  echo "author: a task runs with the three modules, host = $host"
  kill -USR1 $daemon
  wait $daemon || true
  ! pgrep -xf 'sleep 86398' || exit 1
  rm -rf /var/lib/gantry/*
done
AUTHOR
chmod +x "$root/root/author.sh"
say "machine ready"
# A network, processes and mounts of its own.
rc=0
unshare --mount --pid --net --fork --kill-child --mount-proc bash -euc '
  mount --make-rprivate /
  mount --bind "$1" "$1"  # containers make their root a slave, so it has to be a mount
  mount --rbind /sys "$1/sys"; mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"
  ip link set lo up
  chroot "$1" /root/author.sh' _ "$root" || rc=$?
find /sys/fs/cgroup -depth -type d -path '*gantry-author*' -exec rmdir {} + 2>/dev/null || true
[ $rc -eq 0 ] && echo "a module author's machine: passed" && exit 0
echo "a module author's machine: failed" >&2
exit 1
