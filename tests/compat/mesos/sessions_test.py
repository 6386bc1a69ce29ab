#!/usr/bin/env python3
"""Frameworks that are refused, leave, fail over and ask what became of their tasks, against real daemons: mesos-kernel.md section E
1, 2, 6, 8, 11, 15, 18, 19, 48. In JSON and in protobuf."""

import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from agents_test import Operated  # noqa: E402
from executor_test import ExecutorCase  # noqa: E402
from mesos import JSON, PROTOBUF, Stream, encoded, request  # noqa: E402
from cluster import alive, wait  # noqa: E402

AWARE = [{"type": "PARTITION_AWARE"}]


class Refusals(mesos.Case):
    options = {"agents": 0}

    def post(self, call, form=None, **headers):
        h = dict({"Content-Type": form or self.form}, **{k.replace("_", "-"): v for k, v in headers.items()})
        status, _, text = request(self.cluster.api_port, "POST", "/api/v1/scheduler", call if isinstance(call, bytes) else encoded(call, self.form), h)
        return status, text.decode()

    def test_01_transport(self):
        whole = encoded({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "x"}}}, self.form)
        self.assertEqual(self.post(whole[:-1])[0], 400)
        self.assertEqual(self.post(whole, "text/plain")[0], 415)
        self.assertEqual(self.post(whole, PROTOBUF if self.form == JSON else JSON)[0], 400)
        self.assertEqual(self.post(whole, Accept="image/png")[0], 406)
        v = "Failed to validate scheduler::Call: "
        for call, text in (({}, "Expecting 'type' to be present"), ({"type": "SUBSCRIBE"}, "Expecting 'subscribe' to be present"),
                           ({"type": "REVIVE"}, "Expecting 'framework_id' to be present"),
                           ({"type": "DECLINE", "framework_id": {"value": "f"}}, "Expecting 'decline' to be present"),
                           ({"type": "ACKNOWLEDGE", "framework_id": {"value": "f"}, "acknowledge": {
                               "agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": "AAAA"}}, "Not a valid UUID")):
            self.assertEqual(self.post(call), (400, v + text))
        self.assertEqual(self.post({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x"}}})[0], 400)

    def test_02_stream_ids(self):
        f = self.framework()
        again = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "x"}}}
        self.assertEqual(self.post(again, Mesos_Stream_Id=f.stream.id), (400, "Subscribe calls should not include the 'Mesos-Stream-Id' header"))
        call = {"type": "TEARDOWN", "framework_id": {"value": f.id}}
        self.assertEqual(self.post(call), (400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"))
        self.assertEqual(self.post(call, Mesos_Stream_Id="00000000-0000-0000-0000-000000000000")[0], 400)
        f.call("REVIVE")  # intact
        f.call("TEARDOWN")
        f.stream.wait_closed()

    def test_08_refused_subscriptions(self):
        multi = [{"type": "MULTI_ROLE"}]
        for info in ({"role": "bad role"}, {"role": ".."}, {"role": "-x"}, {"roles": ["a"]}, {"role": "a", "capabilities": multi},
                     {"roles": ["a", "a"], "capabilities": multi}, {"failover_timeout": 1e300}, {"failover_timeout": -1.0}):
            with self.subTest(info):
                f = self.framework(subscribe=False, **info)
                self.assertEqual(f.subscribe()["type"], "ERROR")
                f.stream.wait_closed()
                self.assertEqual([e["type"] for e in f.stream.events], ["ERROR"])


class RefusalsProtobuf(Refusals):
    form = PROTOBUF


class LaxJson(mesos.Case):
    options = {"agents": 0}

    def test_48_lax_json(self):
        """Numbers and flags as strings, null, unknown fields and enum names."""
        body = {"type": "SUBSCRIBE", "frobnicate": {"a": [1]}, "framework_id": None, "subscribe": {"framework_info": {
            "user": "root", "name": "lax", "failover_timeout": "60", "checkpoint": "true", "role": None, "nobody": "knows",
            "capabilities": [{"type": "PARTITION_AWARE"}, {"type": "NOT_INVENTED_YET"}]}}}
        f = self.framework(subscribe=False)
        f.stream = Stream(self.cluster.api_port, body)
        f.id = f.stream.wait("SUBSCRIBED")["subscribed"]["framework_id"]["value"]
        shown = wait(lambda: [x for x in json.loads(request(self.cluster.api_port, "GET", "/frameworks")[2])["frameworks"] if x["id"] == f.id], 10, "it")[0]
        self.assertEqual((shown["failover_timeout"], shown["checkpoint"], shown["role"]), (60.0, True, "*"))
        self.assertEqual(shown["capabilities"], ["PARTITION_AWARE"])
        for wrong in ({"type": "SUBSCRIBE", "subscribe": []}, {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": ["x"], "name": "x"}}},
                      {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "x", "name": "x", "failover_timeout": "soon"}}}):
            self.assertEqual(request(self.cluster.api_port, "POST", "/api/v1/scheduler", json.dumps(wrong), {"Content-Type": JSON})[0], 400, wrong)
        f.call("TEARDOWN")


class Leaving(ExecutorCase):
    def test_06_without_failover_timeout_all_ends(self):
        f = self.framework(capabilities=AWARE)
        offer = f.offer()
        f.launch(offer, self.task(f, offer, "held", self.executor("held")), f.task(offer, "plain", "sleep 1000"))
        f.status("held", "TASK_RUNNING"), f.status("plain", "TASK_RUNNING")
        pids = [c["container_status"]["executor_pid"] for c in self.operate("GET_CONTAINERS")["containers"]]
        self.assertEqual(len(pids), 2)
        f.stream.close()
        wait(lambda: not any(alive(p) for p in pids), 30, "the end of its executors")
        self.assertTrue(self.seen(f, "SHUTDOWN", "held"))
        state = json.loads(request(self.cluster.api_port, "GET", "/state")[2])
        self.assertEqual([x["active"] for x in state["completed_frameworks"] if x["id"] == f.id], [False])
        self.assertEqual({t["id"]: t["state"] for x in state["completed_frameworks"] if x["id"] == f.id for t in x["completed_tasks"]},
                         {"held": "TASK_KILLED", "plain": "TASK_KILLED"})
        self.assertEqual(f.subscribe(), {"type": "ERROR", "error": {"message": "Framework has been removed"}})

    def test_48_infinite_limits(self):
        f = self.framework(capabilities=AWARE)
        self.addCleanup(lambda: f.call("TEARDOWN"))
        o = f.offer()
        infinite = "Infinity" if self.form == JSON else float("inf")
        f.launch(o, f.task(o, "unbound", limits={"cpus": {"value": infinite}, "mem": {"value": infinite}}))
        f.status("unbound", "TASK_FINISHED")
        o = f.offer()
        f.launch(o, f.task(o, "below", limits={"mem": {"value": 1.0}}))
        self.assertEqual(f.status("below", "TASK_ERROR")["reason"], "REASON_TASK_INVALID")


class LeavingProtobuf(Leaving):
    form = PROTOBUF


class Fates(Operated):
    """18: what master says of tasks whose agents are here, away, gone, or unknown."""

    options = {"agents": 2, "master": 'agent_ping_interval = "500ms"\nagent_ping_misses = 3'}

    def ask(self, f, *tasks):
        """Answers to an explicit reconciliation, by task; the last one asked for is a fence."""
        fence = "fence-%d" % len(f.stream.events)
        before = len(f.stream.of("UPDATE"))
        f.call("RECONCILE", reconcile={"tasks": [dict({"task_id": {"value": t}}, **({"agent_id": {"value": a}} if a else {})) for t, a in tasks]})
        f.call("KILL", kill={"task_id": {"value": fence}, "agent_id": {"value": "nobody"}})
        wait(lambda: any(e["update"]["status"]["task_id"]["value"] == fence for e in f.stream.of("UPDATE")), 20, "the fence")
        return {e["update"]["status"]["task_id"]["value"]: e["update"]["status"] for e in f.stream.of("UPDATE")[before:]}

    def test_11_offers_of_two_agents_or_rescinded(self):
        f = self.framework(capabilities=AWARE)
        self.addCleanup(lambda: f.call("TEARDOWN"))
        a = f.offer()
        b = f.offer(where=lambda o: o["agent_id"] != a["agent_id"])
        f.launch([a, b], f.task(a, "astride"))
        s = f.status("astride", "TASK_DROPPED")
        self.assertEqual((s["reason"], s["source"]), ("REASON_INVALID_OFFERS", "SOURCE_MASTER"))
        self.assertNotIn("uuid", s)
        # Both came back, and one is taken away by an operator.
        a = f.offer()
        self.on_agent("DEACTIVATE_AGENT", a["agent_id"]["value"])
        f.stream.wait("RESCIND", 10, lambda e: e["rescind"]["offer_id"] == a["id"])
        f.launch(a, f.task(a, "late"))
        self.assertEqual(f.status("late", "TASK_DROPPED")["reason"], "REASON_INVALID_OFFERS")
        self.on_agent("REACTIVATE_AGENT", a["agent_id"]["value"])

    def test_18_fates(self):
        f = self.framework(capabilities=AWARE, checkpoint=True, failover_timeout=60.0)
        plain = self.framework(checkpoint=True, failover_timeout=60.0)
        plain.call("SUPPRESS", suppress={})
        o = f.offer()
        here = o["agent_id"]["value"]
        f.launch(o, f.task(o, "mine", "sleep 1000"))
        f.status("mine", "TASK_RUNNING")
        other = [a["agent_info"]["id"]["value"] for a in self.agents() if a["agent_info"]["id"]["value"] != here][0]
        told = self.ask(f, ("mine", here), ("ghost-here", here), ("ghost-nowhere", "no-such-agent"), ("ghost", None))
        self.assertEqual({t: s["state"] for t, s in told.items() if t in ("mine", "ghost-here", "ghost-nowhere", "ghost")},
                         {"mine": "TASK_RUNNING", "ghost-here": "TASK_GONE", "ghost-nowhere": "TASK_UNKNOWN", "ghost": "TASK_UNKNOWN"})
        for t in ("mine", "ghost-here", "ghost-nowhere", "ghost"):
            self.assertEqual((told[t]["source"], told[t]["reason"]), ("SOURCE_MASTER", "REASON_RECONCILIATION"))
            self.assertNotIn("uuid", told[t])
        self.assertEqual({s["state"] for s in self.ask(plain, ("g1", here), ("g2", "no-such-agent"), ("g3", None)).values()}, {"TASK_LOST"})

        # Away.
        daemon = self.cluster.daemon_of_agent(other)
        daemon.signal(signal.SIGSTOP)
        f.stream.wait("FAILURE", 20, lambda e: e["failure"].get("agent_id", {}).get("value") == other)
        told = self.ask(f, ("ghost-away", other))
        self.assertEqual(told["ghost-away"]["state"], "TASK_UNREACHABLE")
        self.assertIn("unreachable_time", told["ghost-away"])
        daemon.signal(signal.SIGCONT)
        wait(lambda: len([a for a in self.agents() if a.get("active")]) == 2, 30, "the agent back")

        # Gone for good.
        self.on_agent("MARK_AGENT_GONE", other)
        daemon.exit_code(30)
        self.assertEqual(self.ask(f, ("ghost-gone", other))["ghost-gone"]["state"], "TASK_GONE_BY_OPERATOR")

        # After a failover there is silence about an agent that has not come back yet, and about a task whose agent nobody names.
        agent = self.cluster.daemon_of_agent(here)
        agent.signal(signal.SIGSTOP)
        self.cluster.master.kill9()
        self.cluster.master.start()
        wait(lambda: request(self.cluster.api_port, "GET", "/state")[0] == 200, 20, "the master back")
        f.subscribe()
        told = self.ask(f, ("mine", here), ("mine", None), ("ghost-nowhere", "no-such-agent"))
        self.assertNotIn("mine", told)
        self.assertEqual(told["ghost-nowhere"]["state"], "TASK_UNKNOWN")
        agent.signal(signal.SIGCONT)
        wait(lambda: self.ask(f, ("mine", here)).get("mine", {}).get("state") == "TASK_RUNNING", 30, "the task known again")
        self.assertEqual(self.ask(f, ("ghost", None))["ghost"]["state"], "TASK_UNKNOWN")
        f.call("TEARDOWN")


class FatesProtobuf(Fates):
    form = PROTOBUF


if __name__ == "__main__":
    mesos.main()
