"""What the ledger keeps of a fleet: hosts, claims, the slot of the scheduler, the leader's lease and plan.

All times are milliseconds of the *fleet clock*, which only beats advance, by a bounded step each. So a jump of Redis's
clock, an outage or a failover makes nobody look silent for longer than others have watched (laws 1 and 2).

Law 7: HOSTS_MAX hosts and ORDERS_MAX orders; how large a call may be is in sizes.py. Nothing here has an expiry: what
expires by itself would free connections that are still open.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fleetd.core.model.facts import Value

HOSTS_MAX = 128
ORDERS_MAX = 64
#: The format of the ledger itself. A ledger of a later one is left alone.
FORMAT = 1

#: Connections by the identity of their source, such as "postgres:7301" or "pgbouncer:w1". Fewer than none, in a ledger
#: that others wrote to, would make room where there is none (law 2).
BySource = dict[str, Annotated[int, Meta(ge=0)]]


class Entry(Value, frozen=True, kw_only=True):
    """One host: who beats under its name, and what it told last."""

    boot_id: str = ""  # "": only named by others
    nonce: str = ""  # of the fleetd that beats
    replaced_nonce: str = ""  # of the one before it, which is refused
    sent_ms: int = 0  # when its last call was sent, by its own clock: an earlier one that arrives later is refused
    beat_ms: int = 0  # its last beat; of one that was only named: when it was
    told_generation: int = 0  # the last generation in which it told everything that it knows
    fit: bool = False  # it can read what a leader must
    plan_format: int = 0  # the newest that it knows; 0: it never said
    gone: bool = False  # it was silent for long, and nothing of it is left
    missing: BySource = {}  # what its profiles may still open on their way up to `min`; set aside
    scheduler: BySource = {}  # what its scheduler would open; one in the fleet is set aside
    record: str = ""  # what else it tells the leader, as JSON


class Lease(Value, frozen=True, kw_only=True):
    """Who leads, until when."""

    host: str = ""
    nonce: str = ""
    token: int = 0  # grows with every new leader
    until_ms: int = 0


class Slot(Value, frozen=True, kw_only=True):
    """Which host may run the scheduler (law 1).

    `sighted_ms`: when any host last saw a live scheduler, or could not tell. `holder_ms`: the same for the holder's.
    `rival_ms`: when any host last saw one of a host that is not the holder.
    """

    holder: str = ""  # "": nobody
    #: What the holder said last. kept: a person stopped its unit, so nobody else starts one. gone: it does not run.
    unit: Literal["there", "kept", "gone"] = "there"
    sighted_ms: int = 0
    holder_ms: int = 0
    rival_ms: int = 0

    @property
    def host(self) -> str:
        """The host that has the scheduler, as it said last; "": none."""
        return self.holder if self.unit != "gone" else ""


class Planned(Value, frozen=True, kw_only=True):
    """The leader's plan and memory, as committed."""

    epoch: int = 0
    committed_ms: int = 0
    plan: str = ""
    memory: str = ""


class LedgerState(Value, frozen=True, kw_only=True):
    """The whole ledger."""

    fleet: str  # LOCAL_DOMAIN and the database's name: another Mastodon's hosts are refused
    run_id: str  # of the Redis that answered last; another one may have lost writes
    format: int = FORMAT
    generation: int = 1  # grows each time the truth is gathered from the hosts again
    clock_ms: int = 0
    time_ms: int = 0  # the server's own clock at the last beat
    gathering_ms: int | None = None  # since when the hosts are asked what they have; None: all have told
    lease: Lease = Lease()
    planned: Planned = Planned()
    slot: Slot = Slot()
    hosts: dict[str, Entry] = {}
    claims: dict[str, dict[str, BySource]] = {}  # host to application_name to what that process may open
    orders: dict[str, str] = {}  # people's orders to the fleet, as JSON, by what they are about
    orders_version: int = 0
    members_version: int = 0  # grows when a host joins or is forgotten

    @property
    def leader(self) -> str:
        """The host that leads now; "": none."""
        return self.lease.host if self.lease.until_ms > self.clock_ms else ""

    @property
    def scheduler_host(self) -> str:
        """The host that has the scheduler, as it said last; "": none."""
        return self.slot.host
