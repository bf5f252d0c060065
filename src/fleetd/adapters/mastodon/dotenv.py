"""Mastodon's dotenv files, read as the gem `dotenv` reads them in the workers' own process.

Source: bkeepers/dotenv, `lib/dotenv/parser.rb` and `lib/dotenv/substitutions`, at the versions that Mastodon locks:
2.8.1 (4.2), 3.1.4 (4.3), 3.1.8 (4.4, 4.5) and 3.2.0 (4.6). tests/adapters/mastodon/settings_table.jsonl has what they
printed.
Nothing is executed: a value that dotenv would take from a command is refused, if anybody asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from fleetd.adapters.mastodon.releases import NEWEST, Release
from fleetd.errors import ConfigProblem

#: Rails' order for the environment "production": the first file that sets a name wins.
NAMES = (".env.production.local", ".env.local", ".env.production", ".env")
#: What all values together may have: variables inside of variables double with each line.
CHARACTERS_MAX = 1 << 20

_VALUE = r"""(?P<value>\s*'(?:\\'|[^'])*'|\s*"(?:\\"|[^"])*"|[^\#\n]+)?"""
_END = r"\s*(?:\#.*)?(?:$|\Z)"
_FLAGS = re.ASCII | re.MULTILINE
#: dotenv up to 3.1.4 wants a separator after the name; later ones set a name without one to "".
_LINE_TO_4_3 = re.compile(rf"\s*(?:export\s+)?(?P<key>[\w.]+)(?:\s*=\s*?|:\s+?){_VALUE}{_END}", _FLAGS)
_LINE = re.compile(rf"\s*(?P<export>export\s+)?(?P<key>[\w.]+)(?:(?:\s*=\s*?|:\s+?){_VALUE})?{_END}", _FLAGS)
#: A line that is none, with the blank lines before it.
_NOTHING = re.compile(r"\s*[^\n]*(?:\n|\Z)", re.ASCII)
_QUOTED = re.compile(r"\A(['\"])(.*)\1\Z", re.DOTALL)
_ESCAPED = re.compile(r"\\([^$])", re.DOTALL)
_VARIABLE = re.compile(r"(\\)?\$(?!\()\{?([A-Za-z0-9_]+)?\}?", re.ASCII)
BLANK = " \t\n\v\f\r\0"  # what Ruby's strip takes off
_LINEBREAK_MODE = "DOTENV_LINEBREAK_MODE"

#: Set in a worker's process by systemd, a shell, rbenv, Bundler or fleetd-render, to what is not known here.
_OF_THE_PROCESS = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|TERM|TZ|LANG|LANGUAGE|LC_\w+|MAINPID|INVOCATION_ID|JOURNAL_STREAM"
    r"|(?:NOTIFY|WATCHDOG|LISTEN|SYSTEMD|RBENV|BUNDLE|BUNDLER|GEM|RUBY)\w*|CREDENTIALS_DIRECTORY|\w+_DIRECTORY"
    r"|SIDEKIQ_ARGS|DB_POOL|FLEETD_PROFILE|PGOPTIONS"
)


class Variables:
    """The variables that a worker's process has. Those of its unit come before all files.

    No method and no problem shows a value, which may be a secret.
    """

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})
        self._refused: dict[str, ConfigProblem] = {}
        self._places: dict[str, str] = dict.fromkeys(self._values, "Environment= of the workers' unit")
        self.broken: list[ConfigProblem] = []  # why Mastodon itself does not start with these files

    def get(self, name: str, problems: list[ConfigProblem]) -> str | None:
        """The value, "" if it is set to nothing; None if it is not set, or is refused and a problem was added."""
        if name in self._refused:
            problems.append(self._refused[name])
        return self._values.get(name)

    def has(self, name: str) -> bool:
        """Whether it is set, to whatever."""
        return name in self._values or name in self._refused

    def place(self, name: str) -> str:
        """Where it is set, for a sentence: ".env.production, line 3"; "": it is not set."""
        return self._places.get(name, "")

    def value(self, name: str) -> str | None:
        """The value, if it is set and known."""
        return self._values.get(name)

    def known(self) -> dict[str, str]:
        """Every variable whose value is known."""
        return dict(self._values)

    def refuse(self, name: str, problem: ConfigProblem, place: str) -> None:
        """It is set to something that can't be known here."""
        self._refused[name] = problem
        self._places[name] = place

    def set(self, name: str, value: str, place: str) -> None:
        """Set it, unless it is set already."""
        if not self.has(name):
            self._values[name] = value
            self._places[name] = place


def read_dotenv(
    files: Sequence[tuple[str, str]], environment: Mapping[str, str] | None = None, release: Release = NEWEST
) -> Variables:
    """The variables from these files, (name, text) in the order in which they are loaded, and the unit's own.

    Never raises. What is refused or broken is in the result.
    """
    variables = Variables(environment)
    left = CHARACTERS_MAX
    for name, text in files:
        left = _File(name, text, variables, release, left).load()
    return variables


class _File:
    """One file. A name that is set twice in it has the last value, and the first file that sets it wins."""

    def __init__(self, name: str, text: str, outside: Variables, release: Release, left: int) -> None:
        self._name = name
        self._text = re.sub(r"\r\n?", "\n", text.removeprefix("\ufeff"))
        self._outside = outside
        self._release = release
        self._values: dict[str, str] = {}
        self._refused: dict[str, ConfigProblem] = {}
        self._lines: dict[str, int] = {}
        self._left = left

    def load(self) -> int:
        """Add its variables to those outside; returns how many characters others may still have."""
        end, line, rest = 0, 1, []
        for match in self._matches():
            rest.append(self._text[end : match.start()])
            line += self._text.count("\n", end, match.start("key"))
            self._assign(match, line)
            line += self._text.count("\n", match.start("key"), match.end())
            end = match.end()
        if self._release <= (4, 3):
            self._exports("".join([*rest, self._text[end:]]))
        for name, at in self._lines.items():
            place = f"{self._name}, line {at}"
            if self._outside.has(name):
                continue
            if name in self._refused:
                self._outside.refuse(name, self._refused[name], place)
            else:
                self._outside.set(name, self._values[name], place)
        return self._left

    def _matches(self) -> Iterator[re.Match[str]]:
        """Ruby's `scan`. A blank run is tried once, at its first line: its other lines can begin no other match."""
        pattern = _LINE if self._release >= (4, 4) else _LINE_TO_4_3
        at = 0
        while at < len(self._text):
            if at > 0 and self._text[at - 1] != "\n":
                at = self._text.find("\n", at) + 1 or len(self._text)
            elif match := pattern.match(self._text, at):
                yield match
                at = match.end()
            else:
                skipped = _NOTHING.match(self._text, at)
                at = skipped.end() if skipped else len(self._text)

    def _assign(self, match: re.Match[str], line: int) -> None:
        name, value = match["key"], match["value"]
        if self._release >= (4, 4):
            if self._outside.has(name) and name != _LINEBREAK_MODE:
                return
            if match["export"] and not value:
                if name not in self._lines:
                    self._break(name, line)
                return
        self._lines[name] = line
        try:
            text = self._counted(self._value(value or ""))
        except _RefusedError as refused:
            what = f"line {line} of {self._name} {refused.what}"
            self._refused[name] = ConfigProblem(name, what, refused.cure)
        else:
            self._refused.pop(name, None)
            self._values[name] = text

    def _counted(self, text: str) -> str:
        if "\0" in text:
            raise _RefusedError("contains a zero byte, with which Mastodon does not start", "Write it as text.")
        self._left -= len(text)
        if self._left < 0:
            raise _RefusedError("makes the values too long", "Use fewer $VARIABLES.")
        return text

    def _value(self, raw: str) -> str:
        text = raw.strip(BLANK)
        quoted = _QUOTED.match(text)
        quote = quoted[1] if quoted else ""
        if quoted:
            text = quoted[2]
        if quote == '"':
            if self._release <= (4, 2) or self._legacy_line_breaks():
                text = text.replace("\\n", "\n").replace("\\r", "\r")
            else:
                text = text.replace("\\n", "\\\\n").replace("\\r", "\\\\r")
        if quote == "'":
            return text
        text = _ESCAPED.sub(r"\1", text)
        if self._release >= (4, 6):
            return self._expand(_without_commands(text))
        return _without_commands(self._expand(text))  # dotenv runs what a variable holds, too

    def _legacy_line_breaks(self) -> bool:
        own = self._values.get(_LINEBREAK_MODE)
        return (own if own is not None else self._outside.value(_LINEBREAK_MODE)) == "legacy"

    def _expand(self, text: str) -> str:
        """With the variables that it names; as in dotenv, one that is not set is empty."""
        total = 0

        def one(match: re.Match[str]) -> str:
            nonlocal total
            if match[1]:
                return match[0][1:]
            if not match[2]:
                return match[0]
            value = self._variable(match[2])
            total += len(value)
            if total > self._left:
                raise _RefusedError("makes the values too long", "Use fewer $VARIABLES.")
            return value

        return _VARIABLE.sub(one, text)

    def _variable(self, name: str) -> str:
        outside = self._outside.value(name)
        if outside is not None:
            return outside
        if self._outside.has(name) or name in self._refused:
            raise _RefusedError(f"uses ${name}, whose value fleetd can't know", "Write the value itself.")
        if _OF_THE_PROCESS.fullmatch(name):
            raise _RefusedError(
                f"uses ${name}, which the worker's own process may have and fleetd does not know",
                "Write the value itself.",
            )
        return self._values.get(name, "")

    def _exports(self, rest: str) -> None:
        """Up to Mastodon 4.3, `export` without a value names variables that the file must have set."""
        for line in rest.split("\n"):
            words = line.split()
            if words[:1] == ["export"]:
                for name in words[1:]:
                    if name not in self._lines:
                        self._break(name, self._text.count("\n", 0, max(0, self._text.find(line))) + 1)
                        return

    def _break(self, name: str, line: int) -> None:
        what = f"line {line} of {self._name} exports it without a value, with which Mastodon does not start"
        # A word of a line that is no name may be part of a secret.
        path = name if re.fullmatch(r"[A-Z_]+", name) else ""
        self._outside.broken.append(ConfigProblem(path, what, "Write NAME=value."))


class _RefusedError(Exception):
    """A value that can't be known here: what is wrong with its line, and the cure."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what)
        self.what, self.cure = what, cure


def _without_commands(text: str) -> str:
    r"""The text, in which `\$(command)` is literal. Raises _RefusedError if dotenv would run a command.

    A command is `$(` with its balanced `)`, in which no pair of parentheses is empty.
    """
    ends = _commands(text)
    if not ends:
        return text
    parts, at = [], 0
    for dollar in sorted(ends):
        if dollar < at:  # inside of an escaped one
            continue
        if dollar > at and text[dollar - 1] == "\\":
            parts.append(text[at : dollar - 1] + text[dollar : ends[dollar]])
            at = ends[dollar]
        else:
            raise _RefusedError("takes its value from a command, which fleetd does not run", "Write the value itself.")
    return "".join([*parts, text[at:]])


def _commands(text: str) -> dict[int, int]:
    """Where commands stand: the index of each `$` to the index behind its `)`."""
    found: dict[int, int] = {}
    opened: list[tuple[int, bool]] = []  # where, and whether all inside of it is well so far
    for index, letter in enumerate(text):
        if letter == "(":
            opened.append((index, True))
        elif letter == ")" and opened:
            start, well = opened.pop()
            well = well and index > start + 1
            if not well and opened:
                opened[-1] = (opened[-1][0], False)
            if well and start > 0 and text[start - 1] == "$":
                found[start - 1] = index + 1
    return found
