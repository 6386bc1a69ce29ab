#!/usr/bin/env python3
"""Task groups against real daemons (mesos-kernel.md A4, scenario 25; states and fields as transcripts/scheduler-stream-refined.json
has them)."""

import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from mesos import request, scalar  # noqa: E402
from cluster import holds, is_root, needs_cgroups, needs_root, pids_of_task, wait  # noqa: E402

MODERN = [{"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}]
PARENT = {"type": "MESOS", "volumes": [{"container_path": "common", "mode": "RW", "source": {
    "type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "common"}}}]}


class Groups(mesos.Case):
    options = {"agents": 1, "agent_gateway": "[isolator.filesystem]" if is_root() else ""}

    def executor(self, name="pod", **fields):
        return dict({"type": "DEFAULT", "executor_id": {"value": name}, "resources": [scalar("cpus", 0.1), scalar("mem", 64), scalar("disk", 10)]}, **fields)

    def launch(self, f, executor, *tasks):
        """tasks: (name, command) or (name, command, fields)."""
        o = f.offer(where=lambda o: any(r["name"] == "cpus" for r in o["resources"]))
        infos = [f.task(o, t[0], t[1], **(t[2] if len(t) > 2 else {})) for t in tasks]
        f.accept(o, [{"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": {"tasks": infos}}}])
        return o

    def pod(self, **fields):
        f = self.framework(capabilities=MODERN, checkpoint=True, failover_timeout=60.0, **fields)
        self.addCleanup(lambda: f.raw({"type": "TEARDOWN", "framework_id": {"value": f.id}}))
        return f

    def sandbox(self, status):
        ids = status["container_status"]["container_id"]
        for top, folders, _ in os.walk(os.path.join(self.cluster.agents()[0].work, "slaves")):
            if os.path.basename(top) == "runs" and ids["parent"]["value"] in folders:
                return os.path.join(top, ids["parent"]["value"], "tasks", status["task_id"]["value"])
        raise AssertionError("no sandbox of %s" % ids)

    @staticmethod
    def cpus(offer):
        return sum(r["scalar"]["value"] for r in offer["resources"] if r["name"] == "cpus")

    def on_offer(self, f):
        gone = f.used | {e["rescind"]["offer_id"]["value"] for e in f.stream.of("RESCIND")}
        return sum(self.cpus(o) for e in f.stream.of("OFFERS") for o in e["offers"]["offers"] if o["id"]["value"] not in gone)

    def read(self, status, name="stdout"):
        with open(os.path.join(self.sandbox(status), name)) as file:
            return file.read()

    def test_25_both_run_and_one_takes_the_other_along(self):
        f = self.pod()
        o = self.launch(f, self.executor(), ("a", "env; sleep 1; while ! test -e go; do sleep 0.1; done; exit 2"), ("b", "sleep 1000"))
        parents = set()
        for name in ("a", "b"):
            starting, running = f.status(name, "TASK_STARTING"), f.status(name, "TASK_RUNNING")
            for s in (starting, running):
                self.assertEqual((s["source"], s["executor_id"]["value"], s["agent_id"]), ("SOURCE_EXECUTOR", "pod", o["agent_id"]))
                parents.add(s["container_status"]["container_id"]["parent"]["value"])
            self.assertEqual(running["container_status"]["container_id"], starting["container_status"]["container_id"])
            self.assertIn("executor_pid", running["container_status"])
        self.assertEqual(len(parents), 1, "they are in one container")
        self.launch(f, self.executor(), ("other", "sleep 1000"))
        other = f.status("other", "TASK_RUNNING")
        self.assertEqual({other["container_status"]["container_id"]["parent"]["value"]}, parents)

        a = f.status("a", "TASK_RUNNING")
        env = dict(line.split("=", 1) for line in wait(lambda: "MESOS_TASK_ID" in self.read(a) and self.read(a), 10, "its environment").splitlines() if "=" in line)
        self.assertEqual((env["MESOS_EXECUTOR_ID"], env["MESOS_TASK_ID"], env["MESOS_FRAMEWORK_ID"], env["MESOS_ALLOCATION_ROLE"]),
                         ("pod", "a", f.id, "*"))
        self.assertEqual(env["MESOS_CONTAINER_IP"], "127.0.0.1")
        self.assertEqual(env["MESOS_SANDBOX"], self.sandbox(a))

        open(os.path.join(self.sandbox(a), "go"), "w").close()
        failed = f.status("a", "TASK_FAILED")
        self.assertEqual((failed["message"], failed["source"]), ("Command exited with status 2", "SOURCE_EXECUTOR"))
        f.status("b", "TASK_KILLING")
        self.assertEqual(f.status("b", "TASK_KILLED")["message"], "Command terminated with signal Terminated")
        holds(lambda: pids_of_task("other"), 1, "the other group unaffected")
        self.assertEqual([e for e in f.stream.of("UPDATE") if e["update"]["status"]["task_id"]["value"] == "other"][-1]["update"]["status"]["state"], "TASK_RUNNING")

        f.call("KILL", kill={"task_id": {"value": "other"}})
        f.status("other", "TASK_KILLED")
        failure = f.stream.wait("FAILURE")["failure"]
        self.assertEqual(failure, {"agent_id": o["agent_id"], "executor_id": {"value": "pod"}, "status": 0})
        # All is on offer again, in however many pieces: the executor's share, too.
        wait(lambda: abs(self.on_offer(f) - self.cpus(o)) < 0.001, 10, "everything given back")

    def test_25_one_invalid_task_fails_all(self):
        f = self.pod()
        self.launch(f, self.executor(), ("good", "sleep 1000"), ("bad", "true", {"resources": []}))
        for name in ("good", "bad"):
            s = f.status(name, "TASK_ERROR")
            self.assertEqual(s["reason"], "REASON_TASK_GROUP_INVALID")
            self.assertIn("'bad'", s["message"])
        self.assertEqual(pids_of_task("good"), [])

    def test_finished_ones_just_leave(self):
        f = self.pod()
        self.launch(f, self.executor(), ("quick", "true"), ("slow", "sleep 2"))
        f.status("quick", "TASK_FINISHED")
        f.status("slow", "TASK_FINISHED")
        self.assertEqual(f.stream.wait("FAILURE")["failure"]["status"], 0)

    def test_restart_of_the_agent(self):
        f = self.pod()
        self.launch(f, self.executor(), ("r1", "sleep 1000"), ("r2", "sleep 1000; exit 0"))
        for name in ("r1", "r2"):
            f.status(name, "TASK_RUNNING")
        before = {name: pids_of_task(name) for name in ("r1", "r2")}
        self.assertTrue(all(before.values()), before)
        agent = self.cluster.agents()[0]
        agent.kill9()
        agent.start()
        wait(lambda: [a for a in self.cluster.cluster_agents() if a["state"] == "active"], 20, "the agent back")
        holds(lambda: {name: pids_of_task(name) for name in ("r1", "r2")} == before, 2, "the very same processes")
        # They are a group still.
        os.kill(f.status("r1", "TASK_RUNNING")["container_status"]["executor_pid"], signal.SIGKILL)
        self.assertEqual(f.status("r1", "TASK_FAILED")["message"], "Command terminated with signal Killed")
        f.status("r2", "TASK_KILLED")
        f.stream.wait("FAILURE")

    def test_restart_while_the_holder_dies(self):
        f = self.pod()
        self.launch(f, self.executor(), ("h1", "sleep 1000"), ("h2", "sleep 1000"))
        for name in ("h1", "h2"):
            f.status(name, "TASK_RUNNING")
        parent = f.status("h1", "TASK_RUNNING")["container_status"]["container_id"]["parent"]["value"]
        agent = self.cluster.agents()[0]
        agent.kill9()
        os.kill(self.supervisor(parent), signal.SIGKILL)
        agent.start()
        for name in ("h1", "h2"):
            self.assertEqual(f.status(name, "TASK_FAILED")["reason"], "REASON_EXECUTOR_TERMINATED")
            wait(lambda: not pids_of_task(name), 10, "the end of " + name)

    def test_the_holder_is_killed(self):
        f = self.pod()
        self.launch(f, self.executor(), ("k1", "sleep 1000"), ("k2", "sleep 1000"))
        for name in ("k1", "k2"):
            f.status(name, "TASK_RUNNING")
        os.kill(self.supervisor(f.status("k1", "TASK_RUNNING")["container_status"]["container_id"]["parent"]["value"]), signal.SIGKILL)
        for name in ("k1", "k2"):
            self.assertEqual(f.status(name, "TASK_FAILED")["reason"], "REASON_EXECUTOR_TERMINATED")
        f.stream.wait("FAILURE")

    def supervisor(self, container):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[0] == b"gantry-supervisor" and words[1] == container.encode():
                return int(pid)
        raise AssertionError("no supervisor of " + container)

    def test_teardown_gives_grace(self):
        f = self.pod()
        self.launch(f, self.executor(), ("t1", "trap 'echo over > said; exit 0' TERM; echo up; while :; do sleep 0.1; done"), ("t2", "sleep 1000"))
        t1 = f.status("t1", "TASK_RUNNING")
        f.status("t2", "TASK_RUNNING")
        wait(lambda: "up" in self.read(t1), 10, "the trap")
        f.call("TEARDOWN")
        for name in ("t1", "t2"):
            wait(lambda: not pids_of_task(name), 15, "the end of " + name)
        self.assertEqual(self.read(t1, "said"), "over\n")

    def test_containers_of_the_agent(self):
        f = self.pod()
        self.launch(f, self.executor(), ("c1", "sleep 1000"))
        ids = f.status("c1", "TASK_RUNNING")["container_status"]["container_id"]
        status, _, text = request(self.cluster.agent_ports[1], "POST", "/api/v1", '{"type": "GET_CONTAINERS"}', {"Content-Type": "application/json"})
        self.assertEqual(status, 200, text)
        found = {c["container_id"]["value"]: c for c in json.loads(text)["get_containers"]["containers"]}
        self.assertEqual(found[ids["value"]]["container_id"], ids)
        self.assertIn(ids["parent"]["value"], found)

    def test_the_jsons_executor_may_say_more(self):
        """A framework id of its own, and a container of the right type."""
        f = self.pod()
        self.launch(f, self.executor(framework_id={"value": f.id}, container={"type": "MESOS"}), ("j", "true"))
        f.status("j", "TASK_FINISHED")

    @needs_root
    @needs_cgroups
    def test_files_are_shared_through_the_parents_sandbox(self):
        f = self.pod()
        self.launch(f, self.executor(), ("w", "echo hello > common/file; sleep 1000", {"container": PARENT}),
                    ("r", "while ! test -s common/file; do sleep 0.1; done; cat common/file; sleep 1000", {"container": PARENT}))
        for name in ("w", "r"):
            f.status(name, "TASK_RUNNING")
        wait(lambda: "hello" in self.read(f.status("r", "TASK_RUNNING")), 10, "what the other wrote")

    @needs_root
    @needs_cgroups
    def test_memory_is_shared_and_so_is_its_limit(self):
        f = self.pod()
        hog = "sleep 1; exec python3 -c 'x = bytearray(400 << 20); import time; time.sleep(100)'"
        self.launch(f, self.executor(), ("hog", hog), ("idle", "sleep 1000"))
        for name in ("hog", "idle"):
            s = f.status(name, "TASK_FAILED", 30)
            self.assertEqual(s["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", s)
            self.assertIn("limitation", s)

    @needs_root
    @needs_cgroups
    def test_cgroups_of_their_own(self):
        f = self.pod()
        own = {"container": {"type": "MESOS", "linux_info": {"share_cgroups": False}}}
        hog = "sleep 1; exec python3 -c 'x = bytearray(400 << 20); import time; time.sleep(100)'"
        self.launch(f, self.executor(), ("own-hog", hog, own), ("own-idle", "sleep 1000", own))
        self.assertEqual(f.status("own-hog", "TASK_FAILED", 30)["reason"], "REASON_CONTAINER_LIMITATION_MEMORY")
        f.status("own-idle", "TASK_KILLED")


class InProtobuf(mesos.Case):
    form = mesos.PROTOBUF
    options = {"agents": 1, "isolators": ()}
    executor, launch, pod = Groups.executor, Groups.launch, Groups.pod

    def test_25_in_protobuf(self):
        f = self.pod()
        self.launch(f, self.executor(), ("pa", "sleep 1; exit 1"), ("pb", "sleep 1000"))
        self.assertIn("parent", f.status("pb", "TASK_RUNNING")["container_status"]["container_id"])
        f.status("pa", "TASK_FAILED")
        f.status("pb", "TASK_KILLED")


if __name__ == "__main__":
    mesos.main()
