"""The laws, checked after every tick: by the simulator for every policy, by the tests' storms for fleetd.

Each world fills in a `Truth`: what is true, whatever the policy believes. A law is a function that yields a sentence
for each thing that breaks it. Every policy is bound by: one scheduler (1), claims within the budget and no drain below
min (2), no order on what can't be read (3), no job lost (4). fleetd alone promises more: of two schedulers one ends
(1), no growth on a guess (3), and a bounded number of orders (7).

Over several hosts claims and schedulers are those of all of them, whatever the ledger takes for true. A start up to
`min` is held to no budget there: it is set aside for its host, and needs nobody's leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from fleetd.core.instances.drain import DRAIN_ORDERS_MAX
from fleetd.core.model.decision import Step
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.simulate.world.fleet import UnitState
from fleetd.simulate.world.machine import Machine
from fleetd.simulate.world.world import World

#: Two schedulers that see each other run for so many ticks at most.
BESIDE_TICKS_MAX = 2
#: A host that was silent for so long may be forgotten, but for what it has open.
FORGOTTEN_SECONDS = 280


class Stop(Value, frozen=True, kw_only=True):
    """The stop of a process that serves. One that still boots has no job to lose and is not listed."""

    key: InstanceKey
    draining_seconds: float  # since its drain was ordered
    idle_since_quiet: bool  # a heartbeat that was sent after the quiet says so
    unresponsive: bool = False  # silent for so long that no drain is needed


class Truth(Value, frozen=True, kw_only=True):
    """What is true right after a tick. Instances are counted by profile; quiet ones do not count."""

    policy: Policy
    orders: tuple[Step, ...]  # given to systemd in this tick
    capacity_before: Mapping[str, int]  # instances that served or booted before the tick
    capacity: Mapping[str, int]
    ordered_instances: Mapping[str, int] = {}  # by people
    booting: int  # instances, of all profiles
    schedulers_elsewhere: int
    beside_ticks: int = 0  # for which each scheduler that runs, one of them here, has seen another one
    needs_leave: bool = True  # whether one of the starts is more than what is set aside for this host's `min`
    systemd_known: bool
    sidekiq_known: bool
    headroom_known: bool  # whether anybody could know how many connections are left
    claims_connections: int  # what all known processes may open
    budget_connections: int | None  # what these may add up to; None: nobody could know it
    database_refuses: bool = False  # it takes no more clients, whatever its limit
    pushes_back: bool  # whether Redis takes the jobs that a stopping process pushes back
    stops: tuple[Stop, ...]
    lost_jobs: int  # by stops, since the last tick

    def starts(self) -> Counter[str]:
        """Starts by profile, without the scheduler's."""
        return Counter(s.profile for s in self.orders if s.verb == "start" and s.profile is not None)


Law = Callable[[Truth], Iterator[str]]


def one_scheduler(truth: Truth) -> Iterator[str]:
    """Law 1: no scheduler is started beside a live one."""
    if truth.schedulers_elsewhere and any(s.verb == "start" and s.key == SCHEDULER for s in truth.orders):
        yield "started a scheduler beside a live one"


def of_two_one_ends(truth: Truth) -> Iterator[str]:
    """Law 1: of two schedulers, such as after a host came back, one ends soon. Told once."""
    if truth.beside_ticks == BESIDE_TICKS_MAX + 1:
        yield f"two schedulers have run beside each other for more than {BESIDE_TICKS_MAX} ticks"


def within_budget(truth: Truth) -> Iterator[str]:
    """Law 2: after a start, all claims fit the budget of that moment."""
    if not (truth.needs_leave and any(step.verb == "start" for step in truth.orders)):
        return
    if truth.database_refuses:
        yield "started while the database refuses clients"
    if truth.budget_connections is not None and truth.claims_connections > truth.budget_connections:
        yield f"started with claims {truth.claims_connections - truth.budget_connections} above the budget"


