#!/usr/bin/env python3
"""pymesos 0.3.15 from its registry, unmodified, against real daemons: what its scheduler sees is what is asserted."""

import json
import os
import shutil
import subprocess
import sys
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "mesos"))

import mesos  # noqa: E402
from cluster import BUILD, wait  # noqa: E402

FOLDER = os.path.join(BUILD, "foreign", "pymesos")


class Run:
    """A scheduler as a process of its own; seen grows by what it prints."""

    def __init__(self, *arguments, program="pymesos_scheduler.py"):
        self.seen = []
        self.process = subprocess.Popen(["/usr/bin/python3", "-B", os.path.join(HERE, program)] + list(arguments),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=dict(os.environ, PYTHONPATH=FOLDER))
        self.errors = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.seen.append(json.loads(line))

    def of(self, event, **match):
        return [s for s in list(self.seen) if s["event"] == event and all(s.get(k) == v for k, v in match.items())]

    def wait(self, event, seconds=30, **match):
        try:
            return wait(lambda: self.of(event, **match), seconds, "%s %r" % (event, match))[0]
        except AssertionError as e:
            raise AssertionError("%s\nseen: %r\n%s" % (e, self.seen, "".join(self.errors[-30:]))) from None

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for f in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                f.close()
            except OSError:
                pass


class PyMesos(mesos.Case):
    options = {"agents": 1}

    @classmethod
    def setUpClass(cls):
        got = subprocess.run([os.path.join(HERE, "install"), "pymesos", FOLDER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if got.returncode == 77:
            shutil.rmtree(FOLDER, ignore_errors=True)
            raise unittest.SkipTest(got.stdout.strip())
        if got.returncode:
            raise AssertionError(got.stdout)
        super().setUpClass()

    def run_scheduler(self, *arguments, **options):
        r = Run("127.0.0.1:%d" % self.cluster.api_port, *arguments, **options)
        self.addCleanup(r.close)
        return r

    def test_five_tasks_finish(self):
        r = self.run_scheduler("5")
        registered = r.wait("registered")
        self.assertEqual(registered["master"], self.cluster.api_port)
        self.assertRegex(registered["version"], r"^\d+\.\d+\.\d+$")
        stopped = r.wait("stopped", 60)
        self.assertEqual(stopped["ended"], {"pymesos-%d" % n: "TASK_FINISHED" for n in range(5)})
        for n in range(5):
            states = [s["state"] for s in r.of("update", task="pymesos-%d" % n)]
            self.assertEqual(states, ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"])
        self.assertEqual(r.of("error"), [])
        self.assertEqual(r.process.wait(10), 0)
        # stop() tears the framework down.
        wait(lambda: not [f for f in self.cluster.ask("frameworks")["frameworks"] if f["name"] == "pymesos" and f.get("active")], 10,
             "the framework being gone")

    def test_custom_executor(self):
        r = self.run_scheduler("5", program="pymesos_squares.py")
        for n in range(5):
            finished = r.wait("update", task="square-%d" % n, state="TASK_FINISHED")
            self.assertEqual(finished["data"], str(n * n))
            self.assertTrue(finished["agent"] and finished["container"])
            self.assertEqual([s["state"] for s in r.of("update", task="square-%d" % n)], ["TASK_RUNNING", "TASK_FINISHED"])
            r.wait("message", executor="squares", text="%d squared is %d" % (n, n * n))
        r.wait("update", task="square-5", state="TASK_KILLED")
        r.wait("message", text="HELLO EXECUTOR")
        # One executor ran them all, and it is still there.
        agent = json.loads(mesos.request(self.cluster.agent_ports[1], "GET", "/state")[2])
        self.assertEqual([e["id"] for f in agent["frameworks"] for e in f["executors"]], ["squares"])
        self.assertEqual(r.of("executor lost"), [])
        r.say("stop")
        r.wait("stopped", 30)
        # stop() tears the framework down, and its executor with it.
        wait(lambda: not [f for f in json.loads(mesos.request(self.cluster.agent_ports[1], "GET", "/state")[2])["frameworks"] if f["executors"]],
             30, "the executor being gone")

    def test_survives_a_master_that_is_killed(self):
        r = self.run_scheduler("1", "stays")
        r.wait("update", state="TASK_RUNNING")
        self.cluster.master.kill9()
        r.wait("disconnected")
        self.cluster.master.start()
        self.cluster.wait_up(1)
        r.wait("reregistered", 60)
        r.say("reconcile")
        r.wait("update", state="TASK_RUNNING", reason="REASON_RECONCILIATION")
        r.say("kill")
        r.wait("update", state="TASK_KILLED")
        r.say("stop")
        self.assertEqual(r.wait("stopped")["ended"], {"pymesos-0": "TASK_KILLED"})
        self.assertFalse([s for s in r.of("update") if s["state"] in ("TASK_LOST", "TASK_FAILED")])


if __name__ == "__main__":
    mesos.main()
