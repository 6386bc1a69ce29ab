"""kill -9 of an agent's daemon: its tasks go on, and what follows depends on whether it returns."""

import os
import signal
import time

import cluster
from cluster import Case, TERMINAL, alive, holds, main_pid, start_time, wait


class AgentLoss(Case):
    def victims(self, c, app_id):
        """The agent daemon with most tasks of the app, its agent id, and those tasks."""
        by_agent = {}
        for t in c.healthy(app_id):
            by_agent.setdefault(t["slaveId"], []).append(t)
        agent_id, tasks = max(by_agent.items(), key=lambda x: len(x[1]))
        daemon = c.daemon_of_agent(agent_id)
        self.assertIsNotNone(daemon)
        return daemon, agent_id, tasks

    def test_killed_and_restarted_within_a_minute_takes_its_tasks_back(self):
        c = self.up()
        c.deploy(self.web(instances=4))
        events = c.events()
        before = c.snapshot("/web")
        daemon, agent_id, tasks = self.victims(c, "/web")
        daemon.kill9()
        holds(lambda: all(alive(before[t["id"]][0]) for t in tasks), 3, "the tasks of the dead agent")
        daemon.start()
        wait(lambda: daemon.status()["registered"], 20, "the agent registered again")
        self.assertEqual(agent_id, daemon.status()["agent_id"], "the same agent")
        holds(lambda: c.snapshot("/web") == before, 3, "same task ids, pids and start times")
        self.assertEqual([], events.statuses(*TERMINAL), "no terminal update")
        self.assertEqual([], events.of("unhealthy_instance_kill_event"))
        # What it took back it can still end.
        c.gantry("app", "remove", "/web", text=True)
        for pid, _ in before.values():
            wait(lambda pid=pid: not alive(pid), 10, "the tasks ended")

    def test_an_instance_that_ended_while_the_agent_was_away_is_replaced(self):
        c = self.up()
        c.deploy(self.sleeper(instances=2))
        events = c.events()
        daemon, _, tasks = self.victims(c, "/sleep")
        victim = tasks[0]["id"]
        daemon.kill9()
        os.kill(main_pid(victim), signal.SIGKILL)
        wait(lambda: not cluster.pids_of_task(victim), 5, "the instance ended")
        daemon.start()
        wait(lambda: c.replaced("/sleep", 2, victim), 20, "a replacement")
        ended = [e for e in events.statuses(*TERMINAL) if e["taskId"] == victim]
        self.assertEqual(["TASK_FAILED"], [e["taskStatus"] for e in ended])
        self.assertEqual(1, len(events.statuses(*TERMINAL)))

    def test_an_agent_that_stays_away_is_replaced_and_does_not_double_when_it_returns(self):
        c = self.up(master='agent_ping_interval = "300ms"\nagent_ping_misses = 3\n',
                    agent='agent_ping_interval = "300ms"\nagent_ping_misses = 3\n')
        app = self.web(instances=3, unreachableStrategy={"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2})
        c.deploy(app)
        daemon, agent_id, tasks = self.victims(c, "/web")
        pids = {t["id"]: main_pid(t["id"]) for t in tasks}
        daemon.kill9()

        def moved():
            now = c.healthy("/web", 3)
            return now and all(t["slaveId"] != agent_id for t in now)
        wait(moved, 40, "all instances on the other agent")
        self.assertTrue(all(alive(p) for p in pids.values()), "nobody can end the old ones yet")
        new = c.snapshot("/web")
        daemon.start()
        for pid in pids.values():
            wait(lambda pid=pid: not alive(pid), 30, "the old instances ended")
        holds(lambda: c.snapshot("/web") == new, 2, "the new instances")
        wait(lambda: daemon.status()["registered"], 20, "the agent back")
        self.assertEqual(3, len(c.ask("task", "list")["tasks"]))
        # It is of use again.
        c.gantry("app", "scale", "/web", "5", text=True)
        self.assertTrue(c.healthy("/web", 5))

    def test_sigterm_leaves_tasks_and_sigusr1_ends_them(self):
        c = self.up(agents=1)
        c.deploy(self.sleeper(instances=2))
        before = c.snapshot("/sleep")
        agent = c.agents()[0]
        self.assertEqual(0, agent.terminate())
        self.assertTrue(all(alive(pid) for pid, _ in before.values()))
        agent.start()
        wait(lambda: agent.status()["registered"], 20, "registered again")
        holds(lambda: c.snapshot("/sleep") == before, 2, "the tasks")
        agent.signal(signal.SIGUSR1)
        self.assertEqual(0, agent.exit_code(20))
        self.assertFalse([pid for pid, _ in before.values() if alive(pid)])
        wait(lambda: not c.leftovers(), 5, "nothing left of the agent")

    def test_stopped_for_20_seconds_harms_nothing(self):
        c = self.up(agents=1)
        c.deploy(self.sleeper(instances=2))
        events = c.events()
        before = c.snapshot("/sleep")
        agent = c.agents()[0]
        agent.signal(signal.SIGSTOP)
        began = time.monotonic()
        while time.monotonic() - began < 20:
            self.assertEqual(200, c.http("GET", "/v2/apps")[0])
            self.assertEqual(0, c.gantry("status").returncode)
            time.sleep(0.5)
        agent.signal(signal.SIGCONT)
        wait(lambda: [a for a in c.cluster_agents() if a["state"] == "active"], 20, "the agent active")
        self.assertEqual(before, c.snapshot("/sleep"))
        self.assertEqual([], events.statuses(*TERMINAL))
        c.gantry("app", "scale", "/sleep", "3", text=True)
        self.assertTrue(c.healthy("/sleep", 3))

    def test_an_agent_frozen_for_too_long_comes_back_and_does_not_double(self):
        ping = 'agent_ping_interval = "300ms"\nagent_ping_misses = 3\n'
        c = self.up(master=ping, agent=ping)
        c.deploy(self.web(instances=4, unreachableStrategy={"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2}))
        daemon, agent_id, tasks = self.victims(c, "/web")
        pids = {t["id"]: main_pid(t["id"]) for t in tasks}
        daemon.signal(signal.SIGSTOP)
        wait(lambda: (lambda h: h and all(t["slaveId"] != agent_id for t in h))(c.healthy("/web", 4)), 40, "all instances on the other agent")
        new = c.snapshot("/web")
        daemon.signal(signal.SIGCONT)
        for pid in pids.values():
            wait(lambda pid=pid: not alive(pid), 30, "the old instances ended")
        wait(lambda: len([a for a in c.cluster_agents() if a["state"] == "active"]) == 2, 20, "both agents")
        holds(lambda: c.snapshot("/web") == new, 2, "the new instances")
        self.assertEqual(4, len(c.ask("task", "list")["tasks"]))

    def test_a_frozen_master_harms_no_task(self):
        ping = 'agent_ping_interval = "300ms"\nagent_ping_misses = 3\n'
        c = self.up(master=ping, agent=ping)
        c.deploy(self.sleeper(instances=4))
        events = c.events()
        before = c.snapshot("/sleep")
        c.master.signal(signal.SIGSTOP)
        holds(lambda: all(alive(pid) for pid, _ in before.values()), 5, "the tasks")
        c.master.signal(signal.SIGCONT)
        c.wait_up(2)
        holds(lambda: c.snapshot("/sleep") == before, 3, "the same instances")
        self.assertEqual([], events.statuses(*TERMINAL))

    def test_sigterm_during_launches_loses_and_doubles_nothing(self):
        c = self.up(agents=1)
        c.deploy(self.sleeper(instances=0, cpus=0.05, backoffFactor=1), n=0)
        agent = c.agents()[0]
        for n, number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), 1):
            seen = len(c.app("/sleep")["tasks"])
            status, body = c.http("PUT", "/v2/apps/sleep?force=true", {"instances": 6 * n})
            self.assertEqual(200, status, body)
            wait(lambda seen=seen: len(c.app("/sleep")["tasks"]) > seen, 10, "launches under way", step=0.001)
            agent.signal(number)
            agent.exit_code()
            agent.start()
        tasks = wait(lambda: c.settled("/sleep", 24), 60, "all instances")
        wait(lambda: all(len(cluster.pids_of_task(t["id"])) == 1 for t in tasks), 10, "one process for each")
        def running():
            return [p for p in cluster.all_pids() if b"sleep\x00100000" in cluster._read("/proc/%d/cmdline" % p)
                    and c.dir.encode() in cluster._read("/proc/%d/environ" % p)]
        wait(lambda: len(running()) >= 24, 10, "each shell has become what it starts")
        self.assertEqual(24, len(running()), "no process that nobody knows")


if __name__ == "__main__":
    cluster.main()
