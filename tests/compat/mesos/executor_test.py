#!/usr/bin/env python3
"""Custom executors against real daemons: the executor API, what agents do for executors and tell of them (mesos-kernel.md B4, B6, B7;
scenarios 20 to 22, 45 and 46 of section E), in JSON and in protobuf."""

import base64
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from mesos import JSON, PROTOBUF, request, scalar  # noqa: E402
from cluster import alive, free_port, holds, wait  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
AWARE = [{"type": "PARTITION_AWARE"}]


def b64(text):
    return base64.b64encode(text.encode()).decode()


class ExecutorCase(mesos.Case):
    options = {"agents": 1}

    @property
    def port(self):
        return self.cluster.agent_ports[1]

    def executor(self, name="x", program="", cpus=0.1, mem=64, **fields):
        mode = " protobuf" if self.form == PROTOBUF else ""
        line = "exec /usr/bin/python3 -B %s/executor.py%s%s" % (HERE, mode, " " + program if program else "")
        return dict({"type": "CUSTOM", "executor_id": {"value": name}, "command": {"shell": True, "value": line},
                     "resources": [scalar("cpus", cpus), scalar("mem", mem)]}, **fields)

    def task(self, f, offer, name, executor, data=None, **fields):
        t = f.task(offer, name, **fields)
        del t["command"]
        t["executor"] = executor
        if data:
            t["data"] = b64(data)
        return t

    def launch(self, f, executor, *names, data=None):
        offer = f.offer(where=lambda o: any(r["name"] == "cpus" for r in o["resources"]))
        f.launch(offer, *[self.task(f, offer, n, executor, data) for n in names])
        return offer

    def sandbox(self, f, name="x"):
        agent = self.cluster.daemons["agent-1"]
        root = os.path.join(agent.work, "slaves")
        for slave in os.listdir(root):
            path = os.path.join(root, slave, "frameworks", f.id, "executors", name, "runs", "latest")
            if os.path.isdir(path):
                return path
        return None

    def seen(self, f, kind, name="x", **more):
        path = os.path.join(self.sandbox(f, name) or "/nowhere", "events")
        if not os.path.exists(path):
            return []
        with open(path) as file:
            lines = [json.loads(line) for line in file.read().splitlines() if line.strip()]
        if kind == "called":
            return [s for s in lines if "called" in s and all(s.get(k) == v for k, v in more.items())]
        return [s["event"] for s in lines if s.get("event", {}).get("type") == kind]

    def tell(self, f, text, name="x"):
        agent = f.stream.of("OFFERS")[0]["offers"]["offers"][0]["agent_id"]
        f.call("MESSAGE", message={"agent_id": agent, "executor_id": {"value": name}, "data": b64(text)})

    def post(self, call, path="/api/v1/executor", form=JSON, headers=None):
        h = {"Content-Type": form}
        h.update(headers or {})
        status, answered, body = request(self.port, "POST", path, json.dumps(call), h)
        return status, body.decode(), answered

    def operate(self, kind, **body):
        status, headers, text = request(self.port, "POST", "/api/v1", json.dumps(dict({"type": kind}, **body)),
                                        {"Content-Type": JSON, "Accept": JSON})
        self.assertEqual(status, 200, text)
        answer = json.loads(text)
        self.assertEqual(answer["type"], kind)
        return answer[kind.lower()]