def min_is_kept(truth: Truth) -> Iterator[str]:
    """Law 2: drains stop at min, however small the budget is."""
    quieted = {step.profile for step in truth.orders if step.verb == "quiet"}
    for profile in truth.policy.profiles:
        if profile.name in quieted and truth.capacity[profile.name] < profile.min_instances:
            yield f"{profile.name} was brought below min"


def unknown_holds(truth: Truth) -> Iterator[str]:
    """Law 3: no order while systemd is unknown, and no quiet or stop while Sidekiq is."""
    if truth.orders and not truth.systemd_known:
        yield "an order while systemd can't be read"
    if not truth.sidekiq_known and any(step.verb != "start" for step in truth.orders):
        yield "something was stopped while latency is unknown"


def no_growth_on_a_guess(truth: Truth) -> Iterator[str]:
    """Law 3: while a reading is unknown, a profile grows up to its min at most, or to what a person ordered."""
    if truth.sidekiq_known and truth.headroom_known:
        return
    started = truth.starts()
    for profile in truth.policy.profiles:
        most = max(profile.min_instances, truth.ordered_instances.get(profile.name, 0))
        if started[profile.name] and truth.capacity_before[profile.name] + started[profile.name] > most:
            yield f"{profile.name} grew above min while a reading is unknown"


def no_job_lost(truth: Truth) -> Iterator[str]:
    """Law 4: a process is stopped once it is idle, or past its deadline if its jobs can be pushed back."""
    if truth.lost_jobs:
        yield f"{truth.lost_jobs} jobs lost by a stop"
    for stop in truth.stops:
        late = stop.draining_seconds > truth.policy.pace.drain_seconds_max
        if not stop.unresponsive and stop.idle_since_quiet:
            continue
        if not (stop.unresponsive or late):
            yield f"@{stop.key} was stopped before it was quiet and idle, and before its deadline"
        elif not truth.pushes_back:
            yield f"@{stop.key} was stopped while Redis could not take its jobs back"


def bounded(truth: Truth) -> Iterator[str]:
    """Law 7: a tick gives no more orders than its pace allows, and one more if the scheduler may run here."""
    pace = truth.policy.pace
    most = DRAIN_ORDERS_MAX + pace.starts_per_tick + pace.drains_per_tick
    most += truth.policy.scheduler.place != "elsewhere"
    if len(truth.orders) > most:
        yield f"{len(truth.orders)} orders at one tick"
    if truth.starts() and truth.booting > pace.booting_max + 1:
        yield f"{truth.booting} instances boot at once"


#: By the law's number in README.md.
LAWS_FOR_ALL: tuple[tuple[int, Law], ...] = (
    (1, one_scheduler),
    (2, within_budget),
    (2, min_is_kept),
    (3, unknown_holds),
    (4, no_job_lost),
)
LAWS_FOR_FLEETD: tuple[tuple[int, Law], ...] = (
    *LAWS_FOR_ALL,
    (1, of_two_one_ends),
    (3, no_growth_on_a_guess),
    (7, bounded),
)


