"""Puts other numbers into JSON that fleetd wrote."""

from __future__ import annotations

import json
import re
from typing import Any

Path = tuple[Any, ...]
_NAME = re.compile(r"[a-z_]+")


def number_paths(document: Any, path: Path = ()) -> list[Path]:
    """Where its numbers are."""
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        return [found for key, value in items for found in number_paths(value, (*path, key))]
    return [path] if isinstance(document, int | float) and not isinstance(document, bool) else []


def kinds_of_numbers(document: Any) -> list[Path]:
    """Where the first number of each kind is: entries of a list, and of a mapping by number or id, are of one kind."""
    found: dict[Path, Path] = {}
    for path in number_paths(document):
        kind = tuple(key if isinstance(key, str) and _NAME.fullmatch(key) else "*" for key in path)
        found.setdefault(kind, path)
    return list(found.values())


def with_numbers(document: Any, paths: list[Path], number: str) -> bytes:
    """The document with `number`, as it is written in JSON, at these paths."""
    changed = json.loads(json.dumps(document))
    for path in paths:
        item = changed
        for key in path[:-1]:
            item = item[key]
        item[path[-1]] = "HERE"
    return json.dumps(changed).replace('"HERE"', number).encode()