class Conversation(ExecutorCase):
    def test_20_environment_and_conversation(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        offer = self.launch(f, self.executor(), "c1")
        running = f.status("c1", "TASK_RUNNING")
        self.assertEqual((running["source"], base64.b64decode(running["data"])), ("SOURCE_EXECUTOR", b"hi"))
        self.assertEqual(running["agent_id"], offer["agent_id"])
        self.assertIn("container_id", running["container_status"])
        box = self.sandbox(f)
        with open(os.path.join(box, "environment")) as file:
            env = {k: v for k, v in json.load(file).items() if k.startswith(("MESOS_", "LIBPROCESS_"))}
        real = os.path.realpath(box)
        endpoint = "127.0.0.1:%d" % self.port
        self.assertEqual(env, {
            "LIBPROCESS_IP": "127.0.0.1", "LIBPROCESS_PORT": "0", "MESOS_AGENT_ENDPOINT": endpoint, "MESOS_CHECKPOINT": "0",
            "MESOS_DIRECTORY": real, "MESOS_EXECUTOR_ID": "x", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
            "MESOS_FRAMEWORK_ID": f.id, "MESOS_HTTP_COMMAND_EXECUTOR": "0", "MESOS_SANDBOX": real,
            "MESOS_SLAVE_ID": offer["agent_id"]["value"], "MESOS_SLAVE_PID": "slave(1)@" + endpoint})
        opened = self.seen(f, "called", called="SUBSCRIBE")[0]
        self.assertEqual((opened["status"], opened["type"], opened["encoding"]), (200, self.form, "chunked"))
        subscribed = self.seen(f, "SUBSCRIBED")[0]["subscribed"]
        self.assertEqual(set(subscribed), {"executor_info", "framework_info", "agent_info", "container_id"})
        self.assertEqual(subscribed["container_id"], running["container_status"]["container_id"])
        self.assertEqual(subscribed["framework_info"]["id"]["value"], f.id)
        self.assertEqual(subscribed["executor_info"]["framework_id"]["value"], f.id)
        launch = self.seen(f, "LAUNCH")[0]["launch"]["task"]
        self.assertEqual((launch["task_id"]["value"], launch["executor"]["executor_id"]["value"]), ("c1", "x"))
        acknowledged = wait(lambda: self.seen(f, "ACKNOWLEDGED"), 10, "ACKNOWLEDGED")[0]["acknowledged"]
        self.assertEqual(acknowledged, {"task_id": {"value": "c1"}, "uuid": running["uuid"]})
        self.assertEqual({(c["called"], c["status"], c["text"]) for c in self.seen(f, "called") if c["called"] != "SUBSCRIBE"},
                         {("UPDATE", 202, "")})

        self.tell(f, "ping")
        message = f.stream.wait("MESSAGE")["message"]
        self.assertEqual((message["executor_id"]["value"], base64.b64decode(message["data"])), ("x", b"echo ping"))
        self.assertEqual(message["agent_id"], offer["agent_id"])

        # An update that comes twice is told once, and acknowledged twice.
        self.tell(f, "again c1")
        wait(lambda: len(self.seen(f, "ACKNOWLEDGED")) == 2, 10, "the second ACKNOWLEDGED")
        self.assertEqual(len([e for e in f.stream.of("UPDATE") if e["update"]["status"]["state"] == "TASK_RUNNING"]), 1)

        f.call("KILL", kill={"task_id": {"value": "c1"}, "agent_id": offer["agent_id"], "kill_policy": {"grace_period": {"nanoseconds": 7}}})
        f.status("c1", "TASK_KILLED")
        self.assertEqual(self.seen(f, "KILL")[0]["kill"], {"task_id": {"value": "c1"}, "kill_policy": {"grace_period": {"nanoseconds": 7}}})

        f.call("SHUTDOWN", shutdown={"executor_id": {"value": "x"}, "agent_id": offer["agent_id"]})
        failure = f.stream.wait("FAILURE")["failure"]
        self.assertEqual(failure, {"agent_id": offer["agent_id"], "executor_id": {"value": "x"}, "status": 0})
        self.assertTrue(self.seen(f, "SHUTDOWN"))

    def test_20_several_tasks_share_one_executor(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        self.launch(f, self.executor(cpus=0.5), "s1", "s2")
        first, second = f.status("s1", "TASK_RUNNING"), f.status("s2", "TASK_RUNNING")
        self.assertEqual(first["container_status"]["container_id"], second["container_status"]["container_id"])
        self.assertEqual([e["launch"]["task"]["task_id"]["value"] for e in self.seen(f, "LAUNCH")], ["s1", "s2"])
        offer = f.offer(where=lambda o: "executor_ids" in o)
        self.assertEqual(offer["executor_ids"], [{"value": "x"}])
        cpus = sum(r["scalar"]["value"] for r in offer["resources"] if r["name"] == "cpus")
        self.assertAlmostEqual(cpus, 4 - 0.5 - 0.2)
        f.launch(offer, self.task(f, offer, "s3", self.executor(cpus=0.5)))
        third = f.status("s3", "TASK_RUNNING")
        self.assertEqual(first["container_status"]["container_id"], third["container_status"]["container_id"])
        state = json.loads(request(self.cluster.api_port, "GET", "/state")[2])
        mine = [x for x in state["frameworks"] if x["id"] == f.id][0]
        self.assertEqual([e["executor_id"] for e in mine["executors"]], ["x"])
        self.assertAlmostEqual(mine["used_resources"]["cpus"], 0.8)
        # Other information under the same id is refused.
        offer = f.offer(where=lambda o: "executor_ids" in o)
        f.launch(offer, self.task(f, offer, "s4", self.executor(cpus=0.6)))
        error = f.status("s4", "TASK_ERROR")
        self.assertEqual(error["reason"], "REASON_TASK_INVALID")
        self.assertIn("not compatible with existing ExecutorInfo", error["message"])
        self.tell(f, "finish s2")
        f.status("s2", "TASK_FINISHED")
        self.tell(f, "fail s3")
        self.assertEqual(f.status("s3", "TASK_FAILED")["message"], "as told")
        f.call("TEARDOWN")
        wait(lambda: not self.operate("GET_EXECUTORS")["executors"], 15, "the executor being gone")

    def test_20_invalid_executors(self):
        f = self.framework(capabilities=AWARE)
        for n, (change, sentence) in enumerate([
                ({"executor_id": {"value": "a/b"}}, "Executor ID is invalid"),
                ({"framework_id": {"value": "other"}}, "ExecutorInfo has an invalid FrameworkID (Actual: other vs Expected: %s)" % f.id),
                ({"type": "DEFAULT"}, "'ExecutorInfo.type' must be 'CUSTOM'"),
                ({"shutdown_grace_period": {"nanoseconds": -1}}, "'shutdown_grace_period' must be non-negative")]):
            offer = f.offer()
            f.launch(offer, self.task(f, offer, "bad-%d" % n, dict(self.executor(), **change)))
            error = f.status("bad-%d" % n, "TASK_ERROR")
            self.assertEqual((error["reason"], error["source"]), ("REASON_TASK_INVALID", "SOURCE_MASTER"))
            self.assertIn(sentence, error["message"])

    def test_21_crash_with_two_tasks(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        offer = self.launch(f, self.executor(), "k1", "k2")
        f.status("k1", "TASK_RUNNING"), f.status("k2", "TASK_RUNNING")
        self.tell(f, "exit 7")
        for name in ("k1", "k2"):
            failed = f.status(name, "TASK_FAILED")
            self.assertEqual((failed["reason"], failed["source"]), ("REASON_EXECUTOR_TERMINATED", "SOURCE_AGENT"))
            self.assertIn("uuid", failed)
        self.assertEqual(f.stream.wait("FAILURE")["failure"],
                         {"agent_id": offer["agent_id"], "executor_id": {"value": "x"}, "status": 7 << 8})
        # What it held is free again.
        wait(lambda: json.loads(request(self.cluster.api_port, "GET", "/state")[2])["slaves"][0]["used_resources"]["cpus"] == 0, 10, "nothing being used")

    def test_21_a_stubborn_executor_is_killed_after_its_grace(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        offer = self.launch(f, self.executor(program="stubborn", shutdown_grace_period={"nanoseconds": 300000000}), "g1")
        f.status("g1", "TASK_RUNNING")
        f.call("SHUTDOWN", shutdown={"executor_id": {"value": "x"}, "agent_id": offer["agent_id"]})
        self.assertEqual(f.status("g1", "TASK_FAILED")["reason"], "REASON_EXECUTOR_TERMINATED")
        self.assertEqual(f.stream.wait("FAILURE")["failure"]["status"], 9)

    def test_20_refused_calls(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        silent = dict(self.executor("silent"), command={"shell": True, "value": "sleep 1000"})
        offer = self.launch(f, silent, "q1")
        wait(lambda: self.operate("GET_TASKS")["queued_tasks"], 10, "a queued task")

        def call(kind, executor="silent", framework=f.id, **body):
            return dict({"type": kind, "executor_id": {"value": executor}, "framework_id": {"value": framework}}, **body)
        status = {"task_id": {"value": "q1"}, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR", "uuid": b64("0" * 16)}
        good = {"status": status}
        v = "Failed to validate Executor::Call: "
        for body, expected in [
                (call("SUBSCRIBE", framework="y", subscribe={}), (400, "Framework cannot be found")),
                (call("SUBSCRIBE", executor="y", subscribe={}), (400, "Executor cannot be found")),
                (call("UPDATE", update=good), (403, "Executor is not subscribed")),
                (call("MESSAGE", message={"data": ""}), (403, "Executor is not subscribed")),
                (call("HEARTBEAT", framework="nobody"), (202, "")),
                (call("NOPE"), (400, v + "Expecting 'type' to be present")),
                (call("SUBSCRIBE"), (400, v + "Expecting 'subscribe' to be present")),
                (call("UPDATE"), (400, v + "Expecting 'update' to be present")),
                (call("UPDATE", update={"status": dict(status, uuid="AAAA")}), (400, v + "Not a valid UUID")),
                (call("UPDATE", update={"status": dict(status, source="SOURCE_MASTER")}),
                 (400, v + "Received Call from executor silent of framework %s with invalid source, expecting 'SOURCE_EXECUTOR'" % f.id)),
                (call("UPDATE", update={"status": dict(status, state="TASK_STAGING")}),
                 (400, v + "Received TASK_STAGING from executor silent of framework %s which is not allowed" % f.id))]:
            self.assertEqual(self.post(body)[:2], expected, body)
        self.assertEqual(request(self.port, "GET", "/api/v1/executor")[0], 405)
        self.assertEqual(self.post(call("SUBSCRIBE", subscribe={}), headers={"Accept": "image/png"})[0], 406)
        self.assertEqual(self.post(call("SUBSCRIBE", subscribe={}), form="text/plain")[0], 415)
        # Killed before it was delivered: the executor, left with nothing, goes too.
        f.call("KILL", kill={"task_id": {"value": "q1"}, "agent_id": offer["agent_id"]})
        self.assertEqual(f.status("q1", "TASK_KILLED")["reason"], "REASON_TASK_KILLED_DURING_LAUNCH")
        f.stream.wait("FAILURE")


class ConversationProtobuf(Conversation):
    form = PROTOBUF


class Timeouts(ExecutorCase):
    options = {"agents": 1, "agent": 'executor_registration_timeout = "1s"\nexecutor_reregistration_timeout = "2s"\n'}

    def test_21_never_subscribes(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        silent = dict(self.executor("silent"), command={"shell": True, "value": "sleep 1000"})
        self.launch(f, silent, "n1")
        failed = f.status("n1", "TASK_FAILED")
        self.assertEqual((failed["reason"], failed["message"]),
                         ("REASON_EXECUTOR_REGISTRATION_TIMEOUT", "Executor did not register within 1secs"))
        f.stream.wait("FAILURE")

    def test_22_agent_is_killed_and_comes_back(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0, checkpoint=True)
        self.launch(f, self.executor("r"), "r1", "r2")
        one = f.status("r1", "TASK_RUNNING")
        f.status("r2", "TASK_RUNNING")
        agent = self.cluster.daemons["agent-1"]
        agent.kill9()
        agent.start()
        self.cluster.wait_up(1)
        wait(lambda: len(self.seen(f, "SUBSCRIBED", "r")) == 2, 20, "the executor coming back")
        f.call("RECONCILE", reconcile={"tasks": [{"task_id": {"value": "r1"}}]})
        again = f.status("r1", "TASK_RUNNING", where=lambda s: s.get("reason") == "REASON_RECONCILIATION")
        self.assertEqual(again["container_status"]["container_id"], one["container_status"]["container_id"])
        self.tell(f, "finish r1", "r")
        f.status("r1", "TASK_FINISHED")
        self.assertFalse([e for e in f.stream.of("UPDATE") if e["update"]["status"]["state"] in ("TASK_LOST", "TASK_DROPPED", "TASK_FAILED", "TASK_GONE")])
        # An executor that dies while the agent is away: its tasks fail, once.
        pid = self.operate("GET_CONTAINERS")["containers"][0]["container_status"]["executor_pid"]
        agent.kill9()
        os.kill(pid, 9)
        wait(lambda: not alive(pid), 10, "the executor's end")
        agent.start()
        self.cluster.wait_up(1)
        self.assertEqual(f.status("r2", "TASK_FAILED")["reason"], "REASON_EXECUTOR_TERMINATED")

    def test_22_without_checkpointing(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        self.launch(f, self.executor("u"), "u1")
        f.status("u1", "TASK_RUNNING")
        agent = self.cluster.daemons["agent-1"]
        pid = self.operate("GET_CONTAINERS")["containers"][0]["container_status"]["executor_pid"]
        agent.kill9()
        f.stream.wait("UPDATE", 20, lambda e: e["update"]["status"]["state"] in ("TASK_LOST", "TASK_GONE"))
        agent.start()
        self.cluster.wait_up(1)
        wait(lambda: not alive(pid), 20, "the executor's end")


class TimeoutsProtobuf(Timeouts):
    form = PROTOBUF


class Tokens(ExecutorCase):
    options = {"agents": 1, "agent_gateway": "authenticate_executors = true\n"}

    def test_46_each_executor_speaks_for_itself(self):
        f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        offer = f.offer()
        f.launch(offer, self.task(f, offer, "t1", self.executor("a")), self.task(f, offer, "t2", self.executor("b")))
        f.status("t1", "TASK_RUNNING"), f.status("t2", "TASK_RUNNING")
        tokens = {}
        for name in ("a", "b"):
            with open(os.path.join(self.sandbox(f, name), "environment")) as file:
                tokens[name] = json.load(file)["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"]
        self.assertNotEqual(tokens["a"], tokens["b"])

        def message(token):
            return self.post({"type": "MESSAGE", "executor_id": {"value": "a"}, "framework_id": {"value": f.id}, "message": {"data": "aGk="}},
                             headers={"Authorization": "Bearer " + token} if token else {})
        self.assertEqual(message(tokens["a"])[0], 202)
        self.assertEqual(message(tokens["b"])[0], 403)
        for wrong in (None, "nonsense"):
            status, _, headers = message(wrong)
            self.assertEqual(status, 401)
            self.assertEqual(headers["www-authenticate"], 'Bearer realm="mesos-agent-executor"')


class TokensProtobuf(Tokens):
    form = PROTOBUF


class Reads(ExecutorCase):
    def setUp(self):
        wait(lambda: not json.loads(request(self.port, "GET", "/containers")[2]), 20, "nothing running")
        self.f = self.framework(capabilities=AWARE, failover_timeout=60.0)
        self.addCleanup(lambda: self.f.call("TEARDOWN"))
        offer = self.f.offer()
        self.f.launch(offer, self.task(self.f, offer, "with", self.executor("x")), self.f.task(offer, "plain", "echo hello; sleep 1000"),
                      self.f.task(offer, "over", "echo done"))
        self.f.status("with", "TASK_RUNNING"), self.f.status("plain", "TASK_RUNNING"), self.f.status("over", "TASK_FINISHED")

    def get(self, path):
        status, headers, body = request(self.port, "GET", path)
        self.assertEqual((status, headers["content-type"]), (200, JSON), body)
        return json.loads(body)

    def test_operator_api(self):
        self.assertEqual(self.operate("GET_HEALTH"), {"healthy": True})
        self.assertRegex(self.operate("GET_VERSION")["version_info"]["version"], r"^\d+\.\d+\.\d+$")
        self.assertIn("work_dir", [x["name"] for x in self.operate("GET_FLAGS")["flags"]])
        self.assertEqual(self.operate("GET_LOGGING_LEVEL"), {"level": 0})
        self.assertIn("slave/tasks_running", [x["name"] for x in self.operate("GET_METRICS", get_metrics={})["metrics"]])
        self.assertEqual(self.operate("GET_OPERATIONS"), {})
        self.assertEqual(self.operate("GET_RESOURCE_PROVIDERS"), {})
        info = self.operate("GET_AGENT")["agent_info"]
        self.assertEqual((info["hostname"], info["port"]), ("127.0.0.1", self.port))
        state = self.operate("GET_STATE")
        self.assertEqual({t["name"] for t in state["get_tasks"]["launched_tasks"]}, {"with", "plain"})
        wait(lambda: [t["name"] for t in self.operate("GET_TASKS")["completed_tasks"] if t["framework_id"]["value"] == self.f.id] == ["over"], 10,
             "the completed task")
        self.assertEqual({e["executor_info"]["executor_id"]["value"] for e in state["get_executors"]["executors"]}, {"x", "plain"})
        self.assertEqual([x["framework_info"]["id"]["value"] for x in state["get_frameworks"]["frameworks"]].count(self.f.id), 1)
        containers = self.operate("GET_CONTAINERS")["containers"]
        self.assertEqual({c["executor_id"]["value"] for c in containers}, {"x", "plain"})
        for c in containers:
            self.assertIn("timestamp", c["resource_statistics"])
            self.assertTrue(alive(c["container_status"]["executor_pid"]))
        for kind, body, status, text in [
                ("WAIT_CONTAINER", {"container_id": {"value": "nope"}}, 404, "Container nope cannot be found"),
                ("KILL_CONTAINER", {"container_id": {"value": "nope"}}, 404, "Container 'nope' cannot be found (or is already killed)")]:
            got = self.post({"type": kind, kind.lower(): body}, "/api/v1")
            self.assertEqual(got[:2], (status, text))
        for kind, body in [("GET_STATE", {}), ("GET_CONTAINERS", {})]:
            data = mesos.protobuf().encode("gantry.fb.agent.Call", dict({"type": kind}, **body))
            status, headers, answer = request(self.port, "POST", "/slave(1)/api/v1", data, {"Content-Type": PROTOBUF, "Accept": PROTOBUF})
            self.assertEqual((status, headers["content-type"]), (200, PROTOBUF))
            self.assertEqual(mesos.protobuf().decode("gantry.fb.agent.Response", answer)["type"], kind)

    def test_42_json_and_protobuf_agree(self):
        def plain(v):  # empty lists and messages are not on the protobuf wire
            if isinstance(v, dict):
                return {k: plain(x) for k, x in v.items() if x not in ([], {}) and plain(x) not in ([], {})}
            return [plain(x) for x in v] if isinstance(v, list) else round(v, 3) if isinstance(v, float) else v
        for kind in ("GET_HEALTH", "GET_VERSION", "GET_FLAGS", "GET_LOGGING_LEVEL", "GET_STATE", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_TASKS",
                     "GET_AGENT", "GET_OPERATIONS", "GET_RESOURCE_PROVIDERS"):
            with self.subTest(kind):
                data = mesos.protobuf().encode("gantry.fb.agent.Call", {"type": kind})

                def both():
                    status, _, answer = request(self.port, "POST", "/api/v1", data, {"Content-Type": PROTOBUF, "Accept": PROTOBUF})
                    self.assertEqual(status, 200, answer)
                    decoded = mesos.protobuf().with_defaults("gantry.fb.agent.Response", mesos.protobuf().decode("gantry.fb.agent.Response", answer))
                    status, _, answer = request(self.port, "POST", "/api/v1", json.dumps({"type": kind}), {"Content-Type": JSON, "Accept": JSON})
                    return plain(json.loads(answer)), plain(decoded)
                of_json, of_protobuf = both()
                self.assertEqual(of_json, of_protobuf)

    def test_legacy(self):
        state = self.get("/slave(1)/state")
        self.assertEqual(state["pid"], "slave(1)@127.0.0.1:%d" % self.port)
        mine = [x for x in state["frameworks"] if x["id"] == self.f.id][0]
        by_id = {e["id"]: e for e in mine["executors"]}
        self.assertEqual(set(by_id), {"x", "plain"})
        self.assertEqual([t["id"] for t in by_id["x"]["tasks"]], ["with"])
        self.assertAlmostEqual(by_id["x"]["resources"]["cpus"], 0.2)
        self.assertEqual(by_id["plain"]["name"], "Command Executor (Task: plain) (Command: sh -c 'echo hello; sleep 1000')")
        for e in by_id.values():
            self.assertTrue(os.path.isdir(e["directory"]), e["directory"])
            self.assertTrue(e["directory"].endswith(e["container"]))
        self.assertIn("over", [e["id"] for e in mine["completed_executors"]])
        self.assertEqual({c["executor_id"] for c in self.get("/containers")}, {"x", "plain"})
        for row in self.get("/monitor/statistics"):
            self.assertEqual(set(row), {"executor_id", "executor_name", "framework_id", "source", "statistics"})
        self.assertEqual(request(self.port, "GET", "/health")[0], 200)
        self.assertIn("version", self.get("/version"))
        self.assertIn("work_dir", self.get("/flags")["flags"])
        metrics = self.get("/metrics/snapshot")
        self.assertEqual(metrics["slave/tasks_running"], 2)
        self.assertEqual(metrics["slave/registered"], 1)
        self.assertGreater(metrics["slave/cpus_used"], 0.29)
        status, _, body = request(self.port, "GET", "/nosuch")
        self.assertEqual((status, body), (404, b"404 Not Found."))

    def test_45_files(self):
        mine = [x for x in self.get("/state")["frameworks"] if x["id"] == self.f.id][0]
        box = [e for e in mine["executors"] if e["id"] == "plain"][0]["directory"]
        listed = self.get("/files/browse?path=" + box)
        self.assertEqual([os.path.basename(x["path"]) for x in listed], ["stderr", "stdout"])
        self.assertEqual(set(listed[0]), {"gid", "mode", "mtime", "nlink", "path", "size", "uid"})
        self.assertRegex(listed[0]["mode"], "^-rw")
        virtual = "/frameworks/%s/executors/plain/runs/latest" % self.f.id
        self.assertEqual([x["path"] for x in self.get("/files/browse?path=" + virtual)], [virtual + "/stderr", virtual + "/stdout"])
        for path in (box + "/stdout", virtual + "/stdout"):
            self.assertEqual(self.get("/files/read?path=" + path), {"data": "", "offset": 6})
            self.assertEqual(self.get("/files/read?offset=-1&path=" + path), {"data": "", "offset": 6})
            self.assertEqual(self.get("/files/read?offset=0&path=" + path), {"data": "hello\n", "offset": 0})
            self.assertEqual(self.get("/files/read?offset=2&length=2&path=" + path), {"data": "ll", "offset": 2})
            status, headers, body = request(self.port, "GET", "/files/download?path=" + path)
            self.assertEqual((status, body, headers["content-disposition"]), (200, b"hello\n", "attachment; filename=stdout"))
        self.assertEqual(request(self.port, "GET", "/files/read?path=/nosuch")[0], 404)
        self.assertEqual(request(self.port, "GET", "/files/read?path=/etc/passwd")[0], 404)
        self.assertIn(request(self.port, "GET", "/files/read?path=%s/../../../../../../../../../../etc/passwd" % box)[0], (403, 404))
        self.assertEqual(request(self.port, "GET", "/files/download?path=" + box)[0], 400)
        big = os.path.join(box, "big")
        with open(big, "wb") as file:
            file.write(b"x" * 3000000)
        self.assertEqual(len(self.get("/files/read?offset=0&length=1000000&path=" + big)["data"]), 65536)
        self.assertEqual(len(request(self.port, "GET", "/files/download?path=" + big)[2]), 3000000)
        infos = self.operate("LIST_FILES", list_files={"path": box})["file_infos"]
        self.assertIn(box + "/stdout", [x["path"] for x in infos])
        data = self.operate("READ_FILE", read_file={"path": box + "/stdout", "offset": 1, "length": 3})
        self.assertEqual((base64.b64decode(data["data"]), data["size"]), (b"ell", 6))
        self.assertIn(virtual, self.get("/files/debug"))


if __name__ == "__main__":
    mesos.main()
