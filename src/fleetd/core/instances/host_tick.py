"""One tick on one host: the input of all its decisions (HostTick), and the host's decision (HostDecision)."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.evidence.weigh import Evidence
from fleetd.core.fleet.view import FleetView
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model import reasons
from fleetd.core.model.decision import Clamps, Step, Verb
from fleetd.core.model.facts import HostFacts, Known, QueueFacts, SidekiqFacts, Snapshot, SystemdFacts, Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import Policy


class Hold(Value, frozen=True, kw_only=True):
    """Why nothing moves of its own accord, and until when."""

    reason: reasons.HoldReason
    until_seconds: float | None = None  # None: until somebody acts


class HostConstraints(Value, frozen=True, kw_only=True):
    """The constraints under which the plan may use this host (constraints.py).

    The last four each name a profile. `spare_for`: the rollout could start a spare there. `spare_in`: a spare runs
    beside the instance it replaces. `unavailable_in`: an instance was let go before its replacement.
    `replacement_due_in`: the same, once that instance has ended; its replacement is no growth.
    """

    holds: tuple[Hold, ...] = ()
    maintenance: Hold | None = None  # other hosts do its work: it drains by the plan, and starts nothing
    last_may_go: bool = False  # in maintenance, and a person said that it goes even if no other host serves
    set_instances: dict[str, int] = {}  # by profile: as many as a person wants
    set_by: dict[str, Person] = {}  # by profile: who wants that
    set_on_all: frozenset[str] = frozenset()  # profiles of which a person set how many all hosts have together
    grown_bytes: dict[str, int] = {}  # by profile: what one instance grows to
    boot_seconds: dict[str, float] = {}  # by profile: learnt
    refusal: reasons.ClampReason | None = None  # why nothing is added above min
    shed: reasons.MemoryShortage | None = None  # why the least important instance goes
    spare_for: str | None = None
    spare_in: str | None = None
    unavailable_in: str | None = None
    replacement_due_in: str | None = None

    @property
    def held(self) -> Hold | None:
        return self.holds[0] if self.holds else None


class HostTick(Value, frozen=True, kw_only=True):
    """Policy, readings, and this host's instances in their states; made by assess.py."""

    policy: Policy
    snapshot: Snapshot  # weighed: its processes all live, and its ages are by one clock
    evidence: Evidence = Evidence()
    fleet: FleetView = FleetView()
    #: Every configured instance in the order of numbers, those left over, then the scheduler; None: systemd is unknown.
    instances: tuple[InstanceView, ...] | None = None
    #: The instances that are present or pinned; all other numbers are free.
    active: tuple[InstanceView, ...] = ()
    constraints: HostConstraints = HostConstraints()
    #: Instances of each profile that are capacity, now or soon; a spare and the one it replaces count as one.
    running: dict[str, int] = {}

    @property
    def now_seconds(self) -> float:
        return self.snapshot.now_seconds

    @property
    def sidekiq(self) -> SidekiqFacts | None:
        """None: Redis is unknown."""
        return self.snapshot.sidekiq.value if isinstance(self.snapshot.sidekiq, Known) else None

    @property
    def queues(self) -> dict[str, QueueFacts]:
        """To show: what this host has not read itself is as the leader told. Empty: Redis is unknown."""
        facts = self.sidekiq
        return {} if facts is None else {name: self.fleet.with_threads(q) for name, q in facts.queues.items()}

    @property
    def systemd(self) -> SystemdFacts | None:
        return self.snapshot.systemd.value if isinstance(self.snapshot.systemd, Known) else None

    @property
    def machine(self) -> HostFacts | None:
        return self.snapshot.machine.value if isinstance(self.snapshot.machine, Known) else None

    @property
    def held(self) -> Hold | None:
        return self.constraints.held

    @property
    def starts_held(self) -> Hold | None:
        """Why nothing is started here of its own accord, although instances may be drained."""
        return self.constraints.held or self.constraints.maintenance

    @property
    def kept_by_hand(self) -> dict[str, int]:
        """By profile: the instances that people pinned to run."""
        pinned = [v.profile for v in self.active if v.pinned == reasons.PinKind.RUN and v.is_present]
        return {p.name: pinned.count(p.name) for p in self.policy.profiles}

    def view(self, key: InstanceKey | None) -> InstanceView | None:
        return next((v for v in self.instances or () if v.key == key), None)

    def grown_bytes(self, profile: str) -> int:
        """What one instance of this profile grows to."""
        return self.constraints.grown_bytes.get(profile, self.policy.memory.instance_bytes)

    def can_not_return(self, view: InstanceView) -> bool:
        """Whether it is masked: systemd would not start it again. One that is left over is not started anyway."""
        return self.machine is not None and not view.left_over and self.machine.masks(view.key) is not None

    def of(self, profile: str) -> list[InstanceView]:
        """Every instance of a profile, free numbers and those left over included."""
        return [v for v in self.instances or () if v.profile == profile]

    def seeing(self, instances: tuple[InstanceView, ...] | None) -> HostTick:
        """The same tick with the instances in these states."""
        active = tuple(v for v in instances or () if v.is_present or v.pinned is not None)
        return structs.replace(self, instances=instances, active=active)

    def under(self, constraints: HostConstraints) -> HostTick:
        """The same tick under these constraints."""
        capacity = [v.profile for v in self.active if v.is_capacity]
        running = {
            p.name: max(0, capacity.count(p.name) - (constraints.spare_in == p.name)) for p in self.policy.profiles
        }
        return structs.replace(self, constraints=constraints, running=running)


class HostDecision:
    """What one host does now, why not more, and what it will remember; filled by carry_out.py."""

    def __init__(self, memory: HostMemory) -> None:
        self.steps: list[Step] = []
        self.clamps = Clamps()
        self.memory = memory

    def order(self, verb: Verb, view: InstanceView, why: reasons.Reason) -> None:
        self.steps.append(Step(verb=verb, key=view.key, profile=view.profile, why=why))
