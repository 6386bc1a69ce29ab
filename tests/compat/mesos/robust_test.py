#!/usr/bin/env python3
"""Bad clients and many clients of the Mesos API: nothing crashes, memory stays bounded, honest clients are served meanwhile."""

import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from cluster import SLOW, wait  # noqa: E402
from mesos import JSON, PROTOBUF, Stream, encoded, request  # noqa: E402

MIB = 1 << 20
AWARE = [{"type": "PARTITION_AWARE"}]
SUBSCRIBE = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "many", "failover_timeout": 60.0}}}


def resident(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) * 1024


def head(path="/api/v1/scheduler", length=0, method="POST", more=""):
    return ("%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: %d\r\n%s\r\n" %
            (method, path, length, more)).encode()


class Honest:
    """A framework that asks and is told, over and over, in a thread; `slowest` is its longest wait in seconds."""

    def __init__(self, port):
        self.f = mesos.Framework(port, name="honest", capabilities=AWARE, failover_timeout=60.0)
        self.f.extra["suppressed_roles"] = ["*"]  # it wants no offers; they are for the test's own
        self.f.subscribe()
        self.rounds, self.slowest, self.trouble, self.stopping = 0, 0.0, None, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stopping:
                name = "honest-%d" % self.rounds
                began = time.monotonic()
                self.f.call("RECONCILE", reconcile={"tasks": [{"task_id": {"value": name}}]})
                self.f.status(name, "TASK_UNKNOWN", 20)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.rounds += 1
                time.sleep(0.02)
        except Exception as e:  # whatever it is, the test says so
            self.trouble = repr(e)

    def end(self):
        self.stopping = True
        self.thread.join(30)
        try:
            self.f.call("TEARDOWN")
        finally:
            self.f.close()


