"""The true state of the tests' world after a tick, in the form that the simulator's law checks take."""

from __future__ import annotations

from fleetd.core.instances.lifecycle import Drain
from fleetd.core.model.decision import Step
from fleetd.core.model.identity import InstanceKey
from fleetd.daemon.tick import TickResult
from fleetd.simulate.scoring.laws import Law, Stop, Truth
from tests.support.storm.storm import Before, Storm

#: A process is known to hang when its heartbeat is nearly this old.
SILENT_SECONDS = 110.0


def hold(law: Law, truth: Truth) -> None:
    """Fails if this breaks the law."""
    broken = list(law(truth))
    assert not broken, broken


def truth_of(storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> Truth:
    """All that a law can ask about. A check that knows the budget fills it in."""
    world, profiles = storm.world, storm.world.policy.profiles
    own = [unit.process for unit in world.units.values() if unit.process is not None]
    # A hung process is not capacity; nor is one that a person ordered to drain and that can't be quieted yet.
    no_capacity = {n for n in storm.numbers if n in result.host.memory.drains or n in before.hung}
    return Truth(
        policy=world.policy,
        orders=tuple(orders),
        capacity_before={p.name: before.counting[p.name] - len(no_capacity.intersection(p.numbers)) for p in profiles},
        capacity={p.name: storm.rig.serving(p.name) for p in profiles},
        ordered_instances=result.tick.constraints.set_instances if world.postgres_up else {},
        booting=sum(u.state == "activating" and u.restart_at is None for u in world.units.values()),
        schedulers_elsewhere=sum(p in world.elsewhere for p in world.schedulers()),
        systemd_known=world.systemd_up,
        sidekiq_known=world.redis_up,
        headroom_known=world.postgres_up and not (world.garbled and world.elsewhere),
        claims_connections=sum(process.claim for process in own),
        budget_connections=None,
        database_refuses=world.postgres_refuses,
        pushes_back=world.redis_up and world.redis_writable,
        stops=tuple(
            _stop(storm, before, result, step.key)
            for step in orders
            if step.verb == "stop" and before.states[step.key] == "active"
        ),
        lost_jobs=world.lost,
    )


def _stop(storm: Storm, before: Before, result: TickResult, key: InstanceKey) -> Stop:
    now, beat = storm.world.now, before.beats.get(key)
    if key in before.unheard:
        return Stop(key=key, draining_seconds=0.0, idle_since_quiet=False, unresponsive=True)
    drains: dict[InstanceKey, Drain] = {
        **before.drains,
        **result.host.memory.drains,
    }  # a drain that ended at once is not remembered
    drain = drains[key]
    quieted_at = drain.quiet_sent_seconds
    idle = beat is not None and beat.quiet and beat.busy == 0
    return Stop(
        key=key,
        draining_seconds=now - drain.since_seconds,
        idle_since_quiet=idle and beat is not None and quieted_at is not None and beat.at > quieted_at,
        unresponsive=key in before.hung and beat is not None and now - beat.at >= SILENT_SECONDS,
    )
