"""From the counts wanted to the counts granted: database connections and memory (laws 2 and 3).

Law 2: a count never rises above what the budget known at this moment affords, not even to `min`; when the budget is
below the claims, the counts fall at once, the least important profile first, down to `min`. Law 3: with the headroom
unknown nothing grows above `min`; with the latency unknown nothing stops, for the budget's sake neither, because a
drain could not be watched.
"""

from __future__ import annotations

from fleetd.core.budget import Claims, ConnectionBudget, memory_room_bytes
from fleetd.core.clamps import Clamps
from fleetd.core.decision import ClampCode, InstanceState
from fleetd.core.facts import Known, Snapshot
from fleetd.core.lifecycle import InstanceView
from fleetd.core.policy import Policy, Profile
from fleetd.core.terms import HostTerms
from fleetd.core.want import running

#: A started instance is taken to have grown to its size after this long.
GROWN_SECONDS = 600.0


def afford(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    wanted: dict[str, int],
    budget: ConnectionBudget | None,
    claims: Claims,
    terms: HostTerms,
    clamps: Clamps,
) -> tuple[dict[str, int], str]:
    """Granted counts, and the profile that gets a spare for start-before-stop ("": none).

    One instance at a time, first every profile's min, then by importance, while there is room; the spare last.
    """
    current = running(policy, instances, terms)
    granted = {name: min(current[name], goal) for name, goal in wanted.items()}
    room = _Room(policy, snapshot, instances, budget, claims, terms)
    back = policy.profile(terms.due)  # first of all what was there a moment ago
    if back is not None and granted[back.name] < wanted[back.name]:
        granted[back.name] += room.take_back(back, granted[back.name], wanted[back.name], clamps)
    for floor in (True, False):
        for profile in policy.profiles:
            goal = min(wanted[profile.name], profile.min_instances) if floor else wanted[profile.name]
            while granted[profile.name] < goal and room.take(
                profile, granted[profile.name], wanted[profile.name], clamps
            ):
                granted[profile.name] += 1
    watched = isinstance(snapshot.sidekiq, Known)  # a drain that can't be watched is not begun
    if budget is not None and not budget.refused and watched:
        _give_way(policy, budget, claims, instances, current, granted, clamps)
    if terms.shed and watched and terms.held is None:
        _shed(policy, terms.shed, granted, current, clamps)
    spare = policy.profile(terms.spare_for)
    if spare is None or terms.held is not None or granted[spare.name] != current[spare.name]:
        return granted, ""
    return granted, spare.name if room.carries_spare(spare, clamps) else ""


class _Room:
    """What is left to give, while it is given."""

    def __init__(
        self,
        policy: Policy,
        snapshot: Snapshot,
        instances: tuple[InstanceView, ...],
        budget: ConnectionBudget | None,
        claims: Claims,
        terms: HostTerms,
    ) -> None:
        self.budget = budget
        self.terms = terms
        self.claimed = claims.total_connections
        self.connections = None if budget is None else budget.room_connections(self.claimed)
        self.grown_bytes = {
            p.name: terms.grown_bytes.get(p.name, policy.memory.instance_bytes) for p in policy.profiles
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
            if v.profile and v.counts
            if v.state == InstanceState.STARTING or v.state_age_seconds < GROWN_SECONDS
        ]
        return memory_room_bytes(policy, snapshot.machine.value, to_come)

    def take(self, profile: Profile, have: int, wanted: int, clamps: Clamps) -> bool:
        """Take the room of one more instance, or say why there is none."""
        refusal = self._refusal(profile, below_min=have < profile.min_instances)
        if refusal is not None:
            code, sentence = refusal
            clamps.say(code, sentence, profile.name, wanted=wanted, granted=have)
            return False
        self._taken(profile)
        return True

    def _taken(self, profile: Profile) -> None:
        if self.connections is not None:
            self.connections -= profile.claim_connections
        self.claimed += profile.claim_connections
        if self.bytes is not None:
            self.bytes -= self.grown_bytes[profile.name]

    def take_back(self, profile: Profile, have: int, wanted: int, clamps: Clamps) -> bool:
        """Take the room of one that was let go to be replaced: no growth, so memory and cores are not asked."""
        without = self.connections is None and have >= profile.min_instances
        lacking = self.connections is not None and self.connections < profile.claim_connections
        if without or lacking:
            return False  # the reason is said where its profile's turn comes
        self._taken(profile)
        return True

    def carries_spare(self, profile: Profile, clamps: Clamps) -> bool:
        """Whether one more fits for as long as it takes to drain the one that it replaces."""
        refusal = self._refusal(profile, below_min=False)
        if refusal is not None:
            sentence = f"replaced by stop, then start, because {refusal[1]}"
            clamps.say(ClampCode.ROLLING, sentence)
        return refusal is None

    def _refusal(self, profile: Profile, *, below_min: bool) -> tuple[ClampCode, str] | None:
        if self.connections is not None and self.connections < profile.claim_connections:
            return ClampCode.CONNECTIONS, self._connections_sentence(profile, self.connections)
        if below_min:
            return None
        if self.connections is None:
            return ClampCode.HEADROOM_UNKNOWN, "connection headroom is unknown: nothing grows above min"
        if self.bytes is None:
            return ClampCode.MEMORY_UNKNOWN, "this host's memory can't be read: nothing grows above min"
        if self.bytes < self.grown_bytes[profile.name]:
            return ClampCode.MEMORY, "no memory left for one more instance"
        return self.terms.refusal

    def _connections_sentence(self, profile: Profile, room: int) -> str:
        budget = self.budget
        if budget is None or budget.refused:
            return "Postgres refuses new clients (too many already): no connection is free"
        return (
            f"one more needs {profile.claim_connections} connections, {room} are left: limit "
            f"{budget.limit_connections} − reserve {budget.reserve_connections} − others "
            f"{budget.others_connections} − claimed {self.claimed}"
        )


def _shed(policy: Policy, why: str, granted: dict[str, int], current: dict[str, int], clamps: Clamps) -> None:
    """The least important instance goes, where none is going already."""
    if any(granted[name] < current[name] for name in granted):
        return
    for profile in reversed(policy.profiles):
        before = granted[profile.name]
        if before > profile.min_instances:
            granted[profile.name] = before - 1
            sentence = f"{why}, and that for a minute and more: the least important goes"
            clamps.say(ClampCode.HOST_PRESSURE, sentence, profile.name, wanted=before, granted=before - 1)
            return


def _give_way(
    policy: Policy,
    budget: ConnectionBudget,
    claims: Claims,
    instances: tuple[InstanceView, ...],
    current: dict[str, int],
    granted: dict[str, int],
    clamps: Clamps,
) -> None:
    """Claims above the budget: let go of the least important until those that stay fit, but keep min."""
    staying = claims.staying_connections(policy, instances)
    for profile in policy.profiles:
        going = max(0, current[profile.name] - granted[profile.name])
        staying -= going * profile.claim_connections
    for profile in reversed(policy.profiles):
        before = granted[profile.name]
        while staying > budget.budget_connections and granted[profile.name] > profile.min_instances:
            granted[profile.name] -= 1
            staying -= profile.claim_connections
        if granted[profile.name] < before:
            sentence = (
                f"all claims are {claims.total_connections} connections, the budget is "
                f"{budget.budget_connections}: giving way"
            )
            clamps.say(
                ClampCode.CONNECTIONS, sentence, profile.name, wanted=before, granted=granted[profile.name]
            )
