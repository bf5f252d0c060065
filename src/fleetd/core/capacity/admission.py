"""From the counts wanted to the counts granted: database connections, memory, who is more important.

Law 2: a count never rises above what the budget known at this moment affords, not even to `min`; when the budget is
below the claims, the counts fall at once, the least important profile first, down to `min`. Law 3: with the headroom
unknown nothing grows above `min`; with the latency unknown nothing stops, for the budget's sake neither, because a
drain could not be watched. Law 8: what is refused is refused with a code and a sentence.

When not everyone can have what they want, queues in order of importance win, slowly. A profile starves while a queue it
is there for waits longer than its target and connections or memory refuse it one more. After a minute of that the least
important profile that has more than its min gives one instance up, and one more every two minutes. Meanwhile none that
is less important grows, or what was freed would go back and forth.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.capacity.budget import NAMES, ConnectionBudget, SourceBudget, memory_room_bytes
from fleetd.core.capacity.claims import Claims
from fleetd.core.capacity.saturation import Saturation
from fleetd.core.demand.desired import running
from fleetd.core.demand.needed import Demand, home
from fleetd.core.instances.constraints import HostConstraints
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.decision import ClampCode, Clamps, InstanceState
from fleetd.core.model.facts import Known, Snapshot, Value
from fleetd.core.model.policy import Policy, Profile


class Admitted(Value, frozen=True, kw_only=True):
    """Counts, the profile that gets a spare for start-before-stop ("": none), and who starved."""

    counts: dict[str, int]
    spare: str
    scarcity: ScarcityMemory
    stepped_back: bool = False  # one was let go because the database is the bottleneck


def admit(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    wanted: dict[str, int],
    demanded: Demand | None,
    means: Limits,
    scarcity: ScarcityMemory,
    clamps: Clamps,
) -> Admitted:
    """One instance at a time, first every profile's min, then by importance, while there is room; the spare last."""
    terms, saturation = means.terms, means.saturation
    current = running(policy, instances, terms)
    granted = {name: min(current[name], goal) for name, goal in wanted.items()}
    room = Room(policy, snapshot, instances, means)
    back = policy.profile(terms.due)  # first of all what was there a moment ago
    if back is not None and granted[back.name] < wanted[back.name]:
        granted[back.name] += room.take_back(back, granted[back.name])
    starving = _grow(policy, wanted, current, granted, demanded, room, terms, clamps)
    scarcity = remember_starving(scarcity, starving, snapshot.now_seconds)
    watched = isinstance(snapshot.sidekiq, Known)  # a drain that can't be watched is not begun
    stepped_back = False
    if watched:
        _give_way(policy, means, instances, current, granted, clamps)
    if watched and terms.held is None:
        if terms.shed:
            sentence = f"{terms.shed}, and that for a minute and more: the least important goes"
            _let_one_go(policy, granted, current, ClampCode.HOST_PRESSURE, sentence, clamps)
        if saturation.step_back:
            sentence = f"{saturation.sentence}: the least important goes"
            code = ClampCode.DATABASE_SATURATED
            stepped_back = _let_one_go(policy, granted, current, code, sentence, clamps)
        if may_yield(scarcity, snapshot.now_seconds):
            scarcity = _yield_one(policy, snapshot.now_seconds, scarcity, granted, current, terms, clamps)
    spare = policy.profile(terms.spare_for)
    if spare is None or terms.held is not None or granted[spare.name] != current[spare.name]:
        carried = False
    else:
        carried = room.carries_spare(spare, clamps)
    name = spare.name if carried and spare is not None else ""
    return Admitted(counts=granted, spare=name, scarcity=scarcity, stepped_back=stepped_back)


