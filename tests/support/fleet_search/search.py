"""Every state that can be reached, the shortest history to one that breaks, and whether calm follows from each."""

from __future__ import annotations

from collections import deque
from itertools import permutations

from msgspec import Struct

from tests.support.fleet_search.calm import Calm
from tests.support.fleet_search.faults import Faults, relevant
from tests.support.fleet_search.ledgers import BeatCall, Broken, Ledgers, host_name
from tests.support.fleet_search.world import Host, Setting, World, first_world

Order = tuple[int, ...]
#: Rounds until hosts that begin together have gathered.
JOINED = 4


class Found(Struct, frozen=True, kw_only=True):
    """What a search found."""

    states: int
    steps: int
    broken: str = ""  # what does not hold; "": all holds
    history: tuple[str, ...] = ()
    whole: bool = True  # False: it was ended before every state was visited
    rounds: int = 0  # the most rounds until calm

    def told(self) -> str:
        """The finding, to be read."""
        if not self.broken:
            return f"{self.states} states, {self.steps} steps, calm within {self.rounds} rounds"
        lines = [f"{n:3}  {line}" for n, line in enumerate(self.history, 1)]
        return "\n".join([f"{self.broken} (after {self.states} states)", *lines])


class Search:
    """A breadth-first search in one setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.ledgers = Ledgers(setting)
        self.faults = Faults(setting, self.ledgers)
        self.calm = Calm(setting, self.ledgers, self.faults)
        size = setting.size
        alike = [(setting.places[h], setting.standing and setting.standing[h]) for h in range(size)]
        self.orders = [o for o in permutations(range(size)) if all(alike[o[h]] == alike[h] for h in range(size))]
        self.same: Order = tuple(range(size))
        self.came_from: dict[World, tuple[World | None, Order, int, str]] = {}
        self.kept: dict[Host, Host] = {}

    def run(self, states_max: int = 10_000_000) -> Found:
        """Visit every state."""
        world = first_world(self.setting)
        for _ in range(JOINED if self.setting.joined else 0):
            world = self.calm.round(world, [])
        first, order = self.folded(world)
        self.came_from[first] = (None, order, -1, "")
        waiting, steps = deque([first]), 0
        while waiting:
            world = waiting.popleft()
            count = 0
            try:
                for number, text, after in self.faults.steps(world):
                    count += 1
                    state, order = self.folded(after)
                    if state not in self.came_from:
                        self.came_from[state] = (world, order, number, text)
                        waiting.append(state)
            except Broken as broken:
                return self.broken(world, f"{broken}", count, steps)
            try:
                self.calm.check(world)
            except Broken as broken:
                return self.found(steps, f"{broken}", (*self.history(world), *self.calm.told))
            steps += count
            if len(self.came_from) > states_max:
                return Found(states=len(self.came_from), steps=steps, whole=False, rounds=self.calm.longest)
        return Found(states=len(self.came_from), steps=steps, rounds=self.calm.longest)

    def found(self, steps: int, broken: str, history: tuple[str, ...]) -> Found:
        """What broke, and how."""
        return Found(states=len(self.came_from), steps=steps, broken=broken, history=history)

    def broken(self, world: World, text: str, count: int, steps: int) -> Found:
        """What broke in the step after `count` others."""
        return self.found(steps, text, (*self.history(world), "then: " + text))

    def history(self, world: World) -> tuple[str, ...]:
        """The steps to a state, with each host under one name from the first to the last."""
        path: list[tuple[Order, int, str]] = []
        state: World | None = world
        while state is not None:
            before, order, number, text = self.came_from[state]
            path.append((order, number, text))
            state = before
        names, lines = self.same, []
        for order, number, text in reversed(path):
            if text:
                lines.append(f"{host_name(names[number])}: {text}" if number >= 0 else text)
            names = tuple(names[old] for old in order)
        return tuple(lines)

    def folded(self, world: World) -> tuple[World, Order]:
        """The state under which this one and its mirror images are kept."""
        world = relevant(world)
        hosts = tuple(self.kept.setdefault(host, host) for host in world.hosts)
        world = world._replace(hosts=hosts)
        if len(self.orders) == 1:
            return world, self.same
        images = [(self.image(world, order), order) for order in self.orders]
        return min(images, key=sort_key)

    def image(self, world: World, order: Order) -> World:
        """The world with host number `order[i]` in the place of `i`."""
        if order == self.same:
            return world
        place = {old: new for new, old in enumerate(order)}

        def mask(of: int) -> int:
            return of if of <= 0 else sum(1 << place[h] for h in range(len(order)) if of >> h & 1)

        hosts = tuple(
            world.hosts[old]._replace(members=mask(world.hosts[old].members), unseen=mask(world.hosts[old].unseen))
            for old in order
        )
        behind = world.behind
        if behind is not None:
            behind = (self.ledgers.swapped(behind[0], order), behind[1], tuple(behind[2][o] for o in order), behind[3])
        late = world.late
        if late is not None and late[0] == "beat":
            call = BeatCall(*late[1])
            ended = sum((call.ended >> 5 * old & 31) << 5 * new for new, old in enumerate(order))
            call = call._replace(
                host=place[call.host], members=mask(call.members), schedulers=mask(call.schedulers), ended=ended
            )
            late = ("beat", tuple(call))
        elif late is not None:
            values = late[1]
            seen = values[6:]
            late = (
                "admit",
                (place[values[0]], *values[1:6], *(seen[4 * o + p] for o in order for p in range(4) if seen)),
            )
        return world._replace(
            hosts=tuple(self.kept.setdefault(host, host) for host in hosts),
            beats=tuple(world.beats[old] for old in order),
            ledger=self.ledgers.swapped(world.ledger, order),
            behind=behind,
            late=late,
        )


def sort_key(image: tuple[World, Order]) -> tuple[object, ...]:
    """An order of states, so that of mirror images always the same one is kept."""
    world = image[0]
    return (world.hosts, world.beats, world.ledger, world.behind or (), world.late or (), world.lateness)
