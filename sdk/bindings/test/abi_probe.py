#!/usr/bin/env python3
"""Writes a C file that prints size and offset of every member, and the value of every number, of gantry/abi.h.

    abi_probe.py ABI_H OUT.c

The names are read from the header itself, so a member nobody thought of in the mirror is found missing there.
"""
import re
import sys

header = open(sys.argv[1]).read()
text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
out = ["#include <gantry/abi.h>", "#include <stdio.h>", "int gantry_test_probe(char* out, size_t size);",
       "int gantry_test_probe(char* out, size_t size) {", "  int n = 0;"]


def line(format, *args):
    out.append(f'  n += snprintf(out + n, size - (size_t)n, "{format}\\n", {", ".join(args)});')


structs = re.findall(r"typedef struct (\w+) \{(.*?)\n\} \w+;", text, flags=re.S)
if len(structs) < 5:
    sys.exit("abi_probe.py: the structs of the header were not found; mend this script")
for name, body in structs:
    line(f"{name} %zu", f"sizeof({name})")
    for declaration in body.split(";"):
        declaration = " ".join(declaration.split())
        m = re.search(r"\(\*(\w+)\)", declaration) or re.search(r"(\w+)(\[\w+\])?$", declaration)
        if m:
            member = m.group(1)
            line(f"{name}.{member} %zu %zu", f"offsetof({name}, {member})", f"sizeof((({name}*)0)->{member})")
for name, value in re.findall(r"#define (GANTRY_\w+) \(?(-?\d+)u?\)?", text):
    line(f"{name} %lld", f"(long long){name}")
out += ["  return n;", "}"]
open(sys.argv[2], "w").write("\n".join(out) + "\n")
