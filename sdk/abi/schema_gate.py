"""May schemas change from `old` to `new`? Reads what flatc --schema -b writes and judges every difference.

flatc --conform judges as well, but version 2.0.8 lets pass (tried, see tests/compat/schema_conform_test.py): a removed last field,
a renamed field, a struct that grew, shrank or had a member renamed, a removed or renamed enum value or union member, a removed
table, a changed namespace, and every changed attribute. Both have to agree. Standard library only.
"""

import os
import re
import struct
import subprocess
import tempfile

from change import Change


# ---- the reader of .bfbs: only what is compared

class _Table:
    def __init__(self, data, at):
        self.data, self.at = data, at
        self.vtable = at - struct.unpack_from("<i", data, at)[0]
        self.slots = (struct.unpack_from("<H", data, self.vtable)[0] - 4) // 2

    def _where(self, slot):
        if slot >= self.slots:
            return 0
        offset = struct.unpack_from("<H", self.data, self.vtable + 4 + 2 * slot)[0]
        return self.at + offset if offset else 0

    def number(self, slot, form, default=0):
        at = self._where(slot)
        return struct.unpack_from("<" + form, self.data, at)[0] if at else default

    def _follow(self, at):
        return at + struct.unpack_from("<I", self.data, at)[0]

    def table(self, slot):
        at = self._where(slot)
        return _Table(self.data, self._follow(at)) if at else None

    def text(self, slot):
        at = self._where(slot)
        if not at:
            return ""
        at = self._follow(at)
        size = struct.unpack_from("<I", self.data, at)[0]
        return self.data[at + 4:at + 4 + size].decode()

    def tables(self, slot):
        at = self._where(slot)
        if not at:
            return []
        at = self._follow(at)
        count = struct.unpack_from("<I", self.data, at)[0]
        return [_Table(self.data, self._follow(at + 4 + 4 * i)) for i in range(count)]

    def attributes(self, slot):
        return {t.text(0): t.text(1) for t in self.tables(slot)}


_BASE = ["none", "utype", "bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong", "float", "double", "string",
         "vector", "object", "union", "array"]


def read_bfbs(data):
    """{"objects": {name: ...}, "enums": {name: ...}, "file_ident": ..., "root": ...} of one .bfbs."""
    root = _Table(data, struct.unpack_from("<I", data, 0)[0])
    objects, enums = root.tables(0), root.tables(1)
    object_names, enum_names = [o.text(0) for o in objects], [e.text(0) for e in enums]

    def type_text(t):
        base, element, index = t.number(0, "b"), t.number(1, "b"), t.number(2, "i", -1)
        leaf = element if base in (14, 17) else base
        name = _BASE[leaf]
        if index >= 0:
            # An index means an enum for scalars and unions, an object otherwise.
            name = object_names[index] if leaf == 15 else name + " " + enum_names[index]
        if base == 14:
            return "[" + name + "]"
        if base == 17:
            return "[%s:%d]" % (name, t.number(3, "H"))
        return name

    out = {"objects": {}, "enums": {}, "file_ident": root.text(2), "root": root.table(4).text(0) if root.table(4) else ""}
    for o in objects:
        fields = {}
        for f in o.tables(1):
            fields[f.number(2, "H")] = {
                "name": f.text(0), "type": type_text(f.table(1)), "offset": f.number(3, "H"),
                "default": (f.number(4, "q"), f.number(5, "d", 0.0)), "deprecated": f.number(6, "B"),
                "required": f.number(7, "B"), "key": f.number(8, "B"), "optional": f.number(11, "B"),
                "attributes": f.attributes(9)}
        out["objects"][o.text(0)] = {"fields": fields, "struct": o.number(2, "B"), "align": o.number(3, "i"),
                                     "size": o.number(4, "i"), "attributes": o.attributes(5)}
    for e in enums:
        values = {}
        for v in e.tables(1):
            member = v.table(3)
            values[v.text(0)] = (v.number(1, "q"), type_text(member) if member else "")
        out["enums"][e.text(0)] = {"values": values, "union": e.number(2, "B"), "type": _BASE[e.table(3).number(0, "b")],
                                   "attributes": e.attributes(4)}
    return out


