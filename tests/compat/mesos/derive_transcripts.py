#!/usr/bin/env python3
"""Makes transcripts.jsonl of recorded exchanges with a real Mesos: requests whole, answers as statuses, headers that matter, texts
and shapes, events whole. Ids become names ("{M}" the master's id, "{stream}" ...), so that a replay can put in its own.

    derive_transcripts.py FOLDER > transcripts.jsonl
"""

import base64
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mesos  # noqa: E402
from shapes import shape  # noqa: E402

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
FILES = ("errors", "scheduler-stream-plain", "scheduler-calls", "scheduler-streams-refused", "operator-stream", "master-legacy-reads",
         "master-operator-v1", "agent-legacy-reads", "agent-operator-v1", "scheduler-stream-refined", "scheduler-calls-refined",
         "operator-stream-refined", "executor-exchange", "operator-writes", "authentication", "high-availability")


def named(text, names):
    for i, name in names.items():
        text = text.replace(i, name)
    return text


def ids(text):
    """The master's id is that of frameworks, agents and offers."""
    masters = sorted(set(re.findall("(" + UUID.pattern + r")-(?:S?\d)", text)) | set(re.findall(r'"master_info":\{"id":"(%s)' % UUID.pattern, text)))
    names = {m: "{M}" if n == 0 else "{M%d}" % n for n, m in enumerate(masters)}
    for stream in re.findall('"Mesos-Stream-Id":"(%s)"' % UUID.pattern, text):
        if stream not in masters and not stream.startswith("00000000-"):
            names[stream] = "{stream}"
    return names


def answer(response):
    out = {"status": response["status"]}
    headers = response["headers"]
    for key, name in (("type", "Content-Type"), ("allow", "Allow"), ("location", "Location"), ("realm", "WWW-Authenticate"),
                      ("disposition", "Content-Disposition"), ("chunked", "Transfer-Encoding")):
        if name in headers:
            out[key] = headers[name]
    body = response.get("body")
    if out.get("type") == mesos.PROTOBUF and isinstance(body, dict):
        data = base64.b64decode(body["base64"]) if "base64" in body else body["text"].encode("latin-1")
        out["shape"] = shape(mesos.protobuf().decode("gantry.fb.master.Response", data))
    elif isinstance(body, dict) and set(body) == {"text"}:
        if out.get("type", "").startswith("text/plain"):
            out["text"] = body["text"]
        elif not body["text"]:
            out["text"] = ""
        else:
            out["text"] = None  # something long, of other files' contents
    elif body is not None:
        if isinstance(body, dict) and "flags" in body:
            body = dict(body, flags={})
        out["shape"] = shape(body)
    return out


def main(folder):
    for name in FILES:
        with open(os.path.join(folder, name + ".json")) as f:
            data = json.load(f)
        text = json.dumps(data, separators=(",", ":"))
        text = re.sub(r"python3 /[a-z/]+/exec\.py", "python3 {executor}", text)
        data = json.loads(named(text, ids(text)))

        def put(**row):
            print(json.dumps(dict({"file": name}, **row), separators=(",", ":")))
        streams = data if isinstance(data, list) else [data]
        if name == "executor-exchange":
            put(environment={k: v for k, v in data["environment"].items() if k.startswith(("MESOS_", "LIBPROCESS_"))})
            for n, e in enumerate(data["exchange"]):
                put(n=n, **e)
            continue
        n = 0
        for e in streams:
            request, response = e["request"], e["response"]
            row = {k: request[k] for k in ("method", "path", "headers", "body")}
            row["to"] = request.get("to", "master")
            put(n=n, request=row, answer=answer(response))
            n += 1
            for event in e.get("events", []):
                put(n=n, event=event)
                n += 1


if __name__ == "__main__":
    main(sys.argv[1])
