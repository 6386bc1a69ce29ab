"""An application from deployment to removal: deployed, killed, scaled, upgraded, removed."""

import json
import os
import signal
import time

import cluster
from cluster import Case, alive, main_pid, wait


class Deploy(Case):
    def test_example_application_lives_as_promised(self):
        c = self.up()
        file = os.path.join(cluster.ROOT, "configs", "examples", "web.json")
        self.assertTrue(os.path.exists(file), "configs/examples/web.json is missing")
        with open(file) as f:
            app_id = json.load(f)["id"]
        c.gantry("app", "deploy", file, text=True, timeout=90)
        tasks = c.healthy(app_id, 3)
        self.assertTrue(tasks, "three healthy instances after app deploy returned")
        for t in tasks:
            self.assertTrue(self.answers(t), t)

        # kill -9 of one instance: a new one healthy within 5 s.
        victim = tasks[0]["id"]
        os.kill(main_pid(victim), signal.SIGKILL)
        began = time.monotonic()

        def replaced():
            now = c.healthy(app_id, 3)
            return now and victim not in [t["id"] for t in now] and now
        now = wait(replaced, 15, "a healthy replacement")
        took = time.monotonic() - began
        print("replaced and healthy after %.2f s" % took)
        self.assertLessEqual(took, 5.0)
        self.assertEqual(2, len({t["id"] for t in tasks} & {t["id"] for t in now}), "the other two were left alone")
        new = [t for t in now if t["id"] not in {x["id"] for x in tasks}][0]
        self.assertTrue(self.answers(new))

        # Up and down; then away.
        c.gantry("app", "scale", app_id, "5", text=True, timeout=90)
        self.assertEqual(5, len(c.healthy(app_id, 5)))
        c.gantry("app", "scale", app_id, "1", text=True, timeout=90)
        last = c.healthy(app_id, 1)
        pid = main_pid(last[0]["id"])
        c.gantry("app", "remove", app_id, text=True, timeout=90)
        self.assertIsNone(c.app(app_id))
        wait(lambda: not alive(pid), 5, "the last process gone")
        wait(lambda: not c.leftovers(), 5, "no process left")
        wait(lambda: not c.task_cgroups(), 5, "no cgroup of a task left")
        self.assertEqual([], c.ask("task", "list")["tasks"])

    def test_rolling_upgrade_keeps_minimum_health_capacity(self):
        c = self.up()
        app = self.web(instances=4, upgradeStrategy={"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.0})
        before = {t["id"] for t in c.deploy(app)}
        lowest, highest = 99, 0
        status, body = c.http("PUT", "/v2/apps/web", {"env": {"RELEASE": "two"}})
        self.assertEqual(200, status, body)

        def done():
            nonlocal lowest, highest
            a = c.app("/web")
            # Running and once seen healthy: a check that a busy machine answers too late is not the upgrade's doing.
            serving = [t for t in a["tasks"] if t["state"] == "TASK_RUNNING" and any(h.get("firstSuccess") for h in t["healthCheckResults"])]
            lowest = min(lowest, len(serving))
            highest = max(highest, len(a["tasks"]))
            return not c.http("GET", "/v2/deployments")[1]
        wait(done, 60, "the upgrade", step=0.01)
        after = {t["id"] for t in c.healthy("/web", 4)}
        self.assertFalse(before & after, "every instance is new")
        self.assertGreaterEqual(lowest, 2)
        self.assertLessEqual(highest, 4)

    def test_restart_of_an_app_and_kill_of_a_task_by_the_cli(self):
        c = self.up(agents=1)
        first = c.deploy(self.sleeper(instances=2))
        c.gantry("app", "restart", "/sleep", text=True)
        second = c.healthy("/sleep", 2)
        self.assertFalse({t["id"] for t in first} & {t["id"] for t in second})
        c.gantry("task", "kill", second[0]["id"], text=True)
        wait(lambda: c.replaced("/sleep", 2, second[0]["id"]), 20, "a replacement")

    def test_a_failing_app_is_delayed_not_hammered(self):
        c = self.up(agents=1)
        status, body = c.http("POST", "/v2/apps", {"id": "/bad", "cmd": "exit 7", "cpus": 0.1, "mem": 32})
        self.assertEqual(201, status, body)
        failure = wait(lambda: c.app("/bad").get("lastTaskFailure"), 20, "the failure to be shown")
        self.assertEqual("TASK_FAILED", failure["state"])
        self.assertIn("7", failure["message"])
        wait(lambda: c.http("GET", "/v2/queue")[1]["queue"][0]["delay"]["timeLeftSeconds"] > 0, 20, "a back-off delay")

    def test_logs_are_read_through_the_agent(self):
        c = self.up(agents=1)
        (task,) = c.deploy(self.sleeper(cmd="echo hello from $MESOS_TASK_ID; exec sleep 1000"))
        r = wait(lambda: (lambda r: r if "hello" in r.stdout else None)(c.gantry("task", "log", task["id"], text=True)), 10, "the log")
        self.assertEqual("hello from %s\n" % task["id"], r.stdout)


if __name__ == "__main__":
    cluster.main()
