"""gantry task exec and stats: commands beside running tasks, with streams, terminals, signals and exit codes."""

import json
import os
import pty
import select
import signal
import subprocess
import time

import cluster
from cluster import BIN, Case, needs_root, wait


class Exec(Case):
    def setUp(self):
        super().setUp()
        self.c = self.up(agents=1)
        self.c.deploy({"id": "/app", "cmd": "export MINE=yes; exec sleep 1000", "cpus": 0.1, "mem": 64, "env": {"OF_TASK": "seen"}})
        self.task = self.c.tasks("/app")[0]["id"]

    def command(self, *args):
        return [os.path.join(BIN, "gantry"), "-a", "127.0.0.1:%d" % self.c.master_port, "task", "exec"] + list(args)

    def exec(self, *args, stdin=b"", flags=(), timeout=30):
        return subprocess.run(self.command(*flags, self.task, "--", *args), input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)

    def test_streams_and_exit_codes(self):
        r = self.exec("sh", "-c", "echo $OF_TASK; echo problem >&2; pwd; exit 7")
        self.assertEqual(7, r.returncode, r)
        out = r.stdout.decode().splitlines()
        self.assertEqual("seen", out[0])
        self.assertIn("/runs/", out[1])
        self.assertEqual(b"problem\n", r.stderr)
        self.assertEqual(128 + signal.SIGTERM, self.exec("sh", "-c", "kill -TERM $$").returncode)
        self.assertEqual(b"fed\n", self.exec("cat", stdin=b"fed\n", flags=("-i",)).stdout)
        # Without -i its input is empty, whatever ours is.
        self.assertEqual(b"", self.exec("cat", stdin=b"not for you").stdout)
        r = self.exec("/no/such/program")
        self.assertEqual(1, r.returncode)
        self.assertIn(b'cannot execute "/no/such/program": No such file or directory', r.stderr)

    def test_much_output_arrives_whole_whoever_is_slow(self):
        size = 30 << 20
        p = subprocess.Popen(self.command(self.task, "--", "head", "-c", str(size), "/dev/zero"), stdout=subprocess.PIPE)
        time.sleep(1)  # longer than what is on its way lasts
        out = p.stdout.read()
        self.assertEqual((0, size), (p.wait(10), len(out)))

    def test_much_input_arrives_whole(self):
        data = os.urandom(3 << 20)
        r = self.exec("sh", "-c", "sleep 0.2; cat", stdin=data, flags=("-i",))
        self.assertEqual(0, r.returncode, r.stderr)
        self.assertTrue(r.stdout == data, "%d bytes of %d" % (len(r.stdout), len(data)))

    def test_a_terminal(self):
        pid, fd = pty.fork()
        if pid == 0:
            command = self.command("-it", self.task, "--", "sh")
            os.execv(command[0], command)
        seen = b""

        def until(what, seconds=10):
            nonlocal seen
            end = time.monotonic() + seconds
            while what not in seen:
                if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
                    self.fail("%r did not come; there is %r" % (what, seen))
                seen += os.read(fd, 4096)
        os.write(fd, b"test -t 0 && echo terminal-$((40 + 2)); stty size\n")
        until(b"terminal-42")
        import fcntl
        import struct
        import termios
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
        os.kill(pid, signal.SIGWINCH)
        end = time.monotonic() + 10
        while b"33 111" not in seen and time.monotonic() < end:
            os.write(fd, b"stty size; echo asked-$((3 + 4))\n")
            seen = seen.replace(b"asked-7", b"")
            until(b"asked-7")
        self.assertIn(b"33 111", seen)
        # Ctrl-C is for the command inside, not for us.
        os.write(fd, b"echo asleep-$((5 + 6)); sleep 1000\n")
        until(b"asleep-11")
        os.write(fd, b"\x03")
        os.write(fd, b"echo alive-$((1 + 1))\n")
        until(b"alive-2")
        os.write(fd, b"exit 5\n")
        self.assertEqual(5, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def test_a_client_that_dies_takes_its_command_along(self):
        p = subprocess.Popen(self.command(self.task, "--", "sh", "-c", "touch started; exec sleep 4711"))
        find = lambda: subprocess.run(["pgrep", "-f", "^sleep 4711"], stdout=subprocess.PIPE).stdout.split()  # noqa: E731
        wait(find, 10, "the command running")
        p.send_signal(signal.SIGINT)
        p.wait(10)
        wait(lambda: not find(), 5, "it ended with the first Ctrl-C")
        p = subprocess.Popen(self.command(self.task, "--", "sleep", "4711"))
        wait(find, 10, "the command running")
        p.kill()
        p.wait(10)
        wait(lambda: not find(), 30, "it ended with its client")

    def test_the_end_of_the_task_is_the_end_of_its_commands(self):
        p = subprocess.Popen(self.command(self.task, "--", "sh", "-c", "echo runs; exec sleep 1000"), stdout=subprocess.PIPE)
        self.assertEqual(b"runs\n", p.stdout.readline())
        self.c.http("DELETE", "/v2/apps/app?force=true")
        self.assertNotEqual(0, p.wait(20))

    def test_refusals(self):
        r = subprocess.run(self.command("no-such-task", "--", "true"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(4, r.returncode)
        # Over TCP and without authentication nobody is let in.
        agent = self.c.agents()[0]
        os.chmod(os.path.join(agent.work, "gantry.sock"), 0)
        os.rename(os.path.join(agent.work, "gantry.sock"), os.path.join(agent.work, "hidden.sock"))
        try:
            r = self.exec("true")
        finally:
            os.rename(os.path.join(agent.work, "hidden.sock"), os.path.join(agent.work, "gantry.sock"))
        self.assertEqual(5, r.returncode, r)
        self.assertIn(b"kernel.authenticate = false", r.stderr)

    def test_stats(self):
        stats = json.loads(self.c.gantry("task", "stats", self.task).stdout)["tasks"]
        self.assertEqual([self.task], [t["id"] for t in stats])
        if cluster.cgroups_writable():
            self.assertGreater(stats[0]["memory"], 0)
            self.assertGreaterEqual(stats[0]["memory_limit"], 64 << 20)
            self.assertIn("cpus", stats[0])
        text = self.c.gantry("task", "stats", "--once", text=True).stdout
        self.assertIn("MEM", text.splitlines()[0])
        self.assertEqual(2, len(text.splitlines()), text)

    def test_images_are_asked_of_agents(self):
        r = self.c.gantry("image", "list", check=False, text=True)
        self.assertEqual(1, r.returncode)
        self.assertIn("no module for images", r.stderr)


Exec = needs_root(Exec)

if __name__ == "__main__":
    cluster.main()
