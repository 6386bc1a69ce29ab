#!/usr/bin/env python3
"""What a real Mesos was asked and answered (transcripts.jsonl), asked of fresh daemons of ours.

Statuses, content types, texts, headers that matter, keys, types and enum names must be the same. Where they are not, the
difference is named in EXPECTED (whole answers) or FIELDS (places in bodies), each with its reason; a note says what is named there and no
longer differs.
"""

import base64
import json
import os
import re
import sys
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import mesos  # noqa: E402
from cluster import wait  # noqa: E402
from mesos import JSON, PROTOBUF, Stream, request  # noqa: E402
from shapes import differences, merge, shape, unexplained  # noqa: E402

with open(os.path.join(HERE, "transcripts.jsonl")) as f:
    ROWS = [json.loads(line) for line in f]


def rows(name):
    return [r for r in ROWS if r["file"] == name]


# Answers of which more than fields differs: "file n" -> reason.
EXPECTED = {
    "scheduler-stream unhealthy": "the update of a failed health check says what failed",
    "operator-stream unhealthy": "the update of a failed health check says what failed",
    "scheduler-stream fetchfail": "STARTING is told before artifacts are fetched, and the text names the file",
    "operator-stream fetchfail": "STARTING is told before artifacts are fetched, and the text names the file",
    "operator-stream-refined types": "what operator-writes.json does comes in the same run here",
    "scheduler-stream-refined RESCIND": "no other offer is out when the volume is to be destroyed",
    "operator-writes 5": "an offer is out at this moment; none was then",
    "operator-writes 9": "ports stand at the end of the sum",
    "operator-stream sleeps": "told of the latest state: the task has ended while an earlier update waits for its acknowledgement",
}

# Places in bodies, see shapes.py: "-": we lack it, "+": we have more, else: another type or value.
FIELDS = {
    "-container_status.network_infos": "told where a container has a network of its own; reads fill in the agent's address",
    "-executor_pid": "absent until the agent has told it",
    "+ip_addresses.[].protocol": "said even where it is protobuf's default",
    "-offers.offers.[].url.path": "the kernel tells where an agent's API is, not how paths are named there",
    "-executor_info.command.arguments": "the task's own command; no program is put before it",
    "-executor_info.resources": "command tasks have no executor process, so nothing is charged for one",
    "+statistics.*": "what cgroups tell; the recorded agent had none",
    "+resource_statistics.*": "what cgroups tell; the recorded agent had none",
}

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Replay(mesos.Case):
    """Sends requests of a transcript with our ids in place of the recorded ones, and compares."""

    options = {"agents": 1}

    @classmethod
    def setUpClass(cls):
        cls.cluster = RecordedCluster(**cls.options)
        cls.names = {}
        cls.ports = {"master": cls.cluster.api_port, "leader": cls.cluster.api_port}
        cls.ports.update({"agent": port for port in getattr(cls.cluster, "agent_ports", {}).values()})

    def put_in(self, text):
        for name, ours in self.names.items():
            text = text.replace(name, ours)
        return text

    def taken_out(self, text):
        """Our ids as the recording names them, so that texts compare."""
        for name, ours in sorted(self.names.items(), key=lambda kv: -len(kv[1])):
            text = text.replace(ours, name)
        return text

    def send(self, row):
        q = row["request"]
        body = q["body"]
        headers = {k: self.put_in(v) for k, v in q["headers"].items()}
        if isinstance(body, dict) and set(body) == {"base64"}:
            data = base64.b64decode(body["base64"])
        elif body is None:
            data = None
        else:
            form = headers.get("Content-Type", "").endswith("urlencoded")
            text = body if isinstance(body, str) else json.dumps(body)
            data = self.put_in(urllib.parse.unquote_plus(text) if form else text)
            if form:
                data = urllib.parse.urlencode(urllib.parse.parse_qsl(data, keep_blank_values=True))
            data = data.encode()
        return request(self.ports[q["to"]], q["method"], self.put_in(q["path"]), data, headers)

    def compare(self, row, answer):
        """Everything in which `answer` (status, headers, body) is not what was recorded."""
        status, headers, body = answer
        want, found = row["answer"], []
        if status != want["status"]:
            return ["%d became %d %s" % (want["status"], status, body[:200])]
        for key, name in (("type", "content-type"), ("allow", "allow"), ("location", "location"), ("realm", "www-authenticate"),
                          ("disposition", "content-disposition")):
            expect = want.get(key)
            if expect and key == "location":
                expect = re.sub(r":50\d\d", ":%d" % self.ports["master"], expect)
            if headers.get(name) != expect:
                found.append("%s: %r became %r" % (name, expect, headers.get(name)))
        if want.get("text") is not None:
            text = self.taken_out(body.decode("utf-8", "replace"))
            if text != want["text"]:
                found.append("text: %r became %r" % (want["text"], text))
        if "shape" in want and row["request"]["path"].startswith("/metrics/"):
            got = json.loads(body)  # names of parts we do not have are missing: reads_test.py judges which must be there
            found += ["%s: not a number" % k for k, v in got.items() if not isinstance(v, float)]
        elif "shape" in want and "get_metrics" in want["shape"]:
            found += ["no metrics"] if not json.loads(body)["get_metrics"]["metrics"] else []
        elif "shape" in want and row["request"]["path"].startswith("/tasks?"):  # which tasks come first is nobody's promise
            both = [r["answer"]["shape"] for r in rows(row["file"]) if r["request"]["path"].startswith("/tasks?")]
            found += unexplained(differences(merge(*both), json.loads(body)), FIELDS)
        elif "shape" in want:
            if headers.get("content-type") == PROTOBUF:
                got = mesos.protobuf().decode("gantry.fb.master.Response", body)
            else:
                got = json.loads(body)
                if isinstance(got, dict) and isinstance(got.get("flags"), dict):
                    got["flags"] = {}
            found += unexplained(differences(want["shape"], got), FIELDS)
        return found

    def replay(self, row, name=None):
        name = name or "%s %d" % (row["file"], row["n"])
        with self.subTest(name):
            if row["request"]["to"] not in self.ports:
                self.skipTest("nothing here answers for an " + row["request"]["to"])
            found = self.compare(row, self.send(row))
            self.judge(name, found, row["request"])

    def judge(self, name, found, what):
        reason = EXPECTED.get(name)
        if reason is None:
            self.assertEqual(found, [], what)
        else:
            if not found:
                print("NOTE: %s no longer differs; take it off EXPECTED (%s)" % (name, reason))


