#!/usr/bin/env python3
"""Writes a C++ file that asks flatc's generated verifier of any table by name: oracle.py OUT.cpp FILE.bfbs..."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "generate"))
import bfbs

schema = bfbs.Schema(sorted(sys.argv[2:]))
out = [f"#include <gantry/{f}_generated.h>" for f in schema.files()]
out += ["#include <cstring>", "namespace {", "template <class T>", "bool verify(const std::uint8_t* data, std::size_t len) {",
        "  return flatbuffers::Verifier(data, len, 64, 10'000'000).VerifyBuffer<T>(nullptr);", "}",
        "struct Row { const char* name; bool (*verify)(const std::uint8_t*, std::size_t); };", "constexpr Row rows[] = {"]
out += [f'    {{"{o.name}", verify<{o.name.replace(".", "::")}>}},' for o in schema.objects.values() if not o.is_struct]
out += ["};", "}  // namespace", "// 1 valid, 0 not, -1 no such table", "int oracle(const char* name, const std::uint8_t* data, std::size_t len);",
        "int oracle(const char* name, const std::uint8_t* data, std::size_t len) {",
        "  for (const Row& row : rows)", "    if (std::strcmp(row.name, name) == 0) return row.verify(data, len) ? 1 : 0;", "  return -1;", "}"]
pathlib.Path(sys.argv[1]).write_text("\n".join(out) + "\n")
