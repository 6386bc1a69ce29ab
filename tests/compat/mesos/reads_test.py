#!/usr/bin/env python3
"""What dashboards and operators read, against real daemons: keys and types are those of a real Mesos.

reads_shape.json holds the keys and types of its recorded answers ("?" behind a key: not in every row). Ours must have each of
them with the same type, and nothing else, but for what DIFFERENCES lists, each with its reason.
"""

import gzip
import json
import os
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import mesos  # noqa: E402
from mesos import JSON, PROTOBUF, Stream, request  # noqa: E402
from cluster import wait  # noqa: E402

with open(os.path.join(HERE, "reads_shape.json")) as f:
    SHAPE = json.load(f)

# What a path below an answer may lack or have more, and why. "-": missing, "+": ours has more. "*" in a path: any list or key.
DIFFERENCES = {
    "-capabilities.[]": "capabilities name what this kernel can do",
    "-network_infos.[].ip_addresses.[]": "",
    "-framework_info.capabilities": "a framework may have none",
    "-executor_pid": "absent until the agent has told it",
    "-status_update_uuid": "only while an update waits for its acknowledgement",
    "-uuid": "a status that the master made needs no acknowledgement and has none",
    "-executor_id": "command tasks run without an executor here",
    "-reason": "given where there is one",
    "-source": "",
    "+healthy": "given as soon as a health check has answered",
    "+user": "the agent's user of the task, where the task names one",
    "+message": "given where there is one",
    "+reason": "as above",
    "+labels": "",
    "+principal": "",
    "+reregistered_time": "",
    "+container_status": "",
    "+source": "",
    "+health_check": "which tasks come first is nobody's promise",
}


def kind(v):
    return "bool" if isinstance(v, bool) else "int" if isinstance(v, int) else "float" if isinstance(v, float) else \
        "string" if isinstance(v, str) else "null"


def differences(want, got, path="", out=None):
    """Every path where `got` is not of the shape `want`."""
    out = [] if out is None else out
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return out + ["%s: an object became %r" % (path, got)]
        names = {k.rstrip("?"): k for k in want}
        for name, k in names.items():
            if name in got:
                differences(want[k], got[name], path + "." + name, out)
            elif not k.endswith("?"):
                out.append("-%s.%s" % (path, name))
        out += ["+%s.%s" % (path, k) for k in got if k not in names]
    elif isinstance(want, list):
        if not isinstance(got, list):
            out.append("%s: a list became %r" % (path, got))
        elif want:
            for item in got:
                differences(want[0], item, path + ".[]", out)
    elif kind(got) != want:
        out.append("%s: %s became %s" % (path, want, kind(got)))
    return out


def unexplained(found):
    def explained(d):
        sign, path = d[0], d[1:]
        return sign in "-+" and any(path == e[1:] or path.endswith("." + e[1:]) for e in DIFFERENCES if e[0] == sign)
    return sorted({d for d in found if not explained(d)})


