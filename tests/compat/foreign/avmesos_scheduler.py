"""avmesos: launches tasks on the first offers, prints what it sees, a line of JSON each; "teardown" on stdin ends it.

    avmesos_scheduler.py URL TASKS
"""
import json
import sys
import threading

from avmesos.client import MesosClient

url, count = sys.argv[1], int(sys.argv[2])
lock = threading.Lock()
left = ["av-%d" % n for n in range(count)]


def say(event, **more):
    with lock:
        print(json.dumps(dict(more, event=event)), flush=True)


client = MesosClient(mesos_urls=[url], frameworkName="avmesos", frameworkUser="root")
client.set_failover_timeout(60)
client.set_role("*")
driver = None


def subscribed(d):
    global driver
    driver = d
    say("subscribed", framework=client.frameworkId, master=client.get_master_info())


def offers(got):
    for offer in got:
        say("offer", agent=offer.get_offer()["agent_id"]["value"], hostname=offer.get_offer()["hostname"])
        if not left:
            offer.decline()
            continue
        tasks = []
        while left:
            name = left.pop(0)
            tasks.append({"name": name, "task_id": {"value": name}, "agent_id": {"value": offer.get_offer()["agent_id"]["value"]},
                          "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                                        {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}],
                          "command": {"value": "sleep 1; exit %d" % (1 if name.endswith("-1") else 0), "shell": "true"}})
        offer.accept(tasks)


def update(u):
    status = u["status"] if "status" in u else u
    say("update", task=status["task_id"]["value"], state=status["state"])


client.on(MesosClient.SUBSCRIBED, subscribed)
client.on(MesosClient.OFFERS, offers)
client.on(MesosClient.UPDATE, update)
client.on(MesosClient.HEARTBEAT, lambda _: say("heartbeat"))
client.on(MesosClient.ERROR, lambda e: say("error", message=str(e)))
thread = threading.Thread(target=client.register, daemon=True)
thread.start()
for line in sys.stdin:
    if line.strip() == "teardown":
        client.stop = True
        driver.tearDown()
        say("torn_down")
        break
