#!/usr/bin/env python3
"""What operators change, over HTTP against real daemons: quota, weights, reservations, volumes, teardown, logging; the v1 API in JSON
and protobuf, and the older endpoints. Statuses and texts are those of the recorded answers (operator-writes.json, errors.json).
"""

import base64
import json
import os
import sys
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import mesos  # noqa: E402
from mesos import JSON, PROTOBUF, protobuf, request, scalar  # noqa: E402
from cluster import wait  # noqa: E402

ENG = {"role": "eng", "type": "DYNAMIC", "principal": "alice"}
REFINED = [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}, {"type": "PARTITION_AWARE"}]


def reserved(name, value, reservation=ENG, **fields):
    return scalar(name, value, reservations=[reservation], **fields)


def volume(size, name="vol1", path="data", reservation=ENG, **fields):
    return reserved("disk", size, reservation, disk={"persistence": {"id": name, "principal": reservation.get("principal", "")},
                                                     "volume": {"container_path": path, "mode": "RW"}}, **fields)


class Operators(mesos.Case):
    options = {"agents": 1}
    form = JSON

    def call(self, kind, expect=None, headers=None, **body):
        """The answer of a v1 call: decoded, or its text."""
        call = dict({"type": kind}, **body)
        data = json.dumps(call).encode() if self.form == JSON else protobuf().encode("gantry.fb.master.Call", call)
        status, headers, text = request(self.cluster.api_port, "POST", "/api/v1", data,
                                        dict({"Content-Type": self.form, "Accept": self.form}, **(headers or {})))
        if expect is not None:
            self.assertEqual(status, expect, text)
        if status in (200, 202) and not text:
            self.assertNotIn("content-type", headers)
            return ""
        if status != 200:
            return text.decode()
        return json.loads(text) if self.form == JSON else protobuf().decode("gantry.fb.master.Response", text)

    def legacy(self, method, path, body=None, expect=200, headers=None):
        if isinstance(body, dict) and method == "POST" and path != "/quota":
            body = urllib.parse.urlencode({k: v if isinstance(v, str) else json.dumps(v) for k, v in body.items()})
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
        elif body is not None and not isinstance(body, str):
            body = json.dumps(body)
        status, headers, text = request(self.cluster.api_port, method, path, body, headers or {})
        self.assertEqual(status, expect, text)
        return json.loads(text) if text[:1] in (b"{", b"[") else text.decode()

    def agent_id(self):
        return self.call("GET_AGENTS")["get_agents"]["agents"][0]["agent_info"]["id"]

    def in_eng(self, **options):
        return self.framework(roles=["eng"], capabilities=REFINED, principal="alice", failover_timeout=60.0, name="eng", **options)

    def slave(self):
        return self.legacy("GET", "/slaves")["slaves"][0]

    def clean(self):
        """Nothing is reserved any more, no quota."""
        agent = self.agent_id()
        for role, rs in self.slave()["reserved_resources_full"].items():
            volumes = [r for r in rs if "persistence" in r.get("disk", {})]
            if volumes:
                self.legacy("POST", "/destroy-volumes", {"slaveId": agent["value"], "volumes": volumes}, 202)
        for role, rs in self.slave()["reserved_resources_full"].items():
            self.legacy("POST", "/unreserve", {"slaveId": agent["value"], "resources": rs}, 202)
        for q in self.legacy("GET", "/quota").get("configs", []):
            self.legacy("DELETE", "/quota/" + q["role"])

    # ---- weights

    def test_weights(self):
        self.assertEqual(self.legacy("PUT", "/weights", [{"role": "eng", "weight": 2.0}]), "")
        wait(lambda: self.legacy("GET", "/weights") == [{"role": "eng", "weight": 2.0}], 10, "the weight")
        self.call("UPDATE_WEIGHTS", 200, update_weights={"weight_infos": [{"role": "a", "weight": 3.5}]})
        wait(lambda: self.call("GET_WEIGHTS")["get_weights"]["weight_infos"] ==
             [{"role": "a", "weight": 3.5}, {"role": "eng", "weight": 2.0}], 10, "both weights")
        text = "Failed to validate update weights request JSON for role 'r': Invalid weight '-1': Weights must be positive"
        self.assertEqual(self.call("UPDATE_WEIGHTS", 400, update_weights={"weight_infos": [{"role": "r", "weight": -1}]}), text)
        self.assertEqual(self.legacy("PUT", "/weights", [{"role": "r", "weight": -1}], 400), text)
        self.legacy("PUT", "/weights", "[", 400)
        self.legacy("POST", "/weights", "[]", 405)
        # They survive the master.
        self.cluster.master.kill9()
        self.cluster.master.start()
        self.cluster.wait_up(1)
        wait(lambda: self.legacy("GET", "/weights") == [{"role": "a", "weight": 3.5}, {"role": "eng", "weight": 2.0}], 20, "the weights")

    # ---- quota

    def test_quota(self):
        self.clean()
        self.assertEqual(self.legacy("GET", "/quota"), {})
        self.call("UPDATE_QUOTA", 200, update_quota={"quota_configs": [{"role": "eng", "limits": {"cpus": {"value": 0.5}}}]})
        want = {"infos": [{"role": "eng"}], "configs": [{"role": "eng", "limits": {"cpus": {"value": 0.5}}}]}
        wait(lambda: self.legacy("GET", "/quota") == want, 10, "the quota")
        self.assertEqual(self.call("GET_QUOTA")["get_quota"]["status"], want)
        f = self.in_eng()
        offer = f.offer()
        cpus = sum(r["scalar"]["value"] for r in offer["resources"] if r["name"] == "cpus")
        self.assertLessEqual(cpus, 0.5)
        f.launch(offer, f.task(offer, "t", "sleep 1000", cpus=0.5))
        f.status("t", "TASK_RUNNING")
        roles = wait(lambda: {r["name"]: r for r in self.legacy("GET", "/roles")["roles"]
                              if r["name"] == "eng" and r["allocated"]}, 10, "the role")
        self.assertEqual(roles["eng"]["quota"], {"role": "eng", "guarantee": {}, "limit": {"cpus": 0.5},
                                                 "consumed": {"cpus": 0.5, "mem": 32.0}})
        low = {"quota_configs": [{"role": "eng", "limits": {"cpus": {"value": 0.1}}}]}
        self.assertIn("consuming", self.call("UPDATE_QUOTA", 400, update_quota=low))
        self.call("UPDATE_QUOTA", 200, update_quota=dict(low, force=True))
        both = {"quota_configs": [{"role": "x", "limits": {"cpus": {"value": 1}}}, {"role": "r", "limits": {"cpus": {"value": -1}}}]}
        self.assertEqual(self.call("UPDATE_QUOTA", 400, update_quota=both),
                         "Invalid QuotaConfig: Invalid limit configuration {'cpus': -1}: Negative values not supported")
        wait(lambda: [c["role"] for c in self.legacy("GET", "/quota")["configs"]] == ["eng"], 10, "nothing of the other")
        f.call("TEARDOWN")
        # The older form, and none again.
        self.legacy("DELETE", "/quota/eng")
        self.legacy("POST", "/quota", {"role": "old", "guarantee": [scalar("cpus", 0.5)]})
        status = wait(lambda: [s for s in [self.legacy("GET", "/quota")] if s.get("infos")], 10, "the old quota")[0]
        self.assertEqual(status["infos"], [{"role": "old", "guarantee": [scalar("cpus", 0.5)]}])
        self.assertEqual(status["configs"][0]["limits"], {"cpus": {"value": 0.5}})
        self.legacy("POST", "/quota", {"role": "old", "guarantee": [scalar("cpus", 0.5)]}, 400)
        self.legacy("POST", "/quota", {"role": "big", "guarantee": [scalar("cpus", 50000)]}, 400)
        self.legacy("DELETE", "/quota/nobody", expect=400)
        self.call("REMOVE_QUOTA", 200, remove_quota={"role": "old"})
        wait(lambda: self.legacy("GET", "/quota") == {}, 10, "no quota")

    # ---- reservations

    def test_reservations(self):
        self.clean()
        agent = self.agent_id()
        f = self.framework(role="*", name="plain")
        offer = f.offer()
        ops = {"role": "ops", "type": "DYNAMIC", "principal": "p"}
        one = [reserved("cpus", 0.5, ops)]
        self.assertEqual(self.legacy("POST", "/reserve", {"slaveId": agent["value"], "resources": one}, 202), "")
        f.stream.wait("RESCIND", 10, lambda e: e["rescind"]["offer_id"] == offer["id"])
        wait(lambda: self.slave()["reserved_resources"].get("ops", {}).get("cpus") == 0.5, 10, "the reservation")
        full = self.slave()["reserved_resources_full"]["ops"]
        self.assertEqual(full, [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}, "role": "ops",
                                 "reservation": {"principal": "p"},
                                 "reservations": [{"type": "DYNAMIC", "role": "ops", "principal": "p"}]}])
        text = self.call("RESERVE_RESOURCES", 409, reserve_resources={"agent_id": agent, "resources": [reserved("cpus", 1000, ops)]})
        self.assertTrue(text.endswith("does not contain cpus:1000"), text)
        self.assertIn("cpus(reservations: [(DYNAMIC,ops,p)]):0.5", text)
        self.assertEqual(self.call("RESERVE_RESOURCES", 400, reserve_resources={"agent_id": {"value": "nope"}, "resources": one}),
                         "No agent found with specified ID")
        self.assertIn("Invalid RESERVE operation on agent " + agent["value"],
                      self.call("RESERVE_RESOURCES", 400, reserve_resources={"agent_id": agent, "resources": [scalar("cpus", 1)]}))
        # The old form of a reservation, and another role in one step.
        self.call("RESERVE_RESOURCES", 202, reserve_resources={
            "agent_id": agent, "source": one,
            "resources": [scalar("cpus", 0.5, role="dev", reservation={"principal": "p"})]})
        wait(lambda: sorted(self.slave()["reserved_resources"]) == ["dev"], 10, "the other role")
        dev = [reserved("cpus", 0.5, dict(ops, role="dev"))]
        self.call("UNRESERVE_RESOURCES", 202, unreserve_resources={"agent_id": agent, "resources": dev})
        wait(lambda: self.slave()["reserved_resources"] == {}, 10, "nothing reserved")
        self.call("UNRESERVE_RESOURCES", 409, unreserve_resources={"agent_id": agent, "resources": dev})
        for path, field in (("/reserve", "resources"), ("/create-volumes", "volumes")):
            self.assertEqual(self.legacy("POST", path, {field: "[]"}, 400), "Missing 'slaveId' query parameter in the request body")
            self.assertEqual(self.legacy("POST", path, {"slaveId": "x"}, 400),
                             "Missing '%s' query parameter in the request body" % field)
            self.assertIn("Error in parsing", self.legacy("POST", path, {"slaveId": "x", field: "[{]"}, 400))
            self.legacy("GET", path, expect=405)

    # ---- volumes

    def volume_directory(self, role, name):
        found = []
        for root, directories, _ in os.walk(self.cluster.dir):
            if root.endswith("/volumes/roles/" + role) and name in directories:
                found.append(os.path.join(root, name))
        return found[0] if found else None

    def test_volumes_of_operators(self):
        self.clean()
        agent = self.agent_id()
        self.legacy("POST", "/reserve", {"slaveId": agent["value"], "resources": [reserved("disk", 64)]}, 202)
        self.call("CREATE_VOLUMES", 202, create_volumes={"agent_id": agent, "volumes": [volume(32)]})
        wait(lambda: self.volume_directory("eng", "vol1"), 10, "the directory")
        self.assertIn("not unique", self.call("CREATE_VOLUMES", 400, create_volumes={"agent_id": agent, "volumes": [volume(32)]}))
        self.call("GROW_VOLUME", 202, grow_volume={"agent_id": agent, "volume": volume(32), "addition": reserved("disk", 16)})
        self.call("SHRINK_VOLUME", 202, shrink_volume={"agent_id": agent, "volume": volume(48), "subtract": {"value": 8}})
        wait(lambda: [r["scalar"]["value"] for r in self.slave()["reserved_resources_full"]["eng"] if "disk" in r] == [40.0], 10, "40 MiB")
        self.call("GROW_VOLUME", 409, grow_volume={"agent_id": agent, "volume": volume(40), "addition": reserved("disk", 1000000)})
        self.call("SHRINK_VOLUME", 400, shrink_volume={"agent_id": agent, "volume": volume(40), "subtract": {"value": 40}})
        self.call("UNRESERVE_RESOURCES", 400, unreserve_resources={"agent_id": agent, "resources": [volume(40)]})
        self.legacy("POST", "/destroy-volumes", {"slaveId": agent["value"], "volumes": [volume(40)]}, 202)
        wait(lambda: not self.volume_directory("eng", "vol1"), 10, "no directory")
        self.call("DESTROY_VOLUMES", 409, destroy_volumes={"agent_id": agent, "volumes": [volume(40)]})
        self.clean()

    def test_volumes_of_frameworks(self):
        self.clean()
        f = self.in_eng()
        agent = self.agent_id()
        offer = f.offer()
        f.accept(offer, [{"type": "RESERVE", "id": {"value": "op1"}, "reserve": {"resources": [reserved("disk", 64)]}},
                         {"type": "CREATE", "create": {"volumes": [volume(64)]}}])
        first = f.stream.wait("UPDATE_OPERATION_STATUS")["update_operation_status"]["status"]
        self.assertEqual({k: v for k, v in first.items() if k != "uuid"},
                         {"operation_id": {"value": "op1"}, "state": "OPERATION_FINISHED", "agent_id": agent})
        self.assertEqual(len(base64.b64decode(first["uuid"]["value"])), 16)
        operations = wait(lambda: self.call("GET_OPERATIONS")["get_operations"].get("operations"), 10, "the operation")
        self.assertEqual(operations[0]["latest_status"]["state"], "OPERATION_FINISHED")
        self.assertEqual(operations[0]["info"]["id"], {"value": "op1"})
        f.call("RECONCILE_OPERATIONS", reconcile_operations={"operations": [{"operation_id": {"value": "op1"}, "agent_id": agent}]})
        f.stream.wait("UPDATE_OPERATION_STATUS", count=2)
        f.call("ACKNOWLEDGE_OPERATION_STATUS", acknowledge_operation_status={
            "operation_id": {"value": "op1"}, "uuid": first["uuid"]["value"], "agent_id": agent})
        wait(lambda: self.call("GET_OPERATIONS")["get_operations"] == {}, 10, "no operation")

        has = lambda o: any(r.get("disk", {}).get("persistence", {}).get("id") == "vol1" for r in o["resources"])  # noqa: E731
        offer = f.offer(where=has)
        got = next(r for r in offer["resources"] if "disk" in r)
        self.assertEqual(got["reservations"], [dict(ENG)])
        self.assertNotIn("role", got)
        writer = f.task(offer, "writer", "echo x > data/f; sleep 1000")
        writer["resources"].append(volume(64))
        f.launch(offer, writer)
        f.status("writer", "TASK_RUNNING")
        offer = f.offer()
        f.accept(offer, [{"type": "DESTROY", "id": {"value": "op2"}, "destroy": {"volumes": [volume(64)]}}])
        refused = f.stream.wait("UPDATE_OPERATION_STATUS", where=lambda e: e["update_operation_status"]["status"]["operation_id"]["value"] == "op2")
        status = refused["update_operation_status"]["status"]
        self.assertEqual((status["state"], "uuid" in status), ("OPERATION_ERROR", False))
        self.assertTrue(status["message"].startswith("Persistent volumes in use; on agent " + agent["value"]), status)
        self.assertIn("Persistent volumes in use", self.call("DESTROY_VOLUMES", 400, destroy_volumes={"agent_id": agent, "volumes": [volume(64)]}))
        f.call("KILL", kill={"task_id": {"value": "writer"}})
        f.status("writer", "TASK_KILLED")

        # The data is there for the next task, also after agent and master were restarted.
        self.cluster.agents()[0].kill9()
        self.cluster.agents()[0].start()
        self.cluster.master.kill9()
        self.cluster.master.start()
        self.cluster.wait_up(1)
        wait(lambda: f.subscribe()["type"] == "SUBSCRIBED", 20, "the framework back")
        offer = f.offer(where=has)
        reader = f.task(offer, "reader", "cat other/f | grep -q x")
        reader["resources"].append(volume(64, path="other"))
        f.launch(offer, reader)
        f.status("reader", "TASK_FINISHED")
        offer = f.offer(where=has)
        f.accept(offer, [{"type": "DESTROY", "destroy": {"volumes": [volume(64)]}},
                         {"type": "UNRESERVE", "id": {"value": "op3"}, "unreserve": {"resources": [reserved("disk", 64)]}}])
        done = f.stream.wait("UPDATE_OPERATION_STATUS", where=lambda e: e["update_operation_status"]["status"]["operation_id"]["value"] == "op3")
        self.assertEqual(done["update_operation_status"]["status"]["state"], "OPERATION_FINISHED")
        wait(lambda: not self.volume_directory("eng", "vol1"), 10, "no directory")
        wait(lambda: self.slave()["reserved_resources"] == {}, 10, "nothing reserved")
        f.call("TEARDOWN")

    # ---- the rest

    def test_teardown(self):
        f = self.framework(name="goes")
        self.assertEqual(self.legacy("POST", "/teardown", {"frameworkId": f.id}), "")
        f.stream.wait_closed()
        self.assertEqual(self.legacy("POST", "/teardown", {"frameworkId": "nope"}, 400), "No framework found with specified ID")
        self.assertEqual(self.legacy("POST", "/teardown", {}, 400), "Missing 'frameworkId' query parameter in the request body")
        g = self.framework(name="goes, too")
        self.call("TEARDOWN", 200, teardown={"framework_id": {"value": g.id}})
        self.call("TEARDOWN", 400, teardown={"framework_id": {"value": g.id}})

    def test_logging(self):
        self.call("SET_LOGGING_LEVEL", 200, set_logging_level={"level": 1, "duration": {"nanoseconds": 2 * 10 ** 9}})
        self.assertEqual(self.call("GET_LOGGING_LEVEL")["get_logging_level"]["level"], 1)
        wait(lambda: self.call("GET_LOGGING_LEVEL")["get_logging_level"]["level"] == 0, 10, "the level as before")
        self.legacy("POST", "/logging/toggle?level=1&duration=1secs")
        self.legacy("POST", "/logging/toggle?level=1", expect=400)
        self.legacy("POST", "/logging/toggle?level=1&duration=soon", expect=400)

    def test_what_is_not_a_call(self):
        self.call("RESERVE_RESOURCES", 400)
        self.call("UPDATE_QUOTA", 400)
        status, _, text = request(self.cluster.api_port, "POST", "/api/v1", json.dumps({"type": "GET_NOTHING"}), {"Content-Type": JSON})
        self.assertEqual((status, text), (400, b"Failed to validate master::Call: Expecting 'type' to be present"))


class InProtobuf(Operators):
    form = PROTOBUF


if __name__ == "__main__":
    mesos.main()
