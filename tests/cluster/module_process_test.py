"""Every module in a process of its own; each of these processes is killed once, and nothing is lost."""

import glob
import json
import os
import re
import signal
import subprocess
import time

import cluster
from cluster import Case, TERMINAL, alive, holds, is_root, parent, wait

TABLE = re.compile(r"^\[(allocator|authenticator|election|fetcher|framework|isolator|store)\.([a-z0-9-]+)\]$", re.M)


def cmdline(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def module_processes(daemon):
    """{kind.name: (keeper, process of the module)} of one daemon."""
    hosts, found = {}, {}
    for pid in cluster.all_pids():
        words = cmdline(pid)
        if words and words[0].endswith("gantry-modhost") and "--id" in words:
            hosts[pid] = words[words.index("--id") + 1]
    for pid, name in hosts.items():
        if parent(pid) == daemon.pid:
            inner = [p for p in hosts if parent(p) == pid]
            if inner:
                found[name] = (pid, inner[0])
    return found


class ModuleProcesses(Case):
    def everything_in_processes(self, **options):
        c = self.up(start=False, **options)
        for d in c.daemons.values():
            with open(d.config) as f:
                text = f.read()
            with open(d.config, "w") as f:
                f.write(TABLE.sub(lambda m: m.group(0) + '\nhost = "process"', text))
        c.start()
        return c

    def modules(self, c, daemon):
        r = c.gantry("module", "list", address=os.path.join(daemon.work, "gantry.sock"))
        return {m["kind"] + "." + m["name"]: m for m in json.loads(r.stdout)["modules"]}

    def all_run(self, c, daemon):
        return all(m["state"] in ("running", "degraded", "not for this role") for m in self.modules(c, daemon).values())

    def test_each_is_killed_once_and_no_task_is_lost(self):
        c = self.everything_in_processes()
        c.deploy(self.web(instances=2))
        c.deploy(self.sleeper(instances=2))
        before = dict(c.snapshot("/web"), **c.snapshot("/sleep"))
        framework = c.http("GET", "/v2/info")[1]["frameworkId"]
        killed = 0
        for daemon in c.daemons.values():
            names = sorted(module_processes(daemon))
            wanted = {"master": {"allocator.drf", "election.standalone", "framework.services", "store.lmdb"}}.get(
                daemon.name, {"election.standalone", "fetcher.curl"} | {"isolator." + i for i in c.isolators})
            self.assertEqual(wanted, set(names))
            for n, name in enumerate(names):
                keeper, inner = module_processes(daemon)[name]
                os.kill(inner if n % 2 == 0 else keeper, signal.SIGKILL)
                killed += 1

                def again():
                    now = module_processes(daemon).get(name)
                    return now and now[1] != inner and self.all_run(c, daemon)
                wait(again, 30, "%s of %s again" % (name, daemon.name))
                self.assertGreaterEqual(self.modules(c, daemon)[name]["restarts"], 1)
                self.assertTrue(all(alive(pid) for pid, _ in before.values()), "a task ended with " + name)
        self.assertGreaterEqual(killed, 8)
        c.wait_up(2)
        wait(lambda: len([t for t in c.ask("task", "list")["tasks"] if t["state"] == "TASK_RUNNING"]) == 4, 30, "four tasks known")
        wait(lambda: c.http("GET", "/v2/info")[1].get("frameworkId") == framework, 20, "the same framework")
        self.assertEqual(before, dict(c.snapshot("/web"), **c.snapshot("/sleep")))
        # And all of it still works: offers, fetching, launching, limits, health, killing.
        c.gantry("app", "scale", "/web", "4", text=True)
        self.assertTrue(c.healthy("/web", 4))
        c.gantry("app", "remove", "/sleep", text=True)
        wait(lambda: not c.tasks("/sleep"), 20, "the end of /sleep")

    def test_what_a_killed_daemon_leaves_of_its_modules(self):
        c = self.everything_in_processes(agents=1)
        left = [pid for d in c.daemons.values() for pair in module_processes(d).values() for pid in pair]
        self.assertGreaterEqual(len(left), 12 if c.isolators else 10)
        for d in c.daemons.values():
            d.kill9()
        wait(lambda: not [pid for pid in left if alive(pid)], 10, "the end of the modules' processes")
        groups = [g for g in glob.glob("/sys/fs/cgroup/*/gantry-modules/*") if os.path.isdir(g)]
        self.assertEqual([], [g for g in groups if open(os.path.join(g, "cgroup.procs")).read()
                              and any(str(p) in open(os.path.join(g, "cgroup.procs")).read().split() for p in left)])
        for d in c.daemons.values():
            d.start()
        c.wait_up(1)
        for d in c.daemons.values():
            self.assertTrue(self.all_run(c, d))
            self.assertEqual(0, d.terminate())
        wait(lambda: not [d for d in c.daemons.values() if module_processes(d)], 5, "no process left after a stop")

    def test_a_module_that_crashes_for_ever_disturbs_nobody(self):
        bad = os.path.join(cluster.BUILD, "tests/kernel/module/bad/crashes.so")
        if not os.path.exists(bad):
            self.skipTest("tests/kernel/module/bad is not built")
        mark = None
        c = self.up(agents=1, start=False)
        mark = os.path.join(c.dir, "crash")
        os.environ["GANTRY_TEST_CRASH"] = mark
        self.addCleanup(os.environ.pop, "GANTRY_TEST_CRASH")
        with open(c.master.config, "a") as f:
            f.write('\n[isolator.crashes]\npath = "%s"\n' % bad)   # not from our folder: a process of its own
        c.start()
        self.assertEqual("process", self.modules(c, c.master)["isolator.crashes"]["host"])
        c.deploy(self.sleeper(instances=1))
        before = c.snapshot("/sleep")
        open(mark, "w").close()
        os.kill(module_processes(c.master)["isolator.crashes"][1], signal.SIGSEGV)
        wait(lambda: self.modules(c, c.master)["isolator.crashes"]["state"] == "crash-loop", 30, "a crash loop")
        message = self.modules(c, c.master)["isolator.crashes"]["message"]
        self.assertRegex(message, r"^crashed \d+ times, last: .*signal 6 \(Aborted\)")
        began = time.monotonic()
        c.gantry("app", "scale", "/sleep", "3", text=True)
        wait(lambda: len(c.tasks("/sleep")) == 3, 20, "two more tasks beside the crash loop")
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(before, {k: v for k, v in c.snapshot("/sleep").items() if k in before})
        os.unlink(mark)
        wait(lambda: self.modules(c, c.master)["isolator.crashes"]["state"] == "running", 60, "it is back")


if __name__ == "__main__":
    cluster.main()