def read_folder(folder, flatc="flatc"):
    """{file name: what read_bfbs gives} of every .fbs in a folder."""
    out = {}
    with tempfile.TemporaryDirectory() as d:
        names = sorted(n for n in os.listdir(folder) if n.endswith(".fbs"))
        if names:
            r = subprocess.run([flatc, "--schema", "-b", "-o", d] + [os.path.join(folder, n) for n in names],
                               capture_output=True, text=True)
            if r.returncode != 0:
                raise SystemExit("flatc cannot read the schemas of %s:\n%s" % (folder, r.stdout + r.stderr))
        for n in names:
            with open(os.path.join(d, n[:-4] + ".bfbs"), "rb") as f:
                out[n] = read_bfbs(f.read())
    return out


# ---- the judgement

def _attributes(old, new, what, skip=()):
    for k in sorted(set(old) | set(new)):
        if k in skip:
            continue
        if k not in new:
            yield Change(False, "attribute %s %s" % (what, k), "is gone: other wire forms derive from it")
        elif k not in old:
            yield Change(True, "attribute %s %s" % (what, k), "was added")
        elif old[k] != new[k]:
            yield Change(False, "attribute %s %s" % (what, k), "changed from \"%s\" to \"%s\": other wire forms derive from it" %
                         (old[k], new[k]))


# flatc keeps its own words among the attributes; those are compared as what they mean.
_OWN = ("id", "deprecated", "required", "key", "nested_flatbuffer")


def _table(name, old, new):
    for i, f in sorted(old["fields"].items()):
        g = new["fields"].get(i)
        what = "%s.%s" % (name, f["name"])
        if g is None:
            yield Change(False, "field " + what, "was removed: mark it (deprecated) instead, its slot stays taken")
            continue
        if g["name"] != f["name"]:
            yield Change(False, "field " + what, "is called %s now: a renamed, moved or inserted field; append new fields at the end" %
                         g["name"])
            continue
        if g["type"] != f["type"]:
            yield Change(False, "field " + what, "changed its type from %s to %s: append a new field" % (f["type"], g["type"]))
        if g["default"] != f["default"]:
            yield Change(False, "field " + what, "changed its default from %s to %s: old bytes would change their meaning" %
                         (_default(f), _default(g)))
        if g["optional"] != f["optional"]:
            yield Change(False, "field " + what, "became or ceased to be optional (= null)")
        if g["required"] != f["required"]:
            yield Change(False, "field " + what, "became or ceased to be (required): one side would refuse what the other writes")
        if g["key"] != f["key"]:
            yield Change(False, "field " + what, "became or ceased to be the (key): the order of vectors would change")
        if g["deprecated"] != f["deprecated"]:
            yield Change(True, "field " + what, "was deprecated" if g["deprecated"] else "is no longer deprecated")
        if f["attributes"].get("nested_flatbuffer") != g["attributes"].get("nested_flatbuffer"):
            yield Change(False, "field " + what, "changed what is nested in it")
        yield from _attributes(f["attributes"], g["attributes"], what, _OWN)
    for i, g in sorted(new["fields"].items()):
        if i in old["fields"]:
            continue
        what = "%s.%s" % (name, g["name"])
        if g["required"]:
            yield Change(False, "field " + what, "is new and (required): what older modules send would be refused")
        else:
            yield Change(True, "field " + what, "was appended")


def _default(f):
    integer, real = f["default"]
    return repr(real) if real else str(integer)


