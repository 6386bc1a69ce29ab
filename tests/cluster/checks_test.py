"""What agents tell of tasks through the Mesos API: addresses, health, checks, and artifacts that cannot be fetched."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "compat", "mesos"))

import mesos  # noqa: E402
from cluster import free_port, wait  # noqa: E402

CHECKED, HEALTH = "REASON_TASK_CHECK_STATUS_UPDATED", "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"


class Checks(mesos.Case):
    options = {"agents": 1}

    def setUp(self):
        self.f = self.framework(capabilities=[{"type": "PARTITION_AWARE"}])

    def statuses(self, task, reason):
        return [s for s in (e["update"]["status"] for e in self.f.stream.of("UPDATE"))
                if s["task_id"]["value"] == task and s.get("reason") == reason]

    def sandbox(self, status):
        with open("/proc/%d/environ" % status["container_status"]["executor_pid"], "rb") as e:
            return [v.split(b"=", 1)[1].decode() for v in e.read().split(b"\0") if v.startswith(b"MESOS_SANDBOX=")][0]

    def test_a_command_flips(self):
        f, o = self.f, self.f.offer()
        f.launch(o, f.task(o, "flips", "sleep 1000", check={
            "type": "COMMAND", "command": {"command": {"value": "test -e good"}}, "delay_seconds": 0, "interval_seconds": 0.2},
            health_check={"type": "COMMAND", "command": {"value": "true"}, "delay_seconds": 0, "interval_seconds": 0.2}))
        running = f.status("flips", "TASK_RUNNING")
        self.assertEqual(running["check_status"]["type"], "COMMAND")
        (address,) = running["container_status"]["network_infos"][0]["ip_addresses"]
        self.assertEqual(address["ip_address"], "127.0.0.1")
        code = lambda n: lambda s: s.get("check_status", {}).get("command", {}).get("exit_code") == n  # noqa: E731
        f.status("flips", "TASK_RUNNING", where=code(1))
        f.status("flips", "TASK_RUNNING", where=lambda s: s.get("healthy") and s.get("reason") == HEALTH)
        good = os.path.join(self.sandbox(running), "good")
        with open(good, "w"):
            pass
        self.assertTrue(f.status("flips", "TASK_RUNNING", where=code(0))["healthy"])
        os.unlink(good)
        wait(lambda: len(self.statuses("flips", CHECKED)) >= 3, 20, "the third change")
        codes = [s["check_status"]["command"]["exit_code"] for s in self.statuses("flips", CHECKED)]
        self.assertEqual(codes, [1, 0, 1])
        self.assertEqual(len(self.statuses("flips", HEALTH)), 1)
        f.call("KILL", kill={"task_id": {"value": "flips"}})
        f.status("flips", "TASK_KILLED")

    def test_tcp_and_time(self):
        f, o, port = self.f, self.f.offer(), free_port()
        f.launch(o,
                 f.task(o, "port", "exec python3 -m http.server --bind 127.0.0.1 %d" % port, check={
                     "type": "TCP", "tcp": {"port": port}, "delay_seconds": 0, "interval_seconds": 0.2}),
                 f.task(o, "http", "sleep 1000", check={
                     "type": "HTTP", "http": {"port": port, "path": "/none"}, "delay_seconds": 0, "interval_seconds": 0.2}),
                 f.task(o, "slow", "sleep 1000", check={
                     "type": "COMMAND", "command": {"command": {"value": "test -e slow && sleep 100; exit 7"}}, "delay_seconds": 0,
                     "interval_seconds": 0.2, "timeout_seconds": 1}))
        f.status("port", "TASK_RUNNING", where=lambda s: s.get("check_status", {}).get("tcp", {}).get("succeeded"))
        f.status("http", "TASK_RUNNING", where=lambda s: s.get("check_status", {}).get("http", {}).get("status_code") == 404)
        seven = f.status("slow", "TASK_RUNNING", where=lambda s: s.get("check_status", {}).get("command", {}).get("exit_code") == 7)
        with open(os.path.join(self.sandbox(seven), "slow"), "w"):
            pass
        late = f.status("slow", "TASK_RUNNING", where=lambda s: s.get("reason") == CHECKED and not s["check_status"].get("command"))
        self.assertEqual(late["check_status"]["type"], "COMMAND")
        for task in ("port", "http", "slow"):
            f.call("KILL", kill={"task_id": {"value": task}})
            f.status(task, "TASK_KILLED")

    def test_artifacts_that_are_not_there(self):
        f, o = self.f, self.f.offer()
        task = f.task(o, "empty")
        task["command"]["uris"] = [{"value": "file:///nowhere/at/all"}]
        f.launch(o, task)
        f.status("empty", "TASK_STARTING")
        failed = f.status("empty", "TASK_FAILED")
        self.assertEqual(failed["reason"], "REASON_CONTAINER_LAUNCH_FAILED")
        self.assertEqual(failed["source"], "SOURCE_AGENT")
        self.assertRegex(failed["message"], "^Failed to launch container: Failed to fetch all URIs for container '[0-9a-f-]+': ")


if __name__ == "__main__":
    mesos.main()
