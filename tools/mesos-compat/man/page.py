"""A manual page: PAGE.in with @FLAGS@ replaced by the flags that PROGRAM --help lists."""

import re
import subprocess
import sys

program, source, target = sys.argv[1:]
text = subprocess.run([program, "--help"], stdout=subprocess.PIPE, check=True, text=True).stdout
flags = []
for line in text.splitlines():
    found = re.match(r"  --(\[no-\])?([a-z0-9_]+)(=VALUE)?(?:\s+(\S.*))?$", line)
    if found:
        flags.append([found.group(1) or "", found.group(2), found.group(3) or "", found.group(4) or ""])
    elif flags and line.startswith("      "):
        flags[-1][3] = (flags[-1][3] + " " + line.strip()).strip()


def roff(s):
    s = s.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + s if s[:1] in ".'" else s


out = []
for negation, name, value, words in flags:
    out.append(".TP\n\\fB" + roff("--" + negation + name) + "\\fR" + ("=\\fI" + value[1:] + "\\fR" if value else "") + "\n" + roff(words))
with open(source, encoding="utf-8") as f, open(target, "w", encoding="utf-8") as t:
    t.write(f.read().replace("@FLAGS@", "\n".join(out)))
