"""Frameworks that speak Mesos' v1 scheduler API over HTTP, for tests against real daemons.

MesosCluster is a cluster (tests/cluster/cluster.py) whose master serves the API; Client sends calls, Stream reads an event stream
in a thread and takes it apart itself, chunk by chunk. Both speak JSON and protobuf; the protobuf side knows messages only from
wire_schema.py. Standard library only.
"""

import base64
import collections
import http.client
import json
import os
import socket
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "cluster"))

import cluster as base  # noqa: E402
import wire_schema  # noqa: E402
from cluster import free_port, wait  # noqa: E402

JSON, PROTOBUF = "application/json", "application/x-protobuf"


# ---- protobuf, by hand

class Protobuf:
    """dict (as decoded JSON) <-> protobuf bytes. bytes fields are base64 text, as in JSON."""

    def __init__(self):
        self.messages, self.enums = wire_schema.read()
        self.names = {e: {number: name for name, number in values.items()} for e, values in self.enums.items()}

    @staticmethod
    def _varint(n):
        n &= (1 << 64) - 1
        out = bytearray()
        while n > 127:
            out.append(n & 127 | 128)
            n >>= 7
        out.append(n)
        return bytes(out)

    def _value(self, f, v):
        if f.kind == "double":
            return 1, struct.pack("<d", float(v))
        if f.kind == "float":
            return 5, struct.pack("<f", float(v))
        if f.kind == "bool":
            return 0, self._varint(1 if v else 0)
        if f.kind == "enum":
            return 0, self._varint(self.enums[f.ref][v])
        if f.kind.startswith(("int", "uint")):
            return 0, self._varint(int(v))
        body = v.encode() if f.kind == "string" else base64.b64decode(v) if f.kind == "bytes" else self.encode(f.ref, v)
        return 2, self._varint(len(body)) + body

    def encode(self, message, value):
        out = b""
        for f in sorted(self.messages[message], key=lambda f: f.number):
            if f.name not in value:
                continue
            v = value[f.name]
            items = v if f.label == "repeated" else [{"key": k, "value": x} for k, x in v.items()] if f.label == "map" else [v]
            for item in items:
                wire, body = self._value(f, item)
                out += self._varint(f.number << 3 | wire) + body
        return out

    def decode(self, message, data):
        fields = {f.number: f for f in self.messages[message]}
        out, at = {}, 0

        def varint():
            nonlocal at
            n = shift = 0
            while True:
                b = data[at]
                at += 1
                n |= (b & 127) << shift
                shift += 7
                if b < 128:
                    return n
        while at < len(data):
            tag = varint()
            f = fields[tag >> 3]   # a field that Mesos does not have fails here
            if tag & 7 == 0:
                v = varint()
                if f.kind == "bool":
                    v = bool(v)
                elif f.kind == "enum":
                    v = self.names[f.ref][v]
                elif v >= 1 << 63 and f.kind.startswith("int"):
                    v -= 1 << 64
            elif tag & 7 == 1:
                v = struct.unpack_from("<d", data, at)[0]
                at += 8
            elif tag & 7 == 5:
                v = struct.unpack_from("<f", data, at)[0]
                at += 4
            else:
                n = varint()
                body = data[at:at + n]
                at += n
                v = body.decode() if f.kind == "string" else base64.b64encode(body).decode() if f.kind == "bytes" else self.decode(f.ref, body)
            if f.label == "repeated":
                out.setdefault(f.name, []).append(v)
            elif f.label == "map":
                out.setdefault(f.name, {})[v["key"]] = v["value"]
            else:
                out[f.name] = v
        return out

    def with_defaults(self, message, value):
        """What JSON says besides: optional fields that are absent from the wire because they have their default."""
        out = dict(value)
        for f in self.messages[message]:
            if f.name not in out and getattr(f, "default", None) is not None:
                try:
                    out[f.name] = json.loads(f.default)
                except ValueError:
                    out[f.name] = f.default
            elif f.name in out and f.ref in self.messages and f.label != "map":
                v = out[f.name]
                out[f.name] = [self.with_defaults(f.ref, x) for x in v] if isinstance(v, list) else self.with_defaults(f.ref, v)
        return out


_protobuf = None


def protobuf():
    global _protobuf
    _protobuf = _protobuf or Protobuf()
    return _protobuf


def encoded(call, form, package="gantry.fb"):
    return json.dumps(call).encode() if form == JSON else protobuf().encode(package + ".Call", call)


def decoded(record, form, package="gantry.fb"):
    return json.loads(record.decode("utf-8")) if form == JSON else protobuf().decode(package + ".Event", record)


# ---- streams

class Refused(Exception):
    def __init__(self, status, headers, body):
        super().__init__("%d %s" % (status, body))
        self.status, self.headers, self.body = status, headers, body


