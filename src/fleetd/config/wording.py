"""Types and values in the words of a configuration file."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_NAMES = {
    msgspec.inspect.BoolType: "true or false",
    msgspec.inspect.NoneType: "nothing",
}


def show(value: Any) -> str:
    """A value of the file as TOML would write it, on one line and not longer than a line."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str | list):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, dict):
        text = "a table"
    else:
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def describe(hint: Any) -> str:
    """What a key wants, e.g. 'a whole number from 1 to 200'."""
    return _describe(msgspec.inspect.type_info(hint))


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
        return (
            "a text in quotes"
            if kind.max_length is None
            else f"a text of at most {kind.max_length} characters"
        )
    if isinstance(kind, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        return "a list, each " + _describe(kind.item_type)
    if isinstance(kind, msgspec.inspect.UnionType):
        parts = [t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)]
        return " or ".join(_describe(part) for part in parts)
    return _NAMES.get(type(kind), "a value of another kind")


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if low is not None:
        return f" of at least {low:g}"
    return f" of at most {high:g}" if high is not None else ""