class LawWatch:
    """Checks one policy in the simulated world. Call `begin_tick` before each host's tick and `end_tick` after it."""

    BREAKS_KEPT_MAX = 20

    def __init__(self, world: World, laws: tuple[tuple[int, Law], ...]) -> None:
        self.world = world
        self.laws = laws
        self.breaks: list[str] = []  # the first ones, with seed and second
        self.breaks_total = 0
        self._lost_jobs = dict.fromkeys(world.machines, 0)
        self._beside = Counter[Machine]()  # ticks beside another scheduler
        self.begin_tick()

    def begin_tick(self, machine: Machine | None = None) -> None:
        """`machine`: whose tick it is; None: the only one's."""
        self._machine = machine or self.world.machine
        self._orders_total = len(self._machine.orders)
        self._capacity = {group.profile.name: group.capacity for group in self._machine.groups}

    def end_tick(self) -> None:
        world, machine = self.world, self._machine
        lost_jobs = machine.lost_by_stops_jobs - self._lost_jobs[machine]
        beside_ticks = self._beside_ticks(machine)
        if len(machine.orders) == self._orders_total and not lost_jobs and not beside_ticks:
            return  # nothing was ordered, so nothing can be broken
        self._lost_jobs[machine] += lost_jobs
        truth = self._truth(lost_jobs, beside_ticks)
        host = f"{machine.name}: " if world.trace.hosts else ""
        for number, law in self.laws:
            for sentence in law(truth):
                self.breaks_total += 1
                if len(self.breaks) < self.BREAKS_KEPT_MAX:
                    where = f"{world.trace.name} seed {world.trace.seed} at {world.now} s"
                    self.breaks.append(f"law {number}, {where}: {host}{sentence}")

    def _beside_ticks(self, machine: Machine) -> int:
        """For how many ticks each scheduler that runs has had another one beside it.

        0: there are no two, or this host has seen it for longer than another one, whose tick will tell.
        """
        running = [m for m in self.world.machines if m.schedules]
        readable = all(self.world.reaches(machine, source) for source in ("redis", "systemd"))
        if len(running) < 2 or machine not in running:
            del self._beside[machine]
            return 0
        self._beside[machine] = self._beside[machine] + 1 if readable else 0
        least = min(self._beside[m] for m in running)
        return least if self._beside[machine] == least else 0

    def _truth(self, lost_jobs: int, beside_ticks: int) -> Truth:
        world, machine = self.world, self._machine
        orders = tuple(step for _, step in machine.orders[self._orders_total :])
        instances = machine.instances
        stopped = [instances[s.key] for s in orders if s.verb == "stop" and s.key != SCHEDULER]
        return Truth(
            policy=machine.policy,
            orders=orders,
            capacity_before=self._capacity,
            capacity={group.profile.name: group.capacity for group in machine.groups},
            booting=sum(i.state is UnitState.ACTIVATING for group in machine.groups for i in group.present),
            schedulers_elsewhere=self._schedulers_elsewhere(),
            beside_ticks=beside_ticks,
            needs_leave=not world.trace.hosts or self._grew_above_min(orders),
            systemd_known=world.reaches(machine, "systemd"),
            sidekiq_known=world.reaches(machine, "redis"),
            headroom_known=world.reaches(machine, "postgres"),
            claims_connections=self._claims_connections(),
            budget_connections=world.budget_connections(),
            pushes_back=world.reaches(machine, "redis"),
            stops=tuple(
                Stop(
                    key=i.key,
                    draining_seconds=float(world.now - (world.now if i.quieted_at is None else i.quieted_at)),
                    idle_since_quiet=i.idle_since_quiet,
                )
                for i in stopped
                if i.beat_at is not None  # else it still booted
            ),
            lost_jobs=lost_jobs,
        )

    def _schedulers_elsewhere(self) -> int:
        """One that is frozen or cut off enqueues nothing, so another one beside it is no second."""
        if not self.world.trace.hosts:
            return 1  # without hosts the scheduler always runs elsewhere
        others = [m for m in self.world.machines if m is not self._machine]
        return sum(m.scheduler is not None and not m.is_away for m in others)

    def _grew_above_min(self, orders: tuple[Step, ...]) -> bool:
        started = Counter(step.profile for step in orders if step.verb == "start")
        return started[None] > 0 or any(
            started[p.name] and self._capacity[p.name] + started[p.name] > p.min_instances
            for p in self._machine.policy.profiles
        )

    def _claims_connections(self) -> int:
        """What all processes may open. Nobody can know of one that has none open on a host that is silent for long."""
        world = self.world
        unknown = sum(
            i.group.profile.claim_connections
            for m in world.machines
            if m.is_away and m.away_seconds(world.now) >= FORGOTTEN_SECONDS
            for i in m.present
            if not i.open_connections
        )
        return world.claims_connections() - unknown
