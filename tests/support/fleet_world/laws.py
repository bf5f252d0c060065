"""The laws over hosts, by what is true in the world: not by what any fleetd, or the ledger, takes for true."""

from __future__ import annotations

from collections import Counter

from fleetd.core.fleet.calls import BeatReply
from fleetd.core.fleet.orders import about_maintenance, about_pause
from fleetd.core.model.decision import Step
from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.reasons import PinKind
from fleetd.daemon.tick import TickResult
from tests.support.fleet_world.fleetd import HostRig
from tests.support.fleet_world.host import HostWorld
from tests.support.fleet_world.storm import FleetCheck, FleetStorm

#: How long a person's start can be unknown to all: its fleetd has not told, or it has not beaten.
UNHEARD_SECONDS = 45.0
#: A clock that was set, ticks and beats add this to a time that was watched.
SLACK_SECONDS = 35.0
SURPLUS_TICKS = 2
GATHERING_SECONDS_MAX = 330


def takeover_seconds(storm: FleetStorm) -> float:
    """The shortest after which a host of this fleet takes over."""
    return min(rig.machine.policy.scheduler.takeover_seconds for rig in storm.rigs)


class OneScheduler(FleetCheck):
    """Law 1: none is started beside another host's, and of two one ends soon."""

    def __init__(self) -> None:
        self.surplus: Counter[str] = Counter()  # by host: its ticks with two

    def before_step(self, storm: FleetStorm, rig: HostRig, step: Step) -> None:
        if step.verb != "start" or step.key != SCHEDULER:
            return
        assert rig.machine.policy.scheduler.place != "elsewhere", "started where it never runs"
        if rig.stood_seconds >= takeover_seconds(storm) - SLACK_SECONDS:
            return  # documented: this host stood still after its last look at the clock
        rivals = [o.machine.name for o in storm.rigs if o is not rig and self._lives(storm, o.machine)]
        assert not rivals, f"{rig.machine.name} starts a scheduler beside that of {rivals}"

    def _lives(self, storm: FleetStorm, other: HostWorld) -> bool:
        process, now = other.scheduler, other.now
        if process is None or other.away_since is not None:
            return False
        at, away_seconds = other.last_away
        if now - at <= 20.0 and away_seconds >= takeover_seconds(storm) - SLACK_SECONDS:
            return False  # documented: it was away for longer than the takeover, and just came back
        if SCHEDULER in other.by_fleetd:
            return True
        told = other.told_as_of is not None and process.started_at <= other.told_as_of
        known = process.listed or told
        return known and now - process.started_at > UNHEARD_SECONDS

    def after_tick(self, storm: FleetStorm, rig: HostRig, result: TickResult) -> None:
        running = [r for r in storm.rigs if self._pushes(r)]
        names = {r.machine.name for r in running}
        if len(running) < 2 or rig not in running:
            self.surplus = Counter({n: count for n, count in self.surplus.items() if n in names and len(names) > 1})
            return
        healthy = result.tick.fleet.settled is not None and result.tick.sidekiq is not None
        self.surplus[rig.machine.name] = self.surplus[rig.machine.name] + 1 if healthy else 0
        lasting = all(self.surplus[name] > SURPLUS_TICKS for name in names)
        assert not lasting, (
            f"the schedulers of {sorted(names)} have run beside each other for {dict(self.surplus)} ticks"
        )

    def _pushes(self, rig: HostRig) -> bool:
        process = rig.machine.scheduler
        return process is not None and process.beat_at is not None and rig.machine.away_since is None


