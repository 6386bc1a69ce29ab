"""Containers with images as frameworks ask for them, MESOS and DOCKER, on real agents with every isolator, from a real registry."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import mesos
from mesos import MesosCluster, free_port, wait

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../cluster"))
import images

MISSING = images.available() + ([] if os.geteuid() == 0 else ["root"])


class ContainersCluster(MesosCluster):
    def agent_text(self, n, extra=""):
        text = super().agent_text(n, extra)
        for kind in ("filesystem", "security"):
            text += "[isolator.%s]\n" % kind
        third = 240 + (os.getpid() + n) % 15
        self.bridges = getattr(self, "bridges", []) + ["gt%d" % (os.getpid() % 10000 * 10 + n)]
        return text + '[isolator.network]\nbridge_device = "gt%d"\nsubnet = "172.31.%d.0/24"\n[image.oci]\n' % (os.getpid() % 10000 * 10 + n, third)


    def close(self):
        super().close()
        # The bridge outlives its agent, as its containers do; nobody comes back for this one.
        tables = subprocess.run(["nft", "list", "ruleset"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode().split("\ntable ip ")
        for device in self.bridges:
            subprocess.run(["ip", "link", "delete", device], stderr=subprocess.DEVNULL)
            for table in tables:
                if '"%s"' % device in table:
                    subprocess.run(["nft", "delete", "table", "ip", table.replace("table ip ", "").split()[0]])


@unittest.skipIf(MISSING, "needs " + ", ".join(MISSING))
class Case(mesos.Case):
    @classmethod
    def setUpClass(cls):
        cls.images = tempfile.mkdtemp(prefix="gantry-images-")
        cls.registry = images.Registry(cls.images)
        cls.root = images.make_root(cls.images + "/root")
        cls.cluster = ContainersCluster(agents=1)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()
        cls.registry.close()
        shutil.rmtree(cls.images)

    def run_task(self, name, f=None, **task):
        """Launches it; returns the framework and the task's sandbox when it has ended or runs."""
        # One framework a test: what others hold in offers it would not get.
        if not f:
            self.own = getattr(self, "own", None) or self.framework()
            f = self.own
        o = f.offer()
        t = f.task(o, name, **task)
        t["command"] = task.get("command", {"shell": False})
        f.launch(o, t)
        return f

    def sandbox(self, name):
        top = os.path.join(self.cluster.dir, "agent-1", "slaves")
        for base, dirs, _ in os.walk(top):
            if os.path.basename(base) == name and "runs" in dirs:
                return os.path.join(base, "runs", "latest")
        raise AssertionError("no sandbox of " + name)

    def out(self, name, stream="stdout"):
        with open(os.path.join(self.sandbox(name), stream)) as f:
            return f.read()

    def finished(self, name, f=None, **task):
        f = self.run_task(name, f, **task)
        end = wait(lambda: [e["update"]["status"] for e in f.stream.of("UPDATE") if e["update"]["status"]["task_id"]["value"] == name and
                            e["update"]["status"]["state"] in ("TASK_FINISHED", "TASK_FAILED", "TASK_ERROR", "TASK_LOST", "TASK_KILLED")], 30, "the end of " + name)[0]
        self.assertEqual("TASK_FINISHED", end["state"], "%r %s" % (end, self.tail(name)))
        return self.out(name)

    def failed(self, name, **task):
        f = self.run_task(name, **task)
        return f.status(name, "TASK_FAILED", 30)

    def tail(self, name):
        try:
            return self.out(name) + self.out(name, "stderr")
        except (AssertionError, OSError):
            return ""


def docker(image, **fields):
    parameters = fields.pop("parameters", {})
    d = dict({"image": image, "parameters": [{"key": k, "value": v} for k, vs in parameters.items() for v in (vs if isinstance(vs, list) else [vs])]}, **fields.pop("docker", {}))
    return dict({"type": "DOCKER", "docker": d}, **fields)


def mesos_image(image, **fields):
    return dict({"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": image}}}}, **fields)


def shell(line):
    return {"shell": True, "value": line}