class Robust(mesos.Case):
    options = {"agents": 1, "gateway": 'heartbeat_interval = "1s"\nmax_body = "1MiB"', "log_level": "info"}

    def setUp(self):
        self.port, self.pid = self.cluster.api_port, self.cluster.master.pid
        self.honest = Honest(self.port)
        wait(lambda: self.honest.rounds > 2, 20, "an honest client being served")

    def tearDown(self):
        try:
            rounds = self.honest.rounds
            wait(lambda: self.honest.rounds > rounds + 3 or self.honest.trouble, 20, "the honest client being served at the end")
            self.assertIsNone(self.honest.trouble)
            self.assertLess(self.honest.slowest, 5 * SLOW)  # of a machine shared with everything else
            self.assertTrue(self.cluster.master.running())
            self.assertEqual(self.cluster.master.pid, self.pid)
        finally:
            self.honest.end()
            super().tearDown()

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self.addCleanup(s.close)
        return s

    def exchange(self, data, seconds=10):
        """Status of what comes back for `data`, 0 when the connection just ends."""
        s = self.connect()
        s.settimeout(seconds)
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        got = b""
        try:
            while b"\r\n" not in got:
                piece = s.recv(65536)
                if not piece:
                    break
                got += piece
        except OSError:
            pass
        s.close()
        return int(got.split(b" ", 2)[1]) if got.startswith(b"HTTP/1.") else 0

    def test_malformed(self):
        bad = [b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /api/v1/scheduler HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
               b"POST /api/v1/scheduler HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
               b"POST /api/v1/scheduler HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
               b"POST /api/v1/scheduler HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
               b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20000 + b"\r\n",
               b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500]
        for data in bad:
            with self.subTest(data[:40]):
                self.assertIn(self.exchange(data), (0, 400, 404, 408, 413, 431, 501, 505))
        bodies = [b"", b"{", b"[" * 100000, b'{"type":' * 20000, b"\xff" * 1000, b"null", b"[]", b'"x"', b"0", b'{"type":{}}',
                  b'{"type":"SUBSCRIBE","subscribe":{"framework_info":[]}}', b'{"type":"SUBSCRIBE","subscribe":null}',
                  b'{"type":"ACCEPT","framework_id":{"value":"' + b"x" * 100000 + b'"},"accept":{}}',
                  b'{"type":"KILL","framework_id":{"value":"\\ud800"},"kill":{"task_id":{"value":"\\u0000"}}}']
        for body in bodies:
            for path in ("/api/v1/scheduler", "/api/v1")[:1 if b"SUBSCRIBE" in body else 2]:  # an operator's is whole
                with self.subTest(path=path, body=body[:40]):
                    self.assertEqual(self.exchange(head(path, len(body)) + body), 400)
        random.seed(4)
        for n in range(200):
            body = bytes(random.randrange(256) for _ in range(random.randrange(1, 200)))
            status, _, _ = request(self.port, "POST", "/api/v1/scheduler", body, {"Content-Type": PROTOBUF})
            self.assertEqual(status, 400)

    def test_damaged_calls(self):
        """Calls of a connected framework with bytes changed: refused or without effect on others."""
        f = self.framework(capabilities=AWARE)
        o = f.offer()
        random.seed(7)
        calls = [{"type": "ACCEPT", "framework_id": {"value": f.id}, "accept": {
            "offer_ids": [o["id"]], "operations": [{"type": "LAUNCH", "launch": {"task_infos": [f.task(o, "t")]}}]}},
            {"type": "DECLINE", "framework_id": {"value": f.id}, "decline": {"offer_ids": [{"value": "none"}], "filters": {"refuse_seconds": 0.0}}},
            {"type": "RECONCILE", "framework_id": {"value": f.id}, "reconcile": {"tasks": [{"task_id": {"value": "t"}}]}},
            {"type": "SUPPRESS", "framework_id": {"value": f.id}, "suppress": {"roles": ["a", "b"]}}]
        for n in range(200):
            form = (JSON, PROTOBUF)[n % 2]
            data = bytearray(encoded(calls[n % 4], form))
            for _ in range(random.randrange(1, 6)):
                data[random.randrange(len(data))] = random.randrange(256)
            status, _, _ = request(self.port, "POST", "/api/v1/scheduler", bytes(data), {"Content-Type": form, "Mesos-Stream-Id": f.stream.id})
            self.assertIn(status, (202, 400, 403, 501), bytes(data))

    def test_oversized(self):
        before = resident(self.pid)
        self.assertEqual(self.exchange(head(length=1 << 40)), 413)
        self.assertEqual(self.exchange(head(length=2 * MIB) + b" " * (2 * MIB)), 413)
        # A body without an announced end.
        s = self.connect()
        s.sendall(b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        # It is told so, and nothing more of it is kept; a client that does not listen is cut off.
        try:
            for _ in range(2000):
                s.sendall(chunk)
        except OSError:
            pass
        else:
            self.assertIn(b" 413 ", s.recv(4096))
            wait(lambda: not s.recv(4096), 20, "the end of the connection")
        self.assertLess(resident(self.pid) - before, 64 * MIB)

    def test_slow_senders(self):
        """Slowloris: heads and bodies that never end. They are cut off; nobody else notices."""
        half = [self.connect() for _ in range(150)]
        for s in half:
            s.sendall(b"POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\n")
        bodies = [self.connect() for _ in range(150)]
        for s in bodies:
            s.sendall(head(length=100000) + b"{")
        end = time.monotonic() + 3
        before = self.honest.rounds
        while time.monotonic() < end:
            for s in half:
                try:
                    s.sendall(b"x: y\r\n")
                except OSError:
                    pass
            for s in bodies:
                try:
                    s.sendall(b" ")
                except OSError:
                    pass
            time.sleep(0.2)
        self.assertGreater(self.honest.rounds, before + 10)

    def test_half_closed(self):
        # A call whose sender has closed its side is still answered.
        body = json.dumps({"type": "REVIVE", "framework_id": {"value": "nobody"}}).encode()
        self.assertEqual(self.exchange(head(length=len(body)) + body), 400)
        # A stream whose reader has closed its side has nobody to go to: the framework is disconnected.
        f = self.framework(subscribe=False, failover_timeout=60.0)
        f.stream = Stream(self.port, {"type": "SUBSCRIBE", "subscribe": {"framework_info": f.info}}, JSON, read=False)
        f.id = f.stream.first["subscribed"]["framework_id"]["value"]
        f.stream.socket.shutdown(socket.SHUT_WR)
        wait(lambda: f.raw({"type": "REVIVE", "framework_id": {"value": f.id}})[0] == 403, 10, "the framework being disconnected")
        f.subscribe()
        f.call("TEARDOWN")

    def test_readers_that_never_read(self):
        """Streams and answers nobody takes: bounded memory, then cut off."""
        s = self.framework()
        before = resident(self.pid)
        deaf = []
        for n in range(20):
            c = self.connect()
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = json.dumps({"type": "SUBSCRIBE"}).encode()
            c.sendall(head("/api/v1", len(body)) + body)
            deaf.append(c)
        many = [{"task_id": {"value": "ghost-%d-%s" % (n, "x" * 200)}} for n in range(500)]
        f = self.framework(subscribe=False, failover_timeout=60.0)
        f.stream = Stream(self.port, {"type": "SUBSCRIBE", "subscribe": {"framework_info": f.info}}, JSON, read=False)
        f.id = f.stream.first["subscribed"]["framework_id"]["value"]
        call = {"type": "RECONCILE", "framework_id": {"value": f.id}, "reconcile": {"tasks": many}}
        wait(lambda: f.raw(call)[0] == 403, 60, "the deaf framework being cut off")
        # Pipelined requests without a single read of an answer.
        c = self.connect()
        c.settimeout(2)
        try:
            for _ in range(5000):
                c.sendall(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        except OSError:
            pass
        self.assertLess(resident(self.pid) - before, 256 * MIB)
        s.call("TEARDOWN")

    def test_a_thousand_frameworks(self):
        """1,000 frameworks connected at once, all of them calling; each is told what it asked for."""
        count = 1000
        body = encoded(SUBSCRIBE, JSON)
        began = time.monotonic()
        frameworks = []
        for n in range(count):
            s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
            self.addCleanup(s.close)
            s.sendall(head(length=len(body)) + body)
            s.setblocking(False)
            frameworks.append({"socket": s, "data": b""})
        poller = select.poll()
        by_fd = {f["socket"].fileno(): f for f in frameworks}
        for fd in by_fd:
            poller.register(fd, select.POLLIN)

        def pump(done, seconds):
            end = time.monotonic() + seconds * SLOW
            while not done():
                self.assertLess(time.monotonic(), end, "frameworks are not served")
                for fd, _ in poller.poll(100):
                    piece = by_fd[fd]["socket"].recv(65536)
                    self.assertTrue(piece, "a stream ended")
                    by_fd[fd]["data"] += piece
        pump(lambda: all(b'"HEARTBEAT"' in f["data"] for f in frameworks), 60)
        print("%d frameworks subscribed in %.1f s" % (count, time.monotonic() - began))
        for f in frameworks:
            text = f["data"].decode()
            f["stream"] = next(line.split(": ")[1] for line in text.split("\r\n") if line.lower().startswith("mesos-stream-id"))
            at = text.index('"framework_id":{"value":"') + 25
            f["id"] = text[at:text.index('"', at)]
        self.assertEqual(len({f["id"] for f in frameworks}), count)
        caller = self.connect()
        out = b""
        for n, f in enumerate(frameworks):
            call = json.dumps({"type": "RECONCILE", "framework_id": {"value": f["id"]},
                               "reconcile": {"tasks": [{"task_id": {"value": "mine-%d" % n}}]}}).encode()
            out += head(length=len(call), more="Mesos-Stream-Id: %s\r\n" % f["stream"]) + call
        threading.Thread(target=caller.sendall, args=(out,), daemon=True).start()
        pump(lambda: all(b'"mine-%d"' % n in f["data"] for n, f in enumerate(frameworks)), 60)
        state = json.loads(request(self.port, "GET", "/state-summary", timeout=60)[2])
        self.assertGreaterEqual(len(state["frameworks"]), count)
        for f in frameworks:
            f["socket"].close()

    def test_ten_thousand_requests_a_second(self):
        """Calls, reads, mistakes, in JSON and protobuf, from two processes: each is answered as it should be."""
        rate, seconds = 5200, 5  # of each
        f = self.framework(capabilities=AWARE, failover_timeout=60.0, extra={"suppressed_roles": ["*"]})
        before, rounds, most = resident(self.pid), self.honest.rounds, [0]
        flood = [subprocess.Popen([sys.executable, "-B", os.path.join(os.path.dirname(os.path.abspath(__file__)), "flood.py"), str(self.port), str(rate),
                                   str(seconds), f.id, f.stream.id], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        while any(p.poll() is None for p in flood):
            most[0] = max(most[0], resident(self.pid))
            time.sleep(0.1)
        told = [json.loads(p.communicate()[0]) for p in flood]
        sent, lasted = sum(t["sent"] for t in told), max(t["seconds"] for t in told)
        statuses = {}
        for t in told:
            self.assertEqual(t["ended"], 0, t)
            self.assertEqual(sum(t["answered"].values()), t["sent"], t)
            for status, n in t["answered"].items():
                statuses[status] = statuses.get(status, 0) + n
        print("%d mixed requests in %.1f s: %d a second; %d rounds of an honest client, the slowest %.0f ms; %d MiB more at most" %
              (sent, lasted, sent / lasted, self.honest.rounds - rounds, self.honest.slowest * 1000, (most[0] - before) // MIB))
        self.assertEqual(set(statuses), {"200", "202", "400", "404"})
        for status, share in (("202", 60), ("200", 28), ("400", 10), ("404", 2)):  # of a hundred, as flood.py mixes them
            self.assertAlmostEqual(statuses[status] * 100 / sent, share, delta=5, msg=status)
        self.assertLess(most[0] - before, 128 * MIB)
        self.assertGreater(self.honest.rounds, rounds)
        # Its updates came on its stream, all of them.
        ghosts = lambda: len([e for e in f.stream.of("UPDATE") if e["update"]["status"]["task_id"]["value"] == "ghost"])  # noqa: E731
        self.assertGreater(ghosts(), sent * 15 // 100)
        f.call("TEARDOWN")


if __name__ == "__main__":
    mesos.main()
