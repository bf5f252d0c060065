"""From a TOML table to a typed section, key by key, so that every problem is found and not only the first.

msgspec converts and checks each single value; this module walks the tables around them and words the problems. A
value that may be a secret is never repeated.
"""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from fleetd.errors import ConfigProblem
from fleetd.words.plain import plain

S = TypeVar("S", bound=msgspec.Struct)

#: Tables whose values are never repeated: a password is easily written into the wrong key of them.
SECRET_TABLES = ("redis", "postgres", "pgbouncer", "replica")
#: This many wrong entries of one list are named one by one.
ENTRIES_TOLD_MAX = 5
#: Entries of a list that are shown; the text is cut to a line anyway.
_SHOWN_MAX = 20
_LEAVE_OUT = "Write one, or leave the key out."
_UNITS_BYTES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([A-Za-z]{0,3})")


def show(value: Any) -> str:
    """A value of the file as TOML would write it, on one line and not longer than a line."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = plain(json.dumps(value, ensure_ascii=False))
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
    schema = kind.extra_json_schema if isinstance(kind, msgspec.inspect.Metadata) else None
    return str(schema["examples"][0]) if schema and "examples" in schema else None


def _describe(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.Metadata):
        description = (kind.extra_json_schema or {}).get("description")
        return str(description) if description else _describe(kind.type)
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        noun = "a whole number" if isinstance(kind, msgspec.inspect.IntType) else "a number"
        return noun + _range(kind.ge, kind.le)
    if isinstance(kind, msgspec.inspect.LiteralType):
        one_of = "one of " if len(kind.values) > 1 else ""
        return one_of + ", ".join(f'"{value}"' for value in kind.values)
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
    return "true or false" if isinstance(kind, msgspec.inspect.BoolType) else "a value of another kind"


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


def parse_size_bytes(value: object) -> int:
    """Bytes from a number of bytes or a number with KiB, MiB, GiB or TiB.

    Raises ValueError with the cure as its text. KB and MB are refused: nobody knows whether 1000 or 1024 was meant.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in _UNITS_BYTES:
        raise ValueError('Write bytes as a number, or a size like "512 MiB" or "1.5 GiB"')
    return int(float(match[1]) * _UNITS_BYTES[match[2]])


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def join(path: str, key: str) -> str:
    """A key path as TOML writes it."""
    bare = key.replace("-", "").replace("_", "")
    shown = key if bare.isascii() and bare.isalnum() else '"' + key.replace("\n", " ")[:40] + '"'
    return f"{path}.{shown}" if path else shown


def section(
    kind: type[S], table: Mapping[str, Any], path: str, problems: list[ConfigProblem], default: S | None = None
) -> S:
    """The section, `default` where the table says nothing; what is wrong goes to `problems` and keeps its default."""
    base = kind() if default is None else default
    return msgspec.structs.replace(base, **_values(kind, table, path, problems, base))


