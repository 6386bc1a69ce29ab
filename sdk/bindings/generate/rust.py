"""Rust modules: a borrowed reader `X<'a>` and an owned `XT` of every table; one file a schema file, no unsafe."""
import bfbs
from c import upper

RTYPE = {"u8": "u8", "bool": "bool", "i8": "i8", "u16": "u16", "i16": "i16", "u32": "u32", "i32": "i32", "u64": "u64", "i64": "i64",
         "f32": "f32", "f64": "f64"}
KEYWORDS = set("""as async await box break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut
pub ref return self static struct super trait true type unsafe use where while abstract become do final macro override priv try typeof
unsized virtual yield""".split())
# Methods that every reader has.
TAKEN = {"unpack", "of", "shape", "clone", "fmt"}


def ident(name):
    return name + "_" if name in KEYWORDS or name in TAKEN else name


def scalar_literal(kind, value):
    if kind == "bool":
        return "true" if value else "false"
    if kind in ("f32", "f64"):
        if value != value or value in (float("inf"), float("-inf")):
            raise bfbs.SchemaError("a default must be finite")
        return f"{float(value)!r}_{kind}"
    if kind == "u64":
        value %= 1 << 64
    return f"{value}_{kind}"


class Module:
    def __init__(self, schema, stem, runtime):
        self.stem, self.runtime, self.lines = stem, runtime, []
        self.objects, self.enums = schema.of_file(stem)
        self.names = set()
        for x in self.objects + self.enums:
            for n in (x.short, x.short + "T") if not getattr(x, "is_struct", False) else (x.short,):
                if n in self.names:
                    raise bfbs.SchemaError(f"{stem}.fbs: two things are called {n} in Rust; rename one")
                self.names.add(n)

    def out(self, text=""):
        self.lines.append(text)

    def path(self, x):
        return x.short if x.file == self.stem else f"super::{x.file}::{x.short}"

    def text(self):
        self.out(f"//! Messages of `{self.stem}.fbs`, where their meaning is written. Generated with the SDK; do not edit.")
        self.out("#![allow(clippy::all)]\n#![forbid(unsafe_code)]\n")
        if self.objects or self.enums:
            self.out(f"use {self.runtime} as flat;")
        for e in sorted(self.enums, key=lambda e: e.name):
            self.union(e) if e.is_union else self.enum(e)
        for o in bfbs.ordered(self.objects):
            self.struct(o) if o.is_struct else self.table(o)
        return "\n".join(self.lines) + "\n"

    # ---- enums and unions

    def enum(self, e):
        kind, n = bfbs.SCALARS[e.base][0], e.short
        self.out(f"\n/// Enum `{e.name}`; open: values of a later schema are kept as they are.")
        self.out(f"#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]\npub struct {n}(pub {RTYPE[kind]});\n\nimpl {n} {{")
        seen = {}
        for name, value, _, _ in e.values:
            self.out(f"    pub const {upper(name)}: {n} = {n}({value});")
            seen.setdefault(value, name)
        self.out("\n    /// The name in the schema, \"unknown\" for a value it lacks.\n    pub fn name(self) -> &'static str {\n        match self.0 {")
        for value, name in seen.items():
            self.out(f'            {value} => "{name}",')
        self.out('            _ => "unknown",\n        }\n    }\n}\n')
        self.out(f"impl flat::Scalar for {n} {{\n    const SIZE: usize = <{RTYPE[kind]} as flat::Scalar>::SIZE;\n    const ALIGN: usize = <{RTYPE[kind]} as flat::Scalar>::ALIGN;")
        self.out(f"    fn get(bytes: &[u8]) -> Self {{\n        {n}(flat::Scalar::get(bytes))\n    }}")
        self.out(f"    fn put(self, out: &mut [u8]) {{\n        self.0.put(out)\n    }}\n}}")

    def union(self, e):
        n = e.short
        members = [(name, value, o) for name, value, o, _ in e.values if o]
        self.out(f"\n/// Union `{e.name}`, read.\n#[derive(Clone, Copy, Debug)]\npub enum {n}<'a> {{\n    None,")
        for name, _, o in members:
            self.out(f"    {name}({self.path(o)}<'a>),")
        self.out("    /// A member of a later schema, by its tag.\n    Unknown(u8),\n}\n")
        self.out(f"impl<'a> {n}<'a> {{\n    fn of(tag: u8, table: Option<flat::Table<'a>>) -> Self {{\n        match (tag, table) {{\n            (0, _) | (_, None) => {n}::None,")
        for name, value, o in members:
            self.out(f"            ({value}, Some(t)) => {n}::{name}(flat::Read::of(t)),")
        self.out(f"            (other, Some(_)) => {n}::Unknown(other),\n        }}\n    }}")
        self.out(f"    pub fn unpack(self) -> {n}T {{\n        match self {{\n            {n}::None | {n}::Unknown(_) => {n}T::None,")
        for name, _, _ in members:
            self.out(f"            {n}::{name}(t) => {n}T::{name}(Box::new(t.unpack())),")
        self.out("        }\n    }\n}\n")
        self.out(f"/// Union `{e.name}`, owned.\n#[derive(Clone, Debug, PartialEq)]\npub enum {n}T {{\n    None,")
        for name, _, o in members:
            self.out(f"    {name}(Box<{self.path(o)}T>),")
        self.out(f"}}\n\nimpl Default for {n}T {{\n    fn default() -> Self {{\n        {n}T::None\n    }}\n}}\n")
        self.out(f"impl {n}T {{\n    fn write(&self, b: &mut flat::Builder) -> (u8, flat::Ref) {{\n        match self {{\n            {n}T::None => (0, flat::Ref::NONE),")
        for name, value, _ in members:
            self.out(f"            {n}T::{name}(t) => ({value}, flat::Message::write(&**t, b)),")
        self.out("        }\n    }\n}")
        self.out(f"\nstatic {upper(n)}_MEMBERS: &[(u8, &flat::Shape)] = &[")
        for _, value, o in members:
            self.out(f"    ({value}, &{self.shape(o)}),")
        self.out("];")

    # ---- structs

    def struct(self, s):
        self.out(f"\n/// Struct `{s.name}`.\n#[derive(Clone, Copy, Debug, Default, PartialEq)]\npub struct {s.short} {{")
        for f in s.fields:
            self.out(f"    pub {ident(f.name)}: {self.value_type(f.type)},")
        self.out(f"}}\n\nimpl flat::Scalar for {s.short} {{\n    const SIZE: usize = {s.size};\n    const ALIGN: usize = {s.align};")
        self.out(f"    fn get(bytes: &[u8]) -> Self {{\n        {s.short} {{")
        for f in s.fields:
            self.out(f"            {ident(f.name)}: flat::Scalar::get(flat::tail(bytes, {f.slot})),")
        self.out("        }\n    }\n    fn put(self, out: &mut [u8]) {")
        for f in s.fields:
            self.out(f"        self.{ident(f.name)}.put(&mut out[{f.slot}..]);")
        self.out("    }\n}")

    def value_type(self, t):
        if t.object:
            return self.path(t.object)
        return self.path(t.enum) if t.enum else RTYPE[bfbs.SCALARS[t.base][0]]

    # ---- tables

    def shape(self, o):
        name = upper(o.short) + "_SHAPE"
        return name if o.file == self.stem else f"super::{o.file}::{name}"

    def kind(self, f):
        t = f.type
        if t.scalar:
            return f"Scalar({bfbs.SCALARS[t.base][1]})"
        if t.base == bfbs.STRING:
            return "Text"
        if t.base == bfbs.UNION:
            name = upper(t.enum.short) + "_MEMBERS"
            return f"Union({name if t.enum.file == self.stem else f'super::{t.enum.file}::{name}'})"
        if t.base == bfbs.OBJ:
            return f"Struct({t.object.size}, {t.object.align})" if t.object.is_struct else f"Table(&{self.shape(t.object)})"
        if t.element == bfbs.STRING:
            return "Texts"
        if t.object and not t.object.is_struct:
            return f"Tables(&{self.shape(t.object)})"
        return f"Vector({t.object.size if t.object else bfbs.SCALARS[t.element][1]})"

    def table(self, t):
        n, live = t.short, t.live
        shape = upper(n) + "_SHAPE"
        self.out(f"\npub(crate) static {shape}: flat::Shape = flat::Shape {{\n    name: \"{t.name}\",\n    fields: &[")
        for f in t.fields:
            if not f.deprecated:
                self.out(f"        flat::Field {{ slot: {f.slot}, required: {'true' if f.required else 'false'}, kind: flat::Kind::{self.kind(f)} }},")
        self.out("    ],\n};\n")
        self.out(f"/// Table `{t.name}`, read in place.\n#[derive(Clone, Copy)]\npub struct {n}<'a>(flat::Table<'a>);\n\nimpl<'a> {n}<'a> {{")
        for f in live:
            ret, body = self.getter(f)
            self.out(f"    pub fn {ident(f.name)}(self) -> {ret} {{\n        {body}\n    }}")
        self.out(f"    /// An owned copy.\n    pub fn unpack(self) -> {n}T {{\n        {n}T {{")
        for f in live:
            self.out(f"            {ident(f.name)}: {self.unpacked(f)},")
        self.out("        }\n    }\n}\n")
        self.out(f"impl<'a> flat::Read<'a> for {n}<'a> {{\n    fn shape() -> &'static flat::Shape {{\n        &{shape}\n    }}")
        self.out(f"    fn of(table: flat::Table<'a>) -> Self {{\n        {n}(table)\n    }}\n}}\n")
        self.out(f"impl<'a> flat::Element<'a> for {n}<'a> {{\n    const STRIDE: usize = 4;\n    fn at(buf: &'a [u8], at: usize) -> Self {{\n        {n}(flat::Table::behind(buf, at))\n    }}\n}}\n")
        self.out(f"impl std::fmt::Debug for {n}<'_> {{\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n        self.unpack().fmt(f)\n    }}\n}}\n")
        plain = all(self.default(f) is None for f in live)
        derive = "Clone, Debug, Default, PartialEq" if plain else "Clone, Debug, PartialEq"
        self.out(f"/// Table `{t.name}`, owned. Empty texts and vectors are not written.\n#[derive({derive})]\npub struct {n}T {{")
        for f in live:
            self.out(f"    pub {ident(f.name)}: {self.owned_type(f)},")
        self.out("}")
        if not plain:
            self.out(f"\nimpl Default for {n}T {{\n    fn default() -> Self {{\n        {n}T {{")
            for f in live:
                self.out(f"            {ident(f.name)}: {self.default(f) or 'Default::default()'},")
            self.out("        }\n    }\n}")
        self.out(f"\nimpl flat::Message for {n}T {{\n    fn write(&self, b: &mut flat::Builder) -> flat::Ref {{")
        self.writer(live)
        self.out("    }\n}")

    def default(self, f):
        """The default of a scalar that is not zero, as Rust; None where Default::default() is right."""
        if not f.type.scalar or f.optional or not f.default:
            return None
        value = scalar_literal(bfbs.SCALARS[f.type.base][0], f.default)
        return f"{self.path(f.type.enum)}({value})" if f.type.enum else value

    def getter(self, f):
        t, s = f.type, f.slot
        if t.scalar:
            kind = self.value_type(t)
            if f.optional:
                return f"Option<{kind}>", f"self.0.optional({s})"
            return kind, f"self.0.scalar({s}, {self.default(f) or 'Default::default()'})"
        if t.base == bfbs.STRING:
            return "&'a str", f"self.0.text({s})"
        if t.base == bfbs.UNION:
            return f"{self.path(t.enum)}<'a>", f"{self.path(t.enum)}::of(self.0.scalar({s - 2}, 0), self.0.table({s}))"
        if t.base == bfbs.OBJ:
            if t.object.is_struct:
                return f"Option<{self.path(t.object)}>", f"self.0.optional({s})"
            return f"Option<{self.path(t.object)}<'a>>", f"self.0.table({s}).map(flat::Read::of)"
        if t.element == bfbs.UBYTE and not t.enum:
            return "&'a [u8]", f"self.0.bytes({s})"
        return f"flat::Vector<'a, {self.element(t)}>", f"self.0.vector({s})"

    def element(self, t):
        if t.element == bfbs.STRING:
            return "&'a str"
        if t.object:
            return self.path(t.object) + ("" if t.object.is_struct else "<'a>")
        return self.path(t.enum) if t.enum else RTYPE[bfbs.SCALARS[t.element][0]]

    def owned_type(self, f):
        t = f.type
        if t.scalar:
            return f"Option<{self.value_type(t)}>" if f.optional else self.value_type(t)
        if t.base == bfbs.STRING:
            return "String"
        if t.base == bfbs.UNION:
            return self.path(t.enum) + "T"
        if t.base == bfbs.OBJ:
            return f"Option<{self.path(t.object)}>" if t.object.is_struct else f"Option<Box<{self.path(t.object)}T>>"
        if t.element == bfbs.STRING:
            return "Vec<String>"
        if t.object:
            return f"Vec<{self.path(t.object)}{'' if t.object.is_struct else 'T'}>"
        return f"Vec<{self.element(t)}>"

    def unpacked(self, f):
        t, get = f.type, f"self.{ident(f.name)}()"
        if t.scalar or (t.base == bfbs.OBJ and t.object.is_struct):
            return get
        if t.base == bfbs.STRING:
            return get + ".to_string()"
        if t.base == bfbs.UNION:
            return get + ".unpack()"
        if t.base == bfbs.OBJ:
            return get + ".map(|t| Box::new(t.unpack()))"
        if t.element == bfbs.UBYTE and not t.enum:
            return get + ".to_vec()"
        if t.element == bfbs.STRING:
            return get + ".iter().map(str::to_string).collect()"
        if t.object and not t.object.is_struct:
            return get + ".iter().map(|t| t.unpack()).collect()"
        return get + ".iter().collect()"

    def writer(self, live):
        sets = []
        for f in live:
            t, s, v, me = f.type, f.slot, f"r_{f.name}", f"self.{ident(f.name)}"
            if t.scalar:
                sets.append(f"b.set_optional({s}, {me});" if f.optional else f"b.set({s}, {me}, {self.default(f) or 'Default::default()'});")
                continue
            if t.base == bfbs.OBJ and t.object.is_struct:
                sets.append(f"b.set_optional({s}, {me});")
                continue
            if t.base == bfbs.UNION:
                self.out(f"        let {v} = {me}.write(b);")
                sets.append(f"b.set_union({s}, {v});")
                continue
            sets.append(f"b.set_ref({s}, {v});")
            must = "_required" if f.required else ""
            if t.base == bfbs.STRING:
                self.out(f"        let {v} = b.text{must}(&{me});")
            elif t.base == bfbs.OBJ:
                self.out(f"        let {v} = {me}.as_deref().map_or(flat::Ref::NONE, |t| flat::Message::write(t, b));")
            elif t.element == bfbs.UBYTE and not t.enum:
                self.out(f"        let {v} = b.bytes{must}(&{me});")
            elif t.element == bfbs.STRING:
                self.out(f"        let {v} = b.texts{must}(&{me});")
            elif t.object and not t.object.is_struct:
                self.out(f"        let {v} = b.tables{must}(&{me});")
            else:
                self.out(f"        let {v} = b.vector{must}(&{me});")
        self.out("        b.begin();")
        for x in sets:
            self.out("        " + x)
        self.out("        b.end()")


