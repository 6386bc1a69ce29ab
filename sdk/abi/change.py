"""A difference between what was released and what is built now, and the list of those that were accepted."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """`allowed`: old binaries cannot notice it; still it needs a line in HISTORY.md. `key` is what that line names."""
    allowed: bool
    key: str
    what: str

    def __str__(self):
        return "%s %s" % (self.key, self.what)


# | date | `key` | reason |   or, for what is not allowed   | date | `key` | BREAK: reason; reviewed by A and B |
_ROW = re.compile(r"^\|\s*(\d{4}-\d{2}-\d{2})\s*\|\s*`([^`]+)`\s*\|\s*(.*?)\s*\|\s*$")
_REVIEWED = re.compile(r"^BREAK:.*\S.*reviewed by \S.* and \S.*")


class History:
    """The table "Accepted changes" of HISTORY.md."""

    def __init__(self, text):
        self.rows = {}
        for line in text.splitlines():
            m = _ROW.match(line)
            if m and m.group(3):
                self.rows.setdefault(m.group(2), []).append(m.group(3))

    def accepts(self, change):
        reasons = self.rows.get(change.key, [])
        if change.allowed:
            return bool(reasons)
        return any(_REVIEWED.match(r) for r in reasons)

    def advice(self, change):
        """What to do about a change that is not accepted."""
        if change.allowed:
            return "compatible; say so in sdk/abi/HISTORY.md: | <date> | `%s` | <reason> |" % change.key
        return ("breaks what was released; undo it, or if it must be, add to sdk/abi/HISTORY.md: "
                "| <date> | `%s` | BREAK: <reason>; reviewed by <name> and <name> |" % change.key)
