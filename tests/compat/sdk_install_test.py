"""The SDK as a stranger gets it: installed into a prefix, used from a directory outside the repository.

For each language: gantry-module new, the commands it prints, gantry-module check; then one agent runs a task with all of these
modules, inside gantryd and each in a process of its own. Issue 3, first bar.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import compat

BUILD = compat.BUILD
BASE = tempfile.mkdtemp(prefix="gantry-sdk-install-")
PREFIX = os.path.join(BASE, "prefix")
OUTSIDE = os.path.join(BASE, "outside")
LANGUAGES = {"cpp": "acme-one", "c": "acme-two", "rust": "acme-three"}
COMPONENTS = ("dev", "daemon", "cli", "modules")
built = {}  # language -> path of the module


def run(command, cwd=None, check=True, shell=False, timeout=600):
    r = subprocess.run(command, cwd=cwd, shell=shell, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=timeout)
    if check and r.returncode != 0:
        raise AssertionError("%s: exit %d\n%s" % (command, r.returncode, r.stdout[-6000:]))
    return r


def install():
    for component in COMPONENTS:
        run(["cmake", "--install", BUILD, "--component", component, "--prefix", PREFIX])
    # A Gantry that is not where it was configured for looks for its helpers beside itself.
    for helper in os.listdir(os.path.join(PREFIX, "libexec", "gantry")):
        os.symlink(os.path.join("..", "libexec", "gantry", helper), os.path.join(PREFIX, "sbin", helper))
    os.symlink(os.path.join("..", "sbin", "gantryd"), os.path.join(PREFIX, "bin", "gantryd"))
    os.makedirs(OUTSIDE)


def printed_commands(text):
    """The lines that `gantry-module new` prints under "Build and test it:"."""
    block = text.split("Build and test it:\n", 1)[1].split("\n\n", 1)[0]
    return [line.strip() for line in block.splitlines()]


class SdkInstall(unittest.TestCase):
    def test_1_headers_need_nothing_of_the_kernel(self):
        include = os.path.join(PREFIX, "include", "gantry")
        self.assertTrue(os.path.isfile(os.path.join(include, "abi.h")))
        for folder, _, files in os.walk(include):
            for name in files:
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    for line in f:
                        found = re.match(r'\s*#\s*include\s*[<"]([^">]+)', line)
                        if found:
                            self.assertNotRegex(found.group(1), r"^(kernel|modules|tools|boost|openssl|toml)", os.path.join(folder, name))
                self.assertFalse(name.endswith("_generated.h"), name)

    def test_1_pkg_config(self):
        if not shutil.which("pkg-config"):
            self.skipTest("no pkg-config")
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(PREFIX, "lib", "pkgconfig"))
        for variable, want in (("moduledir", "lib/gantry/modules"), ("schemadir", "share/gantry/schema")):
            out = subprocess.run(["pkg-config", "--variable=" + variable, "gantry"], env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
            self.assertEqual(os.path.normpath(out.strip()), os.path.join(PREFIX, want))
            self.assertTrue(os.path.isdir(out.strip()))
        abi = subprocess.run(["pkg-config", "--variable=abi", "gantry"], env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertEqual(abi.strip(), "1.0")

    def author(self, lang):
        if lang == "rust" and not shutil.which("cargo"):
            self.skipTest("no cargo")
        tool = os.path.join(PREFIX, "bin", "gantry-module")
        name = LANGUAGES[lang]
        said = run([tool, "new", "isolator", name, "--lang", lang], cwd=OUTSIDE).stdout
        again = run([tool, "new", "isolator", name, "--lang", lang], cwd=OUTSIDE, check=False)
        self.assertNotEqual(again.returncode, 0)
        self.assertIn("not overwritten", again.stdout)
        commands = printed_commands(said)
        self.assertEqual(commands[0], "cd " + name)
        run(" && ".join(commands), cwd=OUTSIDE, shell=True)
        module = os.path.join(OUTSIDE, re.search(r'path = "(.*)"', said).group(1))
        self.assertTrue(os.path.isfile(module), said)
        report = run([tool, "check", module], cwd=OUTSIDE, check=False)
        self.assertEqual(report.returncode, 0, report.stdout[-6000:])
        built[lang] = module

    def test_2_cpp(self):
        self.author("cpp")

    def test_2_c(self):
        self.author("c")

    def test_2_rust(self):
        self.author("rust")

    def task_with_all(self, host):
        if not built:
            self.skipTest("no module was built")
        os.environ["GANTRY_BUILD"] = PREFIX
        sys.path.insert(0, os.path.join(compat.ROOT, "tests", "cluster"))
        import cluster
        c = cluster.Cluster(agents=0, start=False, isolators=[])
        try:
            text = c.agent_text(1)
            for lang, module in built.items():
                text += '[isolator.%s]\npath = "%s"\nhost = "%s"\n[isolator.%s.config]\nvariable = "SEEN_BY_%s"\n' % (
                    LANGUAGES[lang], module, host, LANGUAGES[lang], lang.upper())
            c.add("agent-1", text)
            c.start()
            modules = c.gantry("module", "list", address=os.path.join(c.daemons["agent-1"].work, "gantry.sock"), text=True).stdout
            for lang in built:
                self.assertRegex(modules, r"isolator\.%s\b" % LANGUAGES[lang])
            c.deploy({"id": "/with-it", "cmd": "sleep 1000", "cpus": 0.1, "mem": 16, "instances": 1})
            task = c.tasks("/with-it")[0]["id"]
            with open("/proc/%d/environ" % cluster.main_pid(task), "rb") as f:
                environment = f.read().split(b"\0")
            for lang in built:
                self.assertIn(("SEEN_BY_%s=%s" % (lang.upper(), LANGUAGES[lang])).encode(), environment)
        except BaseException:
            c.show_logs()
            raise
        finally:
            c.close()

    def test_3_a_task_runs_with_them_in_the_kernel(self):
        self.task_with_all("kernel")

    def test_3_a_task_runs_with_them_in_processes(self):
        self.task_with_all("process")


if __name__ == "__main__":
    for program in ("gantryd", "gantry", "gantry-module", "gantry-modhost"):
        if not os.path.exists(os.path.join(BUILD, "bin", program)):
            print("%s is not built" % program)
            sys.exit(77)
    # The authors' compilers go through ccache where it is: every run of this test builds the same sources.
    if shutil.which("ccache"):
        for language in ("C", "CXX"):
            os.environ.setdefault("CMAKE_%s_COMPILER_LAUNCHER" % language, "ccache")
    try:
        install()
        compat.main()
    finally:
        shutil.rmtree(BASE, ignore_errors=True)