def generate(schema, stem, runtime):
    return Module(schema, stem, runtime).text()


def generate_mod(schema, skip):
    lines = ["//! All messages. What the schemas keep in namespace `gantry.fb` itself is found here directly, as in C++.",
             "//! Generated with the SDK; do not edit.", ""]
    flat = []
    for stem in schema.files():
        if stem in skip:
            continue
        objects, enums = schema.of_file(stem)
        lines.append(f"pub mod {stem};")
        if any(x.name.rsplit(".", 1)[0] == "gantry.fb" for x in objects + enums):
            flat.append(stem)
    return "\n".join(lines + [""] + [f"pub use self::{s}::*;" for s in flat]) + "\n"


def generate_copy(schema, runtime):
    lines = ["// Unpacks and packs every table by name: for the round-trip test.", f"use {runtime} as flat;", "",
             "pub fn copy(name: &str, bytes: &[u8]) -> Option<Option<Vec<u8>>> {", "    use flat::Message;", "    Some(match name {"]
    for o in sorted(schema.objects.values(), key=lambda o: o.name):
        if not o.is_struct:
            lines.append(f'        "{o.name}" => flat::read::<crate::fb::{o.file}::{o.short}>(bytes).map(|t| t.unpack().pack()),')
    return "\n".join(lines + ["        _ => return None,", "    })", "}"]) + "\n"
