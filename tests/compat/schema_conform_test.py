"""The schema gate against itself: every forbidden change is refused, every allowed one is named and let pass.

For each forbidden change the table says whether flatc --conform (2.0.8) sees it: the reason the gate has a reader of its own.
"""

import os
import tempfile
import unittest

import compat
import schema_gate
from change import Change, History

BASE = """namespace t;
attribute "proto";
attribute "map";
enum E : byte { A = 0, B = 1, C = 2 }
enum F : uint (bit_flags) { X = 0, Y = 1 }
struct S { a:uint; b:uint; c:ulong; }
table N { x:int; }
table M { y:int; }
union U { N, M }
table T {
  a:int;
  b:string (proto: "1");
  c:long = 5;
  d:E = B;
  s:S;
  v:[S];
  u:U;
  o:uint = null;
  k:[N];
  f:F;
  r:double = 0.5;
  dep:int (deprecated);
  n:N;
}
root_type T;
"""

# name, [(old text, new text)...], seen by flatc, the word the message must have
FORBIDDEN = [
    ("field inserted at the front", [("table T {\n", "table T {\n  zz:int;\n")], True, "t.T.a"),
    ("last field removed", [("  n:N;\n", "")], False, "t.T.n"),
    ("middle field removed", [("  c:long = 5;\n", "")], True, "t.T.c"),
    ("fields swapped", [("  a:int;\n  b:string (proto: \"1\");\n", "  b:string (proto: \"1\");\n  a:int;\n")], True, "t.T.a"),
    ("field retyped", [("a:int;", "a:uint;")], True, "t.T.a"),
    ("field widened", [("a:int;", "a:long;")], True, "t.T.a"),
    ("field of another table", [("n:N;", "n:M;")], True, "t.T.n"),
    ("vector of another table", [("k:[N]", "k:[M]")], True, "t.T.k"),
    ("vector element retyped", [("v:[S]", "v:[int]")], True, "t.T.v"),
    ("field renamed", [("a:int;\n  b", "aa:int;\n  b")], False, "t.T.a"),
    ("default changed", [("= 5", "= 6")], True, "t.T.c"),
    ("default of an enum changed", [("E = B", "E = C")], True, "t.T.d"),
    ("default of a real changed", [("0.5", "0.25")], True, "t.T.r"),
    ("optional made plain", [("o:uint = null", "o:uint")], True, "t.T.o"),
    ("plain made optional", [("c:long = 5", "c:long = null")], True, "t.T.c"),
    ("field made required", [("n:N;", "n:N (required);")], False, "t.T.n"),
    ("field made the key", [("x:int;", "x:int (key);")], False, "t.N.x"),
    ("new field required", [("  n:N;\n", "  n:N;\n  z:string (required);\n")], False, "t.T.z"),
    ("wire number changed", [("proto: \"1\"", "proto: \"2\"")], False, "t.T.b"),
    ("wire number removed", [(" (proto: \"1\")", "")], False, "t.T.b"),
    ("struct grew", [("c:ulong; }", "c:ulong; d:ulong; }")], False, "t.S"),
    ("struct shrank", [(" c:ulong; }", " }")], False, "t.S"),
    ("struct reordered", [("a:uint; b:uint;", "b:uint; a:uint;")], True, "t.S"),
    ("struct member retyped", [("a:uint; b:uint;", "a:int; b:uint;")], True, "t.S"),
    ("struct member renamed", [("a:uint; b:uint;", "a:uint; bb:uint;")], False, "t.S"),
    ("struct aligned otherwise", [("struct S {", "struct S (force_align: 16) {")], False, "t.S"),
    ("struct made a table", [("struct S { a:uint; b:uint; c:ulong; }", "table S { a:uint; b:uint; c:ulong; }")], True, "t.S"),
    ("enum value removed", [(", C = 2 }", " }")], False, "t.E.C"),
    ("enum value renamed", [("C = 2 }", "CC = 2 }")], False, "t.E.C"),
    ("enum value changed", [("C = 2 }", "C = 3 }")], True, "t.E.C"),
    ("enum made wider", [("E : byte", "E : short")], True, "t.E"),
    ("flags made an enum", [(" (bit_flags)", "")], True, "t.F"),
    ("union reordered", [("{ N, M }", "{ M, N }")], True, "t.U"),
    ("union member removed", [("{ N, M }", "{ N }")], False, "t.U.M"),
    ("table removed", [("table M { y:int; }\n", ""), ("{ N, M }", "{ N }")], False, "t.M"),
    ("namespace changed", [("namespace t;", "namespace t2;")], False, "t.T"),
    ("root changed", [("root_type T;", "root_type N;")], False, "root"),
    ("identifier added", [("root_type T;", "root_type T;\nfile_identifier \"ABCD\";")], False, "file_ident"),
]

# name, edits, the key HISTORY.md has to name
ALLOWED = [
    ("field appended", [("  n:N;\n", "  n:N;\n  z:int;\n")], "field t.T.z"),
    ("optional field appended", [("  n:N;\n", "  n:N;\n  z:ulong = null;\n")], "field t.T.z"),
    ("field deprecated", [("c:long = 5;", "c:long = 5 (deprecated);")], "field t.T.c"),
    ("enum value appended", [("C = 2 }", "C = 2, D = 3 }")], "enum value t.E.D"),
    ("flag appended", [("Y = 1 }", "Y = 1, Z = 2 }")], "enum value t.F.Z"),
    ("table added", [("root_type", "table Q { q:int; }\nroot_type")], "table t.Q"),
    ("enum added", [("root_type", "enum G : byte { P = 0 }\nroot_type")], "enum t.G"),
    ("union member appended", [("union U", "table Q { q:int; }\nunion U"), ("{ N, M }", "{ N, M, Q }")], "union member t.U.Q"),
    ("wire number given", [("a:int;", "a:int (proto: \"9\");")], "attribute t.T.a proto"),
]
# Differences of the text that are none of the contract.
SAME = [
    ("comment", [("  n:N;", "  // said otherwise\n  n:N;  // and here")]),
    ("order of tables", [("table N { x:int; }\ntable M { y:int; }\n", "table M { y:int; }\ntable N { x:int; }\n")]),
]


