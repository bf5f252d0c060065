"""Once faults stop, one scheduler runs, one host leads, and what fits is used: from every state, within some rounds."""

from __future__ import annotations

from tests.support.fleet_search.faults import Faults, relevant, thawed
from tests.support.fleet_search.hosts import passes
from tests.support.fleet_search.ledgers import Broken, Ledgers, host_name
from tests.support.fleet_search.scale import CLAIM, LIMIT, steps_counted
from tests.support.fleet_search.world import SCHEDULER, Phase, Place, Setting, World

ROUNDS_MAX = 40


class Calm:
    """The world without faults, in which each host does the first useful thing in turn."""

    def __init__(self, setting: Setting, ledgers: Ledgers, faults: Faults) -> None:
        self.setting = setting
        self.ledgers = ledgers
        self.faults = faults
        self.rounds: dict[World, int] = {}
        self.longest = 0
        self.told: tuple[str, ...] = ()

    def check(self, world: World) -> None:
        """Raise Broken if calm does not follow from this state."""
        lines: list[str] = ["(no more faults)"]
        try:
            self.follow(self.healed(world), lines)
        except Broken:
            self.told = tuple(lines[:40])
            raise

    def follow(self, world: World, lines: list[str]) -> None:
        """Go on until calm, or to a state from which it is known to follow."""
        path: list[World] = []
        known = self.rounds
        while world not in known:
            path.append(world)
            if self.is_calm(world):
                after = self.round(world, lines)
                if not self.is_calm(after):
                    raise Broken("calm does not last")
                known[world] = 0
                break
            if len(path) > ROUNDS_MAX:
                raise Broken(f"no calm after {ROUNDS_MAX} rounds: {self.lacks(world)}")
            world = self.round(world, lines)
        count = known[world]
        for world in reversed(path):
            if world not in known:
                count += 1
                known[world] = count
        if count > self.longest:
            self.longest = count

    def healed(self, world: World) -> World:
        """The world in which everything that ends by itself has ended, but for machines that died for good."""
        hosts = []
        for host in world.hosts:
            awake = thawed(host, True) if host.frozen else host
            hosts.append(awake._replace(cut=False, lingering=0, used=0))
        world = world._replace(hosts=tuple(hosts), behind=None, left=0)
        if world.late is not None:
            world = self.faults.arrives(world)[2]
        return relevant(world._replace(used=0))

    def round(self, world: World, lines: list[str]) -> World:
        """One step of time: every host carries its tick to its end."""
        for number in range(len(world.hosts)):
            for _ in range(6):
                steps = list(self.faults.hosts.steps(world, number))
                if not steps:
                    break
                own = world.hosts[number]
                _, text, world = steps[1] if own.phase == Phase.MAY_ASK and len(steps) > 1 else steps[0]
                lines.append(f"{host_name(number)}: {text}")
        later = passes(world, steps_counted())
        assert later is not None, "a tick did not come to its end"
        lines.append("10 s pass")
        return later

    def is_calm(self, world: World) -> bool:
        """Whether everything is as it should be."""
        return not self.lacks(world)

    def lacks(self, world: World) -> str:
        """What is not as it should be; "": nothing."""
        state, setting = self.ledgers.states[world.ledger], self.setting
        if not any(host.up for host in world.hosts):
            return ""
        if state is None or state.gathering_ms is not None:
            return "the truth is still gathered"
        if state.run_id != str(world.run) or any(h.generation != state.generation for h in world.hosts if h.up):
            return "the truth will be gathered"
        if any(h.up and (h.away or h.phase == Phase.MAY_START) for h in world.hosts):
            return "a host has not been seen since, or starts something"
        if setting.fit and not any(h.up and state.lease.host == host_name(n) for n, h in enumerate(world.hosts)):
            return "nobody leads"
        if setting.schedules:
            wanted = Place.HERE if Place.ELSEWHERE in setting.places else None
            may = [h for n, h in enumerate(world.hosts) if h.up and wanted in (None, setting.places[n])]
            runs = [n for n, h in enumerate(world.hosts) if h.ages[SCHEDULER] >= 0]
            pinned = any(h.up and h.pinned for h in world.hosts)
            if len(runs) > 1 or (may and not pinned and len(runs) != 1):
                return f"{len(runs)} schedulers run"
            if runs and state.slot.holder != host_name(runs[0]):
                return "another host has the slot"
        if setting.standing:
            processes = sum(age >= 0 for host in world.hosts for age in host.ages[:3])
            wanted_ones = sum(setting.more + setting.standing[n] for n, h in enumerate(world.hosts) if h.up)
            if processes < min(wanted_ones, LIMIT // CLAIM):
                return f"{processes} instances run"
        return ""