class WithinBudget(FleetCheck):
    """Law 2: a start above `min`, and a scheduler's, fits beside the claims of all hosts and what is set aside."""

    def before_step(self, storm: FleetStorm, rig: HostRig, step: Step) -> None:
        host = rig.machine
        profile = host.policy.profile(step.profile or "")
        if step.verb != "start" or (profile is not None and rig.serving(profile.name) < profile.min_instances):
            return
        if (
            rig.others_read is None
        ):  # a source that can't be read keeps no scheduler from its start, as on a single host
            assert step.key == SCHEDULER, "grew although Postgres could not be read"
            return
        limit = storm.shared.max_connections - 3 - host.policy.connections.reserve - rig.others_read
        size = host.policy.scheduler.claim_connections if profile is None else profile.claim_connections
        claims = {name: count for other in storm.fleet.hosts for name, count in _claims(other).items()}
        aside = sum(_missing(other) for other in storm.fleet.hosts)
        scheduled = step.key == SCHEDULER or any(h.scheduler is not None for h in storm.fleet.hosts)
        may_run = any(h.told_as_of is not None and h.policy.scheduler.place != "elsewhere" for h in storm.fleet.hosts)
        aside += 0 if scheduled or not may_run else host.policy.scheduler.claim_connections
        lingering = sum(process.opened for process, _ in storm.shared.lingering.values())
        over = sum(claims.values()) + size + aside + lingering - limit
        assert over <= 0, f"{host.name} starts {step.unit}, {over} above {limit}: {claims}, aside {aside}, {lingering}"


def _claims(host: HostWorld) -> dict[str, int]:
    """What is open or may be opened, of what somebody can know. One open connection keeps the whole claim."""
    found = {}
    for unit in host.units.values():
        process = unit.process
        if process is None or not process.alive:
            continue
        told = host.told_as_of
        known = told is not None and (unit.key in host.by_fleetd or process.started_at <= told)
        found[process.name] = process.claim if known and (process.opened or not host.silent) else process.opened
    return found


def _missing(host: HostWorld) -> int:
    """What a host may still start on its way up to `min`, as far as it has told."""
    return 0 if host.told_as_of is None or host.silent else min(host.missing_connections, host.told_missing)


class UnknownHolds(FleetCheck):
    """Law 3: without Redis nothing ends, and nothing grows above `min`; without Postgres nothing grows either."""

    def before_step(self, storm: FleetStorm, rig: HostRig, step: Step) -> None:
        if step.verb != "start":
            assert rig.sidekiq_read, f"{rig.machine.name}: {step.verb} {step.unit} although Redis could not be read"
            return
        profile = rig.machine.policy.profile(step.profile or "")
        if profile is not None and rig.serving(profile.name) < profile.min_instances:
            return
        assert rig.redis_took_writes, f"{rig.machine.name}: {step.unit} starts although Redis is unknown"


class NoJobLost(FleetCheck):
    """Law 4: no step of ours loses a job."""

    def after_tick(self, storm: FleetStorm, rig: HostRig, result: TickResult) -> None:
        assert sum(host.lost for host in storm.fleet.hosts) == 0, "a job was lost by a stop"
        assert storm.shared.all_accounted


