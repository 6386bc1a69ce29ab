"""What an author sees of a module on a live system: its calls, its requests, a recording, and that nobody is harmed."""

import json
import os
import signal
import subprocess
import time
import unittest

import cluster
from cluster import BIN, Case, is_root, wait


class Watcher:
    """A `gantry module trace` or `record` in the background."""

    def __init__(self, c, daemon, *args):
        self.process = subprocess.Popen([os.path.join(BIN, "gantry"), "-a", os.path.join(daemon.work, "gantry.sock"), "--json",
                                         "module"] + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        # It watches once the daemon says so.
        wait(lambda: self.process.poll() is not None or traced(c, daemon, args[1]), 20, "the trace running")

    def end(self, how=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(how)
        out, err = self.process.communicate(timeout=30 * cluster.SLOW)
        self.err = err
        return out


def traced(c, daemon, module):
    return json.loads(c.gantry("module", "show", module, address=os.path.join(daemon.work, "gantry.sock")).stdout)["traced"]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


class ModuleTrace(Case):
    def test_a_deployment_is_seen_from_both_sides(self):
        c = self.up(agents=1)
        agent = c.agents()[0]
        isolator = "isolator.namespaces" if is_root() else "fetcher.curl"
        services = Watcher(c, c.master, "trace", "framework.services")
        other = Watcher(c, c.master, "trace", "framework.services", "--method", "http.RESPOND", "--summary")
        tasks = Watcher(c, agent, "trace", isolator, "--all")
        recording = os.path.join(c.dir, "calls")
        recorder = Watcher(c, agent, "record", isolator, "--out", recording)
        c.deploy(self.web(instances=2))
        c.gantry("app", "remove", "/web", text=True, timeout=90)

        seen = lines(services.end())
        self.assertEqual(0, services.process.returncode, services.err)
        by_method = {}
        for e in seen:
            by_method.setdefault(e["method"], []).append(e)
        self.assertIn("http.LISTEN", by_method, "requests of the API are chunks of LISTEN")
        self.assertTrue(all(e["code"] == "MORE" for e in by_method["http.LISTEN"]))
        self.assertTrue(any(e["code"] == "OK" and e["latency_ns"] > 0 and e["asked_bytes"] > 100 for e in by_method["http.RESPOND"]))
        self.assertIn("cluster.SUBSCRIBE", by_method, "offers and updates are chunks of SUBSCRIBE")
        self.assertTrue(all(e["code"] == "OK" for e in by_method["cluster.CALL"]), by_method["cluster.CALL"])
        self.assertIn("store.COMMIT", by_method)
        self.assertNotIn("body", seen[0])

        summary = lines(other.end())[-1]["summary"]
        self.assertEqual(["http.RESPOND"], [m["method"] for m in summary["methods"]])
        self.assertGreaterEqual(summary["methods"][0]["count"], len(by_method["http.RESPOND"]) - 5)
        self.assertGreater(summary["methods"][0]["max_ns"], 0)
        self.assertEqual(0, summary["lost"])

        seen = lines(tasks.end())
        if is_root():
            calls = {e["token"]: e for e in seen if e["what"] == "call"}
            prepared = [e for e in seen if e["method"] == "PREPARE" and e["what"] == "done"]
            self.assertEqual(2, len(prepared), seen)
            for e in prepared:
                self.assertEqual("OK", e["code"])
                self.assertIn(e["token"], calls)
            self.assertEqual(2, len([e for e in seen if e["method"] == "CLEANUP" and e["what"] == "done"]))

        wrote = json.loads(recorder.end())
        self.assertEqual(0, wrote["lost"])
        self.assertEqual(os.path.getsize(recording), wrote["bytes"])
        self.assertEqual(0o600, os.stat(recording).st_mode & 0o777)
        with open(recording, "rb") as f:
            self.assertEqual(b"GANTRYTR", f.read(8))
        self.assertEqual(0, traced(c, c.master, "framework.services"), "the ends were taken note of")

        check = os.path.join(BIN, "gantry-module")
        if not os.path.exists(check) or not is_root():
            self.skipTest("no gantry-module in this build, or not root: the recording was not replayed")
        kind, name = isolator.split(".")
        self.assertGreater(wrote["entries"], 4)
        r = subprocess.run([check, "check", os.path.join(cluster.MODULES, "gantry-%s-%s.so" % (kind, name)), "--stage", "replay",
                            "--host", "kernel", "--replay", recording], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=120)
        self.assertEqual(0, r.returncode, r.stdout)

    def test_a_reader_that_stops_reading_harms_nobody(self):
        c = self.up(agents=0)
        watcher = Watcher(c, c.master, "trace", "framework.services", "--all")
        watcher.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        for _ in range(200):
            self.assertEqual(200, c.http("GET", "/ping")[0])
        self.assertLess(time.monotonic() - began, 20 * cluster.SLOW)
        self.assertEqual(1, traced(c, c.master, "framework.services"))
        # Not read for ten seconds: the daemon forgets it.
        wait(lambda: traced(c, c.master, "framework.services") == 0, 25, "the trace forgotten")
        watcher.process.send_signal(signal.SIGCONT)
        wait(lambda: watcher.process.poll() is not None, 20, "the reader being told")
        out = watcher.end()
        self.assertEqual(4, watcher.process.returncode, out)
        self.assertIn("not read for 10 s", watcher.err)

    def test_filters_and_mistakes(self):
        c = self.up(agents=0)
        r = c.gantry("module", "trace", "framework.service", check=False)
        self.assertEqual(4, r.returncode)
        self.assertIn('did you mean "framework.services"?', r.stderr)
        r = c.gantry("module", "trace", "framework.services", "--method", "store.COMIT", check=False)
        self.assertEqual(2, r.returncode)
        self.assertIn('did you mean "store.COMMIT"?', r.stderr)
        r = c.gantry("module", "trace", "framework.services", "--for", "10", check=False)
        self.assertEqual(2, r.returncode)
        self.assertIn("--for", r.stderr)
        nowhere = ["module", "record", "store.lmdb", "--out", os.path.join(c.dir, "no", "where")]
        r = c.gantry(*nowhere, check=False)
        self.assertEqual(5, r.returncode, "bodies are not for whoever reaches the port")
        self.assertIn("gantry.sock", r.stderr)
        r = c.gantry(*nowhere, address=os.path.join(c.master.work, "gantry.sock"), check=False)
        self.assertEqual(1, r.returncode)
        self.assertIn("cannot write", r.stderr)
        # A trace that ends by itself, and shows only what is slow or wrong: nothing here.
        began = time.monotonic()
        r = c.gantry("module", "trace", "store.lmdb", "--for", "300ms", "--slower", "1h")
        self.assertGreaterEqual(time.monotonic() - began, 0.3)
        self.assertEqual("", r.stdout)
        table = c.gantry("module", "trace", "store.lmdb", "--for", "100ms", text=True).stdout.splitlines()
        self.assertTrue(table[0].startswith("TIME"), table)
        self.assertTrue(table[-1].endswith("calls"), table)

    def test_one_module_in_detail(self):
        c = self.up(agents=0)
        listed = {"%s.%s" % (m["kind"], m["name"]): m for m in c.ask("module", "list")["modules"]}
        self.assertEqual("running", listed["framework.services"]["state"])
        self.assertIn(listed["framework.services"]["host"], ("kernel", "process"))
        shown = c.ask("module", "show", "framework.services")
        settings = {s["key"]: s for s in shown["settings"]}
        self.assertTrue(settings["listen"]["given"])
        self.assertIn(str(c.http_port), settings["listen"]["value"])
        self.assertIn('kind = "framework"', shown["manifest"])
        self.assertIn("framework.services/calls", [m["name"] for m in shown["metrics"]])
        self.assertTrue(all("framework.services" in line for line in shown["log"]))
        text = c.gantry("module", "show", "framework.services", text=True).stdout
        self.assertIn("Settings", text)
        self.assertEqual(4, c.gantry("module", "show", "framework.nobody", check=False).returncode)


if __name__ == "__main__":
    cluster.main()
