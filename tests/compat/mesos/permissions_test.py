#!/usr/bin/env python3
"""What may be looked at and changed, with credentials and access lists of Mesos on a master and its agent: mesos-kernel.md section E
28, 41, 45 and 46. In JSON and in protobuf. (Realms, roles, users of tasks, lists: commands_test.py.)"""

import json
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import commands_test  # noqa: E402
import mesos  # noqa: E402
from commands_test import ACLS, CREDENTIALS, basic  # noqa: E402
from mesos import JSON, PROTOBUF, Stream, encoded, protobuf, request  # noqa: E402
from cluster import wait  # noqa: E402

ADMIN = {"principals": {"values": ["admin"]}}
LISTS = dict(ACLS, access_mesos_logs=[dict(ADMIN, logs={"type": "ANY"})], access_sandboxes=[dict(ADMIN, users={"type": "ANY"})],
             set_log_level=[dict(ADMIN, level={"type": "ANY"})], view_containers=[dict(ADMIN, users={"type": "ANY"})],
             reserve_resources=[dict(ADMIN, roles={"type": "ANY"})], unreserve_resources=[dict(ADMIN, reserver_principals={"type": "ANY"})])


class Guarded(commands_test.Case):
    form = JSON

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="gantry-acl-")
        for name, what in (("credentials", CREDENTIALS), ("acls", LISTS)):
            with open(os.path.join(cls.folder, name), "w") as f:
                json.dump(what, f)
        closed = ["--authenticate_http_readonly", "--authenticate_http_readwrite", "--acls=file://" + cls.folder + "/acls"]
        cls.cluster = commands_test.Cluster(master=closed + ["--authenticate_http_frameworks", "--credentials=" + cls.folder + "/credentials"],
                                            agent=closed + ["--http_credentials=" + cls.folder + "/credentials"], headers=basic("admin"))

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()
        shutil.rmtree(cls.folder, ignore_errors=True)

    def framework(self, who, **info):
        f = mesos.Framework(self.cluster.port, form=self.form, headers=basic(who), **info)
        self.addCleanup(f.close)
        return f

    def v1(self, kind, who, expect, port=None, package="master", **body):
        call = dict({"type": kind}, **body)
        status, _, text = request(port or self.cluster.port, "POST", "/api/v1", encoded(call, self.form, "gantry.fb." + package),
                                  dict({"Content-Type": self.form, "Accept": self.form}, **(basic(who) if who else {})))
        self.assertEqual(status, expect, text)
        if status != 200 or not text:
            return text.decode()
        return json.loads(text) if self.form == JSON else protobuf().decode("gantry.fb.%s.Response" % package, text)

    def get(self, port, path, who):
        status, _, body = request(port, "GET", path, headers=basic(who))
        return status, body.decode()

    def test_28_whose_reservations(self):
        agent = {"value": self.cluster.json("/slaves", basic("admin"))["slaves"][0]["id"]}

        def reserve(who, principal, expect):
            what = mesos.scalar("cpus", 0.1, reservations=[{"type": "DYNAMIC", "role": "eng", "principal": principal}])
            return self.v1("RESERVE_RESOURCES", who, expect, reserve_resources={"agent_id": agent, "resources": [what]})
        self.assertEqual(reserve(None, "admin", 401), "401 Unauthorized.")
        self.assertEqual(reserve("bob", "bob", 403), "403 Forbidden.")
        self.assertIn("principal", reserve("admin", "alice", 400))
        reserve("admin", "admin", 202)
        body = mesos.scalar("cpus", 0.1, reservations=[{"type": "DYNAMIC", "role": "eng", "principal": "admin"}])
        self.v1("UNRESERVE_RESOURCES", "admin", 202, unreserve_resources={"agent_id": agent, "resources": [body]})

    def test_41_a_hidden_framework_is_silent(self):
        streams = {}
        for who in ("admin", "alice", "bob"):
            s = streams[who] = Stream(self.cluster.port, {"type": "SUBSCRIBE"}, self.form, basic(who), path="/api/v1", package="gantry.fb.master")
            self.addCleanup(s.close)
            s.wait("SUBSCRIBED")
        f = self.framework("alice", name="secret")
        self.assertEqual(f.subscribe()["type"], "SUBSCRIBED")
        o = f.offer()
        f.launch(o, f.task(o, "secret-task", "sleep 1000"))
        f.status("secret-task", "TASK_RUNNING")
        f.call("TEARDOWN")
        removed = lambda e: e["framework_removed"]["framework_info"]["id"]["value"] == f.id  # noqa: E731
        streams["admin"].wait("FRAMEWORK_REMOVED", where=removed)
        streams["alice"].wait("FRAMEWORK_REMOVED", where=removed)
        self.assertIn("TASK_ADDED", [e["type"] for e in streams["admin"].events])
        self.assertIn("FRAMEWORK_ADDED", [e["type"] for e in streams["alice"].events])
        self.assertNotIn("TASK_ADDED", [e["type"] for e in streams["alice"].events])  # tasks are the admin's to see
        # Whatever could still come to bob has come when another thing has that he may hear of.
        seen = len(streams["bob"].of("HEARTBEAT"))
        wait(lambda: len(streams["bob"].of("HEARTBEAT")) > seen, 30, "a heartbeat")
        self.assertEqual({e["type"] for e in streams["bob"].events} - {"SUBSCRIBED", "HEARTBEAT"}, set())

    def test_45_logs_and_sandboxes(self):
        f = self.framework("alice", name="writes")
        self.assertEqual(f.subscribe()["type"], "SUBSCRIBED")
        o = f.offer()
        f.launch(o, f.task(o, "writes", "echo written; sleep 1000"))
        f.status("writes", "TASK_RUNNING")
        box = "/frameworks/%s/executors/writes/runs/latest/stdout" % f.id
        master, agent = self.cluster.port, self.cluster.agent_port
        wait(lambda: "written" in self.get(agent, "/files/read?offset=0&path=" + box, "admin")[1], 10, "the admin reading")
        for port, path in ((agent, box), (agent, "/slave/log"), (master, "/master/log")):
            for how in ("read", "browse", "download"):
                self.assertEqual(self.get(port, "/files/%s?path=%s" % (how, path), "bob"), (403, "403 Forbidden."), path)
                self.assertEqual(self.get(port, "/files/%s?path=%s" % (how, path), "admin")[0], 200, path)
            self.assertEqual(request(port, "GET", "/files/read?path=" + path)[0], 401)
            package = "agent" if port == agent else "master"
            self.v1("READ_FILE", "bob", 403, port, package, read_file={"path": path, "offset": 0})
            self.v1("READ_FILE", "admin", 200, port, package, read_file={"path": path, "offset": 0})
            self.v1("LIST_FILES", "bob", 403, port, package, list_files={"path": path})
        for port, package in ((agent, "agent"), (master, "master")):
            self.v1("SET_LOGGING_LEVEL", "bob", 403, port, package, set_logging_level={"level": 1, "duration": {"nanoseconds": 1}})
            self.v1("SET_LOGGING_LEVEL", "admin", 200, port, package, set_logging_level={"level": 0, "duration": {"nanoseconds": 1}})
            self.assertEqual(request(port, "POST", "/logging/toggle", headers=basic("bob"))[0], 403)
        f.call("TEARDOWN")

    def test_46_principals(self):
        with self.assertRaises(mesos.Refused) as caught:
            self.framework("alice", principal="bob").subscribe()
        self.assertEqual(caught.exception.status, 400)
        f = self.framework("alice", name="mine")
        self.assertEqual(f.subscribe()["type"], "SUBSCRIBED")
        f.headers = basic("bob")
        status, _, text = f.raw({"type": "REVIVE", "framework_id": {"value": f.id}})
        self.assertEqual(status, 400, text)
        f.headers = {}
        self.assertEqual(f.raw({"type": "REVIVE", "framework_id": {"value": f.id}})[0], 401)
        f.headers = basic("alice")
        f.call("TEARDOWN")
        # Lists show what may be seen.
        g = self.framework("alice", name="listed")
        self.assertEqual(g.subscribe()["type"], "SUBSCRIBED")
        for who, count in (("admin", 1), ("alice", 1), ("bob", 0)):
            seen = wait(lambda who=who, count=count: [x for x in [self.v1("GET_FRAMEWORKS", who, 200)["get_frameworks"].get("frameworks", [])]
                                                      if len([y for y in x if y["framework_info"]["id"]["value"] == g.id]) == count], 10, who)
            self.assertEqual(len(seen), 1)
        g.call("TEARDOWN")


class GuardedProtobuf(Guarded):
    form = PROTOBUF


if __name__ == "__main__":
    mesos.main()
