"""Shapes of JSON answers: keys, types and enum names, without the values that differ from run to run.

A shape is JSON too: a dict of shapes ("?" behind a key: not in every row), a list of one shape (its rows merged), or a word:
"string", "int", "float", "bool", "null", "enum:A|B" (names seen), "any" (rows disagree).
"""

import re

_ENUM = re.compile(r"^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$|^(SCALAR|RANGES|SET|TEXT|STATIC|DYNAMIC|CUSTOM|DEFAULT|MESOS|DOCKER|RW|RO|COMMAND|"
                   r"HTTP|TCP|CLUSTER|FRAMEWORK|EXTERNAL|UPDATE|OFFERS|RESCIND|MESSAGE|FAILURE|ERROR|HEARTBEAT|SUBSCRIBED|DRAINING|DRAINED|"
                   r"LAUNCH|KILL|SHUTDOWN|ACKNOWLEDGED)$")


def kind(v):
    if isinstance(v, bool):
        return "bool"
    if isinstance(v, int):
        return "int"
    if isinstance(v, float):
        return "float"
    if isinstance(v, str):
        return "enum:" + v if _ENUM.match(v) else "string"
    return "null"


def shape(v):
    if isinstance(v, dict):
        return {k: shape(x) for k, x in v.items()}
    if isinstance(v, list):
        merged = None
        for x in v:
            merged = shape(x) if merged is None else merge(merged, shape(x))
        return [] if merged is None else [merged]
    return kind(v)


def merge(a, b):
    """The shape of what has either shape."""
    if isinstance(a, dict) and isinstance(b, dict):
        out = {}
        left, right = {k.rstrip("?"): k for k in a}, {k.rstrip("?"): k for k in b}
        for name in list(left) + [k for k in right if k not in left]:
            if name in left and name in right:
                sure = not left[name].endswith("?") and not right[name].endswith("?")
                out[name if sure else name + "?"] = merge(a[left[name]], b[right[name]])
            else:
                out[name + "?"] = a[left[name]] if name in left else b[right[name]]
        return out
    if isinstance(a, list) and isinstance(b, list):
        return [merge(a[0], b[0])] if a and b else a or b
    if a == b:
        return a
    if isinstance(a, str) and isinstance(b, str):
        if a.startswith("enum:") and b.startswith("enum:"):
            return "enum:" + "|".join(sorted(set(a[5:].split("|")) | set(b[5:].split("|"))))
        if {a.partition(":")[0], b.partition(":")[0]} == {"enum", "string"}:
            return "string"
    return "any"


def differences(want, got, path="", out=None):
    """Every place where the value `got` is not of the shape `want`: "-path" missing, "+path" more than there, "path: why" otherwise.

    A list in a path is "[]". An empty list says nothing of its rows, so ours may then hold anything."""
    out = [] if out is None else out
    if want == "any":
        return out
    if isinstance(want, dict):
        if not isinstance(got, dict):
            out.append("%s: an object became %r" % (path, got))
            return out
        names = {k.rstrip("?"): k for k in want}
        for name, k in names.items():
            if name in got:
                differences(want[k], got[name], path + "." + name, out)
            elif not k.endswith("?"):
                out.append("-%s.%s" % (path, name))
        out.extend("+%s.%s" % (path, k) for k in got if k not in names)
    elif isinstance(want, list):
        if not isinstance(got, list):
            out.append("%s: a list became %r" % (path, got))
        elif want:
            for item in got:
                differences(want[0], item, path + ".[]", out)
    else:
        have = kind(got) if not isinstance(got, (dict, list)) else type(got).__name__
        if want.startswith("enum:"):
            if not (have.startswith("enum:") and have[5:] in want[5:].split("|")):
                out.append("%s: %s became %r" % (path, want, got))
        elif have.partition(":")[0].replace("enum", "string") != want:
            out.append("%s: %s became %r" % (path, want, got))
    return out


def matches(difference, pattern):
    """A pattern is a difference whose path begins anywhere at a dot, "*" standing for any text."""
    sign, path = (difference[0], difference[1:]) if difference[0] in "-+" else ("", difference)
    wanted = pattern[0] if pattern[0] in "-+" else ""
    if sign != wanted:
        return False
    text = pattern[len(wanted):]
    return re.search(r"(^|\.)" + ".*".join(re.escape(p) for p in text.split("*")) + ("$" if sign else ""), path) is not None


def unexplained(found, explained):
    """What of `found` no pattern of `explained` (pattern -> reason) covers."""
    return sorted({d for d in found if not any(matches(d, p) for p in explained)})
