"""What is wrong with a fleet, by what others than fleetd see: no ✔ may stand beside it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.lab.probes.claims import Beside
from tests.support.lab.probes.look import SCHEDULER, TARGET_SECONDS, Seen, numbers_of

#: A job that is this much over its target is late for everybody.
_LATE_SECONDS = 5.0


def wrong(seen: Seen, beside: Beside) -> Iterator[str]:
    """As parts of sentences."""
    if seen.redis is None:
        yield "Redis does not answer"
    else:
        yield from _queues(seen, beside)
        if len(seen.schedulers()) != 1:
            yield f"{len(seen.schedulers())} schedulers beat"
    if seen.postgres is None:
        yield "Postgres does not answer"
    elif seen.postgres.clients >= seen.postgres.limit:
        yield f"Postgres is full: {seen.postgres.clients} of {seen.postgres.limit}"
    yield from _units(seen, beside)
    if beside.refused:
        yield "the configuration on disk is refused"
    if beside.killed:
        yield f"{beside.killed} workers were killed in the last hour"
    if beside.holds:
        yield f"fleetd is held: {', '.join(beside.holds)}"


def _queues(seen: Seen, beside: Beside) -> Iterator[str]:
    ages = seen.redis.ages_seconds if seen.redis is not None else {}
    targets = {**TARGET_SECONDS, **beside.config.get("targets", {})}
    for queue, age in ages.items():
        if queue in targets and age > targets[queue] + _LATE_SECONDS:
            yield f"{queue} waits for {age:.0f} s"


def _units(seen: Seen, beside: Beside) -> Iterator[str]:
    owned = {n for profile in beside.config["profiles"].values() for n in numbers_of(profile)}
    for number, unit in seen.workers().items():
        if number not in owned and unit.is_up:
            yield f"@{number} runs and belongs to no profile"
        elif number in owned and unit.active == "failed":
            yield f"@{number} has failed"
        elif number in owned and unit.load == "masked" and unit.is_up:
            yield f"@{number} is masked"
    if seen.units[SCHEDULER].active == "failed":
        yield "the scheduler's unit has failed"
    for name, profile in beside.config["profiles"].items():
        serving = sum(seen.serves(seen.workers()[n]) for n in numbers_of(profile) if n in seen.workers())
        if seen.redis is not None and serving < min(profile["min"], beside.sets.get(name, profile["min"])):
            yield f"{name} has {serving} of min {profile['min']}"
