#!/usr/bin/env python3
"""mesos-go 0.0.11, unmodified, built from its module: its example scheduler and its example executor, its shell msh and its watcher
mwatch, in protobuf.

In JSON it cannot subscribe to any master since 1.10: it refuses the capability QUOTA_V2 in SUBSCRIBED, which it does not know.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "mesos"))

import mesos  # noqa: E402
import cluster as base  # noqa: E402
from cluster import BUILD, free_port, wait  # noqa: E402

FOLDER = os.path.join(BUILD, "foreign", "mesos-go")
TASKS = 12


class MesosGo(mesos.Case):
    options = {"agents": 1}

    @classmethod
    def setUpClass(cls):
        got = subprocess.run([os.path.join(HERE, "install"), "mesos-go", FOLDER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if got.returncode == 77:
            shutil.rmtree(FOLDER, ignore_errors=True)
            raise unittest.SkipTest(got.stdout.strip())
        if got.returncode:
            raise AssertionError(got.stdout)
        super().setUpClass()

    def run_example(self, codec):
        r = subprocess.run([os.path.join(FOLDER, "example-scheduler"), "-url", "http://127.0.0.1:%d/api/v1/scheduler" % self.cluster.api_port,
                            "-codec", codec, "-name", "go-" + codec, "-executor", os.path.join(FOLDER, "example-executor"), "-exec.image", "",
                            "-tasks", str(TASKS), "-cpu", "0.2", "-memory", "32", "-exec.cpu", "0.1", "-exec.memory", "64",
                            "-server.address", "127.0.0.1", "-metrics.port", str(free_port()), "-maxRefuseSeconds", "1s", "-verbose"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120 * base.SLOW)
        # It says so and then ends with status 1: its own context was cancelled.
        self.assertIn("mission accomplished, terminating", r.stdout, r.stdout[-4000:])
        state = json.loads(mesos.request(self.cluster.api_port, "GET", "/state")[2])
        mine = [f for f in state["frameworks"] + state["completed_frameworks"] if f["name"] == "go-" + codec]
        self.assertEqual(len(mine), 1, r.stdout[-4000:])
        ended = {t["id"]: t["state"] for t in mine[0]["completed_tasks"] + mine[0]["tasks"]}
        self.assertEqual(list(ended.values()), ["TASK_FINISHED"] * TASKS, ended)
        # One executor ran them; every update it sent was acknowledged, and nothing was lost.
        agent = json.loads(mesos.request(self.cluster.agent_ports[1], "GET", "/state")[2])
        executors = [e for f in agent["frameworks"] + agent["completed_frameworks"] if f["id"] == mine[0]["id"]
                     for e in f["executors"] + f["completed_executors"]]
        self.assertEqual([e["id"] for e in executors], ["default"])
        mesos.request(self.cluster.api_port, "POST", "/teardown", "frameworkId=" + mine[0]["id"])
        wait(lambda: not json.loads(mesos.request(self.cluster.agent_ports[1], "GET", "/containers")[2]), 20, "the executor being gone")

    def test_protobuf(self):
        self.run_example("protobuf")

    # ---- msh: a command as a framework of its own

    def msh(self, *command):
        name = "msh-%d" % time.monotonic_ns()
        r = subprocess.run([os.path.join(FOLDER, "msh"), "-master", "127.0.0.1:%d" % self.cluster.api_port, "-framework_name", name, "-task_name", name,
                            "-cpus", "0.1", "-memory", "32", "--"] + list(command),
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * base.SLOW)
        return name, r.returncode, r.stdout

    def sandbox(self, name):
        """What a task wrote, read as its framework's user would."""
        agent = json.loads(mesos.request(self.cluster.agent_ports[1], "GET", "/state")[2])
        box, = [e["directory"] for f in agent["frameworks"] + agent["completed_frameworks"] if f["name"] == name
                for e in f["executors"] + f["completed_executors"]]
        return json.loads(mesos.request(self.cluster.agent_ports[1], "GET", "/files/read?offset=0&path=%s/stdout" % box)[2])["data"]

    def test_msh_runs_a_command(self):
        name, status, text = self.msh("echo", "hello", "from msh")
        self.assertEqual(status, 0, text)
        states = [s for s in ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED") if s in text]
        self.assertEqual(states[-1:], ["TASK_FINISHED"], text)
        self.assertEqual(self.sandbox(name), "hello from msh\n")
        # It went without a word: with no time to come back its framework is gone.
        wait(lambda: name in [f["name"] for f in json.loads(mesos.request(self.cluster.api_port, "GET", "/state")[2])["completed_frameworks"]], 10,
             "the framework completed")

    def test_msh_tells_of_failure(self):
        _, status, text = self.msh("sh", "-c", "exit 7")
        self.assertEqual(status, 3, text)
        self.assertIn("TASK_FAILED", text)
        self.assertIn("Command exited with status 7", text)

    # ---- mwatch: the operators' event stream

    def test_mwatch_sees_what_happens(self):
        wait(lambda: not json.loads(mesos.request(self.cluster.api_port, "GET", "/state")[2])["frameworks"], 20, "the frameworks of other tests gone")
        log = os.path.join(self.cluster.dir, "mwatch.log")
        with open(log, "wb") as out:
            p = subprocess.Popen([os.path.join(FOLDER, "mwatch"), "-master", "127.0.0.1", "-port", str(self.cluster.api_port)],
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            def subscribers():
                return json.loads(mesos.request(self.cluster.api_port, "GET", "/metrics/snapshot")[2])["master/operator_event_stream_subscribers"]
            wait(lambda: subscribers() == 1, 20, "mwatch subscribing")
            f = self.framework(name="watched", capabilities=[{"type": "PARTITION_AWARE"}])
            o = f.offer()
            f.launch(o, f.task(o, "seen", "true", labels={"labels": [{"key": "colour", "value": "blue"}]}))
            f.status("seen", "TASK_FINISHED")
            f.call("TEARDOWN")

            def words():
                with open(log) as r:
                    return r.read()
            wait(lambda: "FRAMEWORK_REMOVED" in words(), 20, "the end of the framework in mwatch's words")
            lines = words().splitlines()
            # That it is disconnected may be told before that it is removed; and a status again when the task has gone on meanwhile.
            told = [line for n, line in enumerate(lines) if not line.startswith("FRAMEWORK_UPDATED") and (n == 0 or line != lines[n - 1])]
            self.assertEqual([" ".join(w for w in line.split() if w.isupper() and "_" in w) for line in told[:1] + told[2:-1]],
                             ["FRAMEWORK_ADDED", "TASK_UPDATED TASK_STARTING", "TASK_UPDATED TASK_RUNNING", "TASK_UPDATED TASK_FINISHED"], words()[-1500:])
            self.assertEqual([told[1].split()[0], told[-1].split()[0]], ["TASK_ADDED", "FRAMEWORK_REMOVED"])
            self.assertIn("watched", lines[0])
            self.assertIn(f.id, lines[1])
            self.assertIn("colour", lines[1])
            self.assertIn("cpus", lines[1])
            self.assertIsNone(p.poll())
        finally:
            p.kill()
            p.wait()


if __name__ == "__main__":
    mesos.main()