def _grow(
    policy: Policy,
    wanted: dict[str, int],
    current: dict[str, int],
    granted: dict[str, int],
    demanded: Demand | None,
    room: Room,
    terms: HostConstraints,
    clamps: Clamps,
) -> str:
    """Every profile's min, then the rest by importance; the most important that starves ("": none)."""
    starving: Profile | None = None
    for floor in (True, False):
        for profile in policy.profiles:
            name = profile.name
            goal = min(wanted[name], profile.min_instances) if floor else wanted[name]
            while granted[name] < goal:
                if starving is not None and not floor and granted[name] >= current[name]:
                    sentence = (
                        f"what room there is is kept for {starving.name}, which is more important and late"
                    )
                    clamps.say(ClampCode.YIELD, sentence, name, wanted=wanted[name], granted=granted[name])
                    break
                refused = room.take(profile, granted[name], wanted[name], clamps)
                if refused is None:
                    granted[name] += 1
                    continue
                hungry = not floor and starving is None and refused in SCARCE
                if hungry and waits_too_long(policy, profile, demanded):
                    others = yielding(policy, profile, granted, current, frozenset(terms.sets))
                    starving = profile if _could_help(profile, others, granted, room) else None
                break
    return starving.name if starving is not None else ""


def _could_help(profile: Profile, others: list[Profile], granted: dict[str, int], room: Room) -> bool:
    """Whether all that less important ones could give back would carry one more of this."""
    connections = room.connections
    if connections is None:
        return bool(others)
    given = sum((granted[p.name] - p.min_instances) * p.claim_connections for p in others)
    return bool(others) and connections + given >= profile.claim_connections


def _yield_one(
    policy: Policy,
    now_seconds: float,
    scarcity: ScarcityMemory,
    granted: dict[str, int],
    current: dict[str, int],
    terms: HostConstraints,
    clamps: Clamps,
) -> ScarcityMemory:
    starving = policy.profile(scarcity.profile)
    if starving is None or any(granted[name] < current[name] for name in granted):
        return scarcity  # one is on its way already
    for profile in yielding(policy, starving, granted, current, frozenset(terms.sets)):
        before = granted[profile.name]
        sentence = f"{starving.name} is more important and late: one of {profile.name} gives way to it"
        clamps.say(ClampCode.YIELD, sentence, profile.name, wanted=before, granted=before - 1)
        granted[profile.name] = before - 1
        return structs.replace(scarcity, yielded_seconds=now_seconds)
    return scarcity


def _let_one_go(
    policy: Policy,
    granted: dict[str, int],
    current: dict[str, int],
    code: ClampCode,
    sentence: str,
    clamps: Clamps,
) -> bool:
    """The least important instance goes, where none is going already."""
    if any(granted[name] < current[name] for name in granted):
        return False
    for profile in reversed(policy.profiles):
        before = granted[profile.name]
        if before > profile.min_instances:
            granted[profile.name] = before - 1
            clamps.say(code, sentence, profile.name, wanted=before, granted=before - 1)
            return True
    return False


def _give_way(
    policy: Policy,
    means: Limits,
    instances: tuple[InstanceView, ...],
    current: dict[str, int],
    granted: dict[str, int],
    clamps: Clamps,
) -> None:
    """Claims above the budget: let go of the least important until those that stay fit, but keep min."""
    budget, claims = means.budget, means.claims
    total = claims.total_connections
    if budget.excess_connections(total, total) <= 0:
        return  # they fit even if all of them stay
    staying = claims.staying_connections(policy, instances)
    for profile in policy.profiles:
        going = max(0, current[profile.name] - granted[profile.name])
        staying -= going * profile.claim_connections
    for profile in reversed(policy.profiles):
        before = granted[profile.name]
        while budget.excess_connections(total, staying) > 0 and granted[profile.name] > profile.min_instances:
            granted[profile.name] -= 1
            staying -= profile.claim_connections
        if granted[profile.name] < before:
            source = budget.tightest(total)
            where = "" if source is None or source.source == "postgres" else f" of {NAMES[source.source]}"
            left = source.budget_connections if source is not None else 0
            sentence = f"all claims are {total} connections, the budget{where} is {left}: giving way"
            clamps.say(
                ClampCode.CONNECTIONS, sentence, profile.name, wanted=before, granted=granted[profile.name]
            )


STARVING_SECONDS = 60.0
YIELD_EVERY_SECONDS = 120.0

#: What another instance gives back.
SCARCE = frozenset({ClampCode.CONNECTIONS, ClampCode.OTHERS_UNATTRIBUTABLE, ClampCode.MEMORY})


