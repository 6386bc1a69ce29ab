#!/usr/bin/env python3
"""The scheduler API against real daemons: mesos-kernel.md section E (numbers in the names), in JSON and in protobuf."""

import base64
import json
import os
import sys
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from mesos import JSON, PROTOBUF, Stream, request, scalar  # noqa: E402
from cluster import holds, wait  # noqa: E402

PATH = "/api/v1/scheduler"
AWARE = [{"type": "PARTITION_AWARE"}]
MODERN = [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}, {"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}]


class Errors(mesos.Case):
    """Statuses and texts of errors.json, word for word."""

    options = {"agents": 0}

    def post(self, body, headers=None, method="POST", path=PATH):
        h = {"Content-Type": JSON} if headers is None else headers
        data = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
        status, answered, text = request(self.cluster.api_port, method, path, data, h)
        return status, answered, text.decode()

    def refused(self, status, sentence, *args, **more):
        got, headers, text = self.post(*args, **more)
        self.assertEqual((got, text), (status, sentence))
        self.assertEqual(headers.get("content-type"), "text/plain; charset=utf-8" if sentence else None)
        return headers

    def test_01_transport(self):
        h = self.refused(405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.", None, {}, "GET")
        self.assertEqual(h["allow"], "POST")
        self.refused(400, "Expecting 'Content-Type' to be present", "{}", {})
        self.refused(415, "Expecting 'Content-Type' of application/json or application/x-protobuf", "{}", {"Content-Type": "text/plain"})
        self.refused(400, "Failed to parse body into JSON: syntax error at line 1 near: ", '{"type":')
        v = "Failed to validate scheduler::Call: "
        self.refused(400, v + "Expecting 'type' to be present", {})
        self.refused(400, v + "Expecting 'framework_id' to be present", {"type": "UNKNOWN"})
        self.refused(400, v + "Expecting 'type' to be present", {"type": "NOPE"})
        self.refused(400, v + "Expecting 'subscribe' to be present", {"type": "SUBSCRIBE"})
        self.refused(400, "Failed to convert JSON into Call protobuf: Missing required fields: subscribe.framework_info.user",
                     {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x"}}})
        self.refused(400, v + "'framework_id' differs from 'subscribe.framework_info.id'",
                     {"type": "SUBSCRIBE", "framework_id": {"value": "b"},
                      "subscribe": {"framework_info": {"user": "root", "name": "x", "id": {"value": "a"}}}})
        self.refused(400, v + "Expecting 'framework_id' to be present", {"type": "REVIVE"})
        self.refused(400, v + "Expecting 'kill' to be present", {"type": "KILL", "framework_id": {"value": "f"}})
        self.refused(400, v + "Not a valid UUID", {"type": "ACKNOWLEDGE", "framework_id": {"value": "f"}, "acknowledge": {
            "agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": "AAAA"}})
        self.assertEqual(self.post(b"\xff\xff", {"Content-Type": PROTOBUF})[0], 400)

    def test_01_accept(self):
        subscribe = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "x"}}}
        self.refused(406, "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'", subscribe,
                     {"Content-Type": JSON, "Accept": "image/png"})
        for accept, form in ((None, JSON), ("*/*", JSON), ("application/*", JSON), (PROTOBUF, PROTOBUF),
                             ("application/json;q=0, application/x-protobuf", PROTOBUF), ("application/x-protobuf, application/json", JSON)):
            s = Stream(self.cluster.api_port, subscribe, JSON, {"Accept": accept})
            self.addCleanup(s.close)
            self.assertEqual(s.headers["content-type"], form, accept)
        # Wider than the original: parameters are no reason to refuse.
        self.assertEqual(self.post({}, {"Content-Type": "application/json; charset=utf-8"})[0], 400)

    def test_02_stream_ids(self):
        self.refused(400, "Subscribe calls should not include the 'Mesos-Stream-Id' header",
                     {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "x"}}},
                     {"Content-Type": JSON, "Mesos-Stream-Id": "x"})
        f = self.framework()
        teardown = {"type": "TEARDOWN", "framework_id": {"value": f.id}}
        self.refused(400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header", teardown)
        for wrong in ("x", "00000000-0000-0000-0000-000000000000"):
            self.refused(400, "The stream ID '%s' included in this request didn't match the stream ID currently associated with "
                         "framework ID %s" % (wrong, f.id), teardown, {"Content-Type": JSON, "Mesos-Stream-Id": wrong})
        self.refused(400, "Framework cannot be found", {"type": "REVIVE", "framework_id": {"value": "nobody"}},
                     {"Content-Type": JSON, "mesos-stream-id": f.stream.id})
        f.call("REVIVE")  # intact
        f.call("TEARDOWN")
        f.stream.wait_closed()
        self.refused(400, "Framework cannot be found", teardown, {"Content-Type": JSON, "Mesos-Stream-Id": f.stream.id})

    def test_08_refused_subscriptions(self):
        def refused(sentence, **info):
            f = self.framework(subscribe=False, **info)
            first = f.subscribe()
            self.assertEqual(first, {"type": "ERROR", "error": {"message": sentence}})
            f.stream.wait_closed()
            self.assertEqual(len(f.stream.events), 1)
            uuid.UUID(f.stream.id)
        refused("'FrameworkInfo.role' is not a valid role: Role component 'bad role' is invalid because it contains backspace or whitespace",
                role="bad role")
        refused("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable", roles=["a", "a"])
        refused("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable", role="a",
                capabilities=[{"type": "MULTI_ROLE"}])
        f = self.framework(subscribe=False, roles=["a", "a"], capabilities=[{"type": "MULTI_ROLE"}])
        self.assertEqual(f.subscribe()["type"], "ERROR")
        f = self.framework(subscribe=False, failover_timeout=1e300)
        self.assertEqual(f.subscribe()["type"], "ERROR")

    def test_paths(self):
        for path in (PATH, "/master" + PATH, PATH + "/", "/master/api/v1/scheduler?x=1"):
            self.refused(400, "Expecting 'Content-Type' to be present", "{}", {}, "POST", path)
        self.assertEqual(self.post("", {}, "GET", "/nosuch")[0], 404)


class Scheduling(mesos.Case):
    form = JSON
    options = {"agents": 1, "gateway": 'heartbeat_interval = "1s"'}

    def test_03_subscribe(self):
        f = self.framework()
        s = f.stream
        self.assertEqual(s.headers["transfer-encoding"], "chunked")
        self.assertNotIn("content-length", s.headers)
        self.assertEqual(s.headers["content-type"], self.form)
        uuid.UUID(s.id)
        subscribed = s.events[0]["subscribed"]
        self.assertEqual(subscribed["heartbeat_interval_seconds"], 1.0)
        m = subscribed["master_info"]
        port = self.cluster.api_port
        self.assertEqual((m["pid"], m["hostname"], m["port"], m["ip"]), ("master@127.0.0.1:%d" % port, "127.0.0.1", port, 16777343))
        self.assertEqual(m["address"], {"hostname": "127.0.0.1", "ip": "127.0.0.1", "port": port})
        self.assertRegex(m["version"], r"^\d+\.\d+\.\d+$")
        self.assertTrue(f.id.startswith(m["id"] + "-"), (f.id, m["id"]))
        s.wait("HEARTBEAT", 2)
        self.assertEqual(s.events[1]["type"], "HEARTBEAT")
        s.wait("HEARTBEAT", 10, count=3)
        self.assertEqual(s.problems, [])

    def test_04_take_over(self):
        f = self.framework(failover_timeout=60)
        old = f.stream
        self.assertEqual(f.subscribe()["subscribed"]["framework_id"]["value"], f.id)
        self.addCleanup(old.close)
        old.wait_closed()
        self.assertEqual(old.events[-1], {"type": "ERROR", "error": {"message": "Framework failed over"}})
        self.assertNotEqual(old.id, f.stream.id)
        status, _, text = f.raw({"type": "REVIVE", "framework_id": {"value": f.id}}, old.id)
        self.assertEqual(status, 400)
        self.assertIn("didn't match the stream ID", text)
        f.call("TEARDOWN")

    def test_05_disconnect_and_return(self):
        f = self.framework(failover_timeout=60, capabilities=AWARE)
        o = f.offer()
        f.launch(o, f.task(o, "stays", "sleep 1000"))
        f.status("stays", "TASK_RUNNING")
        f.stream.close()
        refused = wait(lambda: [r for r in [f.raw({"type": "REVIVE", "framework_id": {"value": f.id}})] if r[0] == 403], 10, "403")[0]
        self.assertEqual(refused[2], "Framework is not subscribed")
        f.subscribe()
        f.call("RECONCILE", reconcile={"tasks": []})
        s = f.status("stays", "TASK_RUNNING", where=lambda s: s.get("reason") == "REASON_RECONCILIATION")
        self.assertEqual(s["message"], "Reconciliation: Latest task state")
        f.offer()
        f.call("TEARDOWN")
        f.stream.wait_closed()

    def test_06_no_failover_timeout(self):
        f = self.framework()
        f.stream.close()

        def removed():
            first = f.subscribe()
            f.stream.close()
            return first if first["type"] == "ERROR" else None
        self.assertEqual(wait(removed, 10, "removal")["error"]["message"], "Framework has been removed")

    def test_09_command_tasks(self):
        f = self.framework(capabilities=AWARE)
        o = f.offer()
        f.launch(o, f.task(o, "good"), f.task(o, "bad", "exit 3"), f.task(o, "killed", "kill -9 $$"))
        for state in ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"):
            s = f.status("good", state)
            self.assertIn("uuid", s)
            self.assertEqual(len(base64.b64decode(s["uuid"])), 16)
            self.assertEqual(s["agent_id"], o["agent_id"])
        self.assertIn("container_id", f.status("good", "TASK_RUNNING")["container_status"])
        self.assertEqual(f.status("bad", "TASK_FAILED")["message"], "Command exited with status 3")
        self.assertEqual(f.status("killed", "TASK_FAILED")["message"], "Command terminated with signal Killed")
        order = [e["update"]["status"]["state"] for e in f.stream.of("UPDATE") if e["update"]["status"]["task_id"]["value"] == "good"]
        self.assertEqual(order, ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"])

    def test_10_unacknowledged(self):
        f = self.framework(ack=False, capabilities=AWARE)
        o = f.offer()
        f.launch(o, f.task(o, "mute"))
        first = f.status("mute", "TASK_STARTING")
        again = f.stream.wait("UPDATE", 20, lambda e: e["update"]["status"]["task_id"]["value"] == "mute", 2)
        self.assertEqual([e["update"]["status"]["uuid"] for e in again], [first["uuid"]] * 2)
        # Its resources are free although nobody has acknowledged anything.
        f.offer(where=lambda o: [r["scalar"]["value"] for r in o["resources"] if r["name"] == "cpus"] == [0.1])

    def test_11_invalid_offers(self):
        f = self.framework(capabilities=AWARE)
        o = f.offer()
        f.decline(o)
        f.launch(o, f.task(o, "stale"))
        s = f.status("stale", "TASK_DROPPED")
        self.assertEqual((s["reason"], s["source"]), ("REASON_INVALID_OFFERS", "SOURCE_MASTER"))
        self.assertEqual(s["message"], "Task launched with invalid offers: Offer %s is no longer valid" % o["id"]["value"])
        self.assertEqual(s["agent_id"], o["agent_id"])
        self.assertNotIn("uuid", s)
        o = f.offer()
        f.launch([o, o], f.task(o, "twice"))
        f.status("twice", "TASK_DROPPED")

    def test_11_not_partition_aware(self):
        f = self.framework()
        o = f.offer()
        f.decline(o)
        f.launch(o, f.task(o, "stale"))
        f.status("stale", "TASK_LOST")

    def test_12_invalid_tasks(self):
        f = self.framework(capabilities=AWARE)
        o = f.offer()
        f.launch(o, f.task(o, "sleeps", "sleep 1000"))
        f.status("sleeps", "TASK_RUNNING")
        o = f.offer()
        none = f.task(o, "no-resources")
        none["resources"] = []
        elsewhere = f.task(o, "elsewhere", agent_id={"value": "nope"})
        bare = f.task(o, "bare")
        del bare["command"]
        both = f.task(o, "both", executor={"executor_id": {"value": "x"}, "command": {"value": "true"}})
        f.launch(o, f.task(o, "too-big", cpus=1000), none, f.task(o, "bad/id"), elsewhere, bare, both, f.task(o, "sleeps"),
                 f.task(o, "grace", kill_policy={"grace_period": {"nanoseconds": -1}}))
        expect = {"no-resources": "Task uses no resources", "bad/id": "'bad/id' contains invalid characters",
                  "elsewhere": "Task uses invalid agent nope while agent %s is expected" % o["agent_id"]["value"],
                  "bare": "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
                  "both": "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
                  "sleeps": "Task has duplicate ID: sleeps"}
        for name, message in expect.items():
            s = f.status(name, "TASK_ERROR")
            self.assertEqual((s["message"], s["reason"], s["source"]), (message, "REASON_TASK_INVALID", "SOURCE_MASTER"))
            self.assertNotIn("uuid", s)
        self.assertRegex(f.status("too-big", "TASK_ERROR")["message"],
                         r"^Total resources cpus\(allocated: \*\):1000; mem\(allocated: \*\):32 required by task and its executor is more "
                         r"than available .*cpus\(allocated: \*\):3.9")
        f.status("grace", "TASK_ERROR")
        f.call("TEARDOWN")

    def test_13_decline(self):
        f = self.framework(capabilities=AWARE)
        o = f.offer()
        f.decline(o, 3600)
        seen = len(f.stream.of("OFFERS"))
        holds(lambda: len(f.stream.of("OFFERS")) == seen, 2, "no offer after a decline")
        other = self.framework(capabilities=AWARE)
        other.decline(other.offer(5), 3600)
        f.call("REVIVE")
        f.offer(5)

    def test_14_suppress(self):
        f = self.framework(capabilities=AWARE)
        o = f.offer()
        f.launch(o, f.task(o, "quiet", "sleep 0.5"))
        f.call("SUPPRESS", suppress={})
        f.status("quiet", "TASK_FINISHED")
        last = len(f.stream.of("OFFERS"))
        holds(lambda: len(f.stream.of("OFFERS")) <= last + 1, 2, "no more offers")
        f.call("REVIVE", revive={})
        f.offer(5)

    def test_14_suppressed_roles(self):
        f = self.framework(capabilities=AWARE, extra={"suppressed_roles": ["*"]})
        holds(lambda: not f.stream.of("OFFERS"), 2, "no offers")
        f.call("REVIVE", revive={"roles": ["*"]})
        f.offer(5)

    def test_16_kill(self):
        f = self.framework(capabilities=AWARE + [{"type": "TASK_KILLING_STATE"}])
        o = f.offer()
        f.launch(o, f.task(o, "victim", "sleep 1000"), f.task(o, "deaf", "trap '' TERM; while :; do sleep 0.1; done"))
        f.status("victim", "TASK_RUNNING")
        f.status("deaf", "TASK_RUNNING")
        f.call("KILL", kill={"task_id": {"value": "victim"}, "agent_id": o["agent_id"]})
        f.status("victim", "TASK_KILLING")
        f.status("victim", "TASK_KILLED")
        f.call("KILL", kill={"task_id": {"value": "deaf"}, "kill_policy": {"grace_period": {"nanoseconds": 300000000}}})
        f.status("deaf", "TASK_KILLED", 10)

    def test_17_kill_unknown(self):
        f = self.framework(capabilities=AWARE)
        f.call("KILL", kill={"task_id": {"value": "nobody"}})
        s = f.status("nobody", "TASK_UNKNOWN")
        self.assertEqual((s["reason"], s["source"], s["message"]),
                         ("REASON_RECONCILIATION", "SOURCE_MASTER", "Reconciliation: Task is unknown"))
        self.assertNotIn("uuid", s)

    def test_18_19_reconcile(self):
        f = self.framework(capabilities=AWARE)
        o = f.offer()
        f.launch(o, f.task(o, "known", "sleep 1000"))
        f.status("known", "TASK_RUNNING")
        f.call("RECONCILE", reconcile={"tasks": [
            {"task_id": {"value": "known"}}, {"task_id": {"value": "ghost"}},
            {"task_id": {"value": "ghost2"}, "agent_id": o["agent_id"]}]})
        reconciled = lambda s: s.get("reason") == "REASON_RECONCILIATION"  # noqa: E731
        s = f.status("known", "TASK_RUNNING", where=reconciled)
        self.assertNotIn("uuid", s)
        self.assertIn("container_status", s)
        self.assertNotIn("agent_id", f.status("ghost", "TASK_UNKNOWN"))
        s = f.status("ghost2", "TASK_GONE")
        self.assertEqual((s["message"], s["agent_id"]), ("Reconciliation: Task is unknown to the agent", o["agent_id"]))
        before = len(f.stream.of("UPDATE"))
        f.call("RECONCILE", reconcile={"tasks": []})
        wait(lambda: len(f.stream.of("UPDATE")) > before, 5, "the implicit answer")
        got = [e["update"]["status"]["task_id"]["value"] for e in f.stream.of("UPDATE")[before:]]
        self.assertEqual(got, ["known"])
        f.call("TEARDOWN")

    def test_22_agent_restart(self):
        f = self.framework(capabilities=AWARE, checkpoint=True)
        o = f.offer()
        f.launch(o, f.task(o, "durable", "sleep 3"))
        f.status("durable", "TASK_RUNNING")
        agent = self.cluster.agents()[0]
        agent.kill9()
        agent.start()
        f.status("durable", "TASK_FINISHED", 30)
        states = {e["update"]["status"]["state"] for e in f.stream.of("UPDATE")}
        self.assertFalse(states & {"TASK_LOST", "TASK_FAILED", "TASK_GONE"}, states)

    def test_32_update_framework(self):
        f = self.framework(capabilities=MODERN, roles=["a", "b"], failover_timeout=10)
        o = f.offer()
        self.assertIn(o["allocation_info"]["role"], ("a", "b"))
        self.assertTrue(all(r["allocation_info"]["role"] == o["allocation_info"]["role"] and "role" not in r for r in o["resources"]))
        left = "a" if o["allocation_info"]["role"] == "b" else "b"
        info = dict(f.info, id={"value": f.id}, roles=[left])
        self.assertEqual(f.call("UPDATE_FRAMEWORK", 200, update_framework={"framework_info": info}), "")
        f.stream.wait("RESCIND", 5, lambda e: e["rescind"]["offer_id"] == o["id"])
        self.assertEqual(f.offer()["allocation_info"]["role"], left)
        changed = dict(info, user="nobody")
        self.assertIn("user", f.call("UPDATE_FRAMEWORK", 400, update_framework={"framework_info": changed}))

    def test_own_framework_id(self):
        own = "driver-%s" % uuid.uuid4()
        f = self.framework(id={"value": own})
        self.assertEqual(f.id, own)

    def test_old_resource_format(self):
        f = self.framework()
        o = f.offer()
        self.assertNotIn("allocation_info", o)
        for r in o["resources"]:
            self.assertEqual(r["role"], "*")
            self.assertNotIn("allocation_info", r)
            self.assertNotIn("reservations", r)
        # What an old framework sends back is what it was offered.
        cpus = dict(next(r for r in o["resources"] if r["name"] == "cpus"), scalar={"value": 0.2})
        mem = dict(next(r for r in o["resources"] if r["name"] == "mem"), scalar={"value": 32.0})
        f.launch(o, f.task(o, "old", resources=[cpus, mem]))
        f.status("old", "TASK_FINISHED")

    def test_calls_without_effect(self):
        f = self.framework(capabilities=MODERN, roles=["a"])
        agent, executor = {"value": "a"}, {"value": "x"}
        f.call("REQUEST", request={"requests": []})
        f.call("SHUTDOWN", shutdown={"agent_id": agent, "executor_id": executor})
        f.call("MESSAGE", message={"agent_id": agent, "executor_id": executor, "data": "aGk="})
        f.call("ACCEPT_INVERSE_OFFERS", accept_inverse_offers={"inverse_offer_ids": [{"value": "i"}]})
        f.call("DECLINE_INVERSE_OFFERS", decline_inverse_offers={"inverse_offer_ids": [{"value": "i"}]})
        f.call("ACKNOWLEDGE", acknowledge={"agent_id": agent, "task_id": {"value": "t"}, "uuid": "MDAwMDAwMDAwMDAwMDAwMA=="})
        f.call("RECONCILE_OPERATIONS", reconcile_operations={"operations": [{"operation_id": {"value": "o"}}]})
        e = f.stream.wait("UPDATE_OPERATION_STATUS", 5)
        self.assertEqual(e["update_operation_status"]["status"]["state"], "OPERATION_UNKNOWN")
        self.assertEqual(f.raw({"type": "UNKNOWN", "framework_id": {"value": f.id}})[0], 501)

    def test_reserve(self):
        f = self.framework(capabilities=MODERN, roles=["eng"], principal="alice")
        o = f.offer()
        reserved = scalar("cpus", 0.5, reservations=[{"type": "DYNAMIC", "role": "eng", "principal": "alice"}])
        f.accept(o, [{"type": "RESERVE", "id": {"value": "op1"}, "reserve": {"resources": [reserved]}}])
        e = f.stream.wait("UPDATE_OPERATION_STATUS", 5)
        self.assertEqual(e["update_operation_status"]["status"]["state"], "OPERATION_FINISHED")
        o = f.offer(where=lambda o: any("reservations" in r for r in o["resources"]))
        f.accept(o, [{"type": "UNRESERVE", "unreserve": {"resources": [reserved]}}])
        f.offer(where=lambda o: not any("reservations" in r for r in o["resources"]))

    def test_slow_reader(self):
        """Who never reads is cut off at a bound and counts as disconnected; others are served meanwhile."""
        f = self.framework(subscribe=False, failover_timeout=600)
        f.stream = Stream(self.cluster.api_port, {"type": "SUBSCRIBE", "subscribe": {"framework_info": f.info}}, self.form, read=False)
        f.id = f.stream.first["subscribed"]["framework_id"]["value"]
        other = self.framework()
        many = [{"task_id": {"value": "ghost-%d-%s" % (n, "x" * 200)}} for n in range(2000)]
        call = {"type": "RECONCILE", "framework_id": {"value": f.id}, "reconcile": {"tasks": many}}

        def cut_off():
            status, _, text = f.raw(call)
            return status == 403 and text
        self.assertEqual(wait(cut_off, 60, "the slow reader being cut off"), "Framework is not subscribed")
        other.call("RECONCILE", reconcile={"tasks": [{"task_id": {"value": "ghost"}}]})
        other.status("ghost", "TASK_LOST", 5)
        f.subscribe()
        f.call("TEARDOWN")


class SchedulingProtobuf(Scheduling):
    form = PROTOBUF


class BesideServices(mesos.Case):
    options = {"agents": 0, "services": True}

    def test_module_frameworks_are_out_of_reach(self):
        services = wait(lambda: self.cluster.ask("frameworks")["frameworks"], 10, "the services framework")[0]
        status, _, text = mesos.one_call(self.cluster.api_port, {"type": "TEARDOWN", "framework_id": {"value": services["id"]}}, JSON, "x")
        self.assertEqual((status, text), (403, "Framework is not connected via HTTP"))
        f = self.framework(subscribe=False, id={"value": services["id"]})
        self.assertEqual(f.subscribe(), {"type": "ERROR", "error": {"message": "Framework is not connected via HTTP"}})
        f.stream.wait_closed()


class Expiring(mesos.Case):
    options = {"agents": 1, "master": 'offer_timeout = "2s"'}

    def test_15_offer_timeout(self):
        f = self.framework(capabilities=AWARE)
        o = f.offer()
        f.stream.wait("RESCIND", 10, lambda e: e["rescind"]["offer_id"] == o["id"])
        f.launch(o, f.task(o, "late"))
        f.status("late", "TASK_DROPPED")


class ExpiringProtobuf(Expiring):
    form = PROTOBUF


class Partition(mesos.Case):
    options = {"agents": 1, "master": 'agent_ping_interval = "500ms"\nagent_ping_misses = 3'}

    def test_23_agent_lost(self):
        f = self.framework(capabilities=AWARE, checkpoint=True)
        o = f.offer()
        f.launch(o, f.task(o, "away", "sleep 1000"))
        f.status("away", "TASK_RUNNING")
        agent = self.cluster.agents()[0]
        agent.signal(19)  # STOP
        s = f.status("away", "TASK_UNREACHABLE", 20)
        self.assertIn("unreachable_time", s)
        self.assertEqual(s["reason"], "REASON_AGENT_REMOVED")
        self.assertNotIn("uuid", s)
        self.assertEqual(f.stream.wait("FAILURE", 5)["failure"], {"agent_id": o["agent_id"]})
        agent.signal(18)  # CONT
        f.status("away", "TASK_RUNNING", 30, lambda s: s.get("reason") == "REASON_AGENT_REREGISTERED")
        f.call("TEARDOWN")


class PartitionProtobuf(Partition):
    form = PROTOBUF


class Failover(mesos.Case):
    options = {"agents": 1}

    def test_24_master_restart(self):
        f = self.framework(capabilities=AWARE, checkpoint=True, failover_timeout=60)
        o = f.offer()
        f.launch(o, f.task(o, "through", "sleep 1000"))
        f.status("through", "TASK_RUNNING")
        master = self.cluster.master
        master.kill9()
        f.stream.wait_closed()
        master.start()
        self.cluster.wait_up(1)
        first = f.subscribe()
        self.assertEqual(first["subscribed"]["framework_id"]["value"], f.id)
        f.call("RECONCILE", reconcile={"tasks": [{"task_id": {"value": "through"}, "agent_id": o["agent_id"]}]})
        s = f.status("through", "TASK_RUNNING")
        self.assertEqual(s["agent_id"], o["agent_id"])
        self.assertEqual(f.offer()["agent_id"], o["agent_id"])
        f.call("TEARDOWN")

    def test_25_stopping_master_ends_streams(self):
        f = self.framework(failover_timeout=60)
        self.cluster.master.terminate()
        f.stream.wait_closed()
        self.cluster.master.start()
        self.cluster.wait_up(1)
        self.assertEqual(f.subscribe()["type"], "SUBSCRIBED")


class FailoverProtobuf(Failover):
    form = PROTOBUF


if __name__ == "__main__":
    mesos.main()