def _values(
    kind: type[msgspec.Struct],
    table: Mapping[str, Any],
    path: str,
    problems: list[ConfigProblem],
    defaults: object = None,
) -> dict[str, Any]:
    """The good values of a table, by field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    keys = keys_of(kind)
    _refuse_unknown(table, keys, path, problems)
    values: dict[str, Any] = {}
    for key, field in keys.items():
        if key in table:
            default = getattr(defaults, field, None)
            cure = _LEAVE_OUT if default is None else "Write one, or leave the key out for its default."
            values[field] = _value(_without_none(hints[field]), table[key], join(path, key), cure, problems, default)
    return {field: value for field, value in values.items() if value is not UNSET}


def keys_of(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The keys of a section and their fields: a size X_bytes is the key X, and some fields are no keys."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.removesuffix("_bytes") if _marked(hint, "size") else field: field
        for field, hint in hints.items()
        if not _marked(hint, "in_file", False)
    }


def _marked(hint: Any, mark: str, value: object = True) -> bool:
    """Whether the type of a field carries this mark (`extra` of msgspec's Meta)."""
    metadata = getattr(_without_none(hint), "__metadata__", ())
    return any((meta.extra or {}).get(mark) is value for meta in metadata)


def _without_none(hint: Any) -> Any:
    """`X | None` as X: TOML has no null, and a section may be optional."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return hint


def _refuse_unknown(
    table: Mapping[str, Any], known: Mapping[str, Any], path: str, problems: list[ConfigProblem]
) -> None:
    for key in table:
        if key in known:
            continue
        meant = nearest(key, known)
        where = f"[{path}]" if path else "The file"
        cure = f"Did you mean {join(path, meant)}?" if meant else f"{where} knows: {', '.join(known)}."
        problems.append(ConfigProblem(join(path, key), "no such key", cure))


def _value(hint: Any, raw: Any, path: str, cure: str, problems: list[ConfigProblem], default: Any = None) -> Any:
    """The value of one key, whose type may be a section, a table of them, a list of them, or a leaf; UNSET: wrong."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if _is_section(hint):
        return section(hint, raw, path, problems, default) if _is_table(raw, path, problems) else UNSET
    if origin is dict:
        if not _is_table(raw, path, problems):
            return UNSET
        wrong = [key for key in raw if not _fits(arguments[0], key)]
        problems += [_mismatch(arguments[0], key, path, "Write one.") for key in wrong]
        values = {k: _value(arguments[1], v, join(path, k), _LEAVE_OUT, problems) for k, v in raw.items()}
        return UNSET if wrong else {k: value for k, value in values.items() if value is not UNSET}
    if origin is tuple and _is_section(arguments[0]):
        return _list_of_sections(arguments[0], raw, path, problems)
    return _leaf(hint, raw, path, cure, problems)


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _list_of_sections(kind: type[S], raw: Any, path: str, problems: list[ConfigProblem]) -> Any:
    if not isinstance(raw, list):
        cure = "Write a list of tables: [{…}, {…}]."
        problems.append(ConfigProblem(path, f"{show(raw)} is not a list", cure))
        return UNSET
    items = []
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    for index, item in enumerate(raw):
        here, before = f"{path}[{index}]", len(problems)
        values = _values(kind, item, here, problems) if _is_table(item, here, problems) else {}
        missing = sorted(required - values.keys())
        if not missing:
            items.append(kind(**values))
        elif len(problems) == before:
            problems.append(ConfigProblem(here, f"lacks {' and '.join(missing)}", "Add it."))
    return tuple(items)


def _leaf(hint: Any, raw: Any, path: str, cure: str, problems: list[ConfigProblem]) -> Any:
    if _marked(hint, "size"):
        try:
            raw = parse_size_bytes(raw)
        except ValueError as error:
            problems.append(ConfigProblem(path, f"{show(raw)} is not a size", f"{error}."))
            return UNSET
    if _fits(hint, raw):
        return msgspec.convert(raw, hint)
    item = _item_of(hint)
    wrong = [] if item is None or not isinstance(raw, list) else [i for i, e in enumerate(raw) if not _fits(item, e)]
    for index in wrong[:ENTRIES_TOLD_MAX]:
        problems.append(_mismatch(item, raw[index], f"{path}[{index}]", "Write one."))
    if len(wrong) > ENTRIES_TOLD_MAX:
        what = f"{len(wrong) - ENTRIES_TOLD_MAX} more entries are wrong"
        problems.append(ConfigProblem(path, what, "Correct them likewise."))
    if not wrong:
        problems.append(_mismatch(hint, raw, path, cure))
    return UNSET


def _fits(hint: Any, raw: Any) -> bool:
    try:
        msgspec.convert(raw, hint)
        return True
    except msgspec.ValidationError:
        return False


def _item_of(hint: Any) -> Any:
    """The type of a list's entries; None for what is no list."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    arguments = typing.get_args(hint)
    is_list = typing.get_origin(hint) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis
    return arguments[0] if is_list else None


def _mismatch(hint: Any, raw: Any, path: str, cure: str) -> ConfigProblem:
    shown = "the value (not shown)" if path.startswith(SECRET_TABLES) else show(raw)
    written = example(hint)
    cure = f"Write e.g. {written}." if written else cure
    return ConfigProblem(path, f"{shown} is not {describe(hint)}", cure)


def _is_table(raw: Any, path: str, problems: list[ConfigProblem]) -> bool:
    if isinstance(raw, dict):
        return True
    # The value isn't shown: it may be `redis = "redis://:secret@…"`.
    cure = f"Write [{path}] and its keys below it."
    problems.append(ConfigProblem(path, "this is a table, not a value", cure))
    return False
