"""abi.h stands alone in every language and dialect it promises, with both compilers, and golden.c pins all of it."""

import os
import re
import shutil
import subprocess
import unittest

import compat
import layout_gate

WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Wpadded", "-Wconversion", "-Werror", "-fsyntax-only"]
COMPILERS = [c for c in ("gcc", "clang", "clang-14") if shutil.which(c)]
DIALECTS = [("c", "c11"), ("c", "c17"), ("c++", "c++11"), ("c++", "c++17"), ("c++", "c++20")]
ALONE = "#include <gantry/abi.h>\n"


def compile_text(compiler, language, standard, text):
    r = subprocess.run([compiler, "-x", language, "-std=" + standard, "-I" + compat.INCLUDE] + WARNINGS + ["-"], input=text,
                       capture_output=True, text=True)
    return r.returncode, r.stdout + r.stderr


class Header(unittest.TestCase):
    def test_it_compiles_alone(self):
        self.assertTrue(COMPILERS)
        for compiler in COMPILERS:
            for language, standard in DIALECTS:
                with self.subTest("%s -std=%s" % (compiler, standard)):
                    # Twice: the guard holds.
                    code, out = compile_text(compiler, language, standard, ALONE + ALONE + "typedef gantry_module use;\n")
                    self.assertEqual(code, 0, out)

    def test_golden_compiles(self):
        with open(os.path.join(compat.ABI, "golden.c")) as f:
            golden = f.read()
        for compiler in COMPILERS:
            for language, standard in DIALECTS:
                with self.subTest("%s -std=%s" % (compiler, standard)):
                    code, out = compile_text(compiler, language, standard, golden)
                    self.assertEqual(code, 0, out)

    def test_golden_notices(self):
        with open(os.path.join(compat.ABI, "golden.c")) as f:
            golden = f.read()
        for old, new in (("AT(gantry_call, body, 24)", "AT(gantry_call, body, 32)"), ("GANTRY_NOT_FOUND == -5", "GANTRY_NOT_FOUND == -6"),
                         ("sizeof(gantry_bytes) == 16", "sizeof(gantry_bytes) == 24")):
            with self.subTest(new):
                self.assertIn(old, golden)
                self.assertNotEqual(compile_text("gcc", "c", "c11", golden.replace(old, new))[0], 0)

    def test_it_includes_only_what_a_freestanding_compiler_has(self):
        with open(os.path.join(compat.INCLUDE, "gantry", "abi.h")) as f:
            self.assertEqual(re.findall(r"#include\s+(\S+)", f.read()), ["<stddef.h>", "<stdint.h>"])

    def test_it_uses_no_type_whose_size_is_the_compilers_choice(self):
        with open(os.path.join(compat.INCLUDE, "gantry", "abi.h")) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        found = re.findall(r"\b(bool|_Bool|long|short|int|unsigned|enum|off_t|time_t|va_list)\b|(\.\.\.)|:\s*\d+\s*;", text)
        self.assertEqual(found, [])

    @unittest.skipIf(layout_gate.missing_tools(), "needs " + ", ".join(layout_gate.missing_tools() or ["nothing"]))
    def test_golden_pins_every_member_and_every_number(self):
        import xml.etree.ElementTree as xml
        with open(os.path.join(compat.ABI, "golden.c")) as f:
            golden = f.read()
        for c in xml.fromstring(layout_gate.dump(compat.INCLUDE)).iter("class-decl"):
            if not c.get("name", "").startswith("gantry_"):
                continue
            self.assertRegex(golden, r"CHECK\(sizeof\(%s\) [>=]=" % c.get("name"))
            for member in c.iter("data-member"):
                offset, name = int(member.get("layout-offset-in-bits")) // 8, member.find("var-decl").get("name")
                self.assertIn("AT(%s, %s, %d);" % (c.get("name"), name, offset), golden)
        for name in layout_gate.macros(compat.INCLUDE):
            self.assertRegex(golden, r"\b%s\b" % name)


if __name__ == "__main__":
    compat.main()
