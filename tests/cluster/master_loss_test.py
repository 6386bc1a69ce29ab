"""kill -9 of the master's daemon: apps, frameworks and tasks are all there afterwards, nothing is restarted."""

import threading
import time

import cluster
from cluster import Case, TERMINAL, alive, holds, wait


class MasterLoss(Case):
    def test_everything_is_there_again_and_nothing_restarted(self):
        c = self.up()
        c.deploy(self.web(instances=3))
        c.deploy(self.sleeper(instances=2, labels={"of": "mine"}))
        before = dict(c.snapshot("/web"), **c.snapshot("/sleep"))
        app = c.app("/sleep")
        framework = c.http("GET", "/v2/info")[1]["frameworkId"]
        frameworks = [f["id"] for f in c.ask("frameworks")["frameworks"]]
        agents = sorted(a["id"] for a in c.cluster_agents())
        for _ in range(2):
            c.master.kill9()
            holds(lambda: all(alive(pid) for pid, _ in before.values()), 1, "the tasks without a master")
            c.master.start()
            c.wait_up(2)
            events = c.events()
            wait(lambda: len([t for t in c.ask("task", "list")["tasks"] if t["state"] == "TASK_RUNNING"]) == 5, 20, "five tasks known")
            holds(lambda: dict(c.snapshot("/web"), **c.snapshot("/sleep")) == before, 2, "same task ids, pids and start times")
            self.assertEqual([], events.statuses(*TERMINAL))
            self.assertEqual(framework, c.http("GET", "/v2/info")[1]["frameworkId"])
            self.assertEqual(frameworks, [f["id"] for f in c.ask("frameworks")["frameworks"]])
            self.assertEqual(agents, sorted(a["id"] for a in c.cluster_agents()))
            now = c.app("/sleep")
            self.assertEqual((app["version"], app["labels"], app["instances"]), (now["version"], now["labels"], now["instances"]))
        # And it still keeps things alive.
        c.gantry("app", "scale", "/web", "4", text=True)
        self.assertTrue(c.healthy("/web", 4))
        self.assertEqual([], [i for i in before if i not in dict(c.snapshot("/web"), **c.snapshot("/sleep"))])

    def test_a_deployment_in_progress_continues(self):
        c = self.up()
        app = self.web(instances=4, upgradeStrategy={"minimumHealthCapacity": 0.75, "maximumOverCapacity": 0.0})
        old = {t["id"] for t in c.deploy(app)}
        status, body = c.http("PUT", "/v2/apps/web", {"env": {"RELEASE": "two"}})
        self.assertEqual(200, status, body)
        deployment = body["deploymentId"]
        wait(lambda: len(old & {t["id"] for t in c.tasks("/web")}) <= 3, 20, "the upgrade under way")
        c.master.kill9()
        c.master.start()
        c.wait_up(2)
        running = [d["id"] for d in c.http("GET", "/v2/deployments")[1]]
        self.assertEqual([deployment], running, "the deployment goes on")
        new = {t["id"] for t in wait(lambda: c.settled("/web", 4), 60, "the end of the upgrade")}
        self.assertFalse(old & new)
        self.assertEqual("two", c.app("/web")["env"]["RELEASE"])

    def test_what_was_acknowledged_survives_a_kill_at_any_moment(self):
        c = self.up(agents=1)
        acknowledged = []
        stop = threading.Event()

        def create():
            n = 0
            while not stop.is_set():
                n += 1
                try:
                    if c.http("POST", "/v2/apps", self.sleeper("/many/a%d" % n, instances=0), timeout=2)[0] == 201:
                        acknowledged.append("/many/a%d" % n)
                except (OSError, cluster.http.client.HTTPException):
                    time.sleep(0.01)
        thread = threading.Thread(target=create)
        thread.start()
        try:
            for _ in range(3):
                seen = len(acknowledged)
                wait(lambda seen=seen: len(acknowledged) > seen + 5, 20, "requests answered")
                c.master.kill9()
                c.master.start()
        finally:
            stop.set()
            thread.join()
        wait(lambda: c.http("GET", "/ping")[0] == 200, 20, "the services API")
        there = {a["id"] for a in c.http("GET", "/v2/apps")[1]["apps"]}
        self.assertEqual([], [a for a in acknowledged if a not in there])

    def test_agent_and_master_killed_together(self):
        c = self.up()
        c.deploy(self.web(instances=3))
        before = c.snapshot("/web")
        for d in c.daemons.values():
            d.kill9()
        self.assertTrue(all(alive(pid) for pid, _ in before.values()))
        for d in reversed(list(c.daemons.values())):
            d.start(ready=False)
        for d in c.daemons.values():
            d.wait_ready()
        c.wait_up(2)
        wait(lambda: c.healthy("/web", 3), 20, "three instances")
        holds(lambda: c.snapshot("/web") == before, 2, "the same instances")


if __name__ == "__main__":
    cluster.main()
