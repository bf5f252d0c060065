"""The room there is for one more instance: connections, memory, what the host and the database carry.

Law 2: nothing starts beyond what the budget carries. Law 3: nothing grows above `min` on an unknown reading. Law 8:
what is refused is refused with a code and a sentence.
"""

from __future__ import annotations

from fleetd.core.bottleneck import Bottleneck
from fleetd.core.budget import NAMES, ConnectionBudget, SourceBudget, memory_room_bytes
from fleetd.core.claims import Claims
from fleetd.core.clamps import Clamps
from fleetd.core.decision import ClampCode, InstanceState
from fleetd.core.facts import Known, Snapshot, Value
from fleetd.core.lifecycle import InstanceView
from fleetd.core.policy import Policy, Profile
from fleetd.core.terms import HostTerms

#: A started instance is taken to have grown to its size after this long.
GROWN_SECONDS = 600.0

Refusal = tuple[ClampCode, str]


class Means(Value, frozen=True, kw_only=True):
    """What there is to give, and on what terms."""

    budget: ConnectionBudget
    claims: Claims
    terms: HostTerms
    bottleneck: Bottleneck


class Room:
    """What is left to give, while it is given."""

    def __init__(
        self,
        policy: Policy,
        snapshot: Snapshot,
        instances: tuple[InstanceView, ...],
        means: Means,
    ) -> None:
        self.budget = means.budget
        self.terms = means.terms
        self.bottleneck = means.bottleneck
        self.claimed = means.claims.total_connections
        self.pool_connections = means.bottleneck.pool_room_connections
        self.pool_trial = means.bottleneck.pool_trial
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
            if v.counts and v.profile
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
        if self.bytes is not None:
            self.bytes -= self.grown_bytes[profile.name]
        if self.pool_connections is not None:
            self.pool_connections -= profile.threads * self.bottleneck.servers_per_thread
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
        if self.bottleneck.sentence:
            return ClampCode.DATABASE_BOTTLENECK, self.bottleneck.sentence
        if self.pool_connections is not None:
            needed = profile.threads * self.bottleneck.servers_per_thread
            if self.pool_connections < (needed / 2.0 if self.pool_trial else needed):
                sentence = (
                    f"PgBouncer's pool of {self.bottleneck.pool_size_connections} is nearly at work: one more would "
                    f"need about {needed:.0f} of it, {max(0.0, self.pool_connections):.0f} are left"
                )
                return ClampCode.DATABASE_BOTTLENECK, sentence
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
