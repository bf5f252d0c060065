"""Types and values in the words of a configuration file."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_NAMES = {
    msgspec.inspect.BoolType: "true or false",
    msgspec.inspect.NoneType: "nothing",
}


#: Of a list; whatever is longer is cut anyway.
_SHOWN_MAX = 20


def show(value: Any) -> str:
    """A value of the file as TOML would write it, on one line and not longer than a line."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list):
        more = ", …" if len(value) > _SHOWN_MAX else ""
        text = f"[{', '.join(map(show, value[:_SHOWN_MAX]))}{more}]"
    elif isinstance(value, int) and abs(value) >= 10**50:  # Python refuses to write thousands of digits
        text = "a number of more than 50 digits"
    elif isinstance(value, dict):
        text = "a table"
    else:
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def describe(hint: Any) -> str:
    """What a key wants, e.g. 'a whole number from 1 to 200'."""
    return _describe(msgspec.inspect.type_info(hint))


def example(hint: Any) -> str | None:
    """What a key may look like, where its type says so."""
    kind = msgspec.inspect.type_info(hint)
    said = (
        (kind.extra_json_schema or {}).get("examples") if isinstance(kind, msgspec.inspect.Metadata) else None
    )
    return str(said[0]) if said else None


def _describe(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.Metadata):
        said = (kind.extra_json_schema or {}).get("description")
        return str(said) if said else _describe(kind.type)
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        noun = "a whole number" if isinstance(kind, msgspec.inspect.IntType) else "a number"
        return noun + _range(kind.ge, kind.le)
    if isinstance(kind, msgspec.inspect.LiteralType):
        return "one of " + ", ".join(f'"{value}"' for value in kind.values)
    if isinstance(kind, msgspec.inspect.StrType):
        length = _range(kind.min_length, kind.max_length)
        return f"a text{length} characters" if length else "a text in quotes"
    if isinstance(kind, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        return f"a list{_range(kind.min_length, kind.max_length)}, each {_describe(kind.item_type)}"
    if isinstance(kind, msgspec.inspect.TupleType):
        return f"[{', '.join(map(_describe, kind.item_types))}]"
    if isinstance(kind, msgspec.inspect.UnionType):
        parts = [t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)]
        return " or ".join(_describe(part) for part in parts)
    return _NAMES.get(type(kind), "a value of another kind")


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {_plain(low)} to {_plain(high)}"
    if low is not None:
        return f" of at least {_plain(low)}"
    return f" of at most {_plain(high)}" if high is not None else ""


def _plain(number: float) -> str:
    """`2678400`, not `2.6784e+06`: it is to be written into the file."""
    if isinstance(number, int):
        return str(number)
    return f"{number:.0f}" if number == int(number) and abs(number) < 1e15 else f"{number:g}"
