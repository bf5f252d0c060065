"""What hosts ask of the ledger, and its answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from fleetd.core.fleet.state import BySource, Planned, Slot
from fleetd.core.model.facts import Value


class Server(Value, frozen=True, kw_only=True):
    """The server that carries out a call: its clock and its run_id, which a restart or a failover changes."""

    time_ms: int
    run_id: str


class Code(StrEnum):
    """Why a call was refused."""

    FLEET = "fleet"  # another Mastodon's ledger
    FORMAT = "format"  # a later fleetd's ledger
    NAME_TAKEN = "name_taken"  # another machine with this name beats
    REPLACED = "replaced"  # another fleetd beats under this name since
    LATE = "late"  # a later call of the same machine was carried out before
    FULL = "full"  # HOSTS_MAX hosts, or ORDERS_MAX orders
    TOO_LARGE = "too_large"  # sizes.py
    NO_LEDGER = "no_ledger"  # beat first
    NO_RIGHTS = "no_rights"  # this user may not write it
    SENTINELS = "sentinels"  # most of them do not name the server that was asked
    GENERATION = "generation"  # the truth is or was gathered since the caller's last beat
    GATHERING = "gathering"
    CLAIMS = "claims"  # it does not fit
    SLOT = "slot"  # another host's scheduler lives, or may
    LEASE = "lease"  # another host leads
    EPOCH = "epoch"  # another plan was committed since
    ALONE = "alone"  # no other host has a record, so a plan is nobody's business


#: A host's own scheduler unit. there: it runs or starts; kept: stopped by a person; gone: it does not run.
OwnScheduler = Literal["there", "kept", "gone", "unknown"]


class Beat(Value, frozen=True, kw_only=True):
    """One host tells what it is and has. `generation`, `clock_ms`, `members`: as it knows them from the last answer."""

    fleet: str
    host: str
    boot_id: str
    nonce: str
    tick_ms: int
    sent_ms: int = 0  # by the machine's clock since its boot: grows with each call, over restarts of fleetd too
    generation: int = 0
    clock_ms: int = 0
    #: Only while the truth is gathered. Each host keeps them on its disk, and then adds those of an answer to its own.
    members: tuple[str, ...] = ()
    fit: bool = True
    plan_format: int = 1
    own_scheduler: OwnScheduler = "unknown"
    #: Hosts with a live scheduler besides its own unit, by the heartbeats in Redis; "?": of no fleetd. None: unknown.
    schedulers: tuple[str, ...] | None = None
    claims: dict[str, BySource] | None = None  # of its own processes, by application_name; None: unknown
    missing: BySource = {}
    scheduler: BySource = {}
    record: str = ""
    #: Of the leader only: names of silent hosts' processes of which neither a heartbeat nor a connection is left; with
    #: the name "": of no process of that host is anything left, whatever its name. As many as sizes.py allows; the
    #: others with the next beat.
    ended: tuple[tuple[str, str], ...] = ()
    orders_version: int = -1
    members_version: int = -1
    epoch: int = -1
    has_memory: bool = False  # the plan of that epoch is known with its memory: only who led knows that


class Told(Value, frozen=True, kw_only=True):
    """What the leader is told of one host."""

    silent_ms: int
    gone: bool
    record: str
    claims: dict[str, BySource]


class BeatReply(Value, frozen=True, kw_only=True):
    """The answer to a beat. What has not changed since the caller's last in this generation is left out (None)."""

    generation: int
    clock_ms: int
    gathering: tuple[str, ...] | None  # the hosts that are waited for; None: nothing is gathered
    leader: str
    token: int | None  # None: another host leads, or none
    alone: bool  # no other host has told anything
    plan_format: int  # the newest that all know
    epoch: int
    planned: Planned | None  # its memory is the leader's only
    slot: Slot
    orders_version: int
    orders: dict[str, str] | None
    members_version: int
    members: tuple[str, ...] | None
    told: dict[str, Told] | None  # the leader's; itself included


class Refusal(Value, frozen=True, kw_only=True):
    """A call that changed nothing, or not all that was asked."""

    code: Code
    about: str = ""  # the source, the other fleet, the holder …
    wait_ms: int = 0  # SLOT: how long nobody must be seen yet
    over: int = 0  # CLAIMS: by how many connections


class Start(Value, frozen=True, kw_only=True):
    """A process to be started."""

    name: str  # its application_name
    claims: BySource
    scheduler: bool = False


class Admit(Value, frozen=True, kw_only=True):
    """A host asks whether it may start these, in this order. It must do so at once, or ask again."""

    host: str
    nonce: str
    sent_ms: int = 0  # as in a beat
    generation: int
    claims: dict[str, BySource]  # of all its processes now, with those that it starts to reach `min`
    missing: BySource
    starts: tuple[Start, ...]
    limits: BySource  # by source: the most that all of ours may claim, as just read; absent: no limit
    #: Connections as just read, by application_name, its own included: some may have outlived their process.
    seen: dict[str, int] = {}
    here: bool = False  # the configuration names this host for the scheduler
    takeover_ms: int = 300_000


class Admitted(Value, frozen=True, kw_only=True):
    """How many of the starts are granted, from the first on; and why not the next."""

    granted: int
    refusal: Refusal | None = None


class Commit(Value, frozen=True, kw_only=True):
    """The leader's plan."""

    host: str
    token: int
    generation: int
    epoch: int  # the one after the last
    plan: str
    memory: str
