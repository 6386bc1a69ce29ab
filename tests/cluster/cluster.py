"""A real Gantry cluster for tests: gantryd processes on loopback, broken on purpose and always cleaned up.

Cluster starts daemons with generated configurations below a directory of its own; `http` speaks to the services API,
`gantry` runs the command line tool, `wait` waits for a condition. close() ends every process of the cluster and its tasks,
removes its cgroups and mounts and deletes the directory, whatever happened before. main() runs the unittest cases of a file
and prints GTest's lines, which tools/test counts.

Binaries: the build folder named by GANTRY_BUILD, else ../../build. Standard library only.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("GANTRY_BUILD", os.path.join(ROOT, "build")))
BIN = os.path.join(BUILD, "bin")
MODULES = os.path.join(BUILD, "lib", "gantry", "modules")
# Slow machines (sanitizers, CI under load) may stretch what is no promise of ours; bars of an issue are never stretched.
SLOW = float(os.environ.get("GANTRY_TEST_SLOW", "1"))

_taken = set()
_counter = 0


def is_root():
    return os.geteuid() == 0


def needs_root(test):
    return unittest.skipUnless(is_root(), "needs root")(test)


def cgroups_writable():
    """Whether limits can be set here: version 1 or 2, and the right to make groups."""
    for top in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        if os.path.isdir(top) and (os.path.exists(os.path.join(top, "tasks")) or
                                   os.path.exists(os.path.join(top, "cgroup.controllers"))):
            probe = os.path.join(top, "gantry-probe-%d" % os.getpid())
            try:
                os.mkdir(probe)
                os.rmdir(probe)
                return True
            except OSError:
                return False
    return False


def needs_cgroups(test):
    return unittest.skipUnless(is_root() and cgroups_writable(), "needs root and writable cgroups")(test)


def free_port():
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in _taken:
            _taken.add(port)
            return port


def wait(condition, seconds=20, what="the condition", step=0.02):
    """Calls condition() until it returns something true; returns that. Exceptions count as not yet."""
    end = time.monotonic() + seconds * SLOW
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, http.client.HTTPException, ValueError, KeyError, subprocess.SubprocessError) as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError("%s did not come true within %g s; last: %r" % (what, seconds * SLOW, last))
        time.sleep(step)


def holds(condition, seconds, what="the condition"):
    """The condition stays true for that long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            raise AssertionError("%s did not stay true" % what)
        time.sleep(0.05)


# ---- processes

def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def start_time(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rpartition(")")[2].split()[19]


def _read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def parent(pid):
    with open("/proc/%d/stat" % pid) as f:
        return int(f.read().rpartition(")")[2].split()[1])


def all_pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]


def pids_of_task(task_id):
    """Processes of the task itself (not its supervisor), oldest first."""
    mark = b"MESOS_TASK_ID=" + task_id.encode() + b"\0"
    found = []
    for pid in all_pids():
        if mark in _read("/proc/%d/environ" % pid) and alive(pid):
            if b"gantry-supervisor" not in _read("/proc/%d/cmdline" % pid).split(b"\0")[0]:
                found.append(pid)
    return sorted(found, key=lambda p: (int(start_time(p)), p))


def main_pid(task_id):
    """The task's first process. It is RUNNING a moment before its process has become what it executes."""
    for _ in range(200):
        pids = pids_of_task(task_id)
        if pids:
            return pids[0]
        time.sleep(0.01)
    return None


class Daemon:
    """One gantryd."""

    def __init__(self, cluster, name, text):
        self.cluster, self.name = cluster, name
        self.work = os.path.join(cluster.dir, name)
        self.config = os.path.join(cluster.dir, name + ".toml")
        self.log_path = os.path.join(cluster.dir, name + ".log")
        self.process = None
        self.prefix = []   # e.g. setpriv
        self.address = None
        with open(self.config, "w") as f:
            f.write(text)

    def start(self, ready=True, seconds=20):
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.prefix + [os.path.join(BIN, "gantryd"), "--config", self.config],
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.cluster.dir,
                                        start_new_session=True)
        log.close()
        if ready:
            self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=20):
        def answering():
            if self.process.poll() is not None:
                raise AssertionError("%s ended with %r:\n%s" % (self.name, self.process.returncode, self.log()[-2000:]))
            return self.status() is not None
        wait(answering, seconds, self.name + " answering")

    def status(self):
        r = self.cluster.gantry("status", address=os.path.join(self.work, "gantry.sock"), check=False)
        return json.loads(r.stdout) if r.returncode == 0 else None

    def log(self):
        return _read(self.log_path).decode("utf-8", "replace")

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def terminate(self, seconds=15):
        self.process.terminate()
        return self.process.wait(seconds * SLOW)

    def exit_code(self, seconds=15):
        return self.process.wait(seconds * SLOW)


