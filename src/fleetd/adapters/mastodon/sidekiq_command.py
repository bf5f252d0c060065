"""What a unit's command line says of its Sidekiq: threads, queues, and how it is started.

Source: sidekiq 6.4 to 8.1, lib/sidekiq/cli.rb. `-q NAME[,WEIGHT]`; one weight above 0 makes all of them weighted.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping

from fleetd.core.model.bounds import whole
from fleetd.core.model.facts import Value

#: Of Mastodon's config/sidekiq.yml. RAILS_MAX_THREADS counts only where neither -c nor the file says it.
USUAL_THREADS = 5
_OPTIONS = {"--concurrency": "-c", "--queue": "-q", "--config": "-C", "--require": "-r"}
_NOT_DIRECT = {"sh", "bash", "dash", "zsh", "env", "sudo", "su", "runuser", "nice", "taskset", "timeout"}
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)")
_SIDEKIQ = re.compile(r"(?<![\w-])sidekiq(?![\w-])")
_GOES_TO = re.compile(r"\bcd\s+[\"']?(/[^\s\"';&]+)")
_ENDS = ("&&", "||", ";", "|", "&")


class SidekiqCommand(Value, frozen=True, kw_only=True):
    """`queues`: (name, weight), weight 0 where none is given; none at all: those of Mastodon's sidekiq.yml."""

    threads: int
    queues: tuple[tuple[str, int], ...] = ()
    config_file: str = ""  # -C, if that is not Mastodon's own
    starts_with: str = ""  # the words that mastodon.exec would have; "": a shell or another program starts it


def runs_sidekiq(command: str) -> bool:
    """Whether a command line has the word, so not for a unit of that name."""
    return _SIDEKIQ.search(command) is not None


def works_in(command: str, working_directory: str) -> str:
    """Where a unit's command works: where its shell goes, else WorkingDirectory=; "": neither is an absolute path."""
    goes = _GOES_TO.search(command)
    place = goes[1] if goes is not None else working_directory.lstrip("-!~")
    return place.rstrip("/") if place.startswith("/") else ""


def sidekiq_command(path: str, arguments: str, environment: Mapping[str, str]) -> SidekiqCommand | None:
    """From a unit's ExecStart: its program and its words, joined by blanks. None: it runs no Sidekiq."""
    words = [_expanded(word, environment).strip("\"'") for word in arguments.split()]
    words = [part for word in words for part in (word.split() or [word])]  # $X is as many words as it has
    at = next((n for n, word in enumerate(words) if os.path.basename(word) == "sidekiq"), None)  # noqa: PTH119
    if at is None:
        return None
    threads, queues, config, required = None, [], "", ""
    for option, value in _options(words[at + 1 :]):
        if option == "-c":
            threads = whole(value, "threads")
        elif option == "-q":
            name, _, weight = value.partition(",")
            queues.append((name, whole(weight, "threads") or 0))
        elif option == "-C" and not value.endswith("config/sidekiq.yml"):
            config = value
        elif option == "-r":
            required = f" -r {value}"
    if threads is None and config:
        threads = whole(environment.get("RAILS_MAX_THREADS"), "threads")
    direct = os.path.basename(path) not in _NOT_DIRECT  # noqa: PTH119
    return SidekiqCommand(
        threads=threads or USUAL_THREADS,
        queues=tuple(queues),
        config_file=config,
        starts_with=" ".join([path, *words[1 : at + 1]]) + required if direct else "",
    )


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """`-c 5`, `-c5`, `--concurrency 5` and `--concurrency=5`, each as ("-c", "5")."""
    left = iter(words)
    for word in left:
        if word in _ENDS:
            return
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            option = _OPTIONS.get(name)
        else:
            option, equals, value = word[:2], word[2:], word[2:]
            option = option if option in _OPTIONS.values() else None
        if option is not None:
            yield option, (value if equals else next(left, "")).strip("\"';")


def _expanded(word: str, environment: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: environment.get(match[1] or match[2], ""), word)
