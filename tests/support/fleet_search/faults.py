"""What may go wrong, each of these once to each host or server, and so many in all; and how it ends by itself.

crash: the machine dies, with its processes; it may boot again, with its disk. freeze: it stands still, for any time.
cut: it can't reach Redis, for any time. restart: of fleetd alone. stop: the scheduler dies. pin: a person stops it.
hand: a person starts an instance.
lose, late, blind: a message is lost, carried out after its caller has given up, or says nothing but that its host is
there. slow: a host takes longer than a step before it asks or starts. flush: Redis is empty. failover: a replica takes
over that lacks up to two writes, or Redis restarts from such a file. jump: Redis's clock leaps ahead.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.fleet_search.hosts import WRITES_MAX, Hosts, Step, done, moved, passes, put, what_is, wrote
from tests.support.fleet_search.ledgers import AdmitCall, BeatCall, Ledgers, host_name
from tests.support.fleet_search.scale import BOOT, steps_counted
from tests.support.fleet_search.world import (
    AWAY_MAX,
    SCHEDULER,
    Host,
    Phase,
    Place,
    Setting,
    World,
    unaware,
    with_age,
    with_host,
)

OF_HOSTS = ("crash", "freeze", "cut", "restart", "stop", "pin", "hand")
OF_SERVERS = ("flush", "failover", "jump")
JUMP_STEPS = 30


class Faults:
    """Everything that can happen next in one setting."""

    def __init__(self, setting: Setting, ledgers: Ledgers) -> None:
        self.setting = setting
        self.ledgers = ledgers
        self.hosts = Hosts(setting, ledgers)
        self.may = frozenset(setting.faults)

    def steps(self, world: World) -> Iterator[Step]:
        """All steps from here."""
        behind = world.behind
        if behind is not None:
            yield -1, f"failover, {behind[3]} writes are lost", failed_over(world)
            if behind[3] >= WRITES_MAX:
                return
        for number, host in enumerate(world.hosts):
            yield from self.hosts.steps(world, number)
            yield from self.ends(world, number, host)
        if world.late is not None:
            yield self.arrives(world)
        later = passes(world, steps_counted())
        if later is not None:
            yield -1, "10 s pass", later
        if world.left > 0:
            for number, text, after in self.goes_wrong(world):
                yield number, text, after._replace(left=world.left - 1)

    def ends(self, world: World, number: int, host: Host) -> Iterator[Step]:
        """Faults that end by themselves."""
        if host.lingering:
            yield number, "its old connections are closed", with_host(world, number, host._replace(lingering=0))
        if not host.up:
            yield number, "boots again", self.boots(world, number)
            return
        if host.frozen:
            yield number, "thaws", with_host(world, number, thawed(host, self.setting.deadline))
        if host.cut:
            yield number, "reaches Redis again", with_host(world, number, host._replace(cut=False))
        if host.pinned:
            yield number, "a person unpins the scheduler", with_host(world, number, host._replace(pinned=False))

    def boots(self, world: World, number: int) -> World:
        """The host boots: a scheduler that belongs here starts unless another one is seen, in Redis or the slot."""
        host = world.hosts[number]
        booted = Host(
            up=True,
            boot=host.boot + 1,
            nonce=host.nonce + 1,
            generation=host.generation,
            clock=host.clock,
            members=host.members,
            lingering=host.lingering,
            pinned=host.pinned,
            used=host.used,
            unknown=host.unknown,
            away=AWAY_MAX,
        )
        booted = self.hosts.standing(booted, number)
        state = self.ledgers.states[world.ledger]
        entry = None if state is None else state.hosts.get(host_name(number))
        booted = booted._replace(unknown=host.unknown or entry is None or entry.gone)
        holder = "" if state is None else state.slot.holder
        seen = any(age >= 0 for h, age in enumerate(world.beats) if h != number)
        belongs = self.setting.schedules and self.setting.places[number] == Place.HERE and not host.pinned
        if belongs and not seen and holder in ("", host_name(number)):
            booted = with_age(booted, SCHEDULER, 0)
        world = world._replace(hosts=tuple(unaware(host, number) for host in world.hosts))
        return with_host(world, number, booted)

    def arrives(self, world: World) -> Step:
        """A call is carried out after its caller has given up; nobody hears the answer."""
        assert world.late is not None
        kind, values = world.late
        world = world._replace(late=None, lateness=0)
        if kind == "beat":
            call = BeatCall(*values)
            return call.host, "its late beat arrives", self.hosts.deliver(world, call)[0]
        host, nonce, sent, generation, claims, start, *others = values
        question = AdmitCall(host, nonce, sent, generation, claims, start, tuple(others))
        ledger, _ = self.ledgers.admit(world.ledger, question, world.run)
        return host, f"its late question for {what_is(start)} arrives", wrote(world._replace(ledger=ledger))

    def goes_wrong(self, world: World) -> Iterator[Step]:
        """Every fault that may happen now."""
        for number, host in enumerate(world.hosts):
            if host.up:
                yield from self.of_host(world, number, host)
            if host.up and not host.frozen and not host.cut:
                yield from self.of_message(world, number, host)
        for bit, kind in enumerate(OF_SERVERS):
            if kind in self.may and not world.used >> bit & 1 and world.behind is None:
                used = world._replace(used=world.used | 1 << bit)
                if kind == "flush" and world.ledger:
                    yield -1, "Redis is flushed", flushed(used)
                elif kind == "failover" and world.ledger:
                    behind = (world.ledger, 0, world.beats, 0)
                    yield -1, "the replica lags from here on", used._replace(behind=behind)
                elif kind == "jump":
                    elapsed = min(world.elapsed + JUMP_STEPS, steps_counted())
                    yield -1, "Redis's clock leaps ahead", used._replace(elapsed=elapsed)

    def of_host(self, world: World, number: int, host: Host) -> Iterator[Step]:
        """Faults of a host."""
        for bit, kind in enumerate(OF_HOSTS):
            if kind not in self.may or host.used >> bit & 1:
                continue
            used = host._replace(used=host.used | 1 << bit)
            if kind == "crash":
                yield number, "dies", with_host(world, number, crashed(used))
            elif kind == "freeze" and not host.frozen:
                yield number, "freezes", with_host(world, number, used._replace(frozen=True, away=max(host.away, 1)))
            elif kind == "cut" and not host.cut:
                yield (
                    number,
                    "is cut off from Redis",
                    with_host(world, number, used._replace(cut=True, away=max(host.away, 1))),
                )
            elif kind == "restart" and not host.frozen:
                fresh = used._replace(
                    nonce=host.nonce + 1, version=-1, phase=Phase.DUE, age=0, asked=0, unseen=0, surplus=0
                )
                yield number, "fleetd starts again", with_host(world, number, fresh)
            elif kind == "hand" and not host.frozen:
                yield from self.by_hand(world, number, used)
            elif kind in ("stop", "pin") and host.ages[SCHEDULER] >= 0 and not host.frozen:
                stopped = with_age(used, SCHEDULER, -1)._replace(surplus=0, pinned=kind == "pin")
                beats = world.beats if host.cut else put(world.beats, number, -1)
                text = "its scheduler dies" if kind == "stop" else "a person stops and pins the scheduler"
                yield number, text, with_host(world._replace(beats=beats), number, stopped)

    def by_hand(self, world: World, number: int, used: Host) -> Iterator[Step]:
        """A person starts an instance, of which the ledger knows once its host tells."""
        free = [p for p in range(1, 1 + self.setting.more) if used.ages[p] < 0] if self.setting.standing else []
        if free and used.phase != Phase.MAY_START:
            after = with_host(world, number, with_age(used, free[0], 0)._replace(unknown=True))
            after = after._replace(hosts=tuple(unaware(host, number) for host in after.hosts))
            yield number, "a person starts an instance", after

    def of_message(self, world: World, number: int, host: Host) -> Iterator[Step]:
        """A message is lost, late, or says nothing."""
        due = host.phase == Phase.DUE
        unanswered = with_host(world, number, done(self.hosts.standing(host, number)))
        if due and "blind" in self.may:
            yield self.hosts.beats(world, number, blind=True)
        if due and "lose" in self.may:
            yield number, "its beat is lost", unanswered
            yield number, "the answer to its beat is lost", self.unheard(world, number)
        if due and "late" in self.may and world.late is None:
            late = ("beat", tuple(self.hosts.call(world, number)))
            yield number, "its beat is late", numbered(unanswered, number)._replace(late=late)
        if host.phase == Phase.MAY_ASK:
            for start in self.hosts.wants(world, number):
                question = self.hosts.question(world, number, start)
                given_up = with_host(world, number, done(host))
                if "lose" in self.may:
                    ledger, granted = self.ledgers.admit(world.ledger, question, world.run)
                    if granted:
                        text = f"the answer to its question for {what_is(start)} is lost"
                        yield number, text, wrote(given_up._replace(ledger=ledger))
                if "late" in self.may and world.late is None:
                    late = ("admit", (*question[:6], *question.seen))
                    yield (
                        number,
                        f"its question for {what_is(start)} is late",
                        numbered(given_up, number)._replace(late=late),
                    )
        if "slow" in self.may and host.phase in (Phase.MAY_ASK, Phase.MAY_START) and host.age == 0:
            later = passes(world, steps_counted(), number)
            if later is not None:
                yield number, "takes its time, and 10 s pass", later

    def unheard(self, world: World, number: int) -> World:
        """The world after a beat of which the host does not get the answer."""
        world, _ = self.hosts.deliver(world, self.hosts.call(world, number))
        return with_host(world, number, done(self.hosts.standing(world.hosts[number], number)))


def numbered(world: World, number: int) -> World:
    """The world in which this host's calls from now on have a greater number."""
    host = world.hosts[number]
    return with_host(world, number, host._replace(number=host.number + 1))