class Stream:
    """An open SUBSCRIBE. events grows; closed is set at its end. Every chunk must hold exactly one record. `package` says whose
    messages these are: a scheduler's, or "gantry.fb.master" for an operator's."""

    def __init__(self, port, call, form=JSON, headers=None, timeout=30, read=True, path="/api/v1/scheduler", package="gantry.fb"):
        self.package = package
        self.form, self.events, self.closed, self.problems, self.closing = form, [], threading.Event(), [], False
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        body = encoded(call, form, package)
        lines = {"Host": "127.0.0.1:%d" % port, "Content-Type": form, "Accept": form, "Connection": "close",
                 "Content-Length": str(len(body))}
        lines.update(headers or {})
        lines = {k: v for k, v in lines.items() if v is not None}
        head = "POST %s HTTP/1.1\r\n" % path + "".join("%s: %s\r\n" % kv for kv in lines.items()) + "\r\n"
        self.socket.sendall(head.encode() + body)
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        for line in iter(self.file.readline, b"\r\n"):
            name, _, value = line.decode().partition(":")
            self.headers[name.strip().lower()] = value.strip()
        if self.status != 200:
            data = self.file.read(int(self.headers.get("content-length", 0)))
            self.socket.close()
            raise Refused(self.status, self.headers, data.decode())
        self.id = self.headers.get("mesos-stream-id")
        self.socket.settimeout(None)
        self.form = self.headers["content-type"]
        if not read:
            self.first = self._next()
            return
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _next(self):
        size = self.file.readline()
        if not size:
            return None
        chunk = self.file.read(int(size, 16))
        self.file.readline()
        if not chunk:
            return None
        length, _, rest = chunk.partition(b"\n")
        if not length.isdigit() or int(length) != len(rest):
            raise ValueError("a chunk is not one record: %r" % chunk[:80])
        if self.form == JSON and (b"\n" in rest or b"\r" in rest):
            raise ValueError("line break in %r" % rest[:80])
        return decoded(rest, self.form, self.package)

    def _read(self):
        try:
            for event in iter(self._next, None):
                self.events.append(event)
        except (OSError, ValueError, KeyError) as e:
            if not self.closing:
                self.problems.append(repr(e))
        self.closed.set()

    def of(self, kind):
        return [e for e in list(self.events) if e["type"] == kind]

    def wait(self, kind, seconds=20, where=lambda e: True, count=1):
        """The first event of that type for which where() holds, or a list when count > 1."""
        def found():
            if self.problems:
                raise AssertionError(self.problems[0])
            got = [e for e in self.of(kind) if where(e)]
            return got if len(got) >= count else None
        got = wait(found, seconds, "%s (seen: %s)" % (kind, collections.Counter(e["type"] for e in self.events)))
        return got[0] if count == 1 else got[:count]

    def wait_closed(self, seconds=20):
        if not self.closed.wait(seconds * base.SLOW):
            raise AssertionError("the stream stays open")

    def close(self):
        self.closing = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


# ---- a framework

class Framework:
    """A framework with a stream and a connection for calls. ack=True acknowledges updates as they come."""

    def __init__(self, port, form=JSON, ack=True, info=None, headers=None, extra=None, **fields):
        self.port, self.form, self.ack, self.headers = port, form, ack, headers or {}
        self.info = info or dict({"user": "root", "name": "test"}, **fields)
        self.extra = extra or {}  # beside framework_info
        self.stream, self.id, self.acked, self.used = None, None, 0, set()
        self.connection = None

    def subscribe(self, seconds=20):
        call = {"type": "SUBSCRIBE", "subscribe": dict({"framework_info": self.info}, **self.extra)}
        if self.id:
            self.info["id"] = call["framework_id"] = {"value": self.id}
        elif "id" in self.info:
            call["framework_id"] = self.info["id"]
        self.stream = Stream(self.port, call, self.form, self.headers)
        self.acked = 0
        first = wait(lambda: self.stream.events[:1], seconds, "the first event")[0]
        self.used.clear()
        if first["type"] == "SUBSCRIBED":
            self.id = first["subscribed"]["framework_id"]["value"]
            if self.ack:
                threading.Thread(target=self._acknowledge, args=(self.stream,), daemon=True).start()
        return first

    def _acknowledge(self, stream):
        done = 0
        while not (stream.closed.is_set() and done >= len(stream.events)):
            if done >= len(stream.events):
                time.sleep(0.005)
                continue
            e = stream.events[done]
            done += 1
            if e["type"] == "UPDATE" and "uuid" in e["update"]["status"]:
                s = e["update"]["status"]
                try:
                    one_call(self.port, {"type": "ACKNOWLEDGE", "framework_id": {"value": self.id}, "acknowledge": {
                        "agent_id": s["agent_id"], "task_id": s["task_id"], "uuid": s["uuid"]}}, self.form, stream.id, self.headers)
                except OSError:
                    pass

    def raw(self, call, stream_id="own", headers=None):
        """Status, headers and body of one call."""
        return one_call(self.port, call, self.form, self.stream.id if stream_id == "own" and self.stream else stream_id,
                        dict(self.headers, **(headers or {})))

    def call(self, kind, expect=202, **body):
        status, headers, text = self.raw(dict({"type": kind, "framework_id": {"value": self.id}}, **body))
        if status != expect:
            raise AssertionError("%s: %d %s" % (kind, status, text))
        if status == 202 and (text or headers.get("content-length") != "0"):
            raise AssertionError("a 202 with a body: %r %r" % (headers, text))
        return text

    def offer(self, seconds=20, where=lambda o: True, fresh=True):
        """An offer that was not given out before and is not rescinded."""
        def found():
            gone = {e["rescind"]["offer_id"]["value"] for e in self.stream.of("RESCIND")}
            for e in self.stream.of("OFFERS"):
                for o in e["offers"]["offers"]:
                    if o["id"]["value"] not in gone and (not fresh or o["id"]["value"] not in self.used) and where(o):
                        return o
            return None
        o = wait(found, seconds, "an offer")
        self.used.add(o["id"]["value"])
        return o

    def task(self, offer, name, command="true", cpus=0.1, mem=32, **fields):
        t = {"name": name, "task_id": {"value": name}, "agent_id": offer["agent_id"], "command": {"shell": True, "value": command},
             "resources": [scalar("cpus", cpus), scalar("mem", mem)]}
        t.update(fields)
        return t

    def accept(self, offers, operations, refuse=0):
        offers = offers if isinstance(offers, list) else [offers]
        self.call("ACCEPT", accept={"offer_ids": [o["id"] for o in offers], "operations": operations,
                                    "filters": {"refuse_seconds": refuse}})

    def launch(self, offers, *tasks, refuse=0):
        self.accept(offers, [{"type": "LAUNCH", "launch": {"task_infos": list(tasks)}}], refuse)

    def decline(self, offer, refuse=0.0):
        self.call("DECLINE", decline={"offer_ids": [offer["id"]], "filters": {"refuse_seconds": refuse}})

    def status(self, task, state, seconds=20, where=lambda s: True):
        return self.stream.wait("UPDATE", seconds, lambda e: e["update"]["status"]["task_id"]["value"] == task and
                                e["update"]["status"]["state"] == state and where(e["update"]["status"]))["update"]["status"]

    def close(self):
        if self.stream:
            self.stream.close()