class ScarcityMemory(Value, frozen=True, kw_only=True):
    """Who starves, since when, and when another last gave way for it."""

    profile: str = ""
    since_seconds: float = 0.0
    yielded_seconds: float | None = None


def remember_starving(memory: ScarcityMemory, profile: str, now_seconds: float) -> ScarcityMemory:
    """Fold in who starves now ("": nobody). Over a step back of the clock it begins anew."""
    if profile == memory.profile and now_seconds >= memory.since_seconds:
        return memory
    return ScarcityMemory(profile=profile, since_seconds=now_seconds, yielded_seconds=memory.yielded_seconds)


def may_yield(memory: ScarcityMemory, now_seconds: float) -> bool:
    """Whether it is time for another profile to give one up."""
    if not memory.profile or now_seconds - memory.since_seconds < STARVING_SECONDS:
        return False
    last = memory.yielded_seconds
    return last is None or not 0.0 <= now_seconds - last < YIELD_EVERY_SECONDS


def waits_too_long(policy: Policy, profile: Profile, demanded: Demand | None) -> bool:
    """Whether a queue that this profile serves best is late."""
    return demanded is not None and any(home(policy, q).name == profile.name for q in demanded.late_queues)


def yielding(
    policy: Policy, starving: Profile, granted: dict[str, int], current: dict[str, int], fixed: frozenset[str]
) -> list[Profile]:
    """Profiles that could give one up for it, the least important first. `fixed`: whose counts people have set."""
    below = policy.profiles[policy.profiles.index(starving) + 1 :]
    return [
        p
        for p in reversed(below)
        if p.name not in fixed and min(granted[p.name], current[p.name]) > p.min_instances
    ]


#: A started instance is taken to have grown to its size after this long.
GROWN_SECONDS = 600.0

Refusal = tuple[ClampCode, str]


class Limits(Value, frozen=True, kw_only=True):
    """What there is to give, and on what terms."""

    budget: ConnectionBudget
    claims: Claims
    terms: HostConstraints
    saturation: Saturation