class OrdersHold(FleetCheck):
    """Law 6: who has heard of a pause, or that it is in maintenance, starts no instance."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}  # by host: when its last tick began in which the ledger answered

    def before_step(self, storm: FleetStorm, rig: HostRig, step: Step) -> None:
        name, now = rig.machine.name, storm.shared.now
        if step.verb != "start" or step.key == SCHEDULER:
            return
        for about in (about_pause(), about_pause(name), about_maintenance(name)):
            at, until = storm.orders.get(about, (0.0, 0.0))
            heard = self.heard.get(name, 0.0) > at
            assert not (heard and now < until), f"{name} starts @{step.key} although it heard of {about!r}"

    def after_tick(self, storm: FleetStorm, rig: HostRig, result: TickResult) -> None:
        if isinstance(result.tick.fleet.reply, BeatReply):
            self.heard[rig.machine.name] = storm.shared.now - result.duration_seconds


class ComesBack(FleetCheck):
    """Once all faults have ended there is exactly one scheduler, soon."""

    def at_end(self, storm: FleetStorm) -> None:
        able = [r for r in storm.up() if r.machine.policy.scheduler.place != "elsewhere"]
        ticks = 6 * max(r.machine.policy.pace.tick_seconds for r in storm.rigs)
        takeover = max(r.machine.policy.scheduler.takeover_seconds for r in storm.rigs)
        gathering = 300.0 if len(storm.up()) < len(storm.rigs) or storm.fleet.ledger.state is None else 60.0
        left = 1.06 * (gathering + takeover + 75.0) + ticks
        while left > 0 and not self._settled(storm, bool(able)):
            storm.fleet.advance(5)
            left -= 5
            storm.end_orders()
            for rig in storm.rigs:
                self._release(storm, rig)
        count = len(self._running(storm))
        assert count == bool(able) or (count == 1 and not able), f"{count} schedulers after all faults have ended"

    def _running(self, storm: FleetStorm) -> list[HostRig]:
        return [r for r in storm.rigs if r.machine.scheduler is not None]

    def _settled(self, storm: FleetStorm, able: bool) -> bool:
        running = self._running(storm)
        return len(running) == able and all(r.machine.units[SCHEDULER].state == "active" for r in running)

    def _release(self, storm: FleetStorm, rig: HostRig) -> None:
        people = rig.ticker.host_memory.people
        if people.pinned(SCHEDULER, PinKind.STOPPED, rig.clock.now_seconds()):
            storm.release_scheduler(rig)


class GrowsAgain(FleetCheck):
    """Once all faults have ended, every host gets what is wanted there within six ticks, as fast as its pace allows."""

    def at_end(self, storm: FleetStorm) -> None:
        storm.shared.max_connections = 400
        storm.end_orders()
        storm.fleet.advance(70)  # the number of others' connections is trusted again
        for _ in range(GATHERING_SECONDS_MAX // 10):
            state = storm.fleet.ledger.state
            if state is not None and state.gathering_ms is None:
                break
            storm.fleet.advance(10)  # a host that will not come back is waited for
        for rig in storm.up():
            storm.want(rig, rig.machine.policy.profiles[0].max_instances)
        slowest = max(rig.machine.policy.pace.tick_seconds for rig in storm.rigs)
        storm.fleet.advance(round(1.06 * 6 * slowest) + 45)
        for rig in storm.up():
            profile = rig.machine.policy.profiles[0]
            memory = rig.ticker.host_memory
            kept = {n for n in profile.numbers if n in memory.people.pins or n in memory.units.failures}
            serving = rig.serving(profile.name)
            assert serving >= profile.max_instances - len(kept), f"{rig.machine.name} has {serving} instances"


class PeopleFirst(FleetCheck):
    """Law 6: an instance that a person stopped is not started again, whoever leads."""

    def __init__(self) -> None:
        self.stopped: dict[tuple[str, int], float] = {}  # until when, by the host's clock
        self.unnoticed: set[tuple[str, int]] = set()  # since then its fleetd has not completed a tick

    def on_event(self, storm: FleetStorm, name: str, rig: HostRig, detail: int) -> None:
        host, number = rig.machine, storm.number(rig, detail)
        if name in {"power_lost", "boot", "join"}:
            self._forget({key for key in self.stopped if key[0] == host.name})
        elif name in {"kill_fleetd", "stop_fleetd", "crash_in_tick"}:
            self._forget({key for key in self.unnoticed if key[0] == host.name})
        elif name in {"hand_start", "hand_stop", "kill_worker"}:
            self._forget({(host.name, number)})
        if name != "hand_stop" or not rig.runs or rig.waits or host.frozen or not host.powered or rig.hit is not None:
            return
        memory = rig.ticker.host_memory
        ours = number in memory.drains or number in memory.starts or number in memory.units.failures
        if memory.units.seen.get(number) == "active" and host.units[number].state == "active" and not ours:
            kept_seconds = host.policy.pace.pin_seconds
            self.stopped[host.name, number] = rig.clock.now_seconds() + kept_seconds
            self.unnoticed.add((host.name, number))

    def _forget(self, keys: set[tuple[str, int]]) -> None:
        self.unnoticed -= keys
        self.stopped = {key: until for key, until in self.stopped.items() if key not in keys}

    def before_step(self, storm: FleetStorm, rig: HostRig, step: Step) -> None:
        until = self.stopped.get((rig.machine.name, step.key), 0.0)
        kept = step.verb == "start" and rig.clock.now_seconds() < until
        assert not kept, f"{rig.machine.name} starts {step.unit}, which a person stopped"

    def after_tick(self, storm: FleetStorm, rig: HostRig, result: TickResult) -> None:
        self.unnoticed = {key for key in self.unnoticed if key[0] != rig.machine.name}
