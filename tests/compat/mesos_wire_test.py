"""The wire codec against the protobuf library: descriptors built from our schema (tests/compat/mesos/wire_schema.py), random messages
and recorded ones through both, in both encodings.

GANTRY_WIRE_SEED and GANTRY_WIRE_ROUNDS repeat or lengthen a run.
"""

import base64
import json
import math
import os
import random
import subprocess
import sys
import unittest

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError
except ImportError:
    # The distribution's own interpreter has the distribution's modules.
    if os.environ.get("GANTRY_WIRE_AGAIN") != "1" and os.path.exists("/usr/bin/python3"):
        os.environ["GANTRY_WIRE_AGAIN"] = "1"
        os.execv("/usr/bin/python3", ["/usr/bin/python3", "-B"] + sys.argv)
    descriptor_pb2 = None

import compat

sys.path.insert(0, os.path.join(compat.HERE, "mesos"))
import wire_schema  # noqa: E402

PEER = os.path.join(compat.BUILD, "bin", "gantry-wire-peer")
SEED = int(os.environ.get("GANTRY_WIRE_SEED", "1"))
ROUNDS = int(os.environ.get("GANTRY_WIRE_ROUNDS", "150"))
ROOTS = ["gantry.fb.Call", "gantry.fb.Event", "gantry.fb.executor.Call", "gantry.fb.executor.Event", "gantry.fb.master.Call",
         "gantry.fb.master.Response", "gantry.fb.master.Event", "gantry.fb.agent.Call", "gantry.fb.agent.Response",
         "gantry.fb.agent.ProcessIo"]


def flat(name):
    return name.replace(".", "_")