class Reads(mesos.Case):
    options = {"agents": 1}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.f = f = mesos.Framework(cls.cluster.api_port, name="plain",
                                    capabilities=[{"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}])
        f.subscribe()
        o = f.offer()
        cls.agent_id = o["agent_id"]["value"]
        ports = next(r for r in o["resources"] if r["name"] == "ports")["ranges"]["range"][0]["begin"]
        f.launch(o, f.task(o, "sleeps", "sleep 1000", labels={"labels": [{"key": "a", "value": "b"}]},
                           discovery={"visibility": "CLUSTER", "name": "sleeps", "ports": {"ports": [
                               {"number": ports, "name": "http", "protocol": "tcp"}]}}),
                 f.task(o, "healthy", "sleep 1000", health_check={
                     "type": "COMMAND", "command": {"shell": True, "value": "true"}, "delay_seconds": 0, "interval_seconds": 1,
                     "grace_period_seconds": 0}),
                 f.task(o, "fails", "exit 3"), f.task(o, "finishes", "true"))
        f.status("fails", "TASK_FAILED")
        f.status("finishes", "TASK_FINISHED")
        f.status("sleeps", "TASK_RUNNING")
        f.status("healthy", "TASK_RUNNING", where=lambda s: s.get("healthy"))
        f.offer()
        wait(lambda: len(cls.get("/state")["frameworks"][0]["completed_tasks"]) == 2, 20, "two completed tasks")
        wait(lambda: cls.get("/slaves")["slaves"][0]["offered_resources"]["cpus"] > 0, 20, "an offer")

    @classmethod
    def tearDownClass(cls):
        cls.f.close()
        super().tearDownClass()

    @classmethod
    def raw(cls, path, method="GET", headers=None, body=None):
        return request(cls.cluster.api_port, method, path, body, headers)

    @classmethod
    def get(cls, path, method="GET"):
        status, headers, body = cls.raw(path, method)
        assert status == 200, (path, status, body)
        assert headers["content-type"] == JSON, headers
        return json.loads(body)

    @classmethod
    def ask(cls, kind, form=JSON, accept=JSON, **body):
        status, headers, data = cls.raw("/api/v1", "POST", {"Content-Type": form, "Accept": accept},
                                        json.dumps(dict({"type": kind}, **body)))
        assert status == 200, (kind, status, data)
        assert headers["content-type"] == accept, headers
        return json.loads(data) if accept == JSON else mesos.protobuf().decode("gantry.fb.master.Response", data)

    def test_legacy_shapes(self):
        for name, want in SHAPE.items():
            if not name.startswith("GET ") or name == "GET /metrics/snapshot":
                continue
            path = name[4:]
            with self.subTest(path):
                got = self.get(path)
                if isinstance(got, dict) and "flags" in got:
                    got["flags"] = {}
                for agent in got.get("slaves", []) if isinstance(got, dict) else []:
                    agent["attributes"] = want["slaves"][0]["attributes"]  # ours are others
                self.assertEqual(unexplained(differences(want, got)), [])

    def test_legacy_is_what_clients_need(self):
        state = self.get("/state")
        self.assertRegex(state["version"], r"^\d+\.\d+\.\d+$")
        self.assertEqual(state["pid"], state["leader"])
        self.assertRegex(state["pid"], r"^master@127\.0\.0\.1:\d+$")
        agent, = state["slaves"]
        self.assertRegex(agent["pid"], r"^slave\(1\)@127\.0\.0\.1:\d+$")
        for r in (agent["resources"], agent["used_resources"]):
            for k in ("cpus", "mem", "disk", "gpus"):
                self.assertIsInstance(r[k], float)
        self.assertRegex(agent["resources"]["ports"], r"^\[\d+-\d+\]$")
        self.assertEqual(agent["used_resources"]["cpus"], 0.2)
        self.assertEqual(round(agent["used_resources"]["cpus"] + agent["offered_resources"]["cpus"], 3), 4.0)
        framework, = state["frameworks"]
        self.assertNotIn("pid", framework)
        tasks = {t["id"]: t for t in framework["tasks"]}
        self.assertEqual(set(tasks), {"sleeps", "healthy"})
        self.assertEqual([s["state"] for s in tasks["sleeps"]["statuses"]], ["TASK_STARTING", "TASK_RUNNING"])
        self.assertEqual(tasks["sleeps"]["labels"], [{"key": "a", "value": "b"}])
        self.assertIs(tasks["healthy"]["statuses"][-1]["healthy"], True)
        self.assertEqual({t["id"]: t["state"] for t in framework["completed_tasks"]}, {"fails": "TASK_FAILED", "finishes": "TASK_FINISHED"})
        summary = self.get("/state-summary")
        for row in summary["slaves"] + summary["frameworks"]:
            self.assertEqual((row["TASK_RUNNING"], row["TASK_FINISHED"], row["TASK_FAILED"]), (2, 1, 1))

    def test_ways_to_ask(self):
        one = self.get("/slaves?slave_id=" + self.agent_id)["slaves"]
        self.assertEqual([a["id"] for a in one], [self.agent_id])
        self.assertEqual(self.get("/slaves/" + self.agent_id, "POST")["slaves"][0]["id"], self.agent_id)
        self.assertEqual(self.get("/slaves?slave_id=nobody")["slaves"], [])
        self.assertEqual([t["id"] for t in self.get("/tasks/?task_id=sleeps&framework_id=" + self.f.id, "POST")["tasks"]], ["sleeps"])
        self.assertEqual(len(self.get("/tasks?limit=3")["tasks"]), 3)
        everything = [t["id"] for t in self.get("/tasks?order=asc&limit=-1")["tasks"]]
        self.assertEqual(len(everything), 4)
        self.assertEqual([t["id"] for t in self.get("/tasks?order=desc&limit=-1")["tasks"]], everything[::-1])
        self.assertEqual([t["id"] for t in self.get("/tasks?order=asc&offset=1&limit=2")["tasks"]], everything[1:3])
        self.assertEqual(self.raw("/tasks?limit=x")[0], 400)
        for path in ("/master/state", "/state.json", "/master/state.json", "/state/"):
            self.assertEqual(self.get(path)["id"], self.get("/state")["id"])
        status, headers, body = self.raw("/state?jsonp=cb")
        self.assertEqual((status, headers["content-type"]), (200, "text/javascript"))
        self.assertTrue(body.startswith(b"cb({") and body.endswith(b"});"), body[-10:])
        status, headers, body = self.raw("/state", headers={"Accept-Encoding": "gzip"})
        self.assertEqual(headers["content-encoding"], "gzip")
        self.assertEqual(json.loads(gzip.decompress(body))["id"], self.get("/state")["id"])

    def test_small_ones(self):
        status, headers, body = self.raw("/health")
        self.assertEqual((status, headers.get("content-length"), body, headers.get("content-type")), (200, "0", b"", None))
        status, headers, body = self.raw("/redirect")
        self.assertEqual((status, headers["location"], body), (307, "//127.0.0.1:%d" % self.cluster.api_port, b""))
        self.assertEqual(self.get("/flags")["flags"]["port"], str(self.cluster.api_port))
        self.assertEqual(self.raw("/nosuch")[0], 404)

    def test_metrics(self):
        got = self.get("/metrics/snapshot")
        self.assertTrue(all(isinstance(v, float) for v in got.values()))
        # What our allocator, store and operations do not have under these names, and sums over time that nobody keeps.
        without = ("allocator/", "registrar/", "master/operations/", "master/messages_", "master/invalid_", "master/valid_",
                   "master/http_cache_hits", "master/task_failed/", "master/event_queue")
        missing = [k for k in SHAPE["GET /metrics/snapshot"] if k not in got and not k.startswith(without)]
        self.assertEqual(missing, [])
        self.assertEqual((got["master/cpus_total"], got["master/cpus_used"], got["master/tasks_running"]), (4.0, 0.2, 2.0))
        self.assertEqual((got["master/slaves_active"], got["master/elected"]), (1.0, 1.0))

    def test_operator_shapes(self):
        for name, want in SHAPE.items():
            if not name.startswith("v1 "):
                continue
            with self.subTest(name):
                self.assertEqual(unexplained(differences(want, self.ask(name[3:]))), [])

    def test_operator_json_and_protobuf_agree(self):
        def plain(v):  # empty lists and messages are not on the protobuf wire
            if isinstance(v, dict):
                return {k: plain(x) for k, x in v.items() if x not in ([], {}) and plain(x) not in ([], {})}
            return [plain(x) for x in v] if isinstance(v, list) else round(v, 3) if isinstance(v, float) else v

        for kind_ in ("GET_HEALTH", "GET_VERSION", "GET_FLAGS", "GET_STATE", "GET_AGENTS", "GET_FRAMEWORKS", "GET_TASKS", "GET_ROLES",
                      "GET_MASTER", "GET_LOGGING_LEVEL", "GET_EXECUTORS", "GET_WEIGHTS", "GET_QUOTA", "GET_OPERATIONS",
                      "GET_MAINTENANCE_STATUS", "GET_MAINTENANCE_SCHEDULE"):
            with self.subTest(kind_):
                decoded = mesos.protobuf().with_defaults("gantry.fb.master.Response", self.ask(kind_, accept=PROTOBUF))
                self.assertEqual(plain(self.ask(kind_)), plain(decoded))

    def test_get_state_is_state(self):
        whole, old = self.ask("GET_STATE")["get_state"], self.get("/state")
        framework, = old["frameworks"]
        self.assertEqual([f["framework_info"]["id"]["value"] for f in whole["get_frameworks"]["frameworks"]], [framework["id"]])
        self.assertEqual([a["agent_info"]["id"]["value"] for a in whole["get_agents"]["agents"]], [a["id"] for a in old["slaves"]])
        for new, name in (("tasks", "tasks"), ("completed_tasks", "completed_tasks")):
            self.assertEqual({t["task_id"]["value"]: t["state"] for t in whole["get_tasks"][new]}, {t["id"]: t["state"] for t in framework[name]})

    def test_operator_refusals(self):
        def post(body, headers=None):
            status, _, text = self.raw("/api/v1", "POST", {"Content-Type": JSON} if headers is None else headers, body)
            return status, text.decode()
        self.assertEqual(post('{"type": "UNKNOWN"}'), (501, "501 Not Implemented."))
        self.assertEqual(post('{"type": "NO_SUCH"}'), (400, "Failed to validate master::Call: Expecting 'type' to be present"))
        self.assertEqual(post("{}", {}), (400, "Expecting 'Content-Type' to be present"))
        self.assertEqual(post("{}", {"Content-Type": "text/plain"})[0], 415)
        self.assertEqual(post('{"type": "GET_HEALTH"}', {"Content-Type": JSON, "Accept": "image/png"})[0], 406)
        self.assertEqual(post("nope")[0], 400)
        self.assertEqual(self.raw("/api/v1")[0], 405)
        self.assertEqual(self.raw("/api/v1/operator", "POST", {"Content-Type": JSON}, '{"type": "GET_HEALTH"}')[0], 200)


class Metrics(mesos.Case):
    options = {"agents": 1}

    def read(self):
        return tuple(json.loads(request(p, "GET", "/metrics/snapshot")[2]) for p in (self.cluster.api_port, self.cluster.agent_ports[1]))

    def test_49_they_move(self):
        master, agent = self.read()
        f = self.framework(name="counted", capabilities=[{"type": "PARTITION_AWARE"}])
        o = f.offer()
        f.launch(o, f.task(o, "counts"), f.task(o, "miscounts", "exit 1"), f.task(o, "stays", "sleep 1000"), f.task(o, "bad/id"))
        f.status("counts", "TASK_FINISHED"), f.status("miscounts", "TASK_FAILED"), f.status("stays", "TASK_RUNNING"), f.status("bad/id", "TASK_ERROR")

        def moved(before, now):
            return {k: now[k] - before[k] for k in now if k in before and "tasks_" in k and now[k] != before[k]}
        of_master = {"master/tasks_finished": 1, "master/tasks_failed": 1, "master/tasks_running": 1, "master/tasks_error": 1}
        of_agent = {"slave/tasks_finished": 1, "slave/tasks_failed": 1, "slave/tasks_running": 1}
        wait(lambda: of_master.items() <= moved(master, self.read()[0]).items(), 10, "the master's counts (%r)" % moved(master, self.read()[0]))
        wait(lambda: of_agent.items() <= moved(agent, self.read()[1]).items(), 10, "the agent's counts (%r)" % moved(agent, self.read()[1]))
        now = self.read()[0]
        self.assertEqual((now["master/frameworks_connected"], now["master/cpus_used"]), (1.0, 0.1))
        f.call("TEARDOWN")
        wait(lambda: self.read()[0]["master/tasks_killed"] == master["master/tasks_killed"] + 1 and self.read()[0]["master/frameworks_active"] == 0,
             10, "the rest")


class OperatorStream(Stream):
    """The operator's SUBSCRIBE; a Stream but for its path and its events."""

    def __init__(self, port, form=JSON):
        super().__init__(port, {"type": "SUBSCRIBE"}, form, path="/api/v1", package="gantry.fb.master")


class Events(mesos.Case):
    options = {"agents": 1}

    def test_stream(self):
        s = OperatorStream(self.cluster.api_port, self.form)
        self.addCleanup(s.close)
        self.assertEqual((s.status, s.headers["content-type"], s.headers["transfer-encoding"]), (200, self.form, "chunked"))
        first = s.wait("SUBSCRIBED")["subscribed"]
        self.assertEqual(first["heartbeat_interval_seconds"], 15.0)
        self.assertEqual(len(first["get_state"]["get_agents"]["agents"]), 1)
        s.wait("HEARTBEAT")
        self.assertEqual(s.events[1]["type"], "HEARTBEAT")
        f = self.framework(name="plain", capabilities=[{"type": "PARTITION_AWARE"}], failover_timeout=60.0)
        o = f.offer()
        f.launch(o, f.task(o, "sleeps", "sleep 1000"))
        f.status("sleeps", "TASK_RUNNING")
        f.call("KILL", kill={"task_id": {"value": "sleeps"}})
        f.status("sleeps", "TASK_KILLED")
        s.wait("TASK_UPDATED", where=lambda e: e["task_updated"]["state"] == "TASK_KILLED")
        f.subscribe()
        s.wait("FRAMEWORK_UPDATED")
        f.call("TEARDOWN")
        s.wait("FRAMEWORK_REMOVED")
        self.assertEqual([e["task_added"]["task"]["state"] for e in s.of("TASK_ADDED")], ["TASK_STAGING"])
        states = [e["task_updated"]["status"]["state"] for e in s.of("TASK_UPDATED") if e["task_updated"]["framework_id"]["value"] == f.id]
        self.assertEqual(states, ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"])
        self.assertEqual(s.of("FRAMEWORK_ADDED")[0]["framework_added"]["framework"]["framework_info"]["name"], "plain")
        for kind_ in ("TASK_ADDED", "TASK_UPDATED", "FRAMEWORK_ADDED", "FRAMEWORK_UPDATED", "FRAMEWORK_REMOVED", "HEARTBEAT"):
            if self.form != JSON:  # where defaults are told
                break
            for e in s.of(kind_):
                self.assertEqual(unexplained(differences(SHAPE["event " + kind_], e)), [], kind_)

    def test_snapshot_and_events_are_gap_free(self):
        """Streams opened while much happens: what they know in the end is what /state says."""
        f = self.framework(name="busy")
        streams, done = [], threading.Event()

        def open_streams():
            while not done.is_set():
                streams.append(OperatorStream(self.cluster.api_port, self.form))
                time.sleep(0.005 * len(streams))  # many at first, for all this may be over at once
        t = threading.Thread(target=open_streams, daemon=True)
        t.start()
        names = []
        for i in range(6):
            o = f.offer()
            batch = ["t%d-%d" % (i, k) for k in range(5)]
            names += batch
            f.launch(o, *[f.task(o, n, "sleep 1000") for n in batch])
        for n in names:
            f.status(n, "TASK_RUNNING")
        for n in names[::2]:
            f.call("KILL", kill={"task_id": {"value": n}})
        for n in names[::2]:
            f.status(n, "TASK_KILLED")
        done.set()
        t.join()
        self.assertGreater(len(streams), 3)

        def known(s):
            first = s.wait("SUBSCRIBED")["subscribed"]["get_state"]["get_tasks"]
            tasks = {t["task_id"]["value"]: t["state"] for k in ("completed_tasks", "tasks") for t in first.get(k, [])
                     if t["framework_id"]["value"] == f.id}
            for e in list(s.events):
                if e["type"] == "TASK_ADDED":
                    t = e["task_added"]["task"]
                    tasks[t["task_id"]["value"]] = t["state"]
                elif e["type"] == "TASK_UPDATED":
                    u = e["task_updated"]
                    self.assertIn(u["status"]["task_id"]["value"], tasks, "an update of a task nobody told of")
                    tasks[u["status"]["task_id"]["value"]] = u["state"]
            return tasks
        want = {n: "TASK_KILLED" if n in names[::2] else "TASK_RUNNING" for n in names}
        for s in streams:
            self.addCleanup(s.close)
            wait(lambda s=s: known(s) == want, 20, "a stream that knows all")

    def test_agents_come_and_go(self):
        s = OperatorStream(self.cluster.api_port, self.form)
        self.addCleanup(s.close)
        s.wait("SUBSCRIBED")
        late = self.cluster.add_agent(9)
        late.start()
        added = s.wait("AGENT_ADDED", 20)["agent_added"]["agent"]
        self.assertEqual((added["active"], added["agent_info"]["hostname"]), (True, "127.0.0.1"))
        late.signal(10)  # USR1: it signs off
        self.assertEqual(s.wait("AGENT_REMOVED", 20)["agent_removed"]["agent_id"], added["agent_info"]["id"])

    def test_the_oldest_of_1001_is_closed(self):
        body = mesos.encoded({"type": "SUBSCRIBE"}, self.form, "gantry.fb.master")
        head = ("POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n" %
                (self.form, self.form, len(body))).encode()
        first = OperatorStream(self.cluster.api_port, self.form)
        second = OperatorStream(self.cluster.api_port, self.form)
        self.addCleanup(first.close), self.addCleanup(second.close)
        first.wait("HEARTBEAT"), second.wait("HEARTBEAT")
        self.assertFalse(first.closed.is_set())
        for n in range(999):
            c = socket.create_connection(("127.0.0.1", self.cluster.api_port), timeout=20)
            self.addCleanup(c.close)
            c.sendall(head + body)
            self.assertTrue(c.recv(1 << 16).startswith(b"HTTP/1.1 200"))
        first.wait_closed()
        self.assertFalse(second.closed.is_set())
        metrics = json.loads(request(self.cluster.api_port, "GET", "/metrics/snapshot")[2])
        self.assertEqual(metrics["master/operator_event_stream_subscribers"], 1000)


class EventsProtobuf(Events):
    form = PROTOBUF


if __name__ == "__main__":
    mesos.main()
