#!/usr/bin/env python3
"""What daemons log, over HTTP: /files and LIST_FILES, READ_FILE of the log of a master and of an agent, how much they log, and
compressed answers of agents. mesos-kernel.md B5 to B7 and scenario 45; in JSON and in protobuf. (Sandboxes: executor_test.py.)"""

import base64
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from mesos import JSON, PROTOBUF, base, free_port, protobuf, request  # noqa: E402
from cluster import wait  # noqa: E402


class Logs(mesos.Case):
    options = {"agents": 1, "log_level": "info"}

    def daemons(self):
        """The daemon, its port, the virtual path of its log, and the package of its v1 messages."""
        return ((self.cluster.master, self.cluster.api_port, "/master/log", "master"),
                (self.cluster.daemons["agent-1"], self.cluster.agent_ports[1], "/slave/log", "agent"))

    def get(self, port, path, expect=200):
        status, headers, body = request(port, "GET", path)
        self.assertEqual(status, expect, body)
        return json.loads(body) if status == 200 else body.decode()

    def operate(self, port, package, kind, expect=200, **body):
        call = dict({"type": kind}, **body)
        data = json.dumps(call).encode() if self.form == JSON else protobuf().encode("gantry.fb.%s.Call" % package, call)
        status, headers, text = request(port, "POST", "/api/v1", data, {"Content-Type": self.form, "Accept": self.form})
        self.assertEqual(status, expect, text)
        if status != 200:
            return text.decode()
        if not text:
            return None
        answer = json.loads(text) if self.form == JSON else protobuf().decode("gantry.fb.%s.Response" % package, text)
        self.assertEqual(answer["type"], kind)
        return answer.get(kind.lower(), {})

    def test_45_the_log_is_a_file(self):
        for daemon, port, log, _ in self.daemons():
            with self.subTest(log):
                with open(daemon.log_path, "rb") as f:
                    begin = f.read(200)
                size = self.get(port, "/files/read?path=" + log)
                self.assertEqual(size["data"], "")
                self.assertGreaterEqual(size["offset"], 200)
                self.assertLessEqual(size["offset"], os.path.getsize(daemon.log_path))
                self.assertEqual(self.get(port, "/files/read?offset=-1&path=" + log)["data"], "")
                self.assertEqual(self.get(port, "/files/read?offset=0&length=200&path=" + log), {"data": begin.decode(), "offset": 0})
                self.assertEqual(self.get(port, "/files/read?offset=7&length=5&path=" + log), {"data": begin[7:12].decode(), "offset": 7})
                self.assertEqual(self.get(port, "/files/read?offset=%d&path=%s" % (1 << 40, log)), {"data": "", "offset": 1 << 40})
                self.assertEqual(self.get(port, "/files/browse?path=" + log), [])
                self.assertEqual(self.get(port, "/files/debug")[log], daemon.log_path)
                status, headers, body = request(port, "GET", "/files/download?path=" + log)
                self.assertEqual((status, headers["content-disposition"]), (200, "attachment; filename=log"))
                self.assertTrue(body.startswith(begin))
                # A page is 64 KiB; and what was written a moment ago is there.
                with open(daemon.log_path, "ab") as f:
                    f.write(b"x" * 100000)
                self.assertEqual(len(self.get(port, "/files/read?offset=0&length=1000000&path=" + log)["data"]), 65536)

    def test_45_nothing_else_is(self):
        for _, port, log, _ in self.daemons():
            other = "/master/log" if log == "/slave/log" else "/slave/log"
            for path in ("/log", "/", "/etc/passwd", log + "/x", log + "/../../etc/passwd", "log", other):
                with self.subTest(port=port, path=path):
                    self.assertEqual(self.get(port, "/files/read?path=" + path, 404), "")
                    self.assertEqual(self.get(port, "/files/browse?path=" + path, 404), "")
                    self.assertEqual(self.get(port, "/files/download?path=" + path, 404), "")
            self.assertEqual(self.get(port, "/files/read", 400), "Expecting 'path=value' in query.\n")
            self.assertEqual(self.get(port, "/files/read?offset=-2&path=" + log, 400), "Negative offset provided: -2.\n")
            self.assertIn("Failed to parse length", self.get(port, "/files/read?length=x&path=" + log, 400))

    def test_45_v1(self):
        for daemon, port, log, package in self.daemons():
            with self.subTest(log):
                with open(daemon.log_path, "rb") as f:
                    begin = f.read(64)
                got = self.operate(port, package, "READ_FILE", read_file={"path": log, "offset": 4, "length": 60})
                self.assertEqual(base64.b64decode(got["data"]), begin[4:])
                self.assertGreaterEqual(int(got["size"]), 64)
                whole = self.operate(port, package, "READ_FILE", read_file={"path": log, "offset": 0})
                self.assertTrue(base64.b64decode(whole["data"]).startswith(begin))
                self.assertEqual(self.operate(port, package, "LIST_FILES", list_files={"path": log}), {})
                self.operate(port, package, "LIST_FILES", 404, list_files={"path": "/nosuch"})
                self.operate(port, package, "READ_FILE", 404, read_file={"path": "/log", "offset": 0})
                self.assertIn("Expecting 'list_files' to be present", self.operate(port, package, "LIST_FILES", 400))
                self.assertIn("Expecting 'read_file' to be present", self.operate(port, package, "READ_FILE", 400))

    def test_levels(self):
        for daemon, port, log, package in self.daemons():
            with self.subTest(log):
                def level():
                    return self.operate(port, package, "GET_LOGGING_LEVEL").get("level", 0)

                def debug_lines():
                    return daemon.log().count(" DEBUG ")
                self.assertEqual((level(), debug_lines()), (0, 0))
                self.assertIsNone(self.operate(port, package, "SET_LOGGING_LEVEL",
                                               set_logging_level={"level": 1, "duration": {"nanoseconds": 600 * 10**9}}))
                self.assertEqual(level(), 1)
                self.assertEqual(request(port, "POST", "/logging/toggle")[2], b"1\n")
                wait(lambda: debug_lines() == 1, 20, "the daemon saying what it says only now")
                # Again, and lower: it remembers how it was before the first.
                self.operate(port, package, "SET_LOGGING_LEVEL", set_logging_level={"level": 2, "duration": {"nanoseconds": 600 * 10**9}})
                self.assertEqual((level(), debug_lines()), (2, 2))
                self.assertEqual(request(port, "POST", "/logging/toggle?level=0&duration=1secs")[0], 200)
                self.assertEqual(level(), 0)
                self.operate(port, package, "SET_LOGGING_LEVEL", set_logging_level={"level": 0, "duration": {"nanoseconds": 10**9}})
                self.assertEqual(debug_lines(), 2)
                # And by itself when its time is over.
                self.operate(port, package, "SET_LOGGING_LEVEL", set_logging_level={"level": 1, "duration": {"nanoseconds": 10**8}})
                wait(lambda: level() == 0, 10, "the level as before")
                self.assertIn("must not be negative", self.operate(port, package, "SET_LOGGING_LEVEL", 400,
                                                                   set_logging_level={"level": 1, "duration": {"nanoseconds": -1}}))
                self.assertEqual(request(port, "POST", "/logging/toggle?level=1")[0], 400)

    def test_agents_compress(self):
        port = self.cluster.agent_ports[1]
        for path in ("/state", "/metrics/snapshot"):
            status, headers, body = request(port, "GET", path, headers={"Accept-Encoding": "gzip"})
            self.assertEqual((status, headers.get("content-encoding"), headers["content-type"]), (200, "gzip", JSON), path)
            self.assertEqual(set(json.loads(gzip.decompress(body))), set(self.get(port, path)))
        status, headers, body = request(port, "GET", "/state?jsonp=cb", headers={"Accept-Encoding": "gzip"})
        self.assertEqual((headers["content-encoding"], headers["content-type"]), ("gzip", "text/javascript"))
        self.assertTrue(gzip.decompress(body).startswith(b"cb({"))
        for headers in ({}, {"Accept-Encoding": "identity"}, {"Accept-Encoding": "gzip;q=0"}):
            self.assertNotIn("content-encoding", request(port, "GET", "/state", headers=headers)[1])
        self.assertNotIn("content-encoding", request(port, "GET", "/version", headers={"Accept-Encoding": "gzip"})[1])  # too small
        call = {"type": "GET_METRICS", "get_metrics": {}}
        data = json.dumps(call).encode() if self.form == JSON else protobuf().encode("gantry.fb.agent.Call", call)
        status, headers, body = request(port, "POST", "/api/v1", data, {"Content-Type": self.form, "Accept": self.form, "Accept-Encoding": "gzip"})
        self.assertEqual((headers["content-encoding"], headers["content-type"]), ("gzip", self.form))
        plain = gzip.decompress(body)
        answer = json.loads(plain) if self.form == JSON else protobuf().decode("gantry.fb.agent.Response", plain)
        self.assertIn("slave/registered", [m["name"] for m in answer["get_metrics"]["metrics"]])


