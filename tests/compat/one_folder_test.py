"""Adding a module touches one new folder and no other file: a copy of this tree gets one, builds it and accepts it in a config."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import compat

ROOT, BUILD = compat.ROOT, compat.BUILD


def run(command, cwd=None, check=True):
    r = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280)
    if check and r.returncode != 0:
        raise AssertionError("%s: exit %d\n%s" % (" ".join(command), r.returncode, r.stdout[-6000:]))
    return r.stdout


class OneFolder(unittest.TestCase):
    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="gantry-one-folder-")
        self.tree, self.build = os.path.join(self.base, "tree"), os.path.join(self.base, "build")

    def tearDown(self):
        shutil.rmtree(self.base, ignore_errors=True)

    def git(self, *args):
        return run(["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-C", self.tree] + list(args))

    def copy_tree(self):
        for name in run(["git", "-C", ROOT, "ls-files", "-z"]).split("\0"):
            source = os.path.join(ROOT, name)
            if name and os.path.isfile(source):
                target = os.path.join(self.tree, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy2(source, target)
        self.git("init", "-q")
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "-m", "the tree as it is")

    def test_adding_a_module_touches_one_new_folder(self):
        self.copy_tree()
        run([os.path.join(BUILD, "bin", "gantry-module"), "new", "isolator", "acme-extra", "--dir",
             os.path.join(self.tree, "modules", "isolator", "acme-extra")])
        run(["cmake", "-S", self.tree, "-B", self.build, "-G", "Ninja", "-DGANTRY_MODULES=isolator/acme-extra", "-DGANTRY_TESTS=OFF",
             "-DGANTRY_BENCH=OFF", "-DCMAKE_BUILD_TYPE=Release"])
        run(["cmake", "--build", self.build, "--target", "gantry-isolator-acme-extra"])
        modules = os.path.join(self.build, "lib", "gantry", "modules")
        self.assertEqual(os.listdir(modules), ["gantry-isolator-acme-extra.so"])
        config = os.path.join(self.base, "gantry.toml")
        with open(config, "w", encoding="utf-8") as f:
            f.write('[kernel]\nrole = ["agent"]\nwork_dir = "%s/work"\nmodule_dirs = ["%s", "%s/lib/gantry/modules"]\n'
                    "[election.standalone]\n[isolator.acme-extra]\nvariable = \"SEEN\"\n" % (self.base, modules, BUILD))
        self.assertIn("is valid", run([os.path.join(BUILD, "bin", "gantry"), "config", "check", config]))
        status = self.git("status", "--porcelain", "--untracked-files=normal").splitlines()
        self.assertEqual(status, ["?? modules/isolator/acme-extra/"])


if __name__ == "__main__":
    for program in ("gantry", "gantry-module"):
        if not os.path.exists(os.path.join(BUILD, "bin", program)):
            print("%s is not built" % program)
            sys.exit(77)
    if not os.path.exists(os.path.join(ROOT, ".git")) or not shutil.which("git"):
        print("this is no git checkout")
        sys.exit(77)
    sys.exit(compat.main())