class Events:
    """The services API's event stream, collected by a thread."""

    def __init__(self, port):
        self.seen = []
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.sendall(b"GET /v2/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        wait(lambda: self.of("event_stream_attached"), 10, "the event stream")

    def _read(self):
        kind = None
        try:
            for line in self.socket.makefile("r", encoding="utf-8", errors="replace", newline="\n"):
                line = line.strip()
                if line.startswith("event:"):
                    kind = line[6:].strip()
                elif line.startswith("data:") and kind:
                    try:
                        self.seen.append((kind, json.loads(line[5:])))
                    except ValueError:
                        self.seen.append((kind, {"broken": line}))
                    kind = None
        except (OSError, ValueError):
            pass

    def of(self, kind):
        return [e for k, e in list(self.seen) if k == kind]

    def statuses(self, *states):
        return [e for e in self.of("status_update_event") if not states or e.get("taskStatus") in states]

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


TERMINAL = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR", "TASK_DROPPED", "TASK_GONE",
            "TASK_GONE_BY_OPERATOR", "TASK_UNREACHABLE")


class Cluster:
    def __init__(self, agents=2, start=True, master="", agent="", services="", isolators=None, log_level="debug",
                 base=None):
        global _counter
        _counter += 1
        self.name = "gantry-clu-%d-%d" % (os.getpid(), _counter)
        self.dir = tempfile.mkdtemp(prefix=self.name + "-", dir=base)
        os.chmod(self.dir, 0o755)
        self.mounts = []
        self.master_port, self.http_port = free_port(), free_port()
        self.streams = []
        self.daemons = {}
        self.log_level = log_level
        self.isolators = isolators if isolators is not None else (
            (["namespaces"] if is_root() else []) + (["cgroups"] if is_root() and cgroups_writable() else []))
        self.agent_settings = agent
        self.add("master", self.master_text(master, services))
        for n in range(1, agents + 1):
            self.add_agent(n)
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    # -- configurations
    def master_text(self, extra="", services=""):
        return """
[kernel]
role = ["master"]
work_dir = "%s/master"
listen = "127.0.0.1:%d"
module_dirs = ["%s"]
log_level = "%s"
%s
[store.lmdb]
[election.standalone]
master = "127.0.0.1:%d"
[allocator.drf]
[framework.services]
listen = "127.0.0.1:%d"
%s
""" % (self.dir, self.master_port, MODULES, self.log_level, extra, self.master_port, self.http_port, services)

    def agent_text(self, n, extra=""):
        first = 12000 + (os.getpid() * 7 + _counter * 3 + n) % 180 * 100
        text = """
[kernel]
role = ["agent"]
work_dir = "%s/agent-%d"
hostname = "127.0.0.1"
agent_listen = "127.0.0.1:%d"
module_dirs = ["%s"]
log_level = "%s"
resources = "cpus:4;mem:2048;disk:4096;ports:[%d-%d]"
attributes = "agent:agent-%d"
registration_backoff = "100ms"
registration_backoff_max = "500ms"
%s
[election.standalone]
master = "127.0.0.1:%d"
[fetcher.curl]
""" % (self.dir, n, free_port(), MODULES, self.log_level, first, first + 99, n, extra or self.agent_settings,
            self.master_port)
        if "namespaces" in self.isolators:
            text += "[isolator.namespaces]\n"
        if "cgroups" in self.isolators:
            text += '[isolator.cgroups]\nroot = "%s-agent-%d"\n' % (self.name, n)
        return text

    def add(self, name, text):
        self.daemons[name] = Daemon(self, name, text)
        return self.daemons[name]

    def add_agent(self, n, extra=""):
        return self.add("agent-%d" % n, self.agent_text(n, extra))

    @property
    def master(self):
        return self.daemons["master"]

    def agents(self):
        return [d for name, d in self.daemons.items() if name.startswith("agent-")]

    def start(self):
        for d in self.daemons.values():
            d.start(ready=False)
        for d in self.daemons.values():
            d.wait_ready(30)
        self.wait_up(len(self.agents()))

    def wait_up(self, agents):
        wait(lambda: self.http("GET", "/ping")[0] == 200, 20, "the services API")
        wait(lambda: len([a for a in self.cluster_agents() if a["state"] == "active"]) >= agents, 20, "%d agents registered" % agents)

    def daemon_of_agent(self, agent_id):
        for d in self.agents():
            s = d.status() if d.running() else None
            if s and s.get("agent_id") == agent_id:
                return d
        return None

    # -- talking
    def gantry(self, *args, address=None, check=True, text=False, timeout=60):
        command = [os.path.join(BIN, "gantry"), "-a", address or "127.0.0.1:%d" % self.master_port,
                   "--services", "http://127.0.0.1:%d" % self.http_port] + ([] if text else ["--json"]) + list(args)
        r = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           timeout=timeout)
        if check and r.returncode != 0:
            raise AssertionError("%s: exit %d\n%s%s" % (" ".join(args), r.returncode, r.stdout, r.stderr))
        return r

    def ask(self, *args):
        return json.loads(self.gantry(*args).stdout)

    def cluster_agents(self):
        r = self.gantry("agents", check=False)
        return json.loads(r.stdout)["agents"] if r.returncode == 0 else []

    def http(self, method, path, body=None, timeout=20, headers=None):
        """Status and decoded body."""
        c = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout)
        try:
            data = json.dumps(body) if body is not None and not isinstance(body, (str, bytes)) else body
            c.request(method, path, data, dict({"Content-Type": "application/json", "Accept": "application/json"}, **(headers or {})))
            r = c.getresponse()
            raw = r.read()
            try:
                return r.status, json.loads(raw) if raw else None
            except ValueError:
                return r.status, raw.decode("utf-8", "replace")
        finally:
            c.close()

    def app(self, app_id):
        status, body = self.http("GET", "/v2/apps" + app_id)
        return body["app"] if status == 200 else None

    def tasks(self, app_id, state="TASK_RUNNING"):
        app = self.app(app_id)
        return [t for t in (app or {}).get("tasks", []) if state is None or t["state"] == state]

    def healthy(self, app_id, n=None):
        """The tasks of an application when all of them run (and pass their checks), else None."""
        app = self.app(app_id)
        if not app:
            return None
        n = app["instances"] if n is None else n
        good = [t for t in app.get("tasks", []) if t["state"] == "TASK_RUNNING" and
                (not app.get("healthChecks") or any(h.get("alive") for h in t.get("healthCheckResults", [])))]
        return good if len(good) == n and len(app["tasks"]) == n else None

    def replaced(self, app_id, n, *gone):
        """The same, and none of the instances `gone` is among them. One question: two would straddle a change."""
        now = self.healthy(app_id, n)
        return now if now and not {t["id"] for t in now} & set(gone) else None

    def settled(self, app_id, n=None):
        return None if self.http("GET", "/v2/deployments")[1] else self.healthy(app_id, n)

    def deploy(self, app, n=None, seconds=30):
        status, body = self.http("POST", "/v2/apps", app)
        if status != 201:
            raise AssertionError("POST /v2/apps: %d %r" % (status, body))
        want = app.get("instances", 1) if n is None else n
        found = wait(lambda: [x for x in [self.settled(app["id"], want)] if x is not None], seconds,
                     "%d good instances of %s" % (want, app["id"]))
        return found[0]

    def events(self):
        e = Events(self.http_port)
        self.streams.append(e)
        return e

    def snapshot(self, app_id):
        """task id -> (pid, start time)."""
        out = {}
        for t in self.tasks(app_id):
            pid = main_pid(t["id"])
            out[t["id"]] = (pid, start_time(pid)) if pid else None
        return out

    # -- the end
    def leftovers(self):
        """Processes that belong to this cluster: its daemons are not counted while they run."""
        mark = self.dir.encode() + b"/"
        daemons = {d.process.pid for d in self.daemons.values() if d.process}
        return [pid for pid in all_pids() if pid not in daemons and alive(pid) and
                (mark in _read("/proc/%d/cmdline" % pid) or mark in _read("/proc/%d/environ" % pid))]

    def supervisors(self):
        """Of containers whose records are there. Some have no task of their own, and their command lines name no cluster."""
        found = []
        for agent in _list(self.dir):
            folder = os.path.join(self.dir, agent, "meta", "containers")
            for name in _list(folder):
                words = _read(os.path.join(folder, name)).decode().split()
                if words[:1] == ["supervisor"] and alive(int(words[1])) and start_time(int(words[1])) == words[2]:
                    found.append(int(words[1]))
        return found

    def cgroups(self):
        found = []
        tops = ["/sys/fs/cgroup"] + [os.path.join("/sys/fs/cgroup", d) for d in _list("/sys/fs/cgroup")]
        for top in tops:
            found += [os.path.join(top, d) for d in _list(top) if d.startswith(self.name + "-")]
        return found

    def task_cgroups(self):
        """Those below <root>/<agent>."""
        return [os.path.join(folder, d) for root in self.cgroups() for agent in _list(root)
                for folder, below, _ in os.walk(os.path.join(root, agent)) for d in below]

    def mounted(self):
        lines = _read("/proc/self/mounts").decode().splitlines()
        return [line.split()[1] for line in lines if line.split()[1].startswith(self.dir)]

    def tmpfs(self, path, size):
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%s,mode=755" % size, "tmpfs", path], check=True)
        self.mounts.append(path)

    def show_logs(self):
        for d in self.daemons.values():
            print("---- last lines of %s" % d.log_path)
            print("\n".join(line for line in d.log().splitlines()[-int(os.environ.get("GANTRY_TEST_LOG_LINES", "40")):]))

    def close(self):
        for e in self.streams:
            e.close()
        for d in self.daemons.values():
            if d.process and d.process.poll() is None:
                d.process.send_signal(signal.SIGCONT)
                d.process.kill()
                d.process.wait()
        for _ in range(100):
            left = self.leftovers() + [p for p in self.supervisors() if alive(p)]
            for group in self.cgroups():
                for folder, _, files in os.walk(group):
                    if "cgroup.procs" in files:
                        left += [int(p) for p in _read(os.path.join(folder, "cgroup.procs")).split()]
            for pid in set(left):
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            for group in self.cgroups():
                for folder, _, _ in os.walk(group, topdown=False):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        pass
            if not left and not self.cgroups():
                break
            time.sleep(0.05)
        for path in reversed(self.mounts + [m for m in self.mounted() if m not in self.mounts]):
            subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, check=False)
        if not os.environ.get("GANTRY_TEST_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)


def _list(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


class Case(unittest.TestCase):
    """A test with a cluster: shows the daemons' logs when it fails, ends everything always."""

    cluster = None

    def up(self, **options):
        self.cluster = Cluster(**options)
        self.addCleanup(self.down)
        return self.cluster

    def down(self):
        cluster, self.cluster = self.cluster, None
        failed = any(error for _, error in getattr(self._outcome, "errors", [])) or \
            any(t is self for t, _ in self._outcome.result.failures + self._outcome.result.errors)
        if failed:
            cluster.show_logs()
        cluster.close()

    def sleeper(self, app_id="/sleep", **more):
        app = {"id": app_id, "cmd": "exec sleep 100000", "cpus": 0.1, "mem": 32, "instances": 1}
        app.update(more)
        return app

    def web(self, app_id="/web", **more):
        """Answers HTTP with the directory of its sandbox; checked every second."""
        app = {"id": app_id, "cmd": "exec python3 -m http.server --bind 127.0.0.1 $PORT0", "cpus": 0.1, "mem": 64, "instances": 3,
               "healthChecks": [{"protocol": "HTTP", "path": "/", "portIndex": 0, "intervalSeconds": 1, "timeoutSeconds": 2,
                                 "gracePeriodSeconds": 20, "maxConsecutiveFailures": 5}]}
        app.update(more)
        return app

    def answers(self, task):
        c = http.client.HTTPConnection(task["host"], task["ports"][0], timeout=5)
        try:
            c.request("GET", "/")
            return c.getresponse().status == 200
        except OSError:
            return False
        finally:
            c.close()


class _Result(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.began = 0.0

    def name(self, test):
        return "%s.%s" % (type(test).__name__, getattr(test, "_testMethodName", str(test)))  # str: of a whole class

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        print("[ RUN      ] " + self.name(test), flush=True)

    def _end(self, word, test):
        print("[%s] %s (%d ms)" % (word, self.name(test), (time.monotonic() - self.began) * 1000), flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._end("       OK ", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print("%s: Skipped\n%s" % (self.name(test), reason))
        self._end("  SKIPPED ", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        print(self._exc_info_to_string(err, test))
        self._end("  FAILED  ", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            print("%s: %s\n%s" % (self.name(test), subtest._subDescription(), self._exc_info_to_string(err, test)))
            self._end("  FAILED  ", test)

    def addError(self, test, err):
        super().addError(test, err)
        print(self._exc_info_to_string(err, test))
        self._end("  FAILED  ", test)


def main():
    module = sys.modules["__main__"]
    if not os.access(os.path.join(BIN, "gantryd"), os.X_OK):
        print("skipped: %s/gantryd is not built" % BIN)
        sys.exit(77)
    loader = unittest.TestLoader()
    names = [a for a in sys.argv[1:] if not a.startswith("-")]
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    result = _Result()
    suite.run(result)
    good = result.testsRun - len(result.failures) - len(result.errors) - len(result.skipped)
    print("%d passed, %d failed, %d skipped" % (good, len(result.failures) + len(result.errors), len(result.skipped)))
    sys.exit(0 if result.wasSuccessful() else 1)