def edited(edits):
    text = BASE
    for old, new in edits:
        assert old in text, "the edit %r does not apply" % old
        text = text.replace(old, new)
    return text


class SchemaGate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.released = cls.folder("released", {"base.fbs": BASE})
        cls.old = schema_gate.read_folder(cls.released)

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    @classmethod
    def folder(cls, name, files):
        d = os.path.join(cls.dir.name, name)
        os.makedirs(d, exist_ok=True)
        for n, text in files.items():
            with open(os.path.join(d, n), "w") as f:
                f.write(text)
        return d

    def changes(self, files):
        return list(schema_gate.compare(self.old, schema_gate.read_folder(self.folder("now", files))))

    def test_every_forbidden_change_is_refused(self):
        for name, edits, seen_by_flatc, word in FORBIDDEN:
            with self.subTest(name):
                now = self.folder("now", {"base.fbs": edited(edits)})
                found = [c for c in self.changes({"base.fbs": edited(edits)}) if not c.allowed]
                self.assertTrue(found, "not refused")
                self.assertIn(word, " ".join(map(str, found)))
                self.assertEqual(bool(list(schema_gate.flatc_conform(self.released, now))), seen_by_flatc,
                                 "flatc judges otherwise than this table says: adjust schema_gate's docstring")

    def test_every_allowed_change_is_named(self):
        for name, edits, key in ALLOWED:
            with self.subTest(name):
                found = [(c.allowed, c.key) for c in self.changes({"base.fbs": edited(edits)})]
                self.assertEqual(found[-1], (True, key))
                self.assertTrue(all(allowed for allowed, _ in found), found)
                self.assertEqual(list(schema_gate.flatc_conform(self.released, os.path.join(self.dir.name, "now"))), [])

    def test_comments_and_order_are_no_change(self):
        for name, edits in SAME:
            with self.subTest(name):
                self.assertEqual(self.changes({"base.fbs": edited(edits)}), [])

    def test_a_new_file_is_one_change_and_a_missing_one_is_refused(self):
        two = self.folder("two", {"base.fbs": BASE, "more.fbs": "include \"base.fbs\";\nnamespace t.m;\ntable W { t:t.T; }\nenum V : byte { A }\n"})
        two_read = schema_gate.read_folder(two)
        self.assertEqual([(c.allowed, c.key) for c in schema_gate.compare(self.old, two_read)], [(True, "schema more.fbs")])
        gone = [c.key for c in schema_gate.compare(two_read, self.old) if not c.allowed]
        self.assertEqual(gone, ["schema more.fbs", "table t.m.W", "enum t.m.V"])

    def test_our_schemas_are_read_whole(self):
        read = schema_gate.read_folder(compat.SCHEMA)
        self.assertIn("types.fbs", read)
        task = read["types.fbs"]["objects"]["gantry.fb.TaskInfo"]
        self.assertEqual(task["fields"][0]["attributes"].get("proto"), "1")
        self.assertEqual(read["allocator.fbs"]["objects"]["gantry.fb.allocator.Quantity"]["size"], 24)
        self.assertEqual(list(schema_gate.compare(read, read)), [])


class HistoryTable(unittest.TestCase):
    grown = Change(True, "field t.T.z", "was appended")
    broken = Change(False, "field t.T.a", "was removed")

    def test_a_compatible_change_needs_a_line_with_date_and_reason(self):
        self.assertFalse(History("").accepts(self.grown))
        self.assertFalse(History("| 2026-11-22 | `field t.T.z` |  |").accepts(self.grown))
        self.assertFalse(History("| soon | `field t.T.z` | more kills |").accepts(self.grown))
        self.assertFalse(History("| 2026-11-22 | `field t.T.zz` | more kills |").accepts(self.grown))
        self.assertTrue(History("| 2026-11-22 | `field t.T.z` | more kills |").accepts(self.grown))

    def test_a_break_needs_the_word_a_reason_and_two_reviewers(self):
        self.assertFalse(History("| 2026-11-22 | `field t.T.a` | nobody used it |").accepts(self.broken))
        self.assertFalse(History("| 2026-11-22 | `field t.T.a` | BREAK: nobody used it |").accepts(self.broken))
        self.assertFalse(History("| 2026-11-22 | `field t.T.a` | BREAK: nobody used it; reviewed by Ann |").accepts(self.broken))
        self.assertTrue(History("| 2026-11-22 | `field t.T.a` | BREAK: nobody used it; reviewed by Ann and Bo |").accepts(self.broken))

    def test_the_advice_is_a_line_that_is_accepted_once_filled_in(self):
        for change in (self.grown, self.broken):
            line = History("").advice(change).split("HISTORY.md: ")[1]
            for blank, word in (("<date>", "2026-11-22"), ("<reason>", "why"), ("<name>", "Ann")):
                line = line.replace(blank, word)
            self.assertTrue(History(line).accepts(change), line)


if __name__ == "__main__":
    compat.main()
