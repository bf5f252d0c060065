"""Law 1 at the resource: what keeps a scheduler's unit from starting, whoever starts it.

Only what is positively seen does: another host's scheduler that beats, or another host that holds the slot and beats.
What is unknown refuses nothing here, because this is asked at a boot and by a person too, when nobody would ask again.

A heartbeat is written with an expiry of 60 s. What is left of it is its age by Redis's own clock, whatever the clock of
the host that wrote it says. One without an expiry, as in a restored dump, is of no live process.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleetd.core.model.facts import ProcessFacts, Value
from fleetd.core.model.identity import parse_tag
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE

#: Sidekiq's heartbeats expire after this (its Launcher), and a host that is silent for longer is no rival.
BEATS_SECONDS = 60.0


class Sighting(Value, frozen=True, kw_only=True):
    """A heartbeat in Redis. `expires_seconds`: None: it never does."""

    process: ProcessFacts
    expires_seconds: float | None

    @property
    def beat_age_seconds(self) -> float | None:
        """Since its last beat, by Redis's clock; None: it is of no live process."""
        left = self.expires_seconds
        if left is None or left <= 0.0:
            return None
        if left <= BEATS_SECONDS:
            return BEATS_SECONDS - left
        # Redis's clock was set back, or this is no Sidekiq that we know: only the beat itself is left.
        age = self.process.beat_age_seconds
        return age if 0.0 <= age < BEATS_SECONDS else None


class HeldSlot(Value, frozen=True, kw_only=True):
    """The host that holds the slot in the ledger, and since when it has been silent."""

    host: str
    silent_seconds: float


class Rival(Value, frozen=True, kw_only=True):
    """Who schedules. `process`: None: its heartbeat is not there yet, but it holds the slot."""

    host: str
    seconds: float  # since its last sign of life
    process: ProcessFacts | None = None


def rival_of(own_host: str, sightings: Iterable[Sighting], slot: HeldSlot | None) -> Rival | None:
    """Who else schedules; None: nobody is seen to. `own_host`: as in the tags of this host's workers.

    A heartbeat of this host's own is that of an earlier process of the unit that asks. Of several the youngest counts.
    """
    found = [
        Rival(host=sighting.process.hostname, seconds=age, process=sighting.process)
        for sighting in sightings
        if _is_others(own_host, sighting.process) and (age := sighting.beat_age_seconds) is not None
    ]
    if found:
        return min(found, key=lambda rival: rival.seconds)
    if slot is None or slot.host in ("", own_host) or slot.silent_seconds >= BEATS_SECONDS:
        return None
    return Rival(host=slot.host, seconds=max(0.0, slot.silent_seconds))


def _is_others(own_host: str, process: ProcessFacts) -> bool:
    if SCHEDULER_QUEUE not in process.queues or process.quiet:  # a quiet one schedules nothing any more
        return False
    tag = parse_tag(process.tag)
    return tag is None or tag.host != own_host
