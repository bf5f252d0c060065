"""What a host does next: its tick against the ledger, in three steps between which anything may happen.

It beats with what it knows and has; if it is answered, it may ask for one start; if that is granted, it may start it
within the deadline, which runs from this tick's reading. What it tells of its own units is as they are when it sends.
Standing instances start without asking. A scheduler whose host was told in two answers that another one has the slot
is ended. Only what was granted, and only in time, is started: the check and the start are one step here, so a machine
that is frozen for longer than the takeover *between* them is left out, as documented. Every host talks to the same
primary: a scheduler on an isolated old one is left out too. A scheduler that is frozen or can't reach Redis does not
live once nobody has seen it for the takeover: it enqueues nothing, and once it is back it is a surplus. Nor does one
that systemd started at a boot, until its host has beaten: whoever is granted the slot just then does not know of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.fleet_search.claims import check_start, gathered, seen
from tests.support.fleet_search.ledgers import AdmitCall, BeatCall, Broken, Ledgers, Told
from tests.support.fleet_search.scale import BOOT, CLOCK_MS_MAX, HEARTBEAT, STEP_MS, TAKEOVER_MS
from tests.support.fleet_search.world import (
    AWAY_MAX,
    LATE_MAX,
    SCHEDULER,
    STANDING,
    Host,
    Phase,
    Place,
    Setting,
    World,
    reaches,
    running,
    with_age,
    with_host,
)

#: A step of a history: the host (-1: nobody), what happened, and the state after it.
Step = tuple[int, str, World]
THERE, KEPT, GONE, UNKNOWN = range(4)
DEADLINE = 1
WRITES_MAX = 2


class Hosts:
    """The steps of hosts in one setting."""

    def __init__(self, setting: Setting, ledgers: Ledgers) -> None:
        self.setting = setting
        self.ledgers = ledgers

    def steps(self, world: World, number: int) -> Iterator[Step]:
        """What this host may do next, if nothing goes wrong."""
        host = world.hosts[number]
        if not host.up or host.frozen or host.phase == Phase.DONE:
            return
        if host.phase == Phase.DUE:
            yield self.beats(world, number)
            if any(age >= 0 for age in host.ages[1:3]):
                ended = max(p for p in (1, 2) if host.ages[p] >= 0)
                yield number, "ends an instance", with_host(world, number, with_age(host, ended, -1))
        elif host.phase == Phase.MAY_ASK:
            yield number, "asks for nothing", with_host(world, number, done(host))
            for start in self.wants(world, number):
                yield self.asks(world, number, start)
        else:
            yield self.starts(world, number)

    def wants(self, world: World, number: int) -> list[int]:
        """What the host may ask for: its scheduler, and one more instance."""
        host, setting = world.hosts[number], self.setting
        scheduler = setting.schedules and setting.places[number] != Place.ELSEWHERE and not host.pinned
        wants = [SCHEDULER] if scheduler and host.ages[SCHEDULER] < 0 else []
        free = [p for p in range(1, 1 + setting.more) if host.ages[p] < 0] if setting.standing else []
        return wants + free[:1]

    # The beat

    def call(self, world: World, number: int, blind: bool = False) -> BeatCall:
        """The beat that the host sends now; blind: it could read nothing."""
        host, setting = world.hosts[number], self.setting
        others = sum(1 << h for h, age in enumerate(world.beats) if age >= 0 and h != number)
        own = THERE if host.ages[SCHEDULER] >= 0 else KEPT if host.pinned else GONE
        return BeatCall(
            host=number,
            boot=host.boot,
            nonce=host.nonce,
            number=host.number,
            generation=host.generation,
            clock=host.clock,
            members=host.members if setting.members_told else 0,
            version=host.version,
            own=UNKNOWN if blind else own,
            schedulers=-1 if blind else others,
            claims=-1 if blind else running(host),
            ended=self.ended(world, number) if setting.fit and not blind else 0,
        )

    def ended(self, world: World, number: int) -> int:
        """Silent hosts' processes of which this host sees neither a heartbeat nor a connection."""
        mask = 0
        for h in self.ledgers.silent(world.ledger):
            if h != number:
                host, bits = world.hosts[h], 0
                for p, age in enumerate(host.ages):
                    beats = age >= BOOT and reaches(host)
                    connected = (age >= BOOT or host.lingering >> p & 1) and self.setting.heeds_connections
                    bits |= 0 if beats or connected else 1 << p
                mask |= (bits | (16 if bits == 15 else 0)) << 5 * h
        return mask

    def beats(self, world: World, number: int, blind: bool = False) -> Step:
        """The host beats and takes the answer in."""
        if world.hosts[number].cut:
            return (
                number,
                "can't reach Redis",
                with_host(world, number, done(self.standing(world.hosts[number], number))),
            )
        world, told = self.deliver(world, self.call(world, number, blind))
        host = self.standing(world.hosts[number], number)
        text = "beats" + (" (it could read nothing)" if blind else "")
        if told.refused:
            return number, f"{text}: refused", with_host(world, number, done(host))
        members = host.members if told.members < 0 else told.members
        if told.gathering:
            members |= host.members  # the ledger may have forgotten them
        host = host._replace(
            generation=told.generation,
            clock=told.clock,
            members=members,
            version=told.version,
            phase=Phase.DONE if told.gathering else Phase.MAY_ASK,
        )
        if not told.gathering and host.ages[SCHEDULER] >= 0 and not blind:
            host = self.heeds_slot(host, number, told)
        elif host.surplus:
            host = host._replace(surplus=0)
        if told.gathering:
            text += ": gathering"
        after = with_host(world, number, host)
        if world.hosts[number].ages[SCHEDULER] >= 0 > host.ages[SCHEDULER]:
            text += ": ends its scheduler, because another host has the slot"
            after = after._replace(beats=put(after.beats, number, -1))
        if host.phase == Phase.MAY_ASK and not self.wants(after, number):
            after = with_host(after, number, done(host))
        return number, text, after

    def heeds_slot(self, host: Host, number: int, told: Told) -> Host:
        """The host's scheduler ends after two answers that another host has the slot."""
        if told.holder == number:
            return host._replace(surplus=0)
        if told.holder < 0:
            raise Broken("a scheduler runs, nothing is gathered, and nobody has the slot")
        if host.surplus == 0:
            return host._replace(surplus=1)
        return with_age(host, SCHEDULER, -1)._replace(surplus=0)

    def deliver(self, world: World, call: BeatCall) -> tuple[World, Told]:
        """The world after the ledger took a beat."""
        number = call.host
        told = self.ledgers.beat(world.ledger, call, world.elapsed, world.run)
        if told.refused and not told.heard:
            return world, told
        world = wrote(moved(world._replace(ledger=told.ledger, elapsed=0), told.moved))
        host = world.hosts[number]
        if call.nonce == host.nonce and (host.away or host.unknown):
            away = 0 if reaches(host) else host.away
            # A late beat does not tell of what was started after it was sent.
            untold = call.claims < 0 or told.refused or running(host) & ~call.claims != 0
            host = host._replace(unknown=host.unknown and untold, away=away)
            world = with_host(world, number, host)
        for other, rival in enumerate(world.hosts):
            if rival.away and call.schedulers > 0 and call.schedulers >> other & 1 and reaches(rival):
                world = with_host(world, other, rival._replace(away=0))
        if told.taken_from >= 0:
            loser = world.hosts[told.taken_from]
            if lives(loser, self.setting):
                raise Broken("a host whose scheduler lives lost the slot to another one's beat")
        return gathered(world, told), told

    def standing(self, host: Host, number: int) -> Host:
        """The host with its standing instance started."""
        due = self.setting.standing and self.setting.standing[number] and host.ages[STANDING] < 0
        return with_age(host, STANDING, 0) if due else host

    # The question and the start

    def question(self, world: World, number: int, start: int) -> AdmitCall:
        """The question that the host sends now."""
        host = world.hosts[number]
        others = seen(world) if self.setting.standing else ()
        return AdmitCall(number, host.nonce, host.number, host.generation, running(host), start, others)

    def asks(self, world: World, number: int, start: int) -> Step:
        """The host asks for a start."""
        host, what = world.hosts[number], what_is(start)
        if host.cut:
            return number, f"can't ask for {what}", with_host(world, number, done(host))
        ledger, granted = self.ledgers.admit(world.ledger, self.question(world, number, start), world.run)
        world = wrote(world._replace(ledger=ledger)) if ledger != world.ledger else world
        if not granted:
            return number, f"asks for {what}: refused", with_host(world, number, done(host))
        host = host._replace(phase=Phase.MAY_START, asked=start)
        if start == SCHEDULER:
            host = host._replace(unseen=check_one_scheduler(world, number, self.setting))
        else:
            host = host._replace(unseen=sum(1 << n for n, h in enumerate(world.hosts) if h.unknown))
        return number, f"asks for {what}: granted", with_host(world, number, host)

    def starts(self, world: World, number: int) -> Step:
        """The host starts what was granted."""
        host = world.hosts[number]
        started = with_age(host, host.asked, 0)
        if host.asked == SCHEDULER:
            check_one_scheduler(world, number, self.setting)
        unseen = 0 if host.asked == SCHEDULER else host.unseen
        check_start(with_host(world, number, started), self.setting, self.ledgers, number, unseen)
        return number, f"starts {what_is(host.asked)}", with_host(world, number, done(started))


