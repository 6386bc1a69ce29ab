#!/usr/bin/env python3
"""mesos-go 0.0.11, unmodified, built from its module: its example scheduler and its example executor, in protobuf.

In JSON it cannot subscribe to any master since 1.10: it refuses the capability QUOTA_V2 in SUBSCRIBED, which it does not know.
"""

import json
import os
import shutil
import subprocess
import sys
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


if __name__ == "__main__":
    mesos.main()
