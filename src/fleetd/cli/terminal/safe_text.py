"""Text from elsewhere made safe for a terminal."""

from __future__ import annotations

import re
import sys
from typing import Any

import msgspec

from fleetd.core.model.status import Status

_LONGEST_STRING = 600  # a sentence; whatever is longer was not written for a screen
_ASCII = str.maketrans(
    {
        "–": "-",
        "—": "-",
        "−": "-",
        "…": "...",
        "×": "x",
        "≥": ">=",
        "≤": "<=",
        "→": "->",
        "·": "-",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "Σ": "sum",
    }
)


def clean(text: str, *, ascii_only: bool = False) -> str:
    """Text from elsewhere that can't steer a terminal: what is not printable is shown as its escape.

    Queue names, tags and error texts come from Redis and other programs; an escape sequence or a
    right-to-left override in one would rewrite the screen an admin decides from.
    """
    text = re.sub(r"[ \t\r\n\u00a0\u2009\u202f]+", " ", text[: 2 * _LONGEST_STRING])
    if ascii_only:
        text = text.translate(_ASCII)
    text = "".join(
        c if c.isprintable() and (c.isascii() or not ascii_only) else c.encode("unicode_escape").decode()
        for c in text
    )
    return text if len(text) <= _LONGEST_STRING else text[: _LONGEST_STRING - 3] + "..."


def printable(line: str) -> str:
    """Safe for a terminal and writable in the encoding of standard output; the leading spaces stay."""
    text = line.lstrip(" ")
    encoding = (sys.stdout.encoding or "").lower()
    return " " * (len(line) - len(text)) + clean(text, ascii_only="utf" not in encoding)


def cleaned(status: Status, *, ascii_only: bool) -> Status:
    """The same status with every string made safe, in one place so that none is forgotten."""

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return clean(value, ascii_only=ascii_only)
        if isinstance(value, list | tuple):
            return [walk(item) for item in value]
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        return value

    return msgspec.convert(walk(msgspec.to_builtins(status)), Status)
