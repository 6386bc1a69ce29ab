#!/usr/bin/env bash
# The README's five minutes on a bare Debian 12: a fresh chroot without a compiler, a clone of this commit in it, tools/up
# installs, builds, starts and deploys; the application answers; tools/up --stop leaves no process, mount or cgroup.
#
#   tests/packaging/up_chroot.sh [CACHE-DIRECTORY]
#
#   GANTRY_CCACHE   folder of a compiler cache to share with the chroot; without one everything is compiled
# Ends with 0 passed, 1 failed, 77 (skipped) without root, mmdebstrap or a network. Takes as long as a build.
set -euo pipefail
source_root=$(cd "$(dirname "$0")/../.." && pwd)
cache=${1:-/var/tmp/gantry-vm-$(id -u)}
skip() { echo "skipped: $*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || skip "must be root to make a chroot"
groups() { find /sys/fs/cgroup -maxdepth 2 -type d -name 'gantry-up-*' 2>/dev/null; }
[ -z "$(groups)" ] || skip "a cluster of tools/up runs on this machine"
command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed: tools/install-deps --packaging"
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
t0=$SECONDS
say() { printf 'up_chroot [%4ds] %s\n' $((SECONDS - t0)) "$*"; }

if [ ! -f "$cache/bare.tar" ]; then
  mmdebstrap --quiet --format=tar --variant=minbase bookworm "$cache/bare.tar.part" >"$cache/mmdebstrap.log" 2>&1 ||
    { tail -5 "$cache/mmdebstrap.log" >&2; skip "mmdebstrap could not make a Debian 12 (log: $cache/mmdebstrap.log)"; }
  mv "$cache/bare.tar.part" "$cache/bare.tar"
fi

root=$(mktemp -d "$cache/chroot.XXXXXX")
# Mounts live in a namespace of their own and end with it; the folder is removed when nothing is mounted in it any more.
trap 'rm -rf --one-file-system "$root"' EXIT
tar -xf "$cache/bare.tar" -C "$root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
git clone --quiet "$source_root" "$root/root/gantry"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
cat >"$root/root/try.sh" <<'TRY'
#!/bin/bash
set -euo pipefail
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 GANTRY_UP=/var/tmp/up
[ -d /ccache ] && export CCACHE_DIR=/ccache CCACHE_BASEDIR=/ CCACHE_NOHASHDIR=1
cd /root/gantry
if [ "$1" = install ]; then exec tools/install-deps --build; fi # what tools/up does first
trap 'tools/up --stop' EXIT
tools/up || { tail -30 /var/tmp/up/build.log; exit 1; }
echo "up: done, asking the application"
port=$(build/bin/gantry app show /web --json | tr -d ' \n' | grep -o '"ports":\[[0-9]*' | head -n 1 | grep -o '[0-9]*$')
curl -sf "http://127.0.0.1:$port/" >/dev/null && echo "up: the application answers on port $port"
build/bin/gantry app remove /web
trap - EXIT
tools/up --stop
TRY
chmod +x "$root/root/try.sh"
say "chroot ready"
# Packages come over this machine's network. The cluster gets a network, processes and mounts of its own: ports and daemons
# that live here are not in the way, and nothing survives.
inside='
  root=$1 cache=$2
  mount --make-rprivate /
  mount --bind "$root" "$root"  # containers make their root a slave, so it has to be a mount
  mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"; mount -t proc proc "$root/proc"
  if [ -n "$cache" ]; then mkdir -p "$root/ccache"; mount --bind "$cache" "$root/ccache"; fi
  [ "$3" = install ] || ip link set lo up
  chroot "$root" /root/try.sh "$3"'
own=(unshare --mount --pid --fork --kill-child --mount-proc)
rc=0
"${own[@]}" bash -euc "$inside" _ "$root" "${GANTRY_CCACHE:-}" install || rc=$?
say "installed"
[ $rc -ne 0 ] || "${own[@]}" --net bash -euc "$inside" _ "$root" "${GANTRY_CCACHE:-}" up || rc=$?
# The build folder is all it may leave in the clone.
[ -z "$(git -C "$root/root/gantry" status --porcelain)" ] || { echo "the clone is not clean" >&2; rc=1; }
say "ended with $rc"
left=$(groups)
if [ $rc -eq 0 ] && [ -z "$left" ]; then echo "tools/up in a bare chroot: passed"
else
  echo "tools/up in a bare chroot: failed $left" >&2
  exit 1
fi
