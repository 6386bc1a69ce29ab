#!/usr/bin/env python3
"""Availability of agents, and what frameworks ask of offers, against real daemons: mesos-kernel.md section E 15, 33, 38, 39, 40.
In JSON and in protobuf."""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from mesos import JSON, PROTOBUF, Stream, one_call, protobuf, request  # noqa: E402
from cluster import holds, main_pid, wait  # noqa: E402

AWARE = [{"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}]
FAR = 4_000_000_000_000_000_000


class Operated(mesos.Case):
    """With an operator's tongue."""

    def setUp(self):
        # The gateway sees the cluster a moment after its master leads.
        wait(lambda: request(self.cluster.api_port, "GET", "/state")[0] == 200, 10, "reads")

    def operate(self, call, expect=200):
        body = json.dumps(call).encode() if self.form == JSON else protobuf().encode("gantry.fb.master.Call", call)
        status, headers, text = request(self.cluster.api_port, "POST", "/api/v1", body, {"Content-Type": self.form, "Accept": self.form})
        self.assertEqual(status, expect, text)
        if status != 200:
            return text.decode()
        if not text:
            self.assertEqual(headers.get("content-length"), "0")
            self.assertNotIn("content-type", headers)
            return None
        self.assertEqual(headers["content-type"], self.form)
        return json.loads(text) if self.form == JSON else protobuf().decode("gantry.fb.master.Response", text)

    def on_agent(self, kind, agent, expect=200, **fields):
        return self.operate({"type": kind, kind.lower(): dict({"agent_id": {"value": agent}}, **fields)}, expect)

    def agents(self):
        return self.operate({"type": "GET_AGENTS"})["get_agents"].get("agents", [])

    def agent(self, agent_id):
        found = [a for a in self.agents() if a["agent_info"]["id"]["value"] == agent_id]
        return found[0] if found else None

    def get(self, path):
        status, headers, body = request(self.cluster.api_port, "GET", path)
        self.assertEqual(status, 200, body)
        self.assertEqual(headers["content-type"], JSON)
        return json.loads(body)

    def post(self, path, body):
        status, _, text = request(self.cluster.api_port, "POST", path, json.dumps(body), {"Content-Type": JSON})
        return status, text.decode()


class Draining(Operated):
    options = {"agents": 2, "gateway": 'heartbeat_interval = "1s"'}

    def test_38_drain(self):
        f = self.framework(capabilities=AWARE, checkpoint=True, failover_timeout=60)
        o = f.offer()
        agent = o["agent_id"]["value"]
        # One that ignores SIGTERM and would get a minute: the operator gives it a second.
        f.launch(o, f.task(o, "stubborn", "trap '' TERM; while :; do sleep 0.1; done", kill_policy={"grace_period": {"nanoseconds": 60 * 10**9}}))
        f.status("stubborn", "TASK_RUNNING")
        self.assertEqual(self.on_agent("DRAIN_AGENT", "nope", 400), "Unknown agent")
        begin = time.monotonic()
        self.on_agent("DRAIN_AGENT", agent, max_grace_period={"seconds": 1})
        row = self.agent(agent)
        self.assertEqual((row["active"], row["deactivated"]), (False, True))
        self.assertEqual(row["drain_info"], {"state": "DRAINING", "config": {"max_grace_period": {"nanoseconds": 10**9}, "mark_gone": False}})
        self.assertEqual(row["estimated_drain_start_time"]["nanoseconds"] % 10**9, 0)
        self.assertEqual(self.on_agent("REACTIVATE_AGENT", agent, 400), "Agent is still in the DRAINING state")
        for state in ("TASK_KILLING", "TASK_KILLED"):
            s = f.status("stubborn", state)
            self.assertEqual(s["reason"], "REASON_AGENT_DRAINING")
            self.assertIn("uuid", s)
        self.assertLess(time.monotonic() - begin, 20)
        wait(lambda: self.agent(agent)["drain_info"]["state"] == "DRAINED", 20, "the agent drained")
        before = len(f.stream.of("OFFERS"))
        f.call("REVIVE")
        holds(lambda: not [x for e in f.stream.of("OFFERS")[before:] for x in e["offers"]["offers"]
                           if x["agent_id"]["value"] == agent], 2, "no offers of a drained agent")
        slave = [s for s in self.get("/slaves")["slaves"] if s["id"] == agent][0]
        self.assertEqual((slave["active"], slave["deactivated"], slave["drain_info"]["state"]), (False, True, "DRAINED"))
        # A master that takes over knows.
        self.cluster.master.kill9()
        self.cluster.master.start()
        self.cluster.wait_up(1)
        self.setUp()
        wait(lambda: (self.agent(agent) or {}).get("drain_info", {}).get("state") == "DRAINED", 20, "the drained agent back")
        f.subscribe()
        other = f.offer()
        self.assertNotEqual(other["agent_id"]["value"], agent)
        self.on_agent("REACTIVATE_AGENT", agent)
        f.offer(where=lambda x: x["agent_id"]["value"] == agent)
        self.assertNotIn("drain_info", self.agent(agent))
        f.call("TEARDOWN")

    def test_38_drain_survives_both(self):
        f = self.framework(capabilities=AWARE, checkpoint=True, failover_timeout=60)
        o = f.offer()
        agent = o["agent_id"]["value"]
        f.launch(o, f.task(o, "slow", "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done",
                           kill_policy={"grace_period": {"nanoseconds": 30 * 10**9}}))
        f.status("slow", "TASK_RUNNING")
        self.on_agent("DRAIN_AGENT", agent)
        f.status("slow", "TASK_KILLING")
        daemon = self.cluster.daemon_of_agent(agent)
        daemon.kill9()
        self.cluster.master.kill9()
        self.cluster.master.start()
        daemon.start()
        self.cluster.wait_up(1)
        self.setUp()
        f.subscribe()
        s = f.status("slow", "TASK_KILLED", 30)
        self.assertEqual(s["reason"], "REASON_AGENT_DRAINING")
        wait(lambda: self.agent(agent)["drain_info"]["state"] == "DRAINED", 20, "the agent drained")
        self.on_agent("REACTIVATE_AGENT", agent)
        f.call("TEARDOWN")

    def test_deactivate(self):
        f = self.framework(capabilities=AWARE, checkpoint=True)
        o = f.offer()
        agent = o["agent_id"]["value"]
        f.launch(o, f.task(o, "stays", "sleep 1000"))
        f.status("stays", "TASK_RUNNING")
        rest = f.offer(where=lambda x: x["agent_id"]["value"] == agent)
        self.on_agent("DEACTIVATE_AGENT", agent)
        f.stream.wait("RESCIND", 10, lambda e: e["rescind"]["offer_id"] == rest["id"])
        row = self.agent(agent)
        self.assertEqual((row["active"], row["deactivated"]), (False, True))
        self.assertNotIn("drain_info", row)
        f.call("REVIVE")
        holds(lambda: not [s for s in f.stream.of("UPDATE") if s["update"]["status"]["state"] in ("TASK_KILLED", "TASK_LOST")], 1)
        self.on_agent("REACTIVATE_AGENT", agent)
        f.offer(where=lambda x: x["agent_id"]["value"] == agent)
        f.call("TEARDOWN")

    def test_events_of_a_subscriber(self):
        """Draining is no reason to say that an agent has come or gone."""
        agent = self.agents()[0]["agent_info"]["id"]["value"]
        self.on_agent("DRAIN_AGENT", agent)
        self.assertEqual(self.agent(agent)["drain_info"]["state"], "DRAINED")  # nothing runs: drained when it is answered
        self.on_agent("REACTIVATE_AGENT", agent)


class DrainingProtobuf(Draining):
    form = PROTOBUF


class Gone(Operated):
    options = {"agents": 2}

    def test_40_gone(self):
        f = self.framework(capabilities=AWARE, checkpoint=True)
        plain = self.framework(checkpoint=True)
        for form in (self.form, PROTOBUF if self.form == JSON else JSON):
            o = f.offer()
            agent = o["agent_id"]["value"]
            f.launch(o, f.task(o, "doomed-" + form[-4:], "sleep 1000"))
            f.status("doomed-" + form[-4:], "TASK_RUNNING")
            self.assertEqual(self.on_agent("MARK_AGENT_GONE", "nope", 404), "Agent 'nope' not found")
            daemon = self.cluster.daemon_of_agent(agent)
            self.form, before = form, self.form
            self.on_agent("MARK_AGENT_GONE", agent)
            self.on_agent("MARK_AGENT_GONE", agent)
            self.form = before
            s = f.status("doomed-" + form[-4:], "TASK_GONE_BY_OPERATOR")
            self.assertEqual((s["reason"], s["source"]), ("REASON_AGENT_REMOVED_BY_OPERATOR", "SOURCE_MASTER"))
            self.assertNotIn("uuid", s)
            f.stream.wait("FAILURE", 10, lambda e: e["failure"] == {"agent_id": {"value": agent}})
            daemon.exit_code(30)
            self.assertIsNone(main_pid("doomed-" + form[-4:]))
            self.assertIsNone(self.agent(agent))
            # It does not come back, and says why.
            daemon.start(ready=False)
            self.assertNotEqual(daemon.exit_code(30), 0)
            self.assertIn("removed by the operator", daemon.log())
            f.call("RECONCILE", reconcile={"tasks": [{"task_id": {"value": "doomed-" + form[-4:]}, "agent_id": {"value": agent}}]})
            f.stream.wait("UPDATE", 10, lambda e: e["update"]["status"].get("reason") == "REASON_RECONCILIATION" and
                          e["update"]["status"]["state"] == "TASK_GONE_BY_OPERATOR")
        self.assertEqual(self.agents(), [])
        plain.close()

    def test_41_drain_and_mark_gone(self):
        self.cluster.add_agent(7).start()
        agent = wait(lambda: self.agents(), 20, "a fresh agent")[0]["agent_info"]["id"]["value"]
        f = self.framework(capabilities=AWARE, checkpoint=True)
        o = f.offer(where=lambda x: x["agent_id"]["value"] == agent)
        f.launch(o, f.task(o, "drained", "sleep 1000"))
        f.status("drained", "TASK_RUNNING")
        self.on_agent("DRAIN_AGENT", agent, mark_gone=True)
        s = f.status("drained", "TASK_GONE_BY_OPERATOR")
        self.assertEqual(s["reason"], "REASON_AGENT_DRAINING")
        wait(lambda: self.agent(agent) is None, 20, "the agent gone")
        f.call("TEARDOWN")


class Maintenance(Operated):
    options = {"agents": 1}
    MACHINE = {"hostname": "127.0.0.1", "ip": "127.0.0.1"}

    def schedule(self, *windows):
        self.operate({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": {"schedule": {"windows": list(windows)}}})

    def window(self, start=FAR, duration=None):
        u = {"start": {"nanoseconds": start}}
        if duration:
            u["duration"] = {"nanoseconds": duration}
        return {"machine_ids": [self.MACHINE], "unavailability": u}

    def test_39_1_inverse_offers(self):
        f = self.framework(capabilities=AWARE, checkpoint=True)
        o = f.offer()
        self.assertNotIn("unavailability", o)
        f.launch(o, f.task(o, "in-the-way", "sleep 1000"))
        f.status("in-the-way", "TASK_RUNNING")
        rest = f.offer()
        self.schedule(self.window(FAR, 3600 * 10**9))
        f.stream.wait("RESCIND", 10, lambda e: e["rescind"]["offer_id"] == rest["id"])
        new = f.offer()
        self.assertEqual(new["unavailability"], {"start": {"nanoseconds": FAR}, "duration": {"nanoseconds": 3600 * 10**9}})
        asked = f.stream.wait("INVERSE_OFFERS")["inverse_offers"]["inverse_offers"]
        self.assertEqual(len(asked), 1)
        inverse = asked[0]
        self.assertEqual((inverse["framework_id"]["value"], inverse["agent_id"]), (f.id, o["agent_id"]))
        self.assertEqual(inverse["unavailability"], new["unavailability"])
        shown = self.operate({"type": "GET_FRAMEWORKS"})["get_frameworks"]["frameworks"]
        self.assertEqual([x["id"] for x in shown[0]["inverse_offers"]], [inverse["id"]])

        f.call("DECLINE_INVERSE_OFFERS", decline_inverse_offers={"inverse_offer_ids": [inverse["id"]], "filters": {"refuse_seconds": 1}})
        status = wait(lambda: self.operate({"type": "GET_MAINTENANCE_STATUS"})["get_maintenance_status"]["status"]["draining_machines"][0]
                      .get("statuses"), 10, "the answer in the status")
        self.assertEqual((status[0]["status"], status[0]["framework_id"]["value"]), ("DECLINE", f.id))
        second = f.stream.wait("INVERSE_OFFERS", 10, lambda e: e["inverse_offers"]["inverse_offers"][0]["id"] != inverse["id"])
        second = second["inverse_offers"]["inverse_offers"][0]
        f.call("ACCEPT_INVERSE_OFFERS", accept_inverse_offers={"inverse_offer_ids": [second["id"]], "filters": {"refuse_seconds": 1000}})
        wait(lambda: self.get("/maintenance/status")["draining_machines"][0].get("statuses", [{}])[0].get("status") == "ACCEPT", 10, "ACCEPT")
        f.call("REVIVE")
        third = f.stream.wait("INVERSE_OFFERS", 10, count=3)[2]["inverse_offers"]["inverse_offers"][0]
        self.schedule()
        f.stream.wait("RESCIND_INVERSE_OFFER", 10, lambda e: e["rescind_inverse_offer"]["inverse_offer_id"] == third["id"])
        self.assertNotIn("unavailability", f.offer())
        self.assertEqual(self.operate({"type": "GET_MAINTENANCE_STATUS"})["get_maintenance_status"], {"status": {}})
        f.call("TEARDOWN")

    def test_39_2_schedules(self):
        self.schedule(self.window())
        got = self.operate({"type": "GET_MAINTENANCE_SCHEDULE"})["get_maintenance_schedule"]
        self.assertEqual(got, {"schedule": {"windows": [self.window()]}})
        self.assertEqual(self.get("/maintenance/schedule"), {"windows": [self.window()]})
        self.assertEqual(self.get("/master/maintenance/status"), {"draining_machines": [{"id": self.MACHINE}]})
        for machines, sentence in (([self.MACHINE, self.MACHINE], "appears more than once in the schedule"), ([{}], "are empty")):
            w = dict(self.window(), machine_ids=machines)
            status, text = self.post("/maintenance/schedule", {"windows": [w]})
            self.assertEqual(status, 400)
            self.assertIn(sentence, text)
        text = self.operate({"type": "START_MAINTENANCE", "start_maintenance": {"machines": [{"hostname": "elsewhere"}]}}, 400)
        self.assertIn("is not part of a maintenance schedule", text)
        self.cluster.master.kill9()
        self.cluster.master.start()
        self.cluster.wait_up(1)
        self.setUp()
        self.assertEqual(self.get("/maintenance/schedule"), {"windows": [self.window()]})
        self.assertEqual(self.post("/maintenance/schedule", {"windows": []})[0], 200)
        self.assertEqual(self.get("/maintenance/schedule"), {})

    def test_39_3_down_and_up(self):
        f = self.framework(capabilities=AWARE, checkpoint=True)
        o = f.offer()
        f.launch(o, f.task(o, "going-down-" + self.form[-4:], "sleep 1000"))
        f.status("going-down-" + self.form[-4:], "TASK_RUNNING")
        self.schedule(self.window())
        if self.form == JSON:
            self.assertEqual(self.post("/machine/down", [self.MACHINE]), (200, ""))
        else:
            self.operate({"type": "START_MAINTENANCE", "start_maintenance": {"machines": [self.MACHINE]}})
        s = f.stream.wait("UPDATE", 20, lambda e: e["update"]["status"]["state"] in ("TASK_GONE", "TASK_LOST"))["update"]["status"]
        self.assertEqual(s["reason"], "REASON_AGENT_REMOVED")
        agent = self.cluster.agents()[0]
        agent.exit_code(30)
        self.assertEqual(self.agents(), [])
        self.assertIsNone(main_pid("going-down-" + self.form[-4:]))
        self.assertEqual(self.get("/maintenance/status"), {"down_machines": [self.MACHINE]})
        status, text = self.post("/maintenance/schedule", {"windows": []})
        self.assertEqual(status, 400)
        self.assertIn("is deactivated and cannot be removed from the schedule", text)
        # It may start, but not join before the machine is up.
        agent.start()
        holds(lambda: not self.agents(), 2, "nobody registers from a machine that is down")
        if self.form == JSON:
            self.assertEqual(self.post("/machine/up", [self.MACHINE]), (200, ""))
        else:
            self.operate({"type": "STOP_MAINTENANCE", "stop_maintenance": {"machines": [self.MACHINE]}})
        wait(self.agents, 20, "the agent back")
        self.assertEqual(self.get("/maintenance/schedule"), {})
        f.offer()
        f.call("TEARDOWN")


class MaintenanceProtobuf(Maintenance):
    form = PROTOBUF


class Constrained(Operated):
    options = {"agents": 3}

    @staticmethod
    def constraints(selector, predicate, role="*"):
        return {"role_constraints": {role: {"groups": [{"attribute_constraints": [{"selector": selector, "predicate": predicate}]}]}}}

    def offered(self, f):
        names = {a["agent_info"]["id"]["value"]: a["agent_info"]["attributes"][0]["text"]["value"] for a in self.agents()}
        return sorted(names[o["agent_id"]["value"]] for e in f.stream.of("OFFERS") for o in e["offers"]["offers"])

    def test_33_constraints(self):
        wish = self.constraints({"attribute_name": "agent"}, {"text_matches": {"regex": "agent-[12]"}})
        f = self.framework(extra={"offer_constraints": wish})
        wait(lambda: len(self.offered(f)) >= 2, 20, "two offers")
        holds(lambda: self.offered(f) == ["agent-1", "agent-2"], 2, "only agents that fit")
        shown = self.operate({"type": "GET_FRAMEWORKS"})["get_frameworks"]["frameworks"][0]
        self.assertEqual(shown["offer_constraints"], wish)
        self.assertEqual(self.get("/frameworks")["frameworks"][0]["offer_constraints"], wish)
        why = self.cluster.ask("why", "framework", f.id)
        self.assertEqual((why["roles"][0]["excluded_by_constraints"], why["roles"][0]["offers"]), (1, 2))
        words = self.cluster.gantry("why", "framework", f.id, text=True).stdout
        self.assertIn("1 of 3 agents that may be offered do not meet its offer constraints.", words)
        # Changed: the third one, too.
        info = dict(f.info, id={"value": f.id})
        bad = self.constraints({"attribute_name": "agent"}, {"text_matches": {"regex": "("}})
        status, _, text = f.raw({"type": "UPDATE_FRAMEWORK", "framework_id": {"value": f.id},
                                 "update_framework": {"framework_info": info, "offer_constraints": bad}})
        self.assertEqual(status, 400)
        self.assertIn("regex", text)
        f.call("UPDATE_FRAMEWORK", 200, update_framework={"framework_info": info, "offer_constraints":
                                                          self.constraints({"attribute_name": "agent"}, {"exists": {}})})
        wait(lambda: "agent-3" in self.offered(f), 20, "the third agent")
        f.call("TEARDOWN")
        for predicate, expected in (({"text_equals": {"value": "127.0.0.1"}}, 3), ({"text_not_equals": {"value": "127.0.0.1"}}, 0)):
            g = self.framework(extra={"offer_constraints": self.constraints({"pseudoattribute_type": "HOSTNAME"}, predicate)})
            if expected:
                wait(lambda: len(self.offered(g)) == expected, 20, "%d offers" % expected)
            else:
                holds(lambda: not self.offered(g), 1.5, "no offers")
            g.call("TEARDOWN")
        g = self.framework(subscribe=False, extra={"offer_constraints": bad})
        first = g.subscribe()
        self.assertEqual(first["type"], "ERROR")
        self.assertIn("regex", first["error"]["message"])
        g.stream.wait_closed()

    def test_why(self):
        r = self.cluster.gantry("why", "framework", "nobody", check=False)
        self.assertEqual(r.returncode, 4)
        f = self.framework()
        o = f.offer()
        f.decline(o, 100)
        f.call("SUPPRESS")
        agent = o["agent_id"]["value"]
        wait(lambda: self.cluster.ask("why", "framework", f.id)["roles"][0]["declined"] == 1, 10, "the filter")
        why = self.cluster.ask("why", "framework", f.id)
        role = why["roles"][0]
        self.assertTrue(role["suppressed"])
        self.assertTrue(90 < role["next_filter_ends_seconds"] <= 100, role)
        self.on_agent("DRAIN_AGENT", agent)
        why = self.cluster.ask("why", "framework", f.id)
        self.assertEqual((why["agents"]["draining"], why["agents"]["registered"]), (1, 3))
        self.on_agent("REACTIVATE_AGENT", agent)
        f.call("TEARDOWN")
        why = wait(lambda: [w for w in [self.cluster.ask("why", "framework", f.id)] if w["completed"]], 10, "its end")
        self.assertEqual(why[0]["roles"], [])


class ConstrainedProtobuf(Constrained):
    form = PROTOBUF


class Regions(Operated):
    options = {"agents": 1, "master": 'domain = "eu/a"', "agent": 'domain = "eu/b"'}

    @staticmethod
    def regions(f):
        return sorted(o["domain"]["fault_domain"]["region"]["name"] for e in f.stream.of("OFFERS") for o in e["offers"]["offers"])

    def test_47_regions(self):
        self.cluster.add_agent(2, 'domain = "us/a"').start()
        wait(lambda: len(self.agents()) == 2, 20, "the far agent")
        zones = sorted(a["agent_info"]["domain"]["fault_domain"]["zone"]["name"] for a in self.agents())
        self.assertEqual(zones, ["a", "b"])
        f = self.framework()
        wait(lambda: self.regions(f), 20, "an offer")
        holds(lambda: self.regions(f) == ["eu"], 2, "only the near one")
        words = self.cluster.gantry("why", "framework", f.id, text=True).stdout
        self.assertIn("1 of 2 agents that may be offered stand in another region, and it is not REGION_AWARE.", words)
        g = self.framework(subscribe=False, capabilities=[{"type": "REGION_AWARE"}])
        first = g.subscribe()
        here = {"fault_domain": {"region": {"name": "eu"}, "zone": {"name": "a"}}}
        self.assertEqual(first["subscribed"]["master_info"]["domain"], here)
        self.assertEqual(self.operate({"type": "GET_MASTER"})["get_master"]["master_info"]["domain"], here)
        self.assertEqual(self.get("/state")["domain"], here)
        wait(lambda: "us" in self.regions(g), 20, "the far one, for who knows regions")
        shown = sorted(s["domain"]["fault_domain"]["region"]["name"] for s in self.get("/slaves")["slaves"])
        self.assertEqual(shown, ["eu", "us"])


class RegionsProtobuf(Regions):
    form = PROTOBUF


class Limited(Operated):
    options = {"agents": 0, "gateway": 'rate_limits = { slow = "2/3", free = "unlimited" }\ndefault_rate_limit = "5/5"'}

    def burst(self, n=12, **info):
        f = self.framework(**info)
        seen = [f.raw({"type": "REVIVE", "framework_id": {"value": f.id}}) for _ in range(n)]
        f.close()
        return seen

    def test_429(self):
        seen = self.burst(principal="slow")
        statuses = [s for s, _, _ in seen]
        self.assertEqual(statuses[:2], [202, 202])
        self.assertIn(429, statuses)
        refused = [x for x in seen if x[0] == 429][0]
        self.assertGreaterEqual(int(refused[1]["retry-after"]), 1)
        self.assertIn("'slow'", refused[2])
        self.assertEqual({s for s, _, _ in self.burst(principal="free")}, {202})
        self.assertIn(429, [s for s, _, _ in self.burst(principal="somebody")])
        time.sleep(2.5)
        f = self.framework(principal="slow")
        f.call("REVIVE")


class Slow(Operated):
    """A reader that does not read is cut off at a bound, and comes back."""

    options = {"agents": 1}

    def test_slow_reader(self):
        info = {"user": "root", "name": "deaf", "failover_timeout": 60.0}
        s = Stream(self.cluster.api_port, {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}, self.form, read=False)
        self.addCleanup(s.close)
        framework = s.first["subscribed"]["framework_id"]["value"]
        # Reconciliation of unknown tasks: each call brings back far more than it costs.
        tasks = [{"task_id": {"value": "x" * 200 + str(i)}} for i in range(5000)]
        call = {"type": "RECONCILE", "framework_id": {"value": framework}, "reconcile": {"tasks": tasks}}

        def cut():
            status, _, text = one_call(self.cluster.api_port, call, self.form, s.id)
            return (status, text) == (403, "Framework is not subscribed")
        wait(cut, 60, "the slow reader cut off", step=0)
        again = self.framework(subscribe=False, id={"value": framework}, name="deaf", failover_timeout=60.0)
        self.assertEqual(again.subscribe()["type"], "SUBSCRIBED")
        again.call("TEARDOWN")


if __name__ == "__main__":
    mesos.main()
