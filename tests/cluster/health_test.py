"""Instances that hang, refuse or never start: checks of all three kinds, grace, kills, and what an agent fetches."""

import http.server
import io
import os
import signal
import tarfile
import threading

import cluster
from cluster import Case, TERMINAL, alive, holds, main_pid, wait


class Health(Case):
    def check(self, **more):
        c = {"protocol": "HTTP", "path": "/", "portIndex": 0, "intervalSeconds": 1, "timeoutSeconds": 1, "gracePeriodSeconds": 3,
             "maxConsecutiveFailures": 2}
        c.update(more)
        return {k: v for k, v in c.items() if v is not None}

    def test_an_instance_that_hangs_is_replaced(self):
        c = self.up(agents=1)
        tasks = c.deploy(self.web(instances=2, healthChecks=[self.check()]))
        events = c.events()
        victim = tasks[0]["id"]
        pid = main_pid(victim)
        os.kill(pid, signal.SIGSTOP)
        wait(lambda: c.replaced("/web", 2, victim), 40, "a replacement")
        wait(lambda: not alive(pid), 10, "the hung one ended")
        self.assertTrue(wait(lambda: events.of("unhealthy_instance_kill_event"), 5, "the event"))
        self.assertIn(tasks[1]["id"], [t["id"] for t in c.healthy("/web", 2)])

    def test_tcp_and_command_checks(self):
        c = self.up(agents=1)
        c.deploy(self.web("/tcp", instances=1, healthChecks=[self.check(protocol="TCP", path=None)]))
        (task,) = c.deploy(self.sleeper("/command", cmd="touch good; exec sleep 1000", healthChecks=[
            self.check(protocol="COMMAND", command={"value": "test -e good"}, path=None, portIndex=None, delaySeconds=0)]))
        os.unlink("/proc/%d/cwd/good" % main_pid(task["id"]))
        wait(lambda: c.replaced("/command", 1, task["id"]), 40, "a replacement")

    def test_a_port_nobody_serves_never_becomes_healthy(self):
        c = self.up(agents=1)
        status, body = c.http("POST", "/v2/apps", self.sleeper("/mute", healthChecks=[self.check()]))
        self.assertEqual(201, status, body)
        events = c.events()
        wait(lambda: events.statuses("TASK_KILLED"), 40, "the kill after its grace")
        self.assertTrue(c.http("GET", "/v2/deployments")[1], "the deployment waits")
        self.assertEqual(0, c.app("/mute")["tasksHealthy"])

    def test_a_task_that_ignores_sigterm_ends_after_its_grace(self):
        c = self.up(agents=1)
        (task,) = c.deploy(self.sleeper("/stubborn", cmd="trap '' TERM; while :; do sleep 0.1; done", taskKillGracePeriodSeconds=2))
        wait(lambda: len(cluster.pids_of_task(task["id"])) == 2, 10, "the loop, which begins after the trap")
        pid = main_pid(task["id"])
        status, body = c.http("DELETE", "/v2/apps/stubborn")
        self.assertEqual(200, status, body)
        holds(lambda: alive(pid), 1, "its grace")
        wait(lambda: not alive(pid), 10, "its end")
        wait(lambda: not c.leftovers(), 5, "nothing left")

    def test_a_killed_supervisor_takes_its_task_along(self):
        c = self.up(agents=1)
        (task,) = c.deploy(self.sleeper())
        pid = main_pid(task["id"])
        supervisor = cluster.parent(pid)
        self.assertIn(b"gantry-supervisor", cluster._read("/proc/%d/cmdline" % supervisor), "its parent")
        os.kill(supervisor, signal.SIGKILL)
        wait(lambda: c.replaced("/sleep", 1, task["id"]), 20, "a replacement")
        wait(lambda: not alive(pid), 5, "the old process ended")

    def test_an_instance_that_ends_while_the_master_is_away_is_replaced_once(self):
        c = self.up(agents=1)
        tasks = c.deploy(self.sleeper(instances=3))
        c.master.kill9()
        os.kill(main_pid(tasks[0]["id"]), signal.SIGKILL)
        wait(lambda: not cluster.pids_of_task(tasks[0]["id"]), 5, "its end")
        c.master.start()
        c.wait_up(1)
        now = wait(lambda: c.replaced("/sleep", 3, tasks[0]["id"]), 30, "a replacement")
        self.assertEqual(2, len({t["id"] for t in tasks} & {t["id"] for t in now}))

    def test_an_agent_that_lost_its_work_dir_comes_back_as_another(self):
        c = self.up(master='agent_ping_interval = "300ms"\nagent_ping_misses = 3\n', agent='agent_ping_interval = "300ms"\nagent_ping_misses = 3\n',
                    agents=1)
        (task,) = c.deploy(self.sleeper(unreachableStrategy={"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2}))
        agent = c.agents()[0]
        agent.signal(signal.SIGUSR1)
        agent.exit_code(20)
        cluster.shutil.rmtree(agent.work)
        agent.start()
        wait(lambda: c.replaced("/sleep", 1, task["id"]), 30, "a replacement")

    def test_files_are_fetched_unpacked_and_their_lack_is_told(self):
        c = self.up(agents=1)
        served = os.path.join(c.dir, "served")
        os.mkdir(served)
        with tarfile.open(os.path.join(served, "site.tar.gz"), "w:gz") as tar:
            info = tarfile.TarInfo("site/hello.txt")
            info.size = 6
            tar.addfile(info, io.BytesIO(b"hello\n"))

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args, **more):
                super().__init__(*args, directory=served, **more)

            def log_message(self, *args):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        uri = "http://127.0.0.1:%d/site.tar.gz" % server.server_port
        (task,) = c.deploy(self.sleeper("/site", cmd="cat site/hello.txt; exec sleep 1000", fetch=[{"uri": uri}]))
        wait(lambda: "hello" in c.gantry("task", "log", task["id"], text=True).stdout, 10, "what was fetched")
        c.http("POST", "/v2/apps", self.sleeper("/lacks", fetch=[{"uri": uri + ".missing"}]))
        failure = wait(lambda: c.app("/lacks").get("lastTaskFailure"), 20, "the failure")
        self.assertEqual("TASK_FAILED", failure["state"])
        self.assertIn("404", failure["message"])

    def test_one_daemon_that_is_master_and_agent(self):
        c = self.up(agents=0, start=False)
        text = c.master_text().replace('role = ["master"]', 'role = ["master", "agent"]\nhostname = "127.0.0.1"\n'
                                       'resources = "cpus:4;mem:2048;ports:[11000-11099]"')
        for name in c.isolators:
            text += "[isolator.%s]\n" % name + ('root = "%s-agent-1"\n' % c.name if name == "cgroups" else "")
        d = c.add("master", text)
        d.start()
        c.wait_up(1)
        c.deploy(self.web(instances=2))
        before = c.snapshot("/web")
        d.kill9()
        d.start()
        c.wait_up(1)
        wait(lambda: c.healthy("/web", 2), 20, "both instances")
        holds(lambda: c.snapshot("/web") == before, 2, "the same instances")
        c.gantry("app", "remove", "/web", text=True)
        wait(lambda: not c.leftovers(), 10, "nothing left")


if __name__ == "__main__":
    cluster.main()
