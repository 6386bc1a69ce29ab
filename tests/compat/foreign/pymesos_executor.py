"""An executor on pymesos, as its users write them: each task computes the square of the number in its data, in a thread, and says so.

A message of the scheduler is sent back in upper case.
"""

import json
import sys
import threading
import time

from addict import Dict
from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Squares(Executor):
    def registered(self, driver, executor_info, framework_info, agent_info):
        print(json.dumps({"registered": executor_info["executor_id"]["value"], "agent": agent_info["hostname"]}), flush=True)

    def launchTask(self, driver, task):
        def run():
            update = Dict()
            update.task_id.value = task.task_id.value
            update.state = "TASK_RUNNING"
            update.timestamp = time.time()
            driver.sendStatusUpdate(update)
            number = int(decode_data(task.data))
            driver.sendFrameworkMessage(encode_data(("%d squared is %d" % (number, number * number)).encode()))
            if number < 0:
                return  # runs until it is killed
            update = Dict()
            update.task_id.value = task.task_id.value
            update.state = "TASK_FINISHED"
            update.timestamp = time.time()
            update.data = encode_data(str(number * number).encode())
            driver.sendStatusUpdate(update)
        threading.Thread(target=run, daemon=True).start()

    def killTask(self, driver, task_id):
        update = Dict()
        update.task_id.value = task_id["value"]
        update.state = "TASK_KILLED"
        update.timestamp = time.time()
        driver.sendStatusUpdate(update)

    def frameworkMessage(self, driver, message):
        driver.sendFrameworkMessage(encode_data(decode_data(message).decode().upper().encode()))


if __name__ == "__main__":
    driver = MesosExecutorDriver(Squares(), use_addict=True)
    driver.run()
    sys.exit(0)
