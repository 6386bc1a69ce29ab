#!/usr/bin/env python3
"""Command tasks over their life, against real daemons: mesos-kernel.md section E 10, 12, 16, 22, 34 to 37. In JSON and in protobuf."""

import http.server
import io
import os
import sys
import tarfile
import shutil
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from mesos import PROTOBUF, scalar  # noqa: E402
from cluster import wait  # noqa: E402

AWARE = [{"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}]
SECOND = 10**9


def statuses(f, task):
    return [e["update"]["status"] for e in f.stream.of("UPDATE") if e["update"]["status"]["task_id"]["value"] == task]


class Tasks(mesos.Case):
    options = {"agents": 1}

    def setUp(self):
        self.f = self.framework(capabilities=AWARE, checkpoint=True, failover_timeout=60.0, ack="mute" not in self._testMethodName)
        self.addCleanup(lambda: self.f.call("TEARDOWN"))

    def run_task(self, name, command, **fields):
        o = self.f.offer()
        self.f.launch(o, self.f.task(o, name, command, **fields))
        return o

    # ---- updates

    def test_10_mute_the_end_is_withheld_but_frees(self):
        mute = self.f
        o = mute.offer()
        mute.launch(o, mute.task(o, "mute", "true", cpus=1.0))
        first = mute.status("mute", "TASK_STARTING")
        # Its resources come back although not even the first update is acknowledged; and there is only that one, again and again.
        mute.offer(where=lambda o: any(r["name"] == "cpus" and r["scalar"]["value"] == 1.0 for r in o["resources"]))
        mute.stream.wait("UPDATE", 30, lambda e: e["update"]["status"]["task_id"]["value"] == "mute", 2)
        self.assertEqual({(s["state"], s["uuid"]) for s in statuses(mute, "mute")}, {("TASK_STARTING", first["uuid"])})
        # Acknowledged one by one, the others follow; an implicit reconciliation names a task whose end is not acknowledged (19).
        for state, after in (("TASK_STARTING", "TASK_RUNNING"), ("TASK_RUNNING", "TASK_FINISHED")):
            s = mute.status("mute", state)
            mute.call("ACKNOWLEDGE", acknowledge={"agent_id": o["agent_id"], "task_id": {"value": "mute"}, "uuid": s["uuid"]})
            mute.status("mute", after)
        mute.call("RECONCILE", reconcile={"tasks": []})
        mute.status("mute", "TASK_FINISHED", where=lambda s: s.get("reason") == "REASON_RECONCILIATION")
        s = mute.status("mute", "TASK_FINISHED")
        mute.call("ACKNOWLEDGE", acknowledge={"agent_id": o["agent_id"], "task_id": {"value": "mute"}, "uuid": s["uuid"]})

        def forgotten():
            before = len(mute.stream.of("UPDATE"))
            mute.call("RECONCILE", reconcile={"tasks": []})
            mute.call("RECONCILE", reconcile={"tasks": [{"task_id": {"value": "fence"}}]})
            wait(lambda: any(e["update"]["status"]["task_id"]["value"] == "fence" for e in mute.stream.of("UPDATE")[before:]), 10, "the fence")
            return [e["update"]["status"]["task_id"]["value"] for e in mute.stream.of("UPDATE")[before:]] == ["fence"]
        wait(forgotten, 10, "the task being forgotten")

    def test_22_mute_updates_are_sent_again(self):
        mute = self.f
        o = mute.offer()
        mute.launch(o, mute.task(o, "kept", "sleep 1000"))
        first = mute.status("kept", "TASK_STARTING")
        agent = self.cluster.agents()[0]
        agent.kill9()
        agent.start()
        self.cluster.wait_up(1)
        seen = len(statuses(mute, "kept"))
        wait(lambda: len(statuses(mute, "kept")) > seen, 20, "the update again")
        self.assertEqual({s["uuid"] for s in statuses(mute, "kept") if "uuid" in s}, {first["uuid"]})
        self.assertNotIn("TASK_LOST", [s["state"] for s in statuses(mute, "kept")])

    def test_12_gpus_are_whole(self):
        o = self.f.offer()
        t = self.f.task(o, "half")
        t["resources"].append(scalar("gpus", 0.5))
        self.f.launch(o, t)
        s = self.f.status("half", "TASK_ERROR")
        self.assertEqual((s["reason"], s["source"]), ("REASON_TASK_INVALID", "SOURCE_MASTER"))

    # ---- killing

    def test_16_a_second_kill_can_only_shorten(self):
        self.run_task("deaf", "trap '' TERM; while :; do sleep 0.1; done", kill_policy={"grace_period": {"nanoseconds": 600 * SECOND}})
        self.f.status("deaf", "TASK_RUNNING")

        def kill(**more):
            self.f.call("KILL", kill=dict({"task_id": {"value": "deaf"}}, **more))
        kill()
        self.f.status("deaf", "TASK_KILLING")
        kill(kill_policy={"grace_period": {"nanoseconds": 5 * SECOND}})
        began = time.monotonic()
        kill(kill_policy={"grace_period": {"nanoseconds": 900 * SECOND}})
        self.f.status("deaf", "TASK_KILLED", 30)
        self.assertGreater(time.monotonic() - began, 2)
        self.assertEqual([s["state"] for s in statuses(self.f, "deaf")], ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"])

    # ---- health

    def test_34_a_failing_health_check(self):
        check = {"type": "COMMAND", "command": {"shell": True, "value": "false"}, "delay_seconds": 0.0, "interval_seconds": 0.3,
                 "grace_period_seconds": 0.0, "consecutive_failures": 3}
        self.run_task("sick", "sleep 1000", health_check=check)
        killed = self.f.status("sick", "TASK_KILLED", 30)
        self.assertIs(killed["healthy"], False)
        bad = [s for s in statuses(self.f, "sick") if s["state"] == "TASK_RUNNING" and "healthy" in s]
        self.assertEqual([s["healthy"] for s in bad], [False] * 3)
        self.assertEqual({s["reason"] for s in bad}, {"REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"})

    def test_34_failures_in_the_grace_period_do_not_count(self):
        check = {"type": "COMMAND", "command": {"shell": True, "value": "test -e ok"}, "delay_seconds": 0.0, "interval_seconds": 0.2,
                 "grace_period_seconds": 60.0, "consecutive_failures": 1}
        self.run_task("slow", "sleep 2; touch ok; sleep 1000", health_check=check)
        self.f.status("slow", "TASK_RUNNING", 20, lambda s: s.get("healthy"))
        self.assertNotIn("TASK_KILLED", [s["state"] for s in statuses(self.f, "slow")])
        self.assertEqual([s["healthy"] for s in statuses(self.f, "slow") if "healthy" in s], [True])

    def test_34_each_change_is_told(self):
        check = {"type": "COMMAND", "command": {"shell": True, "value": "test ! -e bad"}, "delay_seconds": 0.0, "interval_seconds": 0.3,
                 "grace_period_seconds": 0.0, "consecutive_failures": 1000}
        self.run_task("flips", "sleep 1.5; touch bad; sleep 1.5; rm bad; sleep 1000", health_check=check)
        wait(lambda: [s["healthy"] for s in statuses(self.f, "flips") if "healthy" in s][-1:] == [True] and
             False in [s.get("healthy") for s in statuses(self.f, "flips")], 20, "sick and well again")
        told = [s["healthy"] for s in statuses(self.f, "flips") if "healthy" in s]
        self.assertEqual((told[0], told[-1], told.count(True)), (True, True, 2))
        self.f.call("KILL", kill={"task_id": {"value": "flips"}})
        self.f.status("flips", "TASK_KILLED")

    # ---- limits

    def test_36_memory(self):
        if "cgroups" not in self.cluster.isolators:
            raise unittest.SkipTest("cgroups cannot be written to here")
        self.run_task("hog", "exec python3 -c 'x = bytearray(300 << 20); import time; time.sleep(60)'", mem=64)
        s = self.f.status("hog", "TASK_FAILED", 30)
        self.assertEqual(s["reason"], "REASON_CONTAINER_LIMITATION_MEMORY")
        self.assertEqual([r["name"] for r in s["limitation"]["resources"]], ["mem"])


class TasksProtobuf(Tasks):
    form = PROTOBUF


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        Quiet.asked.append(self.path)
        super().do_GET()


class Fetching(mesos.Case):
    """37: what a task needs is there before it starts."""

    options = {"agents": 1}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.mkdtemp(prefix="gantry-fetch-")
        with tarfile.open(os.path.join(cls.folder, "pack.tgz"), "w:gz") as t:
            data = b"packed"
            member = tarfile.TarInfo("inside/file")
            member.size = len(data)
            t.addfile(member, io.BytesIO(data))
        with open(os.path.join(cls.folder, "script"), "w") as f:
            f.write("#!/bin/sh\necho ran\n")
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=cls.folder))
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()
        shutil.rmtree(cls.folder)
        super().tearDownClass()

    def url(self, name):
        return "http://127.0.0.1:%d/%s" % (self.server.server_address[1], name)

    def launch(self, f, name, command, *uris):
        o = f.offer()
        f.launch(o, dict(f.task(o, name), command={"shell": True, "value": command, "uris": list(uris)}))

    def test_37_fetching(self):
        f = self.framework(capabilities=AWARE)
        self.addCleanup(lambda: f.call("TEARDOWN"))
        self.launch(f, "unpacks", "grep -q packed inside/file", {"value": self.url("pack.tgz")})
        f.status("unpacks", "TASK_FINISHED", 30)
        self.launch(f, "keeps", "test -f pack.tgz && test ! -e inside", {"value": self.url("pack.tgz"), "extract": False})
        f.status("keeps", "TASK_FINISHED", 30)
        self.launch(f, "runs", "test \"$(./script)\" = ran", {"value": self.url("script"), "executable": True})
        f.status("runs", "TASK_FINISHED", 30)
        self.launch(f, "renames", "test -f sub/other && test ! -e script", {"value": self.url("script"), "output_file": "sub/other"})
        f.status("renames", "TASK_FINISHED", 30)
        self.launch(f, "misses", "true", {"value": self.url("nosuch")})
        s = f.status("misses", "TASK_FAILED", 30)
        self.assertEqual(s["reason"], "REASON_CONTAINER_LAUNCH_FAILED")
        self.assertIn("nosuch", s["message"])

    def test_37_cached_once(self):
        f = self.framework(capabilities=AWARE)
        self.addCleanup(lambda: f.call("TEARDOWN"))
        name = "cached-" + self.form[-4:]
        with open(os.path.join(self.folder, name), "w") as w:
            w.write("x")
        for n in range(3):
            self.launch(f, "c%d" % n, "test -f " + name, {"value": self.url(name), "cache": True})
            f.status("c%d" % n, "TASK_FINISHED", 30)
        self.assertEqual(Quiet.asked.count("/" + name), 1)


class FetchingProtobuf(Fetching):
    form = PROTOBUF


if __name__ == "__main__":
    mesos.main()