class LogsProtobuf(Logs):
    form = PROTOBUF


class WithoutFile(base.Case):
    def test_a_pipe_cannot_be_read_back(self):
        folder, port = tempfile.mkdtemp(prefix="gantry-nolog-"), free_port()
        self.addCleanup(shutil.rmtree, folder, True)
        command = [os.path.join(base.BIN, "mesos-master"), "--registry=in_memory", "--ip=127.0.0.1", "--port=%d" % port, "--work_dir=" + folder]
        reader, writer = os.pipe()
        drain = subprocess.Popen(["cat"], stdin=reader, stdout=subprocess.DEVNULL)
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=dict(os.environ, GANTRY_MODULES=base.MODULES))
        os.close(reader), os.close(writer)

        def up():
            try:
                return request(port, "GET", "/state")[0] == 200
            except OSError:
                return False
        try:
            wait(up, 30, "the master")
            self.assertEqual(request(port, "GET", "/files/read?path=/master/log")[::2], (404, b""))
            self.assertEqual(request(port, "GET", "/files/debug")[::2], (200, b"{}"))
            call = json.dumps({"type": "READ_FILE", "read_file": {"path": "/master/log", "offset": 0}})
            status, _, text = request(port, "POST", "/api/v1", call, {"Content-Type": JSON})
            self.assertEqual((status, text), (404, b""))
        finally:
            p.send_signal(signal.SIGTERM)
            self.assertEqual(p.wait(30 * base.SLOW), 0)
            drain.wait(10)


if __name__ == "__main__":
    mesos.main()
