"""A command of a unit: whether Sidekiq gets its arguments as words, and systemd's signals.

Sources: systemd.service(5), "Command lines"; Sidekiq's options; the shell's quoting, which was tried in dash and bash.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Final

from fleetd.core.model.facts import UnitRule
from fleetd.core.model.worker_settings import SHUTDOWN_SECONDS

#: Those that split an unquoted variable into words. zsh and fish do not.
_SPLITTING_SHELLS: Final = frozenset({"sh", "bash", "dash", "ksh", "ash"})
_SHELLS: Final = _SPLITTING_SHELLS | {"zsh", "fish"}
#: These stay in between as a process of their own, so that a signal to the main process does not reach Sidekiq, or is
#: turned into another one.
_STAY_BETWEEN: Final = frozenset(
    {
        *("sudo", "su", "runuser", "doas", "timeout", "time", "flock", "setsid", "script", "unbuffer", "strace"),
        *("dumb-init", "tini", "foreman", "firejail", "docker", "podman", "doppler"),
    }
)
_EXEC: Final = re.compile(r"(?:^|[;&|{}\n]|\b(?:then|else|do))\s*(?:[A-Za-z_]\w*=\S*\s+)*exec\s")
_OPTION: Final = re.compile(r"-[qcgt]\S*|--(?:queue|concurrency|tag|timeout)(?:=.*)?")
_TIMEOUT: Final = re.compile(r"(?<!\S)-t (\d{1,9})(?!\S)")
_GENTLE_STOP: Final = re.compile(r"(?:(?:-s |-)(?:SIG)?(?:TERM|INT|TSTP|15|2|20) )?\$\{?MAINPID\}?")
_SETTINGS: Final = re.compile(r"\$\$?(?:SIDEKIQ_ARGS\b|\{SIDEKIQ_ARGS\})")
_ALL_ARGUMENTS: Final = re.compile(r'"\$\$?(?:@|\{@\})"|\$\$?(?:@|\{@\})')
#: As the scheduler's unit asks for another host's scheduler. Any other line could take a missing program for one.
_ASKS: Final = re.compile(
    r"/bin/sh -c 'ask=/[A-Za-z0-9._/+-]*/fleetd-may-schedule; "
    r'\[ -x "\$ask" \] \|\| exit 0; "\$ask"; \[ "\$\?" -ne 75 \] \|\| exit 75' + "'"
)
_ARGUMENTS_VARIABLE = "$SIDEKIQ_ARGS"


def start_faults(command: str) -> Iterator[UnitRule]:
    """What is wrong with the value of ExecStart=."""
    bare = command.lstrip("@-:+!|")
    prefix = command[: len(command) - len(bare)]
    words = _words(bare)
    shell = _Shell.of(words)
    inner = _words(shell.script) if shell is not None else words
    if set(prefix) & {"+", "!"}:
        yield UnitRule.PRIVILEGES
    if any(_program(word) in _STAY_BETWEEN for word in (*_before_sidekiq(words), *_before_sidekiq(inner))):
        yield UnitRule.BETWEEN
    if shell is not None and not _execs(shell.script):
        yield UnitRule.SHELL
    passes = shell.passes_arguments if shell is not None else _ARGUMENTS_VARIABLE in words
    if ":" in prefix or not passes:
        yield UnitRule.ARGUMENTS
    elif any(_OPTION.fullmatch(word) for word in _without_shorter_timeout(_after_sidekiq(inner))):
        yield UnitRule.OPTIONS


def asks_first(command: str) -> bool:
    """Whether ExecCondition= is the question of the scheduler's unit."""
    return _ASKS.fullmatch(command) is not None


def stops_gently(command: str) -> bool:
    """Whether ExecStop= asks Sidekiq to stop or be quiet, as systemd does itself."""
    words = _words(command.lstrip("@-:+!|"))
    return bool(words) and _program(words[0]) == "kill" and _GENTLE_STOP.fullmatch(" ".join(words[1:])) is not None


