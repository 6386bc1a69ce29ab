"""tools/up as a user runs it, in a directory of its own. Its ports are fixed: skipped where something else uses them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

import cluster
from cluster import wait

PORTS = (5060, 5071, 5072, 8080)


def ports_free():
    for port in PORTS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


class Up(unittest.TestCase):
    def setUp(self):
        if not ports_free():
            self.skipTest("one of the ports %s is in use" % (PORTS,))
        self.dir = tempfile.mkdtemp(prefix="gantry-clu-up-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.addCleanup(self.up, "--stop")

    def up(self, *args, timeout=280):
        r = subprocess.run([os.path.join(cluster.ROOT, "tools", "up"), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=timeout,
                           env=dict(os.environ, GANTRY_UP=self.dir, GANTRY_BUILD=cluster.BUILD), check=False)
        return r.returncode, r.stdout

    def daemons(self):
        code, out = self.up("--status")
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
        self.assertEqual({"master", "agent-1", "agent-2"}, set(rows), out)
        return {name: (None if pid == "-" else int(pid), address) for name, (pid, address) in rows.items()}, code

    def web(self):
        with urllib.request.urlopen("http://127.0.0.1:8080/v2/apps/web", timeout=5) as r:
            app = json.load(r)["app"]
        good = [t for t in app["tasks"] if any(h.get("alive") for h in t["healthCheckResults"])]
        return good if len(good) == app["instances"] == len(app["tasks"]) else None

    def mine(self):
        mark = self.dir.encode()
        return [p for p in cluster.all_pids() if cluster.alive(p) and
                (mark in cluster._read("/proc/%d/cmdline" % p) or
                 b"=" + mark + b"/" in cluster._read("/proc/%d/environ" % p))]

    def test_up_break_restart_stop(self):
        code, out = self.up()
        self.assertEqual(0, code, out)
        urls = re.findall(r"http://127\.0\.0\.1:\d+/(?=\s+task)", out)
        self.assertEqual(3, len(urls), out)
        for url in urls:
            self.assertEqual(200, urllib.request.urlopen(url, timeout=5).status)
        for word in ("Look:", "Scale:", "Stop:"):
            self.assertIn(word, out)
        daemons, code = self.daemons()
        self.assertEqual(0, code)
        self.assertTrue(all(pid for pid, _ in daemons.values()), daemons)

        began = time.monotonic()
        code, out = self.up()
        print("a second tools/up took %.1f s" % (time.monotonic() - began))
        self.assertEqual(0, code, out)
        self.assertEqual(daemons, self.daemons()[0])

        before = {t["id"]: cluster.main_pid(t["id"]) for t in self.web()}
        for name in ("agent-1", "master"):
            os.kill(daemons[name][0], signal.SIGKILL)
            wait(lambda name=name: self.daemons()[0][name][0] is None, 5, name + " shown as gone")
            code, out = self.up("--restart", name)
            self.assertEqual(0, code, out)
            wait(self.web, 20, "three healthy instances")
        self.assertEqual(before, {t["id"]: cluster.main_pid(t["id"]) for t in self.web()}, "the same instances")

        self.assertNotEqual(0, self.up("--restart", "nobody")[0])
        os.kill(self.daemons()[0]["agent-2"][0], signal.SIGKILL)   # --stop ends its tasks all the same
        code, out = self.up("--stop")
        self.assertEqual(0, code, out)
        self.assertEqual([], self.mine())
        groups = [os.path.join(t, d) for t, ds, _ in os.walk("/sys/fs/cgroup") for d in ds if d.startswith("gantry-up-")]
        self.assertEqual([], groups)
        self.assertNotIn(self.dir, cluster._read("/proc/mounts").decode())
        self.assertTrue(ports_free())


if __name__ == "__main__":
    cluster.main()