def _struct(name, old, new):
    def shape(o):
        return [(i, f["name"], f["type"], f["offset"]) for i, f in sorted(o["fields"].items())]
    if shape(old) != shape(new) or (old["size"], old["align"]) != (new["size"], new["align"]):
        a, b = shape(old), shape(new)
        first = next((i for i in range(max(len(a), len(b))) if i >= len(a) or i >= len(b) or a[i] != b[i]), 0)
        which = (a[first] if first < len(a) else b[first])[1]
        yield Change(False, "struct " + name, "changed at member %s (%d bytes, was %d): a struct of a schema never changes; "
                     "make a new one" % (which, new["size"], old["size"]))


def _enum(name, old, new):
    if old["type"] != new["type"] or old["union"] != new["union"]:
        yield Change(False, "enum " + name, "changed its type from %s to %s" % (old["type"], new["type"]))
        return
    yield from _attributes(old["attributes"], new["attributes"], name)
    by_value = {v[0]: n for n, v in new["values"].items()}
    kind = "union member" if old["union"] else "enum value"
    for n, (value, member) in sorted(old["values"].items(), key=lambda x: x[1][0]):
        what = "%s %s.%s" % (kind, name, n)
        if n not in new["values"]:
            yield Change(False, what, "is called %s now" % by_value[value] if value in by_value else "was removed")
        elif new["values"][n] != (value, member):
            yield Change(False, what, "changed from %d %s to %d %s" % ((value, member) + new["values"][n]))
    for n, (value, member) in sorted(new["values"].items(), key=lambda x: x[1][0]):
        if n not in old["values"]:
            yield Change(True, "%s %s.%s" % (kind, name, n), "was added with value %d" % value)


def compare(old, new):
    """Every difference between two results of read_folder, as Change."""
    for f in sorted(set(old) - set(new)):
        yield Change(False, "schema " + f, "was removed")
    fresh = set(new) - set(old)
    for f in sorted(fresh):
        yield Change(True, "schema " + f, "was added")
    merged = []
    for side in (old, new):
        m = {"objects": {}, "enums": {}}
        for f in sorted(side):
            for part in m:
                for name, x in side[f][part].items():
                    m[part].setdefault(name, (f, x))
        merged.append(m)
    for f in sorted(set(old) & set(new)):
        for what in ("file_ident", "root"):
            if old[f][what] != new[f][what]:
                yield Change(False, "schema " + f, "changed its %s from \"%s\" to \"%s\"" % (what, old[f][what], new[f][what]))
    a, b = merged
    for part, word in (("objects", "table"), ("enums", "enum")):
        for name, (_, x) in sorted(a[part].items()):
            if name not in b[part]:
                yield Change(False, "%s %s" % (word, name), "was removed or renamed")
                continue
            y = b[part][name][1]
            if part == "enums":
                yield from _enum(name, x, y)
            elif x["struct"] != y["struct"]:
                yield Change(False, "table " + name, "changed between struct and table")
            else:
                yield from _attributes(x["attributes"], y["attributes"], name)
                yield from (_struct if x["struct"] else _table)(name, x, y)
        for name, (_, y) in sorted(b[part].items()):
            # Those of a new file come with it.
            if name not in a[part] and not any(name in new[f][part] for f in fresh):
                yield Change(True, "%s %s" % (word, name), "was added")


def flatc_conform(old_folder, new_folder, flatc="flatc"):
    """What flatc --conform itself refuses."""
    for name in sorted(n for n in os.listdir(old_folder) if n.endswith(".fbs")):
        new = os.path.join(new_folder, name)
        if not os.path.exists(new):
            continue
        r = subprocess.run([flatc, "--conform", os.path.join(old_folder, name), "--conform-includes", old_folder, "-I", new_folder,
                            new], capture_output=True, text=True)
        if r.returncode != 0:
            said = " ".join(re.sub(r"\S*/", "", r.stdout + r.stderr).split())
            yield Change(False, "schema " + name, "does not conform, says flatc: " + said[:300])