def ends_others(command: str) -> bool:
    """Whether it ends processes by their name: those of all instances."""
    return _BY_NAME.search(command) is not None


_BY_NAME: Final = re.compile(r"\b(?:pkill|killall)\b")


class _Shell:
    """`sh -c SCRIPT NAME ARGUMENTS`."""

    def __init__(self, program: str, script: str, arguments: list[str]) -> None:
        self.program = program
        self.script = script
        self.arguments = arguments

    @classmethod
    def of(cls, words: list[str]) -> _Shell | None:
        """None: no shell, or one that runs a file, which may do anything."""
        at = next((i for i, word in enumerate(words) if _program(word) in _SHELLS), None)
        if at is None:
            return None
        rest = iter(words[at + 1 :])
        runs_script = False
        for word in rest:
            if re.fullmatch(r"[-+][a-zA-Z]*[oO]", word):
                next(rest, None)  # the option's name
            elif not runs_script and not word.startswith("-"):
                return None
            elif not word.startswith("-"):
                return cls(_program(words[at]), word, list(rest))
            runs_script = runs_script or re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", word) is not None
        return None

    @property
    def passes_arguments(self) -> bool:
        """Whether Sidekiq gets its settings, each as a word.

        systemd splits $SIDEKIQ_ARGS where it is a word; the first one after the script is only its name, $0. It puts
        ${SIDEKIQ_ARGS} into the script as it is. A shell splits what stands without quotes.
        """
        script = _without_comments(self.script)
        if re.search(r"\bSIDEKIQ_ARGS=", script):
            return False
        if _ARGUMENTS_VARIABLE in self.arguments:
            given = self.arguments.index(_ARGUMENTS_VARIABLE) == 1
            if given and _ALL_ARGUMENTS.search(script):
                return self.program != "fish"
        named = list(_SETTINGS.finditer(script))
        quoted = any(_quote_at(script, found.start()) for found in named)
        return self.program in _SPLITTING_SHELLS and bool(named) and not quoted


def _quote_at(script: str, place: int) -> str:
    """The quote that is open there; "": none is."""
    quote, escaped = "", False
    for letter in script[:place]:
        if escaped:
            escaped = False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
    return quote


def _without_comments(script: str) -> str:
    """A # begins one where a word begins, outside of quotes."""
    lines = []
    for line in script.split("\n"):
        begins = (m.start() for m in re.finditer(r"(?<!\S)#", line))
        lines.append(line[: next((at for at in begins if not _quote_at(line, at)), len(line))])
    return "\n".join(lines)


def _execs(script: str) -> bool:
    """Whether the shell becomes Sidekiq: the last exec is of a command that takes our arguments, and in no pipe."""
    *before, rest = _EXEC.split(_without_comments(script))
    command = re.split(r"[;\n]|&&|\|\|", rest)[0]
    piped = re.search(r"[|&]", re.sub(r"[0-9]*>&[0-9-]+|&>", "", command))
    return bool(before) and piped is None and re.search(r"\$[@*]|\{@\}|SIDEKIQ_ARGS", command) is not None


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an odd quote
        return command.split()


def _program(word: str) -> str:
    return word.rpartition("/")[2]


def _before_sidekiq(words: list[str]) -> list[str]:
    return words[: next((i for i, w in enumerate(words) if _program(w) in {"sidekiq", "bundle"}), len(words))]


def _after_sidekiq(words: list[str]) -> list[str]:
    at = next((i for i, word in enumerate(words) if _program(word) == "sidekiq"), len(words))
    return words[at + 1 :]


def _without_shorter_timeout(words: list[str]) -> list[str]:
    """Without `-t 10`: less than ours fits into the time that the unit gives."""
    return _TIMEOUT.sub(lambda t: "" if int(t[1]) <= SHUTDOWN_SECONDS else t[0], " ".join(words)).split()
