"""A scheduler on pymesos, written as its users write them: runs N command tasks, one JSON line for each thing it sees.

    pymesos_scheduler.py MASTER N [FAILOVER]     (with pymesos on PYTHONPATH; FAILOVER: keep one task and wait to be re-registered)
"""

import json
import sys
import threading
import time

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler


def say(**what):
    print(json.dumps(what), flush=True)


class Runner(Scheduler):
    def __init__(self, count, stays):
        self.count, self.stays = count, stays
        self.launched, self.ended = 0, {}
        self.done = threading.Event()

    def registered(self, driver, framework_id, master_info):
        say(event="registered", framework=framework_id["value"], master=master_info["port"], version=master_info["version"])

    def reregistered(self, driver, master_info):
        say(event="reregistered", master=master_info["port"], version=master_info["version"])

    def disconnected(self, driver):
        say(event="disconnected")

    def resourceOffers(self, driver, offers):
        for offer in offers:
            have = {r["name"]: r["scalar"]["value"] for r in offer["resources"] if r["type"] == "SCALAR"}
            tasks = []
            while self.launched < self.count and have.get("cpus", 0) >= 0.1 and have.get("mem", 0) >= 32:
                have["cpus"] -= 0.1
                have["mem"] -= 32
                task = Dict()
                task.task_id.value = "pymesos-%d" % self.launched
                task.agent_id.value = offer["agent_id"]["value"]
                task.name = "task %d" % self.launched
                task.command.value = "sleep 1000" if self.stays else "echo hello; exit 0"
                task.resources = [dict(name="cpus", type="SCALAR", scalar={"value": 0.1}),
                                  dict(name="mem", type="SCALAR", scalar={"value": 32})]
                tasks.append(task)
                self.launched += 1
            driver.launchTasks(offer["id"], tasks, dict(refuse_seconds=1))

    def offerRescinded(self, driver, offer_id):
        say(event="rescinded")

    def statusUpdate(self, driver, update):
        task, state = update["task_id"]["value"], update["state"]
        say(event="update", task=task, state=state, reason=update.get("reason"))
        if state in ("TASK_FINISHED", "TASK_FAILED", "TASK_LOST", "TASK_KILLED", "TASK_ERROR"):
            self.ended[task] = state
            if len(self.ended) == self.count:
                self.done.set()

    def error(self, driver, message):
        say(event="error", message=message)
        self.done.set()


def main():
    master, count = sys.argv[1], int(sys.argv[2])
    stays = len(sys.argv) > 3
    framework = Dict()
    framework.user = "root"
    framework.name = "pymesos"
    framework.failover_timeout = 60
    scheduler = Runner(count, stays)
    driver = MesosSchedulerDriver(scheduler, framework, master, use_addict=True)
    thread = threading.Thread(target=driver.run, daemon=True)
    thread.start()
    if stays:
        for line in sys.stdin:
            word = line.strip()
            if word == "reconcile":
                driver.reconcileTasks([])
            elif word == "kill":
                driver.killTask(dict(value="pymesos-0"))
            elif word == "stop":
                break
    else:
        scheduler.done.wait(60)
    driver.stop()
    thread.join(10)
    time.sleep(0.2)
    say(event="stopped", ended=scheduler.ended)


if __name__ == "__main__":
    main()
