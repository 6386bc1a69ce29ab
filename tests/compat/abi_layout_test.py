"""The layout gate against itself: headers that were changed in one way each, and what is said of them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import compat
import layout_gate
import schema_gate

END_OF_HOST = "  const void* (*extension)(void* ctx, const char* id);"
END_OF_PROVIDER = "  const void* (*extension)(void* self, const char* id);"
MINOR = ("#define GANTRY_ABI_MINOR 0", "#define GANTRY_ABI_MINOR 1")

# name, edits of abi.h, what has to be named
FORBIDDEN = [
    ("insert", [("  void* ctx;\n", "  void* ctx;\n  void (*zz)(void* ctx);\n"), MINOR], "struct gantry_host"),
    ("insert before the last", [(END_OF_HOST, "  void (*zz)(void* ctx);\n" + END_OF_HOST), MINOR], "struct gantry_host"),
    ("remove the last", [(END_OF_HOST, "")], "struct gantry_host"),
    ("remove one", [("  uint32_t nfds;\n  uint32_t reserved;", "")], "struct gantry_call"),
    ("replace the last", [(END_OF_HOST, "  const void* (*other)(void* ctx, const char* id);")], "struct gantry_host"),
    ("retype to the same size", [("  uint64_t token; ", "  int64_t token; ")], "struct gantry_call"),
    ("retype smaller", [("  uint32_t nfds;", "  uint16_t nfds;")], "struct gantry_call"),
    ("retype a result", [("uint64_t (*now)(void* ctx)", "int64_t (*now)(void* ctx)")], "struct gantry_host"),
    ("retype a parameter", [("uint32_t id, double value)", "uint32_t id, float value)")], "struct gantry_host"),
    ("add a parameter", [("(*destroy)(void* self)", "(*destroy)(void* self, uint32_t why)")], "struct gantry_provider"),
    ("make a member writable", [("  const int32_t* fds;", "  int32_t* fds;")], "struct gantry_call"),
    ("reorder", [("(*now)(", "(*SWAP)("), ("(*wall)(", "(*now)("), ("(*SWAP)(", "(*wall)(")], "struct gantry_host"),
    ("rename", [("(*now)(", "(*now2)(")], "struct gantry_host"),
    ("append to a struct without size", [("  size_t len;", "  size_t len;\n  uint64_t zz;"), MINOR], "struct gantry_bytes"),
    ("a longer array", [("char magic[8]", "char magic[16]")], "struct gantry_module"),
    ("a wider code", [("typedef int32_t gantry_code", "typedef int64_t gantry_code")], "gantry_code"),
    ("append without raising the minor", [(END_OF_HOST, END_OF_HOST + "\n  void (*zz)(void* ctx);")], "macro GANTRY_ABI_MINOR"),
    ("a constant changed", [("GANTRY_NOT_FOUND (-5)", "GANTRY_NOT_FOUND (-25)")], "macro GANTRY_NOT_FOUND"),
    ("a method number changed", [("GANTRY_METHOD_HEALTH 3 ", "GANTRY_METHOD_HEALTH 9 ")], "macro GANTRY_METHOD_HEALTH"),
    ("a constant removed", [("#define GANTRY_DATA_LOSS (-15)\n", "")], "macro GANTRY_DATA_LOSS"),
    ("a flag changed", [("GANTRY_BLOCKING 2u", "GANTRY_BLOCKING 16u")], "macro GANTRY_BLOCKING"),
    ("the mark changed", [("\"GANTRYM\"", "\"GANTRYN\"")], "macro GANTRY_MAGIC"),
    ("the symbol changed", [("\"gantry_module_v1\"", "\"gantry_module_v2\"")], "macro GANTRY_MODULE_SYMBOL"),
    ("the minor lowered", [("#define GANTRY_ABI_MINOR 0", "#define GANTRY_ABI_MINOR -1")], "macro GANTRY_ABI_MINOR"),
]

# name, edits, the keys HISTORY.md has to name
ALLOWED = [
    ("append to the host", [(END_OF_HOST, END_OF_HOST + "\n  void (*zz)(void* ctx);"), MINOR],
     ["struct gantry_host.zz", "macro GANTRY_ABI_MINOR"]),
    ("append two to a call", [("  uint8_t trace[16];", "  uint8_t trace[16];\n  uint64_t zz;\n  uint64_t yy;"), MINOR],
     ["struct gantry_call.zz", "struct gantry_call.yy", "macro GANTRY_ABI_MINOR"]),
    ("append to the provider", [(END_OF_PROVIDER, END_OF_PROVIDER + "\n  void (*zz)(void* self);"), MINOR],
     ["struct gantry_provider.zz", "macro GANTRY_ABI_MINOR"]),
    ("append to the module", [("  const char* build;", "  const char* build;\n  const char* zz;"), MINOR],
     ["struct gantry_module.zz", "macro GANTRY_ABI_MINOR"]),
    ("append an array", [("  const char* build;", "  const char* build;\n  uint8_t zz[16];"), MINOR],
     ["struct gantry_module.zz", "macro GANTRY_ABI_MINOR"]),
    ("append to three at once", [(END_OF_HOST, END_OF_HOST + "\n  void (*zz)(void* ctx);"),
                                 ("  uint8_t trace[16];", "  uint8_t trace[16];\n  uint64_t zz;"),
                                 (END_OF_PROVIDER, END_OF_PROVIDER + "\n  void (*zz)(void* self);"), MINOR],
     ["struct gantry_call.zz", "struct gantry_host.zz", "struct gantry_provider.zz", "macro GANTRY_ABI_MINOR"]),
    ("a new code", [("#define GANTRY_UNAUTHENTICATED (-16)", "#define GANTRY_UNAUTHENTICATED (-16)\n#define GANTRY_TOO_HOT (-17)")],
     ["macro GANTRY_TOO_HOT"]),
    ("a comment", [("/* may be NULL when len is 0 */", "/* NULL is fine when len is 0 */")], []),
]


def header():
    with open(os.path.join(compat.INCLUDE, "gantry", "abi.h")) as f:
        return f.read()


def include_with(directory, edits):
    """A folder holding gantry/abi.h with the edits made."""
    text = header()
    for old, new in edits:
        assert old in text, "the edit %r does not apply" % old
        text = text.replace(old, new)
    os.makedirs(os.path.join(directory, "gantry"), exist_ok=True)
    with open(os.path.join(directory, "gantry", "abi.h"), "w") as f:
        f.write(text)
    return directory


@unittest.skipIf(layout_gate.missing_tools(), "needs " + ", ".join(layout_gate.missing_tools() or ["nothing"]))
class LayoutGate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.old = layout_gate.dump(compat.INCLUDE)
        cls.old_macros = layout_gate.macros(compat.INCLUDE)

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    def changes(self, edits):
        return layout_gate.compare(self.old, self.old_macros, include_with(os.path.join(self.dir.name, "now"), edits))

    def test_every_forbidden_change_is_refused(self):
        for name, edits, word in FORBIDDEN:
            with self.subTest(name):
                refused = [str(c) for c in self.changes(edits) if not c.allowed]
                self.assertTrue(refused, "not refused")
                self.assertIn(word, "\n".join(refused))

    def test_every_allowed_change_is_named(self):
        for name, edits, keys in ALLOWED:
            with self.subTest(name):
                found = self.changes(edits)
                self.assertEqual([str(c) for c in found if not c.allowed], [])
                self.assertEqual(sorted(c.key for c in found), sorted(keys))

    def test_the_probe_names_every_struct_of_the_header(self):
        declared = set(re.findall(r"^typedef struct (\w+) \{", header(), re.M))
        with open(layout_gate.PROBE) as f:
            probed = set(re.findall(r"\bprobe_(gantry_\w+)|PROBE\((gantry_\w+)\)", f.read()))
        self.assertEqual(declared - {a or b for a, b in probed}, set(), "add them to sdk/abi/probe.c")
        self.assertGreaterEqual(len(declared), 5)

    def test_the_size_is_known_to_be_the_peers_word(self):
        self.assertEqual(layout_gate.size_prefixed(self.old), {"gantry_call", "gantry_host", "gantry_provider", "gantry_module"})

    def test_a_report_it_does_not_understand_is_refused(self):
        report = "1 Changed variable:\n\n  [C] 'const gantry_host probe_gantry_host' was changed:\n    the moon has changed\n"
        self.assertEqual([c.allowed for c in layout_gate.judge_report(report, {"gantry_host"})], [False])

    def test_the_dump_names_no_place_of_this_machine(self):
        self.assertNotIn(compat.ROOT, self.old)
        self.assertNotIn(tempfile.gettempdir() + "/", self.old)


@unittest.skipIf(layout_gate.missing_tools(), "needs " + ", ".join(layout_gate.missing_tools() or ["nothing"]))
class Commands(unittest.TestCase):
    """sdk/abi/check and release as people call them, on copies of the real headers and schemas."""

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.schema = os.path.join(self.dir.name, "schema")
        shutil.copytree(compat.SCHEMA, self.schema)
        self.released = os.path.join(self.dir.name, "released")
        release = os.path.join(self.released, "1.0")
        shutil.copytree(self.schema, os.path.join(release, "schema"))
        import platform
        with open(os.path.join(release, "abi.%s.xml" % platform.machine()), "w") as f:
            f.write(layout_gate.dump(compat.INCLUDE))
        with open(os.path.join(release, "macros.txt"), "w") as f:
            f.write(layout_gate.macros_text(layout_gate.macros(compat.INCLUDE)))
        self.history = os.path.join(self.dir.name, "HISTORY.md")
        self.write_history("")

    def write_history(self, text):
        with open(self.history, "w") as f:
            f.write("# History\n\n| date | change | reason |\n|---|---|---|\n" + text)

    def edit(self, name, old, new):
        path = os.path.join(self.schema, name)
        with open(path) as f:
            text = f.read()
        self.assertIn(old, text)
        with open(path, "w") as f:
            f.write(text.replace(old, new, 1))

    def check(self, include=compat.INCLUDE):
        r = subprocess.run([sys.executable, "-B", os.path.join(compat.ABI, "check"), "--schema", self.schema, "--include", include,
                            "--released", self.released, "--history", self.history], capture_output=True, text=True)
        return r.returncode, r.stdout + r.stderr

    def test_nothing_changed(self):
        self.assertEqual(self.check(), (0, "1 release(s) compared, 0 difference(s) refused\n"))

    def test_an_appended_field_passes_once_it_is_written_down(self):
        self.edit("isolator.fbs", "table Cleanup { container_id:string; }", "table Cleanup { container_id:string; why:string; }")
        code, out = self.check()
        self.assertEqual(code, 1, out)
        self.assertIn("REFUSED: field gantry.fb.isolator.Cleanup.why was appended", out)
        self.assertIn("say so in sdk/abi/HISTORY.md: | <date> | `field gantry.fb.isolator.Cleanup.why` | <reason> |", out)
        self.write_history("| 2026-11-22 | `field gantry.fb.isolator.Cleanup.why` | operators asked |\n")
        code, out = self.check()
        self.assertEqual(code, 0, out)
        self.assertIn("accepted: field gantry.fb.isolator.Cleanup.why", out)

    def test_a_removed_field_passes_only_as_a_reviewed_break(self):
        self.edit("isolator.fbs", "table Update { container_id:string; resources:[Resource]; limits:[ScalarEntry]; }", "table Update { container_id:string; resources:[Resource]; }")
        key = "`field gantry.fb.isolator.Update.limits`"
        self.assertEqual(self.check()[0], 1)
        self.write_history("| 2026-11-22 | %s | not needed |\n" % key)
        self.assertEqual(self.check()[0], 1)
        self.write_history("| 2026-11-22 | %s | BREAK: not needed; reviewed by Ann and Bo |\n" % key)
        code, out = self.check()
        self.assertEqual(code, 0, out)

    def test_layout_and_schema_are_judged_together(self):
        include = include_with(os.path.join(self.dir.name, "include"), FORBIDDEN[0][1])
        self.edit("store.fbs", "namespace gantry.fb.store;", "namespace gantry.fb.shop;")
        code, out = self.check(include)
        self.assertEqual(code, 1)
        self.assertIn("struct gantry_host", out)
        self.assertIn("gantry.fb.store.", out)

    def test_release_refuses_another_number_than_the_header_says(self):
        r = subprocess.run([sys.executable, "-B", os.path.join(compat.ABI, "release"), "9.9", "--released", self.released],
                           capture_output=True, text=True)
        self.assertEqual(r.returncode, 1)
        self.assertIn("raise GANTRY_ABI_MINOR first", r.stderr)

    def test_release_writes_what_check_accepts(self):
        version = layout_gate.macros(compat.INCLUDE)
        version = version["GANTRY_ABI_MAJOR"] + "." + version["GANTRY_ABI_MINOR"]
        shutil.rmtree(self.released)
        r = subprocess.run([sys.executable, "-B", os.path.join(compat.ABI, "release"), version, "--released", self.released],
                           capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.check()[0], 0)


class TheTree(unittest.TestCase):
    """The gates on what is committed."""

    @unittest.skipIf(layout_gate.missing_tools(), "needs " + ", ".join(layout_gate.missing_tools() or ["nothing"]))
    def test_what_is_built_now_is_compatible_with_every_release(self):
        r = subprocess.run([sys.executable, "-B", os.path.join(compat.ABI, "check")], capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, "\n" + r.stdout + r.stderr)

    def test_there_is_a_release_to_compare_with(self):
        self.assertTrue(schema_gate.read_folder(os.path.join(compat.ABI, "released", "1.0", "schema")))


if __name__ == "__main__":
    compat.main()