class Library:
    """The protobuf library over descriptors of our schema."""

    def __init__(self):
        self.messages, self.enums = wire_schema.read()
        file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package="w", syntax="proto2")
        F = descriptor_pb2.FieldDescriptorProto
        kinds = {"bool": F.TYPE_BOOL, "int32": F.TYPE_INT32, "uint32": F.TYPE_UINT32, "int64": F.TYPE_INT64, "uint64": F.TYPE_UINT64,
                 "float": F.TYPE_FLOAT, "double": F.TYPE_DOUBLE, "string": F.TYPE_STRING, "bytes": F.TYPE_BYTES}
        for name, values in self.enums.items():
            # Names of values are scoped by the message around the enum.
            around = file.message_type.add(name="E_" + flat(name))
            enum = around.enum_type.add(name="V")
            for value, number in sorted(values.items(), key=lambda v: v[1]):
                enum.value.add(name=value, number=number)
        for name, fields in self.messages.items():
            message = file.message_type.add(name=flat(name))
            for f in fields:
                made = message.field.add(name=f.name, number=f.number)
                made.label = {"required": F.LABEL_REQUIRED, "optional": F.LABEL_OPTIONAL}.get(f.label, F.LABEL_REPEATED)
                if f.kind == "message":
                    made.type, made.type_name = F.TYPE_MESSAGE, ".w." + flat(f.ref)
                elif f.kind == "enum":
                    made.type, made.type_name = F.TYPE_ENUM, ".w.E_%s.V" % flat(f.ref)
                else:
                    made.type = kinds[f.kind]
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        factory = message_factory.MessageFactory(pool)
        self.made = {name: factory.GetPrototype(pool.FindMessageTypeByName("w." + flat(name))) for name in self.messages}

    def parse(self, table, body):
        """The message, or None if the library would refuse it."""
        m = self.made[table]()
        try:
            m.ParseFromString(body)
        except DecodeError:
            return None
        return m if m.IsInitialized() else None

    # ---- JSON as Mesos writes it

    def json(self, table, message):
        out = {}
        for f in self.messages[table]:
            value = getattr(message, f.name)
            if f.label == "map":
                if len(value):
                    inner = {g.number: g for g in self.messages[f.ref]}
                    entries = [(e, inner[2]) for e in value]
                    out[f.name] = {e.key: self.value(g, e.value) for e, g in entries}
            elif f.label == "repeated":
                if len(value) or f.default == "[]":
                    out[f.name] = [self.value(f, v) for v in value]
            elif message.HasField(f.name):
                out[f.name] = self.value(f, value)
            elif f.default is not None:
                out[f.name] = f.default if f.kind in ("enum", "string") else json.loads(f.default) if f.kind != "double" else float(f.default)
        return out

    def value(self, f, v):
        if f.kind == "message":
            return self.json(f.ref, v)
        if f.kind == "enum":
            return next(n for n, number in self.enums[f.ref].items() if number == v)
        if f.kind == "bytes":
            return base64.b64encode(v).decode()
        if f.kind == "double" and math.isinf(v):
            return "Infinity" if v > 0 else "-Infinity"
        return v

    def once(self, table, message):
        """Maps are plain repeated entries in our descriptors: of two with one key the later one holds."""
        for f in self.messages[table]:
            if f.kind != "message" or (f.label not in ("repeated", "map") and not message.HasField(f.name)):
                continue
            value = getattr(message, f.name)
            if f.label == "map":
                last = {e.key: i for i, e in enumerate(value)}
                for i in reversed([i for i, e in enumerate(value) if last[e.key] != i]):
                    del value[i]
            for inner in value if f.label in ("repeated", "map") else [value]:
                self.once(f.ref, inner)
        return message

    # ---- random messages

    def fill(self, r, table, message, depth=0):
        fields = self.messages[table]
        wrapper = "__" in table and len(fields) <= 2  # ours alone: without its value it would be nothing
        chance = 1.0 if wrapper else max(0.05, 0.5 - 0.08 * depth)
        for f in fields:
            if f.label == "required" or r.random() < (chance if depth < 9 else 0) or (wrapper and f is fields[0]):
                if f.label in ("repeated", "map"):
                    for _ in range(r.choice((1, 1, 1, 2, 3))):
                        self.put(r, f, message, depth, True)
                else:
                    self.put(r, f, message, depth, False)
        return message

    def put(self, r, f, message, depth, many):
        if f.kind == "message":
            inner = getattr(message, f.name)
            inner = inner.add() if many else inner
            inner.SetInParent() if not many else None
            self.fill(r, f.ref, inner, depth + 1)
            if f.label == "map":
                inner.key = "k%d" % len(getattr(message, f.name))  # a map has a key once
                names = {g.name: g for g in self.messages[f.ref]}
                if not inner.HasField("value"):
                    self.put(r, names["value"], inner, depth + 1, False)
            return
        value = self.scalar(r, f)
        if many:
            getattr(message, f.name).append(value)
        else:
            setattr(message, f.name, value)

    def scalar(self, r, f):
        if f.kind == "enum":
            return r.choice(list(self.enums[f.ref].values()))
        if f.kind == "bool":
            return r.random() < 0.5
        if f.kind == "string":
            return "".join(r.choice("ab/_\"\\\n\t\x01\x7f é😀{}[]:,") for _ in range(r.choice((0, 1, 3, 8, 40))))
        if f.kind == "bytes":
            return bytes(r.randrange(256) for _ in range(r.choice((0, 1, 2, 3, 16))))
        if f.kind == "double":
            return r.choice((0.0, 1.0, 0.1, -1.5, 1e21, 1e-7, 5e-324, 1.7e308, r.random(), r.random() * 1e10, 123456789.123, math.inf))
        if f.kind == "float":
            return 0.5
        bits = 32 if f.kind.endswith("32") else 64
        high = (1 << bits) - 1 if f.kind[0] == "u" else (1 << (bits - 1)) - 1
        low = 0 if f.kind[0] == "u" else -high - 1
        return r.choice((0, 1, 127, 128, 300, high, low, r.randint(low, high)))


