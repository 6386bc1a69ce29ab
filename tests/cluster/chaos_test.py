"""Everything is killed at random for a while; afterwards exactly what was asked for runs, and everybody agrees on it.

GANTRY_CHAOS_SECONDS (30) and GANTRY_CHAOS_SEED (by the clock) choose how long and which faults; the seed is printed.
"""

import json
import os
import random
import signal
import time

import cluster
from cluster import Case, main_pid, wait


class Chaos(Case):
    def test_converges_after_random_kills(self):
        seed = int(os.environ.get("GANTRY_CHAOS_SEED", str(int(time.time()))))
        print("GANTRY_CHAOS_SEED=%d" % seed)
        chance = random.Random(seed)
        ping = 'agent_ping_interval = "300ms"\nagent_ping_misses = 3\n'
        c = self.up(agents=3, master=ping, agent=ping)
        quick = {"backoffSeconds": 1, "backoffFactor": 1, "unreachableStrategy": {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 3}}
        wanted = {"/web": 3, "/sleep": 6, "/short": 2}
        c.deploy(self.web(instances=3, **quick))
        c.deploy(self.sleeper(instances=6, **quick))
        c.deploy(self.sleeper("/short", cmd="sleep 3; exit 1", instances=2, **quick))
        end = time.monotonic() + float(os.environ.get("GANTRY_CHAOS_SECONDS", "30"))
        faults = []
        while time.monotonic() < end:
            d = chance.choice(list(c.daemons.values()))
            fault = chance.choice(("kill", "kill", "term", "stop", "instance", "scale", "restart", "upgrade"))
            faults.append(fault)
            if fault in ("kill", "term", "stop"):
                pause = chance.random() * 3
                if fault == "stop":
                    d.signal(signal.SIGSTOP)
                    time.sleep(pause)
                    d.signal(signal.SIGCONT)
                else:
                    d.signal(signal.SIGKILL if fault == "kill" else signal.SIGTERM)
                    d.exit_code()
                    time.sleep(pause)
                    d.start()
            elif fault == "instance":
                tasks = wait(lambda: c.tasks("/web") + c.tasks("/sleep"), 20, "an instance")
                pid = main_pid(chance.choice(tasks)["id"])
                if pid:
                    os.kill(pid, signal.SIGKILL)
            else:
                wanted["/sleep"] = chance.randrange(2, 9)
                change = {"scale": {"instances": wanted["/sleep"]}, "restart": {"env": {"N": str(len(faults))}, "instances": wanted["/sleep"]},
                          "upgrade": {"labels": {"n": str(len(faults))}, "instances": wanted["/sleep"]}}[fault]
                wait(lambda change=change: c.http("PUT", "/v2/apps/sleep?force=true", change)[0] == 200, 20, "the change")
            time.sleep(chance.random() * 0.5)
        print("faults: " + " ".join(faults))
        c.wait_up(3)

        why = [""]

        def agreed():
            """The services, the master, the agents and the machine tell the same."""
            deployments = c.http("GET", "/v2/deployments")[1]
            if deployments:
                why[0] = "deployments %r, tasks %r, queue %r" % (deployments, c.app("/sleep")["tasks"], c.http("GET", "/v2/queue")[1])
                return None
            told = set()
            for app, n in wanted.items():
                tasks = c.tasks(app)
                if app != "/short":
                    if not c.healthy(app, n):
                        why[0] = "%s has %r of %d, queue %r" % (app, c.app(app)["tasks"], n, c.http("GET", "/v2/queue")[1])
                        return None
                    told |= {t["id"] for t in tasks}
            known = {t["id"] for t in c.ask("task", "list")["tasks"] if not t["id"].startswith("short.")}
            if known != told:
                why[0] = "services %r, master %r" % (told ^ known, c.ask("task", "list"))
                return None
            here = set()
            for d in c.agents():
                here |= {t["id"] for t in json.loads(c.gantry("task", "list", address=os.path.join(d.work, "gantry.sock")).stdout)["tasks"]
                         if not t["id"].startswith("short.")}
            if here != told:
                why[0] = "services and agents differ in %r" % (told ^ here)
                return None
            running = {}
            for pid in c.leftovers():
                for entry in cluster._read("/proc/%d/environ" % pid).split(b"\0"):
                    if entry.startswith(b"MESOS_TASK_ID="):
                        running.setdefault(entry[14:].decode(), []).append(pid)
            why[0] = "services and the machine differ: %r and %r" % (told, running)
            return {t for t in running if not t.startswith("short.")} == told and told
        began = time.monotonic()
        try:
            wait(agreed, 90, "agreement on what runs", step=0.2)
        except AssertionError as e:
            raise AssertionError("%s\n%s" % (e, why[0])) from e
        print("agreed after %.1f s" % (time.monotonic() - began))
        time.sleep(2)
        wait(agreed, 5, "lasting agreement")
        began = time.monotonic()
        # Nothing is charged to an agent that is not used.
        c.http("DELETE", "/v2/apps/short")
        for app in ("/web", "/sleep"):
            c.gantry("app", "remove", app, text=True)
        wait(lambda: not c.leftovers(), 30, "nothing left")
        wait(lambda: all(a["used"].get("cpus", 0) == 0 for a in c.cluster_agents()), 10, "all resources free")
        wait(lambda: not c.task_cgroups(), 10, "no cgroup left")
        print("removed after %.1f s" % (time.monotonic() - began))


if __name__ == "__main__":
    cluster.main()
