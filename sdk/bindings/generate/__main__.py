#!/usr/bin/env python3
"""Messages of the schemas for C and Rust, from the binary schemas that `flatc --schema -b` writes.

    python3 sdk/bindings/generate --lang c    --out DIR FILE.bfbs...     DIR/<schema>.h
    python3 sdk/bindings/generate --lang rust --out DIR FILE.bfbs...     DIR/<schema>.rs and DIR/mod.rs
    ... --skip SCHEMA   leave one out
    ... --copy FILE     also the copying functions for the round-trip test
    ... --runtime PATH  rust: the module that holds the runtime (crate::flat)

A file is only written when its text changes, so that nothing is rebuilt for nothing. Exit 1 with a sentence when a
schema uses what the bindings lack.
"""
import argparse
import os
import sys

import bfbs
import c
import rust


def write(path, text):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    try:
        with open(path) as f:
            if f.read() == text:
                return
    except FileNotFoundError:
        pass
    with open(path, "w") as f:
        f.write(text)


def main():
    p = argparse.ArgumentParser(prog="generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--lang", choices=["c", "rust"], required=True)
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--copy", metavar="FILE")
    p.add_argument("--runtime", default="crate::flat", metavar="PATH")
    p.add_argument("--skip", action="append", default=[], metavar="SCHEMA", help="leave out what no other schema refers to")
    p.add_argument("bfbs", nargs="+", metavar="FILE.bfbs")
    args = p.parse_args()
    try:
        schema = bfbs.Schema(sorted(args.bfbs))
        needed = schema.needed(args.skip)
        if needed:
            sys.exit(f"generate: {needed} cannot be skipped, another schema refers to it")
        for stem in schema.files():
            if stem in args.skip:
                continue
            if args.lang == "c":
                write(os.path.join(args.out, stem + ".h"), c.generate(schema, stem))
            else:
                write(os.path.join(args.out, stem + ".rs"), rust.generate(schema, stem, args.runtime))
        if args.lang == "rust":
            write(os.path.join(args.out, "mod.rs"), rust.generate_mod(schema, args.skip))
        if args.copy:
            write(args.copy, c.generate_copy(schema) if args.lang == "c" else rust.generate_copy(schema, args.runtime))
    except (bfbs.SchemaError, OSError) as e:
        sys.exit(f"generate: {e}")


if __name__ == "__main__":
    main()
