"""Limits that hold: memory ends a task with its reason, cpu is capped."""

import os

import time

import cluster
from cluster import Case, main_pid, needs_cgroups, wait


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = cluster._read("/proc/%d/stat" % pid).decode().rpartition(")")[2].split()
        if fields:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def quota(pid):
    """The cpus its cgroup may use, as the kernel says; a busy machine gives less."""
    for line in cluster._read("/proc/%d/cgroup" % pid).decode().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            for top in ("/sys/fs/cgroup/" + controllers, "/sys/fs/cgroup/cpu"):
                text = cluster._read(top + path + "/cpu.cfs_quota_us")
                if text:
                    return int(text) / int(cluster._read(top + path + "/cpu.cfs_period_us"))
        if not controllers:
            text = cluster._read("/sys/fs/cgroup" + path + "/cpu.max").split()
            if text and text[0] != b"max":
                return int(text[0]) / int(text[1])
    return None


class Limits(Case):
    @needs_cgroups
    def test_memory_hog_fails_with_its_reason(self):
        c = self.up(agents=1)
        hog = "exec python3 -c 'x=[]\nwhile True: x.append(bytearray(1 << 20))'"
        status, body = c.http("POST", "/v2/apps", {"id": "/hog", "cmd": hog, "cpus": 0.5, "mem": 64, "backoffSeconds": 3600,
                                                   "maxLaunchDelaySeconds": 3600})
        self.assertEqual(201, status, body)
        failure = wait(lambda: c.app("/hog").get("lastTaskFailure"), 30, "the failure")
        self.assertEqual("TASK_FAILED", failure["state"])
        self.assertRegex(failure["message"].lower(), "memory")
        task = [t for t in c.ask("task", "list", "--all")["tasks"] if t["id"] == failure["taskId"]][0]
        self.assertEqual("REASON_CONTAINER_LIMITATION_MEMORY", task["reason"])
        self.assertEqual("TASK_FAILED", task["state"])

    @needs_cgroups
    def test_memory_hog_that_forks_is_ended_as_a_whole(self):
        c = self.up(agents=1)
        hog = "python3 -c 'x=[]\nwhile True: x.append(bytearray(1 << 20))'; sleep 1000"
        c.http("POST", "/v2/apps", {"id": "/hog", "cmd": hog, "cpus": 0.5, "mem": 64, "backoffSeconds": 3600, "maxLaunchDelaySeconds": 3600})
        failure = wait(lambda: c.app("/hog").get("lastTaskFailure"), 30, "the failure")
        self.assertEqual("TASK_FAILED", failure["state"])
        wait(lambda: not cluster.pids_of_task(failure["taskId"]), 5, "no process of it left")

    @needs_cgroups
    def test_busy_loop_keeps_to_its_cpus(self):
        c = self.up(agents=1)
        (task,) = c.deploy(self.sleeper("/busy", cmd="exec sh -c 'while :; do :; done'", cpus=0.5))
        pid = main_pid(task["id"])
        time.sleep(0.3)   # past its first period
        began, used = time.monotonic(), cpu_seconds([pid])
        time.sleep(5)
        share = (cpu_seconds([pid]) - used) / (time.monotonic() - began)
        print("used %.3f cpus of 0.5" % share)
        self.assertLessEqual(share, 0.5 * 1.05)
        self.assertGreater(share, 0, "it does run")
        self.assertAlmostEqual(0.5, quota(pid))

    @needs_cgroups
    def test_several_busy_processes_share_one_limit(self):
        c = self.up(agents=1)
        (task,) = c.deploy(self.sleeper("/busy", cmd="for i in 1 2 3; do sh -c 'while :; do :; done' & done; wait", cpus=0.5))
        pids = wait(lambda: (lambda p: p if len(p) >= 4 else None)(cluster.pids_of_task(task["id"])), 10, "its processes")
        began, used = time.monotonic(), cpu_seconds(pids)
        time.sleep(5)
        share = (cpu_seconds(pids) - used) / (time.monotonic() - began)
        print("used %.3f cpus of 0.5" % share)
        self.assertLessEqual(share, 0.5 * 1.05)


if __name__ == "__main__":
    cluster.main()