def crashed(host: Host) -> Host:
    """The host after its machine died."""
    open_ones = sum(1 << p for p, age in enumerate(host.ages) if age >= BOOT and p != SCHEDULER)
    return Host(
        up=False,
        boot=host.boot,
        nonce=host.nonce,
        generation=host.generation,
        clock=host.clock,
        members=host.members,
        lingering=host.lingering | open_ones,
        pinned=host.pinned,
        used=host.used,
        unknown=host.unknown,
    )


def thawed(host: Host, deadline: bool) -> Host:
    """The host after it woke: what it read or was granted before the deadline is dead."""
    host = host._replace(frozen=False)
    if host.age <= 1 or (host.phase == Phase.MAY_START and not deadline):
        return host._replace(age=min(host.age, 1))
    return host._replace(phase=Phase.DUE, age=0, asked=0, unseen=0)


def flushed(world: World) -> World:
    """The world after Redis lost everything."""
    latest = max(host.clock for host in world.hosts)
    return moved(world, latest)._replace(ledger=0, elapsed=0, beats=(-1,) * len(world.hosts))


def failed_over(world: World) -> World:
    """The world after the replica took over, with what it had."""
    assert world.behind is not None
    ledger, clock, beats, _ = world.behind
    hosts = tuple(host._replace(clock=host.clock - clock) for host in world.hosts)
    return world._replace(
        hosts=hosts, ledger=ledger, elapsed=0, run=world.run + 1, beats=beats, behind=None, late=None, lateness=0
    )


def relevant(world: World) -> World:
    """The world without what can't matter any more, so that more states are equal."""
    if world.left == 0 and (world.used or any(host.used for host in world.hosts)):
        return world._replace(used=0, hosts=tuple(host._replace(used=0) for host in world.hosts))
    return world
