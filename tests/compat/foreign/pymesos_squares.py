"""A scheduler on pymesos with an executor of its own, as its examples are: one JSON line for each thing it sees.

    pymesos_squares.py MASTER N        (with pymesos on PYTHONPATH) N tasks for one executor, then one that is killed
"""

import json
import os
import sys
import threading

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler, decode_data, encode_data

HERE = os.path.dirname(os.path.abspath(__file__))


def say(**what):
    print(json.dumps(what), flush=True)


class Squares(Scheduler):
    def __init__(self, count):
        self.count, self.launched = count, 0
        self.finished = {}
        self.done = threading.Event()
        self.executor = Dict()
        self.executor.executor_id.value = "squares"
        self.executor.name = "squares"
        self.executor.command.value = "%s -B %s" % ("/usr/bin/python3", os.path.join(HERE, "pymesos_executor.py"))
        self.executor.command.environment.variables = [dict(name="PYTHONPATH", value=os.environ["PYTHONPATH"])]
        self.executor.resources = [dict(name="cpus", type="SCALAR", scalar={"value": 0.1}), dict(name="mem", type="SCALAR", scalar={"value": 64})]

    def registered(self, driver, framework_id, master_info):
        self.executor.framework_id = framework_id
        say(event="registered", framework=framework_id["value"])

    def resourceOffers(self, driver, offers):
        for offer in offers:
            have = {r["name"]: r["scalar"]["value"] for r in offer["resources"] if r["type"] == "SCALAR"}
            cpus, mem = have.get("cpus", 0) - 0.1, have.get("mem", 0) - 64
            tasks = []
            while self.launched < self.count + 1 and cpus >= 0.1 and mem >= 32:
                cpus, mem = cpus - 0.1, mem - 32
                task = Dict()
                task.task_id.value = "square-%d" % self.launched
                task.agent_id.value = offer["agent_id"]["value"]
                task.name = "square %d" % self.launched
                task.executor = self.executor
                task.data = encode_data(str(self.launched if self.launched < self.count else -1).encode())
                task.resources = [dict(name="cpus", type="SCALAR", scalar={"value": 0.1}), dict(name="mem", type="SCALAR", scalar={"value": 32})]
                tasks.append(task)
                self.launched += 1
            driver.launchTasks(offer["id"], tasks, dict(refuse_seconds=1))

    def statusUpdate(self, driver, update):
        task, state = update["task_id"]["value"], update["state"]
        say(event="update", task=task, state=state, agent="agent_id" in update, container="container_status" in update,
            data=decode_data(update["data"]).decode() if "data" in update else None, reason=update.get("reason"))
        if task == "square-%d" % self.count and state == "TASK_RUNNING":
            driver.sendFrameworkMessage(self.executor.executor_id, update["agent_id"], encode_data(b"hello executor"))
            driver.killTask(update["task_id"])
        if state in ("TASK_FINISHED", "TASK_FAILED", "TASK_LOST", "TASK_KILLED", "TASK_ERROR"):
            self.finished[task] = state
            if len(self.finished) == self.count + 1:
                self.done.set()

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        say(event="message", executor=executor_id["value"], text=decode_data(message).decode())

    def executorLost(self, driver, executor_id, agent_id, status):
        say(event="executor lost", executor=executor_id["value"], status=status)

    def error(self, driver, message):
        say(event="error", message=message)
        self.done.set()


def main():
    framework = Dict()
    framework.user = "root"
    framework.name = "squares"
    framework.failover_timeout = 60
    scheduler = Squares(int(sys.argv[2]))
    driver = MesosSchedulerDriver(scheduler, framework, sys.argv[1], use_addict=True)
    thread = threading.Thread(target=driver.run, daemon=True)
    thread.start()
    scheduler.done.wait(60)
    sys.stdin.readline()
    driver.stop()
    thread.join(10)
    say(event="stopped", ended=scheduler.finished)


if __name__ == "__main__":
    main()
