"""May the C envelope change from a released dump to what abi.h says now? Reads abidiff's report line by line.

abidiff ends with the same status for a harmless append and a deadly insert, so its verdict is of no use; its report is. Every line
has to be of a known harmless form: members inserted at or behind the old end of a struct that carries its own size, and the lines
that lead there. Whatever else is said - also anything a later abidiff words differently - is refused with the line itself.
Constants are macros, which no debug information holds; the preprocessor lists them. Needs gcc, abidw and abidiff.
"""

import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as xml

from change import Change

HERE = os.path.dirname(os.path.abspath(__file__))
PROBE = os.path.join(HERE, "probe.c")
# Dumps name the basic types as one compiler spells them.
CC = os.environ.get("GANTRY_ABI_CC", "gcc")


def missing_tools():
    return [t for t in (CC, "abidw", "abidiff") if not shutil.which(t)]


def _run(command, accept=(0,)):
    r = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, LC_ALL="C"))
    if r.returncode not in accept:
        raise SystemExit("%s failed with %d:\n%s" % (" ".join(command), r.returncode, (r.stdout + r.stderr)[-4000:]))
    return r.stdout


def dump(include, probe=PROBE):
    """The ABIXML of the probe compiled against the headers in `include`. Names no path of this machine."""
    with tempfile.TemporaryDirectory() as d:
        source, library = os.path.join(d, "probe.c"), os.path.join(d, "probe.so")
        shutil.copy(probe, source)
        _run([CC, "-std=c11", "-g", "-O0", "-shared", "-fPIC", "-I" + include, "-ffile-prefix-map=%s=." % d, source, "-o", library])
        text = _run(["abidw", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed", library])
        return text.replace(d + "/", "")


def macros(include):
    """{name: text} of the constants of abi.h."""
    text = _run([CC, "-std=c11", "-E", "-dM", os.path.join(include, "gantry", "abi.h")])
    found = dict(re.findall(r"^#define (GANTRY_\w+) (.*)$", text, re.M))
    found.pop("GANTRY_ABI_H", None)
    return {k: " ".join(v.split()) for k, v in found.items()}


def macros_text(values):
    return "".join("%s %s\n" % (k, values[k]) for k in sorted(values))


def parse_macros(text):
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


def size_prefixed(dump_text):
    """The structs of a dump that carry their own size, so a reader can tell what a peer lacks."""
    out = set()
    for c in xml.fromstring(dump_text).iter("class-decl"):
        if any(v.get("name") == "size" for v in c.iter("var-decl")):
            out.add(c.get("name"))
    return out


# What a report may say on the way to an append. Each is the whole line.
_ON_THE_WAY = [re.compile(p + r"$") for p in (
    r"\d+ Changed variables?:",
    r"\[C\] '[^']*' was changed:",
    r"size of symbol changed from \d+ to \d+",
    r"type of variable changed:",
    r"in unqualified underlying type '[^']*':",
    r"in pointed to type '[^']*':",
    r"unqualified underlying type '[^']*' changed, as reported earlier",
    r"underlying type '[^']*' changed, as reported earlier",
    r"pointed to type '[^']*' changed, as reported earlier",
    r"type size hasn't changed",
    r"\d+ data member changes?( \(\d+ filtered\))?:",
    r"no data member changes? \(\d+ filtered\);?",
    r"type of '.*' changed:",
    r"type of '.*' changed, as reported earlier",
    r"parameter \d+ of type '[^']*' has sub-type changes:",
    r"parameter \d+ of type '[^']*' changed, as reported earlier",
    r"\d+ Added variables?:",
    r"(Functions|Variables) changes summary: .*",
)]
_STRUCT = re.compile(r"(?:underlying )?type 'struct (\w+)' changed:$")
_GREW = re.compile(r"type size changed from (\d+) to (\d+) \(in bits\)$")
_INSERTIONS = re.compile(r"\d+ data member insertions?:$")
_MEMBER = re.compile(r"'(.*?)(\w+)(\[\d+\])?', at offset (\d+) \(in bits\)$")
_ADDED = re.compile(r"\[A\] '.*?\bprobe_(\w+)'.*$")


def judge_report(report, prefixed):
    """abidiff --harmless --no-show-locs --no-redundant, as Change."""
    stack = []  # (indent, struct name or None, {"old": bits}) of the lines above
    inserting = None
    for raw in report.splitlines():
        line = raw.strip()
        if not line:
            continue
        indent = len(raw) - len(raw.lstrip())
        while stack and stack[-1][0] >= indent:
            stack.pop()
        parent = stack[-1] if stack else None
        m = _STRUCT.match(line)
        if m:
            stack.append((indent, m.group(1), {"old": None}))
            inserting = None
            continue
        m = _GREW.match(line)
        if m and parent and parent[1]:
            old, new = int(m.group(1)), int(m.group(2))
            parent[2]["old"] = old
            if new < old:
                yield Change(False, "struct " + parent[1], "shrank from %d to %d bytes" % (old // 8, new // 8))
            elif parent[1] not in prefixed:
                yield Change(False, "struct " + parent[1], "grew from %d to %d bytes, but carries no size of its own" %
                             (old // 8, new // 8))
            continue
        if _INSERTIONS.match(line) and parent and parent[1]:
            inserting = (indent, parent[1], parent[2])
            continue
        m = _MEMBER.match(line)
        if m and inserting and indent > inserting[0]:
            name, offset, old = m.group(2), int(m.group(4)), inserting[2]["old"]
            what = "struct %s.%s" % (inserting[1], name)
            if old is None or offset < old:
                yield Change(False, what, "was inserted at offset %d: new members go behind the last one" % (offset // 8))
            elif inserting[1] in prefixed:
                yield Change(True, what, "was appended at offset %d" % (offset // 8))
            continue
        m = _ADDED.match(line)
        if m:
            yield Change(True, "struct " + m.group(1), "was added to the probe")
            continue
        if any(p.match(line) for p in _ON_THE_WAY):
            stack.append((indent, None, {}))
            continue
        where = next((s[1] for s in reversed(stack) if s[1]), None)
        yield Change(False, "struct " + where if where else "layout", "changed: " + line)


def compare_macros(old, new):
    for name in sorted(set(old) | set(new)):
        key = "macro " + name
        if name not in new:
            yield Change(False, key, "was removed")
        elif name not in old:
            yield Change(True, key, "was added as %s" % new[name])
        elif old[name] != new[name]:
            up = name == "GANTRY_ABI_MINOR" and old[name].isdigit() and new[name].isdigit() and int(new[name]) > int(old[name])
            yield Change(up, key, "changed from %s to %s" % (old[name], new[name]))


def compare(old_dump, old_macros, include, probe=PROBE):
    """Every difference between a release and the header in `include`."""
    with tempfile.TemporaryDirectory() as d:
        a, b = os.path.join(d, "released.xml"), os.path.join(d, "now.xml")
        for path, text in ((a, old_dump), (b, dump(include, probe))):
            with open(path, "w") as f:
                f.write(text)
        # Bit 0: error of the tool; 1: of usage; 2: there are differences; 3: incompatible ones.
        report = _run(["abidiff", "--harmless", "--no-show-locs", "--no-redundant", a, b], accept=(0, 4, 8, 12))
    found = list(dict.fromkeys(judge_report(report, size_prefixed(old_dump))))
    new_macros = macros(include)
    found += compare_macros(old_macros, new_macros)
    minor = "GANTRY_ABI_MINOR"
    if any(c.allowed and c.key.startswith("struct ") for c in found) and new_macros.get(minor) == old_macros.get(minor):
        found.append(Change(False, "macro " + minor, "is still %s though a struct grew: modules ask it what they may use" %
                            old_macros.get(minor)))
    return found
