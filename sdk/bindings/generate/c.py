"""C headers: a handle, verified reading, accessors and setters of every table; one header a schema file."""
import re

import bfbs

CTYPE = {"u8": "uint8_t", "bool": "bool", "i8": "int8_t", "u16": "uint16_t", "i16": "int16_t", "u32": "uint32_t", "i32": "int32_t",
         "u64": "uint64_t", "i64": "int64_t", "f32": "float", "f64": "double"}
KEYWORDS = set("""auto break case char const continue default do double else enum extern float for goto if inline int long register
restrict return short signed sizeof static struct switch typedef union unsigned void volatile while bool true false""".split())


def symbol(full):
    """gantry.fb.isolator.Prepare -> gantry_isolator_Prepare"""
    return re.sub(r"^gantry\.fb\.", "gantry.", full).replace(".", "_")


def upper(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def constant(enum, value):
    space, short = symbol(enum.name).rsplit("_", 1)
    return f"{space.upper()}_{upper(short)}_{upper(value)}"


def member(name):
    return name + "_" if name in KEYWORDS else name


def accessor(obj, field):
    """The name of a field in function names; the functions of the table itself keep theirs."""
    names = {f.name for f in obj.fields}
    n = field.name
    clash = n in ("read", "begin", "end", "at") or any(n == p + o for p in ("has_", "set_") for o in names)
    return n + "_" if clash else n


def literal(kind, f):
    if kind == "bool":
        return "true" if f.default else "false"
    if kind in ("f32", "f64"):
        if f.default != f.default or f.default in (float("inf"), float("-inf")):
            raise bfbs.SchemaError(f"{f.name}: a default must be finite")
        return repr(float(f.default)) + ("f" if kind == "f32" else "")
    if kind == "u64":
        return f"{f.default % (1 << 64)}u"
    if kind == "i64":
        return int64(f.default)
    return f"{f.default}u" if kind == "u32" else str(f.default)


def int64(value):
    return "INT64_MIN" if value == -(1 << 63) else f"INT64_C({value})"


class Header:
    def __init__(self, schema, stem):
        self.stem, self.lines, self.names = stem, [], set()
        self.objects, self.enums = schema.of_file(stem)
        self.tables = [o for o in bfbs.ordered(self.objects) if not o.is_struct]
        self.structs = [o for o in bfbs.ordered(self.objects) if o.is_struct]

    def out(self, text=""):
        self.lines.append(text)

    def define(self, signature, body):
        """One function; a name given twice is an error here rather than in the author's compiler."""
        name = re.match(r".*?(\w+)\(", signature).group(1)
        if name in self.names:
            raise bfbs.SchemaError(f"{self.stem}.fbs: two things are called {name} in C; rename one field")
        self.names.add(name)
        line = f"static inline {signature} {{ {body} }}"
        if len(line) > 120:
            line = f"static inline {signature} {{\n  {body}\n}}"
        self.out(line)

    def needed_files(self):
        needed = set()
        for o in self.objects:
            for f in o.fields:
                needed.update(x.file for x in bfbs.uses(f))
                if f.type.enum:
                    needed.add(f.type.enum.file)
        return sorted(needed - {self.stem})

    def text(self):
        guard = f"GANTRY_C_{self.stem.upper()}_H"
        self.out(f"/* Messages of {self.stem}.fbs, where their meaning is written; how to read and build: <gantry/c/fb.h>.\n"
                 " * Generated with the SDK; do not edit. */")
        self.out(f"#ifndef {guard}\n#define {guard}\n\n#include <gantry/c/fb.h>")
        for file in self.needed_files():
            self.out(f"#include <gantry/c/{file}.h>")
        self.out('\n#ifdef __cplusplus\nextern "C" {\n#endif')
        for e in sorted(self.enums, key=lambda e: e.name):
            self.enum(e)
        for s in self.structs:
            self.struct(s)
        self.out("\n/* ---- handles and shapes */\n")
        for t in self.tables:
            self.out(f"typedef struct {symbol(t.name)} {{ const uint8_t* at; }} {symbol(t.name)};")
        self.out()
        self.shapes()
        for t in self.tables:
            self.table(t)
        self.out(f'\n#ifdef __cplusplus\n}}\n#endif\n#endif')
        return "\n".join(self.lines) + "\n"

    def enum(self, e):
        kind = bfbs.SCALARS[e.base][0]
        self.out(f"\n/* {'tags of union' if e.is_union else 'enum'} {e.name} */\ntypedef {CTYPE[kind]} {symbol(e.name)};")
        for name, value, _, _ in e.values:
            suffix = {"u32": "u", "u64": "u", "i64": ""}.get(kind, "")
            number = int64(value) if kind == "i64" else f"{value}{suffix}"
            self.out(f"#define {constant(e, name)} {f'({number})' if value < 0 else number}")
        self.names.add(symbol(e.name) + "_name")
        self.out(f"static inline const char* {symbol(e.name)}_name({symbol(e.name)} v) {{\n  switch (v) {{")
        seen = set()
        for name, value, _, _ in e.values:
            if value not in seen:
                self.out(f'    case {constant(e, name)}: return "{name}";')
            seen.add(value)
        self.out('    default: return "unknown";\n  }\n}')

    def struct(self, s):
        n = symbol(s.name)
        self.out(f"\n/* struct {s.name}: {s.size} bytes */\ntypedef struct {n} {{")
        at, pads = 0, 0
        for f in s.fields:
            if f.slot > at:
                self.out(f"  uint8_t padding{pads}_[{f.slot - at}];")
                pads += 1
            size = f.type.object.size if f.type.object else bfbs.SCALARS[f.type.base][1]
            self.out(f"  {self.ctype(f.type, in_struct=True)} {member(f.name)};")
            at = f.slot + size
        if s.size > at:
            self.out(f"  uint8_t padding{pads}_[{s.size - at}];")
        self.out(f"}} {n};\nGANTRY_FB_ASSERT(sizeof({n}) == {s.size});")
        for f in s.fields:
            self.out(f"GANTRY_FB_ASSERT(offsetof({n}, {member(f.name)}) == {f.slot});")
        self.out(f"/* Element i of a vector; zeroes past its end. */")
        self.define(f"{n} {n}_at(gantry_fb_vector v, size_t i)",
                    f"{n} s; memset(&s, 0, sizeof s); if (i < v.count) memcpy(&s, v.at + i * sizeof s, sizeof s); return s;")
        self.define(f"gantry_fb_ref {n}_vector(gantry_fb_builder* b, const {n}* items, size_t n)",
                    f"return gantry_fb_vector_of(b, items, n, sizeof *items, {s.align});")

    def ctype(self, t, in_struct=False):
        if t.object:
            return symbol(t.object.name)
        if t.enum:
            return symbol(t.enum.name)
        kind = bfbs.SCALARS[t.base][0]
        return "uint8_t" if in_struct and kind == "bool" else CTYPE[kind]

    # ---- shapes

    def shape_name(self, o):
        return f"gantry_fb_shape_{symbol(o.name)}"

    def shapes(self):
        done = set()
        here = {t.name for t in self.tables}
        unions = {}
        for t in self.tables:
            for f in t.live:
                for used in bfbs.uses(f):
                    if used.name in here and used.name not in done and not used.is_struct:
                        self.out(f"static const gantry_fb_shape {self.shape_name(used)}; /* refers to itself */")
            rows = []
            for f in t.fields:
                if f.deprecated:
                    continue
                if f.type.base == bfbs.UNION and f.type.enum.name not in unions:
                    unions[f.type.enum.name] = self.union_shape(f.type.enum)
                rows.append(self.shape_row(f, unions))
            n = self.shape_name(t)
            if rows:
                self.out(f"static const gantry_fb_field {n}_fields[] = {{")
                self.lines.extend(f"    {r}," for r in rows)
                self.out("};")
            self.out(f'static const gantry_fb_shape {n} = {{"{t.name}", {n + "_fields" if rows else "NULL"}, {len(rows)}}};')
            done.add(t.name)

    def union_shape(self, e):
        n = f"gantry_fb_shape_{symbol(e.name)}_in_{self.stem}"
        self.out(f"static const gantry_fb_field {n}_fields[] = {{")
        for _, value, o, _ in e.values:
            if o:
                self.out(f"    {{{value}, GANTRY_FB_TABLE, 0, 0, 0, &{self.shape_name(o)}}},")
        self.out("};")
        count = sum(1 for v in e.values if v[2])
        self.out(f'static const gantry_fb_shape {n} = {{"{e.name}", {n}_fields, {count}}};')
        return n

    def shape_row(self, f, unions):
        t, head = f.type, f"{{{f.slot}, GANTRY_FB_"
        req = 1 if f.required else 0
        if t.scalar:
            size = bfbs.SCALARS[t.base][1]
            return f"{head}SCALAR, {req}, {size}, {size}, NULL}}"
        if t.base == bfbs.STRING:
            return f"{head}STRING, {req}, 0, 0, NULL}}"
        if t.base == bfbs.UNION:
            return f"{head}UNION, {req}, 0, 0, &{unions[t.enum.name]}}}"
        if t.base == bfbs.OBJ:
            if t.object.is_struct:
                return f"{head}STRUCT, {req}, {t.object.align}, {t.object.size}, NULL}}"
            return f"{head}TABLE, {req}, 0, 0, &{self.shape_name(t.object)}}}"
        if t.element == bfbs.STRING:
            return f"{head}STRINGS, {req}, 0, 0, NULL}}"
        if t.object and not t.object.is_struct:
            return f"{head}TABLES, {req}, 0, 0, &{self.shape_name(t.object)}}}"
        size = t.object.size if t.object else bfbs.SCALARS[t.element][1]
        return f"{head}VECTOR, {req}, 0, {size}, NULL}}"

    # ---- accessors

    def table(self, t):
        n = symbol(t.name)
        self.out(f"\n/* ---- table {t.name} */\n")
        self.define(f"bool {n}_read(gantry_bytes bytes, {n}* out)",
                    f"out->at = gantry_fb_root(bytes, &{self.shape_name(t)}); return out->at != NULL;")
        self.define(f"{n} {n}_at(gantry_fb_vector v, size_t i)", f"{n} t; t.at = gantry_fb_table_at(v, i); return t;")
        for f in t.live:
            self.getter(t, n, f)
        self.define(f"void {n}_begin(gantry_fb_builder* b)", "gantry_fb_begin(b);")
        for f in t.live:
            self.setter(t, n, f)
        self.define(f"gantry_fb_ref {n}_end(gantry_fb_builder* b)", "return gantry_fb_end(b);")

    def getter(self, t, n, f):
        a, ty = accessor(t, f), f.type
        self.define(f"bool {n}_has_{f.name}({n} t)", f"return gantry_fb_at(t.at, {f.slot}) != NULL;")
        if ty.scalar:
            kind = bfbs.SCALARS[ty.base][0]
            self.define(f"{self.ctype(ty)} {n}_{a}({n} t)", f"return gantry_fb_get_{kind}(t.at, {f.slot}, {literal(kind, f)});")
        elif ty.base == bfbs.STRING:
            self.define(f"gantry_text {n}_{a}({n} t)", f"return gantry_fb_get_text(t.at, {f.slot});")
        elif ty.base == bfbs.OBJ and ty.object.is_struct:
            s = symbol(ty.object.name)
            self.define(f"{s} {n}_{a}({n} t)", f"{s} s; const uint8_t* at = gantry_fb_at(t.at, {f.slot}); "
                        f"memset(&s, 0, sizeof s); if (at) memcpy(&s, at, sizeof s); return s;")
        elif ty.base == bfbs.OBJ:
            o = symbol(ty.object.name)
            self.define(f"{o} {n}_{a}({n} t)", f"{o} o; o.at = gantry_fb_ref_at(t.at, {f.slot}); return o;")
        elif ty.base == bfbs.UNION:
            e = ty.enum
            self.define(f"{symbol(e.name)} {n}_{a}_type({n} t)", f"return gantry_fb_get_u8(t.at, {f.slot - 2}, 0);")
            for value, _, o, _ in e.values:
                if o:
                    s = symbol(o.name)
                    self.define(f"{s} {n}_{a}_as_{value}({n} t)",
                                f"{s} o; o.at = {n}_{a}_type(t) == {constant(e, value)} ? gantry_fb_ref_at(t.at, {f.slot}) : NULL; return o;")
        elif ty.element == bfbs.UBYTE and not ty.enum:
            self.define(f"gantry_bytes {n}_{a}({n} t)", f"return gantry_fb_get_bytes(t.at, {f.slot});")
        else:
            self.define(f"gantry_fb_vector {n}_{a}({n} t)", f"return gantry_fb_get_vector(t.at, {f.slot});")

    def setter(self, t, n, f):
        ty = f.type
        if ty.scalar:
            kind = bfbs.SCALARS[ty.base][0]
            put = f"gantry_fb_set_{kind}(b, {f.slot}, v);"
            if not f.optional:  # the default need not be written
                put = f"if (v != {literal(kind, f)}) {put}"
            self.define(f"void {n}_set_{f.name}(gantry_fb_builder* b, {self.ctype(ty)} v)", put)
        elif ty.base == bfbs.OBJ and ty.object.is_struct:
            self.define(f"void {n}_set_{f.name}(gantry_fb_builder* b, {symbol(ty.object.name)} v)",
                        f"gantry_fb_set(b, {f.slot}, &v, sizeof v, {ty.object.align});")
        elif ty.base == bfbs.UNION:
            self.define(f"void {n}_set_{f.name}(gantry_fb_builder* b, {symbol(ty.enum.name)} type, gantry_fb_ref ref)",
                        f"if (type != 0 && ref != 0) {{ gantry_fb_set_u8(b, {f.slot - 2}, type); gantry_fb_set_ref(b, {f.slot}, ref); }}")
        else:
            self.define(f"void {n}_set_{f.name}(gantry_fb_builder* b, gantry_fb_ref ref)", f"gantry_fb_set_ref(b, {f.slot}, ref);")


def generate(schema, stem):
    return Header(schema, stem).text()


# ---- for the tests: copies any table through all its accessors and setters


def generate_copy(schema):
    lines = ["/* Copies of every table, field by field, through the public accessors and setters: for the round-trip test. */",
             "#include <stdio.h>"]
    lines += [f"#include <gantry/c/{s}.h>" for s in schema.files()]
    tables = [o for o in bfbs.ordered(schema.objects.values()) if not o.is_struct]
    for t in tables:
        lines.append(f"static gantry_fb_ref copy_{symbol(t.name)}(gantry_fb_builder* b, {symbol(t.name)} t);")
    for t in tables:
        lines += copy_function(t)
    lines.append("typedef struct copier { const char* name; gantry_fb_ref (*copy)(gantry_fb_builder*, gantry_bytes); } copier;")
    for t in tables:
        n = symbol(t.name)
        lines.append(f"static gantry_fb_ref root_{n}(gantry_fb_builder* b, gantry_bytes in) {{ {n} t; return {n}_read(in, &t) ? copy_{n}(b, t) : 0; }}")
    lines.append("static const copier copiers[] = {")
    lines += [f'    {{"{t.name}", root_{symbol(t.name)}}},' for t in tables]
    lines += ["};", "/* 0 refused, 1 copied, -1 no such table. The caller clears the builder. */",
              "int gantry_test_copy_c(const char* name, gantry_bytes in, gantry_fb_builder* b, gantry_bytes* out);",
              "int gantry_test_copy_c(const char* name, gantry_bytes in, gantry_fb_builder* b, gantry_bytes* out) {",
              "  for (size_t i = 0; i < sizeof copiers / sizeof *copiers; ++i) {",
              "    if (strcmp(copiers[i].name, name) != 0) continue;",
              "    const gantry_fb_ref root = copiers[i].copy(b, in);",
              "    if (root == 0) return 0;",
              "    *out = gantry_fb_finish(b, root);",
              "    return 1;", "  }", "  return -1;", "}"]
    return "\n".join(lines) + "\n"


def copy_function(t):
    n = symbol(t.name)
    before, inside, after = [], [], []
    for f in t.live:
        a, ty, v = accessor(t, f), f.type, f"r_{f.name}"
        get = f"{n}_{a}(t)"
        if ty.scalar:
            inside.append(f"if ({n}_has_{f.name}(t)) {n}_set_{f.name}(b, {get});")
            continue
        if ty.base == bfbs.OBJ and ty.object.is_struct:
            inside.append(f"if ({n}_has_{f.name}(t)) {n}_set_{f.name}(b, {get});")
            continue
        before.append(f"gantry_fb_ref {v} = 0;")
        has = f"if ({n}_has_{f.name}(t))"
        if ty.base == bfbs.UNION:
            for value, _, o, _ in ty.enum.values:
                if o:
                    before.append(f"if ({n}_{a}_as_{value}(t).at) {v} = copy_{symbol(o.name)}(b, {n}_{a}_as_{value}(t));")
            inside.append(f"{n}_set_{f.name}(b, {n}_{a}_type(t), {v});")
            continue
        inside.append(f"{n}_set_{f.name}(b, {v});")
        if ty.base == bfbs.STRING:
            before.append(f"{has} {{ gantry_text x = {get}; {v} = gantry_fb_text(b, x.data, x.len); }}")
        elif ty.base == bfbs.OBJ:
            before.append(f"{has} {v} = copy_{symbol(ty.object.name)}(b, {get});")
        elif ty.element == bfbs.UBYTE and not ty.enum:
            before.append(f"{has} {{ gantry_bytes x = {get}; {v} = gantry_fb_bytes(b, x.data, x.len); }}")
        elif ty.object and ty.object.is_struct:
            s = symbol(ty.object.name)
            before.append(f"{has} {{ gantry_fb_vector x = {get}; {s}* items = ({s}*)malloc((x.count + 1) * sizeof *items);")
            before.append(f"  for (size_t i = 0; i < x.count; ++i) items[i] = {s}_at(x, i);")
            before.append(f"  {v} = {s}_vector(b, items, x.count); free(items); }}")
        elif ty.object or ty.element == bfbs.STRING:
            one = (f"copy_{symbol(ty.object.name)}(b, {symbol(ty.object.name)}_at(x, i))" if ty.object else
                   "gantry_fb_text(b, gantry_fb_text_at(x, i).data, gantry_fb_text_at(x, i).len)")
            before.append(f"{has} {{ gantry_fb_vector x = {get}; gantry_fb_ref* items = (gantry_fb_ref*)malloc((x.count + 1) * sizeof *items);")
            before.append(f"  for (size_t i = 0; i < x.count; ++i) items[i] = {one};")
            before.append(f"  {v} = gantry_fb_refs(b, items, x.count); free(items); }}")
        else:
            kind = bfbs.SCALARS[ty.element][0]
            k = "u8" if kind == "bool" else kind
            c = CTYPE[k]
            before.append(f"{has} {{ gantry_fb_vector x = {get}; {c}* items = ({c}*)malloc((x.count + 1) * sizeof *items);")
            before.append(f"  for (size_t i = 0; i < x.count; ++i) items[i] = gantry_fb_{kind}_at(x, i);")
            before.append(f"  {v} = gantry_fb_vector_{k}(b, items, x.count); free(items); }}")
    lines = [f"static gantry_fb_ref copy_{n}(gantry_fb_builder* b, {n} t) {{", "  (void)t;"]
    lines += ["  " + x for x in before] + [f"  {n}_begin(b);"] + ["  " + x for x in inside] + [f"  return {n}_end(b);", "}"]
    return lines
