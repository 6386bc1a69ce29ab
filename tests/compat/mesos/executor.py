#!/usr/bin/env python3
"""A custom executor for tests, speaking the executor API over HTTP in JSON or protobuf. What it sees it writes, one JSON line each, to
`events` in its sandbox; its environment to `environment`.

    executor.py [protobuf] [stubborn]        stubborn: SHUTDOWN is ignored

Messages of the framework: "exit N" ends it; "finish TASK", "fail TASK" end a task; "again TASK" repeats the last update of one; anything
else is sent back behind "echo ". A task is RUNNING with data "hi" as soon as it comes, unless its own data is "quiet". KILL ends it.
"""

import base64
import http.client
import json
import os
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

PROTOBUF = "protobuf" in sys.argv
STUBBORN = "stubborn" in sys.argv
FORM = "application/x-protobuf" if PROTOBUF else "application/json"
HOST, _, PORT = os.environ["MESOS_AGENT_ENDPOINT"].rpartition(":")
TOKEN = os.environ.get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN")

if PROTOBUF:
    import mesos

lock = threading.Lock()
tasks, updates, last = {}, {}, {}


def note(**what):
    with lock, open("events", "a") as f:
        f.write(json.dumps(what) + "\n")


def encoded(call):
    return mesos.protobuf().encode("gantry.fb.executor.Call", call) if PROTOBUF else json.dumps(call).encode()


def decoded(data):
    return mesos.protobuf().decode("gantry.fb.executor.Event", data) if PROTOBUF else json.loads(data)


def headers():
    h = {"Content-Type": FORM, "Accept": FORM}
    if TOKEN:
        h["Authorization"] = "Bearer " + TOKEN
    return h


def who(kind, **body):
    return dict({"type": kind, "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]},
                 "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]}}, **body)


def call(kind, **body):
    try:
        c = http.client.HTTPConnection(HOST, int(PORT), timeout=20)
        c.request("POST", "/api/v1/executor", encoded(who(kind, **body)), headers())
        r = c.getresponse()
        text = r.read().decode()
        note(called=kind, status=r.status, text=text)
        c.close()
    except OSError as e:
        note(called=kind, error=repr(e))


def update(task, state, **fields):
    status = dict({"task_id": {"value": task}, "state": state, "source": "SOURCE_EXECUTOR",
                   "uuid": base64.b64encode(uuid.uuid4().bytes).decode(), "timestamp": time.time()}, **fields)
    updates[status["uuid"]] = {"status": status}
    last[task] = status
    call("UPDATE", update={"status": status})


def text_of(data):
    return base64.b64decode(data).decode() if data else ""


def on(event):
    kind = event["type"]
    note(event=event)
    if kind == "LAUNCH":
        t = event["launch"]["task"]
        tasks[t["task_id"]["value"]] = t
        if text_of(t.get("data")) != "quiet":
            update(t["task_id"]["value"], "TASK_RUNNING", data=base64.b64encode(b"hi").decode())
    elif kind == "KILL":
        update(event["kill"]["task_id"]["value"], "TASK_KILLED")
    elif kind == "ACKNOWLEDGED":
        updates.pop(event["acknowledged"]["uuid"], None)
        tasks.pop(event["acknowledged"]["task_id"]["value"], None)
    elif kind == "SHUTDOWN" and not STUBBORN:
        os._exit(0)
    elif kind == "MESSAGE":
        text = text_of(event["message"]["data"])
        word, _, rest = text.partition(" ")
        if word == "exit":
            os._exit(int(rest))
        elif word == "finish":
            update(rest, "TASK_FINISHED")
        elif word == "fail":
            update(rest, "TASK_FAILED", message="as told")
        elif word == "again":
            call("UPDATE", update={"status": last[rest]})
        else:
            call("MESSAGE", message={"data": base64.b64encode(("echo " + text).encode()).decode()})


def subscribe():
    c = http.client.HTTPConnection(HOST, int(PORT), timeout=20)
    c.request("POST", "/api/v1/executor", encoded(who("SUBSCRIBE", subscribe={
        "unacknowledged_tasks": list(tasks.values()), "unacknowledged_updates": list(updates.values())})), headers())
    r = c.getresponse()
    note(called="SUBSCRIBE", status=r.status, type=r.getheader("Content-Type"), encoding=r.getheader("Transfer-Encoding"))
    if r.status != 200:
        note(refused=r.read().decode())
        return
    c.sock.settimeout(None)
    while True:
        length = b""
        while not length.endswith(b"\n"):
            byte = r.read(1)
            if not byte:
                return
            length += byte
        data = r.read(int(length))
        on(decoded(data))


def main():
    with open("environment", "w") as f:
        json.dump(dict(os.environ), f)
    while True:
        try:
            subscribe()
        except (OSError, http.client.HTTPException) as e:
            note(broken=repr(e))
        if os.environ.get("MESOS_CHECKPOINT") != "1":
            note(over=True)
            return
        time.sleep(0.1)


main()
