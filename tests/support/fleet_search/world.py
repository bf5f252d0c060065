"""A state of the small world: hosts, the servers, what is under way. Plain tuples, so that equal ones fold.

The ledger is a number (`Ledgers` keeps the states by it), relative to its own clock; what hosts know of the clock is
relative to it too. Hosts are bits of a mask, and so are processes: the standing instance, two others, the scheduler.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct

STANDING, FIRST, SECOND, SCHEDULER = 0, 1, 2, 3


AWAY_MAX = 4
LATE_MAX = 1


class Phase(IntEnum):
    """Where a host is in its tick."""

    DUE = 0
    MAY_ASK = 1  # its beat was answered
    MAY_START = 2  # what it asked for was granted
    DONE = 3


class Host(NamedTuple):
    """One host, with what its disk and its fleetd know."""

    up: bool
    boot: int = 1
    nonce: int = 1
    number: int = 0  # of its calls; it grows where that matters: after a late one
    frozen: bool = False
    cut: bool = False  # from Redis
    phase: Phase = Phase.DUE
    age: int = 0  # steps since this tick's reading
    asked: int = 0  # the process that may start
    generation: int = 0
    clock: int = 0  # relative to the ledger's
    members: int = 0
    version: int = -1  # of the members
    ages: tuple[int, int, int, int] = (-1, -1, -1, -1)  # steps since each process started, up to BOOT; -1: none
    lingering: int = 0  # processes that died with the machine and whose connection the database still has
    unseen: int = 0  # hosts of which the ledger could not know what matters when this start was granted
    surplus: int = 0  # answers that said another host has the slot, while our scheduler runs
    pinned: bool = False  # a person stopped the scheduler
    used: int = 0  # faults that have happened to it
    #: Steps since it was frozen, cut off, or booted, up to AWAY_MAX, until it is seen again. 0: it is.
    away: int = 0
    #: The ledger can't know what this host has: it never beat, or the documented assumptions don't hold for it.
    unknown: bool = True


class World(NamedTuple):
    """Everything."""

    hosts: tuple[Host, ...]
    beats: tuple[int, ...]  # by host: steps since its scheduler's last heartbeat in Redis; -1: none there
    ledger: int = 0
    elapsed: int = 0  # steps of the server's clock since the last beat
    run: int = 1
    used: int = 0  # faults of the server that have happened
    left: int = 0  # faults that may still happen
    #: What a failover would bring back, while the replica lags: the ledger, its clock relative to ours, the heartbeats.
    behind: tuple[int, int, tuple[int, ...], int] | None = None
    late: tuple[str, tuple[int, ...]] | None = None  # a call under way whose caller has given up
    lateness: int = 0  # steps that it is late, up to LATE_MAX


class Place(IntEnum):
    """Where the configuration wants the scheduler."""

    AUTO = 0
    HERE = 1
    ELSEWHERE = 2


class Setting(Struct, frozen=True, kw_only=True):
    """One small world."""

    places: tuple[Place, ...]
    standing: tuple[int, ...] = ()  # `min` of each host; (): no instances in this world
    more: int = 2  # instances beyond it
    already: tuple[int, ...] = ()  # how many of these run at first
    joined: bool = False  # whether all hosts have told the ledger at first
    fit: bool = False  # whether hosts lead, and so drop the claims of the dead
    schedules: bool = True  # whether there are schedulers
    scheduler_claims: bool = False
    faults: tuple[str, ...] = ()
    faults_max: int = 2
    # What a mutation takes away
    members_told: bool = True
    deadline: bool = True
    heeds_connections: bool = True

    @property
    def size(self) -> int:
        """How many hosts."""
        return len(self.places)


def first_world(setting: Setting) -> World:
    """Nothing was ever told to the ledger."""
    hosts = []
    for number in range(setting.size):
        host = Host(up=True)
        for process in range(1, 1 + (setting.already[number] if setting.already else 0)):
            host = with_age(host, process, 2)
        hosts.append(host)
    return World(hosts=tuple(hosts), beats=(-1,) * setting.size, left=setting.faults_max)


def running(host: Host) -> int:
    """The host's processes, as a mask."""
    return sum(1 << number for number, age in enumerate(host.ages) if age >= 0)


def with_age(host: Host, number: int, age: int) -> Host:
    """The host with this process started (0) or ended (-1)."""
    ages = list(host.ages)
    ages[number] = age
    return host._replace(ages=(ages[0], ages[1], ages[2], ages[3]))


def with_host(world: World, number: int, host: Host) -> World:
    """The world with this host changed."""
    hosts = world.hosts
    return world._replace(hosts=(*hosts[:number], host, *hosts[number + 1 :]))


def reaches(host: Host) -> bool:
    """Whether what runs on this host works, and reaches Redis."""
    return host.up and not host.frozen and not host.cut


def unaware(host: Host, of: int) -> Host:
    """The host that may start something, and was granted it before the ledger lost sight of that other one."""
    return host._replace(unseen=host.unseen | 1 << of) if host.phase == Phase.MAY_START else host


def unknown(world: World, number: int) -> World:
    """The world in which the ledger can't know any more what this host has, nor can who was granted a start before."""
    world = with_host(world, number, world.hosts[number]._replace(unknown=True))
    return world._replace(hosts=tuple(unaware(host, number) for host in world.hosts))
