"""One simulated host: its units, its memory, and whether it has power, moves on, and reaches Redis."""

from __future__ import annotations

from collections.abc import Iterator

from fleetd.core.model.decision import Step
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy, Profile
from fleetd.simulate.world.fleet import Group, Instance, UnitState
from fleetd.simulate.world.queues import SimQueue

#: The hosts have been up for about so long, so nothing is taken for a reboot.
UP_BEFORE_SECONDS, UPS_APART_SECONDS = 1_000_000, 50_000


class Machine:
    """A host. Nothing happens here by itself: World and HostOutages let it happen."""

    def __init__(
        self,
        policy: Policy,
        queues: dict[str, SimQueue],
        *,
        memory_bytes: float,
        cores: int | None = None,
        index: int = 0,
        scheduler: bool = False,
    ) -> None:
        """`cores`: None: nobody knows. `index`: its place among the hosts. `scheduler`: whether it has that unit."""
        self.policy = policy
        self.name = policy.host
        self.index = index
        self.memory_bytes = memory_bytes
        self.cores = cores
        self.powered = True
        self.frozen_at: int | None = None
        self.cut_off_at: int | None = None
        self.boots = 1
        self.booted_at = -UP_BEFORE_SECONDS - index * UPS_APART_SECONDS
        self.fleetd_from = index  # fleetd ticks from this second on; no two hosts tick at once
        self.disk: bytes | None = None  # what fleetd has saved; None: nothing yet
        self.orders: list[tuple[int, Step]] = []  # the policy's, each with its second
        self.lost_jobs = 0
        self.lost_by_stops_jobs = 0  # of these: pushed back while Redis was out of reach
        self.instance_seconds = 0
        self.groups = [Group(self, profile, queues) for profile in policy.profiles]
        self.scheduler_group = Group(self, _scheduler_profile(policy), queues) if scheduler else None

    @property
    def all_groups(self) -> list[Group]:
        """With the scheduler's."""
        return self.groups if self.scheduler_group is None else [*self.groups, self.scheduler_group]

    @property
    def instances(self) -> dict[InstanceKey, Instance]:
        """By number; with the scheduler, if it has that unit."""
        return {i.key: i for group in self.all_groups for i in group.instances}

    @property
    def present(self) -> Iterator[Instance]:
        """All that have a process, with the scheduler."""
        return (i for group in self.all_groups for i in group.present)

    @property
    def fetches(self) -> bool:
        """Whether its processes get jobs from Redis, as long as that is there."""
        return self.frozen_at is None and self.cut_off_at is None

    @property
    def is_away(self) -> bool:
        """Whether nobody hears of it."""
        return not (self.powered and self.fetches)

    def away_seconds(self, now: int) -> int:
        """For how long it has been frozen or cut off; 0: it is neither."""
        since = [at for at in (self.frozen_at, self.cut_off_at) if at is not None]
        return now - min(since) if since else 0

    def fleetd_runs(self, now: int) -> bool:
        return self.powered and self.frozen_at is None and now >= self.fleetd_from

    @property
    def scheduler(self) -> Instance | None:
        """Its scheduler, if that starts or runs, and was not told to end."""
        unit = None if self.scheduler_group is None else self.scheduler_group.instances[0]
        if unit is None or unit.quieted_at is not None:
            return None
        return unit if unit.state in {UnitState.ACTIVATING, UnitState.ACTIVE} else None

    @property
    def schedules(self) -> bool:
        """Whether its scheduler can enqueue jobs now."""
        return not self.is_away and self.scheduler is not None and self.scheduler.state is UnitState.ACTIVE

    def refresh(self) -> None:
        for group in self.all_groups:
            group.refresh()


def _scheduler_profile(policy: Policy) -> Profile:
    """The scheduler's unit as a profile of one instance. No trace has jobs on its queue."""
    scheduler = policy.scheduler
    return Profile(
        name="scheduler",
        order="strict",
        queues=tuple((queue, 1) for queue in scheduler.queues),
        threads=scheduler.threads,
        db_pool=scheduler.db_pool,
        numbers=(SCHEDULER,),
        min_instances=0,
        max_instances=1,
    )
