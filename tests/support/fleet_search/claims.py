"""What is really open, and what of it the ledger can know (law 2)."""

from __future__ import annotations

from tests.support.fleet_search.ledgers import Broken, Ledgers, Told, host_name
from tests.support.fleet_search.scale import BOOT, CLAIM, LIMIT, OPEN
from tests.support.fleet_search.world import SCHEDULER, STANDING, Host, Setting, World, unknown


def seen(world: World) -> tuple[int, ...]:
    """By process, four a host: connections that the database has open."""
    return tuple(
        OPEN if p != SCHEDULER and (age >= BOOT or host.lingering >> p & 1) else 0
        for host in world.hosts
        for p, age in enumerate(host.ages)
    )


def may_open(host: Host, setting: Setting, known_to_ledger: bool) -> int:
    """Connections that this host has or may open; of one that the ledger can't know: those that are open.

    A connection that outlived its process counts with the process that has its name now, not beside it.
    """
    total = 0
    for process, age in enumerate(host.ages):
        claim = CLAIM if process != SCHEDULER else int(setting.scheduler_claims)
        standing = process == STANDING and bool(setting.standing) and bool(setting.standing[0])
        if host.unknown:
            claim = OPEN if age >= BOOT and process != SCHEDULER else 0
        elif age < 0 and not (standing and host.up and known_to_ledger):
            claim = 0
        total += max(claim, OPEN if host.lingering >> process & 1 else 0)
    return total


def check_start(world: World, setting: Setting, ledgers: Ledgers, starter: int, unseen: int) -> None:
    """After a start that was granted, everything that may be open fits, of what could be known when it was granted.

    Where time has passed since, what of an unknown host was open then is not remembered, so nothing of it counts.
    """
    if not setting.standing:
        return
    state = ledgers.states[world.ledger]
    entries = {} if state is None else state.hosts
    parts = []
    for number, host in enumerate(world.hosts):
        entry = entries.get(host_name(number))
        own = Setting(
            places=setting.places[:1], standing=(setting.standing[number],), scheduler_claims=setting.scheduler_claims
        )
        lost = number != starter and (host.unknown or bool(unseen >> number & 1))
        counts = not lost or world.hosts[starter].age == 0
        parts.append(may_open(host._replace(unknown=lost), own, entry is not None and not entry.gone) if counts else 0)
    limit = LIMIT + setting.scheduler_claims
    if sum(parts) > limit:
        raise Broken(f"{host_name(starter)} starts, and {' + '.join(map(str, parts))} may open more than {limit}")


def gathered(world: World, told: Told) -> World:
    """The world with what the ledger can't know since this beat, by the documented assumptions.

    Gathering ended without a host that beat for so long not at all, or that nobody else remembers; or claims went
    of a process that was frozen before it opened its first connection.
    """
    if told.gathered >= 0:
        remembered = 0
        for number, host in enumerate(world.hosts):
            remembered |= host.members & ~(1 << number) if told.listed >> number & 1 else 0
        for number, host in enumerate(world.hosts):
            vain = told.waited >> number & 1 or not remembered >> number & 1
            if not told.gathered >> number & 1 and not host.unknown and vain:
                world = unknown(world, number)
    if told.dropped or told.left:
        for number, host in enumerate(world.hosts):
            mine = 15 if told.left >> number & 1 else told.dropped >> 4 * number & 15
            ages = [age for p, age in enumerate(host.ages) if age >= 0 and mine >> p & 1]
            if ages and (not host.away or max(ages) >= BOOT):
                raise Broken(f"the claims of {host_name(number)} went while its processes run")
            if ages:
                world = unknown(world, number)
    return world
