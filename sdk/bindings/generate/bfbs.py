"""Reads the binary schemas that `flatc --schema -b` writes: a flatbuffer itself, of the tables of reflection.fbs.

Only what generators need is kept. Numbers in `_table(...)` calls are field ids of reflection.fbs (flatc 2.0 to 25).
"""
import struct

NONE, UTYPE, BOOL, BYTE, UBYTE, SHORT, USHORT, INT, UINT, LONG, ULONG, FLOAT, DOUBLE, STRING, VECTOR, OBJ, UNION, ARRAY = range(18)
SCALARS = {UTYPE: ("u8", 1), BOOL: ("bool", 1), BYTE: ("i8", 1), UBYTE: ("u8", 1), SHORT: ("i16", 2), USHORT: ("u16", 2),
           INT: ("i32", 4), UINT: ("u32", 4), LONG: ("i64", 8), ULONG: ("u64", 8), FLOAT: ("f32", 4), DOUBLE: ("f64", 8)}


class SchemaError(Exception):
    """Something the bindings do not support; says what and where."""


class Raw:
    """One table of a flatbuffer; trusts its bytes, which flatc wrote."""

    def __init__(self, data, at):
        self.data, self.at = data, at
        vtable = at - struct.unpack_from("<i", data, at)[0]
        size = struct.unpack_from("<H", data, vtable)[0]
        self.slots = struct.unpack_from(f"<{size // 2 - 2}H", data, vtable + 4)

    def _at(self, field):
        offset = self.slots[field] if field < len(self.slots) else 0
        return self.at + offset if offset else None

    def num(self, field, fmt, default=0):
        at = self._at(field)
        return default if at is None else struct.unpack_from("<" + fmt, self.data, at)[0]

    def _ref(self, field):
        at = self._at(field)
        return None if at is None else at + struct.unpack_from("<I", self.data, at)[0]

    def _text_at(self, at):
        n = struct.unpack_from("<I", self.data, at)[0]
        return self.data[at + 4:at + 4 + n].decode()

    def text(self, field):
        at = self._ref(field)
        return "" if at is None else self._text_at(at)

    def table(self, field):
        at = self._ref(field)
        return None if at is None else Raw(self.data, at)

    def _elements(self, field):
        at = self._ref(field)
        if at is None:
            return
        for i in range(struct.unpack_from("<I", self.data, at)[0]):
            e = at + 4 + 4 * i
            yield e + struct.unpack_from("<I", self.data, e)[0]

    def tables(self, field):
        return [Raw(self.data, e) for e in self._elements(field)]

    def texts(self, field):
        return [self._text_at(e) for e in self._elements(field)]


class Type:
    def __init__(self, raw, objects, enums):
        self.base, self.element, index = raw.num(0, "b"), raw.num(1, "b"), raw.num(2, "i", -1)
        innermost = self.element if self.base == VECTOR else self.base
        self.object = objects[index] if innermost == OBJ else None
        self.enum = enums[index] if index >= 0 and innermost != OBJ else None

    @property
    def scalar(self):
        return self.base in SCALARS


class Field:
    def __init__(self, raw, objects, enums):
        self.name, self.type = raw.text(0), Type(raw.table(1), objects, enums)
        self.id, self.slot = raw.num(2, "H"), raw.num(3, "H")
        self.default = raw.num(5, "d") if self.type.base in (FLOAT, DOUBLE) else raw.num(4, "q")
        self.deprecated, self.required, self.optional = (bool(raw.num(i, "B")) for i in (6, 7, 11))
        self.doc = raw.texts(10)


class Object:
    def __init__(self, raw):
        self.raw, self.name = raw, raw.text(0)
        self.is_struct, self.align, self.size = bool(raw.num(2, "B")), raw.num(3, "i"), raw.num(4, "i")
        self.doc, self.file = raw.texts(6), stem(raw.text(7))
        self.fields = []

    def resolve(self, objects, enums):
        self.fields = sorted((Field(f, objects, enums) for f in self.raw.tables(1)), key=lambda f: f.id)
        for f in self.fields:
            check(self, f)
        # The tag of a union is set and read with the union itself.
        self.tags = {f.id - 1 for f in self.fields if f.type.base == UNION}

    @property
    def live(self):
        """Fields an author sees: not deprecated, not the hidden tag of a union."""
        return [f for f in self.fields if not f.deprecated and f.id not in self.tags]

    @property
    def short(self):
        return self.name.rsplit(".", 1)[-1]