class Room:
    """What is left to give, while it is given."""

    def __init__(
        self,
        policy: Policy,
        snapshot: Snapshot,
        instances: tuple[InstanceView, ...],
        means: Limits,
    ) -> None:
        self.budget = means.budget
        self.terms = means.terms
        self.saturation = means.saturation
        self.claimed = means.claims.total_connections
        self.pool_connections = means.saturation.pool_room_connections
        self.pool_trial = means.saturation.pool_trial
        self.trial = means.saturation.trial
        self.grown_bytes = {
            p.name: means.terms.grown_bytes.get(p.name, policy.memory.instance_bytes) for p in policy.profiles
        }
        self.bytes = self._free_bytes(policy, snapshot, instances)

    def _free_bytes(
        self, policy: Policy, snapshot: Snapshot, instances: tuple[InstanceView, ...]
    ) -> int | None:
        if not isinstance(snapshot.machine, Known):
            return None
        to_come = [
            max(0, self.grown_bytes[v.profile] - (v.resident_bytes or 0))
            for v in instances
            if v.profile and v.is_capacity
            if v.state == InstanceState.STARTING or v.state_age_seconds < GROWN_SECONDS
        ]
        return memory_room_bytes(policy, snapshot.machine.value, to_come)

    @property
    def connections(self) -> int | None:
        """Connections left; None: nothing that limits them is known."""
        return self.budget.room_connections(self.claimed)

    def take(self, profile: Profile, have: int, wanted: int, clamps: Clamps) -> ClampCode | None:
        """Take the room of one more instance; else the code of why there is none, said."""
        refusal = self.refusal(profile, below_min=have < profile.min_instances)
        if refusal is None:
            self._taken(profile)
            return None
        code, sentence = refusal
        clamps.say(code, sentence, profile.name, wanted=wanted, granted=have)
        return code

    def _taken(self, profile: Profile) -> None:
        self.claimed += profile.claim_connections
        self.trial = False
        if self.bytes is not None:
            self.bytes -= self.grown_bytes[profile.name]
        if self.pool_connections is not None:
            self.pool_connections -= profile.threads * self.saturation.servers_per_thread
            self.pool_trial = False

    def take_back(self, profile: Profile, have: int) -> bool:
        """Take the room of one that was let go to be replaced: no growth, so memory and cores are not asked."""
        unknown = bool(self.budget.unknown) and have >= profile.min_instances
        if unknown or self._lacks(profile):
            return False  # the reason is said where its profile's turn comes
        self._taken(profile)
        return True

    def carries_spare(self, profile: Profile, clamps: Clamps) -> bool:
        """Whether one more fits for as long as it takes to drain the one that it replaces."""
        refusal = self.refusal(profile, below_min=False)
        if refusal is not None:
            sentence = f"replaced by stop, then start, because {refusal[1]}"
            clamps.say(ClampCode.ROLLING, sentence)
        return refusal is None

    def _lacks(self, profile: Profile) -> bool:
        room = self.connections
        return room is not None and room < profile.claim_connections

    def refusal(self, profile: Profile, *, below_min: bool) -> Refusal | None:
        if self._lacks(profile):
            return self._short_of_connections(profile, below_min=below_min)
        if below_min:
            return None
        if self.budget.unknown:
            return ClampCode.HEADROOM_UNKNOWN, self._unknown_sentence()
        if self.bytes is None:
            return ClampCode.MEMORY_UNKNOWN, "this host's memory can't be read: nothing grows above min"
        if self.bytes < self.grown_bytes[profile.name]:
            return ClampCode.MEMORY, "no memory left for one more instance"
        if self.terms.refusal is not None:
            return self.terms.refusal
        if self.saturation.sentence:
            return ClampCode.DATABASE_SATURATED, self.saturation.sentence
        if self.saturation.careful and not self.trial:
            return ClampCode.DATABASE_SATURATED, self.saturation.careful
        if self.pool_connections is not None:
            needed = profile.threads * self.saturation.servers_per_thread
            if self.pool_connections < (needed / 2.0 if self.pool_trial else needed):
                sentence = (
                    f"PgBouncer's pool of {self.saturation.pool_size_connections} is nearly at work: one more would "
                    f"need about {needed:.0f} of it, {max(0.0, self.pool_connections):.0f} are left"
                )
                return ClampCode.DATABASE_SATURATED, sentence
        return None

    def _unknown_sentence(self) -> str:
        return f"connection headroom is unknown: nothing grows above min ({self.budget.unknown})"

    def _short_of_connections(self, profile: Profile, *, below_min: bool) -> Refusal | None:
        source = self.budget.tightest(self.claimed)
        if source is None:
            return None
        if source.refused:
            sentence = f"{_upper(source)} refuses new clients (too many already): no connection is free"
            return ClampCode.CONNECTIONS, sentence
        surely = source.budget_connections - self.claimed
        if surely >= profile.claim_connections:
            if below_min:  # the conservative bound is for growth above min
                return None
            return ClampCode.OTHERS_UNATTRIBUTABLE, unattributable_sentence(source, self.budget.foreign_hosts)
        return ClampCode.CONNECTIONS, (
            f"one more needs {profile.claim_connections} connections, {max(0, surely)} are left"
            f"{'' if source.source == 'postgres' else f' of {NAMES[source.source]}'}: limit "
            f"{source.limit_connections} − reserve {source.reserve_connections} − others "
            f"{source.others_connections} − claimed {self.claimed}"
        )


def _upper(source: SourceBudget) -> str:
    name = NAMES[source.source]
    return name[:1].upper() + name[1:]


def unattributable_sentence(source: SourceBudget, foreign_hosts: tuple[str, ...]) -> str:
    """Why others' connections can't be told from the workers', and what to write about it."""
    if foreign_hosts:
        who = f"a Sidekiq process that fleetd did not render ({', '.join(foreign_hosts)})"
    else:
        who = f"our workers on {NAMES[source.source]}, where they have no names"
    return (
        f"others can't be told from {who}: up to {source.bound_connections} are taken to be others', at least "
        f"{source.others_connections} are. Declare what web and streaming may take: [[connections.claims]] "
        f'name = "web", connections = …'
    )
