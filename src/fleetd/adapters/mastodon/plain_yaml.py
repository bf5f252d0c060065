"""What YAML makes of a variable that Mastodon's `config/database.yml` inserts without quotes.

Only what is certain is read. Psych takes 05433 for an octal number, `yes` for true and ::1 for a symbol; such values are
refused, because what they connect to is hardly what was meant.
"""

from __future__ import annotations

import ipaddress
import re

#: Letters of any script, and punctuation without a meaning inside of a plain scalar.
_PLAIN = re.compile(r"[\w/.](?:[\w/.@:,+%=~-]| (?![ #]))*(?<![: ])")
_WORDS = {"yes", "no", "true", "false", "on", "off"}
_NOTHING = {"", "~", "null", "Null", "NULL"}
#: Only numbers begin with a digit and have none of these letters.
_NO_NUMBER = re.compile(r"[^\W\da-fA-FxXoO_]")


class UnclearError(Exception):
    """YAML reads it as something else than the text that it is, or not at all."""


def plain_scalar(text: str) -> str | None:
    """The text that YAML reads; None: nothing. Raises UnclearError."""
    text = text.split(" #", 1)[0].strip(" \t") if text.isprintable() else text
    if text in _NOTHING:
        return None
    if not text.isprintable() or not _PLAIN.fullmatch(text) or text.lower() in _WORDS or ": " in text:
        raise UnclearError
    if not text[0].isdigit() and text[0] != ".":
        return text
    if text.isascii() and (_is_number(text) or _NO_NUMBER.search(text) or _is_address_list(text)):
        return text
    raise UnclearError


def _is_number(text: str) -> bool:
    return text.isdigit() and (text == "0" or text[0] != "0")


def _is_address_list(text: str) -> bool:
    try:
        for entry in text.split(","):
            ipaddress.ip_address(entry)
    except ValueError:
        return False
    return True