class RecordedCluster(mesos.MesosCluster):
    """As the recorded one: one agent of that size and with those attributes."""

    def wait_up(self, agents):
        super().wait_up(agents)
        wait(lambda: len(json.loads(request(self.api_port, "GET", "/slaves")[2])["slaves"]) >= agents, 20, "the reads having seen the agents")

    def agent_text(self, n, extra=""):
        text = super().agent_text(n, extra)
        text = re.sub(r'resources = ".*"', 'resources = "cpus:4;mem:4000;disk:2000;ports:[31000-32000]"', text)
        text = re.sub(r'attributes = ".*"', 'attributes = "rack:r1;zone:z1"', text)
        return text


# ---- streams

def update_key(status):
    return (status["state"], status.get("reason"), status.get("source"), status.get("healthy"),
            UUID.sub("{uuid}", status.get("message", "")) or None)


def life(statuses):
    """task -> what was told of it, in order, repetitions of an unacknowledged update taken out."""
    out, seen = {}, set()
    for s in statuses:
        if s.get("uuid"):
            if s["uuid"] in seen:
                continue
            seen.add(s["uuid"])
        out.setdefault(s["task_id"]["value"], []).append(update_key(s))
    return out


class Recorder(Replay):
    """Replays a scheduler's stream and calls, an operator watching."""

    stream_file = calls_file = None

    def begin(self):
        self.operator = Stream(self.ports["master"], {"type": "SUBSCRIBE"}, JSON, path="/api/v1")
        self.addCleanup(self.operator.close)
        self.operator.wait("SUBSCRIBED")
        first = rows(self.stream_file)[0]
        self.stream = Stream(self.ports["master"], first["request"]["body"], JSON)
        self.addCleanup(self.stream.close)
        self.assertEqual(self.stream.headers["content-type"], first["answer"]["type"])
        subscribed = self.stream.wait("SUBSCRIBED")["subscribed"]
        names = type(self).names
        names["{stream}"] = self.stream.id
        names["{M}-0000"] = subscribed["framework_id"]["value"]
        names["{M}-S0"] = self.offer()["agent_id"]["value"]
        names["{M}"] = subscribed["master_info"]["id"]
        self.recorded_updates = [r["event"]["update"]["status"] for r in rows(self.stream_file)
                                 if r.get("event", {}).get("type") == "UPDATE"]
        self.acknowledged, self.used = set(), {}

    def offers(self):
        gone = {e["rescind"]["offer_id"]["value"] for e in self.stream.of("RESCIND")}
        return [o for e in self.stream.of("OFFERS") for o in e["offers"]["offers"] if o["id"]["value"] not in gone]

    def offer(self, used=()):
        return wait(lambda: [o for o in self.offers() if o["id"]["value"] not in used], 20, "an offer")[0]

    def find_offer(self, name):
        """Ours for a recorded offer: one not used yet, always the same for the same name."""
        if name not in self.used:
            self.used[name] = self.offer(set(self.used.values()))["id"]["value"]
        return self.used[name]

    def acknowledge(self, row):
        """The update the recorded call acknowledged, found in our stream by what it says."""
        a = row["request"]["body"]["acknowledge"]
        want = next(s for s in self.recorded_updates if s.get("uuid") == a["uuid"])
        task, state = want["task_id"], want["state"]
        told = {(s["task_id"]["value"], s["state"]) for s in self.recorded_updates}

        def arrived():
            for e in self.stream.of("UPDATE"):
                s = e["update"]["status"]
                if s.get("uuid") and s["uuid"] not in self.acknowledged and (s["task_id"]["value"], s["state"]) not in told:
                    self.acknowledged.add(s["uuid"])  # one that Mesos did not tell; others wait behind it
                    mesos.one_call(self.ports["master"], {"type": "ACKNOWLEDGE", "framework_id": {"value": self.names["{M}-0000"]}, "acknowledge": {
                        "agent_id": s["agent_id"], "task_id": s["task_id"], "uuid": s["uuid"]}}, JSON, self.stream.id)
            return [e["update"]["status"] for e in self.stream.of("UPDATE") if e["update"]["status"]["task_id"] == task and
                    e["update"]["status"]["state"] == state and
                    (state != "TASK_RUNNING" or e["update"]["status"].get("reason") == want.get("reason")) and
                    e["update"]["status"].get("uuid", "") not in self.acknowledged | {""}]
        name = "update %s %s" % (task["value"], state)
        try:
            ours = wait(arrived, 10, name)[0]
        except AssertionError as e:
            seen = [e["update"]["status"] for e in self.stream.of("UPDATE") if e["update"]["status"]["task_id"] == task]
            with self.subTest(name):
                self.judge(name, ["%s; seen: %s" % (e, [update_key(s) for s in seen])], want)
            return None
        self.acknowledged.add(ours["uuid"])
        call = dict(row["request"]["body"], acknowledge=dict(a, uuid=ours["uuid"], agent_id=ours["agent_id"]))
        return dict(row, request=dict(row["request"], body=call))

    def call(self, row):
        body = row["request"]["body"]
        if body["type"] == "ACKNOWLEDGE":
            row = self.acknowledge(row)
            if row is None:
                return
        elif body["type"] == "ACCEPT":
            ids = [{"value": self.find_offer(o["value"])} for o in body["accept"]["offer_ids"]]
            for o, ours in zip(body["accept"]["offer_ids"], ids):
                type(self).names[o["value"]] = ours["value"]
        self.replay(row)

    def compare_shapes(self, name, recorded, ours):
        """Every event of ours has the shape of the recorded ones of its type; every type recorded came."""
        merged = {}
        for e in recorded:
            merged[e["type"]] = merge(merged[e["type"]], shape(e)) if e["type"] in merged else shape(e)
        for kind in merged:
            with self.subTest("%s %s" % (name, kind)):
                mine = [e for e in ours if e["type"] == kind]
                found = [] if mine else ["no %s came" % kind]
                for e in mine:
                    found += unexplained(differences(merged[kind], e), FIELDS)
                self.judge("%s %s" % (name, kind), sorted(set(found)), kind)
        with self.subTest(name + " types"):
            self.judge(name + " types", sorted({e["type"] for e in ours} - set(merged)), "types")

    def compare_lives(self, name, recorded, ours):
        want, got = life(recorded), life(ours)
        for task in want:
            with self.subTest("%s %s" % (name, task)):
                mine = [(s, r, o, h, m and UUID.sub("{uuid}", self.taken_out(m))) for s, r, o, h, m in got.get(task, [])]
                theirs = [(s, r, o, h, m and UUID.sub("{uuid}", m)) for s, r, o, h, m in want[task]]
                self.judge("%s %s" % (name, task), [] if mine == theirs else ["%s\n became %s" % (theirs, mine)], task)


