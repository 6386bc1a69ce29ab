"""Trouble while it runs: full disks, reloads, what cannot be placed, duplicate names."""

import os
import signal
import subprocess
import time
import unittest

import cluster
from cluster import Case, TERMINAL, alive, holds, needs_root, wait


class Trouble(Case):
    def fill(self, folder):
        """Takes the last byte of a file system."""
        path = os.path.join(folder, "filler")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        os.write(fd, b"x" * size)
                except OSError:
                    pass
        finally:
            os.close(fd)
        return path

    @needs_root
    def test_full_disk_of_the_master_loses_nothing_acknowledged(self):
        c = self.up(agents=1, start=False)
        c.tmpfs(c.master.work, "24m")
        c.start()
        c.deploy(self.sleeper(instances=2))
        before = c.snapshot("/sleep")
        filler = self.fill(c.master.work)
        acknowledged, refused = [], 0
        for n in range(400):
            app = self.sleeper("/full/a%d" % n, instances=0, labels={"filler": "x" * 30000})
            try:
                status, body = c.http("POST", "/v2/apps", app, timeout=10)
            except OSError:
                status, body = 0, None
            if status == 201:
                acknowledged.append(app["id"])
            else:
                refused += 1
                self.assertIn(status, (0, 503), body)
                if refused == 3:
                    break
        self.assertTrue(refused, "the disk is full")
        self.assertTrue(c.master.running())
        self.assertEqual(200, c.http("GET", "/v2/apps")[0], "reading goes on")
        self.assertEqual(before, c.snapshot("/sleep"))
        os.unlink(filler)
        wait(lambda: c.http("POST", "/v2/apps", self.sleeper("/again", instances=1))[0] in (201, 409), 30, "writing goes on")
        wait(lambda: c.healthy("/again", 1), 30, "a new instance")
        c.master.kill9()
        c.master.start()
        c.wait_up(1)
        there = {a["id"] for a in c.http("GET", "/v2/apps")[1]["apps"]}
        self.assertEqual([], [a for a in acknowledged + ["/again", "/sleep"] if a not in there])
        self.assertEqual(before, c.snapshot("/sleep"))

    @needs_root
    def test_full_disk_of_an_agent_loses_no_task(self):
        c = self.up(agents=1, start=False)
        agent = c.agents()[0]
        c.tmpfs(agent.work, "8m")
        c.start()
        c.deploy(self.sleeper(instances=2))
        before = c.snapshot("/sleep")
        events = c.events()
        filler = self.fill(agent.work)
        c.http("PUT", "/v2/apps/sleep", {"instances": 3})
        holds(lambda: agent.running() and all(alive(p) for p, _ in before.values()), 3, "the agent and its tasks")
        victim = sorted(before)[0]
        os.kill(before[victim][0], signal.SIGKILL)
        holds(agent.running, 1, "the agent")
        os.unlink(filler)
        wait(lambda: c.healthy("/sleep", 3), 60, "three instances, now that there is room")
        other = sorted(before)[1]
        self.assertEqual(before[other], c.snapshot("/sleep")[other])
        # The one that died was told exactly once.
        wait(lambda: len({e["taskStatus"] for e in events.statuses(*TERMINAL) if e["taskId"] == victim}) == 1, 30, "the end of the dead one")

    def test_more_than_any_agent_has_waits_and_others_run(self):
        c = self.up()
        status, body = c.http("POST", "/v2/apps", self.sleeper("/giant", cpus=1000))
        self.assertEqual(201, status, body)
        c.http("POST", "/v2/apps", self.sleeper("/wide", mem=1 << 20))
        status, body = c.http("POST", "/v2/apps", self.sleeper("/small", instances=2))
        self.assertEqual(201, status, body)
        wait(lambda: c.healthy("/small", 2), 20, "the small one")

        def reasons(app, reason):
            item = [q for q in c.http("GET", "/v2/queue")[1]["queue"] if (q.get("app") or q.get("pod"))["id"] == app][0]
            summary = item["processedOffersSummary"]["rejectSummaryLastOffers"]
            return [r for r in summary if r["reason"] == reason and r["declined"] > 0]
        wait(lambda: reasons("/giant", "InsufficientCpus"), 20, "the reason in the queue")
        wait(lambda: reasons("/wide", "InsufficientMemory"), 20, "the reason in the queue")
        self.assertEqual([], c.tasks("/giant", None))

    def test_duplicate_ids_and_wrong_units_are_refused(self):
        c = self.up(agents=1)
        c.deploy(self.sleeper())
        status, body = c.http("POST", "/v2/apps", self.sleeper())
        self.assertEqual(409, status, body)
        self.assertIn("/sleep", body["message"])
        status, body = c.http("POST", "/v2/apps", self.sleeper("/other", cpus="many"))
        self.assertIn(status, (400, 422), body)
        status, body = c.http("POST", "/v2/apps", b"{nonsense")
        self.assertEqual(400, status, body)
        self.assertEqual(404, c.http("GET", "/v2/apps/other")[0])
        self.assertEqual(1, len(c.tasks("/sleep")))

    def test_reload_takes_the_good_and_refuses_the_bad_as_a_whole(self):
        c = self.up(agents=1, log_level="info")
        c.deploy(self.sleeper())
        before = c.snapshot("/sleep")
        m = c.master
        with open(m.config) as f:
            good = f.read()
        self.assertNotIn("debug", m.log().lower().split("applied")[0][-1:])

        def rewrite(text):
            with open(m.config, "w") as f:
                f.write(text)
            size = len(m.log())
            m.signal(signal.SIGHUP)
            return size
        at = rewrite(good.replace('log_level = "info"', 'log_level = "debug"').replace("[framework.services]", '[framework.services]\ndecline_time = "60s"'))
        wait(lambda: "log_level" in m.log()[at:] and "decline_time" in m.log()[at:], 10, "the reload")
        at = rewrite(good.replace('log_level = "info"', 'log_level = "loud"\nno_such = 1'))
        wait(lambda: "nothing was changed" in m.log()[at:], 10, "the refusal")
        self.assertIn("loud", m.log()[at:])
        self.assertIn("no_such", m.log()[at:])
        at = rewrite(good.replace('listen = "127.0.0.1:%d"' % c.master_port, 'listen = "127.0.0.1:%d"' % cluster.free_port(), 1))
        wait(lambda: "restart" in m.log()[at:], 10, "the word that a restart is needed")
        self.assertEqual(200, c.http("GET", "/ping")[0])
        self.assertTrue(c.cluster_agents())
        self.assertEqual(before, c.snapshot("/sleep"))

    @unittest.skipUnless(any(os.path.exists(p + "/faketime") for p in os.environ.get("PATH", "").split(":")),
                         "needs faketime; the machine's own clock is not to be touched (unit tests and the simulation move clocks)")
    def test_clock_that_jumps(self):
        c = self.up(agents=1, start=False)
        control = os.path.join(c.dir, "clock")
        with open(control, "w") as f:
            f.write("+0")
        library = subprocess.run(["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        for d in c.daemons.values():
            d.prefix = ["env", "LD_PRELOAD=" + library, "FAKETIME_TIMESTAMP_FILE=" + control, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
        c.start()
        c.deploy(self.sleeper(instances=2))
        before, version = c.snapshot("/sleep"), ""
        for n, jump in enumerate(("+30d", "-30d", "+0")):
            with open(control, "w") as f:
                f.write(jump)
            holds(lambda: c.snapshot("/sleep") == before, 2, "the tasks")
            self.assertTrue([a for a in c.cluster_agents() if a["state"] == "active"])
            status, body = c.http("POST", "/v2/apps", self.sleeper("/new%d" % n))
            self.assertEqual(201, status, body)
            if n == 0:
                there = time.strftime("%Y-%m", time.gmtime(time.time() + 30 * 86400))
                self.assertEqual(there, body["version"][:7], "the daemon's clock did jump")
            else:
                self.assertGreater(body["version"], version, "versions only grow")
            version = body["version"]
            wait(lambda n=n: c.healthy("/new%d" % n, 1), 20, "a new instance")
            # Changes take effect, in whatever direction their times go.
            status, body = c.http("PUT", "/v2/apps/changing", self.sleeper("/changing", env={"N": str(n)}))
            self.assertIn(status, (200, 201), body)
            wait(lambda: c.settled("/changing", 1), 30, "the change")
            self.assertEqual(str(n), c.app("/changing")["env"]["N"])
            (task,) = c.tasks("/changing")
            self.assertIn(b"N=%d" % n, cluster._read("/proc/%d/environ" % cluster.main_pid(task["id"])).split(b"\0"))


if __name__ == "__main__":
    cluster.main()
