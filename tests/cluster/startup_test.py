"""What keeps a daemon from starting, and what it says then. Each is one sentence and an exit status; nothing half-starts."""

import os
import subprocess
import time
import unittest

import cluster
from cluster import Case, needs_root, wait


def shown(text):
    return "\n" + text


class Startup(Case):
    def refused(self, daemon, *words, code=3):
        daemon.start(ready=False)
        self.assertEqual(code, daemon.exit_code(), daemon.log())
        errors = [line for line in daemon.log().splitlines() if "cannot start" in line]
        self.assertEqual(1, len(errors), shown(daemon.log()))
        for w in words:
            self.assertIn(w, errors[0])
        return errors[0]

    def test_ten_mistakes_are_ten_errors_and_no_module_runs(self):
        c = self.up(agents=0, start=False)
        d = c.add("bad", """[kernel]
role = ["maste"]
wrok_dir = "%s/bad"
listen = "127.0.0.1:99999"
log_level = "chatty"
agent_ping_interval = "15 parsecs"
agent_ping_misses = 0
fsync = "yes"
module_dirs = ["%s"]
[store.lmbd]
[allocator.drf]
interval = 5
[election.standalone]
[framework.services]
lisen = "127.0.0.1:0"
""" % (c.dir, cluster.MODULES))
        d.start(ready=False)
        self.assertEqual(2, d.exit_code())
        lines = d.log().splitlines()
        errors = [line for line in lines if line.startswith(d.config + ":") and ": error: " in line]
        self.assertEqual(10, len(errors), shown(d.log()))
        at = {int(line[len(d.config) + 1:].split(":")[0]) for line in errors}
        self.assertEqual({2, 3, 4, 5, 6, 7, 8, 10, 12, 15}, at, shown(d.log()))
        for line in errors:   # file:line:column
            self.assertRegex(line[len(d.config):], r"^:\d+:\d+: error: ")
        for wanted in ('"master"', "work_dir", "lmdb", "listen"):
            self.assertIn(wanted, d.log())
        self.assertIn("10 errors", lines[-1])
        self.assertFalse(os.path.exists(c.dir + "/bad"), "nothing was started")
        check = subprocess.run([os.path.join(cluster.BIN, "gantry"), "config", "check", d.config], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, check=False)
        self.assertNotEqual(0, check.returncode)
        self.assertEqual(10, len([x for x in check.stdout.splitlines() if ": error: " in x]), shown(check.stdout))

    def test_port_in_use(self):
        c = self.up(agents=0)
        d = c.add("second", c.master_text().replace("%s/master" % c.dir, "%s/second" % c.dir))
        self.refused(d, "listen", str(c.master_port), "in use")
        self.assertEqual(200, c.http("GET", "/ping")[0], "the first one is untouched")

    def test_services_port_in_use(self):
        c = self.up(agents=0)
        text = c.master_text().replace("%s/master" % c.dir, "%s/second" % c.dir).replace(":%d" % c.master_port, ":%d" % cluster.free_port())
        d = c.add("second", text)
        d.start(ready=False)
        self.assertIn(d.exit_code(), (1, 3))
        self.assertIn("framework.services", d.log())
        self.assertIn(str(c.http_port), d.log())
        self.assertEqual(200, c.http("GET", "/ping")[0])

    def test_work_dir_used_twice(self):
        c = self.up(agents=0)
        text = c.master_text().replace(":%d" % c.master_port, ":%d" % cluster.free_port()).replace(":%d" % c.http_port, ":%d" % cluster.free_port())
        d = c.add("second", text)
        d.work = c.master.work
        self.refused(d, "work_dir", "in use by another gantryd")
        self.assertEqual(200, c.http("GET", "/ping")[0])
        self.assertIsNotNone(c.master.status(), "its control socket is still there")

    @unittest.skipUnless(cluster.is_root() and os.path.exists("/usr/bin/setpriv"), "needs root and setpriv, to become nobody")
    def test_read_only_work_dir(self):
        c = self.up(agents=0, start=False)
        os.mkdir(c.master.work, 0o755)   # root's; nobody cannot write there
        c.master.prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        self.refused(c.master, "work_dir", c.master.work, "ermission denied")

    @needs_root
    def test_read_only_file_system_as_work_dir(self):
        c = self.up(agents=1, start=False)
        for d in c.daemons.values():
            c.tmpfs(d.work, "1m")
            subprocess.run(["mount", "-o", "remount,ro", d.work], check=True)
            self.refused(d, "work_dir", "ead-only")

    def test_truncated_store(self):
        c = self.up(agents=0)
        c.deploy(self.sleeper("/kept", instances=0), n=0)
        self.assertEqual(0, c.master.terminate())
        store = [os.path.join(folder, f) for folder, _, files in os.walk(c.master.work) for f in files if f == "data.mdb"]
        self.assertEqual(1, len(store))
        whole = cluster._read(store[0])
        pages = [n for n in (0, 100, 4096, 8192, 12288, len(whole) // 2) if n < len(whole)]
        for size in pages:
            with self.subTest(size=size):
                os.truncate(store[0], size)
                if size == 0:
                    # An empty file is what a crash during the very first start leaves: not distinguishable from new.
                    with open(store[0], "wb") as f:
                        f.write(b"\0" * 8192)
                open(c.master.log_path, "w").close()
                self.refused(c.master, "store")
                self.assertNotIn("SIG", c.master.log())
                with open(store[0], "wb") as f:
                    f.write(whole)
        c.master.start()
        wait(lambda: c.app("/kept"), 20, "the application, after the store was put back")

    def test_garbage_store(self):
        c = self.up(agents=0)
        self.assertEqual(0, c.master.terminate())
        store = [os.path.join(folder, f) for folder, _, files in os.walk(c.master.work) for f in files if f == "data.mdb"][0]
        size = os.path.getsize(store)
        with open(store, "wb") as f:
            f.write(os.urandom(size))
        open(c.master.log_path, "w").close()
        self.refused(c.master, "store")

    def test_torn_journal_of_an_agent(self):
        c = self.up(agents=1)
        c.deploy(self.sleeper(instances=2))
        before = c.snapshot("/sleep")
        agent = c.agents()[0]
        agent.kill9()
        journal = os.path.join(agent.work, "agent", "journal")
        with open(journal, "ab") as f:
            f.write(b"\x40\0\0\0torn")
        agent.start()
        wait(lambda: agent.status()["registered"], 20, "registered")
        self.assertEqual(before, c.snapshot("/sleep"))
        self.assertTrue(os.path.exists(journal + ".cut"))

    @unittest.skipUnless(cluster.is_root() and os.path.exists("/usr/bin/setpriv"), "needs root and setpriv, to become nobody")
    def test_ordinary_user_runs_tasks_without_limits_and_says_so_once(self):
        c = self.up(agents=1, start=False, isolators=["namespaces", "cgroups"])
        for d in c.daemons.values():
            os.mkdir(d.work)
            os.chown(d.work, 65534, 65534)
            d.prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        c.start()
        tasks = c.deploy(self.sleeper(instances=3))
        for t in tasks:
            self.assertEqual(65534, os.stat("/proc/%d" % cluster.main_pid(t["id"])).st_uid)
        log = c.agents()[0].log().lower()
        self.assertEqual(1, log.count("not running as root"), shown(log))
        c.agents()[0].kill9()
        c.agents()[0].start()
        wait(lambda: c.agents()[0].status()["registered"], 20, "registered")
        wait(lambda: {t["id"] for t in c.healthy("/sleep", 3) or []} == {t["id"] for t in tasks}, 10, "the same tasks")
        c.gantry("app", "remove", "/sleep", text=True)
        wait(lambda: not c.leftovers(), 10, "nothing left")

    def test_starts_quickly(self):
        c = self.up(agents=0)
        c.master.terminate()
        best = 99
        for _ in range(3):
            began = time.monotonic()
            c.master.start(ready=False)
            wait(lambda: c.http("GET", "/ping")[0] == 200, 10, "the first answer", step=0.002)
            best = min(best, time.monotonic() - began)
            c.master.terminate()
        print("cold start to the first answered request: %.0f ms" % (best * 1000))
        self.assertLess(best, 1.0)


if __name__ == "__main__":
    cluster.main()