def status_of(e):
    return dict(e["task_updated"]["status"])


class Plain(Recorder):
    """A partition-aware framework in role *: seven tasks, bad launches, reconciliation, a kill, a take-over, refused subscriptions."""

    stream_file, calls_file = "scheduler-stream-plain", "scheduler-calls"

    def test_replay(self):
        self.begin()
        calls = rows(self.calls_file)
        killing = next(n for n, r in enumerate(calls) if r["request"]["body"]["type"] == "KILL")
        for row in calls[:killing]:
            self.call(row)
        f = type(self).names["{M}-0000"]
        wait(lambda: len([t for t in self.state()["frameworks"][0]["completed_tasks"] if t["framework_id"] == f]) >= 5, 20, "tasks complete")
        self.containers()
        for name in ("master-legacy-reads", "master-operator-v1", "agent-legacy-reads", "agent-operator-v1", "errors"):
            for row in rows(name):
                self.replay(row)
        for row in calls[killing:]:
            self.call(row)
        self.stream.wait("UPDATE", 20, lambda e: e["update"]["status"]["state"] == "TASK_KILLING" and
                         e["update"]["status"]["task_id"]["value"] == "sleeps")
        self.refused_streams()
        recorded = [r["event"] for r in rows(self.stream_file)[1:]]
        self.compare_shapes("scheduler-stream", recorded, self.stream.events)
        of = lambda events: [e["update"]["status"] for e in events if e["type"] == "UPDATE"]  # noqa: E731
        self.compare_lives("scheduler-stream", of(recorded), of(self.stream.events))
        self.operator.wait("FRAMEWORK_REMOVED")
        watched = [r["event"] for r in rows("operator-stream")[1:]]
        mine = list(self.operator.events)
        self.compare_shapes("operator-stream", watched, mine)
        ours = self.names["{M}-0000"]
        self.compare_lives("operator-stream", [status_of(e) for e in watched if e["type"] == "TASK_UPDATED"],
                           [status_of(e) for e in mine if e["type"] == "TASK_UPDATED" and e["task_updated"]["framework_id"]["value"] == ours])

    def state(self):
        return json.loads(request(self.ports["master"], "GET", "/state")[2])

    def containers(self):
        """Files are asked for by the path of a sandbox; ours is another."""
        if "agent" not in self.ports:
            return
        recorded = next(re.search(r"path=(/var/.*/runs/[^/&]+)", r["request"]["path"]).group(1) for r in rows("agent-legacy-reads")
                        if "runs/" in r["request"]["path"])
        state = json.loads(request(self.ports["agent"], "GET", "/state")[2])
        for f in state["frameworks"] + state["completed_frameworks"]:
            for e in f["executors"] + f["completed_executors"]:
                if e["id"] == "finishes":
                    type(self).names = {recorded: e["directory"], **type(self).names}

    def refused_streams(self):
        for row in [r for r in rows("scheduler-streams-refused") if "request" in r]:
            n = row["n"]
            events = []
            for r in rows("scheduler-streams-refused")[n + 1:]:
                if "event" not in r:
                    break
                events.append(r["event"])
            with self.subTest("scheduler-streams-refused %d" % n):
                body = json.loads(self.put_in(json.dumps(row["request"]["body"])))
                deadline = time.monotonic() + 10
                while True:  # the removal of a framework without failover_timeout takes a moment
                    s = Stream(self.ports["master"], body, JSON)
                    first = wait(lambda: s.events[:1], 10, "the first event")[0]
                    if first["type"] == events[0]["type"] or time.monotonic() > deadline:
                        break
                    s.close()
                    time.sleep(0.1)
                if events[0]["type"] == "ERROR":
                    s.wait_closed()
                    self.assertEqual(s.events, events)
                else:
                    for e in events:
                        s.wait(e["type"], 20)
                    self.stream.wait_closed()
                    self.assertEqual(self.stream.events[-1], {"type": "ERROR", "error": {"message": "Framework failed over"}})
                s.close()


