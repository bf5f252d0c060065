"""A trace as TOML text. trace.py reads back the same trace."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fleetd.simulate.trace.trace import Trace
from fleetd.words.plain import is_plain, plain

#: Points of a curve on one line.
POINTS_A_LINE = 6


def trace_text(trace: Trace, comments: tuple[str, ...] = ()) -> str:
    """The file's content. `comments` stand above it."""
    lines = [f"# {plain(comment)}" for comment in comments]
    for key, value in msgspec.to_builtins(trace).items():
        if key in ("queues", "profiles"):
            for name, table in value.items():
                lines += _table(f"[{key}.{_key(name)}]", table)
        elif key in ("hosts", "faults"):
            for table in value:
                lines += _table(f"[[{key}]]", table)
        elif isinstance(value, dict):
            lines += _table(f"[{key}]", value) if value else []
        else:
            lines.append(f"{key} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _table(header: str, table: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n{header}"
    yield from (f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        entries = (f"{_key(key)} = {_value(entry)}" for key, entry in value.items() if entry is not None)
        return f"{{ {', '.join(entries)} }}"
    if not isinstance(value, list | tuple):  # a number: exact, and without a point if it has no fraction
        return str(int(value)) if value == int(value) else repr(value)
    values = [_value(entry) for entry in value]
    if len(values) <= POINTS_A_LINE or isinstance(value[0], str):
        return f"[{', '.join(values)}]"
    rows = [values[i : i + POINTS_A_LINE] for i in range(0, len(values), POINTS_A_LINE)]
    return "[\n" + "".join(f"  {', '.join(row)},\n" for row in rows) + "]"


def _quoted(text: str) -> str:
    """A TOML basic string, in which everything can be seen. JSON's escapes are valid in TOML up to U+FFFF."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if is_plain(c) else f"\\u{ord(c):04x}" if c <= "\uffff" else f"\\U{ord(c):08x}" for c in quoted)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)
