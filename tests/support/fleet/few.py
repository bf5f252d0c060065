"""Two hosts that share one fleet, and what is asked of them."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import Policy, SchedulerPolicy
from tests.support.fleet.several import Fleet
from tests.support.world.ports import BY_HAND, policy, strict

ALICE = Person(user="root", login="alice")


def host(name: str, *, low: int = 1, high: int = 4, place: str = "auto") -> Policy:
    scheduler = SchedulerPolicy(place=place, takeover_seconds=300.0, threads=5, db_pool=7)  # type: ignore[arg-type]
    rules = policy(strict(numbers="1-4", low=low, high=high), scheduler=scheduler, pace=BY_HAND)
    return structs.replace(rules, host=name)


def two(seconds: float = 400.0, **options: object) -> Fleet:
    """w1 and w2, with their instances up and one scheduler."""
    fleet = Fleet(host("w1", **options), host("w2", **options))  # type: ignore[arg-type]
    fleet.run(seconds)
    return fleet


def replacing(fleet: Fleet) -> list[str]:
    """Hosts on which an instance drains or boots."""
    found = []
    for name, world in fleet.worlds.items():
        units = [unit for key, unit in world.units.items() if key]
        quiet = any(u.state == "active" and u.process is not None and u.process.quiet for u in units)
        if quiet or any(u.state in ("activating", "deactivating") for u in units):
            found.append(name)
    return found


def power_off(fleet: Fleet, name: str) -> None:
    """Nothing of this host runs any more; its heartbeats expire."""
    fleet.worlds[name].reboot()
    fleet.rigs[name].on = False
