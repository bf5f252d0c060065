"""Text from elsewhere, on its way to a person: one line of what can be seen, everything else escaped.

Queue names, host names, tags, and the words of Redis and Postgres come from others. A control character among them can
rewrite a terminal or begin another line of a log; a mark for right-to-left writing shows `exe.txt` for `txt.exe`; what
is invisible makes two names look alike. Whoever writes a log line, a screen, a label or a message for people sends text
through here, once, at the edge: values, JSON, the history and traces keep it exact.
"""

from __future__ import annotations

import re
import unicodedata

#: Invisible, though Unicode counts them as letters or marks and not as format characters (its property
#: Default_Ignorable_Code_Point): fillers of Hangul, vowels of Khmer, the grapheme joiner, variation selectors. And the
#: blank of Braille.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def is_plain(character: str) -> bool:
    """Whether it can be seen, or is the space of ASCII.

    Unicode's categories: no control (C0, C1), format (marks of direction, zero width, tags), private or unassigned
    character, no surrogate, no line separator and no other space.
    """
    return character.isprintable() and not _INVISIBLE.match(character)


def plain(text: str) -> str:
    """The text with other spaces as spaces, and what is not plain as `\\n`, `\\x1b`, `\\u202e` or `\\U000e0001`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if is_plain(character) else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode()
