"""Moves function bodies out of a header that flatc made, into a source file.

  outline_messages.py HEADER.in HEADER.out SOURCE.out

flatc writes the object API (UnPack, Pack, copies) and the verifiers inline. One call of one of them makes the compiler
generate code for the whole tree of tables below, in every file that calls it: two thirds of the time that Gantry takes to
compile. Here the header keeps their declarations, and the constructors and destructors of native structs are declared
too, so that neither is generated twice.

It relies on the layout of flatc's output: a body opens at the end of a line and closes on the first line that begins
with the same indent and "}". What it does not recognise stays where it was, inline and correct.
"""
import re
import sys
from pathlib import Path

DECLARED = """  {t}();
  {t}(const {t} &o);
  {t}({t} &&o) noexcept;
  {t} &operator=(const {t} &o);
  {t} &operator=({t} &&o) noexcept;
  ~{t}();"""
DEFINED = """{t}::{t}() = default;
{t}::{t}({t} &&) noexcept = default;
{t} &{t}::operator=({t} &&) noexcept = default;
{t}::~{t}() = default;"""
# flatc writes the copy itself where pointers are to be followed.
COPIED_BY_FLATC = "{t} &{t}::operator=(const {t} &o) {{ return *this = {t}(o); }}"
COPIED_BY_MEMBER = "{t}::{t}(const {t} &) = default;\n{t} &{t}::operator=(const {t} &) = default;"

TABLE = re.compile(r"struct (\w+) FLATBUFFERS_FINAL_CLASS : private flatbuffers::Table \{")
NAMESPACE = re.compile(r"namespace (\w+) \{|\}  // namespace \w+")
NATIVE = re.compile(r"struct (\w+) : public flatbuffers::NativeTable \{")
VERIFY = "  bool Verify(flatbuffers::Verifier &verifier) const {"
COPY = re.compile(r"inline (\w+)::\1\(const ")
ASSIGN = re.compile(r"inline (\w+) &\1::operator=\(\1 o\)")
# All of these are declared before, in their struct or in the namespace.
MOVED = re.compile(
    r"inline (?:\w+::\w+\(const |[^(]*\b\w+::(?:UnPack|UnPackTo|Pack|Reset)\(|"
    r"flatbuffers::Offset<(\w+)> Create\1\(flatbuffers::FlatBufferBuilder &_fbb, const \1T \*_o,|"
    r"bool Verify\w+\(flatbuffers::Verifier &verifier, )")


def outline(text):
    """Returns the header's lines and the source's."""
    lines = text.split("\n")
    copied = {m.group(1) for m in map(COPY.match, lines) if m}
    header, source = [], []
    spaces, written = [], None  # the namespaces we are in, and the one of what was written last
    table = native = None
    opened = 0  # where the native struct begins in `header`
    i = 0

    def end_of_body(indent):
        for j in range(i, len(lines)):
            if lines[j].startswith(indent + "}"):
                return j + 1
        sys.exit(f"outline_messages.py: no end of the body that begins on line {i + 1}")

    def define(text):
        nonlocal written
        if written != spaces:
            source.append(("}\n\n" if written else "") + f"namespace {'::'.join(spaces)} {{")
            written = list(spaces)
        source.append(text)

    while i < len(lines):
        line = lines[i]
        if m := NAMESPACE.match(line):
            if m.group(1):
                spaces.append(m.group(1))
            else:
                spaces.pop()
        elif m := TABLE.match(line):
            table = m.group(1)
        elif m := NATIVE.match(line):
            native, opened = m.group(1), len(header)
        elif line == "};":
            if native:
                own = re.compile(rf"  {native}(\(| &operator=)")
                header[opened:] = [l for l in header[opened:] if not own.match(l)]
                header.append(DECLARED.format(t=native))
                define(DEFINED.format(t=native))
                define((COPIED_BY_FLATC if native in copied else COPIED_BY_MEMBER).format(t=native))
            table = native = None
        elif line == VERIFY and table:
            end = end_of_body("  ")
            header.append(line.removesuffix(" {") + ";")
            define("\n".join([f"bool {table}::Verify(flatbuffers::Verifier &verifier) const {{", *lines[i + 1:end]]))
            i = end
            continue
        elif ASSIGN.match(line):
            i = end_of_body("")
            continue
        elif MOVED.match(line):
            end = end_of_body("")
            define("\n".join([line.removeprefix("inline "), *lines[i + 1:end]]))
            i = end
            continue
        header.append(line)
        i += 1
    if written:
        source.append("}")
    return header, source


def main():
    plain, header_out, source_out = map(Path, sys.argv[1:])
    header, source = outline(plain.read_text())
    for path in (header_out, source_out):
        path.parent.mkdir(parents=True, exist_ok=True)
    header_out.write_text("\n".join(header))
    source_out.write_text("\n\n".join([f'#include "gantry/{plain.name}"', *source]) + "\n")


main()
