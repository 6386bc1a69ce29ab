#!/bin/bash
# What vm_test.sh runs inside its machine, as root, on a fresh Debian with systemd. Prints "ok ..." or "FAIL ..." a check.
set -uo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
all=(gantry gantry-modules-standard gantry-services gantry-dev)
failed=0

ok() { echo "ok   [$(cut -d. -f1 /proc/uptime)s] $*"; }
fail() {
  failed=$((failed + 1))
  echo "FAIL [$(cut -d. -f1 /proc/uptime)s] $*"
}
check() { # what, command...
  local what=$1; shift
  if "$@" >/tmp/check.log 2>&1; then ok "$what"; else fail "$what"; tail -20 /tmp/check.log; fi
}
within() { # seconds, command...
  local end=$((SECONDS + $1)); shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.5
  done
}
not() { ! "$@"; }
end() {
  [ $failed -eq 0 ] || journalctl --no-pager -o cat -u gantryd.service | tail -40
  exit $((failed > 0))
}

repository() { # old or new
  echo "deb [trusted=yes] file:/srv/repository/$1 ./" >/etc/apt/sources.list
  apt-get update -q
}
version_of() { dpkg-query -W -f '${Version}' "$1"; }
main_pid() { systemctl show --property=MainPID --value gantryd.service; }
started_of() { awk '{sub(/.*\) /, ""); print $20}' "/proc/$1/stat"; }
task_state() { gantry task list --json 2>/dev/null | tr -d ' \n' | grep -o '"state":"[A-Z_]*"' | head -n 1; }
task_id() { gantry task list --json 2>/dev/null | tr -d ' \n' | grep -o '"id":"[^"]*"' | head -n 1; }
running() { task_state | grep -q RUNNING; }
pid_of_task() { pgrep -xf 'sleep 86399' | head -n 1; }
task_known() { running && [ "$(task_id)" = "$id" ]; }
same_task() { [ -n "$pid" ] && [ "$(pid_of_task)" = "$pid" ] && [ "$(started_of "$pid")" = "$started" ]; }
# Everything on disk but what the system itself writes.
files() {
  find / -xdev \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log -o -path /tmp -o -path /var/tmp \
    -o -path /srv -o -path /root -o -path /var/lib/systemd -o -path /etc/apt/sources.list \) -prune -o -print | sort
}
no_cgroups() { [ -z "$(find /sys/fs/cgroup -type d -name '*gantry*')" ]; }

check "cgroup version 2" test "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs
files >/tmp/files.before
getent passwd >/tmp/passwd.before
getent group >/tmp/group.before

# ---- install
check "the repository is read" repository old
check "apt installs" apt-get install -q -y "${all[@]}"
check "the unit is enabled" systemctl is-enabled gantryd.service
check "the unit is active" within 30 systemctl is-active gantryd.service
check "the user of modules is there" getent passwd gantry-module
check "the manual is there" test -s /usr/share/man/man8/gantryd.8.gz
check "the daemon answers" within 60 gantry status
check "the agent is registered" within 60 sh -c 'gantry agents --json | grep -q active'
check "it listens on loopback alone" not sh -c "cut -c7- /proc/net/tcp | awk '\$3 == \"0A\" {print \$1}' | grep -v '^0100007F:'"
gantry status

# ---- an application
cat >/tmp/app.json <<'APP'
{"id": "/sleeper", "cmd": "exec sleep 86399", "cpus": 0.1, "mem": 32, "instances": 1}
APP
check "an application is deployed" gantry app deploy /tmp/app.json
check "its task runs" within 60 running
has_process() { [ -n "$(pid_of_task)" ]; }
check "it has a process" within 60 has_process
pid=$(pid_of_task) started=$(started_of "$pid") id=$(task_id)
echo "     pid $pid, $id, $(cat "/proc/$pid/cgroup")"
check "it is in a cgroup of its own" grep -q '^0::/gantry/' "/proc/$pid/cgroup"
check "with a memory limit" grep -qx $((32 << 20)) "/sys/fs/cgroup$(cut -d: -f3 "/proc/$pid/cgroup")/memory.max"

# ---- restart
old=$(main_pid)
check "the daemon restarts" systemctl restart gantryd.service
check "it is another process" test "$(main_pid)" != "$old"
check "the task is untouched" same_task
check "and known again" within 60 task_known

# ---- a module outside the daemon
# One that needs no capability: it gets no user of its own otherwise.
printf '[allocator.drf]\nhost = "process"\n' >/etc/gantry/conf.d/process.toml
check "a module may live in a process" systemctl restart gantryd.service
outside() { pgrep -u gantry-module -f gantry-modhost >/dev/null; }
check "as the user of modules" within 30 outside
check "the task does not notice" same_task
check "gantry-module reads an installed module" sh -c 'gantry-module inspect /usr/lib/*/gantry/modules/gantry-fetcher-curl.so | grep -q curl'
gantry module list

# ---- upgrade
old=$(main_pid) version=$(version_of gantry)
check "the newer repository is read" repository new
check "apt upgrades" apt-get upgrade -q -y
check "the version is newer" dpkg --compare-versions "$(version_of gantry)" gt "$version"
check "all packages are newer" test "$(dpkg-query -W -f '${Version}\n' "${all[@]}" | sort -u | wc -l)" = 1
check "the unit is active after the upgrade" within 30 systemctl is-active gantryd.service
check "another daemon runs" test "$(main_pid)" != "$old"
check "the task kept its pid and start time" same_task
check "and its identity" within 60 task_known
old=$(main_pid)
check "a module is replaced" apt-get install -q -y --reinstall gantry-services
check "the daemon took it up" within 30 test "$(main_pid)" != "$old"
check "the task is still untouched" same_task
check "and still known" within 60 task_known
check "the application can be scaled" gantry app scale /sleeper 2
check "its second task runs" within 60 sh -c '[ "$(pgrep -xfc "sleep 86399")" = 2 ]'
check "the first is the same" test "$(started_of "$pid")" = "$started"

# ---- remove, purge
check "apt removes" apt-get remove -q -y "${all[@]}"
check "no task is left" not pgrep -xf 'sleep 86399'
check "no process is left" not pgrep -f '[g]antryd|gantry-supervisor|gantry-modhost'
check "no cgroup is left" within 10 no_cgroups
check "no mount is left" not grep -q gantry /proc/mounts
check "the configuration stays" test -f /etc/gantry/gantry.toml
check "the records stay" test -d /var/lib/gantry
echo '# what an operator added' >/etc/gantry/conf.d/own.toml
check "apt purges" apt-get purge -q -y "${all[@]}"
files >/tmp/files.after
check "no file is left" diff /tmp/files.before /tmp/files.after
getent passwd >/tmp/passwd.after
getent group >/tmp/group.after
check "no user is left" diff /tmp/passwd.before /tmp/passwd.after
check "no group is left" diff /tmp/group.before /tmp/group.after
check "systemd knows no such unit" not systemctl cat gantryd.service
check "no unit has failed" test -z "$(systemctl --failed --no-legend --plain | grep -i gantry)"
end