class Enum:
    def __init__(self, raw):
        self.raw, self.name = raw, raw.text(0)
        self.is_union, self.file, self.doc = bool(raw.num(2, "B")), stem(raw.text(6)), raw.texts(5)
        self.base = raw.table(3).num(0, "b")
        self.values = []

    def resolve(self, objects, enums):
        for v in self.raw.tables(1):
            member = v.table(3)
            kind = Type(member, objects, enums) if member else None
            if self.is_union and kind and kind.base not in (NONE, OBJ):
                raise SchemaError(f"{self.name}.{v.text(0)}: union members must be tables")
            if self.is_union and kind and kind.object and kind.object.is_struct:
                raise SchemaError(f"{self.name}.{v.text(0)}: union members must be tables, not structs")
            number = v.num(1, "q")
            if self.base == ULONG and number < 0:
                number += 1 << 64
            self.values.append((v.text(0), number, kind.object if kind else None, v.texts(4)))

    @property
    def short(self):
        return self.name.rsplit(".", 1)[-1]


def stem(path):
    return path.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def check(obj, f):
    t, where = f.type, f"{obj.name}.{f.name}"
    if t.base == ARRAY or t.element == ARRAY:
        raise SchemaError(f"{where}: fixed arrays are not supported")
    if t.base == VECTOR and t.element in (UNION, UTYPE, VECTOR):
        raise SchemaError(f"{where}: vectors of unions are not supported; wrap the union in a table")
    if f.id >= 250:
        raise SchemaError(f"{where}: more than 250 fields; split the table")


class Schema:
    """All binary schemas together: objects and enums by full name."""

    def __init__(self, paths):
        self.objects, self.enums = {}, {}
        for path in paths:
            with open(path, "rb") as f:
                data = f.read()
            root = Raw(data, struct.unpack_from("<I", data, 0)[0])
            objects, enums = [Object(o) for o in root.tables(0)], [Enum(e) for e in root.tables(1)]
            for x in objects + enums:
                if not x.file:
                    raise SchemaError(f"{path}: no declaration files inside; flatc 2.0.8 or later is needed")
            # A type seen through several files is one type: the first reading of it is kept.
            objects = [self.objects.setdefault(o.name, o) for o in objects]
            enums = [self.enums.setdefault(e.name, e) for e in enums]
            for x in objects + enums:
                if x.raw is not None and x.raw.data is data:
                    x.resolve(objects, enums)

    def of_file(self, name):
        return ([o for o in self.objects.values() if o.file == name], [e for e in self.enums.values() if e.file == name])

    def needed(self, skipped):
        """The first of the skipped files that a table of another file refers to, or None."""
        for o in self.objects.values():
            for f in o.fields:
                for x in uses(f) + ([f.type.enum] if f.type.enum else []):
                    if o.file not in skipped and x.file in skipped:
                        return x.file
        return None

    def files(self):
        return sorted({x.file for x in list(self.objects.values()) + list(self.enums.values())})


def ordered(objects):
    """Objects of one file so that each comes after those its fields name, where that is possible (cycles are not)."""
    out, state, inside = [], {}, set(o.name for o in objects)

    def visit(o):
        if state.get(o.name):
            return
        state[o.name] = 1
        for f in o.fields:
            for needed in uses(f):
                if needed.name in inside:
                    visit(needed)
        out.append(o)

    for o in sorted(objects, key=lambda o: o.name):
        visit(o)
    return out


def uses(f):
    if f.type.object:
        return [f.type.object]
    if f.type.base == UNION:
        return [o for _, _, o, _ in f.type.enum.values if o]
    return []
