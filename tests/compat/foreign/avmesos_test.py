#!/usr/bin/env python3
"""avmesos 0.4.2, unmodified, against real daemons: what its scheduler sees is what is asserted."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import foreign  # noqa: E402
import mesos  # noqa: E402
from cluster import wait  # noqa: E402
from foreign import HERE  # noqa: E402


class Avmesos(foreign.Case):
    program = "avmesos"

    def test_scheduler(self):
        r = self.program_run(["python3", "-B", os.path.join(HERE, "avmesos_scheduler.py"), "http://127.0.0.1:%d" % self.cluster.api_port, "4"],
                             env={"PYTHONPATH": self.folder})
        subscribed = r.wait("subscribed")[0]
        self.assertTrue(subscribed["framework"].startswith(subscribed["master"]["id"] if subscribed["master"] else ""), subscribed)
        r.wait("offer")
        for n in range(4):
            r.wait("update", task="av-%d" % n, state="TASK_RUNNING")
            r.wait("update", task="av-%d" % n, state="TASK_FAILED" if n == 1 else "TASK_FINISHED")
        f = next(f for f in self.state()["frameworks"] if f["id"] == subscribed["framework"])
        self.assertEqual((f["name"], f["user"], f["failover_timeout"]), ("avmesos", "root", 60.0))
        wait(lambda: len(next(f for f in self.state()["frameworks"] if f["id"] == subscribed["framework"])["completed_tasks"]) == 4, 20,
             "four completed tasks")
        r.say("teardown")
        wait(lambda: subscribed["framework"] in [f["id"] for f in self.state()["completed_frameworks"]], 10, "the framework completed")
        self.assertEqual(r.of("error"), [])


if __name__ == "__main__":
    mesos.main()
