"""What the workers' unit sets itself: Environment= as `systemctl show` prints it, and EnvironmentFile=.

Sources: systemd's `shell_maybe_quote` (basic/escape.c) and `parse_env_file_internal` (basic/env-file.c), of 252; since
254 a comment ends with its line. Environment files have another syntax than dotenv's, and come after Environment=.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"""\$'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|([^\s"]\S*)""", re.ASCII | re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([0-7]{3})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE = re.compile(r"(.*?)(?: \(ignore_errors=(yes|no)\))?")


def environment_of(shown: str) -> dict[str, str]:
    """The variables of the property Environment."""
    found = {}
    for match in _WORD.finditer(shown):
        text = match[3] if match[3] is not None else _unescaped(match[1] if match[1] is not None else match[2])
        name, equals, value = text.partition("=")
        if equals and _NAME.fullmatch(name):
            found[name] = value
    return found


def file_of(shown: str) -> tuple[str, bool]:
    """Of one value of the property EnvironmentFiles: the path, and whether the file may be missing."""
    match = _FILE.fullmatch(shown)
    return (match[1], match[2] == "yes") if match else (shown, False)


def read_environment_file(text: str, *, comments_continue: bool = True) -> dict[str, str]:
    """The variables of a file in systemd's syntax: quotes may begin anywhere before a value, # only begins a line.

    `comments_continue`: a backslash at the end of a comment makes the next line a part of it.
    """
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if text[at] in " \t\n\r":
            at += 1
        elif text[at] in "#;":
            at = _end_of_comment(text, at, comments_continue)
        else:
            key, equals, at = _key(text, at)
            if not equals:
                continue
            value, at = _value(text, at)
            if _NAME.fullmatch(key):
                found[key] = value
    return found


def _end_of_comment(text: str, at: int, comments_continue: bool) -> int:
    while at < len(text) and text[at] not in "\n\r":
        at += 2 if text[at] == "\\" and comments_continue else 1
    return at


def _key(text: str, at: int) -> tuple[str, bool, int]:
    match = re.compile(r"[^=\n\r]*").match(text, at)
    end = match.end() if match else at
    equals = text[end : end + 1] == "="
    return text[at:end].rstrip(" \t"), equals, end + 1


def _value(text: str, at: int) -> tuple[str, int]:
    """The value, and the index of the next line."""
    parts: list[str] = []
    blank: int | None = None  # where blanks began that are dropped if the line ends with them
    started = False
    while at < len(text):
        letter = text[at]
        if letter in "\n\r":
            break
        if not started and letter in "'\"":
            quoted, at = _single(text, at + 1) if letter == "'" else _double(text, at + 1)
            parts.append(quoted)
            continue
        if letter == "\\":
            started, blank = True, None
            at += 2
            if at <= len(text) and text[at - 1] not in "\n\r":
                parts.append(text[at - 1])
            continue
        at += 1
        if letter in " \t":
            if not started:
                continue
            blank = len(parts) if blank is None else blank
        else:
            started, blank = True, None
        parts.append(letter)
    return "".join(parts if blank is None else parts[:blank]), at


def _single(text: str, at: int) -> tuple[str, int]:
    end = text.find("'", at)
    end = len(text) if end < 0 else end
    return text[at:end], end + 1


def _double(text: str, at: int) -> tuple[str, int]:
    parts: list[str] = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
            if text[at] in '"\\`$':
                parts.append(text[at])
            elif text[at] != "\n":
                parts.append("\\" + text[at])
        else:
            parts.append(text[at])
        at += 1
    return "".join(parts), at + 1


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1]:
            return bytes([int(match[1], 8) & 0xFF]).decode("latin-1")
        if match[2]:
            return bytes([int(match[2], 16)]).decode("latin-1")
        return _LETTERS.get(match[3], match[3])

    return _ESCAPE.sub(one, text)
