#!/usr/bin/env python3
"""Reservations, volumes, quota and weights as frameworks meet them, against real daemons: mesos-kernel.md section E 26, 27, 29 to 31.
In JSON and in protobuf. (What operators do with them: operator_test.py.)"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from agents_test import Operated  # noqa: E402
from mesos import PROTOBUF  # noqa: E402
from operator_test import REFINED, reserved, volume  # noqa: E402
from cluster import holds, wait  # noqa: E402


def amount(offer, name, where=lambda r: True):
    return round(sum(r["scalar"]["value"] for r in offer["resources"] if r["name"] == name and where(r)), 3)


class Reserving(Operated):
    options = {"agents": 1}

    def in_role(self, role, **more):
        f = self.framework(roles=[role], capabilities=REFINED, principal="alice", failover_timeout=60.0, name=role, **more)
        self.addCleanup(lambda: f.call("TEARDOWN"))
        return f

    def outcome(self, f, name):
        return f.stream.wait("UPDATE_OPERATION_STATUS", 20, lambda e: e["update_operation_status"]["status"]["operation_id"] == {"value": name})[
            "update_operation_status"]["status"]

    def do(self, f, offer, name, expect="OPERATION_FINISHED", **operation):
        kind = next(iter(operation))
        f.accept(offer, [{"type": kind.upper(), "id": {"value": name}, kind: operation[kind]}])
        s = self.outcome(f, name)
        self.assertEqual(s["state"], expect, s)
        return s

    def test_26_reserve_create_launch_at_once(self):
        f = self.in_role("eng")
        o = f.offer()
        t = f.task(o, "first", "echo kept > data/file")
        t["resources"].append(volume(64))
        f.accept(o, [{"type": "RESERVE", "reserve": {"resources": [reserved("disk", 64)]}}, {"type": "CREATE", "create": {"volumes": [volume(64)]}},
                     {"type": "LAUNCH", "launch": {"task_infos": [t]}}])
        f.status("first", "TASK_FINISHED")
        has = lambda o: any("persistence" in r.get("disk", {}) for r in o["resources"])  # noqa: E731
        o = f.offer(where=has)
        t = f.task(o, "second", "grep -q kept data/file")
        t["resources"].append(volume(64))
        f.launch(o, t)
        f.status("second", "TASK_FINISHED")
        # 27: what a volume lies on cannot be given back.
        o = f.offer(where=has)
        s = self.do(f, o, "too-early", "OPERATION_ERROR", unreserve={"resources": [reserved("disk", 64)]})
        self.assertNotIn("uuid", s)
        o = f.offer(where=has)
        f.accept(o, [{"type": "DESTROY", "destroy": {"volumes": [volume(64)]}},
                     {"type": "UNRESERVE", "id": {"value": "in-order"}, "unreserve": {"resources": [reserved("disk", 64)]}}])
        self.assertEqual(self.outcome(f, "in-order")["state"], "OPERATION_FINISHED")

    def test_27_other_roles_never_see_them(self):
        f = self.in_role("eng")
        o = f.offer()
        whole = amount(o, "cpus")
        self.do(f, o, "mine", reserve={"resources": [reserved("cpus", 1.0)]})
        other = self.in_role("ops")
        f.decline(f.offer(), 600.0)
        theirs = other.offer()
        self.assertEqual((amount(theirs, "cpus"), [r for r in theirs["resources"] if r.get("reservations")]), (whole - 1.0, []))
        other.decline(theirs, 600.0)
        f.call("REVIVE", revive={})
        o = f.offer(where=lambda o: amount(o, "cpus", lambda r: r.get("reservations")) == 1.0)
        self.do(f, o, "back", unreserve={"resources": [reserved("cpus", 1.0)]})
        other.call("REVIVE", revive={})
        self.assertEqual(amount(o, "cpus", lambda r: r.get("reservations")), 1.0)

    def test_27_labels_keep_reservations_apart(self):
        f = self.in_role("eng")

        def labelled(cpus, value):
            r = {"role": "eng", "type": "DYNAMIC", "principal": "alice", "labels": {"labels": [{"key": "of", "value": value}]}}
            return reserved("cpus", cpus, r)
        o = f.offer()
        f.accept(o, [{"type": "RESERVE", "reserve": {"resources": [labelled(1.0, "a")]}},
                     {"type": "RESERVE", "id": {"value": "two"}, "reserve": {"resources": [labelled(0.5, "b")]}}])
        self.assertEqual(self.outcome(f, "two")["state"], "OPERATION_FINISHED")

        def kept(o):
            return sorted((r["reservations"][-1]["labels"]["labels"][0]["value"], r["scalar"]["value"])
                          for r in o["resources"] if r["name"] == "cpus" and r.get("reservations"))
        o = f.offer(where=lambda o: kept(o) == [("a", 1.0), ("b", 0.5)])
        # What is b's is not enough of b's, however much there is of a's.
        self.do(f, o, "not-yours", "OPERATION_ERROR", unreserve={"resources": [labelled(1.0, "b")]})
        o = f.offer(where=lambda o: kept(o))
        self.do(f, o, "part", unreserve={"resources": [labelled(0.25, "b")]})
        o = f.offer(where=lambda o: kept(o) == [("a", 1.0), ("b", 0.25)])
        f.accept(o, [{"type": "UNRESERVE", "unreserve": {"resources": [labelled(1.0, "a")]}},
                     {"type": "UNRESERVE", "id": {"value": "all"}, "unreserve": {"resources": [labelled(0.25, "b")]}}])
        self.assertEqual(self.outcome(f, "all")["state"], "OPERATION_FINISHED")

    def test_47_shared_volumes_reach_only_who_can_share(self):
        shared = volume(64, name="common", shared={})
        able = self.framework(roles=["eng"], capabilities=REFINED + [{"type": "SHARED_RESOURCES"}], principal="alice", failover_timeout=60.0, name="able")
        self.addCleanup(lambda: able.call("TEARDOWN"))
        able.decline(able.offer(), 600.0)
        able.call("SUPPRESS", suppress={})
        plain = self.in_role("eng")
        o = plain.offer()
        plain.accept(o, [{"type": "RESERVE", "reserve": {"resources": [reserved("disk", 64)]}},
                         {"type": "CREATE", "id": {"value": "unable"}, "create": {"volumes": [shared]}}], 600.0)
        self.assertEqual(self.outcome(plain, "unable")["state"], "OPERATION_ERROR")
        plain.call("SUPPRESS", suppress={})
        able.call("REVIVE", revive={})
        o = able.offer(where=lambda o: amount(o, "disk", lambda r: r.get("reservations")) == 64.0)
        self.do(able, o, "made", create={"volumes": [shared]})
        has = lambda o: any(r.get("disk", {}).get("persistence", {}).get("id") == "common" for r in o["resources"])  # noqa: E731
        o = able.offer(where=has)
        t = able.task(o, "user-1", "echo x > data/f; sleep 1000")
        t["resources"].append(shared)
        able.launch(o, t)
        able.status("user-1", "TASK_RUNNING")
        # It is offered while it is in use, to a second task; a framework that cannot share sees the rest without it.
        o = able.offer(where=has)
        t = able.task(o, "user-2", "grep -q x data/f")
        t["resources"].append(shared)
        able.launch(o, t)
        able.status("user-2", "TASK_FINISHED")
        able.decline(able.offer(), 600.0)
        able.call("SUPPRESS", suppress={})
        plain.call("REVIVE", revive={})
        for refuse in (0.0, 0.0, 600.0):
            o = plain.offer()
            self.assertFalse(has(o), o)
            plain.decline(o, refuse)
        plain.call("SUPPRESS", suppress={})
        able.call("KILL", kill={"task_id": {"value": "user-1"}})
        able.status("user-1", "TASK_KILLED")
        able.call("REVIVE", revive={})
        o = able.offer(where=has)
        able.accept(o, [{"type": "DESTROY", "destroy": {"volumes": [shared]}},
                        {"type": "UNRESERVE", "id": {"value": "end"}, "unreserve": {"resources": [reserved("disk", 64)]}}])
        self.assertEqual(self.outcome(able, "end")["state"], "OPERATION_FINISHED")

    def test_31_operations_are_told_until_acknowledged(self):
        f = self.in_role("eng")
        first = self.do(f, f.offer(), "told", reserve={"resources": [reserved("cpus", 0.5)]})
        again = f.stream.wait("UPDATE_OPERATION_STATUS", 40, count=2)
        self.assertEqual([e["update_operation_status"]["status"]["uuid"] for e in again], [first["uuid"]] * 2)
        f.call("ACKNOWLEDGE_OPERATION_STATUS", acknowledge_operation_status={
            "operation_id": {"value": "told"}, "uuid": first["uuid"]["value"], "agent_id": first["agent_id"]})
        wait(lambda: not self.operate({"type": "GET_OPERATIONS"})["get_operations"].get("operations"), 10, "nothing to tell")
        # A launch has updates of its own: an id is a mistake.
        o = f.offer(where=lambda o: amount(o, "cpus", lambda r: r.get("reservations")) == 0.5)
        f.accept(o, [{"type": "LAUNCH", "id": {"value": "no"}, "launch": {"task_infos": [f.task(o, "named")]}}])
        self.assertEqual(f.status("named", "TASK_ERROR")["reason"], "REASON_TASK_INVALID")
        o = f.offer(where=lambda o: amount(o, "cpus", lambda r: r.get("reservations")) == 0.5)
        f.accept(o, [{"type": "UNRESERVE", "unreserve": {"resources": [reserved("cpus", 0.5)]}}])

    def test_29_quota_is_never_exceeded(self):
        self.operate({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [{"role": "eng", "limits": {"cpus": {"value": 1.0}}}]}})
        self.addCleanup(lambda: self.operate({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [{"role": "eng"}]}}))
        fs = [self.in_role("eng") for _ in range(2)]
        started = 0
        seen = []
        while started < 4:
            for f in fs:
                for e in f.stream.of("OFFERS"):
                    for o in e["offers"]["offers"]:
                        if o["id"]["value"] in f.used or amount(o, "cpus") < 0.25:
                            continue
                        f.used.add(o["id"]["value"])
                        seen.append(amount(o, "cpus"))
                        name = "q%d" % started
                        f.launch(o, f.task(o, name, "sleep 1000", cpus=0.25))
                        f.status(name, "TASK_RUNNING")
                        started += 1
        self.assertLessEqual(max(seen), 1.0)
        count = lambda: sum(amount(o, "cpus") for f in fs for e in f.stream.of("OFFERS") for o in e["offers"]["offers"]  # noqa: E731
                            if o["id"]["value"] not in f.used)
        self.assertEqual(started, 4)
        holds(lambda: count() == 0, 3, "no cpus beyond the quota")
        free = self.in_role("ops")
        self.assertGreaterEqual(amount(free.offer(), "cpus"), 2.5)  # others may have the rest


class ReservingProtobuf(Reserving):
    form = PROTOBUF


class Weighing(Operated):
    options = {"agents": 3}

    def test_30_two_to_one(self):
        self.operate({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"role": "heavy", "weight": 2.0}]}})
        hog = self.framework(roles=["hog"], capabilities=REFINED, name="hog")
        for n in range(3):
            o = hog.offer()
            hog.launch(o, hog.task(o, "hog-%d" % n, "sleep 1000", cpus=amount(o, "cpus"), mem=amount(o, "mem")))
            hog.status("hog-%d" % n, "TASK_RUNNING")
        both = {role: self.framework(roles=[role], capabilities=REFINED, name=role) for role in ("light", "heavy")}
        hog.call("TEARDOWN")

        def agents(role):
            return len({o["agent_id"]["value"] for e in both[role].stream.of("OFFERS") for o in e["offers"]["offers"] if amount(o, "cpus") == 4.0})
        wait(lambda: agents("light") + agents("heavy") == 3, 20, "three agents offered")
        self.assertEqual((agents("heavy"), agents("light")), (2, 1))
        for f in both.values():
            f.call("TEARDOWN")


class WeighingProtobuf(Weighing):
    form = PROTOBUF


if __name__ == "__main__":
    mesos.main()
