"""mesos-master, mesos-agent and mesos-execute as people run them, and who may do what with credentials and an ACL file of Mesos."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mesos
from mesos import base, request, wait

CREDENTIALS = {"credentials": [{"principal": p, "secret": "s-" + p} for p in ("admin", "alice", "bob")]}
ACLS = {
    "permissive": False,
    "register_frameworks": [{"principals": {"values": ["alice"]}, "roles": {"values": ["eng/%", "*"]}},
                            {"principals": {"values": ["bob"]}, "roles": {"values": ["*"]}}],
    "run_tasks": [{"principals": {"values": ["alice"]}, "users": {"values": ["root"]}}],
    "view_frameworks": [{"principals": {"values": ["admin", "alice"]}, "users": {"type": "ANY"}},
                        {"principals": {"type": "ANY"}, "users": {"type": "NONE"}}],
    "view_tasks": [{"principals": {"values": ["admin"]}, "users": {"type": "ANY"}}],
    "view_executors": [{"principals": {"values": ["admin"]}, "users": {"type": "ANY"}}],
    "view_roles": [{"principals": {"type": "ANY"}, "roles": {"type": "ANY"}}],
    "view_flags": [{"principals": {"values": ["admin"]}, "flags": {"type": "ANY"}}],
    "get_endpoints": [{"principals": {"values": ["admin"]}, "paths": {"type": "ANY"}}],
    "teardown_frameworks": [{"principals": {"values": ["admin"]}, "framework_principals": {"values": ["alice"]}}],
    "update_weights": [{"principals": {"values": ["admin"]}, "roles": {"type": "ANY"}}],
}


def basic(who, secret=None):
    return {"Authorization": "Basic " + base64.b64encode(("%s:%s" % (who, secret or "s-" + who)).encode()).decode()}


def run(program, *flags, env=None, timeout=60):
    return subprocess.run([os.path.join(base.BIN, program)] + list(flags), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=timeout * base.SLOW, env=dict(os.environ, **(env or {})))


class Cluster:
    """A master and an agent, started by their old names."""

    def __init__(self, master=(), agent=(), headers=None):
        self.dir = tempfile.mkdtemp(prefix="gantry-commands-")
        os.chmod(self.dir, 0o755)
        self.processes, self.headers = [], headers or {}
        while True:
            self.port = base.free_port()
            if self.port + 10 < 65536:
                break
        self.agent_port = base.free_port()
        self.start("mesos-master.sh", "--registry=in_memory", "--ip=127.0.0.1", "--port=%d" % self.port, "--work_dir=" + self.dir + "/m", *master)
        if agent is not None:
            self.start("mesos-agent", "--master=127.0.0.1:%d" % self.port, "--work_dir=" + self.dir + "/a", "--ip=127.0.0.1",
                       "--port=%d" % self.agent_port, "--resources=cpus:2;mem:512", "--attributes=rack:r1", "--no-systemd_enable_support",
                       "--registration_backoff_factor=10ms", *agent)
            wait(lambda: self.json("/slaves", headers=self.headers)["slaves"], 30, "an agent")

    def start(self, program, *flags):
        log = open(os.path.join(self.dir, program + ".log"), "ab")
        self.processes.append(subprocess.Popen([os.path.join(base.BIN, program)] + list(flags), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                               start_new_session=True, env=dict(os.environ, GANTRY_MODULES=base.MODULES)))
        log.close()

    def log(self, program):
        with open(os.path.join(self.dir, program + ".log"), errors="replace") as f:
            return f.read()

    def ask(self, method, path, body=None, headers=None):
        status, answered, data = request(self.port, method, path, body, headers or {})
        return status, answered, data.decode()

    def json(self, path, headers=None):
        status, _, data = self.ask("GET", path, headers=headers)
        if status != 200:
            raise ValueError("%s: %d %s" % (path, status, data))
        return json.loads(data)

    def v1(self, call, headers=None):
        return self.ask("POST", "/api/v1", json.dumps(call), dict({"Content-Type": "application/json"}, **(headers or {})))

    def close(self):
        for p in reversed(self.processes):
            if p.poll() is None:
                p.send_signal(signal.SIGUSR1 if p is not self.processes[0] else signal.SIGTERM)
        for p in self.processes:
            try:
                p.wait(20 * base.SLOW)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def show(self):
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                print("---- " + name + "\n" + self.log(name[:-4])[-6000:])


class Case(base.Case):
    def tearDown(self):
        if any(t is self for t, _ in self._outcome.result.failures + self._outcome.result.errors):
            self.cluster.show()


class Commands(Case):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(master=["--cluster=blue", "--webui_dir=/usr/share/ui", "--hooks=x"])

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def test_execute_runs_a_command_to_its_end(self):
        r = run("mesos-execute", "--master=127.0.0.1:%d" % self.cluster.port, "--name=hello", "--command=test \"$A\" = x", '--env={"A": "x"}',
                "--resources=cpus:0.1;mem:32")
        lines = r.stdout.splitlines()
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertRegex(lines[0], r"^Subscribed with ID .*-0*\d+$")
        self.assertRegex(lines[1], r"^Submitted task 'hello' to agent '.*-S0'$")
        states = [l.split()[3] for l in lines if l.startswith("Received status update")]
        self.assertEqual(states[-1], "TASK_FINISHED", r.stdout)
        self.assertIn("TASK_RUNNING", states)
        self.assertIn("  source: SOURCE_EXECUTOR", lines)

    def test_execute_tells_of_failure_and_kills_in_time(self):
        master = "--master=127.0.0.1:%d" % self.cluster.port
        r = run("mesos-execute", master, "--name=bad", "--command=exit 3", "--resources=cpus:0.1;mem:32")
        self.assertEqual(r.returncode, 0)
        self.assertIn("Received status update TASK_FAILED for task 'bad'", r.stdout)
        self.assertIn("  message: 'Command exited with status 3'", r.stdout)
        r = run("mesos-execute", master, "--name=long", "--command=sleep 1000", "--resources=cpus:0.1;mem:32", "--kill_after=1secs")
        self.assertIn("Asked to kill task 'long'", r.stdout)
        self.assertIn("Received status update TASK_KILLED for task 'long'", r.stdout)
        r = run("mesos-execute", master, "--task=" + json.dumps({"name": "own", "task_id": {"value": "own"}, "agent_id": {"value": ""}, "resources": [
            mesos.scalar("cpus", 0.1), mesos.scalar("mem", 32)], "command": {"value": "true"}}))
        self.assertIn("Received status update TASK_FINISHED for task 'own'", r.stdout, r.stderr)

    def test_the_flags_arrive(self):
        state = self.cluster.json("/state")
        self.assertEqual(state["cluster"], "blue")
        agent = self.cluster.json("/slaves")["slaves"][0]
        self.assertEqual((agent["resources"]["cpus"], agent["resources"]["mem"]), (2, 512))
        self.assertEqual(agent["attributes"], {"rack": "r1"})
        self.assertEqual(self.cluster.log("mesos-master.sh").count("no meaning here"), 1)
        self.assertIn("ignored: --hooks, --webui_dir", self.cluster.log("mesos-master.sh"))
        self.assertNotIn("no meaning", self.cluster.log("mesos-agent"))
        status, _, body = request(self.cluster.agent_port, "GET", "/state")
        self.assertEqual(status, 200, body)

    def test_mistakes(self):
        r = run("mesos-master", "--what=1")
        self.assertEqual((r.returncode, r.stderr.splitlines()[0]), (1, "Failed to load unknown flag 'what'"))
        r = run("mesos-agent", "--master=x:1")
        self.assertEqual((r.returncode, r.stderr.splitlines()[0]), (1, "Flag 'work_dir' is required, but it was not provided"))
        r = run("mesos-master", "--work_dir=/nonexistent/x", "--port=x")
        self.assertEqual(r.returncode, 1)
        self.assertEqual(run("mesos-master", "--version").stdout, "mesos 1.11.0\n")
        self.assertIn("--[no-]authenticate_agents", run("mesos-slave", "--help").stdout + run("mesos-master", "--help").stdout)
        r = run("mesos-execute", "--master=127.0.0.1:%d" % self.cluster.port)
        self.assertEqual((r.returncode, r.stderr.splitlines()[0]), (1, "Missing required option --name"))
        r = run("mesos-execute", "--master=127.0.0.1:%d" % self.cluster.port, "--name=x", "--command=true", "--role=.")
        self.assertEqual(r.returncode, 1)
        self.assertIn("Received an ERROR event:", r.stderr)

    def test_config_from_mesos(self):
        r = run("gantry", "config", "from-mesos", "agent", "--", "--master=10.0.0.1:5050", "--work_dir=/w", "--ip=127.0.0.1", "--isolation=cgroups/cpu")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn('master = "10.0.0.1:5060"', r.stdout)
        self.assertIn("[isolator.cgroups]", r.stdout)
        r = run("gantry", "config", "from-mesos", "--", "--registry=in_memory", env={"MESOS_PORT": "1"})
        self.assertIn('address = "0.0.0.0:5050"', r.stdout, r.stderr)


class Permissions(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="gantry-acl-")
        with open(cls.folder + "/credentials", "w") as f:
            json.dump(CREDENTIALS, f)
        with open(cls.folder + "/acls", "w") as f:
            json.dump(ACLS, f)
        cls.cluster = Cluster(master=["--authenticate_http_readonly", "--authenticate_http_readwrite", "--authenticate_http_frameworks",
                                      "--credentials=" + cls.folder + "/credentials", "--acls=file://" + cls.folder + "/acls"], headers=basic("admin"))

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()
        shutil.rmtree(cls.folder, ignore_errors=True)

    def framework(self, who, **info):
        f = mesos.Framework(self.cluster.port, headers=basic(who), **info)
        self.addCleanup(f.close)
        return f

    def test_each_path_has_its_realm(self):
        unauthorized = {}
        for method, path, body in (("GET", "/state", None), ("GET", "/metrics/snapshot", None), ("GET", "/flags", None), ("POST", "/api/v1", "{}"),
                                   ("POST", "/api/v1/scheduler", "{}"), ("PUT", "/weights", "[]"), ("POST", "/teardown", "")):
            status, headers, text = self.cluster.ask(method, path, body)
            self.assertEqual((status, text), (401, "401 Unauthorized."), path)
            self.assertEqual(headers["content-type"], "text/plain; charset=utf-8")
            unauthorized[path] = headers["www-authenticate"]
        for path, realm in (("/state", "readonly"), ("/metrics/snapshot", "readonly"), ("/flags", "readonly"), ("/api/v1", "readwrite"),
                            ("/api/v1/scheduler", "scheduler"), ("/weights", "readwrite"), ("/teardown", "readwrite")):
            self.assertEqual(unauthorized[path], 'Basic realm="mesos-master-%s"' % realm)
        for path, status in (("/health", 200), ("/version", 200), ("/redirect", 307), ("/nowhere", 404)):
            self.assertEqual(self.cluster.ask("GET", path)[0], status, path)
        self.assertEqual(self.cluster.ask("GET", "/state", headers=basic("alice", "wrong"))[0], 401)
        self.assertEqual(self.cluster.ask("GET", "/state", headers={"Authorization": "Basic !"})[0], 401)
        self.assertEqual(self.cluster.ask("GET", "/state", headers={"Authorization": "Bearer x"})[0], 401)
        self.assertEqual(self.cluster.ask("GET", "/version", headers=basic("alice", "wrong"))[0], 200)

    def test_principals_of_frameworks(self):
        with self.assertRaises(mesos.Refused) as caught:
            self.framework("alice", principal="bob").subscribe()
        self.assertEqual(caught.exception.status, 400)
        self.assertIn("Authenticated principal 'alice' does not match principal 'bob' set in `FrameworkInfo`", str(caught.exception))
        f = self.framework("alice", name="filled")
        self.assertEqual(f.subscribe()["type"], "SUBSCRIBED")
        shown = [x for x in self.cluster.json("/frameworks", basic("admin"))["frameworks"] if x["id"] == f.id]
        self.assertEqual(shown[0]["principal"], "alice")

    def test_roles_of_frameworks(self):
        multi = [{"type": "MULTI_ROLE"}]
        first = self.framework("alice", capabilities=multi, roles=["ops", "eng/a"]).subscribe()
        self.assertEqual(first, {"type": "ERROR", "error": {"message": "Not authorized to register framework  with roles { eng/a, ops }"}})
        f = self.framework("alice", capabilities=multi, roles=["eng/a"])
        self.assertEqual(f.subscribe()["type"], "SUBSCRIBED")
        info = dict(f.info, id={"value": f.id}, roles=["eng"])
        status, _, text = f.raw({"type": "UPDATE_FRAMEWORK", "framework_id": {"value": f.id}, "update_framework": {"framework_info": info}})
        self.assertEqual((status, text), (403, "Not authorized to register framework %s with roles { eng }" % f.id))
        info["roles"] = ["eng/b"]
        status, _, text = f.raw({"type": "UPDATE_FRAMEWORK", "framework_id": {"value": f.id}, "update_framework": {"framework_info": info}})
        self.assertEqual(status, 200, text)

    def test_users_of_tasks(self):
        f = self.framework("alice", name="tasks")
        self.assertEqual(f.subscribe()["type"], "SUBSCRIBED")
        o = f.offer()
        other = f.task(o, "as-nobody")
        other["command"]["user"] = "nobody"
        f.launch(o, f.task(o, "as-root"), other)
        s = f.status("as-nobody", "TASK_ERROR")
        self.assertEqual((s["reason"], s["source"]), ("REASON_TASK_UNAUTHORIZED", "SOURCE_MASTER"))
        self.assertNotIn("uuid", s)
        self.assertIn("not authorized to launch task as-nobody of framework %s under user 'nobody'" % f.id, s["message"])
        f.status("as-root", "TASK_FINISHED")

    def test_lists_show_what_may_be_seen(self):
        f = self.framework("alice", name="hidden")
        self.assertEqual(f.subscribe()["type"], "SUBSCRIBED")
        o = f.offer()
        f.launch(o, f.task(o, "sleeper", "sleep 1000"))
        f.status("sleeper", "TASK_RUNNING")

        def seen(who):
            state = self.cluster.json("/state", basic(who))
            mine = [x for x in state["frameworks"] if x["id"] == f.id]
            return len(mine), sum(len(x["tasks"]) for x in mine)
        wait(lambda: seen("admin") == (1, 1), 20, "the task in /state")
        self.assertEqual(seen("alice"), (1, 0))
        self.assertEqual(seen("bob"), (0, 0))
        status, _, text = self.cluster.v1({"type": "GET_FRAMEWORKS"}, basic("bob"))
        self.assertEqual((status, json.loads(text)["get_frameworks"].get("frameworks", [])), (200, []))
        self.assertNotIn("sleeper", self.cluster.v1({"type": "GET_STATE"}, basic("alice"))[2])
        self.assertIn("sleeper", self.cluster.v1({"type": "GET_STATE"}, basic("admin"))[2])
        for path in ("/flags", "/metrics/snapshot"):
            self.assertEqual(self.cluster.ask("GET", path, headers=basic("bob"))[::2], (403, "403 Forbidden."), path)
            self.assertEqual(self.cluster.ask("GET", path, headers=basic("admin"))[0], 200, path)
        self.assertEqual(self.cluster.v1({"type": "GET_FLAGS"}, basic("bob"))[0], 403)

        # Who may not, cannot end it; who may, can.
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self.assertEqual(self.cluster.ask("POST", "/teardown", "frameworkId=" + f.id, dict(form, **basic("bob")))[::2], (403, "403 Forbidden."))
        self.assertEqual(self.cluster.ask("PUT", "/weights", '[{"role": "eng", "weight": 2.0}]', dict({"Content-Type": "application/json"}, **basic("alice")))[::2],
                         (403, "403 Forbidden."))
        self.assertEqual(self.cluster.ask("POST", "/teardown", "frameworkId=" + f.id, dict(form, **basic("admin")))[0], 200)

    def test_a_changed_file_counts(self):
        f = self.framework("bob", role="eng/x")
        self.assertEqual(f.subscribe()["type"], "ERROR")
        changed = dict(ACLS, register_frameworks=[{"principals": {"type": "ANY"}, "roles": {"type": "ANY"}}])
        path = self.folder + "/acls"
        try:
            with open(path + ".new", "w") as w:
                json.dump(changed, w)
            os.replace(path + ".new", path)

            def allowed():
                g = self.framework("bob", role="eng/x")
                return g.subscribe()["type"] == "SUBSCRIBED"
            wait(allowed, 20, "the new lists", step=0.2)
        finally:
            with open(path + ".new", "w") as w:
                json.dump(ACLS, w)
            os.replace(path + ".new", path)
            # Other tests count on the lists as they were.
            wait(lambda: self.framework("bob", role="eng/x").subscribe()["type"] == "ERROR", 20, "the old lists", step=0.2)


if __name__ == "__main__":
    mesos.main()
