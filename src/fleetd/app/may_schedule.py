"""fleetd-may-schedule: the scheduler's unit asks it before each start, whoever orders that (law 1).

It runs as the workers' user in their directory, with their environment, and so asks the Redis that they use; it reads
nothing that they may not. Only what it positively sees refuses the start (core/fleet/rival.py). Whatever else it finds,
or does not find, lets the unit start: a host that boots while Redis is away must not stay without its scheduler.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fleetd.adapters.host.files import read_file
from fleetd.adapters.ledger.held_slot import beat_question, held_slot, holder_in, slot_question
from fleetd.adapters.mastodon.dotenv import NAMES, read_dotenv
from fleetd.adapters.mastodon.redis_rules import redis_settings
from fleetd.adapters.mastodon.releases import NEWEST, release_of
from fleetd.adapters.redis.brief import BriefRedis, NoAnswerError
from fleetd.adapters.sidekiq.sightings import sightings
from fleetd.config.connections import RedisSettings
from fleetd.core.fleet.rival import HeldSlot, Rival, rival_of
from fleetd.core.model.facts import CodeStamp
from fleetd.core.model.identity import SCHEDULER, WorkerTag, parse_tag, unit_name
from fleetd.core.model.worker_settings import SETTINGS_DIRECTORY
from fleetd.errors import ConfigProblem
from fleetd.words.plain import plain

#: The only status that the unit takes for a no (EX_TEMPFAIL); its line in the unit says so too.
REFUSED: Final = 75
#: For all of it. A name that can't be resolved is given up after the second figure at the latest.
REDIS_SECONDS: Final = 4.0
SECONDS_MAX: Final = 4.5

_FILE_BYTES_MAX = 128 * 1024
_CODE_FILE = Path(SETTINGS_DIRECTORY) / "code.json"
_NOTICE, _WARNING = "<5>", "<4>"


class Answer(NamedTuple):
    """`rival`: None: start. `unknown`: why that could not be asked; "": it could."""

    rival: Rival | None = None
    unknown: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask and exit: 75 another host's scheduler is seen, else 0. It says why in one sentence."""
    what = "Whether Mastodon's scheduler may start here: 75 if another host's is seen, else 0."
    argparse.ArgumentParser(prog="fleetd-may-schedule", description=what).parse_args(arguments)
    answer = in_time(os.environ, Path.cwd())
    if answer.rival is not None:
        _say(_WARNING, refusal(answer.rival))
        sys.exit(REFUSED)
    if answer.unknown:
        _say(_NOTICE, f"{answer.unknown}, so another host's scheduler can't be seen; started all the same.")


def in_time(environment: Mapping[str, str], directory: Path, code_file: Path = _CODE_FILE) -> Answer:
    """The answer, or that there is none by now. Raises nothing."""
    found: list[Answer] = []

    def look() -> None:
        try:
            found.append(answer(environment, directory, code_file))
        except Exception as error:  # whatever it is, it is no other scheduler
            found.append(Answer(unknown=f"fleetd-may-schedule failed ({type(error).__name__})"))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(SECONDS_MAX)
    return found[0] if found else Answer(unknown="Redis did not answer in time")


def answer(environment: Mapping[str, str], directory: Path, code_file: Path) -> Answer:
    """Who else schedules, as the Redis of these workers shows it."""
    own = own_tag(environment.get("SIDEKIQ_ARGS", ""))
    if own is None:
        return Answer(unknown="SIDEKIQ_ARGS has no tag of fleetd's")
    settings = workers_redis(environment, directory, code_file)
    if settings is None:
        return Answer(unknown=f"Which Redis the workers use can't be read in {directory}")
    try:
        return Answer(rival=_ask(settings, own.host))
    except NoAnswerError:
        return Answer(unknown=f"Redis at {settings.endpoint} does not answer")


def own_tag(arguments: str) -> WorkerTag | None:
    """The tag among Sidekiq's arguments; None: there is none of fleetd's."""
    return next((tag for word in arguments.split() if (tag := parse_tag(word)) is not None), None)


def workers_redis(environment: Mapping[str, str], directory: Path, code_file: Path) -> RedisSettings | None:
    """The Redis of a worker with this environment in this directory; None: that can't be read."""
    problems: list[ConfigProblem] = []
    try:
        release = release_of(_version(code_file)) or NEWEST
        files = [(name, text) for name in NAMES if (text := _text(directory / name)) is not None]
    except (OSError, UnicodeDecodeError):
        return None
    return redis_settings(read_dotenv(files, environment, release), problems, release)


def _version(code_file: Path) -> str:
    try:
        return msgspec.json.decode(read_file(code_file, _FILE_BYTES_MAX), type=CodeStamp).version
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return ""


def _text(file: Path) -> str | None:
    try:
        return read_file(file, _FILE_BYTES_MAX).decode()
    except FileNotFoundError:
        return None


def _ask(settings: RedisSettings, own_host: str) -> Rival | None:
    prefix = settings.key_prefix
    with BriefRedis(settings, time.monotonic() + REDIS_SECONDS) as redis:
        now, ledger = redis.ask([("TIME",), slot_question(prefix)])
        now_ms = _milliseconds(now)
        found = sightings(redis.ask, prefix, now_ms / 1000)
        slot: HeldSlot | None = None
        if holder := holder_in(ledger):
            [beat] = redis.ask([beat_question(prefix, holder)])
            slot = held_slot(ledger, beat, now_ms)
    return rival_of(own_host, found, slot)


def _milliseconds(time: object) -> int:
    """Of Redis's TIME. Raises NoAnswerError."""
    try:
        if isinstance(time, list):
            return int(time[0]) * 1000 + int(time[1]) // 1000
    except (TypeError, ValueError, IndexError):
        pass
    raise NoAnswerError("no time")


def refusal(rival: Rival) -> str:
    """Who schedules, and what to do."""
    unit, process = unit_name(SCHEDULER), rival.process
    again = f"Stop that first, wait until it is gone, then: systemctl start {unit}"
    if process is None:
        return (
            f"Not started: host {rival.host} holds the scheduler's slot of this fleet, and said so "
            f"{rival.seconds:.0f} s ago. Two schedulers would enqueue every cron job twice. {again}"
        )
    tag = parse_tag(process.tag)
    what = f"{unit_name(tag.key)}, " if tag is not None else ""
    return (
        f"Not started: the scheduler runs on {rival.host} ({what}process {process.pid}), last heard of "
        f"{rival.seconds:.0f} s ago. Two would enqueue every cron job twice. {again}"
    )


def _say(priority: str, sentence: str) -> None:
    print((priority if "JOURNAL_STREAM" in os.environ else "") + plain(sentence), file=sys.stderr)


if __name__ == "__main__":
    main()