def scalar(name, value, **fields):
    return dict({"name": name, "type": "SCALAR", "scalar": {"value": float(value)}}, **fields)


def request(port, method, path, body=None, headers=None, timeout=20):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
    finally:
        c.close()


def one_call(port, call, form=JSON, stream_id=None, headers=None):
    h = {"Content-Type": form}
    if stream_id:
        h["Mesos-Stream-Id"] = stream_id
    h.update(headers or {})
    status, answered, body = request(port, "POST", "/api/v1/scheduler", encoded(call, form), h)
    return status, answered, body.decode()


# ---- the cluster

class MesosCluster(base.Cluster):
    """Masters serve the Mesos API on api_port, agents on agent_ports[n]; no services framework takes offers."""

    def __init__(self, agents=1, gateway="", services=False, agent_gateway="", **options):
        self.api_port = free_port()
        self.agent_ports, self.agent_gateway = {}, agent_gateway
        self.gateway = gateway
        self.with_services = services
        super().__init__(agents=agents, **options)

    def master_text(self, extra="", services=""):
        text = super().master_text(extra, services)
        if not self.with_services:
            at = text.index("[framework.services]")
            text = text[:at]
        return text + '\n[gateway.mesos]\naddress = "127.0.0.1:%d"\n%s\n' % (self.api_port, self.gateway)

    def agent_text(self, n, extra=""):
        self.agent_ports[n] = free_port()
        text = super().agent_text(n, (extra or self.agent_settings) + "\nagent_port = %d\n" % self.agent_ports[n])
        return text + '\n[gateway.mesos]\nagent_address = "127.0.0.1:%d"\n%s\n' % (self.agent_ports[n], self.agent_gateway)

    def wait_up(self, agents):
        wait(lambda: request(self.api_port, "GET", "/api/v1/scheduler")[0] == 405, 20, "the Mesos API leading")
        wait(lambda: request(self.api_port, "GET", "/state-summary")[0] == 200, 20, "the reads following")
        wait(lambda: len([a for a in self.cluster_agents() if a["state"] == "active"]) >= agents, 20, "%d agents registered" % agents)


class Case(base.Case):
    """Tests that share one cluster; `options` of a class are those of MesosCluster. Each closes its own frameworks."""

    options = {}
    form = JSON

    @classmethod
    def setUpClass(cls):
        cls.cluster = MesosCluster(**cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def tearDown(self):
        if any(t is self for t, _ in self._outcome.result.failures + self._outcome.result.errors) or \
                any(error for _, error in getattr(self._outcome, "errors", [])):
            self.cluster.show_logs()

    def framework(self, subscribe=True, **options):
        f = Framework(self.cluster.api_port, **dict({"form": self.form}, **options))
        self.addCleanup(f.close)
        if subscribe:
            first = f.subscribe()
            self.assertEqual(first["type"], "SUBSCRIBED", first)
        return f


main = base.main