class Images(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.plain = cls.registry.push("plain", cls.root)
        cls.full = cls.registry.push("team/full", cls.root, "--config.user", "web", "--config.workingdir", "/var/web", "--config.env", "FROM_IMAGE=yes", "--config.env", "BOTH=image",
                                     "--config.entrypoint", "/bin/sh", "--config.entrypoint", "-c", "--config.cmd", "id -un; pwd; echo $FROM_IMAGE $BOTH")

    def test_what_the_image_says_is_what_runs(self):
        for kind, container in (("docker", docker(self.full)), ("mesos", mesos_image(self.full))):
            with self.subTest(kind):
                self.assertEqual("web\n/var/web\nyes image\n", self.finished("says-" + kind, container=container))

    def test_the_task_overrides_the_image(self):
        command = {"shell": False, "arguments": ["echo $BOTH; id -u; ls -d /mnt/mesos/sandbox; echo $MESOS_SANDBOX"], "environment": {"variables": [{"name": "BOTH", "value": "task"}]}}
        self.assertEqual("task\n1234\n/mnt/mesos/sandbox\n/mnt/mesos/sandbox\n", self.finished("overrides", container=docker(self.full), command=command))
        self.assertEqual("root\n", self.finished("user", container=docker(self.full, parameters={"user": "root"}), command=shell("id -un")))
        self.assertEqual("65534\n/tmp\n50\n", self.finished("parameters", command=shell("id -u; pwd; id -G | grep -o 50"),
                         container=docker(self.full, parameters={"user": "65534:65534", "workdir": "/tmp", "group-add": "staff"})))
        self.assertEqual("E\n", self.finished("entrypoint", container=docker(self.full, parameters={"entrypoint": "/bin/echo"}), command={"shell": False, "arguments": ["E"]}))

    def test_a_root_of_its_own_that_ends_with_it(self):
        out = self.finished("own", container=mesos_image(self.plain), command=shell("ls /; touch /made && ls /made; ls /work 2>&1; ls /proc | grep -c '^[0-9]'; cat /proc/1/comm"))
        self.assertNotIn("home", out)
        self.assertIn("/made", out)
        self.assertIn("cannot access '/work'", out)
        agent = os.path.join(self.cluster.dir, "agent-1", "modules", "isolator.filesystem", "containers")
        wait(lambda: not os.path.isdir(agent) or not os.listdir(agent), 10, "nothing left of it")
        self.assertNotIn(self.cluster.dir, open("/proc/self/mountinfo").read())

    def test_volumes(self):
        host = os.path.join(self.images, "shared")
        os.makedirs(host, exist_ok=True)
        with open(host + "/greeting", "w") as f:
            f.write("hello\n")
        volumes = [{"container_path": "/ro", "host_path": host, "mode": "RO"}, {"container_path": "/made", "host_path": host + "/made/by/us", "mode": "RW"},
                   {"container_path": "/data", "host_path": "data", "mode": "RW"}]
        out = self.finished("volumes", container=docker(self.plain, volumes=volumes, parameters={"tmpfs": "/scratch:size=1m", "volume": "keep:/keep"}),
                            command=shell("cat /ro/greeting; touch /ro/x 2>&1 | grep -o 'Read-only'; echo made > /made/file; echo mine > /data/file; echo kept > /keep/file; mount | grep -o 'on /scratch type tmpfs'"))
        self.assertEqual("hello\nRead-only\non /scratch type tmpfs\n", out)
        self.assertEqual("made\n", open(host + "/made/by/us/file").read())
        self.assertEqual("mine\n", open(os.path.join(self.sandbox("volumes"), "data", "file")).read())
        self.assertEqual("kept\n", self.finished("again", container=docker(self.plain, parameters={"volume": "keep:/other:ro"}), command=shell("cat /other/file")))

    def test_confined_as_docker_does_it(self):
        look = "grep -e CapEff -e Seccomp: /proc/self/status; mount -t tmpfs x /tmp 2>&1 | grep -o -i 'permission denied'; echo x > /proc/sys/kernel/domainname"
        out = self.finished("confined", container=docker(self.plain), command=shell(look + "; true"))
        self.assertEqual("CapEff:\t00000000a80425fb\nSeccomp:\t2\npermission denied\n", out)
        self.assertIn("Read-only file system", self.out("confined", "stderr"))
        out = self.finished("privileged", container=docker(self.plain, docker={"privileged": True}), command=shell("grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp && echo mounted"))
        self.assertEqual("Seccomp:\t0\nmounted\n", out)
        out = self.finished("read-only", container=docker(self.plain, parameters={"read-only": "true", "cap-drop": "ALL", "ulimit": "nofile=64:64"}),
                            command=shell("touch /x 2>&1 | grep -o Read-only; touch $MESOS_SANDBOX/x && echo sandbox; grep CapEff /proc/self/status; ulimit -n"))
        self.assertEqual("Read-only\nsandbox\nCapEff:\t0000000000000000\n64\n", out)

    def test_mistakes_are_told(self):
        why = self.failed("nothing", container=docker(self.registry.host + "/no-such:1"))
        self.assertEqual("REASON_CONTAINER_LAUNCH_FAILED", why["reason"])
        self.assertIn("Failed to pull the image '%s/no-such:1'" % self.registry.host, why["message"])
        self.assertIn("wings", self.failed("wings", container=docker(self.plain, parameters={"wings": "2"}), command=shell("true"))["message"])
        self.assertIn("ghost", self.failed("ghost", container=docker(self.plain, parameters={"user": "ghost"}), command=shell("true"))["message"])
        self.assertIn("neither an entrypoint nor a command", self.failed("empty", container=docker(self.plain))["message"])

    def test_health_checks_run_in_the_container(self):
        f = self.run_task("checked", container=docker(self.full), command=shell("sleep 1000"),
                          health_check={"type": "COMMAND", "command": {"shell": True, "value": "test $(id -un) = web && test $FROM_IMAGE = yes && test ! -e /work"},
                                        "delay_seconds": 0, "interval_seconds": 0.2, "grace_period_seconds": 0, "consecutive_failures": 1})
        f.status("checked", "TASK_RUNNING", 20, lambda s: s.get("healthy"))

    def test_a_restart_of_the_agent_keeps_containers_and_what_they_use(self):
        f = self.run_task("kept", f=self.framework(failover_timeout=60, checkpoint=True), container=docker(self.plain), command=shell("echo up; while test ! -e $MESOS_SANDBOX/go; do sleep 0.1; done; cat /etc/passwd | head -1"))
        f.status("kept", "TASK_RUNNING")
        agent = self.cluster.agents()[0]
        agent.kill9()
        agent.start()
        open(os.path.join(self.sandbox("kept"), "go"), "w").close()
        f.status("kept", "TASK_FINISHED", 20)
        self.assertEqual("up\nroot:x:0:0:root:/root:/bin/sh\n", self.out("kept"))


class Networks(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nginx = None
        if shutil.which("nginx", path="/usr/sbin"):
            images.make_root(cls.root, ("nginx", "curl"))
            for d in ("/var/log/nginx", "/var/lib/nginx", "/srv", "/etc/nginx", "/run"):
                os.makedirs(cls.root + d, exist_ok=True)
            with open(cls.root + "/etc/nginx/nginx.conf", "w") as c:
                c.write("user root; daemon off; error_log /dev/stderr; events {}\nhttp { access_log off; server { listen 80; root /srv; } }\n")
            with open(cls.root + "/srv/index.html", "w") as c:
                c.write("served from a container\n")
            cls.nginx = cls.registry.push("nginx", cls.root, "--config.entrypoint", "/bin/nginx")

    def test_nginx_answers_through_its_mapped_port(self):
        if not self.nginx:
            self.skipTest("needs nginx")
        f = self.framework()
        o = f.offer()
        port = [r for r in o["resources"] if r["name"] == "ports"][0]["ranges"]["range"][0]["begin"]
        t = f.task(o, "web", container=docker(self.nginx, docker={"network": "BRIDGE", "port_mappings": [{"host_port": port, "container_port": 80}]}))
        t["command"] = {"shell": False}
        t["resources"].append({"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": port, "end": port}]}})
        f.launch(o, t)
        running = f.status("web", "TASK_RUNNING", 30)
        address = running["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"]
        get = lambda where: urllib.request.urlopen("http://%s/" % where, timeout=5).read().decode()
        self.assertEqual("served from a container\n", wait(lambda: get("127.0.0.1:%d" % port), 10, "nginx answering"), self.tail("web"))
        self.assertEqual("served from a container\n", get("%s:80" % address))
        # From another container, by the host's port.
        o = f.offer()
        other = f.task(o, "client", container=docker(self.nginx, docker={"network": "BRIDGE"}))
        other["command"] = shell("curl -s http://%s:80/; hostname; cat /etc/hosts | grep -c localhost" % address)
        f.launch(o, other)
        f.status("client", "TASK_FINISHED", 30)
        self.assertIn("served from a container\n", self.out("client"))
        f.call("KILL", kill={"task_id": {"value": "web"}})
        f.status("web", "TASK_KILLED", 30)
        with self.assertRaises(OSError):
            get("127.0.0.1:%d" % port)


if __name__ == "__main__":
    mesos.main()