class Refined(Recorder):
    """MULTI_ROLE and RESERVATION_REFINEMENT: reserve, create, use, destroy with feedback; a custom executor; a task group."""

    stream_file, calls_file = "scheduler-stream-refined", "scheduler-calls-refined"

    def test_replay(self):
        type(self).names["{executor}"] = os.path.join(HERE, "executor.py")
        self.begin()
        for row in rows(self.calls_file):
            self.call(row)
        self.stream.wait("FAILURE", 20, count=2)  # of the custom executor, and of the group's
        events = list(self.stream.events)  # before operators change the cluster
        for row in rows("operator-writes"):
            self.replay(row)
        recorded = [r["event"] for r in rows(self.stream_file)[1:]]
        self.compare_shapes("scheduler-stream-refined", recorded, events)
        of = lambda events: [e["update"]["status"] for e in events if e["type"] == "UPDATE"]  # noqa: E731
        self.compare_lives("scheduler-stream-refined", of(recorded), of(self.stream.events))
        watched = [r["event"] for r in rows("operator-stream-refined")[1:]]
        self.compare_shapes("operator-stream-refined", watched, self.operator.events)

    def acknowledge_operation(self, row):
        a = row["request"]["body"]["acknowledge_operation_status"]
        e = self.stream.wait("UPDATE_OPERATION_STATUS", 20, lambda e: e["update_operation_status"]["status"]["operation_id"] == a["operation_id"])
        s = e["update_operation_status"]["status"]
        if "uuid" not in s:
            return None
        call = dict(row["request"]["body"], acknowledge_operation_status=dict(a, uuid=s["uuid"]["value"]))
        return dict(row, request=dict(row["request"], body=call))

    def call(self, row):
        if row["request"]["body"]["type"] == "ACKNOWLEDGE_OPERATION_STATUS":
            row = self.acknowledge_operation(row)
            if row is None:
                return
        super().call(row)


if __name__ == "__main__":
    mesos.main()
