#!/usr/bin/env python3
"""Many mixed requests at a steady rate, pipelined on a few connections; says what came back, as one line of JSON.

    flood.py PORT RATE SECONDS FRAMEWORK_ID STREAM_ID

Requests are written once and sent in batches; answers are counted by their first lines, so that this process costs little beside the
server. A batch is sent when its time has come and the one before on its connection has been answered.
"""

import json
import os
import random
import select
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from mesos import JSON, PROTOBUF  # noqa: E402

BATCH, CONNECTIONS = 50, 8


def http(method, path, body=b"", **headers):
    head = "%s %s HTTP/1.1\r\nHost: x\r\n" % (method, path)
    head += "".join("%s: %s\r\n" % (k.replace("_", "-"), v) for k, v in headers.items())
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def mix(framework, stream):
    """What may be sent: (how many of a hundred, request)."""
    def call(form, stream_id=stream, **fields):
        body = mesos.encoded(dict({"framework_id": {"value": framework}}, **fields), form)
        return http("POST", "/api/v1/scheduler", body, Content_Type=form, Mesos_Stream_Id=stream_id)

    def operator(kind, form):
        return http("POST", "/api/v1", mesos.encoded({"type": kind}, form, "gantry.fb.master"), Content_Type=form, Accept=form)
    return [(20, call(JSON, type="DECLINE", decline={"offer_ids": [{"value": "none"}]})), (20, call(PROTOBUF, type="SUPPRESS", suppress={})),
            (10, call(JSON, type="RECONCILE", reconcile={"tasks": [{"task_id": {"value": "ghost"}}]})),
            (10, call(PROTOBUF, type="KILL", kill={"task_id": {"value": "ghost"}})),
            (5, call(JSON, "00000000-0000-0000-0000-000000000000", type="REVIVE")), (5, http("POST", "/api/v1/scheduler", b"{", Content_Type=JSON)),
            (8, operator("GET_HEALTH", JSON)), (8, operator("GET_VERSION", PROTOBUF)), (5, http("GET", "/health")), (4, http("GET", "/version")),
            (2, http("GET", "/tasks?task_id=ghost")), (2, http("GET", "/nosuch")), (1, http("GET", "/slaves", Accept_Encoding="gzip"))]


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setblocking(False)
        self.out, self.tail, self.open = b"", b"", 0

    def begin(self, batch):
        self.out, self.open = batch, BATCH

    def write(self):
        try:
            self.out = self.out[self.socket.send(self.out):]
        except BlockingIOError:
            pass

    def read(self, statuses):
        """False at the end of the connection."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return True
        if not data:
            return False
        # A first line may be cut in two; it is no longer than "HTTP/1.1 200".
        seen, at = self.tail + data, 0
        while True:
            at = seen.find(b"HTTP/1.1 ", at)
            if at < 0 or at + 12 > len(seen):
                break
            statuses[seen[at + 9:at + 12].decode()] = statuses.get(seen[at + 9:at + 12].decode(), 0) + 1
            self.open -= 1
            at += 12
        self.tail = seen[at:] if at >= 0 else seen[-11:]
        return True


def main():
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    kinds = mix(sys.argv[4], sys.argv[5])
    chance = random.Random(os.getpid())
    batches = [b"".join(chance.choices([r for _, r in kinds], [n for n, _ in kinds], k=BATCH)) for _ in range(40)]
    connections = [Connection(port) for _ in range(CONNECTIONS)]
    by_fd = {c.socket.fileno(): c for c in connections}
    poller, statuses, begun, ended = select.poll(), {}, 0, 0
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    start = time.monotonic()
    while True:
        now = time.monotonic() - start
        if now >= seconds and not any(c.open for c in connections):
            break
        if now > 4 * seconds + 20:
            break
        for c in connections:
            if not c.open and now < seconds and begun * BATCH / rate <= now:
                c.begin(batches[begun % len(batches)])
                begun += 1
            if c.out:
                c.write()
                poller.modify(c.socket.fileno(), select.POLLIN | (select.POLLOUT if c.out else 0))
        for fd, _ in poller.poll(1):
            if not by_fd[fd].read(statuses):
                ended += 1
                poller.unregister(fd)
                by_fd[fd].open = 0
                by_fd[fd].out = b""
                connections.remove(by_fd[fd])
        if not connections:
            break
    print(json.dumps({"sent": begun * BATCH, "answered": statuses, "seconds": time.monotonic() - start, "ended": ended}))


main()
