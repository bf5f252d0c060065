"""What YAML makes of a variable that Mastodon's `config/database.yml` inserts without quotes.

Source: Psych, `scalar_scanner.rb`. Only what is certain is read: it takes `yes` for true, 1.10 for 1.1, 10:30 for a
number of seconds and ::1 for a symbol. Such values are refused, because what they connect to is hardly what was meant.
"""

from __future__ import annotations

import ipaddress
import re

#: Letters of any script, and punctuation without a meaning inside of a plain scalar.
_PLAIN = re.compile(r"[\w/.](?:[\w/.@:,+%=~-]| (?![ #]))*(?<![: ])")
_WORDS = {"yes", "no", "true", "false", "on", "off"}
NOTHING = {"", "~", "null", "Null", "NULL"}
#: Only numbers begin with a digit and have none of these letters.
_NO_NUMBER = re.compile(r"[^\W\da-fA-FxXoO_]")
_INTEGER = re.compile(
    r"[-+]?(?:0[_,]*x[_,]*[0-9a-fA-F][0-9a-fA-F_,]*|0_*[0-7_]*|[1-9](?:[0-9]|,[0-9]|_[0-9])*)",
    re.ASCII,
)
_DIGITS_MAX = 64
_NAME = re.compile(r"[0-9][\w-]*", re.ASCII)
_BINARY_OR_DATE = re.compile(r"0b[01_,]+|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}")
_DATE = re.compile(r"[1-9][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])")


class UnclearError(Exception):
    """YAML reads it as something else than the text that it is, or not at all."""


def plain_scalar(text: str) -> str | None:
    """The text that YAML reads; None: nothing. Raises UnclearError."""
    text = f" {text}".split(" #", 1)[0].strip(" ") if text.isprintable() else text
    if text in NOTHING:
        return None
    if len(text) <= _DIGITS_MAX and _INTEGER.fullmatch(text):
        return _integer(text)
    if not text.isprintable() or not _PLAIN.fullmatch(text) or text.lower() in _WORDS or ": " in text:
        raise UnclearError
    if not text[0].isdigit() and text[0] != ".":
        return text
    if text.isascii() and (_NO_NUMBER.search(text) or _DATE.fullmatch(text) or _is_address_list(text)):
        if text.lower() in (".inf", ".nan"):
            raise UnclearError
        return text
    if _NAME.fullmatch(text) and not _BINARY_OR_DATE.fullmatch(text):  # 3fa9c1: a number with a point needs one
        return text
    raise UnclearError


def _integer(text: str) -> str:
    """As Ruby prints it: 05433 is octal."""
    digits = text.replace("_", "").replace(",", "")
    sign, digits = ("-" if digits[0] == "-" else ""), digits.lstrip("+-")
    base = 16 if digits[1:2] == "x" else 8 if digits[0] == "0" else 10
    number = int(digits, base)
    return f"{sign if number else ''}{number}"


def _is_address_list(text: str) -> bool:
    try:
        for entry in text.split(","):
            ipaddress.ip_address(entry)
    except ValueError:
        return False
    return True