def lives(host: Host, setting: Setting) -> bool:
    """Whether this host's scheduler lives: one that nobody saw for the takeover may be taken for dead.

    That is counted from 1, its host's last beat may have been a step before, and each other fault that may happen can
    hide it for one step more (a lost beat), or make the fleet clock go a step too far (a leap of Redis's).
    """
    unseen = max(1, TAKEOVER_MS // STEP_MS - max(0, setting.faults_max - 1))
    return host.up and host.ages[SCHEDULER] >= 0 and host.away < unseen


def check_one_scheduler(world: World, starter: int, setting: Setting) -> int:
    """No other scheduler lives where one is granted or starts, and no other host may start one now.

    Those that nobody had seen when it was granted are left out.
    """
    unseen = world.hosts[starter].unseen
    for number, host in enumerate(world.hosts):
        if number != starter and not unseen >> number & 1 and lives(host, setting):
            raise Broken("a scheduler starts while another host's lives")
        if number != starter and host.up and host.ages[SCHEDULER] >= 0:
            unseen |= 1 << number
        may = host.up and not host.frozen and host.phase == Phase.MAY_START and host.age <= DEADLINE
        if number != starter and may and host.asked == SCHEDULER:
            raise Broken("two hosts may start a scheduler at once")
    return unseen


def what_is(process: int) -> str:
    """A process in words."""
    return "the scheduler" if process == SCHEDULER else "an instance"


def done(host: Host) -> Host:
    """The host after its tick; if that took over a step of time, the next one is due."""
    return host._replace(phase=Phase.DONE if host.age == 0 else Phase.DUE, age=0, asked=0, unseen=0)


def put(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    """The values with one changed."""
    return (*values[:index], value, *values[index + 1 :])


def moved(world: World, by_ms: int) -> World:
    """The world after the ledger's clock went on: what others know of it is older."""
    if not by_ms:
        return world
    hosts = tuple(h._replace(clock=max(h.clock - by_ms, -CLOCK_MS_MAX)) for h in world.hosts)
    behind = world.behind
    if behind is not None:
        behind = (behind[0], max(behind[1] - by_ms, -CLOCK_MS_MAX), behind[2], behind[3])
    late = world.late
    if late is not None and late[0] == "beat":
        call = BeatCall(*late[1])
        late = ("beat", tuple(call._replace(clock=max(call.clock - by_ms, -CLOCK_MS_MAX))))
    return world._replace(hosts=hosts, behind=behind, late=late)


def wrote(world: World) -> World:
    """The world after one more write that the replica does not have."""
    behind = world.behind
    return world if behind is None else world._replace(behind=(*behind[:3], behind[3] + 1))


def passes(world: World, elapsed_max: int, slow: int = -1) -> World | None:
    """The world one step of time later; None: a host's tick comes first, but for that of the slow one."""
    hosts, beats = [], list(world.beats)
    for number, host in enumerate(world.hosts):
        if not host.up:
            hosts.append(host)
            beats[number] = -1 if beats[number] in (-1, HEARTBEAT) else beats[number] + 1
            continue
        working = not host.frozen
        if working and host.phase != Phase.DONE and number != slow:
            return None
        ages = host.ages
        if working:
            ages = tuple(a if a < 0 else min(a + 1, BOOT) for a in ages)  # type: ignore[assignment]
        away = min(host.away + 1, AWAY_MAX) if host.away else 0
        if working and not host.cut and ages[SCHEDULER] >= BOOT:
            beats[number] = 0
        elif beats[number] >= 0:
            beats[number] = -1 if beats[number] == HEARTBEAT else beats[number] + 1
        idle = host.phase in (Phase.DONE, Phase.DUE)
        hosts.append(
            host._replace(
                ages=ages,
                away=away,
                phase=Phase.DUE if idle else host.phase,
                age=0 if idle else min(host.age + 1, DEADLINE + 1),
            )
        )
    elapsed = min(world.elapsed + 1, elapsed_max) if world.ledger else 0
    world = world._replace(hosts=tuple(hosts), beats=tuple(beats), elapsed=elapsed)
    if world.late is None:
        return world
    lost = world.lateness == LATE_MAX
    return world._replace(late=None if lost else world.late, lateness=0 if lost else world.lateness + 1)
