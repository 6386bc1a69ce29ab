#!/usr/bin/env python3
"""npm mesos-framework 0.5.3 and @dcos/mesos-client 1.0.0, unmodified, against real daemons: what they see is what is asserted."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import foreign  # noqa: E402
import mesos  # noqa: E402
from cluster import wait  # noqa: E402
from foreign import HERE  # noqa: E402


class MesosFramework(foreign.Case):
    program = "mesos-framework"

    def test_five_instances_for_a_minute(self):
        os.makedirs(os.path.join(self.folder, "logs"), exist_ok=True)  # it dies of its first log line without one
        began = time.monotonic()
        r = self.program_run(["node", os.path.join(HERE, "mesos_framework.js"), "127.0.0.1", str(self.cluster.api_port)], cwd=self.folder)
        subscribed = r.wait("subscribed")[0]
        r.wait("heartbeat")
        r.wait("update", 30, 5, state="TASK_RUNNING")
        state = self.state()
        framework = next(f for f in state["frameworks"] if f["id"] == subscribed["frameworkId"])
        self.assertEqual(framework["name"], "npm-framework")
        self.assertLessEqual(len(framework["tasks"]), 5)
        while time.monotonic() - began < 60:
            time.sleep(1)
            running = set()
            for u in r.of("update"):
                (running.add if u["state"] == "TASK_RUNNING" else running.discard)(u["task"])
            self.assertLessEqual(len(running), 5)
        finished = r.of("update", state="TASK_FINISHED")
        self.assertGreaterEqual(len(finished), 15, "five instances of ten seconds, started again for a minute")
        self.assertEqual({u["state"] for u in r.of("update")} - {"TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"}, set())
        self.assertEqual(r.of("error"), [])
        self.assertEqual(len(r.of("sent_subscribe")), 1, "it had to subscribe again")
        r.say("teardown")
        wait(lambda: subscribed["frameworkId"] in [f["id"] for f in self.state()["completed_frameworks"]], 10, "the framework completed")


class MesosClient(foreign.Case):
    program = "dcos-mesos-client"

    def test_event_stream(self):
        f = self.framework(name="seen", capabilities=[{"type": "PARTITION_AWARE"}], failover_timeout=60.0)
        o = f.offer()
        name = "t\u00e2che-\u2713"
        f.launch(o, f.task(o, name, "sleep 1000"))
        f.status(name, "TASK_RUNNING")
        r = self.program_run(["node", os.path.join(HERE, "dcos_client.js"), "http://127.0.0.1:%d/api/v1" % self.cluster.api_port], cwd=self.folder)
        state = r.wait("SUBSCRIBED")[0]["body"]["subscribed"]["get_state"]
        self.assertEqual([t["task_id"]["value"] for t in state["get_tasks"]["tasks"]], [name])
        o = f.offer()
        f.launch(o, f.task(o, "second\u2713"))
        r.wait("TASK_ADDED")
        wait(lambda: [e for e in r.of("TASK_UPDATED") if e["body"]["task_updated"]["state"] == "TASK_FINISHED"], 20, "TASK_FINISHED seen")
        r.wait("HEARTBEAT")
        for kind in ("GET_HEALTH", "GET_STATE", "GET_AGENTS", "GET_VERSION"):
            r.say(kind)
            self.assertEqual(r.wait("answer", type=kind)[0]["body"]["type"], kind)
        f.call("TEARDOWN")
        r.wait("FRAMEWORK_REMOVED")
        self.assertEqual(r.of("error"), [])


if __name__ == "__main__":
    mesos.main()
