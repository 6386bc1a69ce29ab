#!/usr/bin/env python3
"""mesos-rxjava 0.1.1 (protobuf, as mesos 1.0.0 knew it), unmodified, against real daemons: what its scheduler sees is what is asserted."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import foreign  # noqa: E402
import mesos  # noqa: E402
from cluster import wait  # noqa: E402


class RxJava(foreign.Case):
    program = "mesos-rxjava"

    def test_scheduler(self):
        r = self.program_run(["java", "-cp", os.path.join(self.folder, "lib", "*") + ":" + self.folder, "RxScheduler",
                              "http://127.0.0.1:%d/api/v1/scheduler" % self.cluster.api_port, "5"])
        s = r.wait("subscribed", 60)[0]
        self.assertEqual(s["framework"], s["own"])  # it brings an id of its own
        r.wait("offers")
        for n in range(5):
            r.wait("update", task="rx-%d" % n, state="TASK_RUNNING")
            r.wait("update", task="rx-%d" % n, state="TASK_FINISHED")
        r.wait("heartbeat", count=2)
        f = next(f for f in self.state()["frameworks"] if f["id"] == s["framework"])
        self.assertEqual((f["name"], f["failover_timeout"]), ("rxjava", 60.0))
        r.say("teardown")
        r.wait("ended")
        wait(lambda: s["framework"] in [f["id"] for f in self.state()["completed_frameworks"]], 10, "the framework completed")
        self.assertEqual(r.of("error"), [])


if __name__ == "__main__":
    mesos.main()
