#!/usr/bin/env python3
"""avmesos-cli 1.3.0, unmodified, against real daemons: what it prints is what is asserted. Skipped where there is no Python 3.12."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import foreign  # noqa: E402
import mesos  # noqa: E402


def rows(text):
    """A table of its: rows of words under a row of titles."""
    return [line.split() for line in text.splitlines()[1:] if line.strip()]


class AvmesosCli(foreign.Case):
    program = "avmesos-cli"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(cls.folder, "python")) as f:
            cls.python = f.read().strip()
        cls.config = os.path.join(cls.cluster.dir, "cli.toml")
        with open(cls.config, "w") as f:
            f.write('[master]\naddress = "127.0.0.1:%d"\n' % cls.cluster.api_port)

    def cli(self, *args, status=0):
        r = subprocess.run([self.python, "-B", "-m", "avmesos.cli.mesos-cli"] + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=60, cwd=self.cluster.dir,
                           env=dict(os.environ, PYTHONPATH=self.folder, MESOS_CLI_CONFIG=self.config))
        self.assertEqual(r.returncode, status, r.stdout + r.stderr)
        return r.stdout if status == 0 else r.stderr

    def test_lists_and_inspects(self):
        f = self.framework(name="listed", capabilities=[{"type": "PARTITION_AWARE"}])
        o = f.offer()
        f.launch(o, f.task(o, "stays", "sleep 1000"), f.task(o, "ends"))
        f.status("stays", "TASK_RUNNING"), f.status("ends", "TASK_FINISHED")
        self.assertEqual(rows(self.cli("agent", "list")), [[o["agent_id"]["value"], "127.0.0.1", "True"]])
        self.assertEqual([(r[0], r[1], r[-1]) for r in rows(self.cli("framework", "list"))], [(f.id, "True", "listed")])
        self.assertEqual([r[:3] for r in rows(self.cli("task", "list"))], [["stays", "TASK_RUNNING", f.id]])
        self.assertEqual(sorted(r[:2] for r in rows(self.cli("task", "list", "--all"))), [["ends", "TASK_FINISHED"], ["stays", "TASK_RUNNING"]])
        task = json.loads(self.cli("task", "inspect", "stays"))
        self.assertEqual((task["id"], task["state"], task["framework_id"], task["resources"]["cpus"]), ("stays", "TASK_RUNNING", f.id, 0.1))
        framework = json.loads(self.cli("framework", "inspect", f.id))
        self.assertEqual((framework["id"], framework["name"], framework["used_resources"]["cpus"]), (f.id, "listed", 0.1))
        f.call("TEARDOWN")
        f.stream.wait_closed()
        self.assertEqual(rows(self.cli("framework", "list")), [])
        self.assertEqual(self.cli("task", "inspect", "nobody"), "")
        # Attaching needs a terminal of the task's, and this one has none: it says so rather than hang.
        self.assertIn("Error: Unable to", self.cli("task", "attach", "nobody", status=1))


if __name__ == "__main__":
    foreign.main()
