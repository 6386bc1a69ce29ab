"""The wire's view of our schema, read once more and independently of the C++ codec: what messages, fields and numbers the attributes of
sdk/schema/types.fbs stand for. tests/compat/mesos/wire_test.py builds descriptors of the protobuf library from it.
"""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "sdk", "abi"))

import schema_gate  # noqa: E402

SCALARS = {"bool": "bool", "byte": "int32", "short": "int32", "int": "int32", "ubyte": "uint32", "ushort": "uint32", "uint": "uint32",
           "long": "int64", "ulong": "uint64", "float": "float", "double": "double", "string": "string"}


class Field:
    def __init__(self, name, number, kind, label="optional", ref=None, default=None):
        self.name, self.number, self.kind, self.label, self.ref, self.default = name, number, kind, label, ref, default

    def __repr__(self):
        return "%s %s %s = %d%s" % (self.label, self.ref or self.kind, self.name, self.number,
                                    " [default = %s]" % self.default if self.default is not None else "")


def read(wire_fbs=os.path.join(ROOT, "modules/gateway/mesos/wire/wire.fbs"), flatc="flatc"):
    """({message: [Field]}, {enum: {value name: number}}) of everything that wire.fbs includes. Label "map": kind is that of the value."""
    with tempfile.TemporaryDirectory() as d:
        subprocess.run([flatc, "--schema", "-b", "-I", os.path.join(ROOT, "sdk/schema"), "-o", d, wire_fbs], check=True)
        stem = os.path.splitext(os.path.basename(wire_fbs))[0]
        with open(os.path.join(d, stem + ".bfbs"), "rb") as f:
            schema = schema_gate.read_bfbs(f.read())
    messages, todo = {}, [(name, "") for name in schema["objects"]]

    def reference(name, only):
        made = name + ("__" + only.replace(" ", "_") if only else "")
        if made not in messages and (name, only) not in todo:
            todo.append((name, only))
        return made

    def plain(f):
        kind, repeated, ref = f["type"], False, None
        if kind.startswith("["):
            kind, repeated = kind[1:-1], True
        if repeated and kind == "ubyte":
            return "bytes", False, None
        if " " in kind:
            return "enum", repeated, kind.split(" ")[1]
        if kind in SCALARS:
            return SCALARS[kind], repeated, None
        return "message", repeated, reference(kind, f["attributes"].get("only", ""))

    while todo:
        name, only = todo.pop()
        made = reference(name, only)
        if made in messages:
            continue
        table, fields, wrappers = schema["objects"][name], [], {}
        messages[made] = fields
        for i, f in sorted(table["fields"].items()):
            a = f["attributes"]
            kind, repeated, ref = plain(f)
            if table["struct"]:
                fields.append(Field(f["name"], i + 1, kind, "required", ref))
                continue
            if "proto" not in a or f["deprecated"]:
                continue
            wire, number = a.get("wire", f["name"]), int(a["proto"])
            if only and wire not in only.split(" "):
                continue
            label = "required" if "wire_required" in a else "optional"
            if "presence" in a:
                messages.setdefault("Empty", [])
                fields.append(Field(wire, number, "message", label, "Empty"))
            elif "wrap" in a or "list" in a:
                if number not in wrappers:
                    wrapper = "%s__%s" % (made, wire)
                    wrappers[number] = messages[wrapper] = []
                    fields.append(Field(wire, number, "message", "repeated" if "wrap" in a and repeated else label, wrapper))
                inner = "repeated" if "list" in a else "optional" if "wrap_optional" in a else "required"
                wrappers[number].append(Field(a.get("list", a.get("wrap")), int(a.get("wrap_proto", "1")), kind, inner, ref))
            elif "map" in a:
                fields.append(Field(wire, number, "message", "map", ref))
            else:
                fields.append(Field(wire, number, kind, "repeated" if repeated else label, ref, a.get("wire_default")))
    return messages, {n: {v: k[0] for v, k in e["values"].items()} for n, e in schema["enums"].items()}