class Peer:
    def __init__(self):
        self.process = subprocess.Popen([PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, table, form, body):
        """(JSON text, protobuf), or the sentence of the refusal."""
        self.process.stdin.write("%s %s %s\n" % (table, form, base64.b64encode(body).decode()))
        self.process.stdin.flush()
        line = self.process.stdout.readline().rstrip("\n")
        if line.startswith("ok "):
            text, proto = line[3:].split(" ")
            return base64.b64decode(text).decode(), b"" if proto == "=" else base64.b64decode(proto)
        if not line:
            raise AssertionError("gantry-wire-peer died of %s %r" % (table, body))
        return line[3:]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@unittest.skipIf(descriptor_pb2 is None, "the package python3-protobuf is missing: run tools/install-deps --test")
@unittest.skipUnless(os.path.exists(PEER), "gantry-wire-peer is not built")
class MesosWire(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.library, cls.peer = Library(), Peer()

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()

    def samples(self, rounds=ROUNDS):
        for table in ROOTS:
            for i in range(rounds):
                r = random.Random("%s %d %d" % (table, SEED, i))
                yield table, r, self.library.fill(r, table, self.library.made[table]())

    def same(self, table, ours, message, what):
        self.assertIsInstance(ours, tuple, "%s: %s: %s" % (table, what, ours))
        back = self.library.made[table]()
        back.ParseFromString(ours[1])
        self.assertEqual(back, message, "%s: %s" % (table, what))
        self.assertEqual(json.loads(ours[0]), self.library.json(table, message), "%s: %s" % (table, what))
        self.assertNotIn("\n", ours[0])

    def test_random_messages_are_understood_alike(self):
        for table, _, message in self.samples():
            body = message.SerializeToString(deterministic=True)
            ours = self.peer.ask(table, "p", body)
            self.same(table, ours, message, "protobuf in")
            self.assertEqual(ours[1], body, table)  # canonical: the same bytes
            again = self.peer.ask(table, "j", ours[0].encode())
            self.assertIsInstance(again, tuple, "%s: %s: %s" % (table, again, ours[0]))
            self.assertEqual(again[0], ours[0])

    def test_two_messages_in_a_row_are_their_sum(self):
        for table, r, message in self.samples(ROUNDS // 3):
            other = self.library.fill(r, table, self.library.made[table]())
            body = message.SerializeToString() + other.SerializeToString()
            both = self.library.once(table, self.library.parse(table, body))
            self.same(table, self.peer.ask(table, "p", body), both, "two in a row")

    def test_unknown_fields_are_skipped(self):
        junk = [b"\xf8\x7f\x05", b"\xfa\x7f\x03abc", b"\xf9\x7f12345678", b"\xfd\x7f1234", b"\xfb\x7f\x08\x01\xfc\x7f"]
        for table, r, message in self.samples(ROUNDS // 3):
            self.same(table, self.peer.ask(table, "p", r.choice(junk) + message.SerializeToString() + r.choice(junk)), message, "unknown")

    def test_what_is_cut_short_or_damaged_is_refused_alike(self):
        # The library complains on the error stream about text that ends within a character.
        kept, quiet = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)
        try:
            self.cut_and_damage()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(quiet)

    def cut_and_damage(self):
        refused = 0
        for table, r, message in self.samples(ROUNDS // 3):
            body = message.SerializeToString()
            for _ in range(4):
                part = body[:r.randrange(len(body) + 1)]
                theirs, ours = self.library.parse(table, part), self.peer.ask(table, "p", part)
                self.assertEqual(theirs is None, isinstance(ours, str), "%s: %r" % (table, part))
                refused += theirs is None
            if body:
                # Only that nothing breaks: the library is stricter about UTF-8 than Mesos' language is.
                at = r.randrange(len(body))
                self.peer.ask(table, "p", body[:at] + bytes([body[at] ^ 1 << r.randrange(8)]) + body[at + 1:])
        self.assertGreater(refused, 100)

    def test_recorded_bodies(self):
        count = 0
        with open(os.path.join(compat.HERE, "mesos", "bodies.tsv"), encoding="utf-8") as f:
            for line in f:
                if line.startswith("#"):
                    continue
                table, given, out, proto = line.rstrip("\n").split("\t")
                ours = self.peer.ask(table, "j", (out if given == "=" else given).encode())
                self.assertIsInstance(ours, tuple, ours)
                message = self.library.parse(table, ours[1])
                self.same(table, ours, message, out)
                if proto:
                    self.same(table, self.peer.ask(table, "p", base64.b64decode(proto)), self.library.parse(table, base64.b64decode(proto)), out)
                count += 1
        self.assertGreater(count, 150)

    def test_missing_required_fields_are_named_alike(self):
        for table, r, message in self.samples(ROUNDS // 3):
            # Take one required field away, somewhere.
            spots = []

            def walk(name, m):
                for g in self.library.messages[name]:
                    v = getattr(m, g.name)
                    if g.label == "required" and m.HasField(g.name):
                        spots.append((m, g.name))
                    if g.kind == "message" and g.label != "map":
                        for x in v if g.label == "repeated" else [v] if m.HasField(g.name) else []:
                            walk(g.ref, x)
            walk(table, message)
            if not spots:
                continue
            m, field = r.choice(spots)
            m.ClearField(field)
            text = json.dumps(self.library.json(table, message))
            missing = message.FindInitializationErrors()
            if not missing:
                continue
            expected = "Failed to convert JSON into %s protobuf: Missing required fields: %s" % (table.split(".")[-1], ", ".join(missing))
            self.assertEqual(self.peer.ask(table, "j", text.encode()), expected)


if __name__ == "__main__":
    compat.main()
