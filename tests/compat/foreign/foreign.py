"""What tests of foreign programs share: installing one, running it, and what it says, a line of JSON an event."""

import json
import os
import subprocess
import sys
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "mesos"))

import mesos  # noqa: E402
from cluster import BUILD, wait  # noqa: E402


class Run:
    """A foreign program as a process of its own; seen grows by what it prints."""

    def __init__(self, command, cwd=None, env=None):
        self.seen, self.errors = [], []
        self.process = subprocess.Popen(command, cwd=cwd, env=dict(os.environ, **(env or {})), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                self.seen.append(json.loads(line))
            except ValueError:
                self.errors.append(line)

    def of(self, event, **match):
        return [s for s in list(self.seen) if s["event"] == event and all(s.get(k) == v for k, v in match.items())]

    def wait(self, event, seconds=30, count=1, **match):
        try:
            return wait(lambda: [x for x in [self.of(event, **match)] if len(x) >= count], seconds, "%s %r" % (event, match))[0]
        except AssertionError as e:
            raise AssertionError("%s\nseen: %r\n%s" % (e, self.seen[-50:], "".join(self.errors[-30:]))) from None

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


class Case(mesos.Case):
    """Tests of one program; `program` is its name for `install`."""

    program = None
    options = {"agents": 1, "gateway": 'heartbeat_interval = "1s"'}

    @classmethod
    def setUpClass(cls):
        cls.folder = os.path.join(BUILD, "foreign", cls.program)
        done = subprocess.run([os.path.join(HERE, "install"), cls.program, cls.folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode == 77:
            raise unittest.SkipTest(done.stdout.strip())
        if done.returncode != 0:
            raise AssertionError("install %s: %s" % (cls.program, done.stdout[-2000:]))
        super().setUpClass()

    def program_run(self, command, **options):
        r = Run(command, **options)
        self.addCleanup(r.close)
        return r

    def state(self):
        return json.loads(mesos.request(self.cluster.api_port, "GET", "/state")[2])


main = mesos.main
