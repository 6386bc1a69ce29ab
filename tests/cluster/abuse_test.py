"""Peers that misbehave: garbage, half-open connections, readers that do not read. None harms anybody else."""

import os
import random
import socket
import struct
import time

import cluster
from cluster import Case, wait


class Abuse(Case):
    def ports(self, c):
        found = {c.http_port}
        for d in c.daemons.values():
            for listener in d.status()["listeners"]:
                host, _, port = listener["address"].rpartition(":")
                if port.isdigit() and "/" not in host:
                    found.add(int(port))
        return sorted(found)

    def fine(self, c, before):
        self.assertEqual(200, c.http("GET", "/v2/apps", timeout=5)[0])
        for d in c.daemons.values():
            self.assertTrue(d.running(), d.name)
            self.assertIsNotNone(d.status(), d.name)
        self.assertEqual(before, c.snapshot("/sleep"))

    def throw(self, port, data, reading=True):
        s = socket.create_connection(("127.0.0.1", port), timeout=2)
        try:
            s.sendall(data)
            if reading:
                s.settimeout(0.2)
                s.recv(4096)
        except OSError:
            pass
        finally:
            s.close()

    def test_garbage_on_every_port(self):
        c = self.up(agents=1)
        c.deploy(self.sleeper(instances=2))
        before = c.snapshot("/sleep")
        chance = random.Random(20)
        ports = self.ports(c)
        self.assertGreaterEqual(len(ports), 3, ports)
        frame = lambda body: struct.pack("<I", len(body)) + body
        for port in ports:
            throws = [b"", b"\0", b"\xff" * 64, struct.pack("<I", 0xffffffff) + b"x" * 1000, struct.pack("<I", 0x7fffffff),
                      struct.pack("<I", 0), frame(b""), frame(b"\0" * 64), b"GET / HTTP/1.1\r\n\r\n", b"GET " + b"/" * 100000,
                      b"POST /v2/apps HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n",
                      b"POST /v2/apps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
                      b"POST /v2/apps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100000]
            for _ in range(150):
                body = bytes(chance.randrange(256) for _ in range(chance.randrange(400)))
                throws.append(body if chance.random() < 0.3 else frame(body))
            for n, data in enumerate(throws):
                self.throw(port, data, reading=n < 20)
            self.fine(c, before)

    def test_frames_of_true_peers_bent(self):
        """Begins as the CLI and an agent do, then flips bytes."""
        c = self.up(agents=1)
        c.deploy(self.sleeper(instances=2))
        before = c.snapshot("/sleep")
        recorded = self.record(c)
        self.assertTrue(recorded)
        chance = random.Random(7)
        for _ in range(300):
            data = bytearray(recorded)
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(4, len(data))] = chance.randrange(256)
            self.throw(c.master_port, bytes(data), reading=False)
        self.fine(c, before)

    def record(self, c):
        """What `gantry agents` says to the master."""
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            server.settimeout(10)
            import subprocess
            p = subprocess.Popen([os.path.join(cluster.BIN, "gantry"), "-a", "127.0.0.1:%d" % server.getsockname()[1], "agents"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            peer, _ = server.accept()
            peer.settimeout(1)
            data = b""
            try:
                while True:
                    piece = peer.recv(65536)
                    if not piece:
                        break
                    data += piece
            except OSError:
                pass
            peer.close()
            p.wait(10)
            return data

    def test_many_half_open_connections(self):
        c = self.up(agents=1)
        c.deploy(self.sleeper(instances=2))
        before = c.snapshot("/sleep")
        held = []
        try:
            for port in self.ports(c):
                for n in range(100):
                    s = socket.create_connection(("127.0.0.1", port), timeout=2)
                    s.sendall((b"", b"\x10", b"GET /v2/apps HTT", struct.pack("<I", 100) + b"abc")[n % 4])
                    held.append(s)
            self.fine(c, before)
            c.gantry("app", "scale", "/sleep", "3", text=True)
            self.assertTrue(c.healthy("/sleep", 3))
        finally:
            for s in held:
                s.close()

    def test_slow_event_reader_is_cut_off(self):
        c = self.up(agents=1)
        c.deploy(self.sleeper(instances=2))
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", c.http_port))
        s.sendall(b"GET /v2/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        good = c.events()
        rss = self.rss(c.master.pid)
        label = {"x": "y" * 20000}
        end = time.monotonic() + 60
        n = 0
        while "too slowly" not in c.master.log() and time.monotonic() < end:
            began = time.monotonic()
            self.assertEqual(200, c.http("PUT", "/v2/apps/sleep?force=true", {"instances": 2, "labels": dict(label, n=str(n)),
                                                                             "upgradeStrategy": {"minimumHealthCapacity": 0}})[0])
            self.assertLess(time.monotonic() - began, 5, "the master stays responsive")
            n += 1
            if n % 5 == 0:
                c.http("GET", "/v2/apps")
        self.assertIn("too slowly", c.master.log(), "it was cut off")
        s.settimeout(20)
        try:
            while s.recv(65536):   # what was on its way; then the end
                pass
        except ConnectionError:
            pass
        s.close()
        self.assertTrue(good.of("api_post_event"), "the reader that reads is served")
        self.assertLess(self.rss(c.master.pid) - rss, 200 << 20)

    def rss(self, pid):
        for line in cluster._read("/proc/%d/status" % pid).decode().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        return 0


if __name__ == "__main__":
    cluster.main()
