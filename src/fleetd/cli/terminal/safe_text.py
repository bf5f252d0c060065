"""Text from elsewhere made safe for a terminal."""

from __future__ import annotations

import re
import sys
from typing import Any, TypeVar

import msgspec

from fleetd.core.model.facts import Value
from fleetd.words.plain import plain

T = TypeVar("T", bound=Value)

#: Longer than any sentence of fleetd's.
_CHARACTERS_MAX = 600
#: What fleetd's own sentences use beyond ASCII.
_ASCII = str.maketrans("–—−×·‘’“”", "---x-''\"\"") | {ord("…"): "...", ord("→"): "->"}


def clean(text: str, *, ascii_only: bool = False) -> str:
    """Text from elsewhere in one printable line of at most 600 characters; what is not plain is escaped.

    Queue names, tags and error messages come from Redis and other programs. An escape sequence or a right-to-left
    override in one of them could rewrite the screen that an admin decides by.
    """
    text = re.sub(r"[ \t\r\n]+", " ", text[: 2 * _CHARACTERS_MAX])
    if ascii_only:
        text = text.translate(_ASCII)
    text = plain(text)
    if ascii_only:
        text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _CHARACTERS_MAX else text[: _CHARACTERS_MAX - 3] + "..."


def printable(line: str) -> str:
    """A line that is safe to print in the encoding of standard output. Its indent stays."""
    text = line.lstrip(" ")
    encoding = (sys.stdout.encoding or "").lower()
    return " " * (len(line) - len(text)) + clean(text, ascii_only="utf" not in encoding)


def cleaned(value: T, *, ascii_only: bool) -> T:
    """The same value with every string in it cleaned. Done once for a whole screen, so that none is forgotten."""

    def walk(part: Any) -> Any:
        if isinstance(part, str):
            return clean(part, ascii_only=ascii_only)
        if isinstance(part, list | tuple):
            return [walk(item) for item in part]
        if isinstance(part, dict):
            return {key: walk(item) for key, item in part.items()}
        return part

    return msgspec.convert(walk(msgspec.to_builtins(value)), type(value))
